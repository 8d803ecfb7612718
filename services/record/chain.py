"""Whether the record is intact: the whole chain read again, in the background, once for each head."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from weakref import WeakKeyDictionary

from services.database import Database
from services.record import checkpoints, ledger
from services.signoff import Signoff
from verifier.verify import Tampered

RECHECK_SECONDS = 300.0
"""An unchanged head is read again after this time: somebody may have changed what lies before it."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The state of the record. ``checked_at`` is None while the chain is being read; then ``broken_at`` is too."""

    events: int
    head: str
    checked_at: datetime | None
    broken_at: int | None


@dataclass(frozen=True, kw_only=True)
class _Check:
    head: tuple[int, str]
    begun: float
    at: datetime
    answer: Future[int | None]


_checker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-check")
_checks: WeakKeyDictionary[Database, _Check] = WeakKeyDictionary()
_checks_lock = threading.Lock()


def state(signoff: Signoff, *, patience: float = 0.3) -> Chain:
    """Whether every event still has its hash and its predecessor.

    Read once for each head, in the background and never twice at a time: a long chain takes seconds. Waits
    ``patience`` seconds for it.

    Raises:
        LedgerUnavailable: the database cannot be read.
    """
    with signoff.database.reading() as connection:
        head = ledger.head(connection)
    with _checks_lock:
        check = _checks.get(signoff.database)
        if check is None or (check.answer.done() and _outdated(check, head)):
            check = _checks[signoff.database] = _Check(
                head=head,
                begun=time.monotonic(),
                at=signoff.now(),
                answer=_checker.submit(_broken_at, signoff),
            )
    try:
        broken = check.answer.result(timeout=patience)
    except TimeoutError:
        return Chain(events=head[0], head=head[1], checked_at=None, broken_at=None)
    current = check.head == head or broken is not None
    return Chain(events=head[0], head=head[1], checked_at=check.at if current else None, broken_at=broken)


def _outdated(check: _Check, head: tuple[int, str]) -> bool:
    old = time.monotonic() - check.begun > RECHECK_SECONDS
    return old or check.head != head or check.answer.exception() is not None


def _broken_at(signoff: Signoff) -> int | None:
    try:
        checkpoints.verify(signoff.database, checkpoints.trusted(signoff.settings))
    except Tampered as error:
        return error.seq
    return None
