"""Whether the record is intact: the whole chain read again, in the background, once for each head."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import ledger, tables
from services.database import Database
from services.signoff import Signoff


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The state of the record. ``checked`` is False while the chain is still being read; then ``broken_at`` is None."""

    events: int
    head: str
    checked: bool
    broken_at: int | None


_checker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-check")
_checks: WeakKeyDictionary[Database, tuple[tuple[int, str], Future[int | None]]] = WeakKeyDictionary()
_checks_lock = threading.Lock()


def state(signoff: Signoff, *, patience: float = 0.3) -> Chain:
    """Whether every event still has its hash and its predecessor.

    Read once for each head, in the background: a long chain takes seconds. Waits ``patience`` seconds for it.
    """
    with signoff.database.reading() as connection:
        head = _head(connection)
    with _checks_lock:
        known = _checks.get(signoff.database)
        if known is None or known[0] != head or (known[1].done() and known[1].exception()):
            if known:
                known[1].cancel()
            known = _checks[signoff.database] = (head, _checker.submit(_broken_at, signoff.database))
    try:
        broken = known[1].result(timeout=patience)
    except TimeoutError:
        return Chain(events=head[0], head=head[1], checked=False, broken_at=None)
    return Chain(events=head[0], head=head[1], checked=True, broken_at=broken)


def _broken_at(database: Database) -> int | None:
    with database.reading() as connection:
        return ledger.broken_at(connection)


def _head(connection: Connection) -> tuple[int, str]:
    row = connection.execute(sa.select(tables.ledger_head)).one_or_none()
    return (row.seq, row.hash) if row else (0, ledger.GENESIS)
