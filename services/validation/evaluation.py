"""The one way in: two models, one holdout, one report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.validation.holdout import Holdout
from services.validation.report import Report
from services.validation.subjects import Limits, Step, Subject


def evaluate(
    candidate: Subject,
    champion: Subject | None,
    holdout: Holdout,
    *,
    limits: Limits,
    consent: bool,
    confidence: float,
    seed: int,
    workspace: Path,
    progress: Callable[[Step], None],
    cancelled: Callable[[], bool],
) -> Report:
    """Evaluate both models on ``holdout``, each in a sandbox of its own, and compare them.

    ``workspace`` is an existing, empty folder of the caller's; pictures are left in it under the names in the report.
    ``cancelled`` is asked several times a second, from the calling thread.

    Raises:
        WrongColumn, WrongType: the holdout does not fit a model's signature; nothing ran.
        ConsentNeeded: a model may not be loaded, or not be isolated, without ``consent``; nothing ran.
        ModelFailed, ModelOverLimit: a model gave no predictions; the message says whose and why.
        ValidationCancelled: ``cancelled`` said so; whatever ran is stopped.
    """
    raise NotImplementedError
