"""What waits for whom: the queue of reviews, what may be released, and what a person should look at first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, partial

import sqlalchemy as sa

from services import agreement, facts, gate
from services.accounts import permissions
from services.domain import Action, Actor, Status, VersionRef
from services.errors import SignoffError
from services.evidence import Facts, Submission
from services.gate import Verdict
from services.listed import Listed, listed
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
    """One open submission as a queue shows it. ``problem`` says why it could not be judged; then the rest is None.

    ``looked_at``: whether its files were; else there is no `verdict`, and `certain` has the checks that need none.
    """

    submission: Submission
    policy: Policy | None = None
    facts: Facts | None = None
    looked_at: bool = False
    problem: str | None = None
    agreed: Callable[[Verdict, Facts], Verdict] = field(repr=False, compare=False)
    """The verdict with what differs from the record, where a row does."""

    @cached_property
    def verdict(self) -> Verdict | None:
        """What the gate says. Where that is yes, the rows it rests on are compared with the record, when it is asked
        for: that takes statements for each submission, so a list asks only for what it draws."""
        if self.policy is None or self.facts is None or not self.looked_at:
            return None
        verdict = gate.evaluate(self.policy, self.facts)
        return self.agreed(verdict, self.facts) if verdict.allowed else verdict

    @property
    def certain(self) -> Verdict | None:
        """The verdict, or as much of it as no file can change."""
        if self.policy is None or self.facts is None or self.looked_at:
            return self.verdict
        return gate.without_files(self.policy, self.facts)

    @cached_property
    def status(self) -> str:
        """What the votes that count now add up to, where it waits for votes; as recorded where that is not known."""
        if self.policy is None or self.facts is None or not self.looked_at or self.submission.status not in _COUNTED:
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
    """Each submission as a list shows it, without reading a file; one that cannot be judged says why."""
    told, agreed = listed(signoff, found), partial(agreement.told, signoff)
    return [_item(submission, told[submission.id], agreed) for submission in found]


def in_review(signoff: Signoff) -> tuple[list[Item], list[Item]]:
    """`judged`, oldest first: what waits for a decision, and what was sent back to its submitter."""
    found = judged(signoff, queue(signoff, Status.PENDING, Status.EXPIRED, Status.CHANGES_REQUESTED))
    back = Status.CHANGES_REQUESTED
    waiting = [item for item in found if item.submission.status != back]
    return waiting, [item for item in found if item.submission.status == back]


def _item(submission: Submission, told: Listed | SignoffError, agreed: Callable[[Verdict, Facts], Verdict]) -> Item:
    if isinstance(told, SignoffError):
        return Item(submission=submission, problem=str(told), agreed=agreed)
    return Item(submission=submission, policy=told.policy, facts=told.facts, looked_at=told.looked_at, agreed=agreed)


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
    if item.looked_at:
        return gate.wanted(actor, item.policy, item.facts)
    # Which votes count is not known without the files they are bound to: those who have not voted are asked.
    voted = any(vote.person_id == actor.person for vote in item.facts.decisions)
    return not (item.submission.proposal or voted or gate.barred(actor.person, actor.username, item.facts))


def next_for(signoff: Signoff, actor: Actor, *, after: VersionRef) -> VersionRef | None:
    """The oldest submission this person is to review, other than ``after``; None when there is none."""
    waiting = judged(signoff, queue(signoff, Status.PENDING, Status.EXPIRED))
    mine = (item.submission.ref for task, item in tasks(actor, waiting) if task is Task.REVIEW)
    return next((ref for ref in mine if ref != after), None)
