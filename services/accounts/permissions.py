"""The one table of which role may do which action; browser, REST and command line all obey it."""

from __future__ import annotations

from collections.abc import Iterable

from services.domain import Action, Actor, Role
from services.errors import NotAllowed

_EVERYONE = frozenset(Role)
_VOTERS = frozenset({Role.REVIEWER, Role.RELEASE_MANAGER})
"""Who can have a vote; on a version those of them have one whose role the policy that judges it asks for."""
_VALIDATORS = frozenset({Role.SCIENTIST, Role.REVIEWER, Role.RELEASE_MANAGER})

ROLES_FOR: dict[Action, frozenset[Role]] = {
    Action.VIEW: _EVERYONE,
    Action.SUBMIT: frozenset({Role.SCIENTIST, Role.RELEASE_MANAGER}),
    Action.WITHDRAW: frozenset({Role.SCIENTIST, Role.RELEASE_MANAGER}),
    Action.APPROVE: _VOTERS,
    Action.REQUEST_CHANGES: _VOTERS,
    Action.REJECT: _VOTERS,
    Action.RESOLVE: _VOTERS,
    Action.REOPEN: _VOTERS,
    Action.STATE_DATASET: frozenset({Role.REVIEWER}),
    Action.PROMOTE: frozenset({Role.RELEASE_MANAGER}),
    Action.ROLLBACK: frozenset({Role.RELEASE_MANAGER}),
    Action.ARCHIVE: frozenset({Role.RELEASE_MANAGER}),
    Action.RESTORE: frozenset({Role.RELEASE_MANAGER}),
    Action.ADOPT: frozenset({Role.RELEASE_MANAGER}),
    Action.AUTO: frozenset({Role.RELEASE_MANAGER}),
    Action.VALIDATE: _VALIDATORS,
    Action.VALIDATE_WITH_CONSENT: _VOTERS,
    Action.CANCEL_VALIDATION: _VALIDATORS,
    Action.BREAK_GLASS: frozenset({Role.BREAK_GLASS}),
    Action.CONFIRM_EMERGENCY: frozenset({Role.BREAK_GLASS, Role.RELEASE_MANAGER}),
    Action.WITHDRAW_EMERGENCY: frozenset({Role.BREAK_GLASS}),
    Action.REVIEW_EMERGENCY: frozenset({Role.REVIEWER, Role.AUDITOR}),
    Action.RECONCILE: frozenset({Role.RELEASE_MANAGER, Role.AUDITOR, Role.ADMIN}),
    Action.TRY_POLICIES: frozenset({Role.REVIEWER, Role.RELEASE_MANAGER, Role.AUDITOR, Role.ADMIN}),
    Action.ASSIGN_POLICY: frozenset({Role.RELEASE_MANAGER}),
    Action.EXPORT_LEDGER: frozenset({Role.AUDITOR, Role.ADMIN}),
    Action.RETRY_MESSAGES: frozenset({Role.RELEASE_MANAGER, Role.ADMIN}),
    Action.MANAGE_PEOPLE: frozenset({Role.ADMIN}),
}
"""An admin keeps accounts and settings; an admin who is to approve or promote needs that role as well."""


FOR_AUTOMATION = frozenset(
    {
        *(Action.VIEW, Action.SUBMIT, Action.WITHDRAW, Action.AUTO, Action.RECONCILE),
        *(Action.PROMOTE, Action.ROLLBACK, Action.ARCHIVE, Action.TRY_POLICIES, Action.EXPORT_LEDGER),
        *(Action.VALIDATE, Action.CANCEL_VALIDATION),
    }
)
"""What a service may do, whatever its roles. The rest is judgement, and for people only."""

ONLY_IN_BROWSER = frozenset(
    {
        *(Action.RESTORE, Action.ADOPT, Action.RETRY_MESSAGES, Action.MANAGE_PEOPLE),
        *(Action.BREAK_GLASS, Action.CONFIRM_EMERGENCY, Action.WITHDRAW_EMERGENCY, Action.REVIEW_EMERGENCY),
    }
)
"""What no token can be used for: it is for people who have what it is about before their eyes."""


def may(actor: Actor, action: Action) -> bool:
    """Whether one of the actor's roles includes the action, and it is not one for people only."""
    return bool(actor.roles & ROLES_FOR[action]) and (not actor.automation or action in FOR_AUTOMATION)


def refusal(actor: Actor, action: Action) -> str:
    """The sentence that says which role is missing, or that the action is for people."""
    if actor.automation and action not in FOR_AUTOMATION:
        return f"Only people may {action.replace('_', ' ')}; {actor.username} is an automation."
    needed = named(ROLES_FOR[action])
    article = "an" if needed[0] in "aeiou" else "a"
    return f"Only {article} {needed} may {action.replace('_', ' ')}; {actor.username} is {_held(actor)}."


def require(actor: Actor, action: Action) -> None:
    """Raise `NotAllowed` unless `may`."""
    if not may(actor, action):
        raise NotAllowed(refusal(actor, action))


def require_vote(actor: Actor, action: Action, *, policy: str, asked: frozenset[Role]) -> None:
    """Raise `NotAllowed` unless the actor has one of the roles whose vote the policy asks for."""
    if not actor.roles & asked:
        raise NotAllowed(
            f"Policy {policy} asks for the approval of a {named(asked)}, so only they may "
            f"{action.replace('_', ' ')}; {actor.username} is {_held(actor)}."
        )


def named(roles: Iterable[Role], join: str = " or ") -> str:
    """Roles as people say them."""
    return join.join(sorted(role.words for role in roles))


def lost(username: str, held: Iterable[str] | None, given: Iterable[Role]) -> str:
    """Why somebody no longer has any of the roles that they acted with, in words; empty while they have one.

    Args:
        held: the roles of this moment; None where the account may not act.
        given: without any, nothing can have been lost but the account.
    """
    if held is None:
        return f"{username}'s account is disabled"
    given = list(given)
    return f"{username} is no longer a {named(given)}" if given and not set(held) & set(given) else ""


def _held(actor: Actor) -> str:
    return named(actor.roles, ", ") or "no role"
