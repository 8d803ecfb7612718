"""What goes on in the background: a thread that does one round after another, ends for no error, and says how it is."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator

from services.errors import SignoffError

MANY = 3
"""So many rounds in a row that broke are no accident."""
MAX_KINDS = 100
"""Kinds of errors whose traceback is logged once; of any more there is a line only."""

log = logging.getLogger(__name__)


class Worker:
    """Runs ``work`` again and again until stopped.

    Args:
        what: how people call it; shown to anybody.
        work: one round; returns for how many seconds there is nothing to do.
        interval: the seconds to wait after a round that failed.
        patience: the seconds without a sign of life after which something is wrong.
        delay: the seconds to wait before the first round.
    """

    def __init__(
        self,
        what: str,
        work: Callable[[], float],
        *,
        interval: float,
        patience: float,
        delay: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what = what
        self._work = work
        self._interval = interval
        self._patience = patience
        self._delay = delay
        self._clock = clock
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._alive_at = clock()
        self._broken = 0
        self._told: set[str] = set()

    @property
    def started(self) -> bool:
        """Whether it was started."""
        return self._thread is not None

    @property
    def problem(self) -> str | None:
        """What is wrong with it, in a sentence for anybody; None while all is well, and before it is started."""
        if self._thread is None or self._stop.is_set():
            return None
        if not self._thread.is_alive():
            return f"The {self.what} has ended; restart Signoff."
        if self._broken >= MANY:
            return f"The {self.what} broke {self._broken:,} times in a row; Signoff's log says why."
        if (silent := self._clock() - self._alive_at) > self._patience:
            return f"The {self.what} has given no sign of life for {silent / 60:,.0f} minutes."
        return None

    def start(self) -> None:
        """Begin."""
        self._stop.clear()
        self._alive_at = self._clock()
        self._thread = threading.Thread(target=self._run, name=self.what.replace(" ", "-"), daemon=True)
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Let the present round be the last."""
        self._stop.set()
        self._wake.set()

    def stop(self, seconds: float = 5.0) -> None:
        """End; returns when the present round is over or ``seconds`` have passed."""
        self.ask_to_stop()
        if self._thread:
            self._thread.join(timeout=seconds)

    def wake(self) -> None:
        """Let the next round begin at once."""
        self._wake.set()

    def rest(self, seconds: float) -> None:
        """Wait, or until it is to end."""
        self._stop.wait(seconds)

    def stopping(self) -> bool:
        """Whether it is to end. What takes long asks now and then, which is a sign of life."""
        self._alive_at = self._clock()
        return self._stop.is_set()

    def turn(self) -> float:
        """One round, whatever comes of it; returns for how many seconds there is nothing to do.

        What Signoff can name is an outage or a refusal, which others tell of; anything else counts as broken.
        """
        pause, unexpected = self._interval, False
        try:
            pause = self._work()
        except Exception as failure:
            for error in _each(failure):
                if isinstance(error, SignoffError):
                    log.warning("%s: %s", self.what, error)
                else:
                    unexpected = True
                    self._tell(error)
        self._broken = self._broken + 1 if unexpected else 0
        self._alive_at = self._clock()
        return pause

    def _run(self) -> None:
        self.rest(self._delay)
        while not self._stop.is_set():
            self._wake.wait(self.turn())
            self._wake.clear()

    def _tell(self, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{type(error).__name__} at {where.filename}:{where.lineno}"
        first = kind not in self._told and len(self._told) < MAX_KINDS
        if first:
            self._told.add(kind)
        log.error("%s: %s: %s", self.what, kind, error, exc_info=error if first else None)


def all_of(pieces: Iterable[Callable[[], object]]) -> None:
    """Do every piece, also when one before it fails; raises an `ExceptionGroup` of what failed."""
    failed = []
    for piece in pieces:
        try:
            piece()
        except Exception as error:
            failed.append(error)
    if failed:
        raise ExceptionGroup("Some pieces of a round failed.", failed)


def _each(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for one in error.exceptions:
            yield from _each(one)
    else:
        yield error
