"""`services.registry.Registry` on a real MLflow server: what is asked, and what the answers mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from services.domain import (
    Curve,
    LoggedModelFacts,
    ModelVersion,
    RegisteredModel,
    RunFacts,
    VersionRef,
)
from services.errors import BadInput, NotFound
from services.mlflow import entities as read
from services.mlflow.connection import ALL_RUNS
from services.mlflow.files import MlflowFiles
from services.mlflow.runs import RunWriting
from services.mlflow.witnessing import Witnessing

MODELS_PER_PAGE = 1000
VERSIONS_PER_PAGE = 2000
RUNS_PER_CALL = 200
MODELS_PER_CALL = 100
RUNS_PER_CURVE_CALL = 100
CURVES_PATH = "/api/2.0/mlflow/metrics/get-history-bulk-interval"
MODEL_PATH = "/api/2.0/mlflow/registered-models/get"
VERSION_PATH = "/api/2.0/mlflow/model-versions/get"
VERSIONS_PATH = "/api/2.0/mlflow/model-versions/search"
"""Read without MLflow's client, which needs more than twice as long where there are thousands of tags."""


class MlflowRegistry(MlflowFiles, RunWriting, Witnessing):
    """`services.registry.Registry` on a real MLflow server."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._experiment_ids: list[str] = []

    # ---- reading -------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Ask for one registered model: proves that server and database answer."""
        self._once(lambda: self._client.search_registered_models(max_results=1), "a sign of life")

    def model(self, name: str) -> RegisteredModel:
        """One registered model with aliases and the newest version of each stage."""
        what = f"the registered model {name}"
        return self._read(lambda: read.told_model(self._got(MODEL_PATH, {"name": name})["registered_model"]), what)

    def models(self, *, newest_first: bool = False) -> Iterator[list[RegisteredModel]]:
        """Every registered model, a page at a time; ``newest_first`` by last update instead of by name."""
        order = ["last_updated_timestamp DESC", "name ASC"] if newest_first else ["name ASC"]
        for page in self._pages(
            lambda token: self._client.search_registered_models(
                max_results=MODELS_PER_PAGE, order_by=order, page_token=token
            ),
            "the registered models",
        ):
            yield [read.model(model) for model in page]

    def version(self, ref: VersionRef) -> ModelVersion:
        """One model version as it is now."""
        asked = {"name": ref.name, "version": str(ref.version)}
        found = self._read(lambda: read.told_version(self._got(VERSION_PATH, asked)["model_version"]), str(ref))
        if found.is_prompt:
            raise NotFound(f"MLflow does not know {ref}.")
        return found

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """All versions of one registered model, oldest first."""
        query = f"name={_quoted(name)}"
        asked = {"filter": query, "max_results": VERSIONS_PER_PAGE}
        pages = self._pages(
            lambda token: read.Page.told(
                self._got(VERSIONS_PATH, {**asked, **({"page_token": token} if token else {})})
            ),
            f"the versions of {name}",
        )
        found = [version for page in pages for version in page.versions]
        return tuple(sorted((v for v in found if v.ref.name == name), key=lambda version: version.ref.version))

    def all_versions(self, *, newest_first: bool = False) -> Iterator[list[ModelVersion]]:
        """Every model version of the registry, a page at a time."""
        order = ["last_updated_timestamp DESC"] if newest_first else ["name ASC", "version_number ASC"]
        for page in self._pages(
            lambda token: self._client.search_model_versions(
                max_results=VERSIONS_PER_PAGE, order_by=order, page_token=token
            ),
            "the model versions",
        ):
            yield [read.version(version) for version in page]

    def run(self, run_id: str) -> RunFacts:
        """One run; a deleted one says so."""
        return read.run(self._read(lambda: self._client.get_run(run_id), f"the run {run_id}"))

    def runs(self, run_ids: Iterable[str]) -> dict[str, RunFacts]:
        """Many runs by id in one call for every 200 of them; those that no longer exist are left out."""
        wanted = list(dict.fromkeys(run_ids))
        found: dict[str, RunFacts] = {}
        for start in range(0, len(wanted), RUNS_PER_CALL):
            query = f"attributes.run_id IN ({','.join(map(_quoted, wanted[start : start + RUNS_PER_CALL]))})"
            page = self._searched(
                lambda experiments, query=query: self._client.search_runs(  # type: ignore[misc]
                    experiments, query, ALL_RUNS, max_results=RUNS_PER_CALL
                ),
                "runs",
                len(wanted[start : start + RUNS_PER_CALL]),
            )
            found |= {run.info.run_id: read.run(run) for run in page}
        return found

    def deployments(self, ref: VersionRef) -> tuple[RunFacts, ...]:
        """Runs with the params ``model_name`` and ``model_version`` of this version, newest first; 20 at most."""
        query = f"params.model_name = {_quoted(ref.name)} and params.model_version = '{ref.version}'"
        experiments = self._experiments(refresh=True)
        found = self._read(
            lambda: self._client.search_runs(experiments, query, max_results=20), f"the deployments of {ref}"
        )
        return tuple(read.run(run) for run in found)

    def _searched(self, search: Callable[[list[str]], Sequence[Any]], what: str, expected: int) -> Sequence[Any]:
        """What a search finds that must name experiments; they are listed again where fewer are found than expected."""
        known = self._experiment_ids
        found = self._read(lambda: search(known), what) if known else ()
        if len(found) < expected and (every := self._experiments(refresh=True)) != known:
            found = self._read(lambda: search(every), what)
        return found

    def _experiments(self, *, refresh: bool) -> list[str]:
        """Ids of all experiments: a search for runs or logged models must name them."""
        if refresh:
            self._experiment_ids = [
                experiment.experiment_id
                for page in self._pages(
                    lambda token: self._client.search_experiments(max_results=1000, page_token=token), "the experiments"
                )
                for experiment in page
            ]
        return self._experiment_ids

    def logged_model(self, model_id: str) -> LoggedModelFacts:
        """One logged model with its own metrics."""
        what = f"the logged model {model_id}"
        return read.logged_model(self._read(lambda: self._client.get_logged_model(model_id), what))

    def logged_models(self, model_ids: Iterable[str]) -> dict[str, LoggedModelFacts]:
        """Many logged models by id in one call for every 100 of them; those that no longer exist are left out."""
        wanted = list(dict.fromkeys(model_ids))
        found: dict[str, LoggedModelFacts] = {}
        for start in range(0, len(wanted), MODELS_PER_CALL):
            asked = wanted[start : start + MODELS_PER_CALL]
            query = f"model_id IN ({','.join(map(_quoted, asked))})"
            page = self._searched(
                lambda experiments, query=query: self._client.search_logged_models(  # type: ignore[misc]
                    experiments, query, max_results=MODELS_PER_CALL
                ),
                "logged models",
                len(asked),
            )
            found |= {model.model_id: read.logged_model(model) for model in page}
        return found

    def curves(self, run_ids: Iterable[str], metric: str, limit: int) -> dict[str, Curve]:
        """One metric of many runs over their steps in one call for every 100 runs.

        Of a longer curve MLflow gives ``limit`` values, evenly spread, with the first and the last.
        """
        wanted = list(dict.fromkeys(run_ids))
        points: dict[str, list[tuple[int, float]]] = {run_id: [] for run_id in wanted}
        for start in range(0, len(wanted), RUNS_PER_CURVE_CALL):
            asked = {"run_ids": wanted[start : start + RUNS_PER_CURVE_CALL], "metric_key": metric, "max_results": limit}
            what = f"the curves of {metric[:100]}"
            for point in self._read(lambda asked=asked: self._got(CURVES_PATH, asked), what).get("metrics", ()):  # type: ignore[misc]
                points[point["run_id"]].append((int(point.get("step", 0)), read.value(float(point["value"]))))
        return {run_id: tuple(sorted(found)) for run_id, found in points.items()}

    # ---- writing -------------------------------------------------------------------------------------------

    def set_stage(self, ref: VersionRef, stage: str, *, archive_existing: bool = False) -> None:
        """Move one version to a stage; ``archive_existing`` archives whatever else is there, in the same step."""
        self._write(
            lambda: self._models.transition_model_version_stage(
                ref.name, str(ref.version), stage, archive_existing_versions=archive_existing
            ),
            f"moving {ref} to {stage}",
        )

    def set_alias(self, ref: VersionRef, alias: str) -> None:
        """Point an alias at a version."""
        self._write(
            lambda: self._models.set_registered_model_alias(ref.name, alias, str(ref.version)),
            f"pointing alias {alias} at {ref}",
        )

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; no error when there is none."""
        self._write(lambda: self._models.delete_registered_model_alias(name, alias), f"removing alias {alias}")

    def set_tag(self, ref: VersionRef, key: str, value: str) -> None:
        """Write one tag of a version."""
        self._write(
            lambda: self._models.set_model_version_tag(ref.name, str(ref.version), key, value), f"tagging {ref}"
        )

    def delete_tag(self, ref: VersionRef, key: str) -> None:
        """Remove one tag of a version; no error when there is none."""
        self._write(lambda: self._models.delete_model_version_tag(ref.name, str(ref.version), key), f"tagging {ref}")


def _quoted(text: str) -> str:
    """A string literal of MLflow's search language, which has no escape for quotes."""
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    raise BadInput("MLflow cannot search for a name that holds both kinds of quotes.")
