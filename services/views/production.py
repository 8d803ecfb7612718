"""Who was in Production at a moment, by the record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from services import tables
from services.record import ledger
from services.record.ledger import Event, Kind
from services.recorded_facts import counted
from services.signoff import Signoff
from services.verdict import Check

_Release: TypeAlias = Row[Any]
"""A row of ``promotions``."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """Who was in Production at a moment, by the record. ``since`` is ISO 8601 UTC, ``event`` the release's number.

    ``action`` is how it was released: ``promote``, ``rollback`` or ``emergency``; ``adopt`` where it was moved past
    Signoff, and ``promoted_by`` adopted that: nobody approved it. ``approved_by`` are the persons whose approvals
    counted, and ``waived`` the checks that an emergency went past; of a rollback, those of the release that it returned
    to.
    """

    name: str
    version: int
    since: str
    promoted_by: str
    reason: str
    approved_by: tuple[str, ...]
    policy: str
    digest: str
    event: int
    action: str
    waived: tuple[Check, ...] = ()


def production_at(signoff: Signoff, moment: datetime, model: str | None = None) -> list[Held]:
    """What was in Production at ``moment``, model by model: by the last release before it and what came since.

    What was moved past Signoff and not adopted is not in the record, so it is not in the answer.
    """
    at = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    targets = [policy.rules.champion for policy in signoff.policies.policies]
    stages = {target.stage.value for target in targets}
    aliases = {f"alias:{target.alias}" for target in targets}
    with signoff.database.reading() as connection:
        states = {row.model: _State.of(row) for row in _last_releases(connection, at, model)}
        for event in _since(connection, at, model):
            if event.ref:
                states.setdefault(event.ref.name, _State()).take(event, stages, aliases)
        found = [(name, states[name].champion) for name in sorted(states)]
        return [
            _adopted(name, number, by) if isinstance(by, Event) else _held(connection, by)
            for name, champion in found
            if champion
            for number, by in [champion]
        ]


@dataclass
class _State:
    """A model in the record: the version that the alias points at, those in the stage, and how each came there."""

    pointed: int | None = None
    staged: set[int] = field(default_factory=set)
    sources: dict[int, _Release | Event] = field(default_factory=dict)

    @classmethod
    def of(cls, row: _Release) -> _State:
        return cls(pointed=row.version, staged={row.version}, sources={row.version: row})

    @property
    def champion(self) -> tuple[int, _Release | Event] | None:
        number = max(self.staged, default=None) if self.pointed is None else self.pointed
        return None if number is None else (number, self.sources[number])

    def take(self, event: Event, stages: set[str], aliases: set[str]) -> None:
        """Take up an archival or an adoption."""
        version, subject = event.body["version"], event.get("subject") or ""
        shown = event.get("shown")
        if subject in aliases:
            self.pointed = version if shown else None
        elif subject == f"stage:{version}" and shown in stages:
            self.staged.add(version)
        elif subject == "model":
            self.pointed, self.staged = None, set()
        elif not subject or subject in {f"stage:{version}", f"version:{version}"}:
            self.staged.discard(version)
            if self.pointed == version and not subject.startswith("stage:"):
                self.pointed = None
        if version in self.staged or version == self.pointed:
            self.sources.setdefault(version, event)


def _last_releases(connection: Connection, at: str, model: str | None) -> list[_Release]:
    column = tables.promotions.c
    newest = sa.select(sa.func.max(column.seq)).where(column.at <= at).group_by(column.model)
    if model is not None:
        newest = newest.where(column.model == model)
    query = sa.select(tables.promotions).where(column.seq.in_(newest)).order_by(column.model)
    return list(connection.execute(query).all())


def _since(connection: Connection, at: str, model: str | None) -> Iterable[Event]:
    """The archivals and adoptions between the last release of their model and the moment."""
    column, releases = tables.events.c, tables.promotions.c
    last = sa.select(sa.func.max(releases.seq)).where(releases.model == column.model, releases.at <= at)
    return ledger.chosen(
        connection,
        column.kind.in_([Kind.ARCHIVAL_CONFIRMED.value, Kind.ADOPTION_RECORDED.value]),
        column.at <= at,
        column.seq > sa.func.coalesce(last.scalar_subquery(), 0),
        *([column.model == model] if model is not None else []),
    )


def _adopted(name: str, version: int, event: Event) -> Held:
    return Held(
        name=name,
        version=version,
        since=event.body["at"],
        promoted_by=event.actor,
        reason=event.comment,
        approved_by=(),
        policy="",
        digest="",
        event=event.seq,
        action="adopt",
    )


def _held(connection: Connection, row: _Release) -> Held:
    event = _judged(connection, row)
    return Held(
        name=row.model,
        version=row.version,
        since=row.at,
        promoted_by=row.by,
        reason=row.reason,
        approved_by=tuple(approval["person"] for approval in counted(event)) if event else (),
        policy=row.policy or "",
        digest=row.manifest_digest or "",
        event=row.seq,
        action=row.action,
        waived=event.verdict.waived if event else (),
    )


def _judged(connection: Connection, row: _Release) -> Event | None:
    """The release that approvals were given for: itself, or the one that a rollback without approvals returned to."""
    event = ledger.event(connection, row.seq)
    if row.action != "rollback" or (event and counted(event)):
        return event
    column = tables.promotions.c
    before = connection.execute(
        sa.select(tables.promotions)
        .where(column.model == row.model, column.identity == row.identity, column.seq < row.seq)
        .order_by(column.seq.desc())
        .limit(1)
    ).one_or_none()
    return _judged(connection, before) if before else event
