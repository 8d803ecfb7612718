"""Which registered versions have their files where: looked up in MLflow's own table, never in anybody's tags."""

from __future__ import annotations

import os
import posixpath
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion

ANCHOR = "/mlflow-artifacts/artifacts"
OVERLAP_MS = 10 * 60 * 1000
"""How far the clocks of several servers may be apart."""
MAX_UNQUOTE = 10

_REGISTERED = sa.select(
    SqlModelVersion.workspace,
    SqlModelVersion.name,
    SqlModelVersion.version,
    SqlModelVersion.storage_location,
    SqlModelVersion.source,
    SqlModelVersion.creation_time,
).where(SqlModelVersion.creation_time >= sa.bindparam("since"), SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL)


@dataclass(frozen=True, order=True)
class Holder:
    """A registered version."""

    workspace: str
    name: str
    version: int


def place(uri: str, destination: str) -> str:
    """Where a URI leads, so that two ways of writing it give the same; proxied ones lead below ``destination``."""
    parts = urlsplit(uri)
    path = _unquoted(parts.path)
    if parts.scheme == "mlflow-artifacts":
        return _below(place(destination, ""), path)
    if parts.scheme in {"http", "https"} and ANCHOR in path:
        return _below(place(destination, ""), path.split(ANCHOR, 1)[1])
    if parts.scheme in {"", "file"}:
        return os.path.realpath(path if parts.scheme else _unquoted(uri)) if uri else "/"
    return f"{parts.scheme}://{parts.netloc}{_normal(path)}"


def within(root: str, path: str) -> str:
    """A path below a place."""
    return _below(root, _unquoted(path))


def _below(root: str, path: str) -> str:
    return root.rstrip("/") + _normal(path)


def _normal(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/")).rstrip("/")


def _unquoted(text: str) -> str:
    for _ in range(MAX_UNQUOTE):
        plain = unquote(text)
        if plain == text:
            break
        text = plain
    return text


class Locations:
    """Place → the versions whose files are there; kept in memory, with what is new read before each look."""

    def __init__(self, destination: str) -> None:
        self._destination = destination
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._at: dict[str, set[Holder]] = {}
        self._read_last: set[Any] = set()
        self._seen = 0

    def concerned(self, store: Any, where: str, *, deleted: bool) -> list[Holder]:
        """Versions whose files ``where`` is one of or lies above; what lies above matters when it is deleted."""
        with self._lock:
            self._read(store)
            found = set(self._matching(where, deleted=deleted))
            if found and not self._still_there(store, found):
                self._forget()  # renamed or deleted since it was read
                self._read(store)
                found = set(self._matching(where, deleted=deleted))
        return sorted(found)

    def _matching(self, where: str, *, deleted: bool) -> Iterator[Holder]:
        parts = where
        while True:
            yield from self._at.get(parts, ())
            if "/" not in parts.rstrip("/"):
                break
            parts = parts.rstrip("/").rpartition("/")[0]
        if deleted:
            prefix = where.rstrip("/") + "/"
            for at, holders in self._at.items():
                if at.startswith(prefix):
                    yield from holders

    def _read(self, store: Any) -> None:
        with store.ManagedSessionMaker() as session:
            rows = set(session.execute(_REGISTERED, {"since": self._seen - OVERLAP_MS}).all())
        for row in rows - self._read_last:
            holder = Holder(row.workspace, row.name, row.version)
            for uri in {row.storage_location, row.source} - {None, ""}:
                if not uri.startswith("models:"):
                    self._at.setdefault(place(uri, self._destination), set()).add(holder)
            self._seen = max(self._seen, row.creation_time or 0)
        self._read_last = rows  # clocks may be apart, so the last minutes come again each time

    def _still_there(self, store: Any, holders: set[Holder]) -> bool:
        with store.ManagedSessionMaker() as session:
            return all(
                session.query(SqlModelVersion.version)
                .filter_by(workspace=holder.workspace, name=holder.name, version=holder.version)
                .filter(SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL)
                .first()
                for holder in holders
            )
