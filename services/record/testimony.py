"""What MLflow, as witness, says of the ledger: the signed checkpoints it holds, compared with what is here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.database import Database
from services.domain import WitnessRun
from services.errors import NotFound
from services.record import checkpoints, epochs, ledger
from services.record.ledger import Filter, Kind
from services.registry import Registry
from services.settings import Settings
from services.tables import events, witnesses
from verifier.verify import Checkpoint, Keys, Tampered, checkpoint_in

PER_QUERY = 500
ON_PURPOSE = "If that was done on purpose, state it: signoff ledger restored --reason …"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something about the witnesses that is not as it should be, in one sentence.

    ``proven``: a signature of ours contradicts the ledger. Otherwise somebody did something to MLflow's copy.
    """

    sentence: str
    proven: bool


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A run that the ledger names as its witness, and the event that does."""

    run: str
    experiment: str
    called: str
    seq: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a comparison found; ``last`` is the newest witnessed checkpoint of this ledger, ``at`` when it was made.

    ``remarks`` says what was lost before each later epoch: stated by a person, and no problem any more. ``known`` are
    the runs that the ledger names, oldest first, ``held`` those of them that MLflow has, ``gone`` those that it has
    not, or as deleted, and nobody has stated to be lost; ``lost`` the checkpoints that contradict the ledger likewise.
    """

    at: datetime
    last: Checkpoint | None
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...] = ()
    known: tuple[Opened, ...] = ()
    held: Mapping[str, WitnessRun]
    gone: tuple[str, ...] = ()
    lost: tuple[Checkpoint, ...] = ()
    agreed: int = 0
    """The last event before ``lost`` that MLflow witnesses and the ledger holds."""
    epoch: int = 1
    """The newest epoch that MLflow or the ledger knows of."""

    @property
    def current(self) -> str:
        """The run that checkpoints go into; empty before the ledger names one."""
        return self.known[-1].run if self.known else ""

    @property
    def without_older_texts(self) -> Report:
        """The same for a process that keeps it for long: a full run is followed by another, and they add up."""
        held = {one.run: one if one.run == self.current else replace(one, texts={}) for one in self.held.values()}
        return replace(self, held=held)

    @property
    def proven(self) -> bool:
        """Whether the ledger is not what it was."""
        return any(problem.proven for problem in self.problems)


def opened(connection: Connection, known: tuple[Opened, ...] = ()) -> tuple[Opened, ...]:
    """The runs that the ledger names as its witnesses, oldest first; checkpoints go into the last one.

    Those ``known`` from an earlier call are not read again where no other event tells of one.
    """
    kinds = (Kind.WITNESS_OPENED, Kind.WITNESS_REPLACED)
    named = sa.select(sa.func.count(), sa.func.max(events.c.seq)).where(events.c.kind.in_([one.value for one in kinds]))
    if known and tuple(connection.execute(named).one()) == (len(known), known[-1].seq):
        return known
    found = ledger.events(connection, Filter(kinds=kinds), limit=None)
    return tuple(
        Opened(run=one.get("run"), experiment=one.get("experiment"), called=one.get("called"), seq=one.seq)
        for one in reversed(found)
    )


def experiments(connection: Connection) -> list[str]:
    """The ids of MLflow's experiments that witness this ledger."""
    return list(dict.fromkeys(one.experiment for one in opened(connection)))


def check_witness(database: Database, settings: Settings, registry: Registry, *, at: datetime) -> Report:
    """Compare the checkpoints MLflow holds with the live ledger.

    Finds a ledger that was cut off, restored from an older backup, replaced, or written again before the last
    witnessed checkpoint, and a witness that was deleted, renamed or removed. A checkpoint counts by its signature, in
    whichever run it is. Asks MLflow once and reads no event but those that were witnessed.

    Raises:
        RegistryUnavailable: MLflow did not answer.
    """
    keys = checkpoints.trusted(database, settings)
    with database.reading() as connection:
        known, noted = opened(connection), _noted(connection)  # before MLflow is read: all of them must be there
    runs = registry.witnesses(dict.fromkeys(one.experiment for one in known))
    named = {one.run for one in known}
    held = {run.run: run for run in runs if run.run in named}
    with database.reading() as connection:
        ledger_id = checkpoints.ledger_id(connection)
        genuine, problems = _sorted_out(runs, held, ledger_id, keys)
        # Read after MLflow was: none of them can be ahead of it.
        end, _ = ledger.head(connection)
        hashes = _hashes(connection, [checkpoint.seq for checkpoint in genuine])
        stated = epochs.opened(connection)
    lost = [
        one for one in genuine if hashes.get(one.seq) != one.hash and not any(epoch.explains(one) for epoch in stated)
    ]
    standing = [one for one in genuine if hashes.get(one.seq) == one.hash]
    agreed = max((one.seq for one in standing if all(one.seq < other.seq for other in lost)), default=0)
    problems += _contradictions(lost, agreed, end)
    excused = frozenset[str]().union(*(epoch.runs for epoch in stated))
    gone, about = _runs(known, held, excused, noted)
    problems += about
    problems += _missing(noted, {one.seq for one in genuine}, {*gone, *excused})
    return Report(
        at=at,
        last=max(standing, key=lambda checkpoint: checkpoint.seq, default=None),
        problems=tuple(problems),
        remarks=_remarks(stated),
        known=known,
        held=held,
        gone=tuple(gone),
        lost=tuple(sorted(lost, key=lambda checkpoint: checkpoint.seq)),
        agreed=agreed,
        epoch=max([1, *(epoch.number for epoch in stated), *(one.epoch for one in genuine)]),
    )


def check_newest(
    database: Database, settings: Settings, registry: Registry, before: Report, *, at: datetime
) -> Report | None:
    """An earlier report without problems, brought up to now by reading the run alone that checkpoints go into.

    Verifies what was written there since. Each checkpoint names the hash of an event, which covers all events before,
    so the newest one says whether the ledger still is what it was. Older runs are not asked for.

    Returns: None where anything is not as it was then: `check_witness` finds out what.

    Raises:
        RegistryUnavailable: MLflow did not answer.
    """
    keys, last, held = checkpoints.trusted(database, settings), before.last, before.held.get(before.current)
    with database.reading() as connection:
        noted = _noted(connection, after=last.seq if last else 0)
    try:
        run = registry.witness_run(before.current)
        if held is None or replace(run, texts=held.texts) != held or held.texts.items() - run.texts.items():
            return None
        new = [checkpoint_in(text, keys) for _, text in run.texts.items() - held.texts.items()]
    except (NotFound, Tampered):
        return None
    newest = [*([last] if last else []), *new]
    with database.reading() as connection:
        ledger_id = checkpoints.ledger_id(connection)
        hashes = _hashes(connection, [one.seq for one in newest])
        same = opened(connection, before.known) == before.known and before.remarks == _remarks(
            epochs.opened(connection)
        )
    if not same or noted.keys() - {one.seq for one in new}:
        return None
    if any(one.ledger != ledger_id or one.epoch > before.epoch or hashes.get(one.seq) != one.hash for one in newest):
        return None
    return replace(
        before,
        at=at,
        last=max(newest, key=lambda checkpoint: checkpoint.seq, default=None),
        held={**before.held, run.run: run},
    )


def holds(connection: Connection, seq: int, fingerprint: str) -> bool:
    """Whether event ``seq`` has this hash."""
    return _hashes(connection, [seq]).get(seq) == fingerprint


def _noted(connection: Connection, *, after: int = 0) -> dict[int, str]:
    """The checkpoints that MLflow is known to hold, by the number of their event, each with its run."""
    query = sa.select(witnesses.c.seq, witnesses.c.run).where(witnesses.c.seq > after)
    return {row.seq: row.run for row in connection.execute(query)}


def _remarks(stated: Iterable[epochs.Epoch]) -> tuple[str, ...]:
    return tuple(epoch.words for epoch in stated)


def _sorted_out(
    runs: Iterable[WitnessRun], held: Mapping[str, WitnessRun], ledger_id: str, keys: Keys
) -> tuple[list[Checkpoint], list[Problem]]:
    """The checkpoints of this ledger that bear our signature, and what is wrong with the rest of our own runs.

    What others write into runs of their own is nothing to us, whatever they call them.
    """
    genuine: dict[str, Checkpoint] = {}
    problems: list[Problem] = []
    elsewhere: dict[str, Checkpoint] = {}
    for run in runs:
        false: list[str] = []
        for name, text in run.texts.items():
            if text in genuine:
                continue
            try:
                found = checkpoint_in(text, keys)
            except Tampered:
                false.append(name)
                continue
            if found.ledger == ledger_id:
                genuine[text] = found
            elif found.ledger not in elsewhere or elsewhere[found.ledger].seq < found.seq:
                elsewhere[found.ledger] = found
        if false and run.run in held:
            problems.append(_false(run, false))
    problems += [
        Problem(
            sentence=f"The ledger {other.ledger} was signed with this key, the last time {other.at} at event "
            f"#{other.seq}, and this database holds another one: the ledger was replaced.",
            proven=True,
        )
        for other in elsewhere.values()
    ]
    return list(genuine.values()), problems


def _false(run: WitnessRun, names: Sequence[str]) -> Problem:
    """One sentence for all of them: there may be thousands."""
    name = min(names)[:40]
    what = f"{name} in MLflow is not ours" if len(names) == 1 else f"{name} and {len(names) - 1} more are not ours"
    return Problem(
        sentence=f"{what}: somebody wrote to the run {run.run}, which witnesses the ledger. It changes nothing there.",
        proven=False,
    )


def _hashes(connection: Connection, numbers: list[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for start in range(0, len(numbers), PER_QUERY):
        query = sa.select(events.c.seq, events.c.hash).where(events.c.seq.in_(numbers[start : start + PER_QUERY]))
        found |= {row.seq: row.hash for row in connection.execute(query)}
    return found


def _contradictions(lost: Sequence[Checkpoint], agreed: int, end: int) -> list[Problem]:
    """Where the ledger is not what was signed: one sentence for what is cut off, one for what was written again."""
    problems = []
    if beyond := [checkpoint for checkpoint in lost if checkpoint.seq > end]:
        last = max(beyond, key=lambda checkpoint: checkpoint.seq)
        problems.append(
            f"MLflow witnesses event #{last.seq} at {last.at}, and the ledger ends with #{end}: "
            f"it was cut off, or an older backup was restored."
        )
    if other := [checkpoint for checkpoint in lost if checkpoint.seq <= end]:
        first = min(other, key=lambda checkpoint: checkpoint.seq)
        problems.append(
            f"Event #{first.seq} is not the one MLflow witnesses at {first.at}: between #{agreed + 1} and "
            f"#{first.seq} history was written again, or an older backup was restored and continued."
        )
    return [Problem(sentence=f"{sentence} {ON_PURPOSE}", proven=True) for sentence in problems]


def _runs(
    known: Iterable[Opened], held: Mapping[str, WitnessRun], excused: Iterable[str], noted: Mapping[int, str]
) -> tuple[list[str], list[Problem]]:
    """The runs of ours that are not in MLflow as they were, and what is wrong in words."""
    gone, sentences = [], []
    for one in known:
        found = held.get(one.run)
        what = f"The run {one.run} of the experiment {one.experiment}, which witnesses this ledger"
        if until := max((seq for seq, run in noted.items() if run == one.run), default=0):
            what += f" up to #{until},"
        if one.run in excused:
            continue
        if found is None:
            gone.append(one.run)
            sentences.append(f"{what} is not in MLflow any more. {ON_PURPOSE}")
        elif not found.active:
            gone.append(one.run)
            sentences.append(f"{what} was deleted in MLflow. Restore it there. {ON_PURPOSE}")
        elif found.called != one.called:
            sentences.append(
                f"The experiment {one.experiment}, in which MLflow witnesses this ledger, was renamed from "
                f"{one.called} to {found.called[:100]}. Rename it back."
            )
    return gone, [Problem(sentence=sentence, proven=False) for sentence in dict.fromkeys(sentences)]


def _missing(noted: Mapping[int, str], genuine: set[int], gone: set[str]) -> list[Problem]:
    """Checkpoints that are gone from runs that are there."""
    missing = sorted(seq for seq, run in noted.items() if seq not in genuine and run not in gone)
    if not missing:
        return []
    return [
        Problem(
            sentence=f"MLflow no longer holds {len(missing)} checkpoints it held, the first of them about event "
            f"#{missing[0]}: somebody removed them there.",
            proven=False,
        )
    ]
