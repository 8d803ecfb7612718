"""What paths and queries are made of: names, versions, moments, cursors."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field

from services.domain import MAX_NAME, VersionRef
from services.errors import BadInput

WITHOUT_NUL = r"^[^\x00]*$"  # PostgreSQL cannot hold one
VERSION = r"^[1-9][0-9]{0,8}$"
DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
DIGEST = r"^[0-9a-f]{64}$"
MAX_PAGE = 200
_SPACE_FOR_PLUS = re.compile(r"(T.*) (\d\d:?\d\d)$")

Name = Annotated[
    str,
    Path(
        min_length=1,
        max_length=MAX_NAME,
        pattern=WITHOUT_NUL,
        description="A registered model's name, percent-encoded. MLflow's names never hold `/` or `:`; "
        "a path with `%2F` in it is one with a slash, and leads nowhere.",
    ),
]
Version = Annotated[str, Path(pattern=VERSION, description="A version number such as `3`; `03` is none.")]
Cursor = Annotated[str | None, Query(max_length=4 * MAX_NAME, description="`next_cursor` of the page before; opaque.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Text = Annotated[str | None, Query(max_length=MAX_NAME, pattern=WITHOUT_NUL)]
Moment = Annotated[str | None, Query(max_length=40, description="ISO 8601; UTC where it names no zone.")]

Day = Annotated[str, Field(pattern=DAY, json_schema_extra={"format": "date"})]

Recorded = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A time in the very characters of the record."""


def version(name: str, number: str) -> VersionRef:
    """Both as one."""
    return VersionRef.parse(name, number)


def moment(text: str) -> datetime:
    """An ISO 8601 time as UTC; a ``+`` that a client forgot to encode arrives as a space and is understood.

    Raises:
        BadInput: it is no time.
    """
    try:
        found = datetime.fromisoformat(_SPACE_FOR_PLUS.sub(r"\1+\2", text))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{text!r} is no ISO 8601 time; write it like 2026-11-24T09:30:00Z.") from error


def day(text: str) -> date:
    """A day such as ``2026-12-01``; raises `BadInput` for one that no calendar has."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"{text!r} is no day; write it like 2026-12-01.") from error


def cursor(kind: str, value: str | int) -> str:
    """Where a list of this kind goes on, as one opaque word."""
    return base64.urlsafe_b64encode(f"{kind}:{value}".encode()).decode().rstrip("=")


def place(kind: str, text: str) -> str:
    """The inverse of `cursor`; raises `BadInput` for what is no cursor of a list of this kind."""
    try:
        found, _, value = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        found = value = ""
    if found != kind or not value or "\0" in value:
        raise BadInput("That cursor is not one of this list; leave it out to begin at the beginning.")
    return value


def number(kind: str, text: str) -> int:
    """`place`, of a cursor that stands for a number."""
    value = place(kind, text)
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise BadInput("That cursor is not one of this list; leave it out to begin at the beginning.")
    return int(value)
