"""The two processes, under honcho: their output goes to log files, and when one ends the other is stopped."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from honcho.manager import Manager
from honcho.printer import Message, Printer

from stack.screen import FAILURE, PROGRESS

GRACE_SECONDS = 10.0
"""How long a process may take to stop before it is killed."""


class Logs(Printer):
    """Writes each process's output to ``<name>.log`` and shows on screen only what was meant for a person."""

    def __init__(self, folder: Path, show: Callable[[str], None]) -> None:
        super().__init__(colour=False)
        self._folder = folder
        self._show = show
        self._files: dict[str, TextIO] = {}
        self._last: dict[str, str] = {}
        self._lost: set[str] = set()
        self.ended: str | None = None
        """What became of the process that ended first, in words."""
        self.failure: str | None = None
        """What a process said was wrong."""

    def write(self, message: Message) -> None:
        """Called by honcho for every line of a process, and for its own."""
        text = message.data.decode(errors="replace") if isinstance(message.data, bytes) else message.data
        self._keep(message.name, f"{message.time:%Y-%m-%d %H:%M:%S} {text.rstrip()}\n")
        if message.name == "system":
            if self.ended is None and (found := re.fullmatch(r"(\S+) stopped \(rc=(-?\d+)\)", text.strip())):
                self.ended = f"{found[1]} ended by itself (exit code {found[2]})"
                if self._last.get(found[1]):
                    self.ended += f", its last words were: {self._last[found[1]]}"
        elif text.startswith(PROGRESS):
            self._tell(text.removeprefix(PROGRESS).rstrip())
        elif text.startswith(FAILURE):
            self.failure = self.failure or text.removeprefix(FAILURE).strip()
        elif text.strip():
            self._last[message.name] = text.strip()

    def note(self, name: str, text: str) -> None:
        """Write a line of our own into the log of a process."""
        self.write(Message(type="line", data=text, time=datetime.now().astimezone(), name=name, colour=None))

    def _keep(self, name: str, line: str) -> None:
        """Write a line into a log. A full disk ends neither process: it is told once, and lines are lost until then."""
        try:
            self._file(name).write(line)
        except OSError as error:
            if name not in self._lost:
                self._lost.add(name)
                self._tell(f"{self._folder / name}.log cannot be written: {error.strerror}")

    def _tell(self, text: str) -> None:
        with suppress(OSError):  # nobody reads the screen any more
            self._show(text)

    def _file(self, name: str) -> TextIO:
        if name not in self._files:
            self._files[name] = (self._folder / f"{name}.log").open("a", buffering=1)
        return self._files[name]


class Processes(Manager):
    """honcho's manager, with two ends tied up.

    A signal that comes before all processes have reported their start would find no process to stop, and one that
    ignores SIGTERM would be waited for without end.
    """

    def __init__(self, logs: Logs, on_start: Callable[[], None]) -> None:
        super().__init__(logs)
        self._on_start = on_start
        self._reported = False
        self._asked_early = False

    def terminate(self) -> None:
        """Stop every process; kill what is still there after `GRACE_SECONDS`."""
        if not super()._all_started():
            self._asked_early = True
            return
        if not self._terminating:
            killer = threading.Timer(GRACE_SECONDS, self.kill)
            killer.daemon = True
            killer.start()
        super().terminate()

    def _all_started(self) -> bool:  # asked by honcho in every round
        started = super()._all_started()
        if started and not self._reported:
            self._reported = True
            self._on_start()
        if started and self._asked_early:
            self._asked_early = False
            self.terminate()
        return bool(started)
