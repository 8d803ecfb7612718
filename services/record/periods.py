"""How long each version was in which stage: the record read as time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.domain import ModelVersion, Stage, VersionRef
from services.record.ledger import Event, Kind

STAGE_EVENTS = (
    Kind.SUBMISSION_CONFIRMED,
    Kind.REJECTION_CONFIRMED,
    Kind.WITHDRAWAL_CONFIRMED,
    Kind.PROMOTION_CONFIRMED,
    Kind.ROLLBACK_CONFIRMED,
    Kind.EMERGENCY_CONFIRMED,
    Kind.ARCHIVAL_CONFIRMED,
    Kind.RESTORATION_CONFIRMED,
    Kind.OUTSIDE_STAGE,
)
"""The events after which a version is in another stage."""


@dataclass(frozen=True, kw_only=True)
class Period:
    """One version in one stage from ``since`` until ``until``, which is None while it lasts.

    ``by`` is who brought it there; empty where that was not recorded: registered, or changed past us.
    """

    ref: VersionRef
    stage: str
    since: datetime
    until: datetime | None = None
    by: str = ""
    seq: int | None = None


def periods(versions: Iterable[ModelVersion], events: Iterable[Event]) -> tuple[Period, ...]:
    """Every period of every version, version by version, oldest first.

    Args:
        versions: as MLflow shows them now; where it shows another stage than the record says, the last period is
            one that nobody recorded, and begins when MLflow last touched the version.
        events: of kinds `STAGE_EVENTS`, in any order. What is older than a version is about an earlier one.
    """
    ordered = sorted(events, key=lambda event: event.seq)
    return tuple(period for version in versions for period in _of(version, ordered))


def in_stage(found: Sequence[Period], stage: str) -> tuple[Period, ...]:
    """The periods in one stage, in the order in which they began."""
    return tuple(sorted((period for period in found if period.stage == stage), key=lambda period: period.since))


def _of(version: ModelVersion, events: Sequence[Event]) -> list[Period]:
    number = str(version.ref.version)
    found = [Period(ref=version.ref, stage=Stage.NONE, since=version.created_at)]
    for event in events:
        stage = (event.get("after") or {}).get("stages", {}).get(number)
        if stage is None or event.at < version.created_at:
            continue
        before = (event.get("before") or {}).get("stages", {}).get(number, found[-1].stage)
        if before != found[-1].stage:
            found[-1:] = _followed(found[-1], before, found[-1].since)
        if stage != found[-1].stage:
            found[-1:] = _followed(found[-1], stage, event.at, by=event.actor, seq=event.seq)
    if version.stage != found[-1].stage:
        found[-1:] = _followed(found[-1], version.stage, max(version.updated_at, found[-1].since))
    return found


def _followed(last: Period, stage: str, at: datetime, *, by: str = "", seq: int | None = None) -> list[Period]:
    """End one period and begin the next; where no time passed between them, the next takes its place."""
    following = Period(ref=last.ref, stage=stage, since=at, by=by, seq=seq)
    return [following] if at <= last.since else [replace(last, until=at), following]
