"""Checks of what a version shows: whole, measured well enough, on the right data, with what belongs to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase

from services.checks.data_sets import same_dataset, unrecorded
from services.domain import Metric
from services.evidence import Facts
from services.policy import MetricRule, Policy
from services.verdict import Check

DAY = 86_400
"""Seconds of a day."""


def evidence(policy: Policy, facts: Facts) -> Iterator[Check]:
    """Every check of this family that the policy asks for."""
    rules = policy.rules
    yield _intact(facts)
    for rule in rules.metrics:
        yield from _metric(rule, facts)
    if rules.same_dataset:
        yield same_dataset(facts)
    if rules.signature:
        yield _signature(facts)
    if rules.input_example:
        yield _input_example(facts)
    for tag in rules.required_tags:
        yield _required_tag(tag, facts)
    for pattern in rules.required_artifacts:
        yield _required_artifact(pattern, facts)
    if rules.max_evidence_age_days is not None:
        yield _age(rules.max_evidence_age_days, facts)


def _intact(facts: Facts) -> Check:
    """The version is whole: MLflow finished registering it, its run exists, its files could be read."""
    candidate = facts.candidate
    problems = [
        *([] if candidate.version.ready else ["MLflow has not finished registering it"]),
        *([] if candidate.run or candidate.logged_model else ["its run no longer exists"]),
        *([] if candidate.manifest and candidate.manifest.files else ["its files could not be read"]),
    ]
    return Check(
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


def _unusable(rule: MetricRule, metric: Metric | None) -> str:
    return f"{rule.name} is {metric.value}" if metric else f"{rule.name} has no evidence"


def _threshold(rule: MetricRule, threshold: float, metric: Metric | None) -> Check:
    sign = "≥" if rule.greater_is_better else "≤"
    wanted = f"{sign} {_number(threshold)}"
    missing = _missing(metric)
    if metric is None or missing:
        passed, value = False, missing or ""
        reason = f"{_unusable(rule, metric)}; {wanted} is needed."
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
        return answer(False, _missing(metric) or "", f"{_unusable(rule, metric)}, so it cannot be compared.")
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
    reason = f"{reason}." if passed else f"{reason}; {wanted} is needed."
    return answer(passed, words, f"{reason}{unrecorded(facts.champion)}")


def _signature(facts: Facts) -> Check:
    present = facts.candidate.signature is not None
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


def _required_tag(tag: str, facts: Facts) -> Check:
    value = facts.candidate.version.tags.get(tag) or facts.model.tags.get(tag) or ""
    return Check(
        id=f"tag:{tag}",
        title=f"Tag {tag} present",
        passed=bool(value.strip()),
        value=value[:80] or "missing",
        threshold="present",
        reason=f"Tag {tag} is set." if value.strip() else f"Neither the version nor the model has a tag {tag}.",
    )


def _required_artifact(pattern: str, facts: Facts) -> Check:
    manifest = facts.candidate.manifest
    paths = [*(file.path for file in manifest.files)] if manifest else []
    found = next((path for path in [*paths, *facts.candidate.run_files] if fnmatchcase(path, pattern)), None)
    return Check(
        id=f"artifact:{pattern}",
        title=f"Artifact {pattern} present",
        passed=found is not None,
        value=found or "missing",
        threshold="present",
        reason=f"{found} is there." if found else f"Neither the model nor its run has an artifact {pattern}.",
    )


def _age(limit: float, facts: Facts) -> Check:
    """Measured from the end of the run; one that never ended says not how old its evidence is."""
    measured = facts.candidate.run.ended_at if facts.candidate.run else None
    seconds = (facts.now - measured).total_seconds() if measured else None
    passed = seconds is not None and seconds <= limit * DAY
    # Rounded up, so that what is shown is over the limit exactly when the age is.
    value = f"{math.ceil(seconds / (DAY / 10)) / 10} days" if seconds is not None else "unknown"
    reason = f"Its evidence is {value} old" if seconds is not None else "Its run does not say when it ended"
    allowed = f"{_number(limit)} day{'' if limit == 1 else 's'}"
    return Check(
        id="evidence_age",
        title=f"Evidence at most {allowed} old",
        passed=passed,
        value=value,
        threshold=f"≤ {allowed}",
        reason=f"{reason}." if passed else f"{reason}; at most {allowed} may have passed.",
    )


def _number(value: float) -> str:
    return f"{value:.6g}"


def _amount(value: float, relative: bool) -> str:
    return f"{value * 100:.3g} %" if relative else f"{value:.3g}"
