"""Calls that a page does not wait for: none keeps the process, or `Signoff.close`, waiting for MLflow."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import CancelledError
from pathlib import Path
from threading import Event

import pytest

from services.pools import Pool
from services.settings import PROJECT
from services.signoff import Signoff

HANGING = """
import signal, sys, threading
from pathlib import Path
from dataclasses import fields
from services.signoff import Signoff
from tests.conftest import settings_in
from tests.fakes import FakeRegistry

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background ignores it
registry, begun = FakeRegistry(), threading.Semaphore(0)
def hang(*_):
    begun.release()
    threading.Event().wait()
registry.runs = registry.curves = hang
signoff = Signoff.wire(settings=settings_in(Path(sys.argv[1])), registry=registry)
signoff.reader.curves_asked(["r"], "auc")
for pool in fields(signoff.pools):
    getattr(signoff.pools, pool.name).submit(signoff.reader.runs, [pool.name])
for _ in range(6):
    begun.acquire()
try:
    print("hanging", flush=True)
    threading.Event().wait()
finally:
    signoff.close()
    print("closed", flush=True)
"""


class TestClosing:
    def test_does_not_wait_for_a_call_under_way_and_cancels_those_that_wait(self, signoff: Signoff) -> None:
        begun, answered = Event(), Event()

        def hangs() -> str:
            begun.set()
            answered.wait()
            return "late"

        pool = signoff.pools.record
        under_way, waiting = pool.submit(hangs), pool.submit(str)
        begun.wait()
        signoff.close()
        assert not under_way.done()
        assert waiting.cancelled()
        with pytest.raises(RuntimeError, match="closed"):
            pool.submit(str)
        answered.set()
        assert under_way.result() == "late"

    def test_of_the_process_does_not_wait_for_mlflow_either(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", HANGING, str(tmp_path)]
        with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout
            try:
                assert process.stdout.readline() == b"hanging\n"
                process.send_signal(signal.SIGINT)
                process.wait(timeout=20)
                assert process.stdout.read() == b"closed\n"
            finally:
                process.kill()


class TestAPool:
    def test_makes_no_more_calls_at_a_time_than_it_has_threads(self) -> None:
        pool, begun, go = Pool("test", 2), [Event(), Event(), Event()], Event()

        def call(number: int) -> int:
            begun[number].set()
            go.wait()
            return number

        asked = [pool.submit(call, number) for number in range(3)]
        begun[0].wait()
        begun[1].wait()
        assert not begun[2].is_set()
        go.set()
        assert [one.result() for one in asked] == [0, 1, 2]

    def test_hands_an_error_on_and_goes_on(self) -> None:
        pool = Pool("test", 1)
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
        assert pool.submit(divmod, 3, 2).result() == (1, 1)

    def test_leaves_out_what_was_cancelled(self) -> None:
        pool, go, made = Pool("test", 1), Event(), list[str]()
        first, second = pool.submit(go.wait), pool.submit(made.append, "second")
        assert second.cancel()
        go.set()
        first.result()
        pool.submit(made.append, "third").result()
        with pytest.raises(CancelledError):
            second.result()
        assert made == ["third"]
