"""Who may not vote on a version because they had a hand in it, and what was decided on the same bytes elsewhere.

Two versions are the same model where the digest of their files, their run or their logged model is the same. A person
who submitted, registered or trained one of them had a hand in all of them, also after the submission has ended: they
approve none, confirm or review no emergency of one, do not consent to run its code, and resolve no finding in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from services.accounts.people import looks_like
from services.domain import Status, VersionRef
from services.evidence import Elsewhere, Evidence, Known
from services.record.mirror import REGISTERED_BY
from services.tables import accounts, decisions, emergencies, submissions

NAMES_PER_QUERY = 50
"""Claimed names that accounts are looked up for in one statement; SQLite takes no condition of a thousand parts."""

_Claims: TypeAlias = dict[str | None, str]
"""A username that a client said, or none → what it says of it."""

ANSWERED_FOR = sa.or_(~submissions.c.proposal, submissions.c.taken_by_id.is_not(None))
"""Whether a person or a service stands behind a submission: an MLflow client may propose in nobody's name."""
_ENDED = {
    Status.WITHDRAWN.value: "; that was withdrawn, and still counts",
    Status.REJECTED.value: "; that was rejected, and still counts",
}


def same(known: Known, table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether a row of ``submissions`` or ``findings`` is about exactly this version, or about the same model."""
    return same_as_any([known], table)


def same_as_any(every: Collection[Known], table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether it is `same` for one of these versions; `by_version` says for which."""
    shared = {
        table.c.manifest: {known.manifest for known in every if known.manifest},
        table.c.run_id: {known.run_id for known in every if known.run_id},
        table.c.model_id: {known.model_id for known in every if known.model_id},
    }
    return sa.or_(_exactly(every, table), *(column.in_(values) for column, values in shared.items() if values))


def by_version(every: Iterable[Known], rows: Iterable[Row[Any]]) -> dict[VersionRef, list[Row[Any]]]:
    """Of each version the rows that are `same` for it, in their order."""
    found: dict[VersionRef, list[Row[Any]]] = {}
    told = defaultdict[tuple[object, ...], list[VersionRef]](list)
    for known in every:
        found[known.ref] = []
        for key in _keys(known):
            told[key].append(known.ref)
    for row in rows:
        for ref in {ref for key in _keys(Known.of_row(row)) for ref in told.get(key, ())}:
            found[ref].append(row)
    return found


def _keys(known: Known) -> Iterator[tuple[object, ...]]:
    yield ("version", known.ref, known.identity)
    for part in ("manifest", "run_id", "model_id"):
        if value := getattr(known, part):
            yield (part, value)


def _exactly(every: Collection[Known], table: sa.Table) -> sa.ColumnElement[bool]:
    """An identity names its model and number, which are asked for as well because they are indexed."""
    return sa.and_(
        table.c.model.in_({known.ref.name for known in every}),
        table.c.version.in_({known.ref.version for known in every}),
        table.c.identity.in_({known.identity for known in every}),
    )


def author_of(connection: Connection, candidate: Evidence) -> str | None:
    """`authors_of` one version."""
    return authors_of(connection, [candidate])[candidate.ref]


def authors_of(connection: Connection, every: Collection[Evidence]) -> dict[VersionRef, str | None]:
    """Who trained each, as the training client claimed when the run was first submitted; never proof.

    A claim that changes later neither frees nor bars anybody, and neither does one that nobody answers for: anybody may
    propose. A version without a run is known by itself.
    """
    runs = {one.version.run_id for one in every if one.version.run_id}
    alone = {one.version.identity for one in every if not one.version.run_id}
    of_run, of_version = submissions.c.run_id, submissions.c.identity
    own = sa.or_(of_run.in_(runs), sa.and_(of_run.is_(None), of_version.in_(alone)))
    query = sa.select(of_run, of_version, submissions.c.claimed_author).where(own, ANSWERED_FOR)
    rows = connection.execute(query.order_by(submissions.c.id.desc()))
    first = {row.run_id or row.identity: row.claimed_author for row in rows}
    return {one.ref: first.get(one.version.run_id or one.version.identity, one.claimed_author) for one in every}


def of_candidate(connection: Connection, candidate: Evidence, author: str | None) -> Mapping[str, str]:
    """`of_candidates` for one version."""
    return of_candidates(connection, [candidate], {candidate.ref: author})[candidate.ref]


def of_candidates(
    connection: Connection, every: Collection[Evidence], authors: Mapping[VersionRef, str | None]
) -> dict[VersionRef, Mapping[str, str]]:
    """`recorded`, and who registered each version and its author (`authors_of`), where no record says so yet."""
    hands = _hands(connection, [Known.of(one) for one in every])
    claims: dict[VersionRef, _Claims] = {}
    for one in every:
        claims[one.ref] = {one.version.tags.get(REGISTERED_BY): "registered it"}
        if not hands[one.ref].asked:
            claims[one.ref][authors[one.ref]] = "is recorded as its author"
    names = {name for said in (*claims.values(), *(hand.claims for hand in hands.values())) for name in said}
    known = _accounts(connection, names)
    return {ref: {**_people(known, claims[ref]), **hand.named(known)} for ref, hand in hands.items()}


def recorded(connection: Connection, known: Known) -> Mapping[str, str]:
    """Who had a hand in a version → why, in words that begin with the username.

    A key is the id of a person, or a username that no account has. Everybody counts who was barred when an emergency
    was asked for.
    """
    hand = _hands(connection, [known])[known.ref]
    return hand.named(_accounts(connection, hand.claims))


@dataclass(frozen=True, kw_only=True)
class _Hand:
    """What the record says of who had a hand in one version.

    ``people`` are ids, ``claims`` usernames that clients said, ``asked`` the ``own`` of each emergency asked for.
    """

    people: Mapping[str, str]
    claims: _Claims
    asked: list[Mapping[str, str]]

    def named(self, accounts_: list[_Account]) -> dict[str, str]:
        """All of it by id, or by username where no account has it."""
        own = {key: why for one in self.asked for key, why in one.items()}
        return {**own, **_people(accounts_, self.claims), **self.people}


def _hands(connection: Connection, every: Collection[Known]) -> dict[VersionRef, _Hand]:
    query = sa.select(submissions, ANSWERED_FOR.label("answered")).where(same_as_any(every, submissions))
    rows = by_version(every, connection.execute(query.order_by(submissions.c.id)).all())
    column = emergencies.c
    wanted = sa.select(column.model, column.version, column.identity, column.own).where(_exactly(every, emergencies))
    asked = defaultdict[tuple[VersionRef, str], list[Mapping[str, str]]](list)
    for row in connection.execute(wanted):
        asked[VersionRef(name=row.model, version=row.version), row.identity].append(row.own)
    return {known.ref: _hand(known, rows[known.ref], asked[known.ref, known.identity]) for known in every}


def _hand(known: Known, rows: list[Row[Any]], asked: list[Mapping[str, str]]) -> _Hand:
    claims: _Claims = {}
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
    return _Hand(people=found, claims=claims, asked=asked)


def _first_claims(rows: Iterable[Any], known: Known) -> list[Any]:
    """The first submission of the same model that somebody answers for, and the first of exactly this version.

    Later ones claim what they like of bytes that are known already: they would bar a reviewer for nothing.
    """
    answered = [row for row in rows if row.answered]
    return [*answered[:1], *[row for row in answered if _called(row, known) == "it"][:1]]


def _called(row: Any, known: Known) -> str:
    other = VersionRef(name=row.model, version=row.version)
    return "it" if other == known.ref else f"{other} (the same model)"


@dataclass(frozen=True, kw_only=True)
class _Account:
    """An account that may be called like a name that a client said; ``own`` is how it may be spelled."""

    username: str
    person: str
    lowered: str
    looks_like: str
    own: tuple[str, ...]


def _accounts(connection: Connection, names: Iterable[str | None]) -> list[_Account]:
    """Those that any of these names may mean, and how each is called."""
    wanted = sorted({name for name in names if name})
    found: dict[str, _Account] = {}
    for start in range(0, len(wanted), NAMES_PER_QUERY):
        for row in connection.execute(_called_like(wanted[start : start + NAMES_PER_QUERY])):
            split = any(mark in row.username for mark in "@\\/")
            own = tuple(map(looks_like, _spellings(row.username))) if split else ()
            found[row.username] = _Account(**row._mapping, own=own)
    return list(found.values())


def _called_like(names: Collection[str]) -> sa.Select[Any]:
    column = accounts.c
    lowered = sa.func.lower(column.username)
    spelled = {spelling.lower() for name in names for spelling in _spellings(name)}
    alike = {looks_like(spelling) for name in names for spelling in _spellings(name)} - {""}
    called = (column.username.in_(names), lowered.in_(spelled), column.looks_like.in_(alike), *_with_domain(alike))
    query = sa.select(column.username, column.looks_like, column.person, lowered.label("lowered"))
    return query.where(sa.or_(*called)).order_by(column.username)


def _people(known: Iterable[_Account], claims: _Claims) -> dict[str, str]:
    """The same by the ids of the persons whose accounts have these usernames, or names that look like them.

    Letter case and domain do not matter, on either side: MLflow says ``kim`` and the account is ``kim@example.org``, or
    the other way round. Where several accounts look like a claimed name, each of them counts.
    """
    names = {username: words for username, words in claims.items() if username}
    spelled = {spelling.lower(): name for name in names for spelling in _spellings(name)}
    alike = {looks_like(spelling): name for name in names for spelling in _spellings(name)}
    alike.pop("", None)  # nothing that can be seen looks like nobody
    found = []
    for one in known:
        name = one.username if one.username in names else spelled.get(one.lowered)
        if name := name or next((alike[like] for like in (one.looks_like, *one.own) if like in alike), None):
            found.append((name, one.person))
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


def elsewhere(connection: Connection, every: Collection[Known]) -> dict[VersionRef, tuple[Elsewhere, ...]]:
    """Rejections, and requests for changes that still stand, of the same model under another name or number."""
    ends, column = {"rejected", "changes_requested"}, submissions.c
    query = (
        sa.select(column.model, column.version, column.identity, column.manifest, column.run_id, column.model_id)
        .add_columns(decisions)
        .join(decisions, decisions.c.submission == submissions.c.id)
        .where(same_as_any(every, submissions))
        .where(column.status.in_(ends), decisions.c.decision == column.status)
        .order_by(decisions.c.seq.desc())
    )
    rows = by_version(every, connection.execute(query).all())
    return {
        known.ref: tuple(
            Elsewhere(
                ref=VersionRef(name=row.model, version=row.version),
                decision=row.decision,
                person=row.person,
                at=row.at,
                comment=row.comment,
            )
            for row in rows[known.ref]
            if (row.model, row.version, row.identity) != (known.ref.name, known.ref.version, known.identity)
        )
        for known in every
    }
