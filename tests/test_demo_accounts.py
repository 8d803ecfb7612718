"""The demo accounts: of the embedded stack alone, on record, and nobody's once there is something real."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.applications import Starlette

from commands import main
from services.accounts import demo, keeping, people, sessions
from services.database import Database
from services.domain import Role, Source
from services.record import ledger
from services.record.ledger import Event
from services.record.seals import Seals
from services.settings import Settings
from services.signoff import Signoff
from stack import banner, dashboard
from tests.conftest import BOTH, settings_in
from tests.fakes import FakeRegistry, PlainPasswords
from tests.test_session_gate import ask
from web.login import LogIn

DATABASES = BOTH
KEY = b"k" * 32
NOW = datetime(2026, 11, 28, tzinfo=UTC)
NAMES = [username for username, _, _ in people.DEMO_ACCOUNTS]


@pytest.fixture
def passwords() -> PlainPasswords:
    return PlainPasswords()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = Database(database_url, Seals(b"s" * 32))
    found.upgrade()
    yield found
    found.engine.dispose()


@pytest.fixture
def real(tmp_path: Path, database: Database) -> Settings:
    """The settings of an organisation: its own database, and MLflow elsewhere."""
    environ = {"MLFLOW_TRACKING_URI": "http://mlflow.example", "SIGNOFF_DATABASE_URL": database.url}
    return Settings.read({"SIGNOFF_HOME": str(tmp_path), "SIGNOFF_SECRET_KEY": "s" * 32, **environ})


def ensure(database: Database, passwords: PlainPasswords, password: str, *, given: bool = False) -> None:
    demo.ensure(database, password, passwords, given=given, at=NOW)


def let_in(database: Database, passwords: PlainPasswords, username: str, password: str) -> str | None:
    """The key of a new session; None where the log-in is refused."""
    try:
        return sessions.session_key(sessions.log_in(database, username, password, passwords, KEY), KEY)
    except sessions.WrongCredentials:
        return None


def recorded(database: Database) -> list[tuple[str, str]]:
    """What was recorded about accounts, oldest first: the kind, and the account."""
    return [(event.kind.value, event.get("account")) for event in _events(database)]


def _events(database: Database) -> list[Event]:
    with database.reading() as connection:
        return [
            event for event in reversed(ledger.events(connection, limit=None)) if event.kind.value[:8] == "account:"
        ]


class TestInTheEmbeddedStack:
    def test_there_is_one_for_each_role_and_a_second_reviewer_each_with_an_event(
        self, database: Database, passwords: PlainPasswords
    ) -> None:
        ensure(database, passwords, "demo")
        roles = {role: people.acting(database, role, Source.BROWSER).roles for role in Role}
        assert roles == {role: frozenset({role}) for role in Role}
        assert people.acting(database, "reviewer2", Source.BROWSER).roles == {Role.REVIEWER}
        assert recorded(database) == [("account:added", username) for username in NAMES]

    def test_a_second_start_changes_nothing_and_keeps_sessions(
        self, database: Database, passwords: PlainPasswords
    ) -> None:
        ensure(database, passwords, "demo")
        key, before = let_in(database, passwords, "auditor", "demo"), recorded(database)
        ensure(database, passwords, "demo", given=True)
        assert passwords.hashed == ["demo"]
        assert recorded(database) == before
        assert sessions.session_user(database, key or "")

    def test_a_start_keeps_a_password_that_somebody_changed_and_renews_the_others(
        self, database: Database, passwords: PlainPasswords
    ) -> None:
        ensure(database, passwords, "demo")
        keeping.set_password(database, by=demo.STARTING, username="viewer", hashed="plain:my own", at=NOW)
        key = let_in(database, passwords, "auditor", "demo")
        ensure(database, passwords, "other")
        assert let_in(database, passwords, "viewer", "my own")
        assert let_in(database, passwords, "auditor", "other")
        assert not let_in(database, passwords, "auditor", "demo")
        assert sessions.session_user(database, key or "") is None
        changed = [("account:changed", username) for username in NAMES if username != "viewer"]
        assert recorded(database)[-len(changed) :] == changed

    def test_a_password_that_is_given_is_set_for_all_that_may_log_in(
        self, database: Database, passwords: PlainPasswords
    ) -> None:
        ensure(database, passwords, "demo")
        keeping.set_password(database, by=demo.STARTING, username="viewer", hashed="plain:my own", at=NOW)
        keeping.disable(database, by=demo.STARTING, username="break_glass", at=NOW)
        ensure(database, passwords, "given", given=True)
        assert let_in(database, passwords, "viewer", "given")
        assert not let_in(database, passwords, "break_glass", "given")
        assert ("account:changed", "break_glass") not in recorded(database)

    def test_roles_given_by_an_admin_survive(self, database: Database, passwords: PlainPasswords) -> None:
        ensure(database, passwords, "demo")
        people.set_roles(database, "viewer", [Role.AUDITOR])
        ensure(database, passwords, "demo")
        assert people.acting(database, "viewer", Source.CLI).roles == {Role.AUDITOR}

    def test_a_start_of_it_makes_them(self, tmp_path: Path) -> None:
        settings = Settings.read({"SIGNOFF_HOME": str(tmp_path)})
        made = Database.of(settings)
        made.upgrade()
        dashboard.demo_accounts(settings, "a password for tests")
        assert [account.username for account in people.listed(made)] == sorted(NAMES)


class TestWithARealServerOrDatabase:
    @pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "SIGNOFF_DATABASE_URL"])
    def test_a_start_makes_none(self, tmp_path: Path, database: Database, name: str) -> None:
        given = {"MLFLOW_TRACKING_URI": "http://mlflow.example", "SIGNOFF_DATABASE_URL": database.url}
        environ = {"SIGNOFF_HOME": str(tmp_path), "SIGNOFF_SECRET_KEY": "s" * 32, name: given[name]}
        settings = replace(Settings.read(environ), database_url=database.url)
        dashboard.demo_accounts(settings, "a password for tests")
        assert people.listed(database) == []
        assert recorded(database) == []

    def test_those_from_before_are_disabled_once_with_an_event_each_and_their_sessions_end(
        self, database: Database, passwords: PlainPasswords
    ) -> None:
        ensure(database, passwords, "demo")
        key = let_in(database, passwords, "admin", "demo")
        assert demo.disable(database, passwords, known=None, at=NOW) == sorted(NAMES)
        assert demo.disable(database, passwords, known=None, at=NOW) == []
        assert all(account.disabled for account in people.listed(database))
        assert not any(let_in(database, passwords, username, "demo") for username in NAMES)
        assert sessions.session_user(database, key or "") is None
        assert recorded(database)[len(NAMES) :] == [("account:disabled", username) for username in sorted(NAMES)]
        assert "made as a demo account" in (_events(database)[-1].comment or "")

    @pytest.mark.postgresql
    def test_the_account_of_a_person_who_has_a_password_of_their_own_stays(
        self, database: Database, passwords: PlainPasswords
    ) -> None:
        ensure(database, passwords, "demo")
        keeping.set_password(database, by=demo.STARTING, username="viewer", hashed="plain:my own", at=NOW)
        assert "viewer" not in demo.disable(database, passwords, known="demo", at=NOW)
        assert let_in(database, passwords, "viewer", "my own")

    def test_the_last_one_with_the_password_of_this_home_is_disabled_too(
        self, database: Database, passwords: PlainPasswords
    ) -> None:
        ensure(database, passwords, "demo")
        for username in NAMES[1:]:
            keeping.set_password(database, by=demo.STARTING, username=username, hashed=f"plain:{username}", at=NOW)
        assert demo.disable(database, passwords, known="demo", at=NOW) == NAMES[:1]

    def test_an_account_that_was_not_made_as_one_stays(self, database: Database, passwords: PlainPasswords) -> None:
        for username in ("viewer", "admin"):
            people.add_account(database, username=username, name="V", hashed="plain:same", roles=[Role(username)])
        assert demo.disable(database, passwords, known="same", at=NOW) == []
        assert let_in(database, passwords, "viewer", "same")


class TestTheFirstAdmin:
    def test_is_made_on_the_command_line_and_the_record_says_by_whom(
        self, real: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environ = {"SIGNOFF_HOME": real.home, "SIGNOFF_DATABASE_URL": real.database_url, "SIGNOFF_SECRET_KEY": "s" * 32}
        for name, value in {**environ, "MLFLOW_TRACKING_URI": real.mlflow_uri}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr("commands.local.getpass.getuser", lambda: "olga")
        monkeypatch.setattr("sys.stdin", io.StringIO("correct horse stapled\n"))
        with pytest.raises(SystemExit) as left:
            main(["user", "add", "ana", "--name", "Ana Ruiz", "--role", "admin"])
        assert left.value.code in {None, 0}
        assert people.acting(database, "ana", Source.BROWSER).roles == {Role.ADMIN}
        (event,) = _events(database)
        assert (event.actor, event.body["actor_name"]) == ("signoff", "olga on this machine")

    @pytest.mark.postgresql
    def test_is_asked_for_by_the_banner_until_there_is_one(self, real: Settings, database: Database) -> None:
        assert banner.FIRST_ADMIN in "".join(banner.first_admin(real))
        people.add_account(database, username="vera", name="V", hashed="!", roles=[Role.VIEWER])
        assert banner.FIRST_ADMIN in "".join(banner.first_admin(real))
        people.add_account(database, username="ana", name="A", hashed="!", roles=[Role.ADMIN])
        assert banner.first_admin(real) == []
        assert "account" not in banner.banner(real, [], logs="logs")

    @pytest.mark.postgresql
    def test_is_asked_for_by_the_log_in_page_while_nobody_can_log_in(
        self, tmp_path: Path, registry: FakeRegistry, database_url: str
    ) -> None:
        settings = settings_in(tmp_path, SIGNOFF_DATABASE_URL=database_url, SIGNOFF_SECRET_KEY="s" * 32)
        signoff = Signoff.wire(settings=settings, registry=registry)
        app = Starlette(routes=LogIn(signoff).routes())
        people.add_automation(signoff.database, username="robot", name="R", roles=[Role.ADMIN])
        page = ask(app, "GET", "/login").text
        assert "Nobody can log in yet." in page
        assert "signoff user add USERNAME" in page
        assert str(tmp_path) not in page
        people.add_account(signoff.database, username="ana", name="A", hashed="!", roles=[Role.ADMIN])
        assert "Nobody can log in yet." not in ask(app, "GET", "/login").text
        signoff.database.engine.dispose()
