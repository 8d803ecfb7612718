"""Signs of life: `/healthz` for the process, `/readyz` for everything it needs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

import anyio
import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from services.errors import LedgerUnavailable, SignoffError
from services.signoff import Signoff
from services.worker import Worker

SAMPLE_COMPLETE = "sample-complete"
"""The file in SIGNOFF_HOME that says the sample registry has its whole history."""


MLFLOW_AWAY = "MLflow does not answer."

log = logging.getLogger(__name__)


def health_routes(signoff: Signoff, workers: Sequence[Worker] = ()) -> list[Route]:
    """Both routes; neither needs a session, so neither names hosts, files or what an error said."""
    one_at_a_time = anyio.CapacityLimiter(1)  # a dead MLflow server must not eat the threads that pages need
    told: list[str] = []

    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> JSONResponse:
        found = await anyio.to_thread.run_sync(lambda: list(_missing(signoff, workers)), limiter=one_at_a_time)
        missing, details = list(dict.fromkeys(sentence for sentence, _ in found)), [detail for _, detail in found]
        if details != told:  # it is asked every few seconds
            told[:] = details
            log.warning("%s", " ".join(details) or "Ready again.")
        return JSONResponse({"ready": not missing, "missing": missing}, status_code=503 if missing else 200)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def _missing(signoff: Signoff, workers: Iterable[Worker]) -> Iterator[tuple[str, str]]:
    """What anybody may be told, and what the log is told."""
    try:
        with signoff.database.reading() as connection:
            connection.execute(sa.text("SELECT 1"))
    except LedgerUnavailable as error:
        yield error.TO_STRANGERS, str(error)
    try:
        signoff.registry.ping()
    except SignoffError as error:
        yield MLFLOW_AWAY, str(error)
    for problem in filter(None, (worker.problem for worker in workers)):
        yield problem, problem
    if signoff.settings.demo and not (signoff.settings.home / SAMPLE_COMPLETE).exists():
        yield "The sample registry is not complete yet.", "The sample registry is not complete yet."
