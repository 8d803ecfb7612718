"""What a training run measures: scores on the holdout, time for a prediction, losses step by step, one picture."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from enum import StrEnum
from statistics import median

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    PredictionErrorDisplay,
    accuracy_score,
    classification_report,
    f1_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)
from threadpoolctl import threadpool_limits

from stack.sample.data import Task

STEPS = 30
FEWEST_ROWS = 0.5
TIMED_CALLS = 7


class Curve(StrEnum):
    """What one step of a training curve is: an iteration of the solver, two more trees, more rows."""

    ITERATIONS = "iterations"
    TREES = "trees"
    ROWS = "rows"


def scores(task: Task, model: BaseEstimator, features: pd.DataFrame, truth: pd.Series) -> dict[str, float]:
    """Metrics on a holdout; six digits, so that equal models have equal numbers."""
    guess = model.predict(features)
    if task is Task.REGRESSION:
        found = {
            "val_r2": r2_score(truth, guess),
            "val_rmse": root_mean_squared_error(truth, guess),
            "val_mae": mean_absolute_error(truth, guess),
        }
    else:
        chances = model.predict_proba(features)
        binary = task is Task.BINARY
        found = {
            "val_auc": roc_auc_score(truth, chances[:, 1] if binary else chances, multi_class="ovr"),
            "val_accuracy": accuracy_score(truth, guess),
            "val_f1": f1_score(truth, guess, average="binary" if binary else "macro"),
            "val_log_loss": log_loss(truth, chances),
        }
    return {name: round(float(value), 6) for name, value in found.items()}


def latency(model: BaseEstimator, features: pd.DataFrame) -> float:
    """Milliseconds for predicting the whole holdout at once, median of several calls on this machine."""

    def timed() -> float:
        start = time.perf_counter()
        model.predict(features)
        return (time.perf_counter() - start) * 1000

    return round(median(timed() for _ in range(TIMED_CALLS)), 3)


def trained(
    task: Task,
    curve: Curve,
    model: BaseEstimator,
    train: tuple[pd.DataFrame, pd.Series],
    holdout: tuple[pd.DataFrame, pd.Series],
) -> tuple[BaseEstimator, list[tuple[int, float, float]]]:
    """Train step by step; the model of the last step, and for each step its training and validation loss.

    The loss is log loss, or RMSE for a regression.
    """
    arrays = [part.to_numpy() for part in (*train, *holdout)]  # a data frame is checked at every call, which adds up
    points = []
    # On data this small threads only wait for each other; and to stop before convergence is what a curve is made of.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step, stage, seen in _stages(curve, clone(model), *arrays[:2]):
            points.append((step, _loss(task, stage, *(a[:seen] for a in arrays[:2])), _loss(task, stage, *arrays[2:])))
        return stage.fit(*train), points


def _stages(
    curve: Curve, model: BaseEstimator, features: np.ndarray, truth: np.ndarray
) -> Iterator[tuple[int, BaseEstimator, int]]:
    """The model at each step, with the number of training rows it has seen."""
    everything = len(features)
    if curve is Curve.ROWS:
        for rows in np.linspace(everything * FEWEST_ROWS, everything, STEPS, dtype=int):
            yield int(rows), model.fit(features[:rows], truth[:rows]), int(rows)
    elif curve is Curve.TREES:
        for step in range(2, 2 * STEPS + 1, 2):
            yield step, model.set_params(n_estimators=step, warm_start=True).fit(features, truth), everything
    else:
        (parameter,) = (name for name in model.get_params() if name.endswith("max_iter"))
        for step in range(1, STEPS + 1):
            yield step, model.set_params(**{parameter: step}).fit(features, truth), everything


def _loss(task: Task, model: BaseEstimator, features: np.ndarray, truth: np.ndarray) -> float:
    if task is Task.REGRESSION:
        return float(root_mean_squared_error(truth, model.predict(features)))
    # scikit-learn's log_loss says the same and takes a third of the whole training for its checks.
    chances = model.predict_proba(features)
    right = chances[np.arange(len(truth)), np.searchsorted(model.classes_, truth)]
    return float(np.log(1 / np.clip(right, np.finfo(float).eps, 1)).mean())


def report(task: Task, model: BaseEstimator, features: pd.DataFrame, truth: pd.Series) -> dict[str, object]:
    """What the scores are made of: precision and recall of each class, or how the errors of a regression spread."""
    guess = model.predict(features)
    if task is Task.REGRESSION:
        shares = (0.05, 0.25, 0.5, 0.75, 0.95)
        errors = np.quantile(np.asarray(truth) - guess, shares)
        return {
            "rows": len(truth),
            "errors": {f"{s:.0%}": round(float(e), 2) for s, e in zip(shares, errors, strict=True)},
        }
    found: dict[str, object] = classification_report(truth, guess, output_dict=True, zero_division=0)
    return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 4))  # type: ignore[no-any-return]


def picture(task: Task, model: BaseEstimator, features: pd.DataFrame, truth: pd.Series) -> tuple[str, Figure]:
    """File name and figure: a confusion matrix, or residuals for a regression."""
    figure = Figure(figsize=(5, 4))
    axes = figure.subplots()
    guess = model.predict(features)
    if task is Task.REGRESSION:
        PredictionErrorDisplay.from_predictions(truth, guess, kind="residual_vs_predicted", ax=axes)
        return "residuals.png", figure
    ConfusionMatrixDisplay.from_predictions(truth, guess, ax=axes, cmap="Blues", colorbar=False)
    return "confusion_matrix.png", figure
