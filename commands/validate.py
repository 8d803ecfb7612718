"""``signoff validate MODEL VERSION --data holdout.csv --target y``: ask for a validation, and wait for its end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from commands import remote
from commands.local import Json, answer, progress, table
from commands.remote import REFUSED
from commands.verbs import Model, Version
from services.errors import BadInput
from services.validation.uploads import MAX_BYTES

INTERVAL_SECONDS = 1.0
STEPS = 1000
OPEN = frozenset({"queued", "running"})


def validate(  # noqa: PLR0913
    model: Model,
    version: Version,
    *,
    target: Annotated[str, typer.Option("--target", help="The column that is to be predicted.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="A CSV or Parquet file of this machine.", exists=True, dir_okay=False)
    ] = None,
    location: Annotated[str | None, typer.Option("--location", help="A path or URI that the server may read.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="A data set the version's run logged.")] = None,
    confidence: Annotated[float, typer.Option("--confidence", min=0.5, max=0.9999)] = 0.95,
    consent: Annotated[
        bool, typer.Option("--consent", help="Run code that comes with the models; say why with --comment.")
    ] = False,
    comment: Annotated[str, typer.Option("--comment", "--reason", help="The record keeps it for years.")] = "",
    wait: Annotated[bool, typer.Option(help="Wait until it has ended; Ctrl-C cancels it.")] = True,
    key: Annotated[str | None, typer.Option("--idempotency-key", help="A repeat is answered, not done again.")] = None,
    as_json: Json = False,
) -> None:
    """Evaluate a version and the champion on the same holdout; exit code 1 when nothing came of it."""
    if sum(source is not None for source in (data, location, dataset)) != 1:
        raise typer.BadParameter("Name one of --data, --location and --dataset.")
    if data is not None and (size := data.stat().st_size) > MAX_BYTES:
        raise BadInput(f"{data} has {size >> 20:,} MB; a holdout has at most {MAX_BYTES >> 20} MB.")
    fields = {"target": target, "confidence": confidence, "consent": consent, "comment": comment}
    path = f"{remote.version_path(model, version)}/validations"
    if data is not None:
        job = remote.send(path, fields, data, key=key)
    else:
        job = remote.post(path, {**fields, "location": location, "dataset": dataset}, key=key)
    if wait:
        job = _waited(path, job)
    answer(job, _words(job), as_json=as_json)
    if job["state"] in {"failed", "cancelled"}:
        raise typer.Exit(REFUSED)


def _waited(path: str, job: dict[str, Any]) -> dict[str, Any]:
    one, told = f"{path}/{job['number']}", 0
    with progress("Validating", STEPS) as done:
        try:
            while job["state"] in OPEN:
                time.sleep(INTERVAL_SECONDS)
                job = remote.get(one)
                share = int(STEPS * job["share"])
                done(share - told)
                told = share
        except KeyboardInterrupt:
            return remote.post(f"{one}/cancel", {})
    return job


def _words(job: dict[str, Any]) -> str:
    """What it found; what went wrong is for people to read as well."""
    if job["state"] != "done":
        return job["error"] or f"Validation #{job['number']} of {job['name']}/v{job['version']} is {job['state']}."
    report = job["report"]
    rows = [
        [
            metric["name"],
            _number(metric["candidate"]),
            _number(metric["current"]),
            _number(metric["difference"]),
            _interval(metric["interval"]),
            metric["conclusion"].replace("_", " "),
        ]
        for metric in report["metrics"]
    ]
    interval = f"{report['confidence'] * 100:.4g} % INTERVAL"
    head = ["METRIC", "CANDIDATE", "CURRENT", "DIFFERENCE", interval, "CONCLUSION"]
    where = f"Record #{job['event']}, MLflow run {job['run_id']}."
    return f"{job['summary']}\n{table(head, rows)}\n{where}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.5g}"


def _interval(found: dict[str, float] | None) -> str:
    return "–" if found is None else f"{found['low']:.5g} to {found['high']:.5g}"
