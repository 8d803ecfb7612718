"""Whether our own tables say what the events say: the record replayed into memory, and compared row by row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import tables
from services.cells import Cell, as_stored
from services.domain import VersionRef
from services.record.ledger import Event, Kind
from services.record.projections import project
from services.record.projections.rows import Replayed, compact, key_of
from services.record.projections.states import OPEN

PROJECTED = (
    tables.accounts,
    tables.policy_assignments,
    tables.submissions,
    tables.decisions,
    tables.findings,
    tables.statements,
    tables.promotions,
    tables.emergencies,
    tables.validations,
    tables.deviations,
)
"""The tables that follow from the record."""
BY_DIGEST = ("validations.report", "policies.digest", "policies.name", "policies.text")
"""Columns of which the record has the digest."""
UNSAID: Mapping[str, tuple[str, ...]] = {
    "passwords, e-mail addresses and locks of accounts, and when they were made": (
        *("accounts.email", "accounts.password", "accounts.failed_logins", "accounts.locked_until"),
        *("accounts.created_at", "failures"),
    ),
    "sessions and tokens": ("sessions", "tokens"),
    "the order in which policies were put out of force": ("policies.active", "policies.activated_at"),
    "changes and validations under way, slots and idempotency keys": (
        *("intents", "validation_jobs", "slots", "processes", "idempotency_keys"),
    ),
    "messages, reminders and webhooks": ("outbox", "message_attempts", "reminders", "webhook_deliveries"),
    "counts of refusals that are not told yet": ("refusal_windows",),
    "what the reconciler last saw in MLflow": ("known_models", "known_files", "reconciled"),
    "what MLflow's tags and the runs of validations still wait for": ("mirror_jobs", "validations.mirrored"),
    "which run of MLflow holds a checkpoint, and since when (MLflow is asked itself)": ("witnesses",),
}
"""What no event says, in words → the tables and columns that it is in."""
_APART = frozenset(place for places in UNSAID.values() for place in places) | frozenset(BY_DIGEST)
_SAID = {
    table.name: tuple(column.name for column in table.c if f"{table.name}.{column.name}" not in _APART)
    for table in PROJECTED
}
"""Table → the columns that are compared."""
NOT_DERIVED = (*UNSAID, "which open submissions are shown as approved (counted again from their votes)")
"""What `differences` does not compare, because no event says it."""
MOST = 100
"""So many differences are named."""


class Replay:
    """The whole record taken up event by event, in their order; then `differences` says what the tables say else."""

    def __init__(self) -> None:
        self._rows = Replayed()
        self._reports: dict[int, str] = {}
        self._policies: dict[str, str] = {}

    def add(self, event: Event) -> None:
        """Take up the next event."""
        project(self._rows, event)
        match event.body["kind"]:
            case Kind.VALIDATION_COMPLETED:
                self._reports[event.seq] = event.get("report_digest")
            case Kind.POLICY_ACTIVATED if event.get("policy_digest"):
                self._policies[event.get("policy_digest")] = event.get("policy").partition("@")[0]

    def differences(self, connection: Connection) -> list[str]:
        """Where the tables differ from the record, a sentence each; what was taken up is used up by it."""
        found = [one for table in PROJECTED for one in compared(connection, self._rows, table)]
        found += [*self._texts(connection), *_never_written(connection)]
        more = len(found) - MOST
        return found if more <= 0 else [*found[:MOST], f"There are {more} more differences."]

    def differences_of(self, connection: Connection, ref: VersionRef, which: Iterable[sa.Table]) -> Iterator[str]:
        """The same for some tables and one version, where only the events about that one were taken up."""
        for table in which:
            yield from compared(connection, self._rows, table, ref)
        if tables.validations in which:
            yield from self._reports_of(connection, ref)

    def _reports_of(self, connection: Connection, ref: VersionRef | None) -> Iterator[str]:
        for row in _rows(connection, tables.validations, ref, ("seq", "report")):
            if row.report is None and row.seq <= imported_up_to(connection):
                continue  # no export has it
            if row.report is None or self._reports.get(row.seq) != _sha256(row.report):
                yield f"Table validations, row {row.seq}, report: it is not the one that the record names."

    def _texts(self, connection: Connection) -> Iterator[str]:
        """Long texts of which the record has the digest: reports of validations, and policies."""
        yield from self._reports_of(connection, None)
        policies = tables.policies.c
        for row in _each(connection, sa.select(policies.digest, policies.name, policies.text)):
            if self._policies.get(row.digest) != row.name:
                yield f"Table policies, row {row.digest[:12]}: no event put a policy {row.name} of this text in force."
            elif _sha256(row.text) != row.digest:
                yield f"Table policies, row {row.digest[:12]}, text: it is not the one that the record names."


def imported_up_to(connection: Connection) -> int:
    """The last event that an import brought; 0 where there was none."""
    query = sa.select(sa.func.max(tables.events.c.seq)).where(tables.events.c.kind == Kind.LEDGER_IMPORTED)
    return int(connection.execute(query).scalar() or 0)


def _never_written(connection: Connection) -> Iterator[str]:
    """Cells that are not compared and have in them what Signoff writes nowhere there."""
    for table in tables.metadata.sorted_tables:
        apart = [column for column in table.c if column.name not in _SAID.get(table.name, ())]
        watched = [(column, column.type) for column in apart if isinstance(column.type, Cell)]
        columns = (*table.primary_key, *(column for column, _ in watched))
        for row in _each(connection, sa.select(*map(_raw, columns))) if watched else ():
            key, cells = row[: len(table.primary_key)], row[len(table.primary_key) :]
            for (column, cell), stored in zip(watched, cells, strict=True):
                if not cell.holds(_json(stored) if _is_json(column) else stored):
                    yield f"Table {table.name}, row {_named(key)}, {column.name}: Signoff never writes what is there."


def _named(key: Iterable[Any]) -> str:
    return ", ".join(str(part)[:80] for part in key)


@cache
def _query(table: sa.Table, columns: tuple[str, ...], *, of_one: bool) -> sa.Select[Any]:
    """Rows by primary key; built once, as putting a statement together costs more than carrying it out."""
    query = sa.select(*(_raw(table.c[name]) for name in columns)).order_by(table.c[key_of(table)])
    if not of_one:
        return query
    if table is tables.decisions:
        own = _query(tables.submissions, ("id",), of_one=True).order_by(None)
        return query.where(table.c.submission.in_(own))
    return query.where(table.c.model == sa.bindparam("model"), table.c.version == sa.bindparam("version"))


def _rows(
    connection: Connection, table: sa.Table, ref: VersionRef | None, columns: tuple[str, ...]
) -> Iterable[sa.Row[Any]]:
    query = _query(table, columns, of_one=ref is not None)
    about = {"model": ref.name, "version": ref.version} if ref else {}
    return connection.execute(query, about, execution_options={} if ref else {"yield_per": 100})


def compared(
    connection: Connection, replayed: Replayed, table: sa.Table, ref: VersionRef | None = None
) -> Iterator[str]:
    """Where a table, or its rows about one version, differ from ``replayed``, whose rows are used up."""
    said, key = replayed.taken(table), key_of(table)
    for found in _rows(connection, table, ref, _SAID[table.name]):
        row = found._mapping
        number = row[key]
        expected = said.pop(number, None)
        if expected is None:
            yield f"Table {table.name}, row {number}: no event says that there is such a row."
            continue
        for name, value in row.items():
            read = _json(value) if _is_json(table.c[name]) else value
            then, now = _shown(table, name, expected.get(name)), _shown(table, name, compact(read))
            if then != now:
                yield f"Table {table.name}, row {number}, {name}: the record says {then!r}, the table {now!r}."
    for number in sorted(said):
        yield f"Table {table.name}, row {number}: the record says that there is one, and it is not there."


def _raw(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """A cell as it is stored, JSON as its text: what Signoff never wrote must be named, and not end the reading."""
    return sa.type_coerce(column, sa.Text() if _is_json(column) else as_stored(column)).label(column.name)


def _is_json(column: sa.Column[Any]) -> bool:
    return isinstance(as_stored(column), sa.JSON)


def _json(stored: Any) -> Any:
    """What a JSON column says. Text that is no JSON, or says a text, is told apart from the digest of an object."""
    if not isinstance(stored, str | bytes):
        return stored
    try:
        said = json.loads(stored)
    except (ValueError, RecursionError):
        said = stored
    return f"the text {said!r}" if isinstance(said, str | bytes) else said


def _shown(table: sa.Table, column: str, value: Any) -> Any:
    """What is compared: an open submission is open, no matter what its votes add up to."""
    return "open" if table is tables.submissions and column == "status" and value in OPEN else value


def _each(connection: Connection, query: sa.Select[Any]) -> Iterable[sa.Row[Any]]:
    return connection.execute(query, execution_options={"yield_per": 100})


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
