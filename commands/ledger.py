"""``signoff ledger export|verify|checkpoint|restored``: the record, straight on the database."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.local import Json, answer, opened, operator, progress, waiting
from services.errors import BadInput, LedgerBroken
from services.record import checkpoints, epochs, restoration, witness
from services.record import ledger as record
from services.record.checkpoints import Signed
from services.record.export import export as export_lines
from verifier.verify import Tampered, keys_in, parsed, verify_file

app = typer.Typer(help="Export, verify and sign the record.", no_args_is_help=True)

PublicKey = Annotated[
    Path | None, typer.Option("--public-key", help="PEM file; without it, this machine's own checkpoint-key.pub.")
]


@app.command()
def export(output: Annotated[Path, typer.Option("--output", help="The file to write.")], as_json: Json = False) -> None:
    """Write the whole ledger as JSON Lines, an event a line, the signed checkpoint last."""
    settings, database = opened()
    signed, lines = export_lines(database, settings, at=datetime.now(UTC))
    count, part = signed.checkpoint.seq, output.with_name(f"{output.name}.part")
    with progress("Exporting", count) as done:
        try:
            with part.open("wb") as file:
                for number, line in enumerate(lines, start=1):
                    file.write(line)
                    if number % 1000 == 0:
                        done(1000)
            part.replace(output)  # whole, or not there
        finally:
            part.unlink(missing_ok=True)
    answer(
        {"file": str(output), **_told(signed)},
        f"Wrote {count} events to {output}, signed with key {signed.checkpoint.key}.",
        as_json=as_json,
    )


@app.command()
def verify(
    file: Annotated[Path | None, typer.Argument(help="An export; without it, the live ledger.")] = None,
    public_key: PublicKey = None,
    offline: Annotated[bool, typer.Option(help="Live ledger: do not compare with what MLflow witnesses.")] = False,
    as_json: Json = False,
) -> None:
    """Check an export, or the live ledger and what MLflow witnesses of it."""
    try:
        found = _exported(file, public_key) if file else _live(public_key, offline=offline)
    except Tampered as error:
        if as_json:
            answer({"verified": False, "problem": str(error), "seq": error.seq}, "", as_json=True)
            raise typer.Exit(1) from error
        raise LedgerBroken(f"Does not verify. {error}") from error
    told = "\n".join([f"Verified: {found['events']} events. {found['by']}", *found["epochs"]])
    answer({"verified": True, **found}, told, as_json=as_json)


def _exported(file: Path, public_key: Path | None) -> dict[str, Any]:
    key = public_key or Path(os.environ.get("SIGNOFF_HOME") or ".signoff") / "checkpoint-key.pub"
    if not key.is_file():
        raise BadInput(f"There is no public key in {key}; name its file with --public-key.")
    keys = keys_in(key.read_bytes())
    lost: list[str] = []
    with progress("Verifying", file.stat().st_size) as done:
        found = verify_file(file, keys, progress=done, restored=lost.append)
    told = {"events": found.seq, **found.as_json(), "epochs": lost}
    return {**told, "by": f"Ledger {found.ledger}, signed {found.at} with key {found.key}."}


def _live(public_key: Path | None, *, offline: bool) -> dict[str, Any]:
    settings, database = opened()
    keys = keys_in(public_key.read_bytes()) if public_key else checkpoints.trusted(settings)
    with database.reading() as connection:
        count, _ = record.head(connection)
    with progress("Verifying", count) as done:
        seq, head = checkpoints.verify(database, keys, progress=done)
    with database.reading() as connection:
        lost = [epoch.words for epoch in epochs.opened(connection)]
    found: dict[str, Any] = {"events": seq, "hash": head, "epochs": lost}
    if offline:
        return {**found, "witnessed": None, "by": "What MLflow witnesses was not looked at."}
    from services.mlflow.registry import MlflowRegistry  # imports MLflow: seconds

    with waiting("Reading what MLflow witnesses"):
        report = witness.check_witness(database, settings, MlflowRegistry(settings.mlflow_uri), at=datetime.now(UTC))
    if report.problems:
        raise Tampered(" ".join(problem.sentence for problem in report.problems), seq)
    last = report.last.seq if report.last else None
    told = f"MLflow witnesses it up to event #{last}." if last else "MLflow witnesses none of it yet."
    return {**found, "witnessed": last, "by": told}


@app.command()
def restored(
    reason: Annotated[
        str, typer.Option("--reason", help="Why: which backup was restored, or how the witness was lost.")
    ],
    as_json: Json = False,
) -> None:
    """State that a backup was restored on purpose, or that MLflow's copy was lost: witnessing goes on from there."""
    settings, database = opened()
    from services.mlflow.registry import MlflowRegistry  # imports MLflow: seconds

    registry = MlflowRegistry(settings.mlflow_uri)
    with waiting("Reading what MLflow witnesses"):
        epoch = restoration.state(database, settings, registry, by=operator(), reason=reason, at=datetime.now(UTC))
    answer({"epoch": epoch.number, "event": epoch.seq, "words": epoch.words}, epoch.words, as_json=as_json)


@app.command()
def checkpoint(as_json: Json = False) -> None:
    """Sign the present end of the ledger; the dashboard writes it into MLflow."""
    settings, database = opened()
    checkpoints.publish(settings)
    signed = checkpoints.create(database, settings, at=datetime.now(UTC))
    answer(_told(signed), signed.text, as_json=as_json)


def _told(signed: Signed) -> dict[str, Any]:
    return parsed(signed.text)
