"""Refusals and failures as answers: MLflow's shape, and one table from error to status."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from api import problems
from services.errors import (
    BadInput,
    InvalidSettings,
    LedgerBroken,
    LedgerUnavailable,
    NotFound,
    OutcomeUnknown,
    PromotionConflict,
    Refused,
    RegistryUnavailable,
    SignoffError,
    TooManyAttempts,
    Unauthenticated,
)
from services.gate import GateRefused
from services.validation.errors import ModelFailed, ValidationCancelled

log = logging.getLogger(__name__)

STATUSES: tuple[tuple[type[SignoffError], int, str], ...] = (
    (BadInput, 400, "INVALID_PARAMETER_VALUE"),
    (Unauthenticated, 401, "UNAUTHENTICATED"),
    (TooManyAttempts, 429, "REQUEST_LIMIT_EXCEEDED"),
    (Refused, 403, "PERMISSION_DENIED"),
    (InvalidSettings, 403, "PERMISSION_DENIED"),  # no policy, or two, judge a model: then nothing is allowed
    (LedgerBroken, 403, "DATA_LOSS"),
    (NotFound, 404, "RESOURCE_DOES_NOT_EXIST"),
    (PromotionConflict, 409, "RESOURCE_CONFLICT"),
    (LedgerUnavailable, 503, "TEMPORARILY_UNAVAILABLE"),
    (ValidationCancelled, 409, "RESOURCE_CONFLICT"),
    (ModelFailed, 422, "INVALID_STATE"),  # it ends a validation in the background, whose answer says so
    (OutcomeUnknown, 504, "DEADLINE_EXCEEDED"),  # not 503, which promises that nothing was changed
    (RegistryUnavailable, 503, "TEMPORARILY_UNAVAILABLE"),
)
"""The first that fits; codes are MLflow's."""

BROKEN = "Something broke inside Signoff. Its log says what; the record says what was done."
_HTTP = {404: "ENDPOINT_NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "RESOURCE_EXHAUSTED"}


class CheckAnswer(BaseModel):
    """One question the gate asked."""

    id: str
    title: str
    passed: bool
    value: str
    threshold: str
    reason: str


class ErrorAnswer(BaseModel):
    """What went wrong, in MLflow's shape; ``checks`` where the gate refused."""

    error_code: str
    message: str
    checks: list[CheckAnswer] | None = None


_MEANINGS = {
    400: "Bad input.",
    401: "No valid bearer token.",
    403: "Not allowed, by role, by the token's scope or by policy; nothing was changed.",
    404: "There is no such thing.",
    409: "Someone else acted first; nothing was changed.",
    413: "The body is too large.",
    429: "Too many invalid tokens came from this address; wait for as many seconds as `Retry-After` says.",
    503: "A system is unreachable; nothing was changed.",
    504: "MLflow stopped answering half way. What became of the change will be found out and recorded.",
}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals an endpoint declares."""
    return {status: {"model": ErrorAnswer, "description": _MEANINGS[status]} for status in statuses}


EVERYWHERE = answers(400, 401, 403, 404, 429, 503)
CHANGING = answers(409, 413, 504)


def status_of(error: SignoffError) -> tuple[int, str]:
    """HTTP status and MLflow's error code."""
    return next((status, code) for kind, status, code in STATUSES if isinstance(error, kind))


def answer(status: int, code: str, message: str, checks: list[dict[str, Any]] | None = None) -> JSONResponse:
    """One refusal."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    body: dict[str, Any] = {"error_code": code, "message": message}
    return JSONResponse(body if checks is None else {**body, "checks": checks}, status, headers)


def install(app: FastAPI) -> None:
    """Let ``app`` answer every error in this shape."""
    app.add_exception_handler(SignoffError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _broken)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SignoffError)  # noqa: S101  (registered for it)
    status, code = status_of(error)
    if isinstance(error, LedgerUnavailable):
        log.warning("%s", error)
        return answer(status, code, error.TO_STRANGERS)
    checks = error.verdict.as_json() if isinstance(error, GateRefused) else None
    found = answer(status, code, str(error), checks)
    if isinstance(error, TooManyAttempts):
        found.headers["Retry-After"] = str(error.seconds)
    return found


async def _malformed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    body = getattr(request.scope.get("route"), "body_field", None)
    shapes = _shapes(body.field_info.annotation) if body else ()
    takes = {name for shape in shapes for name in shape.model_fields}
    return answer(400, "INVALID_PARAMETER_VALUE", problems.told(error.errors(), error.body, takes))


def _shapes(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a body may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for one in get_args(annotation):
        yield from _shapes(one)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    status = error.status_code
    message = f"There is nothing at {request.url.path}." if status == 404 else str(error.detail)
    found = answer(status, _HTTP.get(status, "INVALID_PARAMETER_VALUE"), message)
    found.headers.update(error.headers or {})
    return found


async def _broken(_: Request, __: Exception) -> JSONResponse:
    return answer(500, "INTERNAL_ERROR", BROKEN)  # what it was is raised again, and logged
