"""What a reviewer had before them is in the record of the decision, with every number and what was made of it."""

from __future__ import annotations

import json

import pytest

from services.domain import Dataset, VersionRef
from services.record.ledger import Event
from services.side_by_side import recorded_comparison
from services.side_by_side.comparison import compare
from services.side_by_side.recorded_comparison import Kept
from services.signoff import Signoff
from tests.fakes import FakeRegistry
from tests.ledgers import record
from tests.pages import opened, text
from tests.test_comparison import policy, version
from tests.test_releases import release
from tests.verbs import releases, reviews

OTHER = Dataset(name="second_site", digest="bbbbbbbb2222", context="eval")


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    return release(signoff, registry.add_version("m", {"val_auc": 0.90, "latency_ms": 50.0}))


def submitted(signoff: Signoff, registry: FakeRegistry, **more: Dataset) -> VersionRef:
    ref = registry.add_version("m", {"val_auc": 0.99, "latency_ms": 56.0}, **more)  # type: ignore[arg-type]
    reviews.submit(signoff, ref, by="scientist", comment="Better.")
    return ref


def last(signoff: Signoff) -> Event:
    return record(signoff)[-1]


def kept(event: Event) -> Kept:
    found = Kept.of(event.body["details"])
    assert found
    return found


class TestADecision:
    def test_keeps_both_versions_every_number_its_change_and_what_that_means(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        reviews.approve(signoff, submitted(signoff, registry), by="reviewer", comment="Fine.")
        found = kept(last(signoff))
        assert [(one.name, one.version, one.data) for one in found.versions] == [("m", 1, "same"), ("m", 2, "same")]
        assert found.versions[1].datasets == ("holdout aaaaaaaa",)
        auc, latency = found.metrics
        assert (auc.name, auc.better, auc.wanted) == ("val_auc", "higher", "≥ 0.9, not worse than the champion")
        assert [(cell.value, cell.standing) for cell in auc.cells] == [(0.90, "baseline"), (0.99, "better")]
        assert (latency.cells[1].delta, latency.cells[1].standing) == (6.0, "worse")
        assert found.sentence.startswith("v2 beats v1 on 1 of 2 metrics; worse on latency_ms by 12 %")

    @pytest.mark.parametrize("decide", [reviews.request_changes, reviews.reject])
    def test_against_it_keeps_it_too(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, decide: type
    ) -> None:
        decide(signoff, submitted(signoff, registry), by="reviewer", comment="No.")
        assert kept(last(signoff)).metrics

    def test_on_other_data_says_so(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        reviews.request_changes(signoff, submitted(signoff, registry, dataset=OTHER), by="reviewer", comment="No.")
        found = kept(last(signoff))
        assert found.versions[1].data == "different"
        assert found.metrics[0].cells[1].standing == "other data"

    def test_keeps_none_where_there_is_no_champion(self, signoff: Signoff, registry: FakeRegistry) -> None:
        reviews.approve(signoff, submitted(signoff, registry), by="reviewer", comment="Fine.")
        assert Kept.of(last(signoff).body["details"]) is None

    def test_other_events_keep_none(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        ref = submitted(signoff, registry)
        reviews.approve(signoff, ref, by="reviewer", comment="Fine.")
        releases.promote(signoff, ref, by="release_manager", reason="Go.")
        assert [event.kind.value for event in record(signoff) if Kept.of(event.body["details"])] == ["approval:given"]


class TestBounds:
    def test_very_many_metrics_are_counted_and_the_policys_are_kept(self) -> None:
        metrics = {f"metric_{n:04d}": float(n) for n in range(1000)} | {"auc": 0.9}
        found = recorded_comparison.recorded(compare(version(1, metrics), [version(2, metrics)], policy()))
        assert len(found["metrics"]) == recorded_comparison.MAX_METRICS
        assert found["metrics"][0]["name"] == "auc"
        assert found["left_out"] == 1001 - recorded_comparison.MAX_METRICS
        assert len(json.dumps(found)) < 20_000

    def test_numbers_come_back_exactly(self) -> None:
        found = recorded_comparison.recorded(compare(version(1, {"auc": 0.1}), [version(2, {"auc": 0.3})], policy()))
        (row,) = Kept.of({"comparison": json.loads(json.dumps(found))}).metrics  # type: ignore[union-attr]
        assert (row.cells[1].value, row.cells[1].delta) == (0.3, 0.3 - 0.1)


class TestTheRecord:
    def test_shows_what_was_compared(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        reviews.request_changes(signoff, submitted(signoff, registry, dataset=OTHER), by="reviewer", comment="No.")
        at = opened(signoff, "auditor", "history", event=str(last(signoff).seq))
        assert not at.exception, at.exception
        words = text(at)
        assert "What was compared" in words
        assert "not comparable with v1: measured on different data" in words
        assert "v2 measured on second_site bbbbbbbb2222" in words
        (table,) = (table.value for table in at.table if "v1 (baseline)" in table.value.columns)
        assert "other data" in table["v2"].tolist()[0]
