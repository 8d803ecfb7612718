"""The tags MLflow shows: a mirror of the record, written afterwards, idempotently, and only as the record says."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import proofs
from services.database import Database
from services.domain import ModelVersion, Status, VersionRef
from services.errors import LedgerUnavailable, NotFound, SignoffError
from services.record import agreed
from services.record.projections.states import AUTO_RELEASED, BYPASSED
from services.signoff import Signoff
from services.tables import decisions, events, mirror_jobs, promotions, submissions

OURS = {
    "approval_status",
    "approved_by",
    "approval_comment",
    "approved_at",
    "promoted_by",
    "reason",
    "promoted_at",
    "signoff.digest",
    "signoff.policy",
    "signoff.event",
}
"""The tags of the public record; on a version that has a record they say what the ledger says, or nothing."""
EVERYWHERE = frozenset(OURS - {"reason"})
"""Those that are protected on every version, recorded or not: people believe them. A reason is anybody's word."""
REGISTERED_BY = "signoff.registered_by"
"""Who registered a version, as MLflow knew them, and empty where it knew nobody. The hook writes it together with the
version; no mirror of ours writes or deletes it, and nobody else may."""
_SAID_NO = frozenset({Status.REJECTED.value, Status.CHANGES_REQUESTED.value})
TRIES = 3
"""So many failures in a row are no accident: the tags wait longer after each one, and people are told."""
FIRST_SECONDS, LONGEST_SECONDS = 10.0, 300.0
"""How long they wait then: twice as long every time."""
MAX_TAG = 4000
"""MLflow cuts tags silently at 8,000 characters; a longer comment is cut here, visibly."""

log = logging.getLogger(__name__)


def ask(connection: Connection, ref: VersionRef, seq: int) -> None:
    """Note, in the caller's transaction, that the tags of a version are to be written."""
    where = (mirror_jobs.c.model == ref.name, mirror_jobs.c.version == ref.version)
    if connection.execute(mirror_jobs.update().where(*where).values(seq=seq, due_at=0.0)).rowcount == 0:
        connection.execute(mirror_jobs.insert().values(model=ref.name, version=ref.version, seq=seq))


def flush(signoff: Signoff) -> int:
    """Write the tags of every version that waits for it; returns how many of those could not be written now.

    Tags that failed `TRIES` times are left out until they are due, so that they cost other people's requests nothing.
    Never raises: whatever asked for the tags is done and recorded, and a job that could not be run stays a job.
    """
    try:
        return _flush(signoff)
    except LedgerUnavailable as error:
        log.warning("the mirror waits: %s", error)
        return 1


def _flush(signoff: Signoff) -> int:
    now = signoff.now().timestamp()
    # What seems to wait for longer than anything may was written by another clock, or by somebody else.
    due = ~mirror_jobs.c.due_at.between(now, now + 2 * LONGEST_SECONDS)
    with signoff.database.reading() as connection:
        jobs = connection.execute(sa.select(mirror_jobs).where(due)).all()
    waiting = 0
    for job in jobs:
        ref, this = VersionRef(name=job.model, version=job.version), _this(job)
        try:
            written = _write(signoff, ref)
            signoff.snapshot.show((written.version,))
        except NotFound:
            written = None  # the version is gone; there is nothing to mirror onto
        except SignoffError as error:
            waiting += 1
            tried = job.attempts + 1
            values = {"attempts": tried, "due_at": now + _pause(tried), "last_error": str(error)}
            with signoff.database.writing() as connection:
                connection.execute(mirror_jobs.update().where(*this).values(values))
            log.warning("mirror of %s waits: %s", ref, error)
            continue
        with signoff.database.writing() as connection:
            if written and prescribed(connection, ref, written.version.identity) != written.tags:
                # Somebody recorded and mirrored something newer while we were writing; ours may have come last.
                ask(connection, ref, job.seq)
                waiting += 1
                continue
            connection.execute(mirror_jobs.delete().where(*this))
    return waiting


def _this(job: sa.Row[tuple[object, ...]]) -> tuple[sa.ColumnElement[bool], ...]:
    """The job, unless its tags were asked for again meanwhile."""
    return mirror_jobs.c.model == job.model, mirror_jobs.c.version == job.version, mirror_jobs.c.seq == job.seq


def _pause(attempts: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempts - TRIES, 20)) if attempts >= TRIES else 0.0


@dataclass(frozen=True, kw_only=True)
class Stuck:
    """Tags of a version that could not be written so many times in a row, and why not the last time."""

    ref: VersionRef
    attempts: int
    why: str

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"The tags of {self.ref} in MLflow are not as the record says: "
            f"writing them failed {self.attempts:,} times. {self.why}"
        )


def stuck(database: Database) -> tuple[Stuck, ...]:
    """The versions whose tags fail again and again, those tried most often first.

    Raises:
        LedgerUnavailable: the database cannot be read.
    """
    job = mirror_jobs.c
    query = sa.select(mirror_jobs).where(job.attempts >= TRIES).order_by(job.attempts.desc(), job.model, job.version)
    with database.reading() as connection:
        return tuple(
            Stuck(ref=VersionRef(name=row.model, version=row.version), attempts=row.attempts, why=row.last_error or "")
            for row in connection.execute(query)
        )


@dataclass(frozen=True, kw_only=True)
class _Written:
    version: ModelVersion
    """With the tags it has now."""
    tags: dict[str, str]
    """Those that are ours."""


def _write(signoff: Signoff, ref: VersionRef) -> _Written:
    version = signoff.registry.version(ref)
    with signoff.database.reading() as connection:
        agreed.require_rows(connection, ref, (submissions, decisions, promotions))
        wanted = prescribed(connection, ref, version.identity)
    if not wanted:
        return _Written(version=version, tags={})  # it has no record: what stands there was accepted, or is a deviation
    with proofs.ours(signoff):
        for key, value in wanted.items():
            if version.tags.get(key) != value:
                signoff.registry.set_tag(ref, key, value)
        for key in OURS & version.tags.keys() - wanted.keys():
            signoff.registry.delete_tag(ref, key)
    others = {key: value for key, value in version.tags.items() if key not in OURS}
    return _Written(version=replace(version, tags={**others, **wanted}), tags=wanted)


def prescribed(connection: Connection, ref: VersionRef, identity: str) -> dict[str, str]:
    """The tags the record prescribes for exactly this version; none where it was never submitted nor released."""
    tags: dict[str, str] = {}
    submission = connection.execute(
        sa.select(submissions)
        .where(
            submissions.c.model == ref.name, submissions.c.version == ref.version, submissions.c.identity == identity
        )
        .order_by(submissions.c.id.desc())
        .limit(1)
    ).one_or_none()
    if submission and submission.status != BYPASSED:
        tags["approval_status"] = _shown(submission.status)
        tags["signoff.digest"] = submission.manifest or ""
        votes = connection.execute(
            sa.select(decisions).where(decisions.c.submission == submission.id).order_by(decisions.c.seq)
        ).all()
        last = {vote.person_id: vote for vote in votes}
        approvals = [vote for vote in last.values() if vote.decision == Status.APPROVED.value]
        if submission.status in _SAID_NO:
            approvals = []  # the comment is then of the person who said no, and would stand beside their names
        if votes:
            tags["approval_comment"] = _cut(votes[-1].comment)
        if approvals:
            tags["approved_by"] = ", ".join(vote.person for vote in approvals)
            tags["approved_at"] = max(vote.at for vote in approvals)
    promotion = connection.execute(
        sa.select(promotions)
        .where(promotions.c.model == ref.name, promotions.c.version == ref.version, promotions.c.identity == identity)
        .order_by(promotions.c.seq.desc())
        .limit(1)
    ).one_or_none()
    if promotion:
        tags["promoted_by"] = promotion.by
        tags["reason"] = _cut(f"Emergency: {promotion.reason}" if promotion.action == "emergency" else promotion.reason)
        tags["promoted_at"] = promotion.at
        tags["signoff.digest"] = promotion.manifest_digest
        tags["signoff.policy"] = promotion.policy
    if not submission and not promotion:
        return {}
    last_event = connection.execute(
        sa.select(events.c.seq, events.c.hash)
        .where(events.c.model == ref.name, events.c.version == ref.version, events.c.kind.not_like("%:refused"))
        .order_by(events.c.seq.desc())
        .limit(1)
    ).one_or_none()
    if last_event:
        tags["signoff.event"] = f"{last_event.seq}:{last_event.hash}"
    return {key: value for key, value in tags.items() if value}


def _shown(status: str) -> str:
    """The public status: what was released was approved, by people or automatically."""
    if status in set(Status):
        return status
    return Status.AUTO_APPROVED.value if status == AUTO_RELEASED else Status.APPROVED.value


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TAG else text[: MAX_TAG - 1] + "…"
