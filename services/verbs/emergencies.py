"""Emergencies: each asked for by one person, confirmed by another, and open until a third has reviewed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import bars
from services.accounts import permissions
from services.database import database_time
from services.domain import Action, Actor, VersionRef
from services.errors import NotFound
from services.evidence import Binding, Known
from services.record.projections.states import ASKED, CARRIED_OUT
from services.signoff import Signoff
from services.tables import emergencies as table


@dataclass(frozen=True, kw_only=True)
class Emergency:
    """One request to put a version into Production past the usual checks, and what became of it.

    ``seq`` is the event that asked. Times are ISO 8601 UTC, ``expires_at`` is by the database's clock.
    """

    seq: int
    ref: VersionRef
    identity: str
    binding: Binding
    asked_by: str
    asked_by_id: str
    reason: str
    asked_at: str
    expires_at: datetime
    expired: bool
    """Whether it ran out before it was confirmed."""
    bars: Mapping[str, str]
    """Everybody whose own the version is: id or name → why, in words."""
    state: str
    confirmed_by: str | None
    confirmed_by_id: str | None
    released_at: str | None
    released_seq: int | None
    waived: tuple[str, ...]
    """Titles of the checks it went past."""

    @property
    def waits(self) -> bool:
        """Whether it may still be confirmed."""
        return self.state == ASKED and not self.expired

    @property
    def unreviewed(self) -> bool:
        """Whether it was carried out and nobody has looked at it since."""
        return self.state == CARRIED_OUT

    def may_confirm(self, actor: Actor) -> bool:
        """Whether this person could be the second one; the gate judges it again."""
        return self.waits and not self.partial(actor) and permissions.may(actor, Action.CONFIRM_EMERGENCY)

    def may_withdraw(self, actor: Actor) -> bool:
        """Whether this person may take it back: whoever asked, and nobody else."""
        return self.waits and actor.person == self.asked_by_id and permissions.may(actor, Action.WITHDRAW_EMERGENCY)

    def partial(self, actor: Actor) -> str | None:
        """Why a person may neither confirm nor review it, in words: they had a hand in it. None when they may."""
        if actor.person in {None, self.asked_by_id}:
            return f"{actor.username} asked for it"
        if actor.person == self.confirmed_by_id:
            return f"{actor.username} confirmed it"
        return self.bars.get(actor.person) or self.bars.get(actor.username)

    def may_review(self, actor: Actor) -> bool:
        """Whether this person may review it now."""
        return self.unreviewed and not self.partial(actor) and permissions.may(actor, Action.REVIEW_EMERGENCY)


def open_emergencies(signoff: Signoff) -> list[Emergency]:
    """Every request that may still be confirmed and every emergency nobody has reviewed, oldest first; one query.

    Their ``bars`` are those of when they were asked for: a page offers by them, and the verbs ask again.
    """
    waits = sa.and_(table.c.state == ASKED, table.c.expires_at > database_time())
    with signoff.database.reading() as connection:
        rows = connection.execute(_QUERY.where(sa.or_(table.c.state == CARRIED_OUT, waits)).order_by(table.c.seq))
        return [_from(row, row.own) for row in rows]


def emergency(connection: Connection, seq: int) -> Emergency:
    """One of them, whatever became of it; raises `NotFound`."""
    row = connection.execute(_QUERY.where(table.c.seq == seq)).one_or_none()
    if row is None:
        raise NotFound(f"The record #{seq} asks for no emergency.")
    return _from(row, _bars(connection, row))


def waiting(connection: Connection, ref: VersionRef, identity: str) -> Emergency | None:
    """The request for exactly this version that may still be confirmed, if there is one."""
    query = _QUERY.where(table.c.model == ref.name, table.c.version == ref.version, table.c.state == ASKED)
    row = connection.execute(query).one_or_none()
    found = _from(row, _bars(connection, row)) if row else None
    return found if found and found.waits and found.identity == identity else None


_QUERY = sa.select(table, (table.c.expires_at <= database_time()).label("expired"))


def _bars(connection: Connection, row: Any) -> Mapping[str, str]:
    """Everybody who had a hand in the version at this moment."""
    ref, files = VersionRef(name=row.model, version=row.version), Binding.from_json(row.binding).files
    known = Known(ref=ref, identity=row.identity, manifest=files or None, run_id=None, model_id=None)
    return bars.recorded(connection, known)


def _from(row: Any, barred: Mapping[str, str]) -> Emergency:
    return Emergency(
        seq=row.seq,
        ref=VersionRef(name=row.model, version=row.version),
        identity=row.identity,
        binding=Binding.from_json(row.binding),
        asked_by=row.asked_by,
        asked_by_id=row.asked_by_id,
        reason=row.reason,
        asked_at=row.asked_at,
        expires_at=datetime.fromtimestamp(row.expires_at, tz=UTC),
        expired=bool(row.expired),
        bars=barred,
        state=row.state,
        confirmed_by=row.confirmed_by,
        confirmed_by_id=row.confirmed_by_id,
        released_at=row.released_at,
        released_seq=row.released_seq,
        waived=tuple(row.waived or ()),
    )
