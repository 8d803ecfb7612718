"""Which registered versions have their files where, and name which runs and logged models.

Looked up in MLflow's own tables, never in anybody's tags.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.uri import append_to_uri_path

from mlflow_gate.sources import Source, lies_below, model_ids_in, named, place

OVERLAP_SECONDS = 10 * 60.0
"""How far the clocks of several servers may be apart."""
MAX_STEPS = 8
"""How many versions may name one another as their source before we stop following."""
MAX_IN = 500
_MODELS = SqlAlchemyStore.MODELS_FOLDER_NAME
"""Where the logged models of an experiment are, below its artifacts."""

_REGISTERED = sa.select(
    SqlModelVersion.workspace,
    SqlModelVersion.name,
    SqlModelVersion.version,
    SqlModelVersion.creation_time,
    SqlModelVersion.storage_location,
    SqlModelVersion.source,
    SqlModelVersion.run_id,
).where(SqlModelVersion.creation_time >= sa.bindparam("since"), SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL)
_VERSION = sa.select(SqlModelVersion.storage_location, SqlModelVersion.source).where(
    SqlModelVersion.workspace == sa.bindparam("workspace"),
    SqlModelVersion.name == sa.bindparam("name"),
    SqlModelVersion.version == sa.bindparam("version"),
)
_RUNS = sa.select(SqlRun.run_uuid, SqlRun.artifact_uri).where(SqlRun.run_uuid.in_(sa.bindparam("ids", expanding=True)))
_LOGGED = sa.select(
    SqlLoggedModel.model_id, SqlLoggedModel.name, SqlLoggedModel.source_run_id, SqlLoggedModel.artifact_location
)
_THOSE_LOGGED = _LOGGED.where(SqlLoggedModel.model_id.in_(sa.bindparam("ids", expanding=True)))
_EXPERIMENTS = sa.select(SqlExperiment.experiment_id, SqlExperiment.artifact_location)
_LOGGED_IN = _LOGGED.where(
    SqlLoggedModel.experiment_id.in_(sa.bindparam("ids", expanding=True)), SqlLoggedModel.source_run_id.is_not(None)
)


@dataclass(frozen=True, order=True)
class Holder:
    """A registered version; ``created`` in epoch milliseconds, as another one may have its name and number later."""

    workspace: str
    name: str
    version: int
    created: int = 0


@dataclass(frozen=True, kw_only=True)
class Concerned:
    """Versions whose files are at a place, and all others for which what lies there would be evidence.

    That is whatever lies in a run that a version names, and in any logged model of such a run: registered, it would be
    judged by the metrics of that run.
    """

    files: list[Holder]
    evidence: list[Holder]


class _Known:
    """What was read. Only ever added to; it is thrown away as a whole."""

    def __init__(self) -> None:
        self.at: defaultdict[str, set[Holder]] = defaultdict(set)
        self.run_at: defaultdict[str, set[Holder]] = defaultdict(set)
        self.runs: defaultdict[str, set[Holder]] = defaultdict(set)
        self.logged: defaultdict[str, set[Holder]] = defaultdict(set)
        self.named: defaultdict[tuple[str, str], set[Holder]] = defaultdict(set)
        self.read_last: set[Any] = set()
        self.read_at: float | None = None

    def since(self) -> int:
        """The oldest creation, in epoch milliseconds, that may have been missed when this was last read.

        Counted back from now, so that it holds when this machine's clock is set meanwhile.
        """
        if self.read_at is None:
            return 0
        return int((time.time() - (time.monotonic() - self.read_at) - OVERLAP_SECONDS) * 1000)

    def add(self, holder: Holder, source: Source) -> None:
        """That a version names this."""
        if source.run_id is not None and source.model_name is not None:
            self.named[source.run_id, source.model_name].add(holder)
        if source.model_id is not None:
            self.logged[source.model_id].add(holder)


def _matching(places: Mapping[str, set[Holder]], where: str, *, deleted: bool) -> Iterator[Holder]:
    """Versions with one of ``places`` at or above ``where``, and below it when that is deleted."""
    parts = where
    while True:
        yield from places.get(parts, ())
        if "/" not in parts.rstrip("/"):
            break
        parts = parts.rstrip("/").rpartition("/")[0]
    if deleted:
        for at, holders in places.items():
            if lies_below(at, where):
                yield from holders


class Locations:
    """Kept in memory, with what is new read before each look: one look into an index of MLflow's database."""

    def __init__(self, destination: str, tracking: Callable[[], Any]) -> None:
        self._destination = destination
        self._tracking = tracking
        self._lock = threading.Lock()
        self._known = _Known()

    def concerned(self, store: Any, where: str, *, deleted: bool) -> Concerned:
        """Versions that a place concerns, which is theirs or lies below; or above, when that is deleted."""
        files, evidence = self._looked_up(store, lambda known: self._at(known, where, deleted=deleted))
        return Concerned(files=sorted(files), evidence=sorted(evidence - files))

    def naming(self, store: Any, *, runs: Iterable[str] = (), logged: Iterable[str] = ()) -> list[Holder]:
        """Versions that name one of these runs, or one of these logged models."""
        runs, logged = list(runs), list(logged)
        (found,) = self._looked_up(store, lambda known: (self._naming(known, runs, logged),))
        return sorted(found)

    def _looked_up(self, store: Any, look: Callable[[_Known], tuple[set[Holder], ...]]) -> tuple[set[Holder], ...]:
        found = look(self._current(store))
        if any(found) and not self._still_there(store, set().union(*found)):
            with self._lock:
                self._known = _Known()  # renamed or deleted since it was read, whatever has its name now
            found = look(self._current(store))
        return found

    def _at(self, known: _Known, where: str, *, deleted: bool) -> tuple[set[Holder], set[Holder]]:
        """Versions whose files are there, and versions whose run is."""
        with self._lock:
            files = set(_matching(known.at, where, deleted=deleted))
            evidence = set(_matching(known.run_at, where, deleted=deleted))
        for row in self._logged_at(where, deleted=deleted) if known.runs else ():
            files |= known.named.get((row.source_run_id, row.name), set())
            evidence |= known.runs.get(row.source_run_id, set())
        return files, evidence

    def _logged_at(self, where: str, *, deleted: bool) -> Iterator[Any]:
        """The logged models that a place belongs to, and all that go with it when it is deleted."""
        rows = self._read_tracking(_THOSE_LOGGED, model_ids_in(where))
        if deleted:
            above = {
                row.experiment_id
                for row in self._read_tracking(_EXPERIMENTS)
                for at in self._placed(row.artifact_location)
                if f"{at}/{_MODELS}" == where or lies_below(f"{at}/{_MODELS}", where)
            }
            rows += self._read_tracking(_LOGGED_IN, sorted(above))
        for row in rows:
            for at in self._placed(row.artifact_location):
                if at == where or lies_below(where, at) or (deleted and lies_below(at, where)):
                    yield row

    def _naming(self, known: _Known, runs: list[str], logged: list[str]) -> set[Holder]:
        found: set[Holder] = set()
        found.update(*(known.runs.get(run, ()) for run in runs))
        found.update(*(known.logged.get(model_id, ()) for model_id in logged))
        if known.named:
            for row in self._read_tracking(_THOSE_LOGGED, logged):
                found |= known.named.get((row.source_run_id, row.name), set())
        return found

    def _current(self, store: Any) -> _Known:
        while True:
            known, begun = self._known, time.monotonic()
            with store.ManagedSessionMaker() as session:
                rows = set(session.execute(_REGISTERED, {"since": known.since()}).all())
            new = rows - known.read_last
            found, of_runs = self._resolved(store, new) if new else ([], [])
            with self._lock:
                if known is not self._known:
                    continue  # forgotten meanwhile: what came before has to be read again
                for holder, run_id, uri in of_runs:
                    known.runs[run_id].add(holder)
                    for at in self._placed(uri):
                        known.run_at[at].add(holder)
                for holder, source, uri in found:
                    known.add(holder, source)
                    for at in self._placed(uri):
                        known.at[at].add(holder)
                        for model_id in model_ids_in(at):
                            known.logged[model_id].add(holder)
                known.read_last = rows  # clocks may be apart, so the last minutes come again each time
                known.read_at = begun
                return known

    def _resolved(
        self, store: Any, rows: Iterable[Any]
    ) -> tuple[list[tuple[Holder, Source, str]], list[tuple[Holder, str, str]]]:
        """What each version names, and which runs its evidence is of; each with the URI of its files, if there is one.

        The run of a version is that of its source, that it was registered with, and that of its logged model.
        """
        found = [(_holder(row), source) for row in rows for source in self._sources(store, row)]
        ids = {source: self._model_ids(source) for _, source in found}
        every = sorted({model_id for some in ids.values() for model_id in some})
        logged = {row.model_id: row for row in self._read_tracking(_THOSE_LOGGED, every)}
        of_runs = {(_holder(row), row.run_id) for row in rows}
        for holder, source in found:
            of_runs.add((holder, source.run_id))
            of_runs |= {(holder, logged[one].source_run_id) for one in ids[source] if one in logged}
        runs = {
            row.run_uuid: row.artifact_uri
            for row in self._read_tracking(_RUNS, sorted({run_id for _, run_id in of_runs if run_id}))
        }
        uris = []
        for holder, source in found:
            uri = source.uri
            if source.model_id in logged:
                uri = logged[source.model_id].artifact_location
            elif root := runs.get(source.run_id or ""):
                uri = _joined(root, source.path)
            uris.append((holder, source, uri))
        return uris, [(holder, run_id, runs.get(run_id, "")) for holder, run_id in of_runs if run_id]

    def _model_ids(self, source: Source) -> list[str]:
        """The logged models whose files a source says, by id or by where they are."""
        if source.model_id is not None:
            return [source.model_id]
        return [model_id for at in self._placed(source.uri) for model_id in model_ids_in(at)]

    def _sources(self, store: Any, row: Any) -> Iterator[Source]:
        """What MLflow loads a version from, and what its source says besides."""
        differs = row.storage_location and row.storage_location != row.source
        if differs and (own := named(row.source or "")) and own.version is None:
            yield own
        used, steps = row.storage_location or row.source or "", 0
        while (source := named(used)) and source.version is not None and steps < MAX_STEPS:
            name, version = source.version
            with store.ManagedSessionMaker() as session:
                asked = {"workspace": row.workspace, "name": name, "version": version}
                next_ = session.execute(_VERSION, asked).one_or_none()
            used, steps = (next_.storage_location or next_.source or "") if next_ else "", steps + 1
        if source is not None and source.version is None:
            yield source

    def _placed(self, uri: str | None) -> Iterator[str]:
        if uri:
            try:
                yield place(uri, self._destination)
            except ValueError:
                return  # no URI and no path: nothing can be there

    def _read_tracking(self, query: Any, ids: list[Any] | None = None) -> list[Any]:
        if ids is not None and not ids:
            return []
        with self._tracking().ManagedSessionMaker() as session:
            if ids is None:
                return list(session.execute(query).all())
            parts = [ids[start : start + MAX_IN] for start in range(0, len(ids), MAX_IN)]
            return [row for part in parts for row in session.execute(query, {"ids": part})]

    def _still_there(self, store: Any, holders: set[Holder]) -> bool:
        with store.ManagedSessionMaker() as session:
            return all(
                session.query(SqlModelVersion.version)
                .filter_by(
                    workspace=holder.workspace, name=holder.name, version=holder.version, creation_time=holder.created
                )
                .filter(SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL)
                .first()
                for holder in holders
            )


def _holder(row: Any) -> Holder:
    return Holder(row.workspace, row.name, row.version, row.creation_time)


def _joined(root: str, path: str | None) -> str:
    """As MLflow joins them; all of the run's files where it cannot."""
    try:
        return str(append_to_uri_path(root, path)) if path else root
    except (MlflowException, ValueError):
        return root
