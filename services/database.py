"""Signoff's own database: SQLite by default, PostgreSQL where it is to scale. The schema is Alembic's."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from services.errors import BadInput, LedgerUnavailable, OtherSchema
from services.record.seals import Seals
from services.settings import PROJECT, Settings

BUSY_SECONDS = 5.0
"""How long to wait for a lock, or for a server to be connected to, before saying that the record cannot be written."""
MIGRATION_SECONDS = 120.0
"""How long to wait for another dashboard that starts on the same database and brings its schema up to date."""
_ALONE = 0x5167F0FF
"""The number of our advisory lock on PostgreSQL."""


class database_time(FunctionElement[float]):  # noqa: N801  (an SQL function, named like one)
    """Seconds since 1970 on the database's clock: leases must not trust the clock of any client."""

    type = sa.Float()
    inherit_cache = True


@compiles(database_time, "sqlite")
def _sqlite_time(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_time, "postgresql")
def _postgresql_time(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())::float"


class Database:
    """One engine and its two kinds of transaction: `reading` and `writing`."""

    def __init__(self, url: str, seals: Seals | None = None) -> None:
        self.url = url
        self.seals = seals
        """What `ledger` seals and checks events with; without it no event can be appended or read."""
        self.engine = _engine(url)
        self.listener: Callable[[Connection, Any], None] | None = None
        """Called with every event that `ledger.append` appends, inside its transaction; None: with none."""
        self.process: str | None = None
        """As what this process shows here that it lives (`services.steps.pulse`); None: it does not."""
        self.claims: set[str] = set()
        """The claims of idempotency keys under which this process carries out requests right now."""

    @classmethod
    def of(cls, settings: Settings) -> Database:
        """The database of these settings, with what seals its events."""
        return cls(settings.database_url, Seals(settings.secret_key, settings.earlier_secret_keys))

    @property
    def place(self) -> str:
        """Which database it is, as it may be shown: engine, host and name, or the file. Never the password."""
        url = self.engine.url
        if url.get_backend_name() == "sqlite":
            return f"SQLite {Path(url.database).resolve()}" if url.database else "SQLite in memory"
        host = url.host or url.query.get("host") or "this machine"
        return f"PostgreSQL {url.database or url.username} on {host}{f':{url.port}' if url.port else ''}"

    def upgrade(self) -> None:
        """Bring the schema to the newest revision.

        Raises:
            OtherSchema: a Signoff with a schema that this one does not know made the database; it stays as it is.
            LedgerUnavailable: the database cannot be used.
        """
        with self._alone() as connection:
            _migrate(connection)

    @contextmanager
    def founded(self, ledger: str) -> Iterator[Connection]:
        """One transaction on an empty database, in which it has the schema and a ledger of this name already.

        Raises:
            BadInput: there are tables in it.
            LedgerUnavailable: as `upgrade`.
        """
        with self._alone() as connection:
            if sa.inspect(connection).get_table_names():
                where = self.engine.url.render_as_string(hide_password=True)
                raise BadInput(f"{where} is in use already. An export is brought into an empty database only.")
            _migrate(connection, ledger)
            yield connection

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        if self.engine.dialect.name == "sqlite":
            _only_for_its_owner(self.engine.url.database)
        with self.writing(alone=True) as connection:
            yield connection

    @contextmanager
    def reading(self, *, at_once: bool = False) -> Iterator[Connection]:
        """A connection for queries; anything written in it is rolled back.

        ``at_once``: all queries see the database as it was at one moment. (On SQLite they always do.)
        """
        with _translated(), self.engine.connect() as connection:
            if at_once and self.engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection.execution_options(seals=self.seals)

    @contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[Connection]:
        """One transaction, committed at the end or not at all. Never hold it open across HTTP.

        ``alone`` keeps out whoever else asks for it, and waits longer for them: what two dashboards do as they
        start. (On SQLite every transaction that writes is alone.)
        """
        patience = MIGRATION_SECONDS if alone else BUSY_SECONDS
        with _translated(), self.engine.connect() as connection:
            connection.execution_options(writing=True, patience=patience, listener=self.listener, seals=self.seals)
            with connection.begin():
                if alone and self.engine.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(patience * 1000)}")
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ALONE)))
                yield connection


def _migrate(connection: Connection, ledger: str | None = None) -> None:
    config = Config()
    config.set_main_option("script_location", str(PROJECT / "migrations"))
    known, newest = _revisions()
    present = set(MigrationContext.configure(connection).get_current_heads())
    if made := present - known:
        raise OtherSchema(
            f"Signoff's database has the schema {', '.join(sorted(made))} of another version of Signoff. Export its "
            "record with that version ('signoff ledger export --output FILE'), then bring it into an empty "
            "SIGNOFF_HOME or SIGNOFF_DATABASE_URL with 'signoff ledger import FILE --public-key KEY'."
        )
    if present == newest:
        return
    config.attributes.update(connection=connection, ledger=ledger)
    command.upgrade(config, "head")


@cache
def _revisions() -> tuple[frozenset[str], frozenset[str]]:
    """All revisions of the schema, and the newest: read once, as the files do not change while we run."""
    scripts = ScriptDirectory(str(PROJECT / "migrations"))
    return frozenset(script.revision for script in scripts.walk_revisions()), frozenset(scripts.get_heads())


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise  # a uniqueness rule answered; whoever wrote decides what it means
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise LedgerUnavailable(f"Signoff's database cannot be used ({cause}); nothing was changed.") from error


def _only_for_its_owner(file: str | None) -> None:
    """Let nobody else read the hashes of passwords; SQLite gives the files beside it the same permissions."""
    if file and file != ":memory:":
        with suppress(OSError):  # where it cannot be used, the first statement says so
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
            Path(file).chmod(0o600)


def _engine(url: str) -> Engine:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise LedgerUnavailable("SIGNOFF_DATABASE_URL is not a database URL SQLAlchemy understands.") from error
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")  # the driver we bring, not the one SQLAlchemy would guess
    return _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)


def _postgresql(url: sa.URL) -> Engine:
    # Without these a lock somebody forgot, or a network that swallows packets, would hold a verb for ever or for hours.
    patience = {"connect_timeout": math.ceil(BUSY_SECONDS), "tcp_user_timeout": int(BUSY_SECONDS * 1000)}
    given = {name: value for name, value in patience.items() if name not in url.query}
    engine = sa.create_engine(url, pool_pre_ping=True, connect_args=given)

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: object) -> None:
        if "options" in url.query:
            return  # who sets options of the server sets this one too, or does not want it
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {int(BUSY_SECONDS * 1000)}")
        connection.commit()

    return engine


def _sqlite(url: sa.URL) -> Engine:
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions are begun by us, see `writing`
        connection.text_factory = _text
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(options.get('patience', BUSY_SECONDS) * 1000)}")
        # The write lock first: a read that later turns into a write can fail half way on SQLite.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writing") else "BEGIN")

    return engine


def _text(stored: bytes) -> str:
    """Text as stored; bytes that are none, which only others can have put there, are visible instead of an error."""
    return stored.decode("utf-8", "replace")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Let readers read while one writes. SQLite waits for nobody here: two who open a new file would collide."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
