"""Finds what was changed in MLflow past Signoff: every registered model against what the record prescribes for it.

A pass costs the listing of the registry that pages need anyway, and a few calls for protected files. What it saw of a
model is discarded when anything was done to that model through Signoff since the pass began; refusals, which change
nothing, do not count, or a loop of them could keep the reconciler blind.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services import assignments
from services.errors import BadInput, NotFound, SignoffError
from services.evidence import digest
from services.reconciliation import drift, evidence_watch, file_watch, prescription
from services.reconciliation.drift import Seen
from services.reconciliation.marks import Mark, mark
from services.reconciliation.prescription import Known
from services.reconciliation.redress import adopt, restore
from services.record import deviations, ledger
from services.record.deviations import RECONCILER
from services.record.ledger import Entry, Event, Kind
from services.signoff import Signoff
from services.snapshot import Listing
from services.tables import known_models, reconciled

BATCH = 100
"""Models settled in one transaction."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one pass found. ``discarded``: models that were changed through Signoff while they were looked at."""

    models: int
    events: tuple[Event, ...] = ()
    skipped: frozenset[str] = frozenset()
    discarded: frozenset[str] = frozenset()
    baseline: bool = False


def reconcile(signoff: Signoff) -> Report:
    """One pass, now.

    Raises:
        RegistryUnavailable: MLflow did not answer; nothing was found or recorded.
        LedgerUnavailable: the database cannot be used.
    """
    before = mark(signoff)
    return settle(signoff, before, signoff.snapshot.refresh())


class Reconciler:
    """Takes part in the snapshot's full passes, and settles the newest one whenever it is asked to."""

    def __init__(self, signoff: Signoff) -> None:
        self._signoff = signoff
        self._newest: tuple[Mark, Listing] | None = None
        self._lock = threading.Lock()
        signoff.snapshot.watch(self._begin)

    def _begin(self) -> Callable[[Listing], None]:
        before = mark(self._signoff)

        def seen(listing: Listing) -> None:
            with self._lock:
                self._newest = (before, listing)

        return seen

    def settle(self) -> Report | None:
        """Settle the newest full pass; None when it is settled already. Raises as `reconcile`."""
        with self._lock:
            newest, self._newest = self._newest, None
        return settle(self._signoff, *newest) if newest else None


def settle(signoff: Signoff, before: Mark, listing: Listing) -> Report:
    """Record what ``listing``, read after ``before``, shows that the ledger does not prescribe."""
    baseline = _baseline(signoff, before, listing)
    work = _Pass(signoff=signoff, before=before, seen=_seen(listing), baseline=baseline)
    work.run()
    assignments.meet(signoff, listing, work.renamed)
    watched = (file_watch.look, evidence_watch.look)
    events = [*work.events, *(event for look in watched for event in look(signoff, before, listing))]
    for name in {event.ref.name for event in events if event.ref}:
        try:
            signoff.snapshot.touch(name)
        except (SignoffError, ValueError):
            log.debug("%s does not show at once", name)
    return Report(
        models=len(listing.models),
        events=(*([baseline] if baseline else []), *events),
        skipped=before.busy,
        discarded=frozenset(work.discarded),
        baseline=baseline is not None,
    )


def _seen(listing: Listing) -> dict[str, Seen]:
    return {name: Seen.of(model, listing.versions.get(name, ())) for name, model in listing.models.items()}


# ---- meeting a registry for the first time -----------------------------------------------------------------


def _baseline(signoff: Signoff, before: Mark, listing: Listing) -> Event | None:
    """Accept the registry as it is, once, with one event; None when that was done before.

    What the ledger already prescribes stays prescribed. Models that are being changed right now are met later.
    """
    with signoff.database.reading() as connection:
        if connection.execute(sa.select(reconciled.c.id)).first():
            return None
    seen = _seen(listing)
    try:
        with signoff.database.writing() as connection:
            moving = before.busy | prescription.models_with_events(connection, after=before.seq).keys()
            with_events = prescription.models_with_events(connection, after=0).keys()
            rows = []
            for name, state in seen.items():
                known = Known(seen=state)
                if name in with_events and name not in moving:
                    known = prescription.brought_up(connection, name, known, state, seq=before.seq)
                at_rest = None if name in moving else replace(known, seq=before.seq)
                rows.append(prescription.as_row(connection, name, at_rest))
            if rows:
                connection.execute(known_models.insert(), rows)
            event = ledger.append(connection, _first_met(signoff, listing, seen, sorted(seen.keys() & moving)))
            connection.execute(reconciled.insert().values(id=1, baseline_seq=event.seq, seq=before.seq))
    except IntegrityError:
        return None  # another dashboard was faster
    return event


def _first_met(signoff: Signoff, listing: Listing, seen: Mapping[str, Seen], waiting: list[str]) -> Entry:
    stages: dict[str, int] = {}
    for state in seen.values():
        for version in state.versions.values():
            stages[version.stage] = stages.get(version.stage, 0) + 1
    versions = sum(stages.values())
    return Entry(
        kind=Kind.REGISTRY_BASELINE,
        actor=RECONCILER,
        at=signoff.now(),
        comment=f"Met {len(seen)} registered models with {versions} versions; changes are found from here on.",
        details={
            "models": len(seen),
            "versions": versions,
            "stages": stages,
            "aliases": sum(len(model.aliases) for model in listing.models.values()),
            "digest": digest({name: state.digest for name, state in seen.items()}),
            "met_later": waiting[:100],
        },
    )


# ---- every pass after that -----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Pass:
    """One pass over everything but files."""

    signoff: Signoff
    before: Mark
    seen: dict[str, Seen]
    baseline: Event | None
    events: list[Event] = field(default_factory=list)
    discarded: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    """Old name → the new name that MLflow shows."""

    def run(self) -> None:
        """Look closer at what does not look as it did, and settle it in small transactions."""
        with self.signoff.database.reading() as connection:
            columns = [column for column in known_models.c if column is not known_models.c.state]
            rows = {row.model: row for row in connection.execute(sa.select(*columns)).all()}
            suspects = {name for name, row in rows.items() if not prescription.genuine(connection, row)}
            cursor = int(connection.execute(sa.select(reconciled.c.seq)).scalar_one())
            happened = prescription.models_with_events(connection, after=cursor)
            suspects |= deviations.models_with_open(connection)
        suspects |= {name for name, last in happened.items() if name not in rows or rows[name].seq < last}
        suspects |= self.seen.keys() ^ rows.keys()
        suspects |= {name for name, row in rows.items() if name in self.seen and self.seen[name].digest != row.digest}
        self._verify(suspects & rows.keys(), self.seen.keys() - rows.keys())
        for names in _batches(suspects - self.before.busy, BATCH):
            self._settle_batch(names)
        left_out = (suspects & self.before.busy) | self.discarded
        if not left_out & happened.keys() and cursor < self.before.seq:
            with self.signoff.database.writing() as connection:
                connection.execute(reconciled.update().values(seq=self.before.seq))

    def _verify(self, suspects: Iterable[str], unheard_of: Iterable[str]) -> None:
        """Ask again for what a listing lacks: pages of a long one shift while somebody registers or deletes."""
        with self.signoff.database.reading() as connection:
            known = {name: prescription.parsed(connection, row) for name, row in _rows(connection, suspects).items()}
        for name, state in known.items():
            if name in self.before.busy or state is None:
                continue
            shown = self.seen.get(name)
            if shown is None or state.seen.versions.keys() - shown.versions.keys():
                self._ask_again(name)
            if name not in self.seen:
                same = (other for other in unheard_of if drift.same_model(state.seen, self.seen[other]))
                self.renamed.update((name, other) for other in same)

    def _ask_again(self, name: str) -> None:
        registry = self.signoff.registry
        try:
            self.seen[name] = Seen.of(registry.model(name), registry.versions(name))
        except NotFound:
            self.seen.pop(name, None)
        except BadInput:
            self.discarded.add(name)  # a name MLflow cannot search for: believed only when it is listed

    def _settle_batch(self, names: Iterable[str]) -> None:
        found: list[Event] = []
        discarded: set[str] = set()
        try:
            with self.signoff.database.writing() as connection:
                for name in names:
                    if name in self.discarded or prescription.moved(connection, name, after=self.before.seq):
                        discarded.add(name)
                    else:
                        found += self._settle(connection, name)
        except IntegrityError:
            discarded = set(names)  # another dashboard records the same right now; look again in the next pass
        else:
            self.events += found
        self.discarded |= discarded

    def _settle(self, connection: Connection, name: str) -> list[Event]:
        seen, at = self.seen.get(name), self.signoff.now()
        known = prescription.load(connection, name, seen)
        if seen is None:
            if known is None:
                prescription.forget(connection, name)  # it came and went without anything being prescribed for it
                return deviations.record(connection, name, [], at=at)
            known = prescription.brought_up(connection, name, known, None, seq=self.before.seq)
            prescription.save(connection, name, known)
            return deviations.record(connection, name, drift.vanished(known.seen, self.renamed.get(name)), at=at)
        known = known or self._first_sight(connection, name, seen)
        known = prescription.brought_up(connection, name, known, seen, seq=self.before.seq)
        aliases = self.signoff.policies.protected_aliases
        known = prescription.trusting(connection, name, known, seen)
        found = drift.differences(known.seen, seen, recorded=known.recorded, aliases=aliases)
        state = drift.absorbed(known.seen, seen, recorded=known.recorded, aliases=aliases)
        if name not in self.renamed.values():  # what has another's name is still the other one, until it is adopted
            prescription.save(connection, name, replace(known, seen=state))
        return deviations.record(connection, name, found, at=at)

    def _first_sight(self, connection: Connection, name: str, seen: Seen) -> Known:
        """What is prescribed for a model that was not there before: no stage, no alias, no word of approval."""
        for old, new in self.renamed.items():
            if new == name and (known := prescription.load(connection, old)):
                return known
        exists = connection.execute(sa.select(known_models.c.model).where(known_models.c.model == name)).first()
        if exists:  # there since the baseline, and never at rest until now
            return Known(seen=seen)
        return Known(seen=seen.blank)


def _batches(names: Iterable[str], size: int) -> Iterator[list[str]]:
    ordered = sorted(names)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _rows(connection: Connection, names: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for some in _batches(names, 500):
        query = sa.select(known_models).where(known_models.c.model.in_(some))
        found.update((row.model, row) for row in connection.execute(query))
    return found


__all__ = ["Reconciler", "Report", "adopt", "reconcile", "restore", "settle"]
