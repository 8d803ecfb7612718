"""Rows that somebody put into the record past Signoff: each place says so, and at which event, in one sentence."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from commands import main
from services import tables
from services.errors import LedgerBroken
from services.record import checkpoints, condition, ledger
from services.record.condition import State
from services.record.export import export
from services.signoff import Signoff
from services.views import event_csv, history
from services.views.history import Asked
from tests.ledgers import drop_triggers
from tests.pages import opened, text
from tests.rest import Rest, refused
from tests.test_ledger import add, entry
from verifier.canonical import canonical

Change = Callable[[Connection], None]
LAST = 9


def sql(statement: str) -> Change:
    return lambda connection: connection.exec_driver_sql(statement)


def sealed(text: str | bytes | None = None, **parts: Any) -> Change:
    """The event with another body, by somebody who has the secret key: hash, columns and seal fit."""

    def change(connection: Connection) -> None:
        stored = connection.exec_driver_sql("SELECT body FROM events WHERE seq = 6").scalar_one()
        body = {**json.loads(stored), **parts}
        body = {name: part for name, part in body.items() if part is not ...}
        content = canonical(body) if text is None else text
        encoded = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        fingerprint = hashlib.sha256(encoded).hexdigest()
        columns = {name: body.get(name) for name in ("kind", "actor", "model", "version")}
        connection.exec_driver_sql(
            "UPDATE events SET body = CAST(? AS TEXT), hash = ?, mac = ?, kind = ?, actor = ?, model = ?, version = ? "
            "WHERE seq = 6",
            (encoded, fingerprint, ledger.seal(connection, fingerprint), *columns.values()),
        )

    return change


def copied(seq: str) -> Change:
    """Event 6 once more under another number."""
    instead = {"seq": seq, "closes": "NULL", "hash": f"'h{seq}'"}
    values = ", ".join(instead.get(column.name, column.name) for column in tables.events.columns)
    return sql(f"INSERT INTO events SELECT {values} FROM events WHERE seq = 6")


SET = "UPDATE events SET {} WHERE seq = 6"
ROWS: dict[str, tuple[Change, int]] = {
    "number 0": (copied("0"), 0),
    "a number below": (copied("-7"), -7),
    "a number after the head": (copied("10"), 10),
    "a number far after the head": (copied("4611686018427387904"), 4611686018427387904),
    "a body of bytes": (sql(SET.format("body = CAST(body AS BLOB)")), 6),
    "a body of other bytes": (sql(SET.format("body = x'ff00fe'")), 6),
    "a body that is no UTF-8": (sql(SET.format("body = CAST(x'7bff7d' AS TEXT)")), 6),
    "a comment that is no UTF-8": (sql(SET.format("actor = CAST(x'ff' AS TEXT)")), 6),
    "a body that is empty": (sql(SET.format("body = ''")), 6),
    "a body that is no JSON": (sql(SET.format("body = '{'")), 6),
    "a body that is a list": (sql(SET.format("body = '[1]'")), 6),
    "a body that is null": (sql(SET.format("body = 'null'")), 6),
    "a body without end": (sql(SET.format("body = substr(body, 1, 40)")), 6),
    "another comment": (sql(SET.format("""body = replace(body, '"comment":"2"', '"comment":"x"')""")), 6),
    "a hash of bytes": (sql(SET.format("hash = x'00'")), 6),
    "a seal of bytes": (sql(SET.format("mac = x'00'")), 6),
    "no seal": (sql(SET.format("mac = ''")), 6),
    "a column of another actor": (sql(SET.format("actor = 'somebody'")), 6),
    "a column of bytes": (sql(SET.format("actor = x'00ff'")), 6),
    "an unknown kind in the column": (sql(SET.format("kind = 'release:done'")), 6),
    "no time in the column": (sql(SET.format("at = 'soon'")), 6),
    "a version that is text": (sql(SET.format("version = 'one'")), 6),
    "an event that is gone": (sql("DELETE FROM events WHERE seq = 6"), 6),
    "a renumbered event": (sql("UPDATE events SET seq = -6 WHERE seq = 6"), -6),
    "a head of text": (sql("UPDATE ledger_head SET seq = 'last'"), 1),
    "no head": (sql("DELETE FROM ledger_head"), LAST),
    "sealed: an unknown kind": (sealed(kind="release:done"), 6),
    "sealed: an unknown format": (sealed(format=99), 6),
    "sealed: a format of text": (sealed(format="1"), 6),
    "sealed: a missing part": (sealed(checks=...), 6),
    "sealed: a number of text": (sealed(seq="6"), 6),
    "sealed: a list": (sealed(text="[]"), 6),
    "sealed: no JSON": (sealed(text="nothing"), 6),
    "sealed: nested without end": (sealed(text='{"seq":6,"previous":' + "[" * 100_000), 6),
    "sealed: not the next": (sealed(comment="other"), 6),
}
FOUND_BY_READING = set(ROWS) - {"an event that is gone", "a head of text", "no head", "sealed: not the next"}
"""What is seen in one row; the others are in how rows follow each other."""


@pytest.fixture
def recorded(signoff: Signoff) -> Signoff:
    """Nine events, the last five with comments 1 to 5."""
    add(signoff, *[entry(comment=str(number)) for number in range(1, 6)])
    return signoff


def tampered(signoff: Signoff, name: str) -> int:
    change, seq = ROWS[name]
    with signoff.database.writing() as connection:
        drop_triggers(connection)
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        change(connection)
    return seq


def named(sentence: str, seq: int) -> bool:
    """Whether it is one line that names the event; what is missing is seen at the number that comes next."""
    return "\n" not in sentence and (str(seq) in sentence or str(seq + 1) in sentence or "head" in sentence)


@pytest.mark.parametrize("name", ROWS)
class TestEachBadRow:
    def test_is_named_by_every_reader(self, recorded: Signoff, name: str) -> None:
        seq = tampered(recorded, name)
        if name in FOUND_BY_READING:
            for read in (
                lambda: history.page(recorded, Asked(steps=True)),
                lambda: history.record(recorded, seq),
            ):
                with pytest.raises(LedgerBroken) as told:
                    read()
                assert named(str(told.value), seq)
            event_csv.write(history.stream(recorded, Asked(steps=True)), file := io.StringIO())
            assert named(file.getvalue().splitlines()[-1], seq)
        judged = condition.of(recorded, patience=10)
        assert judged.state is State.TAMPERED
        assert named(judged.sentence, seq)
        with pytest.raises(LedgerBroken) as told:
            condition.require_sound(recorded)
        assert named(str(told.value), seq)

    def test_is_neither_verified_nor_exported_nor_signed_over(
        self, recorded: Signoff, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        seq = tampered(recorded, name)
        with pytest.raises(LedgerBroken) as told:
            list(export(recorded.database, recorded.settings, at=recorded.now())[1])
        assert named(str(told.value), seq)
        with recorded.database.reading() as connection:
            assert checkpoints.newest(connection) is None
        monkeypatch.setattr("commands.ledger.opened", lambda: (recorded.settings, recorded.database))
        with pytest.raises(SystemExit) as left:
            main(["ledger", "verify", "--offline"])
        assert left.value.code == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("Does not verify. ")
        assert named(line, seq)


def test_rest_answers_with_the_sentence(recorded: Signoff) -> None:
    rest = Rest(recorded)
    secret = rest.secret("auditor")
    tampered(recorded, "a body of bytes")
    assert "Event #6 cannot be read" in refused(rest.get("/events", token=secret), 403, "DATA_LOSS")
    condition.of(recorded, patience=10)
    for path in ("/ledger/export", "/ledger/checkpoint"):
        assert "Event #6 cannot be read" in refused(rest.get(path, token=secret), 403, "DATA_LOSS")


@pytest.mark.parametrize("change", ["DELETE FROM ledger_head", "UPDATE ledger_head SET {}"], ids=["gone", "set back"])
def test_nothing_is_recorded_after_a_head_that_is_not_the_end(recorded: Signoff, change: str) -> None:
    with recorded.database.writing() as connection:
        drop_triggers(connection)
        seq, fingerprint = connection.exec_driver_sql("SELECT seq, hash FROM events WHERE seq = 6").one()
        connection.exec_driver_sql(change.format(f"seq = {seq}, hash = '{fingerprint}'"))
    with pytest.raises(LedgerBroken, match=r"^The ledger's head names #[06], and it does not end there"):
        add(recorded, entry(comment="one more"))


@pytest.mark.parametrize("name", ["number 0", "a body of bytes", "a body that is no UTF-8", "no head"])
@pytest.mark.parametrize("page", ["home", "history"])
def test_a_page_says_so_and_stands(recorded: Signoff, name: str, page: str) -> None:
    tampered(recorded, name)
    condition.of(recorded, patience=10)
    at = opened(recorded, "auditor", page)
    assert not at.exception, at.exception
    assert "The record was tampered with." in text(at)
    assert "Record intact" not in text(at)


def test_a_record_that_was_tampered_with_opens_as_a_sentence(recorded: Signoff) -> None:
    tampered(recorded, "a body of bytes")
    at = opened(recorded, "auditor", "history", event="5")
    assert not at.exception, at.exception
    assert "Event #6 cannot be read: it was changed." in text(at)
