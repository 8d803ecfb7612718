"""The gate, the log-in routes and the shell one at a time, in this process."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

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
from services.errors import LedgerUnavailable
from services.settings import PROJECT
from services.signoff import Signoff
from tests.conftest import settings_in
from web.gate import SessionGate, cookie_name
from web.login import LogIn
from web.origins import cross_site, elsewhere, origin, safe_next
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
            {"host": "inner", "origin": "https://signoff.example"},
            {"host": "inner", "origin": "https://signoff.example", "sec_fetch_site": "same-origin"},
            {"host": "inner", "sec_fetch_site": "none"},
            {"host": "h:1"},
        ],
    )
    def test_our_own_forms_and_scripts_without_a_browser_pass(self, headers: dict[str, str]) -> None:
        for ours in ("https://signoff.example", "https://Signoff.Example:443/"):
            assert not cross_site(self.request(**headers), ours)

    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "h:1", "origin": "http://h:2"},
            {"host": "h:1", "origin": "null"},
            {"host": "h:1", "origin": ""},
            {"host": "h:1", "origin": "http://h:1"},
            {"host": "h:1", "origin": "http://h:1", "sec_fetch_site": "same-origin"},
            {"host": "evil.example", "origin": "https://evil.example"},
            {"host": "signoff.example.evil.example", "origin": "https://signoff.example.evil.example"},
            {"host": "signoff.example", "origin": "http://signoff.example"},
            {"host": "signoff.example", "origin": "https://signoff.example:8443"},
            {"host": "signoff.example", "origin": "https://signoff.example", "sec_fetch_site": "cross-site"},
            {"host": "signoff.example", "origin": "https://signoff.example", "sec_fetch_site": "same-site"},
            {"host": "signoff.example", "sec_fetch_site": "cross-site"},
        ],
    )
    def test_others_do_not(self, headers: dict[str, str]) -> None:
        assert cross_site(self.request(**headers), "https://signoff.example")


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("http://localhost:8501", "http://localhost:8501"),
        ("https://Signoff.Example:443/ml", "https://signoff.example"),
        ("https://münchen.example", "https://xn--mnchen-3ya.example"),
        ("http://[::1]:80", "http://[::1]"),
        ("https://10.0.0.7:8443", "https://10.0.0.7:8443"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(url: str, written: str) -> None:
    assert origin(url) == written


class TestElsewhere:
    """People type 127.0.0.1; pages act at localhost only."""

    @staticmethod
    def led_to(host: str, path: str = "/", query: str = "", url: str = "http://localhost:8501") -> str | None:
        scope = {"type": "http", "headers": [(b"host", host.encode())], "path": path, "query_string": query.encode()}
        return elsewhere(Request(scope), url)

    def test_the_number_of_this_machine_leads_to_its_name(self) -> None:
        assert self.led_to("127.0.0.1:8501") == "http://localhost:8501/"
        assert self.led_to("[::1]:8501") == "http://localhost:8501/"
        assert self.led_to("127.0.0.1", url="http://localhost") == "http://localhost/"

    def test_path_and_query_come_along_and_lead_nowhere_else(self) -> None:
        assert self.led_to("127.0.0.1:8501", "/a b", "n=%2F&v=1") == "http://localhost:8501/a%20b?n=%2F&v=1"
        for path in ("//evil.example", "/\\evil.example", "/@evil.example", "/\r\nX: y"):
            found = self.led_to("127.0.0.1:8501", path)
            assert found
            assert urlsplit(found).netloc == "localhost:8501"
            assert found.isprintable()

    @pytest.mark.parametrize(
        "host",
        [
            *("localhost:8501", "127.0.0.1:8502", "127.0.0.1", "127.0.0.1.evil.example:8501", "evil.example:8501"),
            *("127.0.0.2:8501", "127.0.0.1:x", "[::1", "", "127.0.0.1:8501:8501", "LOCALHOST:8501"),
        ],
    )
    def test_nobody_else_is_sent_anywhere(self, host: str) -> None:
        assert self.led_to(host) is None

    @pytest.mark.parametrize("url", ["https://signoff.example", "http://127.0.0.1:8501", "https://localhost:8501"])
    def test_nobody_is_sent_where_signoff_is_at_another_address(self, url: str) -> None:
        assert self.led_to("127.0.0.1:8501", url=url) is None


class TestCookieName:
    def test_is_one_for_all_dashboards_behind_one_address_and_another_for_each_address(self, tmp_path: Path) -> None:
        def name(port: str, **environ: str) -> str:
            return cookie_name(settings_in(tmp_path, SIGNOFF_PORT=port, **environ))

        assert name("8501", SIGNOFF_URL="https://a.example") == name("8502", SIGNOFF_URL="https://a.example")
        assert name("8501", SIGNOFF_URL="https://a.example") != name("8501", SIGNOFF_URL="https://b.example")
        assert name("8501") != name("8502"), "two stacks on one machine"


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
        assert "database cannot be used; nothing was changed" in html.unescape(answer.text)
        assert not any(word in answer.text for word in ("unable to open", "sqlite", "nowhere"))
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
        assert shell.error[0].value == LedgerUnavailable.TO_STRANGERS
        assert not shell.title

    def test_without_a_session_shows_no_page(self, shell: AppTest) -> None:
        for user in ({}, {"session": None}, {"session": "x"}, {"username": "admin"}):
            shell.user = user
            shell.run()
            assert shell.subheader[0].value == "You have been signed out"
            assert not shell.title
            assert not shell.sidebar.markdown
