"""Finishes what a crash or an outage left unfinished, finds what was changed past Signoff, has the ledger witnessed."""

from __future__ import annotations

import logging
from functools import partial

from services import expiry, listed, recount
from services.errors import OutcomeUnknown, PromotionConflict, SignoffError
from services.messaging import outbox, reminders, webhooks
from services.reconciliation.reconciler import Reconciler
from services.record import condition, mirror, refusals, witness
from services.record.activation import SYSTEM
from services.signoff import Signoff
from services.steps import intents, slots
from services.validation import leftovers
from services.verbs import idempotency
from services.worker import Worker, all_of

INTERVAL_SECONDS = 5.0
PATIENCE_SECONDS = 900.0
"""A round may read large files again, to see whether they were changed past Signoff."""

log = logging.getLogger(__name__)


def tidy(signoff: Signoff) -> None:
    """One round: close what a lease ran out on, mark what expired, count votes, write the tags that wait, and sign.

    Raises:
        ExceptionGroup: of what failed; each piece was tried.
    """
    all_of(
        (
            partial(_close_abandoned, signoff),
            partial(expiry.sweep, signoff),
            partial(recount.sweep, signoff),
            partial(mirror.flush, signoff),
            lambda: refusals.close_windows(signoff.database, at=signoff.now()),
            partial(idempotency.forget, signoff),
            partial(reminders.sweep, signoff),
            partial(_strand, signoff),
            partial(outbox.forget, signoff.database),
            partial(leftovers.sweep, signoff),
            partial(webhooks.forget, signoff),
            partial(witness.keep, signoff),
        )
    )


def _strand(signoff: Signoff) -> None:
    """Without a file of its own this dashboard knows nothing about channels; another one may."""
    if signoff.settings.messages:
        outbox.strand(signoff.database, signoff.messages.destinations)


def _close_abandoned(signoff: Signoff) -> None:
    with signoff.database.reading() as connection:
        models = intents.abandoned(connection)
    for model in models:
        try:
            slot = slots.take(
                signoff.database, model, holder=SYSTEM.username, purpose="finding out what became of a change"
            )
        except PromotionConflict:
            continue  # somebody took the slot first, and closes it
        try:
            intents.recover(signoff, slot)
            signoff.snapshot.touch(model)
        except OutcomeUnknown:
            log.warning("%s: MLflow does not answer; an open change stays open", model)
            continue
        except SignoffError as error:
            log.warning("%s: an open change cannot be closed: %s", model, error)  # one model must not stop the others
        with signoff.database.writing() as connection:
            slots.release(connection, slot)


class Caretaker:
    """Tidies and reconciles until stopped. Make it before the snapshot starts, to see its first pass."""

    def __init__(self, signoff: Signoff) -> None:
        self._signoff = signoff
        self._reconciler = Reconciler(signoff)
        self._worker = Worker(
            "caretaker",
            self._round,
            interval=INTERVAL_SECONDS,
            patience=PATIENCE_SECONDS,
            delay=INTERVAL_SECONDS,
        )
        self.workers = (self._worker,)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def stop(self) -> None:
        """End; returns when the present round is over or five seconds have passed."""
        self._worker.stop()

    def turn(self) -> None:
        """One round: `tidy`, read the record again, settle the newest full reading of the registry, look at files."""
        self._worker.turn()

    def _round(self) -> float:
        all_of(
            (
                partial(tidy, self._signoff),
                partial(condition.keep, self._signoff),
                self._reconciler.settle,
                partial(listed.look, self._signoff),
            )
        )
        return INTERVAL_SECONDS
