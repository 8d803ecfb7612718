"""Promotion, rollback and archiving, on the in-memory registry: the seven steps and what can go wrong in each."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from services import caretaker
from services.accounts import people
from services.accounts.permissions import ROLES_FOR
from services.checks.bound import bound
from services.domain import Action, Role, VersionRef
from services.errors import (
    BadInput,
    LedgerUnavailable,
    NotAllowed,
    OutcomeUnknown,
    PromotionConflict,
    Refused,
    RegistryUnavailable,
    SignoffError,
    StaleDecision,
)
from services.facts import shown
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.settings import PROJECT
from services.signoff import Signoff
from services.steps import slots
from services.tables import slots as slots_table
from tests.conftest import BOTH, Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record, refusals_counted
from tests.test_policy import GOOD
from tests.verbs import reconciler, releases, reviews

DATABASES = BOTH


def approve(signoff: Signoff, ref: VersionRef) -> VersionRef:
    reviews.submit(signoff, ref, by="scientist", comment="Please review.")
    reviews.approve(signoff, ref, by="reviewer", comment="Looks right.")
    return ref


def release(signoff: Signoff, ref: VersionRef) -> VersionRef:
    releases.promote(signoff, approve(signoff, ref), by="release_manager", reason="First release.")
    return ref


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 1, in Production."""
    return release(signoff, registry.add_version("m", {"val_auc": 0.92}))


@pytest.fixture
def ready(signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> VersionRef:
    """Version 2, approved; the registry's list of writes starts empty."""
    ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
    registry.writes.clear()
    return ref


def stages(registry: FakeRegistry) -> list[str]:
    return [version.stage for version in registry.versions("m")]


def slot_is_free(signoff: Signoff) -> bool:
    with signoff.database.reading() as connection:
        return connection.execute(sa.select(slots_table.c.holder).where(slots_table.c.model == "m")).scalar() is None


class TestPromote:
    def test_moves_stage_and_alias_archives_the_old_champion_and_tells_why(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        outcome = releases.promote(signoff, ready, by="release_manager", reason="Fewer misses.")
        assert stages(registry) == ["Archived", "Production"]
        assert registry.model("m").aliases == {"champion": 2}
        tags = registry.version(ready).tags
        assert (tags["promoted_by"], tags["reason"]) == ("release_manager", "Fewer misses.")
        event = record(signoff)[-1]
        assert outcome.event == event
        assert event.kind.value == "promotion:confirmed"
        assert event.get("before")["stages"] == {"1": "Production", "2": "Staging"}
        assert event.get("after") == {
            "stages": {"1": "Archived", "2": "Production"},
            "aliases": {"champion": 2, "challenger": None},
        }
        assert event.get("approvals")[0]["person"] == "reviewer"
        assert releases.previous_champion(signoff, "m") == 1
        assert slot_is_free(signoff)

    def test_of_the_champion_changes_nothing(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        registry.writes.clear()
        before = kinds(signoff)
        assert releases.promote(signoff, champion, by="release_manager", reason="Again.").event is None
        assert registry.writes == []
        assert kinds(signoff) == before

    def test_of_what_became_champion_past_signoff_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        reconciler.reconcile(signoff)
        other = registry.add_version("m", {"val_auc": 0.1})
        registry.set_stage(other, "Production", archive_existing=True)
        registry.set_alias(other, "champion")
        registry.writes.clear()
        before = kinds(signoff)
        with pytest.raises(Refused, match="In MLflow v2 is the champion of m, and by the record it is v1"):
            releases.promote(signoff, other, by="release_manager", reason="Now.")
        assert registry.writes == []
        assert kinds(signoff) == [*before, "promotion:refused"]

    def test_unapproved_is_refused_with_every_failed_check_and_one_event(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.5})
        registry.writes.clear()
        before, tags = kinds(signoff), dict(registry.version(ref).tags)
        with pytest.raises(GateRefused) as refusal:
            releases.promote(signoff, ref, by="release_manager", reason="Hurry.")
        failed = {check.id for check in refusal.value.verdict.failed}
        assert failed == {"metric:val_auc", "champion:val_auc:absolute", "submitted", "approvals"}
        assert kinds(signoff) == [*before, "promotion:refused"]
        assert {check["id"] for check in record(signoff)[-1].failed_checks} == failed
        assert registry.writes == []
        assert registry.version(ref).tags == tags
        assert slot_is_free(signoff)

    def test_changed_files_void_the_approval(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
        registry.write_file(ready, "model.skops", b"something else")
        with pytest.raises(GateRefused, match="void because the model's files changed"):
            releases.promote(signoff, ready, by="release_manager", reason="x")
        assert stages(registry) == ["Production", "Staging"]

    def test_a_new_champion_voids_the_approval(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        other = registry.add_version("m", {"val_auc": 0.94})
        release(signoff, other)
        with pytest.raises(GateRefused, match="champion it is compared with changed"):
            releases.promote(signoff, ready, by="release_manager", reason="x")
        assert registry.version(ready).tags["approval_status"] == "pending"

    def test_of_something_else_than_was_on_screen_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        policy, seen = shown(signoff, ready)
        registry.write_file(ready, "model.skops", b"something else")
        with pytest.raises(StaleDecision):
            releases.promote(signoff, ready, by="release_manager", reason="x", seen=bound(policy, seen))
        assert registry.writes == []

    def test_without_a_reason_is_bad_input(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
        with pytest.raises(BadInput, match="reason is needed"):
            releases.promote(signoff, ready, by="release_manager", reason=" ")
        assert registry.writes == []

    @pytest.mark.parametrize("role", [role for role in Role if role not in ROLES_FOR[Action.PROMOTE]])
    def test_by_another_role_is_refused_with_one_event(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, role: Role
    ) -> None:
        before = kinds(signoff)
        with pytest.raises(NotAllowed, match="Only a release manager"):
            releases.promote(signoff, ready, by=role.value, reason="x")
        assert kinds(signoff) == [*before, "promotion:refused"]
        assert registry.writes == []

    def test_a_reused_version_number_inherits_no_approval(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        del registry._versions[ready], registry._files[ready]
        again = registry.add_version("m", {"val_auc": 0.95})
        assert again == ready
        with pytest.raises(GateRefused, match="not submitted"):
            releases.promote(signoff, again, by="release_manager", reason="x")


class TestConflict:
    @pytest.mark.postgresql
    def test_of_simultaneous_promotions_one_wins_and_the_others_leave_only_their_refusal(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        rival = approve(signoff, registry.add_version("m", {"val_auc": 0.96}))
        before = len(kinds(signoff))
        start, answers = threading.Barrier(4), []
        registry.after_write = lambda _: threading.Event().wait(0.05)

        def click(ref: VersionRef) -> None:
            start.wait()
            try:
                releases.promote(signoff, ref, by="release_manager", reason="Now.")
                answers.append("done")
            except SignoffError as error:
                answers.append(type(error).__name__)

        threads = [threading.Thread(target=click, args=(ref,)) for ref in (ready, rival, ready, rival)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stages(registry).count("Production") == 1
        assert registry.model("m").aliases["champion"] == 1 + stages(registry).index("Production")
        new = kinds(signoff)[before:]
        assert new.count("promotion:confirmed") == 1
        lost = [answer for answer in answers if answer != "done"]
        assert refusals_counted(signoff) == len(lost)  # the same refusal of the same version twice is one event
        assert 1 <= new.count("promotion:refused") <= len(lost)
        assert slot_is_free(signoff)

    def test_the_message_names_the_first(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
        slots.take(signoff.database, "m", holder="mira", purpose="the promotion of v9")
        with pytest.raises(PromotionConflict, match="mira acted first: the promotion of v9 is under way"):
            releases.promote(signoff, ready, by="release_manager", reason="x")
        assert kinds(signoff)[-1] == "promotion:refused"
        assert registry.writes == []

    @pytest.mark.postgresql
    def test_only_an_expired_lease_is_taken_over_and_the_old_token_is_worthless(self, signoff: Signoff) -> None:
        old = slots.take(signoff.database, "m", holder="a", purpose="x", seconds=-1)
        new = slots.take(signoff.database, "m", holder="b", purpose="y")
        assert new.token > old.token
        for act in (slots.require, slots.renew):
            with signoff.database.writing() as connection, pytest.raises(PromotionConflict):
                act(connection, old)
        with signoff.database.writing() as connection:
            slots.release(connection, old)
        with pytest.raises(PromotionConflict, match="b acted first"):
            slots.take(signoff.database, "m", holder="c", purpose="z")


class Crash(BaseException):
    """Stands for a process that ends here: no handler of ours may catch it."""


def crash_at(step: str) -> Callable[[str], None]:
    def hook(what: str) -> None:
        if what.startswith(step):
            raise Crash

    return hook


def lease_runs_out(signoff: Signoff) -> None:
    with signoff.database.writing() as connection:
        connection.execute(slots_table.update().values(expires_at=0.0))


class TestWhenThingsBreak:
    @pytest.mark.parametrize(
        ("hook", "step", "ends"),
        [
            ("before_write", "stage", "promotion:aborted"),
            ("after_write", "stage", "promotion:confirmed"),
            ("before_write", "alias", "promotion:confirmed"),
            ("after_write", "alias", "promotion:confirmed"),
            ("before_write", "no alias", "promotion:confirmed"),
        ],
    )
    def test_a_crash_at_any_step_is_closed_truthfully_by_whoever_comes_next(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        ready: VersionRef,
        monkeypatch: pytest.MonkeyPatch,
        hook: str,
        step: str,
        ends: str,
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("services.verbs.common._give_back", lambda *_: None)  # a dead process gives nothing back
            setattr(registry, hook, crash_at(step))
            with pytest.raises(Crash):
                releases.promote(signoff, ready, by="release_manager", reason="x")
        registry.before_write = registry.after_write = lambda _: None
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == "promotion:intended", "the lease is still alive: nobody may touch it"
        lease_runs_out(signoff)
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == ends
        confirmed = ends == "promotion:confirmed"
        assert stages(registry) == (["Archived", "Production"] if confirmed else ["Production", "Staging"])
        assert registry.model("m").aliases["champion"] == (2 if confirmed else 1)
        assert (releases.releases(signoff, "m")[0].ref == ready) is confirmed
        assert slot_is_free(signoff)
        assert record(signoff)[-1].actor == "release_manager"
        assert record(signoff)[-1].get("recovered_by") == "signoff"

    def test_a_lost_answer_keeps_the_slot_until_it_is_known_what_became_of_it(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        def lost(what: str) -> None:
            if what.startswith("stage"):
                raise RegistryUnavailable("no answer")

        registry.before_write = lost
        with pytest.raises(OutcomeUnknown):
            releases.promote(signoff, ready, by="release_manager", reason="x")
        assert kinds(signoff)[-1] == "promotion:unknown"
        with pytest.raises(PromotionConflict):
            releases.promote(signoff, ready, by="release_manager", reason="x")
        registry.before_write = lambda _: None
        registry.set_stage(ready, "Production", archive_existing=True)  # the late apply
        lease_runs_out(signoff)
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == "promotion:confirmed"
        assert registry.model("m").aliases["champion"] == 2

    def test_bytes_that_change_during_the_promotion_are_put_back_and_recorded(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        def swap(what: str) -> None:
            if what.startswith("stage"):
                registry.write_file(ready, "model.skops", b"swapped")
                registry.after_write = lambda _: None

        registry.after_write = swap
        with pytest.raises(RegistryUnavailable, match="not changed as prescribed"):
            releases.promote(signoff, ready, by="release_manager", reason="x")
        assert stages(registry) == ["Production", "Staging"]
        assert registry.model("m").aliases["champion"] == 1
        assert "files changed" in record(signoff)[-1].get("why")
        assert kinds(signoff)[-1] == "promotion:aborted"

    @pytest.mark.postgresql
    def test_without_the_ledger_there_is_no_effect(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        with signoff.database.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE intents RENAME TO gone")
        with pytest.raises(LedgerUnavailable, match="nothing was changed"):
            releases.promote(signoff, ready, by="release_manager", reason="x")
        assert registry.writes == []
        assert stages(registry) == ["Production", "Staging"]

    def test_the_mirror_waits_when_mlflow_goes_away_after_the_change(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        def no_tags(what: str) -> None:
            if what.startswith("tag"):
                raise RegistryUnavailable("away")

        registry.before_write = no_tags
        releases.promote(signoff, ready, by="release_manager", reason="x")
        assert "promoted_by" not in registry.version(ready).tags
        registry.before_write = lambda _: None
        caretaker.tidy(signoff)
        assert registry.version(ready).tags["promoted_by"] == "release_manager"


class TestRollback:
    def test_returns_to_the_champion_before_and_records_the_waiver(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        releases.promote(signoff, ready, by="release_manager", reason="Better.")
        assert [way.target.version for way in releases.ways_back(signoff)] == [1]
        releases.rollback(signoff, "m", by="release_manager", reason="Latency doubled.")
        assert stages(registry) == ["Production", "Archived"]
        assert registry.model("m").aliases == {"champion": 1}
        intended = next(event for event in reversed(record(signoff)) if event.kind.value == "rollback:intended")
        assert "waived" in {check["value"] for check in intended.body["checks"]}

    def test_asks_not_again_for_papers_nor_how_old_the_evidence_is(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock
    ) -> None:
        asked = "required_tags: [owner]\nrequired_artifacts: ['*card.md']\nmax_evidence_age_days: 330\n"
        policy = parse(GOOD.replace("name: tested", "name: default") + asked, "p.yaml")
        signoff = replace(signoff, policies=PolicyBook(policies=(policy,)))
        first, second = (registry.add_version("m", {"val_auc": value}) for value in (0.92, 0.95))
        for ref in (first, second):
            registry.tag(ref, "owner", "cardiology")
            registry.log_file(ref, "card.md", b"For adults.")
            release(signoff, ref)
        registry.tag(first, "owner", "")
        registry._run_files.pop(str(registry.version(first).run_id))
        clock.now += timedelta(days=60)
        releases.rollback(signoff, "m", by="release_manager", reason="Latency doubled.")
        assert stages(registry) == ["Production", "Archived"]

    def test_refuses_changed_files(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
        releases.promote(signoff, ready, by="release_manager", reason="Better.")
        registry.write_file(VersionRef(name="m", version=1), "model.skops", b"other")
        with pytest.raises(GateRefused, match="not those of its earlier promotion"):
            releases.rollback(signoff, "m", by="release_manager", reason="x")
        assert stages(registry) == ["Archived", "Production"]

    def test_refuses_a_version_that_never_was_champion(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        with pytest.raises(GateRefused):
            releases.rollback(signoff, "m", version=2, by="release_manager", reason="x")
        with pytest.raises(Refused, match="no earlier champion"):
            releases.rollback(signoff, "m", by="release_manager", reason="x")
        assert stages(registry) == ["Production", "Staging"]


class TestArchive:
    def test_of_the_champion_leaves_nothing_in_production(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        releases.archive(signoff, champion, by="release_manager", reason="Retired.")
        assert stages(registry) == ["Archived"]
        assert registry.model("m").aliases == {}
        assert kinds(signoff)[-1] == "archival:confirmed"

    def test_twice_is_once(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        releases.archive(signoff, champion, by="release_manager", reason="Retired.")
        assert releases.archive(signoff, champion, by="release_manager", reason="Retired.").event is None

    @pytest.mark.postgresql
    def test_a_role_taken_away_bites_at_once(self, signoff: Signoff, champion: VersionRef) -> None:
        people.set_roles(signoff.database, "release_manager", [Role.VIEWER])
        with pytest.raises(NotAllowed):
            releases.archive(signoff, champion, by="release_manager", reason="x")


class TestExpiry:
    @pytest.fixture(autouse=True)
    def _a_policy_whose_approvals_last_a_day(self, signoff: Signoff) -> None:
        text = (PROJECT / "policies" / "default.yaml").read_text() + "approvals_expire_after_days: 1\n"
        object.__setattr__(signoff, "policies", PolicyBook(policies=(parse(text, "default.yaml"),)))

    @pytest.mark.postgresql
    def test_an_old_approval_is_marked_shown_and_refused(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock
    ) -> None:
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        clock.now += timedelta(days=2)
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == "approval:expired"
        assert registry.version(ref).tags["approval_status"] == "expired"
        caretaker.tidy(signoff)
        assert kinds(signoff).count("approval:expired") == 1
        with pytest.raises(GateRefused, match=r"expired after 1 day\b"):
            releases.promote(signoff, ref, by="release_manager", reason="x")

    def test_a_clock_set_back_does_not_bring_it_back_but_a_new_approval_counts(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock
    ) -> None:
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        clock.now += timedelta(days=2)
        with pytest.raises(GateRefused):
            releases.promote(signoff, ref, by="release_manager", reason="x")
        clock.now -= timedelta(days=2)
        with pytest.raises(GateRefused):
            releases.promote(signoff, ref, by="release_manager", reason="x")
        reviews.approve(signoff, ref, by="reviewer", comment="Still right.")
        releases.promote(signoff, ref, by="release_manager", reason="x")
        assert kinds(signoff)[-1] == "promotion:confirmed"
