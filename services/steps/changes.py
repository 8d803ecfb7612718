"""What a verb will change in MLflow, prescribed before it starts: stages and aliases, before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from services.domain import Actor, ModelVersion, RegisteredModel, Stage, VersionRef
from services.errors import NotFound
from services.gate import Verdict
from services.registry import Registry, version_of


@dataclass(frozen=True, kw_only=True)
class State:
    """The part of a registered model that a change is about: version → stage, alias → version (None: not set).

    ``tags`` are those of the version the change is about, key → value (None: not set).
    """

    stages: Mapping[int, str]
    aliases: Mapping[str, int | None]
    tags: Mapping[str, str | None] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For an event or a JSON column, whose keys are text."""
        return {
            "stages": {str(v): stage for v, stage in self.stages.items()},
            "aliases": dict(self.aliases),
            **({"tags": dict(self.tags)} if self.tags else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        return cls(
            stages={int(v): stage for v, stage in value["stages"].items()},
            aliases=value["aliases"],
            tags=value.get("tags", {}),
        )


@dataclass(frozen=True, kw_only=True)
class Change:
    """Move ``ref`` to a stage, point aliases at it or take them from it; ``before`` and ``after`` say it in full."""

    ref: VersionRef
    before: State
    after: State
    each: bool = False
    """Every version is moved on its own, and nothing else is: how a restoration works."""
    succeeds: int | None = None
    """The champion by the record, whom ``ref`` takes the place of wherever MLflow shows it."""
    KEYS: ClassVar = frozenset({"before", "after", "each", "succeeds"})
    """What `as_json` may say."""

    @property
    def stage(self) -> str:
        """The stage ``ref`` ends in."""
        return self.after.stages[self.ref.version]

    @property
    def alone(self) -> bool:
        """Whether ``ref`` ends alone in its stage: whatever else is there is archived in the same step."""
        return len(self.after.stages) > 1 or self.stage == Stage.PRODUCTION

    @property
    def replaced(self) -> int | None:
        """The version that leaves the stage ``ref`` enters, if one does; of several the one an alias points at."""
        leaving = [v for v, stage in self.before.stages.items() if v != self.ref.version and stage == self.stage]
        return next((v for v in leaving if v in self.before.aliases.values()), leaving[0] if leaving else None)

    def as_json(self) -> dict[str, Any]:
        """For the event that prescribes it, which names ``ref`` itself."""
        return {
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            **({"each": True} if self.each else {}),
            **({"succeeds": self.succeeds} if self.succeeds else {}),
        }

    @classmethod
    def from_json(cls, ref: VersionRef, value: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        return cls(
            ref=ref,
            before=State.from_json(value["before"]),
            after=State.from_json(value["after"]),
            each=value.get("each", False),
            succeeds=value.get("succeeds"),
        )


@dataclass(frozen=True, kw_only=True)
class Intent:
    """What is about to be done, by whom and why. ``context`` is plain JSON and all that closing it needs."""

    id: str
    subject: str
    change: Change
    actor: Actor
    comment: str
    context: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    """What the gate said when it was allowed; None for what needs no verdict."""

    @property
    def ref(self) -> VersionRef:
        """The version it is about."""
        return self.change.ref


def prescribe(
    model: RegisteredModel,
    versions: Iterable[ModelVersion],
    ref: VersionRef,
    *,
    stage: str,
    alone: bool = False,
    point: Iterable[str] = (),
    unpoint: Iterable[str] = (),
) -> Change:
    """The change that moves ``ref`` to ``stage``.

    Args:
        alone: whatever else is in that stage is archived.
        point: aliases that are to point at ``ref``.
        unpoint: aliases to remove where they point at ``ref``.
    """
    stages = {v.ref.version: v.stage for v in versions if v.ref.version == ref.version or (alone and v.stage == stage)}
    aliases = {alias: model.aliases.get(alias) for alias in point}
    dropped = {alias: ref.version for alias in unpoint if model.aliases.get(alias) == ref.version}
    return Change(
        ref=ref,
        before=State(stages=stages, aliases={**aliases, **dropped}),
        after=State(
            stages={version: stage if version == ref.version else Stage.ARCHIVED.value for version in stages},
            aliases={**dict.fromkeys(aliases, ref.version), **dict.fromkeys(dropped, None)},
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Observation:
    """How MLflow stands in all that a change is about, and what was read to know it: not always all versions."""

    state: State
    model: RegisteredModel
    versions: tuple[ModelVersion, ...]
    own: ModelVersion
    """The version that the change is about."""


def observe(registry: Registry, change: Change) -> Observation:
    """How MLflow stands now in all that ``change`` is about, with whoever else is in the target's new stage."""
    model = registry.model(change.ref.name)
    if change.each or change.alone:
        versions = registry.versions(change.ref.name)
        own = next((version for version in versions if version.ref == change.ref), None)
        if own is None:
            raise NotFound(f"MLflow no longer has {change.ref}.")
    else:
        own = version_of(registry, model, change.ref)
        versions = (own,)
    state = State(
        stages={
            v.ref.version: v.stage
            for v in versions
            if v.ref.version in change.after.stages or (not change.each and change.alone and v.stage == change.stage)
        },
        aliases={alias: model.aliases.get(alias) for alias in change.after.aliases},
        tags={key: own.tags.get(key) for key in change.after.tags},
    )
    return Observation(state=state, model=model, versions=versions, own=own)


class Sender:
    """Sends the writes of one change: each at most once, and only while ``fence`` does not object.

    ``fence`` raises when the model's slot is no longer ours: whoever woke up too late must not undo what a later
    holder did. What was sent without an answer is not sent again either, as both could be applied.
    """

    def __init__(self, registry: Registry, fence: Callable[[], None], intent: str) -> None:
        self._registry = registry
        self._intent = intent
        self._fence = fence
        self.sent: set[str] = set()

    def apply(self, change: Change) -> None:
        """Send the change: the stage first, then the aliases, then tags. Whether it arrived is for `observe`."""
        if change.each:
            self._move_each(change.ref.name, change.before, change.after)
        elif change.before.stages != change.after.stages:
            self._stage(change.ref, change.stage, alone=change.alone)
        self.point(change.ref.name, change.before.aliases, change.after.aliases)
        self._tag(change.ref, change.before.tags, change.after.tags)

    def point(self, name: str, now: Mapping[str, int | None], wanted: Mapping[str, int | None]) -> None:
        """Move those aliases of a model that are not yet where they should be."""
        for alias, version in wanted.items():
            if now.get(alias) == version or not self._first(f"alias {alias} {version}"):
                continue
            with self._registry.under(self._intent):
                if version is None:
                    self._registry.delete_alias(name, alias)
                else:
                    self._registry.set_alias(VersionRef(name=name, version=version), alias)

    def restore(self, change: Change, found: State) -> State:
        """Put back what the change moved; what somebody else moved since stays. Returns what MLflow then shows.

        The old champion comes back in the step that archives the new one, so that there are never two; should we
        die after it, the next one to try finds the new one archived and goes on from there.
        """
        name, ref = change.ref.name, change.ref
        if change.each:
            self._move_each(name, found, change.before)
            self.point(name, found.aliases, change.before.aliases)
            return observe(self._registry, change).state
        rivals = found.stages.keys() - change.after.stages.keys()
        if change.replaced and not rivals and found.stages.get(change.replaced) == Stage.ARCHIVED:
            self._stage(VersionRef(name=name, version=change.replaced), change.stage, alone=True)
            found = observe(self._registry, change).state
        before = change.before.stages[ref.version]
        if found.stages.get(ref.version) != before and found.stages.get(ref.version) in {change.stage, Stage.ARCHIVED}:
            self._stage(ref, before)
        moved = (alias for alias, version in change.after.aliases.items() if found.aliases[alias] == version)
        self.point(name, found.aliases, {alias: change.before.aliases[alias] for alias in moved})
        return observe(self._registry, change).state

    def _move_each(self, name: str, now: State, wanted: State) -> None:
        # Out of Production first: two versions must not be there together, not even for a moment.
        for version, stage in sorted(wanted.stages.items(), key=lambda item: item[1] == Stage.PRODUCTION):
            if now.stages.get(version) != stage:
                self._stage(VersionRef(name=name, version=version), stage)

    def _tag(self, ref: VersionRef, now: Mapping[str, str | None], wanted: Mapping[str, str | None]) -> None:
        for key, value in wanted.items():
            if now.get(key) == value or not self._first(f"tag {key}"):
                continue
            with self._registry.under(self._intent):
                if value is None:
                    self._registry.delete_tag(ref, key)
                else:
                    self._registry.set_tag(ref, key, value)

    def _stage(self, ref: VersionRef, stage: str, *, alone: bool = False) -> None:
        if self._first(f"stage {ref.version} {stage}"):
            with self._registry.under(self._intent):
                self._registry.set_stage(ref, stage, archive_existing=alone)

    def _first(self, write: str) -> bool:
        if write in self.sent:
            return False
        self._fence()
        self.sent.add(write)
        return True
