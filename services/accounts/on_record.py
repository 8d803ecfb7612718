"""Accounts as the record tells of them: each change is an event, and a role counts only with its event."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from services.database import Database
from services.domain import Actor
from services.errors import NotAllowed, NotFound
from services.letters import skeleton
from services.record import filing, ledger
from services.record.activation import SYSTEM
from services.record.ledger import Entry, Kind
from services.tables import accounts, events

ADVICE = "What is beside its event counts for nothing; 'signoff ledger verify' names every difference."


def change(
    connection: Connection,
    kind: Kind,
    username: str,
    told: str,
    *,
    by: Actor = SYSTEM,
    at: datetime | None = None,
    **changed: Any,
) -> None:
    """Append the event that says how an account is from now on: as the record says it was, but for ``changed``.

    Raises:
        NotFound: there is no such account.
        NotAllowed: no event says that there is.
        LedgerBroken: nobody knows what the record says.
    """
    locked(connection, username)
    filing.require_whole(connection)
    said = _newest(connection, [username]).get(username)
    if said is None:
        raise NotAllowed(f"Table accounts, row {username}: no event says that there is such a row. {ADVICE}")
    append(connection, kind, told, {**said, **changed}, by=by, at=at)


def append(
    connection: Connection, kind: Kind, told: str, said: Mapping[str, Any], *, by: Actor, at: datetime | None
) -> None:
    """Append an event that says how accounts are from now on; ``at`` None is now."""
    ledger.append(connection, Entry(kind=kind, actor=by, at=at or datetime.now(UTC), comment=told, details=said))


def locked(connection: Connection, username: str) -> Row[Any]:
    """The row of an account, which nobody changes until this transaction ends. Raises `NotFound`."""
    ledger.lock(connection)
    row = connection.execute(sa.select(accounts).where(accounts.c.username == username)).one_or_none()
    if row is None:
        raise NotFound(f"There is no account {username!r}.")
    return row


def baseline(database: Database, *, at: datetime) -> None:
    """Record once, by one event, every account of a database in which no event tells of any."""

    def told_of(connection: Connection) -> bool:
        told, broken = filing.numbers(connection, [filing.ALL_ACCOUNTS, filing.ANY_ACCOUNT])
        return broken is not None or any(told.values())

    with database.reading() as connection:
        if told_of(connection) or not connection.execute(sa.select(accounts.c.username)).first():
            return
    with database.writing(alone=True) as connection:
        if not told_of(connection):  # another process may start at the same moment
            record_all(connection, by=SYSTEM, at=at)


def record_all(connection: Connection, *, by: Actor, at: datetime) -> None:
    """Record every account as it is, by one event."""
    found = [_said(row) for row in connection.execute(sa.select(accounts).order_by(accounts.c.username))]
    told = f"There {'is 1 account' if len(found) == 1 else f'are {len(found)} accounts'}."
    append(connection, Kind.ACCOUNTS_BASELINE, told, {"accounts": found}, by=by, at=at)


def differences(connection: Connection, rows: Iterable[Row[Any]]) -> dict[str, str]:
    """Username → in one sentence, what a row of ``accounts`` says and no event does; those that agree are left out."""
    found, every = {}, list(rows)
    told = _newest(connection, [row.username for row in every])
    for row in every:
        said, where = told.get(row.username), f"Table accounts, row {row.username}"
        if said is None:
            found[row.username] = f"{where}: no event says that there is such a row."
            continue
        now = {**_said(row), "looks_like": row.looks_like}
        for name, then in {**said, "looks_like": skeleton(row.username)[:256]}.items():
            if now.get(name, then) != then and row.username not in found:
                column = name.removesuffix("_held")
                found[row.username] = f"{where}, {column}: the record says {then!r}, the table {now[name]!r}."
    return found


def _newest(connection: Connection, usernames: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """Username → what the last event about the account says; those that no event is about are left out."""
    told, broken = filing.numbers(connection, [filing.ALL_ACCOUNTS, *map(filing.about_account, usernames)])
    read = ledger.numbered if broken else filing.read
    if broken:
        told = _by_columns(connection, usernames)
    baseline = max(told.pop(filing.ALL_ACCOUNTS, ()), default=0)
    wanted = {number for numbers in told.values() if (number := max(numbers, default=0)) > baseline}
    if baseline and len(wanted) < len(usernames):
        wanted.add(baseline)
    found: dict[str, Mapping[str, Any]] = {}
    for event in read(connection, wanted):  # the baseline first: it is the oldest of them
        for said in event.get("accounts") or [event.body["details"]]:
            found[said["account"]] = said
    return found


def _by_columns(connection: Connection, usernames: Collection[str]) -> dict[filing.Key, list[int]]:
    """The same numbers where the record is broken: nothing is decided then, and people still see what is wrong."""
    column, told = events.c, dict[filing.Key, list[int]]()
    about = sa.select(column.seq, column.kind, column.account).where(
        sa.or_(
            sa.and_(column.account.in_(usernames), column.kind.in_(ledger.ACCOUNT)),
            column.kind == Kind.ACCOUNTS_BASELINE,
        )
    )
    for row in connection.execute(about):
        key = filing.ALL_ACCOUNTS if row.kind == Kind.ACCOUNTS_BASELINE else filing.about_account(row.account)
        told.setdefault(key, []).append(row.seq)
    return told


def named(roles: Iterable[str]) -> str:
    """Roles in words."""
    return ", ".join(role.replace("_", " ") for role in roles) or "nothing"


def _said(row: Row[Any]) -> dict[str, Any]:
    """An account as events tell of it."""
    return {
        "account": row.username,
        "person": row.person,
        "name": row.name,
        "roles_held": sorted(row.roles),
        "disabled": row.disabled,
        "automation": row.automation,
    }
