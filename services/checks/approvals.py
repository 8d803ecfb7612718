"""Checks of who agreed: submitted, no changes requested, and enough approvals that still count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from datetime import datetime, timedelta
from typing import TypeAlias

from services.accounts import permissions
from services.accounts.permissions import ROLES_FOR
from services.checks.bound import bound
from services.domain import Action, Actor, Role
from services.evidence import Decision, Elsewhere, Ended, Facts, Finding, ahead
from services.policy import ApprovalRule, Policy, Rules
from services.verdict import Check

APPROVED = "approved"
CHANGES_REQUESTED = "changes_requested"
MAX_TOLD = 20
"""So many decisions on the same bytes elsewhere are told of, those that refuse first."""

Votes: TypeAlias = Mapping[str, frozenset[str]]
"""Id of a person → the roles their approval was given with and that they still have."""
Seats: TypeAlias = Mapping[str, Role]
"""Id of a person → the one role their approval counts for."""


def void_reasons(decision: Decision, policy: Policy, facts: Facts) -> tuple[str, ...]:
    """Why a decision no longer counts, in words; empty when it does."""
    asked = ROLES_FOR[Action.AUTO] if decision.automation else policy.voters
    return (*_voided(decision, policy, facts), *([gone] if (gone := lost(decision, asked)) else []))


def lost(decision: Decision, asked: Iterable[Role]) -> str:
    """Why an approval no longer counts as one by any of these roles: its person has lost them. Empty where it does.

    A request for changes stands: it can only take away, and a new round or a withdrawal ends it.
    """
    if decision.decision != APPROVED:
        return ""
    given = [role for role in asked if role.value in decision.roles]
    return permissions.lost(decision.person, decision.held, given)


def _voided(decision: Decision, policy: Policy, facts: Facts) -> tuple[str, ...]:
    """Why what a decision is bound to, or its age, voids it."""
    now, approved = bound(policy, facts), decision.decision == APPROVED
    # Evidence that arrives later must not let anything through: it voids approvals, and never a request for changes.
    reasons = [*(decision.binding.voided(now) if approved else decision.binding.differences(now, substance=True))]
    for one in policy.each:
        if _too_old(decision, one.rules, facts):
            days = one.rules.approvals_expire_after_days
            reasons.append(f"it expired after {days:g} day{'' if days == 1 else 's'}")
        elif ahead(datetime.fromisoformat(decision.at), facts.now):
            reasons.append(f"its time, {decision.at[:16]}, lies in the future")
        if decision.automation and not one.rules.automation:
            reasons.append(f"policy {one.rules.name} lets no automation approve")
        if one.rules.signing and approved and not decision.signed:
            reasons.append("it was not signed")
    return tuple(dict.fromkeys(reasons))


def expired(decision: Decision, policy: Policy, facts: Facts) -> bool:
    """Whether an approval is too old, or was found too old once before."""
    return any(_too_old(decision, one.rules, facts) for one in policy.each)


def _too_old(decision: Decision, rules: Rules, facts: Facts) -> bool:
    limit = rules.approvals_expire_after_days
    if decision.decision != APPROVED or limit is None:
        return False
    return decision.expired or facts.now - datetime.fromisoformat(decision.at) > timedelta(days=limit)


def barred(person: str | None, username: str, facts: Facts) -> str | None:
    """Why a person may not approve, in words: they had a hand in the version (`Facts.bars`). None when they may.

    ``person`` is the immutable id; None is nobody's, and may do nothing.
    """
    if person is None:
        return f"{username} is nobody's account"
    return facts.bars.get(person) or facts.bars.get(username)


def findings(facts: Facts, acting: Set[str] = frozenset()) -> Iterator[Check]:
    """Whether a blocking finding is open; nothing where nobody has found anything.

    ``acting``: the usernames of those who release it. What one of them resolved, and somebody else raised, is open for
    them: nobody overrules a reviewer and releases the version as well.
    """
    if not facts.findings:
        return
    own = [finding for finding in facts.findings if finding.overruled_by(acting)]
    blocking = [finding for finding in facts.findings if finding.blocks or finding in own]
    resolved = len(facts.findings) - len(own) - sum(finding.open for finding in facts.findings)
    yield Check(
        id="findings",
        title="No open blocking finding",
        passed=not blocking,
        value=f"{len(blocking)} open" if blocking else f"none open, {resolved} of {len(facts.findings)} resolved",
        threshold="none open",
        reason=" ".join(_blocking(finding, facts) for finding in blocking) or "No blocking finding is open.",
    )


def _blocking(finding: Finding, facts: Facts) -> str:
    text = finding.text if len(finding.text) <= 120 else f"{finding.text[:119]}…"
    due = f", due {finding.due}{', overdue' if finding.overdue(facts.now) else ''}" if finding.due else ""
    where = "" if finding.ref == facts.candidate.ref else f" in {finding.ref}, which is the same model"
    found = f"{finding.raised_by} found{where}: {text.rstrip('.')} (for {finding.owner}{due})."
    if finding.open:
        return found
    return f"{found} {finding.resolved_by} resolved it, so somebody else must release this version."


def elsewhere(facts: Facts) -> Iterator[Check]:
    """Whether a request for changes stands against the same bytes elsewhere; rejections are told and refuse nothing."""
    if not facts.elsewhere:
        return
    asking = [one for one in facts.elsewhere if one.decision == CHANGES_REQUESTED]
    rejected = [one for one in facts.elsewhere if one not in asking]
    told = facts.elsewhere if len(facts.elsewhere) <= MAX_TOLD else (*asking, *rejected)[:MAX_TOLD]
    more = [f"There are {n} more."] if (n := len(facts.elsewhere) - len(told)) else []
    yield Check(
        id="elsewhere",
        title="No changes requested of the same model elsewhere",
        passed=not asking,
        value=", ".join(dict.fromkeys(f"{one.ref}: {one.decision.replace('_', ' ')}" for one in told)),
        threshold="no open request for changes",
        reason=" ".join([*map(_said, told), *more]),
    )


def _said(one: Elsewhere) -> str:
    done = "requested changes of" if one.decision == CHANGES_REQUESTED else "rejected"
    comment = one.comment if len(one.comment) <= 120 else f"{one.comment[:119]}…"
    return f"{one.person} {done} {one.ref}, which is the same model, on {one.at[:10]}: {comment.rstrip('.')}."


def approvals(policy: Policy, facts: Facts) -> Iterator[Check]:
    yield _submitted(facts)
    asking = [
        decision.person
        for decision in facts.decisions
        if decision.decision == CHANGES_REQUESTED and not void_reasons(decision, policy, facts)
    ]
    if asking:
        yield Check(
            id="changes",
            title="No changes requested",
            passed=False,
            value=", ".join(asking),
            threshold="nobody",
            reason=f"{' and '.join(asking)} requested changes.",
        )
    seats, automatic = _seats(policy.rules.approvals, _counting(policy, facts)), automation(policy, facts)
    for rule in policy.rules.approvals:
        yield _approved(rule, seats, automatic, policy, facts)


def _not_submitted(ended: Ended | None) -> str:
    if ended is None:
        return "It was not submitted for review."
    said = " ".join(ended.words.split()).rstrip(".")
    why = f": {said if len(said) <= 300 else f'{said[:299]}…'}"
    day, successor = ended.at[:10], f"v{ended.successor}"
    sentence = {
        "rejected": f"{ended.by} rejected it on {day}{why}.",
        "withdrawn": f"It was withdrawn by {ended.by} on {day}{why}.",
        "archived": f"{ended.by} archived it on {day}{why}.",
        "promote": f"{successor} replaced it on {day}, promoted by {ended.by}{why}.",
        "rollback": f"{ended.by} rolled back from it to {successor} on {day}{why}.",
        "emergency": f"{successor} replaced it on {day} in an emergency, confirmed by {ended.by}{why}.",
    }[ended.how]
    return f"{sentence} It was not submitted for review since."


def _submitted(facts: Facts) -> Check:
    value, problem = "submitted", ""
    if facts.submission is None:
        value, problem = "not submitted", _not_submitted(facts.ended)
    elif facts.submission.proposal:
        value = f"proposed by {facts.submission.submitted_by}"
        problem = "An MLflow client proposed it. A scientist or release manager must submit it and answer for it."
    return Check(
        id="submitted",
        title="Submitted for review",
        passed=not problem,
        value=value,
        threshold="submitted",
        reason=problem or "It was submitted for review.",
    )


def wanted(actor: Actor, policy: Policy, facts: Facts) -> bool:
    """Whether an approval by this person, given now, would count for a rule that is not met yet."""
    votes = _counting(policy, facts)
    if actor.automation or automation(policy, facts):
        return False
    person = actor.person
    if facts.submission is None or facts.submission.proposal or person is None or person in votes:
        return False
    if barred(person, actor.username, facts):
        return False
    mine = frozenset(role.value for role in actor.roles)
    asking = (one.rules.approvals for one in policy.each)
    return any(len(_seats(rules, {**votes, person: mine})) > len(_seats(rules, votes)) for rules in asking)


def automation(policy: Policy, facts: Facts) -> Decision | None:
    """The approval of a service that counts now, if there is one: it stands for every approval asked for.

    It may be the submitter's or the author's own. Nobody looked; the policy says that here nobody needs to.
    """
    given = (vote for vote in facts.decisions if vote.automation and vote.decision == APPROVED)
    return next((vote for vote in given if not void_reasons(vote, policy, facts)), None)


def automatic(policy: Policy, facts: Facts) -> bool:
    """Whether it is approved, and not by as many people as are asked for."""
    if automation(policy, facts) is None:
        return False
    votes, asking = _counting(policy, facts), [one.rules.approvals for one in policy.each]
    return any(len(_seats(rules, votes)) < sum(rule.count for rule in rules) for rules in asking)


def _approved(rule: ApprovalRule, seats: Seats, automatic: Decision | None, policy: Policy, facts: Facts) -> Check:
    called = {decision.person_id: decision.person for decision in facts.decisions}
    voters = [called[person] for person, role in seats.items() if role == rule.role]
    role = rule.role.replace("_", " ")
    asked = f"{rule.count} by {'a ' if rule.count == 1 else ''}{role}{'' if rule.count == 1 else 's'}"
    void = [
        f"the approval by {decision.person} is void because {' and '.join(reasons)}"
        for decision in facts.decisions
        if decision.decision == APPROVED and (decision.automation or rule.role in decision.roles)
        if (reasons := _voided(decision, policy, facts))
    ]
    void += [
        f"the approval by {decision.person} does not count because {why}"
        for decision in facts.decisions
        if decision.decision == APPROVED and (decision.automation or rule.role in decision.roles)
        if (why := _unfit(decision, rule.role, facts))
    ]
    enough = len(voters) >= rule.count
    since = _since(policy, facts) if enough or automatic else ""
    reason = f"{len(voters)} of {rule.count} approvals by a {role} who is neither author nor submitter"
    if enough:
        reason = f"Approved by {', '.join(voters)}"
    elif automatic:
        reason = f"Approved automatically by {automatic.person}"
    elif void:
        reason += "; " + "; ".join(void)
    return Check(
        id="approvals" if len(policy.rules.approvals) == 1 else f"approvals:{rule.role}",
        title=f"Approved: {asked}",
        passed=enough or automatic is not None,
        value="automatic" if automatic and not enough else f"{len(voters)} of {rule.count}",
        threshold=f"{asked}, or automatic" if policy.rules.automation else asked,
        reason=f"{reason}{since}.",
    )


def _unfit(decision: Decision, role: Role, facts: Facts) -> str:
    """Why the person, at this moment, is nobody whose approval counts for this role; empty where it does."""
    if decision.automation:
        return lost(decision, ROLES_FOR[Action.AUTO])
    return barred(decision.person_id, decision.person, facts) or lost(decision, [role])


def _since(policy: Policy, facts: Facts) -> str:
    """What arrived after an approval that counts: it changed no answer, but nobody who approved has seen it."""
    now = bound(policy, facts)
    changed = dict.fromkeys(
        words
        for decision in facts.decisions
        if decision.decision == APPROVED and not void_reasons(decision, policy, facts)
        for words in decision.binding.differences(now, substance=False)
    )
    return f"; since then {' and '.join(changed)}" if changed else ""


def _counting(policy: Policy, facts: Facts) -> Votes:
    """The approvals that count now, in the order they were given, each with the roles that its person still has."""
    return {
        decision.person_id: decision.roles & (decision.held or frozenset())
        for decision in facts.decisions
        if decision.decision == APPROVED
        and not decision.automation
        and not barred(decision.person_id, decision.person, facts)
        and not void_reasons(decision, policy, facts)
    }


def _seats(rules: Iterable[ApprovalRule], votes: Votes) -> Seats:
    """Who counts as what, one role a person, so that as many of the approvals asked for are given as can be.

    Somebody of two roles moves to the other one when a later vote takes their place (Kuhn's matching, in the order
    of the votes), so the order in which people approve never matters.
    """
    taken: dict[tuple[Role, int], str] = {}
    places = [(rule.role, number) for rule in rules for number in range(rule.count)]

    def seat(person: str, tried: set[tuple[Role, int]]) -> bool:
        for place in places:
            if place[0] in votes[person] and place not in tried:
                tried.add(place)
                if place not in taken or seat(taken[place], tried):
                    taken[place] = person
                    return True
        return False

    for person in votes:
        seat(person, set())
    return {person: role for (role, _), person in taken.items()}
