"""One way in for every door: a request to do something about a version, and the verb that carries it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from services.accounts import people, tokens
from services.accounts.tokens import Scope
from services.domain import Action, Dataset, Source, VersionRef
from services.errors import BadInput
from services.evidence import Binding, FindingDraft, Seen
from services.reconciliation import reconciler
from services.signoff import Signoff
from services.validation.jobs import Wanted
from services.verbs import (
    automation,
    break_glass,
    findings,
    idempotency,
    policies,
    releases,
    reviews,
    statements,
    validations,
)
from services.verbs.common import refusals_recorded
from services.verbs.reviews import Outcome

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
SUBJECTS = {
    Action.SUBMIT: "submission",
    Action.APPROVE: "approval",
    Action.REQUEST_CHANGES: "changes",
    Action.REJECT: "rejection",
    Action.WITHDRAW: "withdrawal",
    Action.PROMOTE: "promotion",
    Action.ROLLBACK: "rollback",
    Action.ARCHIVE: "archival",
    Action.AUTO: "promotion",
    Action.VALIDATE: "validation",
    Action.VALIDATE_WITH_CONSENT: "validation",
    Action.CANCEL_VALIDATION: "validation",
    Action.ASSIGN_POLICY: "policy",
    Action.RESOLVE: "finding",
    Action.REOPEN: "finding",
    Action.STATE_DATASET: "statement",
}
"""What a token can be used for, and what the record calls it. The others name what they are about by a number alone, so
that a request's ``ref`` does not say which model a scope would have to cover; a finding must be one of ``ref``."""

_EMERGENCIES = frozenset(
    {Action.BREAK_GLASS, Action.CONFIRM_EMERGENCY, Action.WITHDRAW_EMERGENCY, Action.REVIEW_EMERGENCY}
)
_RECORDED = {
    **SUBJECTS,
    **dict.fromkeys(_EMERGENCIES, "emergency"),
    Action.RESTORE: "restoration",
    Action.ADOPT: "adoption",
}
"""What the record calls each request."""

_VALIDATIONS = frozenset({Action.VALIDATE, Action.VALIDATE_WITH_CONSENT, Action.CANCEL_VALIDATION})


@dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody asks for. ``words`` is the comment or reason; ``seen`` is what had been seen, if that is known.

    ``findings`` come with requested changes, ``finding`` is the one to resolve or reopen, and
    ``deviation`` the change past Signoff that is to be restored or adopted. ``emergency`` is the record that asked
    for one, when it is to be confirmed, withdrawn or reviewed; ``justified`` is what the review found. ``password``
    is what the person signs with, where the policy asks for it; it is shown, kept and recorded nowhere. ``wanted`` is
    what a version is to be validated on, and ``validation`` the one that is to be cancelled. ``policy`` is the
    name of the one that is to judge the model, and ``dataset`` is what is stated about the champion ``ref``.
    """

    action: Action
    ref: VersionRef
    words: str
    seen: Seen | None = None
    findings: tuple[FindingDraft, ...] = ()
    finding: int = 0
    deviation: int = 0
    emergency: int = 0
    justified: bool = False
    wanted: Wanted | None = None
    policy: str = ""
    validation: int = 0
    dataset: Dataset | None = None
    password: SecretStr | None = field(default=None, repr=False, compare=False)


def perform(
    signoff: Signoff,
    request: Request,
    *,
    by: str,
    source: Source,
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
        _require(signoff, within, request.action, request.ref.name, request.ref, by, source)
    with tokens.in_use(within):
        subject, asked = _RECORDED.get(request.action, ""), _as_json(request)
        return _once(signoff, key, by, subject, asked, lambda: _perform(signoff, request, by, source))


def roll_back(  # noqa: PLR0913
    signoff: Signoff,
    name: str,
    *,
    words: str,
    by: str,
    source: Source,
    key: str | None,
    within: Scope | None,
    seen: str | None = None,
) -> Outcome:
    """`perform` of a rollback to whichever version served before, which is found out only once for a key."""
    if within:
        _require(signoff, within, Action.ROLLBACK, name, None, by, source)
    asked = {"action": Action.ROLLBACK, "name": name, "version": None, "words": words, "seen": seen}

    def perform() -> Outcome:
        return releases.rollback(signoff, name, by=by, reason=words, seen=seen, source=source)

    with tokens.in_use(within):
        return _once(signoff, key, by, SUBJECTS[Action.ROLLBACK], asked, perform)


def _require(
    signoff: Signoff, scope: Scope, action: Action, model: str, ref: VersionRef | None, by: str, source: Source
) -> None:
    if action not in SUBJECTS:
        raise BadInput(f"No token can be used to {action}.")
    actor = people.acting(signoff.database, by, source)
    with refusals_recorded(signoff, SUBJECTS[action], actor, ref):
        scope.require(action, model)


def _once(
    signoff: Signoff, key: str | None, by: str, subject: str, asked: Mapping[str, Any], perform: Callable[[], Outcome]
) -> Outcome:
    if key is None:
        return perform()
    return idempotency.once(signoff, key, by=by, subject=subject, request=asked, perform=perform)


def _as_json(request: Request) -> dict[str, Any]:
    """What makes two requests the same: all but the password."""
    return {
        "action": request.action,
        "name": request.ref.name,
        "version": request.ref.version,
        "words": request.words,
        "seen": request.seen.as_json() if isinstance(request.seen, Binding) else request.seen,
        "findings": [draft.as_json() for draft in request.findings],
        "finding": request.finding,
        "deviation": request.deviation,
        "emergency": request.emergency,
        "justified": request.justified,
        **({"wanted": request.wanted.told} if request.wanted else {}),
        **({"validation": request.validation} if request.validation else {}),
        **({"dataset": [request.dataset.name, request.dataset.digest]} if request.dataset else {}),
        **({"policy": request.policy} if request.policy else {}),
    }


def _perform(signoff: Signoff, request: Request, by: str, source: Source) -> Outcome:
    ref, text, seen, password = request.ref, request.words, request.seen, request.password
    match request.action:
        case Action.SUBMIT | Action.WITHDRAW | Action.AUTO:
            return _PROPOSED[request.action](signoff, ref, by=by, comment=text, source=source)
        case Action.REQUEST_CHANGES:
            found = request.findings
            return reviews.request_changes(
                signoff, ref, by=by, comment=text, findings=found, seen=seen, source=source, password=password
            )
        case Action.APPROVE | Action.REJECT:
            vote = _VOTES[request.action]
            return vote(signoff, ref, by=by, comment=text, seen=seen, source=source, password=password)
        case Action.PROMOTE:
            return releases.promote(signoff, ref, by=by, reason=text, seen=seen, source=source, password=password)
        case Action.ROLLBACK:
            return releases.rollback(
                signoff, ref.name, version=ref.version, by=by, reason=text, seen=seen, source=source, password=password
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


def _validation(signoff: Signoff, request: Request, by: str, source: Source) -> Outcome:
    ref, text = request.ref, request.words
    if request.action is Action.CANCEL_VALIDATION:
        return validations.cancel(signoff, ref, request.validation, by=by, comment=text, source=source)
    consent = request.action is Action.VALIDATE_WITH_CONSENT
    return validations.ask(signoff, ref, request.wanted, by=by, comment=text, consent=consent, source=source)


def _settled(signoff: Signoff, request: Request, by: str, source: Source) -> Outcome:
    if request.action in _EMERGENCIES:
        return _emergency(signoff, request, by, source)
    if request.action in _VALIDATIONS:
        return _validation(signoff, request, by, source)
    if request.action is Action.ASSIGN_POLICY:
        policy, reason = request.policy, request.words
        return policies.assign(signoff, request.ref, policy=policy, by=by, reason=reason, source=source)
    if request.action is Action.RESOLVE:
        return findings.resolve(signoff, request.ref, request.finding, by=by, comment=request.words, source=source)
    if request.action is Action.REOPEN:
        return findings.reopen(signoff, request.ref, request.finding, by=by, comment=request.words, source=source)
    if request.action is Action.STATE_DATASET:
        return statements.state_dataset(
            signoff, request.ref, request.dataset, by=by, comment=request.words, source=source
        )
    if request.action is Action.RESTORE:
        return reconciler.restore(
            signoff, request.deviation, by=by, reason=request.words, source=source, password=request.password
        )
    if request.action is Action.ADOPT:
        return reconciler.adopt(signoff, request.deviation, by=by, reason=request.words, source=source)
    raise BadInput(f"{request.action} is not something one can ask for about a version.")
