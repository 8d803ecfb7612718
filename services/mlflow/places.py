"""What the source of a version resolves to on a real MLflow server: a run's artifact folder, or one logged model."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

from services.domain import ModelVersion, VersionRef
from services.errors import FilesUnreadable, NotFound
from services.mlflow import entities as read
from services.mlflow import stores
from services.mlflow.connection import MlflowConnection, below
from services.place import Place, PlaceKind

_NO_HOOK = "the MLflow server has no hook that asks Signoff"
_NOT_PROXIED = "whoever may write to that store changes them without asking the MLflow server"
_ELSEWHERE = "they lie neither in the folder of a run nor in a logged model of this MLflow server"
_LOST = "no run and no logged model that MLflow has is there"
MAX_COPIES = 10
"""Versions copied from versions that are followed."""
_MODEL_VERSION = re.compile(r"models:/+([^/@]+)/([1-9][0-9]*)")
_Resolved = tuple[str, Place]
"""The folder to read, and the place it is."""
_ROUTE = "/mlflow-artifacts/artifacts"
"""By which a server gives the artifacts that it stands in front of."""
_RUN_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


class MlflowPlaces(MlflowConnection):
    """The part of `services.registry.Registry` that knows where files lie."""

    def place(self, version: ModelVersion) -> Place:
        """Where the files of a version lie now, with whatever else MLflow would read its source from.

        Raises:
            NotFound: there is no such version.
            RegistryUnavailable.
        """
        return self._resolved(version.ref, version.run_id)[1]

    def source_problem(self, version: ModelVersion) -> str:
        """Why nobody here could read the files at its source, in words, as far as that shows without asking anybody."""
        uri, what = version.source, f"the files of {version.ref}"
        if stores.scheme_of(uri) in {"runs", "models", "mlflow-artifacts"}:
            return ""
        try:
            stores.require_readable(uri, what)
            stores.require_library(uri, what, known=self._known(uri))
        except FilesUnreadable as error:
            return str(error)
        return ""

    def _folder(self, ref: VersionRef) -> str:
        """The folder that holds the files of a version."""
        uri = self._source(ref)
        found = self._of_runs_source(uri, ref) if stores.scheme_of(uri) == "runs" else None
        return found[0] if found else uri

    def _resolved(self, ref: VersionRef, run_id: str | None) -> _Resolved:
        uri = self._source(ref)
        found = self._of_runs_source(uri, ref) if stores.scheme_of(uri) == "runs" else None
        return found or (uri, self._of_folder(uri, run_id))

    def _source(self, ref: VersionRef) -> str:
        """What MLflow reads; it resolves a ``models:`` source when the version is registered, old servers did not."""
        what, uri = f"the files of {ref}", ""
        for _ in range(MAX_COPIES):
            name, number = ref.name, str(ref.version)
            found = self._read(lambda n=name, v=number: self._models.get_model_version_download_uri(n, v), what)  # type: ignore[misc]
            uri = str(found or "")
            copied = _MODEL_VERSION.fullmatch(uri)
            if copied is None:
                break
            ref = VersionRef(name=unquote(copied[1]), version=int(copied[2]))
        return uri

    def _of_folder(self, uri: str, claimed: str | None) -> Place:
        model_id = read.model_id_in(uri)
        model = self._or_none(lambda: self._client.get_logged_model(model_id), model_id) if model_id else None
        if model and (inside := self._inside(uri, model.artifact_location)) is not None:
            return self._of_model(model, uri, inside)
        for run_id in dict.fromkeys([*([claimed] if claimed else []), *_RUN_ID.findall(uri)]):
            run = self._or_none(lambda run_id=run_id: self._client.get_run(run_id), run_id)  # type: ignore[misc]
            if run and (inside := self._inside(uri, run.info.artifact_uri)) is not None:
                return self._placed(PlaceKind.RUN, uri, id=run_id, path=inside, run_id=run_id)
        if (model_id and model is None) or self._proxied(self._plain(uri)):
            return Place(kind=PlaceKind.LOST, uri=stores.named(uri), id=model_id or "", unguarded_because=_LOST)
        return Place(kind=PlaceKind.ELSEWHERE, uri=stores.named(uri), unguarded_because=_ELSEWHERE)

    def _of_runs_source(self, uri: str, ref: VersionRef) -> _Resolved | None:
        """What ``runs:/RUN/path`` means; None where it names no run that MLflow has.

        MLflow reads it from the run's folder and from the newest logged model of that name under that run: which of
        the two wins depends on how the version is loaded.
        """
        parts = urlsplit(uri)
        run_id, _, path = parts.path[1:].partition("/")
        what = f"the files of {ref}"
        run = self._or_none(lambda: self._client.get_run(run_id), what) if run_id and not parts.netloc else None
        if run is None:
            return None
        path = path.strip("/")
        folder = below(run.info.artifact_uri, path) if path else run.info.artifact_uri
        in_run = self._placed(PlaceKind.RUN, folder, id=run_id, path=path, run_id=run_id)
        name, _, rest = path.partition("/")
        model = self._newest_model(run, name, what) if name else None
        if model is None:
            return folder, in_run
        location = below(model.artifact_location, rest) if rest else model.artifact_location
        in_model = self._of_model(model, location, rest)
        if not self._anything_in(folder, what):
            # MLflow downloads the empty folder of the run and looks no further, except where that is a local folder.
            local = stores.scheme_of(folder) in {"", "file"}
            why = "" if local else f"it looks in {in_run.words}, where nothing is"
            return location, replace(in_model, unloadable_because=why)
        return folder, replace(in_run, others=(in_model.words,))

    def _newest_model(self, run: Any, name: str, what: str) -> Any:
        if any(c in "'\"`\\%" or not c.isprintable() for c in name):
            return None  # MLflow gives no logged model such a name
        query = f"name = '{name}' AND source_run_id = '{run.info.run_id}'"
        found = self._read(
            lambda: self._client.search_logged_models([run.info.experiment_id], query, max_results=1), what
        )
        return next(iter(found), None)

    def _anything_in(self, folder: str, what: str) -> bool:
        try:
            return bool(self._listed(self._repository(folder, what), None, what))
        except FilesUnreadable:
            return False  # then it is no second place for anybody who reads as we do

    def _of_model(self, model: Any, uri: str, inside: str) -> Place:
        return self._placed(
            PlaceKind.LOGGED_MODEL, uri, id=model.model_id, path=inside, run_id=model.source_run_id or None
        )

    def _placed(self, kind: PlaceKind, uri: str, *, id: str, path: str, run_id: str | None) -> Place:  # noqa: A002
        why = _NOT_PROXIED if not self._proxied(self._plain(uri)) else "" if self.gated() else _NO_HOOK
        return Place(kind=kind, uri=stores.named(uri), id=id, path=path, run_id=run_id, unguarded_because=why)

    def _inside(self, uri: str, root: str) -> str | None:
        """The path of ``uri`` below ``root``, empty where they are the same; None where it lies elsewhere."""
        one, two = list(_steps(self._plain(uri))), list(_steps(self._plain(root)))
        return "/".join(one[len(two) :]) if two and one[: len(two)] == two else None

    def _plain(self, uri: str) -> str:
        """An address of this MLflow server without its name, and without the route by which it is read."""
        parts = urlsplit(uri)
        if not parts.netloc or not self._here(uri):
            return uri
        scheme, anchor, path = parts.scheme.lower(), *parts.path.partition(_ROUTE)[1:]
        if scheme == "mlflow-artifacts":
            return f"mlflow-artifacts:{parts.path}"
        return f"mlflow-artifacts:{path}" if scheme in {"http", "https"} and anchor else uri

    def _or_none(self, call: Callable[[], Any], what: str) -> Any:
        try:
            return self._read(call, what)
        except NotFound:
            return None


def _steps(uri: str) -> Iterator[str]:
    """Scheme and host, and each folder: two ways to write one address give the same."""
    parts = urlsplit(uri)
    here = parts.scheme in {"", "file"} and parts.netloc in {"", "localhost"}
    yield "" if here else f"{parts.scheme}://{parts.netloc}".lower()
    yield from posixpath.normpath("/" + unquote(parts.path).lstrip("/")).strip("/").split("/")
