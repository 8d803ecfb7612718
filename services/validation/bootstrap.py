"""Confidence intervals by resampling rows: both models on the same resamples, so that what they share cancels out.

Efron's percentile interval. Every resample draws as many rows as there are, with replacement, from a seeded generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.validation.measures import Measure
from services.validation.report import Interval

Numbers = npt.NDArray[np.float64]

CELLS_AT_ONCE = 100_000
"""Resamples × rows in one batch: what fits a processor's cache is twice as fast as what does not."""
MOST_CELLS = 400_000_000
"""Resamples × rows × models' classes beyond which fewer resamples are drawn, never under `FEWEST`."""
FEWEST = 400


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """One metric of one model: on all rows, and on every resample (NaN where it is not defined there)."""

    value: float
    resamples: Numbers


def resamples_for(rows: int, wanted: int, classes: int) -> int:
    """How many resamples are drawn: ``wanted``, or fewer where the holdout is so large that intervals are narrow."""
    return min(wanted, max(FEWEST, MOST_CELLS // (rows * max(classes - 1, 1))))


def resampled(
    models: Sequence[Sequence[Measure]], *, rows: int, resamples: int, seed: int, tick: Callable[[], None]
) -> list[dict[str, Resampled]]:
    """Each model's metrics by name, all models on the same resamples. ``tick`` is called between batches."""
    points = [_measured(measures, np.ones((1, rows))) for measures in models]
    batches: list[list[dict[str, Numbers]]] = [[] for _ in models]
    for weights in _weights(rows, resamples, seed):
        tick()
        for batch, measures in zip(batches, models, strict=True):
            batch.append(_measured(measures, weights))
    return [
        {
            name: Resampled(
                value=float(values[0]),
                resamples=np.concatenate([batch[name] for batch in done]) if done else np.empty(0),
            )
            for name, values in point.items()
        }
        for point, done in zip(points, batches, strict=True)
    ]


def interval(values: Numbers, confidence: float) -> Interval | None:
    """The middle of what was found on the resamples; None where too few of them gave a value."""
    defined = values[np.isfinite(values)]
    if len(defined) < max(len(values) / 2, 1):
        return None
    low, high = np.quantile(defined, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(low=float(low), high=float(high), confidence=confidence)


def _measured(measures: Sequence[Measure], weights: Numbers) -> dict[str, Numbers]:
    return {name: values for measure in measures for name, values in measure(weights).items()}


def _weights(rows: int, resamples: int, seed: int) -> Iterator[Numbers]:
    """How often each row is in each resample (resamples × rows), a batch at a time."""
    random = np.random.default_rng(seed)
    batch = max(1, CELLS_AT_ONCE // rows)
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        drawn = random.integers(0, rows, (size, rows)) + rows * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)
