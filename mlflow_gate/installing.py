"""Lets the stores and artifact repositories of this MLflow server ask first."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from flask import jsonify
from mlflow.environment_variables import _MLFLOW_SGI_NAME
from mlflow.exceptions import MlflowException
from mlflow.server import app as flask_app
from mlflow.server import handlers
from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR, BACKEND_STORE_URI_ENV_VAR, REGISTRY_STORE_URI_ENV_VAR
from mlflow.store.artifact import artifact_repository_registry
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore
from mlflow.tracking._model_registry import utils as registry_utils
from mlflow.tracking._tracking_service import utils as tracking_utils
from mlflow.utils.uri import extract_db_type_from_uri

from mlflow_gate.caller import Remembered
from mlflow_gate.evidence import GatedTracking
from mlflow_gate.files import Files, GuardedArtifacts
from mlflow_gate.gate import PROTOCOL, Gate
from mlflow_gate.registry import GatedRegistry

_installed = False


def gated() -> Any:
    """MLflow's server, gated."""
    install(Gate.from_environment())
    if _MLFLOW_SGI_NAME.get() != "uvicorn":
        return flask_app
    from mlflow.server.fastapi_app import create_fastapi_app

    return Remembered(create_fastapi_app(flask_app))


def gone() -> list[str]:
    """What the hook overrides and MLflow's stores do not have: it would never be called."""
    mixed: tuple[tuple[type, type], ...] = ((GatedRegistry, RegistryStore), (GatedTracking, TrackingStore))
    return sorted(
        name
        for mixin, store in mixed
        for name, own in vars(mixin).items()
        if callable(own) and not name.startswith("_") and not hasattr(store, name)
    )


def install(gate: Gate) -> None:
    """Let every store and artifact repository of this process ask ``gate``; once.

    Raises:
        MlflowException: the registry is not kept in a database.
    """
    global _installed  # noqa: PLW0603  (there is one MLflow server in a process)
    if _installed:
        return
    uri = os.environ.get(REGISTRY_STORE_URI_ENV_VAR) or os.environ.get(BACKEND_STORE_URI_ENV_VAR) or ""
    try:
        extract_db_type_from_uri(uri)
    except (MlflowException, ValueError) as error:
        raise MlflowException(f"The app signoff needs a registry in a database; this server has {uri!r}.") from error
    destination = os.environ.get(ARTIFACTS_DESTINATION_ENV_VAR) or "./mlartifacts"
    files = Files(gate, handlers._get_model_registry_store, destination, handlers._get_tracking_store)
    for registry in (handlers._model_registry_store_registry, registry_utils._get_store_registry()):
        _wrap(registry, GatedRegistry, gate=gate)
    for registry in (handlers._tracking_store_registry, tracking_utils._tracking_store_registry):
        _wrap(registry, GatedTracking, files=files)
    _guard_artifacts(artifact_repository_registry._artifact_repository_registry, files)
    path = handlers._add_static_prefix("/api/2.0/signoff/gate")

    def told() -> Any:
        return jsonify({"protocol": PROTOCOL, "gate": gate.url, "ours": gate.ours()})

    flask_app.add_url_rule(path, "signoff_gate", told)
    _installed = True


def _wrap(registry: Any, mixin: type, **attributes: Any) -> None:
    """Let the stores that ``registry`` builds for databases be of ``mixin`` first."""
    for scheme in DATABASE_ENGINES:
        registry.register(scheme, _building(registry._registry[scheme], mixin, attributes))
    registry._get_store_with_resolved_uri.cache_clear()  # nothing that was built before is used again


def _building(build: Callable[..., Any], mixin: type, attributes: dict[str, Any]) -> Callable[..., Any]:
    @wraps(build)
    def built(*args: Any, **kwargs: Any) -> Any:
        return _mixed(build(*args, **kwargs), mixin, attributes)

    return built


def _guard_artifacts(registry: Any, files: Files) -> None:
    """Let every artifact repository ask, whichever module of MLflow's has it made."""
    build = registry.get_artifact_repository

    @wraps(build)
    def built(artifact_uri: str, *args: Any, **kwargs: Any) -> Any:
        repository = build(artifact_uri, *args, **kwargs)
        return _mixed(repository, GuardedArtifacts, {"files": files, "root": files.root(artifact_uri)})

    registry.get_artifact_repository = built


def _mixed(instance: Any, mixin: type, attributes: dict[str, Any]) -> Any:
    """The same object, with ``attributes``, of a class that has ``mixin`` before its own."""
    if not isinstance(instance, mixin):
        own: Any = type(instance)
        instance.__class__ = _class(mixin, own)
        vars(instance).update(attributes)
    return instance


@cache
def _class(mixin: type, own: type) -> type:
    """One class for all: every artifact that is read or written makes a repository of its own."""
    return type(f"{mixin.__name__}{own.__name__}", (mixin, own), {})
