"""The gate: a pure function from facts to a verdict with reasons. It reads nothing and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from services.checks.approvals import approvals, automatic, barred, elsewhere, findings, void_reasons, wanted
from services.checks.emergency import emergency as emergency_checks
from services.checks.emergency import waived
from services.checks.evidence import evidence
from services.checks.release import promoter, released_before, timing
from services.checks.signing import signed
from services.checks.validation import validation
from services.domain import Action, Actor
from services.evidence import Facts, Waiver
from services.policy import Policy
from services.signing import Act, ElectronicSignature, asked
from services.verdict import Check, GateRefused, Verdict

__all__ = ["Check", "GateRefused", "Verdict", "automatic", "barred", "evaluate", "void_reasons", "waived", "wanted"]


def evaluate(
    policy: Policy,
    facts: Facts,
    *,
    actor: Actor | None = None,
    signature: ElectronicSignature | None = None,
    emergency: Waiver | None = None,
) -> Verdict:
    """Judge one candidate under one policy.

    Args:
        policy: the policy that judges now; approvals given under another digest are void.
        facts: read from MLflow and the ledger at this moment. ``facts.rollback_of`` waives
            comparison, approvals and timing: a way back must be open on every day.
        actor: who wants to promote; None leaves that check and the signature's out (a page that shows what still
            stands in the way).
        signature: what the actor signed, where the policy asks for it.
        emergency: two people answer for it: what they may go past is waived with its true value, and what they may
            not (see `services.checks.emergency`) is asked in addition. Who may promote is then for them to say.
    """
    if emergency is not None:
        usual = (*evidence(policy, facts), *validation(policy, facts), *findings(facts), *_usual(policy, facts))
        return Verdict(checks=(*waived(Verdict(checks=usual)).checks, *emergency_checks(policy, facts, emergency)))
    rollback = facts.rollback_of is not None
    action = Action.ROLLBACK if rollback else Action.PROMOTE
    return Verdict(
        checks=(
            *evidence(policy, facts),
            *validation(policy, facts),
            *findings(facts),
            *(
                [released_before(facts)]
                if rollback
                else (*elsewhere(facts), *timing(policy, facts), *approvals(policy, facts))
            ),
            *([promoter(policy, actor)] if actor else []),
            *(
                [signed(Act.of(action, policy, facts), actor, signature, facts.now)]
                if actor and asked(policy, action)
                else []
            ),
        )
    )


def _usual(policy: Policy, facts: Facts) -> Iterator[Check]:
    """What is asked of every release but a rollback: a way back must be open on every day."""
    yield from elsewhere(facts)
    yield from timing(policy, facts)
    yield from approvals(policy, facts)
