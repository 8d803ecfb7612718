"""Threads for calls that a page does not wait for. They belong to a `Signoff`, and close with it.

The threads of `concurrent.futures.ThreadPoolExecutor` keep a process from ending until their calls return, and MLflow
may take minutes to answer. These are daemon threads: a call that is under way ends with the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from functools import partial
from threading import Lock, Thread
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class Pool:
    """Makes up to ``threads`` calls at a time; a thread ends when no call waits."""

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._threads = threads
        self._running = 0
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._closed = False
        self._lock = Lock()

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Make a call in a thread of the pool; raises `RuntimeError` once the pool is closed."""
        asked: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"The pool {self._name} is closed.")
            self._waiting.append((asked, partial(call, *args, **kwargs)))
            if self._running < self._threads:
                Thread(target=self._run, name=self._name, daemon=True).start()
                self._running += 1
        return asked

    def close(self) -> None:
        """Cancel the calls that wait, and take no more; returns at once, also while a call is under way."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for asked, _ in waiting:
            asked.cancel()

    def _run(self) -> None:
        while following := self._next():
            asked, call = following
            if not asked.set_running_or_notify_cancel():
                continue
            try:
                asked.set_result(call())
            except BaseException as error:  # raised again in the thread that asks for the result
                asked.set_exception(error)

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._running -= 1
            return None


@dataclass(frozen=True, kw_only=True)
class Pools:
    """One pool for each kind of call, so that calls that hang hold up no other kind."""

    curves: Pool = field(default_factory=lambda: Pool("curve-reader", 4))
    files: Pool = field(default_factory=lambda: Pool("file-reader", 4))
    key_metrics: Pool = field(default_factory=lambda: Pool("key-metrics", 2))
    snapshot: Pool = field(default_factory=lambda: Pool("first-snapshot", 1))
    record: Pool = field(default_factory=lambda: Pool("ledger-check", 1))

    def close(self) -> None:
        """Close each of them."""
        for one in fields(self):
            getattr(self, one.name).close()
