"""What a crash or an outage left of validations: jobs nobody runs, figures MLflow lacks, files nobody needs."""

from __future__ import annotations

import logging

from services.record.activation import SYSTEM
from services.signoff import Signoff
from services.validation import jobs, mirroring, uploads
from services.validation.jobs import State
from services.verbs import validations

DIED = "The dashboard that ran it ended before it was done; nothing was recorded. Ask for it again."
NEVER_BEGUN = "No dashboard that has its data took it in time; nothing was recorded. Ask for it again."

log = logging.getLogger(__name__)


def sweep(signoff: Signoff) -> None:
    """One round of the caretaker. What is on record is done, whoever died; the rest has failed, and says so."""
    for job in jobs.abandoned(signoff.database, at=signoff.now()):
        why = DIED if job.state is State.RUNNING else NEVER_BEGUN
        if validations.fail(signoff, job, why, SYSTEM):
            log.warning("validation #%s: %s", job.seq, why)
            if job.run_id:
                mirroring.give_up(signoff, job.run_id)
        else:  # it ended by the record, and its dashboard died before it said so
            uploads.drop(signoff.settings, job.wanted.folder)
    mirroring.flush(signoff)
