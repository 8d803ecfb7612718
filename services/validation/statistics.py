"""Is a difference between two models on the same rows more than chance? McNemar's and DeLong's tests. Pure.

McNemar, Psychometrika 12 (1947) 153; the continuity correction is Edwards', Psychometrika 13 (1948) 185. DeLong,
DeLong and Clarke-Pearson, Biometrics 44 (1988) 837, computed from mid-ranks as Sun and Xu, IEEE Signal Processing
Letters 21 (2014) 1389.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from services.validation.report import Conclusion, Interval, Method

Numbers = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]

EXACT_BELOW = 25
"""With fewer rows on which exactly one model is right, the chi-square approximation is not to be trusted."""
MIN_ROWS = 30
"""Below this many rows no winner is named, whatever an interval says."""


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Rows on which only the first, and only the second model is right; ``statistic`` is None for the exact test."""

    only_first: int
    only_second: int
    method: Method
    statistic: float | None
    p_value: float


def mcnemar(first_right: Truths, second_right: Truths) -> McNemar:
    """Whether two classifiers are right equally often, from the rows on which exactly one of them is."""
    only_first = int(np.count_nonzero(first_right & ~second_right))
    only_second = int(np.count_nonzero(second_right & ~first_right))
    return mcnemar_of_counts(only_first, only_second)


def mcnemar_of_counts(only_first: int, only_second: int) -> McNemar:
    """The same from the two counts: the exact binomial test for few, chi-square with continuity correction for many."""
    discordant = only_first + only_second
    if discordant < EXACT_BELOW:
        method, statistic = Method.MCNEMAR_EXACT, None
        p_value = stats.binomtest(only_first, discordant, 0.5).pvalue if discordant else 1.0
    else:
        method, statistic = Method.MCNEMAR, max(abs(only_first - only_second) - 1, 0) ** 2 / discordant
        p_value = stats.chi2.sf(statistic, 1)
    return McNemar(
        only_first=only_first, only_second=only_second, method=method, statistic=statistic, p_value=float(p_value)
    )


@dataclass(frozen=True, kw_only=True)
class DeLong:
    """Two areas under the ROC curve on the same rows. ``z`` is 0 where nothing varies."""

    first: float
    second: float
    standard_error: float
    z: float
    p_value: float

    def interval(self, confidence: float) -> Interval:
        """Of first − second."""
        reach = float(stats.norm.ppf(0.5 + confidence / 2)) * self.standard_error
        difference = self.first - self.second
        return Interval(low=difference - reach, high=difference + reach, confidence=confidence)


def delong(positive: Truths, first: Numbers, second: Numbers) -> DeLong:
    """Whether two scores tell ``positive`` rows from the others equally well; both classes must occur."""
    areas, covariance = _areas(positive, np.stack([first, second]))
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = float(np.sqrt(max(variance, 0.0)))
    difference = float(areas[0] - areas[1])
    z = difference / error if error > 1e-12 else 0.0
    p_value = 2 * float(stats.norm.sf(abs(z))) if error > 1e-12 else (1.0 if difference == 0 else 0.0)
    return DeLong(first=float(areas[0]), second=float(areas[1]), standard_error=error, z=z, p_value=p_value)


def conclusion(
    interval: Interval, *, greater_is_better: bool, rows: int, p_value: float | None, unchanged: bool
) -> Conclusion:
    """A winner only where the interval excludes zero, the test beside it agrees, and there are rows enough."""
    if unchanged:
        return Conclusion.EQUAL
    covers_zero = interval.low <= 0 <= interval.high
    doubted = p_value is not None and p_value > 1 - interval.confidence
    if covers_zero or doubted or rows < MIN_ROWS:
        return Conclusion.NOT_ENOUGH_EVIDENCE
    return Conclusion.BETTER if (interval.low > 0) == greater_is_better else Conclusion.WORSE


def _areas(positive: Truths, scores: Numbers) -> tuple[Numbers, Numbers]:
    """The areas of several scores, and how they vary together (DeLong's structural components, by mid-ranks)."""
    above, below = scores[:, positive], scores[:, ~positive]
    m, n = above.shape[1], below.shape[1]
    among_all = stats.rankdata(np.concatenate([above, below], axis=1), axis=1)
    by_positive = (among_all[:, :m] - stats.rankdata(above, axis=1)) / n
    by_negative = 1 - (among_all[:, m:] - stats.rankdata(below, axis=1)) / m
    covariance = _covariance(by_positive) / m + _covariance(by_negative) / n
    return by_positive.mean(axis=1), covariance


def _covariance(components: Numbers) -> Numbers:
    if components.shape[1] < 2:
        return np.zeros((len(components), len(components)))
    return np.atleast_2d(np.cov(components))
