"""Refusals: the first is an event, repeats are a count, and a loop cannot flood the chain."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from services import caretaker
from services.domain import Source, VersionRef
from services.errors import NotAllowed
from services.record import ledger
from services.record import refusals as counting
from services.record.ledger import Event
from services.signoff import Signoff
from services.verbs import releases
from tests.conftest import Clock
from tests.fakes import FakeRegistry
from tests.ledgers import record


@pytest.fixture
def refused(signoff: Signoff, registry: FakeRegistry) -> Callable[..., None]:
    """Ask for a promotion as somebody who may not, so many times."""
    registry.add_version("m", {"val_auc": 0.95})
    registry.add_version("m", {"val_auc": 0.95})

    def ask(times: int = 1, *, version: int = 1, by: str = "viewer") -> None:
        for _ in range(times):
            with pytest.raises(NotAllowed):
                releases.promote(
                    signoff, VersionRef(name="m", version=version), by=by, reason="please", source=Source.REST
                )

    return ask


def repeats(signoff: Signoff) -> list[int | None]:
    """Of each refusal on record, what it counts; None for one that is itself a refusal."""
    return [event.get("repeats") for event in record(signoff)]


class TestRepeats:
    def test_the_first_is_an_event_and_the_next_are_none(self, signoff: Signoff, refused: Callable[..., None]) -> None:
        refused(5)
        assert repeats(signoff) == [None]

    def test_at_a_hundred_and_when_the_window_closes_the_count_is_an_event(
        self, signoff: Signoff, refused: Callable[..., None], clock: Clock
    ) -> None:
        refused(105)
        assert repeats(signoff) == [None, 100]
        clock.now += timedelta(minutes=10)
        caretaker.tidy(signoff)
        caretaker.tidy(signoff)
        assert repeats(signoff) == [None, 100, 105]
        summary: Event = record(signoff)[-1]
        first = record(signoff)[0]
        assert (summary.kind, summary.actor, summary.ref) == (first.kind, first.actor, first.ref)
        assert summary.body["roles"] == ["viewer"]
        assert summary.get("first_event") == first.seq
        assert summary.comment == f"Refused 105 times since #{first.seq}: {first.comment}"

    def test_a_window_with_one_refusal_closes_without_a_word(
        self, signoff: Signoff, refused: Callable[..., None], clock: Clock
    ) -> None:
        refused()
        clock.now += timedelta(minutes=10)
        caretaker.tidy(signoff)
        assert repeats(signoff) == [None]

    def test_after_the_window_the_next_refusal_is_an_event_again(
        self, signoff: Signoff, refused: Callable[..., None], clock: Clock
    ) -> None:
        refused(3)
        clock.now += timedelta(minutes=10)
        refused(2)
        assert repeats(signoff) == [None, 3, None]

    def test_another_person_or_version_is_another_cause(self, signoff: Signoff, refused: Callable[..., None]) -> None:
        refused(2)
        refused(2, version=2)
        refused(2, by="auditor")
        assert repeats(signoff) == [None, None, None]

    def test_whoever_tries_everything_is_counted_too(
        self, signoff: Signoff, refused: Callable[..., None], clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(counting, "MAX_CAUSES", 3)
        for version in range(1, 9):
            refused(version=version)
        assert repeats(signoff) == [None] * 4
        clock.now += timedelta(minutes=10)
        caretaker.tidy(signoff)
        summary = record(signoff)[-1]
        assert summary.get("repeats") == 5
        assert summary.ref is None
        refused(by="auditor")
        assert repeats(signoff)[-1] is None

    def test_the_chain_stays_whole_and_no_event_is_ever_updated(
        self, signoff: Signoff, refused: Callable[..., None]
    ) -> None:
        refused(1)
        before = record(signoff)[0]
        refused(100)
        assert record(signoff)[0] == before
        with signoff.database.reading() as connection:
            assert ledger.broken_at(connection) is None

    def test_many_at_once_are_one_event(self, signoff: Signoff, refused: Callable[..., None]) -> None:
        threads = [threading.Thread(target=refused, args=(5,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert repeats(signoff) == [None]
        with signoff.database.reading() as connection:
            assert connection.exec_driver_sql("SELECT times FROM refusal_windows").scalar() == 20
