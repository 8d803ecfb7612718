"""The compared versions among all of their model: who is beaten by whom, and which axes are drawn."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime

from services.domain import RegisteredModel
from services.evidence import Evidence
from services.side_by_side import panorama
from services.side_by_side.comparison import Comparison, compare
from services.side_by_side.lineage import Lineage
from services.side_by_side.panorama import Placed, Point
from tests.test_comparison import NOW, OTHER, policy, version

BY = policy("- {name: auc, greater_is_better: true, threshold: 0.9}")


def story(*versions: Evidence) -> Lineage:
    return Lineage(
        model=RegisteredModel(name="m", created_at=NOW, updated_at=NOW),
        policy=BY,
        versions=tuple(one.version for one in versions),
        total=len(versions),
        champion=None,
        runs={one.run.run_id: one.run for one in versions if one.run},
        logged_models={},
        now=datetime(2026, 11, 2, tzinfo=UTC),
        events=(),
    )


def points(comparison: Comparison, *beside: Evidence) -> tuple[Point, ...]:
    return panorama.points(comparison, story(*comparison.versions, *beside))


def plane(*versions: Evidence, x: str = "latency_ms", y: str = "auc") -> list[Placed]:
    found = compare(versions[0], versions[1:], BY)
    return list(panorama.plane(points(found), x, y, BY, versions[0]))


def front(*versions: Evidence, **metrics: str) -> list[str]:
    return [placed.point.label for placed in plane(*versions, **metrics) if placed.best]


class TestPoints:
    def test_every_version_of_the_model_and_what_is_compared_last(self) -> None:
        comparison = compare(version(2, {"auc": 0.9}), [version(4, {"auc": 0.95})], BY)
        found = points(comparison, version(1, {"auc": 0.8}), version(3))
        assert [(point.label, point.position) for point in found] == [("v1", None), ("v3", None), ("v2", 0), ("v4", 1)]

    def test_a_version_of_another_model_is_there_too(self) -> None:
        comparison = compare(version(2, {"auc": 0.9}), [version(4, {"auc": 0.95}, name="other")], BY)
        assert [point.label for point in panorama.points(comparison, story(version(2)))] == ["m v2", "other v4"]


class TestTheFront:
    def test_no_other_is_better_on_one_without_being_worse_on_the_other(self) -> None:
        cheap, good, beaten = (
            version(n, {"auc": auc, "latency_ms": ms})
            for n, auc, ms in ((1, 0.90, 5.0), (2, 0.95, 9.0), (3, 0.89, 7.0))
        )
        assert front(cheap, good, beaten) == ["v1", "v2"]

    def test_equal_on_one_and_worse_on_the_other_is_beaten(self) -> None:
        assert front(version(1, {"auc": 0.9, "latency_ms": 5}), version(2, {"auc": 0.9, "latency_ms": 6})) == ["v1"]
        assert front(version(1, {"auc": 0.9, "latency_ms": 5}), version(2, {"auc": 0.8, "latency_ms": 5})) == ["v1"]

    def test_two_that_are_the_same_are_both_on_it(self) -> None:
        same = {"auc": 0.9, "latency_ms": 5.0}
        assert front(version(1, same), version(2, same), version(3, {"auc": 0.8, "latency_ms": 6})) == ["v1", "v2"]

    def test_as_asking_every_pair_says(self) -> None:
        chance = random.Random(4)
        for _ in range(50):
            places = [(chance.randint(0, 6), chance.randint(0, 6)) for _ in range(10)]
            versions = [version(n, {"auc": y, "latency_ms": x}) for n, (x, y) in enumerate(places, start=1)]
            beaten = {
                n
                for (n, a), (m, b) in itertools.product(enumerate(places, start=1), repeat=2)
                if n != m and a != b and b[0] <= a[0] and b[1] >= a[1]
            }
            assert {int(label[1:]) for label in front(*versions)} == set(range(1, 11)) - beaten

    def test_measured_on_other_data_takes_no_part(self) -> None:
        best = version(2, {"auc": 0.99, "latency_ms": 1.0}, data=OTHER)
        found = plane(version(1, {"auc": 0.9, "latency_ms": 5.0}), best)
        assert [(placed.best, placed.other_data) for placed in found] == [(True, False), (False, True)]

    def test_there_is_none_where_nobody_knows_which_way_is_better(self) -> None:
        assert front(version(1, {"auc": 0.9, "magic": 1}), version(2, {"auc": 0.8, "magic": 0}), x="magic") == []

    def test_without_one_of_the_two_there_is_no_place(self) -> None:
        assert [p.point.label for p in plane(version(1, {"auc": 0.9, "latency_ms": 5}), version(2, {"auc": 1}))] == [
            "v1"
        ]


class TestNames:
    def test_what_the_policy_asks_for_first_and_only_what_two_have(self) -> None:
        found = compare(
            version(1, {"auc": 1, "f1": 1, "alone": 1}), [version(2, {"auc": 1, "f1": 1, "train_loss": 1})], BY
        )
        assert panorama.names(points(found), BY) == ("auc", "f1")


class TestAxes:
    def test_numbers_as_they_are_words_in_their_order_and_the_better_end_known(self) -> None:
        comparison = compare(
            version(1, {"auc": 0.9, "loss": 0.3}, params={"C": "1e-1", "solver": "sag", "same": "1"}),
            [version(2, {"auc": 0.8, "loss": 0.2}, params={"C": "2", "solver": "lbfgs", "same": "1"})],
            BY,
        )
        found = {axis.name: axis for axis in panorama.axes(points(comparison), BY, comparison.baseline)}
        assert list(found) == ["C", "solver", "auc", "loss"]
        assert found["C"].values == (0.1, 2.0)
        assert (found["solver"].values, found["solver"].words) == ((1.0, 0.0), ("sag", "lbfgs"))
        assert (found["auc"].rising, found["loss"].rising) == (True, False)

    def test_params_in_which_the_compared_differ_come_first(self) -> None:
        comparison = compare(version(1, params={"a": "1", "b": "1"}), [version(2, params={"a": "1", "b": "2"})], BY)
        beside = [version(n, params={"a": str(n)}) for n in (3, 4)]
        axes = panorama.axes(points(comparison, *beside), BY, comparison.baseline)
        assert [axis.name for axis in axes] == ["b", "a"]

    def test_what_was_measured_on_other_data_is_left_out(self) -> None:
        comparison = compare(
            version(1, {"auc": 0.9}), [version(2, {"auc": 0.8}, data=OTHER), version(3, {"auc": 0.7})], BY
        )
        (axis,) = panorama.axes(points(comparison), BY, comparison.baseline)
        assert axis.values == (0.9, None, 0.7)
