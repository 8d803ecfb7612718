"""What a killed process had begun under an idempotency key: the record answers the next request with that key."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from services import caretaker
from services.desk import Request
from services.domain import Action, VersionRef
from services.errors import OutcomeUnknown, PromotionConflict
from services.record import mirror
from services.signoff import Signoff
from services.steps.pulse import Pulse
from services.steps.slots import LEASE_SECONDS
from services.tables import processes
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.test_idempotency import age, ends, killed, promote
from tests.test_releases import Crash, approve, crash_at, release
from tests.verbs import desk, reviews


@pytest.fixture
def ready(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 2, approved; version 1 is in Production."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    return approve(signoff, registry.add_version("m", {"val_auc": 0.95}))


class TestAProcessThatIsKilled:
    def test_after_its_vote_was_recorded_leaves_the_record_to_answer(
        self, signoff: Signoff, other: Signoff, beating: Pulse, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please review.")
        request = Request(action=Action.APPROVE, ref=ref, words="Good.")
        with monkeypatch.context() as broken:
            broken.setattr(mirror, "flush", lambda _: crash_at("")(""))
            with pytest.raises(Crash):
                desk.perform(signoff, request, by="reviewer", key="a")
        ends(signoff)
        before = record(signoff)
        answer = desk.perform(other, request, by="reviewer", key="a")
        assert (answer.event, answer.ref) == (before[-1], ref)
        assert answer.message.endswith(f"record #{before[-1].seq}, approval:given.")
        assert record(signoff) == before

    def test_in_the_middle_of_a_change_leaves_the_record_to_answer_once_it_knows(
        self, signoff: Signoff, other: Signoff, beating: Pulse, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.after_write = crash_at("stage")
        killed(signoff, ready)
        registry.after_write = lambda _: None
        with pytest.raises(OutcomeUnknown, match="does not say yet how it ended"):
            promote(other, ready, "a")
        caretaker.tidy(other)
        before = record(signoff)
        registry.writes.clear()
        assert promote(other, ready, "a").event == before[-1]
        assert before[-1].kind == "promotion:confirmed"
        assert (record(signoff), registry.writes) == (before, [])

    def test_before_its_change_reached_mlflow_leaves_the_key_once_the_record_says_so(
        self, signoff: Signoff, other: Signoff, beating: Pulse, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.before_write = crash_at("stage")
        killed(signoff, ready)
        registry.before_write = lambda _: None
        caretaker.tidy(other)
        assert kinds(signoff)[-1] == "promotion:aborted"
        assert promote(other, ready, "a").event == record(signoff)[-1]
        assert kinds(signoff)[-1] == "promotion:confirmed"

    def test_without_a_pulse_leaves_the_key_when_its_lease_is_over(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.while_reading = crash_at("")
        killed(signoff, ready)
        registry.while_reading = lambda _: None
        with pytest.raises(PromotionConflict, match="still under way"):
            promote(signoff, ready, "a")
        age(signoff, LEASE_SECONDS)
        assert promote(signoff, ready, "a").event is not None


class TestAProcessThatLives:
    def test_shows_it_for_as_long_as_the_request_takes(
        self, signoff: Signoff, other: Signoff, beating: Pulse, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        def meanwhile(_: str) -> None:
            registry.while_reading = lambda _: None
            ends(signoff)
            beating.turn()
            with pytest.raises(PromotionConflict, match="still under way"):
                promote(other, ready, "a")

        registry.while_reading = meanwhile
        promote(signoff, ready, "a")
        ends(signoff)
        beating.turn()
        with signoff.database.reading() as connection:
            assert not connection.execute(sa.select(processes).where(processes.c.alive_until > 0)).all()
