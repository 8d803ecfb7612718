"""Who may not vote on a version because they had a hand in it, and what was decided on the same bytes elsewhere.

Two versions are the same model where the digest of their files, their run or their logged model is the same. A person
who submitted, registered or trained one of them had a hand in all of them, also after the submission has ended.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.domain import VersionRef
from services.evidence import Elsewhere, Evidence, Known
from services.tables import accounts, decisions, submissions

REGISTERED_BY = "signoff.registered_by"
"""The tag in which the hook keeps whom MLflow authenticated when a version was made."""
MAX_ELSEWHERE = 20
"""Decisions on the same bytes that are told of, the newest ones."""


def same(known: Known, table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether a row of ``submissions`` or ``findings`` is about exactly this version, or about the same model."""
    values = {table.c.manifest: known.manifest, table.c.run_id: known.run_id, table.c.model_id: known.model_id}
    return sa.or_(_exactly(known, table), *(column == value for column, value in values.items() if value))


def _exactly(known: Known, table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(
        table.c.model == known.ref.name,
        table.c.version == known.ref.version,
        table.c.identity == known.identity,
    )


def author_of(connection: Connection, candidate: Evidence) -> str | None:
    """Who trained it, as the training client claimed when the run was first submitted; never proof.

    A claim that changes later neither frees nor bars anybody.
    """
    first = connection.execute(
        sa.select(submissions.c.claimed_author)
        .where(submissions.c.run_id == candidate.version.run_id)
        .order_by(submissions.c.id)
        .limit(1)
    ).one_or_none()
    return first.claimed_author if first else candidate.claimed_author


def of_candidate(connection: Connection, candidate: Evidence) -> Mapping[str, str]:
    """`recorded`, and who trained and registered this version where nobody has submitted it yet."""
    claims = {
        author_of(connection, candidate): f"trained {candidate.ref}",
        candidate.version.tags.get(REGISTERED_BY): f"registered {candidate.ref}",
    }
    found = recorded(connection, Known.of(candidate))
    return {**found, **_people(connection, claims, besides=found)}


def recorded(connection: Connection, known: Known) -> Mapping[str, str]:
    """Id of each person who had a hand in a version → what that was, in words that follow a username."""
    query = sa.select(
        submissions.c.model,
        submissions.c.version,
        submissions.c.submitted_by_id,
        submissions.c.taken_by_id,
        submissions.c.claimed_author,
        submissions.c.registered_by,
    )
    found: dict[str, str] = {}
    claims: dict[str | None, str] = {}
    for row in connection.execute(query.where(same(known, submissions)).distinct()):
        other = VersionRef(name=row.model, version=row.version)
        called = str(other) if other == known.ref else f"{other}, which is the same model"
        found |= {person: f"submitted {called}" for person in (row.submitted_by_id, row.taken_by_id) if person}
        claims |= {row.registered_by: f"registered {called}", row.claimed_author: f"trained {called}"}
    return {**found, **_people(connection, claims, besides=found)}


def _people(
    connection: Connection, claims: Mapping[str | None, str], *, besides: Mapping[str, str]
) -> Mapping[str, str]:
    """The persons whose accounts have these usernames, but for those in ``besides``."""
    names = {username: words for username, words in claims.items() if username}
    if not names:
        return {}
    query = sa.select(accounts.c.person, accounts.c.username).where(accounts.c.username.in_(names))
    return {row.person: names[row.username] for row in connection.execute(query) if row.person not in besides}


def elsewhere(connection: Connection, known: Known) -> tuple[Elsewhere, ...]:
    """Rejections, and requests for changes that still stand, of the same model under another name or number."""
    ends = {"rejected", "changes_requested"}
    query = (
        sa.select(submissions.c.model, submissions.c.version, decisions)
        .join(decisions, decisions.c.submission == submissions.c.id)
        .where(same(known, submissions), ~_exactly(known, submissions))
        .where(submissions.c.status.in_(ends), decisions.c.decision == submissions.c.status)
        .order_by(decisions.c.seq.desc())
        .limit(MAX_ELSEWHERE)
    )
    return tuple(
        Elsewhere(
            ref=VersionRef(name=row.model, version=row.version),
            decision=row.decision,
            person=row.person,
            at=row.at,
            comment=row.comment,
        )
        for row in connection.execute(query)
    )
