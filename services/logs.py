"""What is read again and again fails again and again; the log says so now and then."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

SECONDS = 600.0
MAX_CAUSES = 1000
"""So many are remembered."""

_ID = re.compile(r"\b(?!\d{3}\b)\w*\d\w*")
"""A number, an id or a name with a number in it; three digits alone are a status."""


class Seldom(logging.Filter):
    """Keeps back a warning that was told within `SECONDS`, and tells with the next one how many it kept back.

    Warnings are the same that differ in ids only: one broken run is met by way of many versions, in every round.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is told."""
        if record.levelno != logging.WARNING:
            return True
        text, now = record.getMessage(), self._clock()
        cause = _ID.sub("#", text)
        with self._lock:
            at, kept_back = self._told.pop(cause, (now - SECONDS, 0))
            tell = now - at >= SECONDS
            self._told[cause] = (now, 0) if tell else (at, kept_back + 1)
            if len(self._told) > MAX_CAUSES:
                del self._told[next(iter(self._told))]
        if tell and kept_back:
            record.msg, record.args = f"{text} (and {kept_back:,} more like it before)", ()
        return tell


def seldom(name: str) -> logging.Logger:
    """The logger of a module that reads in every round."""
    log = logging.getLogger(name)
    log.addFilter(Seldom())
    return log
