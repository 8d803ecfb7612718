"""The program inside: loads one model, lets it predict, and hands back plain numbers. Nothing it says is believed.

What it writes to ``result_fd``: the length of a JSON header in 4 bytes, the header, then one little-endian array of
answers (int32 positions among ``classes``, or float64) and, where the model gives them, float64 probabilities by row.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OUT_OF_MEMORY, OUT_OF_SPACE, FAILED = 3, 4, 1
"""How this program ends, beside 0."""
SINGLE_CALLS, SINGLE_SECONDS = 50, 1.0
QUICK_SECONDS = 2.0
"""A prediction that took longer is not made a second time for its latency alone."""


def main() -> None:
    """Obey the order in the first argument."""
    order = json.loads(sys.argv[1])
    doing = "could not be loaded"
    try:
        started = time.perf_counter()
        predict, probabilities, classes = _loaded(order)
        load_seconds = time.perf_counter() - started
        # Written by Signoff, in a place this process cannot write.
        rows = pickle.loads(Path(order["data"]).read_bytes())  # noqa: S301
        doing = "raised while predicting"
        answers, timings = _timed(predict, rows)
        timings["load_seconds"] = load_seconds
        chances = probabilities(rows) if order["classifier"] and probabilities else None
        doing = "gave something else than one answer a row"
        _hand_over(order, answers, chances, classes, timings)
    except MemoryError:
        _end(OUT_OF_MEMORY, f"{doing}: out of memory")
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
        _end(OUT_OF_SPACE if full else FAILED, f"{doing}: {error}")
    except BaseException as error:
        _end(FAILED, f"{doing}: {type(error).__name__}: {error}")


Predict = Callable[[Any], Any]


def _loaded(order: dict[str, Any]) -> tuple[Predict, Predict | None, list[Any] | None]:
    """How to predict, how to get probabilities and for which classes; the latter two where the model has them."""
    if order["loader"] == "skops":
        import skops.io

        model = skops.io.load(order["file"], trusted=order["trusted"])
        predict = model.predict
    elif order["loader"] == "pickle":
        model = pickle.loads(Path(order["file"]).read_bytes())  # noqa: S301 - by consent, and in here
        predict = model.predict
    else:
        import mlflow.pyfunc

        wrapped = mlflow.pyfunc.load_model(order["folder"])
        predict = wrapped.predict
        model = _raw(wrapped)
    classes = getattr(model, "classes_", None)
    probabilities = getattr(model, "predict_proba", None) if classes is not None else None
    return predict, probabilities, None if classes is None else [_plain(one) for one in classes]


def _raw(wrapped: Any) -> Any:
    """The estimator inside MLflow's wrapper, which alone knows about probabilities; None where there is none."""
    try:
        return wrapped.get_raw_model()
    except Exception:
        return None


def _timed(predict: Predict, rows: Any) -> tuple[Any, dict[str, Any]]:
    started = time.perf_counter()
    answers = predict(rows)
    seconds = time.perf_counter() - started
    if seconds < QUICK_SECONDS:
        started = time.perf_counter()
        predict(rows)
        seconds = time.perf_counter() - started
    single: list[float] = []
    end = time.perf_counter() + SINGLE_SECONDS
    while len(single) < SINGLE_CALLS and time.perf_counter() < end:
        row = rows[len(single) % len(rows) :][:1]
        started = time.perf_counter()
        predict(row)
        single.append(time.perf_counter() - started)
    return answers, {"batch_seconds": seconds, "single_seconds": single}


def _hand_over(
    order: dict[str, Any], answers: Any, chances: Any, classes: list[Any] | None, timings: dict[str, Any]
) -> None:
    import numpy as np

    column = np.asarray(answers)
    column = column.reshape(len(column), -1)
    if column.shape[1] != 1:
        raise ValueError(f"{column.shape[1]} columns of answers")
    arrays = []
    if order["classifier"]:
        plain = [_plain(one) for one in column[:, 0]]
        known = list(dict.fromkeys([*(classes or []), *plain]))
        position = {one: number for number, one in enumerate(known)}
        arrays.append(np.array([position[one] for one in plain], dtype="<i4"))
        classes = known
        if chances is not None:
            arrays.append(np.ascontiguousarray(chances, dtype="<f8"))
    else:
        arrays.append(np.ascontiguousarray(column[:, 0], dtype="<f8"))
    header = {"classes": classes, "shapes": [array.shape for array in arrays], **timings}
    encoded = json.dumps(header).encode()
    with os.fdopen(order["result_fd"], "wb") as result:
        result.write(struct.pack("<I", len(encoded)) + encoded)
        for array in arrays:
            result.write(array.tobytes())


def _plain(one: Any) -> Any:
    """A class as JSON can tell it."""
    value = one.item() if hasattr(one, "item") else one
    return value if isinstance(value, (str, bool, int, float)) else str(value)


def _end(code: int, words: str) -> None:
    """Leave at once, whatever the model left running or registered to happen at the end."""
    print(" ".join(words.split())[:1000], file=sys.stderr, flush=True)  # noqa: T201 - the last line is what is shown
    os._exit(code)
