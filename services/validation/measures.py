"""Metrics as functions of row weights, many sets of weights at a time. Pure.

All weights 1 gives the metric itself, equal to scikit-learn's; the counts of a bootstrap resample give the metric on
it. So a figure and its interval come from the same lines. Names are those of MLflow's evaluator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy import sparse

from services.validation.report import Task

Numbers = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
Measure = Callable[[Numbers], Mapping[str, Numbers]]
"""From weights (sets × rows) to the value of each metric for each set; NaN where it is not defined."""

GREATER_IS_BETTER = {
    "accuracy_score": True,
    "precision_score": True,
    "recall_score": True,
    "f1_score": True,
    "roc_auc": True,
    "precision_recall_auc": True,
    "log_loss": False,
    "brier_score": False,
    "mean_absolute_error": False,
    "mean_squared_error": False,
    "root_mean_squared_error": False,
    "mean_absolute_percentage_error": False,
    "r2_score": True,
}


def of_classes(truth: Positions, answers: Positions, classes: int) -> Measure:
    """Accuracy, precision, recall and F1: of the last class where there are two, else weighted by support."""
    actual = _one_hot(truth, truth, classes)
    predicted = _one_hot(answers, answers, classes)
    hit = _one_hot(truth, np.where(truth == answers, truth, -1), classes)

    def measure(weights: Numbers) -> Mapping[str, Numbers]:
        right, given, there = (np.asarray(matrix @ weights.T) for matrix in (hit, predicted, actual))  # classes × sets
        precision, recall = _ratio(right, given, 0), _ratio(right, there, 0)
        f1 = _ratio(2 * right, given + there, 0)
        total = there.sum(axis=0)
        share = there / total
        by_class = {"precision_score": precision, "recall_score": recall, "f1_score": f1}
        summed = {
            name: values[-1] if classes == 2 else (values * share).sum(axis=0) for name, values in by_class.items()
        }
        return {"accuracy_score": right.sum(axis=0) / total, **summed}

    return measure


def of_probabilities(truth: Positions, probabilities: Numbers) -> Measure:
    """Log loss, and for two classes the Brier score: means over rows."""
    chances = np.take_along_axis(probabilities, truth[:, None], axis=1)[:, 0]
    tiny = np.finfo(np.float64).eps
    losses = {"log_loss": -np.log(np.clip(chances, tiny, 1 - tiny))}
    if probabilities.shape[1] == 2:
        losses["brier_score"] = (probabilities[:, 1] - truth) ** 2
    return _means(losses)


def of_ranking(truth: Positions, probabilities: Numbers) -> Measure:
    """Areas under the ROC and the precision-recall curve; for more than two classes ROC one-vs-rest, by support."""
    classes = probabilities.shape[1]
    ranked = [_Ranking(truth == one, probabilities[:, one]) for one in (range(classes) if classes > 2 else [1])]

    def measure(weights: Numbers) -> Mapping[str, Numbers]:
        if classes == 2:
            above, below = ranked[0].groups(weights)
            misses = np.cumsum(below, axis=1)
            return {"roc_auc": _roc(above, misses, below), "precision_recall_auc": _average_precision(above, misses)}
        groups = [one.groups(weights) for one in ranked]
        areas = np.stack([_roc(above, np.cumsum(below, axis=1), below) for above, below in groups])
        support = np.stack([weights @ (truth == one) for one in range(classes)])
        return {"roc_auc": (areas * support).sum(axis=0) / support.sum(axis=0)}

    return measure


def of_numbers(truth: Numbers, answers: Numbers) -> Measure:
    """Errors of a regressor, and R²."""
    error = truth - answers
    relative = np.abs(error) / np.maximum(np.abs(truth), np.finfo(np.float64).eps)
    means = _means(
        {
            "mean_absolute_error": np.abs(error),
            "mean_squared_error": error**2,
            "mean_absolute_percentage_error": relative,
        }
    )
    centred = truth - truth.mean()  # or a large offset would drown the spread
    spread = _means({"one": centred, "two": centred**2})

    def measure(weights: Numbers) -> Mapping[str, Numbers]:
        found, of_truth = dict(means(weights)), spread(weights)
        variance = of_truth["two"] - of_truth["one"] ** 2
        found["root_mean_squared_error"] = np.sqrt(found["mean_squared_error"])
        found["r2_score"] = 1 - _ratio(found["mean_squared_error"], variance, np.nan)
        return found

    return measure


def measures_of(
    task: Task, truth: Positions | Numbers, answers: Positions | Numbers, probabilities: Numbers | None, classes: int
) -> tuple[Measure, ...]:
    """Everything that can be said of one model's answers."""
    if task is Task.REGRESSOR:
        return (of_numbers(truth.astype(np.float64), answers.astype(np.float64)),)
    truths, given = truth.astype(np.int64), answers.astype(np.int64)
    found: tuple[Measure, ...] = (of_classes(truths, given, classes),)
    if probabilities is not None:
        found += (of_probabilities(truths, probabilities), of_ranking(truths, probabilities))
    return found


class _Ranking:
    """Rows in descending order of a score, those with the same score together."""

    def __init__(self, positive: npt.NDArray[np.bool_], score: Numbers) -> None:
        self._order = np.argsort(-score, kind="stable")
        ordered = score[self._order]
        self._starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        self._positive = positive[self._order].astype(np.float64)

    def groups(self, weights: Numbers) -> tuple[Numbers, Numbers]:
        """Weight of positive and of negative rows at each score (sets × scores), best score first."""
        ordered = weights[:, self._order]
        above = np.add.reduceat(ordered * self._positive, self._starts, axis=1)
        return above, np.add.reduceat(ordered, self._starts, axis=1) - above


def _roc(above: Numbers, misses: Numbers, below: Numbers) -> Numbers:
    """Of pairs of a positive and a negative row, the share in the right order; a tie is half a pair."""
    beaten = misses[:, -1:] - misses + below / 2
    return _ratio((above * beaten).sum(axis=1), above.sum(axis=1) * misses[:, -1], np.nan)


def _average_precision(above: Numbers, misses: Numbers) -> Numbers:
    """What MLflow calls the area under the precision-recall curve."""
    hits = np.cumsum(above, axis=1)
    return _ratio((above * _ratio(hits, hits + misses, 1)).sum(axis=1), hits[:, -1], np.nan)


def _means(values: Mapping[str, Numbers]) -> Measure:
    names, matrix = list(values), np.stack(list(values.values()), axis=1)

    def measure(weights: Numbers) -> Mapping[str, Numbers]:
        found = (weights @ matrix) / weights.sum(axis=1, keepdims=True)
        return {name: found[:, number] for number, name in enumerate(names)}

    return measure


def _one_hot(rows: Positions, values: Positions, classes: int) -> sparse.csr_array:
    """A row for each class, with a one for each row of the holdout that has it; -1 is no class."""
    there = np.flatnonzero(values >= 0)
    return sparse.csr_array((np.ones(len(there)), (values[there], there)), shape=(classes, len(rows)))


def _ratio(above: Numbers, below: Numbers, undefined: float) -> Numbers:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, undefined, above / below)
