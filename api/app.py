"""The two applications: ``/api/v1``, and the one call that people know from the lifecycle document."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.routing import Mount

from api import (
    compare,
    errors,
    events,
    findings,
    ledger,
    models,
    policies,
    production,
    reconcile,
    transition,
    validations,
    verbs,
    verdicts,
    webhooks,
)
from api.auth import Door
from api.bodies import JsonBodies
from api.docs import docs_routes
from services.signoff import Signoff

V1, MLFLOW = "/api/v1", "/api/2.0/mlflow"
FAMILIES = (
    *(models, verdicts, verbs, findings, validations, production, compare),
    *(policies, events, ledger, reconcile, webhooks),
)
ABOUT = """One gate in front of MLflow's Model Registry: every call is judged and recorded
as a click in the dashboard is.

Send `Authorization: Bearer …`. Errors are `{"error_code", "message"}`, with `checks` where the gate refused. Lists are
paged: send `next_cursor` back as `cursor`. Unknown fields in a body are refused."""


def api_routes(signoff: Signoff) -> list[Mount]:
    """Both applications, to be tried before anything else under ``/api``."""
    door = Door(signoff)
    v1 = _app(door, V1, *(family.router for family in FAMILIES), openapi_url="/openapi.json")
    v1.router.routes.extend(docs_routes())
    return [Mount(V1, v1), Mount(MLFLOW, _app(door, MLFLOW, transition.router, openapi_url=None))]


def _app(door: Door, path: str, *routers: APIRouter, openapi_url: str | None) -> FastAPI:
    app = FastAPI(
        title="Signoff",
        version="1",
        description=ABOUT,
        openapi_url=openapi_url,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": path}],
        root_path_in_servers=False,
        responses=errors.EVERYWHERE,
    )
    app.state.door = door
    app.add_middleware(JsonBodies)
    errors.install(app)
    for router in routers:
        app.include_router(router)
    described = app.openapi
    app.openapi = lambda: _told(deepcopy(described()))  # type: ignore[method-assign]
    return app


def _told(schema: dict[str, Any]) -> dict[str, Any]:
    """With the first sentence about a call as its title, and without the validation errors that FastAPI announces.

    Ours are 400, and told in MLflow's shape.
    """
    for operations in schema["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            title, _, rest = " ".join(operation["description"].split()).partition(". ")
            operation.update(summary=title.rstrip("."), description=rest)
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    return schema
