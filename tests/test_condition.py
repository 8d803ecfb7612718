"""The one judgement of the record: read again from the last verified point, and said alike everywhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from services import caretaker
from services.record import checkpoints, condition, ledger, witness
from services.record.condition import State
from services.signoff import Signoff
from services.tables import events
from tests.conftest import Clock
from tests.fakes import FakeRegistry
from tests.ledgers import drop_triggers
from tests.pages import opened, text
from tests.test_checkpoints import rewrite, sign, tamper
from tests.test_ledger import add, entry
from tests.test_seals import forge

CHANGED = """UPDATE events SET body = replace(body, '"comment":"2"', '"comment":"x"')"""


def state(signoff: Signoff) -> condition.Condition:
    return condition.of(signoff, patience=10)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of the events that were read again since the test began."""
    numbers: list[int] = []
    follow = ledger.follow

    def counted(*arguments: object, **named: object) -> Iterator[ledger.Event]:
        for event in follow(*arguments, **named):  # type: ignore[arg-type]
            numbers.append(event.seq)
            yield event

    monkeypatch.setattr(ledger, "follow", counted)
    return numbers


@pytest.fixture
def recorded(signoff: Signoff) -> Signoff:
    """Some events, signed to the last and witnessed."""
    add(signoff, *[entry(comment=str(number)) for number in range(1, 6)])
    caretaker.tidy(signoff)
    sign(signoff)
    return signoff


def last(signoff: Signoff) -> int:
    with signoff.database.reading() as connection:
        return ledger.head(connection)[0]


class TestJudgement:
    def test_an_untouched_record_is_intact(self, recorded: Signoff) -> None:
        found = state(recorded)
        with recorded.database.reading() as connection:
            assert (found.events, found.head) == ledger.head(connection)
        assert found.state is State.INTACT
        assert found.checked_at

    def test_until_it_was_read_it_is_not_verified(self, recorded: Signoff, monkeypatch: pytest.MonkeyPatch) -> None:
        go_on, verify = threading.Event(), checkpoints.verify

        def slow(*arguments: object, **named: object) -> checkpoints.Verified:
            go_on.wait(10)
            return verify(*arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(checkpoints, "verify", slow)
        found = condition.of(recorded, patience=0.01)
        assert (found.state, found.checked_at) == (State.UNVERIFIED, None)
        go_on.set()
        assert state(recorded).state is State.INTACT

    def test_a_changed_event_after_the_last_checkpoint_is_found_once_the_head_moves(self, recorded: Signoff) -> None:
        assert state(recorded).state is State.INTACT
        add(recorded, entry(comment="late"))
        with recorded.database.writing() as connection:
            drop_triggers(connection)
            connection.execute(events.update().where(events.c.seq == last(recorded)).values(actor="nobody"))
        found = state(recorded)
        assert (found.state, found.seq) == (State.TAMPERED, last(recorded))

    def test_what_a_reader_comes_upon_counts_at_once(self, recorded: Signoff) -> None:
        assert state(recorded).state is State.INTACT
        tamper(recorded, f"{CHANGED} WHERE seq = 6")
        opened(recorded, "auditor", "history")
        found = state(recorded)
        assert (found.state, found.seq) == (State.TAMPERED, 6)

    def test_what_is_mended_is_intact_after_the_next_full_reading(
        self, recorded: Signoff, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tamper(recorded, f"{CHANGED} WHERE seq = 6")
        assert state(recorded).state is State.TAMPERED
        tamper(recorded, """UPDATE events SET body = replace(body, '"comment":"x"', '"comment":"2"')""")
        assert state(recorded).state is State.TAMPERED
        monkeypatch.setattr(condition, "FULL_SECONDS", 0.0)
        assert state(recorded).state is State.INTACT

    def test_what_the_witness_proves_is_tampering_and_what_it_lacks_is_not(
        self, recorded: Signoff, registry: FakeRegistry, clock: Clock
    ) -> None:
        clock.now += timedelta(minutes=16)
        add(recorded, entry())
        found = state(recorded)
        assert (found.state, bool(found.since)) == (State.UNWITNESSED, True)
        rewrite(recorded, after=5, comments=["a"] * 9)
        tamper(recorded, "DELETE FROM checkpoints", "DELETE FROM witnesses")
        caretaker.tidy(recorded)
        found = state(recorded)
        assert found.state is State.TAMPERED
        assert "MLflow witnesses" in found.sentence


class TestReading:
    def test_goes_on_from_the_last_signed_point_and_keeps_that_in_memory_only(
        self, recorded: Signoff, read: list[int]
    ) -> None:
        state(recorded)
        assert read == [*range(1, last(recorded) + 1)]
        read.clear()
        add(recorded, entry())
        state(recorded)
        assert read == [last(recorded)]
        read.clear()
        condition._memories.clear()  # as in another process
        state(recorded)
        assert read == [*range(1, last(recorded) + 1)]

    def test_is_of_everything_again_after_a_day(
        self, recorded: Signoff, read: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state(recorded)
        read.clear()
        tamper(recorded, f"{CHANGED} WHERE seq = 6")
        assert state(recorded).state is State.INTACT  # nobody read it, and the head did not move
        monkeypatch.setattr(condition, "FULL_SECONDS", 0.0)
        found = state(recorded)
        assert (found.state, found.seq) == (State.TAMPERED, 6)

    def test_of_everything_takes_a_hundredth_of_the_time_and_is_daily_at_least(self) -> None:
        def due_after(took: float, seconds: float) -> bool:
            return condition._full_due(condition._Memory(full_begun=0.0, full_took=took), seconds)

        assert [due_after(0.1, seconds) for seconds in (299, 301)] == [False, True]
        assert [due_after(30.0, seconds) for seconds in (2999, 3001)] == [False, True]
        assert [due_after(3600.0, seconds) for seconds in (86399, 86401)] == [False, True]

    def test_of_a_long_record_that_was_tampered_with_takes_a_hundredth_of_the_time_too(self, recorded: Signoff) -> None:
        tamper(recorded, f"{CHANGED} WHERE seq = 6")
        state(recorded)
        memory = condition._memory(recorded.database)
        assert memory.made
        head, begun, memory.full_took = memory.made.head, memory.made.begun, 30.0
        assert [condition._due(recorded, memory, memory.made, head, begun + s) for s in (301, 3001)] == [False, True]

    def test_does_not_go_on_from_a_point_that_was_replaced(self, recorded: Signoff) -> None:
        state(recorded)
        tamper(
            recorded,
            f"UPDATE events SET hash = 'x' WHERE seq = {last(recorded)}",
            "UPDATE ledger_head SET hash = 'x'",
        )
        condition._memory(recorded.database).made = None
        assert state(recorded).state is State.TAMPERED

    def test_does_not_go_on_from_a_point_that_no_checked_signature_names(
        self, signoff: Signoff, read: list[int]
    ) -> None:
        before = last(signoff)
        state(signoff)
        add(signoff, entry())
        state(signoff)
        assert read == [*range(1, before + 1), *range(1, before + 2)]

    def test_is_begun_by_the_caretaker_and_keeps_it_waiting_for_nothing(
        self, recorded: Signoff, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_on, read = threading.Event(), threading.Event()

        def slow(*_: object, **__: object) -> checkpoints.Verified:
            go_on.wait(10)
            read.set()
            return checkpoints.Verified(0, "", None)

        monkeypatch.setattr(checkpoints, "verify", slow)
        condition.keep(recorded)
        condition.keep(recorded)
        assert not read.is_set()
        go_on.set()
        assert read.wait(10)


class TestPages:
    @pytest.mark.parametrize("page", ["home", "history"])
    def test_say_the_same(self, recorded: Signoff, page: str, clock: Clock) -> None:
        state(recorded)
        shown = text(opened(recorded, "auditor", page))
        assert ("Record intact" in shown) == (page == "history")
        assert "tampered" not in shown
        clock.now += timedelta(minutes=16)
        add(recorded, entry())
        state(recorded)
        shown = text(opened(recorded, "auditor", page))
        assert "The record is unwitnessed since" in shown
        assert "intact" not in shown
        forged = forge(recorded)
        shown = text(opened(recorded, "auditor", page))
        assert f"Event #{forged} was not written by Signoff." in shown
        assert "intact" not in shown

    def test_the_witness_that_contradicts_is_told_on_history_too(
        self, recorded: Signoff, clock: Clock, registry: FakeRegistry
    ) -> None:
        rewrite(recorded, after=5, comments=["a"] * 9)
        tamper(recorded, "DELETE FROM checkpoints", "DELETE FROM witnesses")
        clock.now += timedelta(minutes=6)
        caretaker.tidy(recorded)
        assert witness.last_report(recorded)
        shown = text(opened(recorded, "auditor", "history"))
        assert "The record was tampered with." in shown
        assert "intact" not in shown

    def test_another_event_of_such_a_record_says_so_in_its_drawer(self, recorded: Signoff) -> None:
        tamper(recorded, f"{CHANGED} WHERE seq = 6")
        state(recorded)
        at = opened(recorded, "auditor", "history", event="7", v="99")
        assert not at.exception
        assert "what happened around it cannot be relied on" in text(at)


def test_signing_and_reading_agree(recorded: Signoff) -> None:
    add(recorded, entry())
    sign(recorded)
    state(recorded)
    assert condition._memory(recorded.database).point == sign(recorded).checkpoint
