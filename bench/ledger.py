"""How fast the ledger is: appends against a bare INSERT, and the verification of a million events."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services import checkpoints, ledger
from services.database import Database
from services.domain import Actor, Role, Source, VersionRef
from services.gate import Check, Verdict
from services.settings import PROJECT, Settings
from services.tables import events
from verifier.canonical import canonical
from verifier.verify import GENESIS

APPENDS = 10
TURNS = 200
EVENTS = 1_000_000
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
    database = Database(settings.database_url)
    database.upgrade()
    return database, settings


def appends() -> dict[str, Any]:
    """Appends a second, against a bare INSERT of as many bytes, each in a durable transaction of its own.

    They take turns on the same file system, a few milliseconds each, and the median of the turns counts: other work on
    the machine slows all of them alike. ``ratio``, to be 2 at most, compares with one INSERT through the same
    SQLAlchemy engine into a table with the ledger's columns and indexes: the price of the chain. ``ratio_driver``
    compares with the bare sqlite3 module and ``ratio_unindexed`` with a table of two columns there: where syncing
    the disk costs next to nothing, these measure Python.
    """
    with tempfile.TemporaryDirectory(prefix="signoff-bench-") as folder:
        database, _ = _database(Path(folder))
        item = entry()
        with database.writing() as connection:
            pattern = ledger.append(connection, item).body
        row = {name: pattern[name] for name in ("at", "kind", "actor", "model", "version")}
        with (
            closing(_bare(Path(folder) / "bare.db")) as bare,
            closing(_bare(Path(folder) / "indexed.db", indexes=database)) as indexed,
        ):
            body = canonical(pattern).decode()
            turns: dict[str, list[float]] = {"ledger": [], "plain": [], "bare": [], "indexed": []}
            plain = events.to_metadata(sa.MetaData(), name="plain")
            for index in plain.indexes:
                index.name = f"plain_{index.name}"
            with database.writing() as connection:
                plain.create(connection)
            insert = plain.insert()
            for turn in range(TURNS):
                with _timed(turns["ledger"]):
                    for _ in range(APPENDS):
                        with database.writing() as connection:
                            ledger.append(connection, item)
                with _timed(turns["plain"]):
                    for number in range(APPENDS):
                        values = {**row, "seq": turn * APPENDS + number, "body": body, "hash": f"{turn} {number}"}
                        with database.writing() as connection:
                            connection.execute(insert, values)
                with _timed(turns["bare"]):
                    for _ in range(APPENDS):
                        bare.execute("INSERT INTO events (body) VALUES (?)", (body,))
                with _timed(turns["indexed"]):
                    for number in range(APPENDS):
                        fingerprint = hashlib.sha256(b"%d %d" % (turn, number)).hexdigest()
                        values = {**row, "seq": turn * APPENDS + number, "body": body, "hash": fingerprint}
                        names = ", ".join(values)
                        places = ", ".join(f":{name}" for name in values)
                        indexed.execute(f"INSERT INTO events ({names}) VALUES ({places})", values)
    seconds = {name: statistics.median(found) / APPENDS for name, found in turns.items()}
    return {
        "appends_per_second": round(1 / seconds["ledger"]),
        "inserts_per_second": round(1 / seconds["plain"]),
        "ratio": round(seconds["ledger"] / seconds["plain"], 2),
        "ratio_driver": round(seconds["ledger"] / seconds["indexed"], 2),
        "ratio_unindexed": round(seconds["ledger"] / seconds["bare"], 2),
        "limit": 2.0,
    }


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


@contextmanager
def _timed(found: list[float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    found.append(time.perf_counter() - began)


def verification(count: int = EVENTS) -> dict[str, Any]:
    """Seconds and peak memory (MB, of a process of its own) to verify an export and a live ledger of so many events."""
    with tempfile.TemporaryDirectory(prefix="signoff-bench-") as name:
        folder = Path(name)
        database, settings = _database(folder)
        _fill(folder / "signoff.db", database, count)
        signed = checkpoints.create(database, settings, at=AT)
        key, file = checkpoints.publish(settings), folder / "ledger.jsonl"
        exporting = _child(
            "from pathlib import Path; from datetime import datetime, UTC; from services.export import export;"
            "from services.database import Database; from services.settings import Settings; s = Settings.read();"
            f"_, lines = export(Database(s.database_url), s, at=datetime.now(UTC));"
            f"Path({str(file)!r}).open('wb').writelines(lines)",
            folder,
        )
        exported = _child(
            "import sys; from verifier.__main__ import main;"
            f"sys.exit(main([{str(file)!r}, '--public-key', {str(key)!r}]))",
            folder,
        )
        live = _child(
            "from services import checkpoints; from services.database import Database;"
            "from services.settings import Settings; s = Settings.read();"
            f"assert checkpoints.verify(Database(s.database_url), checkpoints.trusted(s))[0] == {count}",
            folder,
        )
        assert signed.checkpoint.seq == count
        return {
            "events": count,
            "file_mb": round(file.stat().st_size / 1e6),
            "export": exporting,
            "verify_export": exported,
            "verify_live": live,
            "limit": {"seconds": 60, "mb": 200},
        }


def _child(code: str, home: Path) -> dict[str, float]:
    """Run Python code in a process of its own; its seconds and its peak memory."""
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
    return {"seconds": round(time.perf_counter() - began, 1), "mb": round(int(done.stderr.split()[-1]) / 1024)}


def _fill(file: Path, database: Database, count: int) -> None:
    """So many chained events, written past `ledger.append` in few transactions: it would take half an hour."""
    with database.writing() as connection:
        pattern = dict(ledger.append(connection, entry()).body)
    database.engine.dispose()
    with closing(sqlite3.connect(file, isolation_level=None)) as raw:
        for verb in ("update", "delete"):
            raw.execute(f"DROP TRIGGER events_no_{verb}")
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
                yield seq, body, previous

        raw.execute("BEGIN")
        raw.executemany(
            "INSERT INTO events (seq, at, kind, actor, model, version, body, hash) VALUES (?1, "
            + ", ".join(
                json.dumps(pattern[name]).replace('"', "'") for name in ("at", "kind", "actor", "model", "version")
            )
            + ", ?2, ?3)",
            rows(),
        )
        raw.execute("UPDATE ledger_head SET seq = ?, hash = ?", (count, previous))
        raw.execute("COMMIT")


def main() -> None:
    """Both, as JSON."""
    print(json.dumps({"appends": appends(), "verification": verification()}, indent=2))


if __name__ == "__main__":
    main()
