"""One contract for the MLflow adapter on a real server and for the in-memory fake."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from services.checks.data_sets import HOW_TO_NAME_IT
from services.domain import Dataset, ModelVersion, VersionRef
from services.errors import BadInput, NotFound, RegistryUnavailable, UnreadableModel
from services.evidence import Evidence
from services.mlflow.artifacts import described
from services.mlflow.registry import MlflowRegistry
from services.registry import Registry, RunContents
from tests.conftest import free_port
from tests.fakes import START, FakeRegistry


@dataclass
class World:
    """A registry under test and the way to put a version into it, as a training job would."""

    registry: Registry
    add_version: Callable[..., VersionRef]


class _Constant(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[float]) -> list[float]:
        return [0.0 for _ in model_input]


def train(uri: str, name: str, metrics: dict[str, float]) -> VersionRef:
    """Register a real, tiny model with metrics on a data set, through MLflow's public API."""
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run(run_name="run-1"):
        info = mlflow.pyfunc.log_model(
            name="model", python_model=_Constant(), input_example=[1.0, 2.0], pip_requirements=["mlflow"]
        )
        data = mlflow.data.from_dict({"x": [1.0, 2.0]}, name="holdout") if hasattr(mlflow.data, "from_dict") else None
        if data is not None:
            mlflow.log_input(data, context="eval")
        for key, value in metrics.items():
            mlflow.log_metric(key, value)
        found = mlflow.register_model(info.model_uri, name)
    return VersionRef(name=name, version=int(found.version))


@pytest.fixture(params=["fake", "mlflow"])
def world(request: pytest.FixtureRequest) -> World:
    """The same tests run on both."""
    if request.param == "fake":
        fake = FakeRegistry()
        return World(registry=fake, add_version=fake.add_version)
    uri = request.getfixturevalue("mlflow_server")
    return World(registry=MlflowRegistry(uri), add_version=lambda name, metrics: train(uri, name, metrics))


@pytest.fixture
def name() -> str:
    """A model name of its own: the server is shared."""
    return f"model_{uuid4().hex[:8]}"


class TestContract:
    def test_a_version_is_read_with_its_run(self, world: World, name: str) -> None:
        ref = world.add_version(name, {"val_auc": 0.9, "odd": math.nan})
        version = world.registry.version(ref)
        assert version.ref == ref
        assert (version.stage, version.ready) == ("None", True)
        assert version.run_id
        run = world.registry.run(version.run_id)
        assert run.metrics["val_auc"].value == 0.9
        assert not run.metrics["odd"].usable
        assert set(world.registry.runs([version.run_id, "0" * 32])) == {version.run_id}
        assert world.registry.curves([version.run_id], "val_auc", 10) == {version.run_id: ((0, 0.9),)}
        assert world.registry.curves([version.run_id], "none such", 10) == {version.run_id: ()}

    def test_stages_aliases_and_tags_are_written_and_read_back(self, world: World, name: str) -> None:
        first, second = (world.add_version(name, {"val_auc": 0.9}) for _ in range(2))
        registry = world.registry
        registry.set_stage(first, "Production")
        registry.set_alias(first, "champion")
        registry.set_stage(second, "Production", archive_existing=True)
        registry.set_alias(second, "champion")
        registry.set_tag(second, "promoted_by", "me")
        assert [version.stage for version in registry.versions(name)] == ["Archived", "Production"]
        assert registry.model(name).aliases == {"champion": 2}
        assert registry.version(second).tags["promoted_by"] == "me"
        registry.delete_alias(name, "champion")
        registry.delete_alias(name, "champion")
        registry.delete_tag(second, "promoted_by")
        assert registry.model(name).aliases == {}
        assert "promoted_by" not in registry.version(second).tags

    def test_everything_is_listed_by_name_or_newest_first(self, world: World, name: str) -> None:
        old, new = world.add_version(f"{name}_a", {}), world.add_version(f"{name}_b", {})
        by_name = [model.name for page in world.registry.models() for model in page]
        assert by_name == sorted(by_name)
        newest = [model.name for page in world.registry.models(newest_first=True) for model in page]
        assert newest.index(new.name) < newest.index(old.name)
        versions = [version.ref for page in world.registry.all_versions(newest_first=True) for version in page]
        assert versions.index(new) < versions.index(old)

    def test_the_manifest_has_every_file_and_stays_the_same(self, world: World, name: str) -> None:
        ref = world.add_version(name, {})
        manifest = world.registry.manifest(ref)
        assert "MLmodel" in {file.path for file in manifest.files}
        assert manifest.digest == world.registry.manifest(ref).digest
        sizes = {(entry.path, entry.size) for entry in world.registry.listing(ref)}
        assert sizes == {(file.path, file.size) for file in manifest.files}
        assert manifest.signature

    def test_one_file_of_a_version_is_read_within_bounds(self, world: World, name: str) -> None:
        ref = world.add_version(name, {})
        before = world.registry.calls
        said = described(ref, world.registry.version_file(ref, "MLmodel", 100_000))
        assert world.registry.calls == before + 1
        assert said.signature == world.registry.manifest(ref).signature
        assert said.signature
        with pytest.raises(NotFound):
            world.registry.version_file(ref, "none such", 1000)
        with pytest.raises(UnreadableModel, match="more in MLmodel"):
            world.registry.version_file(ref, "MLmodel", 10)

    def test_files_are_fetched_with_the_manifest_of_what_was_written(
        self, world: World, name: str, tmp_path: Path
    ) -> None:
        ref = world.add_version(name, {})
        manifest = world.registry.fetch(ref, tmp_path, max_bytes=10_000_000)
        assert manifest == world.registry.manifest(ref)
        for file in manifest.files:
            assert hashlib.sha256((tmp_path / file.path).read_bytes()).hexdigest() == file.sha256
        with pytest.raises(BadInput, match="at most 10"):
            world.registry.fetch(ref, tmp_path / "other", max_bytes=10)
        assert not (tmp_path / "other").exists()

    def test_a_run_of_ours_is_begun_empty_and_completed_once_whatever_is_repeated(
        self, world: World, name: str, tmp_path: Path
    ) -> None:
        run_id = world.registry.begin_run(f"validations {name}", "v2 against v1", {"signoff.candidate": "m/v2"})
        begun = world.registry.run(run_id)
        assert (begun.status, begun.metrics, begun.tags["signoff.candidate"]) == ("RUNNING", {}, "m/v2")
        (picture := tmp_path / "roc.png").write_bytes(b"not really a picture")
        contents = RunContents(
            at=datetime(2026, 11, 25, tzinfo=UTC),
            metrics={"candidate_roc_auc": 0.97, "current_roc_auc": 0.95},
            params={"rows": "114"},
            tags={"signoff.event": "7:abc"},
            dataset=Dataset(name="holdout", digest="12345678", context="eval", source="upload:holdout.csv"),
            documents={"report.json": "{}"},
            pictures=(picture,),
        )
        for _ in range(2):
            world.registry.complete_run(run_id, contents)
        found = world.registry.run(run_id)
        assert {metric.name: metric.value for metric in found.metrics.values()} == contents.metrics
        assert (found.status, found.params["rows"], found.tags["signoff.event"]) == ("FINISHED", "114", "7:abc")
        assert found.datasets == (contents.dataset,)
        assert found.datasets[0].source == "upload:holdout.csv"
        given_up = world.registry.begin_run(f"validations {name}", "v3 against v1", {})
        world.registry.abandon_run(given_up)
        assert (world.registry.run(given_up).status, world.registry.run(given_up).metrics) == ("FAILED", {})

    def test_what_does_not_exist_is_not_found(self, world: World, name: str) -> None:
        world.add_version(name, {})
        for read in (
            lambda: world.registry.model("no such model"),
            lambda: world.registry.version(VersionRef(name=name, version=99)),
            lambda: world.registry.run("0" * 32),
        ):
            with pytest.raises(NotFound):
                read()
        assert world.registry.versions("<img src=x onerror=alert(1)>") == ()

    def test_a_checkpoint_is_written_once_and_for_ever(self, world: World) -> None:
        ledger = uuid4().hex
        for _ in range(2):
            world.registry.witness(ledger, "checkpoint-1", '{"one":1}')
        world.registry.witness(ledger, "checkpoint-2", "x" * 1000)
        with pytest.raises(BadInput, match="does not accept"):
            world.registry.witness(ledger, "checkpoint-1", "something else")
        held = {w.name: w.text for w in world.registry.witnesses() if w.ledger == ledger and w.active}
        assert held == {"checkpoint-1": '{"one":1}', "checkpoint-2": "x" * 1000}

    def test_every_request_is_counted(self, world: World, name: str) -> None:
        ref = world.add_version(name, {})
        before = world.registry.calls
        world.registry.version(ref)
        world.registry.model(name)
        assert world.registry.calls == before + 2


class TestMlflowOnly:
    def test_many_logged_models_are_one_call(self, mlflow_server: str, name: str) -> None:
        registry = MlflowRegistry(mlflow_server)
        refs = [train(mlflow_server, name, {"val_auc": value}) for value in (0.8, 0.9)]
        ids = [registry.version(ref).model_id or "" for ref in refs]
        registry.logged_models(ids)  # lists the experiments first
        before = registry.calls
        found = registry.logged_models([*ids])
        assert registry.calls == before + 1
        assert found == {model_id: registry.logged_model(model_id) for model_id in ids}
        assert set(registry.logged_models([*ids, "m-" + "0" * 32])) == set(ids)

    def test_a_run_in_an_experiment_that_is_new_is_found(self, mlflow_server: str, name: str) -> None:
        registry = MlflowRegistry(mlflow_server)
        registry.runs(["0" * 32])
        mlflow.set_tracking_uri(mlflow_server)
        with mlflow.start_run(experiment_id=mlflow.create_experiment(name)) as run:
            pass
        assert set(registry.runs([run.info.run_id])) == {run.info.run_id}

    def test_a_long_curve_is_thinned_with_its_first_and_its_last_value(self, mlflow_server: str, name: str) -> None:
        client = MlflowClient(mlflow_server)
        run_id = client.create_run(client.create_experiment(name)).info.run_id
        for start in range(0, 2000, 1000):
            steps = range(start, start + 1000)
            client.log_batch(run_id, metrics=[Metric("loss", 1 / (1 + step), 0, step) for step in steps])
        registry = MlflowRegistry(mlflow_server)
        before = registry.calls
        found = registry.curves([run_id], "loss", 300)[run_id]
        assert registry.calls == before + 1
        assert len(found) == 300
        assert (found[0], found[-1]) == ((0, 1.0), (1999, 1 / 2000))
        assert all(value == pytest.approx(1 / (1 + step)) for step, value in found)

    def test_a_dead_server_is_unavailable_and_says_so_quickly(self) -> None:
        with pytest.raises(RegistryUnavailable, match="did not give a usable answer"):
            MlflowRegistry(f"http://127.0.0.1:{free_port()}").ping()

    def test_a_name_with_both_quotes_cannot_be_searched(self, mlflow_server: str) -> None:
        with pytest.raises(BadInput):
            MlflowRegistry(mlflow_server).versions("a'b\"c")

    def test_a_deleted_run_is_not_found(self, mlflow_server: str, name: str) -> None:
        registry = MlflowRegistry(mlflow_server)
        run_id = registry.version(train(mlflow_server, name, {})).run_id
        assert run_id
        MlflowClient(mlflow_server).delete_run(run_id)
        with pytest.raises(NotFound, match="deleted"):
            registry.run(run_id)

    def test_a_deleted_run_still_witnesses_and_the_next_checkpoint_gets_another(self, mlflow_server: str) -> None:
        registry, ledger, client = MlflowRegistry(mlflow_server), uuid4().hex, MlflowClient(mlflow_server)
        registry.witness(ledger, "checkpoint-1", "one")
        experiment = client.get_experiment_by_name("signoff-ledger")
        (run,) = client.search_runs([experiment.experiment_id], f"tags.`signoff.ledger` = '{ledger}'")
        client.delete_run(run.info.run_id)
        registry.witness(ledger, "checkpoint-2", "two")
        held = {(w.name, w.active) for w in registry.witnesses() if w.ledger == ledger}
        assert held == {("checkpoint-1", False), ("checkpoint-2", True)}

    def test_a_full_run_is_followed_by_another(self, mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("services.mlflow.registry.WITNESSES_PER_RUN", 2)
        registry, ledger = MlflowRegistry(mlflow_server), uuid4().hex
        for number in range(5):
            registry.witness(ledger, f"checkpoint-{number}", str(number))
        assert len([w for w in registry.witnesses() if w.ledger == ledger]) == 5

    def test_the_lifecycle_documents_deployment_run_is_found(self, mlflow_server: str, name: str) -> None:
        ref = train(mlflow_server, name, {})
        mlflow.set_tracking_uri(mlflow_server)
        with mlflow.start_run(run_name="deploy"):
            mlflow.log_param("model_name", name)
            mlflow.log_param("model_version", ref.version)
            mlflow.log_metric("deployment_latency_ms", 245)
            mlflow.set_tag("deployment_env", "EKS")
        (found,) = MlflowRegistry(mlflow_server).deployments(ref)
        assert found.tags["deployment_env"] == "EKS"
        assert found.metrics["deployment_latency_ms"].value == 245


def test_the_two_lines_that_a_refusal_shows_name_the_holdout_of_a_run(mlflow_server: str) -> None:
    first, second = re.findall("`(.+?)`", HOW_TO_NAME_IT)
    mlflow.set_tracking_uri(mlflow_server)
    with mlflow.start_run() as run:
        exec(f"{first}\n{second}", {"mlflow": mlflow, "df": pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})})
        mlflow.log_metric("val_auc", 0.95)
    found = MlflowRegistry(mlflow_server).run(run.info.run_id)
    version = ModelVersion(ref=VersionRef(name="m", version=1), created_at=START, updated_at=START)
    (dataset,) = Evidence(version=version, run=found).holdout
    assert dataset.name == "holdout"
    assert dataset.digest
