"""What a call from outside to move a stage or an alias means: the verb it comes to, a free move, nothing, or a refusal.

Pure: the policy, what MLflow shows and who has a record in, words out. Names are compared without letter case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from services.domain import Action, ModelVersion, RegisteredModel, Stage, VersionRef
from services.letters import skeleton
from services.policy import Policy
from services.steps.changes import State


class Standing(Enum):
    """What the ledger has about exactly this version."""

    FREE = "no record"
    RECORDED = "a record, and no open submission"
    SUBMITTED = "an open submission"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A registered model as MLflow shows it, with the policy that judges it and the standing of its versions."""

    policy: Policy
    model: RegisteredModel
    versions: Mapping[int, ModelVersion]
    standings: Mapping[int, Standing]

    def standing(self, number: int) -> Standing:
        """Where a version stands; one that MLflow does not show has no record."""
        return self.standings.get(number, Standing.FREE)

    def serves(self, number: int) -> bool:
        """Whether a version is in Production, by its stage or by the champion's alias."""
        target = self.policy.rules.champion
        in_stage = target.stage != Stage.NONE and self._stage(number) == target.stage
        return in_stage or self.model.aliases.get(target.alias) == number

    def is_champion(self, number: int) -> bool:
        """Whether both say so: stage and alias."""
        target = self.policy.rules.champion
        return self._stage(number) == target.stage and self.model.aliases.get(target.alias) == number

    def others_in(self, stage: str, number: int) -> list[int]:
        """The other versions in a stage."""
        return sorted(n for n, version in self.versions.items() if n != number and version.stage == stage)

    def _stage(self, number: int) -> str | None:
        return self.versions[number].stage if number in self.versions else None


@dataclass(frozen=True, kw_only=True)
class Move:
    """The stage of ``ref``, or an alias: set to ``ref``, or deleted where it points at ``ref``."""

    ref: VersionRef
    stage: str | None = None
    archive_existing: bool = False
    alias: str | None = None
    deleted: bool = False


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why not, with what to do instead."""

    sentence: str


@dataclass(frozen=True, kw_only=True)
class Verb:
    """It is this verb of ours, about ``ref``, with all that belongs to it."""

    action: Action
    ref: VersionRef


@dataclass(frozen=True, kw_only=True)
class Free:
    """Anybody may; it is recorded, so that nobody takes it for a change past Signoff."""


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """It is so already."""

    state: State


Meaning = Refusal | Verb | Free | Nothing


def meaning(scene: Scene, move: Move) -> Meaning:
    """What ``move`` comes to."""
    if move.alias is None:
        return _stage(scene, move, str(move.stage))
    return _alias_deleted(scene, move, move.alias) if move.deleted else _alias_set(scene, move, move.alias)


def _stage(scene: Scene, move: Move, stage: str) -> Meaning:
    ref, number = move.ref, move.ref.version
    champion = scene.policy.rules.champion
    others = scene.others_in(stage, number)
    if stage == champion.stage != Stage.NONE:
        return _promotion(scene, move, stage, others)
    if scene.serves(number):
        if stage == Stage.ARCHIVED:
            return Verb(action=Action.ARCHIVE, ref=ref)
        return Refusal(sentence=f"{ref} is in {champion.stage}. Archive it, or promote another version in its place.")
    if scene.versions[number].stage == stage:
        return Nothing(state=State(stages={number: stage}, aliases={}))
    if move.archive_existing and any(scene.standing(other) is not Standing.FREE for other in others):
        return Refusal(
            sentence=f"{_listed(others)} of {ref.name} in {stage} would be archived, and has a record. "
            "Leave archive_existing_versions out."
        )
    return _within_review(scene, ref, stage)


def _within_review(scene: Scene, ref: VersionRef, stage: str) -> Meaning:
    """What a stage that is not the champion's means for a version that does not serve."""
    standing, candidate = scene.standing(ref.version), scene.policy.rules.candidate
    if stage == candidate.stage != Stage.NONE:
        return Free() if standing is Standing.SUBMITTED else Verb(action=Action.SUBMIT, ref=ref)
    if standing is Standing.FREE:
        return Free()
    verbs = {Stage.ARCHIVED.value: Action.ARCHIVE}
    if standing is Standing.SUBMITTED:
        verbs[Stage.NONE.value] = Action.WITHDRAW
    if action := verbs.get(stage):
        return Verb(action=action, ref=ref)
    return Refusal(
        sentence=f"{ref} has a record, and nothing in it leads to {stage}. Submit it for review, or archive it."
    )


def _promotion(scene: Scene, move: Move, stage: str, others: list[int]) -> Meaning:
    ref = move.ref
    if scene.is_champion(ref.version):
        if others:
            return Refusal(sentence=f"{_listed(others)} of {ref.name} is in {stage} too; put that back first.")
        return _champion_already(scene, ref)
    if others and not move.archive_existing:
        return Refusal(
            sentence=f"{_listed(others)} of {ref.name} is in {stage}, and only one version can be. "
            "Pass archive_existing_versions=True."
        )
    return Verb(action=Action.PROMOTE, ref=ref)


def _champion_already(scene: Scene, ref: VersionRef) -> Nothing:
    target = scene.policy.rules.champion
    return Nothing(state=State(stages={ref.version: target.stage}, aliases={target.alias: ref.version}))


def _alias_set(scene: Scene, move: Move, alias: str) -> Meaning:
    ref, number = move.ref, move.ref.version
    champion, candidate = scene.policy.rules.champion, scene.policy.rules.candidate
    if other := _mistaken_for(alias, champion.alias, candidate.alias):
        return Refusal(sentence=f"{alias} looks like the protected alias {other}. Write it {other}, or choose another.")
    if alias == champion.alias:
        if scene.is_champion(number):
            return _champion_already(scene, ref)
        return Verb(action=Action.PROMOTE, ref=ref)
    now = scene.model.aliases.get(alias)
    if now == number:
        return Nothing(state=State(stages={}, aliases={alias: number}))
    if alias != candidate.alias:
        return Free()
    if scene.serves(number):
        return Refusal(sentence=f"{ref} is in {champion.stage}; it cannot be its own {alias}.")
    return Free() if scene.standing(number) is Standing.SUBMITTED else Verb(action=Action.SUBMIT, ref=ref)


def _alias_deleted(scene: Scene, move: Move, alias: str) -> Meaning:
    champion, candidate = scene.policy.rules.champion, scene.policy.rules.candidate
    if alias == champion.alias:
        return Refusal(
            sentence=f"{alias} says that {move.ref} is in {champion.stage}. "
            "Archive it, or promote another version in its place."
        )
    if alias == candidate.alias and scene.standing(move.ref.version) is Standing.SUBMITTED:
        return Verb(action=Action.WITHDRAW, ref=move.ref)
    return Free()


def _mistaken_for(alias: str, *protected: str) -> str | None:
    """The protected alias that another one looks like, without being one."""
    if alias in protected:
        return None
    return next((name for name in protected if skeleton(alias) == skeleton(name)), None)


def _listed(numbers: list[int]) -> str:
    return " and ".join(f"v{number}" for number in numbers)
