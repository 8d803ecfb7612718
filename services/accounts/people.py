"""Who there is and as what: the accounts. Each belongs to a person or service with an id that never changes.

A username is how an account is called, and is never given out twice: an account is disabled, not deleted.

Passwords are hashed and checked by whoever calls (`Passwords`), because the library that does it imports Streamlit.
Roles are never remembered: `acting` and `sessions.session_user` read them again each time, so a change bites at once.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from services.accounts import on_record
from services.database import Database
from services.domain import Actor, Role, Source
from services.errors import BadInput, NotAllowed, NotFound
from services.letters import blank, skeleton
from services.record.activation import SYSTEM
from services.record.ledger import Kind
from services.record.projections.states import NO_PASSWORD
from services.tables import accounts, sessions

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
"""Username, name and role of the accounts that `services.accounts.demo` makes."""


RESERVED = frozenset({"unknown", "signoff", MLFLOW_CLIENT})
"""Actors of the record that are nobody's account: an account of such a name could not be told from them."""


class Passwords(Protocol):
    """How passwords are hashed and checked; `check` takes its time even when the answer cannot be yes."""

    def hash(self, password: str) -> str:
        """Return a bcrypt hash; raises `BadInput` for a password bcrypt would cut."""

    def check(self, password: str, hashed: str | None) -> bool:
        """Whether the password has this hash; ``None`` costs as much as a hash and is never right."""


def credentials(database: Database, username: str) -> dict[str, dict[str, dict[str, Any]]]:
    """One person's account in streamlit-authenticator's credentials format; no usernames in it when there is none."""
    with database.reading() as connection:
        row = account_of(connection, username)
    if row is None or row.automation:
        return {"usernames": {}}
    fields = {"name": row.name, "email": row.email, "password": row.password, "roles": list(row.roles)}
    return {"usernames": {row.username: fields}}


def add_account(  # noqa: PLR0913
    place: Database | Connection,
    *,
    username: str,
    name: str,
    hashed: str,
    roles: Iterable[Role],
    email: str = "",
    by: Actor = SYSTEM,
    at: datetime | None = None,
) -> None:
    """Create a person's account with a hashed password; raises `BadInput` for a bad, reserved or taken username."""
    _add(place, username=username, name=name, hashed=hashed, roles=roles, email=email, by=by, at=at)


def add_automation(
    place: Database | Connection,
    *,
    username: str,
    name: str,
    roles: Iterable[Role],
    by: Actor = SYSTEM,
    at: datetime | None = None,
) -> None:
    """Create the account of a service: nobody can log in with it, and it never counts as a person.

    Raises:
        BadInput: a bad, reserved or taken username.
    """
    _add(place, username=username, name=name, hashed=NO_PASSWORD, roles=roles, automation=True, by=by, at=at)


def _add(  # noqa: PLR0913
    place: Database | Connection,
    *,
    username: str,
    name: str,
    hashed: str,
    roles: Iterable[Role],
    email: str = "",
    automation: bool = False,
    by: Actor,
    at: datetime | None,
) -> None:
    if not well_formed(username):
        raise BadInput("A username must be 1 to 256 printable characters without spaces at its ends.")
    if looks_like(username) in map(looks_like, RESERVED):
        raise BadInput(f"{username!r} looks like a name of Signoff's own in the record; choose another.")
    with _writing(place) as connection:
        if account_of(connection, username) is not None:
            raise BadInput(f"There is already an account {username!r}.")
        held, what = _stored(roles), "Service" if automation else "Account"
        said = {"person": uuid.uuid4().hex, "name": name, "roles_held": held, "disabled": False}
        told = f"{what} {username} was made, as {on_record.named(held)}."
        said |= {"account": username, "automation": automation}
        on_record.append(connection, Kind.ACCOUNT_ADDED, told, said, by=by, at=at)
        update(connection, username, password=hashed, email=email)


def looks_like(username: str) -> str:
    """The same for usernames that people take for one another; what MLflow's clients claim is looked up by it."""
    return skeleton(username)[:MAX_USERNAME]


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


def set_roles(
    place: Database | Connection,
    username: str,
    roles: Iterable[Role],
    *,
    by: Actor = SYSTEM,
    at: datetime | None = None,
) -> None:
    """Replace an account's roles, at once and in its open sessions too; raises `NotFound`."""
    with _writing(place) as connection:
        held, before = _stored(roles), sorted(on_record.locked(connection, username).roles)
        told = f"{username} is now {on_record.named(held)}, and was {on_record.named(before)}."
        on_record.change(connection, Kind.ACCOUNT_CHANGED, username, told, by=by, at=at, roles_held=held)


def set_password(place: Database | Connection, username: str, hashed: str) -> None:
    """Replace the hashed password, lift a lock and close every session.

    Raises:
        NotFound: there is no such account.
        BadInput: it is a service, which has no password.
    """
    with _writing(place) as connection:
        row = account_of(connection, username)
        if row is not None and row.automation:
            raise BadInput(f"{username!r} is an automation; nobody logs in with it.")
        update(connection, username, password=hashed, failed_logins=0, locked_until=0.0)
        connection.execute(sessions.delete().where(sessions.c.username == username))


def disable(
    place: Database | Connection, username: str, *, told: str = "", by: Actor = SYSTEM, at: datetime | None = None
) -> None:
    """Let the account neither in nor act any more, and close its sessions; raises `NotFound`."""
    with _writing(place) as connection:
        told = told or f"{username} was disabled."
        on_record.change(connection, Kind.ACCOUNT_DISABLED, username, told, by=by, at=at, disabled=True)
        connection.execute(sessions.delete().where(sessions.c.username == username))


def anybody(database: Database) -> bool:
    """Whether there is a person who may log in."""
    query = sa.select(accounts.c.username).where(accounts.c.disabled.is_(False), accounts.c.automation.is_(False))
    with database.reading() as connection:
        return connection.execute(query.limit(1)).first() is not None


def names(place: Database | Connection, *, services: bool = False) -> dict[str, str]:
    """Username → name of every account that may act, or of every service that may, by username."""
    query = sa.select(accounts.c.username, accounts.c.name).where(accounts.c.disabled.is_(False))
    if services:
        query = query.where(accounts.c.automation)
    with connected(place) as connection:
        return {row.username: row.name for row in connection.execute(query.order_by(accounts.c.username))}


def acting(place: Database | Connection, username: str, source: Source) -> Actor:
    """The person with the roles held at this very moment.

    Raises:
        NotAllowed: the account is unknown or disabled, or is not as the record says.
    """
    with connected(place) as connection:
        row = account_of(connection, username)
        if row is None or row.disabled:
            raise NotAllowed(f"{username!r} has no account here that may act.")
        if why := on_record.differences(connection, [row]):
            raise NotAllowed(f"{why[username]} {on_record.ADVICE}")
    return actor_of(row, source)


def roles_held(connection: Connection, persons: Collection[str]) -> dict[str, frozenset[str]]:
    """Id of each of these persons who has an account that may act → the roles held at this very moment."""
    if not persons:
        return {}
    query = sa.select(accounts.c.person, accounts.c.roles).where(accounts.c.disabled.is_(False))
    held: dict[str, frozenset[str]] = {}
    for row in connection.execute(query.where(accounts.c.person.in_(persons))):
        held[row.person] = held.get(row.person, frozenset()) | frozenset(row.roles)
    return held


def actor_of(row: Row[Any], source: Source) -> Actor:
    known = {role.value for role in Role}
    roles = frozenset(Role(role) for role in row.roles if role in known)
    return Actor(
        username=row.username,
        name=row.name,
        roles=roles,
        source=source,
        automation=row.automation,
        person=row.person,
    )


def account_of(connection: Connection, username: str) -> Row[Any] | None:
    if not well_formed(username):
        return None
    return connection.execute(sa.select(accounts).where(accounts.c.username == username)).first()


def update(connection: Connection, username: str, **values: Any) -> None:
    if connection.execute(accounts.update().where(accounts.c.username == username).values(**values)).rowcount == 0:
        raise NotFound(f"There is no account {username!r}.")


def _stored(roles: Iterable[Role]) -> list[str]:
    return sorted(Role(role).value for role in roles)


def well_formed(username: str) -> bool:
    """Whether a database could hold it at all: PostgreSQL refuses NUL, and `isprintable` lone surrogates."""
    fits = 0 < len(username) <= MAX_USERNAME and username == username.strip()
    return fits and username.isprintable() and not blank(username)


@contextmanager
def connected(place: Database | Connection) -> Iterator[Connection]:
    """A connection for queries: this one, or one to this database."""
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
