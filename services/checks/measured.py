"""Checks of what was measured: well enough, not worse than the champion, on the champion's data set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from services.checks.data_sets import SAME_DATASET, restoring, unrecorded
from services.checks.view import Question, Run, View
from services.domain import Metric, MetricSource
from services.measurements import Measurement
from services.policy import MetricRule, Policy
from services.verdict import Check

LISTED = 4
"""Of several values of one metric, how many are named."""


def questions(policy: Policy) -> Iterator[Question]:
    """Every check of this family that the policy asks for."""
    for rule in policy.rules.metrics:
        mine = {"version", "run", f"metric:{rule.name}"}
        both = frozenset(
            {*mine, "champion", "champion_run", f"champion_metric:{rule.name}", "champion_recorded", "rollback"}
        )
        if rule.threshold is not None:
            answer = partial(_threshold, rule, rule.threshold, policy)
            yield Question(id=f"metric:{rule.name}", reads=frozenset(mine), answer=answer)
        for kind, limit in (("absolute", rule.min_absolute_change), ("relative", rule.min_relative_change)):
            if limit is not None:
                change = partial(_change, rule, policy, limit=limit, kind=kind)
                yield Question(id=f"champion:{rule.name}:{kind}", reads=both, answer=change)
    if policy.rules.same_dataset:
        yield SAME_DATASET


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """The number that a rule judges; where there is none, why, as shown and as a clause, and what helps."""

    number: float | None = None
    value: str = ""
    problem: str = ""
    advice: str = ""


def _judged(name: str, policy: Policy, measured: Measurement | None, run: Run) -> _Judged:
    if measured is None:
        why = f"; {run.problem}" if run.problem else ""
        return _Judged(value="no evidence", problem=f"{name} has no evidence{why}")
    metric = measured.counting(policy.rules.metric_source)
    if metric is None:
        return _conflict(name, measured, policy)
    if metric.doubtful and metric.source is MetricSource.RUN:
        doubt = f"{name} is {number(metric.value)} on the run, which logged several models and says not of which"
        return _Judged(
            value=f"{number(metric.value)}, of one of several models",
            problem=doubt,
            advice=f' Log it with mlflow.log_metric("{name}", …, model_id="m-…").',
        )
    if metric.doubtful:
        doubt = f"{name} is 0 on the logged model, where MLflow keeps NaN as 0, and its run does not say 0"
        return _Judged(value="0, or NaN", problem=doubt)
    if not metric.usable:
        return _Judged(value=number(metric.value), problem=f"{name} is {number(metric.value)}")
    return _Judged(number=metric.value, value=number(metric.value))


def _of_champion(name: str, policy: Policy, view: View) -> _Judged:
    """The same of the champion, whose run must not be deleted: what is left of it is evidence no longer."""
    if (run := view.champion_run).deleted:
        return _Judged(value="run deleted", problem=run.problem, advice=f" {restoring(run)}")
    return _judged(name, policy, view.measured(name, champion=True), run)


def _conflict(name: str, measured: Measurement, policy: Policy) -> _Judged:
    """Two values and nobody who said which counts: each with its source, and the line that would say it."""
    source = policy.rules.metric_source
    found = measured.of(source)
    said = [f"{number(metric.value)} on the {_where(metric)}" for metric in found]
    lines = [f"metric_source: {one}" for one in MetricSource if one is not source and measured.counting(one)]
    advice = f" Add the line `{'` or `'.join(lines)}` to policy {policy.rules.name} to say which counts."
    return _Judged(
        value=listed(list(dict.fromkeys(number(metric.value) for metric in found))),
        problem=f"{name} has different values: {listed(said)}",
        advice=advice if lines else " Log it once, on one data set.",
    )


def _where(metric: Metric) -> str:
    measured = f" (measured on {metric.dataset_name} {metric.dataset_digest[:8]})" if metric.dataset_digest else ""
    return f"{metric.source.words}{measured}"


def listed(found: list[str]) -> str:
    """The first few, in words."""
    rest = [f"{len(found) - LISTED} more"] if len(found) > LISTED else []
    *before, last = [*found[:LISTED], *rest]
    return f"{', '.join(before)} and {last}" if before else last


def _threshold(rule: MetricRule, threshold: float, policy: Policy, view: View) -> Check:
    metric = _judged(rule.name, policy, view.measured(rule.name), view.run)
    sign = "≥" if rule.greater_is_better else "≤"
    wanted = f"{sign} {number(threshold)}"
    value = metric.value
    if metric.number is None:
        passed, reason = False, f"{metric.problem}; {wanted} is needed.{metric.advice}"
    else:
        passed = metric.number >= threshold if rule.greater_is_better else metric.number <= threshold
        if not passed and value == number(threshold):
            value = repr(metric.number)  # six digits would say that it is enough
        reason = f"{rule.name} is {value}; {wanted} is needed." if not passed else f"{rule.name} {value} {wanted}."
    return Check(
        id=f"metric:{rule.name}",
        title=f"{rule.name} {wanted}",
        passed=passed,
        value=value,
        threshold=wanted,
        reason=reason,
    )


def _change(rule: MetricRule, policy: Policy, view: View, *, limit: float, kind: str) -> Check:
    relative = kind == "relative"
    wanted = "not worse" if limit == 0 else f"{'at most' if limit < 0 else 'at least'} {_amount(abs(limit), relative)} "
    if limit:
        wanted += "worse" if limit < 0 else "better"
    title = f"{rule.name} {wanted} than the champion"
    identifier = f"champion:{rule.name}:{kind}"

    def answer(passed: bool, value: str, reason: str) -> Check:
        return Check(id=identifier, title=title, passed=passed, value=value, threshold=wanted, reason=reason)

    if view.rollback:
        return answer(True, "waived", "Waived: a rollback returns to a version that was released before.")
    if (champion := view.champion) is None:
        return answer(True, "no champion", "There is no champion to compare with.")
    mine = _judged(rule.name, policy, view.measured(rule.name), view.run)
    theirs = _of_champion(rule.name, policy, view)
    if mine.number is None:
        return answer(False, mine.value, f"{mine.problem}, so it cannot be compared.{mine.advice}")
    if theirs.number is None:
        words = f"The champion {champion.ref} cannot be compared with: {theirs.problem}."
        return answer(False, theirs.value, words + theirs.advice)
    gain = (mine.number - theirs.number) * (1 if rule.greater_is_better else -1)
    if relative:
        if theirs.number == 0:
            return answer(False, "undefined", f"The champion's {rule.name} is 0: a relative change is undefined.")
        gain /= abs(theirs.number)
    passed = gain >= limit
    words = f"{_amount(abs(gain), relative)} {'better' if gain > 0 else 'worse'}" if gain else "the same"
    reason = f"{rule.name} {mine.value} is {words} than {champion.ref} with {theirs.value}"
    if not gain:
        reason = f"{rule.name} {mine.value} is the same as that of {champion.ref}"
    reason = f"{reason}." if passed else f"{reason}; {wanted} is needed."
    return answer(passed, words, f"{reason}{unrecorded(champion, view)}")


def number(value: float) -> str:
    if math.isinf(value):
        return "infinite" if value > 0 else "negative infinite"
    return f"{value:.6g}"


def _amount(value: float, relative: bool) -> str:
    return f"{value * 100:.3g} %" if relative else f"{value:.3g}"
