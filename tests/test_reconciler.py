"""Changes past Signoff: each found once and by name, none of our own taken for one, restored or adopted by few."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from services import caretaker, tables
from services.accounts import people
from services.accounts.permissions import ROLES_FOR
from services.domain import Action, ModelVersion, RegisteredModel, Role, Source, VersionRef
from services.errors import (
    BadInput,
    NotAllowed,
    NotFound,
    PromotionConflict,
    Refused,
    RegistryUnavailable,
    StaleDecision,
)
from services.gate import GateRefused
from services.reconciliation import file_watch
from services.record import deviations, ledger
from services.record.deviations import Deviation, open_deviations
from services.record.ledger import Event
from services.signoff import Signoff
from services.snapshot import Snapshots
from services.steps import slots
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.test_releases import approve, lease_runs_out, release, stages
from tests.verbs import reconciler, redress, releases, reviews

V1 = VersionRef(name="m", version=1)
V2 = VersionRef(name="m", version=2)
V3 = VersionRef(name="m", version=3)


def found(signoff: Signoff) -> list[str]:
    """The kinds of what one pass records."""
    return [event.kind.value for event in reconciler.reconcile(signoff).events]


@pytest.fixture
def met(signoff: Signoff, registry: FakeRegistry) -> Signoff:
    """Version 1 in Production, 2 approved, 3 only registered; the registry was met, and nothing is to be found."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
    registry.add_version("m", {"val_auc": 0.9})
    assert found(signoff) == ["registry:baseline"]
    assert found(signoff) == []
    return signoff


def only(signoff: Signoff) -> Deviation:
    (deviation,) = open_deviations(signoff)
    return deviation


def recreate(registry: FakeRegistry, ref: VersionRef) -> None:
    registry.drop_version(ref)
    assert registry.add_version(ref.name, {"val_auc": 0.99}) == ref


def recreate_model(registry: FakeRegistry) -> None:
    registry.drop_model("m")
    registry.add_version("m", {"val_auc": 0.99})


OUTSIDE: dict[str, tuple[Callable[[FakeRegistry], None], str, str]] = {
    "another version is put into Production": (lambda r: r.set_stage(V3, "Production"), "outside:stage", "stage:3"),
    "the champion is archived": (lambda r: r.set_stage(V1, "Archived"), "outside:stage", "stage:1"),
    "the candidate leaves Staging": (lambda r: r.set_stage(V2, "None"), "outside:stage", "stage:2"),
    "the champion's alias moves": (lambda r: r.set_alias(V3, "champion"), "outside:alias", "alias:champion"),
    "the challenger's alias goes": (lambda r: r.delete_alias("m", "challenger"), "outside:alias", "alias:challenger"),
    "an alias that looks like ours": (lambda r: r.set_alias(V3, "Champion"), "outside:alias", "alias:Champion"),
    "a status of the record": (
        lambda r: r.tag(V2, "approval_status", "pending"),
        "outside:tag",
        "tag:2:approval_status",
    ),
    "a reason of the record": (lambda r: r.tag(V1, "reason", "No reason."), "outside:tag", "tag:1:reason"),
    "a digest of the record": (lambda r: r.tag(V1, "signoff.digest", "0" * 64), "outside:tag", "tag:1:signoff.digest"),
    "a forged event": (lambda r: r.tag(V1, "signoff.event", "7:" + "0" * 64), "outside:tag", "tag:1:signoff.event"),
    "a tag of the record goes": (lambda r: r.delete_tag(V1, "promoted_by"), "outside:tag", "tag:1:promoted_by"),
    "an approval nobody gave": (lambda r: r.tag(V3, "approved_by", "me"), "outside:tag", "tag:3:approved_by"),
    "the same in capitals": (
        lambda r: r.tag(V3, "Approval_Status", "approved"),
        "outside:tag",
        "tag:3:Approval_Status",
    ),
    "a file more, in Production": (lambda r: r.write_file(V1, "more.py", b"x"), "outside:files", "files:1"),
    "a file more, approved": (lambda r: r.write_file(V2, "more.py", b"x"), "outside:files", "files:2"),
    "a file less": (lambda r: r.remove_file(V1, "model.skops"), "outside:files", "files:1"),
    "a resized file": (lambda r: r.write_file(V1, "model.skops", b"m"), "outside:files", "files:1"),
    "other bytes of the same size": (
        lambda r: r.write_file(V1, "model.skops", b"MODEL m/v1"),
        "outside:files",
        "files:1",
    ),
    "a deleted version": (lambda r: r.drop_version(V3), "outside:deleted", "version:3"),
    "a deleted champion": (lambda r: r.drop_version(V1), "outside:deleted", "version:1"),
    "a deleted model": (lambda r: r.drop_model("m"), "outside:deleted", "model"),
    "a renamed model": (lambda r: r.rename_model("m", "n"), "outside:renamed", "model"),
    "a version number given out again": (lambda r: recreate(r, V3), "outside:recreated", "version:3"),
    "a model name given out again": (recreate_model, "outside:recreated", "model"),
}


class TestDeviation:
    @pytest.mark.parametrize("what", OUTSIDE)
    def test_every_kind_of_change_is_found_exactly_once(self, met: Signoff, registry: FakeRegistry, what: str) -> None:
        change, kind, subject = OUTSIDE[what]
        before = len(kinds(met))
        change(registry)
        assert found(met) == [kind]
        for _ in range(3):
            assert found(met) == [], "it stays open, and is said once"
        deviation = only(met)
        assert (deviation.kind.value, deviation.subject, deviation.ref.name) == (kind, subject, "m")
        (event,) = record(met)[before:]
        assert (event.actor, event.body["source"], event.body["roles"]) == ("unknown", "reconciler", [])
        assert (event.get("prescribed"), event.get("shown")) == (deviation.prescribed, deviation.shown)
        assert event.comment == deviation.sentence

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"m", "13 bytes instead of 22, manifest "),
            (b"MODEL m/v2", "other bytes of the same size, manifest "),
        ],
    )
    def test_of_files_between_the_approval_and_the_first_look_says_what_differs(
        self, signoff: Signoff, registry: FakeRegistry, content: bytes, said: str
    ) -> None:
        assert found(signoff) == ["registry:baseline"]
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        registry.write_file(ref, "model.skops", content)
        assert found(signoff) == ["outside:files"]
        assert only(signoff).shown.startswith(said)

    def test_what_is_nobodys_business_is_not_found(self, met: Signoff, registry: FakeRegistry) -> None:
        registry.set_alias(V3, "nightly")
        registry.tag(V3, "reason", "Nightly build.")
        registry.tag(V1, "owner", "me")
        registry.add_version("m", {"val_auc": 0.5})
        registry.add_version("new", {"val_auc": 0.5})
        registry.write_file(V3, "notes.txt", b"not submitted yet")
        assert found(met) == []
        registry.set_alias(V2, "nightly")
        registry.delete_alias("m", "nightly")
        assert found(met) == []

    def test_a_new_model_that_comes_with_a_champion_nobody_approved_is_found(
        self, met: Signoff, registry: FakeRegistry
    ) -> None:
        ref = registry.add_version("new", {"val_auc": 0.5})
        registry.set_stage(ref, "Production")
        registry.set_alias(ref, "champion")
        registry.tag(ref, "approval_status", "approved")
        assert found(met) == ["outside:stage", "outside:tag", "outside:alias"]
        assert found(met) == []

    def test_a_second_change_of_the_same_thing_is_said_again(self, met: Signoff, registry: FakeRegistry) -> None:
        registry.set_stage(V1, "Archived")
        assert found(met) == ["outside:stage"]
        registry.set_stage(V1, "Staging")
        assert found(met) == ["outside:stage"]
        assert only(met).shown == "Staging"

    def test_a_row_that_no_event_tells_of_ends_without_an_event_and_hides_nothing(
        self, met: Signoff, registry: FakeRegistry
    ) -> None:
        registry.set_stage(V1, "Archived")
        found(met)
        true, before = only(met), record(met)
        registry.set_stage(V1, "Production")
        with met.database.writing() as connection:
            connection.execute(tables.deviations.update().values(seq=before[0].seq))
        with pytest.raises(NotFound):
            redress.adopt(met, true.id, by="release_manager", reason="As it is.")
        assert found(met) == []
        assert record(met) == before
        registry.set_stage(V1, "Archived")
        assert found(met) == ["outside:stage"]

    def test_a_deviation_ends_when_it_was_put_back_elsewhere(self, met: Signoff, registry: FakeRegistry) -> None:
        registry.rename_model("m", "n")
        registry.set_stage(VersionRef(name="n", version=1), "Archived")
        assert sorted(found(met)) == ["outside:renamed", "outside:stage"]
        registry.rename_model("n", "m")
        assert sorted(found(met)) == ["outside:ended", "outside:ended", "outside:stage"]
        registry.set_stage(V1, "Production")
        assert found(met) == ["outside:ended"]
        assert open_deviations(met) == []
        assert found(met) == []

    def test_bytes_are_read_in_turn_within_the_budget(
        self, signoff: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refs = [release(signoff, registry.add_version(f"m{n}", {"val_auc": 0.92})) for n in range(5)]
        monkeypatch.setattr(file_watch, "HASHES_PER_PASS", 1)
        read: list[VersionRef] = []
        manifest = registry.manifest
        monkeypatch.setattr(registry, "manifest", lambda ref: (read.append(ref), manifest(ref))[1])
        for _ in range(10):
            reconciler.reconcile(signoff)
        assert read == refs * 2
        registry.write_file(refs[2], "model.skops", b"MODEL m2/v1")
        events = [event for _ in range(5) for event in reconciler.reconcile(signoff).events]
        assert [(event.kind.value, event.ref) for event in events] == [("outside:files", refs[2])]

    def test_bytes_swapped_before_the_first_look_are_found_by_the_digest_of_the_record(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = release(signoff, registry.add_version("m", {"val_auc": 0.92}))
        registry.write_file(ref, "more.py", b"x")
        assert found(signoff) == ["registry:baseline", "outside:files"]

    def test_what_a_listing_lacks_by_accident_is_not_taken_for_deleted(
        self, met: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.add_version("n", {})
        found(met)
        models, versions = registry.models, registry.all_versions

        def some_models(**how: bool) -> Iterator[list[RegisteredModel]]:
            yield from ([model for model in page if model.name != "n"] for page in models(**how))

        def some_versions(**how: bool) -> Iterator[list[ModelVersion]]:
            yield from ([version for version in page if version.ref != V3] for page in versions(**how))

        monkeypatch.setattr(registry, "models", some_models)
        monkeypatch.setattr(registry, "all_versions", some_versions)
        assert found(met) == []

    def test_when_mlflow_is_away_nothing_is_found(self, met: Signoff, registry: FakeRegistry) -> None:
        def away(**_: object) -> Iterator[list[ModelVersion]]:
            raise RegistryUnavailable("away")

        registry.all_versions = away  # type: ignore[method-assign]
        before = kinds(met)
        with pytest.raises(RegistryUnavailable):
            reconciler.reconcile(met)
        assert kinds(met) == before


class TestOurOwnChanges:
    def test_the_whole_life_of_a_version_is_no_deviation(self, met: Signoff, registry: FakeRegistry) -> None:
        def quiet() -> None:
            assert found(met) == []

        releases.promote(met, V2, by="release_manager", reason="Better.")
        quiet()
        releases.rollback(met, "m", by="release_manager", reason="Slower.")
        quiet()
        reviews.submit(met, V3, by="scientist", comment="Please.")
        quiet()
        reviews.request_changes(met, V3, by="reviewer", comment="Add a card.")
        quiet()
        registry.write_file(V3, "card.md", b"card")
        reviews.submit(met, V3, by="scientist", comment="Added.")
        quiet()
        reviews.reject(met, V3, by="reviewer", comment="No.")
        quiet()
        releases.archive(met, V3, by="release_manager", reason="Useless.")
        quiet()
        fresh = registry.add_version("m", {"val_auc": 0.93})
        reviews.submit(met, fresh, by="scientist", comment="Please.")
        reviews.withdraw(met, fresh, by="scientist", comment="Not yet.")
        quiet()
        with pytest.raises(GateRefused):
            releases.promote(met, fresh, by="release_manager", reason="Now.")
        quiet()
        release(met, registry.add_version("other", {"val_auc": 0.95}))
        quiet()
        assert open_deviations(met) == []

    def test_what_was_done_while_the_pass_was_under_way_is_discarded(
        self, met: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = registry.all_versions

        def then_promoted(*, newest_first: bool = False) -> Iterator[list[ModelVersion]]:
            pages = list(whole(newest_first=newest_first))
            monkeypatch.setattr(registry, "all_versions", whole)
            releases.promote(met, V2, by="release_manager", reason="Meanwhile.")
            yield from pages

        monkeypatch.setattr(registry, "all_versions", then_promoted)
        registry.set_alias(V3, "challenger")
        report = reconciler.reconcile(met)
        assert (report.events, report.discarded) == ((), {"m"})
        assert open_deviations(met) == []
        assert found(met) == ["outside:alias"], "the next pass sees it"

    def test_a_loop_of_refusals_does_not_blind_it(
        self, met: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = registry.all_versions

        def then_refused(*, newest_first: bool = False) -> Iterator[list[ModelVersion]]:
            pages = list(whole(newest_first=newest_first))
            with pytest.raises(NotAllowed):
                releases.promote(met, V2, by="viewer", reason="Now.")
            yield from pages

        registry.set_stage(V3, "Production")
        monkeypatch.setattr(registry, "all_versions", then_refused)
        assert found(met) == ["outside:stage"]

    @pytest.mark.parametrize("step", ["stage", "alias", "no alias", "tag"])
    def test_a_pass_in_the_middle_of_a_promotion_finds_nothing(
        self, met: Signoff, registry: FakeRegistry, step: str
    ) -> None:
        seen: list[reconciler.Report] = []

        def look(what: str) -> None:
            if what.startswith(step):
                registry.after_write = lambda _: None
                seen.append(reconciler.reconcile(met))

        registry.after_write = look
        releases.promote(met, V2, by="release_manager", reason="Better.")
        assert [(report.events, report.skipped) for report in seen] == [((), {"m"})]
        assert found(met) == []

    def test_a_held_slot_and_a_waiting_mirror_are_skipped(self, met: Signoff, registry: FakeRegistry) -> None:
        slot = slots.take(met.database, "m", holder="mira", purpose="something")
        registry.set_stage(V3, "Production")
        assert found(met) == []
        with met.database.writing() as connection:
            slots.release(connection, slot)
        assert found(met) == ["outside:stage"]

        def no_tags(what: str) -> None:
            if what.startswith("tag"):
                raise RegistryUnavailable("away")

        registry.before_write = no_tags
        ref = registry.add_version("n", {"val_auc": 0.95})
        reviews.submit(met, ref, by="scientist", comment="Please.")
        assert found(met) == [], "the tags are still to be written"
        registry.before_write = lambda _: None
        caretaker.tidy(met)
        assert found(met) == []

    def test_an_open_intent_is_skipped_though_its_lease_ran_out(self, met: Signoff, registry: FakeRegistry) -> None:
        def lost(what: str) -> None:
            if what.startswith("stage"):
                raise RegistryUnavailable("no answer")

        registry.before_write = lost
        with pytest.raises(RegistryUnavailable):
            releases.promote(met, V2, by="release_manager", reason="x")
        registry.before_write = lambda _: None
        registry.set_stage(V2, "Production", archive_existing=True)
        lease_runs_out(met)
        assert found(met) == [], "whoever takes the slot next finds out what became of it"
        caretaker.tidy(met)
        assert kinds(met)[-1] == "promotion:confirmed"
        assert found(met) == []

    def test_a_change_that_was_applied_late_is_found(self, met: Signoff, registry: FakeRegistry) -> None:
        def lost(what: str) -> None:
            if what.startswith("stage"):
                raise RegistryUnavailable("no answer")

        registry.before_write = lost
        with pytest.raises(RegistryUnavailable):
            releases.promote(met, V2, by="release_manager", reason="x")
        assert found(met) == [], "the intent is open"
        lease_runs_out(met)
        registry.before_write = lambda _: None
        caretaker.tidy(met)
        assert kinds(met)[-1] == "promotion:aborted"
        assert found(met) == []
        registry.set_stage(V2, "Production", archive_existing=True)
        assert found(met) == ["outside:stage", "outside:stage"]

    def test_verbs_and_passes_side_by_side_raise_no_alarm(self, met: Signoff, registry: FakeRegistry) -> None:
        stop, seen = threading.Event(), []

        def passes() -> None:
            while not stop.is_set():
                seen.extend(reconciler.reconcile(met).events)

        thread = threading.Thread(target=passes)
        thread.start()
        try:
            releases.promote(met, V2, by="release_manager", reason="Better.")
            for _ in range(4):
                releases.rollback(met, "m", by="release_manager", reason="Back.")
                release(met, registry.add_version("m", {"val_auc": 0.96}))
        finally:
            stop.set()
            thread.join()
        assert [event.kind.value for event in seen] == []
        assert found(met) == []


class TestBaseline:
    def test_a_large_registry_is_met_with_one_event_and_few_calls(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        for number in range(300):
            ref = registry.add_version(f"m{number}", {"val_auc": 0.9})
            registry.set_stage(ref, "Staging")
            registry.set_alias(ref, "challenger")
            registry.tag(ref, "approval_status", "whatever")
        calls = registry.calls
        report = reconciler.reconcile(signoff)
        assert [event.kind.value for event in report.events] == ["registry:baseline"]
        assert report.events[0].get("models") == 300
        assert report.events[0].get("stages") == {"Staging": 300}
        assert registry.calls - calls == 2, "the models, and the versions"
        for _ in range(2):
            assert found(signoff) == []
        assert registry.calls - calls == 6
        assert open_deviations(signoff) == []

    def test_listings_of_protected_files_stay_within_their_budget(
        self, signoff: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(30):
            registry.set_stage(registry.add_version(f"m{number}", {}), "Production")
        monkeypatch.setattr(file_watch, "LISTINGS_PER_PASS", 10)
        calls = registry.calls
        reconciler.reconcile(signoff)
        assert registry.calls - calls == 2 + 10 + file_watch.HASHES_PER_PASS

    def test_files_are_looked_up_of_protected_versions_alone(
        self, met: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each version that was ever protected has a row for ever, with the names of all its files."""
        for _ in range(3):
            ref = registry.add_version("old", {})
            registry.set_stage(ref, "Production")
            reconciler.reconcile(met)
            registry.set_stage(ref, "Archived")
        read, parsed = [], file_watch._from
        monkeypatch.setattr(file_watch, "_from", lambda row: read.append((row.model, row.version)) or parsed(row))
        monkeypatch.setattr(file_watch, "PER_QUERY", 1)
        assert found(met) != [], "the last archival"
        assert sorted(read) == [("m", 1), ("m", 2)]

    def test_what_the_ledger_prescribes_is_not_accepted_by_meeting_it(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        release(signoff, registry.add_version("m", {"val_auc": 0.92}))
        registry.set_stage(V1, "Archived")
        registry.tag(V1, "promoted_by", "somebody else")
        assert found(signoff) == ["registry:baseline", "outside:stage", "outside:tag"]

    def test_a_model_under_change_is_met_later(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.92})
        registry.set_stage(ref, "Production")
        slot = slots.take(signoff.database, "m", holder="mira", purpose="something")
        assert found(signoff) == ["registry:baseline"]
        with signoff.database.writing() as connection:
            slots.release(connection, slot)
        assert found(signoff) == []
        registry.set_stage(ref, "Archived")
        assert found(signoff) == ["outside:stage"]


class TestRestore:
    @pytest.mark.parametrize("role", list(Role))
    @pytest.mark.parametrize("action", [Action.RESTORE, Action.ADOPT])
    def test_is_for_release_managers_and_refused_with_one_event_to_all_others(
        self, met: Signoff, registry: FakeRegistry, action: Action, role: Role
    ) -> None:
        registry.set_stage(V2, "None")
        found(met)
        verb = reconciler.restore if action is Action.RESTORE else reconciler.adopt
        if role in ROLES_FOR[action]:
            assert verb(met, only(met).id, by=role.value, reason="Known.").event
            assert open_deviations(met) == []
            assert found(met) == []
            return
        before, writes = kinds(met), list(registry.writes)
        with pytest.raises(NotAllowed, match=f"Only a release manager may {action.value}"):
            verb(met, only(met).id, by=role.value, reason="Known.")
        subject = "restoration" if action is Action.RESTORE else "adoption"
        assert kinds(met) == [*before, f"{subject}:refused"]
        assert registry.writes == writes
        assert only(met)

    @pytest.mark.parametrize("verb", [reconciler.restore, reconciler.adopt])
    def test_asks_for_a_reason(self, met: Signoff, registry: FakeRegistry, verb: Callable[..., object]) -> None:
        registry.set_stage(V2, "None")
        found(met)
        before = kinds(met)
        with pytest.raises(BadInput, match="reason is needed"):
            verb(met, only(met).id, by="release_manager", reason=" ")
        with pytest.raises(NotFound):
            verb(met, 99, by="release_manager", reason="x")
        assert kinds(met) == before

    def test_puts_stages_and_aliases_of_a_model_back_together(self, met: Signoff, registry: FakeRegistry) -> None:
        registry.set_stage(V3, "Production", archive_existing=True)
        registry.set_alias(V3, "champion")
        assert found(met) == ["outside:stage", "outside:stage", "outside:alias"]
        registry.writes.clear()
        outcome = reconciler.restore(met, open_deviations(met)[-1].id, by="release_manager", reason="Not approved.")
        assert stages(registry) == ["Production", "Staging", "None"]
        assert registry.model("m").aliases == {"champion": 1, "challenger": 2}
        assert [w for w in registry.writes if "stage" in w] == ["stage m/v3 None", "stage m/v1 Production"]
        assert outcome.event
        assert outcome.event.kind.value == "restoration:confirmed"
        assert open_deviations(met) == []
        assert found(met) == []
        assert [release.ref for release in releases.releases(met, "m")] == [V1], "it is no release"

    def test_puts_every_tag_of_the_version_back(self, met: Signoff, registry: FakeRegistry) -> None:
        tags = dict(registry.version(V1).tags)
        registry.tag(V1, "reason", "Mine.")
        registry.tag(V1, "Approved_By", "me")
        registry.delete_tag(V1, "promoted_by")
        found(met)
        reconciler.restore(met, open_deviations(met)[0].id, by="release_manager", reason="Forged.")
        assert registry.version(V1).tags == tags
        assert kinds(met)[-2:] == ["restoration:intended", "restoration:confirmed"]
        assert open_deviations(met) == []
        assert found(met) == []

    def test_of_a_version_without_record_leaves_its_other_tags_alone(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.9})
        registry.tag(ref, "approval_status", "from before Signoff")
        registry.tag(ref, "reason", "Nightly.")
        found(signoff)
        registry.set_stage(ref, "Staging")
        found(signoff)
        reconciler.restore(signoff, only(signoff).id, by="release_manager", reason="Not submitted.")
        registry.tag(ref, "approval_status", "approved")
        assert found(signoff) == ["outside:tag"]
        reconciler.restore(signoff, only(signoff).id, by="release_manager", reason="Not approved.")
        assert registry.version(ref).tags == {"approval_status": "from before Signoff", "reason": "Nightly."}
        assert found(signoff) == []

    @pytest.mark.parametrize(
        ("answer", "ends"),
        [
            (BadInput("MLflow does not accept it."), ["restoration:aborted"]),
            (RegistryUnavailable("away"), ["restoration:unknown", "restoration:aborted"]),
        ],
        ids=["refused", "no answer"],
    )
    def test_of_tags_that_mlflow_does_not_take_is_recorded_as_aborted(
        self, met: Signoff, registry: FakeRegistry, answer: Exception, ends: list[str]
    ) -> None:
        registry.tag(V1, "reason", "Mine.")
        found(met)

        def away(_: str) -> None:
            raise answer

        registry.before_write = away
        with pytest.raises(RegistryUnavailable):
            reconciler.restore(met, only(met).id, by="release_manager", reason="Forged.")
        registry.before_write = lambda _: None
        lease_runs_out(met)
        caretaker.tidy(met)
        assert kinds(met)[-1 - len(ends) :] == ["restoration:intended", *ends]
        assert found(met) == []
        assert only(met).state == "open"

    def test_of_tags_leaves_a_stage_that_was_changed_too_a_deviation(
        self, met: Signoff, registry: FakeRegistry
    ) -> None:
        registry.tag(V1, "reason", "Mine.")
        registry.set_stage(V1, "Archived")
        found(met)
        tag = next(one for one in open_deviations(met) if one.subject.startswith("tag"))
        reconciler.restore(met, tag.id, by="release_manager", reason="Forged.")
        assert registry.version(V1).stage == "Archived"
        assert [one.subject for one in open_deviations(met)] == ["stage:1"]
        assert found(met) == []
        assert [one.subject for one in open_deviations(met)] == ["stage:1"]

    def test_of_an_alias_that_points_at_another_version(self, met: Signoff, registry: FakeRegistry) -> None:
        registry.set_alias(V3, "champion")
        assert found(met) == ["outside:alias"]
        assert reconciler.restore(met, only(met).id, by="release_manager", reason="Not released.").event
        assert registry.model("m").aliases["champion"] == 1
        assert stages(registry) == ["Production", "Staging", "None"]
        assert found(met) == []

    def test_into_production_asks_for_the_released_bytes(self, met: Signoff, registry: FakeRegistry) -> None:
        registry.set_stage(V1, "Archived")
        registry.write_file(V1, "model.skops", b"MODEL m/v1")
        found(met)
        stage = next(f for f in open_deviations(met) if f.subject == "stage:1")
        with pytest.raises(GateRefused, match="not those of its earlier promotion"):
            reconciler.restore(met, stage.id, by="release_manager", reason="Back.")
        assert stages(registry)[0] == "Archived"
        assert kinds(met)[-1] == "restoration:refused"

    def test_into_production_of_what_was_never_released_is_refused(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.9})
        registry.set_stage(ref, "Production")
        found(signoff)
        registry.set_stage(ref, "Archived")
        found(signoff)
        with pytest.raises(GateRefused, match="no earlier release to return to"):
            reconciler.restore(signoff, only(signoff).id, by="release_manager", reason="Back.")
        assert stages(registry) == ["Archived"]

    @pytest.mark.parametrize(
        "what", ["a file more, approved", "a deleted version", "a renamed model", "a model name given out again"]
    )
    def test_says_so_where_nothing_can_be_put_back(self, met: Signoff, registry: FakeRegistry, what: str) -> None:
        OUTSIDE[what][0](registry)
        found(met)
        registry.writes.clear()
        with pytest.raises(Refused, match=r"put back|name back"):
            reconciler.restore(met, only(met).id, by="release_manager", reason="Back.")
        assert kinds(met)[-1] == "restoration:refused"
        assert registry.writes == []
        assert only(met)

    def test_twice_is_once_and_what_went_back_by_itself_is_said(self, met: Signoff, registry: FakeRegistry) -> None:
        registry.set_stage(V2, "None")
        found(met)
        number = only(met).id
        registry.set_stage(V2, "Staging")
        with pytest.raises(Refused, match="as prescribed again"):
            reconciler.restore(met, number, by="release_manager", reason="Back.")
        registry.set_stage(V2, "None")
        assert reconciler.restore(met, number, by="release_manager", reason="Back.").event
        assert reconciler.restore(met, number, by="release_manager", reason="Back.").event is None

    def test_waits_for_whoever_has_the_slot(self, met: Signoff, registry: FakeRegistry) -> None:
        registry.set_stage(V2, "None")
        found(met)
        slots.take(met.database, "m", holder="mira", purpose="the promotion of v2")
        with pytest.raises(PromotionConflict, match="mira acted first"):
            reconciler.restore(met, only(met).id, by="release_manager", reason="Back.")
        assert registry.version(V2).stage == "None"

    def test_a_crash_half_way_is_closed_by_whoever_comes_next(
        self, met: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Crash(BaseException):
            pass

        registry.set_stage(V2, "None")
        found(met)

        def crash(_: str) -> None:
            raise Crash

        registry.after_write = crash
        with monkeypatch.context() as patch:
            patch.setattr("services.verbs.common._give_back", lambda *_: None)
            with pytest.raises(Crash):
                reconciler.restore(met, only(met).id, by="release_manager", reason="Back.")
        registry.after_write = lambda _: None
        lease_runs_out(met)
        caretaker.tidy(met)
        assert kinds(met)[-1] == "restoration:confirmed"
        assert open_deviations(met) == []
        assert found(met) == []


class TestAdopt:
    @pytest.mark.parametrize("what", OUTSIDE)
    def test_closes_the_deviation_for_good(self, met: Signoff, registry: FakeRegistry, what: str) -> None:
        OUTSIDE[what][0](registry)
        found(met)
        registry.writes.clear()
        outcome = reconciler.adopt(met, only(met).id, by="release_manager", reason="Known.")
        assert outcome.event
        assert outcome.event.kind.value == "adoption:recorded"
        assert outcome.event.comment == "Known."
        assert (outcome.event.actor, open_deviations(met), registry.writes) == ("release_manager", [], [])
        for _ in range(2):
            assert found(met) == []
        with met.database.reading() as connection:
            assert ledger.broken_at(connection) is None

    def test_into_production_is_neither_an_approval_nor_a_release(self, met: Signoff, registry: FakeRegistry) -> None:
        registry.set_stage(V3, "Production", archive_existing=True)
        registry.set_alias(V3, "champion")
        found(met)
        for deviation in open_deviations(met):
            reconciler.adopt(met, deviation.id, by="release_manager", reason="An emergency.")
        assert found(met) == []
        assert [release.ref for release in releases.releases(met, "m")] == [V1]
        assert "approved_by" not in registry.version(V3).tags
        releases.archive(met, V3, by="release_manager", reason="Over.")
        with pytest.raises(GateRefused):
            releases.rollback(met, "m", version=3, by="release_manager", reason="Back to it.")
        assert registry.version(V3).stage == "Archived"

    def test_into_production_leaves_nothing_to_find_once_it_is_archived(
        self, met: Signoff, registry: FakeRegistry
    ) -> None:
        """It has no record, so no tag of ours is written to it or taken from it."""
        registry.set_stage(V3, "Production")
        registry.tag(V3, "approval_status", "from before Signoff")
        found(met)
        for deviation in open_deviations(met):
            reconciler.adopt(met, deviation.id, by="release_manager", reason="Known.")
        releases.archive(met, V3, by="release_manager", reason="Over.")
        assert registry.version(V3).tags == {"approval_status": "from before Signoff"}
        assert found(met) == []

    def test_of_something_else_than_was_found_is_refused(self, met: Signoff, registry: FakeRegistry) -> None:
        registry.set_stage(V3, "Staging")
        found(met)
        registry.set_stage(V3, "Production")
        with pytest.raises(StaleDecision, match="something else by now"):
            reconciler.adopt(met, only(met).id, by="release_manager", reason="Known.")
        assert kinds(met)[-1] == "adoption:refused"
        assert found(met) == ["outside:stage"]

    def test_an_adopted_tag_lasts_until_the_record_says_something_new(
        self, met: Signoff, registry: FakeRegistry
    ) -> None:
        registry.tag(V2, "approval_comment", "Edited.")
        found(met)
        reconciler.adopt(met, only(met).id, by="release_manager", reason="A typo.")
        reviews.submit(met, V3, by="scientist", comment="Another one.")
        assert found(met) == []
        reviews.approve(met, V2, by="reviewer2", comment="Me too.")
        assert registry.version(V2).tags["approval_comment"] == "Me too."
        assert found(met) == []

    def test_a_renamed_model_is_governed_under_its_new_name(self, met: Signoff, registry: FakeRegistry) -> None:
        registry.rename_model("m", "n")
        found(met)
        reconciler.adopt(met, only(met).id, by="release_manager", reason="Agreed.")
        assert found(met) == []
        registry.set_stage(VersionRef(name="n", version=1), "Archived")
        assert found(met) == ["outside:stage"]

    def test_a_role_taken_away_bites_at_once(self, met: Signoff, registry: FakeRegistry) -> None:
        registry.set_stage(V3, "Staging")
        found(met)
        people.set_roles(met.database, "release_manager", [Role.VIEWER])
        with pytest.raises(NotAllowed):
            reconciler.adopt(met, only(met).id, by="release_manager", reason="x")


class TestTwoDashboards:
    def test_record_each_deviation_once(self, met: Signoff, registry: FakeRegistry) -> None:
        other = Signoff.wire(settings=met.settings, registry=registry, now=met.now)
        registry.set_stage(V3, "Production")
        registry.write_file(V1, "more.py", b"x")
        start, events = threading.Barrier(2), []

        def look(signoff: Signoff) -> None:
            start.wait()
            events.extend(reconciler.reconcile(signoff).events)

        threads = [threading.Thread(target=look, args=(one,)) for one in (met, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found(met) == []
        assert sorted(event.kind.value for event in outside(met)) == ["outside:files", "outside:stage"]
        assert len(events) == 2


def outside(signoff: Signoff) -> list[Event]:
    return [event for event in record(signoff) if event.kind.subject == "outside"]


class TestCadence:
    @pytest.mark.parametrize("change_at", [35.0 + 0.5 * step for step in range(0, 80, 3)])
    def test_a_change_is_found_within_a_minute_whenever_it_is_made(
        self, signoff: Signoff, registry: FakeRegistry, change_at: float
    ) -> None:
        """Snapshot and caretaker take turns as their threads would, on a clock of the test's own.

        A pass takes three seconds here: what the first one costs on the sample registry is far less.
        """
        now = 0.0

        def clock() -> float:
            return now

        timed = replace(signoff, snapshot=Snapshots(registry, clock=clock))
        tender = caretaker.Caretaker(timed)
        registry.add_version("m", {"val_auc": 0.9})
        whole = registry.all_versions

        def slow(*, newest_first: bool = False) -> Iterator[list[ModelVersion]]:
            nonlocal now
            pages = list(whole(newest_first=newest_first))
            now += 0.0 if newest_first else 3.0
            yield from pages

        registry.all_versions = slow  # type: ignore[method-assign]
        next_pass, next_round, changed = 0.0, caretaker.INTERVAL_SECONDS, False
        while not open_deviations(timed):
            now = max(now, min(next_pass, next_round, *([] if changed else [change_at])))
            assert now - change_at <= 60.0, "not found within a minute"
            if not changed and now >= change_at:
                registry.set_alias(V1, "champion")
                changed = True
            if now >= next_pass:
                next_pass = now + timed.snapshot.turn()
            if now >= next_round:
                tender.turn()
                next_round = now + caretaker.INTERVAL_SECONDS
        assert only(timed).subject == "alias:champion"


def test_the_unknown_actor_comes_through_the_reconcilers_door() -> None:
    assert (deviations.UNKNOWN.username, deviations.UNKNOWN.source) == ("unknown", Source.RECONCILER)
