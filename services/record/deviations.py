"""What was found changed outside Signoff: each deviation an event when it is found, and a row until it is settled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import tables
from services.domain import Actor, Source, VersionRef
from services.reconciliation.drift import Difference
from services.record import ledger
from services.record.ledger import Entry, Event, Kind
from services.record.projections.states import FOUND as OPEN
from services.signoff import Signoff

UNKNOWN = Actor(username="unknown", name="Unknown", roles=frozenset(), source=Source.RECONCILER)
"""Whoever changed MLflow past Signoff."""
RECONCILER = Actor(username="signoff", name="Signoff", roles=frozenset(), source=Source.RECONCILER)

_WHAT = {
    Kind.OUTSIDE_STAGE: "stage",
    Kind.OUTSIDE_ALIAS: "alias",
    Kind.OUTSIDE_TAG: "tag",
    Kind.OUTSIDE_FILES: "files",
    Kind.OUTSIDE_EVIDENCE: "evidence",
    Kind.OUTSIDE_RENAMED: "name",
    Kind.OUTSIDE_DELETED: "deletion",
    Kind.OUTSIDE_RECREATED: "identity",
}
_FOR_GOOD = {
    Kind.OUTSIDE_FILES: "MLflow keeps no earlier files, so they cannot be put back: archive the version or go back "
    "to an earlier one, or adopt what is there.",
    Kind.OUTSIDE_EVIDENCE: "Signoff cannot write MLflow's metrics back. Candidates are compared with what the "
    "promotion recorded, whatever MLflow shows; adopt it to close the deviation.",
    Kind.OUTSIDE_RENAMED: "Only MLflow can give the model its name back; when it has, this deviation ends by itself.",
    Kind.OUTSIDE_DELETED: "What was deleted in MLflow cannot be put back; adopt it to close the deviation.",
    Kind.OUTSIDE_RECREATED: "What was deleted in MLflow cannot be put back, and what has its name now is something "
    "else; adopt it to close the deviation.",
}


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """One change past Signoff. ``seq`` is its event, ``found_at`` ISO 8601 UTC; None means nothing."""

    id: int
    kind: Kind
    ref: VersionRef
    subject: str
    prescribed: str | None
    shown: str | None
    state: str
    found_at: str
    seq: int

    @property
    def what(self) -> str:
        """What was changed, in a word or two: ``stage``, ``alias champion``."""
        return _what(self.kind, self.subject)

    @property
    def sentence(self) -> str:
        """What the record prescribes, and what MLflow shows."""
        return _sentence(self.kind, self.subject, self.ref, self.prescribed, self.shown)

    @property
    def beyond_restoring(self) -> str:
        """Why it cannot be put back, in one sentence; empty when it can."""
        return _FOR_GOOD.get(self.kind, "")

    @property
    def serving(self) -> bool:
        """Whether it is about what is, or was, in Production: the loudest ones."""
        return (
            self.kind is Kind.OUTSIDE_EVIDENCE
            or "Production" in (self.prescribed, self.shown)
            or self.subject.startswith("alias:")
        )


def open_deviations(signoff: Signoff, model: str | None = None) -> list[Deviation]:
    """Everything found and not settled, of one model or of all, newest first."""
    query = (
        sa.select(tables.deviations).where(tables.deviations.c.state == OPEN).order_by(tables.deviations.c.seq.desc())
    )
    if model is not None:
        query = query.where(tables.deviations.c.model == model)
    with signoff.database.reading() as connection:
        return [_deviation(row) for row in connection.execute(query)]


def deviation(connection: Connection, number: int) -> Deviation | None:
    """One deviation that an event tells of, whatever became of it."""
    row = connection.execute(sa.select(tables.deviations).where(tables.deviations.c.id == number)).one_or_none()
    return _deviation(row) if row and _told(connection, [row]) else None


def models_with_open(connection: Connection) -> set[str]:
    """Names of the models with a deviation that is not settled."""
    query = sa.select(tables.deviations.c.model).distinct().where(tables.deviations.c.state == OPEN)
    return set(connection.execute(query).scalars())


def record(
    connection: Connection, name: str, found: Iterable[Difference], *, at: datetime, subject: str | None = None
) -> list[Event]:
    """Bring the deviations of a model in line with what differs now; returns an event for each that is new or ended.

    Args:
        subject: only this was looked at, the files or the evidence of one version; None: everything else.
    """
    column = tables.deviations.c
    apart = sa.and_(column.subject.not_like("files:%"), column.subject.not_like("evidence:%"))
    scope = apart if subject is None else column.subject == subject
    query = sa.select(tables.deviations).where(column.model == name, column.state == OPEN, scope)
    known = {row.subject: row for row in _told(connection, connection.execute(query).all())}
    events = []
    for difference in found:
        row = known.pop(difference.subject, None)
        now = (difference.kind, difference.prescribed, difference.shown)
        if row is None or (row.kind, row.prescribed, row.shown) != now:
            events.append(_found(connection, name, difference, at))
    events += [ledger.append(connection, _ended(_deviation(row), at)) for row in known.values()]
    return events


def _told(connection: Connection, rows: Iterable[sa.Row[Any]]) -> list[sa.Row[Any]]:
    """The rows that are as their events say: what is done about a deviation follows from no other."""
    kept = list(rows)
    said = {
        event.seq: (event.kind, event.ref, *map(event.get, ("subject", "prescribed", "shown")))
        for event in ledger.numbered(connection, [row.seq for row in kept])
    }
    return [
        row
        for row in kept
        if said.get(row.seq)
        == (row.kind, VersionRef(name=row.model, version=row.version), row.subject, row.prescribed, row.shown)
    ]


def _found(connection: Connection, name: str, difference: Difference, at: datetime) -> Event:
    ref = VersionRef(name=name, version=difference.version)
    return ledger.append(
        connection,
        Entry(
            kind=difference.kind,
            actor=UNKNOWN,
            at=at,
            ref=ref,
            comment=_sentence(difference.kind, difference.subject, ref, difference.prescribed, difference.shown),
            details={
                "subject": difference.subject,
                "prescribed": difference.prescribed,
                "shown": difference.shown,
                **_states(difference),
            },
        ),
    )


def _states(difference: Difference) -> dict[str, Any]:
    """Before and after in the form every event has that moves a version."""
    if difference.kind is not Kind.OUTSIDE_STAGE:
        return {}
    number = str(difference.version)
    return {
        "before": {"stages": {number: difference.prescribed}, "aliases": {}},
        "after": {"stages": {number: difference.shown}, "aliases": {}},
    }


def _ended(found: Deviation, at: datetime) -> Entry:
    return Entry(
        kind=Kind.OUTSIDE_ENDED,
        actor=RECONCILER,
        at=at,
        ref=found.ref,
        comment=f"The {found.what} is as prescribed again."
        if found.kind is not Kind.OUTSIDE_EVIDENCE
        else f"The evidence is as prescribed again, or {found.ref} is no longer the champion.",
        details={"subject": found.subject, "deviation": found.id, "found": found.seq, "prescribed": found.prescribed},
    )


def _what(kind: Kind, subject: str) -> str:
    match kind:
        case Kind.OUTSIDE_ALIAS:
            return f"alias {subject.removeprefix('alias:')}"
        case Kind.OUTSIDE_TAG:
            return f"tag {subject.split(':', 2)[2]}"
        case _:
            return _WHAT[kind]


def _sentence(kind: Kind, subject: str, ref: VersionRef, prescribed: str | None, shown: str | None) -> str:
    it = ref.name if subject == "model" else str(ref)
    match kind:
        case Kind.OUTSIDE_DELETED:
            return f"{it} is no longer in MLflow."
        case Kind.OUTSIDE_RENAMED:
            return f"{it} is called {shown} in MLflow now."
        case Kind.OUTSIDE_RECREATED:
            return f"{it} is another one of the same name now: {shown}; it was {prescribed}."
        case Kind.OUTSIDE_FILES:
            return f"The files of {it} are not those of the record: {shown}."
        case Kind.OUTSIDE_EVIDENCE:
            return f"The evidence of the champion {it} is not {prescribed} any more: {shown}."
        case _:
            return (
                f"The {_what(kind, subject)} of {it if kind is not Kind.OUTSIDE_ALIAS else ref.name}: the record "
                f"prescribes {_shown(prescribed)}, MLflow shows {_shown(shown)}."
            )


def _shown(value: str | None) -> str:
    return "nothing" if value is None else value if len(value) <= 200 else f"{value[:199]}…"


def _deviation(row: Any) -> Deviation:
    return Deviation(
        id=row.id,
        kind=Kind(row.kind),
        ref=VersionRef(name=row.model, version=row.version),
        subject=row.subject,
        prescribed=row.prescribed,
        shown=row.shown,
        state=row.state,
        found_at=row.found_at,
        seq=row.seq,
    )
