"""What a decision is bound to: a digest of each fact that a check of the policy declares, and which checks failed."""

from __future__ import annotations

from services.checks import evidence, place, validation
from services.checks.view import Question, View, answered
from services.evidence import Binding, Facts, digest
from services.policy import Policy

ALWAYS = frozenset({"version", "files", "place", "champion", "policy", "description"})
"""Bound whether a check reads it or not: a decision is about exactly this, and who decides has read the description."""


def questions(policy: Policy) -> tuple[Question, ...]:
    """Every check of one policy that reads what approvals are bound to."""
    return (*evidence.questions(policy), *place.questions(policy), *validation.questions(policy))


def asked(policy: Policy) -> frozenset[str]:
    """Their ids, of every policy that judges, as `Binding.failed` names them."""
    return frozenset(_named(policy, one, question.id) for one in policy.each for question in questions(one))


def bound(policy: Policy, facts: Facts) -> Binding:
    """What a decision made now is bound to, under every policy that judges; worked out once for the same facts."""
    if policy.digest not in facts.bindings:
        facts.bindings[policy.digest] = _bound(policy, facts)
    return facts.bindings[policy.digest]


def _bound(policy: Policy, facts: Facts) -> Binding:
    digests: dict[str, str] = {}
    failed: list[str] = []
    for one in sorted(policy.each, key=lambda one: one.rules.name):  # the same, whichever of two is the assigned one
        asking = questions(one)
        reads = ALWAYS.union(*(question.reads for question in asking))
        for name, value in View(one, facts, reads).digest().items():
            before = digests.get(name, value)  # two policies can read a fact differently, such as the data sets
            digests[name] = value if before == value else digest([before, value])
        failed += [_named(policy, one, check.id) for check in answered(asking, one, facts) if not check.passed]
    return Binding(facts=digests, failed=tuple(failed))


def _named(policy: Policy, one: Policy, check: str) -> str:
    return f"{one.rules.name}/{check}" if policy.beside else check
