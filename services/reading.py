"""Evidence read from MLflow: fresh for a decision, remembered for a page."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

from cachetools import LRUCache

from services.domain import ArtifactEntry, Curve, Description, LoggedModelFacts, ModelVersion, RunFacts, VersionRef
from services.errors import FilesUnreadable, NotFound, StoreUnavailable
from services.evidence import Evidence, Manifest
from services.mlflow.artifacts import DESCRIPTION, described
from services.place import Place
from services.pools import Pools
from services.registry import Registry

TTL_SECONDS = 60.0
LOOKED_SECONDS = 900.0
"""So long lists judge by files as they were looked at; after that nobody knows, as before the first look."""
LOOK_AGAIN_SECONDS = 300.0
"""So old a look may be before the work in the background looks again; what has the same listing is not hashed anew."""
MAX_BYTES = 256_000_000
"""What is remembered takes so much memory, about; what nobody asked for the longest time is forgotten first."""
MAX_POINTS = 300
"""Values of one curve; ten curves of as many are as much as a browser still moves fluently, smoothed ones included."""
MAX_FILE = 1_000_000
"""Bytes of a file of a version that is shown: ``MLmodel``, ``requirements.txt``."""

T = TypeVar("T")


class _Kept(NamedTuple):
    """One answer, when it was read on the reader's clock, and its size in bytes."""

    at: float
    value: Any
    size: int


class Reader:
    """Reads evidence through a registry.

    `fresh` asks MLflow for everything, each time: decisions rest on it. `remembered` answers a page from memory for
    up to a minute, and hashes files again only when their listing changed. Values are never modified, so they are
    shared without copying.
    """

    def __init__(
        self,
        registry: Registry,
        clock: Callable[[], float] = time.monotonic,
        *,
        most: int = MAX_BYTES,
        pools: Pools | None = None,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._pools = pools or Pools()
        self._memory: LRUCache[tuple[str, ...], _Kept] = LRUCache(most, lambda kept: kept.size)
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, ...], Future[Mapping[str, Curve]]] = {}

    def fresh(self, ref: VersionRef) -> Evidence:
        """Everything about one version, from MLflow, now; the manifest is computed from the files' bytes.

        What was found is remembered for pages, so that a page never shows less than the last decision saw.
        """
        return self.with_files(self.without_files(self._registry.version(ref)))

    def without_files(self, version: ModelVersion) -> Evidence:
        """The same of a version just read but for the manifest: what is read in no time, however large files are."""
        run_id, model_id = version.run_id, version.model_id
        found = Evidence(
            version=version,
            run=_or_none(lambda: self._registry.run(run_id)) if run_id else None,
            logged_model=_or_none(lambda: self._registry.logged_model(model_id)) if model_id else None,
        )
        for key, value in ((("run", run_id), found.run), (("model", model_id), found.logged_model)):
            if key[1]:
                self._keep((key[0], key[1]), value)
        return found

    def with_files(self, evidence: Evidence) -> Evidence:
        """The same evidence with the manifest, from the bytes of the files as they are now, and where they lie."""
        version = evidence.version
        manifest, unreadable = _or_why(lambda: self._registry.manifest(version.ref), fresh=True)
        if manifest:
            listing = tuple(ArtifactEntry(path=file.path, size=file.size) for file in manifest.files)
            self._keep(("listing", version.identity), (listing, ""))
            self._keep(_of_files(version, listing), manifest)
        place = _or_none(lambda: self._registry.place(version))  # after the files: a second place is then seen
        self._keep(("place", version.identity), place)
        return replace(evidence, manifest=manifest, unreadable=unreadable).at(place)

    def with_known_files(self, evidence: Evidence) -> Evidence:
        """The same evidence with the manifest, where one of files of the same names and sizes is remembered."""
        version = evidence.version
        listing, _ = _or_why(lambda: self._listing(version.ref))
        known = self._known(_of_files(version, listing), ttl=None)
        return evidence if known is _ABSENT else replace(evidence, manifest=known).at(self._place(version))

    def remembered(self, version: ModelVersion) -> Evidence:
        """The same for a page that shows ``version``."""
        manifest, unreadable = self._manifest(version)
        return Evidence(
            version=version,
            run=self.run(version.run_id) if version.run_id else None,
            logged_model=self._logged_model(version.model_id) if version.model_id else None,
            manifest=manifest,
            unreadable=unreadable,
        ).at(self._place(version))

    def looked(self, evidence: Evidence, policy: str = "") -> Evidence:
        """The same evidence, which was read with its files; lists judge by it from now on.

        Args:
            policy: the digest of the policy that a candidate's files were read for; a champion's are for none.
        """
        found = {name: getattr(evidence, name) for name in _FROM_FILES}
        for key in {policy, ""}:  # a candidate may become the champion
            self._keep(("looked", evidence.version.identity, key), (found, evidence.place))
        return evidence

    def as_looked_at(self, evidence: Evidence, policy: str = "") -> Evidence | None:
        """Evidence without files, with the files as they were when they were `looked` at last; None: not lately.

        Nothing is read, so a list of any length costs no call.
        """
        kept = self._known(("looked", evidence.version.identity, policy), LOOKED_SECONDS)
        if kept is _ABSENT:
            return None
        found, place = kept
        return replace(evidence, **found).at(place)

    def look_due(self, version: ModelVersion, policy: str = "") -> bool:
        """Whether its files should be looked at, again or for the first time."""
        return self._known(("looked", version.identity, policy), LOOK_AGAIN_SECONDS) is _ABSENT

    def run(self, run_id: str) -> RunFacts | None:
        """One run, or None when MLflow no longer has it."""
        return self._recall(("run", run_id), lambda: _or_none(lambda: self._registry.run(run_id)))

    def compared(self, versions: Sequence[ModelVersion], beside: Sequence[ModelVersion] = ()) -> tuple[Evidence, ...]:
        """What a comparison needs of many versions: `measured`, and of their files only ``MLmodel``.

        Several files are read at a time, while the runs are. ``beside`` is measured in the same calls, to be
        remembered.
        """
        described = [self._pools.files.submit(self._description, version) for version in versions]
        found = self.measured([*versions, *beside])[: len(versions)]
        return tuple(
            replace(one, description=description.result()) for one, description in zip(found, described, strict=True)
        )

    def measured(self, versions: Sequence[ModelVersion]) -> tuple[Evidence, ...]:
        """Many versions without their files: all runs in one call, and all logged models in another."""
        runs = self.runs(version.run_id for version in versions if version.run_id)
        models = self.logged_models(version.model_id for version in versions if version.model_id)
        return tuple(
            Evidence(version=v, run=runs.get(v.run_id or ""), logged_model=models.get(v.model_id or ""))
            for v in versions
        )

    def measured_now(self, versions: Sequence[ModelVersion]) -> tuple[Evidence, ...]:
        """`measured` with nothing remembered; pages remember what it finds."""
        with self._lock:
            for version in versions:
                self._memory.pop(("run", version.run_id or ""), None)
                self._memory.pop(("model", version.model_id or ""), None)
        return self.measured(versions)

    def runs(self, run_ids: Iterable[str]) -> Mapping[str, RunFacts]:
        """Many runs in one call for all that are not remembered; missing ones are left out."""
        return self._many("run", run_ids, self._registry.runs)

    def logged_models(self, model_ids: Iterable[str]) -> Mapping[str, LoggedModelFacts]:
        """Many logged models in one call for all that are not remembered; missing ones are left out."""
        return self._many("model", model_ids, self._registry.logged_models)

    def curves(self, run_ids: Iterable[str], metric: str) -> Mapping[str, Curve]:
        """One metric of many runs, each thinned by MLflow to `MAX_POINTS` values, in one call for all of them."""
        return self._many(f"curve {metric}", run_ids, lambda absent: self._registry.curves(absent, metric, MAX_POINTS))

    def curves_asked(self, run_ids: Sequence[str], metric: str) -> Future[Mapping[str, Curve]]:
        """`curves`, read by a thread of its own; at once done where everything is remembered."""
        if all(self._known((f"curve {metric}", run_id)) is not _ABSENT for run_id in run_ids):
            known: Future[Mapping[str, Curve]] = Future()
            known.set_result(self.curves(run_ids, metric))
            return known
        key = (metric, *run_ids)
        with self._lock:
            self._asked = {other: future for other, future in self._asked.items() if not future.done()}
            if key not in self._asked:
                self._asked[key] = self._pools.curves.submit(self.curves, run_ids, metric)
            return self._asked[key]

    def version_file(self, version: ModelVersion, path: str) -> bytes | None:
        """A small file of a version; None where there is none, or none of at most `MAX_FILE` bytes to be read here."""
        return self._recall(
            ("version file", version.identity, path),
            lambda: _or_why(lambda: self._registry.version_file(version.ref, path, MAX_FILE))[0],
        )

    def run_files(self, run_id: str) -> tuple[ArtifactEntry, ...]:
        """What a run logged beside its model; nothing where that cannot be read from here."""
        return self._recall(("files", run_id), lambda: _or_why(lambda: self._registry.run_files(run_id))[0] or ())

    def run_file(self, run_id: str, path: str) -> bytes:
        """One such file."""
        return self._recall(("file", run_id, path), lambda: self._registry.run_file(run_id, path))

    def deployments(self, ref: VersionRef) -> tuple[RunFacts, ...]:
        """Runs that say they deployed this version, newest first."""
        return self._recall(("deployments", str(ref)), lambda: self._registry.deployments(ref))

    def forget(self) -> None:
        """Forget everything: the refresh button."""
        with self._lock:
            self._memory.clear()

    def _logged_model(self, model_id: str) -> LoggedModelFacts | None:
        return self._recall(("model", model_id), lambda: _or_none(lambda: self._registry.logged_model(model_id)))

    def _place(self, version: ModelVersion) -> Place | None:
        return self._recall(("place", version.identity), lambda: _or_none(lambda: self._registry.place(version)))

    def _manifest(self, version: ModelVersion) -> tuple[Manifest | None, str]:
        """The manifest, or why it cannot be read in words, which are empty where nothing is there."""
        listing, why = self._recall(("listing", version.identity), lambda: _or_why(lambda: self._listing(version.ref)))
        if listing is None:
            return None, why
        key = _of_files(version, listing)
        if (kept := self._known(key, ttl=None)) is not _ABSENT:
            return cast(Manifest, kept), ""
        manifest, why = _or_why(lambda: self._registry.manifest(version.ref))
        if manifest is not None:
            self._keep(key, manifest)  # why there is none may be over by the next time
        return manifest, why

    def _listing(self, ref: VersionRef) -> tuple[ArtifactEntry, ...]:
        return tuple(sorted(self._registry.listing(ref), key=lambda entry: entry.path))

    def _description(self, version: ModelVersion) -> Description | None:
        return self._recall(("description", version.identity), lambda: self._described(version.ref))

    def _described(self, ref: VersionRef) -> Description | None:
        """None where there is none that can be read: that keeps nobody from comparing the rest."""
        try:
            return described(ref, self._registry.version_file(ref, DESCRIPTION, MAX_FILE))
        except (NotFound, FilesUnreadable, StoreUnavailable):
            return None

    def _many(self, kind: str, ids: Iterable[str], read: Callable[[list[str]], Mapping[str, T]]) -> Mapping[str, T]:
        """What is remembered of each, and one reading for all the rest; what does not exist is left out."""
        known = {one: self._known((kind, one)) for one in dict.fromkeys(ids)}
        if absent := [one for one, value in known.items() if value is _ABSENT]:
            found = read(absent)
            for one in absent:
                known[one] = found.get(one)
                self._keep((kind, one), known[one])
        return {one: value for one, value in known.items() if value is not None}

    def _recall(self, key: tuple[str, ...], read: Callable[[], T], ttl: float | None = TTL_SECONDS) -> T:
        value = self._known(key, ttl)
        if value is _ABSENT:
            value = read()
            self._keep(key, value)
        return cast(T, value)

    def _known(self, key: tuple[str, ...], ttl: float | None = TTL_SECONDS) -> Any:
        with self._lock:
            kept = self._memory.get(key)
        if kept is None or (ttl is not None and self._clock() - kept.at > ttl):
            return _ABSENT
        return kept.value

    def _keep(self, key: tuple[str, ...], value: Any) -> None:
        kept = _Kept(self._clock(), value, sum(map(_size, key)) + _size(value))
        with self._lock:
            self._memory.pop(key, None)
            if kept.size <= self._memory.maxsize:
                self._memory[key] = kept


_ABSENT: Any = object()
_FROM_FILES = ("manifest", "unreadable", "run_files", "run_digests")


def _of_files(version: ModelVersion, listing: tuple[ArtifactEntry, ...] | None) -> tuple[str, ...]:
    """What the manifest is remembered by: files of these names and sizes."""
    names = hashlib.sha256(repr(listing).encode(errors="surrogatepass")).hexdigest()
    return "manifest", version.identity, names


def _size(value: Any) -> int:
    """Bytes of memory that a value takes, about: what several values share counts for each."""
    own = sys.getsizeof(value)
    if isinstance(value, str | bytes):
        return own
    if isinstance(value, dict):
        return own + sum(map(_size, value)) + sum(map(_size, value.values()))
    if isinstance(value, tuple | list):
        return own + sum(map(_size, value))
    return own + sum(_size(getattr(value, part)) for part in getattr(value, "__dataclass_fields__", ()))


def _or_none(read: Callable[[], T]) -> T | None:
    """None for what MLflow says does not exist; when MLflow does not answer, the error goes on."""
    try:
        return read()
    except NotFound:
        return None


def _or_why(read: Callable[[], T], *, fresh: bool = False) -> tuple[T | None, str]:
    """What is read; None for what does not exist, and for what cannot be read from here, then with the reason.

    A store that does not answer is such a reason on a page; where something is decided (``fresh``) the error goes on.
    """
    try:
        return read(), ""
    except NotFound:
        return None, ""
    except FilesUnreadable as error:
        return None, str(error)
    except StoreUnavailable as error:
        if fresh:
            raise
        return None, str(error)
