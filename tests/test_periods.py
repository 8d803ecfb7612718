"""The record read as time: which version was in which stage, from when until when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.domain import ModelVersion, Stage, VersionRef
from services.errors import NotFound
from services.record.ledger import Event
from services.record.periods import Period, periods
from services.side_by_side import lineage
from services.signoff import Signoff
from tests.fakes import START, FakeRegistry
from tests.ledgers import record
from tests.test_releases import release
from tests.verbs import releases, reviews


def story(signoff: Signoff, name: str = "m") -> lineage.Lineage:
    signoff.snapshot.refresh()
    return lineage.shown(signoff, name)


def of(found: tuple[Period, ...], version: int) -> list[tuple[str, bool, str]]:
    """Stage, whether it lasts, who brought it there."""
    return [(p.stage, p.until is None, p.by) for p in found if p.ref.version == version]


@pytest.fixture
def two(signoff: Signoff, registry: FakeRegistry) -> tuple[VersionRef, VersionRef]:
    """v1 replaced by v2 in Production."""
    return (
        release(signoff, registry.add_version("m", {"val_auc": 0.92})),
        release(signoff, registry.add_version("m", {"val_auc": 0.95})),
    )


class TestPeriods:
    def test_a_promotion_begins_one_period_and_ends_another(
        self, signoff: Signoff, two: tuple[VersionRef, VersionRef]
    ) -> None:
        found = story(signoff).periods
        assert of(found, 1) == [
            (Stage.NONE, False, ""),
            (Stage.STAGING, False, "scientist"),
            (Stage.PRODUCTION, False, "release_manager"),
            (Stage.ARCHIVED, True, "release_manager"),
        ]
        assert of(found, 2)[-1] == (Stage.PRODUCTION, True, "release_manager")
        replaced = next(p.until for p in found if p.ref.version == 1 and p.stage == Stage.PRODUCTION)
        assert replaced == next(p.since for p in found if p.ref.version == 2 and p.stage == Stage.PRODUCTION)

    def test_a_rollback_gives_a_second_period_in_production(
        self, signoff: Signoff, two: tuple[VersionRef, VersionRef]
    ) -> None:
        releases.rollback(signoff, "m", by="release_manager", reason="It was worse.")
        in_production = [p for p in story(signoff).periods if p.ref.version == 1 and p.stage == Stage.PRODUCTION]
        assert [p.until is None for p in in_production] == [False, True]

    def test_a_refusal_changes_nothing(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.5})
        with pytest.raises(Exception, match="may not go"):
            releases.promote(signoff, ref, by="release_manager", reason="Please.")
        assert of(story(signoff).periods, 1) == [(Stage.NONE, True, "")]

    def test_what_was_changed_past_us_is_shown_without_a_name(self, signoff: Signoff, registry: FakeRegistry) -> None:
        registry.set_stage(registry.add_version("m", {"val_auc": 0.9}), Stage.PRODUCTION)
        found = story(signoff)
        assert of(found.periods, 1) == [(Stage.NONE, False, ""), (Stage.PRODUCTION, True, "")]
        assert found.release is None

    def test_events_of_a_deleted_version_of_the_same_number_do_not_count(
        self, signoff: Signoff, two: tuple[VersionRef, VersionRef]
    ) -> None:
        events = record(signoff)
        later = replace(_version(signoff, two[0]), created_at=events[-1].at.replace(year=2027), stage=Stage.NONE)
        assert of(periods([later], events), 1) == [(Stage.NONE, True, "")]

    def test_events_may_come_in_any_order(self, signoff: Signoff, two: tuple[VersionRef, VersionRef]) -> None:
        versions, events = story(signoff).versions, [e for e in record(signoff) if e.kind.outcome == "confirmed"]
        assert periods(versions, events) == periods(versions, reversed(events))

    def test_no_events_no_changes(self) -> None:
        version = ModelVersion(ref=VersionRef(name="m", version=1), created_at=START, updated_at=START)
        assert of(periods([version], []), 1) == [(Stage.NONE, True, "")]


class TestLineage:
    def test_names_who_approved_and_who_promoted(self, signoff: Signoff, two: tuple[VersionRef, VersionRef]) -> None:
        found = story(signoff)
        assert found.champion is not None
        assert found.champion.ref == two[1]
        assert found.approvers(found.champion) == ("reviewer",)
        release_ = found.release
        assert isinstance(release_, Event)
        assert (release_.actor, release_.get("champion")) == ("release_manager", 1)

    def test_approvals_of_an_earlier_round_are_not_shown(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.9})
        reviews.submit(signoff, ref, by="scientist", comment="Look.")
        reviews.approve(signoff, ref, by="reviewer", comment="Good.")
        reviews.withdraw(signoff, ref, by="scientist", comment="Not yet.")
        reviews.submit(signoff, ref, by="scientist", comment="Now.")
        found = story(signoff)
        assert found.approvers(found.versions[0]) == ()

    def test_reads_all_runs_at_once_and_again_none(
        self, signoff: Signoff, registry: FakeRegistry, two: tuple[VersionRef, VersionRef]
    ) -> None:
        for _ in range(20):
            registry.add_version("m", {"val_auc": 0.9})
        signoff.snapshot.refresh()
        signoff.reader.forget()
        before = registry.calls
        lineage.shown(signoff, "m")
        assert registry.calls == before + 1
        lineage.shown(signoff, "m")
        assert registry.calls == before + 1

    def test_of_many_versions_the_newest_and_the_champion(self, signoff: Signoff, registry: FakeRegistry) -> None:
        champion = release(signoff, registry.add_version("m", {"val_auc": 0.9}))
        for _ in range(lineage.MAX_VERSIONS + 5):
            registry.add_version("m", {"val_auc": 0.9})
        found = story(signoff)
        assert len(found.versions) == lineage.MAX_VERSIONS
        assert found.versions[0].ref == champion
        assert found.total == lineage.MAX_VERSIONS + 6

    def test_a_deleted_run_and_a_nan_give_no_value(self, signoff: Signoff, registry: FakeRegistry) -> None:
        gone, odd = registry.add_version("m", {"val_auc": 0.9}), registry.add_version("m", {"val_auc": float("nan")})
        registry.drop_run(gone)
        found = story(signoff)
        assert [found.value(version, "val_auc") for version in found.versions] == [None, None]
        assert found.run(_version(signoff, odd)) is not None

    def test_an_unknown_model_is_named(self, signoff: Signoff) -> None:
        with pytest.raises(NotFound, match="no registered model ghost"):
            lineage.shown(signoff, "ghost")


def _version(signoff: Signoff, ref: VersionRef) -> ModelVersion:
    found = signoff.snapshot.current.version(ref.name, ref.version)
    assert found is not None
    return found
