"""The verbs of an emergency: one person asks, another confirms and it happens at once, a third reviews it afterwards.

What the two may go past and what not is in `services.checks.emergency`; the release itself runs the same seven steps
as every other.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import assignments, expiry, facts, gate
from services.accounts import people
from services.checks.bound import bound
from services.database import Database, database_time
from services.domain import Action, Actor, Source, VersionRef
from services.errors import PromotionConflict, Refused
from services.evidence import Facts, Seen, Waiver
from services.policy import Policy
from services.record import agreed, ledger, mirror
from services.record.ledger import Entry, Kind
from services.record.projections import states
from services.signoff import Signoff
from services.steps import intents, slots
from services.verbs import emergencies
from services.verbs.common import (
    Said,
    acting,
    allowed,
    context,
    judged_again,
    refusals_recorded,
    refuse_before_files,
    require_as_seen,
    slot_held,
    still_may,
    words,
)
from services.verbs.emergencies import Emergency
from services.verbs.releases import already_champion, into_production, is_champion
from services.verbs.reviews import Outcome

LIFETIME_SECONDS = 60 * 60.0
"""So long a request may be confirmed, on the database's clock."""
JUSTIFIED, NOT_JUSTIFIED = "justified", "not justified"


def ask(
    signoff: Signoff,
    ref: VersionRef,
    *,
    by: str,
    reason: str,
    seen: Seen | None = None,
    source: Source,
) -> Outcome:
    """Ask for a version to be put into Production past the usual checks; nothing happens until another confirms.

    Bound to files, evidence, champion and policy as they are now. Asking for what was asked for already changes
    nothing; a request that ran out, or whose version changed, is replaced.

    Raises:
        GateRefused: the policy knows no emergencies, or what no emergency goes past fails.
        StaleDecision: something changed since ``seen``.
        BadInput, NotFound, NotAllowed, PromotionConflict, RegistryUnavailable, LedgerUnavailable.
    """
    reason = words(reason, "reason")
    actor = acting(signoff, by, source, Action.BREAK_GLASS, ref, "emergency")
    with (
        refusals_recorded(signoff, "emergency", actor, ref),
        slot_held(signoff, ref, actor, f"asking for v{ref.version} as an emergency") as slot,
    ):

        def first(policy: Policy, now: Facts) -> None:
            if not is_champion(policy, now):
                waiver = Waiver(asked_by=actor, binding=bound(policy, now))
                refuse_before_files(signoff, policy, now, emergency=waiver)

        policy, now = facts.fresh(signoff, ref, first=first)
        if done := already_champion(policy, now):
            return done
        require_as_seen(seen, policy, now, "Look again.")
        binding = bound(policy, now)

        def judge(_: object, present: Facts, who: Actor) -> Said:
            waiver = Waiver(asked_by=who, binding=binding)
            return allowed(policy, present, gate.evaluate(policy, present, emergency=waiver)), {
                "binding": binding.as_json(),
                "own": dict(present.bars),
            }

        judge(None, now, actor)
        assignments.at_first_sight(signoff, now.model, ref, actor)
        with signoff.database.reading() as connection:
            before = emergencies.waiting(connection, ref, now.candidate.version.identity)
        if before and not before.binding.differences(binding, substance=True):
            return Outcome(ref=ref, event=None, message=f"{before.asked_by} has asked for {ref} already.")
        with signoff.database.writing() as connection:
            slots.require(connection, slot)
            ledger.lock(connection)
            judged = judged_again(signoff, policy, now, actor=actor, action=Action.BREAK_GLASS, judge=judge)(connection)
            expires_at = float(connection.execute(sa.select(database_time())).scalar_one()) + LIFETIME_SECONDS
            until = datetime.fromtimestamp(expires_at, tz=UTC).isoformat(timespec="milliseconds")
            event = ledger.append(
                connection,
                Entry(
                    kind=Kind.EMERGENCY_REQUESTED,
                    actor=judged.actor,
                    at=signoff.now(),
                    ref=ref,
                    comment=reason,
                    verdict=judged.verdict,
                    details={**judged.context, "expires_at": until, "replaces": before.seq if before else None},
                ),
            )
    return Outcome(ref=ref, event=event, message=f"{ref} waits for a second person to confirm the emergency.")


def confirm(
    signoff: Signoff,
    number: int,
    *,
    by: str,
    comment: str,
    seen: Seen | None = None,
    source: Source,
) -> Outcome:
    """Be the second person: the version goes to Production at once. Confirming what was carried out changes nothing.

    Args:
        number: the record that asked for it.
        seen: what was on screen of whoever confirms.

    Raises:
        Refused: it ran out, or was withdrawn or replaced.
        GateRefused: by the person who asked, the author or the submitter; or something changed since it was asked.
        OutcomeUnknown: as `releases.promote`; the request cannot be confirmed again before it is known.
        and as `ask`.
    """
    comment = words(comment, "comment")
    ref = _found(signoff, number).ref
    actor = acting(signoff, by, source, Action.CONFIRM_EMERGENCY, ref, "emergency")
    with (
        refusals_recorded(signoff, "emergency", actor, ref),
        slot_held(signoff, ref, actor, f"the emergency promotion of v{ref.version}") as slot,
    ):
        request = _found(signoff, number)  # again, under the slot: a change that was left open is closed by now
        if request.released_seq:
            return Outcome(ref=ref, event=None, message=f"{ref} was put into Production by this request already.")
        _still_waits(request)

        def waiver(who: Actor, place: Database | Connection) -> Waiver:
            asker = people.acting(place, request.asked_by, source)
            return Waiver(asked_by=asker, binding=request.binding, confirmed_by=who)

        def first(policy: Policy, now: Facts) -> None:
            if not is_champion(policy, now):
                refuse_before_files(signoff, policy, now, emergency=waiver(actor, signoff.database))

        def judge(place: Database | Connection, present: Facts, who: Actor) -> Said:
            verdict = gate.evaluate(policy, present, emergency=waiver(who, place))
            return allowed(policy, present, verdict), _details(request, policy, present)

        def in_transaction(connection: Connection, present: Facts, who: Actor) -> Said:
            _still_waits(emergencies.emergency(connection, number))
            return judge(connection, present, who)

        policy, now = facts.fresh(signoff, ref, first=first)
        expiry.mark(signoff, policy, now)
        if done := already_champion(policy, now):
            return done
        require_as_seen(seen, policy, now, "Look again.")
        judge(signoff.database, now, actor)
        event = intents.carry_out(
            signoff,
            slot,
            subject="emergency",
            change=into_production(signoff, policy, now),
            comment=comment,
            judge=judged_again(
                signoff, policy, now, actor=actor, action=Action.CONFIRM_EMERGENCY, judge=in_transaction
            ),
        )
    mirror.flush(signoff)
    message = f"{ref} is in {policy.rules.champion.stage}. Somebody else must now review the emergency."
    return Outcome(ref=ref, event=event, message=message)


def withdraw(signoff: Signoff, number: int, *, by: str, comment: str, source: Source) -> Outcome:
    """Take a request back; for whoever asked. Raises as `confirm`, and `Refused` for anybody else."""
    comment = words(comment, "comment")
    ref = _found(signoff, number).ref
    actor = acting(signoff, by, source, Action.WITHDRAW_EMERGENCY, ref, "emergency")
    with (
        refusals_recorded(signoff, "emergency", actor, ref),
        slot_held(signoff, ref, actor, f"withdrawing the emergency of v{ref.version}") as slot,
    ):
        request = _found(signoff, number)
        if actor.person != request.asked_by_id:
            raise Refused(f"Only {request.asked_by}, who asked for it, may withdraw it.")
        if request.state == states.WITHDRAWN:
            return Outcome(ref=ref, event=None, message=f"The emergency of {ref} is withdrawn already.")
        _still_waits(request)
        with signoff.database.writing() as connection:
            slots.require(connection, slot)
            ledger.lock(connection)
            who = still_may(signoff, connection, actor, Action.WITHDRAW_EMERGENCY)
            _still(connection, request)
            event = ledger.append(connection, _entry(signoff, Kind.EMERGENCY_WITHDRAWN, who, request, comment))
    return Outcome(ref=ref, event=event, message=f"The emergency of {ref} is withdrawn.")


def review(signoff: Signoff, number: int, *, by: str, comment: str, justified: bool, source: Source) -> Outcome:
    """Say afterwards whether an emergency was one, which silences the alarm. Needs nothing of MLflow.

    Raises:
        Refused: the reviewer asked, confirmed, trained or submitted; or it was not carried out.
        PromotionConflict: somebody else has reviewed it at this moment.
        BadInput, NotFound, NotAllowed, LedgerUnavailable.
    """
    comment = words(comment, "comment")
    ref = _found(signoff, number).ref
    actor = acting(signoff, by, source, Action.REVIEW_EMERGENCY, ref, "emergency")
    with refusals_recorded(signoff, "emergency", actor, ref):
        found = _found(signoff, number)
        if why := found.partial(actor):
            raise Refused(f"{why}; somebody else must review the emergency of {ref}.")
        if found.state == states.REVIEWED:
            return Outcome(ref=ref, event=None, message=f"The emergency of {ref} was reviewed already.")
        if not found.unreviewed:
            raise Refused(f"The emergency of {ref} was not carried out, so there is nothing to review.")
        verdict = JUSTIFIED if justified else NOT_JUSTIFIED
        with signoff.database.writing() as connection:
            ledger.lock(connection)
            who = still_may(signoff, connection, actor, Action.REVIEW_EMERGENCY)
            _still(connection, found)
            entry = _entry(signoff, Kind.EMERGENCY_REVIEWED, who, found, comment, verdict=verdict)
            event = ledger.append(connection, entry)
    return Outcome(ref=ref, event=event, message=f"The emergency of {ref} is reviewed: {verdict}.")


def _found(signoff: Signoff, number: int) -> Emergency:
    with signoff.database.reading() as connection:
        return emergencies.emergency(connection, number)


def _still_waits(request: Emergency) -> None:
    if request.state != states.ASKED:
        raise Refused(f"The emergency of {request.ref} that {request.asked_by} asked for was {request.state}.")
    if request.expired:
        raise Refused(
            f"The emergency of {request.ref} that {request.asked_by} asked for ran out "
            f"{LIFETIME_SECONDS / 60:.0f} minutes after it was asked for; ask anew."
        )


def _details(request: Emergency, policy: Policy, now: Facts) -> dict[str, object]:
    counting = {
        vote.seq
        for vote in now.decisions
        if not (gate.void_reasons(vote, policy, now) or gate.barred(vote.person_id, vote.person, now))
    }
    approvals = [approval for approval in context(policy, now)["approvals"] if approval["seq"] in counting]
    return {
        "approvals": approvals,  # only those that still count: nobody else is to be named as one who approved
        "emergency": {
            "request": request.seq,
            "asked_by": request.asked_by,
            "asked_at": request.asked_at,
            "reason": request.reason,
            "own": dict(now.bars),
        },
    }


def _entry(
    signoff: Signoff, kind: Kind, actor: Actor, about: Emergency, comment: str, *, verdict: str | None = None
) -> Entry:
    details = {
        "identity": about.identity,
        "emergency": {
            "request": about.seq,
            "asked_by": about.asked_by,
            "confirmed_by": about.confirmed_by,
            "released": about.released_seq,
            "reason": about.reason,
        },
        **({"verdict": verdict} if verdict else {}),
    }
    return Entry(kind=kind, actor=actor, at=signoff.now(), ref=about.ref, comment=comment, details=details)


def _still(connection: Connection, about: Emergency) -> None:
    agreed.require_rows(connection, about.ref)
    if emergencies.emergency(connection, about.seq).state != about.state:
        raise PromotionConflict(f"Somebody else acted on the emergency of {about.ref} first; look again.")
