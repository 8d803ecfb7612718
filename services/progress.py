"""How far a long reading is: told to whoever waits for it. No verb has a parameter for what decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from services.domain import VersionRef


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Of the files of ``ref``, ``done`` bytes of ``total`` are read. The total is 0 where sizes are not told."""

    ref: VersionRef
    done: int
    total: int

    @property
    def share(self) -> float:
        """Between 0 and 1; files that grew since they were listed do not take it further."""
        return min(self.done / self.total, 1.0) if self.total else 0.0


Observer = Callable[[Progress], None]
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def told_to(observer: Observer) -> Iterator[None]:
    """Tell ``observer`` of whatever this thread reads inside: some hundred times a second, so it must be quick.

    It must not raise either: to the reading that would look like a failure of MLflow's.
    """
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def tell(progress: Progress) -> None:
    """Called by what reads, after each piece; does nothing where nobody waits."""
    if observer := _observer.get():
        observer(progress)
