"""A champion is judged by what its promotion recorded, whatever somebody writes to its run afterwards."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import sqlalchemy as sa

from services import facts, gate
from services.checks.bound import bound
from services.domain import Dataset, VersionRef
from services.errors import StaleDecision
from services.evidence import Facts
from services.gate import GateRefused, Verdict
from services.policy import PolicyBook, parse
from services.record import deviations
from services.record.ledger import Event
from services.signoff import Signoff
from services.views import dossier, inbox
from tests.fakes import HOLDOUT, FakeRegistry
from tests.ledgers import kinds, record
from tests.pages import opened, text
from tests.test_policy import GOOD
from tests.test_releases import approve, release, stages
from tests.verbs import reconciler, releases, reviews

OTHER = Dataset(name="other", digest="bbbbbbbb", context="eval")


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 1, in Production with 0.95."""
    return release(signoff, registry.add_version("m", {"val_auc": 0.95}))


def judged(signoff: Signoff, ref: VersionRef) -> Verdict:
    policy, seen = facts.fresh(signoff, ref)
    return gate.evaluate(policy, seen)


def seen(signoff: Signoff, ref: VersionRef) -> Facts:
    return facts.fresh(signoff, ref)[1]


def reason(verdict: Verdict, check: str) -> str:
    return next(one.reason for one in verdict.checks if one.id == check)


def compared(signoff: Signoff, ref: VersionRef) -> str:
    return reason(judged(signoff, ref), "champion:val_auc:absolute")


class TestTheBar:
    def test_a_metric_written_to_the_champions_run_lets_no_worse_candidate_in(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        worse = approve(signoff, registry.add_version("m", {"val_auc": 0.91}))
        registry.log_metric(champion, "val_auc", 0.9001)
        before = kinds(signoff)
        with pytest.raises(GateRefused, match=r"val_auc 0\.91 is 0\.04 worse than m/v1 with 0\.95"):
            releases.promote(signoff, worse, by="release_manager", reason="Better than 0.9001.")
        assert stages(registry) == ["Production", "Staging"]
        assert kinds(signoff) == [*before, "promotion:refused"]

    def test_a_metric_written_to_the_champions_run_keeps_no_better_candidate_out(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        better = approve(signoff, registry.add_version("m", {"val_auc": 0.97}))
        registry.log_metric(champion, "val_auc", 0.9999)
        registry.log_input(champion, OTHER)
        registry.log_metric(champion, "val_loss", math.nan, OTHER)
        releases.promote(signoff, better, by="release_manager", reason="Fewer misses.")
        assert stages(registry) == ["Archived", "Production"]

    def test_a_champion_whose_run_is_deleted_is_still_compared_with(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        registry.drop_run(champion)
        verdict = judged(signoff, registry.add_version("m", {"val_auc": 0.97}))
        assert {check.id for check in verdict.failed} == {"submitted", "approvals"}

    def test_what_an_approval_is_bound_to_does_not_change_with_the_champions_run(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.97})
        policy, before = facts.fresh(signoff, ref)
        registry.log_metric(champion, "val_auc", 0.5, OTHER)
        registry.log_input(champion, OTHER)
        registry.drop_run(champion)
        after = seen(signoff, ref)
        assert bound(policy, before) == bound(policy, after)
        assert before.champion
        assert after.champion
        assert (before.champion.metrics, before.champion.holdout) == (after.champion.metrics, after.champion.holdout)

    def test_a_value_that_is_no_number_stays_none(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = release(signoff, registry.add_version("m", {"val_auc": 0.95, "val_loss": math.nan, "top": math.inf}))
        registry.log_metric(ref, "val_loss", 0.0)
        found = seen(signoff, registry.add_version("m", {"val_auc": 0.97})).champion
        assert found
        assert {name: repr(one.value) for name, one in found.metrics.items()} == {
            "val_auc": "0.95",
            "val_loss": "nan",
            "top": "inf",
        }

    def test_one_that_was_never_promoted_here_is_judged_as_mlflow_shows_it_and_the_reason_says_so(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.set_stage(ref, "Production")
        registry.set_alias(ref, "champion")
        registry.log_metric(ref, "val_auc", 0.96)
        said = compared(signoff, registry.add_version("m", {"val_auc": 0.97}))
        assert said == (
            "val_auc 0.97 is 0.01 better than m/v1 with 0.96. "
            "m/v1 is judged as MLflow shows it now: it was not promoted here."
        )

    def test_a_later_version_of_the_same_number_has_no_record(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        registry.drop_version(champion)
        again = registry.add_version("m", {"val_auc": 0.92})
        assert again == champion
        registry.set_stage(again, "Production")
        registry.set_alias(again, "champion")
        assert "with 0.92" in compared(signoff, registry.add_version("m", {"val_auc": 0.97}))

    def test_a_rollback_launders_no_metrics(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        release(signoff, registry.add_version("m", {"val_auc": 0.97}))
        registry.log_metric(champion, "val_auc", 0.9001)
        releases.rollback(signoff, "m", by="release_manager", reason="It answers slowly.")
        assert record(signoff)[-1].get("metrics")["val_auc"]["value"] == "0.9001"
        assert "with 0.95" in compared(signoff, registry.add_version("m", {"val_auc": 0.91}))

    def test_a_policy_of_today_does_not_choose_again_among_two_values_of_then(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        def believing(source: str) -> Signoff:
            text = GOOD.replace("tested", "default").replace("    threshold: 0.9", "    min_absolute_change: 0")
            return replace(
                signoff, policies=PolicyBook(policies=(parse(f"{text}metric_source: {source}\n", "p.yaml"),))
            )

        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.log_on_model(ref, "val_auc", 0.91, HOLDOUT)
        release(believing("run"), ref)
        candidate = registry.add_version("m", {"val_auc": 0.93})
        assert "0.02 worse than m/v1 with 0.95" in compared(believing("run"), candidate)
        assert "0.02 worse than m/v1 with 0.95" in compared(believing("logged_model"), candidate)

    def test_a_second_promotion_of_a_version_counts_from_then_on(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        releases.archive(signoff, champion, by="release_manager", reason="A pause.")
        registry.log_metric(champion, "val_auc", 0.96)
        release(signoff, champion)
        assert "with 0.96" in compared(signoff, registry.add_version("m", {"val_auc": 0.91}))


class TestPages:
    def test_show_the_comparison_that_is_judged(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.91})
        reviews.submit(signoff, ref, by="scientist", comment="Look.")
        registry.log_metric(champion, "val_auc", 0.9001)
        signoff.reader.forget()
        signoff.snapshot.refresh()
        shown = dossier.open_dossier(signoff, ref)
        assert shown.comparison
        (row,) = shown.comparison.metrics
        assert [cell.value for cell in row.cells] == [0.95, 0.91]
        (item,) = inbox.judged(signoff, inbox.queue(signoff))
        assert item.verdict
        assert "with 0.95" in reason(item.verdict, "champion:val_auc:absolute")

    def test_say_what_describes_it_and_changed_after_its_release(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        signoff.snapshot.refresh()
        assert dossier.open_dossier(signoff, champion).rewritten == ()
        assert "Since its release" not in text(opened(signoff, "reviewer", "version", name="m", version="1"))
        registry.describe(champion, "Never use it for children.")
        signoff.reader.forget()
        signoff.snapshot.refresh()
        shown = text(opened(signoff, "reviewer", "version", name="m", version="1"))
        assert "Since its release on " in shown
        assert "the description of the version or its model changed." in shown

    def test_say_nothing_of_what_changed_before_its_release(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.97}))
        registry.describe(ref, "Never use it for children.")
        releases.promote(signoff, ref, by="release_manager", reason="Read as it is now.")
        signoff.snapshot.refresh()
        assert dossier.open_dossier(signoff, ref).rewritten == ()

    def test_a_queue_reads_the_champions_events_once_however_long_it_is(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        for number in range(6):
            release(signoff, registry.add_version(f"m{number}", {"val_auc": 0.95}))
            reviews.submit(signoff, registry.add_version(f"m{number}", {"val_auc": 0.97}), by="scientist", comment="x")
        signoff.snapshot.refresh()
        queue = inbox.queue(signoff)
        read: list[str] = []
        sa.event.listen(signoff.database.engine, "before_cursor_execute", lambda *given: read.append(given[2]))
        items = inbox.judged(signoff, queue)
        assert [item.facts and item.facts.champion and item.facts.champion.released for item in items].count(None) == 0
        assert sum("FROM events" in statement for statement in read) == 1


class TestOneThatWasChangedPastSignoff:
    """What is in Production by the record is what a candidate must be compared with, not what somebody put there."""

    @pytest.fixture
    def better(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> VersionRef:
        """Version 3, approved, better than the weak version 2 and the champion; the registry was met before."""
        registry.add_version("m", {"val_auc": 0.2})
        reconciler.reconcile(signoff)
        return approve(signoff, registry.add_version("m", {"val_auc": 0.97}))

    def weak_one_put_there(self, registry: FakeRegistry, champion: VersionRef) -> None:
        registry.set_stage(champion, "Archived")
        registry.set_stage(VersionRef(name="m", version=2), "Production")
        registry.set_alias(VersionRef(name="m", version=2), "champion")

    def weak_one_put_in_its_stage(self, registry: FakeRegistry, champion: VersionRef) -> None:
        registry.set_stage(champion, "Archived")
        registry.set_stage(VersionRef(name="m", version=2), "Production")

    def taken_away(self, registry: FakeRegistry, champion: VersionRef) -> None:
        registry.set_stage(champion, "Archived")
        registry.delete_alias("m", "champion")

    @pytest.mark.parametrize(
        ("change", "shown"),
        [
            ("weak_one_put_there", "v2 is the champion"),
            ("weak_one_put_in_its_stage", "v2 is the version in Production"),
            ("taken_away", "no version is the champion"),
        ],
    )
    @pytest.mark.parametrize("found", [False, True], ids=["unseen", "found"])
    def test_refuses_every_promotion_until_it_is_settled(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        champion: VersionRef,
        better: VersionRef,
        change: str,
        shown: str,
        found: bool,
    ) -> None:
        getattr(self, change)(registry, champion)
        if found:
            signoff.snapshot.refresh()
            assert reconciler.reconcile(signoff).events
        before = stages(registry)
        with pytest.raises(GateRefused, match=f"In MLflow {shown} of m, and by the record it is v1"):
            releases.promote(signoff, better, by="release_manager", reason="Go.")
        assert kinds(signoff)[-1] == "promotion:refused"
        assert stages(registry) == before
        signoff.snapshot.refresh()
        assert "settled" in {check.id for check in dossier.open_dossier(signoff, better).verdict.failed}

    def test_lets_the_way_back_open(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        second = release(signoff, registry.add_version("m", {"val_auc": 0.97}))
        reconciler.reconcile(signoff)
        self.taken_away(registry, second)
        releases.rollback(signoff, "m", version=1, by="release_manager", reason="Back.")
        assert registry.version(champion).stage == "Production"

    def test_is_what_counts_once_it_is_adopted(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, better: VersionRef
    ) -> None:
        self.weak_one_put_there(registry, champion)
        signoff.snapshot.refresh()
        reconciler.reconcile(signoff)
        for open_ in deviations.open_deviations(signoff, "m"):
            reconciler.adopt(signoff, open_.id, by="release_manager", reason="We want that.")
        reviews.approve(signoff, better, by="reviewer", comment="Against v2.")
        releases.promote(signoff, better, by="release_manager", reason="Go.")
        assert registry.version(better).stage == "Production"


class TestOrdinaryTraining:
    def test_that_goes_on_after_the_model_was_logged_is_no_deviation(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        rules = parse(GOOD + "metric_source: run\n", "p.yaml")
        signoff = replace(signoff, policies=PolicyBook(policies=(rules,)))
        ref = registry.add_version("m", {"val_auc": 0.97})
        registry.log_on_model(ref, "val_auc", 0.93)
        release(signoff, ref)
        signoff.snapshot.refresh()
        reconciler.reconcile(signoff)
        assert [kind for kind in kinds(signoff) if kind.startswith("outside:")] == []
        registry.log_on_model(ref, "val_auc", 0.94)
        reconciler.reconcile(signoff)
        assert [kind for kind in kinds(signoff) if kind.startswith("outside:")] == ["outside:evidence"]


class TestDeviation:
    @pytest.fixture
    def met(self, signoff: Signoff, champion: VersionRef) -> Signoff:
        """The registry was met, and nothing is to be found."""
        assert self.found(signoff) == ["registry:baseline"]
        assert self.found(signoff) == []
        return signoff

    def found(self, signoff: Signoff) -> list[str]:
        return [event.kind.value for event in self.events(signoff)]

    def events(self, signoff: Signoff) -> tuple[Event, ...]:
        return reconciler.reconcile(signoff).events

    def test_changed_numbers_are_found_once_and_named(
        self, met: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        registry.log_metric(champion, "val_auc", 0.9001)
        registry.log_metric(champion, "val_f1", math.inf)
        (event,) = self.events(met)
        assert (event.kind.value, event.ref, event.actor) == ("outside:evidence", champion, "unknown")
        promoted = next(one for one in record(met) if one.kind.value == "promotion:confirmed")
        assert event.comment == (
            f"The evidence of the champion m/v1 is not as record #{promoted.seq} has it any more: "
            "val_auc is 0.9001 instead of 0.95, val_f1 inf was added."
        )
        (open_,) = deviations.open_deviations(met, "m")
        assert open_.serving
        assert self.found(met) == []

    def test_another_data_set_is_found(self, met: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        registry.log_metric(champion, "val_auc", 0.95, OTHER)
        (event,) = self.events(met)
        assert "val_auc was measured on other (bbbbbbbb) instead of holdout (aaaaaaaa)" in event.comment

    def test_a_deleted_run_is_found(self, met: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        registry.drop_run(champion)
        (event,) = self.events(met)
        assert "val_auc is gone" in event.comment

    def test_it_ends_when_the_numbers_are_back(
        self, met: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        registry.log_metric(champion, "val_auc", 0.9001)
        assert self.found(met) == ["outside:evidence"]
        registry.log_metric(champion, "val_auc", 0.95)
        assert self.found(met) == ["outside:ended"]
        assert deviations.open_deviations(met) == []

    def test_it_ends_with_the_champion(self, met: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        registry.log_metric(champion, "val_auc", 0.9001)
        assert self.found(met) == ["outside:evidence"]
        release(met, registry.add_version("m", {"val_auc": 0.97}))
        assert self.found(met) == ["outside:ended"]
        assert self.found(met) == []

    def test_adopted_it_is_silent_and_changes_nothing_that_is_judged(
        self, met: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        registry.log_metric(champion, "val_auc", 0.9001)
        self.found(met)
        (open_,) = deviations.open_deviations(met)
        assert "compared with what the promotion recorded" in open_.beyond_restoring
        reconciler.adopt(met, open_.id, by="release_manager", reason="A typing error of ours.")
        assert self.found(met) == []
        assert "with 0.95" in compared(met, registry.add_version("m", {"val_auc": 0.91}))
        registry.log_metric(champion, "val_auc", 0.8)
        assert self.found(met) == ["outside:evidence"]

    def test_something_else_than_was_found_is_not_adopted(
        self, met: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        registry.log_metric(champion, "val_auc", 0.9001)
        self.found(met)
        (open_,) = deviations.open_deviations(met)
        registry.log_metric(champion, "val_auc", 0.1)
        with pytest.raises(StaleDecision):
            reconciler.adopt(met, open_.id, by="release_manager", reason="x")
        assert [one.id for one in deviations.open_deviations(met)] == [open_.id]

    def test_what_is_written_to_others_than_the_champion_is_none(
        self, met: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.91})
        registry.log_metric(ref, "val_auc", 0.99)
        unpromoted = registry.add_version("n", {"val_auc": 0.91})
        registry.set_alias(unpromoted, "champion")
        self.found(met)
        registry.log_metric(unpromoted, "val_auc", 0.99)
        assert self.found(met) == []
