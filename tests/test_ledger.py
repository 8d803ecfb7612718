"""The record: appended to, chained, and refused by the database to whoever would change it."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from services.database import Database
from services.domain import Actor, Role, Source, VersionRef
from services.errors import LedgerUnavailable
from services.record import ledger
from services.record.ledger import GENESIS, Entry, Filter, Kind
from services.record.seals import Seals
from services.signoff import Signoff
from tests.conftest import BOTH
from tests.ledgers import drop_triggers

DATABASES = BOTH
pytestmark = pytest.mark.postgresql
PEOPLE = False

ACTOR = Actor(username="a", name="Ann", roles=frozenset({Role.REVIEWER}), source=Source.BROWSER)
REF = VersionRef(name="m", version=1)


def entry(kind: Kind = Kind.APPROVAL_GIVEN, comment: str = "", day: int = 1, ref: VersionRef = REF) -> Entry:
    return Entry(kind=kind, actor=ACTOR, at=datetime(2026, 11, day, tzinfo=UTC), ref=ref, comment=comment)


def add(signoff: Signoff, *entries: Entry) -> None:
    for item in entries:
        with signoff.database.writing() as connection:
            ledger.append(connection, item)


class TestAppend:
    def test_the_chain_starts_at_genesis_and_each_event_names_the_one_before(self, signoff: Signoff) -> None:
        add(signoff, entry(), entry())
        with signoff.database.reading() as connection:
            newest, *_, first = ledger.events(connection)
            assert ledger.broken_at(connection) is None
        assert first.body["previous"] == GENESIS
        assert newest.seq == 5  # three policies were activated first
        assert newest.body["roles"] == ["reviewer"]

    @pytest.mark.parametrize("comment", ["=HYPERLINK(1)", "\u202egnp.exe", "line\nbreak", "ünïcödé 模型", "\x00"])
    def test_any_text_survives_as_it_was(self, signoff: Signoff, comment: str) -> None:
        add(signoff, entry(comment=comment))
        with signoff.database.reading() as connection:
            assert ledger.events(connection)[0].comment == comment
            assert ledger.broken_at(connection) is None

    def test_many_writers_at_once_make_one_chain(self, signoff: Signoff) -> None:
        threads = [threading.Thread(target=add, args=(signoff, *[entry() for _ in range(5)])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with signoff.database.reading() as connection:
            assert ledger.count(connection) == 23
            assert ledger.broken_at(connection) is None

    def test_what_it_returns_is_what_is_read_back(self, signoff: Signoff) -> None:
        with signoff.database.writing() as connection:
            returned = ledger.append(connection, entry(comment="Looks right."))
        with signoff.database.reading() as connection:
            assert ledger.event(connection, returned.seq) == returned
            assert ledger.head(connection) == (returned.seq, returned.hash)

    def test_a_transaction_that_fails_leaves_no_event(self, signoff: Signoff) -> None:
        def fail_after_appending() -> None:
            with signoff.database.writing() as connection:
                ledger.append(connection, entry())
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail_after_appending()
        with signoff.database.reading() as connection:
            assert ledger.count(connection, Filter(kinds=(Kind.APPROVAL_GIVEN,))) == 0


class TestTampering:
    @pytest.mark.parametrize("statement", ["UPDATE events SET actor = 'b'", "DELETE FROM events"])
    def test_the_database_refuses_to_change_or_delete(self, signoff: Signoff, statement: str) -> None:
        statements = [statement]
        if signoff.database.engine.dialect.name == "postgresql":
            statements.append("TRUNCATE events")  # SQLite has no such thing
        for attempt in statements:
            with (
                pytest.raises((IntegrityError, LedgerUnavailable), match="append-only"),
                signoff.database.writing() as connection,
            ):
                connection.exec_driver_sql(attempt)

    @pytest.mark.parametrize(
        ("statement", "found_at"),
        [
            ('UPDATE events SET body = replace(body, \'"comment":"3"\', \'"comment":"4"\') WHERE seq = 6', 6),
            ("DELETE FROM events WHERE seq = 6", 6),
            ("DELETE FROM events WHERE seq = 8", 8),
            ("UPDATE events SET seq = 99 WHERE seq = 8", 8),
            ("UPDATE ledger_head SET seq = 7", 9),
            ("UPDATE events SET actor = 'somebody else' WHERE seq = 6", 6),
            ("UPDATE events SET body = '{}' WHERE seq = 6", 6),
        ],
    )
    def test_whoever_removes_the_trigger_is_still_found_out(
        self, signoff: Signoff, statement: str, found_at: int
    ) -> None:
        add(signoff, *[entry(comment=str(number)) for number in range(1, 6)])
        with signoff.database.writing() as connection:
            drop_triggers(connection)
            connection.exec_driver_sql(statement)
        with signoff.database.reading() as connection:
            assert ledger.broken_at(connection) == found_at


class TestReading:
    def test_filters_fit_together_and_pages_do_not_overlap(self, signoff: Signoff) -> None:
        other = VersionRef(name="n", version=1)
        add(signoff, *[entry(day=day) for day in (1, 2, 3)], entry(Kind.PROMOTION_REFUSED, day=3, ref=other))
        with signoff.database.reading() as connection:
            assert ledger.count(connection, Filter(model="m")) == 3
            assert ledger.count(connection, Filter(model="n", kinds=(Kind.APPROVAL_GIVEN,))) == 0
            assert ledger.count(connection, Filter(since=datetime(2026, 11, 2, tzinfo=UTC), model="m")) == 2
            assert ledger.count(connection, Filter(until=datetime(2026, 11, 2, tzinfo=UTC), model="m")) == 1
            first = ledger.events(connection, Filter(model="m"), limit=2)
            assert len(first) == 2
            rest = ledger.events(connection, Filter(model="m"), before=first[-1].seq)
            assert [event.seq for event in first + rest] == [6, 5, 4]
            assert ledger.per_day(connection, Filter(model="n")) == [("2026-11-03", Kind.PROMOTION_REFUSED, 1)]

    def test_days_are_counted_by_kind_oldest_first(self, signoff: Signoff) -> None:
        submitted = entry(Kind.SUBMISSION_CONFIRMED, day=2)
        add(signoff, entry(day=2), entry(day=1), entry(day=2), submitted, entry(day=3))
        with signoff.database.reading() as connection:
            found = ledger.per_day(connection, Filter(model="m"))
        assert [day for day, _, _ in found] == ["2026-11-01", "2026-11-02", "2026-11-02", "2026-11-03"]
        given = [(day, times) for day, kind, times in found if kind is Kind.APPROVAL_GIVEN]
        assert given == [("2026-11-01", 1), ("2026-11-02", 2), ("2026-11-03", 1)]
        assert ("2026-11-02", Kind.SUBMISSION_CONFIRMED, 1) in found

    def test_an_empty_record_has_a_head_and_is_whole(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path / 'empty.db'}", Seals(b"k" * 32))
        database.upgrade()
        with database.reading() as connection:
            assert ledger.head(connection) == (0, GENESIS)
            assert ledger.events(connection) == []
            assert ledger.broken_at(connection) is None

    def test_the_body_is_plain_json(self, signoff: Signoff) -> None:
        add(signoff, entry())
        with signoff.database.reading() as connection:
            assert json.loads(json.dumps(dict(ledger.events(connection)[0].body)))["model"] == "m"
