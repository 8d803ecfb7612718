"""Requests that name themselves: whoever sends one twice under the same ``Idempotency-Key`` has it done once.

A key stands for one effect. What was refused had none and may be asked for again under the same key; what was begun
and has no known end may not, because a second attempt could be a second effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services.database import database_time
from services.domain import VersionRef
from services.errors import BadInput, LedgerUnavailable, OutcomeUnknown, PromotionConflict
from services.evidence import digest
from services.record import ledger
from services.signoff import Signoff
from services.steps.slots import LEASE_SECONDS
from services.tables import idempotency_keys as keys
from services.verbs.reviews import Outcome

MAX_KEY = 200
KEPT_SECONDS = 30 * 86_400
"""How long a key is remembered; a retry later than that meets the gate like any other request."""


def once(signoff: Signoff, key: str, *, by: str, request: Mapping[str, Any], perform: Callable[[], Outcome]) -> Outcome:
    """What ``perform`` gives, or what it gave when ``by`` sent this key before.

    Args:
        key: up to 200 printable ASCII characters, chosen by the client; two people's keys are two keys.
        request: all that was asked for, as plain JSON.

    Raises:
        BadInput: the key is malformed, or was used for another request.
        PromotionConflict: the first request with this key is still under way.
        OutcomeUnknown: the first one was begun, and nobody knows here how it ended; the record will tell.
        and whatever ``perform`` raises.
    """
    if not key or len(key) > MAX_KEY or not (key.isascii() and key.isprintable()):
        raise BadInput(f"An Idempotency-Key has 1 to {MAX_KEY} printable ASCII characters.")
    if (before := _claim(signoff, key, by, digest(request))) is not None:
        return before
    try:
        outcome = perform()
    except OutcomeUnknown:
        raise  # the claim stays: nobody knows whether a second attempt would be a second effect
    except Exception:
        _settle(signoff, keys.delete().where(*_this(by, key)))
        raise
    _settle(signoff, keys.update().where(*_this(by, key)).values(answer=_as_json(outcome)))
    return outcome


def _settle(signoff: Signoff, change: sa.Delete | sa.Update) -> None:
    # Without the database the claim stays as it is: what was done must not be told as an outage, nor done again.
    with suppress(LedgerUnavailable), signoff.database.writing() as connection:
        connection.execute(change)


def forget(signoff: Signoff) -> int:
    """Drop keys nobody will send again; returns how many."""
    with signoff.database.writing() as connection:
        return connection.execute(keys.delete().where(keys.c.at < database_time() - KEPT_SECONDS)).rowcount


def _claim(signoff: Signoff, key: str, by: str, request: str) -> Outcome | None:
    """Take the key for this request; the outcome instead, where it has one already."""
    try:
        with signoff.database.writing() as connection:
            connection.execute(keys.insert().values(person=by, key=key, request=request, at=database_time()))
        return None
    except IntegrityError:
        pass
    with signoff.database.reading() as connection:
        row = connection.execute(
            sa.select(keys, (keys.c.at > database_time() - LEASE_SECONDS).label("recent")).where(*_this(by, key))
        ).one_or_none()
        if row is None or (row.request == request and row.answer is None and row.recent):
            raise PromotionConflict("The first request with this Idempotency-Key is still under way; ask again soon.")
        if row.request != request:
            raise BadInput("This Idempotency-Key was used for another request; choose a new one.")
        if row.answer is None:
            raise OutcomeUnknown(
                "The first request with this Idempotency-Key was begun and its end is not known here. "
                "Look into the record; to ask anew, choose a new key."
            )
        return _outcome(connection, row.answer)


def _this(by: str, key: str) -> tuple[sa.ColumnElement[bool], ...]:
    return keys.c.person == by, keys.c.key == key


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "model": outcome.ref.name,
        "version": outcome.ref.version,
        "event": outcome.event.seq if outcome.event else None,
        "message": outcome.message,
        "job": outcome.job,
    }


def _outcome(connection: Connection, answer: Mapping[str, Any]) -> Outcome:
    return Outcome(
        ref=VersionRef(name=answer["model"], version=answer["version"]),
        event=ledger.event(connection, answer["event"]) if answer["event"] else None,
        message=answer["message"],
        job=answer.get("job"),
    )
