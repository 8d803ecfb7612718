"""Logging in and browser sessions: passwords checked, failures counted, tokens handed out and closed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.accounts import on_record, people
from services.database import Database, database_time
from services.domain import Actor, Source
from services.errors import NotAllowed, Refused
from services.evidence import digest
from services.tables import accounts, failures, sessions

SESSION_SECONDS = 12 * 60 * 60
MAX_FAILURES = 5
LOCK_SECONDS = 60
KEPT_SECONDS = 24 * 60 * 60
"""After so long without another, failures that were not enough to lock anything are forgotten."""

_SESSIONS = "open sessions"


class WrongCredentials(Refused):
    """One answer for a wrong password, an unknown, a disabled and a locked account: it must not tell which.

    ``attempt`` is for the record, which may.
    """

    def __init__(self, attempt: Attempt | None = None) -> None:
        super().__init__(
            "Wrong username or password, or the account is locked for this browser: "
            f"{MAX_FAILURES} failures in a row lock it for {LOCK_SECONDS} seconds."
        )
        self.attempt = attempt or Attempt()


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try at a password. ``hashed`` is what it is checked against, or None where none would be right.

    ``known``: there is such an account. ``last``: one more failure, this one, locks. ``counted`` is where the failure
    is noted, None for the account itself.
    """

    hashed: str | None = field(default=None, repr=False)
    known: bool = False
    locked: bool = False
    last: bool = False
    counted: str | None = None


def log_in(
    database: Database,
    username: str,
    password: str,
    passwords: people.Passwords,
    secret_key: bytes,
    *,
    device: str | None = None,
) -> str:
    """Check the password and open a session; returns its token.

    The failure is counted before the password is checked and taken back afterwards:
    guesses sent all at once would otherwise all be checked against the same count.

    Args:
        device: the id of a device that the account knows (`devices.known`), whose failures are counted for itself.
            All other devices are strangers, whose failures are counted together and lock out strangers only.

    Raises:
        WrongCredentials: whatever the reason.
    """
    attempt = _begin_attempt(database, username, device)
    if attempt.locked and device:
        raise WrongCredentials(attempt)  # it knows the account already, so the time that this takes tells nothing
    if not passwords.check(password, attempt.hashed):
        raise WrongCredentials(attempt)
    try:
        return open_session(database, username, secret_key, attempt.counted)
    except NotAllowed as error:
        raise WrongCredentials(attempt) from error


def reauthenticate(database: Database, username: str, password: str, passwords: people.Passwords) -> str:
    """Check the password of somebody who is in already, to sign with; returns the name the account has in print.

    It opens no session. Failures are counted for all open sessions of the account together: who guesses at the log-in
    keeps nobody from signing. The one that locks also closes the sessions (docs/decisions/006).

    Raises:
        WrongCredentials: whatever the reason.
    """
    attempt = _begin_attempt(database, username, _SESSIONS)
    if not passwords.check(password, attempt.hashed):
        if attempt.last:
            close_all(database, username)
        raise WrongCredentials(attempt)
    try:
        with database.writing() as connection:
            name = people.acting(connection, username, Source.SYSTEM).name
            _succeeded(connection, username, attempt.counted)
    except NotAllowed as error:
        raise WrongCredentials(attempt) from error
    return name


def _begin_attempt(database: Database, username: str, by: str | None) -> Attempt:
    """Count one failure in advance: for ``by`` and the present password, or for all strangers."""
    if not people.well_formed(username):
        return Attempt()
    with database.writing() as connection:
        row = connection.execute(
            sa.select(
                accounts.c.password,
                accounts.c.failed_logins,
                accounts.c.disabled,
                accounts.c.automation,
                (accounts.c.locked_until > database_time()).label("locked"),
            )
            .where(accounts.c.username == username)
            .with_for_update()
        ).first()
        if row is None or row.disabled or row.automation:
            return Attempt(known=row is not None)
        counted = digest([by, username, row.password]) if by else None
        before = _counted(connection, counted) if counted else (row.failed_logins, row.locked)
        if before[1]:
            return Attempt(known=True, locked=True, counted=counted)
        times = before[0] + 1
        last = times >= MAX_FAILURES
        until = database_time() + LOCK_SECONDS if last else sa.literal(0.0)
        if counted:
            row_ = {"times": 0 if last else times, "locked_until": until, "last_at": database_time()}
            connection.execute(failures.delete().where(failures.c.counted == counted))
            connection.execute(failures.delete().where(failures.c.last_at < database_time() - KEPT_SECONDS))
            connection.execute(failures.insert().values(counted=counted, **row_))
        else:
            people.update(connection, username, failed_logins=0 if last else times, locked_until=until)
    return Attempt(hashed=row.password, known=True, last=last, counted=counted)


def _counted(connection: Connection, counted: str) -> tuple[int, bool]:
    """How many failures, and whether they lock; the account's row is held meanwhile, so nobody else counts."""
    locked = (failures.c.locked_until > database_time()).label("locked")
    row = connection.execute(sa.select(failures.c.times, locked).where(failures.c.counted == counted)).one_or_none()
    return (row.times, bool(row.locked)) if row else (0, False)


def _succeeded(connection: Connection, username: str, counted: str | None) -> None:
    if counted:
        connection.execute(failures.delete().where(failures.c.counted == counted))
    else:
        people.update(connection, username, failed_logins=0, locked_until=0.0)


# Sessions


def session_key(token: str, secret_key: bytes) -> str:
    """What the database keeps of a token: a stolen copy of the table opens no session."""
    return hmac.new(secret_key, token.encode(), hashlib.sha256).hexdigest()


def open_session(database: Database, username: str, secret_key: bytes, counted: str | None = None) -> str:
    """Open a session of 12 hours for a person whose password was right; returns its token.

    Args:
        counted: where failures before it were counted, which are forgiven; None for the account itself.

    Raises:
        NotAllowed: the account is unknown, was disabled meanwhile, or is not a person's.
    """
    token = secrets.token_urlsafe(32)
    with database.writing() as connection:
        if people.acting(connection, username, Source.BROWSER).automation:
            raise NotAllowed(f"{username!r} is an automation; nobody logs in with it.")
        _succeeded(connection, username, counted)
        connection.execute(sessions.delete().where(sessions.c.expires_at < database_time()))
        connection.execute(
            sessions.insert().values(
                token_hash=session_key(token, secret_key),
                username=username,
                created_at=database_time(),
                expires_at=database_time() + SESSION_SECONDS,
            )
        )
    return token


def session_user(database: Database, key: str) -> Actor | None:
    """Whose open session this is (`session_key`), with the roles of this moment; None when it is closed or expired."""
    query = (
        sa.select(accounts)
        .join(sessions, sessions.c.username == accounts.c.username)
        .where(sessions.c.token_hash == key, sessions.c.expires_at > database_time())
        .where(accounts.c.disabled.is_(False), accounts.c.automation.is_(False))
    )
    with database.reading() as connection:
        row = connection.execute(query).first()
        if row is None:
            return None
        actor = people.actor_of(row, Source.BROWSER)
        # Roles that no event gave open no page; the verbs say why (`people.acting`).
        return replace(actor, roles=frozenset()) if on_record.differences(connection, [row]) else actor


def close_session(database: Database, key: str) -> None:
    """Close one session (`session_key`); one that is closed already stays so."""
    with database.writing() as connection:
        connection.execute(sessions.delete().where(sessions.c.token_hash == key))


def close_all(database: Database, username: str) -> None:
    """Close every session of an account."""
    with database.writing() as connection:
        connection.execute(sessions.delete().where(sessions.c.username == username))
