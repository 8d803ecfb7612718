"""Logging in, on record: whose password was wrong how often, and from where; never what was typed."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.accounts import devices, people, sessions
from services.accounts.sessions import LOCK_SECONDS, MAX_FAILURES, Attempt, WrongCredentials
from services.domain import Actor, Source
from services.record import refusals
from services.record.ledger import Kind
from services.signoff import Signoff

SOMEBODY = Actor(username="unknown", name="Somebody", roles=frozenset(), source=Source.BROWSER)
"""Who has not logged in yet."""


@dataclass(frozen=True, kw_only=True)
class LoggedIn:
    """What the browser is given: the token of a session, and the cookie by which the account knows it from now on."""

    token: str = field(repr=False)
    device: str = field(repr=False)


def log_in(
    signoff: Signoff, username: str, password: str, passwords: people.Passwords, *, device: str | None, client: str
) -> LoggedIn:
    """Check the password and open a session; a failure is recorded, repeats of it as a count.

    Args:
        device: the id of a device that the account knows, see `devices.known`.
        client: the address that it comes from, for the record.

    Raises:
        WrongCredentials: for any reason.
        LedgerUnavailable: nobody can tell, or nobody could record it.
    """
    database, key = signoff.database, signoff.settings.secret_key
    try:
        token = sessions.log_in(database, username, password, passwords, key, device=device)
    except WrongCredentials as error:
        known = error.attempt.known
        refuse(signoff, _told(error.attempt, username, device), client, account=username if known else None)
        raise
    return LoggedIn(token=token, device=devices.issue(database, username, key))


def refuse(signoff: Signoff, reason: str, client: str, account: str | None = None) -> None:
    """Record that a log-in was refused; ``reason`` holds nothing of what was typed but the name of an account."""
    refusals.record(
        signoff.database,
        kind=Kind.LOGIN_REFUSED,
        actor=SOMEBODY,
        ref=None,
        reason=reason,
        verdict=None,
        at=signoff.now(),
        details={"client": client} | ({"account": account} if account else {}),
    )


def _told(attempt: Attempt, username: str, device: str | None) -> str:
    """The same words for the same cause, or repeats could not be counted."""
    if not attempt.known:
        return "A log-in under a username that no account has."
    where = "a device that it knows" if device else "devices that are new to it"
    if attempt.locked:
        return f"A log-in to {username} from {where} while it was locked for them."
    if attempt.last:
        return f"{MAX_FAILURES} wrong passwords in a row for {username} from {where}; locked for {LOCK_SECONDS} s."
    if attempt.hashed is None:
        return f"A log-in to {username}, which nobody can log in with."
    return f"A wrong password for {username} from {where}."
