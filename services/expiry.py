"""Approvals that have grown too old: found once, marked for good, recorded, and shown in the tags."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from services import facts
from services.checks.approvals import APPROVED, expired
from services.domain import Status
from services.evidence import Decision, Facts, Submission
from services.listed import Listed, listed
from services.policy import Policy
from services.record import ledger, mirror
from services.record.activation import SYSTEM
from services.record.ledger import Entry, Kind
from services.signoff import Signoff
from services.tables import decisions, submissions

_AGING = tuple(status.value for status in (Status.PENDING, Status.APPROVED, Status.AUTO_APPROVED))


def sweep(signoff: Signoff) -> int:
    """Mark every approval of an open submission that is too old now; returns how many there were."""
    limits = [policy.rules.approvals_expire_after_days for policy in signoff.policies.policies]
    shortest = min((days for days in limits if days), default=None)
    if shortest is None:
        return 0
    found = listed(signoff, _aged(signoff, signoff.now() - timedelta(days=shortest)))
    # What cannot be judged cannot be promoted either; the next round looks again.
    return sum(mark(signoff, one.policy, one.facts) for one in found.values() if isinstance(one, Listed))


def _aged(signoff: Signoff, since: datetime) -> list[Submission]:
    """Open submissions with an approval from before ``since`` that is not marked; its policy may allow it longer."""
    given = sa.select(decisions.c.submission).where(
        decisions.c.decision == APPROVED,
        decisions.c.expired.is_(False),
        decisions.c.at <= since.isoformat(timespec="milliseconds"),
    )
    query = sa.select(submissions).where(submissions.c.status.in_(_AGING), submissions.c.id.in_(given))
    with signoff.database.reading() as connection:
        return [facts.submission_from(row) for row in connection.execute(query.order_by(submissions.c.id))]


def mark(signoff: Signoff, policy: Policy, seen: Facts) -> int:
    """Mark the approvals in ``seen`` that are too old: a clock set back later does not revive them."""
    old = [vote for vote in seen.decisions if expired(vote, policy, seen) and not vote.expired]
    if not old or seen.submission is None:
        return 0
    with signoff.database.writing() as connection:
        connection.execute(
            submissions.update()
            .where(submissions.c.id == seen.submission.id)
            .where(submissions.c.status.in_([Status.APPROVED.value, Status.AUTO_APPROVED.value]))
            .values(status=Status.EXPIRED.value)
        )
        event = ledger.append(connection, _entry(signoff, policy, seen, old))
        mirror.ask(connection, seen.candidate.ref, event.seq)
    return len(old)


def _entry(signoff: Signoff, policy: Policy, seen: Facts, old: list[Decision]) -> Entry:
    people = " and ".join(vote.person for vote in old)
    days = min(limit for one in policy.each if (limit := one.rules.approvals_expire_after_days) is not None)
    return Entry(
        kind=Kind.APPROVAL_EXPIRED,
        actor=SYSTEM,
        at=signoff.now(),
        ref=seen.candidate.ref,
        comment=f"The approval by {people} is older than {days:g} days.",
        details={"policy": policy.label, "policy_digest": policy.digest, "approvals": [vote.seq for vote in old]},
    )
