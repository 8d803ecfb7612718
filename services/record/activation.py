"""Which policies are in force: their texts are kept for ever, and a change is an event."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.database import Database
from services.domain import Actor, Source
from services.errors import StaleDecision
from services.policy import Policy, PolicyBook
from services.record import ledger
from services.tables import policies

SYSTEM = Actor(username="signoff", name="Signoff", roles=frozenset(), source=Source.SYSTEM)


def activate(database: Database, book: PolicyBook, *, at: datetime) -> None:
    """Put the policies of ``book`` in force and record each one that was not already."""
    with database.reading() as connection:
        active = set(connection.execute(sa.select(policies.c.digest).where(policies.c.active)).scalars())
    wanted = {policy.digest: policy for policy in book.policies}
    if active == set(wanted):
        return
    with database.writing(alone=True) as connection:
        # Read again under the lock: another process may start at the same moment.
        active = set(connection.execute(sa.select(policies.c.digest).where(policies.c.active)).scalars())
        connection.execute(policies.update().values(active=False))
        known = set(connection.execute(sa.select(policies.c.digest)).scalars())
        for digest, policy in wanted.items():
            row = {"active": True, "activated_at": at.isoformat(timespec="milliseconds")}
            if digest in known:
                connection.execute(policies.update().where(policies.c.digest == digest).values(**row))
            else:
                connection.execute(
                    policies.insert().values(digest=digest, name=policy.rules.name, text=policy.text, **row)
                )
        for digest in wanted.keys() - active:
            ledger.append(connection, _entry(wanted[digest], at))


def require_in_force(connection: Connection, policy: Policy) -> None:
    """Raise `StaleDecision` when a policy was put out of force: another dashboard has put others in its place.

    Each policy of this process was put in force when it started.
    """
    judging = policies.c.digest.in_(policy.digest.split("+"))
    query = sa.select(policies.c.digest).where(judging, policies.c.active.is_(False))
    if connection.execute(query).first() is not None:
        raise StaleDecision(
            f"Policy {policy.label} is not in force any more: another dashboard was started with other policies. "
            "Restart this one with them."
        )


def _entry(policy: Policy, at: datetime) -> ledger.Entry:
    return ledger.Entry(
        kind=ledger.Kind.POLICY_ACTIVATED,
        actor=SYSTEM,
        at=at,
        comment=policy.rules.title,
        details={"policy": policy.label, "policy_digest": policy.digest, "file": policy.file},
    )
