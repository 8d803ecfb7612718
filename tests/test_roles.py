"""Who has a vote: the roles the judging policy asks for, one vote a person, in the verbs, the inbox and the dossier."""

from __future__ import annotations

from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from services.accounts import people
from services.domain import Action, Actor, Role, Source, VersionRef
from services.errors import NotAllowed
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.signoff import Signoff
from services.views import dossier, inbox
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.pages import opened, text
from tests.test_policy import GOOD
from tests.verbs import releases, reviews

TWO_ROLES = GOOD.replace("  - role: reviewer", "  - role: reviewer\n  - role: release_manager")
VOTES = (reviews.approve, reviews.request_changes, reviews.reject)


def judged_by(signoff: Signoff, text: str) -> Signoff:
    """The same Signoff under one policy."""
    return replace(signoff, policies=PolicyBook(policies=(parse(text, "p.yaml"),)))


@pytest.fixture
def ours(signoff: Signoff) -> Signoff:
    """Under a policy that asks for a reviewer and a release manager."""
    return judged_by(signoff, TWO_ROLES)


@pytest.fixture
def submitted(ours: Signoff, registry: FakeRegistry) -> VersionRef:
    ref = registry.add_version("m", {"val_auc": 0.95})
    reviews.submit(ours, ref, by="scientist", comment="Better recall.")
    return ref


def person(signoff: Signoff, username: str) -> Actor:
    return people.acting(signoff.database, username, Source.BROWSER)


def tasks(signoff: Signoff, username: str) -> list[inbox.Task]:
    items = inbox.judged(signoff, inbox.queue(signoff))
    return [task for task, _ in inbox.tasks(person(signoff, username), items)]


class TestWhoseVoteIsAskedFor:
    def test_both_roles_make_it_approved_and_one_alone_does_not(
        self, ours: Signoff, registry: FakeRegistry, submitted: VersionRef
    ) -> None:
        reviews.approve(ours, submitted, by="reviewer", comment="Right.")
        assert registry.version(submitted).tags["approval_status"] == "pending"
        with pytest.raises(GateRefused, match="0 of 1 approvals by a release manager"):
            releases.promote(ours, submitted, by="release_manager", reason="Now.")
        reviews.approve(ours, submitted, by="release_manager", comment="Fits the release.")
        assert registry.version(submitted).tags["approval_status"] == "approved"
        assert registry.version(submitted).tags["approved_by"] == "reviewer, release_manager"
        assert releases.promote(ours, submitted, by="release_manager", reason="Now.").event

    def test_a_second_vote_of_the_same_role_does_not_stand_for_the_other(
        self, ours: Signoff, submitted: VersionRef
    ) -> None:
        for who in ("reviewer", "reviewer2"):
            reviews.approve(ours, submitted, by=who, comment="Right.")
        with pytest.raises(GateRefused, match="by a release manager"):
            releases.promote(ours, submitted, by="release_manager", reason="Now.")

    @pytest.mark.parametrize("verb", VOTES)
    def test_a_role_the_policy_does_not_name_is_refused_with_those_it_names(
        self, signoff: Signoff, registry: FakeRegistry, verb: object
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="x")
        writes, before = list(registry.writes), kinds(signoff)
        with pytest.raises(NotAllowed, match="asks for the approval of a reviewer, so only they may"):
            verb(signoff, ref, by="release_manager", comment="x")  # type: ignore[operator]
        assert registry.writes == writes
        assert len(kinds(signoff)) == len(before) + 1
        assert record(signoff)[-1].kind.outcome == "refused"
        assert record(signoff)[-1].actor == "release_manager"

    def test_not_being_asked_is_said_before_anything_about_the_version(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        with pytest.raises(NotAllowed, match="approval of a reviewer"):
            reviews.approve(signoff, registry.add_version("m", {"val_auc": 0.95}), by="release_manager", comment="x")

    def test_a_reviewer_has_no_vote_where_only_release_managers_are_asked(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ours = judged_by(signoff, GOOD.replace("role: reviewer", "role: release_manager"))
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(ours, ref, by="scientist", comment="x")
        with pytest.raises(NotAllowed, match="approval of a release manager"):
            reviews.approve(ours, ref, by="reviewer", comment="x")
        assert tasks(ours, "reviewer") == []

    def test_a_role_that_was_taken_away_meanwhile_has_no_vote(
        self, ours: Signoff, submitted: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = reviews.facts.fresh

        def demoted_meanwhile(*args: object, **options: object) -> object:
            people.set_roles(ours.database, "release_manager", [Role.AUDITOR])
            return read(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(reviews.facts, "fresh", demoted_meanwhile)
        with pytest.raises(NotAllowed):
            reviews.approve(ours, submitted, by="release_manager", comment="x")
        assert kinds(ours)[-1] == "approval:refused"


class TestWhatIsOffered:
    def offered(self, signoff: Signoff, ref: VersionRef, username: str) -> set[Action]:
        signoff.snapshot.touch(ref.name)
        return set(dossier.open_dossier(signoff, ref).actions(person(signoff, username))) & {
            Action.APPROVE,
            Action.REQUEST_CHANGES,
            Action.REJECT,
        }

    def test_a_vote_to_the_roles_that_are_asked(self, ours: Signoff, submitted: VersionRef) -> None:
        every = {Action.APPROVE, Action.REQUEST_CHANGES, Action.REJECT}
        for who in ("reviewer", "reviewer2", "release_manager"):
            assert self.offered(ours, submitted, who) == every
            assert inbox.Task.REVIEW in tasks(ours, who)
        for who in ("viewer", "scientist", "auditor", "admin"):
            assert self.offered(ours, submitted, who) == set()
            assert tasks(ours, who) == []

    def test_no_approval_once_those_of_the_role_are_complete_but_still_an_objection(
        self, ours: Signoff, submitted: VersionRef
    ) -> None:
        reviews.approve(ours, submitted, by="reviewer", comment="Right.")
        for who in ("reviewer", "reviewer2"):
            assert self.offered(ours, submitted, who) == {Action.REQUEST_CHANGES, Action.REJECT}
            assert tasks(ours, who) == []
        assert Action.APPROVE in self.offered(ours, submitted, "release_manager")

    def test_an_approval_that_frees_somebody_of_two_roles_for_the_other(
        self, ours: Signoff, submitted: VersionRef
    ) -> None:
        people.set_roles(ours.database, "both", [Role.REVIEWER, Role.RELEASE_MANAGER])
        reviews.approve(ours, submitted, by="both", comment="Right.")
        assert Action.APPROVE not in self.offered(ours, submitted, "both"), "one vote a person"
        for who in ("reviewer", "release_manager"):
            assert Action.APPROVE in self.offered(ours, submitted, who)

    def test_nothing_to_a_release_manager_where_only_reviewers_are_asked(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="x")
        assert self.offered(signoff, ref, "release_manager") == set()


class TestOnThePage:
    def shown(self, signoff: Signoff, ref: VersionRef, username: str) -> AppTest:
        return opened(signoff, username, "version", name=ref.name, version=str(ref.version))

    def test_whose_approvals_are_missing_is_said_and_only_they_have_a_form(
        self, ours: Signoff, submitted: VersionRef
    ) -> None:
        at = self.shown(ours, submitted, "scientist")
        assert "a release manager and a reviewer, neither of them its author or submitter, decide." in text(at)
        assert at_choices(at) == []
        assert at_choices(self.shown(ours, submitted, "release_manager")) == ["Approve", "Request changes", "Reject"]

    def test_who_has_approved_is_offered_what_is_left(self, ours: Signoff, submitted: VersionRef) -> None:
        reviews.approve(ours, submitted, by="reviewer", comment="Right.")
        at = self.shown(ours, submitted, "reviewer")
        assert at_choices(at) == ["Request changes", "Reject"]
        assert "Your approval is not missing" in text(at)
        assert "a release manager who is neither its author nor its submitter decides." in text(
            self.shown(ours, submitted, "viewer")
        )


def at_choices(at: AppTest) -> list[str]:
    return [option for radio in at.radio if radio.label == "Decision" for option in radio.options]
