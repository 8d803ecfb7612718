"""Train and register every recipe that is not registered yet, the way anyone would: through MLflow's public API."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed
from time import time

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.models.model import ModelInfo
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from stack.sample.data import Split, Task, split
from stack.sample.evaluation import latency, picture, report, scores, trained
from stack.sample.recipes import MODELS, Recipe, SampleModel

AUTHOR = "scientist"
KEY = "sample"
"""The tag on runs and versions that names the recipe; by it a second start knows what is there already."""

TREE_MODULES = ("sklearn.tree", "sklearn.ensemble")
TREES = ["sklearn.tree._tree.Tree"]
"""scikit-learn's own tree type, which skops wants named before it is read back."""

REQUIREMENTS = [f"{name}=={installed(name)}" for name in ("mlflow", "scikit-learn", "skops", "pandas", "numpy")]
"""Given, because MLflow takes six seconds a model to find out by itself."""


def train(uri: str, name: str) -> Iterator[str]:
    """Complete one registered model on the server at ``uri``; yields a line of progress for each version made.

    May be killed at any moment and called again: a version is registered in one last step, and what an
    unregistered run left behind is deleted before the recipe is tried again.
    """
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    (model,) = (model for model in MODELS if model.name == name)
    done = _registered(client, name)
    experiment = _experiment(client, model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*integer column")  # whole numbers may be missing later; not here
        for version, recipe in enumerate(model.versions, start=1):
            if _key(model, version) not in done:
                _forget_attempts(client, experiment, _key(model, version))
                result = _make(client, model, version, experiment)
                yield f"{name} v{version} of {len(model.versions)} · {recipe.title} · {result}"


def _key(model: SampleModel, version: int) -> str:
    return f"{model.name}/{version}"


def _registered(client: MlflowClient, name: str) -> set[str]:
    return {found.tags.get(KEY, "") for found in client.search_model_versions(f"name = '{name}'", max_results=1000)}


def _experiment(client: MlflowClient, model: SampleModel) -> str:
    found = client.get_experiment_by_name(model.name)
    return found.experiment_id if found else client.create_experiment(model.name, tags={"owner": model.owner})


def _forget_attempts(client: MlflowClient, experiment: str, key: str) -> None:
    for run in client.search_runs([experiment], f"tags.{KEY} = '{key}'"):
        client.delete_run(run.info.run_id)


def _make(client: MlflowClient, model: SampleModel, version: int, experiment: str) -> str:
    recipe = model.versions[version - 1]
    data = split(model.source, other=recipe.other_data)
    tags = {
        KEY: _key(model, version),
        "mlflow.user": AUTHOR,
        "mlflow.source.name": "train.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": recipe.notes,
    }
    name = f"{recipe.title.replace(',', '').replace(' ', '-')}-{version}"
    with mlflow.start_run(experiment_id=experiment, run_name=name, tags=tags) as run:
        result, logged = _train(client, run.info.run_id, model.source.task, recipe, data)
    _register(client, model, version, run.info.run_id, logged)
    return result


def _train(client: MlflowClient, run_id: str, task: Task, recipe: Recipe, data: Split) -> tuple[str, ModelInfo]:
    seen, unseen = data.train.features(recipe.columns), data.holdout.features(recipe.columns)
    datasets = [data.train.dataset, data.holdout.dataset]
    mlflow.log_inputs(datasets=datasets, contexts=["training", "eval"], tags_list=[None, None])
    estimator, curve = trained(
        task, recipe.curve, recipe.estimator, (seen, data.train.target), (unseen, data.holdout.target)
    )
    params = _params(estimator, seen)
    logged = mlflow.sklearn.log_model(
        estimator,
        name="model",
        params=params,
        signature=infer_signature(seen, estimator.predict(seen)) if recipe.signature else False,
        input_example=unseen.head(3) if recipe.signature else None,
        pip_requirements=REQUIREMENTS,
        skops_trusted_types=TREES if type(estimator).__module__.startswith(TREE_MODULES) else None,
    )
    client.log_batch(run_id, params=[Param(name, value) for name, value in params.items()])
    if not recipe.evaluated:
        return "not evaluated", logged
    # After log_model, which would copy what the run has measured so far into the logged model, value by value.
    client.log_batch(run_id, metrics=list(_curve_metrics(curve)))
    found = scores(task, estimator, unseen, data.holdout.target) | {"latency_ms": latency(estimator, unseen)}
    mlflow.log_metrics(found, dataset=data.holdout.dataset, model_id=logged.model_id)
    name, figure = picture(task, estimator, unseen, data.holdout.target)
    mlflow.log_figure(figure, name)
    mlflow.log_dict(report(task, estimator, unseen, data.holdout.target), "evaluation.json")
    first, value = next(iter(found.items()))
    return f"{first} {value:.3f}", logged


def _curve_metrics(curve: list[tuple[int, float, float]]) -> Iterator[Metric]:
    now = int(time() * 1000)
    for step, train, validation in curve:
        yield Metric("train_loss", train, now, step)
        yield Metric("val_loss", validation, now, step)


def _params(estimator: BaseEstimator, features: pd.DataFrame) -> dict[str, str]:
    steps = [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    settings = {name: value for name, value in steps[-1].get_params().items() if value is not None}
    return {
        "estimator": " + ".join(type(step).__name__ for step in steps),
        "columns": str(features.shape[1]),
        "training_rows": str(len(features)),
        **{name: str(value) for name, value in sorted(settings.items())},
    }


def _register(client: MlflowClient, model: SampleModel, version: int, run_id: str, logged: ModelInfo) -> None:
    if version == 1:
        tags = {"owner": model.owner, "task": model.source.task.value}
        with _kept_if_there():
            client.create_registered_model(model.name, tags=tags, description=model.description)
    client.create_model_version(
        model.name,
        source=logged.model_uri,
        run_id=run_id,
        model_id=logged.model_id,
        tags={KEY: _key(model, version)},
        description=model.versions[version - 1].notes,
        await_creation_for=0,
    )


@contextmanager
def _kept_if_there() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
