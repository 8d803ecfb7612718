"""The one judgement of the record that this process has: every place that says something about the record asks here.

Every event is read again as the process starts, and then so often that it costs a hundredth of the time, daily at
least, in a thread of its own; what came after the last checkpoint whenever the head has moved. What MLflow witnesses is
compared by the caretaker (`witness`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from weakref import WeakKeyDictionary

from services.database import Database
from services.errors import LedgerBroken, LedgerUnavailable, SignoffError
from services.record import checkpoints, ledger, witness
from services.record.checkpoints import Differs
from services.record.witness import Report
from services.registry import Registry
from services.settings import Settings
from services.signoff import Signoff
from verifier.verify import Checkpoint, Keys, Tampered

RECHECK_SECONDS = 300.0
"""What came after the last checkpoint is read again after this time, also where the head did not move."""
FULL_SECONDS = 24 * 3600.0
"""Every event is read again after this time at the latest: somebody may have changed what was read before."""
SHARE = 0.01
"""Sooner, as long as reading them takes no more than this share of the time: every five minutes where it is short."""

log = logging.getLogger(__name__)


class State(StrEnum):
    """What is known of the record, worst last."""

    INTACT = "intact"
    UNVERIFIED = "not yet verified"
    UNWITNESSED = "unwitnessed"
    TAMPERED = "tampered with"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The judgement, in one sentence. ``seq``: the first event that is not as recorded, where it is known.

    ``events`` and ``head``: how many events the head names, and its hash.
    ``differences``: what the tables beside the events say else, each; the sentence has the first of them.
    ``since``: when the oldest event without a witness was recorded, in UTC. ``checked_at``: when every event was read
    again last; None before that.
    """

    state: State
    sentence: str
    events: int = 0
    head: str = ledger.GENESIS
    seq: int | None = None
    differences: tuple[str, ...] = ()
    since: datetime | None = None
    checked_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """One reading of the record: where the head was, when it began (monotonic seconds), and the answer to come."""

    head: tuple[int, str]
    begun: float
    answer: Future[None]


@dataclass
class _Memory:
    """Of one process: the pass under way or made last, and the last verified point, which is kept nowhere else.

    ``found`` is what was found last, until everything was read again without finding anything. ``retired``: the event
    that replaced the key which this process signs with; None: none did.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    made: _Pass | None = None
    found: Tampered | None = None
    point: Checkpoint | None = None
    full_begun: float = -1e9
    full_took: float = 0.0
    full_at: datetime | None = None
    retired: int | None = None


_memories: WeakKeyDictionary[Database, _Memory] = WeakKeyDictionary()
_lock = threading.Lock()


def of(signoff: Signoff, *, patience: float = 0.3) -> Condition:
    """The judgement of this moment. Where the head moved, waits ``patience`` seconds for what came to be read.

    Raises:
        LedgerUnavailable: the database cannot be read.
    """
    head = _head(signoff)
    made = _begun(signoff, head)
    return replace(_judged(signoff, made, head, patience), events=head[0], head=head[1])


def _judged(signoff: Signoff, made: _Pass, head: tuple[int, str], patience: float) -> Condition:
    try:
        made.answer.result(timeout=patience)
    except TimeoutError:
        read = False
    except LedgerUnavailable:
        raise
    except Exception as error:
        return Condition(state=State.UNVERIFIED, sentence=f"The record could not be read again: {_cause(error)}")
    else:
        read = made.head == head
    memory = _memory(signoff.database)
    noticed = memory.found or _noticed(signoff.database)
    report = witness.last_report(signoff)
    if noticed or (report and report.problems):
        return judged(noticed, report, checked_at=memory.full_at)
    if not read:
        return Condition(state=State.UNVERIFIED, sentence="The record is being read again.", checked_at=memory.full_at)
    found = judged(None, report, since=witness.unwitnessed_since(signoff), checked_at=memory.full_at)
    if memory.retired is not None:
        told = f"It signs with a key that was replaced at event #{memory.retired}: start Signoff with the new one."
        return replace(found, state=State.UNWITNESSED, sentence=told)
    return found


def judged(
    found: Tampered | None,
    report: Report | None,
    *,
    since: datetime | None = None,
    checked_at: datetime | None = None,
) -> Condition:
    """The judgement from what reading the whole record and comparing it with MLflow found."""
    problems = report.problems if report else ()
    told = " ".join(problem.sentence for problem in problems)
    if found or any(problem.proven for problem in problems):
        sentence = f"{found} {told}".strip() if found else told
        return Condition(
            state=State.TAMPERED,
            sentence=sentence,
            seq=found.seq if found else None,
            differences=found.differences if isinstance(found, Differs) else (),
            checked_at=checked_at,
        )
    if problems or since:
        told = told or "What is written now cannot be proven lost until MLflow takes a checkpoint again."
        return Condition(state=State.UNWITNESSED, sentence=told, since=since, checked_at=checked_at)
    return Condition(state=State.INTACT, sentence="The record is as it was recorded.", checked_at=checked_at)


def examined(
    database: Database,
    settings: Settings,
    registry: Registry | None,
    *,
    at: datetime,
    keys: Keys | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Condition, Report | None]:
    """The judgement after everything was read again now, and what MLflow witnesses; for the terminal.

    Args:
        registry: where the witness is; None: it is not asked.
        keys: what checkpoints are signed with; None: with this machine's own.
        progress: see `checkpoints.verify`.

    Raises:
        LedgerUnavailable, RegistryUnavailable: a system does not answer.
    """
    report = None
    try:
        seq, head, _ = checkpoints.verify(database, keys or checkpoints.trusted(database, settings), progress=progress)
    except (Tampered, LedgerBroken) as error:
        return judged(_told(error), None, checked_at=at), None
    if registry:
        report = witness.check_witness(database, settings, registry, at=at)
    return replace(judged(None, report, checked_at=at), events=seq, head=head), report


def keep(signoff: Signoff) -> None:
    """One round of the caretaker: have read again, in the background, what it is time to read again."""
    _begun(signoff, _head(signoff))


def require_sound(signoff: Signoff) -> None:
    """Raise `LedgerBroken` where this process knows that the record was tampered with; waits for nothing."""
    _require_untampered(of(signoff, patience=0))


def require_witnessed(database: Database, settings: Settings, registry: Registry, *, at: datetime) -> None:
    """`require_sound` for the terminal: everything is read again now, and MLflow is asked whether the end was cut off.

    Raises:
        LedgerBroken: the record was tampered with.
        LedgerUnavailable, RegistryUnavailable: a system does not answer, so nobody knows.
    """
    _require_untampered(examined(database, settings, registry, at=at)[0])


def _require_untampered(found: Condition) -> None:
    if found.state is State.TAMPERED:
        raise LedgerBroken(f"The record was tampered with. {found.sentence}", found.seq)


def _begun(signoff: Signoff, head: tuple[int, str]) -> _Pass:
    """The pass that counts now; a new one is begun where one is due, never two at a time."""
    memory, now = _memory(signoff.database), time.monotonic()
    with memory.lock:
        if memory.made and (not memory.made.answer.done() or not _due(signoff, memory, memory.made, head, now)):
            return memory.made
        point = None if _full_due(memory, now) or _noticed(signoff.database) else memory.point
        memory.made = _Pass(
            head=head,
            begun=now,
            answer=signoff.pools.record.submit(_read, signoff, memory, point, now, signoff.now()),
        )
        return memory.made


def _due(signoff: Signoff, memory: _Memory, made: _Pass, head: tuple[int, str], now: float) -> bool:
    if made.answer.exception():
        return True
    if memory.found:
        return _full_due(memory, now)  # a long record is not read again and again for what is known
    moved = made.head != head or _noticed(signoff.database) is not None
    return moved or now - made.begun > RECHECK_SECONDS or _full_due(memory, now)


def _full_due(memory: _Memory, now: float) -> bool:
    return now - memory.full_begun > min(FULL_SECONDS, max(RECHECK_SECONDS, memory.full_took / SHARE))


def _read(signoff: Signoff, memory: _Memory, point: Checkpoint | None, begun: float, at: datetime) -> None:
    noticed, began = _noticed(signoff.database), time.monotonic()
    try:
        keys = checkpoints.trusted(signoff.database, signoff.settings)
        verified = checkpoints.verify(signoff.database, keys, since=point)
    except (Tampered, LedgerBroken) as error:
        memory.point, memory.found = None, _told(error)  # everything is read next time
        memory.full_begun, memory.full_took = begun, time.monotonic() - began
        log.error("ledger: %s", memory.found)
        return
    (own,) = checkpoints.own_key(signoff.settings)
    memory.point, memory.retired = verified.point, keys[own].until
    if point is None:
        memory.full_begun, memory.full_took = begun, time.monotonic() - began
        memory.full_at, memory.found = at, None
        if (seals := signoff.database.seals) and seals.noticed is noticed:
            seals.noticed = None  # and not what was come upon meanwhile


def _told(error: Tampered | LedgerBroken) -> Tampered:
    """The finding in its own words, without those that `ledger` puts before it for a page."""
    if isinstance(error, Tampered):
        return error
    cause = error.__cause__
    return cause if isinstance(cause, Tampered) else Tampered(str(error), error.seq or 0)


def _noticed(database: Database) -> Tampered | None:
    """What a reader of events came upon since everything was read."""
    return database.seals.noticed if database.seals else None


def _head(signoff: Signoff) -> tuple[int, str]:
    with signoff.database.reading() as connection:
        try:
            return ledger.head(connection)
        except LedgerBroken:
            return 0, ledger.GENESIS  # the pass says what is wrong with it


def _cause(error: Exception) -> str:
    log.error("ledger: the record could not be read again", exc_info=error)
    return str(error) if isinstance(error, SignoffError) else "the log says why."


def _memory(database: Database) -> _Memory:
    with _lock:
        return _memories.setdefault(database, _Memory())
