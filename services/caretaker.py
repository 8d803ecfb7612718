"""Finishes what a crash or an outage left unfinished, finds what was changed past Signoff, has the ledger witnessed."""

from __future__ import annotations

import logging
import threading

from services import expiry, recount
from services.errors import OutcomeUnknown, PromotionConflict, SignoffError
from services.messaging import outbox, reminders, webhooks
from services.reconciliation.reconciler import Reconciler
from services.record import condition, mirror, refusals, witness
from services.record.activation import SYSTEM
from services.signoff import Signoff
from services.steps import intents, slots
from services.validation import leftovers
from services.verbs import idempotency

INTERVAL_SECONDS = 5.0

log = logging.getLogger(__name__)


def tidy(signoff: Signoff) -> None:
    """One round: close what a lease ran out on, mark what expired, count votes, write the tags that wait, and sign."""
    _close_abandoned(signoff)
    expiry.sweep(signoff)
    recount.sweep(signoff)
    mirror.flush(signoff)
    refusals.close_windows(signoff.database, at=signoff.now())
    idempotency.forget(signoff)
    reminders.sweep(signoff)
    outbox.strand(signoff.database, signoff.messages.destinations)
    outbox.forget(signoff.database)
    leftovers.sweep(signoff)
    webhooks.forget(signoff)
    witness.keep(signoff)


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
    """Runs `turn` in a thread of its own until stopped. Make it before the snapshot starts, to see its first pass."""

    def __init__(self, signoff: Signoff) -> None:
        self._signoff = signoff
        self._reconciler = Reconciler(signoff)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="caretaker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the present round is over or five seconds have passed."""
        self._stop.set()
        self._thread.join(timeout=5)

    def turn(self) -> None:
        """One round: `tidy`, have the record read again, then settle the newest full reading of the registry."""
        for work in (
            lambda: tidy(self._signoff),
            lambda: condition.keep(self._signoff),
            self._reconciler.settle,
        ):
            try:
                work()
            except SignoffError as error:
                log.warning("caretaker: %s", error)

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            self.turn()
