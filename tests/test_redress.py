"""What may come back to Production when a change past Signoff is put back, and what the record prescribes beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from streamlit.testing.v1 import AppTest

from services.accounts import people
from services.desk import Request
from services.domain import Action, VersionRef
from services.errors import BadInput, NotAsPrescribed, Refused
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.reconciliation import returning
from services.record.deviations import open_deviations
from services.record.ledger import Event
from services.signing import meaning
from services.signoff import Signoff
from services.steps.intents import Judge
from services.verbs.common import judged_again
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.pages import opened
from tests.test_findings import BLOCKING
from tests.test_judged_twice import refused_once
from tests.test_policy import GOOD
from tests.test_releases import release, stages
from tests.test_signing import own
from tests.verbs import break_glass, desk, findings, reconciler, releases, reviews

V1 = VersionRef(name="m", version=1)
V2 = VersionRef(name="m", version=2)
V3 = VersionRef(name="m", version=3)
SIGNED = parse(GOOD.replace("name: tested", "name: default") + "signing: true\n", "signed.yaml")


@pytest.fixture
def resolved(signoff: Signoff, registry: FakeRegistry) -> int:
    """The blocking finding in version 2 that was resolved before it became champion; version 1 was champion before."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    reviews.submit(signoff, registry.add_version("m", {"val_auc": 0.95}), by="scientist", comment="Please.")
    reviews.request_changes(signoff, V2, by="reviewer", comment="No.", findings=[BLOCKING])
    (found,) = findings.raised(signoff, registry.version(V2))
    findings.resolve(signoff, V2, found.id, by="reviewer", comment="Answered.")
    release(signoff, V2)
    reconcile(signoff)
    return found.id


def reconcile(signoff: Signoff) -> list[str]:
    """The kinds of what one pass records."""
    return [event.kind.value for event in reconciler.reconcile(signoff).events]


def taken_out(signoff: Signoff, registry: FakeRegistry, ref: VersionRef = V2) -> None:
    """The champion is archived and its alias deleted past Signoff, and that is found."""
    registry.set_stage(ref, "Archived")
    registry.delete_alias("m", "champion")
    assert reconcile(signoff) == ["outside:stage", "outside:alias"]
    registry.writes.clear()


def restore(signoff: Signoff, subject: str, password: SecretStr | None = None) -> Event | None:
    number = next(one.id for one in open_deviations(signoff, "m") if one.subject == subject)
    words = "The record says so."
    request = Request(action=Action.RESTORE, ref=V2, words=words, deviation=number, password=password)
    return desk.perform(signoff, request, by="release_manager").event


def by_a_promotion(signoff: Signoff, registry: FakeRegistry) -> int:
    """Version 3, while the champion's alias is still where it was: in MLflow, too, version 2 is the champion then."""
    release(signoff, registry.add_version("m", {"val_auc": 0.97}))
    return 3


def by_a_rollback(signoff: Signoff, registry: FakeRegistry) -> int:
    releases.rollback(signoff, "m", version=1, by="release_manager", reason="Back.")
    return 1


def by_an_emergency(signoff: Signoff, registry: FakeRegistry) -> int:
    ref = registry.add_version("m", {"val_auc": 0.91})
    asked = break_glass.ask(signoff, ref, by="break_glass", reason="Nothing is served.").event
    assert asked
    break_glass.confirm(signoff, asked.seq, by="release_manager", comment="Agreed.")
    return 3


def adopted_beside_the_champion(signoff: Signoff, registry: FakeRegistry) -> None:
    """Another version that somebody put into Production past Signoff, and that was accepted there."""
    registry.set_stage(registry.add_version("m", {"val_auc": 0.5}), "Production")
    reconcile(signoff)
    (beside,) = open_deviations(signoff, "m")
    reconciler.adopt(signoff, beside.id, by="release_manager", reason="For a while.")


class TestANewChampion:
    @pytest.mark.parametrize(
        ("becomes_champion", "shown"),
        [
            (by_a_promotion, "Archived"),
            (by_a_promotion, "Staging"),
            (by_a_rollback, "Archived"),
            (by_an_emergency, "Archived"),
        ],
    )
    def test_is_alone_in_its_stage_wherever_mlflow_shows_the_one_before(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        resolved: int,
        becomes_champion: Callable[[Signoff, FakeRegistry], int],
        shown: str,
    ) -> None:
        registry.set_stage(V2, shown)
        assert reconcile(signoff) == ["outside:stage"]
        number = becomes_champion(signoff, registry)
        assert stages(registry).count("Production") == 1
        reconcile(signoff)
        assert [one.prescribed for one in open_deviations(signoff, "m")] == ["Archived"] * (shown == "Staging")
        registry.set_stage(V2, "Production")
        reconcile(signoff)
        restore(signoff, "stage:2")
        assert [n for n, stage in enumerate(stages(registry), 1) if stage == "Production"] == [number]
        assert registry.version(V2).stage == "Archived"

    def test_leaves_no_way_to_restore_the_one_before_that_was_taken_out_past_us(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int
    ) -> None:
        taken_out(signoff, registry)
        by_a_rollback(signoff, registry)
        findings.reopen(signoff, V2, resolved, by="reviewer", comment="It was the test set after all.")
        with pytest.raises(GateRefused, match="reviewer found: Trained on the test set"):
            releases.rollback(signoff, "m", version=2, by="release_manager", reason="x")
        with pytest.raises(Refused, match="as prescribed again; there is nothing to put back"):
            restore(signoff, "stage:2")
        assert stages(registry) == ["Production", "Archived"]
        reconcile(signoff)
        assert open_deviations(signoff, "m") == []
        assert registry.model("m").aliases == {"champion": 1}

    def test_has_the_one_on_record_before_it_in_the_line_to_return_to(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int
    ) -> None:
        taken_out(signoff, registry)
        by_an_emergency(signoff, registry)
        assert releases.releases(signoff, "m")[0].replaced == 2
        assert releases.previous_champion(signoff, "m") == 2
        releases.rollback(signoff, "m", by="release_manager", reason="Back.")
        assert stages(registry) == ["Archived", "Production", "Archived"]

    def test_has_none_before_it_where_that_was_archived_on_purpose(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int
    ) -> None:
        releases.archive(signoff, V2, by="release_manager", reason="Retired.")
        by_an_emergency(signoff, registry)
        assert releases.previous_champion(signoff, "m") is None


class TestWhatReturnsToProduction:
    def test_is_the_champion_on_record_with_what_was_judged_in_the_record(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int
    ) -> None:
        taken_out(signoff, registry)
        event = restore(signoff, "alias:champion")
        assert event
        assert (event.kind.value, event.ref) == ("restoration:confirmed", V2)
        intended = record(signoff)[-2]
        assert {"findings", "intact", "released_before", "promoter"} <= {one["id"] for one in intended.body["checks"]}
        assert stages(registry) == ["Archived", "Production"]
        assert registry.model("m").aliases == {"champion": 2}
        assert reconcile(signoff) == []
        assert open_deviations(signoff, "m") == []

    @pytest.mark.parametrize(
        ("what", "check", "subject"),
        [
            ("finding", "findings", "stage:2"),
            ("finding", "findings", "alias:champion"),
            ("files", "released_before", "stage:2"),
            ("run", "intact", "stage:2"),
        ],
    )
    def test_is_refused_as_a_rollback_to_it_is(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int, what: str, check: str, subject: str
    ) -> None:
        taken_out(signoff, registry)
        match what:
            case "finding":
                findings.reopen(signoff, V2, resolved, by="reviewer", comment="It was the test set after all.")
            case "files":
                registry.write_file(V2, "model.skops", b"other")
            case _:
                registry.delete_run(V2)
        with pytest.raises(GateRefused) as rollback:
            releases.rollback(signoff, "m", version=2, by="release_manager", reason="x")
        before = kinds(signoff)
        with pytest.raises(GateRefused) as restoration:
            restore(signoff, subject)
        assert restoration.value.verdict == rollback.value.verdict
        assert kinds(signoff) == [*before, "restoration:refused"]
        assert check in {failed["id"] for failed in record(signoff)[-1].failed_checks}
        assert [write for write in registry.writes if not write.startswith("tag")] == []
        assert len(open_deviations(signoff, "m")) >= 2

    def test_is_judged_again_when_the_intent_is_recorded(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def between(*judged: Any, **more: Any) -> Judge:
            findings.reopen(signoff, V2, resolved, by="reviewer2", comment="It still does.")
            return judged_again(*judged, **more)

        taken_out(signoff, registry)
        monkeypatch.setattr(returning, "judged_again", between)
        with refused_once(signoff, registry, "restoration", "finding:reopened"), pytest.raises(GateRefused):
            restore(signoff, "stage:2")

    def test_does_not_stay_there_when_its_files_changed_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int
    ) -> None:
        taken_out(signoff, registry)
        registry.after_write = lambda _: registry.write_file(V2, "model.skops", b"other")
        with pytest.raises(NotAsPrescribed, match="the model's files changed meanwhile; put back"):
            restore(signoff, "stage:2")
        assert kinds(signoff)[-1] == "restoration:aborted"
        assert stages(registry) == ["Archived", "Archived"]
        assert registry.model("m").aliases == {}

    def test_is_signed_as_a_rollback_where_the_policy_asks(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int
    ) -> None:
        people.set_password(signoff.database, "release_manager", "plain:release_manager's own")
        taken_out(signoff, registry)
        signoff = replace(signoff, policies=PolicyBook(policies=(SIGNED,)))
        with pytest.raises(GateRefused, match="did not sign"):
            restore(signoff, "stage:2")
        assert kinds(signoff)[-1] == "restoration:refused"
        assert registry.writes == []
        event = restore(signoff, "stage:2", own("release_manager"))
        assert event
        assert event.get("signature")["meaning"] == meaning(SIGNED, Action.ROLLBACK)
        assert stages(registry) == ["Archived", "Production"]

    @pytest.mark.parametrize("action", [Action.RESTORE, Action.ADOPT])
    def test_is_asked_to_be_signed_for_on_the_page_and_only_that(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int, action: Action
    ) -> None:
        taken_out(signoff, registry)
        signoff = replace(signoff, policies=PolicyBook(policies=(SIGNED,)))
        signoff.snapshot.refresh()
        at = opened(signoff, "release_manager", "model", name="m")
        number = next(one.id for one in open_deviations(signoff, "m") if one.subject == "stage:2")
        at.button(key=f"{action}:{number}").click().run()
        assert not at.exception
        assert [field.label for field in at.text_input if field.label == "Your password"] == ["Your password"] * (
            action is Action.RESTORE
        )

    def test_is_alone_there_though_another_was_adopted_beside_it(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int
    ) -> None:
        adopted_beside_the_champion(signoff, registry)
        registry.set_stage(V2, "Archived")
        reconcile(signoff)
        restore(signoff, "stage:2")
        assert stages(registry) == ["Archived", "Production", "Archived"]
        stage_writes = [write for write in registry.writes if write.startswith("stage")][-2:]
        assert stage_writes == ["stage m/v3 Archived", "stage m/v2 Production"], "never two, not even for a moment"
        assert reconcile(signoff) == []

    def test_is_no_other_than_the_champion_on_record(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int
    ) -> None:
        adopted_beside_the_champion(signoff, registry)
        registry.set_stage(V3, "Archived")
        reconcile(signoff)
        with pytest.raises(Refused, match="By the record v2 is the champion of m, and no other version goes back to"):
            restore(signoff, "stage:3")
        assert kinds(signoff)[-1] == "restoration:refused"
        assert stages(registry) == ["Archived", "Production", "Archived"]


class TestAChangeThatMlflowDoesNotMake:
    def test_is_told_with_mlflows_words_and_is_no_outage(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int
    ) -> None:
        def no(_: str) -> None:
            raise BadInput("There is one in Production already.")

        taken_out(signoff, registry)
        registry.before_write = no
        with pytest.raises(NotAsPrescribed) as told:
            restore(signoff, "stage:2")
        assert record(signoff)[-1].kind.value == "restoration:aborted"
        assert "not changed as prescribed: There is one in Production already" in str(told.value)
        at = AppTest.from_function(_drawn, kwargs={"words": str(told.value)}).run()
        (error,) = at.error
        assert error.value.startswith("**MLflow did not make this change.**")
        assert "Try again" not in error.value
        assert "away" not in error.value


def _drawn(words: str) -> None:
    from components.problems import draw
    from services.errors import NotAsPrescribed

    draw(NotAsPrescribed(words))
