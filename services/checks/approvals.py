"""Checks of who agreed: submitted, no changes requested, and enough approvals that still count."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from services.evidence import Decision, Facts, Finding
from services.policy import Policy
from services.verdict import Check

APPROVED = "approved"
CHANGES_REQUESTED = "changes_requested"


def void_reasons(decision: Decision, policy: Policy, facts: Facts) -> tuple[str, ...]:
    """Why a decision no longer counts, in words; empty when it does."""
    reasons = decision.binding.differences(facts.binding(policy.digest))
    if expired(decision, policy, facts):
        reasons = (*reasons, f"it expired after {policy.rules.approvals_expire_after_days:g} days")
    if policy.rules.signing and decision.decision == APPROVED and not decision.signed:
        reasons = (*reasons, "it was not signed")
    return reasons


def expired(decision: Decision, policy: Policy, facts: Facts) -> bool:
    """Whether an approval is too old, or was found too old once before."""
    limit = policy.rules.approvals_expire_after_days
    if decision.decision != APPROVED or limit is None:
        return False
    return decision.expired or facts.now - datetime.fromisoformat(decision.at) > timedelta(days=limit)


def barred(person: str, facts: Facts) -> bool:
    """Whether a person may not approve because the version is their own: author (as claimed) or submitter."""
    submitted_by = facts.submission.submitted_by if facts.submission else None
    return person in {submitted_by, facts.candidate.claimed_author}


def findings(facts: Facts) -> Iterator[Check]:
    """Whether a blocking finding is open; nothing where nobody has found anything."""
    if not facts.findings:
        return
    blocking = [finding for finding in facts.findings if finding.blocks]
    resolved = sum(not finding.open for finding in facts.findings)
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
    return f"{finding.raised_by} found: {text.rstrip('.')} (for {finding.owner}{due})."


def approvals(policy: Policy, facts: Facts) -> Iterator[Check]:
    submitted = facts.submission is not None
    yield Check(
        id="submitted",
        title="Submitted for review",
        passed=submitted,
        value="submitted" if submitted else "not submitted",
        threshold="submitted",
        reason="It was submitted for review." if submitted else "It was not submitted for review.",
    )
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
    counted: set[str] = set()
    void: list[str] = []
    for rule in policy.rules.approvals:
        voters: list[str] = []
        for decision in facts.decisions:
            if decision.decision != APPROVED or decision.person in counted or rule.role not in decision.roles:
                continue
            if reasons := void_reasons(decision, policy, facts):
                void.append(f"the approval by {decision.person} is void because {' and '.join(reasons)}")
            elif not barred(decision.person, facts) and len(voters) < rule.count:
                voters.append(decision.person)
                counted.add(decision.person)  # one vote per person, across all roles
        role = rule.role.replace("_", " ")
        wanted = f"{rule.count} by {'a ' if rule.count == 1 else ''}{role}{'' if rule.count == 1 else 's'}"
        passed = len(voters) >= rule.count
        reason = f"{len(voters)} of {rule.count} approvals by a {role} who is neither author nor submitter"
        if passed:
            reason = f"Approved by {', '.join(voters)}"
        elif void:
            reason += "; " + "; ".join(dict.fromkeys(void))
        yield Check(
            id="approvals" if len(policy.rules.approvals) == 1 else f"approvals:{rule.role}",
            title=f"Approved: {wanted}",
            passed=passed,
            value=f"{len(voters)} of {rule.count}",
            threshold=wanted,
            reason=reason + ".",
        )
