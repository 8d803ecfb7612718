"""Accounts, log-ins and sessions, without any web server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from services import tables
from services.accounts import on_record, people, sessions
from services.database import Database, database_time
from services.domain import Role, Source
from services.errors import BadInput, NotAllowed, NotFound
from services.record.ledger import Kind
from services.record.seals import Seals
from services.tables import accounts
from tests.conftest import BOTH
from tests.fakes import PlainPasswords
from web.passwords import BcryptPasswords

DATABASES = BOTH

KEY = b"k" * 32


@pytest.fixture
def passwords() -> PlainPasswords:
    return PlainPasswords()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'signoff.db'}", Seals(KEY))
    database.upgrade()
    people.add_account(
        database,
        username="rita",
        name="Rita Alvarez",
        email="rita@example.com",
        hashed="plain:right",
        roles=["reviewer"],
    )
    return database


def session_of(database: Database, username: str = "rita") -> str:
    """Open a session; returns its key."""
    return sessions.session_key(sessions.open_session(database, username, KEY), KEY)


def failing(database: Database, passwords: PlainPasswords, times: int) -> None:
    for _ in range(times):
        with pytest.raises(sessions.WrongCredentials):
            sessions.log_in(database, "rita", "wrong", passwords, KEY)


def change(database: Database, statement: sa.Update | sa.Delete) -> None:
    with database.writing() as connection:
        connection.execute(statement)


class TestAccounts:
    def test_are_read_in_streamlit_authenticators_format(self, database: Database) -> None:
        expected = {
            "name": "Rita Alvarez",
            "email": "rita@example.com",
            "password": "plain:right",
            "roles": ["reviewer"],
        }
        assert people.credentials(database, "rita") == {"usernames": {"rita": expected}}

    def test_that_do_not_exist_are_an_empty_answer(self, database: Database) -> None:
        assert people.credentials(database, "nobody") == {"usernames": {}}

    def test_cannot_be_created_twice(self, database: Database) -> None:
        with pytest.raises(BadInput, match="already an account 'rita'"):
            people.add_account(database, username="rita", name="Another", hashed="plain:x", roles=[])

    @pytest.mark.parametrize("username", ["", " rita", "a\0b", "a\nb", "\u202eevil", "\ud800", "\u3164", "x" * 257])
    def test_have_a_username_one_can_read(self, database: Database, username: str) -> None:
        with pytest.raises(BadInput):
            people.add_account(database, username=username, name="X", hashed="plain:x", roles=[])
        assert people.credentials(database, username) == {"usernames": {}}

    @pytest.mark.parametrize(
        "username", ["mlflow-client", "MLflow_Client", "signoff.", "slgnoff", "un-known", "unknown"]
    )
    def test_have_no_name_that_the_record_uses_for_something_else(self, database: Database, username: str) -> None:
        with pytest.raises(BadInput, match="looks like a name of Signoff's own"):
            people.add_account(database, username=username, name="X", hashed="plain:x", roles=[])
        assert people.credentials(database, username) == {"usernames": {}}

    def test_an_unknown_role_is_refused(self, database: Database) -> None:
        with pytest.raises(ValueError, match="emperor"):
            people.set_roles(database, "rita", ["emperor"])  # type: ignore[list-item]

    def test_changing_one_that_does_not_exist_is_an_error(self, database: Database) -> None:
        for attempt in (
            lambda: people.set_roles(database, "nobody", [Role.ADMIN]),
            lambda: people.set_password(database, "nobody", "plain:x"),
            lambda: people.disable(database, "nobody"),
        ):
            with pytest.raises(NotFound):
                attempt()


class TestActing:
    def test_reads_the_roles_of_this_moment(self, database: Database) -> None:
        people.set_roles(database, "rita", [Role.RELEASE_MANAGER, Role.AUDITOR])
        actor = people.acting(database, "rita", Source.REST)
        assert (actor.name, actor.source) == ("Rita Alvarez", Source.REST)
        assert actor.roles == {Role.RELEASE_MANAGER, Role.AUDITOR}

    def test_works_inside_a_transaction(self, database: Database) -> None:
        with database.writing() as connection:
            people.set_roles(connection, "rita", [Role.AUDITOR])
            assert people.acting(connection, "rita", Source.CLI).roles == {Role.AUDITOR}

    def test_a_role_that_is_no_longer_known_counts_for_nothing(self, database: Database) -> None:
        with database.writing() as connection:
            on_record.change(connection, Kind.ACCOUNT_CHANGED, "rita", "x", roles_held=["emperor", "reviewer"])
        assert people.acting(database, "rita", Source.CLI).roles == {Role.REVIEWER}

    def test_unknown_and_disabled_accounts_may_not(self, database: Database) -> None:
        people.disable(database, "rita")
        for username in ("rita", "nobody", "", "a\0b"):
            with pytest.raises(NotAllowed):
                people.acting(database, username, Source.BROWSER)


class TestLogIn:
    def test_the_right_password_opens_a_session(self, database: Database, passwords: PlainPasswords) -> None:
        token = sessions.log_in(database, "rita", "right", passwords, KEY)
        user = sessions.session_user(database, sessions.session_key(token, KEY))
        assert user is not None
        assert (user.username, user.roles, user.source) == ("rita", {Role.REVIEWER}, Source.BROWSER)

    @pytest.mark.parametrize("username", ["nobody", "RITA", "", "a\0b", "rita' OR 1=1 --"])
    def test_an_unknown_name_is_checked_like_a_known_one(
        self, database: Database, passwords: PlainPasswords, username: str
    ) -> None:
        with pytest.raises(sessions.WrongCredentials) as unknown:
            sessions.log_in(database, username, "wrong", passwords, KEY)
        with pytest.raises(sessions.WrongCredentials) as known:
            sessions.log_in(database, "rita", "wrong", passwords, KEY)
        assert passwords.checked == [None, "plain:right"]
        assert str(unknown.value) == str(known.value)

    def test_four_failures_are_forgiven(self, database: Database, passwords: PlainPasswords) -> None:
        for _ in range(3):
            failing(database, passwords, 4)
            assert sessions.log_in(database, "rita", "right", passwords, KEY)

    def test_the_fifth_failure_locks_out_the_right_password_too(
        self, database: Database, passwords: PlainPasswords
    ) -> None:
        failing(database, passwords, 5)
        with pytest.raises(sessions.WrongCredentials):
            sessions.log_in(database, "rita", "right", passwords, KEY)
        assert passwords.checked[-1] is None, "a locked account still costs a check, but the real hash is not tried"

    def test_the_lock_ends_after_a_minute_of_database_time(self, database: Database, passwords: PlainPasswords) -> None:
        failing(database, passwords, 5)
        with database.reading() as connection:
            left = connection.execute(sa.select(accounts.c.locked_until - database_time())).scalar_one()
        assert 50 < left <= 60
        change(database, accounts.update().values(locked_until=database_time() - 1))
        assert sessions.log_in(database, "rita", "right", passwords, KEY)

    def test_guesses_sent_at_once_are_not_checked_more_than_five_times(
        self, database: Database, passwords: PlainPasswords
    ) -> None:
        def guess(_: int) -> None:
            with pytest.raises(sessions.WrongCredentials):
                sessions.log_in(database, "rita", "wrong", passwords, KEY)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(guess, range(24)))
        assert len([hashed for hashed in passwords.checked if hashed]) == sessions.MAX_FAILURES

    def test_a_disabled_account_is_not_told_apart(self, database: Database, passwords: PlainPasswords) -> None:
        people.disable(database, "rita")
        with pytest.raises(sessions.WrongCredentials):
            sessions.log_in(database, "rita", "right", passwords, KEY)

    def test_an_account_disabled_during_the_check_stays_out(self, database: Database) -> None:
        class Slow(PlainPasswords):
            def check(self, password: str, hashed: str | None) -> bool:
                people.disable(database, "rita")
                return super().check(password, hashed)

        with pytest.raises(sessions.WrongCredentials):
            sessions.log_in(database, "rita", "right", Slow(), KEY)
        with database.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(tables.sessions)).scalar_one() == 0


class TestSessions:
    def test_the_database_never_holds_the_token(self, database: Database) -> None:
        token = sessions.open_session(database, "rita", KEY)
        with database.reading() as connection:
            row = connection.execute(sa.select(tables.sessions)).one()
        assert token not in str(row)
        assert sessions.session_user(database, token) is None
        assert sessions.session_user(database, sessions.session_key(token, b"another key" * 4)) is None

    def test_end_after_twelve_hours_whatever_happens(self, database: Database) -> None:
        key = session_of(database)
        with database.reading() as connection:
            left = connection.execute(sa.select(tables.sessions.c.expires_at - database_time())).scalar_one()
        assert 12 * 3600 - 10 < left <= 12 * 3600
        change(database, tables.sessions.update().values(expires_at=database_time() - 1))
        assert sessions.session_user(database, key) is None

    def test_expired_rows_do_not_pile_up(self, database: Database) -> None:
        session_of(database)
        change(database, tables.sessions.update().values(expires_at=database_time() - 1))
        session_of(database)
        with database.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(tables.sessions)).scalar_one() == 1

    def test_closing_one_leaves_the_other(self, database: Database) -> None:
        first, second = session_of(database), session_of(database)
        sessions.close_session(database, first)
        sessions.close_session(database, first)
        assert sessions.session_user(database, first) is None
        assert sessions.session_user(database, second)

    def test_close_all_leaves_other_peoples_alone(self, database: Database) -> None:
        people.add_account(database, username="sam", name="Sam", hashed="plain:x", roles=[Role.SCIENTIST])
        hers, his = session_of(database, "rita"), session_of(database, "sam")
        sessions.close_all(database, "rita")
        assert sessions.session_user(database, hers) is None
        assert sessions.session_user(database, his)

    def test_roles_change_in_open_sessions(self, database: Database) -> None:
        key = session_of(database)
        people.set_roles(database, "rita", [])
        user = sessions.session_user(database, key)
        assert user is not None
        assert user.roles == frozenset()

    def test_end_when_the_account_is_disabled_or_its_password_changes(self, database: Database) -> None:
        key = session_of(database)
        people.set_password(database, "rita", "plain:new")
        assert sessions.session_user(database, key) is None
        key = session_of(database)
        people.disable(database, "rita")
        assert sessions.session_user(database, key) is None

    def test_are_not_opened_for_unknown_or_disabled_accounts(self, database: Database) -> None:
        people.disable(database, "rita")
        for username in ("rita", "nobody"):
            with pytest.raises(NotAllowed):
                sessions.open_session(database, username, KEY)


class TestBcrypt:
    def test_checks_what_it_hashed(self) -> None:
        passwords = BcryptPasswords()
        hashed = passwords.hash("grüße")
        assert passwords.check("grüße", hashed)
        assert not passwords.check("grüsse", hashed)

    @pytest.mark.parametrize("password", ["x" * 73, "ä" * 37, "a\0b", "", "\ud800"])
    def test_refuses_to_hash_what_it_could_not_tell_apart(self, password: str) -> None:
        with pytest.raises(BadInput):
            BcryptPasswords().hash(password)

    @pytest.mark.parametrize("password", ["x" * 100_000, "a\0b", "", "\ud800"])
    def test_such_a_password_is_wrong_and_no_error(self, password: str) -> None:
        passwords = BcryptPasswords()
        assert not passwords.check(password, passwords.hash("right"))
        assert not passwords.check(password, None)

    def test_a_hash_that_is_none_is_never_right(self) -> None:
        for broken in (None, "", "!", "not this one either", "$2b$12$short"):
            assert not BcryptPasswords().check("not this one either", broken)
