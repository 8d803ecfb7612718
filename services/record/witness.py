"""MLflow as witness of the ledger: signed checkpoints are write-once params there, and compared with what is here.

What was lost after the last witnessed checkpoint cannot be proven lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services.database import Database
from services.domain import Witness
from services.errors import BadInput, LedgerBroken, RegistryUnavailable
from services.record import checkpoints, ledger
from services.record.ledger import Kind
from services.registry import Registry
from services.settings import Settings
from services.signoff import Signoff
from services.tables import checkpoints as kept
from services.tables import events, witnesses
from verifier.verify import Checkpoint, Keys, Tampered, checkpoint_in

INTERVAL = timedelta(minutes=5)
"""So often a moved head is signed; a confirmed change of Production at once."""
OVERDUE = timedelta(minutes=15)
"""Events older than this without a witness are worth a warning, whatever the cause."""
RETRY_SECONDS = 30.0
COMPARE_SECONDS = 300.0
AT_ONCE = (
    Kind.PROMOTION_CONFIRMED,
    Kind.ROLLBACK_CONFIRMED,
    Kind.EMERGENCY_CONFIRMED,
    Kind.ARCHIVAL_CONFIRMED,
)
PER_ROUND = 50
PER_QUERY = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something about the witnesses that is not as it should be, in one sentence.

    ``proven``: a signature of ours contradicts the ledger. Otherwise somebody did something to MLflow's copy.
    """

    sentence: str
    proven: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a comparison found; ``last`` is the newest witnessed checkpoint of this ledger, ``at`` when it was made."""

    at: datetime
    last: Checkpoint | None
    problems: tuple[Problem, ...]

    @property
    def proven(self) -> bool:
        """Whether the ledger is not what it was."""
        return any(problem.proven for problem in self.problems)


@dataclass
class _Memory:
    """Of one process: when MLflow was asked last (monotonic seconds), and what it answered."""

    tried: float = -1e9
    compared: float = -1e9
    report: Report | None = None


_memories: WeakKeyDictionary[Database, _Memory] = WeakKeyDictionary()
_lock = threading.Lock()


def _memory(database: Database) -> _Memory:
    with _lock:
        return _memories.setdefault(database, _Memory())


def last_report(signoff: Signoff) -> Report | None:
    """The last comparison with MLflow this process made, for a page; asks nobody. None before the first."""
    return _memory(signoff.database).report


def keep(signoff: Signoff) -> None:
    """One round of the caretaker: sign the head when it is time, write into MLflow what waits, compare what is there.

    Raises:
        LedgerBroken: the ledger does not continue what was signed; nothing was signed.
    """
    memory = _memory(signoff.database)
    if _due(signoff):
        checkpoints.publish(signoff.settings)
        checkpoints.create(signoff.database, signoff.settings, at=signoff.now())
    with signoff.database.reading() as connection:
        waiting = _waiting(connection)
    now = time.monotonic()
    failed_lately = memory.tried > memory.compared and now - memory.tried < RETRY_SECONDS
    if failed_lately or not (waiting or now - memory.compared > COMPARE_SECONDS):
        return
    memory.tried = now
    try:
        report = check_witness(signoff.database, signoff.settings, signoff.registry, at=signoff.now())
        memory.report, memory.compared = report, time.monotonic()
        for problem in report.problems:
            log.error("ledger: %s", problem.sentence)
        if not report.proven:
            write(signoff)
    except RegistryUnavailable as error:
        log.warning("the ledger's checkpoints wait: %s", error)


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


def _waiting(connection: Connection) -> list[tuple[int, str]]:
    """Checkpoints MLflow is not known to hold, oldest first, as (number, signed text)."""
    query = (
        sa.select(kept.c.seq, kept.c.signed)
        .outerjoin(witnesses, witnesses.c.seq == kept.c.seq)
        .where(witnesses.c.seq.is_(None))
        .order_by(kept.c.seq)
        .limit(PER_ROUND)
    )
    return [(row.seq, row.signed) for row in connection.execute(query)]


def write(signoff: Signoff) -> int:
    """Write the checkpoints that wait into MLflow; returns how many were written.

    Raises:
        RegistryUnavailable: MLflow did not answer; the rest waits.
        LedgerBroken: MLflow already holds another checkpoint of the same number.
    """
    with signoff.database.reading() as connection:
        ledger_id, waiting = checkpoints.ledger_id(connection), _waiting(connection)
    for seq, text in waiting:
        try:
            signoff.registry.witness(ledger_id, name_of(seq), text)
        except BadInput as error:
            raise LedgerBroken(f"MLflow holds another checkpoint of event #{seq} than this ledger.") from error
        try:
            with signoff.database.writing() as connection:
                connection.execute(
                    witnesses.insert().values(seq=seq, at=signoff.now().isoformat(timespec="milliseconds"))
                )
        except IntegrityError:
            pass  # another process wrote it too
    return len(waiting)


def name_of(seq: int) -> str:
    """The param a checkpoint is written under."""
    return f"checkpoint-{seq}"


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


def check_witness(database: Database, settings: Settings, registry: Registry, *, at: datetime) -> Report:
    """Compare the checkpoints MLflow holds with the live ledger.

    Finds a ledger that was cut off, restored from an older backup, replaced, or written again before the last
    witnessed checkpoint. Asks MLflow once and reads no event but those that were witnessed.

    Raises:
        RegistryUnavailable: MLflow did not answer.
    """
    held, keys = registry.witnesses(), checkpoints.trusted(database, settings)
    with database.reading() as connection:
        ledger_id = checkpoints.ledger_id(connection)
        genuine, problems = _sorted_out(held, ledger_id, keys)
        end, _ = ledger.head(connection)
        hashes = _hashes(connection, [checkpoint.seq for checkpoint in genuine])
        noted = set(connection.execute(sa.select(witnesses.c.seq)).scalars())
    problems += _contradictions(genuine, end, hashes)
    if missing := sorted(noted - {checkpoint.seq for checkpoint in genuine}):
        problems.append(
            Problem(
                sentence=f"MLflow no longer holds {len(missing)} checkpoints it held, the first of them about event "
                f"#{missing[0]}: somebody removed them there.",
                proven=False,
            )
        )
    last = max(genuine, key=lambda checkpoint: checkpoint.seq, default=None)
    return Report(at=at, last=last, problems=tuple(problems))


def _sorted_out(held: Iterable[Witness], ledger_id: str, keys: Keys) -> tuple[list[Checkpoint], list[Problem]]:
    """The checkpoints of this ledger that bear our signature, and what is wrong with the rest."""
    genuine: list[Checkpoint] = []
    problems: list[Problem] = []
    elsewhere: dict[str, Checkpoint] = {}
    for witness in held:
        try:
            found = checkpoint_in(witness.text, keys)
        except Tampered as error:
            if witness.ledger == ledger_id:  # other ledgers have keys of their own
                problems.append(Problem(sentence=f"{witness.name[:40]} in MLflow is not ours. {error}", proven=False))
            continue
        if found.ledger == ledger_id:
            genuine.append(found)
        elif found.ledger not in elsewhere or elsewhere[found.ledger].seq < found.seq:
            elsewhere[found.ledger] = found
        if not witness.active and found.ledger == ledger_id and not any("deleted" in p.sentence for p in problems):
            problems.append(Problem(sentence="A run that witnesses the ledger was deleted in MLflow.", proven=False))
    problems += [
        Problem(
            sentence=f"The ledger {other.ledger} was signed with this key, the last time {other.at} at event "
            f"#{other.seq}, and this database holds another one: the ledger was replaced.",
            proven=True,
        )
        for other in elsewhere.values()
    ]
    return genuine, problems


def _hashes(connection: Connection, numbers: list[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for start in range(0, len(numbers), PER_QUERY):
        query = sa.select(events.c.seq, events.c.hash).where(events.c.seq.in_(numbers[start : start + PER_QUERY]))
        found |= {row.seq: row.hash for row in connection.execute(query)}
    return found


def _contradictions(genuine: list[Checkpoint], end: int, hashes: Mapping[int, str]) -> list[Problem]:
    """Where the ledger is not what was signed: one sentence for what is cut off, one for what was written again."""
    problems = []
    # Read before the head was: none of them can be ahead of it.
    if beyond := [checkpoint for checkpoint in genuine if checkpoint.seq > end]:
        last = max(beyond, key=lambda checkpoint: checkpoint.seq)
        problems.append(
            f"MLflow witnesses event #{last.seq} at {last.at}, and the ledger ends with #{end}: "
            f"it was cut off, or an older backup was restored."
        )
    if other := [c for c in genuine if c.seq <= end and hashes.get(c.seq) != c.hash]:
        first = min(other, key=lambda checkpoint: checkpoint.seq)
        agreed = max((c.seq for c in genuine if c.seq < first.seq), default=0)
        problems.append(
            f"Event #{first.seq} is not the one MLflow witnesses at {first.at}: between #{agreed + 1} and "
            f"#{first.seq} history was written again, or an older backup was restored and continued."
        )
    return [Problem(sentence=sentence, proven=True) for sentence in problems]
