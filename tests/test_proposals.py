"""A plain MLflow client that moves a version to Staging proposes it; it counts once a person submits it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.admission import admissions
from services.admission.calls import Call, What
from services.domain import Actor, Role, Source, VersionRef
from services.errors import NotAllowed, Refused, SelfApproval
from services.gate import GateRefused
from services.record import mirror
from services.signoff import Signoff
from services.views import inbox
from services.views.inbox import Task
from tests.conftest import BOTH
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.outside import alias, ask, call, do, stage
from tests.pages import opened, text
from tests.test_releases import release
from tests.verbs import reconciler, releases, reviews

DATABASES = BOTH


NOBODY = Actor(
    username="mlflow-client", name="A client", roles=frozenset(), source=Source.MLFLOW_CLIENT, automation=True
)


@pytest.fixture
def candidate(registry: FakeRegistry) -> VersionRef:
    """A good version nobody has submitted yet."""
    return registry.add_version("m", {"val_auc": 0.95})


@pytest.fixture
def strict(signoff: Signoff) -> Signoff:
    """A Signoff that gives clients which did not authenticate no role, as every one but the embedded stack's."""
    return replace(signoff, settings=replace(signoff.settings, anonymous_roles=frozenset()))


@pytest.fixture
def proposed(strict: Signoff, registry: FakeRegistry, candidate: VersionRef) -> VersionRef:
    """The candidate, moved to Staging by a client that nobody authenticated."""
    assert do(strict, registry, stage(registry, candidate.version, "Staging")).allowed
    return candidate


def tasks(signoff: Signoff, username: str) -> list[Task]:
    """What a person's inbox asks for."""
    signoff.snapshot.refresh()
    items = inbox.judged(signoff, inbox.queue(signoff))
    actor = reviews.people.acting(signoff.database, username, reviews.Source.BROWSER)
    return [task for task, _ in inbox.tasks(actor, items)]


def leaving(registry: FakeRegistry, what: What) -> Call:
    """Version 1, or all of the model, is to be deleted or renamed by a client that nobody authenticated."""
    more = {"new_name": "n"} if what is What.MODEL_RENAMED else {}
    return call(registry, what, version=1 if what is What.VERSION_DELETED else None, **more)


class TestPropose:
    @pytest.mark.parametrize("by_alias", [False, True])
    def test_gives_stage_alias_tag_and_record_without_any_role(
        self, strict: Signoff, registry: FakeRegistry, candidate: VersionRef, by_alias: bool
    ) -> None:
        asked = alias(registry, "challenger", 1) if by_alias else stage(registry, 1, "Staging")
        assert do(strict, registry, asked).allowed
        version = registry.version(candidate)
        assert (version.stage, registry.model("m").aliases) == ("Staging", {"challenger": 1})
        assert version.tags["approval_status"] == "pending"
        last = record(strict)[-1]
        assert (last.kind.value, last.actor, last.person) == ("submission:confirmed", "mlflow-client", None)
        assert last.get("proposal")

    @pytest.mark.postgresql
    def test_by_somebody_who_may_submit_is_a_submission_of_theirs(
        self, strict: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        assert do(strict, registry, stage(registry, 1, "Staging", user="scientist")).allowed
        assert record(strict)[-1].actor == "scientist"
        assert not record(strict)[-1].get("proposal")
        assert Task.REVIEW in tasks(strict, "reviewer")

    def test_by_somebody_without_an_account_or_the_role_is_a_proposal(
        self, strict: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        for user in ("stranger", "viewer"):
            ref = registry.add_version("m", {"val_auc": 0.95})
            assert do(strict, registry, stage(registry, ref.version, "Staging", user=user)).allowed
            assert (record(strict)[-1].actor, record(strict)[-1].get("proposal")) == (user, True)

    def test_of_what_is_proposed_already_changes_nothing(
        self, strict: Signoff, registry: FakeRegistry, proposed: VersionRef
    ) -> None:
        before = kinds(strict)
        assert do(strict, registry, stage(registry, 1, "Staging")).allowed
        assert kinds(strict) == before

    def test_moves_the_alias_to_the_newest_and_leaves_the_older_one_pending(
        self, strict: Signoff, registry: FakeRegistry, proposed: VersionRef
    ) -> None:
        second = registry.add_version("m", {"val_auc": 0.95})
        assert do(strict, registry, stage(registry, second.version, "Staging")).allowed
        assert registry.model("m").aliases == {"challenger": second.version}
        assert [found.ref for found in inbox.queue(strict)] == [proposed, second]

    def test_does_not_answer_requested_changes(
        self, strict: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        reviews.submit(strict, candidate, by="scientist", comment="Better.")
        reviews.request_changes(strict, candidate, by="reviewer", comment="Look at the split.")
        registry.set_stage(candidate, "None")
        answer = do(strict, registry, alias(registry, "challenger", 1))
        assert answer.allowed, "it points there already"
        reviews_before = kinds(strict)
        with pytest.raises(Refused, match="a person must answer them"):
            reviews.propose(strict, candidate, actor=NOBODY, comment="Again.")
        assert kinds(strict) == [*reviews_before, "submission:refused"]
        assert inbox.queue(strict)[0].status == "changes_requested"

    def test_of_what_was_in_staging_before_is_nothing(
        self, strict: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry.set_stage(candidate, "Staging")
        assert do(strict, registry, stage(registry, 1, "Staging")).allowed
        assert kinds(strict) == []
        assert inbox.queue(strict) == []


class TestUntilAPersonSubmitsIt:
    def test_those_who_may_submit_are_asked_to_and_reviewers_are_not_asked_yet(
        self, strict: Signoff, proposed: VersionRef
    ) -> None:
        assert tasks(strict, "scientist") == [Task.TAKE_OVER]
        assert tasks(strict, "release_manager") == [Task.TAKE_OVER]
        assert tasks(strict, "reviewer") == []

    def test_no_approval_counts(self, strict: Signoff, registry: FakeRegistry, proposed: VersionRef) -> None:
        reviews.approve(strict, proposed, by="reviewer", comment="Good.")
        with pytest.raises(GateRefused, match="An MLflow client proposed it"):
            releases.promote(strict, proposed, by="release_manager", reason="Now.")
        assert registry.version(proposed).stage == "Staging"
        assert "promotion:intended" not in kinds(strict)

    @pytest.mark.postgresql
    def test_the_client_itself_does_not_release_it(
        self, signoff: Signoff, registry: FakeRegistry, proposed: VersionRef
    ) -> None:
        reviews.approve(signoff, proposed, by="reviewer", comment="Good.")
        answer = do(signoff, registry, stage(registry, 1, "Production", archive=True))
        assert not answer.allowed
        assert "An MLflow client proposed it" in answer.reason
        assert registry.version(proposed).stage == "Staging"


class TestPages:
    def test_say_who_must_do_what(self, signoff: Signoff, registry: FakeRegistry, proposed: VersionRef) -> None:
        home = opened(signoff, "scientist", "home")
        assert not home.exception
        assert "Nobody answers for it yet: a person must submit it" in text(home)
        assert "proposed" in text(home)
        version = opened(signoff, "scientist", "version", name="m", version="1")
        assert "Waits for submission and review only" in text(version)
        assert "Submit v1 for review" in {button.label for button in version.button}
        looked = opened(signoff, "reviewer", "version", name="m", version="1")
        assert "your approval is asked for once a person has submitted it" in text(looked)


class TestSubmittingAProposal:
    def test_is_recorded_and_lets_approvals_count(
        self, strict: Signoff, registry: FakeRegistry, proposed: VersionRef
    ) -> None:
        reviews.approve(strict, proposed, by="reviewer", comment="Good.")
        outcome = reviews.submit(strict, proposed, by="scientist", comment="I trained it.")
        assert outcome.event
        assert outcome.event.kind.value == "submission:taken_over"
        assert "scientist answers for it" in outcome.message
        assert releases.promote(strict, proposed, by="release_manager", reason="Now.").event
        assert registry.version(proposed).stage == "Production"

    def test_bars_the_person_who_did(self, strict: Signoff, proposed: VersionRef) -> None:
        reviews.submit(strict, proposed, by="both", comment="I answer for it.")
        before = kinds(strict)
        with pytest.raises(SelfApproval, match="both answered for it on"):
            reviews.approve(strict, proposed, by="both", comment="I like it.")
        assert kinds(strict) == [*before, "approval:refused"]

    def test_does_not_let_an_earlier_approval_of_that_person_count(self, strict: Signoff, proposed: VersionRef) -> None:
        reviews.approve(strict, proposed, by="both", comment="Good.")
        reviews.submit(strict, proposed, by="both", comment="I answer for it.")
        with pytest.raises(GateRefused, match="0 of 1 approvals"):
            releases.promote(strict, proposed, by="release_manager", reason="Now.")

    def test_again_changes_nothing(self, strict: Signoff, proposed: VersionRef) -> None:
        reviews.submit(strict, proposed, by="scientist", comment="I answer for it.")
        before = kinds(strict)
        assert reviews.submit(strict, proposed, by="release_manager", comment="I do too.").event is None
        assert kinds(strict) == before

    @pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER, Role.AUDITOR])
    def test_needs_the_role(self, strict: Signoff, proposed: VersionRef, role: Role) -> None:
        before = kinds(strict)
        with pytest.raises(NotAllowed):
            reviews.submit(strict, proposed, by=role.value, comment="I answer for it.")
        assert kinds(strict) == [*before, "submission:refused"]

    def test_may_be_withdrawn_by_the_person_who_did(
        self, strict: Signoff, registry: FakeRegistry, proposed: VersionRef
    ) -> None:
        reviews.submit(strict, proposed, by="scientist", comment="I answer for it.")
        assert reviews.withdraw(strict, proposed, by="scientist", comment="Not yet.").event
        assert registry.version(proposed).stage == "None"


def test_a_champion_is_replaced_by_a_proposal_like_by_a_submission(
    signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
) -> None:
    release(signoff, candidate)
    better = registry.add_version("m", {"val_auc": 0.97})
    assert do(signoff, registry, stage(registry, better.version, "Staging")).allowed
    reviews.submit(signoff, better, by="scientist", comment="I answer for it.")
    reviews.approve(signoff, better, by="reviewer", comment="Good.")
    assert do(signoff, registry, stage(registry, better.version, "Production", archive=True)).allowed
    assert registry.model("m").aliases["champion"] == better.version


class TestWhatIsOnlyProposed:
    """Anybody may propose, so it keeps no model from being deleted or renamed for ever."""

    @pytest.mark.parametrize("what", [What.VERSION_DELETED, What.MODEL_DELETED, What.MODEL_RENAMED])
    def test_may_be_deleted_or_renamed_and_ends_on_record(
        self, strict: Signoff, registry: FakeRegistry, proposed: VersionRef, what: What
    ) -> None:
        before = kinds(strict)
        asked = leaving(registry, what)
        assert ask(strict, asked) == admissions.ALLOWED
        assert kinds(strict) == [*before, "withdrawal:confirmed"]
        last = record(strict)[-1]
        assert (last.ref, last.actor, last.person) == (proposed, "mlflow-client", None)
        done = "renamed" if what is What.MODEL_RENAMED else "deleted"
        assert last.comment == f"It is {done} in MLflow, and nobody answered for the proposal."
        assert inbox.queue(strict) == []
        assert ask(strict, asked) == admissions.ALLOWED
        assert kinds(strict) == [*before, "withdrawal:confirmed"]

    def test_and_was_not_deleted_after_all_is_as_the_record_says(
        self, strict: Signoff, registry: FakeRegistry, proposed: VersionRef
    ) -> None:
        reconciler.reconcile(strict)
        assert ask(strict, leaving(registry, What.MODEL_DELETED)).allowed
        assert mirror.flush(strict) == 0
        assert registry.version(proposed).tags["approval_status"] == "withdrawn"
        assert reconciler.reconcile(strict).events == ()
        assert reviews.submit(strict, proposed, by="scientist", comment="I answer for it.").event
        assert not ask(strict, leaving(registry, What.MODEL_DELETED)).allowed

    def test_stays_once_a_person_submitted_it_or_decided_on_it(
        self, strict: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        others = [registry.add_version("m", {"val_auc": 0.95}) for _ in range(3)]
        for ref in (candidate, *others):
            assert do(strict, registry, stage(registry, ref.version, "Staging")).allowed
        reviews.submit(strict, others[0], by="scientist", comment="I answer for it.")
        reviews.approve(strict, others[1], by="reviewer", comment="Good.")
        reviews.reject(strict, others[2], by="reviewer", comment="Not good.")
        queue, before = inbox.queue(strict), kinds(strict)
        for ref in others:
            asked = call(registry, What.VERSION_DELETED, version=ref.version)
            assert f"{ref} has a record, so it cannot be deleted" in ask(strict, asked).reason
        for what in (What.MODEL_DELETED, What.MODEL_RENAMED):
            assert "has a record" in ask(strict, leaving(registry, what)).reason
        assert set(kinds(strict)[len(before) :]) == {"admission:refused"}
        assert inbox.queue(strict) == queue, "no proposal ended"
        assert ask(strict, leaving(registry, What.VERSION_DELETED)).allowed

    @pytest.mark.postgresql
    def test_and_withdrawn_keeps_nothing_either(
        self, strict: Signoff, registry: FakeRegistry, proposed: VersionRef
    ) -> None:
        reviews.withdraw(strict, proposed, by="release_manager", comment="Nobody knows it.")
        before = kinds(strict)
        assert ask(strict, leaving(registry, What.MODEL_DELETED)) == admissions.ALLOWED
        assert kinds(strict) == before
