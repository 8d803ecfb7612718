"""Emergencies: one asks, another confirms, a third reviews; what is waived is recorded, what is not still refuses."""

from __future__ import annotations

import threading
from dataclasses import replace

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
    NotFound,
    OutcomeUnknown,
    PromotionConflict,
    Refused,
    RegistryUnavailable,
    StaleDecision,
)
from services.evidence import FindingDraft, Severity
from services.facts import shown
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.record import agreed
from services.record.deviations import open_deviations
from services.side_by_side.lineage import shown as lineage
from services.signoff import Signoff
from services.steps import slots
from services.tables import emergencies as table
from services.verbs import emergencies
from services.verbs.emergencies import Emergency, open_emergencies
from services.views import history, production
from tests.conftest import BOTH
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.rest import Rest
from tests.test_releases import Crash, approve, crash_at, lease_runs_out, release, slot_is_free, stages
from tests.test_same_bytes import copy
from tests.verbs import break_glass, reconciler, releases, reviews

DATABASES = BOTH
WHY = "The champion answers nonsense since noon."


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 1, in Production."""
    return release(signoff, registry.add_version("m", {"val_auc": 0.92}))


@pytest.fixture
def weak(signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> VersionRef:
    """Version 2: too weak, never submitted; the registry's list of writes starts empty."""
    ref = registry.add_version("m", {"val_auc": 0.85})
    registry.writes.clear()
    return ref


@pytest.fixture
def asked(signoff: Signoff, weak: VersionRef) -> Emergency:
    """An emergency for version 2, asked for by ``break_glass``."""
    return ask(signoff, weak)


def ask(signoff: Signoff, ref: VersionRef, by: str = "break_glass") -> Emergency:
    event = break_glass.ask(signoff, ref, by=by, reason=WHY).event
    assert event
    return look(signoff, event.seq)


def confirm(signoff: Signoff, asked: Emergency, by: str = "release_manager") -> Emergency:
    assert break_glass.confirm(signoff, asked.seq, by=by, comment="Agreed.").event
    return look(signoff, asked.seq)


def look(signoff: Signoff, seq: int) -> Emergency:
    with signoff.database.reading() as connection:
        return emergencies.emergency(connection, seq)


def add_person(signoff: Signoff, username: str, *roles: Role) -> str:
    people.add_account(signoff.database, username=username, name=username, hashed="!", roles=roles)
    return username


def runs_out(signoff: Signoff) -> None:
    with signoff.database.writing() as connection:
        connection.execute(table.update().values(expires_at=0.0))


def use_policy(signoff: Signoff, old: str, new: str) -> None:
    policies = tuple(parse(p.text.replace(old, new), p.file) for p in signoff.policies.policies)
    object.__setattr__(signoff, "policies", PolicyBook(policies=policies))


class TestAsk:
    def test_is_recorded_with_what_it_would_go_past_and_changes_nothing_else(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef
    ) -> None:
        outcome = break_glass.ask(signoff, weak, by="break_glass", reason=WHY)
        event = record(signoff)[-1]
        assert event == outcome.event
        assert event.kind.value == "emergency:requested"
        assert event.comment == WHY
        waived = {check.id for check in event.verdict.waived}
        assert waived == {"metric:val_auc", "champion:val_auc:absolute", "submitted", "approvals"}
        assert event.verdict.failed == ()
        assert registry.writes == []
        (emergency,) = open_emergencies(signoff)
        assert (emergency.ref, emergency.asked_by, emergency.waits) == (weak, "break_glass", True)
        assert slot_is_free(signoff)

    @pytest.mark.parametrize("role", [role for role in Role if role not in ROLES_FOR[Action.BREAK_GLASS]])
    def test_by_another_role_is_refused_with_one_event(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef, role: Role
    ) -> None:
        before = kinds(signoff)
        with pytest.raises(NotAllowed, match="Only a break-glass holder may break glass"):
            break_glass.ask(signoff, weak, by=role.value, reason=WHY)
        assert kinds(signoff) == [*before, "emergency:refused"]
        assert open_emergencies(signoff) == []
        assert registry.writes == []

    def test_where_the_policy_knows_none_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef
    ) -> None:
        use_policy(signoff, "break_glass: true", "break_glass: false")
        before = kinds(signoff)
        with pytest.raises(GateRefused, match="does not allow breaking the glass"):
            break_glass.ask(signoff, weak, by="break_glass", reason=WHY)
        assert kinds(signoff) == [*before, "emergency:refused"]
        assert open_emergencies(signoff) == []

    def test_a_policy_that_does_not_say_allows_none(self, signoff: Signoff, weak: VersionRef) -> None:
        use_policy(signoff, "break_glass: true", "")
        with pytest.raises(GateRefused):
            break_glass.ask(signoff, weak, by="break_glass", reason=WHY)

    def test_for_a_version_whose_run_is_gone_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef
    ) -> None:
        registry.drop_run(weak)
        with pytest.raises(GateRefused, match="not complete"):
            break_glass.ask(signoff, weak, by="break_glass", reason=WHY)
        assert open_emergencies(signoff) == []

    def test_past_an_open_blocking_finding_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef
    ) -> None:
        reviews.submit(signoff, weak, by="scientist", comment="x")
        draft = FindingDraft(text="It answers with patients' names.", severity=Severity.BLOCKING)
        reviews.request_changes(signoff, weak, by="reviewer", comment="No.", findings=[draft])
        with pytest.raises(GateRefused, match="patients' names") as refusal:
            break_glass.ask(signoff, weak, by="break_glass", reason=WHY)
        assert [check.id for check in refusal.value.verdict.failed] == ["findings"]
        assert open_emergencies(signoff) == []

    def test_twice_is_one_request(self, signoff: Signoff, weak: VersionRef, asked: Emergency) -> None:
        add_person(signoff, "another", Role.BREAK_GLASS)
        before = kinds(signoff)
        for by in ("break_glass", "another"):
            assert break_glass.ask(signoff, weak, by=by, reason=WHY).event is None
        assert kinds(signoff) == before
        assert open_emergencies(signoff) == [asked]

    @pytest.mark.parametrize("why", ["ran out", "changed"])
    def test_anew_replaces_what_can_no_longer_be_confirmed(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef, monkeypatch: pytest.MonkeyPatch, why: str
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("services.verbs.break_glass.LIFETIME_SECONDS", -1.0 if why == "ran out" else 60.0)
            asked = ask(signoff, weak)
        if why == "changed":
            registry.write_file(weak, "model.skops", b"mended")
        again = ask(signoff, weak)
        assert [one.seq for one in open_emergencies(signoff)] == [again.seq]
        with pytest.raises(Refused, match="was replaced"):
            break_glass.confirm(signoff, asked.seq, by="release_manager", comment="x")
        confirm(signoff, again)

    def test_for_the_champion_changes_nothing(self, signoff: Signoff, champion: VersionRef) -> None:
        before = kinds(signoff)
        assert break_glass.ask(signoff, champion, by="break_glass", reason=WHY).event is None
        assert kinds(signoff) == before

    def test_of_something_else_than_was_on_screen_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef
    ) -> None:
        policy, seen = shown(signoff, weak)
        registry.write_file(weak, "model.skops", b"something else")
        with pytest.raises(StaleDecision):
            break_glass.ask(signoff, weak, by="break_glass", reason=WHY, seen=bound(policy, seen))
        assert open_emergencies(signoff) == []

    def test_needs_a_reason(self, signoff: Signoff, weak: VersionRef) -> None:
        with pytest.raises(BadInput, match="reason is needed"):
            break_glass.ask(signoff, weak, by="break_glass", reason="  ")


class TestConfirm:
    def test_promotes_at_once_and_records_what_was_overridden(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef, asked: Emergency
    ) -> None:
        outcome = break_glass.confirm(signoff, asked.seq, by="release_manager", comment="I looked too.")
        assert stages(registry) == ["Archived", "Production"]
        assert registry.model("m").aliases == {"champion": 2}
        event = record(signoff)[-1]
        assert event == outcome.event
        assert (event.kind.value, event.actor, event.comment) == (
            "emergency:confirmed",
            "release_manager",
            "I looked too.",
        )
        assert event.get("emergency")["asked_by"] == "break_glass"
        assert event.get("emergency")["request"] == asked.seq
        overridden = {check.id: check for check in event.verdict.waived}
        assert overridden["metric:val_auc"].value == "0.85"
        assert not overridden["metric:val_auc"].passed
        assert "0.85; ≥ 0.9 is needed" in overridden["metric:val_auc"].reason
        passed = {check.id for check in event.verdict.checks if check.passed}
        assert {"intact", "break_glass", "asked_by", "second_person", "as_asked"} <= passed
        assert slot_is_free(signoff)
        assert kinds(signoff)[-2:] == ["emergency:intended", "emergency:confirmed"]

    def test_no_tag_claims_an_approval_nobody_gave(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef
    ) -> None:
        reviews.submit(signoff, weak, by="scientist", comment="Please look.")
        assert registry.version(weak).tags["approval_status"] == "pending"
        confirm(signoff, ask(signoff, weak))
        tags = registry.version(weak).tags
        assert not {"approval_status", "approved_by", "approval_comment", "approved_at"} & tags.keys()
        assert tags["promoted_by"] == "release_manager"
        assert tags["reason"] == f"Emergency: {WHY}"
        assert tags["signoff.event"].startswith(f"{record(signoff)[-1].seq}:")

    def test_an_approval_for_other_bytes_is_not_named_as_one(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        registry.write_file(ref, "model.skops", b"something else")
        confirm(signoff, ask(signoff, ref))
        assert "approval_status" not in registry.version(ref).tags
        assert "approved_by" not in registry.version(ref).tags
        assert record(signoff)[-1].get("approvals") == []
        (held,) = production.production_at(signoff, signoff.now(), "m")
        assert (held.version, held.approved_by, held.action) == (ref.version, (), "emergency")

    def test_of_an_approved_version_keeps_the_approval(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        emergency = confirm(signoff, ask(signoff, ref))
        assert registry.version(ref).tags["approval_status"] == "approved"
        assert emergency.waived == ()

    @pytest.mark.postgresql
    def test_is_told_as_an_emergency_with_the_checks_that_it_went_past(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        """One reviewer approved it, although a check failed: that approval does not say that it passed."""
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.5}))
        confirm(signoff, ask(signoff, ref))
        told = Rest(signoff).get("/models/m/production", "viewer").json()
        assert (told["version"], told["released_as"], told["approved_by"]) == (ref.version, "emergency", ["reviewer"])
        assert {check["id"] for check in told["waived"]} == {"metric:val_auc", "champion:val_auc:absolute"}
        assert all(check["reason"] for check in told["waived"])

    def test_names_no_approval_of_a_person_who_is_barred_since(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="x")
        reviews.approve(signoff, ref, by="both", comment="x")
        reviews.submit(signoff, copy(registry, ref, "twin"), by="both", comment="Mine.")
        confirm(signoff, ask(signoff, ref))
        assert record(signoff)[-1].get("approvals") == []
        (held,) = production.production_at(signoff, signoff.now(), "m")
        assert held.approved_by == ()

    def test_by_a_second_break_glass_holder_counts(self, signoff: Signoff, asked: Emergency) -> None:
        add_person(signoff, "another", Role.BREAK_GLASS)
        assert confirm(signoff, asked, by="another").unreviewed

    def test_by_whoever_asked_is_refused(self, signoff: Signoff, registry: FakeRegistry, asked: Emergency) -> None:
        people.set_roles(signoff.database, "break_glass", [Role.BREAK_GLASS, Role.RELEASE_MANAGER])
        before = kinds(signoff)
        with pytest.raises(GateRefused, match="another person must confirm") as refusal:
            break_glass.confirm(signoff, asked.seq, by="break_glass", comment="I am sure.")
        assert [check.id for check in refusal.value.verdict.failed] == ["second_person"]
        assert kinds(signoff) == [*before, "emergency:refused"]
        assert registry.writes == []
        assert look(signoff, asked.seq).waits

    @pytest.mark.parametrize("how", ["author", "submitter"])
    def test_by_its_author_or_submitter_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef, how: str
    ) -> None:
        if how == "author":
            own = registry.version(weak).user or shown(signoff, weak)[1].candidate.claimed_author or ""
            add_person(signoff, own, Role.RELEASE_MANAGER) if own != "scientist" else people.set_roles(
                signoff.database, own, [Role.RELEASE_MANAGER]
            )
        else:
            own = "release_manager"
            reviews.submit(signoff, weak, by=own, comment="x")
        emergency = ask(signoff, weak)
        registry.writes.clear()
        with pytest.raises(GateRefused, match="another person must confirm the emergency of m/v2"):
            break_glass.confirm(signoff, emergency.seq, by=own, comment="x")
        assert registry.writes == []

    @pytest.mark.parametrize("role", [role for role in Role if role not in ROLES_FOR[Action.CONFIRM_EMERGENCY]])
    def test_by_another_role_is_refused_with_one_event(
        self, signoff: Signoff, registry: FakeRegistry, asked: Emergency, role: Role
    ) -> None:
        before = kinds(signoff)
        with pytest.raises(NotAllowed, match="Only a break-glass holder or release manager"):
            break_glass.confirm(signoff, asked.seq, by=role.value, comment="x")
        assert kinds(signoff) == [*before, "emergency:refused"]
        assert registry.writes == []

    def test_is_refused_once_whoever_asked_has_lost_the_role(
        self, signoff: Signoff, registry: FakeRegistry, asked: Emergency
    ) -> None:
        people.set_roles(signoff.database, "break_glass", [Role.VIEWER])
        with pytest.raises(GateRefused, match="break_glass may not break the glass"):
            break_glass.confirm(signoff, asked.seq, by="release_manager", comment="x")
        assert registry.writes == []

    @pytest.mark.parametrize("what", ["files", "metrics", "champion", "policy"])
    def test_of_something_else_than_was_asked_for_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef, asked: Emergency, what: str
    ) -> None:
        match what:
            case "files":
                registry.write_file(weak, "model.skops", b"something else")
            case "metrics":
                run = registry._runs[registry.version(weak).run_id or ""]
                metrics = {"val_auc": replace(run.metrics["val_auc"], value=0.99)}
                registry._runs[run.run_id] = replace(run, metrics=metrics)
            case "champion":
                release(signoff, registry.add_version("m", {"val_auc": 0.93}))
            case "policy":
                use_policy(signoff, "threshold: 0.90", "threshold: 0.10")
        before, writes = kinds(signoff), list(registry.writes)
        with pytest.raises(GateRefused, match="it must be asked for anew") as refusal:
            break_glass.confirm(signoff, asked.seq, by="release_manager", comment="x")
        assert "as_asked" in {check.id for check in refusal.value.verdict.failed}
        assert kinds(signoff) == [*before, "emergency:refused"]
        assert registry.writes == writes
        assert stages(registry)[1] == "None"

    @pytest.mark.postgresql
    def test_after_it_ran_out_is_refused(self, signoff: Signoff, registry: FakeRegistry, asked: Emergency) -> None:
        runs_out(signoff)
        with pytest.raises(Refused, match="ran out 60 minutes after"):
            break_glass.confirm(signoff, asked.seq, by="release_manager", comment="x")
        assert kinds(signoff)[-1] == "emergency:refused"
        assert open_emergencies(signoff) == []
        assert registry.writes == []

    def test_where_the_policy_stopped_knowing_them_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, asked: Emergency
    ) -> None:
        use_policy(signoff, "break_glass: true", "break_glass: false")
        with pytest.raises(GateRefused, match="does not allow breaking the glass"):
            break_glass.confirm(signoff, asked.seq, by="release_manager", comment="x")
        assert registry.writes == []

    def test_twice_is_one_promotion(self, signoff: Signoff, registry: FakeRegistry, asked: Emergency) -> None:
        confirm(signoff, asked)
        releases.rollback(signoff, "m", by="release_manager", reason="Worse still.")
        before, writes = kinds(signoff), list(registry.writes)
        again = break_glass.confirm(signoff, asked.seq, by="release_manager", comment="Once more.")
        assert again.event is None
        assert kinds(signoff) == before
        assert registry.writes == writes

    def test_while_somebody_else_changes_the_model_is_a_conflict(
        self, signoff: Signoff, registry: FakeRegistry, asked: Emergency
    ) -> None:
        slots.take(signoff.database, "m", holder="mira", purpose="the promotion of v9")
        with pytest.raises(PromotionConflict, match="mira acted first"):
            break_glass.confirm(signoff, asked.seq, by="release_manager", comment="x")
        assert registry.writes == []

    def test_without_words_is_bad_input(self, signoff: Signoff, asked: Emergency) -> None:
        with pytest.raises(BadInput):
            break_glass.confirm(signoff, asked.seq, by="release_manager", comment=" ")

    def test_of_a_record_that_asked_for_nothing_is_not_found(self, signoff: Signoff, asked: Emergency) -> None:
        with pytest.raises(NotFound):
            break_glass.confirm(signoff, asked.seq - 1, by="release_manager", comment="x")

    def test_asks_others_for_a_new_look(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, weak: VersionRef
    ) -> None:
        other = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        confirm(signoff, ask(signoff, weak))
        assert registry.version(other).tags["approval_status"] == "pending"


class TestWithdraw:
    def test_by_whoever_asked_ends_it(self, signoff: Signoff, registry: FakeRegistry, asked: Emergency) -> None:
        assert break_glass.withdraw(signoff, asked.seq, by="break_glass", comment="Found the cause.").event
        assert kinds(signoff)[-1] == "emergency:withdrawn"
        assert open_emergencies(signoff) == []
        with pytest.raises(Refused, match="was withdrawn"):
            break_glass.confirm(signoff, asked.seq, by="release_manager", comment="x")
        assert registry.writes == []

    def test_by_another_is_refused(self, signoff: Signoff, asked: Emergency) -> None:
        add_person(signoff, "another", Role.BREAK_GLASS)
        with pytest.raises(Refused, match="Only break_glass, who asked for it"):
            break_glass.withdraw(signoff, asked.seq, by="another", comment="x")
        assert look(signoff, asked.seq).waits

    def test_of_what_was_carried_out_is_refused(self, signoff: Signoff, asked: Emergency) -> None:
        confirm(signoff, asked)
        with pytest.raises(Refused, match="was released"):
            break_glass.withdraw(signoff, asked.seq, by="break_glass", comment="Too late.")
        assert look(signoff, asked.seq).unreviewed


class TestReview:
    @pytest.mark.parametrize("by", ["reviewer", "auditor"])
    @pytest.mark.parametrize("justified", [True, False])
    def test_by_a_third_person_silences_it(
        self, signoff: Signoff, registry: FakeRegistry, asked: Emergency, by: str, justified: bool
    ) -> None:
        confirm(signoff, asked)
        registry.writes.clear()
        calls = registry.calls
        assert break_glass.review(signoff, asked.seq, by=by, comment="I looked.", justified=justified).event
        event = record(signoff)[-1]
        assert event.kind.value == "emergency:reviewed"
        assert event.get("verdict") == ("justified" if justified else "not justified")
        assert open_emergencies(signoff) == []
        assert registry.writes == []
        assert registry.calls == calls, "a review needs nothing of MLflow"

    @pytest.mark.parametrize("by", ["break_glass", "release_manager", "author", "submitter"])
    def test_by_anybody_who_had_a_hand_in_it_is_refused(
        self, signoff: Signoff, weak: VersionRef, registry: FakeRegistry, by: str
    ) -> None:
        reviews.submit(signoff, weak, by="scientist", comment="x")
        author = shown(signoff, weak)[1].candidate.claimed_author or ""
        person = {"author": author, "submitter": "scientist"}.get(by, by)
        emergency = confirm(signoff, ask(signoff, weak))
        if person not in {name for name, *_ in people.DEMO_ACCOUNTS}:
            add_person(signoff, person, Role.REVIEWER)
        people.set_roles(signoff.database, person, [Role.REVIEWER, Role.AUDITOR])
        before = kinds(signoff)
        with pytest.raises(Refused, match="somebody else must review the emergency of m/v2"):
            break_glass.review(signoff, emergency.seq, by=person, comment="x", justified=True)
        assert kinds(signoff) == [*before, "emergency:refused"]
        assert look(signoff, emergency.seq).unreviewed

    @pytest.mark.parametrize("role", [role for role in Role if role not in ROLES_FOR[Action.REVIEW_EMERGENCY]])
    def test_by_another_role_is_refused(self, signoff: Signoff, asked: Emergency, role: Role) -> None:
        confirm(signoff, asked)
        with pytest.raises(NotAllowed, match="Only an auditor or reviewer"):
            break_glass.review(signoff, asked.seq, by=role.value, comment="x", justified=True)
        assert look(signoff, asked.seq).unreviewed

    def test_needs_words(self, signoff: Signoff, asked: Emergency) -> None:
        confirm(signoff, asked)
        with pytest.raises(BadInput):
            break_glass.review(signoff, asked.seq, by="auditor", comment="", justified=True)
        assert look(signoff, asked.seq).unreviewed

    def test_of_what_was_not_carried_out_is_refused(self, signoff: Signoff, asked: Emergency) -> None:
        with pytest.raises(Refused, match="nothing to review"):
            break_glass.review(signoff, asked.seq, by="auditor", comment="x", justified=True)

    def test_counts_once(self, signoff: Signoff, asked: Emergency) -> None:
        confirm(signoff, asked)
        break_glass.review(signoff, asked.seq, by="auditor", comment="No.", justified=False)
        before = kinds(signoff)
        assert break_glass.review(signoff, asked.seq, by="reviewer", comment="Yes!", justified=True).event is None
        assert kinds(signoff) == before

    def test_is_not_replaced_by_a_rollback_a_promotion_or_the_end_of_the_version(
        self, signoff: Signoff, registry: FakeRegistry, asked: Emergency, weak: VersionRef
    ) -> None:
        confirm(signoff, asked)
        releases.rollback(signoff, "m", by="release_manager", reason="Worse.")
        assert look(signoff, asked.seq).unreviewed
        release(signoff, registry.add_version("m", {"val_auc": 0.99}))
        assert [one.seq for one in open_emergencies(signoff)] == [asked.seq]
        registry.drop_version(weak)
        assert [one.seq for one in open_emergencies(signoff)] == [asked.seq]
        assert break_glass.review(signoff, asked.seq, by="auditor", comment="Seen.", justified=False).event


class TestTheWayBack:
    def test_from_an_emergency_is_open(self, signoff: Signoff, registry: FakeRegistry, asked: Emergency) -> None:
        confirm(signoff, asked)
        (way,) = releases.ways_back(signoff)
        assert (way.target.version, way.champion) == (1, 2)
        releases.rollback(signoff, "m", by="release_manager", reason="Worse.")
        assert stages(registry) == ["Production", "Archived"]

    def test_to_an_emergency_is_closed_until_it_was_justified(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        unapproved = registry.add_version("m", {"val_auc": 0.94})
        emergency = confirm(signoff, ask(signoff, unapproved))
        release(signoff, registry.add_version("m", {"val_auc": 0.95}))
        assert releases.previous_champion(signoff, "m") == 1, "the emergency is passed over"
        writes = list(registry.writes)
        with pytest.raises(GateRefused, match="found justified"):
            releases.rollback(signoff, "m", version=unapproved.version, by="release_manager", reason="Back.")
        assert registry.writes == writes
        break_glass.review(signoff, emergency.seq, by="auditor", comment="It was one.", justified=True)
        assert releases.previous_champion(signoff, "m") == unapproved.version
        releases.rollback(signoff, "m", by="release_manager", reason="Back.")
        assert registry.model("m").aliases["champion"] == unapproved.version

    def test_to_what_was_not_justified_stays_closed(
        self, signoff: Signoff, registry: FakeRegistry, asked: Emergency, weak: VersionRef
    ) -> None:
        confirm(signoff, asked)
        release(signoff, registry.add_version("m", {"val_auc": 0.95}))
        break_glass.review(signoff, asked.seq, by="auditor", comment="Haste.", justified=False)
        with pytest.raises(GateRefused):
            releases.rollback(signoff, "m", version=weak.version, by="release_manager", reason="Back.")


class TestWhenThingsBreak:
    def test_without_the_ledger_nothing_happens(
        self, signoff: Signoff, registry: FakeRegistry, asked: Emergency, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone(*_: object) -> None:
            raise LedgerUnavailable("The database is away.")

        monkeypatch.setattr("services.record.ledger.append", gone)
        with pytest.raises(LedgerUnavailable):
            break_glass.confirm(signoff, asked.seq, by="release_manager", comment="x")
        assert registry.writes == []
        assert look(signoff, asked.seq).waits

    @pytest.mark.parametrize(
        ("hook", "step", "ends"),
        [
            ("before_write", "stage", "emergency:aborted"),
            ("after_write", "stage", "emergency:confirmed"),
            ("before_write", "alias", "emergency:confirmed"),
            ("after_write", "alias", "emergency:confirmed"),
        ],
    )
    def test_a_crash_at_any_step_is_closed_truthfully_and_stays_loud(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        asked: Emergency,
        monkeypatch: pytest.MonkeyPatch,
        hook: str,
        step: str,
        ends: str,
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("services.verbs.common._give_back", lambda *_: None)  # a dead process gives nothing back
            setattr(registry, hook, crash_at(step))
            with pytest.raises(Crash):
                break_glass.confirm(signoff, asked.seq, by="release_manager", comment="x")
        registry.before_write = registry.after_write = lambda _: None
        lease_runs_out(signoff)
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == ends
        found = look(signoff, asked.seq)
        if ends == "emergency:confirmed":
            assert stages(registry) == ["Archived", "Production"]
            assert (found.unreviewed, found.confirmed_by) == (True, "release_manager")
            assert "val_auc ≥ 0.9" in found.waived
        else:
            assert stages(registry) == ["Production", "None"]
            assert found.waits, "nothing happened: it may still be confirmed"

    def test_an_unknown_outcome_is_not_confirmed_again_before_it_is_known(
        self, signoff: Signoff, registry: FakeRegistry, asked: Emergency
    ) -> None:
        def lost(what: str) -> None:
            if what.startswith("stage"):
                raise RegistryUnavailable("no answer")

        registry.before_write = lost
        with pytest.raises(OutcomeUnknown):
            break_glass.confirm(signoff, asked.seq, by="release_manager", comment="x")
        registry.before_write = lambda _: None
        assert kinds(signoff)[-1] == "emergency:unknown"
        with pytest.raises(PromotionConflict):
            break_glass.confirm(signoff, asked.seq, by="release_manager", comment="x")

    def test_bytes_that_change_under_way_are_put_back(
        self, signoff: Signoff, registry: FakeRegistry, asked: Emergency, weak: VersionRef
    ) -> None:
        def swap(what: str) -> None:
            if what.startswith("alias"):
                registry.write_file(weak, "model.skops", b"something else")

        registry.after_write = swap
        with pytest.raises(RegistryUnavailable):
            break_glass.confirm(signoff, asked.seq, by="release_manager", comment="x")
        assert kinds(signoff)[-1] == "emergency:aborted"
        assert stages(registry) == ["Production", "None"]
        assert look(signoff, asked.seq).waits

    @pytest.mark.postgresql
    def test_a_request_open_for_a_version_is_one_whatever_is_inserted(self, signoff: Signoff, asked: Emergency) -> None:
        with signoff.database.reading() as connection:
            row = connection.execute(sa.select(table)).one()._asdict()
        with pytest.raises(sa.exc.IntegrityError), signoff.database.writing() as connection:
            connection.execute(table.insert().values({**row, "seq": 9999}))


class TestTheRecord:
    def test_names_everybody_in_the_words_of_people(self, signoff: Signoff, asked: Emergency, weak: VersionRef) -> None:
        confirm(signoff, asked)
        break_glass.review(signoff, asked.seq, by="auditor", comment="Seen.", justified=True)
        closed = [event.kind for event in record(signoff)[-4:] if event.kind.outcome != "intended"]
        words = [history.action(kind) for kind in closed]
        assert words == ["Emergency asked for", "Emergency promotion", "Emergency reviewed"]
        release_event = lineage(signoff, "m").release
        assert release_event
        assert release_event.kind.value == "emergency:confirmed"
        (newest, _) = releases.releases(signoff, "m")
        assert (newest.action, newest.by, newest.reason, newest.justified) == (
            "emergency",
            "release_manager",
            WHY,
            True,
        )

    def test_of_any_other_release_names_no_waiver(self, signoff: Signoff, champion: VersionRef) -> None:
        assert all("waived" not in check for event in record(signoff) for check in event.body["checks"])


class TestTheRace:
    @pytest.mark.postgresql
    def test_of_two_who_confirm_one_promotes(self, signoff: Signoff, registry: FakeRegistry, asked: Emergency) -> None:
        add_person(signoff, "another", Role.BREAK_GLASS)
        start, answers = threading.Barrier(4), []

        def click(by: str) -> None:
            start.wait()
            try:
                answers.append(bool(break_glass.confirm(signoff, asked.seq, by=by, comment="Now.").event))
            except PromotionConflict:
                answers.append(False)

        threads = [
            threading.Thread(target=click, args=(by,))
            for by in ("release_manager", "another", "release_manager", "another")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [False, False, False, True]
        assert kinds(signoff).count("emergency:confirmed") == 1
        assert [write for write in registry.writes if write.startswith("stage")] == [f"stage {asked.ref} Production"]
        assert registry.model("m").aliases["champion"] == 2
        assert look(signoff, asked.seq).unreviewed


class TestTheReconciler:
    def test_finds_nothing_to_say_about_an_emergency_and_puts_back_only_what_a_rollback_may_return_to(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef
    ) -> None:
        reconciler.reconcile(signoff)
        emergency = ask(signoff, weak)
        assert reconciler.reconcile(signoff).events == ()
        confirm(signoff, emergency)
        assert reconciler.reconcile(signoff).events == ()
        break_glass.review(signoff, emergency.seq, by="auditor", comment="No.", justified=False)
        assert reconciler.reconcile(signoff).events == ()
        registry.set_stage(weak, "None")
        (moved,) = reconciler.reconcile(signoff).events
        assert moved.kind.value == "outside:stage"
        (deviation,) = open_deviations(signoff)
        with pytest.raises(GateRefused, match="an emergency is one once it was reviewed and found justified"):
            reconciler.restore(signoff, deviation.id, by="release_manager", reason="The record says so.")
        assert kinds(signoff)[-1] == "restoration:refused"
        assert registry.version(weak).stage == "None"

    @pytest.mark.postgresql
    @pytest.mark.parametrize("gone", ["version", "model"])
    def test_an_emergency_ends_once_it_is_accepted_that_what_it_was_asked_for_was_deleted(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef, gone: str
    ) -> None:
        other = ask(signoff, registry.add_version("other", {"val_auc": 0.85}))
        reconciler.reconcile(signoff)
        request = ask(signoff, weak)
        registry.drop_version(weak) if gone == "version" else registry.drop_model("m")
        reconciler.reconcile(signoff)
        assert open_emergencies(signoff) == [other, look(signoff, request.seq)], "what was deleted may come back"
        (deviation,) = open_deviations(signoff)
        reconciler.adopt(signoff, deviation.id, by="release_manager", reason="It was deleted on purpose.")
        assert [one.seq for one in open_emergencies(signoff)] == [other.seq]
        assert not look(signoff, request.seq).waits
        with signoff.database.reading() as connection:
            agreed.require_rows(connection, weak)
        with pytest.raises(Refused):
            break_glass.confirm(signoff, request.seq, by="release_manager", comment="Agreed.")
