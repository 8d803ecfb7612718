"""What a model answered, read out of bytes that its own process wrote: every one is checked, none is executed."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.validation import sandbox
from services.validation.errors import ModelFailed
from services.validation.report import Latency

MAX_HEADER = 1 << 20
MAX_CLASSES = 1000
PROBABILITY_SLACK = 1e-3
"""How far the probabilities of a row may be from a sum of 1: single precision, not mistakes."""

Numbers = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
Label = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One model's answers on all rows of the holdout.

    For a classifier ``answers`` are positions among the holdout's classes, -1 for a class that is not one of them;
    ``probabilities`` has a column for each of the holdout's classes. For a regressor ``answers`` are numbers.
    """

    answers: Positions | Numbers
    probabilities: Numbers | None = None
    latency: Latency


def read(result: bytes, *, rows: int, classes: tuple[Label, ...] | None, whose: str) -> Predictions:
    """Check and translate what a model's process handed over; ``classes`` are the target's, None for numbers.

    Raises:
        ModelFailed: anything is not as `evaluator.predict` would have written it, or makes no sense.
    """
    try:
        header, body = sandbox.parted(result, MAX_HEADER)
        latency = _latency(header, rows)
        if classes is None:
            return Predictions(answers=_numbers(body, rows), latency=latency)
        return _classified(header, body, rows, classes, latency)
    except _Nonsense as error:
        raise ModelFailed(f"{whose} {error}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, struct.error) as error:
        raise ModelFailed(f"{whose} gave something else than predictions.") from error


class _Nonsense(Exception):
    """The second half of a sentence about a model."""


def _latency(header: dict[str, Any], rows: int) -> Latency:
    single = [float(seconds) * 1000 for seconds in header["single_seconds"]]
    if not single or not all(math.isfinite(value) and value >= 0 for value in single):
        raise ValueError("latencies")
    return Latency(
        batch_rows=rows,
        batch_seconds=header["batch_seconds"],
        single_calls=len(single),
        single_ms_p50=float(np.percentile(single, 50)),
        single_ms_p95=float(np.percentile(single, 95)),
        load_seconds=header["load_seconds"],
    )


def _numbers(body: memoryview, rows: int) -> Numbers:
    _expect(body, 8 * rows, rows)
    numbers = np.frombuffer(body, dtype="<f8").astype(np.float64)
    if bad := int(np.count_nonzero(~np.isfinite(numbers))):
        raise _Nonsense(f"gave no finite number for {bad:,} of {rows:,} rows.")
    return numbers


def _classified(
    header: dict[str, Any], body: memoryview, rows: int, classes: tuple[Label, ...], latency: Latency
) -> Predictions:
    theirs = header["classes"]
    if not isinstance(theirs, list) or not 0 < len(theirs) <= MAX_CLASSES:
        raise _Nonsense("gave more classes than a classifier has: is its target a number?")
    if not all(isinstance(one, (str, int, float)) for one in theirs):
        raise TypeError("classes")
    ours = {_key(one): position for position, one in enumerate(classes)}
    known = np.array([ours.get(_key(one), -1) for one in theirs])
    if (known < 0).all():
        examples = ", ".join(repr(one)[:40] for one in theirs[:3])
        raise _Nonsense(f"predicts {examples}; none of it is a class of the target ({_some(classes)}).")
    positions = np.frombuffer(body[: 4 * rows], dtype="<i4")
    if len(positions) != rows:
        raise _Nonsense(f"gave {len(positions):,} answers for {rows:,} rows.")
    if positions.min() < 0 or positions.max() >= len(theirs):
        raise ValueError("positions")
    rest = body[4 * rows :]
    return Predictions(
        answers=known[positions].astype(np.int64),
        probabilities=_probabilities(rest, rows, known, len(classes)) if len(rest) else None,
        latency=latency,
    )


def _probabilities(body: memoryview, rows: int, known: npt.NDArray[np.int64], classes: int) -> Numbers:
    """By the holdout's classes, in their order; a class that the model does not know has probability 0."""
    if len(body) % (8 * rows) or not 0 < len(body) // (8 * rows) <= len(known):
        raise _Nonsense("gave probabilities for another number of rows or classes than it has.")
    width = len(body) // (8 * rows)
    given = np.frombuffer(body, dtype="<f8").reshape(rows, width)
    sums = given.sum(axis=1)
    if not np.isfinite(given).all() or given.min() < 0 or np.abs(sums - 1).max() > PROBABILITY_SLACK:
        raise _Nonsense("gave probabilities that are not between 0 and 1, or do not add up to 1.")
    aligned = np.zeros((rows, classes))
    for column, position in enumerate(known[:width]):
        if position >= 0:
            aligned[:, position] = given[:, column]
    return aligned


def _expect(body: memoryview, size: int, rows: int) -> None:
    if len(body) != size:
        raise _Nonsense(f"gave {len(body) // 8:,} answers for {rows:,} rows.")


def _key(label: Any) -> tuple[str, Any]:
    """1, 1.0 and True are one class; "1" is another."""
    return ("text", label) if isinstance(label, str) else ("number", float(label))


def _some(classes: tuple[Label, ...]) -> str:
    shown = ", ".join(repr(one)[:40] for one in classes[:5])
    return shown + (" …" if len(classes) > 5 else "")
