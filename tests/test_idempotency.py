"""A request that names itself is carried out once, however often and however late it comes."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from services import caretaker
from services.desk import Request
from services.domain import Action, VersionRef
from services.errors import BadInput, OutcomeUnknown, PromotionConflict, RegistryUnavailable
from services.evidence import FindingDraft
from services.gate import GateRefused
from services.signoff import Signoff
from services.steps.pulse import Pulse
from services.steps.slots import LEASE_SECONDS
from services.tables import idempotency_keys, processes
from services.verbs.idempotency import KEPT_SECONDS
from services.verbs.reviews import Outcome
from tests.conftest import BOTH
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.test_interruptions import and_then
from tests.test_releases import Crash, approve, crash_at, lease_runs_out, release
from tests.verbs import desk, reviews

DATABASES = BOTH
pytestmark = pytest.mark.postgresql


def promote(
    signoff: Signoff, ref: VersionRef, key: str, words: str = "Better.", by: str = "release_manager"
) -> Outcome:
    return desk.perform(signoff, Request(action=Action.PROMOTE, ref=ref, words=words), by=by, key=key)


def age(signoff: Signoff, seconds: float) -> None:
    """Let every key have been sent so much earlier."""
    with signoff.database.writing() as connection:
        connection.execute(idempotency_keys.update().values(at=idempotency_keys.c.at - seconds))


def keys_kept(signoff: Signoff) -> int:
    with signoff.database.reading() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(idempotency_keys)).scalar_one()


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 1, in Production."""
    return release(signoff, registry.add_version("m", {"val_auc": 0.92}))


@pytest.fixture
def ready(signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> VersionRef:
    """Version 2, approved."""
    return approve(signoff, registry.add_version("m", {"val_auc": 0.95}))


class TestRepeat:
    def test_gets_the_first_answer_and_has_no_second_effect(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        first = promote(signoff, ready, "a")
        before = record(signoff)
        registry.writes.clear()
        again = promote(signoff, ready, "a")
        assert (again.message, again.event, again.ref) == (first.message, first.event, first.ref)
        assert record(signoff) == before
        assert registry.writes == []

    def test_that_comes_late_does_not_undo_a_newer_promotion(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        """Nor does a rollback without a version, which would go one step further each time."""
        promote(signoff, ready, "a")
        back = Request(action=Action.ROLLBACK, ref=VersionRef(name="m", version=1), words="Wrong.")
        desk.perform(signoff, back, by="release_manager", key="b")
        newer = release(signoff, registry.add_version("m", {"val_auc": 0.97}))
        registry.writes.clear()
        for _ in range(2):
            promote(signoff, ready, "a")
            desk.perform(signoff, back, by="release_manager", key="b")
        assert registry.writes == []
        assert registry.model("m").aliases["champion"] == newer.version

    def test_of_what_was_refused_asks_the_gate_again(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        with pytest.raises(GateRefused):
            promote(signoff, ref, "a")
        assert promote(signoff, approve(signoff, ref), "a").event is not None

    def test_at_once_is_a_conflict_and_one_effect(self, signoff: Signoff, ready: VersionRef) -> None:
        """All sent together: one is carried out, the others hear that it is under way or get its answer."""
        answers: list[Outcome | PromotionConflict] = []

        def send() -> None:
            try:
                answers.append(promote(signoff, ready, "a"))
            except PromotionConflict as error:
                answers.append(error)

        threads = [threading.Thread(target=send) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 6
        assert any(isinstance(answer, Outcome) for answer in answers)
        assert kinds(signoff).count("promotion:confirmed") == 2  # this one, and the first champion's


def ends(signoff: Signoff) -> None:
    """Let no process that showed a sign of life before be alive any more."""
    with signoff.database.writing() as connection:
        connection.execute(processes.update().values(alive_until=0.0))


def killed(signoff: Signoff, ref: VersionRef) -> None:
    """Promote under the key ``a``, and let the process end where the registry crashes."""
    with pytest.raises(Crash):
        promote(signoff, ref, "a")
    ends(signoff)


class TestAProcessThatIsKilled:
    def test_before_anything_was_recorded_leaves_the_key_to_the_next_request(
        self, signoff: Signoff, other: Signoff, beating: Pulse, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        before, registry.while_reading = record(signoff), crash_at("")
        killed(signoff, ready)
        registry.while_reading = lambda _: None
        assert record(signoff) == before
        assert promote(other, ready, "a").event == record(signoff)[-1]
        assert kinds(signoff)[len(before) :] == ["promotion:intended", "promotion:confirmed"]


class TestAProcessThatLives:
    def test_keeps_its_key_however_long_it_takes(
        self, signoff: Signoff, other: Signoff, beating: Pulse, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        told: list[PromotionConflict] = []

        def meanwhile(_: str) -> None:
            registry.while_reading = lambda _: None
            age(signoff, 10 * LEASE_SECONDS)
            with pytest.raises(PromotionConflict, match="still under way") as raised:
                promote(other, ready, "a")
            told.append(raised.value)

        registry.while_reading = meanwhile
        assert promote(signoff, ready, "a").event == record(signoff)[-1]
        assert len(told) == 1
        assert kinds(signoff).count("promotion:intended") == 2  # this one, and the first champion's

    def test_that_was_taken_for_dead_records_nothing_once_another_has_its_key(
        self, signoff: Signoff, other: Signoff, beating: Pulse, ready: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done: list[Outcome] = []

        def meanwhile() -> None:
            ends(signoff)
            done.append(desk.perform(other, request, by="reviewer2", key="a"))

        drafts = (FindingDraft(text="Why?"),)
        request = Request(action=Action.REQUEST_CHANGES, ref=ready, words="Explain.", findings=drafts)
        monkeypatch.setattr("services.verbs.reviews.signature_needed", and_then(reviews.signature_needed, meanwhile))
        with pytest.raises(PromotionConflict, match="another process"):
            desk.perform(signoff, request, by="reviewer2", key="a")
        assert kinds(signoff)[-2:] == ["changes:requested", "changes:refused"]
        assert desk.perform(signoff, request, by="reviewer2", key="a") == done[0]


class TestUnknownEnd:
    def test_of_the_first_keeps_the_second_out_until_the_record_knows_it(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        silent = RegistryUnavailable("no answer")

        def stops(what: str) -> None:
            if what.startswith("alias"):
                raise silent

        registry.before_write = stops
        with pytest.raises(OutcomeUnknown):
            promote(signoff, ready, "a")
        registry.before_write = lambda _: None
        before = record(signoff)
        with pytest.raises(OutcomeUnknown, match="does not say yet how it ended"):
            promote(signoff, ready, "a")
        assert record(signoff) == before
        lease_runs_out(signoff)
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == "promotion:confirmed"
        assert promote(signoff, ready, "a").event == record(signoff)[-1]
        assert kinds(signoff).count("promotion:confirmed") == 2  # this one, and the first champion's


class TestKey:
    def test_of_another_request_is_refused(self, signoff: Signoff, ready: VersionRef) -> None:
        promote(signoff, ready, "a")
        before = record(signoff)
        with pytest.raises(BadInput, match="another request"):
            promote(signoff, ready, "a", words="Other words.")
        assert record(signoff) == before

    def test_of_somebody_else_is_another_key(self, signoff: Signoff, ready: VersionRef) -> None:
        promote(signoff, ready, "a")
        with pytest.raises(Exception, match="Only a release manager"):
            promote(signoff, ready, "a", by="viewer")

    @pytest.mark.parametrize("key", ["", "x" * 201, "ключ", "a\nb"])
    def test_that_is_malformed_is_refused(self, signoff: Signoff, ready: VersionRef, key: str) -> None:
        before = record(signoff)
        with pytest.raises(BadInput, match="Idempotency-Key"):
            promote(signoff, ready, key)
        assert record(signoff) == before

    def test_is_forgotten_after_a_month(self, signoff: Signoff, ready: VersionRef) -> None:
        promote(signoff, ready, "a")
        caretaker.tidy(signoff)
        assert keys_kept(signoff) == 1
        age(signoff, KEPT_SECONDS)
        caretaker.tidy(signoff)
        assert keys_kept(signoff) == 0

    def test_is_not_needed(self, signoff: Signoff, ready: VersionRef) -> None:
        request = Request(action=Action.PROMOTE, ref=ready, words="Better.")
        desk.perform(signoff, request, by="release_manager")
        assert keys_kept(signoff) == 0
