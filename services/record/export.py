"""The ledger as a file: JSON Lines, an event a line, the signed checkpoint last. ``verifier/`` checks it elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from services.database import Database
from services.errors import LedgerBroken
from services.record import checkpoints, ledger
from services.record.checkpoints import Signed
from services.settings import Settings
from verifier.verify import Chain, Tampered

PAGE = 1000


def export(database: Database, settings: Settings, *, at: datetime) -> tuple[Signed, Iterator[bytes]]:
    """Sign the head, and give the ledger up to there, a line at a time; memory does not grow with it.

    What is appended meanwhile is not part of it. No transaction stays open while the reader takes its time. The lines
    end with `LedgerBroken` at the first event that is not as it was recorded.

    Raises:
        LedgerBroken: the ledger does not continue what was signed before; nothing is exported.
    """
    checkpoints.publish(settings)
    signed = checkpoints.create(database, settings, at=at)
    return signed, _lines(database, signed)


def _lines(database: Database, signed: Signed) -> Iterator[bytes]:
    chain, end = Chain(), signed.checkpoint.seq
    try:
        while chain.seq < end:
            yield from _page(database, chain, min(end, chain.seq + PAGE))
        chain.end(signed.checkpoint)
    except Tampered as error:
        raise LedgerBroken(f"The record was tampered with, and is not exported. {error}", error.seq) from error
    yield signed.text.encode() + b"\n"


def _page(database: Database, chain: Chain, until: int) -> list[bytes]:
    with database.reading() as connection:
        found = [
            f'{{"body":{row.body},"hash":"{row.hash}"}}\n' for row, _ in ledger.rows(connection, chain, until=until)
        ]
    if chain.seq < until:
        raise Tampered(f"Event #{chain.seq + 1} is missing: it was deleted.", chain.seq + 1)
    return [line.encode("utf-8", "surrogatepass") for line in found]
