"""Each way in which the source of a version can resolve, and what can happen to it once it was approved.

The same for an MLflow in memory, whose sources the real adapter resolves, and for a real server.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import mlflow
from mlflow import MlflowClient
from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from services.domain import ArtifactEntry, LoggedModelFacts, Metric, MetricSource, ModelVersion, RunFacts, VersionRef
from services.evidence import Manifest
from services.mlflow import stores
from services.mlflow.files import MlflowFiles
from services.mlflow.registry import MlflowRegistry
from services.place import Place
from services.registry import Registry
from tests.fakes import FakeRegistry

METRIC, VALUE = "val_auc", 0.95
"""What every run, or the logged model that none made, says."""
SERVER = "mlflow.test:5000"
"""Where the MLflow in memory is."""
LOCAL = "/shared"
"""Its folder that Signoff reaches too."""


class World(Protocol):
    """What clients of MLflow do, and people who reach its disk. Runs and logged models are named by their ids.

    To lose is to delete; what is not there any more stays lost.
    """

    @property
    def registry(self) -> Registry: ...
    def new_experiment(self, *, local: bool = False) -> str: ...
    def new_run(self, experiment: str) -> str: ...
    def new_model(self, experiment: str, run: str | None, name: str = "model") -> str: ...
    def location(self, owner: str) -> str: ...
    def write(self, uri: str, content: bytes) -> None: ...
    def remove(self, uri: str) -> None: ...
    def files(self, uri: str) -> list[str]: ...
    def register(
        self, source: str, *, run: str | None = None, model: str | None = None, name: str = "", old: bool = False
    ) -> VersionRef:
        """A new version. ``old``: by a server that does not resolve a copy when it is registered."""

    def lose_run(self, run: str) -> None: ...
    def restore_run(self, run: str) -> None: ...
    def lose_model(self, model: str) -> None: ...
    def lose_experiment(self, experiment: str) -> None: ...
    def lose_versions(self, name: str) -> None: ...
    def means(self, ref: VersionRef) -> Mapping[str, bytes]:
        """Which files a client of MLflow loads; nothing where it cannot, or where the run is deleted."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A version whose files lie in ``folder``: those of the logged ``model``, or where that is None of the ``run``."""

    ref: VersionRef
    experiment: str
    folder: str
    run: str | None
    model: str | None = None
    original: VersionRef | None = None
    """What it was copied from."""


Way = Callable[[World], Case]
Change = Callable[[World, Case], object]


def of_model(
    source: str, *, below: str = "", trained: bool = True, local: bool = False, copies: int = 0, old: bool = False
) -> Way:
    """Its files are a logged model. ``source`` may name ``{model}``, ``{run}``, ``{folder}``, ``{path}``."""

    def make(world: World) -> Case:
        experiment = world.new_experiment(local=local)
        run = world.new_run(experiment) if trained else None
        model = world.new_model(experiment, run)
        _fill(world, world.location(model))
        return _registered(world, source, experiment, world.location(model) + below, run, model, copies, old)

    return make


def of_run(source: str, *, below: str = "/model", local: bool = False, copies: int = 0) -> Way:
    """Its files are in the folder of its run."""

    def make(world: World) -> Case:
        experiment = world.new_experiment(local=local)
        run = world.new_run(experiment)
        _fill(world, f"{world.location(run)}/model")
        return _registered(world, source, experiment, world.location(run) + below, run, None, copies, False)

    return make


def _fill(world: World, folder: str) -> None:
    for path in ("MLmodel", "inner/MLmodel"):
        world.write(f"{folder}/{path}", b"flavors: {}\n")


def _registered(  # noqa: PLR0913, PLR0917
    world: World,
    source: str,
    experiment: str,
    folder: str,
    run: str | None,
    model: str | None,
    copies: int,
    old: bool,
) -> Case:
    named = source.format(model=model, run=run, folder=folder, path=urlsplit(folder).path, server=SERVER)
    refs = [world.register(named, run=run, model=None if named.lower().startswith("runs:") else model)]
    for _ in range(copies):
        refs.append(world.register(f"models:/{refs[-1].name}/{refs[-1].version}", old=old))
    original = refs[-2] if copies else None
    return Case(ref=refs[-1], experiment=experiment, folder=folder, run=run, model=model, original=original)


WAYS: Mapping[str, Way] = {
    "models:/m-…": of_model("models:/{model}"),
    "models:///m-…, which no run made": of_model("Models:///{model}", trained=False),
    "runs:/RUN/model, a logged model": of_model("runs:/{run}/model"),
    "RUNS:///RUN/model/?x=y, a logged model": of_model("RUNS:///{run}/model/?x=y#z"),
    "runs:/RUN/model/inner, in a logged model": of_model("runs:/{run}/model/inner", below="/inner"),
    "runs:/RUN/model, a folder": of_run("runs:/{run}/model"),
    "runs:/RUN/model/inner, a folder": of_run("runs:/{run}/model/inner", below="/model/inner"),
    "runs:/RUN, all of a run": of_run("runs:/{run}", below=""),
    "mlflow-artifacts:/…, a logged model": of_model("{folder}"),
    "mlflow-artifacts:///…, in a logged model": of_model("MLflow-Artifacts://{path}", below="/inner"),
    "mlflow-artifacts:/…, a folder of a run": of_run("{folder}"),
    "mlflow-artifacts:/…, all of a run": of_run("{folder}//", below=""),
    "a copy of models:/m-…": of_model("models:/{model}", copies=1),
    "a copy of runs:, a logged model": of_model("runs:/{run}/model", copies=1),
    "a copy of runs:, a folder": of_run("runs:/{run}/model", copies=1),
    "a copy of a copy": of_model("models:/{model}", copies=2),
}
"""By what a source looks like and what it is then."""
ON_DISK: Mapping[str, Way] = {
    "a path, of a run": of_run("{path}", local=True),
    "file:///…, of a run": of_run("file://{path}", local=True),
    "runs:/RUN/model, a logged model on disk": of_model("runs:/{run}/model", local=True),
}
"""Where a folder that the MLflow server shares with Signoff has the artifacts of an experiment."""
ANOTHER_SPELLING = frozenset(
    {
        "file:///…, of a run",
        "RUNS:///RUN/model/?x=y, a logged model",
        "runs:/RUN/model/inner, in a logged model",
        "runs:/RUN/model/inner, a folder",
        "mlflow-artifacts:///…, in a logged model",
        "mlflow-artifacts:/…, all of a run",
        "a copy of models:/m-…",
        "a copy of runs:, a logged model",
    }
)
"""Those that resolve as another one does, or to a folder inside: on a server in ``make soak`` only."""
OF_OLD: Mapping[str, Way] = {
    "mlflow-artifacts://host/…, a folder of a run": of_run("mlflow-artifacts://{server}{path}"),
    "mlflow-artifacts://host/…, a logged model": of_model("mlflow-artifacts://{server}{path}"),
    "http://host/…, a folder of a run": of_run("http://{server}/api/2.0/mlflow-artifacts/artifacts{path}"),
    "a copy that is followed whenever it is read": of_model("models:/{model}", copies=2, old=True),
}
"""What the MLflow of today does not make any more, and registries have from before."""


def _first(world: World, case: Case) -> str:
    return f"{case.folder}/{next(iter(world.files(case.folder)), 'MLmodel')}"


def _empty(world: World, case: Case) -> None:
    for path in world.files(case.folder):
        world.remove(f"{case.folder}/{path}")


def _newer(world: World, case: Case, files: bool) -> None:
    model = world.new_model(case.experiment, case.run)
    if files:
        _fill(world, world.location(model))


def _beside(world: World, case: Case, path: str) -> None:
    if case.run:
        world.write(f"{world.location(case.run)}/{path}", b"flavors: {mine: {}}\n")


def _replaced(world: World, case: Case) -> None:
    if case.original:
        other = world.new_model(case.experiment, case.run, "other")
        _fill(world, world.location(other))
        world.lose_versions(case.original.name)
        world.register(f"models:/{other}", run=case.run, model=other, name=case.original.name)


CHANGES: Mapping[str, Change] = {
    "a file is another one": lambda world, case: world.write(_first(world, case), b"flavors: {mine: {}}\n"),
    "its MLmodel makes no sense": lambda world, case: world.write(f"{case.folder}/MLmodel", b"mine"),
    "a newer logged model of that name": lambda world, case: _newer(world, case, True),
    "a newer logged model of that name, empty": lambda world, case: _newer(world, case, False),
    "a file is added": lambda world, case: world.write(f"{case.folder}/code/mine.py", b"flavors: {mine: {}}\n"),
    "a file is gone": lambda world, case: world.remove(_first(world, case)),
    "all files are gone": _empty,
    "a file of that name in the folder of the run": lambda world, case: _beside(world, case, "model/MLmodel"),
    "the run is deleted": lambda world, case: case.run and world.lose_run(case.run),
    "the run is restored": lambda world, case: case.run and world.restore_run(case.run),
    "the logged model is deleted": lambda world, case: case.model and world.lose_model(case.model),
    "the experiment is deleted": lambda world, case: world.lose_experiment(case.experiment),
    "what it was copied from is deleted": lambda world, case: case.original and world.lose_versions(case.original.name),
    "what it was copied from is another version": _replaced,
    "another file of the run": lambda world, case: _beside(world, case, "plots/roc.png"),
    "another logged model of the run": lambda world, case: world.new_model(case.experiment, case.run, "other"),
}


class Memory(FakeRegistry):
    """An MLflow in memory: the registry, with runs and logged models whose files lie on a disk that is a dictionary.

    What a source resolves to, and which files are there, the real adapter says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.disk: dict[str, bytes] = {}
        self.owners: dict[str, SimpleNamespace] = {}
        """Runs and logged models by id, the newest last; a deleted logged model is not among them."""
        self.stored: dict[VersionRef, str] = {}
        """Where MLflow says that the files of a version are."""
        self._adapter = _Adapter(self)

    @property
    def registry(self) -> FakeRegistry:
        return self

    def place(self, version: ModelVersion) -> Place:
        return self._adapter.place(version)

    def manifest(self, ref: VersionRef) -> Manifest:
        self.while_reading("files")
        return self._adapter.manifest(ref)

    def listing(self, ref: VersionRef) -> tuple[ArtifactEntry, ...]:
        return self._adapter.listing(ref)

    def new_experiment(self, *, local: bool = False) -> str:
        return f"{LOCAL if local else 'mlflow-artifacts:'}/{uuid4().hex[:8]}"

    def new_run(self, experiment: str) -> str:
        run, now = uuid4().hex, self._tick()
        self._runs[run] = RunFacts(
            run_id=run,
            name="trained",
            user="trainer",
            experiment_id=experiment,
            started_at=now,
            ended_at=now,
            status="FINISHED",
            metrics={METRIC: Metric(name=METRIC, value=VALUE)},
        )
        self._own(run, experiment, f"{run}/artifacts")
        return run

    def new_model(self, experiment: str, run: str | None, name: str = "model") -> str:
        model = f"m-{uuid4().hex}"
        said = () if run else (Metric(name=METRIC, value=VALUE, source=MetricSource.LOGGED_MODEL),)
        self._logged_models[model] = LoggedModelFacts(model_id=model, run_id=run, metrics=said)
        self._own(model, experiment, f"models/{model}/artifacts", name, run)
        return model

    def _own(self, owner: str, experiment: str, path: str, name: str = "", run: str | None = None) -> None:
        location = f"{experiment}/{path}"
        self.owners[owner] = SimpleNamespace(experiment=experiment, location=location, name=name, run=run)

    def location(self, owner: str) -> str:
        return str(self.owners[owner].location)

    def write(self, uri: str, content: bytes) -> None:
        self.disk[_path(uri)] = content

    def remove(self, uri: str) -> None:
        self.disk.pop(_path(uri), None)

    def files(self, uri: str) -> list[str]:
        return list(self._below(uri))

    def _below(self, uri: str) -> dict[str, bytes]:
        root = _path(uri).rstrip("/") + "/"
        return {path.removeprefix(root): self.disk[path] for path in sorted(self.disk) if path.startswith(root)}

    def register(
        self, source: str, *, run: str | None = None, model: str | None = None, name: str = "", old: bool = False
    ) -> VersionRef:
        stored = source
        if copied := re.fullmatch(r"models:/([^/]+)/([0-9]+)", source):
            original = VersionRef(name=copied[1], version=int(copied[2]))
            stored = source if old else self.stored[original]
            run, model = self.version(original).run_id, self.version(original).model_id
        elif source.lower().startswith("models:"):
            stored = self.location(source.rpartition("/")[2])
        ref = self.add_version(name or f"model_{uuid4().hex[:8]}")
        del self._runs[self._versions[ref].run_id or ""], self._files[ref]
        self._versions[ref] = replace(self._versions[ref], source=source, run_id=run, model_id=model)
        self.stored[ref] = stored
        return ref

    def lose_run(self, run: str) -> None:
        self._runs[run] = replace(self._runs[run], deleted=True)

    def restore_run(self, run: str) -> None:
        self._runs[run] = replace(self._runs[run], deleted=False)

    def lose_model(self, model: str) -> None:
        self.owners.pop(model, None)
        self._logged_models.pop(model, None)

    def lose_experiment(self, experiment: str) -> None:
        for run in self._runs.values():
            if run.experiment_id == experiment:
                self.lose_run(run.run_id)

    def lose_versions(self, name: str) -> None:
        if name in self._models:
            self.drop_model(name)
            self.stored = {ref: uri for ref, uri in self.stored.items() if ref.name != name}

    def drop_version(self, ref: VersionRef) -> None:
        self._files[ref] = {}
        super().drop_version(ref)

    def means(self, ref: VersionRef) -> Mapping[str, bytes]:
        run = self._versions[ref].run_id
        if run and self._runs[run].deleted:
            return {}
        found: dict[str, bytes] = {}
        for number, (owner, uri) in enumerate(self._read_from(ref)):
            below = self._below(uri)
            if not number and not below and not uri.startswith(LOCAL):
                return {}  # MLflow downloads the empty folder of the run, and no logged model of that name
            found |= {f"{owner}: {path}": content for path, content in below.items()}
            if number:
                found[owner] = b""  # it is read even where nothing is in it
        return found

    def _read_from(self, ref: VersionRef) -> Iterator[tuple[str, str]]:
        """The run or logged model, and the address below it, that MLflow reads: of a ``runs:`` source both."""
        uri = self.stored.get(ref, "")
        if copied := re.fullmatch(r"models:/([^/]+)/([0-9]+)", uri):
            yield from self._read_from(VersionRef(name=copied[1], version=int(copied[2])))
        elif uri.lower().startswith("runs:"):
            run, _, path = urlsplit(uri).path.strip("/").partition("/")
            name, _, inside = path.partition("/")
            yield run, f"{self.location(run)}/{path}"
            called = [owner for owner, one in self.owners.items() if (one.name, one.run) == (name, run)]
            yield from ((model, f"{self.location(model)}/{inside}") for model in called[-1:])
        else:
            homes = ((owner, _path(one.location)) for owner, one in self.owners.items())
            yield from ((owner, uri) for owner, home in homes if f"{_path(uri)}/".startswith(f"{home}/"))


class _Adapter(MlflowFiles):
    """The real adapter, whose client is an MLflow in memory."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(f"http://{SERVER}")
        self._memory = memory

    @property
    def _client(self) -> Any:  # type: ignore[override]
        return self

    @property
    def _models(self) -> Any:
        return self

    def gated(self) -> bool:
        return self._memory.hooked

    def _owner(self, owner: str) -> Any:
        if owner not in self._memory.owners:
            raise MlflowException(f"There is no {owner}.", RESOURCE_DOES_NOT_EXIST)
        return self._memory.owners[owner]

    def get_run(self, run_id: str) -> Any:
        found = self._owner(run_id)
        info = {"run_id": run_id, "experiment_id": found.experiment, "artifact_uri": found.location}
        return SimpleNamespace(info=SimpleNamespace(**info))

    def get_logged_model(self, model_id: str) -> Any:
        found = self._owner(model_id)
        return SimpleNamespace(model_id=model_id, artifact_location=found.location, source_run_id=found.run)

    def search_logged_models(self, experiments: list[str], query: str, max_results: int) -> list[Any]:
        wanted = re.fullmatch("name = '(.*)' AND source_run_id = '(.*)'", query)
        assert wanted
        found = [
            self.get_logged_model(owner)
            for owner, one in reversed(self._memory.owners.items())
            if one.experiment in experiments and (one.name, one.run) == wanted.groups()
        ]
        return found[:max_results]

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        ref = VersionRef(name=name, version=int(version))
        if ref not in self._memory.stored:
            raise MlflowException(f"There is no {ref}.", RESOURCE_DOES_NOT_EXIST)
        return self._memory.stored[ref]

    def _repository(self, uri: str, what: str) -> str:
        if stores.scheme_of(uri) not in {"", "file"}:  # a path would be looked for on the real disk
            stores.require_readable(uri, what)
        return uri

    def _listed(self, repository: str, folder: str | None, what: str) -> list[FileInfo]:
        found: dict[str, FileInfo] = {}
        for path, content in self._memory._below(f"{repository}/{folder or ''}").items():
            name, _, deeper = path.partition("/")
            at = f"{folder}/{name}" if folder else name
            found[at] = FileInfo(at, bool(deeper), None if deeper else len(content))
        return list(found.values())

    def _chunks(self, repository: str, path: str, what: str) -> Iterator[bytes]:
        yield self._memory.disk[_path(f"{repository}/{path}")]


def _path(uri: str) -> str:
    """Where an address leads on the disk of its server."""
    path = unquote(urlsplit(uri).path).removeprefix("/api/2.0/mlflow-artifacts/artifacts")
    return posixpath.normpath(f"/{path.lstrip('/')}")


class OnMlflow:
    """A real MLflow server, with its disk in ``folder``."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.registry = MlflowRegistry(uri)
        self._client, self._folder = MlflowClient(uri, uri), folder

    def new_experiment(self, *, local: bool = False) -> str:
        name = uuid4().hex
        return str(self._client.create_experiment(name, str(self._folder / "shared" / name) if local else None))

    def new_run(self, experiment: str) -> str:
        run = str(self._client.create_run(experiment, run_name="trained").info.run_id)
        self._client.log_metric(run, METRIC, VALUE)
        return run

    def new_model(self, experiment: str, run: str | None, name: str = "model") -> str:
        model = str(self._client.create_logged_model(experiment, name, run).model_id)
        if run is None:
            self._client.log_metric(self.new_run(experiment), METRIC, VALUE, model_id=model)
        return model

    def location(self, owner: str) -> str:
        if owner.startswith("m-"):
            return str(self._client.get_logged_model(owner).artifact_location)
        return str(self._client.get_run(owner).info.artifact_uri)

    def _file(self, uri: str) -> Path:
        path = _path(uri)
        return Path(path) if Path(path).is_relative_to(self._folder) else self._folder / "artifacts" / path[1:]

    def write(self, uri: str, content: bytes) -> None:
        file = self._file(uri)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def remove(self, uri: str) -> None:
        self._file(uri).unlink(missing_ok=True)

    def files(self, uri: str) -> list[str]:
        return list(_tree(self._file(uri)))

    def register(
        self, source: str, *, run: str | None = None, model: str | None = None, name: str = "", old: bool = False
    ) -> VersionRef:
        assert not old
        name = name or f"model_{uuid4().hex[:8]}"
        self._client.create_registered_model(name)
        return VersionRef(name=name, version=int(self._create(name, source, run_id=run, model_id=model).version))

    def _create(self, name: str, source: str, **more: str | None) -> Any:
        return self._client._get_registry_client().create_model_version(name, source, await_creation_for=0, **more)

    def lose_run(self, run: str) -> None:
        self._client.delete_run(run)

    def restore_run(self, run: str) -> None:
        self._client.restore_run(run)

    def lose_model(self, model: str) -> None:
        with suppress(MlflowException):
            self._client.delete_logged_model(model)

    def lose_experiment(self, experiment: str) -> None:
        with suppress(MlflowException):
            self._client.delete_experiment(experiment)

    def lose_versions(self, name: str) -> None:
        with suppress(MlflowException):
            self._client.delete_registered_model(name)

    def means(self, ref: VersionRef) -> Mapping[str, bytes]:
        run = self.registry.version(ref).run_id
        if run and self.registry.run(run).deleted:
            return {}
        with TemporaryDirectory() as folder, suppress(MlflowException):
            uri = f"models:/{ref.name}/{ref.version}"
            return _tree(Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)))
        return {}


def _tree(folder: Path) -> dict[str, bytes]:
    found = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {path: file.read_bytes() for path, file in found.items() if file.name != "registered_model_meta"}
