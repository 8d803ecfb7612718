"""Validations under way: durable rows with a lease, so that no job of a dashboard that died is running for ever.

What was uploaded lies in a folder of one machine, so a job is run by a dashboard of the place that took it.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.database import Database, database_time
from services.domain import Actor, Source, VersionRef
from services.errors import BadInput, LedgerUnavailable, NotFound, PromotionConflict
from services.tables import validation_jobs as table

LEASE_SECONDS = 60.0
RENEW_SECONDS = 10.0
BEAT_SECONDS = 0.5
"""So often whoever runs a job looks whether somebody cancelled it."""
PATIENCE_SECONDS = 24 * 3600.0
"""A job that no dashboard took for so long is given up."""
MAX_WAITING = 20
MAX_LINES = 200


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

    def as_json(self) -> dict[str, Any]:
        """All of it, for the row of a job."""
        return asdict(self)

    @property
    def told(self) -> dict[str, str]:
        """What makes two requests the same, and what the record keeps: not in which folder it lies."""
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


def add(
    connection: Connection,
    seq: int,
    *,
    ref: VersionRef,
    identity: str,
    by: Actor,
    at: datetime,
    wanted: Wanted,
    consent: bool,
    place: str,
) -> None:
    """Put a job at the end of the queue; raises `PromotionConflict` when too many wait already."""
    waiting = sa.select(sa.func.count()).where(table.c.state == State.QUEUED)
    if connection.execute(waiting).scalar_one() >= MAX_WAITING:
        raise PromotionConflict(f"{MAX_WAITING} validations are waiting already; nothing was changed, ask again later.")
    moment = at.isoformat(timespec="seconds")
    connection.execute(
        table.insert().values(
            seq=seq,
            model=ref.name,
            version=ref.version,
            identity=identity,
            asked_by=by.username,
            asked_by_id=by.person,
            asked_at=moment,
            request={"wanted": wanted.as_json(), "consent": consent, "source": by.source.value},
            place=place,
            state=State.QUEUED,
            log=[[moment, "Waiting for its turn"]],
            leased_until=database_time() + PATIENCE_SECONDS,
        )
    )


def claim(database: Database, place: str) -> Claim | None:
    """Take the job of this place that has waited longest."""
    free = (table.c.state == State.QUEUED, table.c.place == place, table.c.leased_until > database_time())
    with database.reading() as connection:
        seq = connection.execute(sa.select(table.c.seq).where(*free).order_by(table.c.seq).limit(1)).scalar()
    if seq is None:
        return None
    token = secrets.token_hex(16)
    with database.writing() as connection:
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
    """End a job that is open and has recorded nothing; whether there was one."""
    unrecorded = (table.c.seq == seq, table.c.state.in_(OPEN), table.c.completed_seq.is_(None))
    ended = table.update().where(*unrecorded)
    moment = at.isoformat(timespec="seconds")
    return connection.execute(ended.values(state=state, error=error, ended_at=moment, claim=None)).rowcount == 1


def complete(connection: Connection, seq: int, *, at: datetime) -> None:
    """Call a job done whose result is on record."""
    recorded = table.update().where(table.c.seq == seq, table.c.completed_seq.is_not(None), table.c.state.in_(OPEN))
    ended_at = at.isoformat(timespec="seconds")
    connection.execute(recorded.values(state=State.DONE, step="", share=1.0, ended_at=ended_at, claim=None))


def abandoned(connection: Connection) -> tuple[Job, ...]:
    """Jobs whose lease ran out: their dashboard died, or never came."""
    found = connection.execute(
        sa.select(table).where(table.c.state.in_(OPEN), table.c.leased_until <= database_time()).order_by(table.c.seq)
    )
    return tuple(_job(row) for row in found)


def find(database: Database, ref: VersionRef, seq: int) -> Job:
    """One job of a version; raises `NotFound` when there is none."""
    with database.reading() as connection:
        job = _find(connection, seq)
    if job.ref != ref:
        raise NotFound(f"There is no validation #{seq} of {ref}.")
    return job


def of(database: Database, ref: VersionRef, identity: str, *, limit: int = 5) -> tuple[Job, ...]:
    """The newest jobs of exactly this version."""
    mine = (table.c.model == ref.name, table.c.version == ref.version, table.c.identity == identity)
    with database.reading() as connection:
        rows = connection.execute(sa.select(table).where(*mine).order_by(table.c.seq.desc()).limit(limit))
        return tuple(_job(row) for row in rows)


def folders(database: Database, place: str) -> frozenset[str]:
    """The folders of uploads that are still needed."""
    with database.reading() as connection:
        requests = connection.execute(
            sa.select(table.c.request).where(table.c.place == place, table.c.state.in_(OPEN))
        ).scalars()
        return frozenset(request["wanted"]["folder"] for request in requests)


def _find(connection: Connection, seq: int) -> Job:
    row = connection.execute(sa.select(table).where(table.c.seq == seq)).one_or_none()
    if row is None:
        raise NotFound(f"There is no validation #{seq}.")
    return _job(row)


def _job(row: Any) -> Job:
    request: Mapping[str, Any] = row.request
    wanted = request["wanted"]
    return Job(
        seq=row.seq,
        ref=VersionRef(name=row.model, version=row.version),
        identity=row.identity,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        source=Source(request["source"]),
        wanted=Wanted(**{**wanted, "origin": Origin(wanted["origin"])}),
        consent=request["consent"],
        state=State(row.state),
        step=row.step,
        share=row.share,
        log=tuple((at, words) for at, words in row.log),
        error=row.error,
        run_id=row.run_id,
        completed_seq=row.completed_seq,
        ended_at=row.ended_at,
    )
