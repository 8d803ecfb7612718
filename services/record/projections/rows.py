"""Where projections write: into our own tables, or into memory, to be compared with them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from verifier.canonical import canonical

if TYPE_CHECKING:
    from services.record.ledger import Event

Row: TypeAlias = Mapping[str, Any]
"""Column → value. A where is a row too: each of its columns has that value, or one of a list of values."""


class Rows(Protocol):
    """Rows of tables, by equality alone: all that a projection needs."""

    def insert(self, table: sa.Table, row: Row) -> None:
        """Add one row."""

    def change(self, table: sa.Table, where: Row, values: Row) -> int:
        """Change the rows that fit; returns how many there were."""

    def find(self, table: sa.Table, where: Row, column: str) -> list[Any]:
        """One column of the rows that fit, by primary key."""


Writes: TypeAlias = "Mapping[str, tuple[Callable[[Rows, Event], None], tuple[str, ...]]]"
"""Kind of event → what writes its rows, and the details without which none follow."""


class Stored:
    """The tables of a database, in the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, table: sa.Table, row: Row) -> None:
        """Add one row. Raises IntegrityError where there is one already."""
        self._connection.execute(table.insert(), dict(row))

    def change(self, table: sa.Table, where: Row, values: Row) -> int:
        """Change the rows that fit; returns how many there were."""
        return self._connection.execute(table.update().where(*_conditions(table, where)).values(**values)).rowcount

    def find(self, table: sa.Table, where: Row, column: str) -> list[Any]:
        """One column of the rows that fit, by primary key."""
        query = sa.select(table.c[column]).where(*_conditions(table, where)).order_by(*table.primary_key)
        return list(self._connection.execute(query).scalars())


_FOUND_BY = {
    "submissions": ("model", "version"),
    "emergencies": ("model", "version"),
    "findings": ("seq",),
    "decisions": ("submission",),
    "deviations": ("model",),
}
"""Table → the columns that rows are searched by where their primary key is not known."""


class Replayed:
    """Rows in memory, as the events alone would have written them."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Any, dict[str, Any]]] = defaultdict(dict)
        self._keys: dict[str, dict[tuple[Any, ...], list[Any]]] = defaultdict(lambda: defaultdict(list))

    def insert(self, table: sa.Table, row: Row) -> None:
        """Add one row."""
        key = row[key_of(table)]
        self._rows[table.name][key] = {name: compact(value) for name, value in row.items()}
        if index := _FOUND_BY.get(table.name):
            self._keys[table.name][tuple(row[name] for name in index)].append(key)

    def change(self, table: sa.Table, where: Row, values: Row) -> int:
        """Change the rows that fit; returns how many there were."""
        found = list(self._fitting(table, where))
        for row in found:
            row.update({name: compact(value) for name, value in values.items()})
        return len(found)

    def find(self, table: sa.Table, where: Row, column: str) -> list[Any]:
        """One column of the rows that fit, by primary key."""
        key = key_of(table)
        return [row.get(column) for row in sorted(self._fitting(table, where), key=lambda row: row[key])]

    def taken(self, table: sa.Table) -> dict[Any, dict[str, Any]]:
        """Primary key → row of a whole table, which is empty afterwards."""
        return self._rows.pop(table.name, {})

    def _fitting(self, table: sa.Table, where: Row) -> Iterator[dict[str, Any]]:
        rows, key, index = self._rows[table.name], key_of(table), _FOUND_BY.get(table.name)
        if key in where:
            keys: Iterable[Any] = _listed(where[key])
        elif index and where.keys() >= set(index):
            keys = self._keys[table.name].get(tuple(where[name] for name in index), ())
        else:
            keys = list(rows)
        for one in keys:
            row = rows.get(one)
            if row is not None and all(row.get(name) in _listed(value) for name, value in where.items()):
                yield row


def key_of(table: sa.Table) -> str:
    """The one column of a table's primary key."""
    (column,) = table.primary_key
    return str(column.name)


def compact(value: Any) -> Any:
    """JSON as the digest of its canonical text: a long record's bindings need not be kept in memory to be compared."""
    return hashlib.sha256(canonical(value)).hexdigest() if isinstance(value, dict) else value


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else (value,)


def _conditions(table: sa.Table, where: Row) -> Iterator[sa.ColumnElement[bool]]:
    for name, value in where.items():
        yield table.c[name].in_(value) if isinstance(value, list) else table.c[name] == value
