"""Starting on a database: an empty one, one that another dashboard starts on too, and one named the usual way."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.database import Database
from services.policy import PolicyBook
from services.record import activation, ledger
from services.record.seals import Seals
from services.settings import PROJECT
from tests.conftest import BOTH, Clock

DATABASES = BOTH
pytestmark = pytest.mark.postgresql
DASHBOARDS = 4


@pytest.fixture
def empty(database_url: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database without any table."""
    if database_url.startswith("sqlite"):
        return database_url
    server = request.getfixturevalue("postgres_server")
    url: str = server.new_database(template="template0")
    return url


class TestStarting:
    def test_several_dashboards_at_once_make_one_schema_and_activate_each_policy_once(
        self, empty: str, clock: Clock
    ) -> None:
        book, start, answers = PolicyBook.load(PROJECT / "policies"), threading.Barrier(DASHBOARDS), []

        def open_dashboard() -> None:
            database = Database(empty, Seals(b"k" * 32))
            start.wait()
            try:
                database.upgrade()
                activation.activate(database, book, at=clock())
                answers.append("started")
            except Exception as error:
                answers.append(repr(error))
            finally:
                database.engine.dispose()

        threads = [threading.Thread(target=open_dashboard) for _ in range(DASHBOARDS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == ["started"] * DASHBOARDS
        database = Database(empty, Seals(b"k" * 32))
        with database.reading() as connection:
            assert ledger.count(connection) == len(book.policies)
            assert ledger.broken_at(connection) is None
        database.engine.dispose()

    def test_nobody_else_can_read_the_file_of_a_new_or_an_older_database(self, tmp_path: Path) -> None:
        old = tmp_path / "old.db"
        old.touch(mode=0o644)
        for file in (old, tmp_path / "new.db"):
            database = Database(f"sqlite:///{file}", Seals(b"k" * 32))
            database.upgrade()
            with database.reading() as connection:
                ledger.count(connection)
            modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.glob(f"{file.name}*")}
            database.engine.dispose()
            assert set(modes.values()) == {0o600}, modes

    def test_the_usual_spelling_of_a_postgresql_url_is_understood(self, database_url: str) -> None:
        database = Database(database_url.replace("postgresql+psycopg:", "postgresql:"))
        with database.reading() as connection:
            assert connection.execute(sa.select(1)).scalar() == 1
        database.engine.dispose()
