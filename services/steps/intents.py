"""Steps 4 to 7 of every change of stage or alias: record the intent, act, read back, close the record.

An intent is what its sealed event says. Its row only finds that event, and says whether it is open still.
A crash anywhere leaves an intent whose slot is over soon; the next holder of the model's slot closes it truthfully.
"""

from __future__ import annotations

import hmac
import logging
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import proofs
from services.database import database_time
from services.domain import Actor, ModelVersion
from services.errors import (
    BadInput,
    FilesUnreadable,
    LedgerUnavailable,
    NotAsPrescribed,
    NotFound,
    OutcomeUnknown,
    PromotionConflict,
    Refused,
    RegistryUnavailable,
)
from services.gate import Verdict
from services.place import Place
from services.record import filing, ledger, mirror
from services.record.activation import SYSTEM
from services.record.ledger import Entry, Event, Kind
from services.record.projections.states import RELEASES
from services.signoff import Signoff
from services.steps import changes, effects, slots
from services.steps.changes import Change, Intent, Sender, State
from services.steps.slots import Slot
from services.tables import intents, processes
from services.tables import slots as slots_table

WRITE_SECONDS = 15.0
"""What a slot must still have left for a write to be sent: longer than we wait for MLflow's answer to it."""

_VOUCHES = frozenset({"submission", "promotion", "rollback", "emergency", "restoration"})
"""What stands for a version's files; whoever takes one away does so whatever its files are."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What may be done: by whom, with the roles of this moment, and all that closing it needs, as plain JSON."""

    actor: Actor
    context: Mapping[str, Any]
    verdict: Verdict | None = None
    """What the gate said; None for what needs no verdict."""


Judge: TypeAlias = Callable[[Connection], Judged]
"""Judges in the transaction that records an intent, with the ledger's head locked; raises what it refuses with.

It reads Signoff's own tables and asks MLflow nothing.
"""


def carry_out(
    signoff: Signoff,
    slot: Slot,
    *,
    subject: str,
    change: Change,
    comment: str,
    judge: Judge,
) -> Event:
    """Do it, under the model's slot, if ``judge`` still allows it; returns the confirming event.

    Where ``signoff.acts`` is False it is only prescribed: returns the event of the intent, which stays open, and the
    slot taken, until `conclude` or the end of the lease.

    Raises:
        Refused, PromotionConflict: ``judge`` raised it; nothing was recorded or done.
        OutcomeUnknown: MLflow or the ledger stopped answering half way, or the lease ran out; the slot stays taken
            until then, and what became of the change is recorded afterwards.
        NotAsPrescribed: MLflow refused, or shows something else than was prescribed; the record says aborted.
        LedgerUnavailable: nothing could be recorded, so nothing was done.
    """
    intent, intended = _open(signoff, slot, subject, change, comment, judge)
    if not signoff.acts:
        return intended
    sender, lost, said = _sender(signoff, slot, intent.id), False, ""
    try:
        try:
            sender.apply(change)
        except RegistryUnavailable:
            lost = True
        except (NotFound, BadInput) as error:
            said = str(error).rstrip(".")  # MLflow said no; what it shows now is read below
        event = _close(signoff, slot, intent, sender, lost=lost, said=said)
    except (PromotionConflict, LedgerUnavailable) as error:
        # From here on neither may be said to have changed nothing.
        log.warning("%s: left open: %s", intent.ref, error)
        raise OutcomeUnknown(
            f"The change of {intent.ref} was begun and could not be finished or recorded in time. "
            "What became of it is read and recorded as soon as possible."
        ) from error
    if event.kind.outcome != "confirmed":
        raise NotAsPrescribed(
            f"{intent.ref} was not changed as prescribed: {event.get('why')}. The record #{event.seq} says what MLflow "
            "shows instead."
        )
    return event


def recover(signoff: Signoff, slot: Slot) -> list[Event]:
    """Close every intent on the slot's model that an earlier holder left open.

    Raises:
        Refused: a row is not what the record says; nothing is done by it.
    """
    with signoff.database.reading() as connection:
        rows = connection.execute(
            sa.select(intents).where(intents.c.model == slot.model, intents.c.state == "open")
        ).all()
        closed = [event for row in rows if (event := _closing(connection, row.id))]
        done = {event.body["closes"] for event in closed}
        opened = [_intent(connection, row) for row in rows if row.id not in done]
    for event in closed:  # somebody opened it again
        with signoff.database.writing() as connection:
            again = intents.update().where(intents.c.id == event.body["closes"])
            connection.execute(again.values(state=event.kind.outcome))
    return [
        _close(signoff, slot, intent, _sender(signoff, slot, intent.id), lost=False, recovered=True)
        for intent in opened
    ]


def conclude(signoff: Signoff, intent: str) -> Event:
    """Steps 6 and 7 of an intent that the hook has carried out, or could not; returns the closing event.

    Concluding what is closed already changes nothing.

    Raises:
        NotFound: there is no such intent.
        Refused: its row is not what the record says; nothing is recorded.
        PromotionConflict: its lease has run out; whoever takes the slot next closes it.
        OutcomeUnknown: MLflow does not answer.
    """
    with signoff.database.reading() as connection:
        row = connection.execute(sa.select(intents).where(intents.c.id == intent)).one_or_none()
        if row is None:
            raise NotFound(f"There is no intent {intent[:64]}.")
        if closed := _closing(connection, intent):
            return closed
        opened = _intent(connection, row)
    slot = Slot(model=row.model, token=row.token)
    return _close(signoff, slot, opened, _sender(signoff, slot, intent), lost=False)


def proof(signoff: Signoff, intent: str) -> str:
    """What our writes of an intent carry: its id, which the record shows to many, and what only we can add to it."""
    return proofs.proof(signoff.settings.gate_token, intent)


def proven(signoff: Signoff, sent: str) -> str | None:
    """The intent that a write is proven to belong to; None where it only says so."""
    intent = sent.partition(".")[0]
    return intent if hmac.compare_digest(proof(signoff, intent).encode(), sent.encode()) else None


def alive(connection: Connection, intent: str) -> tuple[Change, float] | None:
    """What an open intent prescribes, and for how many seconds its slot is not `slots.over`; None when it is.

    Raises:
        Refused: its row is not what the record says.
    """
    lease, life = slots_table.c.expires_at, processes.c.alive_until
    ends = sa.case((life < lease, life), else_=lease)
    row = connection.execute(
        sa.select(intents, (ends - database_time()).label("left"))
        .join(slots_table, sa.and_(slots_table.c.model == intents.c.model, slots_table.c.token == intents.c.token))
        .outerjoin(processes, processes.c.process == slots_table.c.process)
        .where(intents.c.id == intent, intents.c.state == "open")
    ).one_or_none()
    if row is None or row.left <= 0 or _closing(connection, intent):
        return None
    return _intent(connection, row).change, row.left


def abandoned(connection: Connection) -> list[str]:
    """Models with an open intent whose slot is over."""
    query = (
        sa.select(intents.c.model)
        .distinct()
        .join(slots_table, slots_table.c.model == intents.c.model)
        .where(intents.c.state == "open")
        .where(sa.or_(slots_table.c.holder.is_(None), slots.over()))
    )
    return list(connection.execute(query).scalars())


def in_flight(connection: Connection) -> list[Intent]:
    """Everything that is under way, oldest first; without rows that are not what the record says."""
    query = sa.select(intents).where(intents.c.state == "open").order_by(intents.c.opened_seq)
    found = list[Intent]()
    for row in connection.execute(query).all():
        with suppress(Refused):
            if not _closing(connection, row.id):
                found.append(_intent(connection, row))
    return found


def opening(connection: Connection, intent: str) -> Event | None:
    """The event that an intent began with; None where no row names it."""
    seq = connection.execute(sa.select(intents.c.opened_seq).where(intents.c.id == intent)).scalar()
    event = ledger.event(connection, seq) if seq else None
    return event if event and event.kind.outcome == "intended" and event.body["intent"] == intent else None


def _open(
    signoff: Signoff, slot: Slot, subject: str, change: Change, comment: str, judge: Judge
) -> tuple[Intent, Event]:
    with signoff.database.writing() as connection:
        slots.renew(connection, slot)
        ledger.lock(connection)
        judged = judge(connection)
        intent = Intent(
            id=uuid.uuid4().hex,
            subject=subject,
            change=change,
            actor=judged.actor,
            comment=comment,
            context=dict(judged.context),
            verdict=judged.verdict,
        )
        event = ledger.append(connection, _entry(signoff, intent, "intended"))
        connection.execute(
            intents.insert().values(
                id=intent.id,
                model=intent.ref.name,
                token=slot.token,
                state="open",
                opened_seq=event.seq,
            )
        )
    return intent, event


def _sender(signoff: Signoff, slot: Slot, intent: str) -> Sender:
    def fence() -> None:
        with signoff.database.reading() as connection:
            slots.require(connection, slot, seconds=WRITE_SECONDS)

    return Sender(signoff.registry, fence, proof(signoff, intent))


def _close(
    signoff: Signoff, slot: Slot, intent: Intent, sender: Sender, *, lost: bool, said: str = "", recovered: bool = False
) -> Event:
    try:
        outcome, found, why = _outcome(signoff, intent, sender, lost=lost, said=said)
    except NotFound as error:
        outcome, found, why = "aborted", None, str(error)
    except RegistryUnavailable as error:
        outcome, found, why = "unknown", None, str(error)
    if outcome == "unknown":
        with signoff.database.writing() as connection:
            if not recovered:
                ledger.append(connection, _entry(signoff, intent, "unknown", found=found, why=why))
            elif not sender.sent:
                slots.release(connection, slot)  # nothing of ours is under way: whoever comes next may try at once
        raise OutcomeUnknown(
            f"MLflow stopped answering while {intent.ref} was being changed. Its slot stays taken; "
            "what became of it is read and recorded as soon as MLflow answers again."
        )
    with signoff.database.writing() as connection:
        slots.require(connection, slot)
        closed = connection.execute(
            intents.update().where(intents.c.id == intent.id, intents.c.state == "open").values(state=outcome)
        )
        if closed.rowcount != 1:
            raise PromotionConflict(f"The change of {intent.ref} was closed by someone else meanwhile.")
        event = ledger.append(connection, _entry(signoff, intent, outcome, found=found, why=why, recovered=recovered))
        if outcome == "confirmed":
            effects.settle(connection, intent, event)
        elif intent.subject != "restoration":  # as in `effects.settle`
            mirror.ask(connection, intent.ref, event.seq)  # the tag signoff.event names this event too
        if not recovered:
            slots.release(connection, slot)
    return event


def _outcome(
    signoff: Signoff, intent: Intent, sender: Sender, *, lost: bool, said: str
) -> tuple[str, State | None, str]:
    """What became of it: confirmed, aborted or unknown, what MLflow shows, and why; ``said``: why in MLflow's words.

    What ends neither as prescribed nor as it was is put back, as far as it was this change that moved it.
    """
    change, registry = intent.change, signoff.registry
    seen = changes.observe(registry, change)
    found = seen.state
    why = said or "MLflow shows another state than was prescribed"
    if found.stages == change.after.stages and found.aliases != change.after.aliases:
        # The stage moved without its alias: roll forward, the two must never disagree.
        try:
            sender.point(intent.ref.name, found.aliases, change.after.aliases)
        except RegistryUnavailable:
            lost = True
        except BadInput as error:
            why = str(error).rstrip(".")
        seen = changes.observe(registry, change)
        found = seen.state
    if found == change.after:
        changed = _changed_files(signoff, intent, seen.own)
        if changed is None:
            with suppress(RegistryUnavailable):
                signoff.snapshot.show(seen.versions, model=seen.model)
            return "confirmed", found, ""
        why = changed
    elif lost:
        return "unknown", found, "the call got no answer and may still be applied"
    if found == change.before or not (change.after.stages or change.after.aliases):
        return "aborted", found, why  # of tags, those that are as prescribed by now stay so
    return "aborted", sender.restore(change, found), f"{why}; put back"


def _changed_files(signoff: Signoff, intent: Intent, version: ModelVersion) -> str | None:
    """In words, that the files of ``version`` are not those it was judged with, or elsewhere; None when they are."""
    if intent.subject not in _VOUCHES:
        return None
    manifest, judged = intent.context.get("manifest_digest"), intent.context.get("place")
    try:
        if manifest and signoff.registry.manifest(intent.ref).digest != manifest:
            return "the model's files changed meanwhile"
        now = signoff.registry.place(version) if judged else None
    except NotFound:
        return "the model's files are gone"
    except FilesUnreadable as error:
        return f"the model's files can no longer be read ({error})" if manifest else None
    if now and judged and now.folder != Place.from_json(judged).folder:
        return f"MLflow now reads its files from another place, {now.words}"
    return None


def _entry(
    signoff: Signoff,
    intent: Intent,
    outcome: str,
    *,
    found: State | None = None,
    why: str = "",
    recovered: bool = False,
) -> Entry:
    shown = {"before": intent.change.before.as_json(), "after": found.as_json() if found else None}
    released = outcome == "confirmed" and intent.subject in RELEASES
    return Entry(
        kind=Kind.of(intent.subject, outcome),
        actor=intent.actor,
        at=signoff.now(),
        ref=intent.ref,
        comment=intent.comment,
        verdict=intent.verdict,
        intent=intent.id,
        closes=intent.id if outcome in {"confirmed", "aborted"} else None,
        details={
            **intent.context,
            **(intent.change.as_json() if outcome == "intended" else shown),
            **({"replaced": intent.change.replaced or intent.change.succeeds} if released else {}),
            **({"why": why} if why else {}),
            **({"recovered_by": SYSTEM.username} if recovered else {}),
        },
    )


def _intent(connection: Connection, row: Any) -> Intent:
    """The intent of a row, as its event says; raises `Refused` where that event opens no such intent."""
    event = opening(connection, row.id)
    ref = event.ref if event else None
    if event is None or ref is None or ref.name != row.model:
        raise Refused(
            f"The table intents says that record #{row.opened_seq} began change {row.id} of {row.model}, and it did "
            "not: somebody changed that row. Nothing was done by it; put it back or delete it."
        )
    details = event.body["details"]
    return Intent(
        id=row.id,
        subject=event.kind.subject,
        change=Change.from_json(ref, details),
        actor=event.acted,
        comment=event.comment,
        context={key: value for key, value in details.items() if key not in {*Change.KEYS, "automation"}},
        verdict=event.verdict,
    )


def _closing(connection: Connection, intent: str) -> Event | None:
    """The event that closed an intent."""
    return next(iter(filing.events(connection, filing.closing(intent))), None)
