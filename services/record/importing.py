"""An export brought into an empty database: the record as it was, and every row that follows from it written anew."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services import tables
from services.accounts import on_record
from services.database import Database
from services.domain import Actor
from services.record import checkpoints, ledger
from services.record.checkpoints import Signed
from services.record.ledger import Entry, Event, Kind
from services.settings import Settings
from verifier.canonical import canonical
from verifier.verify import Checkpoint, Tampered, keys_in, parsed, verify_file

LEFT_BEHIND = (
    "passwords (nobody logs in before 'signoff user set-password')",
    "e-mail addresses, sessions and tokens",
    "accounts that did nothing and that no event tells of",
    "reports of validations: where a policy asks for one, validate again",
    "texts of policies that are not in force any more",
    "changes, validations and messages that were under way",
    "what the reconciler last saw: it meets MLflow as it is",
)
"""What no export has."""


@dataclass(frozen=True, kw_only=True)
class Brought:
    """How much came over."""

    events: int
    submissions: int
    votes: int
    findings: int
    releases: int
    emergencies: int
    accounts: int

    def as_json(self) -> dict[str, int]:
        """For a program, and for the record."""
        return asdict(self)


def bring(
    database: Database,
    settings: Settings,
    export: Path,
    public_key: bytes,
    *,
    by: Actor,
    at: datetime,
    progress: Callable[[int], None] = lambda _: None,
) -> Brought:
    """Check an export, then bring it over: events byte for byte with their hashes, the ledger's name, the checkpoint.

    Two events follow: that it was imported, and all accounts as they are now known. All of it or nothing happens.

    Args:
        public_key: PEM of the key it was signed with; what it signed up to here counts, and nothing later.
        progress: called now and then with the bytes read since the last call; the file is read twice.

    Raises:
        Tampered: the export is not what was signed, or no Signoff wrote it.
        UnusableKey: ``public_key`` holds none.
        BadInput: the database is not empty.
        LedgerUnavailable: the database cannot be used.
    """
    keys = keys_in(public_key)
    signed = verify_file(export, keys, progress=progress)
    with database.founded(signed.ledger) as connection:

        def store(text: bytes, fingerprint: str, body: dict[str, Any]) -> None:
            event = Event(seq=body["seq"], hash=fingerprint, body=body)
            try:
                ledger.bring(connection, event, text.decode("utf-8", "surrogatepass"), signed.ledger)
            except (KeyError, TypeError, ValueError, AttributeError, IntegrityError) as error:
                cause = f"Event #{event.seq} does not fit those before it ({type(error).__name__})."
                raise Tampered(cause, event.seq) from error

        if verify_file(export, keys, progress=progress, each=store) != signed:
            raise Tampered("The file changed while it was read.", signed.seq)
        checkpoints.keep(connection, Signed(checkpoint=signed, text=_last_line(export)))
        found = _counted(connection, signed)
        signer = checkpoints.reached(connection, keys)[signed.key].public
        key = base64.b64encode(signer.public_bytes_raw()).decode()
        said = {"checkpoint": signed.as_json(), "key": key, "brought": found.as_json()}
        told = f"Imported {signed.seq} events of an export that was signed {signed.at}."
        ledger.append(connection, Entry(kind=Kind.LEDGER_IMPORTED, actor=by, at=at, comment=told, details=said))
        on_record.record_all(connection, by=by, at=at)
    checkpoints.publish(settings)
    return found


def _last_line(export: Path) -> str:
    """The signed checkpoint as it is kept."""
    with export.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 10_000))
        last = file.read().rstrip().rpartition(b"\n")[2]
    return canonical(parsed(last)).decode()


def _counted(connection: Connection, signed: Checkpoint) -> Brought:
    def rows(table: sa.Table) -> int:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    return Brought(
        events=signed.seq,
        submissions=rows(tables.submissions),
        votes=rows(tables.decisions),
        findings=rows(tables.findings),
        releases=rows(tables.promotions),
        emergencies=rows(tables.emergencies),
        accounts=rows(tables.accounts),
    )
