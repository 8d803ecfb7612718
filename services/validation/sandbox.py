"""Runs a program of ours beside code that is not: nothing in sight but what it is given, and a clock that ends it.

`evaluator.jail` does it. Here is what is asked of it, and what came back: bytes to be read with suspicion.
"""

from __future__ import annotations

import json
import os
import selectors
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from services.validation.errors import ModelFailed, ModelOverLimit, ValidationCancelled
from services.validation.subjects import Limits

PROGRAM = Path(__file__).resolve().parents[2] / "evaluator"
"""All of our own code that can be seen inside."""
SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache")
"""What Python and the libraries of the machine need; no shell, no configuration."""
MAX_OUTPUT = 20_000
"""Characters kept of what a model prints."""
GRACE_SECONDS = 10.0
POLL_SECONDS = 0.1
WORDS = (
    "no network",
    "nothing readable but the model, the holdout and the Python libraries",
    "nothing writable but its own scratch folder",
    "a process namespace and a user of its own",
)


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """Whether this machine can isolate a program; ``reason`` is what it said when it cannot."""

    available: bool
    reason: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """What an isolated program cannot do, for the report."""
        return WORDS if self.available else ()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a program left when it ended well: its result, and what it printed (cut)."""

    result: bytes
    output: str


def isolation() -> Isolation:
    """What this machine allows, found out by doing it; that it works is remembered, that it does not is tried again."""
    try:
        _isolate_nothing()
    except _Unavailable as error:
        return Isolation(available=False, reason=str(error))
    return Isolation(available=True)


class _Unavailable(Exception):
    """What the machine said."""


@cache
def _isolate_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="signoff-probe-") as folder:
        limits = Limits(seconds=20, memory_bytes=1 << 30, output_bytes=1 << 20)
        ending = _run("pass", {}, visible=(), workspace=Path(folder), limits=limits, isolate=True, cancelled=_never)
    if ending.status.get("exit") != 0:
        raise _Unavailable(str(ending.status.get("refused") or ending.output[-200:] or "it failed"))


def run(  # noqa: PLR0913
    module: str,
    arguments: dict[str, Any],
    *,
    whose: str,
    visible: Sequence[Path],
    workspace: Path,
    limits: Limits,
    isolate: bool,
    cancelled: Callable[[], bool],
    given: int | None = None,
) -> Outcome:
    """Run ``module`` of `evaluator` with ``arguments``, of which it can see the folders and files ``visible``.

    ``isolate`` False: with a clean environment and limits, but as this user and with everything in sight. ``whose``
    begins the sentences of the errors: "The candidate churn/v5". ``given`` is an open file that becomes its standard
    input, which is empty otherwise.

    Raises:
        ModelOverLimit: it was stopped for its time, memory or output.
        ModelFailed: it ended with an error, or could not be isolated although that was asked for.
        ValidationCancelled: ``cancelled`` said so.
    """
    code = f"from evaluator.{module} import main; main()"
    ending = _run(
        code,
        arguments,
        visible=visible,
        workspace=workspace,
        limits=limits,
        isolate=isolate,
        cancelled=cancelled,
        given=given,
    )
    if ending.status.get("exit") == 0:
        return Outcome(result=ending.result, output=ending.output)
    raise _failure(ending, whose, limits)


def parted(result: bytes, max_header: int) -> tuple[dict[str, Any], memoryview]:
    """The header and the bytes that a program handed over, as `evaluator.answers` writes them; neither is believed.

    Raises:
        ValueError, TypeError, RecursionError, struct.error: it is no such answer, or its header has more than
            ``max_header`` bytes.
    """
    (length,) = struct.unpack_from("<I", result)
    if length > max_header:
        raise ValueError("header")
    header = json.loads(result[4 : 4 + length])
    if not isinstance(header, dict):
        raise TypeError("header")
    return header, memoryview(result)[4 + length :]


@dataclass(frozen=True, kw_only=True)
class _Ending:
    status: dict[str, Any]
    result: bytes
    output: str


def _run(  # noqa: PLR0913
    code: str,
    arguments: dict[str, Any],
    *,
    visible: Sequence[Path],
    workspace: Path,
    limits: Limits,
    isolate: bool,
    cancelled: Callable[[], bool],
    given: int | None = None,
) -> _Ending:
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="scratch-", dir=workspace.resolve()))
        ours, theirs = dict[str, int](), dict[str, int]()
        lent = stack.enter_context(ExitStack())
        for name in ("output", "result", "status"):
            ours[name], theirs[name] = os.pipe()
            stack.callback(os.close, ours[name])
            lent.callback(os.close, theirs[name])
        order = {
            "command": [*_python(), _start(code), json.dumps({**arguments, "result_fd": theirs["result"]})],
            "environment": _environment(scratch),
            "visible": [*_libraries(), str(PROGRAM), *(str(path.resolve()) for path in visible)],
            "scratch": scratch,
            "seconds": limits.seconds,
            "memory_bytes": limits.memory_bytes,
            "output_bytes": limits.output_bytes,
            "isolate": isolate,
            "status_fd": theirs["status"],
            "result_fd": theirs["result"],
        }
        jail = subprocess.Popen(
            [*_python(), _start("from evaluator.jail import main; main()", libraries=False), json.dumps(order)],
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL if given is None else given,
            stdout=theirs["output"],
            stderr=theirs["output"],
            pass_fds=(theirs["result"], theirs["status"]),
            start_new_session=True,
        )
        stack.callback(_end, jail)
        # The jail has copies. Each end is closed once: a moment later its number may belong to another thread's file.
        lent.close()
        return _collected(ours, limits, cancelled)


def _collected(ends: dict[str, int], limits: Limits, cancelled: Callable[[], bool]) -> _Ending:
    """Everything that comes through the pipes until all are closed, which their last holder's death does."""
    received = {name: bytearray() for name in ends}
    most = {"output": MAX_OUTPUT * 4, "result": limits.output_bytes, "status": 10_000}
    deadline = time.monotonic() + limits.seconds + GRACE_SECONDS
    with selectors.DefaultSelector() as selector:
        for name, end in ends.items():
            selector.register(end, selectors.EVENT_READ, name)
        while selector.get_map():
            if cancelled():
                raise ValidationCancelled("The validation was stopped.")
            if time.monotonic() > deadline:
                return _ending(received, limit="time")
            for key, _ in selector.select(POLL_SECONDS):
                if not (chunk := os.read(key.fd, 1 << 20)):
                    selector.unregister(key.fd)
                    continue
                kept = received[key.data]
                if key.data != "output" or len(kept) < most["output"]:
                    kept += chunk
                if key.data != "output" and len(kept) > most[key.data]:
                    return _ending(received, limit="output")
    return _ending(received)


def _ending(received: dict[str, bytearray], **status: str) -> _Ending:
    lines = received["status"].splitlines()
    told = json.loads(lines[0]) if lines else {"refused": "it did not start"}
    output = received["output"].decode(errors="replace")[:MAX_OUTPUT]
    return _Ending(status=status or told, result=bytes(received["result"]), output=output)


def _failure(ending: _Ending, whose: str, limits: Limits) -> ModelFailed:
    match ending.status:
        case {"limit": "time"} | {"signal": 24}:
            return ModelOverLimit(f"{whose} was stopped: it took longer than {limits.seconds:g} s.")
        case {"limit": "memory"} | {"exit": 3}:
            return ModelOverLimit(f"{whose} was stopped: it needed more than {_size(limits.memory_bytes)} of memory.")
        case {"limit": "output"} | {"signal": 25} | {"exit": 4}:
            return ModelOverLimit(f"{whose} was stopped: it wrote more than {_size(limits.output_bytes)}.")
        case {"signal": number}:
            return ModelFailed(f"{whose} crashed: its process was ended by signal {number}.{_last_line(ending)}")
        case {"refused": reason}:
            return ModelFailed(f"{whose} could not be isolated on this machine: {reason}.")
    return ModelFailed(f"{whose} failed.{_last_line(ending)}")


def _last_line(ending: _Ending) -> str:
    lines = [line.strip() for line in ending.output.splitlines() if line.strip()]
    return f" It said: {lines[-1][:500]}" if lines else ""


def _size(count: int) -> str:
    return f"{count / (1 << 30):g} GB" if count >= 1 << 30 else f"{count / (1 << 20):g} MB"


def _python() -> list[str]:
    base = getattr(sys, "_base_executable", sys.executable)  # not the virtual environment's link to it
    return [os.path.realpath(base), "-I", "-S", "-B", "-c"]


def _start(code: str, *, libraries: bool = True) -> str:
    """A program of one line. Ours is looked for last, so that nothing of it stands in for a library."""
    sites = _sites() if libraries else []
    return (
        f"import site, sys; [site.addsitedir(p) for p in {sites!r}]; sys.path.append({str(PROGRAM.parent)!r}); {code}"
    )


def _environment(scratch: str) -> dict[str, str]:
    """All that a program is told: nothing of ours, and one thread, so that latencies compare."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    told = {"HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    return {**told, **threads, "MLFLOW_DISABLE_TELEMETRY": "true"}


@cache
def _sites() -> list[str]:
    return [os.path.realpath(path) for path in sys.path if path.endswith(("site-packages", "dist-packages"))]


@cache
def _libraries() -> list[str]:
    return [*SYSTEM, os.path.realpath(Path(sys.base_exec_prefix, "lib")), _python()[0], *_sites()]


def _never() -> bool:
    return False


def _end(jail: subprocess.Popen[bytes]) -> None:
    """Ask the jail to stop; it ends after everything that it started has ended."""
    with suppress(ProcessLookupError):
        jail.terminate()
    try:
        jail.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        jail.kill()  # whatever is left dies with its parent
        jail.wait()
