"""MLflow as witness of the ledger: signed checkpoints are write-once params there, in runs that the ledger names.

What was lost after the last witnessed checkpoint cannot be proven lost.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services.database import Database
from services.errors import BadInput, NotFound, RegistryUnavailable
from services.proofs import ours
from services.record import checkpoints, ledger, testimony
from services.record.activation import SYSTEM
from services.record.ledger import Entry, Kind
from services.record.testimony import Problem, Report, check_witness
from services.signoff import Signoff
from services.tables import checkpoints as kept
from services.tables import events, witnesses

__all__ = ["Problem", "Report", "check_witness", "keep", "last_report", "unwitnessed_since"]

INTERVAL = timedelta(minutes=5)
"""So often a moved head is signed; a confirmed change of Production at once."""
OVERDUE = timedelta(minutes=15)
"""Events older than this without a witness are worth a warning, whatever the cause."""
RETRY_SECONDS = 30.0
COMPARE_SECONDS = 300.0
"""The run that checkpoints go into is read again after this time."""
FULL_SECONDS = 24 * 3600.0
"""So is everything that MLflow witnesses; at start, and while something is wrong with it, too."""
PATIENCE = 50.0
"""Reading what MLflow holds may take one part of so many of the caretaker's time."""
AT_ONCE = (
    Kind.PROMOTION_CONFIRMED,
    Kind.ROLLBACK_CONFIRMED,
    Kind.EMERGENCY_CONFIRMED,
    Kind.ARCHIVAL_CONFIRMED,
)
PER_ROUND = 50
CHECKPOINTS_PER_RUN = 1000
"""A run is read whole; checkpoints go on in another one after so many."""
NEVER = -1e9

log = logging.getLogger(__name__)


@dataclass
class _Memory:
    """Of one process, in monotonic seconds: how long a comparison holds, when to read again, when a write failed last.

    ``full_at`` is when everything was compared last, and ``newest`` has number and hash of the newest event that MLflow
    is known to witness.
    """

    holds_until: float = NEVER
    read_again: float = NEVER
    failed: float = NEVER
    full_at: float = NEVER
    report: Report | None = None
    newest: tuple[int, str] | None = None


_memories: WeakKeyDictionary[Database, _Memory] = WeakKeyDictionary()
_lock = threading.Lock()


def _memory(database: Database) -> _Memory:
    with _lock:
        return _memories.setdefault(database, _Memory())


def last_report(signoff: Signoff) -> Report | None:
    """The last comparison with MLflow this process made, for a page; asks nobody. None before the first."""
    return _memory(signoff.database).report


def keep(signoff: Signoff) -> None:
    """One round of the caretaker: sign the head when it is time, compare what MLflow holds, write there what waits.

    The run that is written to is read every five minutes, or less often where that takes long; all runs at start,
    daily, while something is wrong, and before anything is written over what no longer stands. What others pile up
    there slows down no round, and stops no checkpoint: a write needs none of it.

    Raises:
        LedgerBroken: the ledger does not continue what was signed; nothing was signed.
    """
    memory = _memory(signoff.database)
    if _due(signoff):
        checkpoints.publish(signoff.settings)
        checkpoints.create(signoff.database, signoff.settings, at=signoff.now())
    now, report = time.monotonic(), memory.report
    with signoff.database.reading() as connection:
        known = testimony.opened(connection, report.known if report else ())
        stands = memory.newest is None or testimony.holds(connection, *memory.newest)
        waiting = _waiting(connection, memory.newest[0] if memory.newest and stands else 0)
    holds = report and not report.proven and report.known == known and stands and now < memory.holds_until
    if not holds and now >= memory.read_again:
        changed = not stands or report is None or report.known != known or bool(report.problems)
        _compare(signoff, memory, now, full=changed or now - memory.full_at >= FULL_SECONDS)
        stands = stands or memory.report is not report
    if waiting and stands and now - memory.failed >= RETRY_SECONDS and not (memory.report and memory.report.proven):
        try:
            _write(signoff, memory, waiting)
        except (RegistryUnavailable, NotFound, BadInput) as error:
            memory.failed = now
            memory.holds_until = NEVER  # a run that was deleted meanwhile is found by the next comparison
            log.warning("the ledger's checkpoints wait: %s", error)


def _compare(signoff: Signoff, memory: _Memory, now: float, *, full: bool) -> None:
    """Ask MLflow, and log what is wrong: once, not each time. Without an answer the last report stays."""
    asked = (signoff.database, signoff.settings, signoff.registry)
    before = {problem.sentence for problem in memory.report.problems} if memory.report else set()
    try:
        report = None
        if memory.report and not full:
            report = testimony.check_newest(*asked, memory.report, at=signoff.now())
        if report is None:
            report = check_witness(*asked, at=signoff.now()).without_older_texts
            memory.full_at = now
    except RegistryUnavailable as error:
        memory.read_again = now + max(RETRY_SECONDS, PATIENCE * (time.monotonic() - now))
        log.warning("what MLflow witnesses cannot be read: %s", error)
        return
    memory.report, memory.newest = report, (report.last.seq, report.last.hash) if report.last else None
    memory.holds_until = now + max(COMPARE_SECONDS, PATIENCE * (time.monotonic() - now))
    memory.read_again = now + RETRY_SECONDS if report.proven else NEVER
    for problem in report.problems:
        if problem.sentence not in before:
            log.error("ledger: %s", problem.sentence)


def _due(signoff: Signoff) -> bool:
    """Whether the head moved since the last checkpoint, and long enough ago or by a change of Production."""
    with signoff.database.reading() as connection:
        last, (seq, _) = checkpoints.newest(connection), ledger.head(connection)
        if seq == (last.checkpoint.seq if last else 0):
            return False
        if last is None or abs(signoff.now() - datetime.fromisoformat(last.checkpoint.at)) >= INTERVAL:
            return True
        return bool(
            connection.execute(
                sa.select(events.c.seq)
                .where(events.c.kind.in_([kind.value for kind in AT_ONCE]), events.c.seq > last.checkpoint.seq)
                .limit(1)
            ).scalar()
        )


def _waiting(connection: Connection, newest: int) -> list[sa.Row[Any]]:
    """Checkpoints from event ``newest`` on that MLflow is not known to hold, oldest first. It covers all before it."""
    query = (
        sa.select(kept)
        .outerjoin(witnesses, witnesses.c.seq == kept.c.seq)
        .where(witnesses.c.seq.is_(None), kept.c.seq >= newest)
        .order_by(kept.c.seq)
        .limit(PER_ROUND)
    )
    return list(connection.execute(query))


def _write(signoff: Signoff, memory: _Memory, waiting: list[sa.Row[Any]]) -> None:
    """Write the checkpoints that wait into the run that witnesses the ledger.

    Raises:
        RegistryUnavailable, NotFound, BadInput: MLflow did not answer, or the run was deleted; the rest waits.
    """
    run = _run(signoff, memory.report)
    for checkpoint in waiting:
        with ours(signoff):
            _log(signoff, run, name_of(checkpoint.seq, checkpoint.epoch), checkpoint.signed)
        memory.newest = (checkpoint.seq, checkpoint.hash)
        try:
            with signoff.database.writing() as connection:
                moment = signoff.now().isoformat(timespec="milliseconds")
                connection.execute(witnesses.insert().values(seq=checkpoint.seq, at=moment, run=run))
        except IntegrityError:
            pass  # another process wrote it too


def _log(signoff: Signoff, run: str, name: str, text: str) -> None:
    try:
        signoff.registry.witness(run, name, text)
    except BadInput:
        # Somebody wrote something else under this name. Nobody can write ahead what only our key can make.
        signoff.registry.witness(run, f"{name}.{hashlib.sha256(text.encode()).hexdigest()[:16]}", text)


def name_of(seq: int, epoch: int = 1) -> str:
    """The param a checkpoint is written under."""
    return f"epoch-{epoch}.checkpoint-{seq}" if epoch > 1 else f"checkpoint-{seq}"


def _run(signoff: Signoff, report: Report | None) -> str:
    """The run to write to: the newest that the ledger names, or another one where that is full, deleted or gone.

    What no comparison has seen yet is taken as it is.
    """
    with signoff.database.reading() as connection:
        known = testimony.opened(connection)
    current = known[-1] if known else None
    found = report.held.get(current.run) if report and current else None
    if current and (report is None or current not in report.known):
        return current.run
    if found and found.active and len(found.texts) < CHECKPOINTS_PER_RUN:
        return found.run
    with signoff.database.reading() as connection:
        ledger_id = checkpoints.ledger_id(connection)
        witnessed = connection.execute(sa.select(sa.func.max(witnesses.c.seq))).scalar() or 0
    with ours(signoff):
        made = signoff.registry.open_witness(ledger_id, [one.experiment for one in reversed(known)])
    details: dict[str, Any] = {
        "run": made.run,
        "experiment": made.experiment,
        "called": made.called,
        "mlflow": _address(signoff.settings.mlflow_uri),
    }
    kind, comment = Kind.WITNESS_OPENED, "MLflow witnesses the ledger in this run."
    if current and not (found and found.active):
        kind = Kind.WITNESS_REPLACED
        comment = f"The run {current.run}, which witnessed the ledger up to #{witnessed}, is not in MLflow any more."
        details |= {"lost": current.run, "witnessed": witnessed}
    with signoff.database.writing() as connection:
        ledger.lock(connection)
        if (now := testimony.opened(connection)) != known:
            return now[-1].run  # another dashboard was first
        ledger.append(connection, Entry(kind=kind, actor=SYSTEM, at=signoff.now(), comment=comment, details=details))
    return made.run


def _address(uri: str) -> str:
    """A URL as it may be shown: without name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def unwitnessed_since(signoff: Signoff) -> datetime | None:
    """Since when events have no witness outside this database, in UTC; None when all is as it should be.

    The minutes until the next checkpoint are as it should be; a checkpoint that could not be written is not.
    """
    with signoff.database.reading() as connection:
        witnessed = connection.execute(sa.select(sa.func.max(witnesses.c.seq))).scalar() or 0
        oldest = connection.execute(
            sa.select(events.c.at).where(events.c.seq > witnessed).order_by(events.c.seq).limit(1)
        ).scalar()
        signed = connection.execute(sa.select(sa.func.min(kept.c.at)).where(kept.c.seq > witnessed)).scalar()
    if oldest is None:
        return None
    now, since = signoff.now(), datetime.fromisoformat(oldest)
    waits = signed is not None and now - datetime.fromisoformat(signed) > timedelta(minutes=1)
    return since if waits or now - since > OVERDUE else None
