"""Two models' answers on the same rows, compared: figures, intervals, tests, conclusions. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from services.validation import bootstrap
from services.validation.bootstrap import Resampled
from services.validation.holdout import Holdout
from services.validation.measures import GREATER_IS_BETTER, Measure, measures_of
from services.validation.predictions import Predictions
from services.validation.report import Conclusion, Method, MetricResult, Task
from services.validation.slices import Scores
from services.validation.statistics import MIN_ROWS, conclusion, delong, mcnemar


def metrics_of(
    holdout: Holdout,
    candidate: Predictions,
    current: Predictions | None,
    *,
    confidence: float,
    resamples: int,
    seed: int,
    tick: Callable[[], None],
) -> tuple[MetricResult, ...]:
    """Every metric that both models have, and what only the candidate has where there is no other."""
    sides, rows = [candidate] if current is None else [candidate, current], holdout.facts.rows
    found = bootstrap.resampled(
        [_measures(holdout, side) for side in sides],
        rows=rows,
        resamples=resamples,
        seed=seed,
        tick=tick,
    )
    tests = _tests(holdout, candidate, current) if current else {}
    others = found[1] if current else {}
    return tuple(
        _result(name, found[0].get(name), others.get(name), current is not None, tests.get(name), rows, confidence)
        for name in GREATER_IS_BETTER
        if name in found[0] or name in others
    )


def scores_of(holdout: Holdout, candidate: Predictions, current: Predictions | None) -> Scores:
    """The metric by row that slices are judged by."""

    def by_row(side: Predictions) -> npt.NDArray[np.float64]:
        if holdout.task is Task.CLASSIFIER:
            return np.asarray(np.equal(side.answers, holdout.truth), dtype=np.float64)
        return np.asarray(np.abs(side.answers - holdout.truth), dtype=np.float64)

    metric = "accuracy_score" if holdout.task is Task.CLASSIFIER else "mean_absolute_error"
    return Scores(
        metric=metric,
        greater_is_better=GREATER_IS_BETTER[metric],
        candidate=by_row(candidate),
        current=by_row(current) if current else None,
    )


def _measures(holdout: Holdout, side: Predictions) -> tuple[Measure, ...]:
    classes = len(holdout.classes) if holdout.task is Task.CLASSIFIER else 0
    return measures_of(holdout.task, holdout.truth, side.answers, side.probabilities, classes)


def _tests(holdout: Holdout, candidate: Predictions, current: Predictions) -> dict[str, tuple[Method, float]]:
    if holdout.task is not Task.CLASSIFIER:
        return {}
    accuracy = mcnemar(candidate.answers == holdout.truth, current.answers == holdout.truth)
    found = {"accuracy_score": (accuracy.method, accuracy.p_value)}
    ours, theirs = candidate.probabilities, current.probabilities
    if len(holdout.classes) == 2 and ours is not None and theirs is not None:
        found["roc_auc"] = (Method.DELONG, delong(holdout.truth == 1, ours[:, 1], theirs[:, 1]).p_value)
    return found


def _result(
    name: str,
    candidate: Resampled | None,
    current: Resampled | None,
    compared: bool,
    test: tuple[Method, float] | None,
    rows: int,
    confidence: float,
) -> MetricResult:
    better = GREATER_IS_BETTER[name]
    found = MetricResult(
        name=name,
        greater_is_better=better,
        candidate=_finite(candidate),
        candidate_interval=bootstrap.interval(candidate.resamples, confidence) if candidate else None,
        current=_finite(current),
    )
    if not compared:
        return found
    if not candidate or not current or found.candidate is None or found.current is None:
        lacking = "candidate" if found.candidate is None else "champion"
        note = f"The {lacking} has no such figure on these rows, so nothing is compared."
        return replace(found, conclusion=Conclusion.NOT_ENOUGH_EVIDENCE, note=note)
    method, p_value = test or (Method.BOOTSTRAP, None)
    found = replace(found, difference=found.candidate - found.current, method=method, p_value=p_value)
    interval = bootstrap.interval(candidate.resamples - current.resamples, confidence)
    if interval is None:
        note = "It is not defined on most resamples of these rows."
        return replace(found, conclusion=Conclusion.NOT_ENOUGH_EVIDENCE, note=note)
    unchanged = found.difference == 0 and _same(candidate, current)
    return replace(
        found,
        interval=interval,
        conclusion=conclusion(interval, greater_is_better=better, rows=rows, p_value=p_value, unchanged=unchanged),
        note=f"Only {rows} rows: under {MIN_ROWS}, no winner is named." if rows < MIN_ROWS else "",
    )


def _same(one: Resampled, other: Resampled) -> bool:
    return bool(np.array_equal(one.resamples, other.resamples, equal_nan=True))


def _finite(found: Resampled | None) -> float | None:
    return found.value if found and np.isfinite(found.value) else None
