"""One way in for every door: a request to do something about a version, and the verb that carries it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from services import break_glass, findings, idempotency, reconciler, releases, reviews
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

_EMERGENCIES = frozenset(
    {Action.BREAK_GLASS, Action.CONFIRM_EMERGENCY, Action.WITHDRAW_EMERGENCY, Action.REVIEW_EMERGENCY}
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody asks for. ``words`` is the comment or reason; ``seen`` is what was on screen, if anything was.

    ``findings`` come with requested changes, ``finding`` is the one to resolve or reopen, and
    ``deviation`` the change past Signoff that is to be restored or adopted. ``emergency`` is the record that asked
    for one, when it is to be confirmed, withdrawn or reviewed; ``justified`` is what the review found. ``password``
    is what the person signs with, where the policy asks for it; it is shown, kept and recorded nowhere.
    """

    action: Action
    ref: VersionRef
    words: str
    seen: Binding | None = None
    findings: tuple[FindingDraft, ...] = ()
    finding: int = 0
    deviation: int = 0
    emergency: int = 0
    justified: bool = False
    password: SecretStr | None = field(default=None, repr=False, compare=False)


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
    """What makes two requests the same: all but the password."""
    return {
        "action": request.action,
        "name": request.ref.name,
        "version": request.ref.version,
        "words": request.words,
        "seen": request.seen.as_json() if request.seen else None,
        "findings": [draft.as_json() for draft in request.findings],
        "finding": request.finding,
        "deviation": request.deviation,
        "emergency": request.emergency,
        "justified": request.justified,
    }


def _perform(signoff: Signoff, request: Request, by: str, source: Source) -> Outcome:
    ref, text, seen, password = request.ref, request.words, request.seen, request.password
    match request.action:
        case Action.SUBMIT:
            return reviews.submit(signoff, ref, by=by, comment=text, source=source)
        case Action.REQUEST_CHANGES:
            found = request.findings
            return reviews.request_changes(
                signoff, ref, by=by, comment=text, findings=found, seen=seen, source=source, password=password
            )
        case Action.APPROVE | Action.REJECT:
            vote = _VOTES[request.action]
            return vote(signoff, ref, by=by, comment=text, seen=seen, source=source, password=password)
        case Action.WITHDRAW:
            return reviews.withdraw(signoff, ref, by=by, comment=text, source=source)
        case Action.PROMOTE:
            return releases.promote(signoff, ref, by=by, reason=text, seen=seen, source=source, password=password)
        case Action.ROLLBACK:
            return releases.rollback(
                signoff, ref.name, version=ref.version, by=by, reason=text, source=source, password=password
            )
        case Action.ARCHIVE:
            return releases.archive(signoff, ref, by=by, reason=text, source=source, password=password)
        case _:
            return _settled(signoff, request, by, source)


def _emergency(signoff: Signoff, request: Request, by: str, source: Source) -> Outcome:
    action, number, text, seen = request.action, request.emergency, request.words, request.seen
    if action is Action.BREAK_GLASS:
        return break_glass.ask(signoff, request.ref, by=by, reason=text, seen=seen, source=source)
    if action is Action.CONFIRM_EMERGENCY:
        return break_glass.confirm(signoff, number, by=by, comment=text, seen=seen, source=source)
    if action is Action.WITHDRAW_EMERGENCY:
        return break_glass.withdraw(signoff, number, by=by, comment=text, source=source)
    return break_glass.review(signoff, number, by=by, comment=text, justified=request.justified, source=source)


def _settled(signoff: Signoff, request: Request, by: str, source: Source) -> Outcome:
    if request.action in _EMERGENCIES:
        return _emergency(signoff, request, by, source)
    if request.action is Action.RESOLVE:
        return findings.resolve(signoff, request.finding, by=by, comment=request.words, source=source)
    if request.action is Action.REOPEN:
        return findings.reopen(signoff, request.finding, by=by, comment=request.words, source=source)
    if request.action is Action.RESTORE:
        return reconciler.restore(signoff, request.deviation, by=by, reason=request.words, source=source)
    if request.action is Action.ADOPT:
        return reconciler.adopt(signoff, request.deviation, by=by, reason=request.words, source=source)
    raise BadInput(f"{request.action} is not something one can ask for about a version.")
