"""The gate: a pure function from facts to a verdict with reasons. It reads nothing and changes nothing."""

from __future__ import annotations

from services.checks.approvals import approvals, automatic, barred, findings, void_reasons, wanted
from services.checks.evidence import evidence
from services.checks.release import promoter, released_before, timing
from services.domain import Actor
from services.evidence import Facts
from services.policy import Policy
from services.verdict import Check, GateRefused, Verdict

__all__ = ["Check", "GateRefused", "Verdict", "automatic", "barred", "evaluate", "void_reasons", "wanted"]


def evaluate(policy: Policy, facts: Facts, *, actor: Actor | None = None) -> Verdict:
    """Judge one candidate under one policy.

    Args:
        policy: the policy that judges now; approvals given under another digest are void.
        facts: read from MLflow and the ledger at this moment. ``facts.rollback_of`` waives
            comparison, approvals and timing: a way back must be open on every day.
        actor: who wants to promote; None leaves that check out (a page that shows what still stands in the way).
    """
    rollback = facts.rollback_of is not None
    return Verdict(
        checks=(
            *evidence(policy, facts),
            *findings(facts),
            *([released_before(facts)] if rollback else (*timing(policy, facts), *approvals(policy, facts))),
            *([promoter(policy, actor)] if actor else []),
        )
    )
