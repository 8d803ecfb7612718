"""The status of open submissions, as lists and tags show it, follows the votes that count: roles come and go."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from services import facts
from services.database import Database
from services.domain import Status
from services.errors import SignoffError
from services.evidence import Submission
from services.record import mirror
from services.record.ledger import Kind
from services.signoff import Signoff
from services.tables import decisions, events, submissions
from services.verbs import reviews

_OPEN = tuple(status.value for status in (Status.PENDING, Status.APPROVED, Status.AUTO_APPROVED))


_swept: WeakKeyDictionary[Database, int] = WeakKeyDictionary()
"""The change of an account after which this process has counted every older vote."""


def sweep(signoff: Signoff) -> int:
    """Count again, once after each change of an account and each import, where a vote is older.

    Returns how many statuses changed.
    """
    changes = (Kind.ACCOUNT_CHANGED.value, Kind.ACCOUNT_DISABLED.value, Kind.LEDGER_IMPORTED.value)
    with signoff.database.reading() as connection:
        last = connection.execute(sa.select(sa.func.max(events.c.seq)).where(events.c.kind.in_(changes))).scalar()
        if last is None or _swept.get(signoff.database) == last:
            return 0
        voted = sa.select(decisions.c.submission).where(decisions.c.seq < last)
        query = sa.select(submissions).where(submissions.c.status.in_(_OPEN), submissions.c.id.in_(voted))
        found = [facts.submission_from(row) for row in connection.execute(query.order_by(submissions.c.id))]
    counted = [_again(signoff, submission, last) for submission in found]
    if None not in counted:
        _swept[signoff.database] = last
    return counted.count(True)


def again(signoff: Signoff, found: Iterable[Submission], seq: int) -> int:
    """Count the votes on open submissions again, and write what they add up to; returns how many statuses changed.

    It is what lists and tags show. The gate counts the votes itself, so what cannot be read now may wait.

    Args:
        seq: the event that this is because of.
    """
    return [_again(signoff, submission, seq) for submission in found].count(True)


def _again(signoff: Signoff, submission: Submission, seq: int) -> bool | None:
    """Whether its status changed; None where its votes could not be counted now."""
    with suppress(SignoffError):
        policy, seen = facts.shown(signoff, submission.ref)
        if seen.candidate.manifest is None:
            return None
        now = reviews.status(policy, seen)
        if now == submission.status or now not in _OPEN:
            return False
        same = (submissions.c.id == submission.id, submissions.c.status == submission.status)
        with signoff.database.writing() as connection:
            if not connection.execute(submissions.update().where(*same).values(status=now)).rowcount:
                return False
            mirror.ask(connection, submission.ref, seq)
            return True
    return None
