"""Runs validations in the dashboard's process, a few at a time; the models run in processes of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable

from services.errors import SignoffError
from services.signoff import Signoff
from services.validation import jobs, mirroring, uploads
from services.validation.running import Evaluate, carry_out
from services.worker import Worker

AT_ONCE = 2
INTERVAL_SECONDS = 0.5
PATIENCE_SECONDS = 1800.0
"""A validation asks now and then whether it is to stop; reading the files of a large model takes long in between."""

log = logging.getLogger(__name__)


class Validator:
    """Takes jobs of this place until stopped. ``evaluate`` None is the real one, imported with the first job."""

    def __init__(self, signoff: Signoff, evaluate: Evaluate | None = None, *, at_once: int = AT_ONCE) -> None:
        self._signoff = signoff
        self._evaluate = evaluate
        self._place = uploads.place(signoff.settings)
        self.workers = tuple(self._worker() for _ in range(at_once))

    def start(self) -> None:
        """Begin; what an earlier process left lying about is removed first."""
        try:
            needed = jobs.folders(self._signoff.database, self._place) | mirroring.folders(self._signoff)
            uploads.sweep(self._signoff.settings, needed)
        except SignoffError as error:
            log.warning("validator: %s", error)
        for worker in self.workers:
            worker.start()

    def stop(self) -> None:
        """End; what runs is stopped, and waits for its turn again."""
        for worker in self.workers:
            worker.ask_to_stop()
        for worker in self.workers:
            worker.stop()

    def turn(self, stopping: Callable[[], bool] = lambda: False) -> bool:
        """Run the next job, if one waits; whether there was one. ``stopping`` says that it is to be given back."""
        claimed = jobs.claim(self._signoff.database, self._place, at=self._signoff.now())
        if claimed is None:
            return False
        carry_out(self._signoff, claimed, self._evaluate or _real(), stopping=stopping)
        return True

    def _worker(self) -> Worker:
        def work() -> float:
            return 0.0 if self.turn(worker.stopping) else INTERVAL_SECONDS

        worker = Worker("running of validations", work, interval=INTERVAL_SECONDS, patience=PATIENCE_SECONDS)
        return worker


def _real() -> Evaluate:
    from services.validation.evaluation import evaluate  # imports scikit-learn and SciPy: seconds

    return evaluate
