"""What strangers supply is decoded in a process of its own, which can do nothing else and is ended at its limits.

Pictures, tables and texts of MLflow's artifacts and of uploads are read by decoders that were never meant for what an
attacker writes. So none of them reads such bytes here: `evaluator` does, in the sandbox that models run in, and what
comes back is a small header and plain bytes. The process is not believed either: its answer is checked by the caller.
"""

from __future__ import annotations

import struct
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from services.errors import BadInput
from services.validation import sandbox
from services.validation.errors import ModelFailed, ModelOverLimit
from services.validation.subjects import Limits

AT_ONCE = 4
"""Files that are decoded at a time; the next one waits."""
MAX_HEADER = 100_000

_turns = threading.BoundedSemaphore(AT_ONCE)


class NotDecoded(BadInput):
    """The file is not what it should be, or its decoder crashed."""


class OverLimit(NotDecoded):
    """The decoder was stopped: it needed more time, memory or output than it may have."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What the process handed over; neither part is to be believed."""

    header: Mapping[str, Any]
    body: memoryview


def decoded(
    decoder: str,
    content: BinaryIO,
    order: Mapping[str, Any],
    *,
    doing: str,
    limits: Limits,
    cancelled: Callable[[], bool] = lambda: False,
) -> Decoded:
    """Have ``decoder``, a module of `evaluator`, read ``content``, an open file, from its beginning.

    Where the machine cannot isolate a process, the limits and the clean environment still hold. ``doing`` begins the
    sentences of the errors: "Reading the picture".

    Raises:
        OverLimit: it was stopped at one of ``limits``; the sentence names which.
        NotDecoded: it failed, or what it handed over is no such answer.
    """
    content.seek(0)
    with _turns, tempfile.TemporaryDirectory(prefix="signoff-foreign-") as folder:
        try:
            outcome = sandbox.run(
                decoder,
                dict(order),
                whose=doing,
                visible=(),
                workspace=Path(folder),
                limits=limits,
                isolate=sandbox.isolation().available,
                cancelled=cancelled,
                given=content.fileno(),
            )
            return _parted(outcome.result)
        except ModelOverLimit as error:
            raise OverLimit(str(error)) from error
        except (ModelFailed, OSError, ValueError, TypeError, RecursionError, struct.error) as error:
            raise NotDecoded(f"{doing} failed.") from error


def _parted(result: bytes) -> Decoded:
    header, body = sandbox.parted(result, MAX_HEADER)
    return Decoded(header=header, body=body)
