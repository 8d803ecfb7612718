"""A vote and a statement count only while their person has the role they were given with: roles are of the moment."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from services import caretaker, facts, gate, recount
from services.accounts import keeping, people
from services.checks.approvals import wanted
from services.domain import Actor, Dataset, Role, Source, Status, VersionRef
from services.gate import Check, GateRefused
from services.policy import PolicyBook, parse
from services.record.deviations import open_deviations
from services.record.ledger import Kind
from services.signoff import Signoff
from services.verbs.statements import state_dataset
from services.views import dossier, event_csv, history, inbox
from services.views.dry_run import Decided, dry_run
from services.views.inbox import Task
from services.views.production import production_at
from tests.fakes import HOLDOUT, FakeRegistry
from tests.ledgers import kinds, record
from tests.pages import opened, text
from tests.test_judged_twice import ADMIN, DEFAULT, at_the_last, is_disabled, loses_role, refused_once
from tests.test_policy import GOOD
from tests.test_releases import approve, release, stages
from tests.test_same_bytes import copy
from tests.verbs import break_glass, reconciler, releases, reviews

Leaves = Callable[[Signoff, str], None]
WAYS = {"disabled": (is_disabled, "reviewer's account is disabled"), "demoted": (loses_role, "no longer a reviewer")}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> tuple[Leaves, str]:
    """How a reviewer stops being one, and what the reason says then."""
    return WAYS[request.param]


@pytest.fixture
def leaves(way: tuple[Leaves, str]) -> Leaves:
    return way[0]


@pytest.fixture
def why(way: tuple[Leaves, str]) -> str:
    return way[1]


@pytest.fixture
def ready(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 1, submitted by scientist and approved by reviewer."""
    return approve(signoff, registry.add_version("m", {"val_auc": 0.95}))


def gets(signoff: Signoff, username: str, *roles: Role) -> None:
    keeping.set_roles(signoff.database, by=ADMIN, username=username, roles=roles, at=signoff.now())


def promote(signoff: Signoff, ref: VersionRef, by: str = "release_manager") -> object:
    return releases.promote(signoff, ref, by=by, reason="Now.")


def approvals(signoff: Signoff, ref: VersionRef) -> Check:
    policy, seen = facts.fresh(signoff, ref)
    return next(one for one in gate.evaluate(policy, seen).checks if one.family == "approvals")


def acting(signoff: Signoff, username: str) -> Actor:
    return people.acting(signoff.database, username, Source.BROWSER)


def tasks(signoff: Signoff, username: str) -> list[Task]:
    items = inbox.judged(signoff, inbox.queue(signoff))
    return [task for task, _ in inbox.tasks(acting(signoff, username), items)]


class TestAnApproval:
    def test_of_a_person_who_left_lets_nothing_through_and_the_refusal_says_why(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, leaves: Leaves, why: str
    ) -> None:
        leaves(signoff, "reviewer")
        with pytest.raises(GateRefused, match=f"the approval by reviewer does not count because .*{why}"):
            promote(signoff, ready)
        assert "promotion:intended" not in kinds(signoff)
        assert (stages(registry), "champion" in registry.model("m").aliases) == (["Staging"], False)

    def test_is_judged_again_under_the_lock(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, leaves: Leaves, why: str
    ) -> None:
        at_the_last(registry).meanwhile(lambda: leaves(signoff, "reviewer"))
        event = "account:disabled" if leaves is is_disabled else "account:changed"
        with refused_once(signoff, registry, "promotion", event), pytest.raises(GateRefused, match=why):
            promote(signoff, ready)

    def test_counts_again_when_the_role_is_given_back(self, signoff: Signoff, ready: VersionRef) -> None:
        loses_role(signoff, "reviewer")
        gets(signoff, "reviewer", Role.REVIEWER, Role.VIEWER)
        promote(signoff, ready)
        assert kinds(signoff)[-1] == "promotion:confirmed"

    def test_given_as_a_reviewer_is_no_release_managers_after_a_change_of_roles(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        gets(signoff, "reviewer", Role.RELEASE_MANAGER)
        with pytest.raises(GateRefused, match="because reviewer is no longer a reviewer"):
            promote(signoff, ready, by="reviewer")
        assert stages(registry) == ["Staging"]

    def test_of_two_roles_counts_only_as_the_one_that_is_left(self, signoff: Signoff, registry: FakeRegistry) -> None:
        two = GOOD.replace("tested", "default").replace(
            "  - role: reviewer", "  - role: reviewer\n  - role: release_manager"
        )
        signoff = replace(signoff, policies=PolicyBook(policies=(parse(two, "p.yaml"),)))
        gets(signoff, "both", Role.REVIEWER, Role.RELEASE_MANAGER)
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="x")
        reviews.approve(signoff, ref, by="both", comment="x")
        reviews.approve(signoff, ref, by="release_manager", comment="x")
        gets(signoff, "both", Role.RELEASE_MANAGER)
        failed = gate.evaluate(*facts.fresh(signoff, ref)).failed
        assert [check.id for check in failed] == ["approvals:reviewer"]
        assert "the approval by both does not count because both is no longer a reviewer" in failed[0].reason

    def test_of_a_service_counts_no_longer_once_it_is_disabled(self, signoff: Signoff, registry: FakeRegistry) -> None:
        people.add_automation(signoff.database, username="ci", name="Pipeline", roles=[Role.RELEASE_MANAGER])
        low = parse(f"{DEFAULT}risk: low\nautomation: true\n", "p.yaml")
        signoff = replace(signoff, policies=PolicyBook(policies=(low,)))
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="x")
        reviews.approve_automatically(signoff, ref, by="ci", comment="x")
        is_disabled(signoff, "ci")
        with pytest.raises(GateRefused, match="the approval by ci does not count because ci's account is disabled"):
            promote(signoff, ref)

    def test_is_asked_for_anew_of_others(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, leaves: Leaves
    ) -> None:
        assert tasks(signoff, "reviewer2") == []
        assert tasks(signoff, "release_manager") == [Task.RELEASE]
        leaves(signoff, "reviewer")
        assert tasks(signoff, "reviewer2") == [Task.REVIEW]
        assert tasks(signoff, "release_manager") == []
        assert wanted(acting(signoff, "reviewer2"), *facts.fresh(signoff, ready))
        assert dossier.open_dossier(signoff, ready).missing == (Role.REVIEWER,)
        reviews.approve(signoff, ready, by="reviewer2", comment="I looked as well.")
        promote(signoff, ready)
        assert stages(registry) == ["Production"]

    def test_that_is_lost_shows_as_pending_in_lists_and_tags_and_as_approved_when_it_is_back(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, leaves: Leaves
    ) -> None:
        leaves(signoff, "reviewer")
        caretaker.tidy(signoff)
        assert [one.status for one in inbox.queue(signoff)] == [Status.PENDING]
        assert registry.version(ready).tags["approval_status"] == "pending"
        if leaves is loses_role:
            gets(signoff, "reviewer", Role.REVIEWER)
            caretaker.tidy(signoff)
            assert registry.version(ready).tags["approval_status"] == "approved"

    def test_is_looked_for_once_after_each_change_of_an_account(
        self, signoff: Signoff, ready: VersionRef, leaves: Leaves, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked: list[VersionRef] = []
        shown = facts.shown
        monkeypatch.setattr(facts, "shown", lambda s, ref: (looked.append(ref), shown(s, ref))[1])
        recount.sweep(signoff)
        assert looked == []
        for who in ("reviewer", "reviewer2"):
            leaves(signoff, who)
            looked.clear()
            for _ in range(3):
                recount.sweep(signoff)
            assert looked == [ready]

    def test_of_somebody_else_keeps_the_status(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, leaves: Leaves
    ) -> None:
        reviews.approve(signoff, ready, by="reviewer2", comment="I looked as well.")
        leaves(signoff, "reviewer")
        caretaker.tidy(signoff)
        assert registry.version(ready).tags["approval_status"] == "approved"
        assert approvals(signoff, ready).reason == "Approved by reviewer2."

    def test_is_struck_on_its_page_with_the_reason(
        self, signoff: Signoff, ready: VersionRef, leaves: Leaves, why: str
    ) -> None:
        leaves(signoff, "reviewer")
        said = text(opened(signoff, "reviewer2", "version", name="m", version="1"))
        assert why in said.replace("&#x27;", "'")

    def test_that_was_lost_is_not_named_by_an_emergency(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, leaves: Leaves
    ) -> None:
        leaves(signoff, "reviewer")
        asked = break_glass.ask(signoff, ready, by="break_glass", reason="Nonsense since noon.").event
        assert asked
        event = break_glass.confirm(signoff, asked.seq, by="release_manager", comment="Agreed.").event
        assert event
        assert event.get("approvals") == []
        assert [check.id for check in event.verdict.waived] == ["approvals"]

    def test_that_was_lost_is_named_by_nobody_who_asks_who_approved(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, leaves: Leaves
    ) -> None:
        reviews.approve(signoff, ready, by="reviewer2", comment="I looked as well.")
        leaves(signoff, "reviewer")
        promote(signoff, ready)
        (held,) = production_at(signoff, signoff.now())
        assert (held.approved_by, held.waived) == (("reviewer2",), ())
        file = io.StringIO(newline="")
        event_csv.write(history.stream(signoff, history.Asked(actions=("Promoted",))), file)
        (row,) = csv.DictReader(io.StringIO(file.getvalue(), newline=""))
        assert row["approved_by"] == "reviewer2"


class TestARequestForChanges:
    def test_stands_and_the_submitter_ends_it_by_a_new_round(
        self, signoff: Signoff, registry: FakeRegistry, leaves: Leaves
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="x")
        reviews.request_changes(signoff, ref, by="reviewer", comment="Look at the split.")
        leaves(signoff, "reviewer")
        reviews.approve(signoff, ref, by="reviewer2", comment="It is fine.")
        with pytest.raises(GateRefused, match="reviewer requested changes"):
            promote(signoff, ref)
        reviews.submit(signoff, ref, by="scientist", comment="Looked at.")
        reviews.approve(signoff, ref, by="reviewer2", comment="It is fine.")
        promote(signoff, ref)
        assert stages(registry) == ["Production"]

    @pytest.mark.parametrize("whole", [True, False])
    def test_of_a_version_that_mlflow_lost_is_ended_by_adopting_the_loss(
        self, signoff: Signoff, registry: FakeRegistry, leaves: Leaves, whole: bool
    ) -> None:
        """Nobody can answer, withdraw or reject it any more, and it bars the same bytes under other names."""
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.add_version("twin", {"val_auc": 0.9})
        twin = copy(registry, ref, "twin")
        reviews.submit(signoff, twin, by="scientist", comment="x")
        reviews.request_changes(signoff, twin, by="reviewer", comment="Look at the split.")
        reconciler.reconcile(signoff)
        registry.drop_model("twin") if whole else registry.drop_version(twin)
        reconciler.reconcile(signoff)
        leaves(signoff, "reviewer")
        reviews.submit(signoff, ref, by="scientist", comment="x")
        reviews.approve(signoff, ref, by="reviewer2", comment="It is fine.")
        with pytest.raises(GateRefused, match="reviewer requested changes of twin/v2"):
            promote(signoff, ref)
        (lost,) = (one for one in open_deviations(signoff) if one.kind is Kind.OUTSIDE_DELETED)
        reconciler.adopt(signoff, lost.id, by="release_manager", reason="It was a copy.")
        promote(signoff, ref)
        assert stages(registry) == ["Production"]


class TestTheRecord:
    def test_judges_the_refusal_again_to_the_same_verdict(
        self, signoff: Signoff, ready: VersionRef, leaves: Leaves
    ) -> None:
        leaves(signoff, "reviewer")
        with pytest.raises(GateRefused):
            promote(signoff, ready)
        event = record(signoff)[-1]
        assert [vote["held"] for vote in event.get("approvals")] == [None if leaves is is_disabled else ["viewer"]]
        policy = facts.fresh(signoff, ready)[0]
        with signoff.database.reading() as connection:
            (again,) = dry_run(connection, policy, signoff.policies).judged
        assert (again.then, again.now, again.differences) == (Decided.REFUSED, Decided.REFUSED, ())

    def test_keeps_no_more_of_a_vote_that_counts_than_before(self, signoff: Signoff, ready: VersionRef) -> None:
        promote(signoff, ready)
        assert "held" not in record(signoff)[-1].get("approvals")[0]


class TestAStatement:
    """What a reviewer said of the champion's data set, and then the reviewer left."""

    WRONG = Dataset(name="holdout", digest="deadbeef", context="eval")

    @pytest.fixture
    def candidate(self, signoff: Signoff, registry: FakeRegistry) -> VersionRef:
        release(signoff, registry.add_version("m", {"val_auc": 0.92}, dataset=None))
        self.state(signoff, "reviewer", self.WRONG)
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="x")
        return ref

    def state(self, signoff: Signoff, by: str, dataset: Dataset = HOLDOUT) -> None:
        state_dataset(
            signoff,
            VersionRef(name="m", version=1),
            dataset,
            by=by,
            comment="The notebook has it.",
            source=Source.BROWSER,
        )

    def check(self, signoff: Signoff, ref: VersionRef) -> Check:
        return next(one for one in gate.evaluate(*facts.fresh(signoff, ref)).checks if one.id == "same_dataset")

    def test_counts_no_longer_and_the_refusal_says_why(
        self, signoff: Signoff, candidate: VersionRef, leaves: Leaves, why: str
    ) -> None:
        leaves(signoff, "reviewer")
        found = self.check(signoff, candidate)
        assert not found.passed
        assert "What reviewer states does not count for m/v2: " in found.reason
        assert why in found.reason
        assert "A reviewer who had no hand in m/v2 can state it" in found.reason

    def test_no_longer_shuts_the_model_once_another_reviewer_has_stated_it(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef, leaves: Leaves
    ) -> None:
        self.state(signoff, "reviewer2")
        assert "One of them must be corrected" in self.check(signoff, candidate).reason
        leaves(signoff, "reviewer")
        assert self.check(signoff, candidate).passed
        reviews.approve(signoff, candidate, by="reviewer2", comment="x")
        promote(signoff, candidate)
        assert stages(registry) == ["Archived", "Production"]

    def test_that_let_a_candidate_in_stops_it_under_the_lock(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef, leaves: Leaves
    ) -> None:
        self.state(signoff, "reviewer", HOLDOUT)
        reviews.approve(signoff, candidate, by="reviewer2", comment="x")
        at_the_last(registry).meanwhile(lambda: leaves(signoff, "reviewer"))
        with pytest.raises(GateRefused, match="What reviewer states does not count"):
            promote(signoff, candidate)
        assert stages(registry) == ["Production", "Staging"]

    def test_shows_why_it_does_not_count(
        self, signoff: Signoff, candidate: VersionRef, leaves: Leaves, why: str
    ) -> None:
        leaves(signoff, "reviewer")
        said = text(opened(signoff, "reviewer2", "version", name="m", version="2")).replace("&#x27;", "'")
        assert "does not count: reviewer" in said
        assert why in said

    def test_is_kept_by_the_record_with_the_reason(
        self, signoff: Signoff, candidate: VersionRef, leaves: Leaves
    ) -> None:
        leaves(signoff, "reviewer")
        reviews.approve(signoff, candidate, by="reviewer2", comment="x")
        with pytest.raises(GateRefused, match="does not count"):
            promote(signoff, candidate)
        policy = facts.fresh(signoff, candidate)[0]
        with signoff.database.reading() as connection:
            again = dry_run(connection, policy, signoff.policies).judged[0]
        assert (again.then, again.now, again.differences) == (Decided.REFUSED, Decided.REFUSED, ())
