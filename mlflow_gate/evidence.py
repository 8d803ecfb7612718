"""Runs, logged models and experiments: asks before what a registered version names, or what is Signoff's own, changes.

Everything else costs one look into MLflow's own table of versions, and asks nobody: training logs thousands of metrics.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from mlflow.entities import RunStatus
from mlflow.store.tracking.dbmodels.models import SqlLoggedModel, SqlRun
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS
from mlflow.utils.time import get_current_time_millis

from mlflow_gate.files import Files

JUST_NOW_MS = 10 * 60 * 1000
"""How far a client's clock may be from ours."""


class GatedTracking:
    """Mixed in before MLflow's tracking store; ``files`` is set when that is done."""

    files: Files

    # ---- runs ----------------------------------------------------------------------------------------------

    def log_metric(self, run_id: str, metric: Any) -> None:
        self._written(f"The metric {_quoted(metric.key)}", run_id, _models_of([metric]))
        super().log_metric(run_id, metric)  # type: ignore[misc]

    def log_param(self, run_id: str, param: Any) -> None:
        self._written(f"The parameter {_quoted(param.key)}", run_id)
        super().log_param(run_id, param)  # type: ignore[misc]

    def set_tag(self, run_id: str, tag: Any) -> None:
        self._written(f"The tag {_quoted(tag.key)}", run_id)
        super().set_tag(run_id, tag)  # type: ignore[misc]

    def delete_tag(self, run_id: str, key: str) -> None:
        self._written(f"The tag {_quoted(key)}", run_id)
        super().delete_tag(run_id, key)  # type: ignore[misc]

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        self._written(_batch(metrics, params, tags), run_id, _models_of(metrics))
        super().log_batch(run_id, metrics, params, tags)  # type: ignore[misc]

    def log_batch_async(self, run_id: str, metrics: Any, params: Any, tags: Any) -> Any:
        """Its queue holds the method of MLflow's that was there before us."""
        self._written(_batch(metrics, params, tags), run_id, _models_of(metrics))
        return super().log_batch_async(run_id, metrics, params, tags)  # type: ignore[misc]

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        self._written("An input", run_id)
        super().log_inputs(run_id, datasets, models)  # type: ignore[misc]

    def log_outputs(self, run_id: str, models: Any) -> None:
        self._written("An output", run_id)
        super().log_outputs(run_id, models)  # type: ignore[misc]

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        self._written("A model", run_id)
        super().record_logged_model(run_id, mlflow_model)  # type: ignore[misc]

    def update_run_info(self, run_id: str, run_status: Any, end_time: Any, run_name: Any) -> Any:
        self.files.own.require_run(f"The status, end or name of the run {run_id}", run_id)
        concerned = self.files.locations.naming(self.files.registry, runs=[run_id])
        if concerned and not self._ends(run_id, run_status, end_time, run_name):
            self.files.ask("evidence_written", concerned, f"The status, end or name of the run {run_id}")
        return super().update_run_info(run_id, run_status, end_time, run_name)  # type: ignore[misc]

    def _ends(self, run_id: str, run_status: Any, end_time: int | None, run_name: str | None) -> bool:
        """Whether a run that is under way ends now: a script may submit before its run is over.

        A time alone is no end: the run would be under way still, and whoever trains it could not end it any more.
        """
        info = self.get_run(run_id).info  # type: ignore[attr-defined]
        under_way = info.end_time is None and info.status == RunStatus.to_string(RunStatus.RUNNING)
        now = end_time is not None and abs(end_time - get_current_time_millis()) <= JUST_NOW_MS
        over = run_status is not None and RunStatus.is_terminated(run_status)
        return under_way and over and now and run_name in (None, "", info.run_name)

    def delete_run(self, run_id: str) -> None:
        self.files.own.require_run(f"The run {run_id}", run_id)
        run = self.get_run(run_id)  # type: ignore[attr-defined]
        self._deleted(run.info.artifact_uri, f"The run {run_id}", runs=[run_id])
        super().delete_run(run_id)  # type: ignore[misc]

    def create_run(self, experiment_id: str, *args: Any, **kwargs: Any) -> Any:
        self.files.own.require_experiment(f"A run of the experiment {experiment_id}", experiment_id)
        return super().create_run(experiment_id, *args, **kwargs)  # type: ignore[misc]

    def restore_run(self, run_id: str) -> None:
        self.files.own.require_run(f"The run {run_id}", run_id)
        super().restore_run(run_id)  # type: ignore[misc]

    # ---- logged models -------------------------------------------------------------------------------------

    def create_logged_model(
        self, experiment_id: str, name: str | None = None, source_run_id: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        self.files.own.require_experiment(f"A logged model of the experiment {experiment_id}", experiment_id)
        if source_run_id:
            concerned = self.files.locations.naming(self.files.registry, runs=[source_run_id])
            called = f" {_quoted(name)}" if name else ""
            self.files.ask("logged_model_created", concerned, f"A logged model{called} of the run {source_run_id}")
        return super().create_logged_model(  # type: ignore[misc]
            experiment_id, name, source_run_id, *args, **kwargs
        )

    def finalize_logged_model(self, model_id: str, status: Any) -> Any:
        self._written("The status", None, [model_id])
        return super().finalize_logged_model(model_id, status)  # type: ignore[misc]

    def log_logged_model_params(self, model_id: str, params: Any) -> None:
        self._written("A parameter", None, [model_id])
        super().log_logged_model_params(model_id, params)  # type: ignore[misc]

    def set_logged_model_tags(self, model_id: str, tags: Any) -> None:
        """Where it is registered is MLflow's own note, which it makes with each new version, and free.

        It is free as a list, as MLflow's client cannot register the model again while it is anything else.
        """
        if keys := [tag.key for tag in tags if tag.key != MLFLOW_MODEL_VERSIONS or not _listed(tag.value)]:
            self._written(f"The tag {_quoted(keys[0])}", None, [model_id])
        super().set_logged_model_tags(model_id, tags)  # type: ignore[misc]

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        self._written(f"The tag {_quoted(key)}", None, [model_id])
        super().delete_logged_model_tag(model_id, key)  # type: ignore[misc]

    def delete_logged_model(self, model_id: str) -> None:
        model = self.get_logged_model(model_id)  # type: ignore[attr-defined]
        self._deleted(model.artifact_location, f"The logged model {model_id}", logged=[model_id])
        super().delete_logged_model(model_id)  # type: ignore[misc]

    # ---- experiments ---------------------------------------------------------------------------------------

    def delete_experiment(self, experiment_id: str) -> None:
        """MLflow deletes its runs with it, wherever their files are."""
        experiment = self.get_experiment(experiment_id)  # type: ignore[attr-defined]
        self.files.own.require_experiment(f"The experiment {_quoted(experiment.name)}", experiment_id)
        with self.ManagedSessionMaker() as session:  # type: ignore[attr-defined]
            mine = {"experiment_id": int(experiment.experiment_id)}
            runs = session.execute(sa.select(SqlRun.run_uuid).filter_by(**mine)).scalars().all()
            logged = session.execute(sa.select(SqlLoggedModel.model_id).filter_by(**mine)).scalars().all()
        what = f"The experiment {_quoted(experiment.name)}"
        self._deleted(experiment.artifact_location, what, runs=runs, logged=logged)
        super().delete_experiment(experiment_id)  # type: ignore[misc]

    def create_experiment(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self.files.own.require_name(f"An experiment called {_quoted(name)}", name)
        return super().create_experiment(name, *args, **kwargs)  # type: ignore[misc]

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        self.files.own.require_experiment(f"The name of the experiment {experiment_id}", experiment_id)
        self.files.own.require_name(f"An experiment called {_quoted(new_name)}", new_name)
        super().rename_experiment(experiment_id, new_name)  # type: ignore[misc]

    def restore_experiment(self, experiment_id: str) -> None:
        self.files.own.require_experiment(f"The experiment {experiment_id}", experiment_id)
        super().restore_experiment(experiment_id)  # type: ignore[misc]

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        self.files.own.require_experiment(
            f"The tag {_quoted(tag.key)} of the experiment {experiment_id}", experiment_id
        )
        super().set_experiment_tag(experiment_id, tag)  # type: ignore[misc]

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        self.files.own.require_experiment(f"The tag {_quoted(key)} of the experiment {experiment_id}", experiment_id)
        super().delete_experiment_tag(experiment_id, key)  # type: ignore[misc]

    # ---- asking --------------------------------------------------------------------------------------------

    def _written(self, what: str, run_id: str | None, logged: Iterable[str] = ()) -> None:
        logged = list(logged)
        if run_id:
            self.files.own.require_run(f"{what} of the run {run_id}", run_id)
        concerned = self.files.locations.naming(self.files.registry, runs=[run_id] if run_id else [], logged=logged)
        whose = f"the run {run_id}" if run_id else f"the logged model {logged[0]}"
        self.files.ask("evidence_written", concerned, f"{what} of {whose}")

    def _deleted(self, uri: str, what: str, *, runs: Iterable[str] = (), logged: Iterable[str] = ()) -> None:
        self.files.require(self.files.root(uri), deleted=True, what=what)
        concerned = self.files.locations.naming(self.files.registry, runs=runs, logged=logged)
        self.files.ask("evidence_deleted", concerned, what)


def _models_of(metrics: Iterable[Any]) -> list[str]:
    """Logged models that metrics of a run are written to as well."""
    return sorted({metric.model_id for metric in metrics if metric.model_id})


def _batch(metrics: Iterable[Any], params: Iterable[Any], tags: Iterable[Any]) -> str:
    keys = [one.key for one in (*metrics, *params, *tags)]
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{_quoted(keys[0])}{more}" if keys else "Nothing"


def _listed(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except (ValueError, RecursionError):
        return False


def _quoted(text: object) -> str:
    shown = str(text)
    return json.dumps(shown if len(shown) <= 100 else f"{shown[:99]}…", ensure_ascii=False)
