"""What the Registry page lists: one row a registered model, searched and paged in memory.

Rows are computed once for each generation of the snapshot, and only for the models that changed in it. Metrics are not
part of a row: they are asked for the few rows on screen, in one call, and in the background, because MLflow takes half
a second for two hundred runs and typing into a search box must not wait for that.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from weakref import WeakKeyDictionary

from services.domain import ModelVersion, RegisteredModel, RunFacts, Stage, Status
from services.errors import InvalidSettings
from services.policy import PolicyBook, Target
from services.signoff import Signoff
from services.snapshot import Snapshot, Snapshots, champion_of

PAGE_SIZE = 25
TREND_VERSIONS = 8
"""Versions a trend looks back on; 25 rows of 8 are the 200 runs that MLflow is asked for in one call."""
MAX_CHOICES = 200
"""Owners and tags offered as a filter: the most used ones. Others can be typed."""
MAX_REMEMBERED = 256

_CHAMPION, _CANDIDATE = Target(stage=Stage.PRODUCTION, alias="champion"), Target(stage=Stage.STAGING, alias="challenger")
_metrics_pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="key-metrics")


class Sort(StrEnum):
    """Orders of the list."""

    NAME = "Name"
    CHANGED = "Last change"
    VERSIONS = "Most versions"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One registered model in the list. ``metric`` is the name of the policy's key metric, None without a policy.

    ``status`` is the review status of the challenger, or of the newest version where there is none.
    """

    name: str
    versions: tuple[ModelVersion, ...]
    champion: ModelVersion | None
    challenger: ModelVersion | None
    stages: frozenset[str]
    status: str | None
    owner: str | None
    tags: Mapping[str, str]
    changed_at: datetime
    metric: str | None
    tag_keys: frozenset[str]
    haystack: str

    @property
    def trended(self) -> tuple[ModelVersion, ...]:
        """The versions whose metrics a list shows, oldest first: the newest ones, and the champion in any case."""
        newest = self.versions[-TREND_VERSIONS:]
        if self.champion is None or self.champion in newest:
            return newest
        return (self.champion, *newest[1:] if len(newest) == TREND_VERSIONS else newest)


@dataclass(frozen=True, kw_only=True)
class Query:
    """What to list: every part given must fit. ``text`` may be several words; ``tag`` is ``key`` or ``key:value``."""

    text: str = ""
    stage: str | None = None
    status: str | None = None
    owner: str | None = None
    tag: str | None = None
    sort: Sort = Sort.NAME
    page: int = 1
    page_size: int = PAGE_SIZE

    @property
    def filtering(self) -> bool:
        """Whether anything is filtered at all."""
        return bool(self.text.strip() or self.stage or self.status or self.owner or self.tag)


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a list; ``number`` is the page shown, the last one when a later one was asked for."""

    rows: tuple[Row, ...]
    total: int
    number: int
    size: int

    @property
    def pages(self) -> int:
        """How many pages there are, at least one."""
        return max(1, -(-self.total // self.size))


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What can be filtered by, and the numbers above the list."""

    total: int
    in_production: int
    statuses: Mapping[str, int]
    owners: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row with its key metric: of the champion, and its course over ``Row.trended``. None is no evidence."""

    row: Row
    value: float | None = None
    trend: tuple[float, ...] = ()


def search(signoff: Signoff, query: Query) -> Page:
    """One page of the registered models that fit, from the snapshot; asks MLflow for nothing.

    Raises:
        RegistryUnavailable: there is no snapshot yet and MLflow does not answer.
    """
    found = _listing(signoff).matching(query)
    size = max(1, query.page_size)
    number = min(max(1, query.page), max(1, -(-len(found) // size)))
    return Page(rows=found[(number - 1) * size : number * size], total=len(found), number=number, size=size)


def overview(signoff: Signoff) -> Overview:
    """Numbers and filters of the whole registry. Raises as `search`."""
    return _listing(signoff).overview


def ask_metrics(signoff: Signoff, rows: Iterable[Row]) -> Future[Mapping[str, RunFacts]]:
    """The runs behind ``rows``, asked for in one call and in the background; remembered ones need no call.

    The future raises `RegistryUnavailable` when MLflow does not answer.
    """
    wanted = [version.run_id for row in rows for version in row.trended if version.run_id]
    return _metrics_pool.submit(signoff.reader.runs, wanted)


def lines(rows: Iterable[Row], runs: Mapping[str, RunFacts]) -> list[Line]:
    """``rows`` with what ``runs`` say of their key metrics; values one cannot compare are left out."""
    return [
        Line(
            row=row,
            value=_value(row, row.champion, runs),
            trend=tuple(v for v in (_value(row, version, runs) for version in row.trended) if v is not None),
        )
        for row in rows
    ]


def _value(row: Row, version: ModelVersion | None, runs: Mapping[str, RunFacts]) -> float | None:
    run = runs.get(version.run_id) if version and version.run_id else None
    metric = run.metrics.get(row.metric) if run and row.metric else None
    return metric.value if metric and metric.usable else None


@dataclass(kw_only=True)
class _Listing:
    """All rows of one generation, by name, with what was found in them so far."""

    rows: tuple[Row, ...]
    _found: dict[Query, tuple[Row, ...]] = field(default_factory=dict)

    def matching(self, query: Query) -> tuple[Row, ...]:
        """Every row that fits, in order; the same question again costs nothing."""
        key = Query(
            text=query.text.strip().casefold()[:500],
            stage=query.stage,
            status=query.status,
            owner=query.owner.casefold() if query.owner else None,
            tag=query.tag.casefold() if query.tag else None,
            sort=query.sort,
        )
        found = self._found.get(key)
        if found is None:
            found = self._sorted(key.sort) if not key.filtering else tuple(_fitting(self._sorted(key.sort), key))
            if len(self._found) >= MAX_REMEMBERED:
                self._found = {}
            self._found[key] = found
        return found

    def _sorted(self, sort: Sort) -> tuple[Row, ...]:
        return {Sort.NAME: self.rows, Sort.CHANGED: self._by_change, Sort.VERSIONS: self._by_versions}[sort]

    @property
    def _by_change(self) -> tuple[Row, ...]:
        return self._order(Sort.CHANGED)

    @property
    def _by_versions(self) -> tuple[Row, ...]:
        return self._order(Sort.VERSIONS)

    @cached_property
    def overview(self) -> Overview:
        """See `Overview`."""
        return Overview(
            total=len(self.rows),
            in_production=sum(row.champion is not None for row in self.rows),
            statuses=Counter(row.status for row in self.rows if row.status in set(Status)),
            owners=_most_used(row.owner for row in self.rows if row.owner),
            tags=_most_used(tag for row in self.rows for tag in _tag_words(row.tags)),
        )
