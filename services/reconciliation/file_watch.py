"""The files of what is submitted, approved or in Production: names and sizes each pass, bytes in turn.

A same-size swap shows only in the bytes, and reading those costs: each pass reads some, those read longest ago first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services import logs
from services.domain import ModelVersion, Stage, VersionRef
from services.errors import FilesUnreadable, NotFound, RegistryUnavailable, UnreadableModel
from services.evidence import Manifest
from services.facts import OPEN
from services.place import Place, may_move
from services.policy import PolicyBook
from services.reconciliation import prescription
from services.reconciliation.drift import Difference
from services.reconciliation.marks import Mark
from services.record import deviations, ledger
from services.record.ledger import Event, Kind
from services.signoff import Signoff
from services.snapshot import Listing
from services.tables import known_files, submissions

LISTINGS_PER_PASS = 200
"""Versions whose files are listed in one pass; of more protected ones, those listed longest ago."""
BYTES_PER_PASS = 64_000_000
HASHES_PER_PASS = 4
"""Versions whose bytes are read in one pass; at least one is, however large."""
BATCH = 50
"""Versions settled in one transaction."""
PER_QUERY = 500
NAMED = 10
"""Files a deviation names."""
_UNREADABLE = "unreadable"

log = logs.seldom(__name__)

_Files = tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """A row of ``known_files``: what is prescribed, and the digest the bytes had when they were last read."""

    identity: str
    listing: _Files
    digest: str | None
    seq: int
    hashed: str | None = None
    hashed_at: float = 0.0
    listed_at: float = 0.0


@dataclass(kw_only=True)
class _Look:
    """One protected version in one pass. ``shown`` is None when MLflow no longer has its files, or nobody here can
    read them: ``unreadable`` then says why."""

    version: ModelVersion
    kept: _Kept | None
    shown: _Files | None = None
    unreadable: str = ""
    place: Place | None = None
    """Where its source leads now, looked up only where that can change."""
    hashed: str | None = None

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return sum(size for _, size in self.shown or ())


def look(signoff: Signoff, before: Mark, listing: Listing) -> list[Event]:
    """Compare the files of protected versions with what the record prescribes; returns what was found.

    Raises:
        LedgerUnavailable: the database cannot be used.
    """
    protected = [v for v in _protected(signoff, listing) if v.ref.name not in before.busy]
    kept = _kept(signoff, protected)
    looks = [_Look(version=version, kept=kept.get(version.ref)) for version in protected]
    looks.sort(key=lambda one: (one.kept.listed_at if one.kept else 0.0, one.version.ref))
    looks = _listed(signoff, looks[:LISTINGS_PER_PASS])
    _hash_some(signoff, looks)
    found: list[Event] = []
    for start in range(0, len(looks), BATCH):
        found += _settle(signoff, before, looks[start : start + BATCH])
    return found


def adopted(connection: Connection, ref: VersionRef, identity: str, manifest: Manifest, *, seq: int, at: float) -> None:
    """From event ``seq`` on these are the files that are prescribed."""
    kept = _Kept(
        identity=identity,
        listing=tuple((file.path, file.size) for file in manifest.files),
        digest=manifest.digest,
        seq=seq,
        hashed=manifest.digest,
        hashed_at=at,
        listed_at=at,
    )
    _save(connection, ref, kept)


def _protected(signoff: Signoff, listing: Listing) -> list[ModelVersion]:
    stages, aliases = _champions(signoff.policies)
    with signoff.database.reading() as connection:
        query = sa.select(submissions.c.identity).where(submissions.c.status.in_(OPEN))
        submitted = set(connection.execute(query).scalars())
    found = []
    for name, versions in listing.versions.items():
        model = listing.models.get(name)
        pointed = {n for alias, n in model.aliases.items() if alias.casefold() in aliases} if model else set()
        found += [
            version
            for version in versions
            if version.stage in stages or version.ref.version in pointed or version.identity in submitted
        ]
    return found


def _champions(policies: PolicyBook) -> tuple[frozenset[str], frozenset[str]]:
    targets = [policy.rules.champion for policy in policies.policies]
    return (
        frozenset({Stage.PRODUCTION.value, *(t.stage.value for t in targets)} - {Stage.NONE.value}),
        frozenset(target.alias.casefold() for target in targets),
    )


def _kept(signoff: Signoff, versions: Iterable[ModelVersion]) -> dict[VersionRef, _Kept]:
    wanted = {version.ref: version.identity for version in versions}
    keys, primary = [(ref.name, ref.version) for ref in wanted], sa.tuple_(known_files.c.model, known_files.c.version)
    found = dict[VersionRef, _Kept]()
    with signoff.database.reading() as connection:
        for start in range(0, len(keys), PER_QUERY):
            query = sa.select(known_files).where(primary.in_(keys[start : start + PER_QUERY]))
            found |= {VersionRef(name=row.model, version=row.version): _from(row) for row in connection.execute(query)}
    return {ref: kept for ref, kept in found.items() if wanted[ref] == kept.identity}


def _listed(signoff: Signoff, looks: list[_Look]) -> list[_Look]:
    """Those whose files could be listed."""
    found = []
    for one in looks:
        try:
            one.shown = _files(signoff, one.version.ref)
            if may_move(one.version):
                one.place = signoff.registry.place(one.version)
        except NotFound:
            one.shown = None
        except FilesUnreadable as error:
            one.shown, one.unreadable = None, str(error)
        except RegistryUnavailable as error:
            log.warning("reconciler: %s", error)
            continue
        found.append(one)
    return found


def _files(signoff: Signoff, ref: VersionRef) -> _Files:
    return tuple(sorted((entry.path, entry.size) for entry in signoff.registry.listing(ref)))


def _hash_some(signoff: Signoff, looks: Iterable[_Look]) -> None:
    """Read the bytes of those read longest ago, within the budget; what changed in name or size is found already."""
    due = [one for one in looks if one.shown and (one.kept is None or one.kept.listing == one.shown)]
    due.sort(key=lambda one: (one.kept.hashed_at if one.kept else 0.0, one.version.ref))
    spent = 0
    for count, one in enumerate(due):
        if count and (count >= HASHES_PER_PASS or spent + one.size > BYTES_PER_PASS):
            return
        spent += one.size
        try:
            one.hashed = signoff.registry.manifest(one.version.ref).digest
        except UnreadableModel:
            one.hashed = _UNREADABLE
        except (NotFound, FilesUnreadable, RegistryUnavailable) as error:
            log.warning("reconciler: %s", error)


def _settle(signoff: Signoff, before: Mark, looks: Iterable[_Look]) -> list[Event]:
    found: list[Event] = []
    try:
        with signoff.database.writing() as connection:
            for one in looks:
                if not prescription.moved(connection, one.version.ref.name, after=before.seq):
                    found += _compare(connection, one, before, signoff.now())
    except IntegrityError:
        return []  # another dashboard records the same right now
    return found


def _compare(connection: Connection, one: _Look, before: Mark, at: datetime) -> list[Event]:
    ref, kept = one.version.ref, _expected(connection, one, before)
    if kept is None:
        return []
    if one.hashed:
        first = kept.digest is None and one.hashed != _UNREADABLE
        digest = one.hashed if first else kept.digest
        kept = replace(kept, digest=digest, hashed=one.hashed, hashed_at=at.timestamp())
    if one.shown != kept.listing:
        kept = replace(kept, hashed_at=0.0)  # should they come back, their bytes are read first of all
    _save(connection, ref, replace(kept, listed_at=at.timestamp()))
    found = _differences(ref, kept, one, _judged(connection, ref, kept))
    return deviations.record(connection, ref.name, found, at=at, subject=f"files:{ref.version}")


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """Where the files lay when they were prescribed, and how many bytes they had; None where no record says so."""

    place: Place | None = None
    size: int | None = None


def _judged(connection: Connection, ref: VersionRef, kept: _Kept) -> _Judged:
    event = ledger.event(connection, kept.seq)
    if event is None or event.ref != ref:
        return _Judged()
    place = event.get("place")
    size = event.get("manifest_size") if event.get("manifest_digest") == kept.digest else None
    return _Judged(place=Place.from_json(place) if place else None, size=size)


def _expected(connection: Connection, one: _Look, before: Mark) -> _Kept | None:
    """What is prescribed for the version; on first sight, names and sizes as they are. None: there is nothing yet."""
    kept, named = one.kept, prescription.bytes_of(connection, one.version.ref, one.version.identity)
    if kept is None:
        if one.shown is None:
            return None
        digest, seq = named or (None, before.seq)
        return _Kept(identity=one.version.identity, listing=one.shown, digest=digest, seq=seq)
    if named is None or named[1] <= kept.seq:
        return kept
    if named[0] == kept.digest or one.shown is None:
        return replace(kept, digest=named[0], seq=named[1])
    # Submitted or approved anew, with other files: those are prescribed now, and their bytes are read first of all.
    return replace(kept, listing=one.shown, digest=named[0], seq=named[1], hashed=None, hashed_at=0.0)


def _differences(ref: VersionRef, kept: _Kept, one: _Look, judged: _Judged) -> list[Difference]:
    shown = one.shown
    if shown is None:
        words = one.unreadable.rstrip(".") or "MLflow no longer has any"
    elif one.place and judged.place and one.place.folder != judged.place.folder:
        now = " and from ".join((one.place.words, *one.place.others))
        words = f"MLflow reads them from {now}, and they were judged as {judged.place.words}"
    elif shown != kept.listing:
        words = _changes(kept.listing, shown)
    elif kept.hashed and kept.hashed != kept.digest:
        words = (
            "its MLmodel file makes no sense any more"
            if kept.hashed == _UNREADABLE
            else f"{_other_bytes(judged.size, one.size)}, manifest {kept.hashed[:12]}"
        )
    else:
        return []
    prescribed = f"{len(kept.listing)} files, manifest {kept.digest[:12] if kept.digest else 'not read yet'}"
    return [
        Difference(
            kind=Kind.OUTSIDE_FILES,
            subject=f"files:{ref.version}",
            version=ref.version,
            prescribed=prescribed,
            shown=words,
        )
    ]


def _other_bytes(was: int | None, now: int) -> str:
    """Names and sizes are as they were first listed, which can have been after they were judged."""
    if was is None:
        return "other bytes than were judged"
    return "other bytes of the same size" if was == now else f"{now} bytes instead of {was}"


def _changes(was: _Files, now: _Files) -> str:
    before, after = dict(was), dict(now)
    words = [
        *(f"{path} was added" for path in after if path not in before),
        *(f"{path} was removed" for path in before if path not in after),
        *(f"{path} has {after[path]} bytes instead of {n}" for path, n in was if path in after and after[path] != n),
    ]
    if len(words) <= NAMED:
        return ", ".join(words)
    # The sum tells one long list of changes from another that begins alike.
    sums = hashlib.sha256(json.dumps(now).encode()).hexdigest()[:8]
    return f"{', '.join(words[:NAMED])} and {len(words) - NAMED} more (listing {sums})"


def _save(connection: Connection, ref: VersionRef, kept: _Kept) -> None:
    values = {
        "identity": kept.identity,
        "listing": [list(entry) for entry in kept.listing],
        "digest": kept.digest,
        "seq": kept.seq,
        "hashed": kept.hashed,
        "hashed_at": kept.hashed_at,
        "listed_at": kept.listed_at,
    }
    where = (known_files.c.model == ref.name, known_files.c.version == ref.version)
    if connection.execute(known_files.update().where(*where).values(**values)).rowcount == 0:
        connection.execute(known_files.insert().values(model=ref.name, version=ref.version, **values))


def _from(row: Any) -> _Kept:
    return _Kept(
        identity=row.identity,
        listing=tuple((path, size) for path, size in row.listing),
        digest=row.digest,
        seq=row.seq,
        hashed=row.hashed,
        hashed_at=row.hashed_at,
        listed_at=row.listed_at,
    )
