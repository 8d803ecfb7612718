"""Guessing at the log-in: what it costs the one who guesses, whom it keeps out, and what is on record of it."""

from __future__ import annotations

import html
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import itsdangerous.timed
import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from services.accounts import devices, logins, people, sessions
from services.accounts.sessions import MAX_FAILURES, WrongCredentials
from services.database import database_time
from services.errors import TooManyAttempts
from services.record import refusals
from services.signoff import Signoff
from services.tables import failures
from tests.conftest import BOTH, Clock, settings_in
from tests.fakes import PlainPasswords
from tests.ledgers import kinds, record
from web import login
from web.attempts import ALL_FAILURES, CLIENT_FAILURES, SECONDS, Guesses, WrongTokens, client_of
from web.gate import device_cookie_name
from web.login import LogIn

DATABASES = BOTH
MINE, THEIRS = "the right one", "a wrong one"


@pytest.fixture
def passwords(signoff: Signoff) -> PlainPasswords:
    """With which ``reviewer`` and ``viewer`` log in."""
    for username in ("reviewer", "viewer"):
        people.set_password(signoff.database, username, f"plain:{MINE}")
    return PlainPasswords()


@dataclass
class Person:
    """Somebody at a log-in."""

    signoff: Signoff
    passwords: PlainPasswords
    username: str = "reviewer"
    device: str | None = None

    def log_in(self, password: str = MINE) -> None:
        """As the log-in page does, with the device's cookie that the last time gave."""
        key = self.signoff.settings.secret_key
        device = devices.known(self.signoff.database, self.username, self.device or "", key)
        done = logins.log_in(
            self.signoff, self.username, password, self.passwords, device=device, client="198.51.100.7"
        )
        self.device = done.device

    def guess(self, times: int = MAX_FAILURES) -> None:
        """Type wrong passwords."""
        for _ in range(times):
            with pytest.raises(WrongCredentials):
                self.log_in(THEIRS)


@pytest.fixture
def owner(signoff: Signoff, passwords: PlainPasswords) -> Person:
    """At a device in which they have logged in before."""
    person = Person(signoff, passwords)
    person.log_in()
    return person


@pytest.fixture
def stranger(signoff: Signoff, passwords: PlainPasswords) -> Person:
    return Person(signoff, passwords)


class TestKnownDevice:
    def test_is_not_locked_out_by_strangers(self, owner: Person, stranger: Person) -> None:
        stranger.guess(50)
        owner.log_in()
        with pytest.raises(WrongCredentials):
            stranger.log_in()

    def test_is_locked_by_its_own_failures_alone(self, owner: Person, stranger: Person) -> None:
        other = Person(owner.signoff, owner.passwords)
        other.log_in()
        owner.guess()
        with pytest.raises(WrongCredentials):
            owner.log_in()
        other.log_in()
        stranger.log_in()

    def test_is_checked_no_more_while_it_is_locked(self, owner: Person) -> None:
        owner.guess()
        checked = len(owner.passwords.checked)
        owner.guess(20)
        assert len(owner.passwords.checked) == checked

    @pytest.mark.postgresql
    def test_is_forgiven_four_failures_and_its_lock_ends(self, owner: Person) -> None:
        for _ in range(3):
            owner.guess(MAX_FAILURES - 1)
            owner.log_in()
        owner.guess()
        with owner.signoff.database.writing() as connection:
            connection.execute(failures.update().values(locked_until=database_time() - 1))
        owner.log_in()

    @pytest.mark.postgresql
    def test_guesses_of_one_sent_at_once_are_not_checked_more_than_five_times(self, owner: Person) -> None:
        before = len(owner.passwords.checked)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: Person(owner.signoff, owner.passwords, device=owner.device).guess(1), range(24)))
        assert len(owner.passwords.checked) - before == MAX_FAILURES

    @pytest.mark.postgresql
    def test_leaves_no_row_behind(self, owner: Person) -> None:
        owner.guess(1)
        with owner.signoff.database.writing() as connection:
            connection.execute(failures.update().values(last_at=database_time() - 2 * sessions.KEPT_SECONDS))
        Person(owner.signoff, owner.passwords, "viewer").log_in()
        viewer = Person(owner.signoff, owner.passwords, "viewer")
        viewer.log_in()
        viewer.guess(1)
        with owner.signoff.database.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(failures)).scalar() == 1
        viewer.log_in()
        with owner.signoff.database.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(failures)).scalar() == 0


class TestDeviceCookie:
    @pytest.fixture
    def cookie(self, signoff: Signoff, passwords: PlainPasswords) -> str:
        return devices.issue(signoff.database, "reviewer", signoff.settings.secret_key)

    @staticmethod
    def known(signoff: Signoff, cookie: str, username: str = "reviewer", key: bytes | None = None) -> bool:
        return devices.known(signoff.database, username, cookie, key or signoff.settings.secret_key) is not None

    def test_is_of_one_account(self, signoff: Signoff, cookie: str) -> None:
        assert self.known(signoff, cookie)
        for other in ("viewer", "nobody", "REVIEWER", ""):
            assert not self.known(signoff, cookie, other)

    def test_ends_with_the_password(self, signoff: Signoff, cookie: str) -> None:
        people.set_password(signoff.database, "reviewer", "plain:new")
        assert not self.known(signoff, cookie)

    def test_ends_after_ninety_days(self, signoff: Signoff, cookie: str, monkeypatch: pytest.MonkeyPatch) -> None:
        now = itsdangerous.timed.time.time()
        for days, known in ((89, True), (91, False)):
            monkeypatch.setattr(itsdangerous.timed.time, "time", lambda later=now + days * 86_400: later)
            assert self.known(signoff, cookie) is known

    def test_cannot_be_made_up(self, signoff: Signoff, cookie: str) -> None:
        made_up = [cookie[:-1], cookie + "A", cookie.swapcase(), "", "..", "x" * 5000, "\0", "é", cookie[5:]]
        assert not any(self.known(signoff, one) for one in made_up)
        assert not self.known(signoff, cookie, key=b"another key" * 4)

    def test_is_another_each_time_and_names_nobody(self, signoff: Signoff, cookie: str) -> None:
        again = devices.issue(signoff.database, "reviewer", signoff.settings.secret_key)
        assert cookie != again
        assert "reviewer" not in device_cookie_name(signoff.settings, "reviewer")
        assert devices.issue(signoff.database, "nobody", signoff.settings.secret_key) == ""


class TestSigning:
    def test_cannot_be_blocked_at_the_log_in(self, owner: Person, stranger: Person) -> None:
        stranger.guess(50)
        assert sessions.reauthenticate(owner.signoff.database, "reviewer", MINE, owner.passwords) == "Rita Alvarez"

    def test_guesses_inside_a_session_stay_limited_and_lock_no_log_in(self, owner: Person) -> None:
        def sign(password: str) -> str:
            return sessions.reauthenticate(owner.signoff.database, "reviewer", password, owner.passwords)

        for password in (*[THEIRS] * MAX_FAILURES, MINE):
            with pytest.raises(WrongCredentials):
                sign(password)
        owner.log_in()
        people.set_password(owner.signoff.database, "reviewer", "plain:new")
        assert sign("new"), "a new password begins anew"


class TestRecord:
    def test_says_whose_password_was_wrong_and_where_from_and_counts_repeats(
        self, owner: Person, stranger: Person
    ) -> None:
        stranger.guess(50)
        owner.guess(1)
        found = [event for event in record(owner.signoff) if event.kind.value == "login:refused"]
        assert [event.comment for event in found] == [
            "A wrong password for reviewer from devices that are new to it.",
            "5 wrong passwords in a row for reviewer from devices that are new to it; locked for 60 s.",
            "A log-in to reviewer from devices that are new to it while it was locked for them.",
            "A wrong password for reviewer from a device that it knows.",
        ]
        assert {(event.actor, event.get("client"), event.get("account")) for event in found} == {
            ("unknown", "198.51.100.7", "reviewer")
        }

    def test_tells_the_count_when_the_window_closes(self, signoff: Signoff, stranger: Person, clock: Clock) -> None:
        stranger.guess(4)
        clock.now += timedelta(hours=1)
        refusals.close_windows(signoff.database, at=signoff.now())
        assert record(signoff)[-1].comment.startswith("Refused 4 times")

    @pytest.mark.postgresql
    def test_unknown_usernames_and_passwords_are_in_no_table(self, signoff: Signoff, passwords: PlainPasswords) -> None:
        for number in range(30):
            Person(signoff, passwords, f"guessed-{number}").guess(1)
        Person(signoff, passwords).guess(1)
        assert kinds(signoff).count("login:refused") == 2
        with signoff.database.reading() as connection:
            tables = sa.inspect(connection).get_table_names()
            kept = str([connection.execute(sa.text(f"SELECT * FROM {table}")).all() for table in tables])
        assert "guessed-" not in kept
        assert THEIRS not in kept

    def test_a_log_in_that_succeeds_leaves_no_refusal(self, owner: Person) -> None:
        assert "login:refused" not in kinds(owner.signoff)


class TestAddress:
    @pytest.mark.parametrize(
        ("host", "client"),
        [
            ("198.51.100.7", "198.51.100.7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("x" * 999, "x" * 64),
        ],
    )
    def test_is_an_address_or_a_network_that_one_customer_has(self, host: str, client: str) -> None:
        assert client_of(Request({"type": "http", "headers": [], "client": (host, 1)})) == client
        assert client_of(Request({"type": "http", "headers": [], "client": None})) == ""


@pytest.mark.parametrize(
    ("proxies", "client"), [("", "192.0.2.1"), ("192.0.2.1", "198.51.100.7"), ("192.0.2.0/24", "198.51.100.7")]
)
def test_what_a_proxy_says_is_believed_where_the_settings_name_it(tmp_path: Path, proxies: str, client: str) -> None:
    """As uvicorn is told in app.py; its own default believes everybody on this machine."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(client_of(Request(scope)))(scope, receive, send)

    trusted = ",".join(settings_in(tmp_path, SIGNOFF_TRUSTED_PROXIES=proxies).trusted_proxies)
    proxied = TestClient(ProxyHeadersMiddleware(app, trusted_hosts=trusted), client=("192.0.2.1", 1))
    assert proxied.get("/", headers={"X-Forwarded-For": "203.0.113.5, 198.51.100.7"}).text == client


@dataclass
class Moment:
    """A clock that is set."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class TestGuesses:
    def test_of_one_client_end_and_nobody_else_waits(self) -> None:
        moment = Moment()
        guesses = Guesses(moment)
        told = [one for _ in range(CLIENT_FAILURES) for one in guesses.note("a")]
        assert told == ["Too many wrong passwords from one address: new devices wait for 5 minutes."]
        guesses.require_patience("b")
        moment.now += SECONDS - 100
        with pytest.raises(TooManyAttempts, match=r"your network\. Try again in 2 minutes") as refusal:
            guesses.require_patience("a")
        assert refusal.value.seconds == 100
        moment.now += 101
        guesses.require_patience("a")

    def test_of_all_clients_together_end(self) -> None:
        guesses = Guesses(Moment())
        told = [one for number in range(ALL_FAILURES) for one in guesses.note(str(number))]
        assert told == ["Too many wrong passwords from all addresses: new devices wait for 5 minutes."]
        with pytest.raises(TooManyAttempts, match=r"everywhere\. Try again in 5 minutes"):
            guesses.require_patience("somebody else")

    def test_wrong_tokens_keep_no_right_one_waiting(self) -> None:
        moment = Moment()
        tokens = WrongTokens(moment)
        tokens.note("a", "right", right=True)
        for number in range(1000):
            tokens.note("a", f"wrong {number}", right=False)
        with pytest.raises(TooManyAttempts):
            tokens.require_patience("a", "another")
        tokens.require_patience("a", "right")
        tokens.require_patience("b", "another")
        moment.now += 61
        tokens.require_patience("a", "another")


class Held(PlainPasswords):
    """Checks that last until they are let go, but for one password."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.begun = threading.Semaphore(0)

    def check(self, password: str, hashed: str | None) -> bool:
        self.begun.release()
        if password != MINE:
            assert self.free.wait(20)
        return super().check(password, hashed)


@dataclass
class Door:
    """The log-in page's routes in this process."""

    signoff: Signoff
    passwords: PlainPasswords

    def __post_init__(self) -> None:
        self.log_in = LogIn(self.signoff)
        self.log_in._passwords = self.passwords
        self.app = Starlette(routes=self.log_in.routes())

    async def post(
        self, password: str, username: str = "reviewer", client: str = "198.51.100.7", cookies: Any = None
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, client=(client, 1))
        url = self.signoff.settings.url
        async with httpx.AsyncClient(transport=transport, base_url=url, cookies=cookies) as browser:
            form = {"username": username, "password": password}
            return await browser.post("/session/login", data=form, headers={"Origin": url})

    def known(self) -> dict[str, str]:
        """The cookies of a browser that has logged in; only what the log-in sets."""
        answer = anyio.run(self.post, MINE)
        assert answer.status_code == 303
        return {name: value for name, value in answer.cookies.items() if "device" in name}


def said(page: httpx.Response) -> str:
    """The problem that a page tells of."""
    return html.unescape(page.text.partition('role="alert">')[2].partition("</p>")[0])


class TestPage:
    @pytest.fixture(autouse=True)
    def no_padding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(login, "REFUSAL_SECONDS", 0.0)

    @pytest.fixture
    def door(self, signoff: Signoff, passwords: PlainPasswords) -> Door:
        return Door(signoff, passwords)

    def test_fifty_wrong_passwords_of_a_stranger_keep_nobody_out_who_is_known(self, door: Door) -> None:
        mine = door.known()

        async def attack() -> None:
            found = [await door.post(THEIRS) for _ in range(50)]
            assert [page.status_code for page in found] == [401] * CLIENT_FAILURES + [429] * (50 - CLIENT_FAILURES)
            assert said(found[-1]) == (
                "Too many wrong passwords came from your network. Try again in 5 minutes, or in a browser you signed "
                "in with before."
            )
            assert 0 < int(found[-1].headers["retry-after"]) <= SECONDS
            new = await door.post(MINE, client="203.0.113.9")
            assert (new.status_code, "the account is locked for this browser" in said(new)) == (401, True)
            assert (await door.post(MINE, client="198.51.100.7", cookies=mine)).status_code == 303

        anyio.run(attack)
        waiting = [event for event in record(door.signoff) if "new devices wait" in event.comment]
        assert [event.get("client") for event in waiting] == ["198.51.100.7"]

    @pytest.mark.postgresql
    def test_a_device_is_known_to_one_account_by_a_cookie_that_scripts_cannot_read(self, door: Door) -> None:
        answer = anyio.run(door.post, MINE)
        name = device_cookie_name(door.signoff.settings, "reviewer")
        (cookie,) = [line for line in answer.headers.get_list("set-cookie") if line.startswith(name)]
        flags = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=strict", "path=/session/login", "max-age=7776000"} <= flags

        async def others() -> list[int]:
            mine = {device_cookie_name(door.signoff.settings, "viewer"): answer.cookies[name]}
            for _ in range(MAX_FAILURES):
                await door.post(THEIRS, "viewer")
            return [(await door.post(MINE, "viewer", cookies=mine)).status_code]

        assert anyio.run(others) == [401], "the cookie of another account says nothing"

    def test_what_cannot_be_checked_now_is_refused_at_once_and_a_known_device_goes_first(
        self, signoff: Signoff, passwords: PlainPasswords, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(login, "WAITING", 3)
        monkeypatch.setattr(login, "WAIT_SECONDS", 60.0)
        held = Held()
        door = Door(signoff, held)
        mine = door.known()

        async def rush() -> None:
            pages: list[httpx.Response] = []

            async def one(number: int) -> None:
                pages.append(await door.post(f"{THEIRS} {number}", f"nobody-{number}"))
                if pages[-1].status_code == 429 and len(pages) == 7:
                    assert (await door.post(MINE, cookies=mine)).status_code == 303
                    held.free.set()

            async with anyio.create_task_group() as group:
                for number in range(12):
                    group.start_soon(one, number)
            assert sorted(page.status_code for page in pages) == [401] * 5 + [429] * 7
            busy = next(page for page in pages if page.status_code == 429)
            assert said(busy) == login.BUSY
            assert busy.headers["retry-after"] == "60"

        anyio.run(rush)
        # Of the strangers only two were ever checked at one time; the others waited, and were not counted twice.
        assert len(held.checked) == 1 + 5 + 1

    def test_who_waited_too_long_is_told_so(
        self, signoff: Signoff, passwords: PlainPasswords, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(login, "WAIT_SECONDS", 0.05)
        held = Held()
        door = Door(signoff, held)

        async def rush() -> None:
            async with anyio.create_task_group() as group:
                for number in range(2):
                    group.start_soon(door.post, THEIRS, f"nobody-{number}")
                for _ in range(2):
                    await anyio.to_thread.run_sync(held.begun.acquire)
                answer = await door.post(MINE)
                assert (answer.status_code, said(answer)) == (429, login.BUSY)
                held.free.set()

        anyio.run(rush)
