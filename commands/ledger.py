"""``signoff ledger export|verify|checkpoint|restored``: the record, straight on the database."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.local import Json, answer, database_of, opened, operator, progress, settings_here, waiting
from services.database import Database
from services.errors import BadInput, InvalidSettings, LedgerBroken, LedgerUnavailable
from services.record import checkpoints, condition, epochs, importing, restoration
from services.record import ledger as record
from services.record.checkpoints import Differs, Signed
from services.record.condition import State
from services.record.export import export as export_lines
from services.record.replay import NOT_DERIVED
from services.record.rotation import replaced
from services.registry import Registry
from services.settings import Settings, private_folder
from verifier.keys import Keys
from verifier.verify import Tampered, UnusableKey, keys_in, parsed, verify_file

app = typer.Typer(help="Export, verify and sign the record.", no_args_is_help=True)

PublicKey = Annotated[
    Path | None, typer.Option("--public-key", help="PEM file; without it, the key that this machine signs with.")
]


@app.command()
def export(output: Annotated[Path, typer.Option("--output", help="The file to write.")], as_json: Json = False) -> None:
    """Write the whole ledger as JSON Lines, an event a line, the signed checkpoint last. Asks MLflow, as `verify`."""
    settings, database = opened()
    _require_witnessed(settings, database)
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


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="An export, also one of an earlier version of Signoff.")],
    public_key: Annotated[Path, typer.Option("--public-key", help="PEM file: the key that the export is signed with.")],
    as_json: Json = False,
) -> None:
    """Bring an export into an empty database, and write submissions, votes, releases and accounts anew from it."""
    for path in (file, public_key):
        if not path.is_file():
            raise BadInput(f"There is no file {path}.")
    settings = settings_here()
    if settings.database_url.startswith("sqlite:///"):
        private_folder(settings.home)
    with progress("Importing", 2 * file.stat().st_size) as done:
        try:
            found = importing.bring(
                database_of(settings),
                settings,
                file,
                public_key.read_bytes(),
                by=operator(),
                at=datetime.now(UTC),
                progress=done,
            )
        except (Tampered, UnusableKey) as error:
            raise BadInput(f"Nothing was imported. {error}") from error
    told = ", ".join(f"{number} {what}" for what, number in found.as_json().items())
    left = "; ".join(importing.LEFT_BEHIND)
    answer(
        {"imported": found.as_json(), "left_behind": list(importing.LEFT_BEHIND)},
        f"Imported {told}. What no export has did not come over: {left}.",
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
    except (Tampered, LedgerBroken) as error:
        differences = {"differences": error.differences} if isinstance(error, Differs) else {}
        if as_json:
            answer({"verified": False, "problem": str(error), "seq": error.seq, **differences}, "", as_json=True)
            raise typer.Exit(1) from error
        words = " ".join(error.differences) if isinstance(error, Differs) else str(error)
        raise LedgerBroken(f"Does not verify. {words}", error.seq) from error
    told = "\n".join([f"Verified: {found['events']} events. {found['by']}", *found["epochs"]])
    answer({"verified": True, **found}, told, as_json=as_json)


def _exported(file: Path, public_key: Path | None) -> dict[str, Any]:
    keys = keys_in(public_key.read_bytes()) if public_key else _own_keys()
    lost: list[str] = []
    with progress("Verifying", file.stat().st_size) as done:
        found = verify_file(file, keys, progress=done, restored=lost.append)
    told = {"events": found.seq, **found.as_json(), "epochs": lost}
    return {**told, "by": f"Ledger {found.ledger}, signed {found.at} with key {found.key}."}


def _own_keys() -> Keys:
    """What this machine signs with, and what its ledger's rotations lead to; not a file that somebody can write."""
    try:
        settings, database = opened(told=False)
    except (InvalidSettings, LedgerUnavailable) as error:
        raise BadInput(f"Name the file of the public key with --public-key. ({error})") from error
    return checkpoints.trusted(database, settings)


def _live(public_key: Path | None, *, offline: bool) -> dict[str, Any]:
    settings, database = opened()
    with database.reading() as connection:
        keys = checkpoints.reached(connection, keys_in(public_key.read_bytes())) if public_key else None
        count, _ = record.head(connection)
    with progress("Verifying", count) as done:
        judged, report = condition.examined(
            database, settings, None if offline else _witness(settings), at=datetime.now(UTC), keys=keys, progress=done
        )
    if judged.differences:
        raise Differs(judged.differences, judged.events)
    if judged.state is not State.INTACT:
        raise LedgerBroken(judged.sentence, judged.seq)
    with database.reading() as connection:
        lost = [epoch.words for epoch in epochs.opened(connection)]
    found: dict[str, Any] = {
        "events": judged.events,
        "hash": judged.head,
        "epochs": lost,
        "not_compared": list(NOT_DERIVED),
    }
    apart = "The tables agree with it, in all that follows from it (--json names what does not)."
    if report is None:
        return {**found, "witnessed": None, "by": f"What MLflow witnesses was not looked at. {apart}"}
    last = report.last.seq if report.last else None
    told = f"MLflow witnesses it up to event #{last}." if last else "MLflow witnesses none of it yet."
    return {**found, "witnessed": last, "by": f"{told} {apart}"}


def _witness(settings: Settings) -> Registry:
    from services.mlflow.registry import MlflowRegistry  # imports MLflow: seconds

    return MlflowRegistry(settings.mlflow_uri)


def _require_witnessed(settings: Settings, database: Database) -> None:
    """Sign nothing that was cut off: what MLflow witnesses is asked first, and without its answer nothing is signed."""
    with waiting("Reading the record, and what MLflow witnesses of it"):
        condition.require_witnessed(database, settings, _witness(settings), at=datetime.now(UTC))


@app.command()
def restored(
    reason: Annotated[
        str, typer.Option("--reason", help="Why: which backup was restored, or how the witness was lost.")
    ],
    as_json: Json = False,
) -> None:
    """State that a backup was restored on purpose, or that MLflow's copy was lost: witnessing goes on from there."""
    settings, database = opened()
    with waiting("Reading what MLflow witnesses"):
        now, registry = datetime.now(UTC), _witness(settings)
        epoch = restoration.state(database, settings, registry, by=operator(), reason=reason, at=now)
    answer({"epoch": epoch.number, "event": epoch.seq, "words": epoch.words}, epoch.words, as_json=as_json)


@app.command()
def checkpoint(as_json: Json = False) -> None:
    """Sign the present end of the ledger, as `export` does; the dashboard writes it into MLflow."""
    settings, database = opened()
    _require_witnessed(settings, database)
    checkpoints.publish(settings)
    signed = checkpoints.create(database, settings, at=datetime.now(UTC))
    answer(_told(signed), signed.text, as_json=as_json)


@app.command()
def rotate_key(as_json: Json = False) -> None:
    """Replace the key that signs checkpoints, as an event that both keys sign. Restart Signoff afterwards.

    A key in SIGNOFF_HOME is made anew. Elsewhere SIGNOFF_CHECKPOINT_KEY or SIGNOFF_SECRET_KEY is the new one already,
    and the one before is in SIGNOFF_EARLIER_CHECKPOINT_KEY, or follows from SIGNOFF_EARLIER_SECRET_KEYS.
    """
    settings, database = opened()
    with waiting("Reading the record, and what MLflow witnesses of it"):
        event, key = replaced(database, settings, os.environ, _witness(settings), by=operator(), at=datetime.now(UTC))
    answer(
        {"event": event.seq, "key": key},
        f"Key {key} signs from event #{event.seq} on. Restart Signoff, and give verifiers the new checkpoint-key.pub.",
        as_json=as_json,
    )


def _told(signed: Signed) -> dict[str, Any]:
    return parsed(signed.text)
