"""What the database itself refuses: an event out of turn, a row put over another, a head that goes back."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from services import tables
from services.errors import LedgerUnavailable
from services.record import checkpoints, ledger
from services.signoff import Signoff
from tests.conftest import BOTH
from tests.test_ledger import add, entry

DATABASES = BOTH
pytestmark = pytest.mark.postgresql
PEOPLE = False
NEXT = "(SELECT seq + 1 FROM ledger_head)"


def again(table: sa.Table, verb: str = "INSERT", where: str = "true", **instead: str) -> str:
    """SQL that puts a row of a table in again, some of it as said."""
    columns = [column.name for column in table.columns]
    values = ", ".join(instead.get(name, name) for name in columns)
    return f"{verb} INTO {table.name} ({', '.join(columns)}) SELECT {values} FROM {table.name} WHERE {where}"


def inserted(verb: str = "INSERT", **instead: str) -> str:
    """The same for event 2."""
    return again(tables.events, verb, "seq = 2", **instead)


OUT_OF_TURN = {
    "event 0": inserted(seq="0", hash="'x'"),
    "event -1": inserted(seq="-1", hash="'x'"),
    "an event after a gap": inserted(seq=f"{NEXT} + 1", hash="'x'"),
    "an event again": inserted(hash="'x'"),
    "a hash again": inserted(seq=NEXT),
    "head back": "UPDATE ledger_head SET seq = 2, hash = (SELECT hash FROM events WHERE seq = 2)",
    "head ahead": "UPDATE ledger_head SET seq = seq + 1",
    "head of another hash": "UPDATE ledger_head SET hash = 'x'",
    "no head": "DELETE FROM ledger_head",
    "two heads": "INSERT INTO ledger_head (id, seq, hash) VALUES (2, 1, 'x')",
    "another name": "UPDATE ledger_identity SET ledger = 'x'",
    "a second name": "INSERT INTO ledger_identity (id, ledger) VALUES (2, 'x')",
    "a checkpoint again": again(tables.checkpoints),
    "a witness again": again(tables.witnesses),
}
ON_SQLITE = {  # PostgreSQL does not know such statements
    "an event over another": inserted("INSERT OR REPLACE", hash="'x'"),
    "an event over one of its hash": inserted("REPLACE", seq=NEXT),
    "an event over one that closes the same": inserted("REPLACE", seq=NEXT, hash="'x'", closes="'c'"),
    "a body of bytes": inserted(seq=NEXT, hash="'x'", body="CAST(body AS BLOB)"),
    "no number": inserted(seq="NULL", hash="'x'"),
    "a head over the head": "REPLACE INTO ledger_head VALUES (1, 1, 'x')",
    "a name over the name": "REPLACE INTO ledger_identity VALUES (1, 'x')",
    "a checkpoint over another": again(tables.checkpoints, "REPLACE", hash="'x'"),
    "a witness over another": again(tables.witnesses, "REPLACE", at="'x'"),
    "an event renumbered over another": "UPDATE OR REPLACE events SET seq = 1 WHERE seq = 2",
}


def everything(signoff: Signoff) -> list[Any]:
    """All rows of the tables that can only grow, and the head."""
    found = (tables.events, tables.ledger_head, tables.ledger_identity, tables.checkpoints, tables.witnesses)
    with signoff.database.reading() as connection:
        return [connection.execute(sa.select(table).order_by(*table.primary_key)).all() for table in found]


@pytest.fixture
def recorded(signoff: Signoff) -> Signoff:
    """A ledger whose last event closes an intent, with a checkpoint that is witnessed."""
    with signoff.database.writing() as connection:
        ledger.append(connection, entry())
        ledger.append(connection, ledger.Entry(**{**vars(entry()), "intent": "c", "closes": "c"}))
        connection.execute(tables.witnesses.insert().values(seq=1, at="2026-11-01T09:00:00+00:00", run="r"))
    checkpoints.create(signoff.database, signoff.settings, at=signoff.now())
    return signoff


@pytest.mark.parametrize("statement", [pytest.param(sql, id=name) for name, sql in (OUT_OF_TURN | ON_SQLITE).items()])
def test_is_refused_and_changes_nothing(recorded: Signoff, statement: str) -> None:
    before = everything(recorded)
    with pytest.raises((IntegrityError, LedgerUnavailable)), recorded.database.writing() as connection:
        connection.exec_driver_sql(statement)
    assert everything(recorded) == before
    add(recorded, entry())
    with recorded.database.reading() as connection:
        assert ledger.broken_at(connection) is None
