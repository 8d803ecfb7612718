"""What changes while files are read is judged again in the transaction that records the intent: then nothing happens.

Each test changes one fact of the moment, by the verb that changes it where one can: while files are read, and once more
at the very last, when everything was read and judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from services.accounts import keeping, people
from services.domain import Actor, Role, Source, VersionRef
from services.errors import NotAllowed, PromotionConflict, Refused, StaleDecision
from services.evidence import FindingDraft, Severity
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.record import activation
from services.record.deviations import open_deviations
from services.record.projections.states import WITHDRAWN
from services.signoff import Signoff
from services.steps import effects
from services.tables import emergencies, intents, tokens
from services.verbs.break_glass import withdraw
from services.verbs.reviews import Outcome
from tests.conftest import Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.rest import Rest
from tests.test_gate_validation import HOLDOUT, RULE
from tests.test_policy import GOOD
from tests.test_releases import approve, release, slot_is_free
from tests.validation import on_record
from tests.verbs import automation, break_glass, findings, reconciler, releases, reviews

ADMIN = Actor(username="admin", name="Adam Novak", roles=frozenset({Role.ADMIN}), source=Source.BROWSER)
DEFAULT = GOOD.replace("name: tested", "name: default")
"""Other rules under the name of the policy that models are assigned to."""
BLOCKING = FindingDraft(text="It answers with patients' names.", severity=Severity.BLOCKING)


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 1, in Production."""
    return release(signoff, registry.add_version("m", {"val_auc": 0.92}))


@pytest.fixture
def ready(signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> VersionRef:
    """Version 2, approved."""
    return approve(signoff, registry.add_version("m", {"val_auc": 0.95}))


class Reading:
    """The registry while a verb reads it: ``meanwhile`` lets something happen once, when all of ``what`` is read."""

    def __init__(self, registry: FakeRegistry, *what: str) -> None:
        self._registry, self._what = registry, what

    def meanwhile(self, act: Callable[[], object]) -> None:
        left = list(self._what)

        def hook(what: str) -> None:
            if what.startswith(left[0]):
                del left[0]
            if not left:
                self._registry.while_reading = lambda _: None
                act()

        self._registry.while_reading = hook


def at_the_last(registry: FakeRegistry) -> Reading:
    """When everything was read and judged: to prescribe the change, one version or all are read after the files."""
    return Reading(registry, "files", "version")


@pytest.fixture(params=["files", "last"])
def reading(request: pytest.FixtureRequest, registry: FakeRegistry) -> Reading:
    """The two moments at which something may change."""
    return Reading(registry, "files") if request.param == "files" else at_the_last(registry)


@contextmanager
def refused_once(signoff: Signoff, registry: FakeRegistry, subject: str, *meanwhile: str) -> Iterator[None]:
    """Beside what was recorded ``meanwhile`` there is one refusal more, and nothing else: no intent, no move, no slot.

    Tags of what happened meanwhile may be written.
    """
    before, stages, aliases = kinds(signoff), [v.stage for v in registry._of("m")], registry.model("m").aliases
    registry.writes.clear()
    yield
    assert kinds(signoff) == [*before, *meanwhile, f"{subject}:refused"]
    assert [write for write in registry.writes if not write.startswith(("tag ", "no tag "))] == []
    assert [v.stage for v in registry._of("m")] == stages
    assert registry.model("m").aliases == aliases
    assert slot_is_free(signoff)
    with signoff.database.reading() as connection:
        assert connection.execute(sa.select(intents.c.id).where(intents.c.state == "open")).all() == []


def loses_role(signoff: Signoff, username: str) -> None:
    keeping.set_roles(signoff.database, by=ADMIN, username=username, roles=[Role.VIEWER], at=signoff.now())


def is_disabled(signoff: Signoff, username: str) -> None:
    keeping.disable(signoff.database, by=ADMIN, username=username, at=signoff.now())


def promote(signoff: Signoff, ref: VersionRef) -> object:
    return releases.promote(signoff, ref, by="release_manager", reason="Now.")


def roles_named(signoff: Signoff) -> list[str]:
    return list(record(signoff)[-1].body["roles"])


class TestWhoPromotes:
    def test_has_lost_the_role_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, ready: VersionRef
    ) -> None:
        reading.meanwhile(lambda: loses_role(signoff, "release_manager"))
        with (
            refused_once(signoff, registry, "promotion", "account:changed"),
            pytest.raises(NotAllowed, match="Only a release manager may promote; release_manager is viewer"),
        ):
            promote(signoff, ready)
        assert roles_named(signoff) == ["viewer"], "the record names no role that was lost"

    def test_was_disabled_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, ready: VersionRef
    ) -> None:
        reading.meanwhile(lambda: is_disabled(signoff, "release_manager"))
        with (
            refused_once(signoff, registry, "promotion", "account:disabled"),
            pytest.raises(NotAllowed, match="no account here that may act"),
        ):
            promote(signoff, ready)
        assert roles_named(signoff) == []

    def test_is_recorded_with_the_roles_held_when_the_intent_was(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, ready: VersionRef
    ) -> None:
        held = [Role.RELEASE_MANAGER, Role.AUDITOR]
        reading.meanwhile(
            lambda: keeping.set_roles(
                signoff.database, by=ADMIN, username="release_manager", roles=held, at=signoff.now()
            ),
        )
        promote(signoff, ready)
        intended, confirmed = record(signoff)[-2:]
        assert intended.body["roles"] == confirmed.body["roles"] == sorted(held)


class TestWhatWasSaidOfIt:
    def test_a_finding_was_reopened_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        reviews.request_changes(signoff, ref, by="reviewer", comment="No.", findings=[BLOCKING])
        (found,) = findings.raised(signoff, registry.version(ref))
        findings.resolve(signoff, ref, found.id, by="reviewer", comment="Answered.")
        approve(signoff, ref)
        reading.meanwhile(lambda: findings.reopen(signoff, ref, found.id, by="reviewer2", comment="It still does."))
        with (
            refused_once(signoff, registry, "promotion", "finding:reopened"),
            pytest.raises(GateRefused, match="patients' names") as refusal,
        ):
            promote(signoff, ref)
        assert [check.id for check in refusal.value.verdict.failed] == ["findings"]

    def test_a_finding_was_raised_and_changes_requested_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, ready: VersionRef
    ) -> None:
        def raised() -> None:
            reviews.request_changes(signoff, ready, by="reviewer2", comment="No.", findings=[BLOCKING])

        reading.meanwhile(raised)
        with refused_once(signoff, registry, "promotion", "changes:requested"), pytest.raises(GateRefused) as refusal:
            promote(signoff, ready)
        assert {check.id for check in refusal.value.verdict.failed} == {"findings", "changes"}

    def test_the_approval_was_taken_back_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, ready: VersionRef
    ) -> None:
        reading.meanwhile(lambda: reviews.request_changes(signoff, ready, by="reviewer", comment="I was too quick."))
        with refused_once(signoff, registry, "promotion", "changes:requested"), pytest.raises(GateRefused) as refusal:
            promote(signoff, ready)
        assert {check.id for check in refusal.value.verdict.failed} == {"changes", "approvals"}

    def test_an_approval_that_came_meanwhile_is_in_the_record(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, ready: VersionRef
    ) -> None:
        reading.meanwhile(lambda: reviews.approve(signoff, ready, by="reviewer2", comment="I too."))
        promote(signoff, ready)
        assert [one["person"] for one in record(signoff)[-1].get("approvals")] == ["reviewer", "reviewer2"]

    def test_the_submission_was_ended_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, ready: VersionRef
    ) -> None:
        def ended() -> None:  # no verb can while the slot is held: they are kept out by that
            with signoff.database.writing() as connection:
                effects.show_status(connection, ready, "withdrawn")

        reading.meanwhile(ended)
        with refused_once(signoff, registry, "promotion"), pytest.raises(GateRefused, match="not submitted"):
            promote(signoff, ready)

    def test_a_validation_that_shows_less_came_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, champion: VersionRef
    ) -> None:
        strict = replace(signoff, policies=PolicyBook(policies=(parse(DEFAULT + RULE, "p.yaml"),)))
        ref = registry.add_version("m", {"val_auc": 0.95})
        on_record(strict, ref, sha256=HOLDOUT)
        approve(strict, ref)
        reading.meanwhile(lambda: on_record(strict, ref, sha256=HOLDOUT, gain=-0.02))
        came = ("validation:requested", "validation:completed")
        with refused_once(strict, registry, "promotion", *came), pytest.raises(GateRefused) as refusal:
            promote(strict, ref)
        assert [check.id for check in refusal.value.verdict.failed] == ["validation:improvement"]


def test_the_same_vote_sent_twice_at_once_is_one(
    signoff: Signoff, registry: FakeRegistry, champion: VersionRef
) -> None:
    ref = registry.add_version("m", {"val_auc": 0.95})
    reviews.submit(signoff, ref, by="scientist", comment="Better.")

    def approve_it() -> Outcome:
        return reviews.approve(signoff, ref, by="reviewer", comment="Fine.")

    before, first = kinds(signoff), list[Outcome]()
    Reading(registry, "files").meanwhile(lambda: first.append(approve_it()))
    second = approve_it()
    assert first[0].event
    assert second.event is None
    assert "has already decided so" in second.message
    assert kinds(signoff) == [*before, "approval:given"]


class TestTheToken:
    @pytest.mark.parametrize("ends", [{"revoked_at": 1.0}, {"expires_at": 1.0}], ids=["revoked", "expired"])
    def test_ended_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, ready: VersionRef, ends: dict[str, float]
    ) -> None:
        rest = Rest(signoff)
        secret = rest.token("release_manager")

        def end() -> None:
            with signoff.database.writing() as connection:
                connection.execute(tokens.update().values(**ends))

        reading.meanwhile(end)
        with refused_once(signoff, registry, "promotion"):
            answer = rest.post("/models/m/versions/2/promote", token=secret, reason="Fewer misses.")
        assert answer.status_code == 403
        assert "was revoked, or has expired, meanwhile" in answer.text


class TestWhen:
    def test_a_freeze_began_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, champion: VersionRef, clock: Clock
    ) -> None:
        freeze = "{title: Year end, time_zone: UTC, from: 2026-11-02 00:00, until: 2026-11-03 00:00}"
        frozen = replace(signoff, policies=PolicyBook(policies=(parse(f"{DEFAULT}freezes: [{freeze}]\n", "p.yaml"),)))
        ref = approve(frozen, registry.add_version("m", {"val_auc": 0.95}))

        def midnight() -> None:
            clock.now += timedelta(hours=16)

        reading.meanwhile(midnight)
        with (
            refused_once(frozen, registry, "promotion"),
            pytest.raises(GateRefused, match="Nothing is promoted during Year end"),
        ):
            promote(frozen, ref)

    def test_the_approval_grew_too_old_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, clock: Clock
    ) -> None:
        short = parse(f"{DEFAULT}approvals_expire_after_days: 1\n", "p.yaml")
        signoff = replace(signoff, policies=PolicyBook(policies=(short,)))
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))

        def two_days_later() -> None:
            clock.now += timedelta(days=2)

        at_the_last(registry).meanwhile(two_days_later)
        with refused_once(signoff, registry, "promotion"), pytest.raises(GateRefused, match="expired after 1 day"):
            promote(signoff, ref)


class TestThePolicy:
    def test_was_put_out_of_force_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, ready: VersionRef
    ) -> None:
        other = PolicyBook(policies=(parse(GOOD, "p.yaml"),))
        reading.meanwhile(lambda: activation.activate(signoff.database, other, at=signoff.now()))
        with (
            refused_once(signoff, registry, "promotion"),
            pytest.raises(StaleDecision, match=r"Policy default@.* is not in force any more"),
        ):
            promote(signoff, ready)


class TestBeforeFilesAreRead:
    """What is certain refuses at once, and no file is read for it."""

    def _watch(self, registry: FakeRegistry) -> list[str]:
        read: list[str] = []
        registry.while_reading = read.append
        return read

    def test_a_blocking_finding(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
        reviews.request_changes(signoff, ready, by="reviewer2", comment="No.", findings=[BLOCKING])
        read = self._watch(registry)
        with refused_once(signoff, registry, "promotion"), pytest.raises(GateRefused, match="patients' names"):
            promote(signoff, ready)
        assert "files" not in read

    def test_a_freeze(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        freeze = "{title: Year end, time_zone: UTC, from: 2026-11-01 00:00, until: 2026-11-03 00:00}"
        frozen = replace(signoff, policies=PolicyBook(policies=(parse(f"{DEFAULT}freezes: [{freeze}]\n", "p.yaml"),)))
        ref = approve(frozen, registry.add_version("m", {"val_auc": 0.95}))
        read = self._watch(registry)
        with refused_once(frozen, registry, "promotion"), pytest.raises(GateRefused, match="during Year end"):
            promote(frozen, ref)
        assert "files" not in read

    def test_of_files_that_nobody_read_yet_the_record_says_nothing(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        freeze = "{title: Year end, time_zone: UTC, from: 2026-11-01 00:00, until: 2026-11-03 00:00}"
        frozen = replace(signoff, policies=PolicyBook(policies=(parse(f"{DEFAULT}freezes: [{freeze}]\n", "p.yaml"),)))
        ref = registry.add_version("m", {"val_auc": 0.5}, signature=None)
        with pytest.raises(GateRefused) as refusal:
            promote(frozen, ref)
        failed = {check.id for check in refusal.value.verdict.failed}
        assert failed == {"freeze:Year end", "metric:val_auc", "submitted", "approvals"}
        assert record(signoff)[-1].get("metrics") is None

    def test_the_second_person_of_an_emergency(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        number = ask_for_emergency(signoff, ready)
        people.set_roles(signoff.database, "break_glass", [Role.BREAK_GLASS, Role.RELEASE_MANAGER])
        read = self._watch(registry)
        with (
            refused_once(signoff, registry, "emergency"),
            pytest.raises(GateRefused, match="another person must confirm"),
        ):
            break_glass.confirm(signoff, number, by="break_glass", comment="I am sure.")
        assert "files" not in read


def ask_for_emergency(signoff: Signoff, ref: VersionRef) -> int:
    event = break_glass.ask(signoff, ref, by="break_glass", reason="It answers nonsense.").event
    assert event
    return event.seq


class TestRollback:
    @pytest.fixture
    def second(self, signoff: Signoff, ready: VersionRef) -> VersionRef:
        """Version 2, in Production; version 1 is the way back."""
        promote(signoff, ready)
        return ready

    @pytest.mark.parametrize(("change", "event"), [(loses_role, "account:changed"), (is_disabled, "account:disabled")])
    def test_by_somebody_who_may_not_any_more(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        reading: Reading,
        second: VersionRef,
        change: Callable[[Signoff, str], None],
        event: str,
    ) -> None:
        reading.meanwhile(lambda: change(signoff, "release_manager"))
        with refused_once(signoff, registry, "rollback", event), pytest.raises(NotAllowed):
            releases.rollback(signoff, "m", by="release_manager", reason="Back.")
        assert "release_manager" not in roles_named(signoff)

    def test_onto_a_finding_reopened_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        reviews.request_changes(signoff, ref, by="reviewer", comment="No.", findings=[BLOCKING])
        (found,) = findings.raised(signoff, registry.version(ref))
        findings.resolve(signoff, ref, found.id, by="reviewer", comment="Answered.")
        release(signoff, ref)
        release(signoff, registry.add_version("m", {"val_auc": 0.96}))
        reading.meanwhile(lambda: findings.reopen(signoff, ref, found.id, by="reviewer2", comment="It still does."))
        with refused_once(signoff, registry, "rollback", "finding:reopened"), pytest.raises(GateRefused):
            releases.rollback(signoff, "m", by="release_manager", reason="Back.")


class TestArchive:
    @pytest.mark.parametrize(("change", "event"), [(loses_role, "account:changed"), (is_disabled, "account:disabled")])
    def test_by_somebody_who_may_not_any_more(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        reading: Reading,
        champion: VersionRef,
        change: Callable[[Signoff, str], None],
        event: str,
    ) -> None:
        reading.meanwhile(lambda: change(signoff, "release_manager"))
        with refused_once(signoff, registry, "archival", event), pytest.raises(NotAllowed):
            releases.archive(signoff, champion, by="release_manager", reason="Retired.")
        assert "release_manager" not in roles_named(signoff)


class TestConfirm:
    @pytest.fixture
    def asked(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> int:
        """The number of a request for version 2, which is too weak and was never submitted."""
        return ask_for_emergency(signoff, registry.add_version("m", {"val_auc": 0.85}))

    def _confirm(self, signoff: Signoff, number: int) -> None:
        break_glass.confirm(signoff, number, by="release_manager", comment="Agreed.")

    @pytest.mark.parametrize("who", ["release_manager", "break_glass"])
    @pytest.mark.parametrize(("change", "event"), [(loses_role, "account:changed"), (is_disabled, "account:disabled")])
    def test_by_or_after_somebody_who_may_not_any_more(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        reading: Reading,
        asked: int,
        who: str,
        change: Callable[[Signoff, str], None],
        event: str,
    ) -> None:
        reading.meanwhile(lambda: change(signoff, who))
        with refused_once(signoff, registry, "emergency", event), pytest.raises(Refused):
            self._confirm(signoff, asked)
        assert who == "break_glass" or "release_manager" not in roles_named(signoff)

    def test_past_a_finding_that_was_raised_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, asked: int
    ) -> None:
        ref = VersionRef(name="m", version=2)
        reviews.submit(signoff, ref, by="scientist", comment="Please.")

        def raised() -> None:
            reviews.request_changes(signoff, ref, by="reviewer", comment="No.", findings=[BLOCKING])

        reading.meanwhile(raised)
        with (
            refused_once(signoff, registry, "emergency", "changes:requested"),
            pytest.raises(GateRefused, match="patients' names"),
        ):
            self._confirm(signoff, asked)

    def test_of_a_request_that_was_withdrawn_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, asked: int
    ) -> None:
        def withdrawn() -> None:  # no verb can while the slot is held: the next test shows it
            with signoff.database.writing() as connection:
                connection.execute(emergencies.update().values(state=WITHDRAWN))

        reading.meanwhile(withdrawn)
        with refused_once(signoff, registry, "emergency"), pytest.raises(Refused, match="was withdrawn"):
            self._confirm(signoff, asked)

    def test_goes_on_while_who_asked_cannot_withdraw(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, asked: int
    ) -> None:
        def too_late() -> None:
            with pytest.raises(PromotionConflict, match="release_manager acted first"):
                withdraw(signoff, asked, by="break_glass", comment="No, wait.", source=Source.BROWSER)

        reading.meanwhile(too_late)
        self._confirm(signoff, asked)
        assert registry.model("m").aliases["champion"] == 2


class TestAsk:
    def test_by_somebody_who_may_not_any_more(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        weak = registry.add_version("m", {"val_auc": 0.85})
        Reading(registry, "files", "files").meanwhile(lambda: loses_role(signoff, "break_glass"))
        with refused_once(signoff, registry, "emergency", "account:changed"), pytest.raises(NotAllowed):
            ask_for_emergency(signoff, weak)
        assert roles_named(signoff) == ["viewer"]


class TestReview:
    def test_submitting_by_somebody_who_may_not_any_more(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reading.meanwhile(lambda: is_disabled(signoff, "scientist"))
        with refused_once(signoff, registry, "submission", "account:disabled"), pytest.raises(NotAllowed):
            reviews.submit(signoff, ref, by="scientist", comment="Please.")

    def test_approving_by_somebody_who_may_not_any_more(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        Reading(registry, "files", "files").meanwhile(lambda: loses_role(signoff, "reviewer"))
        with refused_once(signoff, registry, "approval", "account:changed"), pytest.raises(NotAllowed):
            reviews.approve(signoff, ref, by="reviewer", comment="Good.")
        assert roles_named(signoff) == ["viewer"]

    @pytest.mark.parametrize(
        ("verb", "by", "subject"),
        [(reviews.reject, "reviewer", "rejection"), (reviews.withdraw, "scientist", "withdrawal")],
    )
    def test_ending_by_somebody_who_may_not_any_more(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        reading: Reading,
        ready: VersionRef,
        verb: Callable[..., object],
        by: str,
        subject: str,
    ) -> None:
        reading.meanwhile(lambda: loses_role(signoff, by))
        with refused_once(signoff, registry, subject, "account:changed"), pytest.raises(NotAllowed):
            verb(signoff, ready, by=by, comment="Ended.")
        assert roles_named(signoff) == ["viewer"]

    def test_submitting_again_what_was_approved_after_all_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        reviews.request_changes(signoff, ready, by="reviewer", comment="Hm.")
        at_the_last(registry).meanwhile(lambda: reviews.approve(signoff, ready, by="reviewer", comment="After all."))
        with (
            refused_once(signoff, registry, "submission", "approval:given"),
            pytest.raises(PromotionConflict, match="acted on the submission of m/v2 first"),
        ):
            reviews.submit(signoff, ready, by="scientist", comment="Done.")


class TestAutomation:
    def test_of_a_service_that_was_disabled_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, reading: Reading, ready: VersionRef
    ) -> None:
        people.add_automation(signoff.database, username="ci", name="CI", roles=[Role.RELEASE_MANAGER])
        reading.meanwhile(lambda: is_disabled(signoff, "ci"))
        with refused_once(signoff, registry, "promotion", "account:disabled"), pytest.raises(NotAllowed):
            automation.auto(signoff, ready, by="ci", comment="Nightly.", source=Source.REST)


class TestRedress:
    @pytest.fixture
    def moved(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> int:
        """The number of a deviation: somebody archived the champion past Signoff."""
        reconciler.reconcile(signoff)
        registry.set_stage(champion, "Archived")
        reconciler.reconcile(signoff)
        return next(found.id for found in open_deviations(signoff) if found.what == "stage")

    @pytest.mark.parametrize(("verb", "subject"), [(reconciler.restore, "restoration"), (reconciler.adopt, "adoption")])
    def test_by_somebody_who_may_not_any_more(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        moved: int,
        verb: Callable[..., object],
        subject: str,
    ) -> None:
        Reading(registry, "versions").meanwhile(lambda: loses_role(signoff, "release_manager"))
        with refused_once(signoff, registry, subject, "account:changed"), pytest.raises(NotAllowed):
            verb(signoff, moved, by="release_manager", reason="As it was.")
        assert roles_named(signoff) == ["viewer"]
        assert [found.id for found in open_deviations(signoff) if found.what == "stage"] == [moved]
