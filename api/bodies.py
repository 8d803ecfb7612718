"""Request bodies: small, and JSON whatever their Content-Type says; but for the one call that takes a file."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import answer
from services.validation.uploads import MAX_BYTES

MAX_BODY = 256 * 1024
"""10,000 characters of comment are at most 120 KB when each is escaped."""

MAX_FILE = MAX_BYTES + MAX_BODY
"""A holdout, and the fields that come with it."""
_TAKES_A_FILE = re.compile(r"/versions/[^/]+/validations$")


class JsonBodies:
    """Pure ASGI: a body that is too large is refused before it is read whole.

    ``curl -d`` says that what it sends is a form, and the lifecycle document's own call relies on nobody minding.
    That is no way in for another site's page: what counts is a bearer token, which no browser adds by itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in {"POST", "PUT", "PATCH", "DELETE"}:
            await self.app(scope, receive, send)
            return
        if _is_a_file(scope):
            await self.app(scope, _bounded(receive), send)
            return
        body = await _read(receive)
        if body is None:
            too_large = answer(413, "RESOURCE_EXHAUSTED", f"A body has at most {MAX_BODY} bytes; nothing was done.")
            await too_large(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        scope = {**scope, "headers": [*headers, (b"content-type", b"application/json")]}
        sent = False

        async def receive_read() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, receive_read, send)


def _is_a_file(scope: Scope) -> bool:
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return bool(kind.startswith(b"multipart/form-data") and _TAKES_A_FILE.search(scope["path"]))


def _bounded(receive: Receive) -> Receive:
    """The same messages until there are too many bytes in them; nothing holds them in memory."""
    seen = 0

    async def receive_bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_FILE:
            raise HTTPException(413, f"A holdout has at most {MAX_BYTES:,} bytes; nothing was done.")
        return message

    return receive_bounded


async def _read(receive: Receive) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body  # the client has gone
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return body
