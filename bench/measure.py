"""How a figure is taken: a few runs unmeasured, then as many as asked for; the median counts.

What is compared takes turns within one run, so that whatever else the machine does slows all of it alike, and the
ratio of the medians says more than any of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured thing, to be ``limit`` at most or ``least`` at least.

    ``calls`` are the MLflow calls of one repetition, the most of all of them.
    """

    what: str
    median: float
    worst: float
    unit: str = "ms"
    limit: float | None = None
    least: float | None = None
    calls: int | None = None

    @property
    def missed(self) -> bool:
        """Whether the median is not what it is to be."""
        return (self.limit is not None and self.median > self.limit) or (
            self.least is not None and self.median < self.least
        )

    def as_json(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "what": self.what,
            "median": round(self.median, 2),
            "worst": round(self.worst, 2),
            "unit": self.unit,
            "limit": self.limit,
            "least": self.least,
            "missed": self.missed,
            "calls": self.calls,
        }


def once(
    what: str,
    value: float,
    unit: str,
    calls: int | None = None,
    *,
    limit: float | None = None,
    least: float | None = None,
) -> Figure:
    """Something that happens once, or follows from other figures."""
    return Figure(what=what, median=value, worst=value, unit=unit, calls=calls, limit=limit, least=least)


def in_turns(
    steps: Mapping[str, Callable[[], object]],
    *,
    times: int,
    warm: int = 1,
    prepare: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds each step took, each time, after an unmeasured ``prepare``.

    They take turns, and every turn begins with another one.
    """
    taken: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    for turn in range(-warm, times):
        for name in order:
            prepare()
            begun = time.perf_counter()
            steps[name]()
            if turn >= 0:
                taken[name].append(time.perf_counter() - begun)
        order = [*order[1:], order[0]]
    return taken


def timed(what: str, seconds: Sequence[float], limit: float | None = None) -> Figure:
    """Median and worst of what `in_turns` took, in milliseconds."""
    return Figure(what=what, median=statistics.median(seconds) * 1000, worst=max(seconds) * 1000, limit=limit)


def repeated(
    what: str,
    step: Callable[[int], object],
    *,
    times: int = 20,
    warm: int = 2,
    limit: float | None = None,
    calls: Callable[[], int] | None = None,
    settle: Callable[[], object] = lambda: None,
) -> Figure:
    """Time ``step(n)``; ``settle`` waits, unmeasured, for what it left to the background; then calls are counted."""
    taken: list[float] = []
    made: list[int] = []
    for number in range(-warm, times):
        before = calls() if calls else 0
        begun = time.perf_counter()
        step(number)
        taken.append((time.perf_counter() - begun) * 1000)
        settle()
        made.append((calls() if calls else 0) - before)
    return Figure(
        what=what,
        median=statistics.median(taken[warm:]),
        worst=max(taken[warm:]),
        limit=limit,
        calls=max(made[warm:]) if calls else None,
    )
