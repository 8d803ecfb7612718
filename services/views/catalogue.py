"""What the Registry page lists: one row a registered model, searched and paged in memory.

Rows are computed once for each generation of the snapshot, and only for the models that changed in it.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from itertools import islice
from typing import NamedTuple
from weakref import WeakKeyDictionary

from services import assignments
from services.assignments import Judges
from services.domain import ModelVersion, RegisteredModel, Status
from services.policy import Assignment
from services.signoff import Signoff
from services.snapshot import Snapshot, Snapshots
from services.views.rows import Row, row_of

PAGE_SIZE = 25
MAX_CHOICES = 200
"""Owners and tags offered as a filter: the most used ones. Others can be typed."""
MAX_TEXT = 500
MAX_REMEMBERED = 256


class Sort(StrEnum):
    """Orders of the list."""

    NAME = "Name"
    CHANGED = "Last change"
    VERSIONS = "Most versions"


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
    """One page of a list; ``number`` is the page shown: the last one when a later one was asked for."""

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
    """The numbers above the list, and what one can filter by."""

    total: int
    in_production: int
    statuses: Mapping[str, int]
    owners: tuple[str, ...]
    tags: tuple[str, ...]


def search(signoff: Signoff, query: Query) -> Page:
    """One page of the registered models that fit, from the snapshot; asks MLflow for nothing.

    Raises:
        RegistryUnavailable: there is no snapshot yet and MLflow does not answer.
    """
    found = _listing(signoff).matching(query)
    size = max(1, query.page_size)
    number = min(max(1, query.page), max(1, -(-len(found) // size)))
    return Page(rows=found[(number - 1) * size : number * size], total=len(found), number=number, size=size)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Some rows of a list by name; ``last`` is the name to go on after, None where nothing comes after them."""

    rows: tuple[Row, ...]
    last: str | None


def after(
    signoff: Signoff, query: Query, *, name: str = "", size: int = PAGE_SIZE, covered: Callable[[str], bool]
) -> Stretch:
    """The next registered models after ``name`` that fit and are ``covered``; what is added meanwhile shifts nothing.

    ``query``'s order and page do not count. Raises as `search`.
    """
    fitting = _listing(signoff).matching(replace(query, sort=Sort.NAME))
    rest = (row for row in fitting[bisect_right(fitting, name, key=lambda row: row.name) :] if covered(row.name))
    found = tuple(islice(rest, size + 1))
    return Stretch(rows=found[:size], last=found[size - 1].name if len(found) > size else None)


def overview(signoff: Signoff) -> Overview:
    """Numbers and filters of the whole registry. Raises as `search`."""
    return _listing(signoff).overview


class _Listing:
    """All rows of one generation, by name, with what was found in them so far."""

    def __init__(self, generation: int, rows: tuple[Row, ...]) -> None:
        self.generation = generation
        self.rows = rows
        self._found: dict[Query, tuple[Row, ...]] = {}

    def matching(self, query: Query) -> tuple[Row, ...]:
        """Every row that fits, in order; the same question again costs nothing."""
        key = replace(
            query,
            text=query.text.strip()[:MAX_TEXT].casefold(),
            owner=(query.owner or "").casefold(),
            tag=(query.tag or "").casefold(),
            page=1,
            page_size=1,
        )
        found = self._found.get(key)
        if found is None:
            found = tuple(_fitting(self._sorted(key.sort), key)) if key.filtering else self._sorted(key.sort)
            if len(self._found) >= MAX_REMEMBERED:
                self._found = {}
            self._found[key] = found
        return found

    def _sorted(self, sort: Sort) -> tuple[Row, ...]:
        match sort:
            case Sort.CHANGED:
                return self._by_change
            case Sort.VERSIONS:
                return self._by_versions
            case _:
                return self.rows

    @cached_property
    def _by_change(self) -> tuple[Row, ...]:
        return tuple(sorted(self.rows, key=lambda row: row.changed_at, reverse=True))

    @cached_property
    def _by_versions(self) -> tuple[Row, ...]:
        return tuple(sorted(self.rows, key=lambda row: -len(row.versions)))

    @cached_property
    def overview(self) -> Overview:
        """See `Overview`."""
        return Overview(
            total=len(self.rows),
            in_production=sum(row.champion is not None for row in self.rows),
            statuses=Counter(row.status for row in self.rows if row.status in set(Status)),
            owners=_most_used(row.owner for row in self.rows if row.owner),
            tags=_most_used(word for row in self.rows for tag in row.tags.items() for word in (tag[0], ":".join(tag))),
        )


def _fitting(rows: Iterable[Row], query: Query) -> Iterable[Row]:
    """One pass for each part that was given: 10,000 rows take a millisecond or two."""
    for word in query.text.split():
        rows = [row for row in rows if word in row.haystack]
    if query.stage:
        rows = [row for row in rows if query.stage in row.stages]
    if query.status:
        rows = [row for row in rows if row.status == query.status]
    if query.owner:
        rows = [row for row in rows if (row.owner or "").casefold() == query.owner]
    if query.tag:
        rows = [row for row in rows if query.tag in row.tag_keys]
    return rows


def _most_used(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(word for word, _ in Counter(words).most_common(MAX_CHOICES)))


class _Entry(NamedTuple):
    """The row of one model, with all that it was made of."""

    model: RegisteredModel
    versions: tuple[ModelVersion, ...]
    assigned: Assignment | None
    row: Row


class _Catalogue:
    """Keeps the newest listing; rows of models that did not change are kept from the one before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listing = _Listing(-1, ())
        self._judges: Judges | None = None
        self._known: dict[str, _Entry] = {}

    def of(self, snapshot: Snapshot, judges: Judges) -> _Listing:
        """The listing of this snapshot; computed by one thread while others wait."""
        with self._lock:
            if self._listing.generation != snapshot.generation or self._judges is not judges:
                self._judges = judges
                self._known = {
                    name: self._entry(name, model, snapshot, judges) for name, model in snapshot.models.items()
                }
                rows = tuple(entry.row for entry in self._known.values())
                if len(rows) == len(self._listing.rows) and all(map(_same, rows, self._listing.rows)):
                    self._listing.generation = snapshot.generation  # nothing changed: what was found stays found
                else:
                    self._listing = _Listing(snapshot.generation, rows)
            return self._listing

    def _entry(self, name: str, model: RegisteredModel, snapshot: Snapshot, judges: Judges) -> _Entry:
        versions, assigned = snapshot.versions.get(name, ()), judges.assigned.get(name)
        known = self._known.get(name)
        if (
            known
            and (known.model is model or known.model == model)
            and (known.versions is versions or known.versions == versions)
            and known.assigned == assigned
        ):
            return known  # a full pass brings new objects that mostly say the same
        return _Entry(model, versions, assigned, row_of(judges, model, versions))


def _same(one: object, other: object) -> bool:
    return one is other


_catalogues: WeakKeyDictionary[Snapshots, _Catalogue] = WeakKeyDictionary()
_catalogues_lock = threading.Lock()


def _listing(signoff: Signoff) -> _Listing:
    with _catalogues_lock:
        catalogue = _catalogues.setdefault(signoff.snapshot, _Catalogue())
    return catalogue.of(signoff.snapshot.current, assignments.judges(signoff))
