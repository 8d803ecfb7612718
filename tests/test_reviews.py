"""The verbs of review, on the in-memory registry: what each does, and that a refusal leaves nothing but its event."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from services import facts, recorded_facts
from services.accounts import people
from services.accounts.permissions import may
from services.checks.bound import bound
from services.domain import IS_PROMPT, Action, Actor, Role, Source, Status, VersionRef
from services.errors import (
    BadInput,
    NotAllowed,
    NotFound,
    PromotionConflict,
    Refused,
    RegistryUnavailable,
    SelfApproval,
    StaleDecision,
)
from services.signoff import Signoff
from services.views import inbox
from tests.conftest import BOTH
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.verbs import reviews

DATABASES = BOTH


@pytest.fixture
def candidate(registry: FakeRegistry) -> VersionRef:
    """A good version nobody has submitted yet."""
    return registry.add_version("m", {"val_auc": 0.95})


@pytest.fixture
def submitted(signoff: Signoff, candidate: VersionRef, registry: FakeRegistry) -> VersionRef:
    """The candidate, submitted by ``scientist``; the registry's list of writes starts empty."""
    reviews.submit(signoff, candidate, by="scientist", comment="Better recall.")
    registry.writes.clear()
    return candidate


class TestSubmit:
    def test_moves_it_to_staging_with_alias_tag_and_record(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        reviews.submit(signoff, candidate, by="scientist", comment="Better recall.")
        version = registry.version(candidate)
        assert version.stage == "Staging"
        assert registry.model("m").aliases == {"challenger": 1}
        assert version.tags["approval_status"] == "pending"
        assert kinds(signoff) == ["submission:intended", "submission:confirmed"]
        assert record(signoff)[-1].comment == "Better recall."

    def test_again_changes_nothing(self, signoff: Signoff, registry: FakeRegistry, submitted: VersionRef) -> None:
        outcome = reviews.submit(signoff, submitted, by="scientist", comment="Again.")
        assert outcome.event is None
        assert registry.writes == []
        assert len(kinds(signoff)) == 2

    def test_after_requested_changes_starts_a_new_round(self, signoff: Signoff, submitted: VersionRef) -> None:
        reviews.request_changes(signoff, submitted, by="reviewer", comment="Say on which patients.")
        reviews.submit(signoff, submitted, by="scientist", comment="Described.")
        _, seen = facts.fresh(signoff, submitted)
        assert seen.submission
        assert seen.submission.status == Status.PENDING
        assert seen.decisions == ()

    @pytest.mark.parametrize("comment", ["", "   ", "\n", "\u3164", "\u2800", "\u0300", "\ufe0f"])
    def test_without_words_is_bad_input_and_leaves_nothing(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef, comment: str
    ) -> None:
        with pytest.raises(BadInput, match="comment is needed"):
            reviews.submit(signoff, candidate, by="scientist", comment=comment)
        assert registry.writes == []
        assert kinds(signoff) == []

    def test_of_an_unknown_version_leaves_nothing(self, signoff: Signoff, candidate: VersionRef) -> None:
        with pytest.raises(NotFound):
            reviews.submit(signoff, VersionRef(name="m", version=99), by="scientist", comment="x")
        with pytest.raises(NotFound):
            reviews.submit(signoff, VersionRef(name="<img onerror>", version=1), by="scientist", comment="x")
        assert kinds(signoff) == []

    def test_when_mlflow_is_away_changes_nothing_and_frees_the_slot(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(registry, "version", _away)
            with pytest.raises(RegistryUnavailable):
                reviews.submit(signoff, candidate, by="scientist", comment="x")
        assert kinds(signoff) == []
        reviews.submit(signoff, candidate, by="scientist", comment="x")


class TestApprove:
    def test_writes_record_and_tags_but_promotes_nothing(
        self, signoff: Signoff, registry: FakeRegistry, submitted: VersionRef
    ) -> None:
        reviews.approve(signoff, submitted, by="reviewer", comment="Checked the confusion matrix.")
        version = registry.version(submitted)
        event = record(signoff)[-1]
        assert version.stage == "Staging"
        assert version.tags["approval_status"] == "approved"
        assert version.tags["approved_by"] == "reviewer"
        assert version.tags["approval_comment"] == "Checked the confusion matrix."
        assert version.tags["approved_at"].startswith("2026-11-01T09:")
        assert version.tags["signoff.event"] == f"{event.seq}:{event.hash}"
        assert event.kind.value == "approval:given"
        assert event.get("metrics")["val_auc"]["value"] == "0.95"
        assert event.get("metrics")["val_auc"]["digest"] == "aaaaaaaa"

    @pytest.mark.parametrize("no", [reviews.reject, reviews.request_changes])
    def test_is_not_in_the_tags_beside_the_words_of_a_person_who_says_no(
        self, signoff: Signoff, registry: FakeRegistry, submitted: VersionRef, no: Callable[..., object]
    ) -> None:
        reviews.approve(signoff, submitted, by="reviewer", comment="Yes.")
        no(signoff, submitted, by="reviewer2", comment="The split leaks.")
        tags = registry.version(submitted).tags
        assert tags["approval_comment"] == "The split leaks."
        assert not tags.keys() & {"approved_by", "approved_at"}

    def test_twice_by_the_same_person_is_one_event(self, signoff: Signoff, submitted: VersionRef) -> None:
        reviews.approve(signoff, submitted, by="reviewer", comment="Yes.")
        before = kinds(signoff)
        assert reviews.approve(signoff, submitted, by="reviewer", comment="Yes.").event is None
        assert kinds(signoff) == before

    @pytest.mark.parametrize("own", ["submitter", "author"])
    def test_of_ones_own_is_refused_and_leaves_one_event(
        self, signoff: Signoff, registry: FakeRegistry, own: str
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95}, author="both" if own == "author" else "trainer")
        reviews.submit(signoff, ref, by="both" if own == "submitter" else "scientist", comment="x")
        tags, before = dict(registry.version(ref).tags), kinds(signoff)
        with pytest.raises(SelfApproval, match="somebody else must approve"):
            reviews.approve(signoff, ref, by="both", comment="I like it.")
        assert kinds(signoff) == [*before, "approval:refused"]
        assert registry.version(ref).tags == tags

    def test_of_what_was_not_submitted_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        with pytest.raises(Refused, match="not submitted"):
            reviews.approve(signoff, candidate, by="reviewer", comment="x")
        assert kinds(signoff) == ["approval:refused"]
        assert registry.writes == []

    @pytest.mark.parametrize("change", ["files", "champion"])
    def test_of_something_else_than_was_on_screen_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, submitted: VersionRef, change: str
    ) -> None:
        policy, seen = facts.shown(signoff, submitted)
        if change == "files":
            registry.write_file(submitted, "model.skops", b"other bytes")
        else:
            other = registry.add_version("m", {"val_auc": 0.91})
            registry.set_stage(other, "Production")
        with pytest.raises(StaleDecision, match=change):
            reviews.approve(signoff, submitted, by="reviewer", comment="x", seen=bound(policy, seen))
        assert kinds(signoff)[-1] == "approval:refused"
        assert "approved_by" not in registry.version(submitted).tags

    def test_a_very_long_comment_is_kept_whole_in_the_record_and_cut_visibly_in_the_tag(
        self, signoff: Signoff, registry: FakeRegistry, submitted: VersionRef
    ) -> None:
        comment = "w" * 9_000
        reviews.approve(signoff, submitted, by="reviewer", comment=comment)
        assert record(signoff)[-1].comment == comment
        assert registry.version(submitted).tags["approval_comment"] == "w" * 3_999 + "…"
        with pytest.raises(BadInput, match="100000 characters"):
            reviews.reject(signoff, submitted, by="reviewer", comment="w" * 100_000)

    @pytest.mark.postgresql
    def test_by_two_people_at_once_counts_both(self, signoff: Signoff, submitted: VersionRef) -> None:
        together = threading.Barrier(2)

        def approve(who: str) -> None:
            together.wait()
            reviews.approve(signoff, submitted, by=who, comment=f"{who} agrees.")

        threads = [threading.Thread(target=approve, args=(who,)) for who in ("reviewer", "reviewer2")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(kinds(signoff)[2:]) == ["approval:given", "approval:given"]

    def test_while_someone_else_rejects_is_a_conflict(
        self, signoff: Signoff, submitted: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = facts.fresh

        def read_then_lose(*args: object, **options: object) -> object:
            found = read(*args, **options)  # type: ignore[arg-type]
            monkeypatch.setattr(facts, "fresh", read)
            reviews.reject(signoff, submitted, by="reviewer2", comment="No.")
            return found

        monkeypatch.setattr(facts, "fresh", read_then_lose)
        with pytest.raises(PromotionConflict):
            reviews.approve(signoff, submitted, by="reviewer", comment="Yes.")
        assert kinds(signoff)[-1] == "approval:refused"


class TestRejectAndWithdraw:
    def test_reject_ends_the_submission_and_takes_stage_and_alias_back(
        self, signoff: Signoff, registry: FakeRegistry, submitted: VersionRef
    ) -> None:
        reviews.reject(signoff, submitted, by="reviewer", comment="Leaks the target.")
        assert registry.version(submitted).stage == "None"
        assert registry.model("m").aliases == {}
        assert registry.version(submitted).tags["approval_status"] == "rejected"
        assert facts.fresh(signoff, submitted)[1].submission is None

    def test_a_rejection_after_an_approval_removes_the_approval_from_the_tags(
        self, signoff: Signoff, registry: FakeRegistry, submitted: VersionRef
    ) -> None:
        reviews.approve(signoff, submitted, by="reviewer", comment="Yes.")
        reviews.reject(signoff, submitted, by="reviewer", comment="No, after all.")
        assert "approved_by" not in registry.version(submitted).tags

    def test_withdraw_is_for_the_submitter_or_a_release_manager(self, signoff: Signoff, submitted: VersionRef) -> None:
        with pytest.raises(Refused, match="Only scientist"):
            reviews.withdraw(signoff, submitted, by="both", comment="x")
        reviews.withdraw(signoff, submitted, by="scientist", comment="Found a bug.")
        assert kinds(signoff)[-1] == "withdrawal:confirmed"


class TestRoles:
    def test_roles_are_those_of_the_moment(
        self, signoff: Signoff, submitted: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = facts.fresh

        def demoted_meanwhile(*args: object, **options: object) -> object:
            people.set_roles(signoff.database, "reviewer", [Role.VIEWER])
            return read(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(facts, "fresh", demoted_meanwhile)
        with pytest.raises(NotAllowed):
            reviews.approve(signoff, submitted, by="reviewer", comment="x")
        assert kinds(signoff)[-1] == "approval:refused"

    def test_an_unknown_or_disabled_account_may_nothing(self, signoff: Signoff, submitted: VersionRef) -> None:
        people.disable(signoff.database, "reviewer")
        for who in ("nobody", "reviewer"):
            with pytest.raises(NotAllowed):
                reviews.approve(signoff, submitted, by=who, comment="x")

    def test_an_admin_is_not_a_reviewer(self) -> None:
        admin = Actor(username="a", name="A", roles=frozenset({Role.ADMIN}), source=Source.BROWSER)
        assert not may(admin, Action.APPROVE)
        assert not may(admin, Action.PROMOTE)


class TestInbox:
    def test_shows_a_reviewer_what_is_not_their_own(self, signoff: Signoff, registry: FakeRegistry) -> None:
        first = registry.add_version("m", {"val_auc": 0.95})
        second = registry.add_version("n", {"val_auc": 0.95})
        reviews.submit(signoff, first, by="both", comment="x")
        reviews.submit(signoff, second, by="scientist", comment="x")
        items = inbox.judged(signoff, inbox.queue(signoff))
        both, reviewer = (people.acting(signoff.database, who, reviews.Source.BROWSER) for who in ("both", "reviewer"))
        assert [item.submission.ref for _, item in inbox.tasks(reviewer, items)] == [first, second]
        assert [item.submission.ref for _, item in inbox.tasks(both, items)] == [second]
        assert inbox.next_for(signoff, reviewer, after=first) == second

    def test_a_submission_that_cannot_be_judged_says_why(
        self, signoff: Signoff, submitted: VersionRef, monkeypatch: pytest.MonkeyPatch, registry: FakeRegistry
    ) -> None:
        monkeypatch.setattr(registry, "runs", _away)
        signoff.reader.forget()
        (item,) = inbox.judged(signoff, inbox.queue(signoff))
        assert item.problem == "MLflow is away."
        assert item.blocked


def _away(*_: object) -> None:
    raise RegistryUnavailable("MLflow is away.")


class TestAPrompt:
    def test_is_no_model_that_could_be_submitted(self, signoff: Signoff, registry: FakeRegistry) -> None:
        registry.add_model("p", **{IS_PROMPT: "true"})
        ref = registry.add_version("p", {"val_auc": 0.95})
        registry.writes.clear()
        before = kinds(signoff)
        with pytest.raises(NotFound, match="p is a prompt in MLflow, and no model"):
            reviews.submit(signoff, ref, by="scientist", comment="Please.")
        assert registry.writes == []
        assert kinds(signoff) == before

    def test_nor_is_one_version_that_says_so_of_itself(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.tag(ref, IS_PROMPT, "true")
        registry.writes.clear()
        before = kinds(signoff)
        with pytest.raises(NotFound, match="MLflow does not know m"):
            facts.fresh(signoff, ref)
        with pytest.raises(NotFound, match="MLflow does not know m"):
            reviews.submit(signoff, ref, by="scientist", comment="Please.")
        assert registry.writes == []
        assert kinds(signoff) == before


class TestThousandsOfTags:
    def test_are_not_all_looked_through_for_the_record(
        self, signoff: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.add_model("m", **{f"tag {number}": "x" for number in range(1000)})
        looked = []
        fits = recorded_facts._fits
        monkeypatch.setattr(recorded_facts, "_fits", lambda *text: looked.append(text) or fits(*text))
        reviews.submit(signoff, registry.add_version("m", {"val_auc": 0.95}), by="scientist", comment="Please.")
        assert 0 < len(looked) < 500
        assert record(signoff)[-1].get("facts")["model_tags"]["left_out"] == 970
