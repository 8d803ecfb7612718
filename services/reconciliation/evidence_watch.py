"""The metrics and data sets of champions: what their promotion recorded against what MLflow shows.

The gate compares with the record whatever is found here. Somebody who changes a champion's numbers wants something all
the same, so each change is a deviation until it is put back, adopted, or its version is no longer the champion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services import assignments, champions, logs, tables
from services.domain import ModelVersion, VersionRef
from services.errors import InvalidSettings, RegistryUnavailable
from services.evidence import Evidence, Released
from services.measurements import Measurement
from services.reconciliation import prescription
from services.reconciliation.drift import Difference
from services.reconciliation.marks import Mark
from services.record import deviations
from services.record.ledger import Event, Kind
from services.record.projections.states import ADOPTED
from services.record.projections.states import FOUND as OPEN
from services.recorded_facts import MAX_VALUES
from services.signoff import Signoff
from services.snapshot import Listing, champion_of

BATCH = 50
"""Versions settled in one transaction."""
NAMED = 10
"""Changes a deviation names."""

log = logs.seldom(__name__)


def look(signoff: Signoff, before: Mark, listing: Listing) -> list[Event]:
    """Compare the evidence of every champion promoted here with its record; returns what was found.

    Raises:
        LedgerUnavailable: the database cannot be used.
    """
    crowned = [version for version in _champions(signoff, listing) if version.ref.name not in before.busy]
    with signoff.database.reading() as connection:
        released = champions.released(connection, crowned)
        suspected = _suspected(connection)
    recorded = [version for version in crowned if version.identity in released]
    try:
        shown = signoff.reader.measured_now(recorded)
    except RegistryUnavailable as error:
        log.warning("reconciler: %s", error)
        return []
    found = {one.ref: difference(released[one.version.identity], one) for one in shown}
    others = {ref: None for ref in suspected if ref not in found and ref.name not in before.busy}
    # Without a difference there is something to settle only where one was open.
    waiting = [(ref, one) for ref, one in (found | others).items() if one or ref in suspected]
    events: list[Event] = []
    for start in range(0, len(waiting), BATCH):
        events += _settle(signoff, before, dict(waiting[start : start + BATCH]))
    return events


def difference(released: Released, shown: Evidence) -> Difference | None:
    """In what MLflow's evidence of a champion is not as recorded; None when it is."""
    if not (changes := list(_changes(released, shown))):
        return None
    words = ", ".join(changes[:NAMED])
    if len(changes) > NAMED:
        # The sum tells one long list of changes from another that begins alike.
        sums = hashlib.sha256("\n".join(changes).encode(errors="surrogatepass")).hexdigest()[:8]
        words += f" and {len(changes) - NAMED} more ({sums})"
    ref = shown.ref
    return Difference(
        kind=Kind.OUTSIDE_EVIDENCE,
        subject=f"evidence:{ref.version}",
        version=ref.version,
        prescribed=f"as record #{released.seq} has it",
        shown=words,
    )


def _champions(signoff: Signoff, listing: Listing) -> Iterator[ModelVersion]:
    judges = assignments.judges(signoff)
    for name, model in listing.models.items():
        try:
            target = judges.match(model).rules.champion
        except InvalidSettings:
            continue  # no policy judges it, so no version is compared with anything
        versions = listing.versions.get(name, ())
        if found := champion_of(model, versions, alias=target.alias, stage=target.stage):
            yield found


def _suspected(connection: Connection) -> set[VersionRef]:
    """Versions with a deviation of this kind that is not settled."""
    column = tables.deviations.c
    query = sa.select(column.model, column.version).where(
        column.state == OPEN, column.kind == Kind.OUTSIDE_EVIDENCE.value
    )
    return {VersionRef(name=row.model, version=row.version) for row in connection.execute(query)}


def _changes(released: Released, shown: Evidence) -> Iterator[str]:
    now = shown.preferring(None)
    was = replace(now, released=replace(released, source=None))  # everything that was said, as now
    if now.run_problem:
        yield now.run_problem
    for name in sorted(was.measured.keys() | now.measured.keys()):
        before, after = was.measured.get(name), now.measured.get(name)
        if after is None:
            yield f"{name} is gone"
        elif before is None:
            yield f"{name} {_numbers(after)} was added"
        elif _numbers(before) != _numbers(after):
            yield f"{name} is {_numbers(after)} instead of {_numbers(before)}"
        elif (then := _data_sets(before)) != (today := _data_sets(after)):
            yield f"{name} was measured on {today} instead of {then}"
    recorded, logged = ({f"{one.name} ({one.digest[:8]})" for one in found.holdout} for found in (was, now))
    yield from (f"data set {name} was added" for name in sorted(logged - recorded))
    yield from (f"data set {name} is gone" for name in sorted(recorded - logged))


def _numbers(found: Measurement) -> str:
    """Every value that is said, as many as an event keeps."""
    return " and ".join(sorted({repr(metric.value) for metric in found.values[:MAX_VALUES]}))


def _data_sets(found: Measurement) -> str:
    named = {
        f"{one.dataset_name} ({one.dataset_digest[:8]})" for one in found.values[:MAX_VALUES] if one.dataset_digest
    }
    return " and ".join(sorted(named)) or "no named data set"


def _settle(signoff: Signoff, before: Mark, found: Mapping[VersionRef, Difference | None]) -> list[Event]:
    events: list[Event] = []
    try:
        with signoff.database.writing() as connection:
            for ref, one in found.items():
                if not prescription.moved(connection, ref.name, after=before.seq):
                    new = [one] if one and not _adopted(connection, ref, one) else []
                    subject = f"evidence:{ref.version}"
                    events += deviations.record(connection, ref.name, new, at=signoff.now(), subject=subject)
    except IntegrityError:
        return []  # another dashboard records the same right now
    return events


def _adopted(connection: Connection, ref: VersionRef, one: Difference) -> bool:
    """Whether somebody accepted exactly this change of exactly this record."""
    column = tables.deviations.c
    query = sa.select(column.id).where(
        column.model == ref.name,
        column.subject == one.subject,
        column.state == ADOPTED,
        column.prescribed == one.prescribed,
        column.shown == one.shown,
    )
    return connection.execute(query.limit(1)).first() is not None
