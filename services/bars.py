"""Who may not vote on a version because it is their own: for ever, whatever became of its submission since.

Nobody who is barred approves it, confirms or reviews an emergency of it, consents to run its code, or says that a
finding in it is answered.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.domain import Status, VersionRef
from services.tables import accounts, emergencies, submissions

_ENDED = {
    Status.WITHDRAWN.value: "; that was withdrawn, and still counts",
    Status.REJECTED.value: "; that was rejected, and still counts",
}


def barred_from(connection: Connection, ref: VersionRef, identity: str, *, claimed: str | None) -> Mapping[str, str]:
    """Everybody whose own this version is → why, in words.

    A key is a person's id, or the name somebody was called by where no account has it. The authors on record count,
    as each submission kept them, and everybody who was barred when an emergency was asked for.

    Args:
        claimed: the author that MLflow names now. It counts only where no author is on record: what is claimed later
            neither frees nor bars anybody.
    """
    mine = submissions.c
    rounds = connection.execute(
        sa.select(submissions)
        .where(mine.model == ref.name, mine.version == ref.version, mine.identity == identity)
        .order_by(mine.id)
    ).all()
    theirs = emergencies.c
    asked = connection.execute(
        sa.select(theirs.own)
        .where(theirs.model == ref.name, theirs.version == ref.version, theirs.identity == identity)
        .order_by(theirs.seq)
    ).all()
    named = {}
    for row in rounds:
        if row.registered_by:
            named[row.registered_by] = f"{row.registered_by} registered it"
        if row.claimed_author:
            named[row.claimed_author] = f"{row.claimed_author} is recorded as its author"
    kept = {key: why for row in asked for key, why in row.own.items()}
    if claimed and not kept and not any(row.claimed_author for row in rounds):
        named[claimed] = f"{claimed} is recorded as its author"
    bars = kept | _by_person(connection, named)
    for row in rounds:
        on, ended = row.submitted_at[:10], _ENDED.get(row.status, "")
        if row.submitted_by_id:
            bars[row.submitted_by_id] = f"{row.submitted_by} submitted it on {on}{ended}"
        if row.taken_by_id:
            bars[row.taken_by_id] = f"{row.taken_by} took over its submission of {on}{ended}"
    return bars


def _by_person(connection: Connection, named: Mapping[str, str]) -> dict[str, str]:
    """The same by the id of the person whose account has the name, so that a second account is barred as well."""
    query = sa.select(accounts.c.username, accounts.c.person).where(accounts.c.username.in_(sorted(named)))
    persons = {row.username: row.person for row in connection.execute(query)} if named else {}
    return {persons.get(name, name): why for name, why in named.items()}
