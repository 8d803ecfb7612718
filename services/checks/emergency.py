"""Checks of breaking the glass: what two people may go past in an emergency, and what nobody may."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from services.accounts import permissions
from services.checks.approvals import barred
from services.checks.bound import bound
from services.domain import Action, Actor
from services.evidence import Facts, Waiver
from services.policy import Policy
from services.verdict import Check, Verdict

WAIVABLE = frozenset(
    {
        *("submitted", "changes", "approvals"),  # what others said
        "settled",  # what others did
        *("freeze", "staging_time", "evidence_age"),  # when
        *("metric", "champion", "same_dataset", "validation"),  # how good it is
        *("tag", "artifact"),  # its papers
    }
)
"""Families of checks an emergency goes past, by the first part of their ids. What is not named here still refuses:
that the version is whole and has a signature, that no blocking finding is open, and whatever a later check will ask."""


def waived(verdict: Verdict) -> Verdict:
    """The verdict with every failed check that an emergency may go past marked as waived."""
    return Verdict(
        checks=tuple(replace(check, waived=not check.passed and check.family in WAIVABLE) for check in verdict.checks)
    )


def emergency(policy: Policy, facts: Facts, waiver: Waiver) -> Iterator[Check]:
    """What is asked of every emergency and never waived."""
    allowed = policy.rules.break_glass
    yield Check(
        id="break_glass",
        title="The policy knows emergencies",
        passed=allowed,
        value=f"break_glass: {str(allowed).lower()}",
        threshold="break_glass: true",
        reason=f"Policy {policy.rules.name} {'allows' if allowed else 'does not allow'} breaking the glass.",
    )
    yield _asked(waiver.asked_by)
    if waiver.confirmed_by is not None:
        yield _second(facts, waiver.asked_by, waiver.confirmed_by)
    changed = waiver.binding.differences(bound(policy, facts), substance=True)
    yield Check(
        id="as_asked",
        title="Nothing changed since it was asked for",
        passed=not changed,
        value=" and ".join(changed) or "unchanged",
        threshold="unchanged",
        reason=f"Since {waiver.asked_by.username} asked, {' and '.join(changed)}; it must be asked for anew."
        if changed
        else "Files, evidence, champion and policy are those it was asked for with.",
    )


def _asked(person: Actor) -> Check:
    passed = permissions.may(person, Action.BREAK_GLASS)
    return Check(
        id="asked_by",
        title="Asked for by a break-glass holder",
        passed=passed,
        value=_held(person),
        threshold="break-glass holder",
        reason=f"{person.username} may break the glass." if passed else f"{person.username} may not break the glass.",
    )


def _second(facts: Facts, first: Actor, second: Actor) -> Check:
    if second.person == first.person:
        problem = f"{second.username} asked for it; another person must confirm"
    elif why := barred(second.person, second.username, facts):
        problem = f"{why}; another person must confirm the emergency of {facts.candidate.ref}"
    elif not permissions.may(second, Action.CONFIRM_EMERGENCY):
        problem = f"{second.username} may not confirm an emergency"
    else:
        problem = ""
    return Check(
        id="second_person",
        title="Confirmed by a second person",
        passed=not problem,
        value=_held(second),
        threshold="break-glass holder or release manager, neither its author nor whoever asked or submitted",
        reason=f"{problem}." if problem else f"{second.username} answers for it together with {first.username}.",
    )


def _held(person: Actor) -> str:
    return f"{person.username}: {', '.join(sorted(role.words for role in person.roles)) or 'no role'}"
