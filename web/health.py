"""Signs of life: `/healthz` for the process, `/readyz` for everything it needs."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from services.errors import SignoffError
from services.signoff import Signoff

SAMPLE_COMPLETE = "sample-complete"
"""The file in SIGNOFF_HOME that says the sample registry has its whole history."""


def health_routes(signoff: Signoff) -> list[Route]:
    """Both routes; neither needs a session."""
    one_at_a_time = anyio.CapacityLimiter(1)  # a dead MLflow server must not eat the threads that pages need

    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> JSONResponse:
        missing = await anyio.to_thread.run_sync(lambda: list(_missing(signoff)), limiter=one_at_a_time)
        return JSONResponse({"ready": not missing, "missing": missing}, status_code=503 if missing else 200)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def _missing(signoff: Signoff) -> Iterator[str]:
    try:
        with signoff.database.reading() as connection:
            connection.execute(sa.text("SELECT 1"))
    except SignoffError as error:
        yield str(error)
    try:
        signoff.registry.ping()
    except SignoffError as error:
        yield str(error)
    if signoff.settings.demo and not (signoff.settings.home / SAMPLE_COMPLETE).exists():
        yield "The sample registry is not complete yet."
