"""One contract for the MLflow adapter on a real server and for the in-memory fake."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from services.checks.data_sets import HOW_TO_NAME_IT
from services.domain import Dataset, MetricSource, ModelVersion, VersionRef, WitnessRun
from services.errors import BadInput, FilesUnreadable, NotFound, RegistryUnavailable, UnreadableModel
from services.evidence import Evidence
from services.mlflow import entities
from services.mlflow.artifacts import described
from services.mlflow.registry import MlflowRegistry
from services.place import PlaceKind, foreign_run
from services.policy import PolicyBook
from services.reading import Reader
from services.registry import Registry, RunContents
from services.settings import PROJECT
from services.views.diagnosis import Cause, diagnose
from tests.conftest import free_port
from tests.fakes import START, FakeRegistry

BUCKET = "s3://bucket/model"


@dataclass
class World:
    """A registry under test and the way to put a version into it, as a training job would."""

    registry: Registry
    add_version: Callable[..., VersionRef]
    hide_files: Callable[[str], VersionRef]
    """Registers a version under this name whose source, ``s3://bucket/model``, nobody here can read."""


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
        return World(registry=fake, add_version=fake.add_version, hide_files=lambda name: _hidden(fake, name))
    uri = request.getfixturevalue("mlflow_server")
    return World(
        registry=MlflowRegistry(uri),
        add_version=lambda name, metrics: train(uri, name, metrics),
        hide_files=lambda name: registered(uri, name, BUCKET),
    )


def _hidden(fake: FakeRegistry, name: str) -> VersionRef:
    ref = fake.add_version(name, {})
    fake.hide_files(ref, BUCKET, "the Python package boto3 is not installed")
    return ref


def registered(uri: str, name: str, source: str, **more: str) -> VersionRef:
    """A version as a client names it, without training anything."""
    client = MlflowClient(uri)
    with contextlib.suppress(MlflowException):
        client.create_registered_model(name)
    return VersionRef(name=name, version=int(client.create_model_version(name, source, **more).version))


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

    def test_the_place_of_its_files_is_the_logged_model_that_its_run_made(self, world: World, name: str) -> None:
        version = world.registry.version(world.add_version(name, {}))
        place = world.registry.place(version)
        assert (place.kind, place.run_id, place.path, place.others) == (PlaceKind.LOGGED_MODEL, version.run_id, "", ())
        assert place.id == version.source.removeprefix("models:/")
        assert not place.guarded
        assert "no hook" in place.unguarded_because

    def test_files_in_a_store_that_nobody_here_can_read_say_what_is_missing(
        self, world: World, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for library in ("boto3", "botocore"):
            monkeypatch.setitem(sys.modules, library, None)
        ref = world.hide_files(name)
        registry = world.registry
        for read in (
            lambda: registry.listing(ref),
            lambda: registry.manifest(ref),
            lambda: registry.fetch(ref, tmp_path, max_bytes=10),
            lambda: registry.version_file(ref, "MLmodel", 10),
        ):
            with pytest.raises(FilesUnreadable, match=f"cannot be read from {BUCKET}: the Python package boto3 is not"):
                read()
        place = registry.place(registry.version(ref))
        assert (place.kind, place.uri, place.guarded) == (PlaceKind.ELSEWHERE, BUCKET, False)

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
        opened = world.registry.open_witness(ledger)
        assert (opened.ledger, opened.active, opened.texts) == (ledger, True, {})
        for _ in range(2):
            world.registry.witness(opened.run, "checkpoint-1", '{"one":1}')
        world.registry.witness(opened.run, "checkpoint-2", "x" * 1000)
        with pytest.raises(BadInput, match="does not accept"):
            world.registry.witness(opened.run, "checkpoint-1", "something else")
        (held,) = (one for one in world.registry.witnesses([opened.experiment]) if one.run == opened.run)
        assert held.texts == {"checkpoint-1": '{"one":1}', "checkpoint-2": "x" * 1000}
        assert replace(held, texts={}) == opened
        assert world.registry.witness_run(opened.run) == held

    def test_another_run_for_checkpoints_is_opened_in_the_experiment_that_is_named(self, world: World) -> None:
        first, second = (world.registry.open_witness(uuid4().hex) for _ in range(2))
        assert second.experiment == first.experiment
        third = world.registry.open_witness(uuid4().hex, ["999999", first.experiment])
        assert (third.experiment, third.called) == (first.experiment, first.called)
        fourth = world.registry.open_witness(uuid4().hex, ["999999"])
        assert fourth.experiment not in {first.experiment, "999999"}
        assert {third.run, fourth.run} <= {one.run for one in world.registry.witnesses(["999999"])}

    def test_a_run_that_is_gone_takes_no_checkpoint(self, world: World) -> None:
        with pytest.raises(NotFound):
            world.registry.witness("0" * 32, "checkpoint-1", "one")
        with pytest.raises(NotFound):
            world.registry.witness_run("0" * 32)

    def test_every_request_is_counted(self, world: World, name: str) -> None:
        ref = world.add_version(name, {})
        before = world.registry.calls
        world.registry.version(ref)
        world.registry.model(name)
        assert world.registry.calls == before + 2


class TestWhatIsReadOfMlflow:
    """Models and versions are read without MLflow's client: each of its calls about them reads the model once more."""

    def test_is_what_mlflows_client_reads(self, mlflow_server: str, name: str) -> None:
        ref, client = train(mlflow_server, name, {}), MlflowClient(mlflow_server)
        train(mlflow_server, name, {})
        client.update_registered_model(name, "Sorts things.")
        client.update_model_version(name, "1", "The first.")
        client.set_registered_model_tag(name, "owner", "crm")
        client.set_registered_model_alias(name, "champion", "1")
        client.set_model_version_tag(name, "1", "note", "")
        client.transition_model_version_stage(name, "1", "Production")
        registry = MlflowRegistry(mlflow_server)
        assert registry.model(name) == entities.model(client.get_registered_model(name))
        assert registry.version(ref) == entities.version(client.get_model_version(name, "1"))
        found = client.search_model_versions(f"name='{name}'")
        assert registry.versions(name) == tuple(
            entities.version(one) for one in sorted(found, key=lambda one: int(one.version))
        )

    def test_no_write_reads_the_model_with_all_its_tags(
        self, mlflow_server: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref, registry = train(mlflow_server, name, {}), MlflowRegistry(mlflow_server)

        def read(*_: object) -> None:
            pytest.fail("the model was read")

        monkeypatch.setattr(MlflowClient, "get_registered_model", read)
        registry.set_stage(ref, "Staging")
        registry.set_alias(ref, "challenger")
        registry.delete_alias(name, "challenger")
        registry.set_tag(ref, "note", "x")
        registry.delete_tag(ref, "note")
        registry.manifest(ref)
        assert registry.version(ref).stage == "Staging"

    def test_a_version_of_a_prompt_is_none(self, mlflow_server: str, name: str) -> None:
        MlflowClient(mlflow_server).register_prompt(name, "Say {{this}}.")
        with pytest.raises(NotFound):
            MlflowRegistry(mlflow_server).version(VersionRef(name=name, version=1))
        assert MlflowRegistry(mlflow_server).model(name).is_prompt


class TestPlacesOnMlflow:
    """What the sources that clients write resolve to."""

    @pytest.fixture
    def trained(self, mlflow_server: str, name: str) -> ModelVersion:
        return MlflowRegistry(mlflow_server).version(train(mlflow_server, name, {}))

    @pytest.mark.parametrize("source", ["runs:/{run}/model", "RUNS:/{run}/model", "runs:///{run}/model?a=1"])
    def test_a_runs_source_is_the_newest_logged_model_of_that_name(
        self, mlflow_server: str, name: str, trained: ModelVersion, source: str
    ) -> None:
        registry, run = MlflowRegistry(mlflow_server), trained.run_id or ""
        ref = registered(mlflow_server, name, source.format(run=run), run_id=run)
        place = registry.place(registry.version(ref))
        assert (place.kind, place.id, place.run_id) == (PlaceKind.LOGGED_MODEL, trained.model_id, run)
        assert place.unloadable_because == f"it looks in the artifacts of run {run}, folder model, where nothing is"
        with pytest.raises(MlflowException, match="MLmodel"):
            mlflow.pyfunc.load_model(f"models:/{name}/{ref.version}")
        assert registry.place(trained).unloadable_because == ""
        assert registry.manifest(ref) == registry.manifest(trained.ref)
        with mlflow.start_run(run_id=run):
            newer = mlflow.pyfunc.log_model(name="model", python_model=_Constant(), pip_requirements=["mlflow"])
        assert registry.place(registry.version(ref)).id == newer.model_id

    def test_files_in_the_runs_folder_and_in_a_logged_model_are_two_places(
        self, mlflow_server: str, name: str, trained: ModelVersion
    ) -> None:
        registry, run = MlflowRegistry(mlflow_server), trained.run_id or ""
        ref = registered(mlflow_server, name, f"runs:/{run}/model", run_id=run)
        MlflowClient(mlflow_server).log_text(run, "flavors: {}", "model/MLmodel")
        place = registry.place(registry.version(ref))
        assert (place.kind, place.id, place.path) == (PlaceKind.RUN, run, "model")
        assert place.others == (f"logged model {trained.model_id}",)
        assert [file.path for file in registry.manifest(ref).files] == ["MLmodel"]

    def test_the_run_beside_a_logged_model_is_what_the_client_says_and_not_the_run_that_made_it(
        self, mlflow_server: str, name: str, trained: ModelVersion
    ) -> None:
        registry, claimed = MlflowRegistry(mlflow_server), uuid4().hex
        ref = registered(mlflow_server, name, trained.source, run_id=claimed, model_id=trained.model_id or "")
        version = registry.version(ref)
        assert version.run_id == claimed
        assert f"which run {trained.run_id} made; the version claims run {claimed}" in foreign_run(
            registry.place(version), ref, version.run_id
        )

    def test_a_copy_of_a_version_is_where_its_original_is(
        self, mlflow_server: str, name: str, trained: ModelVersion
    ) -> None:
        registry, run = MlflowRegistry(mlflow_server), trained.run_id or ""
        ref = registered(mlflow_server, f"{name}_copy", f"models:/{name}/{trained.ref.version}", run_id=run)
        assert registry.place(registry.version(ref)) == registry.place(trained)
        assert foreign_run(registry.place(trained), ref, run) == ""

    def test_files_beside_the_model_lie_in_the_folder_of_their_run(
        self, mlflow_server: str, name: str, trained: ModelVersion
    ) -> None:
        registry, client, run = MlflowRegistry(mlflow_server), MlflowClient(mlflow_server), trained.run_id or ""
        client.log_text(run, "flavors: {}", "old/style/MLmodel")
        ref = registered(mlflow_server, name, f"{client.get_run(run).info.artifact_uri}/old/style", run_id=run)
        place = registry.place(registry.version(ref))
        assert (place.kind, place.id, place.path, place.run_id) == (PlaceKind.RUN, run, "old/style", run)
        assert [file.path for file in registry.manifest(ref).files] == ["MLmodel"]
        assert ("old/style/MLmodel", 11) not in [(one.path, one.size) for one in registry.run_files(run)]
        client.log_text(run, "For whom.", "model_card.md")
        assert registry.run_file(run, "model_card.md") == b"For whom."

    def test_a_folder_is_the_same_however_its_address_is_written(
        self, mlflow_server: str, name: str, tmp_path: Path
    ) -> None:
        registry, client = MlflowRegistry(mlflow_server), MlflowClient(mlflow_server)
        for location in (str(tmp_path), f"file://{tmp_path}"):
            run = client.create_run(client.create_experiment(uuid4().hex, location)).info
            client.log_text(run.run_id, "flavors: {}", "model/MLmodel")
            path = f"{run.artifact_uri.removeprefix('file://')}/model"
            for source in (path, f"file://{path}", f"file:{path}", f"file://localhost{path}"):
                place = registry.place(registry.version(registered(mlflow_server, name, source, run_id=run.run_id)))
                assert (place.kind, place.id, place.path) == (PlaceKind.RUN, run.run_id, "model"), source

    def test_a_logged_model_that_is_deleted_leaves_files_of_which_nobody_says_which_run_made_them(
        self, mlflow_server: str, name: str, trained: ModelVersion
    ) -> None:
        registry, client = MlflowRegistry(mlflow_server), MlflowClient(mlflow_server)
        claimed, model_id = client.create_run("0").info.run_id, trained.model_id or ""
        ref = registered(mlflow_server, name, trained.source, run_id=claimed, model_id=model_id)
        client.delete_logged_model(model_id)
        place = registry.place(registry.version(ref))
        assert (place.kind, place.id, place.run_id) == (PlaceKind.LOST, model_id, None)
        assert f"MLflow has no logged model {model_id} there" in foreign_run(place, ref, claimed)
        assert registry.manifest(ref).files

    def test_files_below_an_artifact_location_with_a_step_back_can_never_be_read(
        self, mlflow_server: str, name: str
    ) -> None:
        registry, client = MlflowRegistry(mlflow_server), MlflowClient(mlflow_server)
        experiment = client.create_experiment(name, artifact_location="mlflow-artifacts:/a/../b")
        run = client.create_run(experiment).info.run_id
        version = registry.version(registered(mlflow_server, name, f"runs:/{run}/model", run_id=run))
        assert registry.place(version).id == run
        for read in (registry.listing, registry.manifest, lambda ref: registry.version_file(ref, "MLmodel", 1)):
            with pytest.raises(FilesUnreadable, match=r"refuses every path with \.\. in it. Log the model to an"):
                read(version.ref)
        seen = Reader(registry).fresh(version.ref)
        assert (seen.manifest, "refuses every path" in seen.unreadable) == (None, True)

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("gs://bucket/model", "pip install google-cloud-storage"),
            ("wasbs://c@a.blob.core.windows.net/model", "pip install azure-storage-blob azure-identity"),
            ("dbfs:/databricks/mlflow/1/2/artifacts/model", "read through a Databricks workspace"),
            ("hf://org/model", "MLflow has no artifact store for hf:"),
        ],
    )
    def test_a_source_elsewhere_says_what_is_missing(
        self, mlflow_server: str, name: str, source: str, words: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for library in ("google.cloud", "azure"):
            monkeypatch.setitem(sys.modules, library, None)
        ref = registered(mlflow_server, name, source)
        with pytest.raises(FilesUnreadable, match=f"cannot be read from {source}: .*{words}"):
            MlflowRegistry(mlflow_server).manifest(ref)

    def test_a_diagnosis_finds_each_of_them_without_reading_a_file(
        self, mlflow_server: str, name: str, trained: ModelVersion, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry, client, run = MlflowRegistry(mlflow_server), MlflowClient(mlflow_server), trained.run_id or ""
        for library in ("boto3", "botocore"):
            monkeypatch.setitem(sys.modules, library, None)
        elsewhere = registered(mlflow_server, name, BUCKET)
        mismatch = registered(mlflow_server, name, trained.source, run_id="0" * 32, model_id=trained.model_id or "")
        two = registered(mlflow_server, name, f"runs:/{run}/model", run_id=run)
        client.log_text(run, "flavors: {}", "model/MLmodel")
        deleted = registry.version(train(mlflow_server, name, {}))
        client.delete_run(deleted.run_id or "")
        for method in ("listing", "manifest", "version_file", "fetch", "run_files"):
            monkeypatch.setattr(registry, method, None)
        found = diagnose(registry, PolicyBook.load(PROJECT / "policies"))
        assert {(one.cause, one.version) for one in found.symptoms if one.model == name} == {
            (Cause.UNREADABLE, elsewhere.version),
            (Cause.NO_RUN, elsewhere.version),
            (Cause.OTHER_RUN, mismatch.version),
            (Cause.DELETED_RUN, mismatch.version),
            (Cause.TWO_PLACES, two.version),
            (Cause.DELETED_RUN, deleted.ref.version),
        }


class TestMlflowOnly:
    def test_the_figures_of_a_run_of_ours_are_logged_where_its_artifacts_cannot_be(
        self, mlflow_server: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for library in ("boto3", "botocore"):
            monkeypatch.setitem(sys.modules, library, None)
        registry = MlflowRegistry(mlflow_server)
        MlflowClient(mlflow_server).create_experiment(name, artifact_location=BUCKET)
        run_id = registry.begin_run(name, "v2 against v1", {})
        contents = RunContents(
            at=datetime(2026, 11, 25, tzinfo=UTC),
            metrics={"candidate_roc_auc": 0.97},
            params={},
            tags={},
            dataset=Dataset(name="holdout", digest="12345678"),
            documents={"report.json": "{}"},
        )
        registry.complete_run(run_id, contents)
        found = registry.run(run_id)
        assert (found.status, found.metrics["candidate_roc_auc"].value) == ("FINISHED", 0.97)
        assert "the Python package boto3 is not installed" in found.tags["signoff.artifacts"]

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

    def test_nan_and_infinity_are_read_as_they_were_logged(self, mlflow_server: str, name: str) -> None:
        """MLflow keeps 0 for NaN on a logged model, and the largest number there is for infinity everywhere."""
        odd = {"nan": math.nan, "zero": 0.0, "high": math.inf, "low": -math.inf}
        found = Reader(MlflowRegistry(mlflow_server)).fresh(train(mlflow_server, name, odd))
        assert found.logged_model
        assert {m.name: m.value for m in found.logged_model.metrics} == odd | {"nan": 0.0}, "so MLflow keeps them"
        assert {key: str(metric.value) for key, metric in found.metrics.items()} == {k: str(v) for k, v in odd.items()}
        assert [key for key, metric in found.metrics.items() if metric.usable] == ["zero"]

    def test_what_is_logged_after_the_model_and_on_other_data_is_a_value_of_its_own(
        self, mlflow_server: str, name: str
    ) -> None:
        mlflow.set_tracking_uri(mlflow_server)
        train_set, test_set = (
            mlflow.data.from_pandas(pd.DataFrame({"x": [float(ord(name))]}), name=name) for name in "ab"
        )
        with mlflow.start_run() as run:
            mlflow.log_metric("val_auc", 0.97)
            info = mlflow.pyfunc.log_model(name="model", python_model=_Constant(), pip_requirements=["mlflow"])
            for step in range(3):  # a course: only its end is a value
                mlflow.log_metric("val_loss", 0.5 - step / 10, step=step, model_id=info.model_id)
            mlflow.log_metric("val_f1", 0.99, dataset=train_set, model_id=info.model_id)
            mlflow.log_metric("val_f1", 0.6, dataset=test_set, model_id=info.model_id)
        MlflowClient(mlflow_server).log_metric(run.info.run_id, "val_auc", 0.61, step=1)
        version = mlflow.register_model(info.model_uri, name).version
        found = Reader(MlflowRegistry(mlflow_server)).fresh(VersionRef(name=name, version=int(version))).measured
        said = {key: {(m.source.value, m.value, m.dataset_name) for m in found[key].values} for key in found}
        assert said == {
            "val_auc": {("run", 0.61, None), ("logged_model", 0.97, None)},
            "val_loss": {("run", 0.3, None), ("logged_model", 0.3, None)},
            "val_f1": {("run", 0.6, None), ("logged_model", 0.99, "a"), ("logged_model", 0.6, "b")},
        }

    def test_of_several_models_of_one_run_each_has_what_was_measured_on_it(self, mlflow_server: str, name: str) -> None:
        mlflow.set_tracking_uri(mlflow_server)
        with mlflow.start_run() as run:
            weak, good = (
                mlflow.pyfunc.log_model(name=part, python_model=_Constant(), pip_requirements=["mlflow"])
                for part in ("weak", "good")
            )
            mlflow.log_metric("val_f1", 0.1, model_id=weak.model_id)
            mlflow.log_metric("val_auc", 0.999, model_id=good.model_id)
            mlflow.log_metric("val_f1", 0.9, model_id=good.model_id)
        MlflowClient(mlflow_server).log_metric(run.info.run_id, "of neither", 0.5)
        reader = Reader(MlflowRegistry(mlflow_server))
        found = []
        for info in (weak, good):
            version = mlflow.register_model(info.model_uri, name).version
            for read in (reader.fresh, lambda ref: reader.measured([reader.fresh(ref).version])[0]):
                evidence = read(VersionRef(name=name, version=int(version)))
                metrics = {key: m.counting(MetricSource.RUN) for key, m in evidence.measured.items()}
                found.append({key: metric.value for key, metric in metrics.items() if metric and metric.usable})
        assert found[:2] == [{"val_f1": 0.1}] * 2
        assert found[2:] == [{"val_f1": 0.9, "val_auc": 0.999}] * 2

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

    def test_a_deleted_run_says_so_until_it_is_restored(self, mlflow_server: str, name: str) -> None:
        registry, client = MlflowRegistry(mlflow_server), MlflowClient(mlflow_server)
        run_id = registry.version(train(mlflow_server, name, {"val_auc": 0.9})).run_id
        assert run_id
        client.delete_run(run_id)
        for found in (registry.run(run_id), registry.runs([run_id])[run_id]):
            assert (found.deleted, found.metrics["val_auc"].value) == (True, 0.9)
        client.restore_run(run_id)
        assert not registry.run(run_id).deleted

    def test_a_file_that_mlmodel_names_and_that_is_gone_is_missing(
        self, mlflow_server: str, mlflow_folder: Path, name: str
    ) -> None:
        registry = MlflowRegistry(mlflow_server)
        ref = train(mlflow_server, name, {})
        whole = registry.manifest(ref)
        assert {"python_model.pkl", "conda.yaml", "python_env.yaml", "input_example.json"} <= set(whole.named)
        assert whole.missing == ()
        (file,) = (mlflow_folder / "artifacts").rglob(f"{registry.version(ref).model_id}/**/python_model.pkl")
        file.unlink()
        assert registry.manifest(ref).missing == ("python_model.pkl",)

    def test_a_deleted_or_renamed_witness_is_read_and_says_so(self, mlflow_server: str) -> None:
        registry, client = MlflowRegistry(mlflow_server), MlflowClient(mlflow_server)
        opened = registry.open_witness(uuid4().hex, ["999999"])  # in an experiment of its own: the server is shared

        def found() -> WitnessRun:
            (one,) = (one for one in registry.witnesses([opened.experiment]) if one.run == opened.run)
            assert registry.witness_run(opened.run) == one
            return one

        registry.witness(opened.run, "checkpoint-1", "one")
        client.delete_run(opened.run)
        assert (found().active, found().texts) == (False, {"checkpoint-1": "one"})
        with pytest.raises(BadInput):
            registry.witness(opened.run, "checkpoint-2", "two")
        client.restore_run(opened.run)
        client.rename_experiment(opened.experiment, uuid4().hex)
        assert found().active
        assert found().called != opened.called
        client.delete_experiment(opened.experiment)
        assert not found().active
        assert registry.open_witness(uuid4().hex, [opened.experiment]).experiment != opened.experiment

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
