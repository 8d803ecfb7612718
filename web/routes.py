"""Every route beside Streamlit's own, in the order they are tried."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Mount, Route

from api.admissions import admission_routes
from api.app import api_routes
from services.signoff import Signoff
from services.worker import Worker
from web.document import page_route
from web.health import health_routes
from web.login import LogIn

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def routes(signoff: Signoff, workers: Sequence[Worker] = ()) -> list[BaseRoute]:
    """The routes for `st.App`. What is under `/api` and not there is an error, never a page."""
    return [
        *LogIn(signoff).routes(),
        *health_routes(signoff, workers),
        *admission_routes(signoff),
        *map(_whatever_follows, [*api_routes(signoff), Route("/api/{rest:path}", _no_such_call, methods=METHODS)]),
        page_route,
    ]


def _whatever_follows(route: Mount | Route) -> BaseRoute:
    """With names that hold a newline, which Starlette's ``.*`` stops at; else they would fall through to Streamlit."""
    route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)
    return route


async def _no_such_call(request: Request) -> JSONResponse:
    message = f"There is nothing at {request.url.path}."
    return JSONResponse({"error_code": "ENDPOINT_NOT_FOUND", "message": message}, status_code=404)
