"""An MLflow registry in memory, which passes the same contract tests as the real adapter (tests/test_registry.py),
and passwords that cost nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from services.domain import (
    ArtifactEntry,
    ArtifactFile,
    Column,
    Curve,
    Dataset,
    Description,
    LoggedModelFacts,
    Metric,
    MetricSource,
    ModelVersion,
    RegisteredModel,
    RunFacts,
    Signature,
    VersionRef,
    WitnessRun,
)
from services.errors import BadInput, FilesUnreadable, NotFound, UnreadableModel
from services.evidence import Manifest
from services.mlflow import stores
from services.mlflow.artifacts import described, saved
from services.place import Place, PlaceKind
from services.progress import Progress, tell
from services.registry import Hook, RunContents

START = datetime(2026, 1, 1, tzinfo=UTC)
HOLDOUT = Dataset(name="holdout", digest="aaaaaaaa", context="eval")
WITNESS = "signoff-ledger"
SIGNATURE = Signature(inputs=(Column(name="x", type="double"),), outputs=(Column(name="0", type="long"),))


class FakeRegistry:
    """`services.registry.Registry` on dictionaries.

    ``before_write`` is called before each write, and may raise; ``while_reading`` before the files of a version, a
    version, or the versions of a model are read.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.writes: list[str] = []
        self.hooked = False
        self.knows_us = True
        self.intent: str | None = None
        self.before_write: Callable[[str], None] = lambda _: None
        self.after_write: Callable[[str], None] = lambda _: None
        self.while_reading: Callable[[str], None] = lambda _: None
        self._models: dict[str, RegisteredModel] = {}
        self._versions: dict[VersionRef, ModelVersion] = {}
        self._files: dict[VersionRef, dict[str, bytes]] = {}
        self._places: dict[VersionRef, Place] = {}
        self._unreadable: dict[VersionRef, str] = {}
        self._signed: dict[VersionRef, Signature | None] = {}
        self._with_example: set[VersionRef] = set()
        self._runs: dict[str, RunFacts] = {}
        self._logged_models: dict[str, LoggedModelFacts] = {}
        self._curves: dict[tuple[str, str], Curve] = {}
        self._run_files: dict[str, dict[str, bytes]] = {}
        self.curves_asked: list[str] = []
        self._witnesses: dict[str, WitnessRun] = {}
        self._ticks = 0

    # ---- what tests set up ---------------------------------------------------------------------------------

    def add_model(self, name: str, **tags: str) -> None:
        now = self._tick()
        self._models[name] = RegisteredModel(name=name, created_at=now, updated_at=now, tags=tags)

    def add_version(  # noqa: PLR0913
        self,
        name: str,
        metrics: dict[str, float] | None = None,
        *,
        dataset: Dataset | None = HOLDOUT,
        author: str = "trainer",
        signature: Signature | None = SIGNATURE,
        input_example: bool = False,
        ended_at: datetime | None = None,
        files: dict[str, bytes] | None = None,
        params: dict[str, str] | None = None,
    ) -> VersionRef:
        """The next version of a model, trained by ``author`` on a run of its own."""
        if name not in self._models:
            self.add_model(name)
        now = self._tick()
        number = 1 + max((r.version for r in self._versions if r.name == name), default=0)
        ref = VersionRef(name=name, version=number)
        run_id = hashlib.md5(f"{ref}{now}".encode(), usedforsecurity=False).hexdigest()
        self._runs[run_id] = RunFacts(
            run_id=run_id,
            name=f"run-{number}",
            user=author,
            experiment_id="1",
            started_at=now,
            ended_at=ended_at or now,
            status="FINISHED",
            metrics={
                key: Metric(
                    name=key,
                    value=value,
                    dataset_name=dataset.name if dataset else None,
                    dataset_digest=dataset.digest if dataset else None,
                )
                for key, value in (metrics or {}).items()
            },
            params=params or {},
            datasets=(dataset,) if dataset else (),
        )
        self._files[ref] = files or {"MLmodel": b"flavors: {}\n", "model.skops": f"model {ref}".encode()}
        self._signed[ref] = signature
        if input_example:
            self._with_example.add(ref)
        self._versions[ref] = ModelVersion(
            ref=ref, created_at=now, updated_at=now, run_id=run_id, source=f"models:/m-{run_id}", user=author
        )
        return ref

    def log_metric(self, ref: VersionRef, name: str, value: float, dataset: Dataset | None = HOLDOUT) -> None:
        """A metric written to the version's run by anybody, at any time."""
        run = self._runs[self._versions[ref].run_id or ""]
        measured = (dataset.name, dataset.digest) if dataset else (None, None)
        metric = Metric(name=name, value=value, dataset_name=measured[0], dataset_digest=measured[1])
        self._runs[run.run_id] = replace(run, metrics={**run.metrics, name: metric})

    def log_on_run(self, ref: VersionRef, metric: str, value: float) -> None:
        """Another last value of a metric of the version's run, which says of no metric on which data set."""
        run_id, found = self._versions[ref].run_id or "", Metric(name=metric, value=value, at=self._tick())
        self._runs[run_id] = replace(self._runs[run_id], metrics={**self._runs[run_id].metrics, metric: found})

    def log_on_model(self, ref: VersionRef, metric: str, value: float, dataset: Dataset | None = None) -> None:
        """One more value that the version's logged model says."""
        version = self._versions[ref]
        model_id = version.model_id or f"m-{version.run_id}"
        self._versions[ref] = replace(version, model_id=model_id)
        said = Metric(
            name=metric,
            value=value,
            dataset_name=dataset.name if dataset else None,
            dataset_digest=dataset.digest if dataset else None,
            source=MetricSource.LOGGED_MODEL,
            at=self._tick(),
        )
        before = self._logged_models.get(model_id, LoggedModelFacts(model_id=model_id))
        self._logged_models[model_id] = replace(before, metrics=(*before.metrics, said))

    def log_outputs(self, ref: VersionRef, *models: str) -> None:
        """Logged models that the version's run made."""
        run_id = self._versions[ref].run_id or ""
        self._runs[run_id] = replace(self._runs[run_id], models=models)

    def log_input(self, ref: VersionRef, dataset: Dataset) -> None:
        """A data set that somebody logs on the version's run."""
        run_id = self._versions[ref].run_id or ""
        self._runs[run_id] = replace(self._runs[run_id], datasets=(*self._runs[run_id].datasets, dataset))

    def log_curve(self, ref: VersionRef, metric: str, points: Curve) -> None:
        """Values of one metric of the version's run, step by step."""
        self._curves[self._versions[ref].run_id or "", metric] = points

    def log_file(self, ref: VersionRef, path: str, content: bytes) -> None:
        """A file that the version's run logged beside the model."""
        self._run_files.setdefault(self._versions[ref].run_id or "", {})[path] = content

    def tag_run(self, ref: VersionRef, **tags: str) -> None:
        run_id = self._versions[ref].run_id or ""
        self._runs[run_id] = replace(self._runs[run_id], tags={**self._runs[run_id].tags, **tags})

    def claim_author(self, ref: VersionRef, user: str) -> None:
        """As ``mlflow.user`` of the run, which anybody may write."""
        run_id = self._versions[ref].run_id or ""
        self._runs[run_id] = replace(self._runs[run_id], user=user)

    def drop_run(self, ref: VersionRef) -> None:
        del self._runs[self._versions[ref].run_id or ""]

    def delete_run(self, ref: VersionRef, *, deleted: bool = True) -> None:
        """Deleted as MLflow does it: it can be restored, and is answered until then."""
        run_id = self._versions[ref].run_id or ""
        self._runs[run_id] = replace(self._runs[run_id], deleted=deleted)

    def write_file(self, ref: VersionRef, path: str, content: bytes) -> None:
        self._files[ref][path] = content

    def tag(self, ref: VersionRef, key: str, value: str) -> None:
        """A tag set by somebody else: not counted as a write of ours."""
        self._versions[ref] = replace(self._versions[ref], tags={**self._versions[ref].tags, key: value})

    def describe(self, ref: VersionRef, words: str) -> None:
        """Write the description of a version, as anybody may in MLflow."""
        self._versions[ref] = replace(self._versions[ref], description=words)

    def drop_version(self, ref: VersionRef) -> None:
        """Deleted by somebody, with the aliases that pointed at it."""
        del self._versions[ref], self._files[ref], self._signed[ref]
        model = self._models[ref.name]
        kept = {alias: number for alias, number in model.aliases.items() if number != ref.version}
        self._models[ref.name] = replace(model, aliases=kept)

    def drop_model(self, name: str) -> None:
        for version in self._of(name):
            self.drop_version(version.ref)
        del self._models[name]

    def rename_model(self, name: str, new: str) -> None:
        """As MLflow does it: times and sources stay, aliases go along."""
        self._models[new] = replace(self._models.pop(name), name=new)
        for version in self._of(name):
            ref = replace(version.ref, name=new)
            self._versions[ref] = replace(self._versions.pop(version.ref), ref=ref)
            self._files[ref], self._signed[ref] = self._files.pop(version.ref), self._signed.pop(version.ref)

    def source(self, ref: VersionRef, source: str, *, run_id: str | None = None, place: Place | None = None) -> None:
        """What a client said when it registered the version; ``place`` is what that resolves to."""
        version = self._versions[ref]
        self._versions[ref] = replace(version, source=source, run_id=run_id or version.run_id)
        if place:
            self._places[ref] = place

    def hide_files(self, ref: VersionRef, source: str, why: str) -> None:
        """The version is said to lie where nobody here can read; the sentence is the one of the real adapter."""
        nowhere = Place(kind=PlaceKind.ELSEWHERE, uri=source, unguarded_because="they lie elsewhere")
        self.source(ref, source, place=nowhere)
        self._unreadable[ref] = str(stores.unreadable(source, f"the files of {ref}", why, "Install it"))

    def remove_file(self, ref: VersionRef, path: str) -> None:
        del self._files[ref][path]

    def _tick(self) -> datetime:
        self._ticks += 1
        return START + timedelta(minutes=self._ticks)

    # ---- reading -------------------------------------------------------------------------------------------

    def ping(self) -> None:
        self.calls += 1

    def hook(self) -> Hook | None:
        return Hook(asks="http://signoff", ours=self.knows_us) if self.hooked else None

    def gated(self) -> bool:
        return self.hooked

    @contextmanager
    def under(self, intent: str) -> Iterator[None]:
        self.intent, before = intent, self.intent
        try:
            yield
        finally:
            self.intent = before

    def model(self, name: str) -> RegisteredModel:
        self.calls += 1
        if name not in self._models:
            raise NotFound(f"MLflow does not know the registered model {name}.")
        newest: dict[str, ModelVersion] = {v.stage: v for v in self._of(name)}
        return replace(self._models[name], latest=tuple(newest.values()))

    def models(self, *, newest_first: bool = False) -> Iterator[list[RegisteredModel]]:
        self.calls += 1
        found = list(self._models.values())
        yield sorted(found, key=lambda m: (-m.updated_at.timestamp(), m.name) if newest_first else (0.0, m.name))

    def version(self, ref: VersionRef) -> ModelVersion:
        self.calls += 1
        self.while_reading("version")
        if ref not in self._versions or self._versions[ref].is_prompt:
            raise NotFound(f"MLflow does not know {ref}.")
        return self._versions[ref]

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        self.calls += 1
        self.while_reading("versions")
        return self._of(name)

    def all_versions(self, *, newest_first: bool = False) -> Iterator[list[ModelVersion]]:
        self.calls += 1
        found = list(self._versions.values())
        yield sorted(found, key=lambda v: v.updated_at, reverse=True) if newest_first else found

    def run(self, run_id: str) -> RunFacts:
        self.calls += 1
        if run_id not in self._runs:
            raise NotFound(f"MLflow does not know the run {run_id}.")
        return self._runs[run_id]

    def runs(self, run_ids: Iterable[str]) -> dict[str, RunFacts]:
        self.calls += 1
        return {run_id: self._runs[run_id] for run_id in run_ids if run_id in self._runs}

    def deployments(self, ref: VersionRef) -> tuple[RunFacts, ...]:
        self.calls += 1
        wanted = {"model_name": ref.name, "model_version": str(ref.version)}
        return tuple(run for run in self._runs.values() if wanted.items() <= run.params.items())

    def logged_model(self, model_id: str) -> LoggedModelFacts:
        self.calls += 1
        if model_id not in self._logged_models:
            raise NotFound(f"MLflow does not know the logged model {model_id}.")
        return self._logged_models[model_id]

    def logged_models(self, model_ids: Iterable[str]) -> dict[str, LoggedModelFacts]:
        self.calls += 1
        return {model_id: self._logged_models[model_id] for model_id in model_ids if model_id in self._logged_models}

    def curves(self, run_ids: Iterable[str], metric: str, limit: int) -> dict[str, Curve]:
        self.calls += 1
        self.curves_asked.append(metric)
        return {run_id: self._curve(run_id, metric)[:limit] for run_id in run_ids}

    def _curve(self, run_id: str, metric: str) -> Curve:
        found = self._runs[run_id].metrics.get(metric) if run_id in self._runs else None
        return self._curves.get((run_id, metric)) or (((0, found.value),) if found else ())

    def place(self, version: ModelVersion) -> Place:
        self.calls += 1
        if version.ref not in self._versions:
            raise NotFound(f"MLflow does not know {version.ref}.")
        model_id = version.source.removeprefix("models:/")
        why = "" if self.hooked else "the MLflow server has no hook that asks Signoff"
        return self._places.get(version.ref) or Place(
            kind=PlaceKind.LOGGED_MODEL,
            uri=f"mlflow-artifacts:/1/models/{model_id}/artifacts",
            id=model_id,
            run_id=model_id.removeprefix("m-"),
            unguarded_because=why,
        )

    def source_problem(self, version: ModelVersion) -> str:
        return self._unreadable.get(version.ref, "")

    def _require_readable(self, ref: VersionRef) -> None:
        if ref in self._unreadable:
            raise FilesUnreadable(self._unreadable[ref])

    def version_file(self, ref: VersionRef, path: str, limit: int) -> bytes:
        self.calls += 1
        self._require_readable(ref)
        if path not in self._files.get(ref, {}):
            raise NotFound(f"MLflow does not know {path} of {ref}.")
        content = self._files[ref][path]
        if path == "MLmodel" and (signature := self._signed[ref]):
            content += f"signature: {json.dumps(_as_in_mlmodel(signature))}\n".encode()
        if len(content) > limit:
            raise UnreadableModel(f"There is more in {path} of {ref} than is read.")
        return content

    def listing(self, ref: VersionRef) -> tuple[ArtifactEntry, ...]:
        self.calls += 1
        self._require_readable(ref)
        return tuple(ArtifactEntry(path=path, size=len(data)) for path, data in sorted(self._files[ref].items()))

    def manifest(self, ref: VersionRef) -> Manifest:
        self.calls += 1
        self.while_reading("files")
        self._require_readable(ref)
        if ref not in self._files:
            raise NotFound(f"MLflow does not know the files of {ref}.")
        total = sum(map(len, self._files[ref].values()))
        tell(Progress(ref=ref, done=total, total=total))
        return Manifest(
            files=tuple(
                ArtifactFile(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
                for path, data in sorted(self._files[ref].items())
            ),
            signature=self._signed[ref],
            has_input_example=ref in self._with_example,
            named=(said := self._described(ref)).named,
            outside=said.outside,
        )

    def _described(self, ref: VersionRef) -> Description:
        """What ``MLmodel`` says; nothing where a test wrote something else into it."""
        with suppress(UnreadableModel):
            return described(ref, self._files[ref].get("MLmodel") or b"{}")
        return Description()

    def fetch(self, ref: VersionRef, folder: Path, *, max_bytes: int) -> Manifest:
        found = self.manifest(ref)
        if found.size > max_bytes:
            raise BadInput(f"The files of {ref} have {found.size} bytes; at most {max_bytes} are read.")
        for path, data in self._files[ref].items():
            for _ in saved([data], folder, path, max_bytes=max_bytes):
                pass
        return found

    def run_files(self, run_id: str) -> tuple[ArtifactEntry, ...]:
        self.calls += 1
        found = self._run_files.get(run_id, {})
        return tuple(ArtifactEntry(path=path, size=len(data)) for path, data in sorted(found.items()))

    def run_file(self, run_id: str, path: str) -> bytes:
        self.calls += 1
        if path not in self._run_files.get(run_id, {}):
            raise NotFound(f"MLflow does not know the artifact {path}.")
        return self._run_files[run_id][path]

    def _of(self, name: str) -> tuple[ModelVersion, ...]:
        found = [version for ref, version in self._versions.items() if ref.name == name]
        return tuple(sorted(found, key=lambda version: version.ref.version))

    # ---- writing -------------------------------------------------------------------------------------------

    def set_stage(self, ref: VersionRef, stage: str, *, archive_existing: bool = False) -> None:
        with self._writing(f"stage {ref} {stage}"):
            now = self._tick()
            for other in self._of(ref.name):
                if archive_existing and other.stage == stage and other.ref != ref:
                    self._versions[other.ref] = replace(other, stage="Archived", updated_at=now)
            self._versions[ref] = replace(self._versions[ref], stage=stage, updated_at=now)
            self._models[ref.name] = replace(self._models[ref.name], updated_at=now)

    def set_alias(self, ref: VersionRef, alias: str) -> None:
        with self._writing(f"alias {ref} {alias}"):
            model = self._models[ref.name]
            self._models[ref.name] = replace(model, aliases={**model.aliases, alias: ref.version})

    def delete_alias(self, name: str, alias: str) -> None:
        with self._writing(f"no alias {name} {alias}"):
            model = self._models[name]
            kept = {key: value for key, value in model.aliases.items() if key != alias}
            self._models[name] = replace(model, aliases=kept)

    def set_tag(self, ref: VersionRef, key: str, value: str) -> None:
        with self._writing(f"tag {ref} {key}"):
            self.tag(ref, key, value)

    def delete_tag(self, ref: VersionRef, key: str) -> None:
        with self._writing(f"no tag {ref} {key}"):
            version = self._versions[ref]
            kept = {name: value for name, value in version.tags.items() if name != key}
            self._versions[ref] = replace(version, tags=kept)

    def begin_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        with self._writing(f"run {name}"):
            now, run_id = self._tick(), uuid4().hex
            self._runs[run_id] = RunFacts(
                run_id=run_id,
                name=name,
                user=None,
                experiment_id=experiment,
                started_at=now,
                ended_at=None,
                status="RUNNING",
                tags=dict(tags),
            )
            return run_id

    def complete_run(self, run_id: str, contents: RunContents) -> None:
        with self._writing(f"figures {self._runs[run_id].name}"):
            self._runs[run_id] = replace(
                self._runs[run_id],
                metrics={name: Metric(name=name, value=value) for name, value in contents.metrics.items()},
                params=dict(contents.params),
                tags={**self._runs[run_id].tags, **contents.tags},
                datasets=(contents.dataset,),
                ended_at=self._tick(),
                status="FINISHED",
            )

    def abandon_run(self, run_id: str) -> None:
        with self._writing(f"gave up {self._runs[run_id].name}"):
            self._runs[run_id] = replace(self._runs[run_id], status="FAILED", ended_at=self._tick())

    def witnesses(self, experiments: Iterable[str] = ()) -> tuple[WitnessRun, ...]:
        self.calls += 1
        wanted = set(experiments)
        return tuple(
            one for one in self._witnesses.values() if one.experiment in wanted or one.called.startswith(WITNESS)
        )

    def witness_run(self, run_id: str) -> WitnessRun:
        self.calls += 1
        if run_id not in self._witnesses:
            raise NotFound(f"MLflow does not know the run {run_id}.")
        return self._witnesses[run_id]

    def open_witness(self, ledger: str, experiments: Sequence[str] = ()) -> WitnessRun:
        with self._writing("witness opened"):
            usable = [one for one in experiments if any(w.experiment == one for w in self._witnesses.values())]
            experiment = usable[0] if usable else f"{900 + len(self._witnesses)}" if experiments else "900"
            run = uuid4().hex
            called = WITNESS if experiment == "900" else f"{WITNESS}-{experiment}"
            made = WitnessRun(run=run, experiment=experiment, called=called, ledger=ledger, active=True, texts={})
            self._witnesses[run] = made
            return made

    def witness(self, run_id: str, name: str, text: str) -> None:
        with self._writing(f"witness {name}"):
            held = self._witnesses.get(run_id)
            if held is None:
                raise NotFound(f"MLflow does not know {name} of the ledger.")
            if not held.active or held.texts.get(name, text) != text:
                raise BadInput(f"MLflow does not accept {name} of the ledger.")
            self._witnesses[run_id] = replace(held, texts={**held.texts, name: text})

    @property
    def witnessed(self) -> dict[str, str]:
        """Every checkpoint that is held, by name, oldest first."""
        return {name: text for one in self._witnesses.values() for name, text in one.texts.items()}

    def change_witness(self, run_id: str, **changed: Any) -> None:
        """What somebody does to a witness in MLflow: deletes, renames or writes it."""
        self._witnesses[run_id] = replace(self._witnesses[run_id], **changed)

    def _writing(self, what: str) -> _Write:
        return _Write(self, what)


def _as_in_mlmodel(signature: Signature) -> dict[str, str]:
    return {
        part: json.dumps([{"name": c.name, "type": c.type, "required": c.required} for c in getattr(signature, part)])
        for part in ("inputs", "outputs")
    }


class _Write:
    """Calls the hooks around one write and notes it when it happened."""

    def __init__(self, registry: FakeRegistry, what: str) -> None:
        self._registry, self._what = registry, what

    def __enter__(self) -> None:
        self._registry.calls += 1
        self._registry.before_write(self._what)

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._registry.writes.append(self._what)
            self._registry.after_write(self._what)


class PlainPasswords:
    """Passwords that cost nothing, and remember what they were asked."""

    def __init__(self) -> None:
        self.hashed: list[str] = []
        self.checked: list[str | None] = []

    def hash(self, password: str) -> str:
        self.hashed.append(password)
        return f"plain:{password}"

    def check(self, password: str, hashed: str | None) -> bool:
        self.checked.append(hashed)
        return hashed == f"plain:{password}"
