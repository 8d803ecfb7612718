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
from services.tables import refusal_windows
from tests.conftest import Clock
from tests.fakes import FakeRegistry
from tests.ledgers import record
from tests.verbs import releases, reviews


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


class TestRowsThatSignoffDidNotWrite:
    """Somebody who can write the database makes no event of it, in nobody's name."""

    def change(self, signoff: Signoff, **values: object) -> None:
        with signoff.database.writing() as connection:
            connection.execute(refusal_windows.update().values(**values))

    def rows(self, signoff: Signoff) -> int:
        with signoff.database.reading() as connection:
            return len(connection.execute(refusal_windows.select()).all())

    @pytest.mark.parametrize("first", ["no event", "an approval", "a refusal of something else"])
    def test_a_window_that_fits_no_refusal_closes_without_an_event(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        refused: Callable[..., None],
        clock: Clock,
        first: str,
    ) -> None:
        refused()
        reviews.submit(signoff, VersionRef(name="m", version=1), by="scientist", comment="Please.")
        approval = reviews.approve(signoff, VersionRef(name="m", version=1), by="reviewer", comment="Right.").event
        assert approval
        seq = {"no event": 99, "an approval": approval.seq, "a refusal of something else": record(signoff)[0].seq}
        self.change(signoff, fingerprint="f" * 64, person="reviewer", first_seq=seq[first], times=7)
        before = record(signoff)
        clock.now += timedelta(minutes=10)
        caretaker.tidy(signoff)
        assert record(signoff) == before
        assert self.rows(signoff) == 0

    @pytest.mark.parametrize("times", [10**12, 10**9 + 1])
    def test_a_count_that_none_of_ours_reaches_is_dropped(
        self, signoff: Signoff, refused: Callable[..., None], clock: Clock, times: int
    ) -> None:
        refused(2)
        self.change(signoff, times=times)
        clock.now += timedelta(minutes=10)
        caretaker.tidy(signoff)
        assert repeats(signoff) == [None]

    @pytest.mark.parametrize("moment", [0.0, 4e9, 1e300])
    def test_a_count_is_dated_between_the_first_refusal_and_now(
        self, signoff: Signoff, refused: Callable[..., None], clock: Clock, moment: float
    ) -> None:
        refused(2)
        self.change(signoff, last_at=moment)
        clock.now += timedelta(minutes=10)
        caretaker.tidy(signoff)
        first, summary = record(signoff)
        assert (summary.get("repeats"), summary.get("since")) == (2, first.body["at"])
        assert first.at <= summary.at <= clock.now

    def test_a_row_hides_no_first_refusal(self, signoff: Signoff, refused: Callable[..., None]) -> None:
        refused()
        self.change(signoff, first_seq=99)
        refused()
        assert repeats(signoff) == [None, None]
