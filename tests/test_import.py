"""An export brought into an empty database: what it says is as it was, and whatever does not fit leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from commands import main
from services import recount, tables
from services.accounts import demo, people
from services.database import Database
from services.domain import Source, VersionRef
from services.errors import BadInput, NotAllowed
from services.record import agreed, checkpoints, importing
from services.record.export import export
from services.record.projections.states import OPEN
from services.settings import PROJECT, Settings
from services.signoff import Signoff
from tests import rich_history
from tests.conftest import BOTH, SECRET, Clock, settings_in
from tests.fakes import FakeRegistry, PlainPasswords
from tests.ledgers import record
from tests.verbs import releases, reviews
from verifier.verify import Tampered, UnusableKey

DATABASES = BOTH
pytestmark = pytest.mark.postgresql
FIXTURES = PROJECT / "tests" / "fixtures"
EXPORT, KEY = FIXTURES / "ledger_format_1.jsonl", FIXTURES / "ledger_format_1.pub"
"""Written by the last commit before events of format 2 (`tests.rich_history`), and kept for ever."""
BY = replace(demo.STARTING, name="olga on this machine")


@pytest.fixture
def settings(tmp_path: Path, database_url: str, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings of an empty home and an empty database."""
    home, url = tmp_path / "new", f"sqlite:///{tmp_path / 'new' / 'signoff.db'}"
    home.mkdir()
    server = None
    if not database_url.startswith("sqlite"):
        server = request.getfixturevalue("postgres_server")
        url = server.new_database(template="template0")
    yield settings_in(home, SIGNOFF_DATABASE_URL=url, SIGNOFF_SECRET_KEY="n" * 32)
    if server:
        server.drop(url)


@pytest.fixture
def empty(settings: Settings) -> Iterator[Database]:
    """The database of `settings`."""
    found = Database.of(settings)
    yield found
    found.engine.dispose()


def bring(empty: Database, settings: Settings, clock: Clock, file: Path = EXPORT, key: Path = KEY) -> importing.Brought:
    return importing.bring(empty, settings, file, key.read_bytes(), by=BY, at=clock())


def verify(database: Database, settings: Settings) -> None:
    checkpoints.verify(database, checkpoints.trusted(database, settings))


def rows(database: Database, table: sa.Table) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def without(found: list[dict[str, Any]], *columns: str) -> list[dict[str, Any]]:
    """The rows as they can be compared across databases: no numbers of their own, open is open."""
    left = [{name: value for name, value in row.items() if name not in columns} for row in found]
    shown = [{**row, "status": "open"} if row.get("status") in OPEN else row for row in left]
    return sorted(shown, key=lambda row: json.dumps(row, sort_keys=True))


class TestARecordOfFormat1:
    @pytest.fixture
    def then(self) -> dict[str, list[dict[str, Any]]]:
        """What the tables held when it was exported."""
        found: dict[str, list[dict[str, Any]]] = json.loads((FIXTURES / "ledger_format_1.json").read_text())
        submitted = {row["id"]: row["seq"] for row in found["submissions"]}
        for vote in found["decisions"]:
            vote["submission"] = submitted[vote["submission"]]
        return found

    def test_verifies_and_its_rows_are_as_they_were(
        self, empty: Database, settings: Settings, clock: Clock, then: dict[str, list[dict[str, Any]]]
    ) -> None:
        brought = bring(empty, settings, clock)
        verify(empty, settings)
        assert (brought.releases, brought.votes) == (len(then["promotions"]), len(then["decisions"]))
        unsaid = {
            "emergencies": ("expires_at", "own"),  # rounded, and of those not confirmed not said
            "validations": ("report", "mirrored", "champion_identity"),
        }
        for name in set(then) - {"accounts"}:
            apart = ("id", *unsaid.get(name, ()))
            assert without(rows(empty, tables.metadata.tables[name]), *apart) == without(then[name], *apart), name
        accounts = {row["username"]: row for row in rows(empty, tables.accounts)}
        assert {row["username"] for row in then["accounts"]} - accounts.keys() == {"viewer"}, "who never acted"
        for row in then["accounts"]:
            if row["username"] != "viewer":
                now = accounts[row["username"]]
                for name in ("roles", "disabled", "automation", "looks_like"):
                    assert now[name] == row[name], row["username"]
                if row["username"] != "pipeline":  # which did nothing, so no event says its id
                    assert (now["person"], now["name"]) == (row["person"], row["name"])

    def test_is_kept_byte_for_byte_with_its_name_and_its_checkpoint(
        self, empty: Database, settings: Settings, clock: Clock
    ) -> None:
        bring(empty, settings, clock)
        _, lines = export(empty, settings, at=clock())
        before = EXPORT.read_bytes().splitlines(keepends=True)
        after = list(lines)
        assert after[: len(before) - 1] == before[:-1]
        with empty.reading() as connection:
            kept = sorted(connection.execute(sa.select(tables.checkpoints.c.signed)).scalars(), key=len)
        assert before[-1].decode().strip() in kept
        verify(empty, settings)

    def test_agrees_with_its_events_version_by_version(self, empty: Database, settings: Settings, clock: Clock) -> None:
        bring(empty, settings, clock)
        versions = {VersionRef(name=row["model"], version=row["version"]) for row in rows(empty, tables.submissions)}
        with empty.reading() as connection:
            for ref in versions:
                agreed.require_rows(connection, ref)

    def test_lets_nobody_in_before_a_password_is_set(self, empty: Database, settings: Settings, clock: Clock) -> None:
        bring(empty, settings, clock)
        assert {row["password"] for row in rows(empty, tables.accounts)} == {"!"}
        assert people.acting(empty, "reviewer", Source.CLI).roles == {"reviewer"}
        demo.ensure(empty, "demo", PlainPasswords(), given=False, at=clock())
        by_name = {row["username"]: row["password"] for row in rows(empty, tables.accounts)}
        assert (by_name["reviewer"], by_name["newcomer"]) == ("plain:demo", "!")
        verify(empty, settings)


class TestARecordOfNow:
    def test_has_the_same_rows_again_and_goes_on(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        clock: Clock,
        empty: Database,
        settings: Settings,
        tmp_path: Path,
    ) -> None:
        rich_history.play(signoff, registry, clock)
        approved = registry.add_version("m", {"val_auc": 0.97})
        rich_history.submit(signoff, approved)
        rich_history.approve(signoff, approved, "reviewer")
        file = tmp_path / "ledger.jsonl"
        _, lines = export(signoff.database, signoff.settings, at=clock())
        file.write_bytes(b"".join(lines))
        bring(empty, settings, clock, file, checkpoints.public_key_file(signoff.settings))
        secret = ("password", "email", "created_at", "report", "mirrored")
        for table in rich_history.TABLES:
            assert without(rows(empty, table), *secret) == without(rows(signoff.database, table), *secret), table.name

        again = Signoff.wire(settings=settings, registry=registry, now=clock)
        again.snapshot.refresh()
        assert recount.sweep(again) >= 1
        assert {row["status"] for row in rows(empty, tables.submissions) if row["version"] == approved.version} == {
            "approved"
        }
        newer = registry.add_version("fresh", {"val_auc": 0.95})
        reviews.submit(again, newer, by="scientist", comment="Please review.")
        reviews.approve(again, newer, by="reviewer", comment="Looks right.")
        releases.promote(again, newer, by="release_manager", reason="Better.")
        assert record(again)[-1].kind.value == "promotion:confirmed"
        verify(again.database, settings)
        again.database.engine.dispose()


class TestNothingIsBrought:
    def nothing(self, empty: Database) -> None:
        with empty.reading() as connection:
            assert sa.inspect(connection).get_table_names() == []

    def test_into_a_database_that_is_in_use(self, signoff: Signoff, clock: Clock) -> None:
        before = len(record(signoff))
        with pytest.raises(BadInput, match="is in use already"):
            bring(signoff.database, signoff.settings, clock)
        assert len(record(signoff)) == before

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda lines: lines[:-1], "cut off"),
            (lambda lines: [*lines[:4], lines[4].replace(b"scientist", b"professor"), *lines[5:]], "was changed"),
            (lambda lines: [*lines[:9], *lines[10:]], "was deleted or moved"),
            (lambda _: [b"model,version\n"], "cannot be read"),
            (lambda _: [], "cut off"),
        ],
        ids=["cut", "changed", "a line less", "no export", "empty"],
    )
    def test_of_what_is_not_as_it_was_signed(
        self, empty: Database, settings: Settings, clock: Clock, tmp_path: Path, change: Any, why: str
    ) -> None:
        file = tmp_path / "x.jsonl"
        file.write_bytes(b"".join(change(EXPORT.read_bytes().splitlines(keepends=True))))
        with pytest.raises(Tampered, match=why):
            bring(empty, settings, clock, file)
        self.nothing(empty)

    def test_with_another_key(self, empty: Database, settings: Settings, clock: Clock, tmp_path: Path) -> None:
        with pytest.raises(Tampered, match="signed with another key"):
            bring(empty, settings, clock, key=checkpoints.publish(settings))
        (tmp_path / "key").write_text("none")
        with pytest.raises(UnusableKey):
            bring(empty, settings, clock, key=tmp_path / "key")
        self.nothing(empty)

    def test_when_an_event_does_not_fit_at_the_very_end(
        self, empty: Database, settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise KeyError("identity")

        monkeypatch.setattr("services.record.importing._counted", broken)
        with pytest.raises(KeyError):
            bring(empty, settings, clock)
        self.nothing(empty)


class TestCommand:
    def test_says_what_came_over_and_what_did_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("SIGNOFF_DATABASE_URL", "MLFLOW_TRACKING_URI"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("SIGNOFF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("SIGNOFF_SECRET_KEY", SECRET)

        def run(*arguments: str) -> tuple[int, str, str]:
            with pytest.raises(SystemExit) as left:
                main(list(arguments))
            return (int(left.value.code or 0), *capsys.readouterr())

        file = tmp_path / "home" / "signoff.db"
        told = f"SIGNOFF_DATABASE_URL is not set, so this is about the record in SQLite {file}.\n"
        code, out, err = run("ledger", "import", str(EXPORT), "--public-key", str(KEY))
        assert (code, err) == (0, told)
        assert "5 releases" in out
        assert "signoff user set-password" in out
        assert run("ledger", "verify", "--offline")[0] == 0
        code, _, err = run("ledger", "import", str(EXPORT), "--public-key", str(KEY))
        assert (code, err.count("\n")) == (2, 2)
        assert "is in use already" in err
        code, _, err = run("ledger", "import", str(KEY), "--public-key", str(KEY))
        assert (code, err) == (2, f"{told}Nothing was imported. Line 1 cannot be read: it was changed.\n")


def test_a_person_of_an_imported_record_needs_the_event_of_it_as_well(
    empty: Database, settings: Settings, clock: Clock
) -> None:
    bring(empty, settings, clock)
    with empty.writing() as connection:
        connection.execute(
            tables.accounts.update().where(tables.accounts.c.username == "auditor").values(roles=["admin"])
        )
    with pytest.raises(NotAllowed, match="Table accounts, row auditor, roles"):
        people.acting(empty, "auditor", Source.CLI)
