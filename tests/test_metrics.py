"""Which way is better, as scikit-learn and MLflow themselves say it of what they ship."""

from __future__ import annotations

import inspect
import warnings

import mlflow.metrics
import pytest
import sklearn.metrics
from mlflow.models import EvaluationMetric

from services.metrics import Direction, direction

SPREAD_AND_COUNTS = {"token_count"}
"""MLflow calls more tokens better; we call a count neither good nor bad."""


@pytest.mark.parametrize("name", sklearn.metrics.get_scorer_names())
def test_more_is_better_of_every_scorer(name: str) -> None:
    assert direction(name) is Direction.HIGHER


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name, function in vars(sklearn.metrics).items()
        if inspect.isfunction(function) and name.endswith(("_score", "_loss", "_error", "_deviance"))
    ),
)
def test_scores_rise_and_losses_fall(name: str) -> None:
    falls = name.endswith(("_loss", "_error", "_deviance")) or name == "davies_bouldin_score"
    assert direction(name) is (Direction.LOWER if falls else Direction.HIGHER)


def _shipped() -> dict[str, bool]:
    """Names of MLflow's own metrics that can be made without arguments, and whether greater is better."""
    found: dict[str, bool] = {}
    for make in vars(mlflow.metrics).values():
        if inspect.isfunction(make) and not any(
            p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in inspect.signature(make).parameters.values()
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = make()
            if isinstance(made, EvaluationMetric) and made.greater_is_better is not None:
                found[made.name] = made.greater_is_better
    return found


@pytest.mark.parametrize(("name", "rises"), sorted(_shipped().items()))
def test_mlflows_own_metrics(name: str, rises: bool) -> None:
    if name in SPREAD_AND_COUNTS:
        assert direction(name) is Direction.UNKNOWN
        return
    wanted = Direction.HIGHER if rises else Direction.LOWER
    assert {direction(name), direction(f"{name}/v1/mean"), direction(f"{name}/v1/p90")} == {wanted}
    assert direction(f"{name}/v1/variance") is Direction.UNKNOWN


def test_there_are_many_of_them() -> None:
    assert len(_shipped()) > 10
