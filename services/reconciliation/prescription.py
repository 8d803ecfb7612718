"""What the record prescribes for each registered model: what was last known, brought up to date by the ledger."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import tables
from services.domain import Stage, VersionRef
from services.evidence import Binding, digest
from services.reconciliation.drift import Seen, SeenVersion
from services.record import ledger, mirror
from services.record.ledger import Kind
from services.tables import events, known_models

_ALONE = frozenset({Kind.PROMOTION_CONFIRMED, Kind.ROLLBACK_CONFIRMED, Kind.EMERGENCY_CONFIRMED})
"""What puts a version into the champion's stage, and leaves nothing else there."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a model is to look like. ``seq``: events of the model up to here are in it.

    ``recorded``: the versions that have a record, each with a digest of the tags it prescribes.
    """

    seen: Seen
    recorded: Mapping[int, str] = field(default_factory=dict)
    seq: int = 0


def peek(connection: Connection, name: str) -> Known | None:
    """`load` without a lock."""
    row = connection.execute(sa.select(known_models).where(known_models.c.model == name)).one_or_none()
    return parsed(connection, row) if row is not None else None


def load(connection: Connection, name: str, seen: Seen | None = None) -> Known | None:
    """What is known of a model, locked until the transaction ends; None when it was never seen at rest.

    Args:
        seen: what MLflow shows of it. Of this nothing is known where somebody else wrote the row: then events alone
            say what is prescribed.
    """
    row = connection.execute(
        sa.select(known_models).where(known_models.c.model == name).with_for_update()
    ).one_or_none()
    return parsed(connection, row, seen) if row is not None else None


def parsed(connection: Connection, row: Any, seen: Seen | None = None) -> Known | None:
    """A row of ``known_models``; None when it holds no state yet. ``seen``: see `load`."""
    if not genuine(connection, row) or row.digest != ("" if row.state is None else _sha256(row.state)):
        log.warning("Table known_models, row %s: Signoff did not write it, so nothing of it counts.", row.model)
        return Known(seen=seen.blank if seen else Seen(created=0))
    if row.state is None:
        return None
    recorded = {int(number): digest for number, digest in row.recorded.items()}
    return Known(seen=Seen.parse(row.state), recorded=recorded, seq=row.seq)


def genuine(connection: Connection, row: Any) -> bool:
    """Whether Signoff wrote a row of ``known_models``; whether its state has the digest that it names is not asked."""
    return ledger.sealed(connection, _fingerprint(row._mapping), row.mac)


def save(connection: Connection, name: str, known: Known) -> None:
    """Keep what is known of a model."""
    values = as_row(connection, name, known)
    updated = connection.execute(known_models.update().where(known_models.c.model == name).values(**values))
    if updated.rowcount == 0:
        connection.execute(known_models.insert().values(**values))


def as_row(connection: Connection, name: str, known: Known | None) -> dict[str, Any]:
    """The values of a row of ``known_models``; None: of a model that is there and was never seen at rest."""
    row = {
        "model": name,
        "state": known.seen.text if known else None,
        "recorded": {str(number): digest for number, digest in sorted(known.recorded.items())} if known else {},
        "digest": known.seen.digest if known else "",
        "seq": known.seq if known else 0,
    }
    return {**row, "mac": ledger.seal(connection, _fingerprint(row))}


def _fingerprint(row: Mapping[str, Any]) -> str:
    return digest({"table": "known_models", **{name: row[name] for name in ("model", "recorded", "digest", "seq")}})


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def forget(connection: Connection, name: str) -> None:
    """Nothing is prescribed for this name any more."""
    connection.execute(known_models.delete().where(known_models.c.model == name))


def brought_up(connection: Connection, name: str, known: Known, seen: Seen | None, *, seq: int) -> Known:
    """``known`` with everything that was done through Signoff since, up to event ``seq``.

    A confirmed change prescribes what it left behind; an aborted one prescribes nothing. What became the champion is
    alone in its stage from then on, wherever MLflow showed the others at that moment. Events about an earlier version
    of a number that was given out again are passed over.
    """
    bodies = list(_bodies(connection, name, after=known.seq))
    if not bodies:
        return replace(known, seq=max(seq, known.seq))
    state, recorded = _mirrored(connection, name, _after(known.seen, name, bodies, seen), known.recorded)
    return Known(seen=state, recorded=recorded, seq=seq)


def trusting(connection: Connection, name: str, known: Known, seen: Seen) -> Known:
    """``known`` with the tag ``signoff.event`` MLflow shows, wherever it names a true event of that version.

    Not every event is mirrored at once, so an earlier one is no sign of anybody's doing; a forged one is.
    """
    state = known.seen
    for number in known.recorded & seen.versions.keys() & state.versions.keys():
        was, now = state.versions[number], seen.versions[number]
        shown = now.tags.get("signoff.event", "")
        if was.id == now.id and shown != was.tags.get("signoff.event") and _true_event(connection, name, number, shown):
            version = replace(was, tags={**was.tags, "signoff.event": shown})
            state = replace(state, versions={**state.versions, number: version})
    return replace(known, seen=state)


def models_with_events(connection: Connection, *, after: int) -> dict[str, int]:
    """Models something happened to after an event, with the last one's number; refusals and deviations are nothing."""
    query = (
        sa.select(events.c.model, sa.func.max(events.c.seq))
        .where(events.c.model.is_not(None), events.c.seq > after, *_of_ours())
        .group_by(events.c.model)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def moved(connection: Connection, name: str, *, after: int) -> bool:
    """Whether anything was done to a model through Signoff after an event: what was read before is then old."""
    query = sa.select(events.c.seq).where(events.c.model == name, events.c.seq > after, *_of_ours()).limit(1)
    return connection.execute(query).first() is not None


Told: TypeAlias = tuple[int, str] | None
"""A version as its number and id, or None."""


def champion(connection: Connection, name: str, *, alias: str, stage: str) -> tuple[bool, Told, Told]:
    """Whether anything is prescribed for a model, which version is to be its champion, and the newest in its stage."""
    known = peek(connection, name)
    if known is None:
        return False, None, None
    state = _after(known.seen, name, _bodies(connection, name, after=known.seq), None)
    number = reigning(state, alias=alias, stage=stage)
    which = (number, _staged(state, stage))
    champion_, staged = (None if one is None else (one, state.versions[one].id) for one in which)
    return True, champion_, staged


def reigning(state: Seen, *, alias: str, stage: str) -> int | None:
    """The champion of a model in that state: the version its alias points at, else the newest one in its stage."""
    number = state.aliases.get(alias)
    return number if number in state.versions else _staged(state, stage)


def _staged(state: Seen, stage: str) -> int | None:
    """The newest version in a stage that says anything."""
    return max((n for n, version in state.versions.items() if version.stage == stage != Stage.NONE), default=None)


def bytes_of(connection: Connection, ref: VersionRef, identity: str) -> tuple[str, int] | None:
    """The manifest digest that the newest submission, vote or release of a version names, and that record's number."""
    one = tables.submissions.c
    submission = connection.execute(
        sa.select(tables.submissions)
        .where(one.model == ref.name, one.version == ref.version, one.identity == identity)
        .order_by(one.id.desc())
        .limit(1)
    ).one_or_none()
    votes = (
        connection.execute(sa.select(tables.decisions).where(tables.decisions.c.submission == submission.id)).all()
        if submission
        else []
    )
    two = tables.promotions.c
    release = connection.execute(
        sa.select(two.manifest_digest, two.seq)
        .where(two.model == ref.name, two.version == ref.version, two.identity == identity)
        .order_by(two.seq.desc())
        .limit(1)
    ).one_or_none()
    named = [(Binding.from_json(row.binding).files, row.seq) for row in (*([submission] if submission else []), *votes)]
    if release:
        named.append((release.manifest_digest, release.seq))
    return max(((digest, seq) for digest, seq in named if digest), key=lambda item: item[1], default=None)


def _of_ours() -> tuple[sa.ColumnElement[bool], ...]:
    return (events.c.kind.not_like("%:refused"), events.c.kind.not_like("outside:%"))


def _bodies(connection: Connection, name: str, *, after: int) -> Iterator[Mapping[str, Any]]:
    for event in ledger.chosen(connection, events.c.model == name, events.c.seq > after, *_of_ours()):
        yield event.body


def _after(state: Seen, name: str, bodies: Iterable[Mapping[str, Any]], seen: Seen | None) -> Seen:
    """The state with all confirmed changes of stages and aliases among these events."""
    for body in bodies:
        if body["kind"].endswith(":confirmed") and body["details"].get("after"):
            state = _applied(state, name, body, seen)
    return state


def _applied(state: Seen, name: str, body: Mapping[str, Any], seen: Seen | None) -> Seen:
    number, after, identity = body["version"], body["details"]["after"], body["details"].get("identity")
    id_ = identity.removeprefix(f"{name}:{number}:") if identity else _id(number, state, seen)
    if id_ is None or (seen and number in seen.versions and seen.versions[number].id != id_):
        return state
    versions = dict(state.versions)
    for text, stage in after["stages"].items():
        which = int(text)
        own = id_ if which == number else _id(which, state, seen)
        if own is not None:
            was = versions.get(which)
            versions[which] = replace(was if was and was.id == own else SeenVersion(id=own), stage=stage)
    if body["kind"] in _ALONE:
        versions = {n: _beside(n == number, version, versions[number].stage) for n, version in versions.items()}
    aliases = {**state.aliases, **after["aliases"]}
    return replace(
        state, versions=versions, aliases={alias: version for alias, version in aliases.items() if version is not None}
    )


def _beside(champion: bool, version: SeenVersion, stage: str) -> SeenVersion:
    return replace(version, stage=Stage.ARCHIVED.value) if version.stage == stage and not champion else version


def _id(number: int, state: Seen, seen: Seen | None) -> str | None:
    for known in (state, seen):
        if known and number in known.versions:
            return known.versions[number].id
    return None


def _mirrored(
    connection: Connection, name: str, state: Seen, before: Mapping[int, str]
) -> tuple[Seen, Mapping[int, str]]:
    """The tags as the record prescribes them, on every version whose record says something new.

    Where it does not, what was adopted meanwhile stays.
    """
    versions, recorded = dict(state.versions), {}
    for number in list(_with_record(connection, name, state.versions.items())):
        ref = VersionRef(name=name, version=number)
        tags = mirror.prescribed(connection, ref, f"{name}:{number}:{versions[number].id}")
        recorded[number] = digest({key: value for key, value in tags.items() if key != "signoff.event"})
        if recorded[number] != before.get(number):
            versions[number] = replace(versions[number], tags=tags)
    return replace(state, versions=versions), recorded


def _with_record(connection: Connection, name: str, known: Iterable[tuple[int, SeenVersion]]) -> Iterator[int]:
    identities: set[str] = set()
    for table in (tables.submissions, tables.promotions):
        identities |= set(connection.execute(sa.select(table.c.identity).where(table.c.model == name)).scalars())
    for number, version in known:
        if f"{name}:{number}:{version.id}" in identities:
            yield number


def _true_event(connection: Connection, name: str, number: int, shown: str) -> bool:
    seq, _, fingerprint = shown.partition(":")
    if not (seq.isascii() and seq.isdigit() and len(seq) <= 18):
        return False
    query = sa.select(events.c.seq).where(
        events.c.seq == int(seq), events.c.hash == fingerprint, events.c.model == name, events.c.version == number
    )
    return connection.execute(query).first() is not None
