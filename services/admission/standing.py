"""Where the versions of a model stand in the ledger: free, with a record, or submitted."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import assignments
from services.admission.outside import Scene, Standing
from services.bars import ANSWERED_FOR
from services.domain import ModelVersion, RegisteredModel
from services.facts import OPEN
from services.signoff import Signoff
from services.tables import decisions, promotions, submissions


def scene(signoff: Signoff, model: RegisteredModel, versions: Iterable[ModelVersion]) -> Scene:
    """A model as given, with its policy and what the ledger knows of exactly these versions; asks MLflow nothing.

    Raises:
        InvalidSettings: no policy, or more than one, judges this model.
        LedgerUnavailable: the database cannot be read.
    """
    found = tuple(versions)
    return Scene(
        policy=assignments.judging(signoff, model),
        model=model,
        versions={version.ref.version: version for version in found},
        standings=standings(signoff, model.name, found),
    )


def standings(signoff: Signoff, name: str, versions: Iterable[ModelVersion]) -> dict[int, Standing]:
    """The standing of each version; records of an earlier version of the same number do not count."""
    with signoff.database.reading() as connection:
        rows = connection.execute(
            sa.select(submissions.c.identity, submissions.c.status).where(submissions.c.model == name)
        ).all()
        released = connection.execute(sa.select(promotions.c.identity).where(promotions.c.model == name)).scalars()
        recorded = {row.identity for row in rows} | set(released)
    submitted = {row.identity for row in rows if row.status in OPEN}
    return {
        version.ref.version: Standing.SUBMITTED if version.identity in submitted else Standing.RECORDED
        for version in versions
        if version.identity in recorded
    }


def promoted(signoff: Signoff, name: str) -> frozenset[str]:
    """The identities of all versions of a model that ever were promoted, by whatever verb."""
    with signoff.database.reading() as connection:
        return _promoted(connection, name)


def kept(connection: Connection, name: str) -> frozenset[str]:
    """The identities of the versions of a model that have a record of more than what MLflow clients proposed.

    That is a release, a submission that somebody answers for, or a proposal that a person decided on.
    """
    decided = sa.exists().where(decisions.c.submission == submissions.c.id)
    query = sa.select(submissions.c.identity).where(submissions.c.model == name, sa.or_(ANSWERED_FOR, decided))
    return _promoted(connection, name) | frozenset(connection.execute(query).scalars())


def _promoted(connection: Connection, name: str) -> frozenset[str]:
    query = sa.select(promotions.c.identity).where(promotions.c.model == name).distinct()
    return frozenset(connection.execute(query).scalars())


def answered_for(signoff: Signoff, name: str) -> frozenset[str]:
    """The identities of the versions of a model with an open submission that a person or a service answers for."""
    query = sa.select(submissions.c.identity).where(
        submissions.c.model == name, submissions.c.status.in_(OPEN), ANSWERED_FOR
    )
    with signoff.database.reading() as connection:
        return frozenset(connection.execute(query).scalars())
