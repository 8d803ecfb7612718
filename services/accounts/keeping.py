"""Keeping the accounts: who may come in and as what, on record with who decided it.

It is an admin's, or that of a person who can write the database of this machine. What `people` does without asking is
for tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.accounts import on_record, people, permissions
from services.database import Database
from services.domain import Action, Actor, Role
from services.errors import BadInput, NotAllowed, NotFound, Refused
from services.letters import blank
from services.record import filing, refusals
from services.record.ledger import Kind
from services.tables import accounts

MAX_PRINTED = 200


def add(  # noqa: PLR0913
    database: Database,
    *,
    by: Actor,
    username: str,
    name: str,
    roles: Iterable[Role],
    hashed: str | None,
    email: str = "",
    at: datetime,
) -> None:
    """Make an account: of a person with a hashed password, of a service without one.

    Raises:
        BadInput: a username that is bad, reserved, taken, or looks like another; no printable name, no role, or a
            bad address.
        NotAllowed: ``by`` is no admin; recorded.
        LedgerUnavailable: nothing was made.
    """
    _require(database, by, username, at)
    name, email, held = name.strip(), email.strip(), _some(roles)
    if not (0 < len(name) <= MAX_PRINTED and name.isprintable()) or blank(name):
        raise BadInput(f"A name in print is needed, of at most {MAX_PRINTED} printable characters.")
    if email and not (len(email) <= MAX_PRINTED and email.isprintable() and "@" in email[1:-1]):
        raise BadInput(f"{email!r} is no e-mail address.")
    with database.writing() as connection:
        _require_unlike_others(connection, username)
        if hashed is None:
            people.add_automation(connection, username=username, name=name, roles=held, by=by, at=at)
        else:
            person = {"username": username, "name": name, "email": email}
            people.add_account(connection, **person, hashed=hashed, roles=held, by=by, at=at)


def set_roles(database: Database, *, by: Actor, username: str, roles: Iterable[Role], at: datetime) -> None:
    """Replace somebody's roles, at once and in open sessions too; the same roles again change nothing.

    Raises:
        NotFound: there is no such account.
        Refused: it would leave nobody who keeps the accounts.
        BadInput, NotAllowed, LedgerUnavailable: as `add`.
    """
    _require(database, by, username, at)
    held = _some(roles)
    with database.writing() as connection:
        before = _roles(connection, username)
        if set(held) == before:
            return
        if Role.ADMIN not in held:
            _require_another_admin(connection, username)
        people.set_roles(connection, username, held, by=by, at=at)


def set_password(database: Database, *, by: Actor, username: str, hashed: str, at: datetime) -> None:
    """Give somebody a new password, lift a lock and close every session; tokens stay. Raises as `set_roles`."""
    _require(database, by, username, at)
    with database.writing() as connection:
        people.set_password(connection, username, hashed)
        told = f"{username} was given a new password; all sessions ended."
        on_record.change(connection, Kind.ACCOUNT_CHANGED, username, told, by=by, at=at)


def disable(database: Database, *, by: Actor, username: str, at: datetime) -> None:
    """Let an account neither in nor act any more; sessions and tokens end at once. Raises as `set_roles`."""
    _require(database, by, username, at)
    with database.writing() as connection:
        _roles(connection, username)
        if not connection.execute(sa.select(accounts.c.disabled).where(accounts.c.username == username)).scalar():
            _require_another_admin(connection, username)
            people.disable(connection, username, by=by, at=at)


def end(connection: Connection, *, by: Actor, username: str, why: str, at: datetime) -> None:
    """`disable` without asking who is left to keep the accounts; ``why`` follows the username. Raises `NotFound`."""
    people.disable(connection, username, told=f"{username} was disabled: {why}", by=by, at=at)


def admins(connection: Connection, *, lock: bool = False) -> set[str]:
    """The usernames of the people who keep the accounts."""
    query = sa.select(accounts).where(accounts.c.disabled.is_(False), accounts.c.automation.is_(False))
    rows = connection.execute(query.with_for_update() if lock else query).all()
    return {row.username for row in rows if Role.ADMIN in row.roles}


def _require(database: Database, by: Actor, username: str, at: datetime) -> None:
    try:
        with database.reading() as connection:
            filing.require_whole(connection)
            if by.person:
                by = people.acting(connection, by.username, by.source)
        permissions.require(by, Action.MANAGE_PEOPLE)
    except NotAllowed as error:
        kind, about = Kind.ACCOUNT_REFUSED, {"account": username}
        why = str(error)
        refusals.record(database, kind=kind, actor=by, ref=None, reason=why, verdict=None, at=at, details=about)
        raise


def _require_unlike_others(connection: Connection, username: str) -> None:
    """Two names that people take for one another would be two people in the eyes of the gate."""
    alike = sa.select(accounts.c.username).where(accounts.c.looks_like == people.looks_like(username))
    others = connection.execute(alike.where(accounts.c.username != username).order_by(accounts.c.username))
    if other := others.scalars().first():
        raise BadInput(f"{username!r} looks like the account {other!r}; choose another username.")


def _require_another_admin(connection: Connection, username: str) -> None:
    if admins(connection, lock=True) == {username}:
        raise Refused(f"{username} is the last admin; make somebody else one first.")


def _roles(connection: Connection, username: str) -> set[Role]:
    row = connection.execute(sa.select(accounts.c.roles).where(accounts.c.username == username)).first()
    if row is None:
        raise NotFound(f"There is no account {username!r}.")
    known = {role.value for role in Role}
    return {Role(role) for role in row.roles if role in known}


def _some(roles: Iterable[Role]) -> list[Role]:
    held = sorted(set(roles))
    if not held:
        raise BadInput("An account needs a role; without any it sees nothing. To end it, disable it.")
    return held
