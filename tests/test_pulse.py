"""What a dead process holds is free soon, and no write of it arrives after that."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from services import caretaker
from services.admission.calls import HOOK_SECONDS
from services.database import database_time
from services.domain import VersionRef
from services.errors import OutcomeUnknown, PromotionConflict
from services.signoff import Signoff
from services.steps import intents, pulse, slots
from services.steps.pulse import Pulse
from services.tables import processes
from services.tables import slots as table
from tests.conftest import BOTH, wait_until
from tests.fakes import FakeRegistry
from tests.ledgers import kinds
from tests.test_interruptions import promote
from tests.test_releases import Crash, approve, crash_at, release, stages
from tests.verbs import releases

DATABASES = BOTH
pytestmark = pytest.mark.postgresql


@pytest.fixture
def ready(signoff: Signoff, registry: FakeRegistry, beating: Pulse) -> VersionRef:
    """Version 2, approved; version 1 is in Production."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
    registry.writes.clear()
    return ref


def left(signoff: Signoff, seconds: float) -> None:
    """Let this be how long `signoff`'s process still counts as alive."""
    mine = processes.c.process == signoff.database.process
    with signoff.database.writing() as connection:
        until = database_time() + seconds
        assert connection.execute(processes.update().where(mine).values(alive_until=until)).rowcount == 1


def take(signoff: Signoff) -> slots.Slot:
    return slots.take(signoff.database, "m", holder="mira", purpose="the promotion of v2")


def beats(signoff: Signoff) -> list[float]:
    """For how long each process still counts as alive."""
    with signoff.database.reading() as connection:
        return list(connection.execute(sa.select(processes.c.alive_until - database_time())).scalars())


class TestASlot:
    def test_of_a_living_process_is_its_own(self, signoff: Signoff, other: Signoff, beating: Pulse) -> None:
        take(signoff)
        left(signoff, 1.0)
        with pytest.raises(PromotionConflict, match="mira acted first"):
            take(other)

    def test_of_a_dead_process_is_free_long_before_its_lease_is_over(
        self, signoff: Signoff, other: Signoff, beating: Pulse
    ) -> None:
        first = take(signoff)
        left(signoff, 0.0)
        with signoff.database.reading() as connection:
            lease = connection.execute(sa.select(table.c.expires_at - database_time())).scalar_one()
        assert lease > slots.LEASE_SECONDS / 2
        assert take(other).token == first.token + 1
        with signoff.database.reading() as connection, pytest.raises(PromotionConflict, match="was lost"):
            slots.require(connection, first)

    def test_of_a_process_that_shows_nothing_depends_on_its_lease_alone(self, signoff: Signoff, other: Signoff) -> None:
        held = take(signoff)
        assert beats(signoff) == []
        with signoff.database.writing() as connection:
            slots.require(connection, held, seconds=slots.LEASE_SECONDS / 2)
        with pytest.raises(PromotionConflict):
            take(other)

    def test_is_not_enough_for_a_write_when_its_process_may_be_dead_before_that_arrives(
        self, signoff: Signoff, beating: Pulse
    ) -> None:
        held = take(signoff)
        left(signoff, intents.WRITE_SECONDS - 1)
        with signoff.database.writing() as connection:
            slots.require(connection, held)
            with pytest.raises(PromotionConflict):
                slots.require(connection, held, seconds=intents.WRITE_SECONDS)
            slots.renew(connection, held)
            slots.require(connection, held, seconds=intents.WRITE_SECONDS)

    def test_is_judged_by_the_last_beat_while_its_holder_looks_at_it(
        self, signoff: Signoff, other: Signoff, beating: Pulse
    ) -> None:
        """Whoever waits for the row must not go by what was there before the wait."""
        held = take(signoff)
        left(signoff, 0.0)
        if signoff.database.engine.dialect.name == "sqlite":
            pytest.skip("SQLite lets one transaction write at a time.")
        waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with ThreadPoolExecutor(1) as pool, signoff.database.writing() as connection:
            connection.execute(sa.select(table).where(table.c.model == held.model).with_for_update())
            taken = pool.submit(take, other)

            def waits() -> bool:
                with signoff.database.reading() as looking:
                    return bool(looking.execute(waiting).scalar_one())

            wait_until(waits, "the one who waits")
            beating.turn()
            connection.rollback()
            with pytest.raises(PromotionConflict):
                taken.result()


class TestAChange:
    def test_of_a_dead_process_is_closed_by_another_dashboard_and_not_while_it_lives(
        self, signoff: Signoff, other: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.after_write = crash_at("stage")
        with pytest.raises(Crash):
            promote(signoff, ready)
        registry.after_write = lambda _: None
        caretaker.tidy(other)
        assert kinds(other)[-1] == "promotion:intended"
        left(signoff, 0.0)
        caretaker.tidy(other)
        assert kinds(other)[-1] == "promotion:confirmed"
        assert stages(registry) == ["Archived", "Production"]
        releases.rollback(other, "m", by="release_manager", reason="Back.", version=1)

    def test_sends_no_write_that_could_arrive_after_others_take_the_slot(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pulse, "ALIVE_SECONDS", intents.WRITE_SECONDS - 1)
        with pytest.raises(OutcomeUnknown):
            promote(signoff, ready)
        assert registry.writes == []
        assert stages(registry) == ["Production", "Staging"]

    def test_that_the_hook_makes_is_made_while_its_process_counts_as_alive(
        self, signoff: Signoff, ready: VersionRef
    ) -> None:
        promote(signoff.prescribing, ready)
        with signoff.database.reading() as connection:
            (under_way,) = intents.in_flight(connection)
            found = intents.alive(connection, under_way.id)
        assert found
        assert HOOK_SECONDS < found[1] <= pulse.ALIVE_SECONDS
        left(signoff, 0.0)
        with signoff.database.reading() as connection:
            assert intents.alive(connection, under_way.id) is None


class TestThePulse:
    def test_has_time_for_two_beats_before_a_write_is_refused(self) -> None:
        assert intents.WRITE_SECONDS + 2 * pulse.BEAT_SECONDS < pulse.ALIVE_SECONDS < slots.SHORT_SECONDS
        assert HOOK_SECONDS + pulse.BEAT_SECONDS < pulse.ALIVE_SECONDS

    def test_beats_only_while_a_slot_is_held(self, signoff: Signoff, beating: Pulse) -> None:
        beating.turn()
        assert beats(signoff) == []
        held = take(signoff)
        left(signoff, 1.0)
        beating.turn()
        assert beats(signoff)[0] > pulse.ALIVE_SECONDS - 5
        with signoff.database.writing() as connection:
            slots.release(connection, held)
        left(signoff, 1.0)
        beating.turn()
        assert beats(signoff)[0] <= 1.0

    def test_forgets_those_that_died_long_ago(self, signoff: Signoff, beating: Pulse) -> None:
        take(signoff)
        with signoff.database.writing() as connection:
            long_ago = database_time() - pulse.FORGOTTEN_SECONDS
            connection.execute(processes.insert().values(process="of old", alive_until=long_ago))
        beating.turn()
        assert len(beats(signoff)) == 1

    def test_goes_on_after_an_outage(self, signoff: Signoff, beating: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
        take(signoff)
        left(signoff, 1.0)
        monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.01)
        happened: list[str] = []
        turn = beating.turn

        def first_fails() -> None:
            happened.append("turn")
            if len(happened) == 1:
                raise RuntimeError("outage")
            turn()

        monkeypatch.setattr(beating, "turn", first_fails)
        beating.start()
        try:
            wait_until(lambda: beats(signoff)[0] > 5, "a beat after the outage")
        finally:
            beating.stop()
        assert signoff.database.process is None
