"""Who may not vote on a version because they had a hand in it, and what was decided on the same bytes elsewhere.

Two versions are the same model where the digest of their files, their run or their logged model is the same. A person
who submitted, registered or trained one of them had a hand in all of them, also after the submission has ended: they
approve none, confirm or review no emergency of one, do not consent to run its code, and resolve no finding in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.accounts.people import looks_like
from services.domain import Status, VersionRef
from services.evidence import Elsewhere, Evidence, Known
from services.record.mirror import REGISTERED_BY
from services.tables import accounts, decisions, emergencies, submissions

ANSWERED_FOR = sa.or_(~submissions.c.proposal, submissions.c.taken_by_id.is_not(None))
"""Whether a person or a service stands behind a submission: an MLflow client may propose in nobody's name."""
_ENDED = {
    Status.WITHDRAWN.value: "; that was withdrawn, and still counts",
    Status.REJECTED.value: "; that was rejected, and still counts",
}


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

    A claim that changes later neither frees nor bars anybody, and neither does one that nobody answers for: anybody may
    propose.
    """
    first = connection.execute(
        sa.select(submissions.c.claimed_author)
        .where(submissions.c.run_id == candidate.version.run_id, ANSWERED_FOR)
        .order_by(submissions.c.id)
        .limit(1)
    ).one_or_none()
    return first.claimed_author if first else candidate.claimed_author


def of_candidate(connection: Connection, candidate: Evidence, author: str | None) -> Mapping[str, str]:
    """`recorded`, and who registered this version and its ``author`` (`author_of`), where no record says so yet."""
    known = Known.of(candidate)
    claims = {candidate.version.tags.get(REGISTERED_BY): "registered it"}
    if not connection.execute(sa.select(emergencies.c.seq).where(_exactly(known, emergencies)).limit(1)).scalar():
        claims[author] = "is recorded as its author"
    return {**_people(connection, claims), **recorded(connection, known)}


def recorded(connection: Connection, known: Known) -> Mapping[str, str]:
    """Who had a hand in a version → why, in words that begin with the username.

    A key is the id of a person, or a username that no account has. Everybody counts who was barred when an emergency
    was asked for.
    """
    rows = connection.execute(
        sa.select(submissions, ANSWERED_FOR.label("answered"))
        .where(same(known, submissions))
        .order_by(submissions.c.id)
    ).all()
    claims: dict[str | None, str] = {}
    found: dict[str, str] = {}
    for row in rows:
        it = _called(row, known)
        claims[row.registered_by] = f"registered {it}"
        on, ended = f"on {row.submitted_at[:10]}", _ENDED.get(row.status, "")
        if row.submitted_by_id:
            found[row.submitted_by_id] = f"{row.submitted_by} submitted {it} {on}{ended}"
        if row.taken_by_id:
            found[row.taken_by_id] = f"{row.taken_by} answered for {it} {on}{ended}"
    for row in _first_claims(rows, known):
        it = _called(row, known)
        claims[row.claimed_author] = f"is recorded as {'its author' if it == 'it' else f'the author of {it}'}"
    asked = connection.execute(sa.select(emergencies.c.own).where(_exactly(known, emergencies))).scalars()
    own = {key: why for one in asked for key, why in one.items()}
    return {**own, **_people(connection, claims), **found}


def _first_claims(rows: Iterable[Any], known: Known) -> list[Any]:
    """The first submission of the same model that somebody answers for, and the first of exactly this version.

    Later ones claim what they like of bytes that are known already: they would bar a reviewer for nothing.
    """
    answered = [row for row in rows if row.answered]
    return [*answered[:1], *[row for row in answered if _called(row, known) == "it"][:1]]


def _called(row: Any, known: Known) -> str:
    other = VersionRef(name=row.model, version=row.version)
    return "it" if other == known.ref else f"{other} (the same model)"


def _people(connection: Connection, claims: Mapping[str | None, str]) -> dict[str, str]:
    """The same by the ids of the persons whose accounts have these usernames, or names that look like them.

    Letter case and domain do not matter, on either side: MLflow says ``kim`` and the account is ``kim@example.org``, or
    the other way round. Where several accounts look like a claimed name, each of them counts.
    """
    names = {username: words for username, words in claims.items() if username}
    spelled = {spelling.lower(): name for name in names for spelling in _spellings(name)}
    alike = {looks_like(spelling): name for name in names for spelling in _spellings(name)}
    alike.pop("", None)  # nothing that can be seen looks like nobody
    column = accounts.c
    lowered = sa.func.lower(column.username)
    called = (column.username.in_(names), lowered.in_(spelled), column.looks_like.in_(alike), *_with_domain(alike))
    query = sa.select(column.username, column.looks_like, column.person, lowered.label("lowered"))
    found = []
    for row in connection.execute(query.where(sa.or_(*called))) if names else ():
        own = map(looks_like, _spellings(row.username))
        name = row.username if row.username in names else spelled.get(row.lowered)
        if name := name or next((alike[one] for one in (row.looks_like, *own) if one in alike), None):
            found.append((name, row.person))
    nobodys = names.keys() - {name for name, _ in found}
    return {key: f"{name} {names[name]}" for name, key in (*found, *((name, name) for name in nobodys))}


def _with_domain(alike: Iterable[str]) -> Iterator[sa.ColumnElement[bool]]:
    """Whether an account may be called like one of these, with a domain before or after it."""
    for skeleton in alike:
        yield sa.and_(
            accounts.c.username.contains("@", autoescape=True),
            accounts.c.looks_like.startswith(skeleton, autoescape=True),
        )
        for separator in ("\\", "/"):
            yield sa.and_(
                accounts.c.username.contains(separator, autoescape=True),
                accounts.c.looks_like.endswith(skeleton, autoescape=True),
            )


def _spellings(name: str) -> set[str]:
    """What an account may be called of which a client says this name: ``CORP\\Rita``, ``rita+ml@example.org``."""
    plain = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf").strip()
    short = re.split(r"[\\/]", plain)[-1].partition("@")[0]
    parts = (plain, plain.partition("@")[0], re.split(r"[\\/]", plain)[-1], short, short.partition("+")[0])
    return {name, *parts, *(part.casefold() for part in parts)}


def elsewhere(connection: Connection, known: Known) -> tuple[Elsewhere, ...]:
    """Rejections, and requests for changes that still stand, of the same model under another name or number."""
    ends = {"rejected", "changes_requested"}
    query = (
        sa.select(submissions.c.model, submissions.c.version, decisions)
        .join(decisions, decisions.c.submission == submissions.c.id)
        .where(same(known, submissions), ~_exactly(known, submissions))
        .where(submissions.c.status.in_(ends), decisions.c.decision == submissions.c.status)
        .order_by(decisions.c.seq.desc())
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
