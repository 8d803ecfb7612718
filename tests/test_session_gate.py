"""The gate, the log-in routes and the shell one at a time, in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.testing.v1 import AppTest

from components import session
from services.accounts import people, sessions
from services.database import Database
from services.settings import PROJECT
from services.signoff import Signoff
from web.gate import SessionGate, cookie_name
from web.login import LogIn
from web.origins import cross_site, safe_next
from web.passwords import BcryptPasswords


class TestSafeNext:
    @pytest.mark.parametrize("target", ["/", "/registry", "/version?name=a%20b&version=1", "/model?name=grün#top"])
    def test_keeps_a_path_of_ours(self, target: str) -> None:
        assert safe_next(target) == target

    @pytest.mark.parametrize(
        "target",
        [
            *(None, "", "registry", "//evil", "///evil", "/\\evil", "\\/evil", "https:evil", "https://evil", "/a//b"),
            *("javascript:alert(1)", "/\n/evil", "/\x00", "/a b", "/\u2028", "/" + "a" * 5000),
            *("/login?next=/", "/session/logout", "/api/v1/events", "/_stcore/health", "/media/x.csv"),
        ],
    )
    def test_anything_else_is_the_home_page(self, target: str | None) -> None:
        assert safe_next(target) == "/"


class TestCrossSite:
    @staticmethod
    def request(**headers: str) -> Request:
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return Request({"type": "http", "headers": raw})

    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "h:1", "origin": "http://h:1"},
            {"host": "inner", "origin": "https://signoff.example"},
            {"host": "h:1", "sec_fetch_site": "same-origin", "origin": "http://h:1"},
            {"host": "h:1"},
        ],
    )
    def test_our_own_forms_and_scripts_without_a_browser_pass(self, headers: dict[str, str]) -> None:
        assert not cross_site(self.request(**headers), "https://signoff.example")

    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "h:1", "origin": "http://h:2"},
            {"host": "h:1", "origin": "null"},
            {"host": "h:1", "origin": "http://h:1", "sec_fetch_site": "cross-site"},
            {"host": "h:1", "origin": "http://h:1", "sec_fetch_site": "same-site"},
        ],
    )
    def test_others_do_not(self, headers: dict[str, str]) -> None:
        assert cross_site(self.request(**headers), "https://signoff.example")


class TestOpenWebSocket:
    """A WebSocket outlives its session: what a page's callbacks and fragments would see of a late message."""

    @pytest.fixture
    def received(self, signoff: Signoff) -> Callable[[BackMsg], list[BackMsg]]:
        token = sessions.open_session(signoff.database, "reviewer", signoff.settings.secret_key)

        def received(message: BackMsg) -> list[BackMsg]:
            """Connect, close the session, send the message; returns what came through."""
            through: list[BackMsg] = []
            incoming = iter(
                [
                    {"type": "websocket.connect"},
                    {"type": "websocket.receive", "bytes": message.SerializeToString()},
                    {"type": "websocket.disconnect", "code": 1000},
                ]
            )

            async def receive() -> Message:
                return next(incoming)

            async def send(_: Message) -> None:
                pytest.fail("nothing is sent")

            async def app(scope: Scope, receive: Receive, send: Send) -> None:
                assert (await receive())["type"] == "websocket.connect"
                sessions.close_all(signoff.database, "reviewer")
                while (event := await receive())["type"] == "websocket.receive":
                    through.append(BackMsg.FromString(event["bytes"]))

            cookie = [(b"cookie", f"{cookie_name(signoff.settings)}={token}".encode())]
            anyio.run(
                SessionGate(app, signoff),
                {"type": "websocket", "path": "/_stcore/stream", "headers": cookie},
                receive,
                send,
            )
            return through

        return received

    def test_a_click_becomes_a_rerun_of_the_same_page(self, received: Callable[[BackMsg], list[BackMsg]]) -> None:
        click = BackMsg()
        click.rerun_script.page_script_hash = "abc"
        click.rerun_script.query_string = "name=x"
        click.rerun_script.fragment_id = "promote"
        click.rerun_script.widget_states.widgets.add(id="promote", trigger_value=True)
        (rerun,) = received(click)
        assert rerun.rerun_script.page_script_hash == "abc"
        assert rerun.rerun_script.query_string == "name=x"
        assert not rerun.rerun_script.fragment_id
        assert not rerun.rerun_script.widget_states.widgets

    @pytest.mark.parametrize("kind", ["clear_cache", "stop_script", "app_heartbeat"])
    def test_anything_else_goes_nowhere(self, received: Callable[[BackMsg], list[BackMsg]], kind: str) -> None:
        assert received(BackMsg(**{kind: True})) == []


def ask(app: Starlette, method: str, path: str, cookie: str = "", **form: str) -> httpx.Response:
    """One request to an app in this process, as a browser on https://signoff.example sends it."""
    headers = {"Origin": "https://signoff.example"} | ({"Cookie": cookie} if cookie else {})

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://inner", headers=headers) as client:
            return await client.request(method, path, data=form or None)

    return anyio.run(send)


class TestCookie:
    def test_is_for_https_only_where_the_dashboard_is(self, signoff: Signoff) -> None:
        people.set_password(signoff.database, "reviewer", BcryptPasswords().hash("right"))
        public = replace(signoff, settings=replace(signoff.settings, url="https://signoff.example"))
        app = Starlette(routes=LogIn(public).routes())
        answer = ask(app, "POST", "/session/login", username="reviewer", password="right")
        assert answer.status_code == 303
        assert "; Secure" in answer.headers["set-cookie"]


class TestDatabaseAway:
    @pytest.mark.parametrize(
        "request_line",
        ["GET /", "GET /_stcore/health", "GET /login", "POST /session/login", "POST /session/logout"],
    )
    def test_nobody_gets_in_and_everybody_is_told_why(self, signoff: Signoff, request_line: str) -> None:
        away = replace(signoff, database=Database("sqlite:////nowhere/at/all.db"))
        public = replace(away, settings=replace(signoff.settings, url="https://signoff.example"))
        app = Starlette(routes=LogIn(public).routes(), middleware=[Middleware(SessionGate, signoff=public)])
        answer = ask(
            app,
            *request_line.split(),
            cookie=f"{cookie_name(public.settings)}=x",
            username="reviewer",
            password="right",
        )
        assert answer.status_code == 503
        assert "database cannot be used" in answer.text
        assert "set-cookie" not in answer.headers


class TestShell:
    """The script alone, as every page test runs it."""

    @pytest.fixture
    def shell(self, signoff: Signoff) -> AppTest:
        session.use(signoff)
        token = sessions.open_session(signoff.database, "reviewer", signoff.settings.secret_key)
        shell = AppTest.from_file(str(PROJECT / "components" / "shell.py"), default_timeout=10)
        shell.user = {"session": sessions.session_key(token, signoff.settings.secret_key)}
        return shell

    def test_runs_home_and_then_another_page(self, shell: AppTest) -> None:
        shell.run()
        assert not shell.exception
        assert "Rita Alvarez" in str([markdown.value for markdown in shell.sidebar.markdown])
        shell.switch_page("../pages/registry.py").run()
        assert not shell.exception
        assert shell.title

    def test_says_so_when_the_database_is_away(self, shell: AppTest, signoff: Signoff) -> None:
        session.use(replace(signoff, database=Database("sqlite:////nowhere/at/all.db")))
        shell.run()
        assert "database cannot be used" in shell.error[0].value
        assert not shell.title

    def test_without_a_session_shows_no_page(self, shell: AppTest) -> None:
        for user in ({}, {"session": None}, {"session": "x"}, {"username": "admin"}):
            shell.user = user
            shell.run()
            assert shell.subheader[0].value == "You have been signed out"
            assert not shell.title
            assert not shell.sidebar.markdown
