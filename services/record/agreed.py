"""Whether the rows about one version are what its events say; who asks has read no more of the ledger than those."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.accounts import on_record
from services.domain import VersionRef
from services.errors import Refused
from services.record import ledger
from services.record.ledger import Kind
from services.record.projections import releases, reviews
from services.record.replay import Replay
from services.tables import decisions, emergencies, events, findings, promotions, submissions, validations

_JUDGED = (submissions, decisions, findings, emergencies, promotions, validations)
_KINDS = (*reviews.WRITES, *releases.WRITES)
_OF_THE_MODEL = (Kind.OUTSIDE_DELETED, Kind.ADOPTION_RECORDED)
"""What can be said of a whole model, and end the reviews of all its versions."""


def require_rows(connection: Connection, ref: VersionRef, tables: Iterable[sa.Table] = _JUDGED) -> None:
    """Raise `Refused` where a row of one version, in some tables, is not what the events say, and name the row."""
    replay, own = Replay(), sa.and_(events.c.version == ref.version, events.c.kind.in_(_KINDS))
    said = sa.or_(own, events.c.kind.in_(_OF_THE_MODEL))
    for event in ledger.chosen(connection, events.c.model == ref.name, said):
        replay.add(event)
    refuse(replay.differences_of(connection, ref, tables))


def refuse(differences: Iterable[str]) -> None:
    """Raise `Refused` with the first of these, if there is one."""
    if first := next(iter(differences), None):
        raise Refused(f"{first} {on_record.ADVICE}")
