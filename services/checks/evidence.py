"""Checks of what a version shows: whole, measured well enough, on the right data, with what belongs to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from services.checks.data_sets import restoring, same_dataset, unrecorded
from services.domain import Metric, MetricSource
from services.evidence import Evidence, Facts
from services.measurements import Measurement
from services.policy import MetricRule, Policy
from services.verdict import Check

DAY = 86_400
"""Seconds of a day."""
LISTED = 4
"""Of several values of one metric, how many are named."""


def evidence(policy: Policy, facts: Facts) -> Iterator[Check]:
    """Every check of this family that the policy asks for."""
    rules = policy.rules
    yield _intact(facts)
    for rule in rules.metrics:
        yield from _metric(rule, policy, facts)
    if rules.same_dataset:
        yield same_dataset(policy, facts)
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
    """The version is whole: MLflow finished registering it, its run exists, its files are there and could be read."""
    candidate = facts.candidate
    missing = candidate.manifest.missing if candidate.manifest else ()
    problems = [
        *([] if candidate.version.ready else ["MLflow has not finished registering it"]),
        *([candidate.run_problem] if candidate.run_problem else []),
        *([] if candidate.manifest and candidate.manifest.files else ["its files could not be read"]),
        *(
            [f"its MLmodel names {_listed(list(missing))}, which {'is' if len(missing) == 1 else 'are'} not there"]
            if missing
            else []
        ),
    ]
    hint = f" {restoring(candidate)}" if candidate.run and candidate.run.deleted else ""
    return Check(
        id="intact",
        title="Version is complete",
        passed=not problems,
        value="; ".join(problems) or "complete",
        threshold="registered, run and files present",
        reason=f"{candidate.ref} is not complete: {' and '.join(problems)}.{hint}"
        if problems
        else "Run and files are there.",
    )


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """The number that a rule judges; where there is none, why, as shown and as a clause, and what helps."""

    number: float | None = None
    value: str = ""
    problem: str = ""
    advice: str = ""


def _judged(name: str, policy: Policy, evidence: Evidence) -> _Judged:
    measured = evidence.measured.get(name)
    if measured is None:
        why = f"; {evidence.run_problem}" if evidence.run_problem else ""
        return _Judged(value="no evidence", problem=f"{name} has no evidence{why}")
    metric = measured.counting(evidence.preferring(policy.rules.metric_source).preferred)
    if metric is None:
        return _conflict(name, measured, policy)
    if metric.doubtful:
        doubt = f"{name} is 0 on the logged model, where MLflow keeps NaN as 0, and its run does not say 0"
        return _Judged(value="0, or NaN", problem=doubt)
    if not metric.usable:
        return _Judged(value=_number(metric.value), problem=f"{name} is {_number(metric.value)}")
    return _Judged(number=metric.value, value=_number(metric.value))


def _of_champion(name: str, policy: Policy, champion: Evidence) -> _Judged:
    """The same of the champion. Where nothing is recorded of it, its run must not be deleted: what is left of it is
    evidence no longer."""
    if not champion.released and champion.run and champion.run.deleted:
        return _Judged(value="run deleted", problem=champion.run_problem, advice=f" {restoring(champion)}")
    return _judged(name, policy, champion)


def _conflict(name: str, measured: Measurement, policy: Policy) -> _Judged:
    """Two values and nobody who said which counts: each with its source, and the line that would say it."""
    source = policy.rules.metric_source
    found = measured.of(source)
    said = [f"{_number(metric.value)} on the {_where(metric)}" for metric in found]
    lines = [f"metric_source: {one}" for one in MetricSource if one is not source and measured.counting(one)]
    advice = f" Add the line `{'` or `'.join(lines)}` to policy {policy.rules.name} to say which counts."
    return _Judged(
        value=_listed(list(dict.fromkeys(_number(metric.value) for metric in found))),
        problem=f"{name} has different values: {_listed(said)}",
        advice=advice if lines else " Log it once, on one data set.",
    )


def _where(metric: Metric) -> str:
    measured = f" (measured on {metric.dataset_name} {metric.dataset_digest[:8]})" if metric.dataset_digest else ""
    return f"{metric.source.words}{measured}"


def _listed(found: list[str]) -> str:
    """The first few, in words."""
    rest = [f"{len(found) - LISTED} more"] if len(found) > LISTED else []
    *before, last = [*found[:LISTED], *rest]
    return f"{', '.join(before)} and {last}" if before else last


def _metric(rule: MetricRule, policy: Policy, facts: Facts) -> Iterator[Check]:
    mine = _judged(rule.name, policy, facts.candidate)
    theirs = _of_champion(rule.name, policy, facts.champion) if facts.champion else None
    if rule.threshold is not None:
        yield _threshold(rule, rule.threshold, mine)
    if rule.min_absolute_change is not None:
        yield _change(rule, facts, mine, theirs, limit=rule.min_absolute_change, relative=False)
    if rule.min_relative_change is not None:
        yield _change(rule, facts, mine, theirs, limit=rule.min_relative_change, relative=True)


def _threshold(rule: MetricRule, threshold: float, metric: _Judged) -> Check:
    sign = "≥" if rule.greater_is_better else "≤"
    wanted = f"{sign} {_number(threshold)}"
    value = metric.value
    if metric.number is None:
        passed, reason = False, f"{metric.problem}; {wanted} is needed.{metric.advice}"
    else:
        passed = metric.number >= threshold if rule.greater_is_better else metric.number <= threshold
        reason = f"{rule.name} is {value}; {wanted} is needed." if not passed else f"{rule.name} {value} {wanted}."
    return Check(
        id=f"metric:{rule.name}",
        title=f"{rule.name} {wanted}",
        passed=passed,
        value=value,
        threshold=wanted,
        reason=reason,
    )


def _change(
    rule: MetricRule, facts: Facts, mine: _Judged, theirs: _Judged | None, *, limit: float, relative: bool
) -> Check:
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
    if facts.champion is None or theirs is None:
        return answer(True, "no champion", "There is no champion to compare with.")
    if mine.number is None:
        return answer(False, mine.value, f"{mine.problem}, so it cannot be compared.{mine.advice}")
    if theirs.number is None:
        words = f"The champion {facts.champion.ref} cannot be compared with: {theirs.problem}."
        return answer(False, theirs.value, words + theirs.advice)
    gain = (mine.number - theirs.number) * (1 if rule.greater_is_better else -1)
    if relative:
        if theirs.number == 0:
            return answer(False, "undefined", f"The champion's {rule.name} is 0: a relative change is undefined.")
        gain /= abs(theirs.number)
    passed = gain >= limit
    words = f"{_amount(abs(gain), relative)} {'better' if gain > 0 else 'worse'}" if gain else "the same"
    reason = f"{rule.name} {mine.value} is {words} than {facts.champion.ref} with {theirs.value}"
    if not gain:
        reason = f"{rule.name} {mine.value} is the same as that of {facts.champion.ref}"
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
    """Measured from the end of the run; one that never ended, or ends in the future, does not say how old it is."""
    measured = facts.candidate.run.ended_at if facts.candidate.run else None
    if measured is None:
        passed, value, reason = False, "unknown", "Its run does not say when it ended"
    elif facts.ahead(measured):
        passed, value = False, "in the future"
        reason = f"Its run ends on {measured:%Y-%m-%d at %H:%M}, which lies in the future"
    else:
        seconds = max((facts.now - measured).total_seconds(), 0.0)
        passed = seconds <= limit * DAY
        # Rounded up, so that what is shown is over the limit exactly when the age is.
        value = f"{math.ceil(seconds / (DAY / 10)) / 10} days"
        reason = f"Its evidence is {value} old"
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
    if math.isinf(value):
        return "infinite" if value > 0 else "negative infinite"
    return f"{value:.6g}"


def _amount(value: float, relative: bool) -> str:
    return f"{value * 100:.3g} %" if relative else f"{value:.3g}"
