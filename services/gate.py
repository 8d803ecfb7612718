"""The gate: a pure function from facts to a verdict with reasons. It reads nothing and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from services.checks.approvals import approvals, automatic, barred, elsewhere, findings, void_reasons, wanted
from services.checks.emergency import emergency as emergency_checks
from services.checks.emergency import waived
from services.checks.evidence import evidence
from services.checks.place import place
from services.checks.release import promoter, released_before, settled, timing
from services.checks.signing import signed
from services.checks.validation import validation
from services.domain import Action, Actor
from services.evidence import Facts, Waiver
from services.policy import Policy
from services.signing import Act, ElectronicSignature, asked
from services.verdict import Check, GateRefused, Verdict

__all__ = [
    "Check",
    "GateRefused",
    "Verdict",
    "automatic",
    "barred",
    "before_files",
    "evaluate",
    "united",
    "void_reasons",
    "waived",
    "wanted",
    "without_files",
]

_CERTAIN = frozenset({"findings", "freeze", "promoter", "break_glass", "asked_by", "second_person"})
"""Families of checks of people and time that refuse at once: what one of them says, no file can change.

Not among them: that it was not submitted. Then the refusal tells all that is missing, so that it can be seen to.
"""
_WITHOUT_FILES = _CERTAIN | {
    *("submitted", "settled", "staging_time", "signed"),
    *("metric", "champion", "same_dataset", "tag", "evidence_age"),
}
"""Families of checks that no file of the version is needed for."""


_OF_A_RELEASE = frozenset({"tag", "artifact", "evidence_age"})
"""Families of checks of its papers and its age that a release answers once: a rollback returns to what was released."""


def evaluate(
    policy: Policy,
    facts: Facts,
    *,
    actor: Actor | None = None,
    signature: ElectronicSignature | None = None,
    emergency: Waiver | None = None,
) -> Verdict:
    """Judge one candidate under the policy that judges it; of two that do, the verdict is the union of their checks.

    Args:
        policy: what judges now; approvals given under another digest are void.
        facts: read from MLflow and the ledger at this moment. ``facts.rollback_of`` waives comparison, approvals,
            papers and timing: a way back must be open on every day.
        actor: who wants to promote; None leaves that check and the signature's out (a page that shows what still
            stands in the way).
        signature: what the actor signed, where the policy asks for it.
        emergency: two people answer for it: what they may go past is waived with its true value, and what they may
            not (see `services.checks.emergency`) is asked in addition. Who may promote is then for them to say.
    """
    return united(policy, lambda one: _evaluate(one, facts, actor, signature, emergency).checks)


def united(policy: Policy, ask: Callable[[Policy], Iterable[Check]]) -> Verdict:
    """What every policy that judges asks; where two do, each check says which of them asks it."""
    if policy.beside is None:
        return Verdict(checks=tuple(ask(policy)))
    return Verdict(checks=tuple(check.asked_by(one.rules.name) for one in policy.each for check in ask(one)))


def _evaluate(
    policy: Policy,
    facts: Facts,
    actor: Actor | None,
    signature: ElectronicSignature | None,
    emergency: Waiver | None,
) -> Verdict:
    """What one policy asks, whether it judges alone or beside another."""
    people = (actor, *((emergency.asked_by, emergency.confirmed_by) if emergency else ()))
    acting = frozenset(person.username for person in people if person)
    if emergency is not None:
        usual = (
            *evidence(policy, facts),
            *place(policy, facts),
            *validation(policy, facts),
            *findings(facts, acting),
            *_usual(policy, facts),
        )
        return Verdict(checks=(*waived(Verdict(checks=usual)).checks, *emergency_checks(policy, facts, emergency)))
    rollback = facts.rollback_of is not None
    action = Action.ROLLBACK if rollback else Action.PROMOTE
    return Verdict(
        checks=(
            *(check for check in evidence(policy, facts) if not (rollback and check.family in _OF_A_RELEASE)),
            *place(policy, facts),
            *validation(policy, facts),
            *findings(facts, acting),
            *([released_before(facts)] if rollback else _usual(policy, facts)),
            *([promoter(policy, actor)] if actor else []),
            *(
                [signed(Act.of(action, policy, facts), actor, signature, facts.now)]
                if actor and policy.rules.signing and asked(policy, action)
                else []
            ),
        )
    )


def _usual(policy: Policy, facts: Facts) -> Iterator[Check]:
    """What is asked of every release but a rollback: a way back must be open on every day."""
    yield from elsewhere(facts)
    yield from settled(facts)
    yield from timing(policy, facts)
    yield from approvals(policy, facts)


def before_files(
    policy: Policy,
    facts: Facts,
    *,
    actor: Actor | None = None,
    unsigned: bool = False,
    emergency: Waiver | None = None,
) -> Verdict | None:
    """The refusal that is certain before the version's files are read; None where nothing is certain yet.

    Where the files are not known it has the checks that need none. Votes are bound to the files, so they are left out
    then where there are any.

    Args:
        unsigned: nobody is going to sign, so that check is certain too.
    """
    told = evaluate(policy, facts, actor=actor, emergency=emergency)
    left_out = {"as_asked"} if unsigned else {"as_asked", "signed"}
    if facts.candidate.manifest is None:
        left_out |= _of_files(facts, told)
    verdict = Verdict(checks=tuple(check for check in told.checks if check.family not in left_out))
    return verdict if any(check.family in _CERTAIN for check in verdict.failed) else None


def without_files(policy: Policy, facts: Facts) -> Verdict:
    """The checks that can be answered before anybody looked at the version's files: that none failed allows nothing."""
    told = evaluate(policy, facts)
    left_out = _of_files(facts, told)
    return Verdict(checks=tuple(check for check in told.checks if check.family not in left_out))


def _of_files(facts: Facts, told: Verdict) -> set[str]:
    """Families of checks that cannot be answered without the files. Votes are bound to them, where there are any."""
    left_out = {check.family for check in told.checks} - _WITHOUT_FILES
    return left_out if facts.decisions else left_out - {"approvals", "changes"}
