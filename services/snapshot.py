"""The registry as pages see it: kept in memory, refreshed in the background, never decided upon.

A full pass lists every model and version. In between, a quick pass asks only for what MLflow updated last; changes
of tags and aliases do not show there, so they wait for the next full pass, unless they are our own: see `touch`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from services import logs, proofs
from services.domain import ModelVersion, RegisteredModel, Stage
from services.errors import NotFound, RegistryUnavailable, SignoffError
from services.registry import Registry
from services.worker import Worker

QUICK_SECONDS = 10.0
FULL_SECONDS = 30.0
PATIENCE_SECONDS = 900.0
"""A full pass over a huge registry takes long."""
LOAD_SHARE = 10
"""A full pass may take at most one part in ten of the time: a huge registry is listed less often."""
OVERLAP = timedelta(seconds=5)
HINT_SECONDS = 1.0
MAX_HINTS = 20
"""So many models are read again at once at most; the others wait for the next full pass."""

log = logs.seldom(__name__)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What one full pass read, and nothing else: ``versions`` of each model are oldest first."""

    models: Mapping[str, RegisteredModel]
    versions: Mapping[str, tuple[ModelVersion, ...]]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What was read of one model for a change of our own: itself, or not, and some of its versions, by number."""

    model: RegisteredModel | None = None
    versions: dict[int, ModelVersion] = field(default_factory=dict)


Watcher = Callable[[], Callable[[Listing], None]]
"""Called when a full pass begins; what it returns is called with what the pass read. Neither may take long."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The whole registry at one moment. ``models`` is sorted by name; ``versions`` of each are oldest first."""

    models: Mapping[str, RegisteredModel] = field(default_factory=dict)
    versions: Mapping[str, tuple[ModelVersion, ...]] = field(default_factory=dict)
    taken_at: datetime | None = None
    full_at: datetime | None = None
    generation: int = 0

    def version(self, name: str, number: int) -> ModelVersion | None:
        """One version, or None."""
        return next((v for v in self.versions.get(name, ()) if v.ref.version == number), None)

    def champion(self, name: str, alias: str, stage: str) -> ModelVersion | None:
        """Who is in Production: the alias says, else the stage; None when nobody is."""
        model = self.models.get(name)
        return champion_of(model, self.versions.get(name, ()), alias=alias, stage=stage) if model else None


def champion_of(
    model: RegisteredModel, versions: tuple[ModelVersion, ...], *, alias: str, stage: str
) -> ModelVersion | None:
    """The version the champion alias points at, else the newest one in the champion stage, else None."""
    number = model.aliases.get(alias)
    if number is not None:
        found = next((version for version in versions if version.ref.version == number), None)
        if found:
            return found
    in_stage = [version for version in versions if version.stage == stage and stage != Stage.NONE]
    return in_stage[-1] if in_stage else None


class Snapshots:
    """Keeps the newest `Snapshot` and refreshes it in a thread of its own."""

    def __init__(
        self, registry: Registry, clock: Callable[[], float] = time.monotonic, *, gate_token: str = ""
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._gate_token = gate_token
        self._next_full = 0.0
        self._watchers: list[Watcher] = []
        self._current = Snapshot()
        self._pass = threading.Lock()  # one pass over the registry at a time; may be held for long
        self._swap = threading.Lock()  # held for a moment only: `touch` must not wait for a pass
        self._touched: dict[str, tuple[RegisteredModel, tuple[ModelVersion, ...]] | None] = {}
        self._shown: dict[str, _Part] = {}
        self._hinted: set[str] = set()
        self._worker = Worker("reading of the registry", self._round, interval=QUICK_SECONDS, patience=PATIENCE_SECONDS)
        self.workers = (self._worker,)
        self.problem: str | None = None
        """Why the last refresh failed, in one sentence; None when it did not."""
        self.gated = False
        """Whether a hook in the MLflow server asked to be asked, when the last full pass began."""
        self.hook_problem: str | None = None
        """Why that hook cannot work with us, in one sentence; None when it can."""

    @property
    def current(self) -> Snapshot:
        """The newest snapshot; taken now, once, if there is none yet.

        Raises:
            RegistryUnavailable: there is none yet and MLflow does not answer.
        """
        if self._current.taken_at is None:
            if self.problem and self._worker.started:
                raise RegistryUnavailable(self.problem)  # the thread tries again; no page need wait for its time-outs
            with self._pass:
                if self._current.taken_at is None:
                    self._full_pass()
        return self._current

    def refresh(self) -> Listing:
        """A full pass, now."""
        with self._pass:
            return self._full_pass()

    def watch(self, watcher: Watcher) -> None:
        """Let ``watcher`` take part in every full pass from now on."""
        self._watchers.append(watcher)

    def _full_pass(self) -> Listing:
        watching = [seen for watcher in self._watchers if (seen := _begun(watcher))]
        started = self._begin()
        self._look_for_hook()
        models = {model.name: model for page in self._registry.models() for model in page}
        versions: dict[str, list[ModelVersion]] = {}
        for page in self._registry.all_versions():
            for version in page:
                versions.setdefault(version.ref.name, []).append(version)
        ordered = {name: tuple(sorted(found, key=lambda v: v.ref.version)) for name, found in versions.items()}
        self._replace(models, ordered, started, full=True)
        listing = Listing(models=models, versions=ordered)
        for seen in watching:
            seen(listing)
        return listing

    def _look_for_hook(self) -> None:
        hook = proofs.hook(self._registry, self._gate_token)
        found = proofs.problem(hook, self._gate_token)
        if found and found != self.hook_problem:
            log.error("%s", found)
        self.gated, self.hook_problem = hook is not None, found

    def refresh_quick(self) -> None:
        """What MLflow updated since the last pass: new models, new versions, stages."""
        with self._pass:
            started, known = self._begin(), self._current
            if known.taken_at is None:
                return
            since = known.taken_at - OVERLAP
            models, versions = dict(known.models), dict(known.versions)
            for model_page in self._registry.models(newest_first=True):
                fresh = [model for model in model_page if model.updated_at >= since]
                models.update((model.name, model) for model in fresh)
                if len(fresh) < len(model_page):
                    break
            for version_page in self._registry.all_versions(newest_first=True):
                changed = [version for version in version_page if version.updated_at >= since]
                for version in changed:
                    others = [v for v in versions.get(version.ref.name, ()) if v.ref.version != version.ref.version]
                    versions[version.ref.name] = tuple(sorted([*others, version], key=lambda v: v.ref.version))
                if len(changed) < len(version_page):
                    break
            self._replace(models, versions, started, full=False)

    def touch(self, name: str) -> None:
        """Read one model again: after a change of our own it shows at once, also when a pass is under way."""
        try:
            read = (self._registry.model(name), self._registry.versions(name))
        except NotFound:
            read = None
        with self._swap:
            self._touched[name] = read
            self._shown.pop(name, None)
            if read or name in self._current.models:  # else nothing changed, and nobody need look again
                self._current = _with(self._current, {name: read})

    def show(self, versions: tuple[ModelVersion, ...], *, model: RegisteredModel | None = None) -> None:
        """Show what was just read of one model, for a change of our own; all else of it stays as it is shown.

        A model that is not shown yet is read whole. Raises `RegistryUnavailable` when that is not answered.
        """
        name = versions[0].ref.name
        if name not in self._current.models:
            self.touch(name)
            return
        with self._swap:
            before = self._shown.get(name, _Part())
            read = {version.ref.version: version for version in versions}
            self._shown[name] = _Part(model=model or before.model, versions={**before.versions, **read})
            self._current = _with_parts(self._current, {name: self._shown[name]})

    def hasten(self, name: str | None) -> None:
        """Let the next pass begin at once, reading model ``name`` again first; a hint, so any number cost one pass."""
        with self._swap:
            if name and len(self._hinted) < MAX_HINTS:
                self._hinted.add(name)
        self._worker.wake()

    def _begin(self) -> datetime:
        with self._swap:
            self._touched.clear()
            self._shown.clear()
        return datetime.now(UTC)

    def _replace(
        self,
        models: dict[str, RegisteredModel],
        versions: dict[str, tuple[ModelVersion, ...]],
        at: datetime,
        *,
        full: bool,
    ) -> None:
        with self._swap:
            current = self._current
            read = _with(
                Snapshot(
                    models=dict(sorted(models.items())),
                    versions=versions,
                    taken_at=at,
                    full_at=at if full else current.full_at,
                    generation=current.generation,
                ),
                self._touched,  # read after the pass began: newer than what the pass saw
            )
            self._current = _with_parts(read, self._shown)

    def start(self) -> None:
        """Refresh in the background until `stop`."""
        self._worker.start()

    def stop(self) -> None:
        """Stop refreshing; returns when the thread has ended or two seconds have passed."""
        self._worker.stop(2.0)

    def _round(self) -> float:
        if self._hinted:
            self._worker.rest(HINT_SECONDS)  # more of them are often on their way
        return self.turn()

    def turn(self) -> float:
        """One pass, full or quick, whichever is due; returns for how many seconds nothing is."""
        started = self._clock()
        with self._swap:
            hinted, self._hinted = self._hinted, set()
        try:
            for name in sorted(hinted):
                self.touch(name)
            if started >= self._next_full:
                self.refresh()
                ended = self._clock()
                self._next_full = ended + max(FULL_SECONDS, LOAD_SHARE * (ended - started))
            else:
                self.refresh_quick()
            self.problem = None
        except SignoffError as error:
            self.problem = str(error)
            log.warning("snapshot: %s", error)
        except Exception:
            self.problem = "Something broke inside Signoff; its log says what."
            raise
        return min(QUICK_SECONDS, max(self._next_full - self._clock(), 1.0))


def _begun(watcher: Watcher) -> Callable[[Listing], None] | None:
    try:
        return watcher()
    except SignoffError as error:  # who watches cannot; pages still want their snapshot
        log.warning("snapshot: %s", error)
        return None


def _with(
    snapshot: Snapshot, changes: Mapping[str, tuple[RegisteredModel, tuple[ModelVersion, ...]] | None]
) -> Snapshot:
    """``snapshot`` with some models replaced, or removed where None."""
    models, versions = dict(snapshot.models), dict(snapshot.versions)
    for name, change in changes.items():
        if change is None:
            models.pop(name, None)
            versions.pop(name, None)
        else:
            models[name], versions[name] = change
    if changes.keys() - snapshot.models.keys():
        models = dict(sorted(models.items()))
    return replace(snapshot, models=models, versions=versions, generation=snapshot.generation + 1)


def _with_parts(snapshot: Snapshot, parts: Mapping[str, _Part]) -> Snapshot:
    """``snapshot`` with some models and versions as they are now; a model that it does not know is left out."""
    changed: dict[str, tuple[RegisteredModel, tuple[ModelVersion, ...]] | None] = {}
    for name, part in parts.items():
        if known := snapshot.models.get(name):
            versions = {version.ref.version: version for version in snapshot.versions.get(name, ())} | part.versions
            changed[name] = (part.model or known, tuple(versions[number] for number in sorted(versions)))
    return _with(snapshot, changed)
