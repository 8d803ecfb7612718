"""Runs validations in the dashboard's process, a few at a time; the models run in processes of their own."""

from __future__ import annotations

import logging
import threading

from services.errors import SignoffError
from services.signoff import Signoff
from services.validation import jobs, mirroring, uploads
from services.validation.running import Evaluate, carry_out

AT_ONCE = 2
INTERVAL_SECONDS = 0.5

log = logging.getLogger(__name__)


class Validator:
    """Takes jobs of this place until stopped. ``evaluate`` None is the real one, imported with the first job."""

    def __init__(self, signoff: Signoff, evaluate: Evaluate | None = None, *, at_once: int = AT_ONCE) -> None:
        self._signoff = signoff
        self._evaluate = evaluate
        self._place = uploads.place(signoff.settings)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"validator-{number}", daemon=True) for number in range(at_once)
        ]

    def start(self) -> None:
        """Begin; what an earlier process left lying about is removed first."""
        try:
            needed = jobs.folders(self._signoff.database, self._place) | mirroring.folders(self._signoff)
            uploads.sweep(self._signoff.settings, needed)
        except SignoffError as error:
            log.warning("validator: %s", error)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what runs is stopped, and waits for its turn again."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def turn(self) -> bool:
        """Run the next job, if one waits; whether there was one."""
        claimed = jobs.claim(self._signoff.database, self._place)
        if claimed is None:
            return False
        carry_out(self._signoff, claimed, self._evaluate or _real(), stopping=self._stop.is_set)
        return True

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self.turn():
                    continue
            except SignoffError as error:
                log.warning("validator: %s", error)
            self._stop.wait(INTERVAL_SECONDS)


def _real() -> Evaluate:
    from services.validation.evaluation import evaluate  # imports scikit-learn and SciPy: seconds

    return evaluate
