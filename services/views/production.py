"""Who was in Production at a moment, by the record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from services import tables
from services.record import ledger
from services.record.ledger import Event, Kind
from services.recorded_facts import counted
from services.signoff import Signoff
from services.verdict import Check


@dataclass(frozen=True, kw_only=True)
class Held:
    """Who was in Production at a moment, by the record. ``since`` is ISO 8601 UTC, ``event`` the release's number.

    ``action`` is how it was released: ``promote``, ``rollback`` or ``emergency``. ``approved_by`` are the persons whose
    approvals counted, and ``waived`` the checks that an emergency went past; of a rollback, those of the release that
    it returned to.
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
    """What was in Production at ``moment``, model by model: the last release before it, unless archived since.

    What was moved past Signoff is not in the record, so it is not in the answer.
    """
    at = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    with signoff.database.reading() as connection:
        return [
            _held(connection, row)
            for row in _last_releases(connection, at, model)
            if not _archived_since(connection, row, at)
        ]


def _last_releases(connection: Connection, at: str, model: str | None) -> list[Row[tuple[object, ...]]]:
    column = tables.promotions.c
    newest = sa.select(sa.func.max(column.seq)).where(column.at <= at).group_by(column.model)
    if model is not None:
        newest = newest.where(column.model == model)
    query = sa.select(tables.promotions).where(column.seq.in_(newest)).order_by(column.model)
    return list(connection.execute(query).all())


def _archived_since(connection: Connection, row: Row[tuple[object, ...]], at: str) -> bool:
    column = tables.events.c
    archivals = sa.select(column.seq).where(
        column.model == row.model,
        column.version == row.version,
        column.kind == Kind.ARCHIVAL_CONFIRMED.value,
        column.seq > row.seq,
        column.at <= at,
    )
    return connection.execute(archivals.limit(1)).first() is not None


def _held(connection: Connection, row: Row[tuple[object, ...]]) -> Held:
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


def _judged(connection: Connection, row: Row[tuple[object, ...]]) -> Event | None:
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
