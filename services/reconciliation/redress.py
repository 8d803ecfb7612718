"""The two answers to a change past Signoff: put back what the record prescribes, or accept what MLflow shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import SecretStr
from sqlalchemy.engine import Connection

from services import assignments, champions
from services.domain import Action, Actor, ModelVersion, RegisteredModel, Source, VersionRef
from services.errors import NotFound, Refused, StaleDecision
from services.evidence import Manifest
from services.reconciliation import drift, evidence_watch, file_watch, prescription, returning
from services.reconciliation.drift import Difference, Seen
from services.reconciliation.marks import mark
from services.reconciliation.prescription import Known
from services.record import deviations, ledger
from services.record.deviations import Deviation
from services.record.ledger import Entry, Event, Kind
from services.record.projections.states import FOUND as OPEN
from services.signoff import Signoff
from services.steps import intents
from services.steps.changes import Change, State
from services.steps.intents import Judge, Judged
from services.steps.slots import Slot, require
from services.verbs.common import acting, refusals_recorded, slot_held, still_may, words
from services.verbs.reviews import Outcome

_MOVES = frozenset({Kind.OUTSIDE_STAGE, Kind.OUTSIDE_ALIAS})


def restore(
    signoff: Signoff,
    deviation: int,
    *,
    by: str,
    reason: str,
    source: Source,
    password: SecretStr | None = None,
) -> Outcome:
    """Put MLflow back to what the ledger prescribes.

    Stages and aliases of a model go back together, under its slot: a stage without its alias is never left behind.
    What returns to Production is the champion by the record, alone, and it is judged as a rollback to it is.

    Args:
        password: what the person signs with, where a version returns and the policy asks for a signature of a rollback.

    Raises:
        GateRefused: a rollback to what would return is refused; the error carries the verdict.
        Refused: it cannot be put back (files, names, what was deleted), or there is nothing to put back any more.
        WrongCredentials: the password is wrong, or the account is locked.
        NotAllowed, PromotionConflict, BadInput, NotFound, LedgerUnavailable: nothing was changed.
        RegistryUnavailable, OutcomeUnknown: as in `services.verbs.releases.promote`.
    """
    reason = words(reason, "reason")
    found = _found(signoff, deviation)
    ref = found.ref
    actor = acting(signoff, by, source, Action.RESTORE, ref, "restoration")
    with (
        refusals_recorded(signoff, "restoration", actor, ref),
        slot_held(signoff, ref, actor, f"putting back the {found.what} of v{ref.version}") as slot,
    ):
        if _found(signoff, deviation).state != OPEN:
            return Outcome(ref=ref, event=None, message=f"The {found.what} of {ref} is settled already.")
        if found.beyond_restoring:
            raise Refused(found.beyond_restoring)
        now = _look(signoff, ref.name)
        if found.subject not in {difference.subject for difference in now.differences}:
            raise Refused(f"The {found.what} of {ref} is as prescribed again; there is nothing to put back.")
        if found.kind in _MOVES:
            event = _put_back(signoff, slot, found, now, actor, reason, password)
        else:
            event = _retag(signoff, slot, found, now, actor, reason)
    signoff.snapshot.touch(ref.name)
    return Outcome(ref=ref, event=event, message=f"The {found.what} of {ref} is as the record prescribes.")


def adopt(signoff: Signoff, deviation: int, *, by: str, reason: str, source: Source) -> Outcome:
    """Accept what MLflow shows: it is what is prescribed from now on.

    This is neither an approval nor a release: what was adopted into Production is nothing a rollback returns to. A
    review of what was deleted ends with it, and so does an emergency asked for it, as if they had been withdrawn.

    Raises:
        StaleDecision: MLflow shows something else than what was found.
        NotAllowed, PromotionConflict, BadInput, NotFound, RegistryUnavailable, LedgerUnavailable: nothing was changed.
    """
    reason = words(reason, "reason")
    found = _found(signoff, deviation)
    ref = found.ref
    actor = acting(signoff, by, source, Action.ADOPT, ref, "adoption")
    with (
        refusals_recorded(signoff, "adoption", actor, ref),
        slot_held(signoff, ref, actor, f"adopting the {found.what} of v{ref.version}") as slot,
    ):
        if _found(signoff, deviation).state != OPEN:
            return Outcome(ref=ref, event=None, message=f"The {found.what} of {ref} is settled already.")
        if found.kind is Kind.OUTSIDE_FILES:
            event = _adopt_files(signoff, slot, found, actor, reason)
        elif found.kind is Kind.OUTSIDE_EVIDENCE:
            event = _adopt_evidence(signoff, slot, found, actor, reason)
        else:
            event = _adopt(signoff, slot, found, actor, reason)
    return Outcome(ref=ref, event=event, message=f"The {found.what} of {ref} is adopted as it is.")


# ---- what MLflow shows now -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Now:
    """A model read for a decision, against what is prescribed. ``seen`` is None when MLflow no longer has it."""

    known: Known
    seen: Seen | None
    model: RegisteredModel | None
    versions: Mapping[int, ModelVersion]
    differences: tuple[Difference, ...]


def _look(signoff: Signoff, name: str, *, renamed_to: str | None = None) -> _Now:
    before = mark(signoff)
    try:
        model: RegisteredModel | None = signoff.registry.model(name)
        versions = signoff.registry.versions(name)
    except NotFound:
        model, versions = None, ()
    seen = Seen.of(model, versions) if model else None
    with signoff.database.writing() as connection:
        known = prescription.load(connection, name, seen)
        if known is None:
            raise Refused(f"{name} was not looked at under this name yet; settle what was found under its other name.")
        known = prescription.brought_up(connection, name, known, seen, seq=before.seq)
        if seen:
            known = prescription.trusting(connection, name, known, seen)
    if seen is None:
        found = drift.vanished(known.seen, renamed_to)
    else:
        aliases = signoff.policies.protected_aliases
        found = drift.differences(known.seen, seen, recorded=known.recorded, aliases=aliases)
    by_number = {version.ref.version: version for version in versions}
    return _Now(known=known, seen=seen, model=model, versions=by_number, differences=tuple(found))


def _found(signoff: Signoff, number: int) -> Deviation:
    with signoff.database.reading() as connection:
        found = deviations.deviation(connection, number)
    if found is None:
        raise NotFound(f"There is no deviation {number}.")
    return found


# ---- putting back ----------------------------------------------------------------------------------------------


def _put_back(
    signoff: Signoff,
    slot: Slot,
    found: Deviation,
    now: _Now,
    actor: Actor,
    reason: str,
    password: SecretStr | None,
) -> Event:
    if now.model is None:
        raise NotFound(f"MLflow no longer has {found.ref.name}.")
    moved = [difference for difference in now.differences if difference.kind in _MOVES]
    subjects = {difference.subject for difference in moved}
    target = assignments.judging(signoff, now.model).rules.champion
    champion = returning.champion(found.ref.name, target, now.known.seen, moved)
    change = _change(found.ref, now, moved)
    context = {
        "deviations": [
            one.id for one in deviations.open_deviations(signoff, found.ref.name) if one.subject in subjects
        ],
        "found": found.seq,
    }
    if champion is None:
        identity = now.versions[change.ref.version].identity
        judge = _judge(signoff, found, actor, {"identity": identity, "manifest_digest": None, **context})
    else:
        change = returning.alone(change, champion, target.stage, now.versions)
        judge = returning.as_a_rollback(
            signoff,
            change.ref,
            actor=actor,
            details=context,
            password=password,
            still=lambda connection: _still_open(connection, found),
        )
    return intents.carry_out(signoff, slot, subject="restoration", change=change, comment=reason, judge=judge)


def _change(ref: VersionRef, now: _Now, moved: Iterable[Difference]) -> Change:
    """All stages and aliases of the model from what is shown to what is prescribed."""
    own = now.versions[ref.version].stage if ref.version in now.versions else None
    stages = {ref.version: (own, own)} if own else {}
    aliases: dict[str, tuple[int | None, int | None]] = {}
    for difference in moved:
        shown, prescribed = difference.shown, difference.prescribed
        if difference.kind is Kind.OUTSIDE_STAGE:
            stages[difference.version] = (shown or "", prescribed or "")
        else:
            aliases[difference.subject.removeprefix("alias:")] = (returning.number(shown), returning.number(prescribed))
    missing = {number for _, number in aliases.values() if number and number not in now.versions}
    if missing or not stages:
        raise Refused(f"v{min(missing, default=ref.version)} of {ref.name} is no longer in MLflow.")
    return Change(
        ref=ref if ref.version in stages else VersionRef(name=ref.name, version=min(stages)),
        before=State(
            stages={n: str(shown) for n, (shown, _) in stages.items()},
            aliases={alias: shown for alias, (shown, _) in aliases.items()},
        ),
        after=State(
            stages={n: str(prescribed) for n, (_, prescribed) in stages.items()},
            aliases={alias: prescribed for alias, (_, prescribed) in aliases.items()},
        ),
        each=True,
    )


def _retag(signoff: Signoff, slot: Slot, found: Deviation, now: _Now, actor: Actor, reason: str) -> Event:
    """Every tag of the version that is not as prescribed; its stage and the aliases are not looked at."""
    drifted = [d for d in now.differences if d.kind is Kind.OUTSIDE_TAG and d.version == found.ref.version]
    subjects = {difference.subject for difference in drifted}
    tags = {d.subject.split(":", 2)[2]: d for d in drifted}
    return intents.carry_out(
        signoff,
        slot,
        subject="restoration",
        change=Change(
            ref=found.ref,
            before=State(stages={}, aliases={}, tags={key: d.shown for key, d in tags.items()}),
            after=State(stages={}, aliases={}, tags={key: d.prescribed for key, d in tags.items()}),
            each=True,
        ),
        comment=reason,
        judge=_judge(
            signoff,
            found,
            actor,
            {
                "deviations": [
                    one.id for one in deviations.open_deviations(signoff, found.ref.name) if one.subject in subjects
                ],
                "found": found.seq,
                "tags": {key: {"shown": d.shown, "prescribed": d.prescribed} for key, d in tags.items()},
            },
        ),
    )


def _judge(signoff: Signoff, found: Deviation, actor: Actor, context: Mapping[str, Any]) -> Judge:
    """Whether it may still be put back: by somebody who may, and while it is not settled."""

    def judged(connection: Connection) -> Judged:
        who = still_may(signoff, connection, actor, Action.RESTORE)
        _still_open(connection, found)
        return Judged(actor=who, context=context)

    return judged


def _still_open(connection: Connection, found: Deviation) -> None:
    now = deviations.deviation(connection, found.id)
    if now is None or now.state != OPEN:
        raise Refused(f"The {found.what} of {found.ref} was settled meanwhile; look again.")


# ---- accepting -------------------------------------------------------------------------------------------------


def _adopt(signoff: Signoff, slot: Slot, found: Deviation, actor: Actor, reason: str) -> Event:
    name = found.ref.name
    renamed_to = found.shown if found.kind is Kind.OUTSIDE_RENAMED else None
    now = _look(signoff, name, renamed_to=renamed_to)
    difference = next((d for d in now.differences if d.subject == found.subject), None)
    if difference is None or (difference.kind, difference.shown) != (found.kind, found.shown):
        raise StaleDecision(f"MLflow shows something else by now about the {found.what} of {found.ref}. Look again.")
    with signoff.database.writing() as connection:
        event = _adoption(connection, signoff, slot, found, actor, reason)
        if now.seen is not None:
            state = drift.accepted(now.known.seen, now.seen, difference)
            prescription.save(connection, name, replace(now.known, seen=state))
        else:
            prescription.forget(connection, name)
            if renamed_to and prescription.load(connection, renamed_to) is None:
                prescription.save(connection, renamed_to, now.known)
    return event


def _adopt_files(signoff: Signoff, slot: Slot, found: Deviation, actor: Actor, reason: str) -> Event:
    manifest: Manifest | None
    try:
        version = signoff.registry.version(found.ref)
        manifest = signoff.registry.manifest(found.ref)
    except NotFound:
        manifest = None  # they are gone, and that is accepted
    with signoff.database.writing() as connection:
        read = {
            "manifest_digest": manifest.digest if manifest else None,
            "manifest_size": manifest.size if manifest else None,
        }
        event = _adoption(connection, signoff, slot, found, actor, reason, **read)
        if manifest:
            at = signoff.now().timestamp()
            file_watch.adopted(connection, found.ref, version.identity, manifest, seq=event.seq, at=at)
    return event


def _adopt_evidence(signoff: Signoff, slot: Slot, found: Deviation, actor: Actor, reason: str) -> Event:
    """Known from now on, and no more than that: what is judged stays what the promotion recorded."""
    version = signoff.registry.version(found.ref)
    with signoff.database.reading() as connection:
        released = champions.released(connection, [version]).get(version.identity)
    now = released and evidence_watch.difference(released, *signoff.reader.measured_now([version]))
    if not now or (now.prescribed, now.shown) != (found.prescribed, found.shown):
        raise StaleDecision(f"MLflow shows something else by now about the evidence of {found.ref}. Look again.")
    with signoff.database.writing() as connection:
        return _adoption(connection, signoff, slot, found, actor, reason)


def _adoption(
    connection: Connection, signoff: Signoff, slot: Slot, found: Deviation, actor: Actor, reason: str, **details: Any
) -> Event:
    require(connection, slot)
    ledger.lock(connection)
    who = still_may(signoff, connection, actor, Action.ADOPT)
    _still_open(connection, found)
    return ledger.append(
        connection,
        Entry(
            kind=Kind.ADOPTION_RECORDED,
            actor=who,
            at=signoff.now(),
            ref=found.ref,
            comment=reason,
            details={
                "deviation": found.id,
                "found": found.seq,
                "subject": found.subject,
                "prescribed": found.prescribed,
                "shown": found.shown,
                **details,
            },
        ),
    )
