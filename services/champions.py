"""What is known of a champion beside what MLflow says of it today: what its promotion recorded, and what is stated.

Metrics of a finished run can be written by anybody who reaches MLflow. A candidate is compared with what was judged
when the champion was let in, so nobody moves that bar afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.accounts import people, permissions
from services.domain import Action, ModelVersion
from services.evidence import Evidence, Released, Statement
from services.record import ledger
from services.recorded_facts import released_in
from services.tables import promotions, statements

PER_QUERY = 500
"""Versions asked about in one statement."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """What our own record says of some champions, by their identity."""

    released: Mapping[str, Released]
    stated: Mapping[str, tuple[Statement, ...]]

    def of(self, champion: Evidence | None) -> Evidence | None:
        """A champion as it is judged: with what its promotion recorded, and with what is stated about it."""
        if champion is None:
            return None
        identity = champion.version.identity
        return replace(champion, released=self.released.get(identity), stated=self.stated.get(identity, ()))


def recorded(connection: Connection, champions: Iterable[ModelVersion]) -> Records:
    """What is recorded of these champions, in as many queries as for one."""
    every = list(champions)
    return Records(released=released(connection, every), stated=stated(connection, every))


def stated(connection: Connection, versions: Iterable[ModelVersion]) -> dict[str, tuple[Statement, ...]]:
    """Identity → the last statement of each person about the data set of exactly that version, oldest first.

    Each says whether its person is a reviewer at this moment.
    """
    last: dict[tuple[str, str], Statement] = {}
    for some in _batches(versions):
        query = sa.select(statements).where(*_exactly(statements, some)).order_by(statements.c.seq)
        rows = connection.execute(query).all()
        held = people.roles_held(connection, {row.by_id for row in rows})
        for row in rows:
            last.pop((row.identity, row.by_id), None)
            last[row.identity, row.by_id] = Statement(
                dataset=row.dataset,
                digest=row.digest,
                comment=row.comment,
                by=row.by,
                person=row.by_id,
                at=row.at,
                seq=row.seq,
                lost=_lost(row.by, held.get(row.by_id)),
            )
    found: dict[str, tuple[Statement, ...]] = {}
    for (identity, _), statement in last.items():
        found[identity] = (*found.get(identity, ()), statement)
    return found


def _lost(by: str, held: frozenset[str] | None) -> str:
    """Why a person's statements count no longer; empty while they do."""
    return permissions.lost(by, held, permissions.ROLES_FOR[Action.STATE_DATASET])


def released(connection: Connection, versions: Iterable[ModelVersion]) -> dict[str, Released]:
    """Identity → what the promotion of exactly that version recorded; those never promoted here are left out.

    After a rollback it is still the promotion of those bytes that counts: what the rollback read was written by then
    by nobody knows whom.
    """
    counting: dict[int, str] = {}
    for some in _batches(versions):
        for identity, seq in _promoted(connection, some):
            counting[seq] = identity
    return {counting[event.seq]: released_in(event) for event in ledger.numbered(connection, counting)}


def _promoted(connection: Connection, versions: list[ModelVersion]) -> Iterator[tuple[str, int]]:
    """Identity and event of the promotion that counts for each."""
    rows = connection.execute(
        sa.select(promotions.c.identity, promotions.c.action, promotions.c.manifest_digest, promotions.c.seq)
        .where(*_exactly(promotions, versions))
        .order_by(promotions.c.seq)
    )
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.identity, []).append(row)
    for identity, history in found.items():
        bytes_now = history[-1].manifest_digest
        let_in = [row for row in history if row.action != "rollback" and row.manifest_digest == bytes_now]
        yield identity, (let_in or history)[-1].seq


def _exactly(table: sa.Table, versions: list[ModelVersion]) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        table.c.model.in_({version.ref.name for version in versions}),
        table.c.identity.in_([version.identity for version in versions]),
    )


def _batches(versions: Iterable[ModelVersion]) -> Iterator[list[ModelVersion]]:
    every = list(versions)
    for start in range(0, len(every), PER_QUERY):
        yield every[start : start + PER_QUERY]
