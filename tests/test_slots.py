"""A model's slot: the first one gets it, but what anybody may do from outside stands in nobody else's way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from services.admission import admissions
from services.database import database_time
from services.domain import VersionRef
from services.errors import PromotionConflict
from services.signoff import Signoff
from services.steps import slots
from services.steps.slots import Rank, Slot
from services.tables import slots as table
from tests.conftest import BOTH, wait_until
from tests.fakes import FakeRegistry
from tests.ledgers import kinds
from tests.outside import ask, carry_out, do, stage
from tests.test_releases import approve, release
from tests.verbs import releases

DATABASES = BOTH


def take(signoff: Signoff, rank: Rank, *, patience: float = 0.0) -> Slot:
    return slots.take(
        signoff.database, "m", holder=rank.name.lower(), purpose="something", rank=rank, patience=patience
    )


def give_back(signoff: Signoff, slot: Slot) -> None:
    with signoff.database.writing() as connection:
        slots.release(connection, slot)


@pytest.fixture
def when_waited_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Let something happen as soon as somebody waits for the slot, instead of time passing."""

    def arrange(act: Callable[[], object]) -> None:
        left = iter([act])

        def wait(_: float) -> None:
            for happening in left:
                happening()

        monkeypatch.setattr("services.steps.slots.time.sleep", wait)

    return arrange


class TestRanks:
    @pytest.mark.parametrize("lower", [Rank.ANYBODY, Rank.CLIENT])
    def test_a_higher_one_waits_for_a_lower_one_to_end(
        self, signoff: Signoff, when_waited_for: Callable[[Callable[[], object]], None], lower: Rank
    ) -> None:
        held = take(signoff, lower)
        when_waited_for(lambda: give_back(signoff, held))
        assert take(signoff, Rank.PERSON, patience=5.0).token == held.token + 1

    def test_while_it_waits_no_lower_one_takes_the_slot(
        self, signoff: Signoff, when_waited_for: Callable[[Callable[[], object]], None]
    ) -> None:
        held = take(signoff, Rank.ANYBODY)

        def another_one_comes() -> None:
            give_back(signoff, held)
            for rank in (Rank.ANYBODY, Rank.CLIENT):
                with pytest.raises(PromotionConflict, match="Somebody is about to change m"):
                    take(signoff, rank)

        when_waited_for(another_one_comes)
        assert take(signoff, Rank.PERSON, patience=5.0).token == held.token + 1

    @pytest.mark.postgresql
    @pytest.mark.parametrize("rank", list(Rank))
    def test_of_the_same_rank_the_first_one_has_it_at_once(
        self, signoff: Signoff, when_waited_for: Callable[[Callable[[], object]], None], rank: Rank
    ) -> None:
        take(signoff, rank)
        when_waited_for(lambda: pytest.fail("nobody waits here"))
        with pytest.raises(PromotionConflict, match=f"{rank.name.lower()} acted first: something is under way"):
            take(signoff, rank, patience=5.0)

    @pytest.mark.parametrize("lower", [Rank.ANYBODY, Rank.CLIENT])
    def test_a_lower_one_does_not_wait(
        self, signoff: Signoff, when_waited_for: Callable[[Callable[[], object]], None], lower: Rank
    ) -> None:
        take(signoff, Rank.PERSON)
        when_waited_for(lambda: pytest.fail("nobody waits here"))
        with pytest.raises(PromotionConflict, match="person acted first"):
            take(signoff, lower, patience=5.0)

    def test_the_wait_has_an_end(self, signoff: Signoff) -> None:
        take(signoff, Rank.ANYBODY)
        with pytest.raises(PromotionConflict, match="anybody acted first"):
            take(signoff, Rank.PERSON, patience=0.1)

    @pytest.mark.postgresql
    def test_nobody_keeps_it_wanted_for_long_without_asking_again(
        self, signoff: Signoff, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(slots, "WANTED_SECONDS", 60.0)
        held = take(signoff, Rank.ANYBODY)
        with pytest.raises(PromotionConflict):
            take(signoff, Rank.PERSON)
        give_back(signoff, held)
        with signoff.database.writing() as connection:
            left = connection.execute(sa.select(table.c.wanted_until - database_time())).scalar_one()
            assert 0 < left <= slots.WANTED_SECONDS
            connection.execute(table.update().values(wanted_until=0.0))
        assert take(signoff, Rank.ANYBODY)

    def test_what_anybody_does_has_a_short_lease_also_when_it_begins_again(self, signoff: Signoff) -> None:
        held = take(signoff, Rank.ANYBODY)
        for _ in range(2):
            with signoff.database.writing() as connection:
                left = connection.execute(sa.select(table.c.expires_at - database_time())).scalar_one()
                assert left <= slots.SHORT_SECONDS
                slots.renew(connection, held)


@pytest.fixture
def ready(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 2, approved; version 1 is in Production and version 3 has no record."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
    registry.add_version("m", {"val_auc": 0.5})
    return ref


class TestMovesThatAnybodyMayMake:
    def test_do_not_stand_in_the_way_of_a_promotion(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        ready: VersionRef,
        when_waited_for: Callable[[Callable[[], object]], None],
    ) -> None:
        answer = ask(signoff, stage(registry, 3, "Archived"))
        assert answer.change
        intent, change = answer.intent or "", answer.change

        def made_and_told() -> None:
            carry_out(registry, change)
            admissions.conclude(signoff, intent)

        when_waited_for(made_and_told)
        releases.promote(signoff, ready, by="release_manager", reason="Now.")
        assert [v.stage for v in registry.versions("m")] == ["Archived", "Production", "Archived"]
        assert kinds(signoff)[-4:] == [
            "transition:intended",
            "transition:confirmed",
            "promotion:intended",
            "promotion:confirmed",
        ]

    def test_nor_do_submissions_of_clients_without_a_name(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        ready: VersionRef,
        when_waited_for: Callable[[Callable[[], object]], None],
    ) -> None:
        answer = ask(signoff, stage(registry, 2, "None"))  # this comes to withdrawing what was submitted
        assert answer.intent, answer.reason
        intent = answer.intent
        when_waited_for(lambda: admissions.conclude(signoff, intent))  # MLflow could not do it
        releases.promote(signoff, ready, by="release_manager", reason="Now.")
        assert kinds(signoff)[-3:] == ["withdrawal:aborted", "promotion:intended", "promotion:confirmed"]

    @pytest.fixture
    def crowd(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> Iterator[list[bool]]:
        """Four clients that move version 3 to and fro as fast as they can, and what they were answered."""
        stop, answers = threading.Event(), []

        def move() -> None:
            while not stop.is_set():
                for to in ("Archived", "None"):
                    answers.append(do(signoff, registry, stage(registry, 3, to)).allowed)

        threads = [threading.Thread(target=move) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: True in answers, "the first move of the crowd")
            yield answers
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_by_a_crowd_do_not_stand_in_the_way_of_any_of_three(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, crowd: list[bool]
    ) -> None:
        releases.promote(signoff, ready, by="release_manager", reason="Now.")
        for version in (1, 2):
            releases.rollback(signoff, "m", by="release_manager", reason="To and fro.", version=version)
        assert kinds(signoff).count("rollback:confirmed") == 2
