"""What a decision is bound to: a digest of each fact that a check of the policy declares, and which checks failed."""

from __future__ import annotations

from services.checks import evidence, place, validation
from services.checks.view import Question, View, answered
from services.evidence import Binding, Facts
from services.policy import Policy

ALWAYS = frozenset({"version", "files", "place", "champion", "policy", "description"})
"""Bound whether a check reads it or not: a decision is about exactly this, and who decides has read the description."""


def questions(policy: Policy) -> tuple[Question, ...]:
    """Every check of a policy that reads what approvals are bound to."""
    return (*evidence.questions(policy), *place.questions(policy), *validation.questions(policy))


def bound(policy: Policy, facts: Facts) -> Binding:
    """What a decision made now is bound to; worked out once for the same facts."""
    if policy.digest not in facts.bindings:
        asked = questions(policy)
        reads = ALWAYS.union(*(question.reads for question in asked))
        failed = tuple(check.id for check in answered(asked, policy, facts) if not check.passed)
        facts.bindings[policy.digest] = Binding(facts=View(policy, facts, reads).digest(), failed=failed)
    return facts.bindings[policy.digest]
