"""A registered model's slot: whoever changes what is in Production holds it, alone, for a limited time.

Of two who want it the first one gets it, and the other a conflict. But what anybody may do from outside stands in the
way of nobody else: a higher rank waits for a lower one to end, and while it waits no lower one may take the slot.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services.database import Database, database_time
from services.errors import PromotionConflict
from services.steps import pulse
from services.tables import intents, slots

LEASE_SECONDS = 120.0
SHORT_SECONDS = 30.0
"""The lease of `Rank.ANYBODY`: longer than the hook takes to make a change and to tell it."""
PATIENCE_SECONDS = 5.0
"""How long a higher rank waits for a lower one to end."""
WANTED_SECONDS = 1.0
"""How long a higher rank that was seen waiting keeps lower ones out; far longer than it takes to ask again."""
POLL_SECONDS = 0.05


class Rank(IntEnum):
    """Who gives way to whom."""

    ANYBODY = 0
    """Something that anybody may do from outside, without a name and without a role."""
    CLIENT = 1
    """Something that a role allows to MLflow clients that did not authenticate."""
    PERSON = 2
    """Something that a person or a service with an account does."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A lease on one model. ``token`` grows with every lease; a step that carries an old one is refused."""

    model: str
    token: int


def take(
    database: Database,
    model: str,
    *,
    holder: str,
    purpose: str,
    seconds: float = LEASE_SECONDS,
    rank: Rank = Rank.PERSON,
    patience: float = PATIENCE_SECONDS,
) -> Slot:
    """Take the model's slot for ``seconds`` on the database's clock.

    Where this process has a `services.steps.pulse.Pulse`, the slot is free sooner if that ends. Where somebody of a
    lower rank holds it, wait up to ``patience`` seconds for that to end.

    Raises:
        PromotionConflict: somebody else holds it, or is about to; the message names who and what for.
    """
    try:
        with database.writing() as connection:
            if database.process:
                pulse.beat(connection, database.process)
            if not connection.execute(sa.select(slots.c.model).where(slots.c.model == model)).scalar():
                connection.execute(slots.insert().values(model=model, token=0, expires_at=0.0))
    except IntegrityError:  # pragma: no cover - two first-timers at once; the row is there now
        pass
    deadline = time.monotonic() + patience
    while True:
        taken, row = _tried(database, model, holder, purpose, seconds, rank)
        if taken:
            return Slot(model=model, token=row.token)
        first = f"{row.holder} acted first: {row.purpose} is under way"
        if row.holder is None:
            if row.wanted_rank <= rank and time.monotonic() < deadline:
                continue  # given back just now
            first = f"Somebody is about to change {model}"
        elif row.rank < rank and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            continue
        raise PromotionConflict(f"{first}. Nothing was changed; look again in a moment.")


def _tried(database: Database, model: str, holder: str, purpose: str, seconds: float, rank: Rank) -> tuple[bool, Any]:
    """Whether the slot could be taken, and how it stands now; a lower rank that holds it is told that it is wanted."""
    mine, now = slots.c.model == model, database_time()
    unwanted = sa.or_(slots.c.wanted_until <= now, slots.c.wanted_rank <= rank)
    with database.writing() as connection:
        # Locked first, so that what is read of the holder's process below is no older than its last `require`.
        connection.execute(sa.select(slots.c.token).where(mine).with_for_update())
        taken = connection.execute(
            slots.update()
            .where(mine, sa.or_(slots.c.holder.is_(None), over()), unwanted)
            .values(
                token=slots.c.token + 1,
                holder=holder,
                purpose=purpose,
                process=database.process,
                expires_at=now + min(seconds, _lease(rank)),
                rank=rank,
                wanted_until=0.0,
            )
        )
        if taken.rowcount != 1:
            connection.execute(
                slots.update()
                .where(mine, slots.c.holder.is_not(None), slots.c.rank < rank, unwanted)
                .values(wanted_rank=rank, wanted_until=now + WANTED_SECONDS)
            )
        return taken.rowcount == 1, connection.execute(sa.select(slots).where(mine)).one()


def _lease(rank: int) -> float:
    return SHORT_SECONDS if rank == Rank.ANYBODY else LEASE_SECONDS


def over(seconds: float = 0.0) -> sa.ColumnElement[bool]:
    """Whether a slot's lease, or the life of the process that holds it, will be over in ``seconds``."""
    return sa.or_(slots.c.expires_at <= database_time() + seconds, pulse.dead(seconds))


def require(connection: Connection, slot: Slot, *, seconds: float = 0.0) -> None:
    """Raise `PromotionConflict` unless the slot is still ours, and not `over` in ``seconds``."""
    row = connection.execute(
        sa.select(slots.c.token, over(seconds).label("over"))
        .where(slots.c.model == slot.model)
        .with_for_update(of=slots)
    ).one()
    if row.token != slot.token or row.over:
        raise PromotionConflict(
            f"The slot of {slot.model} was lost: this took too long. What was done is being checked."
        )


def renew(connection: Connection, slot: Slot) -> None:
    """Let the lease begin again, where it is still ours: reading large files may have used most of it."""
    require(connection, slot)
    mine = slots.c.model == slot.model
    row = connection.execute(sa.select(slots.c.rank, slots.c.process).where(mine)).one()
    if row.process:
        pulse.beat(connection, row.process)
    connection.execute(slots.update().where(mine).values(expires_at=database_time() + _lease(row.rank)))


def release(connection: Connection, slot: Slot) -> None:
    """Give the slot back; does nothing when somebody else has it by now.

    Nor while a change made under it is still open: its writes may yet arrive, so the lease has to run out.
    """
    unfinished = sa.exists().where(
        intents.c.model == slot.model, intents.c.token == slot.token, intents.c.state == "open"
    )
    connection.execute(
        slots.update()
        .where(slots.c.model == slot.model, slots.c.token == slot.token, ~unfinished)
        .values(holder=None, purpose=None, process=None, expires_at=0.0)
    )
