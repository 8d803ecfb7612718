"""What nobody changes in MLflow by hand: tags of the public record, versions with a record, their names and files."""

from __future__ import annotations

import json
from dataclasses import replace

from services import assignments
from services.admission import leaving, standing
from services.admission.calls import BENEATH, Call, Told, What
from services.domain import IS_PROMPT, Actor, ModelVersion
from services.errors import Refused
from services.letters import begins_with, skeleton
from services.reconciliation import prescription
from services.reconciliation.drift import Seen
from services.record import mirror
from services.record.mirror import EVERYWHERE, OURS, REGISTERED_BY
from services.signoff import Signoff

_OURS_AS_SEEN = frozenset(map(skeleton, OURS))
_EVERYWHERE_AS_SEEN = frozenset(map(skeleton, EVERYWHERE | {REGISTERED_BY}))
_BENEATH = {
    What.FILES_WRITTEN: "{what} cannot be written: the files of {ref} are there, which {why}",
    What.FILES_DELETED: "{what} cannot be deleted: the files of {ref} are there, which {why}",
    What.EVIDENCE_WRITTEN: "{what} cannot be written: it would be evidence for {ref}, which {why}",
    What.EVIDENCE_DELETED: "{what} cannot be deleted: it is evidence for {ref}, which {why}",
    What.LOGGED_MODEL_CREATED: "{what} cannot be created: its evidence would be that of {ref}, which {why}",
}
_ELSEWHERE = {
    What.FILES_WRITTEN: "Register a new version instead.",
    What.FILES_DELETED: "Register a new version instead.",
    What.EVIDENCE_WRITTEN: "Log to another run.",
    What.EVIDENCE_DELETED: "Leave it there.",
    What.LOGGED_MODEL_CREATED: "Log it in another run.",
}
_VERBS = {
    "approval": "submit, approve, request-changes or reject it",
    "approved": "approve it",
    "promoted": "promote it",
    "reason": "promote it with that reason",
}


def require(signoff: Signoff, call: Call, actor: Actor) -> None:
    """Raise `Refused` unless ``actor`` may have a change made that is neither of a stage nor of an alias."""
    match call.what:
        case What.TAG_SET | What.TAG_DELETED:
            _tag(signoff, call)
        case What.VERSION_CREATED:
            for key in call.tags:
                _not_hiding(call, key)
                if _is_of_every_record(key):
                    raise Refused(f"A version is registered without {key}. {_hint(key)}")
        case What.MODEL_TAG_SET | What.MODEL_TAG_DELETED:
            _model_tag(signoff, call)
        case What.VERSION_DELETED | What.MODEL_DELETED | What.MODEL_RENAMED:
            leaving.require(signoff, call, actor)
        case What.RECORD_WRITTEN:
            raise Refused(f"{_short(call)} belongs to Signoff's own experiments, where nobody else writes.")
        case _ if call.what in BENEATH:
            for told in call.told:
                _keep_beneath(signoff, call, told)
        case _:
            raise Refused("That is not something that can be asked for here.")


def _tag(signoff: Signoff, call: Call) -> None:
    told, key = call.told[0], call.key
    if call.what is What.TAG_SET:
        _not_hiding(call, key)
    version = next(v for v in told.versions if v.ref.version == call.version)
    if key.casefold() == REGISTERED_BY:
        raise Refused(f"{key} says who registered {version.ref}. It is written with the version, and stays.")
    if not (_is_of_every_record(key) or skeleton(key) in _OURS_AS_SEEN) or _is_as_recorded(signoff, version, call):
        return
    if _is_of_every_record(key) or standing.standings(signoff, told.model.name, [version]):
        raise Refused(f"{key} of {version.ref} is part of the public record, which only Signoff writes. {_hint(key)}")


def _is_of_every_record(key: str) -> bool:
    """Whether a tag says something of ours on any version, also on one that has no record, or looks as if it did."""
    return skeleton(key) in _EVERYWHERE_AS_SEEN or begins_with(key, "signoff")


def _not_hiding(call: Call, key: str) -> None:
    model = call.told[0].model
    if key.casefold() == IS_PROMPT and not model.is_prompt:
        raise Refused(f"{key} on one version would hide every version of {model.name}, which is no prompt.")


def _is_as_recorded(signoff: Signoff, version: ModelVersion, call: Call) -> bool:
    """Whether the record prescribes exactly this value, or none; that is how our own mirror gets through."""
    ref, value = version.ref, call.value if call.what is What.TAG_SET else None
    with signoff.database.reading() as connection:
        if mirror.prescribed(connection, ref, version.identity).get(call.key) == value:
            return True
        found = prescription.peek(connection, ref.name)
    return value is not None and found is not None and _adopted(found.seen, version, call.key) == value


def _adopted(seen: Seen, version: ModelVersion, key: str) -> str | None:
    """The value of a tag that was adopted as it is, or was there before the registry was first met."""
    known = seen.versions.get(version.ref.version)
    if known is None or f"{version.ref.name}:{version.ref.version}:{known.id}" != version.identity:
        return None
    return known.tags.get(key)


def _hint(key: str) -> str:
    verb = next((words for start, words in _VERBS.items() if key.casefold().startswith(start)), None)
    return f"To have it written, {verb} in Signoff." if verb else "Only Signoff and its hook write it."


def _model_tag(signoff: Signoff, call: Call) -> None:
    model = call.told[0].model
    if call.key in signoff.policies.model_tags:
        kept = {key: value for key, value in model.tags.items() if key != call.key}
        set_now = {call.key: call.value or ""} if call.what is What.MODEL_TAG_SET else {}
        assignments.require_kept(signoff, model, replace(model, tags={**kept, **set_now}), call.key)
    if call.key.casefold() != IS_PROMPT:
        return
    now = model.tags.get(call.key)
    if call.what is What.MODEL_TAG_DELETED and now is None:
        return
    if call.what is What.MODEL_TAG_SET and now == call.value:
        return
    raise Refused(f"{call.key} says whether {model.name} is a model at all; it is set when it is made, and stays.")


def _keep_beneath(signoff: Signoff, call: Call, told: Told) -> None:
    """Files, runs and logged models stay as they are while a version is under review, and once it was promoted.

    What a client proposed and nobody answers for yet is no reason: anybody could stop a run that somebody else trains.
    """
    scene = standing.scene(signoff, told.model, told.versions)
    promoted = standing.promoted(signoff, told.model.name)
    under_review = standing.answered_for(signoff, told.model.name)
    elsewhere = _ELSEWHERE[call.what]
    for version in told.versions:
        ref = version.ref
        if scene.serves(ref.version):
            why = f"is in {scene.policy.rules.champion.stage}. {elsewhere}"
        elif version.identity in under_review:
            why = f"is submitted for review. Withdraw it first, or {elsewhere[0].lower()}{elsewhere[1:]}"
        elif version.identity in promoted:
            why = f"was promoted and can be put back, so all of it is kept. {elsewhere}"
        else:
            continue
        raise Refused(_BENEATH[call.what].format(what=_short(call), ref=ref, why=why), about=ref)


def _short(call: Call) -> str:
    """What the hook says it is about: words of its own for runs and logged models, and a path for files."""
    text = call.path if len(call.path) <= 200 else f"{call.path[:199]}…"
    return json.dumps(text, ensure_ascii=False) if call.what in {What.FILES_WRITTEN, What.FILES_DELETED} else text
