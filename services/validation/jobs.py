"""Validations under way: durable rows with a lease, so that no job of a dashboard that died is running for ever.

A row says how far a job is. Who asked for what, and whether it has ended, the record alone says. What was uploaded lies
in a folder of one machine, so a job is run by a dashboard of the place that took it.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.database import Database, database_time
from services.domain import Source, VersionRef
from services.errors import BadInput, LedgerUnavailable, NotFound, PromotionConflict
from services.record import ledger
from services.record.ledger import Event, Kind
from services.tables import events
from services.tables import validation_jobs as table

LEASE_SECONDS = 60.0
RENEW_SECONDS = 10.0
BEAT_SECONDS = 0.5
"""So often whoever runs a job looks whether somebody cancelled it."""
PATIENCE_SECONDS = 24 * 3600.0
"""A job that no dashboard took for so long is given up."""
MAX_WAITING = 20
MAX_LINES = 200
NOT_ASKED = "No event of the record asks for it, so it is not run."

log = logging.getLogger(__name__)


class State(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        """Whether something may still come of it."""
        return self in {State.QUEUED, State.RUNNING}


OPEN = tuple(state.value for state in State if state.open)
_ENDS = (Kind.VALIDATION_COMPLETED, Kind.VALIDATION_FAILED, Kind.VALIDATION_CANCELLED)


class Origin(StrEnum):
    """Where a holdout comes from."""

    UPLOAD = "upload"
    PLACE = "place"
    DATASET = "dataset"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to evaluate on.

    ``name`` is the file's name, a path or URI the server may read, or name or digest of a data set that the
    candidate's run logged. ``sha256`` and ``folder`` are of an upload, and say what was uploaded and where it lies.

    Raises:
        BadInput: no target or name, or a confidence that is none.
    """

    origin: Origin
    name: str
    target: str
    confidence: float = 0.95
    sha256: str = ""
    folder: str = ""

    def __post_init__(self) -> None:
        for what, text, most in (("target", self.target, 250), ("holdout", self.name, 2000)):
            if not text.strip() or len(text) > most or not text.isprintable():
                raise BadInput(f"The {what} must be named with 1 to {most} printable characters.")
        if not 0.5 <= self.confidence < 1:
            raise BadInput(f"A confidence lies between 0.5 and 1, such as 0.95; {self.confidence:g} does not.")

    @property
    def told(self) -> dict[str, str]:
        """What makes two requests the same, and what the record keeps, which adds the folder it lies in."""
        found = {"holdout": self.name, "origin": self.origin.value, "target": self.target}
        return {**found, "confidence": repr(self.confidence), **({"sha256": self.sha256} if self.sha256 else {})}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One validation that was asked for; ``seq`` is the event that says so. Times are ISO 8601 UTC."""

    seq: int
    ref: VersionRef
    identity: str
    asked_by: str
    asked_at: str
    source: Source
    wanted: Wanted
    consent: bool
    state: State
    step: str
    share: float
    log: tuple[tuple[str, str], ...]
    error: str | None
    run_id: str | None
    completed_seq: int | None
    ended_at: str | None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A job that is ours to run while its lease lasts."""

    job: Job
    token: str


def add(connection: Connection, event: Event, *, place: str) -> None:
    """Queue what this event asks for; raises `PromotionConflict` when too many wait already."""
    waiting = sa.select(sa.func.count()).where(table.c.state == State.QUEUED)
    if connection.execute(waiting).scalar_one() >= MAX_WAITING:
        raise PromotionConflict(f"{MAX_WAITING} validations are waiting already; nothing was changed, ask again later.")
    connection.execute(
        table.insert().values(
            seq=event.seq,
            model=event.body["model"],
            version=event.body["version"],
            identity=event.get("identity"),
            place=place,
            state=State.QUEUED,
            log=[[event.at.isoformat(timespec="seconds"), "Waiting for its turn"]],
            leased_until=database_time() + PATIENCE_SECONDS,
        )
    )


def claim(database: Database, place: str, *, at: datetime) -> Claim | None:
    """Take the job of this place that has waited longest; one that the record does not ask for is closed instead."""
    free = (table.c.state == State.QUEUED, table.c.place == place, table.c.leased_until > database_time())
    with database.reading() as connection:
        seq = connection.execute(sa.select(table.c.seq).where(*free).order_by(table.c.seq).limit(1)).scalar()
    if seq is None:
        return None
    token = secrets.token_hex(16)
    with database.writing() as connection:
        if not _awaited(connection, seq, at=at):
            return None
        taken = connection.execute(
            table.update()
            .where(table.c.seq == seq, *free)
            .values(state=State.RUNNING, claim=token, leased_until=database_time() + LEASE_SECONDS)
        )
        return Claim(job=_find(connection, seq), token=token) if taken.rowcount == 1 else None


def _mine(claimed: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    """Still running, and by us: nobody cancelled it, and nobody found its lease run out."""
    return table.c.seq == claimed.job.seq, table.c.claim == claimed.token, table.c.state == State.RUNNING


def require(connection: Connection, claimed: Claim) -> None:
    """Raise `PromotionConflict` unless it is still ours to finish; nobody can end it before this transaction does."""
    alive = table.c.leased_until > database_time()
    if connection.execute(sa.select(table.c.seq).where(*_mine(claimed), alive).with_for_update()).scalar() is None:
        raise PromotionConflict("It was cancelled, or took so long that its place was given away.")


def update(connection: Connection, claimed: Claim, **values: Any) -> bool:
    """Change the row of a job that is still ours; whether it was."""
    return connection.execute(table.update().where(*_mine(claimed)).values(**values)).rowcount == 1


def note(database: Database, claimed: Claim, words: str, share: float, *, at: datetime) -> None:
    """Say what is being done now; a line of the log, of which the last 200 are kept."""
    with database.writing() as connection:
        lines = connection.execute(sa.select(table.c.log).where(*_mine(claimed))).scalar()
        if lines is not None:
            log = [*lines, [at.isoformat(timespec="seconds"), words]][-MAX_LINES:]
            update(connection, claimed, step=words[:200], share=share, log=log)


@contextmanager
def kept_alive(database: Database, claimed: Claim) -> Iterator[Callable[[], bool]]:
    """Renew the lease while inside; what is given says whether the job is ours no more, within about a second."""
    lost, over = threading.Event(), threading.Event()

    def beat() -> None:
        renewed = time.monotonic()
        while not over.wait(BEAT_SECONDS):
            try:
                if time.monotonic() - renewed >= RENEW_SECONDS:
                    with database.writing() as connection:
                        ours = update(connection, claimed, leased_until=database_time() + LEASE_SECONDS)
                    renewed = time.monotonic()
                else:
                    with database.reading() as connection:
                        ours = connection.execute(sa.select(table.c.seq).where(*_mine(claimed))).scalar() is not None
            except LedgerUnavailable:
                ours = time.monotonic() - renewed < LEASE_SECONDS
            if not ours:
                lost.set()
                return

    thread = threading.Thread(target=beat, name=f"validation-{claimed.job.seq}", daemon=True)
    thread.start()
    try:
        yield lost.is_set
    finally:
        over.set()
        thread.join()


def end(connection: Connection, seq: int, state: State, *, at: datetime, error: str | None = None) -> bool:
    """End a job that is open, in its row and by the record; whether there was one."""
    unrecorded = (table.c.seq == seq, table.c.state.in_(OPEN), table.c.completed_seq.is_(None))
    if not _awaited(connection, seq, at=at):
        return False
    ended = table.update().where(*unrecorded)
    moment = at.isoformat(timespec="seconds")
    return connection.execute(ended.values(state=state, error=error, ended_at=moment, claim=None)).rowcount == 1


def complete(connection: Connection, seq: int, *, at: datetime) -> None:
    """Call a job done whose result is on record."""
    recorded = table.update().where(table.c.seq == seq, table.c.completed_seq.is_not(None), table.c.state.in_(OPEN))
    ended_at = at.isoformat(timespec="seconds")
    connection.execute(recorded.values(state=State.DONE, step="", share=1.0, ended_at=ended_at, claim=None))


def abandoned(database: Database, *, at: datetime) -> tuple[Job, ...]:
    """Jobs whose lease ran out: their dashboard died, or never came. What the record does not ask for is closed."""
    late = sa.select(table).where(table.c.state.in_(OPEN), table.c.leased_until <= database_time())
    with database.reading() as connection:
        rows = connection.execute(late.order_by(table.c.seq)).all()
        found = _jobs(connection, rows)
    for seq in {row.seq for row in rows} - {job.seq for job in found}:
        with database.writing() as connection:
            _awaited(connection, seq, at=at)
    return found


def find(database: Database, ref: VersionRef, seq: int) -> Job:
    """One job of a version; raises `NotFound` when there is none."""
    with database.reading() as connection:
        job = _find(connection, seq)
    if job.ref != ref:
        raise NotFound(f"There is no validation #{seq} of {ref}.")
    return job


def of(database: Database, ref: VersionRef, identity: str, *, limit: int | None = None) -> tuple[Job, ...]:
    """The jobs of exactly this version, newest first; at most ``limit``."""
    mine = (table.c.model == ref.name, table.c.version == ref.version, table.c.identity == identity)
    with database.reading() as connection:
        rows = connection.execute(sa.select(table).where(*mine).order_by(table.c.seq.desc()).limit(limit))
        found = _jobs(connection, rows.all())
    return tuple(job for job in found if (job.ref, job.identity) == (ref, identity))


def folders(database: Database, place: str) -> frozenset[str]:
    """The folders of uploads that are still needed."""
    with database.reading() as connection:
        rows = connection.execute(sa.select(table).where(table.c.place == place, table.c.state.in_(OPEN))).all()
        return frozenset(job.wanted.folder for job in _jobs(connection, rows))


def _find(connection: Connection, seq: int) -> Job:
    found = _jobs(connection, connection.execute(sa.select(table).where(table.c.seq == seq)).all())
    if not found:
        raise NotFound(f"There is no validation #{seq}.")
    return found[0]


def _awaited(connection: Connection, seq: int, *, at: datetime) -> bool:
    """Whether the record asks for this job and tells of no end; an open row that says otherwise is closed."""
    asked = _asked(connection, [seq]).get(seq)
    ended = _ended(connection, asked) if asked else None
    if asked and not ended:
        return True
    said = _end_of(ended) if ended else {"state": State.FAILED, "error": NOT_ASKED}
    moment = (ended.at if ended else at).isoformat(timespec="seconds")
    closed = table.update().where(table.c.seq == seq, table.c.state.in_(OPEN))
    if connection.execute(closed.values(**said, claim=None, ended_at=moment)).rowcount:
        log.warning("validation #%s: %s", seq, f"#{ended.seq} ended it." if ended else NOT_ASKED)
    return False


def _end_of(event: Event) -> dict[str, Any]:
    """What a row says of a job that this event ended."""
    if event.kind is Kind.VALIDATION_COMPLETED:
        return {"state": State.DONE, "completed_seq": event.seq, "step": "", "share": 1.0}
    if event.kind is Kind.VALIDATION_FAILED:
        return {"state": State.FAILED, "error": event.comment}
    return {"state": State.CANCELLED, "error": f"Cancelled by {event.actor}."}


def _asked(connection: Connection, numbers: Iterable[int]) -> dict[int, Event]:
    """The events that asked for these jobs."""
    found = ledger.numbered(connection, numbers)
    return {event.seq: event for event in found if event.kind is Kind.VALIDATION_REQUESTED}


def _ended(connection: Connection, asked: Event) -> Event | None:
    """The event that ended a job."""
    about = (events.c.model == asked.body["model"], events.c.version == asked.body["version"])
    later = ledger.chosen(connection, *about, events.c.seq > asked.seq, events.c.kind.in_(_ENDS))
    return next((event for event in later if event.get("job") == asked.seq), None)


def _jobs(connection: Connection, rows: Iterable[Any]) -> tuple[Job, ...]:
    """The jobs of rows, in their order; a row that no event asked for is none."""
    kept = list(rows)
    asked = _asked(connection, [row.seq for row in kept])
    return tuple(_job(row, asked[row.seq]) for row in kept if row.seq in asked)


def _job(row: Any, asked: Event) -> Job:
    return Job(
        seq=row.seq,
        ref=VersionRef(name=asked.body["model"], version=asked.body["version"]),
        identity=asked.get("identity"),
        asked_by=asked.actor,
        asked_at=asked.at.isoformat(timespec="seconds"),
        source=Source(asked.body["source"]),
        wanted=Wanted(
            origin=Origin(asked.get("origin")),
            name=asked.get("holdout"),
            target=asked.get("target"),
            confidence=float(asked.get("confidence")),
            sha256=asked.get("sha256") or "",
            folder=asked.get("folder") or "",
        ),
        consent=asked.get("consent"),
        state=State(row.state),
        step=row.step,
        share=row.share,
        log=tuple((at, words) for at, words in row.log),
        error=row.error,
        run_id=row.run_id,
        completed_seq=row.completed_seq,
        ended_at=row.ended_at,
    )
