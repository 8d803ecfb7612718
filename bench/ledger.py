"""How fast the ledger is: appends against a bare INSERT, and the verification of a million events."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.measure import Figure, in_turns, once, timed
from services.database import Database
from services.domain import Actor, Role, Source, VersionRef
from services.gate import Check, Verdict
from services.record import checkpoints, ledger
from services.settings import PROJECT, Settings
from services.tables import events
from verifier.canonical import canonical
from verifier.verify import GENESIS

APPENDS = 10
TURNS = 200
EVENTS = 1_000_000
SECONDS, MEGABYTES = 60.0, 200.0
AT = datetime(2026, 11, 1, 9, tzinfo=UTC)
ACTOR = Actor(username="release_manager", name="Rita", roles=frozenset({Role.RELEASE_MANAGER}), source=Source.REST)


def entry() -> ledger.Entry:
    """An event as a promotion leaves it: checks with values, metrics, approvals; about 1.7 kB."""
    check = {"title": "At least 0.9", "passed": True, "value": "0.9712", "threshold": "0.9", "reason": "0.97 fits."}
    return ledger.Entry(
        kind=ledger.Kind.PROMOTION_CONFIRMED,
        actor=ACTOR,
        at=AT,
        ref=VersionRef(name="breast_cancer_screening", version=8),
        comment="Better recall at the same precision.",
        verdict=Verdict(checks=tuple(Check(id=f"check-{number}", **check) for number in range(7))),
        details={
            "manifest_digest": "b" * 64,
            "policy": "default@0123456789ab",
            "metrics": {f"metric-{n}": {"value": "0.97", "dataset": "holdout", "digest": "aa"} for n in range(4)},
            "binding": {"manifest": "b" * 64, "evidence": "c" * 64, "champion": None, "policy": "d" * 64},
        },
    )


def _database(folder: Path) -> tuple[Database, Settings]:
    settings = Settings.read({"SIGNOFF_HOME": str(folder), "SIGNOFF_EMBEDDED": "1"})
    database = Database.of(settings)
    database.upgrade()
    return database, settings


def figures(folder: Path) -> list[Figure]:
    """All figures of the ledger."""
    return [*_appends(folder / "appends"), *_verification(folder / "verification")]


def _appends(folder: Path) -> list[Figure]:
    """One event appended, against a bare INSERT of as many bytes, each in a durable transaction of its own.

    Durable is ``synchronous=FULL`` on a write-ahead log: the disk is synced before anybody is told it is recorded.
    All are on the same file system, ten at a time in turns. The bare INSERTs have the row ready: no chain, no hash,
    no canonical JSON. The one that counts is through sqlite3 itself, into a table with the ledger's columns and
    indexes: what one would write without Signoff, and without SQLAlchemy, whose price is ours as well. Through our
    own engine it shows what the chain alone costs; into a table of two columns, what the indexes do.
    """
    folder.mkdir()
    print(f"Ledger: {TURNS} turns of {APPENDS} appends …")
    database, _ = _database(folder)
    item = entry()
    with database.writing() as connection:
        pattern = ledger.append(connection, item).body
    row = {name: pattern[name] for name in ("at", "kind", "actor", "model", "version")}
    body = canonical(pattern).decode()
    plain = events.to_metadata(sa.MetaData(), name="plain")
    for index in plain.indexes:
        index.name = f"plain_{index.name}"
    with database.writing() as connection:
        plain.create(connection)
    numbers = itertools.count(1)

    def values() -> dict[str, Any]:
        number = next(numbers)
        return {**row, "seq": number, "body": body, "hash": hashlib.sha256(b"%d" % number).hexdigest(), "mac": "0" * 64}

    with (
        closing(_bare(folder / "indexed.db", indexes=database)) as indexed,
        closing(_bare(folder / "unindexed.db")) as unindexed,
    ):
        statement = f"INSERT INTO events ({', '.join(values())}) VALUES ({', '.join(f':{name}' for name in values())})"
        insert = plain.insert()

        def append() -> None:
            with database.writing() as connection:
                ledger.append(connection, item)

        def through_engine() -> None:
            with database.writing() as connection:
                connection.execute(insert, values())

        taken = in_turns(
            {
                "append": lambda: _ten(append),
                "driver": lambda: _ten(lambda: indexed.execute(statement, values())),
                "engine": lambda: _ten(through_engine),
                "unindexed": lambda: _ten(lambda: unindexed.execute("INSERT INTO events (body) VALUES (?)", (body,))),
            },
            times=TURNS,
            warm=5,
        )
    database.engine.dispose()
    each = {name: [seconds / APPENDS for seconds in found] for name, found in taken.items()}
    median = {name: statistics.median(found) for name, found in each.items()}
    return [
        timed("ledger: append one event", each["append"]),
        timed("ledger: INSERT, sqlite3, same columns and indexes", each["driver"]),
        timed("ledger: INSERT, our engine, same columns and indexes", each["engine"]),
        timed("ledger: INSERT, sqlite3, two columns, no index", each["unindexed"]),
        once("ledger: appends a second", 1 / median["append"], "/s"),
        once("ledger: append / INSERT by sqlite3", median["append"] / median["driver"], "x", limit=2.0),
        once("ledger: append / INSERT by our engine", median["append"] / median["engine"], "x", limit=2.0),
        once("ledger: append / INSERT without indexes", median["append"] / median["unindexed"], "x"),
    ]


def _ten(step: Callable[[], object]) -> None:
    for _ in range(APPENDS):
        step()


def _bare(file: Path, indexes: Database | None = None) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    if indexes is None:
        connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)")
        return connection
    with indexes.reading() as source:
        query = "SELECT sql FROM sqlite_master WHERE tbl_name = 'events' AND type IN ('table', 'index') AND sql > ''"
        for (statement,) in source.exec_driver_sql(query).all():
            connection.execute(statement)
    return connection


def _verification(folder: Path, count: int = EVENTS) -> list[Figure]:
    """Seconds and peak memory, of a process of its own, to verify so many events: the live ones and an export."""
    folder.mkdir()
    print(f"Ledger: writing {count:,} events, then verifying them, a few minutes …")
    database, settings = _database(folder)
    _fill(folder / "signoff.db", database, count)
    signed = checkpoints.create(database, settings, at=AT)
    assert signed.checkpoint.seq == count
    key, file = checkpoints.publish(settings), folder / "ledger.jsonl"
    done = {
        "export": _child(
            "from pathlib import Path; from datetime import datetime, UTC; from services.record.export import export;"
            "from services.database import Database; from services.settings import Settings; s = Settings.read();"
            f"_, lines = export(Database.of(s), s, at=datetime.now(UTC));"
            f"Path({str(file)!r}).open('wb').writelines(lines)",
            folder,
        ),
        "verify the export": _child(
            "import sys; from verifier.__main__ import main;"
            f"sys.exit(main([{str(file)!r}, '--public-key', {str(key)!r}]))",
            folder,
        ),
        "verify it live": _child(
            "from services.record import checkpoints; from services.database import Database;"
            "from services.settings import Settings; s = Settings.read();"
            f"assert checkpoints.verify(Database.of(s), checkpoints.trusted(Database.of(s), s))[0] == {count}",
            folder,
        ),
    }
    size = file.stat().st_size / 1e6
    file.unlink()
    limits = {"verify the export": SECONDS, "verify it live": SECONDS}
    return [
        once(f"ledger of {count:,} events", size, "MB"),
        *(once(f"ledger: {what}", seconds, "s", limit=limits.get(what)) for what, (seconds, _) in done.items()),
        *(once(f"ledger: {what}, peak memory", memory, "MB", limit=MEGABYTES) for what, (_, memory) in done.items()),
    ]


def _child(code: str, home: Path) -> tuple[float, float]:
    """Run Python code in a process of its own; its seconds and its peak memory in MB."""
    report = "import sys; print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", f"import atexit\natexit.register(lambda: exec({report!r}))\n{code}"],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "SIGNOFF_HOME": str(home), "SIGNOFF_EMBEDDED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - began, int(done.stderr.split()[-1]) / 1024


def _fill(file: Path, database: Database, count: int) -> None:
    """So many chained events, written past `ledger.append` in few transactions: it would take half an hour."""
    with database.writing() as connection:
        pattern, name = dict(ledger.append(connection, entry()).body), ledger.ledger_id(connection)
    seals = database.seals
    assert seals
    database.engine.dispose()
    with closing(sqlite3.connect(file, isolation_level=None)) as raw:
        for (trigger,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {trigger}")
        raw.execute("DELETE FROM events")
        raw.execute("PRAGMA synchronous=OFF")
        previous = GENESIS

        def rows() -> Any:
            nonlocal previous
            text = canonical(pattern | {"seq": -1, "previous": "?"}).decode()
            before, after = text.split('"?"')[0], text.split('"?"')[1]
            for seq in range(1, count + 1):
                body = f'{before}"{previous}"{after}'.replace('"seq":-1', f'"seq":{seq}')
                previous = hashlib.sha256(body.encode()).hexdigest()
                yield seq, body, previous, seals.seal(name, previous)

        raw.execute("BEGIN")
        raw.executemany(
            "INSERT INTO events (seq, at, kind, actor, model, version, body, hash, mac) VALUES (?1, "
            + ", ".join(
                json.dumps(pattern[name]).replace('"', "'") for name in ("at", "kind", "actor", "model", "version")
            )
            + ", ?2, ?3, ?4)",
            rows(),
        )
        raw.execute("UPDATE ledger_head SET seq = ?, hash = ?", (count, previous))
        raw.execute("COMMIT")
