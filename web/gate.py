"""The gate before every request: a browser session, or the log-in page, or nothing.

It refuses by default. What Streamlit serves beside its pages (uploads, media, its WebSocket, whatever a later
version adds) is behind it without being named here.
"""

from __future__ import annotations

import hashlib
import logging
from urllib.parse import quote

import anyio
from google.protobuf.message import DecodeError
from starlette.requests import HTTPConnection, cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg

from services.accounts import sessions
from services.errors import LedgerUnavailable
from services.settings import PROJECT, Settings
from services.signoff import Signoff
from web.origins import cross_site, elsewhere

IDENTITY_HEADER = b"x-signoff-session"
"""Carries the session's key to `st.user`, see ``server.trustedUserHeaders`` in .streamlit/config.toml."""

MAX_TOKEN = 128
LOOKUPS_AT_ONCE = 8
STATIC = PROJECT / "components" / "static"
LOGIN_FILES = frozenset(f"/app/static/{file.name}" for file in STATIC.iterdir() if file.suffix in {".woff2", ".svg"})
OPEN = LOGIN_FILES | {"/login", "/session/login", "/session/logout", "/healthz", "/readyz"}
OPEN_PREFIX = "/api/"  # asks for a bearer token of its own
NOT_PAGES = ("/_stcore", "/media", "/component", "/static", "/app/", "/auth", "/oauth2callback")

OTHER_SITE = "This comes from a page of another address; Signoff's own pages do not."
SIGNED_OUT = "You are signed out. Reload this page to sign in."


log = logging.getLogger(__name__)


def cookie_name(settings: Settings) -> str:
    """The name of the session's cookie: one for every dashboard behind one address, another for another address.

    A browser sends a cookie to every port of a host, so two stacks on one machine need two names, and have them:
    their addresses differ in the port.
    """
    return f"signoff_session_{_short(settings.url)}"


def device_cookie_name(settings: Settings, username: str) -> str:
    """The name of the cookie by which an account knows a browser: one for each account that uses it."""
    return f"signoff_device_{_short(settings.url, username)}"


def _short(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode(errors="replace")).hexdigest()[:12]


def token_in(headers: list[tuple[bytes, bytes]], cookie: str) -> str | None:
    """The session token of a request's cookie, if it has one that could be ours."""
    cookies = "; ".join(value.decode("latin-1") for name, value in headers if name == b"cookie")
    token = cookie_parser(cookies).get(cookie, "")
    return token if 0 < len(token) <= MAX_TOKEN and token.isascii() else None


class SessionGate:
    """Pure ASGI: `BaseHTTPMiddleware` would not see WebSockets at all."""

    def __init__(self, app: ASGIApp, signoff: Signoff) -> None:
        self.app = app
        self.signoff = signoff
        self._cookie = cookie_name(signoff.settings)
        self._limiter = anyio.CapacityLimiter(LOOKUPS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        # No client may say who it is; only the lookup below does.
        headers = [(name, value) for name, value in scope["headers"] if not name.startswith(b"x-signoff-")]
        scope = {**scope, "headers": headers}
        path: str = scope["path"]
        if _is_page(scope) and (there := elsewhere(HTTPConnection(scope), self.signoff.settings.url)):
            await RedirectResponse(there, status_code=307)(scope, receive, send)
            return
        if scope["type"] == "http" and (path in OPEN or path.startswith(OPEN_PREFIX)):
            await self.app(scope, receive, send)
            return
        if _acts(scope) and cross_site(HTTPConnection(scope), self.signoff.settings.url):
            await _refuse(scope, receive, send, PlainTextResponse(OTHER_SITE, 403))
            return
        try:
            key = await self._session(token_in(headers, self._cookie))
        except LedgerUnavailable as error:
            log.warning("%s", error)
            await _refuse(scope, receive, send, PlainTextResponse(error.TO_STRANGERS, 503))
            return
        if key is None:
            await _refuse(scope, receive, send, _answer(scope))
            return
        scope["headers"] = [*headers, (IDENTITY_HEADER, key.encode())]
        if scope["type"] == "websocket":
            receive = self._checked(key, receive)
        await self.app(scope, receive, send)

    async def _session(self, token: str | None) -> str | None:
        if token is None:
            return None
        key = sessions.session_key(token, self.signoff.settings.secret_key)
        return key if await self._open(key) else None

    async def _open(self, key: str) -> bool:
        found = await anyio.to_thread.run_sync(sessions.session_user, self.signoff.database, key, limiter=self._limiter)
        return found is not None

    def _checked(self, key: str, receive: Receive) -> Receive:
        """Look the session up again at every message: a WebSocket outlives the session it was opened with.

        The message of a closed session becomes a plain rerun, in which the shell says so. Its widget values and
        fragment are left out, because Streamlit runs callbacks and fragments before or without the shell.
        """

        async def receive_checked() -> Message:
            while True:
                message = await receive()
                if message["type"] != "websocket.receive" or not message.get("bytes"):
                    return message
                try:
                    still_open = await self._open(key)
                except LedgerUnavailable:
                    still_open = False
                if still_open:
                    return message
                if plain := _plain_rerun(message["bytes"]):
                    return {**message, "bytes": plain}

        return receive_checked


def _is_page(scope: Scope) -> bool:
    """Whether somebody opens a page, the log-in included."""
    if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
        return False
    path: str = scope["path"]
    inner = path.startswith((*NOT_PAGES, OPEN_PREFIX)) or "/_stcore/" in path or path in OPEN
    return path == "/login" or not inner


def _acts(scope: Scope) -> bool:
    """Whether something can be done with it, in the name of whose cookie it carries."""
    return scope["type"] == "websocket" or scope["method"] not in {"GET", "HEAD", "OPTIONS"}


def _plain_rerun(data: bytes) -> bytes | None:
    """The same page again with nothing clicked; None for a message that asks for something else."""
    try:
        asked = BackMsg.FromString(data)
    except DecodeError:
        return None
    if asked.WhichOneof("type") != "rerun_script":
        return None
    plain = BackMsg()
    plain.rerun_script.SetInParent()
    plain.rerun_script.query_string = asked.rerun_script.query_string
    plain.rerun_script.page_script_hash = asked.rerun_script.page_script_hash
    plain.rerun_script.context_info.CopyFrom(asked.rerun_script.context_info)
    return bytes(plain.SerializeToString())


def _answer(scope: Scope) -> Response:
    if not _is_page(scope):
        return PlainTextResponse(SIGNED_OUT, status_code=401)
    path: str = scope["path"]
    query: str = scope["query_string"].decode("latin-1")
    wanted = quote(path) + (f"?{query}" if query else "")
    return RedirectResponse("/login" if wanted == "/" else f"/login?next={quote(wanted, safe='/')}", status_code=303)


async def _refuse(scope: Scope, receive: Receive, send: Send, answer: Response) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": SIGNED_OUT})
        return
    await answer(scope, receive, send)
