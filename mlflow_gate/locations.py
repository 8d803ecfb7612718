"""Which registered versions have their files where, and name which runs and logged models.

Looked up in MLflow's own tables, never in anybody's tags.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import SqlLoggedModel, SqlRun
from mlflow.utils.uri import append_to_uri_path

from mlflow_gate.sources import Source, model_ids_in, named, place

OVERLAP_SECONDS = 10 * 60.0
"""How far the clocks of several servers may be apart."""
MAX_STEPS = 8
"""How many versions may name one another as their source before we stop following."""
MAX_IN = 500

_REGISTERED = sa.select(
    SqlModelVersion.workspace,
    SqlModelVersion.name,
    SqlModelVersion.version,
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
_LOGGED_BY_RUNS = _LOGGED.where(SqlLoggedModel.source_run_id.is_not(None))


@dataclass(frozen=True, order=True)
class Holder:
    """A registered version."""

    workspace: str
    name: str
    version: int


class _Known:
    """What was read. Only ever added to; it is thrown away as a whole."""

    def __init__(self) -> None:
        self.at: defaultdict[str, set[Holder]] = defaultdict(set)
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
        if source.run_id is not None:
            self.runs[source.run_id].add(holder)
            if source.model_name is not None:
                self.named[source.run_id, source.model_name].add(holder)
        if source.model_id is not None:
            self.logged[source.model_id].add(holder)

    def matching(self, where: str, *, deleted: bool) -> Iterator[Holder]:
        """Versions with files at or above a place, and below it when that is deleted."""
        parts = where
        while True:
            yield from self.at.get(parts, ())
            if "/" not in parts.rstrip("/"):
                break
            parts = parts.rstrip("/").rpartition("/")[0]
        if deleted:
            for at, holders in self.at.items():
                if _lies_below(at, where):
                    yield from holders


class Locations:
    """Kept in memory, with what is new read before each look: one look into an index of MLflow's database."""

    def __init__(self, destination: str, tracking: Callable[[], Any]) -> None:
        self._destination = destination
        self._tracking = tracking
        self._lock = threading.Lock()
        self._known = _Known()

    def concerned(self, store: Any, where: str, *, deleted: bool) -> list[Holder]:
        """Versions whose files ``where`` is one of or lies above; what lies above matters when it is deleted."""
        return self._looked_up(store, lambda known: self._at(known, where, deleted=deleted))

    def naming(self, store: Any, *, runs: Iterable[str] = (), logged: Iterable[str] = ()) -> list[Holder]:
        """Versions that name one of these runs, or one of these logged models."""
        runs, logged = list(runs), list(logged)
        return self._looked_up(store, lambda known: self._naming(known, runs, logged))

    def loading(self, store: Any, run_id: str, name: str) -> list[Holder]:
        """Versions that would load a new logged model of this name under this run."""
        return self._looked_up(store, lambda known: set(known.named.get((run_id, name), ())))

    def _looked_up(self, store: Any, look: Callable[[_Known], set[Holder]]) -> list[Holder]:
        found = look(self._current(store))
        if found and not self._still_there(store, found):
            with self._lock:
                self._known = _Known()  # renamed or deleted since it was read
            found = look(self._current(store))
        return sorted(found)

    def _at(self, known: _Known, where: str, *, deleted: bool) -> set[Holder]:
        with self._lock:
            found = set(known.matching(where, deleted=deleted))
        if not known.named:
            return found
        ids = model_ids_in(where)
        rows = self._read_tracking(_LOGGED_BY_RUNS) if deleted else self._read_tracking(_THOSE_LOGGED, ids)
        for row in rows:
            if holders := known.named.get((row.source_run_id, row.name)):
                at = place(row.artifact_location, self._destination)
                if at == where or _lies_below(where, at) or (deleted and _lies_below(at, where)):
                    found |= holders
        return found

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
            found = self._resolved(store, new) if new else []
            with self._lock:
                if known is not self._known:
                    continue  # forgotten meanwhile: what came before has to be read again
                for row in new:
                    if row.run_id:
                        known.runs[row.run_id].add(_holder(row))
                for holder, source, uri in found:
                    known.add(holder, source)
                    for at in self._placed(uri):
                        known.at[at].add(holder)
                        for model_id in model_ids_in(at):
                            known.logged[model_id].add(holder)
                known.read_last = rows  # clocks may be apart, so the last minutes come again each time
                known.read_at = begun
                return known

    def _resolved(self, store: Any, rows: Iterable[Any]) -> list[tuple[Holder, Source, str]]:
        """What each version names, and the URI where its files are then, if there is one."""
        found = [(_holder(row), source) for row in rows for source in self._sources(store, row)]
        runs = {
            row.run_uuid: row.artifact_uri
            for row in self._read_tracking(_RUNS, sorted({source.run_id for _, source in found if source.run_id}))
        }
        logged = {
            row.model_id: row.artifact_location
            for row in self._read_tracking(
                _THOSE_LOGGED, sorted({source.model_id for _, source in found if source.model_id})
            )
        }
        uris = []
        for holder, source in found:
            uri = source.uri or logged.get(source.model_id or "") or ""
            if root := runs.get(source.run_id or ""):
                uri = _joined(root, source.path)
            uris.append((holder, source, uri))
        return uris

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

    def _placed(self, uri: str) -> Iterator[str]:
        if uri:
            try:
                yield place(uri, self._destination)
            except ValueError:
                return  # no URI and no path: nothing can be there

    def _read_tracking(self, query: Any, ids: list[str] | None = None) -> list[Any]:
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
                .filter_by(workspace=holder.workspace, name=holder.name, version=holder.version)
                .filter(SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL)
                .first()
                for holder in holders
            )


def _holder(row: Any) -> Holder:
    return Holder(row.workspace, row.name, row.version)


def _joined(root: str, path: str | None) -> str:
    """As MLflow joins them; all of the run's files where it cannot."""
    try:
        return str(append_to_uri_path(root, path)) if path else root
    except (MlflowException, ValueError):
        return root


def _lies_below(one: str, other: str) -> bool:
    return one.startswith(other.rstrip("/") + "/")
