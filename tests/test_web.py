"""The HTTP door, on the real app as a process of its own; MLflow is away the whole time."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from services.accounts import demo, people, sessions
from services.database import Database
from services.domain import Role
from services.settings import PROJECT, Settings
from tests.conftest import free_port, http_ok, wait_until
from web.document import document
from web.gate import cookie_name
from web.headers import script_hashes
from web.passwords import BcryptPasswords

CHROMIUM = shutil.which("chromium")
CHROMIUM_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PASSWORD = "demo-password"


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A running app, and its database to look behind it."""

    url: str
    settings: Settings
    database: Database
    addresses: Iterator[int] = field(default_factory=count)

    def cookies(self, username: str) -> dict[str, str]:
        """The cookie of a new session."""
        return self.cookie(sessions.open_session(self.database, username, self.settings.secret_key))

    def cookie(self, token: str) -> dict[str, str]:
        """The cookie a session with this token would have."""
        return {cookie_name(self.settings): token}

    def client(self, cookies: dict[str, str] | None = None) -> httpx.Client:
        """A client that follows no redirects."""
        # Each comes from an address of its own, by what a trusted proxy says: how much one may guess is limited.
        headers = {"X-Forwarded-For": f"198.51.100.{next(self.addresses)}"}
        return httpx.Client(
            base_url=self.url, cookies=cookies, headers=headers, timeout=10, verify=False, trust_env=False
        )

    def log_in(self, client: httpx.Client, username: str, password: str = PASSWORD, **more: Any) -> httpx.Response:
        """Send the form as a browser does."""
        form = {"username": username, "password": password} | more.pop("form", {})
        return client.post("/session/login", data=form, headers={"Origin": self.url} | more.pop("headers", {}), **more)

    def status(self, method: str, path: str) -> int:
        """What a request gets whose path no client library has tidied up."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        finally:
            connection.close()

    @contextmanager
    def websocket(self, cookies: dict[str, str], origin: str = "", **headers: str) -> Iterator[ClientConnection]:
        """The WebSocket a page talks over; ``origin`` is where the page came from, ours by default."""
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        url = f"{self.url.replace('http', 'ws', 1)}/_stcore/stream"
        more = {"Cookie": cookie, **headers}
        protocol = ["streamlit"]
        asked = origin or self.url
        with connect(url, origin=asked, subprotocols=protocol, additional_headers=more, max_size=None) as websocket:
            yield websocket


def run(websocket: ClientConnection, page: str = "", *, query: str = "") -> str:
    """Ask for one run of a page, as the frontend does; returns everything the run drew, as text."""
    message = BackMsg()
    message.rerun_script.page_name = page
    message.rerun_script.query_string = query
    websocket.send(message.SerializeToString())
    drawn = ""
    while True:
        answer = ForwardMsg.FromString(websocket.recv(timeout=30))
        drawn += str(answer.delta)
        if answer.WhichOneof("type") == "script_finished":
            return drawn


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """The app, just started: `TestColdServer` comes first, and nobody has ever been signed in."""
    home, port, away = tmp_path_factory.mktemp("home"), free_port(), free_port()
    environ = {"SIGNOFF_HOME": str(home), "SIGNOFF_PORT": str(port), "SIGNOFF_MLFLOW_PORT": str(away)}
    environ["SIGNOFF_TRUSTED_PROXIES"] = "127.0.0.1"
    settings = Settings.read(environ)
    database = Database.of(settings)
    database.upgrade()
    demo.ensure(database, PASSWORD, BcryptPasswords(), given=True, at=datetime.now(UTC))
    hashed = people.credentials(database, "viewer")["usernames"]["viewer"]["password"]
    for username in ("locked", "leaver", "demoted"):
        people.add_account(database, username=username, name=username, hashed=hashed, roles=[Role.VIEWER])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIGNOFF_", "MLFLOW_"))}
    log = home / "app.log"
    with log.open("w") as output:
        app = subprocess.Popen(
            [sys.executable, "app.py"], cwd=PROJECT, env=kept | environ, stdout=output, stderr=output
        )
    try:
        wait_until(lambda: app.poll() is not None or http_ok(f"{settings.url}/healthz"), "the dashboard")
        assert app.poll() is None, log.read_text()
        yield Dashboard(url=settings.url, settings=settings, database=database)
    finally:
        app.terminate()
        app.wait(timeout=20)


PAGES = ["/", "/secret", "/version?name=x&version=1", "/pages/home.py", "/registry", "/index.html", "/pages/a/b"]
MACHINERY = [
    *("/_stcore/health", "/_stcore/host-config", "/_stcore/metrics", "/_stcore/script-health-check"),
    *("/_stcore/stream", "/_stcore/agent/openapi.json", "/registry/_stcore/health", "/_stcore/upload_file/a/b"),
    *("/media/abc.csv", "/component/x/index.html", "/_stcore/bidi-components/x/y.js", "/static/js/index.js"),
    *("/app/static/Inter-LICENSE.txt", "/app/static/", "/auth/login", "/oauth2callback"),
]


class TestColdServer:
    """Must stay the first class: it proves what a server shows before anybody signed in."""

    @pytest.mark.parametrize("path", PAGES)
    def test_a_page_leads_to_the_log_in(self, dashboard: Dashboard, path: str) -> None:
        with dashboard.client() as client:
            answer = client.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")
        assert answer.content == b""

    @pytest.mark.parametrize("path", MACHINERY)
    def test_everything_else_is_refused(self, dashboard: Dashboard, path: str) -> None:
        with dashboard.client() as client:
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
                answer = client.request(method, path)
                assert answer.status_code == 401, method
                assert "stApp" not in answer.text

    @pytest.mark.parametrize(
        "path",
        [
            *("/login/../index.html", "/app/static/../shell.py", "//_stcore/health", "/_stcore//health", "/LOGIN"),
            *("/app/static/mark.svg/../Inter-LICENSE.txt", "/%5fstcore/health", "/api/../_stcore/metrics", "/./"),
            *("/login%2f..%2findex.html", "/api/%2e%2e/index.html", "/%2e%2e/app.py", "*", "/session/login/../../"),
        ],
    )
    def test_no_spelling_of_a_path_gets_past(self, dashboard: Dashboard, path: str) -> None:
        for method in ("GET", "POST"):
            assert dashboard.status(method, path) in {303, 400, 401, 404, 405}

    @pytest.mark.parametrize("path", ["/api/v1/models/..%2f..%2fetc", "/api/v1/models/%00", "/app/..%2fx", "/a%00"])
    def test_a_path_that_nothing_has_is_answered_in_a_sentence(self, dashboard: Dashboard, path: str) -> None:
        connection = http.client.HTTPConnection(dashboard.url.partition("//")[2], timeout=10)
        cookies = "; ".join(f"{name}={value}" for name, value in dashboard.cookies("viewer").items())
        connection.request("GET", path, headers={"Cookie": cookies})
        answer = connection.getresponse()
        said = answer.read().decode()
        assert answer.status == 400
        if path.startswith("/api/"):
            said = json.loads(said)["message"]
        assert "a NUL character" in said

    @pytest.mark.parametrize("path", ["/", "/registry", "/login", "/session/login"])
    def test_a_page_cannot_be_posted_to(self, dashboard: Dashboard, path: str) -> None:
        with dashboard.client() as client:
            answer = client.post(path, headers={"Origin": "http://evil.example"})
        assert answer.status_code in {401, 403, 405}

    def test_a_websocket_is_refused(self, dashboard: Dashboard) -> None:
        for cookies in ({}, dashboard.cookie("x" * 43), dashboard.cookie("x" * 5000), {"_streamlit_user": "x"}):
            with pytest.raises(InvalidStatus) as refusal, dashboard.websocket(cookies):
                pass
            assert refusal.value.response.status_code == 403

    @pytest.mark.parametrize(
        "origin",
        [
            *("http://localhost:1", "http://127.0.0.1:{port}", "http://127.0.0.1:{port}.evil.example"),
            *("http://evil.example", "null", "http://localhost:{port}0", "http://[::1]:{port}"),
            *("https://localhost:{port}", "http://localhost:{port}.evil.example"),
        ],
    )
    def test_a_page_of_another_address_acts_with_nobodys_session(self, dashboard: Dashboard, origin: str) -> None:
        cookies, theirs = dashboard.cookies("reviewer"), origin.format(port=dashboard.url.rpartition(":")[2])
        with pytest.raises(InvalidStatus) as refusal, dashboard.websocket(cookies, origin=theirs):
            pass
        assert refusal.value.response.status_code == 403
        with dashboard.client() as client:
            client.cookies.update(cookies)
            answer = client.put("/_stcore/upload_file/s/f", headers={"Origin": theirs}, content=b"x")
        assert (answer.status_code, "page of another address" in answer.text) == (403, True)

    def test_a_page_that_was_led_here_by_another_name_acts_with_nobodys_session(self, dashboard: Dashboard) -> None:
        """As after DNS rebinding: its origin and the Host header agree, and both are another's."""
        theirs = f"localhost:{dashboard.settings.port}.evil.example"
        more = {"Host": theirs, "Origin": f"http://{theirs}"}
        with dashboard.client(dashboard.cookies("reviewer")) as client:
            answer = client.put("/_stcore/upload_file/s/f", headers=more, content=b"x")
            assert (answer.status_code, "page of another address" in answer.text) == (403, True)
            assert dashboard.log_in(client, "reviewer", headers=more).status_code == 403

    def test_a_browser_that_came_to_the_number_is_sent_to_the_name(self, dashboard: Dashboard) -> None:
        number = dashboard.url.replace("localhost", "127.0.0.1")
        with dashboard.client() as client:
            for path in ("/", "/version?name=a%20b&version=1", "/login?next=/registry"):
                answer = client.get(number + path)
                assert (answer.status_code, answer.headers["location"]) == (307, dashboard.url + path)
            for path in ("/healthz", "/readyz", "/api/v1/models", "/_stcore/health", "/app/static/mark.svg"):
                assert client.get(number + path).status_code in {200, 401, 503}, path
            assert client.post(number + "/session/logout").status_code == 303

    def test_identity_headers_of_a_client_are_ignored(self, dashboard: Dashboard) -> None:
        token = sessions.open_session(dashboard.database, "admin", dashboard.settings.secret_key)
        key = sessions.session_key(token, dashboard.settings.secret_key)
        with dashboard.client() as client:
            assert client.get("/", headers={"X-Signoff-Session": key}).status_code == 303
            assert client.get("/_stcore/health", headers={"X-Signoff-Session": key}).status_code == 401
        with pytest.raises(InvalidStatus), dashboard.websocket({}, **{"X-Signoff-Session": key}):
            pass

    def test_an_unknown_call_is_an_error_and_no_page(self, dashboard: Dashboard) -> None:
        with dashboard.client() as client:
            answer = client.get("/api/v9/nothing")
        assert answer.status_code == 404
        assert answer.json()["error_code"] == "ENDPOINT_NOT_FOUND"

    def test_no_script_has_run(self, dashboard: Dashboard) -> None:
        with dashboard.client(dashboard.cookies("admin")) as client:
            metrics = client.get("/_stcore/metrics").text
        assert 'session_events_total{type="connect"} 0' in metrics


class TestSignsOfLife:
    def test_the_process_lives(self, dashboard: Dashboard) -> None:
        with dashboard.client() as client:
            assert client.get("/healthz").json() == {"status": "ok"}

    def test_it_is_not_ready_without_mlflow_and_the_sample(self, dashboard: Dashboard) -> None:
        with dashboard.client() as client:
            answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["ready"] is False
        assert answer.json()["missing"] == ["MLflow does not answer.", "The sample registry is not complete yet."]


class TestLogInPage:
    def test_needs_nothing_but_our_own_files(self, dashboard: Dashboard) -> None:
        with dashboard.client() as client:
            page = client.get("/login?next=/version?name=x%26version=1")
            assert page.status_code == 200
            files = set(re.findall(r'(?:href="|url\()(/[^")]+)', page.text))
            assert len(files) >= 4
            assert all(client.get(file).status_code == 200 for file in files)
        assert not re.search(r"(?:src|href|url)\W{1,2}(?:https?:)?//", page.text)
        assert 'value="/version?name=x&amp;version=1"' in page.text

    def test_names_its_fields_for_password_stores(self, dashboard: Dashboard) -> None:
        with dashboard.client() as client:
            page = client.get("/login").text
        assert re.search(r'name="username"[^>]*autocomplete="username"[^>]*autofocus', page)
        assert 'autocomplete="current-password"' in page

    def test_repeats_what_was_typed_as_text_only(self, dashboard: Dashboard) -> None:
        evil = '"><script>alert(1)</script>'
        with dashboard.client() as client:
            page = dashboard.log_in(client, evil, "x", form={"next": f"/{evil}"})
        assert page.status_code == 401
        assert "<script>alert" not in page.text

    def test_sends_on_whoever_is_signed_in(self, dashboard: Dashboard) -> None:
        with dashboard.client(dashboard.cookies("viewer")) as client:
            answer = client.get("/login?next=/registry?q=1")
        assert (answer.status_code, answer.headers["location"]) == (303, "/registry?q=1")


class TestLoggingIn:
    def test_sets_a_cookie_scripts_cannot_read(self, dashboard: Dashboard) -> None:
        with dashboard.client() as client:
            answer = dashboard.log_in(client, "reviewer")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        name = cookie_name(dashboard.settings)
        (cookie,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith(f"{name}=")]
        flags = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=lax", "path=/", "max-age=43200"} <= flags
        assert "secure" not in flags, "this server is reached over plain http"

    def test_a_deep_link_survives(self, dashboard: Dashboard) -> None:
        link = "/version?name=a%20b%2Fc&version=2"
        with dashboard.client() as client:
            asked = client.get(client.get(link).headers["location"])
            wanted = re.search(r'name="next" type="hidden" value="([^"]*)"', asked.text)
            assert wanted
            answer = dashboard.log_in(client, "reviewer", form={"next": wanted[1].replace("&amp;", "&")})
            assert answer.headers["location"] == link
            assert "<title>Signoff</title>" in client.get(link).text

    @pytest.mark.parametrize("next_", ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example"])
    def test_never_leads_to_another_site(self, dashboard: Dashboard, next_: str) -> None:
        with dashboard.client() as client:
            assert dashboard.log_in(client, "reviewer", form={"next": next_}).headers["location"] == "/"

    def test_wrong_and_unknown_get_the_same_answer_after_the_same_time(self, dashboard: Dashboard) -> None:
        def answer(username: str) -> tuple[int, str, float]:
            started = time.monotonic()
            with dashboard.client() as client:
                page = dashboard.log_in(client, username, "wrong")
            assert "set-cookie" not in page.headers
            return page.status_code, page.text.replace(username, "…"), time.monotonic() - started

        answer("nobody")  # the first one of a process loads the library
        known, unknown = answer("viewer"), answer("nobody")
        assert known[:2] == unknown[:2]
        assert known[0] == 401
        assert "Wrong username or password" in known[1]
        assert abs(known[2] - unknown[2]) < 0.3

    def test_five_failures_lock_the_account(self, dashboard: Dashboard) -> None:
        with dashboard.client() as client:
            for _ in range(5):
                assert dashboard.log_in(client, "locked", "wrong").status_code == 401
            answer = dashboard.log_in(client, "locked")
        assert answer.status_code == 401
        assert "locked" in answer.text

    def test_a_browser_that_logged_in_before_is_let_in_past_what_strangers_did(self, dashboard: Dashboard) -> None:
        with dashboard.client() as mine, dashboard.client() as theirs:
            assert dashboard.log_in(mine, "auditor").status_code == 303
            for _ in range(5):
                assert dashboard.log_in(theirs, "auditor", "wrong").status_code == 401
            assert dashboard.log_in(theirs, "auditor").status_code == 401
            assert dashboard.log_in(mine, "auditor").status_code == 303

    @pytest.mark.parametrize("password", ["x" * 73, "ü" * 72, "a\0b", ""])
    def test_odd_passwords_are_wrong_and_nothing_worse(self, dashboard: Dashboard, password: str) -> None:
        with dashboard.client() as client:
            assert dashboard.log_in(client, "nobody", password).status_code == 401

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"x" * 20_000, 413),
            (b"a=1&" * 50, 413),
            (b"\xff\xfe=%ff", 401),
            (b"", 401),
            (b"username=%00&password=x", 401),
        ],
    )
    def test_odd_forms_are_refused(self, dashboard: Dashboard, body: bytes, status: int) -> None:
        headers = {"Origin": dashboard.url, "Content-Type": "application/x-www-form-urlencoded"}
        with dashboard.client() as client:
            assert client.post("/session/login", content=body, headers=headers).status_code == status

    @pytest.mark.parametrize(
        "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
    )
    def test_another_sites_form_is_refused(self, dashboard: Dashboard, headers: dict[str, str]) -> None:
        with dashboard.client() as client:
            answer = dashboard.log_in(client, "reviewer", headers=headers)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
        with dashboard.client(dashboard.cookies("reviewer")) as client:
            assert client.post("/session/logout", headers=headers).status_code == 403
            assert client.get("/_stcore/health").status_code == 200

    def test_replaces_the_session_that_was_open(self, dashboard: Dashboard) -> None:
        before = dashboard.cookies("viewer")
        with dashboard.client(before) as client:
            dashboard.log_in(client, "reviewer")
        with dashboard.client(before) as client:
            assert client.get("/_stcore/health").status_code == 401


class TestSession:
    def test_shows_the_page_that_was_asked_for_and_who_is_signed_in(self, dashboard: Dashboard) -> None:
        with dashboard.websocket(dashboard.cookies("reviewer")) as websocket:
            drawn = run(websocket)
        assert "Rita Alvarez" in drawn
        assert "signed out" not in drawn

    def test_a_header_cannot_turn_it_into_someone_elses(self, dashboard: Dashboard) -> None:
        token = sessions.open_session(dashboard.database, "admin", dashboard.settings.secret_key)
        key = sessions.session_key(token, dashboard.settings.secret_key)
        with dashboard.websocket(dashboard.cookies("reviewer"), **{"X-Signoff-Session": key}) as websocket:
            drawn = run(websocket)
        assert "Rita Alvarez" in drawn
        assert "Adam Novak" not in drawn

    def test_logging_out_revokes_it_everywhere(self, dashboard: Dashboard) -> None:
        cookies = dashboard.cookies("reviewer")
        with dashboard.websocket(cookies) as websocket, dashboard.client(cookies) as client:
            assert "Rita Alvarez" in run(websocket)
            answer = client.post("/session/logout", headers={"Origin": dashboard.url})
            assert answer.headers["location"] == "/login?signed_out=1"
            assert "max-age=0" in answer.headers["set-cookie"].lower()
            drawn = run(websocket)
            assert "You have been signed out" in drawn
            assert "Rita Alvarez" not in drawn
        with dashboard.client(cookies) as client:
            assert client.get("/").status_code == 303
            assert client.get("/_stcore/health").status_code == 401
        with pytest.raises(InvalidStatus), dashboard.websocket(cookies):
            pass

    def test_logging_out_twice_or_without_a_session_is_no_error(self, dashboard: Dashboard) -> None:
        for cookies in ({}, dashboard.cookie("x" * 43)):
            with dashboard.client(cookies) as client:
                assert client.post("/session/logout", headers={"Origin": dashboard.url}).status_code == 303

    def test_a_disabled_account_is_out_on_the_next_click(self, dashboard: Dashboard) -> None:
        cookies = dashboard.cookies("leaver")
        with dashboard.websocket(cookies) as websocket, dashboard.client(cookies) as client:
            assert "leaver" in run(websocket)
            people.disable(dashboard.database, "leaver")
            assert "You have been signed out" in run(websocket)
            assert client.get("/_stcore/health").status_code == 401
            assert dashboard.log_in(client, "leaver").status_code == 401

    def test_roles_are_those_of_this_moment(self, dashboard: Dashboard) -> None:
        with dashboard.websocket(dashboard.cookies("demoted")) as websocket:
            assert "gray-badge[viewer]" in run(websocket)
            people.set_roles(dashboard.database, "demoted", [Role.AUDITOR])
            drawn = run(websocket)
        assert "gray-badge[auditor]" in drawn
        assert "gray-badge[viewer]" not in drawn

    def test_nonsense_on_the_websocket_ends_only_that_websocket(self, dashboard: Dashboard) -> None:
        cookies = dashboard.cookies("reviewer")
        with dashboard.websocket(cookies) as websocket:
            websocket.send(b"\xff\xff\xff")
            with pytest.raises(ConnectionClosed):
                websocket.recv(timeout=10)
        with dashboard.websocket(cookies) as websocket:
            assert "Rita Alvarez" in run(websocket)


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", "/login", "/healthz", "/registry", "/secret", "/_stcore/health"])
    def test_every_answer_has_them(self, dashboard: Dashboard, path: str) -> None:
        for cookies in ({}, dashboard.cookies("viewer")):
            with dashboard.client(cookies) as client:
                headers = client.get(path).headers
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "unsafe-eval" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["cache-control"] == "no-store"

    def test_the_policy_allows_exactly_the_documents_own_scripts(self, dashboard: Dashboard) -> None:
        with dashboard.client(dashboard.cookies("viewer")) as client:
            answer = client.get("/registry")
        policy = answer.headers["content-security-policy"]
        assert script_hashes(answer.text) in policy
        assert policy.count("sha256-") == document().count("<script>") == 2
        assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]

    def test_fonts_and_the_frontend_may_be_kept(self, dashboard: Dashboard) -> None:
        with dashboard.client(dashboard.cookies("viewer")) as client:
            assert "max-age" in client.get("/app/static/Inter-Regular.woff2").headers["cache-control"]
            script = re.search(r'src="\.(/static/js/[^"]+)"', client.get("/").text)
            assert script
            assert "immutable" in client.get(script[1]).headers["cache-control"]


class TestStart:
    @pytest.mark.parametrize(
        ("environ", "sentence"),
        [
            ({"SIGNOFF_PORT": "many"}, "SIGNOFF_PORT is 'many'"),
            ({"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, "SIGNOFF_SECRET_KEY is not set"),
        ],
    )
    def test_a_wrong_setting_is_one_clear_sentence(
        self, tmp_path: Path, environ: dict[str, str], sentence: str
    ) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIGNOFF_", "MLFLOW_"))}
        done = subprocess.run(
            [sys.executable, "app.py"],
            cwd=PROJECT,
            env=kept | {"SIGNOFF_HOME": str(tmp_path)} | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode != 0
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
class TestInABrowser:
    def test_sign_in_look_and_sign_out_without_leaving_this_host(self, dashboard: Dashboard) -> None:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
            page = browser.new_page()
            asked: set[str] = set()
            complaints: list[str] = []
            page.on("request", lambda request: asked.add(request.url.split("?")[0]))
            page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
            page.goto(f"{dashboard.url}/registry?q=wine")
            page.get_by_label("Username").fill("reviewer")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.get_by_text("Rita Alvarez").wait_for()
            assert page.url == f"{dashboard.url}/registry?q=wine"
            page.get_by_role("link", name="Home").click()
            page.wait_for_url(f"{dashboard.url}/")
            page.get_by_role("button", name="Sign out").click()
            page.get_by_text("You have signed out.").wait_for()
            page.goto(dashboard.url)
            assert "/login" in page.url
            browser.close()
        strangers = {url for url in asked if not url.startswith((dashboard.url, "data:", "blob:"))}
        assert not strangers
        assert not complaints, "also what the content security policy refused would be here"
