"""What the cells of our own tables can hold. Anybody who can write the database can put something else there.

`watch` lets every column read what Signoff writes in it, and nothing else: for anything else it raises `UnreadableRow`,
which pages, REST and workers meet as one sentence. So what is built from a row is built from what fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from services.errors import UnreadableRow

Holds: TypeAlias = Callable[[Any], bool]
"""Whether a value, as it was read, can be in a cell."""
Info: TypeAlias = Mapping[str, Holds]
"""For ``info`` of a column: what it holds, where its type does not say that."""
_FIRST, _LAST = -6e10, 2.5e11
"""Seconds that are a moment of the years 69 to 9892."""


def one_of(*words: str) -> dict[Any, Any]:
    """One of these words."""
    return _info(set(words).__contains__)


def _info(holds: Holds) -> dict[Any, Any]:
    return {"holds": holds}


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any) -> bool:
    return isinstance(value, int)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and _FIRST < value < _LAST


def _moment(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).utcoffset() is not None
    except (TypeError, ValueError):
        return False


def _day(value: Any) -> bool:
    try:
        return bool(date.fromisoformat(value))
    except (TypeError, ValueError):
        return False


def _each(holds: Holds) -> Holds:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _by(key: Holds, holds: Holds) -> Holds:
    return lambda value: isinstance(value, dict) and all(key(name) and holds(one) for name, one in value.items())


def _pair(first: Holds, second: Holds) -> Holds:
    return lambda value: isinstance(value, list) and len(value) == 2 and first(value[0]) and second(value[1])


def _binding(value: Any) -> bool:
    return isinstance(value, dict) and _by(_text, _text)(value.get("facts")) and _each(_text)(value.get("failed"))


NUMBER = _info(lambda value: isinstance(value, int | float))
"""Any number: where it is dated by something else as well."""
DAY = _info(_day)
TEXTS = _info(_each(_text))
TEXTS_BY_NAME = _info(_by(_text, _text))
TEXTS_BY_NUMBER = _info(_by(str.isdecimal, _text))
BINDING = _info(_binding)
LOG = _info(_each(_pair(_moment, _text)))
LISTING = _info(_each(_pair(_text, _whole)))
ANYTHING = _info(lambda _: True)


class Cell(TypeDecorator[Any]):
    """The type of a watched column: it reads as ``impl`` does, and only what the column ``holds``."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = sa.Text
    cache_ok = True

    def __init__(self, column: str, impl: TypeEngine[Any], holds: Holds) -> None:
        self.column, self.impl, self._holds = column, impl, holds

    @property
    def problem(self) -> str:
        """What is said of a cell with anything else in it; no value, as it can be a secret."""
        return (
            f"{self.column}: a row has something there that Signoff never writes, so somebody changed it. Nothing is "
            "read from it or decided by it; 'signoff ledger verify' names the row."
        )

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """What SQLAlchemy reads each cell with."""
        read = self.impl_instance.result_processor(dialect, coltype)

        def checked(stored: Any) -> Any:
            if stored is None:
                return None
            try:
                value = read(stored) if read else stored
            except (ValueError, TypeError, RecursionError):
                raise UnreadableRow(self.problem) from None
            if not self.holds(value):
                raise UnreadableRow(self.problem)
            return value

        return checked

    def holds(self, value: Any) -> bool:
        """Whether Signoff can have written this value."""
        return self._holds(value)


def watch(tables: Iterable[sa.Table]) -> None:
    """Let every column of these tables read only what it can hold; a Boolean reads as true or false in any case."""
    for table in tables:
        for column in (one for one in table.c if not isinstance(one.type, sa.Boolean)):
            column.type = Cell(f"Table {table.name}, {column.name}", column.type, _held(column))


def as_stored(column: sa.Column[Any]) -> TypeEngine[Any]:
    """The type that reads a column as it is, even if Signoff never wrote that."""
    return column.type.impl_instance if isinstance(column.type, Cell) else column.type


def _held(column: sa.Column[Any]) -> Holds:
    if stated := column.info.get("holds"):
        holds: Holds = stated
    else:
        holds = _by_type(column)
    return (lambda value: value is None or holds(value)) if column.nullable else holds


def _by_type(column: sa.Column[Any]) -> Holds:
    match column.type:
        case sa.Integer():
            return _whole
        case sa.Float():
            return _number
        case sa.String() if column.name == "at" or column.name.endswith("_at"):
            return _moment
        case sa.String():
            return _text
    raise TypeError(f"{column} does not say what it holds")
