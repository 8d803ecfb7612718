"""Addresses that Streamlit refuses before anything is looked up, answered in a sentence instead of two words."""

from __future__ import annotations

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.path_security import is_unsafe_path_pattern

from web.gate import OPEN_PREFIX

SENTENCE = (
    "The path of this address has a part '..', a NUL character, a drive such as 'C:' or two slashes at its beginning; "
    "nothing of Signoff's has such an address."
)


class Paths:
    """Goes between our gate and Streamlit, whose own check is the same and comes next."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if scope["type"] == "http" and (path.startswith(("//", "\\\\")) or is_unsafe_path_pattern(path.lstrip("/"))):
            answer = (
                JSONResponse({"error_code": "INVALID_PARAMETER_VALUE", "message": SENTENCE}, 400)
                if path.startswith(OPEN_PREFIX)
                else PlainTextResponse(SENTENCE, 400)
            )
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)
