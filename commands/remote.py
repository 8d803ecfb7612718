"""Signoff over REST: at ``SIGNOFF_URL``, as whoever the token in ``SIGNOFF_TOKEN`` is of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
import typer

from services import certificates

REFUSED, WRONG_USAGE, UNREACHABLE = 1, 2, 3
SECONDS = (5, 300)
"""To connect, and for the answer: a verb reads every file of a model."""
PAGE = 100
_EXITS = {403: REFUSED, 409: REFUSED, 429: UNREACHABLE, 500: UNREACHABLE, 503: UNREACHABLE, 504: UNREACHABLE}


class Unanswered(Exception):
    """The call was not carried out, or nobody knows. ``code`` is the exit code, ``answer`` what Signoff said."""

    def __init__(self, message: str, code: int, answer: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.answer = dict(answer or {})


def get(path: str, **query: Any) -> dict[str, Any]:
    """One read; what is None is left out of the query. Raises `Unanswered`."""
    return _call("GET", path, params={name: value for name, value in query.items() if value is not None})


def pages(path: str, of: str, *, limit: int | None = None, **query: Any) -> list[dict[str, Any]]:
    """What a paged list has under ``of``, page after page, up to ``limit``. Raises `Unanswered`."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while limit is None or len(found) < limit:
        size = PAGE if limit is None else min(PAGE, limit - len(found))
        page = get(path, **query, cursor=cursor, limit=size)
        found += page[of]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return found


def post(path: str, body: Mapping[str, Any], *, key: str | None = None) -> dict[str, Any]:
    """One verb, under an idempotency key where there is one. Raises `Unanswered`."""
    headers = {"Idempotency-Key": key} if key is not None else {}
    return _call("POST", path, json={name: value for name, value in body.items() if value is not None}, headers=headers)


def send(path: str, fields: Mapping[str, Any], file: Path, *, key: str | None = None) -> dict[str, Any]:
    """One verb that takes a file. Raises `Unanswered`."""
    headers = {"Idempotency-Key": key} if key is not None else {}
    told = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in fields.items()}
    with file.open("rb") as content:
        return _call("POST", path, data=told, files={"file": (file.name, content)}, headers=headers)


def version_path(model: str, version: str) -> str:
    """The path of one version; a name may hold anything but what MLflow forbids."""
    return f"/models/{quote(model, safe='')}/versions/{quote(version, safe='')}"


def _call(method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    token = os.environ.get("SIGNOFF_TOKEN")
    if not token:
        raise Unanswered(
            "SIGNOFF_TOKEN holds no token; make one with `signoff token create NAME --user USER`.", WRONG_USAGE
        )
    if why := certificates.unusable(address(), certificates.REQUESTS):
        raise Unanswered(why, UNREACHABLE)
    url = f"{address()}/api/v1{path}"
    try:
        answer = requests.request(
            method,
            url,
            headers={"Authorization": f"Bearer {token}", **(headers or {})},
            timeout=SECONDS,
            allow_redirects=False,
            **more,
        )
        found = answer.json()
    except requests.ConnectionError as error:
        raise Unanswered(f"Signoff does not answer at {address()}; nothing was changed.", UNREACHABLE) from error
    except requests.Timeout as error:
        raise Unanswered("Signoff took too long; the record says what became of it.", UNREACHABLE) from error
    except (requests.RequestException, ValueError) as error:
        raise Unanswered(f"What answers at {address()} is not Signoff.", UNREACHABLE) from error
    if answer.status_code not in {requests.codes.ok, requests.codes.accepted}:
        known = found if isinstance(found, dict) else {}
        message = str(known.get("message") or f"Signoff answered {answer.status_code}.")
        raise Unanswered(message, _EXITS.get(answer.status_code, WRONG_USAGE), known)
    return dict(found)


def address() -> str:
    """Where Signoff is."""
    port = os.environ.get("SIGNOFF_PORT") or "8501"
    return (os.environ.get("SIGNOFF_URL") or f"http://127.0.0.1:{port}").rstrip("/")


def failed_checks(answer: Mapping[str, Any]) -> list[str]:
    """A line for every check that stood in the way."""
    checks = answer.get("checks") or []
    return [f"✗ {check['title']}: {check['reason']}" for check in checks if not check["passed"]]


def tell(error: Unanswered) -> None:
    """What went wrong, on stderr: the sentence, and every failed check."""
    for line in [str(error), *failed_checks(error.answer)]:
        typer.echo(line, err=True)
