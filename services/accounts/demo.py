"""The demo accounts: of the embedded stack, whose password they share, and of nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from services.accounts import keeping
from services.accounts.people import DEMO_ACCOUNTS, Passwords
from services.database import Database
from services.domain import Role
from services.record.activation import SYSTEM
from services.record.projections.states import NO_PASSWORD
from services.tables import accounts

STARTING = replace(SYSTEM, roles=frozenset({Role.ADMIN}))
"""Who keeps the demo accounts: Signoff, as it starts."""
PASSWORD_FILE = "demo-password"  # noqa: S105  (the name of the file in SIGNOFF_HOME)
SHARED = "it was made as a demo account, and has the password that the demo accounts share."


def ensure(database: Database, password: str, passwords: Passwords, *, given: bool, at: datetime) -> None:
    """Make the missing demo accounts with ``password``; an account that still has the shared password gets this one.

    A password that somebody changed stays, unless ``password`` is ``given``: then every account that may log in gets
    it. Each change is recorded. They share one hash: bcrypt takes a quarter of a second, and it is no secret that they
    share the password.

    Raises:
        BadInput: an account of somebody else has, or looks like, one of their usernames.
        LedgerUnavailable: the database cannot be used.
    """
    with database.writing() as connection:
        _take_over_imported(connection)
        found = _made(connection)
    without = {username for username, row in found.items() if row.password == NO_PASSWORD}
    known = {row.password for row in found.values()} - {NO_PASSWORD}
    hashed = next((one for one in known if passwords.check(password, one)), None) or passwords.hash(password)
    renewed = found if given else _sharing(found) | without
    for username, name, role in DEMO_ACCOUNTS:
        row = found.get(username)
        if row is None:
            about = {"username": username, "name": name, "email": _email(username)}
            keeping.add(database, by=STARTING, **about, roles={role}, hashed=hashed, at=at)
        elif username in renewed and row.password != hashed and not row.disabled:
            keeping.set_password(database, by=STARTING, username=username, hashed=hashed, at=at)


def disable(database: Database, passwords: Passwords, *, known: str | None, at: datetime) -> list[str]:
    """Where the embedded stack is not all there is: let nobody in with the shared password; returns whom it ended.

    Meant are accounts that were made as demo accounts and have a password that another one of them has, or the one
    that is ``known`` here. A person who took such an account over, with a password of their own, keeps it. The last
    admin is disabled as well: none is better than one with a password that many know.

    Raises:
        LedgerUnavailable: the database cannot be used.
    """
    with database.reading() as connection:
        rows = _made(connection).values()
    guessed = {row.password for row in rows if known and not row.disabled and passwords.check(known, row.password)}
    with database.writing() as connection:
        found = _made(connection, lock=True)
        shared = _sharing(found) | {username for username, row in found.items() if row.password in guessed}
        ended = [username for username in sorted(shared) if not found[username].disabled]
        for username in ended:
            keeping.end(connection, by=STARTING, username=username, why=SHARED, at=at)
    return ended


def _take_over_imported(connection: Connection) -> None:
    """Give the demo accounts of an imported record, which has no addresses, those that they had."""
    column = accounts.c
    bare = (column.email == "", column.password == NO_PASSWORD, column.automation.is_(False))
    for username, _, _ in DEMO_ACCOUNTS:
        connection.execute(accounts.update().where(column.username == username, *bare).values(email=_email(username)))


def _made(connection: Connection, *, lock: bool = False) -> dict[str, Row[Any]]:
    """Username → row of the accounts that were made here: no other has both the username and the address."""
    addresses = {username: _email(username) for username, _, _ in DEMO_ACCOUNTS}
    query = sa.select(accounts).where(accounts.c.username.in_(addresses)).order_by(accounts.c.username)
    rows = connection.execute(query.with_for_update() if lock else query)
    return {row.username: row for row in rows if row.email == addresses[row.username]}


def _sharing(found: Mapping[str, Row[Any]]) -> set[str]:
    """Those with the hash of another one: bcrypt gives two people who choose the same password two hashes."""
    times = Counter(row.password for row in found.values())
    return {username for username, row in found.items() if times[row.password] > 1}


def _email(username: str) -> str:
    return f"{username}@signoff.example"
