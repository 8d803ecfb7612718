"""The gate: a pure function from facts to a verdict with reasons. It reads nothing and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from services.domain import Actor, Dataset, Metric
from services.errors import Refused
from services.evidence import Decision, Facts
from services.policy import MetricRule, Policy

APPROVED = "approved"
CHANGES_REQUESTED = "changes_requested"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question the gate asked. ``value`` and ``threshold`` are as shown to people; ``reason`` is a sentence."""

    id: str
    title: str
    passed: bool
    value: str
    threshold: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All checks. Allowed only when there is at least one and none failed."""

    checks: tuple[Check, ...]

    @property
    def allowed(self) -> bool:
        """Whether the promotion may happen."""
        return bool(self.checks) and not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that stand in the way."""
        return tuple(check for check in self.checks if not check.passed)

    def as_json(self) -> list[dict[str, Any]]:
        """The checks as plain JSON, for an event."""
        return [asdict(check) for check in self.checks]

    @classmethod
    def from_json(cls, checks: Sequence[Mapping[str, Any]]) -> Self:
        """The inverse of `as_json`."""
        return cls(checks=tuple(Check(**check) for check in checks))

    @property
    def waits_for_approval_only(self) -> bool:
        """Whether nothing but the missing approval stands in the way."""
        return bool(self.failed) and all(
            check.id == "submitted" or check.id.startswith("approvals") for check in self.failed
        )

    def summary(self) -> str:
        """Every failed check in one line."""
        return " ".join(check.reason for check in self.failed) or "All checks passed."


class GateRefused(Refused):
    """At least one check failed. ``verdict`` carries every check with value and threshold."""

    def __init__(self, message: str, verdict: Verdict) -> None:
        super().__init__(message)
        self.verdict = verdict


def evaluate(policy: Policy, facts: Facts, *, actor: Actor | None = None) -> Verdict:
    """Judge one candidate under one policy.

    Args:
        policy: the policy that judges now; approvals given under another digest are void.
        facts: read from MLflow and the ledger at this moment. ``facts.rollback_of`` waives the comparison.
        actor: who wants to promote; None leaves that check out (a page that shows what still stands in the way).
    """
    checks = [
        *_intact(facts),
        *(check for rule in policy.rules.metrics for check in _metric(rule, facts)),
        *([_same_dataset(facts)] if policy.rules.same_dataset else []),
        *([_signature(facts)] if policy.rules.signature else []),
        *([_input_example(facts)] if policy.rules.input_example else []),
        *([_released_before(facts)] if facts.rollback_of is not None else _approvals(policy, facts)),
        *([_promoter(policy, actor)] if actor else []),
    ]
    return Verdict(checks=tuple(checks))


def _intact(facts: Facts) -> Iterator[Check]:
    """The version is whole: MLflow finished registering it, its run exists, its files could be read."""
    candidate = facts.candidate
    problems = [
        *([] if candidate.version.ready else ["MLflow has not finished registering it"]),
        *([] if candidate.run or candidate.logged_model else ["its run no longer exists"]),
        *([] if candidate.manifest and candidate.manifest.files else ["its files could not be read"]),
    ]
    yield Check(
        id="intact",
        title="Version is complete",
        passed=not problems,
        value="; ".join(problems) or "complete",
        threshold="registered, run and files present",
        reason=f"{candidate.ref} is not complete: {' and '.join(problems)}."
        if problems
        else "Run and files are there.",
    )


def _metric(rule: MetricRule, facts: Facts) -> Iterator[Check]:
    metric = facts.candidate.metrics.get(rule.name)
    if rule.threshold is not None:
        yield _threshold(rule, rule.threshold, metric)
    if rule.min_absolute_change is not None:
        yield _change(rule, facts, metric, limit=rule.min_absolute_change, relative=False)
    if rule.min_relative_change is not None:
        yield _change(rule, facts, metric, limit=rule.min_relative_change, relative=True)


def _missing(metric: Metric | None) -> str | None:
    if metric is None:
        return "no evidence"
    return None if metric.usable else str(metric.value)


def _threshold(rule: MetricRule, threshold: float, metric: Metric | None) -> Check:
    sign = "≥" if rule.greater_is_better else "≤"
    wanted = f"{sign} {_number(threshold)}"
    missing = _missing(metric)
    if metric is None or missing:
        passed, value = False, missing or ""
        reason = f"{rule.name} has {missing}; {wanted} is needed."
    else:
        passed = metric.value >= threshold if rule.greater_is_better else metric.value <= threshold
        value = _number(metric.value)
        reason = f"{rule.name} is {value}; {wanted} is needed." if not passed else f"{rule.name} {value} {wanted}."
    return Check(
        id=f"metric:{rule.name}",
        title=f"{rule.name} {wanted}",
        passed=passed,
        value=value,
        threshold=wanted,
        reason=reason,
    )


def _change(rule: MetricRule, facts: Facts, metric: Metric | None, *, limit: float, relative: bool) -> Check:
    kind = "relative" if relative else "absolute"
    wanted = "not worse" if limit == 0 else f"{'at most' if limit < 0 else 'at least'} {_amount(abs(limit), relative)} "
    if limit:
        wanted += "worse" if limit < 0 else "better"
    title = f"{rule.name} {wanted} than the champion"
    identifier = f"champion:{rule.name}:{kind}"

    def answer(passed: bool, value: str, reason: str) -> Check:
        return Check(id=identifier, title=title, passed=passed, value=value, threshold=wanted, reason=reason)

    if facts.rollback_of is not None:
        return answer(True, "waived", "Waived: a rollback returns to a version that was released before.")
    if facts.champion is None:
        return answer(True, "no champion", "There is no champion to compare with.")
    champion = facts.champion.metrics.get(rule.name)
    if metric is None or _missing(metric):
        return answer(False, _missing(metric) or "", f"{rule.name} has {_missing(metric)}, so it cannot be compared.")
    if champion is None or _missing(champion):
        return answer(
            False, "no evidence", f"The champion {facts.champion.ref} has no usable {rule.name} to compare with."
        )
    gain = (metric.value - champion.value) * (1 if rule.greater_is_better else -1)
    if relative:
        if champion.value == 0:
            return answer(False, "undefined", f"The champion's {rule.name} is 0: a relative change is undefined.")
        gain /= abs(champion.value)
    passed = gain >= limit
    words = f"{_amount(abs(gain), relative)} {'better' if gain > 0 else 'worse'}" if gain else "the same"
    reason = f"{rule.name} {_number(metric.value)} is {words} than {facts.champion.ref} with {_number(champion.value)}"
    if not gain:
        reason = f"{rule.name} {_number(metric.value)} is the same as that of {facts.champion.ref}"
    return answer(passed, words, f"{reason}." if passed else f"{reason}; {wanted} is needed.")


def _same_dataset(facts: Facts) -> Check:
    def answer(passed: bool, value: str, reason: str) -> Check:
        return Check(
            id="same_dataset",
            title="Measured on the champion's data set",
            passed=passed,
            value=value,
            threshold=_datasets(facts.champion.holdout) if facts.champion else "any, there is no champion",
            reason=reason,
        )

    mine = facts.candidate.holdout
    if facts.rollback_of is not None:
        return answer(True, "waived", "Waived: a rollback returns to a version that was released before.")
    if facts.champion is None:
        return answer(True, _datasets(mine), "There is no champion to compare with.")
    theirs = facts.champion.holdout
    if not mine:
        return answer(False, "no evidence", f"{facts.candidate.ref} says not on which data set it was measured.")
    if not theirs:
        return answer(
            False, _datasets(mine), f"The champion {facts.champion.ref} says not on which data set it was measured."
        )
    same = {dataset.digest for dataset in mine} == {dataset.digest for dataset in theirs}
    reason = (
        f"Both were measured on {_datasets(mine)}."
        if same
        else f"Measured on {_datasets(mine)}, the champion {facts.champion.ref} on {_datasets(theirs)}."
    )
    return answer(same, _datasets(mine), reason)


def _signature(facts: Facts) -> Check:
    manifest = facts.candidate.manifest
    present = manifest is not None and manifest.signature is not None
    return Check(
        id="signature",
        title="Signature present",
        passed=present,
        value="present" if present else "missing",
        threshold="present",
        reason="The model says what it takes and gives." if present else "The model has no signature.",
    )


def _input_example(facts: Facts) -> Check:
    present = facts.candidate.manifest is not None and facts.candidate.manifest.has_input_example
    return Check(
        id="input_example",
        title="Input example present",
        passed=present,
        value="present" if present else "missing",
        threshold="present",
        reason="The model carries an input example." if present else "The model has no input example.",
    )


def void_reasons(decision: Decision, policy: Policy, facts: Facts) -> tuple[str, ...]:
    """Why a decision no longer counts, in words; empty when it does."""
    return decision.binding.differences(facts.binding(policy.digest))


def barred(person: str, facts: Facts) -> bool:
    """Whether a person may not approve because the version is their own: author (as claimed) or submitter."""
    submitted_by = facts.submission.submitted_by if facts.submission else None
    return person in {submitted_by, facts.candidate.claimed_author}


def _approvals(policy: Policy, facts: Facts) -> Iterator[Check]:
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


def _released_before(facts: Facts) -> Check:
    now = facts.candidate.manifest.digest if facts.candidate.manifest else ""
    same = bool(now) and now == facts.rollback_of
    return Check(
        id="released_before",
        title="Released before, with these very files",
        passed=same,
        value=now[:12] or "unreadable",
        threshold=(facts.rollback_of or "")[:12],
        reason="Its files are those of its earlier promotion."
        if same
        else "Its files are not those of its earlier promotion.",
    )


def _promoter(policy: Policy, actor: Actor) -> Check:
    wanted = " or ".join(role.replace("_", " ") for role in policy.rules.promoted_by)
    held = ", ".join(sorted(role.replace("_", " ") for role in actor.roles)) or "no role"
    passed = bool(actor.roles & set(policy.rules.promoted_by))
    return Check(
        id="promoter",
        title=f"Promoted by a {wanted}",
        passed=passed,
        value=f"{actor.username}: {held}",
        threshold=wanted,
        reason=f"{actor.username} may promote." if passed else f"{actor.username} is {held}; a {wanted} must promote.",
    )


def _datasets(datasets: tuple[Dataset, ...]) -> str:
    return ", ".join(f"{dataset.name} ({dataset.digest[:8]})" for dataset in datasets) or "none"


def _number(value: float) -> str:
    return f"{value:.6g}"


def _amount(value: float, relative: bool) -> str:
    return f"{value * 100:.3g} %" if relative else f"{value:.3g}"
