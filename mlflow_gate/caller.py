"""Who calls the MLflow server, and what came with the call. Asked within a request; elsewhere there is nobody."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote_to_bytes

import flask
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

INTENT_HEADER = "X-Signoff-Intent"
REASON_HEADER = "X-Signoff-Reason"
MAX_REASON = 10_000
"""As many characters as Signoff keeps."""
MAX_INTENT = 128
"""More than Signoff's own have, and as many characters as it reads of one."""

_SCOPE: ContextVar[dict[str, Any] | None] = ContextVar("scope", default=None)


class Remembered:
    """Remembers the request for as long as it is served: routes that Flask does not serve have no ``flask.g``."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})  # one dictionary, which MLflow's middleware and we both see
        token = _SCOPE.set(scope)
        try:
            await self.app(scope, receive, send)
        finally:
            _SCOPE.reset(token)


def user() -> str | None:
    """Whom MLflow authenticated, or None."""
    if flask.has_request_context():
        name = flask.g.get("mlflow_authenticated_user")
    else:
        name = ((_SCOPE.get() or {}).get("state") or {}).get("username")
    return str(name) if name else None


def reason() -> str | None:
    """What the caller says it is for: UTF-8, percent-encoded where a header could not hold it.

    Raises:
        MlflowException: it is no UTF-8, or too long; answered with 400.
    """
    sent = flask.request.headers.get(REASON_HEADER, "") if flask.has_request_context() else ""
    try:
        text = unquote_to_bytes(sent.encode("latin-1")).decode()
    except UnicodeError as error:
        raise MlflowException(
            f"{REASON_HEADER} is not UTF-8, percent-encoded where it is not ASCII. Nothing was changed.",
            INVALID_PARAMETER_VALUE,
        ) from error
    if len(text) > MAX_REASON:
        raise MlflowException(
            f"{REASON_HEADER} has {len(text)} characters; at most {MAX_REASON} are kept. Nothing was changed.",
            INVALID_PARAMETER_VALUE,
        )
    return text.strip() or None


def intent() -> str | None:
    """The intent of Signoff's that a call says it belongs to.

    Raises:
        MlflowException: it is too long to be one; answered with 400.
    """
    if flask.has_request_context():
        sent = flask.request.headers.get(INTENT_HEADER)
    else:
        found = dict((_SCOPE.get() or {}).get("headers") or ()).get(INTENT_HEADER.lower().encode())
        sent = found.decode("latin-1") if found is not None else None
    if sent and len(sent) > MAX_INTENT:
        raise MlflowException(
            f"{INTENT_HEADER} has {len(sent)} characters; an intent of Signoff's has at most {MAX_INTENT}. "
            "Nothing was changed.",
            INVALID_PARAMETER_VALUE,
        )
    return sent
