"""The whole embedded stack as its users start it: ``python -m stack.run`` in a home of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.settings import PROJECT
from tests.conftest import free_port, http_ok, wait_until

PASSWORD = "a password for tests only"
START_SECONDS = 180


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    url: str
    mlflow: str
    home: Path
    output: Path


@contextmanager
def running(home: Path) -> Iterator[Stack]:
    """Start the stack, wait for ``/readyz``, and stop it as Ctrl-C does."""
    port, mlflow_port = free_port(), free_port()
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "SIGNOFF"))},
        "SIGNOFF_HOME": str(home),
        "SIGNOFF_PORT": str(port),
        "SIGNOFF_MLFLOW_PORT": str(mlflow_port),
        "SIGNOFF_DEMO_PASSWORD": PASSWORD,
    }
    output = home.parent / f"{home.name}.log"
    with output.open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stack.run"],
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    stack = Stack(url=f"http://localhost:{port}", mlflow=f"http://127.0.0.1:{mlflow_port}", home=home, output=output)
    try:
        wait_until(
            lambda: process.poll() is not None or http_ok(f"{stack.url}/readyz"), "the stack", seconds=START_SECONDS
        )
        assert process.poll() is None, output.read_text()
        yield stack
    finally:
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=30) == 0, output.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
