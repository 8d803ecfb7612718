"""A registered model's slot: whoever changes what is in Production holds it, alone, for a limited time."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services.database import Database, database_time
from services.errors import PromotionConflict
from services.tables import intents, slots

LEASE_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A lease on one model. ``token`` grows with every lease; a step that carries an old one is refused."""

    model: str
    token: int


def take(database: Database, model: str, *, holder: str, purpose: str, seconds: float = LEASE_SECONDS) -> Slot:
    """Take the model's slot for ``seconds`` on the database's clock.

    Raises:
        PromotionConflict: somebody else holds it; the message names who and what for.
    """
    try:
        with database.writing() as connection:
            if not connection.execute(sa.select(slots.c.model).where(slots.c.model == model)).scalar():
                connection.execute(slots.insert().values(model=model, token=0, expires_at=0.0))
    except IntegrityError:  # pragma: no cover - two first-timers at once; the row is there now
        pass
    with database.writing() as connection:
        taken = connection.execute(
            slots.update()
            .where(slots.c.model == model, sa.or_(slots.c.holder.is_(None), slots.c.expires_at <= database_time()))
            .values(token=slots.c.token + 1, holder=holder, purpose=purpose, expires_at=database_time() + seconds)
        )
        row = connection.execute(sa.select(slots).where(slots.c.model == model)).one()
    if taken.rowcount != 1:
        raise PromotionConflict(
            f"{row.holder} acted first: {row.purpose} is under way. Nothing was changed; look again in a moment."
        )
    return Slot(model=model, token=row.token)


def require(connection: Connection, slot: Slot, *, seconds: float = 0.0) -> None:
    """Raise `PromotionConflict` unless the lease is still ours and lasts for ``seconds`` more."""
    row = connection.execute(
        sa.select(slots.c.token, (slots.c.expires_at > database_time() + seconds).label("alive"))
        .where(slots.c.model == slot.model)
        .with_for_update()
    ).one()
    if row.token != slot.token or not row.alive:
        raise PromotionConflict(
            f"The slot of {slot.model} was lost: this took too long. What was done is being checked."
        )


def renew(connection: Connection, slot: Slot, *, seconds: float = LEASE_SECONDS) -> None:
    """Let the lease begin again, where it is still ours: reading large files may have used most of it."""
    require(connection, slot)
    connection.execute(slots.update().where(slots.c.model == slot.model).values(expires_at=database_time() + seconds))


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
        .values(holder=None, purpose=None, expires_at=0.0)
    )
