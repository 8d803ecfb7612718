"""Runs that Signoff writes into MLflow: begun empty, completed with what the record already holds, or given up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from services.errors import FilesUnreadable
from services.mlflow.connection import MlflowConnection, entities
from services.registry import RunContents

METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100
MAX_SOURCE = 4000
NO_ARTIFACTS = "signoff.artifacts"
"""The tag of a run whose artifacts could not be stored."""


class RunWriting(MlflowConnection):
    """The part of `services.registry.Registry` that writes runs. All of it may be repeated with the same contents."""

    def begin_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Create a run without any figures; returns its id."""

        def create() -> str:
            found = self._client.get_experiment_by_name(experiment)
            experiment_id = found.experiment_id if found else self._client.create_experiment(experiment)
            return str(self._client.create_run(experiment_id, run_name=name, tags=dict(tags)).info.run_id)

        return self._once(create, f"a run in {experiment}")

    def complete_run(self, run_id: str, contents: RunContents) -> None:
        """Log everything, and end the run as finished; the figures come last but for that.

        Where the artifacts cannot be stored from here, the tag `NO_ARTIFACTS` says why, and the figures are logged.
        """
        self._once(lambda: self._log_input(run_id, contents), f"the data set of run {run_id}")
        if why := self._stored(run_id, contents):
            contents = replace(contents, tags={**contents.tags, NO_ARTIFACTS: why})
        self._once(lambda: self._log_figures(run_id, contents), f"the figures of run {run_id}")
        self._once(lambda: self._client.set_terminated(run_id, "FINISHED"), f"the end of run {run_id}")

    def abandon_run(self, run_id: str) -> None:
        """End a run as failed; what it holds stays as it is."""
        self._once(lambda: self._client.set_terminated(run_id, "FAILED"), f"the end of run {run_id}")

    def _log_input(self, run_id: str, contents: RunContents) -> None:
        data = contents.dataset
        logged = entities.Dataset(
            name=data.name,
            digest=data.digest,
            source_type="local",
            source=json.dumps({"uri": data.source[:MAX_SOURCE]}),
        )
        context = entities.InputTag("mlflow.data.context", data.context)
        self._client.log_inputs(
            run_id,
            datasets=[entities.DatasetInput(logged, [context])],
            models=[entities.LoggedModelInput(model_id) for model_id in contents.models],
        )

    def _stored(self, run_id: str, contents: RunContents) -> str:
        """Log the artifacts; returns why they cannot be stored from here, in words."""
        what = f"the artifacts of run {run_id}"
        uri = str(self._read(lambda: self._client.get_run(run_id), what).info.artifact_uri)
        if self._proxied(uri):
            self._once(lambda: self._log_artifacts(run_id, contents), what)
            return ""
        try:
            self._outside(lambda: self._log_artifacts(run_id, contents), uri, what)
        except FilesUnreadable as error:
            return str(error)
        return ""

    def _log_artifacts(self, run_id: str, contents: RunContents) -> None:
        for name, text in contents.documents.items():
            self._client.log_text(run_id, text, name)
        for picture in contents.pictures:
            self._client.log_artifact(run_id, str(picture), "pictures")

    def _log_figures(self, run_id: str, contents: RunContents) -> None:
        moment = int(contents.at.timestamp() * 1000)
        metrics = [entities.Metric(name, value, moment, 0) for name, value in contents.metrics.items()]
        params = [entities.Param(name, value) for name, value in contents.params.items()]
        tags = [entities.RunTag(name, value) for name, value in contents.tags.items()]
        for start in range(0, len(metrics), METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_CALL])
        self._client.log_batch(run_id, params=params[:PARAMS_PER_CALL], tags=tags)
