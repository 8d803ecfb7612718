"""Ways in which Signoff's database stops taking writes. Each is real: nothing of ours is replaced.

Each is a context manager that breaks the database of a `Signoff` as it is entered and mends it as it is left.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.database import Database
from services.errors import LedgerUnavailable
from services.record import ledger
from services.record.activation import SYSTEM
from services.record.ledger import Entry, Kind
from services.signoff import Signoff
from tests import postgres


@dataclass(frozen=True, kw_only=True)
class Outage:
    """One way; ``disk`` when the database has to lie on a small disk of its own (`small_disk`)."""

    name: str
    database: str
    begin: Callable[[Signoff, Path | None, postgres.Server | None], AbstractContextManager[None]]
    disk: bool = False

    def __str__(self) -> str:
        return f"{self.database}, {self.name}"


@contextmanager
def small_disk(folder: Path, *, megabytes: int, owner: str | None = None) -> Iterator[Path]:
    """A file system of so many megabytes; skips the test where none can be mounted."""
    folder.mkdir()
    size = f"size={megabytes}m"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("No file system can be mounted here, so none can be filled.")
    try:
        if owner:
            shutil.chown(folder, owner)
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def file_of(signoff: Signoff) -> Path:
    return Path(str(signoff.database.engine.url.database))


def empty_journal(signoff: Signoff) -> None:
    """Give back the room SQLite's journal has: it is written again from its beginning, and needs no more for long."""
    with signoff.database.engine.connect() as connection:
        connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def fill_up(signoff: Signoff) -> None:
    """Append events until there is no room for the smallest: pages that are begun have some, also on a full disk.

    One that is refused proves little: it may be a page of an index of hashes that is full, and the next hash belongs
    on another.
    """
    for length, in_a_row in ((4000, 1), (400, 1), (1, 20)):
        refused = 0
        for _ in range(5000):
            try:
                with signoff.database.writing() as connection:
                    words = os.urandom(length).hex()  # nothing that could be compressed
                    ledger.append(
                        connection, Entry(kind=Kind.POLICY_ACTIVATED, actor=SYSTEM, at=signoff.now(), comment=words)
                    )
                refused = 0
            except LedgerUnavailable:
                refused += 1
            if refused == in_a_row:
                break
        else:
            pytest.fail("what was to be full takes everything")


# ---- SQLite ------------------------------------------------------------------------------------------------------


@contextmanager
def opened_read_only(signoff: Signoff, _: object, __: object) -> Iterator[None]:
    engine = signoff.database.engine
    signoff.database.engine = Database(f"sqlite:///file:{file_of(signoff)}?mode=ro&uri=true").engine
    try:
        yield
    finally:
        signoff.database.engine.dispose()
        signoff.database.engine = engine


@contextmanager
def out_of_pages(signoff: Signoff, _: object, __: object) -> Iterator[None]:
    """SQLite's own limit of a file's size, at what it has now; every connection must be told."""
    engine = signoff.database.engine
    engine.dispose()

    def limit(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA page_count")
        cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0]}")

    sa.event.listen(engine, "connect", limit)
    fill_up(signoff)
    try:
        yield
    finally:
        sa.event.remove(engine, "connect", limit)
        engine.dispose()


@contextmanager
def files_may_not_grow(signoff: Signoff, _: object, __: object) -> Iterator[None]:
    """The process's limit of file size, at less than one page of the journal: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    empty_journal(signoff)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def disk_full(signoff: Signoff, disk: Path | None, _: object) -> Iterator[None]:
    assert disk
    if signoff.database.engine.dialect.name == "sqlite":
        empty_journal(signoff)
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def disk_read_only(signoff: Signoff, disk: Path | None, _: object) -> Iterator[None]:
    assert disk
    signoff.database.engine.dispose()  # a disk on which a file is open for writing cannot be made so
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        signoff.database.engine.dispose()
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(signoff: Signoff, _: object, __: object) -> Iterator[None]:
    """By another process, for longer than we wait."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _LOCK, file_of(signoff)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "locked\n"
    try:
        yield
    finally:
        holder.communicate("")


# ---- PostgreSQL --------------------------------------------------------------------------------------------------


@contextmanager
def transactions_read_only(signoff: Signoff, _: object, server: postgres.Server | None) -> Iterator[None]:
    """As on a standby, or after somebody's ALTER DATABASE."""
    assert server
    name = signoff.database.engine.url.database
    server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    _disconnect(server, name)
    try:
        yield
    finally:
        server.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        _disconnect(server, name)


def _disconnect(server: postgres.Server, name: str | None) -> None:
    server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


@contextmanager
def ledger_locked(signoff: Signoff, _: object, __: object) -> Iterator[None]:
    """By another session, for longer than we wait. Everything but the ledger can be written."""
    other = sa.create_engine(signoff.database.engine.url, poolclass=sa.NullPool)
    with other.connect() as connection:
        connection.exec_driver_sql("LOCK TABLE events, ledger_head IN EXCLUSIVE MODE")
        yield


@contextmanager
def stopped(_: Signoff, __: object, server: postgres.Server | None) -> Iterator[None]:
    assert server
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def tablespace_full(signoff: Signoff, disk: Path | None, _: object) -> Iterator[None]:
    with disk_full(signoff, disk, None):
        fill_up(signoff)
        yield


@contextmanager
def tablespace(server: postgres.Server) -> Iterator[tuple[Path, str]]:
    """A small disk for databases; returns it and the name of the tablespace on it."""
    folder = Path(tempfile.mkdtemp(dir=server.folder)) / "disk"
    shutil.chown(folder.parent, server.user or os.getuid())
    with small_disk(folder, megabytes=48, owner=server.user) as disk:
        server.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        try:
            yield disk, "small"
        finally:
            server.execute("DROP TABLESPACE small")


OUTAGES = (
    Outage(name="opened read-only", database="sqlite", begin=opened_read_only),
    Outage(name="out of pages", database="sqlite", begin=out_of_pages),
    Outage(name="files may not grow", database="sqlite", begin=files_may_not_grow),
    Outage(name="locked by another process", database="sqlite", begin=locked),
    Outage(name="disk full", database="sqlite", begin=disk_full, disk=True),
    Outage(name="disk read-only", database="sqlite", begin=disk_read_only, disk=True),
    Outage(name="transactions read-only", database="postgresql", begin=transactions_read_only),
    Outage(name="ledger locked by another session", database="postgresql", begin=ledger_locked),
    Outage(name="stopped", database="postgresql", begin=stopped),
    Outage(name="disk full", database="postgresql", begin=tablespace_full, disk=True),
)
