"""The status of open submissions, as lists and tags show it, follows the votes that count: roles come and go."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import sqlalchemy as sa

from services import facts
from services.domain import Status
from services.errors import SignoffError
from services.evidence import Submission
from services.record import mirror
from services.record.ledger import Kind
from services.signoff import Signoff
from services.tables import decisions, events, submissions
from services.verbs import reviews

_COUNTED = tuple(status.value for status in (Status.PENDING, Status.APPROVED, Status.AUTO_APPROVED))


def sweep(signoff: Signoff) -> int:
    """Count again where a vote is older than the last change of an account; returns how many statuses changed."""
    changes = (Kind.ACCOUNT_CHANGED.value, Kind.ACCOUNT_DISABLED.value)
    with signoff.database.reading() as connection:
        last = connection.execute(sa.select(sa.func.max(events.c.seq)).where(events.c.kind.in_(changes))).scalar()
        if last is None:
            return 0
        voted = sa.select(decisions.c.submission).where(decisions.c.seq < last)
        query = sa.select(submissions).where(submissions.c.status.in_(_COUNTED), submissions.c.id.in_(voted))
        found = [facts.submission_from(row) for row in connection.execute(query.order_by(submissions.c.id))]
    return again(signoff, found, last)


def again(signoff: Signoff, found: Iterable[Submission], seq: int) -> int:
    """Count the votes on open submissions again, and write what they add up to; returns how many statuses changed.

    It is what lists and tags show. The gate counts the votes itself, so what cannot be read now may wait.

    Args:
        seq: the event that this is because of.
    """
    changed = 0
    for submission in found:
        with suppress(SignoffError):
            policy, seen = facts.shown(signoff, submission.ref)
            now = reviews.status(policy, seen)
            if seen.candidate.manifest is None or now == submission.status or now not in _COUNTED:
                continue
            same = (submissions.c.id == submission.id, submissions.c.status == submission.status)
            with signoff.database.writing() as connection:
                if connection.execute(submissions.update().where(*same).values(status=now)).rowcount:
                    mirror.ask(connection, submission.ref, seq)
                    changed += 1
    return changed
