"""A person states that a backup was restored on purpose, or that the witness was lost: that opens an epoch."""

from __future__ import annotations

from datetime import datetime

from services.database import Database
from services.domain import Actor
from services.errors import BadInput
from services.record import epochs, ledger
from services.record.epochs import Epoch
from services.record.ledger import Entry, Kind
from services.record.testimony import check_witness
from services.registry import Registry
from services.settings import Settings


def state(database: Database, settings: Settings, registry: Registry, *, by: Actor, reason: str, at: datetime) -> Epoch:
    """Record what was lost: the events that MLflow witnesses and the ledger does not hold, and the runs it has no more.

    Witnessing goes on from there, and every verification reports it for ever.

    Raises:
        BadInput: there is no reason, or nothing was lost.
        RegistryUnavailable: MLflow did not answer.
    """
    if not reason.strip():
        raise BadInput("Say why: a reason is needed.")
    report = check_witness(database, settings, registry, at=at)
    if not report.lost and not report.gone:
        raise BadInput("Nothing was lost: the ledger holds every event that MLflow witnesses, and MLflow its witness.")
    last = report.lost[-1] if report.lost else None
    details = {
        "epoch": report.epoch + 1,
        "first": report.agreed + 1 if last else None,
        "last": last.seq if last else None,
        "hash": last.hash if last else None,
        "witnessed_at": last.at if last else None,
        "runs": list(report.gone),
    }
    with database.writing() as connection:
        ledger.lock(connection)
        ledger.append(
            connection, Entry(kind=Kind.LEDGER_RESTORED, actor=by, at=at, comment=reason.strip(), details=details)
        )
        return epochs.opened(connection)[-1]
