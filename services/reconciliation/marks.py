"""Where the record stood when somebody began to look at MLflow, and which models were being changed right then."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from services import tables
from services.database import database_time
from services.signoff import Signoff


@dataclass(frozen=True, kw_only=True)
class Mark:
    """``seq`` is the ledger's head; ``busy`` the models with a held slot, an open intent or tags to be written."""

    seq: int
    busy: frozenset[str]


def mark(signoff: Signoff) -> Mark:
    """The mark of this moment; raises `LedgerUnavailable`."""
    intents, slots, jobs = tables.intents.c, tables.slots.c, tables.mirror_jobs.c
    with signoff.database.reading() as connection:
        # The head first: what is done between the queries is then after the mark, whatever they see of it.
        seq = connection.execute(sa.select(tables.ledger_head.c.seq)).scalar() or 0
        busy: set[str] = set()
        for query in (
            sa.select(intents.model).where(intents.state == "open"),
            sa.select(slots.model).where(slots.holder.is_not(None), slots.expires_at > database_time()),
            sa.select(jobs.model),
        ):
            busy.update(connection.execute(query).scalars())
    return Mark(seq=int(seq), busy=frozenset(busy))
