"""What the source of a version names, read as MLflow itself reads it, and where a URI leads."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.store.artifact.utils.models import _parse_model_uri

ANCHOR = "/mlflow-artifacts/artifacts"
MAX_UNQUOTE = 10

_MODEL_ID = re.compile(r"(?<![^/])m-[0-9a-f]{32}(?![^/])")


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a URI names: a run and a path below its artifacts, a logged model, a version, or files at ``uri``.

    A run with a ``path`` means two places: MLflow loads the files below the run's artifacts, and over them those of the
    newest logged model of that run which is called like the first part of the path.
    """

    uri: str = ""
    run_id: str | None = None
    path: str | None = None
    model_id: str | None = None
    version: tuple[str, int] | None = None

    @property
    def model_name(self) -> str | None:
        """The name a logged model of the run would have, to be loaded."""
        return (self.path or "").split("/", 1)[0] or None


def named(uri: str) -> Source | None:
    """What ``uri`` names; None where MLflow can make nothing of it, or where it changes with stages and aliases."""
    try:
        if RunsArtifactRepository.is_runs_uri(uri):
            run_id, path = RunsArtifactRepository.parse_runs_uri(uri)
            return Source(run_id=run_id, path=path)
        if ModelsArtifactRepository.is_models_uri(uri):
            parsed = _parse_model_uri(uri)
            if parsed.model_id is not None:
                return Source(model_id=parsed.model_id)
            return Source(version=(str(parsed.name), int(parsed.version))) if parsed.version is not None else None
    except (MlflowException, ValueError):
        return None
    return Source(uri=uri)


def model_ids_in(path: str) -> list[str]:
    """The ids of logged models that a place goes through, as MLflow lays their files out."""
    return _MODEL_ID.findall(path)


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


def lies_below(one: str, other: str) -> bool:
    """Whether one place is below another."""
    return one.startswith(other.rstrip("/") + "/")


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
