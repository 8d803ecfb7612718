"""How far predicted probabilities can be taken at their word. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.validation.report import Calibration, CalibrationBin

BINS = 10


def calibration_of(
    truth: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64], classes: tuple[object, ...]
) -> Calibration:
    """Of the positive class where there are two; else of whichever class a model thinks most likely.

    The bins are ten equal parts of 0 to 1, empty ones left out. The expected calibration error is the distance
    between what was predicted and what was so, averaged over rows.
    """
    if len(classes) == 2:
        positive, predicted, happened = str(classes[1]), probabilities[:, 1], truth == 1
    else:
        positive, predicted = "the most likely class", probabilities.max(axis=1)
        happened = probabilities.argmax(axis=1) == truth
    predicted = np.clip(predicted, 0, 1)
    part = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], predicted)
    bins = [
        CalibrationBin(
            rows=int(rows.sum()), predicted=float(predicted[rows].mean()), observed=float(happened[rows].mean())
        )
        for rows in (part == number for number in range(BINS))
        if rows.any()
    ]
    return Calibration(
        positive=positive,
        bins=tuple(bins),
        brier=float(((predicted - happened) ** 2).mean()),
        ece=sum(one.rows * abs(one.predicted - one.observed) for one in bins) / len(truth),
    )


def _bin(predicted: npt.NDArray[np.float64], happened: npt.NDArray[np.bool_]) -> CalibrationBin:
    return CalibrationBin(rows=len(predicted), predicted=float(predicted.mean()), observed=float(happened.mean()))
