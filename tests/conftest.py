"""What every test may ask for: a wired Signoff on an in-memory registry, and a real MLflow server."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import make_url

from services import database, foreign, policy
from services.accounts import on_record, people
from services.database import Database
from services.domain import Role
from services.settings import PROJECT, Settings
from services.signoff import Signoff
from services.steps.pulse import Pulse
from services.tables import accounts
from tests import postgres
from tests.fakes import FakeRegistry, PlainPasswords

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # eight idle processes for every server
START_SECONDS = 60
BOTH = ("sqlite", "postgresql")
SOAKING = "SIGNOFF_ROUNDS" in os.environ
"""Whether this is ``make soak``."""
SECRET = "s" * 32
"""The secret key of `signoff`."""


def _sharing(engine_of: Callable[[str], sa.Engine]) -> Callable[[str], sa.Engine]:
    """Let all engines on SQLite use the statements that one of them compiled, and wait for no disk.

    A fifth of what most tests cost; and no test takes the power away, which is what waiting for the disk is for.
    """
    first = sa.create_engine("sqlite://")
    first.connect().close()  # the dialect learns the version of SQLite

    def engine(url: str) -> sa.Engine:
        made = engine_of(url)
        if made.dialect.name == first.dialect.name:
            made.dialect, made._compiled_cache = first.dialect, first._compiled_cache
            sa.event.listen(made, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
        return made

    return engine


database._engine = _sharing(database._engine)
policy.parse = cache(policy.parse)  # the same three files for nearly every test


class Clock:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def settings_in(home: Path, **environ: str) -> Settings:
    """Settings of an embedded stack whose home is ``home``."""
    return Settings.read({"SIGNOFF_HOME": str(home), "SIGNOFF_EMBEDDED": "1", **environ})


def add_people(signoff: Signoff) -> None:
    """The demo accounts, with a password nobody can log in with: verbs ask for roles only."""
    demo = [(username, name, [role]) for username, name, role in people.DEMO_ACCOUNTS]
    everybody = [*demo, ("both", "Bo Both", [Role.SCIENTIST, Role.REVIEWER])]
    rows = [
        {
            "username": username,
            "name": name,
            "person": uuid4().hex,
            "looks_like": people.looks_like(username),
            "password": "!",
            "roles": [role.value for role in sorted(roles)],
            "created_at": "2026-11-01T09:00:00+00:00",
        }
        for username, name, roles in everybody
    ]
    with signoff.database.writing() as connection:
        connection.execute(accounts.insert(), rows)
    on_record.baseline(signoff.database, at=signoff.now())


@pytest.fixture
def clock() -> Clock:
    """The time of `signoff`."""
    return Clock()


@pytest.fixture
def registry() -> FakeRegistry:
    """The in-memory registry of `signoff`."""
    return FakeRegistry()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Where a module says ``DATABASES = BOTH``: tests marked ``postgresql`` run there too, in ``make soak`` all do."""
    databases = getattr(metafunc.module, "DATABASES", None)
    if databases and "database_url" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("postgresql")
        metafunc.parametrize("database_url", databases if marked or SOAKING else databases[:1], indirect=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """One PostgreSQL for the whole run."""
    with postgres.running() as server:
        yield server


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database: SQLite, or PostgreSQL where the module asks for both."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{tmp_path / 'signoff.db'}"
    else:
        server = request.getfixturevalue("postgres_server")
        url = server.new_database()
        yield url
        server.drop(url)


def _template(folder: Path, *, people: bool) -> Path:
    settings = settings_in(folder, SIGNOFF_SECRET_KEY=SECRET)  # what seals the events that are copied
    wired = Signoff.wire(settings=settings, registry=FakeRegistry(), now=Clock())
    if people:
        add_people(wired)
    wired.database.engine.dispose()
    return folder / "signoff.db"


@pytest.fixture(scope="session")
def sqlite_with_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with schema, policies and people, to copy: making one takes longer than most tests."""
    return _template(tmp_path_factory.mktemp("template"), people=True)


@pytest.fixture(scope="session")
def sqlite_without_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without people, and without the event that tells of them."""
    return _template(tmp_path_factory.mktemp("template"), people=False)


@pytest.fixture
def signoff(
    tmp_path: Path, registry: FakeRegistry, clock: Clock, database_url: str, request: pytest.FixtureRequest
) -> Iterator[Signoff]:
    """Everything wired, on `database_url` and the in-memory registry, with the demo accounts and ``both``.

    A module that says ``PEOPLE = False`` gets no accounts, and a record that begins with the three policies.
    """
    peopled = getattr(request.module, "PEOPLE", True)
    settings = settings_in(tmp_path, SIGNOFF_DATABASE_URL=database_url, SIGNOFF_SECRET_KEY=SECRET)
    file = make_url(database_url).database if database_url.startswith("sqlite") else None
    if file:
        shutil.copy(request.getfixturevalue("sqlite_with_people" if peopled else "sqlite_without_people"), file)
    wired = Signoff.wire(settings=settings, registry=registry, now=clock, passwords=PlainPasswords())
    if peopled and not file:
        add_people(wired)
    yield wired
    wired.close()


@pytest.fixture
def other(signoff: Signoff) -> Iterator[Signoff]:
    """Another dashboard on the database and registry of `signoff`; it shows that it lives when it is told to."""
    found = replace(signoff, database=Database.of(signoff.settings))
    Pulse(found.database)
    yield found
    found.database.engine.dispose()


@pytest.fixture
def beating(signoff: Signoff) -> Pulse:
    """The pulse of `signoff`; it beats when it is told to."""
    return Pulse(signoff.database)


@pytest.fixture
def decoding_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders run in this process: they decide the same, and half a second sooner."""

    def decoded(decoder: str, content: BinaryIO, order: dict[str, object], **_: object) -> foreign.Decoded:
        content.seek(0)
        with tempfile.TemporaryFile() as result, monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["", json.dumps({**order, "result_fd": os.dup(result.fileno())})])
            patched.setattr(sys, "stdin", SimpleNamespace(buffer=content))
            try:
                importlib.import_module(f"evaluator.{decoder}").main()
            except Exception as error:
                raise foreign.NotDecoded("Its process failed.") from error
            result.seek(0)
            return foreign._parted(result.read())

    monkeypatch.setattr(foreign, "decoded", decoded)


def free_port() -> int:
    """A TCP port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(answers: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Poll until ``answers`` is true; fails the test after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answers():
            return
        time.sleep(0.1)
    pytest.fail(f"{what} did not come within {seconds} s")


def http_ok(url: str) -> bool:
    """Whether a GET answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `mlflow_server` keeps its database, its log and its ``artifacts``."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="session")
def mlflow_server(mlflow_folder: Path) -> Iterator[str]:
    """The URL of a real, plain MLflow server with its own SQLite file and proxied artifacts."""
    folder, port = mlflow_folder, free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: http_ok(f"{url}/health"), "MLflow")
        yield url
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=20)
