"""Completed validations: evidence bound to the bytes of two versions and to one holdout."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.database import Database
from services.domain import ModelVersion, VersionRef
from services.tables import validations
from services.validation.report import ModelResult, Report


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What one validation found, as the event ``seq`` recorded it. ``at`` is ISO 8601 UTC.

    ``manifest`` and ``champion_manifest`` are the digests of the files that were evaluated; the champion's three are
    None where nothing was in Production.
    """

    seq: int
    ref: VersionRef
    manifest: str
    champion: int | None
    champion_identity: str | None
    champion_manifest: str | None
    by: str
    at: str
    consent: bool
    run_id: str
    report: Report = field(repr=False)

    def differences(
        self, *, manifest: str | None, champion: VersionRef | None, champion_identity: str | None, files: str | None
    ) -> tuple[str, ...]:
        """What it was made on and is not there any more, in words; empty when it still counts.

        Args:
            manifest: digest of the candidate's files now.
            champion, champion_identity, files: the champion now, and the digest of its files.
        """
        found = [] if manifest == self.manifest else ["the model's files changed"]
        if champion_identity != self.champion_identity:
            then = f"v{self.champion}" if self.champion else "no champion"
            now = f"v{champion.version} is the champion now" if champion else "there is no champion now"
            found.append(f"it was compared with {then}, and {now}")
        elif files != self.champion_manifest:
            found.append("the champion's files changed")
        return tuple(found)

    def as_json(self) -> dict[str, Any]:
        """What an event keeps of it, so that another policy can judge it again: its figures, not its slices."""
        return {
            "seq": self.seq,
            "champion": self.champion,
            "by": self.by,
            "at": self.at,
            "consent": self.consent,
            "run_id": self.run_id,
            "report": _figures(self.report).as_json(),
        }

    @classmethod
    def from_json(
        cls, kept: Mapping[str, Any], ref: VersionRef, *, manifest: str, champion: ModelVersion | None
    ) -> Validation:
        """The inverse of `as_json`, for what counted: it is bound to the files and champion that are given."""
        return cls(
            **{**kept, "report": Report.from_json(kept["report"])},
            ref=ref,
            manifest=manifest,
            champion_identity=champion.identity if champion else None,
            champion_manifest=None,
        )


def _figures(report: Report) -> Report:
    bare = (_bare(report.candidate), _bare(report.current) if report.current else None)
    holdout = replace(report.holdout, columns=())
    return replace(report, candidate=bare[0], current=bare[1], holdout=holdout, slices=(), libraries={}, warnings=())


def _bare(model: ModelResult) -> ModelResult:
    return replace(model, evaluated={}, calibration=None, latency=None, pictures=(), output="")


def validations_of(
    connection: Connection, versions: Collection[ModelVersion]
) -> dict[VersionRef, tuple[Validation, ...]]:
    """The validations of exactly each of these versions, newest first."""
    rows = connection.execute(
        sa.select(validations)
        .where(
            validations.c.model.in_({version.ref.name for version in versions}),
            validations.c.version.in_({version.ref.version for version in versions}),
            validations.c.identity.in_({version.identity for version in versions}),
        )
        .order_by(validations.c.seq.desc())
    ).all()
    return {
        version.ref: tuple(
            validation_from(row)
            for row in rows
            if (row.model, row.version, row.identity) == (version.ref.name, version.ref.version, version.identity)
        )
        for version in versions
    }


def find(database: Database, seq: int) -> Validation | None:
    """The one that this event recorded."""
    with database.reading() as connection:
        row = connection.execute(sa.select(validations).where(validations.c.seq == seq)).one_or_none()
    return validation_from(row) if row else None


def validation_from(row: Any) -> Validation:
    """A row of ``validations``."""
    return Validation(
        seq=row.seq,
        ref=VersionRef(name=row.model, version=row.version),
        manifest=row.manifest,
        champion=row.champion,
        champion_identity=row.champion_identity,
        champion_manifest=row.champion_manifest,
        by=row.by,
        at=row.at,
        consent=row.consent,
        run_id=row.run_id,
        report=Report.from_json(json.loads(row.report)),
    )
