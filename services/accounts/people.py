"""Who may come in and as what: accounts, log-ins and browser sessions.

Passwords are hashed and checked by whoever calls (`Passwords`), because the library that does it imports Streamlit.
Roles are never remembered: `acting` and `session_user` read them again each time, so a change bites at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from services.database import Database, database_time
from services.domain import Actor, Role, Source
from services.errors import BadInput, NotAllowed, NotFound, Refused
from services.tables import accounts, sessions

SESSION_SECONDS = 12 * 60 * 60
MAX_FAILURES = 5
LOCK_SECONDS = 60
MAX_USERNAME = 256

MLFLOW_CLIENT = "mlflow-client"
"""Who acts where an MLflow client did not authenticate; no account has this name."""

DEMO_ACCOUNTS = (
    ("viewer", "Vera Nolan", Role.VIEWER),
    ("scientist", "Sam Okafor", Role.SCIENTIST),
    ("reviewer", "Rita Alvarez", Role.REVIEWER),
    ("reviewer2", "Rune Halvorsen", Role.REVIEWER),
    ("release_manager", "Mira Patel", Role.RELEASE_MANAGER),
    ("break_glass", "Bruno Castellan", Role.BREAK_GLASS),
    ("auditor", "Aiko Tanaka", Role.AUDITOR),
    ("admin", "Adam Novak", Role.ADMIN),
)


RESERVED = frozenset({"unknown", "signoff", MLFLOW_CLIENT})
"""Actors of the record that are nobody's account: an account of such a name could not be told from them."""
NO_PASSWORD = "!"  # noqa: S105  no password, and no hash of one
"""In place of a hash: no password has it."""


class WrongCredentials(Refused):
    """One answer for a wrong password, an unknown, a disabled and a locked account: it must not tell which."""

    def __init__(self) -> None:
        super().__init__(
            "Wrong username or password, or the account is locked: "
            f"{MAX_FAILURES} failures in a row lock it for {LOCK_SECONDS} seconds."
        )


class Passwords(Protocol):
    """How passwords are hashed and checked; `check` takes its time even when the answer cannot be yes."""

    def hash(self, password: str) -> str:
        """Return a bcrypt hash; raises `BadInput` for a password bcrypt would cut."""

    def check(self, password: str, hashed: str | None) -> bool:
        """Whether the password has this hash; ``None`` costs as much as a hash and is never right."""


# Accounts


def credentials(database: Database, username: str) -> dict[str, dict[str, dict[str, Any]]]:
    """One person's account in streamlit-authenticator's credentials format; no usernames in it when there is none."""
    with database.reading() as connection:
        row = _account(connection, username)
    if row is None or row.automation:
        return {"usernames": {}}
    fields = {"name": row.name, "email": row.email, "password": row.password, "roles": list(row.roles)}
    return {"usernames": {row.username: fields}}


def add_account(
    place: Database | Connection, *, username: str, name: str, hashed: str, roles: Iterable[Role], email: str = ""
) -> None:
    """Create a person's account with a hashed password; raises `BadInput` for a bad, reserved or taken username."""
    _add(place, username=username, name=name, hashed=hashed, roles=roles, email=email)


def add_automation(place: Database | Connection, *, username: str, name: str, roles: Iterable[Role]) -> None:
    """Create the account of a service: nobody can log in with it, and it never counts as a person.

    Raises:
        BadInput: a bad, reserved or taken username.
    """
    _add(place, username=username, name=name, hashed=NO_PASSWORD, roles=roles, automation=True)


def _add(
    place: Database | Connection,
    *,
    username: str,
    name: str,
    hashed: str,
    roles: Iterable[Role],
    email: str = "",
    automation: bool = False,
) -> None:
    if not _well_formed(username):
        raise BadInput("A username must be 1 to 256 printable characters without spaces at its ends.")
    if _folded(username) in RESERVED:
        raise BadInput(f"{username!r} is a name of Signoff's own in the record; choose another.")
    with _writing(place) as connection:
        if _account(connection, username) is not None:
            raise BadInput(f"There is already an account {username!r}.")
        connection.execute(
            accounts.insert().values(
                username=username,
                name=name,
                email=email,
                password=hashed,
                roles=_stored(roles),
                automation=automation,
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )


@dataclass(frozen=True, kw_only=True)
class Account:
    """One account as an administrator sees it. ``roles`` are sorted; ``created_at`` is ISO 8601 UTC."""

    username: str
    name: str
    email: str
    roles: tuple[str, ...]
    disabled: bool
    automation: bool
    created_at: str


def listed(database: Database) -> list[Account]:
    """Every account by username."""
    with database.reading() as connection:
        return [
            Account(
                username=row.username,
                name=row.name,
                email=row.email,
                roles=tuple(sorted(row.roles)),
                disabled=row.disabled,
                automation=row.automation,
                created_at=row.created_at,
            )
            for row in connection.execute(sa.select(accounts).order_by(accounts.c.username))
        ]


def set_roles(place: Database | Connection, username: str, roles: Iterable[Role]) -> None:
    """Replace an account's roles, at once and in its open sessions too; raises `NotFound`."""
    with _writing(place) as connection:
        _update(connection, username, roles=_stored(roles))


def set_password(database: Database, username: str, hashed: str) -> None:
    """Replace the hashed password, lift a lock and close every session.

    Raises:
        NotFound: there is no such account.
        BadInput: it is a service, which has no password.
    """
    with database.writing() as connection:
        row = _account(connection, username)
        if row is not None and row.automation:
            raise BadInput(f"{username!r} is an automation; nobody logs in with it.")
        _update(connection, username, password=hashed, failed_logins=0, locked_until=0.0)
        connection.execute(sessions.delete().where(sessions.c.username == username))


def disable(place: Database | Connection, username: str) -> None:
    """Let the account neither in nor act any more, and close its sessions; raises `NotFound`."""
    with _writing(place) as connection:
        _update(connection, username, disabled=True)
        connection.execute(sessions.delete().where(sessions.c.username == username))


def names(place: Database | Connection) -> dict[str, str]:
    """Username → name of every account that may act, by username."""
    query = sa.select(accounts.c.username, accounts.c.name).where(accounts.c.disabled.is_(False))
    with _connected(place) as connection:
        return {row.username: row.name for row in connection.execute(query.order_by(accounts.c.username))}


def ensure_demo_accounts(database: Database, password: str, passwords: Passwords) -> None:
    """Create the missing demo accounts and give all of them ``password``; changes nothing on a second call.

    They share one hash: bcrypt takes a quarter of a second, and it is no secret that they share the password.
    """
    names = [username for username, _, _ in DEMO_ACCOUNTS]
    with database.reading() as connection:
        rows = connection.execute(
            sa.select(accounts.c.username, accounts.c.password).where(accounts.c.username.in_(names))
        )
        found = {row.username: row.password for row in rows}
    hashed = next((known for known in set(found.values()) if passwords.check(password, known)), None)
    hashed = hashed or passwords.hash(password)
    for username, name, role in DEMO_ACCOUNTS:
        if username not in found:
            email = f"{username}@signoff.example"
            add_account(database, username=username, name=name, email=email, hashed=hashed, roles={role})
        elif found[username] != hashed:
            set_password(database, username, hashed)


def acting(place: Database | Connection, username: str, source: Source) -> Actor:
    """The person with the roles held at this very moment; raises `NotAllowed` for an unknown or disabled account."""
    with _connected(place) as connection:
        row = _account(connection, username)
    if row is None or row.disabled:
        raise NotAllowed(f"{username!r} has no account here that may act.")
    return _actor(row, source)


# Logging in


def log_in(database: Database, username: str, password: str, passwords: Passwords, secret_key: bytes) -> str:
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


def reauthenticate(database: Database, username: str, password: str, passwords: Passwords) -> str:
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
            name = acting(connection, username, Source.SYSTEM).name
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
    if not _well_formed(username):
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
            _update(connection, username, failed_logins=0, locked_until=database_time() + LOCK_SECONDS)
        else:
            _update(connection, username, failed_logins=failures)
    return _Attempt(hashed=row.password, last=failures >= MAX_FAILURES)


def _succeeded(connection: Connection, username: str) -> None:
    _update(connection, username, failed_logins=0, locked_until=0.0)


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
        if acting(connection, username, Source.BROWSER).automation:
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
    return None if row is None else _actor(row, Source.BROWSER)


def close_session(database: Database, key: str) -> None:
    """Close one session (`session_key`); one that is closed already stays so."""
    with database.writing() as connection:
        connection.execute(sessions.delete().where(sessions.c.token_hash == key))


def close_all(database: Database, username: str) -> None:
    """Close every session of an account."""
    with database.writing() as connection:
        connection.execute(sessions.delete().where(sessions.c.username == username))


def _actor(row: Row[Any], source: Source) -> Actor:
    known = {role.value for role in Role}
    roles = frozenset(Role(role) for role in row.roles if role in known)
    return Actor(username=row.username, name=row.name, roles=roles, source=source, automation=row.automation)


def _account(connection: Connection, username: str) -> Row[Any] | None:
    if not _well_formed(username):
        return None
    return connection.execute(sa.select(accounts).where(accounts.c.username == username)).first()


def _update(connection: Connection, username: str, **values: Any) -> None:
    if connection.execute(accounts.update().where(accounts.c.username == username).values(**values)).rowcount == 0:
        raise NotFound(f"There is no account {username!r}.")


def _stored(roles: Iterable[Role]) -> list[str]:
    return sorted(Role(role).value for role in roles)


def _well_formed(username: str) -> bool:
    """Whether a database could hold it at all: PostgreSQL refuses NUL, and `isprintable` lone surrogates."""
    return 0 < len(username) <= MAX_USERNAME and username.isprintable() and username == username.strip()


def _folded(username: str) -> str:
    return unicodedata.normalize("NFKC", username).strip().casefold()


@contextmanager
def _connected(place: Database | Connection) -> Iterator[Connection]:
    if isinstance(place, Connection):
        yield place
    else:
        with place.reading() as connection:
            yield connection


@contextmanager
def _writing(place: Database | Connection) -> Iterator[Connection]:
    if isinstance(place, Connection):
        yield place
    else:
        with place.writing() as connection:
            yield connection
