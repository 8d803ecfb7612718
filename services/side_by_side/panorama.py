"""The compared versions among all versions of their model: points in the space of metrics and params. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.evidence import Evidence
from services.metrics import Direction, direction, says_how_good
from services.policy import Policy
from services.side_by_side.comparison import Comparison, number, same_data
from services.side_by_side.lineage import Lineage

MAX_METRICS, MAX_PARAMS = 6, 3
"""Axes side by side; more than nine cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One version. ``position`` is its place in the comparison, None for a version that is only beside it."""

    label: str
    evidence: Evidence
    position: int | None

    def value(self, metric: str) -> float | None:
        """One metric; None where there is no usable number."""
        return number(self.evidence, metric)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A point in a plane of two metrics. ``best``: no other one beats it on one metric without losing on the other."""

    point: Point
    x: float
    y: float
    best: bool
    other_data: bool
    """Measured on other data than the baseline: it takes no part in what is best."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One metric or param in all points, as numbers; ``ticks`` names the numbers where they stand for words.

    ``rising`` is False where less is better, so that the axis can be drawn with the better end up.
    """

    name: str
    values: tuple[float | None, ...]
    words: tuple[str, ...]
    rising: bool = True
    metric: bool = True


def points(comparison: Comparison, story: Lineage) -> tuple[Point, ...]:
    """Every version of the first candidate's model, and whatever else is compared, which comes last."""
    positions = {evidence.ref: position for position, evidence in enumerate(comparison.versions)}
    beside = [
        Point(label=f"v{ref.version}", evidence=evidence, position=None)
        for ref, evidence in story.evidence.items()
        if ref not in positions
    ]
    compared = [
        Point(label=label, evidence=evidence, position=positions[evidence.ref])
        for label, evidence in zip(comparison.short, comparison.versions, strict=True)
    ]
    return (*beside, *compared)


def names(found: Sequence[Point], policy: Policy) -> tuple[str, ...]:
    """Metrics that two points or more have and that say how good a model is, what the policy asks for first."""
    counts: dict[str, int] = {}
    for point in found:
        for name, metric in point.evidence.metrics.items():
            counts[name] = counts.get(name, 0) + metric.usable
    asked = [rule.name for rule in policy.rules.metrics if counts.get(rule.name, 0) > 1]
    rest = {name for name, count in counts.items() if count > 1 and says_how_good(name)} - set(asked)
    return (*asked, *sorted(rest, key=lambda name: (direction(name, policy) is Direction.UNKNOWN, name)))


def plane(
    found: Sequence[Point], metric_x: str, metric_y: str, policy: Policy, baseline: Evidence
) -> tuple[Placed, ...]:
    """The points that have both metrics, and which of them form the Pareto front; without a direction none does."""
    placed = [
        (point, x, y, _elsewhere(point, baseline, metric_x, metric_y))
        for point in found
        if (x := point.value(metric_x)) is not None and (y := point.value(metric_y)) is not None
    ]
    signs = [_sign(name, policy) for name in (metric_x, metric_y)]
    if None in signs:
        front: set[int] = set()
    else:
        right, up = (sign or 1 for sign in signs)
        front = _front([(x * right, y * up) if not other else None for _, x, y, other in placed])
    return tuple(
        Placed(point=point, x=x, y=y, best=rank in front, other_data=other)
        for rank, (point, x, y, other) in enumerate(placed)
    )


def _front(found: Sequence[tuple[float, float] | None]) -> set[int]:
    """Which are beaten by no other: none is at least as good in both and better in one."""
    best: set[int] = set()
    highest = -math.inf
    corner: tuple[float, float] | None = None
    ranked = sorted(
        ((pair, rank) for rank, pair in enumerate(found) if pair is not None), key=lambda it: it[0], reverse=True
    )
    for pair, rank in ranked:
        if pair[1] > highest or pair == corner:  # equal twice over: neither beats the other
            best.add(rank)
            highest, corner = pair[1], pair
    return best


def _elsewhere(point: Point, baseline: Evidence, *metrics: str) -> bool:
    return any(same_data(name, point.evidence, baseline) is False for name in metrics)


def _sign(name: str, policy: Policy) -> int | None:
    return {Direction.HIGHER: 1, Direction.LOWER: -1, Direction.UNKNOWN: None}[direction(name, policy)]


def axes(found: Sequence[Point], policy: Policy, baseline: Evidence) -> tuple[Axis, ...]:
    """For parallel coordinates: the params that differ, then the metrics; values measured elsewhere are left out."""
    metrics = [name for name in names(found, policy) if _sign(name, policy) is not None][:MAX_METRICS]
    return (
        *_params(found)[:MAX_PARAMS],
        *(
            Axis(
                name=name,
                values=tuple(None if _elsewhere(p, baseline, name) else p.value(name) for p in found),
                words=tuple("" for _ in found),
                rising=_sign(name, policy) != -1,
            )
            for name in metrics
        ),
    )


def _params(found: Sequence[Point]) -> list[Axis]:
    """Params that more than one point has with more than one value; numbers as they are, words in their order.

    First those in which the compared versions differ, of these first what most points have.
    """
    every = sorted({name for point in found for name in point.evidence.params})
    result: list[tuple[tuple[bool, int], Axis]] = []
    for name in every:
        values = [point.evidence.params.get(name) for point in found]
        given = [value for value in values if value is not None]
        if len(given) < 2 or len(set(given)) < 2:
            continue
        numbers = [_number(value) for value in given]
        if all(value is not None for value in numbers):
            placed = [None if value is None else _number(value) for value in values]
        else:
            order = {value: float(rank) for rank, value in enumerate(sorted(set(given)))}
            placed = [None if value is None else order[value] for value in values]
        words = tuple("" if value is None else value for value in values)
        compared = {value for point, value in zip(found, values, strict=True) if point.position is not None}
        rank = (len(compared) < 2, -len(given))
        result.append((rank, Axis(name=name, values=tuple(placed), words=words, metric=False)))
    return [axis for _, axis in sorted(result, key=lambda ranked: ranked[0])]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
