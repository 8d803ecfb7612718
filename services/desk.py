"""One way in for every door: a request to do something about a version, and the verb that carries it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services import idempotency, people, reconciler, releases, reviews
from services.domain import Action, Source, VersionRef
from services.errors import BadInput
from services.evidence import Binding
from services.reviews import Outcome
from services.signoff import Signoff
from services.tokens import Scope
from services.verbs import refusals_recorded

VOTES = frozenset({Action.APPROVE, Action.REQUEST_CHANGES, Action.REJECT})
"""What a reviewer decides."""
_VOTES = {
    Action.APPROVE: reviews.approve,
    Action.REQUEST_CHANGES: reviews.request_changes,
    Action.REJECT: reviews.reject,
}
SUBJECTS = {
    Action.SUBMIT: "submission",
    Action.APPROVE: "approval",
    Action.REQUEST_CHANGES: "changes",
    Action.REJECT: "rejection",
    Action.WITHDRAW: "withdrawal",
    Action.PROMOTE: "promotion",
    Action.ROLLBACK: "rollback",
    Action.ARCHIVE: "archival",
    Action.RESTORE: "restoration",
    Action.ADOPT: "adoption",
}
"""What the record calls each of them."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody asks for. ``words`` is the comment or reason; ``seen`` is what was on screen, if anything was.

    ``deviation`` is the change past Signoff that is to be restored or adopted.
    """

    action: Action
    ref: VersionRef
    words: str
    seen: Binding | None = None
    deviation: int = 0


def perform(
    signoff: Signoff,
    request: Request,
    *,
    by: str,
    source: Source = Source.BROWSER,
    key: str | None = None,
    within: Scope | None = None,
) -> Outcome:
    """Carry out a request, under an idempotency key at most once.

    Args:
        within: what the token is for that the request came with, if it came with one.

    Raises:
        NotAllowed: the token is not for this; recorded as the verb would record it.
        and what the verb or `idempotency.once` raises.
    """
    if within:
        actor = people.acting(signoff.database, by, source)
        with refusals_recorded(signoff, SUBJECTS[request.action], actor, request.ref):
            within.require(request.action, request.ref.name)
    return _once(signoff, key, by, _as_json(request), lambda: _perform(signoff, request, by, source))


def roll_back(
    signoff: Signoff, name: str, *, words: str, by: str, source: Source, key: str | None, within: Scope | None
) -> Outcome:
    """`perform` of a rollback to whichever version served before, which is found out only once for a key."""
    if within:
        actor = people.acting(signoff.database, by, source)
        with refusals_recorded(signoff, SUBJECTS[Action.ROLLBACK], actor, None):
            within.require(Action.ROLLBACK, name)
    asked = {"action": Action.ROLLBACK, "name": name, "version": None, "words": words}
    return _once(signoff, key, by, asked, lambda: releases.rollback(signoff, name, by=by, reason=words, source=source))


def _once(
    signoff: Signoff, key: str | None, by: str, asked: Mapping[str, Any], perform: Callable[[], Outcome]
) -> Outcome:
    return perform() if key is None else idempotency.once(signoff, key, by=by, request=asked, perform=perform)


def _as_json(request: Request) -> dict[str, Any]:
    return {
        "action": request.action,
        "name": request.ref.name,
        "version": request.ref.version,
        "words": request.words,
        "seen": request.seen.as_json() if request.seen else None,
        "deviation": request.deviation,
    }


def _perform(signoff: Signoff, request: Request, by: str, source: Source) -> Outcome:
    ref, text, seen = request.ref, request.words, request.seen
    match request.action:
        case Action.SUBMIT:
            return reviews.submit(signoff, ref, by=by, comment=text, source=source)
        case Action.APPROVE | Action.REQUEST_CHANGES | Action.REJECT:
            return _VOTES[request.action](signoff, ref, by=by, comment=text, seen=seen, source=source)
        case Action.WITHDRAW:
            return reviews.withdraw(signoff, ref, by=by, comment=text, source=source)
        case Action.PROMOTE:
            return releases.promote(signoff, ref, by=by, reason=text, seen=seen, source=source)
        case Action.ROLLBACK:
            return releases.rollback(signoff, ref.name, version=ref.version, by=by, reason=text, source=source)
        case Action.ARCHIVE:
            return releases.archive(signoff, ref, by=by, reason=text, source=source)
        case _:
            return _settled(signoff, request, by, source)


def _settled(signoff: Signoff, request: Request, by: str, source: Source) -> Outcome:
    if request.action is Action.RESTORE:
        return reconciler.restore(signoff, request.deviation, by=by, reason=request.words, source=source)
    if request.action is Action.ADOPT:
        return reconciler.adopt(signoff, request.deviation, by=by, reason=request.words, source=source)
    raise BadInput(f"{request.action} is not something one can ask for about a version.")
