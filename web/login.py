"""Coming in and going out: the log-in page, `POST /session/login` and `POST /session/logout`."""

from __future__ import annotations

import html
import time
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

import anyio
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from services.accounts import people, sessions
from services.errors import LedgerUnavailable
from services.signoff import Signoff
from web.gate import STATIC, cookie_name, token_in
from web.headers import script_hashes
from web.origins import cross_site, safe_next
from web.passwords import BcryptPasswords, hasher

MAX_FORM = 16 * 1024
CHECKS_AT_ONCE = 2
"""bcrypt keeps a core busy for a quarter of a second: a flood of log-ins must leave room for everything else."""
REFUSAL_SECONDS = 0.6
"""A refusal comes no sooner than this: what the database does for a known account would show in the time."""

PAGE = Template((Path(__file__).parent / "login.html").read_text(encoding="utf-8"))
PAGE_POLICY = (
    f"default-src 'none'; script-src {script_hashes(PAGE.template)}; style-src 'unsafe-inline'; font-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
MARK = (STATIC / "mark.svg").read_text(encoding="utf-8")

SIGNED_OUT = "You have signed out."
CROSS_SITE = "That form came from another site. Sign in here."
NOBODY = (
    "Nobody can log in yet. The person who runs Signoff makes the first account on its machine: "
    'signoff user add USERNAME --name "FULL NAME" --role admin'
)
TOO_LONG = "That is too long to be a username and password."


class LogIn:
    """The three routes; none needs a session."""

    def __init__(self, signoff: Signoff) -> None:
        self._database = signoff.database
        self._settings = signoff.settings
        self._passwords = BcryptPasswords()
        self._checks = anyio.CapacityLimiter(CHECKS_AT_ONCE)

    def routes(self) -> list[Route]:
        """For `st.App`."""
        return [
            Route("/login", self.page, methods=["GET"]),
            Route("/session/login", self.log_in, methods=["POST"]),
            Route("/session/logout", self.log_out, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        """The form; whoever is signed in already is sent on."""
        next_ = safe_next(request.query_params.get("next"))
        try:
            if await anyio.to_thread.run_sync(sessions.session_user, self._database, self._key(request) or ""):
                return _go(next_)
            anybody = await anyio.to_thread.run_sync(people.anybody, self._database)
        except LedgerUnavailable as error:
            return _page(503, next_=next_, problem=str(error))
        notice = SIGNED_OUT if "signed_out" in request.query_params else ""
        answer = _page(200, next_=next_, notice=notice if anybody else NOBODY)
        answer.background = BackgroundTask(hasher)  # loaded while the password is being typed
        return answer

    async def log_in(self, request: Request) -> Response:
        """Check what the form says; a session's cookie and the page that was asked for, or the form again."""
        started = time.monotonic()
        if cross_site(request, self._settings.url):
            return _page(403, problem=CROSS_SITE)
        form = await _form(request)
        if form is None:
            return _page(413, problem=TOO_LONG)
        username, next_ = form.get("username", "").strip(), safe_next(form.get("next"))
        attempt = (self._database, username, form.get("password", ""), self._passwords, self._settings.secret_key)
        try:
            token = await anyio.to_thread.run_sync(sessions.log_in, *attempt, limiter=self._checks)
            await self._close(request)
        except sessions.WrongCredentials as error:
            await anyio.sleep(max(0.0, started + REFUSAL_SECONDS - time.monotonic()))
            return _page(401, next_=next_, username=username, problem=str(error))
        except LedgerUnavailable as error:
            return _page(503, next_=next_, username=username, problem=str(error))
        return self._with_cookie(_go(next_), token, sessions.SESSION_SECONDS)

    async def log_out(self, request: Request) -> Response:
        """Close the session in the database; forgetting the cookie alone would leave it open."""
        if cross_site(request, self._settings.url):
            return _page(403, problem=CROSS_SITE)
        try:
            await self._close(request)
        except LedgerUnavailable as error:
            return _page(503, problem=f"You are still signed in. {error}")
        return self._with_cookie(_go("/login?signed_out=1"), "", 0)

    async def _close(self, request: Request) -> None:
        if key := self._key(request):
            await anyio.to_thread.run_sync(sessions.close_session, self._database, key)

    def _key(self, request: Request) -> str | None:
        token = token_in(request.scope["headers"], cookie_name(self._settings))
        return sessions.session_key(token, self._settings.secret_key) if token else None

    def _with_cookie(self, answer: Response, token: str, seconds: int) -> Response:
        secure = self._settings.url.startswith("https:")
        name = cookie_name(self._settings)
        answer.set_cookie(name, token, seconds, path="/", httponly=True, samesite="lax", secure=secure)
        return answer


async def _form(request: Request) -> dict[str, str] | None:
    """The fields of a small form; None when it is too large to be ours."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            return None
    try:
        fields = parse_qs(body.decode("utf-8", errors="replace"), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        return None
    return {name: values[-1] for name, values in fields.items()}


def _go(path: str) -> RedirectResponse:
    return RedirectResponse(path, status_code=303)


def _page(status: int, *, next_: str = "/", username: str = "", problem: str = "", notice: str = "") -> HTMLResponse:
    message = f'<p class="problem" role="alert">{html.escape(problem)}</p>' if problem else ""
    message += f'<p class="notice" role="status">{html.escape(notice)}</p>' if notice else ""
    text = PAGE.substitute(
        mark=MARK,
        message=message,
        next=html.escape(next_, quote=True),
        username=html.escape(username, quote=True),
        focus_username="" if username else "autofocus",
        focus_password="autofocus" if username else "",
    )
    return HTMLResponse(text, status, {"Content-Security-Policy": PAGE_POLICY})
