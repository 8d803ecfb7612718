"""The one table of which role may do which action; browser, REST and command line all obey it."""

from __future__ import annotations

from services.domain import Action, Actor, Role
from services.errors import NotAllowed

_EVERYONE = frozenset(Role)

ROLES_FOR: dict[Action, frozenset[Role]] = {
    Action.VIEW: _EVERYONE,
    Action.SUBMIT: frozenset({Role.SCIENTIST, Role.RELEASE_MANAGER}),
    Action.WITHDRAW: frozenset({Role.SCIENTIST, Role.RELEASE_MANAGER}),
    Action.APPROVE: frozenset({Role.REVIEWER}),
    Action.REQUEST_CHANGES: frozenset({Role.REVIEWER}),
    Action.REJECT: frozenset({Role.REVIEWER}),
    Action.RESOLVE: frozenset({Role.REVIEWER}),
    Action.REOPEN: frozenset({Role.REVIEWER}),
    Action.PROMOTE: frozenset({Role.RELEASE_MANAGER}),
    Action.ROLLBACK: frozenset({Role.RELEASE_MANAGER}),
    Action.ARCHIVE: frozenset({Role.RELEASE_MANAGER}),
    Action.RESTORE: frozenset({Role.RELEASE_MANAGER}),
    Action.ADOPT: frozenset({Role.RELEASE_MANAGER}),
    Action.BREAK_GLASS: frozenset({Role.BREAK_GLASS}),
    Action.CONFIRM_EMERGENCY: frozenset({Role.BREAK_GLASS, Role.RELEASE_MANAGER}),
    Action.WITHDRAW_EMERGENCY: frozenset({Role.BREAK_GLASS}),
    Action.REVIEW_EMERGENCY: frozenset({Role.REVIEWER, Role.AUDITOR}),
    Action.EXPORT_LEDGER: frozenset({Role.AUDITOR, Role.ADMIN}),
    Action.MANAGE_PEOPLE: frozenset({Role.ADMIN}),
}
"""An admin keeps accounts and settings; an admin who is to approve or promote needs that role as well."""


def may(actor: Actor, action: Action) -> bool:
    """Whether one of the actor's roles includes the action."""
    return bool(actor.roles & ROLES_FOR[action])


def refusal(actor: Actor, action: Action) -> str:
    """The sentence that says which role is missing."""
    needed = " or ".join(sorted(role.words for role in ROLES_FOR[action]))
    held = ", ".join(sorted(role.words for role in actor.roles)) or "no role"
    article = "an" if needed[0] in "aeiou" else "a"
    return f"Only {article} {needed} may {action.replace('_', ' ')}; {actor.username} is {held}."


def require(actor: Actor, action: Action) -> None:
    """Raise `NotAllowed` unless `may`."""
    if not may(actor, action):
        raise NotAllowed(refusal(actor, action))
