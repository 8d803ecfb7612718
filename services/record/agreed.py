"""Whether the rows about one version are what its events say; who asks has read no more of the ledger than those."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.accounts import on_record
from services.domain import VersionRef
from services.errors import Refused
from services.record import filing
from services.record.replay import Replay
from services.tables import decisions, emergencies, findings, promotions, submissions, validations

_JUDGED = (submissions, decisions, findings, emergencies, promotions, validations)


def require_rows(connection: Connection, ref: VersionRef, tables: Iterable[sa.Table] = _JUDGED) -> None:
    """Raise `Refused` where a row of one version, in some tables, is not what the events say, and name the row.

    Raises `LedgerBroken` where an event of any version is not as Signoff wrote it.
    """
    replay = Replay()
    for event in filing.events(connection, *filing.about_version(ref)):
        replay.add(event)
    refuse(replay.differences_of(connection, ref, tables))


def refuse(differences: Iterable[str]) -> None:
    """Raise `Refused` with the first of these, if there is one."""
    if first := next(iter(differences), None):
        raise Refused(f"{first} {on_record.ADVICE}")
