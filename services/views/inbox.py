"""What waits for whom: the queue of reviews, what may be released, and what a person should look at first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import sqlalchemy as sa

from services import agreement, facts, gate
from services.accounts import permissions
from services.champions import Records
from services.domain import Action, Actor, Status, VersionRef
from services.errors import SignoffError
from services.evidence import Facts, Submission
from services.gate import Verdict
from services.policy import Policy
from services.signoff import Signoff
from services.tables import submissions
from services.verbs import reviews

_COUNTED = frozenset({Status.PENDING, Status.APPROVED, Status.AUTO_APPROVED})


class Task(StrEnum):
    """What a person can do about a submission."""

    TAKE_OVER = "to submit"
    REVIEW = "to review"
    FIX = "to fix"
    RESOLVE = "to resolve"
    RELEASE = "to release"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One open submission as a queue shows it. ``problem`` says why it could not be judged; then the rest is None."""

    submission: Submission
    policy: Policy | None = None
    facts: Facts | None = None
    verdict: Verdict | None = None
    problem: str | None = None

    @cached_property
    def status(self) -> str:
        """What the votes that count now add up to, where it waits for votes; else as recorded."""
        if self.policy is None or self.facts is None or self.submission.status not in _COUNTED:
            return self.submission.status
        return reviews.status(self.policy, self.facts)

    @property
    def ready(self) -> bool:
        """Whether the gate would let it through now."""
        return self.verdict is not None and self.verdict.allowed

    @property
    def blocked(self) -> bool:
        """Whether more than an approval stands in the way."""
        return self.verdict is None or not (self.verdict.allowed or self.verdict.waits_for_approval_only)


def queue(signoff: Signoff, *statuses: Status, name: str | None = None) -> list[Submission]:
    """All open submissions in any of the statuses (default: all open ones), of one model or of all, oldest first."""
    wanted = [status.value for status in statuses] or list(facts.OPEN)
    query = (
        sa.select(submissions)
        .where(submissions.c.status.in_(wanted))
        .order_by(submissions.c.submitted_at, submissions.c.id)
    )
    if name is not None:
        query = query.where(submissions.c.model == name)
    with signoff.database.reading() as connection:
        return [facts.submission_from(row) for row in connection.execute(query)]


def judged(signoff: Signoff, found: list[Submission]) -> list[Item]:
    """Each submission with facts and verdict as a page shows them; one that cannot be read says why."""
    champions = facts.champions_recorded(signoff, [submission.ref.name for submission in found])
    return [_judge(signoff, submission, champions) for submission in found]


def _judge(signoff: Signoff, submission: Submission, champions: Records) -> Item:
    try:
        policy, seen = facts.shown(signoff, submission.ref, champions)
    except SignoffError as error:
        return Item(submission=submission, problem=str(error))
    verdict = gate.evaluate(policy, seen)
    if verdict.allowed:
        verdict = agreement.told(signoff, verdict, seen)
    return Item(submission=submission, policy=policy, facts=seen, verdict=verdict)


def tasks(actor: Actor, items: list[Item]) -> list[tuple[Task, Item]]:
    """What of the open submissions this person can do something about, in their order."""
    return [(task, item) for item in items for task in _tasks(actor, item)]


def _tasks(actor: Actor, item: Item) -> list[Task]:
    status, found = item.status, []
    mine = actor.person in item.submission.owners
    if item.submission.proposal and permissions.may(actor, Action.SUBMIT):
        found.append(Task.TAKE_OVER)
    if status in {Status.PENDING, Status.EXPIRED} and permissions.may(actor, Action.APPROVE) and _wanted(actor, item):
        found.append(Task.REVIEW)
    if status == Status.CHANGES_REQUESTED and mine:
        found.append(Task.FIX)
    held_up = item.facts is not None and any(finding.blocks for finding in item.facts.findings)
    if held_up and status != Status.CHANGES_REQUESTED and _independent(actor, item):
        found.append(Task.RESOLVE)
    if status in {Status.APPROVED, Status.AUTO_APPROVED} and permissions.may(actor, Action.PROMOTE) and not held_up:
        found.append(Task.RELEASE)
    return found


def _independent(actor: Actor, item: Item) -> bool:
    """Whether this person could say that a finding is answered; the verb judges it again."""
    own = item.facts is None or gate.barred(actor.person, actor.username, item.facts) is not None
    return permissions.may(actor, Action.RESOLVE) and not own


def _wanted(actor: Actor, item: Item) -> bool:
    """Whether the vote of this person is asked for; where that cannot be read, of whoever did not submit it."""
    if item.policy is None or item.facts is None:
        return not item.submission.proposal and actor.person not in item.submission.owners
    return gate.wanted(actor, item.policy, item.facts)


def next_for(signoff: Signoff, actor: Actor, *, after: VersionRef) -> VersionRef | None:
    """The oldest submission this person is to review, other than ``after``; None when there is none."""
    waiting = judged(signoff, queue(signoff, Status.PENDING, Status.EXPIRED))
    mine = (item.submission.ref for task, item in tasks(actor, waiting) if task is Task.REVIEW)
    return next((ref for ref in mine if ref != after), None)
