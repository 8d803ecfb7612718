"""One way in for every door: a request to do something about a version, and the verb that carries it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services import automation, findings, idempotency, reconciler, releases, reviews
from services.domain import Action, Source, VersionRef
from services.errors import BadInput
from services.evidence import Binding, FindingDraft
from services.reviews import Outcome
from services.signoff import Signoff

VOTES = frozenset({Action.APPROVE, Action.REQUEST_CHANGES, Action.REJECT})
"""What a reviewer decides."""
_VOTES = {
    Action.APPROVE: reviews.approve,
    Action.REJECT: reviews.reject,
}
_PROPOSED = {
    Action.SUBMIT: reviews.submit,
    Action.WITHDRAW: reviews.withdraw,
    Action.AUTO: automation.auto,
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody asks for. ``words`` is the comment or reason; ``seen`` is what was on screen, if anything was.

    ``findings`` come with requested changes, ``finding`` is the one to resolve or reopen, and
    ``deviation`` the change past Signoff that is to be restored or adopted.
    """

    action: Action
    ref: VersionRef
    words: str
    seen: Binding | None = None
    findings: tuple[FindingDraft, ...] = ()
    finding: int = 0
    deviation: int = 0


def perform(
    signoff: Signoff, request: Request, *, by: str, source: Source = Source.BROWSER, key: str | None = None
) -> Outcome:
    """Carry out a request, under an idempotency key at most once; raises what its verb or `idempotency.once` raises."""
    if key is None:
        return _perform(signoff, request, by, source)
    return idempotency.once(
        signoff, key, by=by, request=_as_json(request), perform=lambda: _perform(signoff, request, by, source)
    )


def _as_json(request: Request) -> dict[str, Any]:
    return {
        "action": request.action,
        "name": request.ref.name,
        "version": request.ref.version,
        "words": request.words,
        "seen": request.seen.as_json() if request.seen else None,
        "findings": [draft.as_json() for draft in request.findings],
        "finding": request.finding,
        "deviation": request.deviation,
    }


def _perform(signoff: Signoff, request: Request, by: str, source: Source) -> Outcome:
    ref, text, seen = request.ref, request.words, request.seen
    match request.action:
        case Action.SUBMIT | Action.WITHDRAW | Action.AUTO:
            return _PROPOSED[request.action](signoff, ref, by=by, comment=text, source=source)
        case Action.REQUEST_CHANGES:
            return reviews.request_changes(
                signoff, ref, by=by, comment=text, findings=request.findings, seen=seen, source=source
            )
        case Action.APPROVE | Action.REJECT:
            return _VOTES[request.action](signoff, ref, by=by, comment=text, seen=seen, source=source)
        case Action.PROMOTE:
            return releases.promote(signoff, ref, by=by, reason=text, seen=seen, source=source)
        case Action.ROLLBACK:
            return releases.rollback(signoff, ref.name, version=ref.version, by=by, reason=text, source=source)
        case Action.ARCHIVE:
            return releases.archive(signoff, ref, by=by, reason=text, source=source)
        case _:
            return _settled(signoff, request, by, source)


def _settled(signoff: Signoff, request: Request, by: str, source: Source) -> Outcome:
    if request.action is Action.RESOLVE:
        return findings.resolve(signoff, request.finding, by=by, comment=request.words, source=source)
    if request.action is Action.REOPEN:
        return findings.reopen(signoff, request.finding, by=by, comment=request.words, source=source)
    if request.action is Action.RESTORE:
        return reconciler.restore(signoff, request.deviation, by=by, reason=request.words, source=source)
    if request.action is Action.ADOPT:
        return reconciler.adopt(signoff, request.deviation, by=by, reason=request.words, source=source)
    raise BadInput(f"{request.action} is not something one can ask for about a version.")
