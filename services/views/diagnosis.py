"""Which versions of a registry the gate would refuse now, whatever anybody approves, and why: before one is submitted.

It reads lists, runs and logged models in bulk, and no file. What that leaves open is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from services.domain import LoggedModelFacts, ModelVersion, RegisteredModel, RunFacts
from services.errors import InvalidSettings, NotFound
from services.evidence import Evidence
from services.place import Place, PlaceKind, foreign_run, may_move
from services.policy import Policy, PolicyBook
from services.registry import Registry
from services.snapshot import champion_of

MAX_RESOLVED = 200
"""Versions whose source may mean two places that are resolved one by one; each costs MLflow a handful of requests."""
_RUN_FOLDER = re.compile(r"(?:^runs:/+|/)([0-9a-f]{32})(?:/|$)", re.IGNORECASE)


class Cause(StrEnum):
    """Why a version would be refused, or a whole model; the value is the heading of its group."""

    POLICY = "No policy, or more than one, judges the model"
    UNREADABLE = "Its files cannot be read from here"
    NO_RUN = "It names no run"
    DELETED_RUN = "Its run is deleted"
    OTHER_RUN = "Its files were made by another run"
    LOST = "Its files belong to no run or logged model"
    TWO_PLACES = "Its source means two places"
    UNLOADABLE = "MLflow itself cannot load it"
    CHAMPION_METRICS = "The champion lacks a metric that later versions are compared by"
    CHAMPION_DATASET = "The champion does not say on which data set it was measured"


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """One reason for one version, or for a whole model where ``version`` is None."""

    cause: Cause
    model: str
    version: int | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found among so many ``versions`` of ``models``; ``unseen`` says in words what was not looked at."""

    symptoms: tuple[Symptom, ...]
    models: int
    versions: int
    unseen: tuple[str, ...]

    @property
    def groups(self) -> Mapping[Cause, Sequence[Symptom]]:
        """By cause, in the order of `Cause`; those without any are left out."""
        found = {cause: [one for one in self.symptoms if one.cause is cause] for cause in Cause}
        return {cause: group for cause, group in found.items() if group}

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "models": self.models,
            "versions": self.versions,
            "counts": {cause.name.lower(): len(group) for cause, group in self.groups.items()},
            "refused": [
                {"cause": one.cause.name.lower(), "name": one.model, "version": one.version, "reason": one.sentence}
                for one in self.symptoms
            ],
            "not_looked_at": list(self.unseen),
        }


def diagnose(registry: Registry, policies: PolicyBook) -> Diagnosis:
    """Look through a whole registry.

    Raises:
        RegistryUnavailable: MLflow did not answer; nothing is said then.
    """
    models = {model.name: model for page in registry.models() for model in page}
    versions = [version for page in registry.all_versions() for version in page]
    runs = registry.runs(dict.fromkeys(v.run_id for v in versions if v.run_id))
    logged = registry.logged_models(dict.fromkeys(v.model_id for v in versions if v.model_id))
    resolved = [version for version in versions if may_move(version)]
    places = {v.ref: place for v in resolved[:MAX_RESOLVED] if (place := _place(registry, v))}
    symptoms = [
        *_of_models(models, versions, policies, runs, logged),
        *(
            symptom
            for version in versions
            for symptom in _of_version(registry, version, runs, logged, places.get(version.ref))
        ),
    ]
    order = list(Cause)
    symptoms.sort(key=lambda one: (order.index(one.cause), one.model, one.version or 0))
    unseen = ["the files themselves, their signatures, and whether a store gives them to Signoff"]
    if len(resolved) > MAX_RESOLVED:
        more = len(resolved) - MAX_RESOLVED
        unseen.append(f"whether the source of {more} more versions, a runs: address or a copy, means two places")
    return Diagnosis(symptoms=tuple(symptoms), models=len(models), versions=len(versions), unseen=tuple(unseen))


def _place(registry: Registry, version: ModelVersion) -> Place | None:
    try:
        return registry.place(version)
    except NotFound:
        return None  # deleted since it was listed


def _of_version(
    registry: Registry,
    version: ModelVersion,
    runs: Mapping[str, RunFacts],
    logged: Mapping[str, LoggedModelFacts],
    place: Place | None,
) -> Iterator[Symptom]:
    ref, model = version.ref, logged.get(version.model_id or "")

    def symptom(cause: Cause, sentence: str) -> Symptom:
        return Symptom(cause=cause, model=ref.name, version=ref.version, sentence=sentence)

    if why := registry.source_problem(version):
        yield symptom(Cause.UNREADABLE, why)
    run = runs.get(version.run_id or "")
    if version.run_id and (run is None or run.deleted):
        yield symptom(Cause.DELETED_RUN, f"The run {version.run_id} of {ref} is deleted in MLflow, or was never there.")
    elif not version.run_id and model is None:
        yield symptom(Cause.NO_RUN, f"{ref} names no run, so nothing says how it was measured, or by whom.")
    found = place or _likely_place(version, model)
    if why := foreign_run(found, ref, version.run_id):
        yield symptom(Cause.LOST if found.kind is PlaceKind.LOST else Cause.OTHER_RUN, why)
    if place and place.others:
        both = " and ".join((place.words, *place.others))
        yield symptom(Cause.TWO_PLACES, f"MLflow reads the source {version.source} of {ref} from {both}.")
    if place and place.unloadable_because:
        words = f"MLflow cannot load {ref} by its source {version.source}: {place.unloadable_because}"
        yield symptom(Cause.UNLOADABLE, f"{words}. Its files are {place.words}.")


def _likely_place(version: ModelVersion, model: LoggedModelFacts | None) -> Place:
    """What a source says of itself, without asking."""
    if model is not None:
        return Place(kind=PlaceKind.LOGGED_MODEL, uri=version.source, id=model.model_id, run_id=model.run_id)
    if version.model_id and version.model_id in version.source:
        return Place(kind=PlaceKind.LOST, uri=version.source, id=version.model_id)
    named = _RUN_FOLDER.findall(version.source) if "/models/" not in version.source else []
    if named:
        return Place(kind=PlaceKind.RUN, uri=version.source, id=named[-1], run_id=named[-1])
    return Place(kind=PlaceKind.ELSEWHERE, uri=version.source)


def _of_models(
    models: Mapping[str, RegisteredModel],
    versions: Sequence[ModelVersion],
    policies: PolicyBook,
    runs: Mapping[str, RunFacts],
    logged: Mapping[str, LoggedModelFacts],
) -> Iterator[Symptom]:
    by_name: dict[str, list[ModelVersion]] = {}
    for version in versions:
        by_name.setdefault(version.ref.name, []).append(version)
    for name, model in models.items():
        try:
            policy = policies.match(model)
        except InvalidSettings as error:
            yield Symptom(cause=Cause.POLICY, model=name, version=None, sentence=str(error))
            continue
        target = policy.rules.champion
        own = tuple(sorted(by_name.get(name, ()), key=lambda one: one.ref.version))
        if champion := champion_of(model, own, alias=target.alias, stage=target.stage):
            evidence = Evidence(
                version=champion,
                run=runs.get(champion.run_id or ""),
                logged_model=logged.get(champion.model_id or ""),
            )
            yield from _of_champion(policy, evidence)


def _of_champion(policy: Policy, champion: Evidence) -> Iterator[Symptom]:
    """What of a champion stands in the way of every version that is to replace it."""
    ref = champion.ref

    def symptom(cause: Cause, sentence: str) -> Symptom:
        return Symptom(cause=cause, model=ref.name, version=ref.version, sentence=sentence)

    for rule in policy.rules.metrics:
        metric = champion.metrics.get(rule.name)
        compared = rule.min_absolute_change is not None or rule.min_relative_change is not None
        if compared and (metric is None or not metric.usable):
            words = f"The champion {ref} has no usable {rule.name}, by which policy {policy.rules.name} compares"
            yield symptom(Cause.CHAMPION_METRICS, f"{words}: every later version is refused.")
    if policy.rules.same_dataset and not champion.holdout:
        words = (
            f"The champion {ref} says not on which data set it was measured, and policy {policy.rules.name} asks for"
        )
        yield symptom(Cause.CHAMPION_DATASET, f"{words} the same: every later version is refused.")
