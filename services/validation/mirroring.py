"""What MLflow shows of a validation: a run tied to both versions. Written from the record, and again until it is."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services import proofs
from services.domain import Actor, Dataset, ModelVersion, VersionRef
from services.errors import BadInput, NotFound, RegistryUnavailable
from services.mlflow.entities import model_id_in
from services.record import ledger
from services.record.ledger import Event
from services.registry import RunContents
from services.signoff import Signoff
from services.tables import validations
from services.validation import uploads
from services.validation.record import Validation, validation_from
from services.validation.report import Report

EXPERIMENT = "signoff-validations"
PER_ROUND = 20
_CANDIDATE = "signoff.candidate"
"""The tag of every run that `begin` made."""

log = logging.getLogger(__name__)


def begin(signoff: Signoff, version: ModelVersion, champion: ModelVersion | None, report: Report, actor: Actor) -> str:
    """A run without any figure, which the record can name; raises `RegistryUnavailable`."""
    against = f" against v{champion.ref.version}" if champion else ""
    tags = {
        _CANDIDATE: str(version.ref),
        "signoff.candidate_digest": report.candidate.digest,
        "signoff.asked_by": actor.username,
        "mlflow.note.content": "Being recorded. Without figures this run is evidence of nothing.",
    }
    if champion and report.current:
        tags |= {"signoff.current": str(champion.ref), "signoff.current_digest": report.current.digest}
    with proofs.ours(signoff):
        return signoff.registry.begin_run(EXPERIMENT, f"{version.ref.name} v{version.ref.version}{against}", tags)


def give_up(signoff: Signoff, run_id: str) -> None:
    """End a run that nothing was recorded of."""
    with suppress(RegistryUnavailable, NotFound, BadInput), proofs.ours(signoff):
        if _CANDIDATE in signoff.registry.run(run_id).tags:  # the number may be from a row: of ours only
            signoff.registry.abandon_run(run_id)


def mirror(signoff: Signoff, found: Validation) -> None:
    """Log the figures of a validation that is on record, its data set, report and pictures; may be repeated.

    Raises:
        RegistryUnavailable: MLflow did not answer; `flush` tries again.
    """
    with signoff.database.reading() as connection:
        row = connection.execute(sa.select(validations).where(validations.c.seq == found.seq)).one()
        event = ledger.event(connection, found.seq)
    if event is None or _said(row) != _recorded(event):
        log.warning("validation #%s is not shown in MLflow: its row is not what the record says", found.seq)
        _shown(signoff, found)
        return
    kept = uploads.pictures(signoff.settings, row.job)
    pictures = tuple(sorted(kept.iterdir())) if kept.is_dir() else ()
    try:
        contents = _contents(signoff, found, event.hash, pictures)
        with proofs.ours(signoff):
            signoff.registry.complete_run(found.run_id, contents)
    except (NotFound, BadInput) as error:  # somebody deleted or changed the run: it cannot be made up for
        log.warning("validation #%s is not shown in MLflow: %s", found.seq, error)
    _shown(signoff, found)
    uploads.drop(signoff.settings, kept.name)


def _said(row: sa.Row[Any]) -> tuple[object, ...]:
    """What a row of ``validations`` has written where."""
    text = hashlib.sha256((row.report or "").encode()).hexdigest()
    return row.job, row.model, row.version, row.run_id, row.at, text


def _recorded(event: Event) -> tuple[object, ...]:
    """The same, by the event that completed it."""
    body = event.body
    return (
        event.get("job"),
        body["model"],
        body["version"],
        event.get("mlflow_run"),
        body["at"],
        event.get("report_digest"),
    )


def _shown(signoff: Signoff, found: Validation) -> None:
    with signoff.database.writing() as connection:
        connection.execute(validations.update().where(validations.c.seq == found.seq).values(mirrored=True))


def flush(signoff: Signoff) -> None:
    """Write what MLflow does not show yet; stops where it does not answer."""
    query = sa.select(validations).where(validations.c.mirrored.is_(False)).order_by(validations.c.seq)
    with signoff.database.reading() as connection:
        waiting = [validation_from(row) for row in connection.execute(query.limit(PER_ROUND))]
    try:
        for found in waiting:
            mirror(signoff, found)
    except RegistryUnavailable as error:
        log.warning("validations wait for MLflow: %s", error)


def folders(signoff: Signoff) -> frozenset[str]:
    """Where pictures lie that MLflow does not show yet."""
    query = sa.select(validations.c.job).where(validations.c.mirrored.is_(False))
    with signoff.database.reading() as connection:
        return frozenset(uploads.pictures(signoff.settings, job).name for job in connection.execute(query).scalars())


def _contents(signoff: Signoff, found: Validation, fingerprint: str, pictures: tuple[Path, ...]) -> RunContents:
    report, holdout = found.report, found.report.holdout
    current = report.current
    return RunContents(
        at=datetime.fromisoformat(found.at),
        metrics=report.logged_metrics,
        params={
            "candidate_version": str(found.ref),
            **({"current_version": str(current.ref)} if current else {}),
            "holdout": holdout.name[:500],
            "holdout_digest": holdout.digest,
            "holdout_sha256": holdout.sha256,
            "rows": str(holdout.rows),
            "target": holdout.target,
            "confidence": repr(report.confidence),
            "seed": str(report.seed),
            "resamples": str(report.resamples),
        },
        tags={
            "signoff.event": f"{found.seq}:{fingerprint}",
            "mlflow.note.content": f"Recorded by Signoff as event #{found.seq}: {signoff.settings.url}/history?"
            f"event={found.seq}. The record proves, this run shows.",
        },
        dataset=Dataset(name=holdout.name, digest=holdout.digest, context="eval", source=holdout.source),
        models=_logged_models(signoff, found.ref, current.ref if current else None),
        documents={"report.json": json.dumps(report.as_json(), indent=2, ensure_ascii=False)},
        pictures=pictures,
    )


def _logged_models(signoff: Signoff, *refs: VersionRef | None) -> tuple[str, ...]:
    """Ids of the logged models behind both versions, as far as MLflow still knows them."""
    found = []
    for ref in refs:
        with suppress(NotFound):
            version = signoff.registry.version(ref) if ref else None
            model_id = version and (version.model_id or model_id_in(version.source))
            if model_id:
                signoff.registry.logged_model(model_id)
                found.append(model_id)
    return tuple(found)
