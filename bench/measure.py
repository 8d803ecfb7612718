"""How a figure is taken: a few runs unmeasured, then as many as asked for; the median counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured thing. ``calls`` are the MLflow calls of one repetition, the most of all of them."""

    what: str
    median: float
    worst: float
    unit: str = "ms"
    limit: float | None = None
    calls: int | None = None

    @property
    def over(self) -> bool:
        """Whether the median is over the limit."""
        return self.limit is not None and self.median > self.limit

    def as_json(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "what": self.what,
            "median": round(self.median, 2),
            "worst": round(self.worst, 2),
            "unit": self.unit,
            "limit": self.limit,
            "calls": self.calls,
        }


def once(what: str, value: float, unit: str, calls: int | None = None) -> Figure:
    """Something that happens once."""
    return Figure(what=what, median=value, worst=value, unit=unit, calls=calls)


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
