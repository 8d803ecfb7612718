"""MLflow's own evaluator over the answers that were given: its metrics and pictures, beside ours and never instead.

It runs in the sandbox too: not because it is feared, but so that nothing of it lands in anybody's tracking server.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from services.validation import sandbox
from services.validation.errors import ModelFailed
from services.validation.holdout import Holdout
from services.validation.predictions import Predictions
from services.validation.report import Task
from services.validation.subjects import Limits

PNG = b"\x89PNG\r\n\x1a\n"
OTHER = "(a class the holdout does not have)"


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Metrics by MLflow's names and file names in the workspace, for each side; ``warning`` where it failed."""

    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    pictures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warning: str = ""


def evaluated(
    holdout: Holdout,
    sides: Mapping[str, Predictions],
    *,
    workspace: Path,
    limits: Limits,
    isolate: bool,
    cancelled: Callable[[], bool],
) -> Evaluated:
    """Run ``mlflow.models.evaluate`` for each of ``sides`` (``candidate``, ``current``). A failure is a warning.

    Raises:
        ValidationCancelled: ``cancelled`` said so.
    """
    data = workspace / "answers.npz"
    np.savez(data, allow_pickle=False, **_arrays(holdout, sides))
    data.chmod(0o444)
    classes = [_plain(label) for label in holdout.classes] if holdout.task is Task.CLASSIFIER else []
    order = {
        "data": str(data.resolve()),
        "models": list(sides),
        "task": holdout.task.value,
        "config": {"label_list": classes} if classes else {},
    }
    try:
        outcome = sandbox.run(
            "mlflow_metrics",
            order,
            whose="MLflow's own evaluator",
            visible=[data],
            workspace=workspace,
            limits=limits,
            isolate=isolate,
            cancelled=cancelled,
        )
        return _kept(outcome.result, list(sides), workspace)
    except ModelFailed as error:
        return Evaluated(warning=str(error))
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        return Evaluated(warning=f"MLflow's own evaluator gave nothing that can be read ({type(error).__name__}).")
    finally:
        data.unlink()


def _arrays(holdout: Holdout, sides: Mapping[str, Predictions]) -> dict[str, Any]:
    found: dict[str, Any] = {"truth": holdout.truth}
    for name, side in sides.items():
        found[f"{name}_answers"] = side.answers
        if side.probabilities is not None:
            found[f"{name}_chances"] = side.probabilities
    if holdout.task is Task.REGRESSOR:
        return found
    labels = [_plain(label) for label in holdout.classes]
    other = OTHER if isinstance(labels[0], str) else min(labels) - 1
    named = np.array([*labels, other])  # -1, a class that is none of the holdout's, is the last
    return {key: values if key.endswith("_chances") else named[values] for key, values in found.items()}


def _plain(label: Any) -> Any:
    return int(label) if isinstance(label, bool) else label


def _kept(result: bytes, sides: list[str], workspace: Path) -> Evaluated:
    (length,) = struct.unpack_from("<I", result)
    header, at = json.loads(result[4 : 4 + length]), 4 + length
    pictures: dict[str, tuple[str, ...]] = dict.fromkeys(sides, ())
    for name, size in header["pictures"]:
        content, at = result[at : at + size], at + size
        side = next((side for side in sides if name.startswith(f"{side}_")), None)
        if side and content.startswith(PNG) and name == Path(name).name and name.endswith(".png"):
            (workspace / name).write_bytes(content)
            pictures[side] += (name,)
    metrics = {
        side: {name: float(value) for name, value in header["metrics"][side].items() if math.isfinite(value)}
        for side in sides
    }
    return Evaluated(metrics=metrics, pictures=pictures)
