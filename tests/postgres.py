"""A PostgreSQL of our own for the tests: Debian's binaries, a data folder in /tmp, a socket nobody else knows."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.database import Database
from tests.debian import found_or_installed

ACCOUNT = "postgres"
"""Whom the server runs as when we are root, which PostgreSQL refuses to be; Debian's package makes the account."""
START_SECONDS = 30


@dataclass(frozen=True)
class Server:
    """A running server; `new_database` gives an empty one that has the newest schema."""

    folder: Path
    binaries: Path
    user: str | None
    port: int = 0
    """Where it listens on this machine; 0: only at its socket."""
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start it, also again, and wait until it answers."""
        self.processes.append(
            subprocess.Popen(
                [
                    *(self.binaries / "postgres", "-D", self.folder / "data", "-k", self.folder),
                    *("-c", f"listen_addresses={'127.0.0.1' if self.port else ''}", "-p", str(self.port or 5432)),
                    *("-c", "fsync=off", "-c", "autovacuum=off"),
                ],
                user=self.user,
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=(self.folder / "log").open("a"),
                start_new_session=True,  # Ctrl-C is for pytest, which then stops it
            )
        )
        _wait_for(self, self.processes[-1])

    def stop(self) -> None:
        """Stop it at once, as a crash does: no session ends in an orderly way, and the next start recovers."""
        while self.processes:
            server = self.processes.pop()
            server.send_signal(signal.SIGQUIT)
            server.wait(timeout=START_SECONDS)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://{ACCOUNT}@/{name}?host={self.folder}&port={self.port or 5432}"

    def new_database(self, *, template: str = "signoff", tablespace: str = "pg_default") -> str:
        name = f"test{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy TABLESPACE {tablespace}")
        return self.url(name)

    def drop(self, url: str) -> None:
        self.execute(f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)


@contextmanager
def running(port: int = 0) -> Iterator[Server]:
    """Start a server and stop it; skips the test with one sentence where there is none and none can be installed."""
    binaries = _binaries()
    user = ACCOUNT if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="signoff-pg-"))
    try:
        if user:
            shutil.chown(folder, user)
        data = folder / "data"
        options = ["--auth=trust", f"--username={ACCOUNT}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [binaries / "initdb", "-D", data, *options], user=user, cwd=folder, check=True, capture_output=True
        )
        found = Server(folder=folder, binaries=binaries, user=user, port=port)
        try:
            found.start()
            found.execute("CREATE DATABASE signoff")
            schema = Database(found.url("signoff"))
            schema.upgrade()
            schema.engine.dispose()
            yield found
        finally:
            found.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.execute("SELECT 1")
        except sa.exc.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {(server.folder / 'log').read_text()}")
            time.sleep(0.05)
        else:
            return


def _binaries() -> Path:
    found = found_or_installed(_newest, "postgresql")
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql), so these tests run on SQLite only.")
    if os.geteuid() == 0 and ACCOUNT not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip(f"PostgreSQL refuses to run as root and there is no account {ACCOUNT}.")
    return found


def _newest() -> Path | None:
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: float(p.parts[-3]))
    if servers:
        return servers[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None
