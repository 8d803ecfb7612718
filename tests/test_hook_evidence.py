"""What the hook asks about files, runs and logged models that versions name, in MLflow's stores without a server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from mlflow.entities import (
    Dataset,
    DatasetInput,
    LoggedModelOutput,
    LoggedModelParameter,
    LoggedModelStatus,
    LoggedModelTag,
    Metric,
    Param,
    RunStatus,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore

from mlflow_gate import locations
from mlflow_gate.evidence import GatedTracking
from mlflow_gate.files import Files
from mlflow_gate.gate import Answer, Denied
from mlflow_gate.installing import _class
from mlflow_gate.locations import OVERLAP_SECONDS
from services.domain import VersionRef
from tests.sources import OF_OLD, WAYS

NOW = int(time.time() * 1000)


class Asked:
    """A gate that says no, or yes, and remembers what it was asked."""

    def __init__(self) -> None:
        self.changes: list[dict[str, Any]] = []
        self.models: list[Any] = []
        self.no = True
        self.own: frozenset[str] = frozenset()
        self.signoff = False
        """Whether it is Signoff that calls."""

    turn = staticmethod(lambda _change: nullcontext())

    def ask(self, change: dict[str, Any], models: list[Any], _workspace: str) -> Answer:
        self.changes.append(change)
        self.models.append(models)
        if self.no:
            raise Denied("No.")
        return Answer(good_until=time.monotonic() + 60)

    def experiments(self) -> frozenset[str]:
        return self.own

    def ours(self) -> bool:
        return self.signoff

    @property
    def versions(self) -> list[tuple[str, int]]:
        """The versions the last question was about."""
        return [(model["name"], version["version"]) for model in self.models[-1] for version in model["versions"]]


class Stores:
    """MLflow's tracking store, gated, and its registry store, in one SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.gate = Asked()
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.tracking = TrackingStore(uri, "mlflow-artifacts:/")
        self.registry = RegistryStore(uri)
        self.files = Files(self.gate, lambda: self.registry, str(folder / "artifacts"), lambda: self.tracking)  # type: ignore[arg-type]
        self.tracking.__class__ = _class(GatedTracking, TrackingStore)
        self.tracking.files = self.files
        self.root = str(folder / "artifacts")
        self.names = 0

    def run(self) -> str:
        """A new run; returns its id."""
        return str(self.tracking.create_run("0", "me", NOW, [], None).info.run_id)

    def logged(self, run_id: str | None = None, name: str = "model") -> str:
        """A new logged model; returns its id."""
        return str(self.tracking.create_logged_model("0", name, run_id).model_id)

    def version(
        self,
        source: str,
        run_id: str | None = None,
        *,
        name: str | None = None,
        stored: str | None = None,
        created: int | None = None,
    ) -> str:
        """A version 1 whose source is literally this, as old registries have them; returns its model's name."""
        self.names += 1
        name = name or f"model-{self.names}"
        self.registry.create_registered_model(name)
        with self.registry.ManagedSessionMaker(read_only=False) as session:
            session.add(
                SqlModelVersion(
                    workspace="default",
                    name=name,
                    version=1,
                    creation_time=int(time.time() * 1000) if created is None else created,
                    last_updated_time=NOW,
                    source=source,
                    storage_location=source if stored is None else stored or None,
                    run_id=run_id,
                    current_stage="None",
                )
            )
        return name

    def written(self, path: str, *, deleted: bool = False) -> bool:
        """Whether somebody is asked before a path below the server's artifacts is written."""
        before = len(self.gate.changes)
        try:
            self.files.require(self.files.root(f"mlflow-artifacts:/{path}"), deleted=deleted, what=path)
        except Denied:
            assert len(self.gate.changes) == before + 1
            return True
        return False


class Behind:
    """What `tests.sources` needs to register a version in each way; the files themselves are nobody's business here."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores

    def new_experiment(self, *, local: bool = False) -> str:
        return "0"

    def new_run(self, experiment: str) -> str:
        return self.stores.run()

    def new_model(self, experiment: str, run: str | None, name: str = "model") -> str:
        return self.stores.logged(run, name)

    def location(self, owner: str) -> str:
        return f"mlflow-artifacts:/0/{'models/' if owner.startswith('m-') else ''}{owner}/artifacts"

    def write(self, uri: str, content: bytes) -> None:
        pass

    def register(
        self, source: str, *, run: str | None = None, model: str | None = None, name: str = "", old: bool = False
    ) -> VersionRef:
        stored, owner = source, source.rpartition("/")[2]
        if source.lower().startswith("models:") and owner.startswith("m-"):
            stored = self.location(owner)
        elif source.startswith("models:"):
            original = self.stores.registry.get_model_version(source.split("/")[1], 1)
            run = original.run_id
            stored = "" if old else self.stores.registry.get_model_version_download_uri(original.name, 1)
        return VersionRef(name=self.stores.version(source, run, stored=stored), version=1)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """One database for all of them; every test has runs and models of its own."""
    return Stores(tmp_path_factory.mktemp("stores"))


@pytest.fixture(autouse=True)
def heard(stores: Stores) -> Iterator[Asked]:
    """Nothing was asked yet, and the answer is no."""
    stores.gate.changes.clear()
    stores.gate.models.clear()
    yield stores.gate
    stores.gate.no = True


FORMS = (
    "runs:/{run}/model",
    "RUNS:/{run}/model",
    "runs:///{run}/model",
    "runs:/{run}/model/",
    "runs:/{run}/model?version=1",
    "runs:/{run}/model#part",
    "runs:/{run}/%6dodel",
    "runs:/{run}/sub/../model",
    " runs:/{run}/model",
    "runs://profile@databricks/{run}/model",
    "runs:/{run}",
    "mlflow-artifacts:/0/{run}/artifacts/model",
    "mlflow-artifacts://host:5000/0/{run}/artifacts/model",
    "http://mlflow.example/x/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/model",
    "file://{root}/0/{run}/artifacts/model",
    "{root}/0/{run}/artifacts/./model/",
)


class TestTheFilesOfAVersion:
    @pytest.mark.parametrize("form", FORMS)
    def test_are_found_however_its_source_is_written(self, stores: Stores, form: str) -> None:
        run = stores.run()
        name = stores.version(form.format(run=run, root=stores.root), run)
        below = f"0/{run}/artifacts"
        for path in (f"{below}/model/MLmodel", f"{below}/model", f"{below}/model/new/file"):
            assert stores.written(path), path
            assert stores.gate.versions == [(name, 1)]
        for path in (below, f"0/{run}", "0"):
            assert stores.written(path, deleted=True), path
        assert stores.gate.changes[-1]["kind"] == "files_deleted"
        assert stores.written(f"{below}/modelx")
        own = form == "runs:/{run}"
        assert stores.gate.changes[-1]["kind"] == ("files_written" if own else "evidence_written")
        assert not stores.written(f"0/{stores.run()}/artifacts/model/MLmodel")

    def test_are_found_by_way_of_another_version(self, stores: Stores) -> None:
        run = stores.run()
        first = stores.version(f"runs:/{run}/model", run)
        copy = stores.version(f"models:/{first}/1", run, stored=f"runs:/{run}/model")
        older = stores.version(f"models:/{copy}/1", run, stored="")
        odd = stores.version(f"MODELS:/{older}/1", run, stored=f"models:/{older}/1")
        assert stores.written(f"0/{run}/artifacts/model/MLmodel")
        assert sorted(stores.gate.versions) == sorted((name, 1) for name in (first, copy, older, odd))

    @pytest.mark.parametrize("way", {**WAYS, **OF_OLD})
    def test_are_guarded_with_their_run_and_logged_model_in_each_way_that_a_source_resolves(
        self, stores: Stores, way: str
    ) -> None:
        case = {**WAYS, **OF_OLD}[way](Behind(stores))
        folder = urlsplit(case.folder).path.strip("/")
        for path in (f"{folder}/MLmodel", f"{folder}/new/file", folder):
            assert stores.written(path), path
            assert (case.ref.name, 1) in stores.gate.versions
        assert stores.written(folder.partition("/artifacts")[0], deleted=True)
        changes: list[Callable[[], object]] = [
            *([lambda: stores.tracking.delete_run(case.run)] if case.run else []),
            *([lambda: stores.tracking.delete_logged_model(case.model)] if case.model else []),
        ]
        first = stores.registry.get_model_version((case.original or case.ref).name, 1)
        if "/model" in first.source and first.source.lower().startswith("runs:"):
            changes.append(lambda: stores.logged(case.run))
        for change in changes:
            with pytest.raises(MlflowException, match=r"No\."):
                change()
            assert (case.ref.name, 1) in stores.gate.versions

    @pytest.mark.parametrize("form", ["models:/{id}", "models:///{id}", "Models:/{id}?x"])
    def test_are_those_of_a_logged_model(self, stores: Stores, form: str) -> None:
        model_id = stores.logged(stores.run())
        for stored in ("", f"mlflow-artifacts:/0/models/{model_id}/artifacts"):
            name = stores.version(form.format(id=model_id), stored=stored)
            assert stores.written(f"0/models/{model_id}/artifacts/MLmodel")
            assert (name, 1) in stores.gate.versions
        assert not stores.written(f"0/models/{stores.logged()}/artifacts/MLmodel")

    def test_are_also_those_of_the_logged_model_that_is_called_so(self, stores: Stores) -> None:
        """MLflow loads them over those of the run, whether they came before or after the version."""
        run, other = stores.run(), stores.run()
        before = stores.logged(run)
        name = stores.version(f"runs:/{run}/model/inner?x=y", run)
        with said_yes(stores):
            after = stores.logged(run)
        for model_id in (before, after):
            assert stores.written(f"0/models/{model_id}/artifacts/inner/MLmodel")
            assert stores.gate.versions == [(name, 1)]
            assert stores.written(f"0/models/{model_id}", deleted=True)
        assert stores.written("0/models", deleted=True)
        free = stores.logged(other)
        assert not stores.written(f"0/models/{free}/artifacts/MLmodel")
        assert not stores.written(f"0/{other}/artifacts/{before}/MLmodel")

    @pytest.mark.parametrize(
        "source", ["", "runs:", "runs:/", "runs:////x", "http://[", "file:/a%00b", "models:/x/Production", "s3://b/k"]
    )
    def test_are_nowhere_when_its_source_says_nothing_and_others_are_still_found(
        self, stores: Stores, source: str
    ) -> None:
        stores.version(source)
        run = stores.run()
        stores.version(f"runs:/{run}/model", run)
        assert stores.written(f"0/{run}/artifacts/model/MLmodel")
        assert not stores.written(f"0/{stores.run()}/artifacts/model/MLmodel")

    def test_of_a_run_that_is_not_there_are_nowhere(self, stores: Stores) -> None:
        stores.version(f"runs:/{'0' * 32}/model", "0" * 32)
        assert not stores.written(f"0/{'0' * 32}/artifacts/model/MLmodel")

    def test_are_free_again_when_the_version_is_deleted(self, stores: Stores) -> None:
        run = stores.run()
        name = stores.version(f"runs:/{run}/model", run)
        assert stores.written(f"0/{run}/artifacts/model/MLmodel")
        stores.registry.delete_model_version(name, 1)
        assert not stores.written(f"0/{run}/artifacts/model/MLmodel")

    def test_are_found_under_a_new_name_though_another_version_has_the_old_one(self, stores: Stores) -> None:
        """Also when it was registered too long ago to be read again as a new one."""
        run = stores.run()
        name = stores.version(f"runs:/{run}/model", run, created=NOW - 3_600_000)
        later = Files(stores.gate, lambda: stores.registry, stores.root, lambda: stores.tracking)  # type: ignore[arg-type]
        path = later.root(f"mlflow-artifacts:/0/{run}/artifacts/model/MLmodel")
        with pytest.raises(Denied):
            later.require(path, deleted=False, what="MLmodel")
        assert stores.gate.versions == [(name, 1)]
        stores.registry.rename_registered_model(name, f"{name}-renamed")
        stores.version("s3://elsewhere/model", name=name)
        with pytest.raises(Denied):
            later.require(path, deleted=False, what="MLmodel")
        assert stores.gate.versions == [(f"{name}-renamed", 1)]


def metric(key: str = "val_auc", model_id: str | None = None) -> Metric:
    return Metric(key, 0.9, NOW, 0, model_id=model_id)


Store = Any
ON_A_RUN: dict[str, Callable[[Store, str], object]] = {
    "log_metric": lambda store, run: store.log_metric(run, metric()),
    "log_param": lambda store, run: store.log_param(run, Param("depth", "3")),
    "set_tag": lambda store, run: store.set_tag(run, RunTag("mlflow.user", "me")),
    "the name as a tag": lambda store, run: store.set_tag(run, RunTag("mlflow.runName", "other")),
    "delete_tag": lambda store, run: store.delete_tag(run, "mlflow.runName"),
    "log_batch of metrics": lambda store, run: store.log_batch(run, [metric()], [], []),
    "log_batch of params": lambda store, run: store.log_batch(run, [], [Param("depth", "3")], []),
    "log_batch of tags": lambda store, run: store.log_batch(run, [], [], [RunTag("a", "b")]),
    "log_batch_async": lambda store, run: store.log_batch_async(run, [metric()], [], []).wait(),
    "log_inputs": lambda store, run: store.log_inputs(run, [DatasetInput(Dataset("d", "1", "local", "x"), [])]),
    "log_outputs": lambda store, run: store.log_outputs(run, [LoggedModelOutput("m-0", 0)]),
    "record_logged_model": lambda store, run: store.record_logged_model(run, Model("model", run)),
    "update_run_info, its name": lambda store, run: store.update_run_info(run, RunStatus.RUNNING, None, "other"),
    "update_run_info, an end in ten years": lambda store, run: store.update_run_info(
        run, RunStatus.FINISHED, NOW + 10**11, None
    ),
    "update_run_info, finished without an end": lambda store, run: store.update_run_info(
        run, RunStatus.FINISHED, None, None
    ),
    "update_run_info, an end of what goes on": lambda store, run: store.update_run_info(
        run, None, int(time.time() * 1000), None
    ),
    "update_run_info, an end and under way": lambda store, run: store.update_run_info(
        run, RunStatus.RUNNING, int(time.time() * 1000), None
    ),
    "delete_run": lambda store, run: store.delete_run(run),
}
ON_A_LOGGED_MODEL: dict[str, Callable[[Store, str], object]] = {
    "finalize_logged_model": lambda store, m: store.finalize_logged_model(m, LoggedModelStatus.FAILED),
    "log_logged_model_params": lambda store, m: store.log_logged_model_params(m, [LoggedModelParameter("a", "b")]),
    "set_logged_model_tags": lambda store, m: store.set_logged_model_tags(m, [LoggedModelTag("a", "b")]),
    "set_logged_model_tags, where it is registered as no list": lambda store, m: store.set_logged_model_tags(
        m, [LoggedModelTag("mlflow.modelVersions", '"x"')]
    ),
    "set_logged_model_tags, where it is registered as a list without an end": lambda store, m: (
        store.set_logged_model_tags(m, [LoggedModelTag("mlflow.modelVersions", "[" * 5000)])
    ),
    "delete_logged_model_tag": lambda store, m: store.delete_logged_model_tag(m, "kept"),
    "delete_logged_model": lambda store, m: store.delete_logged_model(m),
    "log_metric of another run": lambda store, m: store.log_metric(OTHER[store], metric("f1", m)),
    "log_batch of another run": lambda store, m: store.log_batch(OTHER[store], [metric("x"), metric("f2", m)], [], []),
}
OTHER: dict[Store, str] = {}


@contextmanager
def said_yes(stores: Stores) -> Iterator[None]:
    stores.gate.no = False
    try:
        yield
    finally:
        stores.gate.no = True


def shown(stores: Stores, run: str) -> object:
    """All that a run says."""
    found = stores.tracking.get_run(run)
    return found.to_dictionary(), [str(one) for one in found.inputs.dataset_inputs]


class TestARun:
    @pytest.mark.parametrize("what", ON_A_RUN)
    def test_that_a_version_names_is_asked_about_before_it_changes(self, stores: Stores, what: str) -> None:
        run = stores.run()
        name = stores.version("s3://elsewhere/model", run)
        before = shown(stores, run)
        with pytest.raises(MlflowException, match=r"No\."):
            ON_A_RUN[what](stores.tracking, run)
        assert stores.gate.versions == [(name, 1)]
        (change,) = stores.gate.changes
        assert change["kind"] == ("evidence_deleted" if what == "delete_run" else "evidence_written")
        assert run in change["path"]
        assert shown(stores, run) == before

    @pytest.mark.parametrize("what", ON_A_RUN)
    def test_that_none_names_is_nobodys_business(self, stores: Stores, what: str) -> None:
        run = stores.run()
        ON_A_RUN[what](stores.tracking, run)
        assert stores.gate.changes == []

    def test_named_by_its_source_alone_is_asked_about(self, stores: Stores) -> None:
        """Old registries hold versions of a run's files that have no run."""
        run = stores.run()
        stores.version(f"RUNS:///{run}/model?x", None)
        with pytest.raises(MlflowException, match=r"No\."):
            stores.tracking.log_metric(run, metric())

    @pytest.mark.parametrize("status", [RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED])
    def test_that_is_under_way_may_end(self, stores: Stores, status: int) -> None:
        """A script that submits what it trains ends its run afterwards; once, and not in the future."""
        run = stores.run()
        stores.version("s3://elsewhere/model", run)
        with pytest.raises(MlflowException, match=r"No\."):  # else nobody could end it any more
            stores.tracking.update_run_info(run, None, int(time.time() * 1000), None)
        stores.gate.changes.clear()
        stores.tracking.update_run_info(run, status, int(time.time() * 1000), None)
        assert stores.gate.changes == []
        with pytest.raises(MlflowException, match=r"No\."):
            stores.tracking.update_run_info(run, RunStatus.FINISHED, int(time.time() * 1000), None)

    def test_that_was_deleted_may_come_back(self, stores: Stores) -> None:
        run = stores.run()
        stores.version("s3://elsewhere/model", run)
        with said_yes(stores):
            stores.tracking.delete_run(run)
        stores.gate.changes.clear()
        stores.tracking.restore_run(run)
        assert stores.gate.changes == []

    def test_goes_with_its_experiment_wherever_the_files_are(self, stores: Stores) -> None:
        experiment = stores.tracking.create_experiment(f"away-{stores.names}")
        run = stores.tracking.create_run(experiment, "me", NOW, [], None).info.run_id
        name = stores.version("s3://elsewhere/model", run)
        with pytest.raises(MlflowException, match=r"No\."):
            stores.tracking.delete_experiment(experiment)
        assert stores.gate.versions == [(name, 1)]
        assert stores.tracking.get_experiment(experiment).lifecycle_stage == "active"


class TestALoggedModel:
    @pytest.fixture(autouse=True)
    def other(self, stores: Stores) -> None:
        OTHER[stores.tracking] = stores.run()

    @pytest.mark.parametrize("by", ["models:/{id}", "mlflow-artifacts:/0/models/{id}/artifacts", "runs:/{run}/model"])
    @pytest.mark.parametrize("what", ON_A_LOGGED_MODEL)
    def test_that_a_version_names_is_asked_about_before_it_changes(self, stores: Stores, what: str, by: str) -> None:
        run = stores.run()
        model_id = stores.logged(run)
        stores.tracking.set_logged_model_tags(model_id, [LoggedModelTag("kept", "yes")])
        name = stores.version(by.format(id=model_id, run=run))
        before = stores.tracking.get_logged_model(model_id).to_dictionary()
        with pytest.raises(MlflowException, match=r"No\."):
            ON_A_LOGGED_MODEL[what](stores.tracking, model_id)
        assert stores.gate.versions == [(name, 1)]
        assert len(stores.gate.changes) == 1
        assert stores.tracking.get_logged_model(model_id).to_dictionary() == before
        assert stores.tracking.get_run(OTHER[stores.tracking]).data.metrics == {}

    def test_that_is_registered_again_is_told_so_by_mlflow_without_asking(self, stores: Stores) -> None:
        model_id = stores.logged(stores.run())
        stores.version(f"models:/{model_id}")
        again = LoggedModelTag("mlflow.modelVersions", '[{"name": "twin", "version": 1}]')
        stores.tracking.set_logged_model_tags(model_id, [again])
        assert stores.gate.changes == []
        assert stores.tracking.get_logged_model(model_id).tags["mlflow.modelVersions"] == again.value

    @pytest.mark.parametrize("what", ON_A_LOGGED_MODEL)
    def test_that_none_names_is_nobodys_business(self, stores: Stores, what: str) -> None:
        model_id = stores.logged(stores.run())
        stores.tracking.set_logged_model_tags(model_id, [LoggedModelTag("kept", "yes")])
        ON_A_LOGGED_MODEL[what](stores.tracking, model_id)
        assert stores.gate.changes == []

    def test_may_be_registered_once_more(self, stores: Stores) -> None:
        """MLflow notes on the logged model where it is registered."""
        model_id = stores.logged(stores.run())
        stores.version(f"models:/{model_id}")
        stores.tracking.set_model_versions_tags("again", "1", model_id)
        assert stores.gate.changes == []


BY_WHAT = {
    "with a run": ("s3://elsewhere/model", True),
    "of the files of a run": ("runs:///{run}/model/?x", False),
    "of a logged model": ("models:/{id}", False),
    "of the files of a logged model": ("mlflow-artifacts:/0/models/{id}/artifacts", False),
}
"""How a version names a run: its source, and whether it is registered with the run."""


class TestWhatLiesInARunThatAVersionNames:
    """Registered afterwards, it would be judged by the metrics of that run, whoever put it there."""

    @pytest.fixture(params=BY_WHAT)
    def run(self, stores: Stores, request: pytest.FixtureRequest) -> str:
        source, registered = BY_WHAT[request.param]
        run = stores.run()
        with said_yes(stores):
            stores.version(source.format(run=run, id=stores.logged(run)), run if registered else None, name=f"of-{run}")
        stores.gate.changes.clear()
        return run

    @pytest.mark.parametrize("name", ["model", "evil", None])
    def test_is_no_new_logged_model_whatever_its_name(self, stores: Stores, run: str, name: str | None) -> None:
        before = {model.model_id for model in stores.tracking.search_logged_models(["0"])}
        with pytest.raises(MlflowException, match=r"No\."):
            stores.tracking.create_logged_model("0", name, run)
        (change,) = stores.gate.changes
        assert change["kind"] == "logged_model_created"
        assert change["path"] == f"A logged model{f' {json.dumps(name)}' if name else ''} of the run {run}"
        assert stores.gate.versions == [(f"of-{run}", 1)]
        assert {model.model_id for model in stores.tracking.search_logged_models(["0"])} == before

    def test_is_asked_about_before_it_is_written_or_deleted(self, stores: Stores, run: str) -> None:
        for path in ("evil/MLmodel", "model_card.md"):
            for deleted in (False, True):
                assert stores.written(f"0/{run}/artifacts/{path}", deleted=deleted)
                done = "deleted" if deleted else "written"
                assert stores.gate.changes[-1]["kind"] == f"evidence_{done}"
                assert stores.gate.versions == [(f"of-{run}", 1)]
        for above in (f"0/{run}/artifacts", f"0/{run}", "0"):
            assert stores.written(above, deleted=True)
        assert not stores.written(f"0/{run}x/artifacts/evil")

    def test_is_what_another_logged_model_of_the_run_holds(self, stores: Stores) -> None:
        """Made while nobody had a record of the run, filled when somebody has."""
        run = stores.run()
        mine, other = stores.logged(run, "mine"), stores.logged(run, "other")
        name = stores.version(f"models:/{mine}", run)
        for deleted in (False, True):
            assert stores.written(f"0/models/{other}/artifacts/MLmodel", deleted=deleted)
            assert stores.gate.changes[-1]["kind"] == f"evidence_{'deleted' if deleted else 'written'}"
            assert stores.gate.versions == [(name, 1)]
        with pytest.raises(MlflowException, match=r"No\."):
            stores.tracking.delete_logged_model(other)
        assert stores.tracking.get_logged_model(other)
        assert stores.written(f"0/models/{mine}/artifacts/MLmodel")
        assert stores.gate.changes[-1]["kind"] == "files_written"

    def test_is_free_where_no_version_names_it(self, stores: Stores) -> None:
        run = stores.run()
        model_id = stores.logged(run)
        stores.logged(None)
        assert not stores.written(f"0/{run}/artifacts/evil/MLmodel")
        assert not stores.written(f"0/{run}/artifacts", deleted=True)
        assert not stores.written(f"0/models/{model_id}/artifacts", deleted=True)
        assert stores.gate.changes == []

    def test_is_found_though_an_experiment_says_that_it_is_nowhere(self, stores: Stores) -> None:
        stores.tracking.create_experiment(f"odd-{stores.names}", "file:/a%00b")
        run, other = stores.run(), stores.run()
        stores.version("s3://elsewhere/model", run)
        assert stores.written(f"0/{run}/artifacts", deleted=True)
        assert not stores.written(f"0/{other}/artifacts", deleted=True)

    def test_is_read_about_in_three_statements_where_a_run_is_deleted(self, stores: Stores) -> None:
        """Not in one for every logged model there is, or all of them."""
        run = stores.run()
        stores.version("s3://elsewhere/model", stores.run())
        assert not stores.written(f"0/{run}/artifacts", deleted=True)
        with sent(stores) as statements:
            assert not stores.written(f"0/{run}/artifacts", deleted=True)
        assert len(statements) == 3
        assert not [statement for statement, _ in statements if "logged_models" in statement]


@contextmanager
def sent(stores: Stores) -> Iterator[list[tuple[str, Any]]]:
    """The statements that go to the database meanwhile, with their parameters."""
    found: list[tuple[str, Any]] = []

    def heard(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.startswith("PRAGMA"):
            found.append((statement, parameters))

    engines = {id(store.engine): store.engine for store in (stores.tracking, stores.registry)}.values()
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", heard)
    try:
        yield found
    finally:
        for engine in engines:
            sa.event.remove(engine, "before_cursor_execute", heard)


class TestALook:
    def test_for_a_metric_of_a_run_that_nobody_registered_is_one_statement(self, stores: Stores) -> None:
        """However many versions there are."""
        for number in range(20):
            stores.version(f"runs:/{stores.run()}/model", name=f"many-{number}")
        run = stores.run()
        stores.tracking.log_metric(run, metric("first"))
        with sent(stores) as plain:
            TrackingStore.log_metric(stores.tracking, run, metric("a"))
        with sent(stores) as gated:
            stores.tracking.log_metric(run, metric("b"))
        assert len(gated) == len(plain) + 1
        assert stores.gate.changes == []

    def test_reads_only_what_may_be_new(self, stores: Stores) -> None:
        """Not what was registered last, for ever again."""
        run = stores.run()
        stores.tracking.log_metric(run, metric("a"))
        with sent(stores) as statements:
            stores.tracking.log_metric(run, metric("b"))
        ((statement, (since, _)),) = [one for one in statements if "model_versions" in one[0]]
        assert "model_versions.creation_time >= ?" in statement
        ago = time.time() - since / 1000
        assert OVERLAP_SECONDS <= ago < OVERLAP_SECONDS + 60

    def test_misses_nothing_when_the_clock_is_set_back(self, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
        class Clock:
            ahead = 5 * 3600.0
            monotonic = staticmethod(time.monotonic)

            def time(self) -> float:
                return time.time() + self.ahead

        clock = Clock()
        monkeypatch.setattr(locations, "time", clock)
        stores.tracking.log_metric(stores.run(), metric())
        clock.ahead = 0.0
        run = stores.run()
        stores.version("s3://elsewhere/model", run)
        with pytest.raises(MlflowException, match=r"No\."):
            stores.tracking.log_metric(run, metric())
