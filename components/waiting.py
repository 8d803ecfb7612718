"""A sign of progress while evidence is read: at once that something is done, and soon how many bytes of how many."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import add_script_run_ctx

from components.text import escaped, size
from services.progress import Progress, told_to

DELAY_SECONDS = 0.5
STEP_SECONDS = 0.2


@contextmanager
def reading_shown(doing: str) -> Iterator[None]:
    """Say what is being done, and after half a second how far the reading of files is."""
    with st.spinner(doing):
        bar = _Bar(st.empty())
        try:
            with told_to(bar.note):
                yield
        finally:
            bar.end()


class _Bar:
    """Drawn by a thread of its own: Streamlit may end a run at anything its own thread draws, and a verb that is half
    done must not be ended because somebody clicked again."""

    def __init__(self, place: DeltaGenerator) -> None:
        self._place = place
        self._latest: Progress | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._drawn = False

    def note(self, progress: Progress) -> None:
        """Remember how far it is; what decides and waits never draws."""
        self._latest = progress
        if self._thread is None:
            self._thread = threading.Thread(target=self._draw, name="reading-shown", daemon=True)
            add_script_run_ctx(self._thread)
            self._thread.start()

    def end(self) -> None:
        """Take it away again."""
        if self._thread is None:
            return
        self._over.set()
        self._thread.join()
        if self._drawn:
            self._place.empty()

    def _draw(self) -> None:
        pause = DELAY_SECONDS
        shown: Progress | None = None
        while not self._over.wait(pause):
            pause = STEP_SECONDS
            if self._latest is not None and self._latest != shown:
                shown = self._latest
                self._place.progress(shown.share, text=words(shown))
                self._drawn = True


def words(progress: Progress) -> str:
    """``Files of churn/v3: 512.0 MB of 1.0 GB read``, as Markdown."""
    of = f" of {size(progress.total)}" if progress.total else ""
    return f"Files of {escaped(str(progress.ref), 80)}: {size(progress.done)}{of} read"
