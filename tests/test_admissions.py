"""What the hook in the MLflow server is told: who may change what Production means, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from components.events import event_line
from services import caretaker, proofs
from services.accounts import people
from services.admission import admissions
from services.admission.admissions import Answer
from services.admission.calls import BENEATH, Call, What
from services.domain import Role, VersionRef
from services.errors import NotFound, PromotionConflict, RegistryUnavailable
from services.record import mirror
from services.record.deviations import open_deviations
from services.record.ledger import Event, Kind
from services.record.mirror import OURS
from services.signoff import Signoff
from services.steps import intents
from services.tables import slots as slots_table
from tests.conftest import BOTH
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record, refusals_counted
from tests.outside import alias, ask, call, carry_out, do, stage
from tests.verbs import reconciler, releases, reviews

DATABASES = BOTH
ANYBODY = "mlflow-client"


def approve(signoff: Signoff, ref: VersionRef) -> VersionRef:
    reviews.submit(signoff, ref, by="scientist", comment="Please review.")
    reviews.approve(signoff, ref, by="reviewer", comment="Looks right.")
    return ref


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 1, in Production."""
    ref = approve(signoff, registry.add_version("m", {"val_auc": 0.92}))
    releases.promote(signoff, ref, by="release_manager", reason="First release.")
    return ref


@pytest.fixture
def ready(signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> VersionRef:
    """Version 2, approved."""
    return approve(signoff, registry.add_version("m", {"val_auc": 0.95}))


@pytest.fixture
def free(registry: FakeRegistry, champion: VersionRef) -> VersionRef:
    """Version 2, never submitted."""
    return registry.add_version("m", {"val_auc": 0.85})


def stages(registry: FakeRegistry) -> list[str]:
    return [version.stage for version in registry._of("m")]


def aliases(registry: FakeRegistry) -> dict[str, int]:
    return dict(registry._models["m"].aliases)


def run_out(signoff: Signoff) -> None:
    """Every lease, without waiting for that."""
    with signoff.database.writing() as connection:
        connection.execute(slots_table.update().values(expires_at=0.0))


def refused(signoff: Signoff, answer: Answer, kind: str = "admission:refused") -> str:
    """The answer is no, and the record says so once; returns why."""
    assert not answer.allowed
    assert kinds(signoff)[-1] == kind
    assert kinds(signoff).count(kind) == 1
    assert (answer.change, answer.intent) == (None, None)
    return answer.reason


def passes(signoff: Signoff, answer: Answer) -> None:
    """The answer is a plain yes, and nothing is recorded."""
    assert answer == admissions.ALLOWED


LOOK_ALIKES = (
    "champ\N{LATIN SMALL LETTER DOTLESS I}on",
    "CHAMP\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}ON",
    "\uff43\uff48\uff41\uff4d\uff50\uff49\uff4f\uff4e",  # full-width
    "c\N{LATIN SMALL LETTER H WITH HOOK}ampion",
    "ch\N{CYRILLIC SMALL LETTER A}mpion",
    "\u0421\u041d\u0410\u041c\u0420\u0406\u041e\u039d",  # Cyrillic and Greek capitals
    "cham\N{ZERO WIDTH SPACE}pion",
    "champio\N{COMBINING DIAERESIS}n",
    "charnpi0n",
    "champion_",
    "-ch\N{MODIFIER LETTER APOSTROPHE}ampion",
    "chaIIenger",
    "cha\N{SOFT HYPHEN}llenger",
    "\N{MATHEMATICAL BOLD SMALL C}hallenger",
)


def beneath(registry: FakeRegistry, what: What, version: int) -> Call:
    """A change of something that this one version names."""
    told = call(registry, what).told[0]
    only = replace(told, versions=tuple(v for v in told.versions if v.ref.version == version))
    return Call(what=what, path="1/models/x", told=(only,))


class TestPromotion:
    @pytest.mark.postgresql
    @pytest.mark.parametrize("by_alias", [False, True])
    def test_runs_all_seven_steps_and_leaves_the_record_a_promotion_leaves(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, by_alias: bool
    ) -> None:
        asked = alias(registry, "champion", 2) if by_alias else stage(registry, 2, "Production", archive=True)
        answer = do(signoff, registry, asked)
        assert answer.allowed
        assert stages(registry) == ["Archived", "Production"]
        assert aliases(registry) == {"champion": 2}
        assert kinds(signoff)[-2:] == ["promotion:intended", "promotion:confirmed"]
        closing = record(signoff)[-1]
        assert (closing.actor, closing.body["source"]) == (ANYBODY, "mlflow_client")
        assert closing.verdict.allowed
        assert registry.version(ready).tags["promoted_by"] == ANYBODY
        assert releases.releases(signoff, "m")[0].ref == ready

    def test_acts_as_the_account_of_whom_mlflow_authenticated(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        assert do(signoff, registry, stage(registry, 2, "Production", archive=True, user="release_manager")).allowed
        assert record(signoff)[-1].actor == "release_manager"

    @pytest.mark.parametrize("user", ["scientist", "reviewer", "viewer", "auditor", "admin", "stranger"])
    def test_is_refused_from_the_ledger_alone_without_the_role(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, user: str
    ) -> None:
        registry.calls = 0
        answer = ask(signoff, stage(registry, 2, "Production", archive=True, user=user))
        assert user in refused(signoff, answer, "promotion:refused")
        assert registry.calls == 0
        assert stages(registry) == ["Production", "Staging"]

    def test_is_not_taken_for_those_who_did_not_authenticate_by_its_name(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        answer = ask(signoff, stage(registry, 2, "Production", archive=True, user=ANYBODY))
        assert "has no account here that may act" in refused(signoff, answer, "promotion:refused")
        assert record(signoff)[-1].actor != ANYBODY

    def test_is_refused_where_those_who_did_not_authenticate_have_no_role(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        strict = replace(signoff, settings=replace(signoff.settings, anonymous_roles=frozenset()))
        answer = ask(strict, stage(registry, 2, "Production", archive=True))
        assert "mlflow-client is no role" in refused(signoff, answer, "promotion:refused")

    def test_of_what_was_never_submitted_names_every_failed_check_and_asks_mlflow_at_most_once(
        self, signoff: Signoff, registry: FakeRegistry, free: VersionRef
    ) -> None:
        answer = ask(signoff, stage(registry, 2, "Production", archive=True))
        reason = refused(signoff, answer, "promotion:refused")
        assert answer.verdict
        assert len(answer.verdict.failed) >= 3  # too low, worse than the champion, not submitted, not approved
        assert all(check.reason in reason for check in answer.verdict.failed)
        registry.calls = 0
        again = ask(signoff, stage(registry, 2, "Production", archive=True))
        assert again.reason == reason
        assert registry.calls == 0
        assert refusals_counted(signoff) == 2
        assert kinds(signoff).count("promotion:refused") == 1

    def test_of_what_is_submitted_and_not_approved_is_refused_with_its_checks(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please review.")
        answer = ask(signoff, stage(registry, 2, "Production", archive=True))
        assert "0 of 1 approvals" in refused(signoff, answer, "promotion:refused")
        assert answer.where.endswith("/version?name=m&version=2")

    @pytest.mark.parametrize("by_alias", [False, True])
    def test_of_the_champion_is_allowed_and_changes_nothing(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, by_alias: bool
    ) -> None:
        before = kinds(signoff)
        asked = alias(registry, "champion", 1) if by_alias else stage(registry, 1, "Production")
        answer = do(signoff, registry, asked)
        assert answer.allowed
        assert answer.change
        assert answer.change.before == answer.change.after
        assert kinds(signoff) == before

    def test_onto_an_occupied_stage_without_archiving_is_refused_with_a_hint(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        answer = ask(signoff, stage(registry, 2, "Production"))
        assert "archive_existing_versions=True" in refused(signoff, answer)

    def test_by_an_alias_in_other_letters_is_refused_with_the_right_ones(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        answer = ask(signoff, alias(registry, "Champion", 2))
        assert "Write it champion" in refused(signoff, answer)

    @pytest.mark.parametrize("written", LOOK_ALIKES)
    def test_by_an_alias_that_looks_like_a_protected_one_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, written: str
    ) -> None:
        before = aliases(registry)
        assert "looks like the protected alias ch" in refused(signoff, ask(signoff, alias(registry, written, 2)))
        assert aliases(registry) == before

    def test_while_somebody_else_holds_the_model_names_them(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        first = ask(signoff, stage(registry, 2, "Production", archive=True, user="release_manager"))
        assert first.intent
        second = ask(signoff, stage(registry, 2, "Production", archive=True))
        assert "release_manager acted first" in refused(signoff, second, "promotion:refused")

    def test_that_the_hook_could_not_make_is_recorded_as_aborted_and_frees_the_model(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        answer = ask(signoff, stage(registry, 2, "Production", archive=True))
        assert answer.intent
        assert admissions.conclude(signoff, answer.intent).closed == "aborted"
        assert kinds(signoff)[-1] == "promotion:aborted"
        assert do(signoff, registry, stage(registry, 2, "Production", archive=True)).allowed

    def test_whose_answer_took_too_long_is_closed_again(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        answer = ask(signoff, stage(registry, 2, "Production", archive=True, patience=5.0), waited=5.1)
        assert not answer.allowed
        assert kinds(signoff)[-2:] == ["promotion:intended", "promotion:aborted"]
        assert stages(registry) == ["Production", "Staging"]

    def test_whose_report_was_lost_is_closed_by_the_caretaker(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        answer = ask(signoff, stage(registry, 2, "Production", archive=True))
        assert answer.change
        carry_out(registry, answer.change)
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == "promotion:intended"
        run_out(signoff)
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == "promotion:confirmed"
        assert registry.version(ready).tags["promoted_by"] == ANYBODY

    def test_of_files_that_changed_meanwhile_is_put_back_and_aborted(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        answer = ask(signoff, stage(registry, 2, "Production", archive=True))
        assert answer.change
        assert answer.intent
        carry_out(registry, answer.change)
        registry.write_file(ready, "model.skops", b"something else")
        conclusion = admissions.conclude(signoff, answer.intent)
        assert conclusion.closed == "aborted"
        assert "files changed" in conclusion.reason
        assert stages(registry) == ["Production", "Staging"]
        assert aliases(registry) == {"champion": 1, "challenger": 2}

    def test_told_twice_is_closed_once(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
        answer = do(signoff, registry, stage(registry, 2, "Production", archive=True))
        assert answer.intent
        before = kinds(signoff)
        assert admissions.conclude(signoff, answer.intent).closed == "confirmed"
        assert kinds(signoff) == before

    def test_told_after_the_lease_ran_out_is_left_to_whoever_takes_the_model_next(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        answer = ask(signoff, stage(registry, 2, "Production", archive=True))
        assert answer.intent
        run_out(signoff)
        with pytest.raises(PromotionConflict):
            admissions.conclude(signoff, answer.intent)
        with pytest.raises(NotFound):
            admissions.conclude(signoff, "0" * 32)


class TestReason:
    """Why a script promotes: what it says itself, else what it wrote into the tag before the version had a record."""

    SAID, TAGGED = "Passed AUC > 0.92 on test data v2", "Größer als 0,92"

    @staticmethod
    def promoted(signoff: Signoff, registry: FakeRegistry, **more: Any) -> Event:
        asked = stage(registry, 2, "Production", archive=True, **more)
        answer = do(signoff, registry, asked)
        assert answer.allowed, answer.reason
        return record(signoff)[-1]

    def test_is_what_the_caller_says(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
        event = self.promoted(signoff, registry, reason=self.SAID)
        assert (event.comment, event.get("words_from")) == (self.SAID, None)
        assert registry.version(ready).tags["reason"] == self.SAID

    def test_is_else_what_the_tag_said_before_the_submission_and_says_that_it_was_the_tag(
        self, signoff: Signoff, registry: FakeRegistry, free: VersionRef
    ) -> None:
        registry.tag(free, "reason", f" {self.TAGGED}\n")
        proposed = do(signoff, registry, stage(registry, 2, "Staging"))
        assert proposed.allowed
        event = record(signoff)[-1]
        assert (event.comment, event.get("words_from")) == (self.TAGGED, admissions.TAG)
        assert "reason" not in registry.version(free).tags, "from now on it is part of the record"

    def test_of_a_version_that_a_person_submitted_is_its_tag_of_then(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.tag(ref, "reason", self.TAGGED)
        approve(signoff, ref)
        event = self.promoted(signoff, registry)
        assert (event.comment, event.get("words_from")) == (self.TAGGED, admissions.TAG)
        assert event_line(event, version=False).count("anybody may have set in MLflow") == 1

    def test_that_the_caller_says_goes_before_the_tag(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.tag(ref, "reason", self.TAGGED)
        approve(signoff, ref)
        event = self.promoted(signoff, registry, reason=self.SAID)
        assert (event.comment, event.get("words_from")) == (self.SAID, None)

    def test_of_an_earlier_promotion_is_none_of_a_later_one(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        releases.archive(signoff, champion, by="release_manager", reason="Old.")
        assert registry.version(champion).tags["reason"] == "First release."
        approve(signoff, champion)
        answer = do(signoff, registry, stage(registry, 1, "Production", archive=True))
        assert answer.allowed, answer.reason
        assert record(signoff)[-1].comment == admissions.WORDS

    def test_is_of_a_limited_length_and_printable(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.tag(ref, "reason", "\x1b[31m" + "x" * 8000)
        approve(signoff, ref)
        before, writes = kinds(signoff), list(registry.writes)
        for reason in ("x" * 10_001, "a\x00b"):
            answer = ask(signoff, stage(registry, 2, "Production", archive=True, reason=reason))
            assert (answer.allowed, answer.reason.startswith("The reason h")) == (False, True)
        assert (kinds(signoff), registry.writes) == (before, writes)
        comment = self.promoted(signoff, registry).comment
        assert (len(comment), comment.isprintable(), comment[-1]) == (500, True, "…")

    @pytest.mark.parametrize("to", ["Archived", "None"])
    def test_is_said_with_every_other_move_too(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, to: str
    ) -> None:
        assert do(signoff, registry, stage(registry, 2, to, reason=self.SAID, user="release_manager")).allowed
        assert record(signoff)[-1].comment == self.SAID

    def test_is_said_with_a_move_that_is_free(self, signoff: Signoff, registry: FakeRegistry, free: VersionRef) -> None:
        assert do(signoff, registry, stage(registry, 2, "Archived", reason=self.SAID)).allowed
        assert (kinds(signoff)[-1], record(signoff)[-1].comment) == ("transition:confirmed", self.SAID)


class TestOurOwnWrites:
    def opened(self, signoff: Signoff, registry: FakeRegistry) -> str:
        answer = ask(signoff, stage(registry, 2, "Production", archive=True))
        assert answer.intent
        return intents.proof(signoff, answer.intent)

    def test_with_the_id_of_their_open_intent_get_all_that_it_prescribes(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        intent = self.opened(signoff, registry)
        registry.calls = 0
        answer = ask(signoff, stage(registry, 2, "Production", archive=True, intent=intent))
        assert answer.allowed
        assert answer.intent is None
        assert answer.change
        assert answer.change.after.stages == {1: "Archived", 2: "Production"}
        assert answer.change.after.aliases == {"champion": 2, "challenger": None}
        assert registry.calls == 0
        assert ask(signoff, alias(registry, "champion", 2, intent=intent)).allowed
        assert ask(signoff, call(registry, What.ALIAS_DELETED, alias="challenger", intent=intent)).allowed

    @pytest.mark.parametrize("value", ["an approval of before", None])
    def test_of_tags_that_a_newer_event_overtook_are_refused_and_no_client_is_blamed(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, value: str | None
    ) -> None:
        what, before = What.TAG_DELETED if value is None else What.TAG_SET, kinds(signoff)
        late = partial(call, registry, what, version=1, key="approval_comment", value=value)
        with proofs.ours(signoff):
            assert not ask(signoff, late(intent=registry.intent)).allowed
        assert kinds(signoff) == before
        refused(signoff, ask(signoff, late(intent="record-1.0000")))  # who only says that they are Signoff is recorded

    def test_of_tags_say_that_they_are(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
        said = list[str | None]()
        with pytest.MonkeyPatch.context() as patched:
            write = registry.set_tag
            patched.setattr(registry, "set_tag", lambda *tag: (said.append(registry.intent), write(*tag)))
            reviews.approve(signoff, ready, by="reviewer2", comment="I agree.")
        assert said
        assert all(one and intents.proven(signoff, one) for one in said)

    def test_of_tags_are_exactly_what_their_open_restoration_prescribes(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        """Also where the record says something newer by then, at least that it is being restored."""

        def away(_: str) -> None:
            raise RegistryUnavailable("MLflow is away.")

        reconciler.reconcile(signoff)
        registry.tag(ready, "signoff.event", f"9999:{'0' * 64}")
        reconciler.reconcile(signoff)
        registry.before_write = away
        reviews.approve(signoff, ready, by="reviewer2", comment="I agree.")  # and the mirror waits
        registry.before_write = lambda _: None
        (found,) = open_deviations(signoff)
        opened = reconciler.restore(signoff.prescribing, found.id, by="release_manager", reason="Forged.").event
        assert opened
        intent, tags, before = str(opened.body["intent"]), opened.get("after")["tags"], kinds(signoff)
        wanted = call(
            registry,
            What.TAG_SET,
            version=ready.version,
            key="signoff.event",
            value=tags["signoff.event"],
            intent=intents.proof(signoff, intent),
        )
        passes(signoff, ask(signoff, wanted))
        assert not ask(signoff, replace(wanted, version=1)).allowed, "of another version"
        assert not ask(signoff, replace(wanted, value="1:0")).allowed
        assert not ask(signoff, replace(wanted, what=What.TAG_DELETED, value=None)).allowed
        assert not ask(signoff, replace(wanted, key="approved_by", value="me")).allowed
        assert kinds(signoff) == before
        intents.conclude(signoff, intent)
        assert not ask(signoff, wanted).allowed, "it is over"

    def test_may_put_back_what_was_there(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
        answer = ask(signoff, stage(registry, 2, "Production", archive=True))
        assert answer.change
        carry_out(registry, answer.change)
        assert answer.intent
        proof = intents.proof(signoff, answer.intent)
        back = ask(signoff, stage(registry, 1, "Production", archive=True, intent=proof))
        assert back.allowed
        assert back.change is None

    @pytest.mark.parametrize(
        ("version", "to"), [(1, "None"), (2, "Archived"), (2, "None"), (1, "Staging"), (3, "Production")]
    )
    def test_that_ask_for_something_else_are_refused(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, version: int, to: str
    ) -> None:
        registry.add_version("m", {"val_auc": 0.99})
        intent = self.opened(signoff, registry)
        answer = ask(signoff, stage(registry, version, to, intent=intent))
        assert "prescribes something else" in refused(signoff, answer)

    def test_on_another_model_are_refused(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
        registry.add_version("n", {})
        registry.add_version("n", {})
        intent = self.opened(signoff, registry)
        answer = ask(signoff, call(registry, What.STAGE, "n", 2, stage="Production", intent=intent))
        assert "something else" in refused(signoff, answer)

    def test_that_arrive_after_the_lease_are_refused_and_start_no_promotion_of_their_own(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        intent = self.opened(signoff, registry)
        run_out(signoff)
        answer = ask(signoff, stage(registry, 2, "Production", archive=True, intent=intent))
        assert "is over" in refused(signoff, answer)
        with signoff.database.reading() as connection:
            assert [open_.id for open_ in intents.in_flight(connection)] == [intents.proven(signoff, intent)]

    def test_are_sent_with_the_id(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
        sent: list[str | None] = []
        registry.before_write = lambda what: (
            None if "tag m" in what and "stage" not in what else sent.append(registry.intent)
        )
        releases.promote(signoff, ready, by="release_manager", reason="Fewer misses.")
        assert sent == [intents.proof(signoff, str(record(signoff)[-1].body["closes"]))] * 3

    def test_are_not_those_of_somebody_who_read_the_id_in_the_record(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        """An open intent is in the ledger, which viewers see; it opens nothing without what only we can add."""
        self.opened(signoff, registry)
        (shown,) = [str(event.body["intent"]) for event in record(signoff)[-1:]]
        forged = intents.proof(replace(signoff, settings=replace(signoff.settings, gate_token="guessed")), shown)
        for sent in (shown, f"{shown}.", forged, f"{shown}.{'0' * 64}", f"{shown}.\N{LATIN SMALL LETTER E WITH ACUTE}"):
            for asked in (
                stage(registry, 2, "Production", archive=True, intent=sent),
                stage(registry, 1, "Archived", intent=sent),
                alias(registry, "champion", 2, intent=sent),
            ):
                answer = ask(signoff, asked)
                assert "cannot prove it" in answer.reason
                assert (answer.allowed, answer.change, kinds(signoff)[-1]) == (False, None, "admission:refused")
        assert stages(registry) == ["Production", "Staging"]


class TestOtherMoves:
    def test_of_what_has_no_record_are_free_and_recorded(
        self, signoff: Signoff, registry: FakeRegistry, free: VersionRef
    ) -> None:
        assert do(signoff, registry, stage(registry, 2, "Archived", user="viewer")).allowed
        assert stages(registry) == ["Production", "Archived"]
        assert kinds(signoff)[-2:] == ["transition:intended", "transition:confirmed"]
        assert (record(signoff)[-1].actor, record(signoff)[-1].ref) == ("viewer", free)
        assert not OURS & registry.version(free).tags.keys()
        assert do(signoff, registry, stage(registry, 2, "None")).allowed

    def test_that_were_admitted_are_no_deviation(
        self, signoff: Signoff, registry: FakeRegistry, free: VersionRef
    ) -> None:
        reconciler.reconcile(signoff)
        do(signoff, registry, stage(registry, 2, "Staging"))
        do(signoff, registry, alias(registry, "challenger", 2))
        assert reconciler.reconcile(signoff).events == ()
        registry.set_stage(free, "Archived")
        assert [event.kind for event in reconciler.reconcile(signoff).events] == [Kind.OUTSIDE_STAGE]

    def test_that_change_nothing_are_allowed_without_a_record(
        self, signoff: Signoff, registry: FakeRegistry, free: VersionRef
    ) -> None:
        before = kinds(signoff)
        assert do(signoff, registry, stage(registry, 2, "None")).allowed
        passes(signoff, ask(signoff, call(registry, What.ALIAS_DELETED, alias="challenger")))
        passes(signoff, ask(signoff, alias(registry, "shadow", 2)))
        assert kinds(signoff) == before

    def test_of_the_champion_out_of_production_are_archiving_or_refused(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        for to in ("None", "Staging"):
            answer = ask(signoff, stage(registry, 1, to))
            assert "Archive it" in answer.reason
        answer = ask(signoff, call(registry, What.ALIAS_DELETED, alias="champion"))
        assert "Archive it" in answer.reason
        assert do(signoff, registry, stage(registry, 1, "Archived")).allowed
        assert kinds(signoff)[-1] == "archival:confirmed"
        assert (stages(registry), aliases(registry)) == (["Archived"], {})

    @pytest.mark.parametrize("by_alias", [False, True])
    def test_of_a_submitted_version_out_of_staging_withdraw_it(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, by_alias: bool
    ) -> None:
        asked = call(registry, What.ALIAS_DELETED, alias="challenger") if by_alias else stage(registry, 2, "None")
        assert do(signoff, registry, asked).allowed
        assert kinds(signoff)[-1] == "withdrawal:confirmed"
        assert (stages(registry), aliases(registry)) == (["Production", "None"], {"champion": 1})

    @pytest.mark.parametrize("by_alias", [False, True])
    def test_of_a_version_with_a_record_into_staging_submit_it(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, by_alias: bool
    ) -> None:
        reviews.withdraw(signoff, ready, by="scientist", comment="Not yet.")
        asked = alias(registry, "challenger", 2) if by_alias else stage(registry, 2, "Staging")
        assert do(signoff, registry, asked).allowed
        assert kinds(signoff)[-1] == "submission:confirmed"
        assert (stages(registry), aliases(registry)) == (["Production", "Staging"], {"champion": 1, "challenger": 2})

    def test_need_the_role_of_the_verb_they_come_to(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        answer = ask(signoff, stage(registry, 2, "None", user="viewer"))
        assert "viewer" in refused(signoff, answer, "withdrawal:refused")

    def test_that_are_no_longer_free_when_their_turn_comes_are_refused(
        self, signoff: Signoff, registry: FakeRegistry, free: VersionRef
    ) -> None:
        asked = stage(registry, 2, "Archived")
        registry.set_alias(free, "champion")
        assert "changed m/v2 first" in refused(signoff, ask(signoff, asked), "transition:refused")
        assert stages(registry) == ["Production", "None"]

    def test_that_would_archive_what_is_submitted_are_refused(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.add_version("m", {})
        answer = ask(signoff, stage(registry, 3, "Staging", archive=True))
        assert "v2 of m" in refused(signoff, answer)

    def test_of_a_number_that_was_given_out_again_have_no_record(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.drop_version(ready)
        registry.add_version("m", {})
        assert do(signoff, registry, stage(registry, 2, "Archived")).allowed
        assert kinds(signoff)[-1] == "transition:confirmed"


class TestTags:
    def tag(self, registry: FakeRegistry, key: str, value: str | None, version: int) -> Call:
        what = What.TAG_DELETED if value is None else What.TAG_SET
        return call(registry, what, version=version, key=key, value=value)

    @pytest.mark.parametrize("key", sorted(OURS))
    @pytest.mark.parametrize("spelled", [str.lower, str.upper, str.title])
    def test_of_the_record_are_refused_on_a_version_that_has_one(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, key: str, spelled: object
    ) -> None:
        answer = ask(signoff, self.tag(registry, spelled(key), "mine", 1))  # type: ignore[operator]
        assert "Signoff" in refused(signoff, answer)

    @pytest.mark.parametrize(
        "key", [*sorted(OURS), "Signoff.anything", "SIGNOFF.registered_by", "appr\N{CYRILLIC SMALL LETTER O}ved_by"]
    )
    def test_elsewhere_all_but_a_reason(
        self, signoff: Signoff, registry: FakeRegistry, free: VersionRef, key: str
    ) -> None:
        """They would look like ours on a version that has no record."""
        for asked in (
            self.tag(registry, key, "mine", 2),
            call(registry, What.VERSION_CREATED, tags={key: "mine"}),
        ):
            assert ask(signoff, asked).allowed == (key == "reason")

    def test_of_who_registered_a_version_is_never_written_or_deleted_afterwards(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, free: VersionRef
    ) -> None:
        for ref in (champion, free):
            registry.tag(ref, "signoff.registered_by", "scientist")
            for value in ("scientist", "reviewer", None):
                answer = ask(signoff, self.tag(registry, "signoff.registered_by", value, ref.version))
                assert f"says who registered {ref}" in answer.reason
        approve(signoff, free)
        assert mirror.flush(signoff) == 0
        assert registry.version(free).tags["signoff.registered_by"] == "scientist"
        assert registry.version(free).tags["approval_status"] == "approved"

    def test_that_the_record_prescribes_get_through_and_so_does_what_takes_others_away(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        with signoff.database.reading() as connection:
            wanted = mirror.prescribed(connection, champion, registry.version(champion).identity)
        registry.calls = 0
        before = kinds(signoff)
        for key, value in wanted.items():
            passes(signoff, ask(signoff, self.tag(registry, key, value, 1)))
            assert not ask(signoff, self.tag(registry, key, None, 1)).allowed
        passes(signoff, ask(signoff, self.tag(registry, "Approval_Status", None, 1)))
        assert registry.calls == 0
        assert len(kinds(signoff)) == len(before) + len(wanted)

    def test_that_were_there_when_the_registry_was_met_may_be_put_back(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = registry.add_version("m", {})
        registry.tag(ref, "approval_status", "approved")
        reconciler.reconcile(signoff)
        registry.tag(ref, "approval_status", "rejected")
        passes(signoff, ask(signoff, self.tag(registry, "approval_status", "approved", 1)))
        assert not ask(signoff, self.tag(registry, "approval_status", "auto_approved", 1)).allowed

    def test_hidden_in_the_creation_of_a_version_are_refused(
        self, signoff: Signoff, registry: FakeRegistry, free: VersionRef
    ) -> None:
        passes(signoff, ask(signoff, call(registry, What.VERSION_CREATED, tags={"reason": "x"})))
        answer = ask(signoff, call(registry, What.VERSION_CREATED, tags={"Approval_Status": "approved"}))
        assert "registered without Approval_Status" in refused(signoff, answer)

    def test_that_hide_a_model_are_refused(self, signoff: Signoff, registry: FakeRegistry, free: VersionRef) -> None:
        key = "mlflow.prompt.is_prompt"
        answer = ask(signoff, call(registry, What.MODEL_TAG_SET, key=key, value="true"))
        assert "whether m is a model" in refused(signoff, answer)
        passes(signoff, ask(signoff, call(registry, What.MODEL_TAG_DELETED, key=key)))
        assert "hide every version" in ask(signoff, self.tag(registry, key, "true", 2)).reason
        assert "hide every version" in ask(signoff, call(registry, What.VERSION_CREATED, tags={key: "true"})).reason


class TestNamesAndFiles:
    @pytest.mark.parametrize("what", [What.MODEL_DELETED, What.MODEL_RENAMED])
    def test_of_a_model_that_serves_or_has_a_record_stay(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, what: What
    ) -> None:
        assert "in Production" in refused(signoff, ask(signoff, call(registry, what)))

    @pytest.mark.parametrize("what", [What.MODEL_DELETED, What.MODEL_RENAMED])
    def test_of_others_are_nobodys_business(self, signoff: Signoff, registry: FakeRegistry, what: What) -> None:
        registry.add_version("m", {})
        passes(signoff, ask(signoff, call(registry, what)))

    def test_of_versions_that_serve_or_have_a_record_stay(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.add_version("m", {})
        reviews.withdraw(signoff, ready, by="scientist", comment="Not yet.")
        assert "Archive it first" in ask(signoff, call(registry, What.VERSION_DELETED, version=1)).reason
        assert "has a record" in ask(signoff, call(registry, What.VERSION_DELETED, version=2)).reason
        passes(signoff, ask(signoff, call(registry, What.VERSION_DELETED, version=3)))

    @pytest.mark.parametrize("what", sorted(BENEATH))
    def test_what_a_version_is_made_of_stays_while_it_serves_or_is_submitted(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, what: What
    ) -> None:
        for number, words in (
            (1, "m/v1, which is in Production"),
            (2, "m/v2, which is submitted for review. Withdraw"),
        ):
            reason = ask(signoff, beneath(registry, what, number)).reason
            assert words in reason.replace(" are there, which", ", which")
            assert "1/models/x" in reason
            assert (kinds(signoff)[-1], record(signoff)[-1].ref.version) == ("admission:refused", number)  # type: ignore[union-attr]
        reviews.withdraw(signoff, ready, by="scientist", comment="Not yet.")
        passes(signoff, ask(signoff, beneath(registry, what, 2)))

    @pytest.mark.parametrize("what", sorted(BENEATH))
    def test_what_a_former_champion_is_made_of_stays_for_the_way_back(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, what: What
    ) -> None:
        releases.promote(signoff, ready, by="release_manager", reason="Fewer misses.")
        assert stages(registry) == ["Archived", "Production"]
        assert "m/v1" in refused(signoff, ask(signoff, beneath(registry, what, 1)))
        releases.archive(signoff, ready, by="release_manager", reason="Nobody asks for it.")
        assert "so all of it is kept" in ask(signoff, beneath(registry, what, 2)).reason

    @pytest.mark.parametrize("what", sorted(BENEATH))
    def test_what_nobody_submitted_is_free(
        self, signoff: Signoff, registry: FakeRegistry, free: VersionRef, what: What
    ) -> None:
        passes(signoff, ask(signoff, beneath(registry, what, 2)))

    @pytest.mark.parametrize("what", sorted(BENEATH))
    def test_what_a_client_proposed_is_free_until_a_person_submits_it(
        self, signoff: Signoff, registry: FakeRegistry, free: VersionRef, what: What
    ) -> None:
        """Else anybody could stop a run that somebody else trains."""
        assert do(signoff, registry, stage(registry, 2, "Staging")).allowed
        passes(signoff, ask(signoff, beneath(registry, what, 2)))
        reviews.submit(signoff, free, by="scientist", comment="I answer for it.")
        assert "submitted for review" in ask(signoff, beneath(registry, what, 2)).reason

    @pytest.mark.postgresql
    def test_what_versions_of_several_models_share_stays_for_one_of_them(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        """The same run registered under another name frees nothing."""
        registry.add_version("n", {})
        told = (call(registry, What.EVIDENCE_WRITTEN, "n").told[0], call(registry, What.EVIDENCE_WRITTEN, "m").told[0])
        answer = ask(signoff, Call(what=What.EVIDENCE_WRITTEN, path='The metric "val_auc" of the run 12', told=told))
        assert refused(signoff, answer) == (
            'The metric "val_auc" of the run 12 cannot be written: it would be evidence for m/v1, '
            "which is in Production. Log to another run."
        )
        assert answer.where.endswith("/version?name=m&version=1"), "and leads to the version that it names"
        assert record(signoff)[-1].ref == champion

    def test_in_another_workspace_nothing_is_promoted(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        answer = ask(signoff, stage(registry, 2, "Production", archive=True, workspace="team-a"))
        assert "workspace" in refused(signoff, answer)
        passes(signoff, ask(signoff, call(registry, What.MODEL_DELETED, workspace="team-a")))


class TestTheServiceIdentity:
    def test_is_nobodys_account(self, signoff: Signoff) -> None:
        with pytest.raises(Exception, match="Signoff's own"):
            people.add_account(signoff.database, username=ANYBODY, name="x", hashed="!", roles=[Role.ADMIN])

    def test_gets_the_roles_of_the_setting_only_through_mlflow(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        with pytest.raises(Exception, match="no account"):
            releases.promote(signoff, ready, by=ANYBODY, reason="Through the browser.")


@pytest.mark.postgresql
def test_a_ledger_that_cannot_be_read_is_no(
    signoff: Signoff, registry: FakeRegistry, ready: VersionRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stage(registry, 2, "Production", archive=True)
    with signoff.database.writing() as connection:
        connection.execute(sa.text("ALTER TABLE submissions RENAME TO away"))
    try:
        answer = ask(signoff, asked)
    finally:
        with signoff.database.writing() as connection:
            connection.execute(sa.text("ALTER TABLE away RENAME TO submissions"))
    assert not answer.allowed
    assert stages(registry) == ["Production", "Staging"]
