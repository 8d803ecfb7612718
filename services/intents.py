"""Steps 4 to 7 of every change of stage or alias: record the intent, act, read back, close the record.

A crash anywhere leaves an intent whose lease runs out; whoever takes the model's slot next closes it truthfully.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import changes, effects, ledger, slots
from services.activation import SYSTEM
from services.changes import Change, Intent, State
from services.database import database_time
from services.domain import Actor, Role, Source
from services.errors import NotFound, OutcomeUnknown, PromotionConflict, RegistryUnavailable, SignoffError
from services.gate import Verdict
from services.ledger import Entry, Event, Kind
from services.signoff import Signoff
from services.slots import Slot
from services.tables import intents
from services.tables import slots as slots_table


def carry_out(
    signoff: Signoff,
    slot: Slot,
    *,
    subject: str,
    change: Change,
    actor: Actor,
    comment: str,
    context: Mapping[str, Any],
    verdict: Verdict | None = None,
) -> Event:
    """Do it, under the model's slot; returns the confirming event.

    Raises:
        OutcomeUnknown: MLflow stopped answering half way; the slot stays taken until its lease runs out.
        RegistryUnavailable: MLflow refused, or shows something else than was prescribed; the record says aborted.
        LedgerUnavailable: nothing could be recorded, so nothing was done.
    """
    intent = Intent(
        id=uuid.uuid4().hex, subject=subject, change=change, actor=actor, comment=comment, context=dict(context)
    )
    _open(signoff, slot, intent, verdict)
    lost = False
    try:
        changes.apply(signoff.registry, change)
    except SignoffError as error:
        lost = changes.is_lost(error)
    event = _close(signoff, slot, intent, verdict, lost=lost)
    if event.kind.outcome != "confirmed":
        raise RegistryUnavailable(
            f"{intent.ref} was not changed as prescribed; the record #{event.seq} says what MLflow shows instead."
        )
    return event


def recover(signoff: Signoff, slot: Slot) -> list[Event]:
    """Close every intent on the slot's model that an earlier holder left open."""
    with signoff.database.reading() as connection:
        rows = connection.execute(
            sa.select(intents).where(
                intents.c.model == slot.model, intents.c.state == "open", intents.c.token < slot.token
            )
        ).all()
    return [_close(signoff, slot, *_from(row), lost=False, recovered=True) for row in rows]


def abandoned(connection: Connection) -> list[str]:
    """Models with an open intent whose lease has run out."""
    query = (
        sa.select(intents.c.model)
        .distinct()
        .join(slots_table, slots_table.c.model == intents.c.model)
        .where(intents.c.state == "open")
        .where(sa.or_(slots_table.c.holder.is_(None), slots_table.c.expires_at <= database_time()))
    )
    return list(connection.execute(query).scalars())


def in_flight(connection: Connection) -> list[Intent]:
    """Everything that is under way, oldest first."""
    query = sa.select(intents).where(intents.c.state == "open").order_by(intents.c.opened_seq)
    return [_from(row)[0] for row in connection.execute(query)]


def _open(signoff: Signoff, slot: Slot, intent: Intent, verdict: Verdict | None) -> None:
    with signoff.database.writing() as connection:
        slots.require(connection, slot)
        event = ledger.append(connection, _entry(signoff, intent, "intended", verdict=verdict))
        connection.execute(
            intents.insert().values(
                id=intent.id,
                action=intent.subject,
                model=intent.ref.name,
                version=intent.ref.version,
                token=slot.token,
                change=intent.change.as_json(),
                context={
                    **intent.context,
                    "checks": verdict.as_json() if verdict else [],
                    "comment": intent.comment,
                    "actor": intent.actor.username,
                    "actor_name": intent.actor.name,
                    "roles": sorted(intent.actor.roles),
                    "source": intent.actor.source.value,
                },
                deadline=sa.select(slots_table.c.expires_at).where(slots_table.c.model == slot.model).scalar_subquery(),
                state="open",
                opened_seq=event.seq,
            )
        )


def _close(
    signoff: Signoff, slot: Slot, intent: Intent, verdict: Verdict | None, *, lost: bool, recovered: bool = False
) -> Event:
    try:
        outcome, found, why = _outcome(signoff, intent, lost=lost)
    except NotFound as error:
        outcome, found, why = "aborted", None, str(error)
    except RegistryUnavailable as error:
        outcome, found, why = "unknown", None, str(error)
    if outcome == "unknown":
        if not recovered:
            with signoff.database.writing() as connection:
                ledger.append(connection, _entry(signoff, intent, "unknown", why=why))
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
        entry = _entry(signoff, intent, outcome, verdict=verdict, found=found, why=why, recovered=recovered)
        event = ledger.append(connection, entry)
        connection.execute(intents.update().where(intents.c.id == intent.id).values(closed_seq=event.seq))
        if outcome == "confirmed":
            effects.settle(connection, intent, event)
    return event


def _outcome(signoff: Signoff, intent: Intent, *, lost: bool) -> tuple[str, State | None, str]:
    """What became of it: confirmed, aborted or unknown, what MLflow shows, and why in words."""
    change, registry = intent.change, signoff.registry
    found = changes.observe(registry, change)
    if found.stages == change.after.stages and found.aliases != change.after.aliases:
        # The stage moved without its alias: roll forward, the two must never disagree.
        changes.apply_aliases(registry, intent.ref.name, found.aliases, change.after.aliases)
        found = changes.observe(registry, change)
    if found == change.after:
        manifest = intent.context.get("manifest_digest")
        if manifest and registry.manifest(intent.ref).digest != manifest:
            return "aborted", changes.restore(registry, change, found), "the model's files changed meanwhile; put back"
        return "confirmed", found, ""
    if lost:
        return "unknown", found, "the call got no answer and may still be applied"
    return "aborted", found, "MLflow shows another state than was prescribed"


def _entry(
    signoff: Signoff,
    intent: Intent,
    outcome: str,
    *,
    verdict: Verdict | None = None,
    found: State | None = None,
    why: str = "",
    recovered: bool = False,
) -> Entry:
    return Entry(
        kind=Kind.of(intent.subject, outcome),
        actor=intent.actor,
        at=signoff.now(),
        ref=intent.ref,
        comment=intent.comment,
        verdict=verdict,
        intent=intent.id,
        closes=intent.id if outcome in {"confirmed", "aborted"} else None,
        details={
            **intent.context,
            "before": intent.change.before.as_json(),
            "after": (found or intent.change.after).as_json(),
            **({"why": why} if why else {}),
            **({"recovered_by": SYSTEM.username} if recovered else {}),
        },
    )


def _from(row: Any) -> tuple[Intent, Verdict]:
    context = dict(row.context)
    verdict = Verdict.from_json(context.pop("checks"))
    actor = Actor(
        username=context.pop("actor"),
        name=context.pop("actor_name"),
        roles=frozenset(Role(role) for role in context.pop("roles")),
        source=Source(context.pop("source")),
    )
    intent = Intent(
        id=row.id,
        subject=row.action,
        change=Change.from_json(row.change),
        actor=actor,
        comment=context.pop("comment"),
        context=context,
    )
    return intent, verdict
