"""What a verb will change in MLflow, prescribed before it starts: stages and aliases, before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from services.domain import ModelVersion, RegisteredModel, Stage, VersionRef
from services.errors import NotFound, RegistryUnavailable
from services.registry import Registry


@dataclass(frozen=True, kw_only=True)
class State:
    """The part of a registered model that a change is about: version → stage, alias → version (None: not set)."""

    stages: Mapping[int, str]
    aliases: Mapping[str, int | None]

    def as_json(self) -> dict[str, Any]:
        """For an event or a JSON column, whose keys are text."""
        return {"stages": {str(v): stage for v, stage in self.stages.items()}, "aliases": dict(self.aliases)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        return cls(stages={int(v): stage for v, stage in value["stages"].items()}, aliases=value["aliases"])


@dataclass(frozen=True, kw_only=True)
class Change:
    """Move ``ref`` to a stage, point aliases at it or take them from it; ``before`` and ``after`` say it in full."""

    ref: VersionRef
    before: State
    after: State
    each: bool = False
    """Every version is moved on its own, and nothing else is: how a restoration works."""

    @property
    def stage(self) -> str:
        """The stage ``ref`` ends in."""
        return self.after.stages[self.ref.version]

    @property
    def replaced(self) -> int | None:
        """The version that leaves the stage ``ref`` enters, if one does."""
        return next(
            (v for v, stage in self.before.stages.items() if v != self.ref.version and stage == self.stage), None
        )

    def as_json(self) -> dict[str, Any]:
        """For a JSON column."""
        return {
            "name": self.ref.name,
            "version": self.ref.version,
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            **({"each": True} if self.each else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        return cls(
            ref=VersionRef(name=value["name"], version=value["version"]),
            before=State.from_json(value["before"]),
            after=State.from_json(value["after"]),
            each=value.get("each", False),
        )


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


def observe(registry: Registry, change: Change) -> State:
    """How MLflow stands now in all that ``change`` is about, with whoever else is in the target's new stage."""
    model, versions = registry.model(change.ref.name), registry.versions(change.ref.name)
    if not any(version.ref == change.ref for version in versions):
        raise NotFound(f"MLflow no longer has {change.ref}.")
    alone = len(change.after.stages) > 1 or change.stage == Stage.PRODUCTION
    return State(
        stages={
            v.ref.version: v.stage
            for v in versions
            if v.ref.version in change.after.stages or (alone and not change.each and v.stage == change.stage)
        },
        aliases={alias: model.aliases.get(alias) for alias in change.after.aliases},
    )


def apply(registry: Registry, change: Change) -> None:
    """Send the change: the stage first, then the aliases. Sent once; whether it arrived is for `observe`."""
    if change.each:
        _move_each(registry, change.ref.name, change.before, change.after)
    elif change.before.stages != change.after.stages:
        registry.set_stage(change.ref, change.stage, archive_existing=len(change.after.stages) > 1)
    apply_aliases(registry, change.ref.name, change.before.aliases, change.after.aliases)


def apply_aliases(
    registry: Registry, name: str, now: Mapping[str, int | None], wanted: Mapping[str, int | None]
) -> None:
    """Move those aliases of a model that are not yet where they should be."""
    for alias, version in wanted.items():
        if now.get(alias) == version:
            continue
        if version is None:
            registry.delete_alias(name, alias)
        else:
            registry.set_alias(VersionRef(name=name, version=version), alias)


def restore(registry: Registry, change: Change, found: State) -> State:
    """Put everything back as it was before; returns what MLflow then shows."""
    _move_each(registry, change.ref.name, found, change.before)
    apply_aliases(registry, change.ref.name, found.aliases, change.before.aliases)
    return observe(registry, change)


def _move_each(registry: Registry, name: str, now: State, wanted: State) -> None:
    # Out of Production first: two versions must not be there together, not even for a moment.
    for version, stage in sorted(wanted.stages.items(), key=lambda item: item[1] == Stage.PRODUCTION):
        if now.stages.get(version) != stage:
            registry.set_stage(VersionRef(name=name, version=version), stage)


def is_lost(error: Exception) -> bool:
    """Whether an error leaves open if a change was, or still will be, applied."""
    return isinstance(error, RegistryUnavailable)
