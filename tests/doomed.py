"""Processes that may be killed: ``python -m tests.doomed`` forks one for every verb it is asked to run.

It reads one JSON list of jobs a line and answers with one JSON list a line. A job names the verb, the settings and,
if it is to die, the step at which it does (``kill_at``) or the seconds after which it does (``kill_after``); with
``process`` its slots depend on the life of a process of that id, which beats as it takes one and never again. It dies
by a real SIGKILL: no handler, no ``finally`` and no rollback of ours runs. Steps are all that can be told apart from
outside: each transaction (before it, before its commit, after it), each MLflow write (before, after), each read.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from services import database
from services.domain import VersionRef
from services.errors import SignoffError
from services.mlflow.registry import MlflowRegistry
from services.settings import Settings
from services.signoff import Signoff
from tests.verbs import releases, reviews

WRITES = ("set_stage", "set_alias", "delete_alias", "set_tag", "delete_tag")
READS = ("model", "version", "versions", "manifest")
Job = dict[str, Any]


class Steps:
    """Counts the steps of one verb, tells of each, and kills the process at the one it was given."""

    def __init__(self, kill_at: int | None, tell: Callable[[str], object]) -> None:
        self.kill_at = kill_at
        self.tell = tell
        self.names: list[str] = []

    def __call__(self, name: str) -> None:
        self.names.append(name)
        self.tell(name)
        if len(self.names) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def watch(step: Steps) -> None:
    """Report every step of everything that is opened from now on."""
    opened = database.Database.writing

    @contextmanager
    def writing(self: database.Database, *, alone: bool = False) -> Iterator[Any]:
        step("before a transaction")
        with opened(self, alone=alone) as connection:
            yield connection
            step("before a commit")
        step("after a commit")

    database.Database.writing = writing  # type: ignore[method-assign]
    for name in (*WRITES, *READS):
        setattr(MlflowRegistry, name, _watched(getattr(MlflowRegistry, name), name, step))


def _watched(call: Callable[..., Any], name: str, step: Steps) -> Callable[..., Any]:
    @functools.wraps(call)
    def watched(*arguments: Any, **options: Any) -> Any:
        if name in WRITES:
            step(f"before {name}")
        answer = call(*arguments, **options)
        step(f"after {name}")
        return answer

    return watched


def run(job: Job, tell: Callable[[str], object]) -> dict[str, Any]:
    """Run one verb to its end; returns what its caller was told. ``tell`` is called with each step it takes."""
    step = Steps(job.get("kill_at"), tell)
    signoff = Signoff.open(Settings.read(job["environment"]))
    signoff.database.process = job.get("process")
    watch(step)
    if job.get("kill_after") is not None:
        threading.Timer(job["kill_after"], os.kill, (os.getpid(), signal.SIGKILL)).start()
    began = time.monotonic()
    ref = VersionRef(name=job["name"], version=job["version"])
    try:
        if job["verb"] == "rollback":
            outcome = releases.rollback(
                signoff, ref.name, version=ref.version, by="release_manager", reason="Latency doubled."
            )
        else:
            outcome = releases.promote(signoff, ref, by="release_manager", reason="Fewer misses.")
    except SignoffError as error:
        answer = type(error).__name__
    else:
        answer = "confirmed" if outcome.event else "nothing to do"
    return {"answer": answer, "seconds": time.monotonic() - began}


def fork(job: Job, begin: int) -> tuple[int, int]:
    """A child that runs the job once ``begin`` is closed; returns its pid and where its answer can be read."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)
    os.read(begin, 1)

    def tell(line: str) -> None:
        os.write(writing, f"{line}\n".encode())

    try:
        tell(json.dumps(run(job, tell)))
    except BaseException as error:
        tell(json.dumps({"answer": repr(error), "seconds": 0.0}))
    os._exit(0)


def main() -> None:
    """Serve until standard input ends."""
    reviews.__name__  # noqa: B018  (imported before the fork, so that no child pays for it)
    for line in sys.stdin:
        ready, go = os.pipe()
        children = []
        for job in json.loads(line):
            children.append(fork({**job}, ready))
        os.write(go, b"x" * len(children))
        answers = []
        for pid, reading in children:
            with os.fdopen(reading, "rb") as pipe:
                steps = pipe.read().decode().splitlines()
            _, status = os.waitpid(pid, 0)
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            told = {} if killed else json.loads(steps.pop())
            answers.append({"killed": killed, "steps": steps, **told})
        os.close(go)
        os.close(ready)
        print(json.dumps(answers), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
