"""The ledger as a file: JSON Lines, an event a line, the signed checkpoint last. ``verifier/`` checks it elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from services.database import Database
from services.record import checkpoints
from services.record.checkpoints import Signed
from services.settings import Settings
from services.tables import events

PAGE = 1000


def export(database: Database, settings: Settings, *, at: datetime) -> tuple[Signed, Iterator[bytes]]:
    """Sign the head, and give the ledger up to there, a line at a time; memory does not grow with it.

    What is appended meanwhile is not part of it. No transaction stays open while the reader takes its time.

    Raises:
        LedgerBroken: the ledger does not continue what was signed before; nothing is exported.
    """
    checkpoints.publish(settings)
    signed = checkpoints.create(database, settings, at=at)
    return signed, _lines(database, signed)


def _lines(database: Database, signed: Signed) -> Iterator[bytes]:
    last, end = 0, signed.checkpoint.seq
    while page := _page(database, last, end):
        for row in page:
            # As stored, not written anew: what was changed there must not be put right here.
            yield f'{{"body":{row.body},"hash":"{row.hash}"}}\n'.encode("utf-8", "surrogatepass")
        last = page[-1].seq
    yield signed.text.encode() + b"\n"


def _page(database: Database, after: int, end: int) -> list[sa.Row[Any]]:
    query = sa.select(events.c.seq, events.c.body, events.c.hash).where(events.c.seq > after, events.c.seq <= end)
    with database.reading() as connection:
        return list(connection.execute(query.order_by(events.c.seq).limit(PAGE)))
