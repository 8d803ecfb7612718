"""Where a difference is: the same comparison on the rows that share a value of a column. Pure.

Judged by one metric that is a mean over rows, accuracy or the mean absolute error, whose difference has Student's
paired interval: hundreds of slices are no place for a bootstrap. They are looked at many at a time, so a few of them
stand out by chance alone; no verdict rests on a slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from services.validation.report import Interval, SliceResult
from services.validation.statistics import MIN_ROWS, conclusion

Numbers = npt.NDArray[np.float64]

BINS = 4
FEW_VALUES = 10
"""A column of numbers with more different values than this is cut at its quartiles."""
MAX_VALUES = 12
"""So many of the most frequent values of a column get a slice of their own; the rest is one slice."""
MAX_COLUMNS = 60
MISSING, REST = "missing", "all others"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A metric by row: its mean over rows is the metric. ``current`` is None where there is no champion."""

    metric: str
    greater_is_better: bool
    candidate: Numbers
    current: Numbers | None


def slices_of(frame: pd.DataFrame, scores: Scores, *, confidence: float) -> tuple[SliceResult, ...]:
    """Every slice of the first `MAX_COLUMNS` columns of ``frame``."""
    return tuple(
        _slice(str(column), value, rows, scores, confidence)
        for column in frame.columns[:MAX_COLUMNS]
        for value, rows in _parts(frame[column])
    )


def _parts(values: pd.Series) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """The slices of one column, each with its rows; none where all rows have the same value."""
    try:
        different = values.nunique()
    except TypeError:  # lists, maps: nothing to slice by
        return
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    names, part = _binned(values) if number and different > FEW_VALUES else _named(values)
    rows = [(name, part == position) for position, name in enumerate(names)]
    found = [(name, there) for name, there in rows if there.any()]
    if len(found) > 1:
        yield from found


def _binned(values: pd.Series) -> tuple[list[str], npt.NDArray[np.intp]]:
    """The quartiles by the values at their ends, and which one each row is in."""
    numbers = values.to_numpy(dtype=np.float64)
    edges = np.unique(np.quantile(numbers[np.isfinite(numbers)], np.linspace(0, 1, BINS + 1)))
    names = [f"{low:.4g} – {high:.4g}" for low, high in pairwise(edges)] or [f"{edges[0]:.4g}"]
    part = np.clip(np.searchsorted(edges, numbers, side="left") - 1, 0, len(names) - 1)
    part[np.isnan(numbers)] = len(names)
    return [*names, MISSING], part


def _named(values: pd.Series) -> tuple[list[str], npt.NDArray[np.intp]]:
    """The most frequent values, and which one each row has."""
    code, different = pd.factorize(values)
    kept = np.argsort(-np.bincount(code[code >= 0], minlength=len(different)), kind="stable")[:MAX_VALUES]
    part_of = np.full(len(different) + 1, len(kept))
    part_of[kept] = np.arange(len(kept))
    part_of[-1] = len(kept) + 1  # pandas gives -1 to what is missing
    return [*(str(different[number])[:80] for number in kept), REST, MISSING], part_of[code]


def _slice(column: str, value: str, rows: npt.NDArray[np.bool_], scores: Scores, confidence: float) -> SliceResult:
    count, better = int(rows.sum()), scores.greater_is_better
    found = SliceResult(column=column, value=value, rows=count, metric=scores.metric, greater_is_better=better)
    if count < MIN_ROWS:
        return replace(found, note=f"Only {count} rows: too few to say anything.")
    candidate = float(scores.candidate[rows].mean())
    if scores.current is None:
        return replace(found, candidate=candidate)
    differences = scores.candidate[rows] - scores.current[rows]
    difference, unchanged = float(differences.mean()), not differences.any()
    reach = float(stats.t.ppf(0.5 + confidence / 2, count - 1) * differences.std(ddof=1) / np.sqrt(count))
    interval = Interval(low=difference - reach, high=difference + reach, confidence=confidence)
    return replace(
        found,
        candidate=candidate,
        current=float(scores.current[rows].mean()),
        difference=difference,
        interval=interval,
        conclusion=conclusion(interval, greater_is_better=better, rows=count, p_value=None, unchanged=unchanged),
    )
