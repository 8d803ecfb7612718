"""May this change happen? What the hook in the MLflow server asks, and what it is told.

An answer from the ledger alone (`at_once`) asks MLflow nothing: MLflow waits for it. What comes to one of our verbs is
judged (`judged`), ends with an intent, is made by the hook, and is concluded when the hook tells its outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlencode

from services import facts, gate
from services.accounts import permissions
from services.admission import protection, standing, transitions
from services.admission.calls import HOOK_SECONDS, MOVES, TAGS, UNGOVERNED, WORKSPACE, Call, What
from services.admission.outside import Free, Meaning, Move, Nothing, Refusal, Scene, Standing, Verb, meaning
from services.domain import Action, Actor, Source, VersionRef
from services.errors import NotAllowed, OutcomeUnknown, PromotionConflict, Refused, SignoffError
from services.gate import GateRefused, Verdict
from services.letters import skeleton
from services.record import mirror, testimony
from services.record.ledger import Event
from services.signoff import Signoff
from services.steps import intents
from services.steps.changes import Change, State
from services.verbs import releases, reviews
from services.verbs.common import acting, allowed, claimed, person, refusals_recorded
from services.verbs.reviews import Outcome

WORDS = "Asked for by an MLflow client."
TAG = "the tag reason"
"""Whose words a reason is, where the caller gave none."""

_SUBJECT = {
    Action.PROMOTE: "promotion",
    Action.ARCHIVE: "archival",
    Action.WITHDRAW: "withdrawal",
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Yes or no. ``change``: the hook is to make exactly this; ``intent``: and to tell what became of it."""

    allowed: bool
    reason: str = ""
    verdict: Verdict | None = None
    where: str = ""
    change: Change | None = None
    intent: str | None = None
    valid_for: float = HOOK_SECONDS


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """How the record of an intent was closed: ``confirmed`` or ``aborted``, by which event, and why in words."""

    closed: str
    event: int
    reason: str


ALLOWED = Answer(allowed=True)


def at_once(signoff: Signoff, call: Call) -> Answer | None:
    """Answer from the ledger and from what the hook told; None when it takes more, see `judged`. Never raises."""
    return _answered(signoff, call, lambda: _at_once(signoff.prescribing, call))


def judged(signoff: Signoff, call: Call, waited: Callable[[], float]) -> Answer:
    """Run the verb that a call comes to as far as its intent. Never raises.

    Args:
        waited: seconds since the question came in; an intent that nobody waits for any more is closed again.
    """
    answer = _answered(signoff, call, lambda: _judged(signoff.prescribing, call))
    if answer and answer.intent and waited() > call.patience:
        with suppress(SignoffError):  # else its lease runs out
            intents.conclude(signoff, answer.intent)
        return _no(signoff, call, "The answer took too long, so nothing was done.")
    return answer or _no(signoff, call, "There is no answer to this.")


def names(signoff: Signoff) -> dict[str, list[str]]:
    """What the hook protects without asking: aliases and keys of model tags that policies use, our own experiments."""
    with signoff.database.reading() as connection:
        experiments = testimony.experiments(connection)
    book = signoff.policies
    return {
        "aliases": sorted(book.protected_aliases),
        "model_tags": sorted(book.model_tags),
        "experiments": experiments,
    }


def conclude(signoff: Signoff, intent: str) -> Conclusion:
    """Close the record of an intent by what MLflow shows now, and write the tags.

    Raises:
        NotFound, PromotionConflict, OutcomeUnknown, LedgerUnavailable: as `intents.conclude`.
    """
    event = intents.conclude(signoff, intent)
    mirror.flush(signoff)
    return _conclusion(event)


def _conclusion(event: Event) -> Conclusion:
    if event.kind.outcome == "confirmed":
        return Conclusion(closed="confirmed", event=event.seq, reason=f"{event.ref} was changed as prescribed.")
    why = event.get("why") or "MLflow shows another state than was prescribed"
    return Conclusion(closed="aborted", event=event.seq, reason=f"{event.ref} was not changed: {why}.")


def _answered(signoff: Signoff, call: Call, decide: Callable[[], Answer | None]) -> Answer | None:
    try:
        return decide()
    except GateRefused as error:
        return _no(signoff, call, str(error), error.verdict)
    except SignoffError as error:
        return _no(signoff, call, str(error), about=error.about if isinstance(error, Refused) else None)


def _no(
    signoff: Signoff, call: Call, reason: str, verdict: Verdict | None = None, *, about: VersionRef | None = None
) -> Answer:
    ref = about or call.ref
    path = f"/version?{urlencode({'name': ref.name, 'version': ref.version})}" if ref else "/registry"
    return Answer(allowed=False, reason=reason, verdict=verdict, where=signoff.settings.url + path)


def anybody(signoff: Signoff, call: Call) -> Actor:
    """Who asks, with the roles of this moment; without any where we do not know them."""
    try:
        return person(signoff, call.actor, Source.MLFLOW_CLIENT)
    except NotAllowed:
        return Actor(username=call.actor, name=call.actor, roles=frozenset(), source=Source.MLFLOW_CLIENT)


def _at_once(signoff: Signoff, call: Call) -> Answer | None:
    if call.workspace == WORKSPACE and call.what in TAGS and (intent := intents.proven(signoff, call.intent or "")):
        return _our_tag(signoff, call, intent)
    if call.workspace != WORKSPACE or call.intent is not None or call.what not in MOVES:
        actor = anybody(signoff, call)
        with refusals_recorded(signoff, "admission", actor, call.ref):
            if call.workspace != WORKSPACE:
                if call.what in UNGOVERNED:
                    return ALLOWED
                raise Refused(f"Signoff governs the workspace {WORKSPACE}, and nothing is promoted in another.")
            if call.intent is not None and call.what in MOVES:
                return _of_ours(signoff, call, call.intent)
            protection.require(signoff, call, actor)
        return ALLOWED
    scene, move, found = _understood(signoff, call)
    if found is None:
        return ALLOWED
    match found:
        case Refusal():
            with refusals_recorded(signoff, "admission", anybody(signoff, call), move.ref):
                raise Refused(found.sentence)
        case Nothing():
            return _already(move.ref, found.state)
        case Verb():
            _require_role(signoff, scene, call, found)
    return None


def _require_role(signoff: Signoff, scene: Scene, call: Call, found: Verb) -> None:
    """Refuse a verb at once for a role that is missing. A proposal needs none."""
    if found.action is Action.SUBMIT:
        return
    actor = acting(signoff, call.actor, Source.MLFLOW_CLIENT, found.action, found.ref, _SUBJECT[found.action])
    if found.action is Action.PROMOTE and scene.standing(found.ref.version) is not Standing.SUBMITTED:
        _refuse_unsubmitted(signoff, scene, found.ref, actor)


def _understood(signoff: Signoff, call: Call) -> tuple[Scene, Move, Meaning | None]:
    """What a stage or alias call means; None: no policy protects that alias, or there is nothing to delete."""
    told = call.told[0]
    scene = standing.scene(signoff, told.model, told.versions)
    number = call.version if call.version is not None else told.model.aliases.get(call.alias, 0)
    free_alias = call.alias and skeleton(call.alias) not in map(skeleton, signoff.policies.protected_aliases)
    ref = VersionRef(name=call.name, version=max(number, 1))
    move = Move(
        ref=ref,
        stage=call.stage or None,
        archive_existing=call.archive_existing,
        alias=call.alias or None,
        deleted=call.what is What.ALIAS_DELETED,
    )
    return scene, move, None if free_alias or number == 0 else meaning(scene, move)


def _already(ref: VersionRef, state: State) -> Answer:
    return Answer(allowed=True, change=Change(ref=ref, before=state, after=state))


def _refuse_unsubmitted(signoff: Signoff, scene: Scene, ref: VersionRef, actor: Actor) -> None:
    """What was never submitted cannot pass: that is in the ledger. The other checks are told from memory."""
    with refusals_recorded(signoff, "promotion", actor, ref):
        versions = tuple(sorted(scene.versions.values(), key=lambda version: version.ref.version))
        policy, seen = facts.remembered(signoff, ref, scene.model, versions)
        allowed(policy, seen, gate.evaluate(policy, seen, actor=actor))


def _of_ours(signoff: Signoff, call: Call, sent: str) -> Answer:
    """A write of our own: exactly what its open intent prescribes, or what was there before, put back."""
    intent = intents.proven(signoff, sent)
    if intent is None:
        raise Refused("This call says that it belongs to a change of Signoff's, and cannot prove it; nothing was done.")
    with signoff.database.reading() as connection:
        found = intents.alive(connection, intent)
    if found is None:
        raise Refused("The change that this call belongs to is over; nothing was done.")
    change, left = found
    if change.ref.name == call.name:
        valid_for = min(HOOK_SECONDS, left)
        if _asks_for(call, change.after):
            return Answer(allowed=True, change=None if change.each else change, valid_for=valid_for)
        if _asks_for(call, change.before):
            return Answer(allowed=True, valid_for=valid_for)
    raise Refused("The change that this call belongs to prescribes something else; nothing was done.")


def _our_tag(signoff: Signoff, call: Call, intent: str) -> Answer:
    """A tag of our own: exactly what an open restoration prescribes, else what the record does, by our mirror.

    Where a newer event overtook the mirror, it is refused like anybody, and no doing of anybody's to record.
    """
    with signoff.database.reading() as connection:
        found = intents.alive(connection, intent)
    tags = found[0].after.tags if found and found[0].ref == call.ref else {}
    if call.key not in tags or tags[call.key] != (call.value if call.what is What.TAG_SET else None):
        protection.require(signoff, call, anybody(signoff, call))
    return ALLOWED


def _asks_for(call: Call, state: State) -> bool:
    """Whether a call asks for a part of a state."""
    if call.what is not What.STAGE:
        return call.alias in state.aliases and state.aliases[call.alias] == call.version
    others = [
        version.ref.version
        for one in call.told
        for version in one.versions
        if call.archive_existing and version.stage == call.stage and version.ref.version != call.version
    ]
    return state.stages.get(call.version or 0) == call.stage and all(
        state.stages.get(other, call.stage) != call.stage for other in others
    )


def _judged(signoff: Signoff, call: Call) -> Answer:
    _, move, found = _understood(signoff, call)
    if isinstance(found, Verb):
        done = _verb(signoff, call, found)
        if done.event is None:
            return _already(found.ref, State(stages={}, aliases={}))
        event = done.event
    elif isinstance(found, Free):
        event = transitions.move(signoff, move, actor=anybody(signoff, call), reason=call.reason)
    else:
        raise PromotionConflict(f"Someone else changed {move.ref} first. Look again.")
    intent = str(event.body["intent"])
    with signoff.database.reading() as connection:
        alive = intents.alive(connection, intent)
    if alive is None:
        raise OutcomeUnknown(f"The lease of {move.ref} ran out before MLflow could be told.")
    return Answer(allowed=True, change=alive[0], intent=intent, valid_for=min(HOOK_SECONDS, alive[1]))


def _verb(signoff: Signoff, call: Call, found: Verb) -> Outcome:
    by, ref, source, said = call.actor, found.ref, Source.MLFLOW_CLIENT, call.reason or WORDS
    match found.action:
        case Action.PROMOTE:
            reason, words_from = _told_before(signoff, call, found)
            return releases.promote(signoff, ref, by=by, reason=reason, source=source, words_from=words_from)
        case Action.ARCHIVE:
            return releases.archive(signoff, ref, by=by, reason=said, source=source)
        case Action.SUBMIT:
            (comment, words_from), actor = _told_before(signoff, call, found), anybody(signoff, call)
            if actor.person and permissions.may(actor, Action.SUBMIT):
                return reviews.submit(signoff, ref, by=by, comment=comment, source=source, words_from=words_from)
            return reviews.propose(signoff, ref, actor=actor, comment=comment, words_from=words_from)
        case _:
            return reviews.withdraw(signoff, ref, by=by, comment=said, source=source)


def _told_before(signoff: Signoff, call: Call, found: Verb) -> tuple[str, str]:
    """What the caller says, else what the tag `reason` said before the version had a record, and that it was the tag.

    The tag is anybody's word. With the submission it becomes part of the public record, so the submission keeps it.
    """
    version = next((v for told in call.told for v in told.versions if v.ref == found.ref), None)
    if call.reason or version is None:
        return call.reason or WORDS, ""
    if found.action is Action.PROMOTE:
        told = reviews.claimed_reason(signoff, version)
    else:
        recorded = standing.standings(signoff, call.name, [version])
        told = "" if recorded else claimed(version.tags.get("reason", ""))
    return (told, TAG) if told else (WORDS, "")
