"""A champion that names no data set: said in time, and a reviewer's statement is the way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from components.links import version_query
from services import facts, gate
from services.accounts import people
from services.accounts.permissions import ROLES_FOR
from services.checks.bound import bound
from services.domain import Action, Dataset, Role, Source, VersionRef
from services.errors import BadInput, NotAllowed, Refused
from services.evidence import Facts
from services.gate import Check, GateRefused
from services.policy import PolicyBook, parse
from services.signoff import Signoff
from services.verbs.reviews import Outcome
from services.verbs.statements import state_dataset
from services.views import dossier
from tests.fakes import HOLDOUT, FakeRegistry
from tests.ledgers import kinds, record
from tests.pages import opened, text
from tests.test_pages import button
from tests.test_policy import GOOD
from tests.test_releases import approve, release
from tests.verbs import releases, reviews

OTHER = Dataset(name="other", digest="bbbbbbbb", context="eval")
LINES = '`dataset = mlflow.data.from_pandas(df, name="holdout")` and `mlflow.log_input(dataset, context="eval")`'


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 1, in Production; its run names no data set."""
    return release(signoff, registry.add_version("m", {"val_auc": 0.92}, dataset=None))


def state(signoff: Signoff, ref: VersionRef, dataset: Dataset = HOLDOUT, by: str = "reviewer") -> Outcome:
    return state_dataset(
        signoff, ref, dataset, by=by, comment="It is in the notebook of that day.", source=Source.BROWSER
    )


def seen(signoff: Signoff, ref: VersionRef) -> Facts:
    return facts.fresh(signoff, ref)[1]


def check(signoff: Signoff, ref: VersionRef) -> Check:
    policy, found = facts.fresh(signoff, ref)
    return next(one for one in gate.evaluate(policy, found).checks if one.id == "same_dataset")


class TestWhatIsSaid:
    def test_a_first_champion_passes_with_a_warning_and_the_two_lines(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        found = check(signoff, registry.add_version("m", {"val_auc": 0.92}, dataset=None))
        assert (found.passed, found.value) == (True, "none named: no later version could be compared with it")
        assert found.reason.startswith(
            "There is no champion to compare with. m/v1 does not name the data set it was measured on."
        )
        assert LINES in found.reason

    def test_submitting_one_says_so_at_once(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.92}, dataset=None)
        said = reviews.submit(signoff, ref, by="scientist", comment="The first one.").message
        assert "m/v1 does not name the data set it was measured on" in said
        assert LINES in said

    def test_submitting_one_with_a_data_set_says_nothing_of_it(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.92})
        assert reviews.submit(signoff, ref, by="scientist", comment="x").message == "m/v1 is submitted for review."

    def test_the_refusal_of_the_next_one_says_what_to_do(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        found = check(signoff, registry.add_version("m", {"val_auc": 0.95}))
        assert not found.passed
        assert "The champion m/v1 does not name the data set it was measured on." in found.reason
        assert "`signoff state-dataset m 1 --name NAME --digest DIGEST --comment WHY`" in found.reason
        assert LINES in found.reason

    @pytest.mark.parametrize("with_data", [True, False])
    def test_the_refusal_of_one_without_a_data_set_shows_the_two_lines(
        self, signoff: Signoff, registry: FakeRegistry, with_data: bool
    ) -> None:
        release(signoff, registry.add_version("m", {"val_auc": 0.92}, dataset=HOLDOUT if with_data else None))
        found = check(signoff, registry.add_version("m", {"val_auc": 0.95}, dataset=None))
        assert (found.passed, found.value) == (False, "no evidence")
        assert "m/v2 does not name the data set it was measured on." in found.reason
        assert LINES in found.reason


class TestState:
    def test_lets_a_candidate_of_that_data_set_in_and_says_by_whose_word(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        outcome = state(signoff, champion)
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        found = check(signoff, ref)
        assert found.passed
        assert found.threshold == "holdout (aaaaaaaa), as stated by reviewer on 2026-11-01"
        assert found.reason == (
            "Both were measured on holdout (aaaaaaaa), by MLflow's digest: it covers the first 10,000 rows and is no "
            "proof. That the champion m/v1 was is the word of a reviewer. "
            "reviewer stated that on 2026-11-01: It is in the notebook of that day."
        )
        releases.promote(signoff, ref, by="release_manager", reason="Fewer misses.")
        (event,) = (one for one in record(signoff) if one.kind.value == "statement:recorded")
        assert event == outcome.event
        assert (event.actor, event.ref) == ("reviewer", champion)
        assert event.get("stated") == {"dataset": "holdout", "digest": "aaaaaaaa"}

    def test_refuses_a_candidate_of_another_data_set(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        state(signoff, champion)
        found = check(signoff, registry.add_version("m", {"val_auc": 0.95}, dataset=OTHER))
        assert not found.passed
        assert "Measured on other (bbbbbbbb), the champion m/v1 on holdout (aaaaaaaa)." in found.reason
        assert "reviewer stated that on 2026-11-01" in found.reason

    @pytest.mark.parametrize("hand", ["trained", "submitted"])
    def test_does_not_count_for_a_candidate_of_the_same_person(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, hand: str
    ) -> None:
        state(signoff, champion, by="both")
        ref = registry.add_version("m", {"val_auc": 0.95}, author="both" if hand == "trained" else "trainer")
        reviews.submit(signoff, ref, by="scientist" if hand == "trained" else "both", comment="Better.")
        found = check(signoff, ref)
        assert not found.passed
        why = "is recorded as its author." if hand == "trained" else "submitted it on 2026-11-01."
        assert f"What both states does not count for m/v2: both {why}" in found.reason
        assert check(signoff, registry.add_version("m", {"val_auc": 0.95})).passed
        state(signoff, champion, by="reviewer")
        assert check(signoff, ref).passed

    def test_of_two_who_disagree_keeps_everything_out_until_one_is_corrected(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        state(signoff, champion)
        state(signoff, champion, OTHER, by="reviewer2")
        found = check(signoff, ref)
        assert not found.passed
        assert "do not agree: holdout (aaaaaaaa), other (bbbbbbbb)" in found.reason
        state(signoff, champion, by="reviewer2")
        assert check(signoff, ref).passed

    def test_again_changes_nothing(self, signoff: Signoff, champion: VersionRef) -> None:
        state(signoff, champion)
        before = kinds(signoff)
        assert state(signoff, champion).event is None
        assert kinds(signoff) == before

    def test_voids_approvals_given_before_it(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        assert registry.version(ref).tags["approval_status"] == "approved"
        policy, before = facts.fresh(signoff, ref)
        state(signoff, champion)
        assert bound(policy, before).differences(bound(policy, seen(signoff, ref))) == (
            "what is stated about the champion's data set changed",
        )
        assert registry.version(ref).tags["approval_status"] == "pending"
        with pytest.raises(GateRefused, match="void because check same_dataset failed then and passes now"):
            releases.promote(signoff, ref, by="release_manager", reason="x")
        reviews.approve(signoff, ref, by="reviewer", comment="Fine, on the notebook's word.")
        releases.promote(signoff, ref, by="release_manager", reason="x")

    def test_leaves_approvals_of_a_version_for_which_it_does_not_count(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}, author="both"))
        state(signoff, champion, by="both")
        assert registry.version(ref).tags["approval_status"] == "approved"
        policy, found = facts.fresh(signoff, ref)
        assert {one.id for one in gate.evaluate(policy, found).failed} == {"same_dataset"}

    def test_ends_with_the_champion(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        state(signoff, champion, OTHER)
        registry.drop_version(champion)
        again = registry.add_version("m", {"val_auc": 0.92}, dataset=None)
        assert again == champion
        release(signoff, again)
        found = check(signoff, registry.add_version("m", {"val_auc": 0.95}, dataset=OTHER))
        assert not found.passed
        assert "stated" not in found.reason

    def test_a_data_set_logged_on_the_champions_run_later_is_no_statement(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        registry.log_input(champion, HOLDOUT)
        assert not check(signoff, registry.add_version("m", {"val_auc": 0.95})).passed

    def test_is_shown_on_the_candidate_and_on_the_champion(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        state(signoff, champion)
        signoff.snapshot.refresh()
        for one in (ref, champion):
            (shown,) = dossier.open_dossier(signoff, one).statements
            assert (shown.by, shown.dataset, shown.comment) == (
                "reviewer",
                "holdout",
                "It is in the notebook of that day.",
            )


class TestPage:
    def test_offers_the_form_where_the_check_fails_with_the_candidates_own_data_set(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        at = opened(signoff, "reviewer", "version", **version_query(ref))
        assert "m v1 does not name the data set it was measured on" in text(at)
        fields = {field.label: field for field in at.text_input}
        assert (fields["Data set"].value, fields["Digest"].value) == ("holdout", "aaaaaaaa")
        next(area for area in at.text_area if "How do you know?" in (area.placeholder or "")).set_value("I was there.")
        button(at, "State the data set of v1").click().run()
        assert not at.exception
        assert "as stated by reviewer" in check(signoff, ref).threshold
        assert "Stated" in text(at)
        assert "I was there." in text(at)

    @pytest.mark.parametrize("person", ["scientist", "release_manager", "auditor"])
    def test_offers_nobody_else_a_form(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, person: str
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        at = opened(signoff, person, "version", **version_query(ref))
        assert not [field for field in at.text_input if field.label == "Data set"]


class TestRefused:
    @pytest.mark.parametrize("role", sorted(set(Role) - ROLES_FOR[Action.STATE_DATASET]))
    def test_to_everybody_but_reviewers(self, signoff: Signoff, champion: VersionRef, role: Role) -> None:
        people.add_account(signoff.database, username="one", name="O", hashed="!", roles=[role])
        before = kinds(signoff)
        with pytest.raises(NotAllowed, match="Only a reviewer may state dataset"):
            state(signoff, champion, by="one")
        assert kinds(signoff) == [*before, "statement:refused"]

    def test_of_what_is_not_the_champion(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        other = registry.add_version("m", {"val_auc": 0.95}, dataset=None)
        self.refused(signoff, lambda: state(signoff, other), "m/v2 is not the champion")

    def test_of_a_champion_that_names_its_data_set(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = release(signoff, registry.add_version("m", {"val_auc": 0.92}))
        self.refused(signoff, lambda: state(signoff, ref, OTHER), "m/v1 names its data set itself: holdout")

    def test_where_the_policy_compares_no_data_sets(self, signoff: Signoff, champion: VersionRef) -> None:
        free = parse(
            GOOD.replace("same_dataset: true", "same_dataset: false").replace("tested", "default"), "free.yaml"
        )
        assert not free.rules.same_dataset
        signoff = replace(signoff, policies=PolicyBook(policies=(free,)))
        self.refused(signoff, lambda: state(signoff, champion), "compares no data sets")

    @pytest.mark.parametrize(
        "dataset",
        [
            None,
            Dataset(name=" ", digest="a", context=""),
            Dataset(name="a", digest="", context=""),
            Dataset(name="a\nb", digest="a", context=""),
            Dataset(name="a", digest="a" * 65, context=""),
        ],
    )
    def test_of_no_data_set(self, signoff: Signoff, champion: VersionRef, dataset: Dataset | None) -> None:
        before = kinds(signoff)
        with pytest.raises(BadInput, match="data set"):
            state_dataset(signoff, champion, dataset, by="reviewer", comment="x", source=Source.BROWSER)
        assert kinds(signoff) == before

    def refused(self, signoff: Signoff, act: Callable[[], object], why: str) -> None:
        before = kinds(signoff)
        with pytest.raises(Refused, match=why):
            act()
        assert kinds(signoff) == [*before, "statement:refused"]
