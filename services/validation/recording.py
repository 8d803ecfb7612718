"""A finished validation put on record: one event with every figure, and the row that follows from it."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from services.domain import Actor, ModelVersion
from services.record import ledger
from services.record.ledger import Entry, Kind
from services.tables import validations
from services.validation.jobs import Job
from services.validation.record import Validation
from services.validation.report import MetricResult, Report
from verifier.canonical import canonical


def record(  # noqa: PLR0913
    connection: Connection,
    job: Job,
    version: ModelVersion,
    champion: ModelVersion | None,
    report: Report,
    *,
    run_id: str,
    actor: Actor,
    at: datetime,
) -> Validation:
    """Append the event and keep the report; to be called last in a transaction.

    The report itself is too long for an event, which names its digest: MLflow and our own table hold it.
    """
    text = canonical(report.as_json()).decode()
    event = ledger.append(
        connection,
        Entry(
            kind=Kind.VALIDATION_COMPLETED,
            actor=actor,
            at=at,
            ref=version.ref,
            comment=sentence(report),
            details={
                "identity": version.identity,
                "job": job.seq,
                "consent": job.consent,
                "consents": list(report.consents),
                "isolation": list(report.isolation),
                "manifest_digest": report.candidate.digest,
                "champion": champion.ref.version if champion else None,
                "champion_identity": champion.identity if champion else None,
                "champion_manifest_digest": report.current.digest if report.current else None,
                "holdout": report.holdout.name,
                "holdout_digest": report.holdout.digest,
                "holdout_sha256": report.holdout.sha256,
                "holdout_source": report.holdout.source,
                "target": report.holdout.target,
                "rows": report.holdout.rows,
                "confidence": repr(report.confidence),
                "seed": report.seed,
                "resamples": report.resamples,
                "figures": {metric.name: _figure(metric) for metric in report.metrics},
                "report_digest": hashlib.sha256(text.encode()).hexdigest(),
                "mlflow_run": run_id,
            },
        ),
    )
    found = Validation(
        seq=event.seq,
        ref=version.ref,
        manifest=report.candidate.digest,
        champion=champion.ref.version if champion else None,
        champion_identity=champion.identity if champion else None,
        champion_manifest=report.current.digest if report.current else None,
        by=actor.username,
        at=event.body["at"],
        consent=job.consent,
        run_id=run_id,
        report=report,
    )
    connection.execute(validations.update().where(validations.c.seq == event.seq).values(report=text))
    return found


def sentence(report: Report) -> str:
    """The key metric in one sentence: who is better by how much, or that nobody can tell."""
    candidate, rows, metric = f"v{report.candidate.ref.version}", report.holdout.rows, report.key
    if metric is None:
        return f"{candidate} was evaluated on {rows} rows; no metric is defined there."
    if report.current is None:
        value = "undefined" if metric.candidate is None else f"{metric.candidate:.4g}"
        return f"{candidate} has a {metric.name} of {value} on {rows} rows; there is no champion to compare with."
    return comparison_sentence(metric, candidate, f"v{report.current.ref.version}", rows)


def comparison_sentence(metric: MetricResult, candidate: str, current: str, rows: int) -> str:
    """``v8 beats v3 on roc_auc by 0.012 (95 % interval 0.004 to 0.021, 114 rows)``, or ``Not enough evidence …``."""
    if metric.gain is None or metric.interval is None:
        return f"{metric.name} of {candidate} and {current} cannot be compared: {metric.note or 'it is not defined'}."
    sign = 1 if metric.greater_is_better else -1
    low, high = sorted((sign * metric.interval.low, sign * metric.interval.high))
    within = f"{metric.interval.confidence * 100:.4g} % interval {low:.3g} to {high:.3g}, {rows:,} rows"
    match metric.conclusion.value:
        case "better":
            return f"{candidate} beats {current} on {metric.name} by {metric.gain:.3g} ({within})."
        case "worse":
            return f"{candidate} is worse than {current} on {metric.name} by {-metric.gain:.3g} ({within})."
        case "equal":
            return f"{candidate} and {current} are equal on {metric.name} ({rows} rows)."
    return f"Not enough evidence that {candidate} and {current} differ on {metric.name}: {metric.gain:+.3g} ({within})."


def _figure(metric: MetricResult) -> dict[str, Any]:
    # Numbers as text, as in every event: what is hashed is written the same way everywhere.
    numbers = {
        "candidate": metric.candidate,
        "current": metric.current,
        "difference": metric.difference,
        "low": metric.interval.low if metric.interval else None,
        "high": metric.interval.high if metric.interval else None,
        "p_value": metric.p_value,
    }
    return {
        **{name: repr(value) for name, value in numbers.items() if value is not None},
        "greater_is_better": metric.greater_is_better,
        "method": metric.method.value,
        "conclusion": metric.conclusion.value,
    }
