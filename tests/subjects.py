"""Holdouts, answers and models for the tests of validation: what is real is saved by MLflow itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from services.validation.holdout import Holdout
from services.validation.predictions import Predictions
from services.validation.report import HoldoutFacts, Latency, Task

LATENCY = Latency(
    batch_rows=1, batch_seconds=0.1, single_calls=1, single_ms_p50=1.0, single_ms_p95=1.0, load_seconds=0.1
)


def holdout_of(truth: Any, *, task: Task = Task.CLASSIFIER) -> Holdout:
    """A holdout of one column beside these targets."""
    frame = pd.DataFrame({"x": np.arange(len(truth)), "y": truth})
    facts = HoldoutFacts(
        name="h", digest="d", sha256="s", rows=len(frame), columns=("x", "y"), target="y", source="upload:h"
    )
    return Holdout(facts=facts, task=task, frame=frame)


def answers(chances: Any, *, probabilities: bool = True) -> Predictions:
    """What a classifier says whose probabilities these are."""
    given = np.asarray(chances, dtype=float)
    return Predictions(answers=given.argmax(axis=1), probabilities=given if probabilities else None, latency=LATENCY)


def numbers(given: Any) -> Predictions:
    """What a regressor says."""
    return Predictions(answers=np.asarray(given, dtype=float), latency=LATENCY)
