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
from services.tables import accounts, sessions

SESSION_SECONDS = 12 * 60 * 60
MAX_FAILURES = 5
LOCK_SECONDS = 60


class WrongCredentials(Refused):
    """One answer for a wrong password, an unknown, a disabled and a locked account: it must not tell which."""

    def __init__(self) -> None:
        super().__init__(
            "Wrong username or password, or the account is locked: "
            f"{MAX_FAILURES} failures in a row lock it for {LOCK_SECONDS} seconds."
        )


def log_in(database: Database, username: str, password: str, passwords: people.Passwords, secret_key: bytes) -> str:
    """Check the password and open a session; returns its token.

    The failure is counted before the password is checked and taken back afterwards:
    guesses sent all at once would otherwise all be checked against the same count.

    Raises:
        WrongCredentials: whatever the reason.
    """
    attempt = _begin_attempt(database, username)
    if not passwords.check(password, attempt.hashed):
        raise WrongCredentials
    try:
        return open_session(database, username, secret_key)
    except NotAllowed as error:
        raise WrongCredentials from error


def reauthenticate(database: Database, username: str, password: str, passwords: people.Passwords) -> str:
    """Check the password of somebody who is in already, to sign with; returns the name the account has in print.

    It opens no session. Failures count together with those of `log_in`; the one that locks the account also closes
    its sessions (docs/decisions/006).

    Raises:
        WrongCredentials: whatever the reason.
    """
    attempt = _begin_attempt(database, username)
    if not passwords.check(password, attempt.hashed):
        if attempt.last:
            close_all(database, username)
        raise WrongCredentials
    try:
        with database.writing() as connection:
            name = people.acting(connection, username, Source.SYSTEM).name
            _succeeded(connection, username)
    except NotAllowed as error:
        raise WrongCredentials from error
    return name


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """What is to be checked: a hash, or None where no password would be right; ``last`` locks if it is wrong."""

    hashed: str | None = field(default=None, repr=False)
    last: bool = False


def _begin_attempt(database: Database, username: str) -> _Attempt:
    """Count one failure in advance."""
    if not people.well_formed(username):
        return _Attempt()
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
        if row is None or row.disabled or row.automation or row.locked:
            return _Attempt()
        failures = row.failed_logins + 1
        if failures >= MAX_FAILURES:
            people.update(connection, username, failed_logins=0, locked_until=database_time() + LOCK_SECONDS)
        else:
            people.update(connection, username, failed_logins=failures)
    return _Attempt(hashed=row.password, last=failures >= MAX_FAILURES)


def _succeeded(connection: Connection, username: str) -> None:
    people.update(connection, username, failed_logins=0, locked_until=0.0)


# Sessions


def session_key(token: str, secret_key: bytes) -> str:
    """What the database keeps of a token: a stolen copy of the table opens no session."""
    return hmac.new(secret_key, token.encode(), hashlib.sha256).hexdigest()


def open_session(database: Database, username: str, secret_key: bytes) -> str:
    """Open a session of 12 hours for a person whose password was right; returns its token.

    Raises:
        NotAllowed: the account is unknown, was disabled meanwhile, or is not a person's.
    """
    token = secrets.token_urlsafe(32)
    with database.writing() as connection:
        if people.acting(connection, username, Source.BROWSER).automation:
            raise NotAllowed(f"{username!r} is an automation; nobody logs in with it.")
        _succeeded(connection, username)
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
