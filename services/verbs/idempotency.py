"""Requests that name themselves: whoever sends one twice under the same ``Idempotency-Key`` has it done once.

A key stands for one effect. What was refused had none and may be asked for again under the same key. What was begun
and has no known end may not, because a second attempt could be a second effect: the record answers, once it knows.
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
from services.record import claims, filing, ledger
from services.record.claims import Claim
from services.record.ledger import Kind
from services.signoff import Signoff
from services.steps import pulse
from services.steps.slots import LEASE_SECONDS
from services.tables import idempotency_keys as keys
from services.tables import processes
from services.verbs.reviews import Outcome

MAX_KEY = 200
KEPT_SECONDS = 30 * 86_400
"""How long a key is remembered; a retry later than that meets the gate like any other request."""
_UNDER_WAY = "The first request with this Idempotency-Key is still under way; ask again soon."


def once(
    signoff: Signoff,
    key: str,
    *,
    by: str,
    subject: str,
    request: Mapping[str, Any],
    perform: Callable[[], Outcome],
) -> Outcome:
    """What ``perform`` gives, or what it gave when ``by`` sent this key before.

    Where the process that carried it out has ended without an answer, the record says what became of it.

    Args:
        key: up to 200 printable ASCII characters, chosen by the client; two people's keys are two keys.
        subject: what the record calls the request, as in ``promotion:confirmed``.
        request: all that was asked for, as plain JSON.

    Raises:
        BadInput: the key is malformed, or was used for another request.
        PromotionConflict: the first request with this key is still under way.
        OutcomeUnknown: the first one was begun, and the record does not say yet how it ended.
        and whatever ``perform`` raises.
    """
    if not key or len(key) > MAX_KEY or not (key.isascii() and key.isprintable()):
        raise BadInput(f"An Idempotency-Key has 1 to {MAX_KEY} printable ASCII characters.")
    claim = Claim(person=by, key=key, subject=subject)
    if (before := _take(signoff, claim, digest(request))) is not None:
        return before
    signoff.database.claims.add(claim.id)
    try:
        with claims.recording(claim):
            outcome = perform()
    except Exception:
        unrecorded = keys.c.event.is_(None)
        _settle(signoff, claim, keys.delete().where(unrecorded), keys.update().values(claim=None))
        raise
    finally:
        signoff.database.claims.discard(claim.id)
    _settle(signoff, claim, keys.update().values(answer=_as_json(outcome)))
    return outcome


def _settle(signoff: Signoff, claim: Claim, *changes: sa.Delete | sa.Update) -> None:
    # Without the database the row stays as it is: what was done must not be told as an outage, nor done again. As
    # nobody shows that the claim lives any more, the record answers the next request.
    with suppress(LedgerUnavailable), signoff.database.writing() as connection:
        for change in changes:
            connection.execute(change.where(claim.held))
        connection.execute(processes.delete().where(processes.c.process == claim.id))


def forget(signoff: Signoff) -> int:
    """Drop keys nobody will send again; returns how many."""
    with signoff.database.writing() as connection:
        return connection.execute(keys.delete().where(keys.c.at < database_time() - KEPT_SECONDS)).rowcount


def _take(signoff: Signoff, claim: Claim, request: str) -> Outcome | None:
    """Take the key for this claim; the outcome instead, where its request had one before."""
    new = {"claim": claim.id, "event": None, "at": database_time()}
    try:
        with signoff.database.writing() as connection:
            connection.execute(keys.insert().values(person=claim.person, key=claim.key, request=request, **new))
            _beat(signoff, connection, claim)
        return None
    except IntegrityError:
        pass
    this = sa.and_(keys.c.person == claim.person, keys.c.key == claim.key)
    with signoff.database.reading() as connection:
        row = connection.execute(sa.select(keys, _abandoned().label("abandoned")).where(this)).one_or_none()
        if row is None or (row.request == request and row.answer is None and not row.abandoned):
            raise PromotionConflict(_UNDER_WAY)
        if row.request != request:
            raise BadInput("This Idempotency-Key was used for another request; choose a new one.")
        if found := _outcome(connection, row.answer) if row.answer is not None else _recorded(connection, row.event):
            return found
    as_read = keys.c.claim.is_not_distinct_from(row.claim), keys.c.event.is_not_distinct_from(row.event)
    with signoff.database.writing() as connection:
        if connection.execute(keys.update().where(this, *as_read, _abandoned()).values(new)).rowcount != 1:
            raise PromotionConflict(_UNDER_WAY)
        _beat(signoff, connection, claim)
    return None


def _beat(signoff: Signoff, connection: Connection, claim: Claim) -> None:
    if signoff.database.process:
        pulse.beat(connection, claim.id)


def _abandoned() -> sa.ColumnElement[bool]:
    """Whether nobody carries out the request of a key any more: given back, or its process shows no sign of life."""
    life = sa.select(processes.c.alive_until).where(processes.c.process == keys.c.claim).scalar_subquery()
    return sa.or_(keys.c.claim.is_(None), sa.func.coalesce(life, keys.c.at + LEASE_SECONDS) <= database_time())


def _recorded(connection: Connection, seq: int | None) -> Outcome | None:
    """What the record says of a request that got no answer; None where it had no effect, and may be carried out.

    Args:
        seq: the event that records the request; None where nothing was recorded.

    Raises:
        OutcomeUnknown: the record says that it was begun, and not how it ended.
    """
    if seq is None:
        return None
    event = ledger.event(connection, seq)
    if event and (intent := event.body["intent"]):
        event = next(iter(filing.events(connection, filing.closing(intent))), None)
    if event is None or event.ref is None:
        raise OutcomeUnknown(
            f"The first request with this Idempotency-Key was begun as record #{seq}, which does not say yet how it "
            "ended. Ask again soon."
        )
    if event.kind.outcome == "aborted":
        return None
    return Outcome(
        ref=event.ref,
        event=event,
        message=f"The first request with this Idempotency-Key was carried out: record #{event.seq}, {event.kind}.",
        job=event.seq if event.kind is Kind.VALIDATION_REQUESTED else event.get("job"),
    )


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
