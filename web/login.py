"""Coming in and going out: the log-in page, `POST /session/login` and `POST /session/logout`."""

from __future__ import annotations

import html
import logging
import time
from functools import partial
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

import anyio
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from services.accounts import devices, logins, people, sessions
from services.accounts.logins import LoggedIn
from services.errors import LedgerUnavailable, TooManyAttempts
from services.signoff import Signoff
from web.attempts import Guesses, Places, client_of
from web.gate import STATIC, cookie_name, device_cookie_name, token_in
from web.headers import script_hashes
from web.origins import cross_site, safe_next
from web.passwords import BcryptPasswords, hasher

FORM = "/session/login"
MAX_FORM = 16 * 1024
CHECKS_AT_ONCE, WAITING, WAIT_SECONDS = 2, 16, 5.0
"""bcrypt keeps a core busy for a quarter of a second: a flood of log-ins must leave room for everything else."""
KNOWN_AT_ONCE, KNOWN_WAIT_SECONDS = 1, 10.0
"""A place that strangers cannot take: a person who has logged in here before waits for people like them only."""
REFUSAL_SECONDS = 0.6
"""A refusal comes no sooner than this: what the database does for a known account would show in the time."""

PAGE = Template((Path(__file__).parent / "login.html").read_text(encoding="utf-8"))
PAGE_POLICY = (
    f"default-src 'none'; script-src {script_hashes(PAGE.template)}; style-src 'unsafe-inline'; font-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
MARK = (STATIC / "mark.svg").read_text(encoding="utf-8")

log = logging.getLogger(__name__)

SIGNED_OUT = "You have signed out."
CROSS_SITE = "That form came from another address. Signoff is at {url}; sign in there."
NOBODY = (
    "Nobody can log in yet. The person who runs Signoff makes the first account on its machine: "
    'signoff user add USERNAME --name "FULL NAME" --role admin'
)
TOO_LONG = "That is too long to be a username and password."
BUSY = "Signoff is checking as many passwords as it can. Try again in a few seconds."


class LogIn:
    """The three routes; none needs a session."""

    def __init__(self, signoff: Signoff) -> None:
        self._signoff = signoff
        self._database = signoff.database
        self._settings = signoff.settings
        self._passwords = BcryptPasswords()
        self._strangers = Places(CHECKS_AT_ONCE, WAITING, WAIT_SECONDS)
        self._known = Places(KNOWN_AT_ONCE, WAITING, KNOWN_WAIT_SECONDS)
        self._threads = anyio.CapacityLimiter(CHECKS_AT_ONCE + KNOWN_AT_ONCE)
        self._guesses = Guesses()

    def routes(self) -> list[Route]:
        """For `st.App`."""
        return [
            Route("/login", self.page, methods=["GET"]),
            Route(FORM, self.log_in, methods=["POST"]),
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
            return _away(error, next_=next_)
        notice = SIGNED_OUT if "signed_out" in request.query_params else ""
        answer = _page(200, next_=next_, notice=notice if anybody else NOBODY)
        answer.background = BackgroundTask(hasher)  # loaded while the password is being typed
        return answer

    async def log_in(self, request: Request) -> Response:
        """Check what the form says; a session's cookie and the page that was asked for, or the form again."""
        started = time.monotonic()
        if cross_site(request, self._settings.url):
            return self._cross_site()
        form = await _form(request)
        if form is None:
            return _page(413, problem=TOO_LONG)
        username, next_ = form.get("username", "").strip(), safe_next(form.get("next"))
        try:
            done = await self._checked(request, username, form.get("password", ""))
            await self._close(request)
        except TooManyAttempts as error:
            refused = _page(429, next_=next_, username=username, problem=str(error))
            refused.headers["Retry-After"] = str(error.seconds)
            return refused
        except sessions.WrongCredentials as error:
            await anyio.sleep(max(0.0, started + REFUSAL_SECONDS - time.monotonic()))
            return _page(401, next_=next_, username=username, problem=str(error))
        except LedgerUnavailable as error:
            return _away(error, next_=next_, username=username)
        answer = self._with_cookie(_go(next_), done.token, sessions.SESSION_SECONDS)
        name, secure = device_cookie_name(self._settings, username), self._secure
        answer.set_cookie(
            name, done.device, devices.SECONDS, path=FORM, httponly=True, samesite="strict", secure=secure
        )
        return answer

    async def _checked(self, request: Request, username: str, password: str) -> LoggedIn:
        """Log in, when it is this client's turn and it has not guessed too much; a known device is no such client."""
        client, device = client_of(request), await self._device(request, username)
        check = partial(logins.log_in, self._signoff, username, password, self._passwords, device=device, client=client)
        if device:
            async with self._known.taken(BUSY):
                return await anyio.to_thread.run_sync(check, limiter=self._threads)
        self._guesses.require_patience(client)
        async with self._strangers.taken(BUSY):
            self._guesses.require_patience(client)  # others of the same client were wrong meanwhile
            try:
                return await anyio.to_thread.run_sync(check, limiter=self._threads)
            except sessions.WrongCredentials:
                for told in self._guesses.note(client):
                    await anyio.to_thread.run_sync(logins.refuse, self._signoff, told, client)
                raise

    async def _device(self, request: Request, username: str) -> str | None:
        """The id of the device, if the account knows it."""
        cookie = token_in(request.scope["headers"], device_cookie_name(self._settings, username))
        if not cookie:
            return None
        key = self._settings.secret_key
        return await anyio.to_thread.run_sync(devices.known, self._database, username, cookie, key)

    async def log_out(self, request: Request) -> Response:
        """Close the session in the database; forgetting the cookie alone would leave it open."""
        if cross_site(request, self._settings.url):
            return self._cross_site()
        try:
            await self._close(request)
        except LedgerUnavailable as error:
            return _away(error, "You are still signed in. ")
        return self._with_cookie(_go("/login?signed_out=1"), "", 0)

    def _cross_site(self) -> Response:
        return _page(403, problem=CROSS_SITE.format(url=self._settings.url))

    async def _close(self, request: Request) -> None:
        if key := self._key(request):
            await anyio.to_thread.run_sync(sessions.close_session, self._database, key)

    def _key(self, request: Request) -> str | None:
        token = token_in(request.scope["headers"], cookie_name(self._settings))
        return sessions.session_key(token, self._settings.secret_key) if token else None

    @property
    def _secure(self) -> bool:
        return self._settings.url.startswith("https:")

    def _with_cookie(self, answer: Response, token: str, seconds: int) -> Response:
        name = cookie_name(self._settings)
        answer.set_cookie(name, token, seconds, path="/", httponly=True, samesite="lax", secure=self._secure)
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


def _away(error: LedgerUnavailable, before: str = "", **fields: str) -> HTMLResponse:
    log.warning("%s", error)
    return _page(503, problem=before + error.TO_STRANGERS, **fields)


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
