"""MLflow's registry store, asking first. Overridden below every route, so that no spelling of a call gets around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mlflow.entities.model_registry.model_version_stages import (
    DEFAULT_STAGES_FOR_GET_LATEST_VERSIONS,
    get_canonical_stage,
)
from mlflow.entities.model_registry.model_version_tag import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.prompt.constants import IS_PROMPT_TAG_KEY
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.utils.models import _parse_model_uri
from mlflow.utils.validation import _validate_model_name, _validate_model_version

from mlflow_gate import caller, carrying_out, scene
from mlflow_gate.gate import Answer, Denied, Gate
from mlflow_gate.letters import begins_with, skeleton
from mlflow_gate.scene import Scene

RECORD_TAGS = frozenset(
    {
        "approval_status", "approved_by", "approval_comment", "approved_at", "promoted_by", "reason", "promoted_at",
        "signoff.digest", "signoff.policy", "signoff.event", "signoff.registered_by",
    }
)  # fmt: skip
"""The tags of the public record; with them go all that look like one, and all that begin with ``signoff.``"""
REGISTERED_BY = "signoff.registered_by"
"""Whom MLflow had authenticated when a version was registered, or empty; written here, with the version."""
HIDING = IS_PROMPT_TAG_KEY.casefold()
"""One version with this tag hides all versions of its model from every search, even when it is deleted."""


_AS_SEEN = frozenset(skeleton(key) for key in RECORD_TAGS)


class GatedRegistry:
    """Mixed in before MLflow's own store; ``gate`` is set when that is done."""

    gate: Gate

    # ---- stages and aliases --------------------------------------------------------------------------------

    def transition_model_version_stage(
        self, name: str, version: Any, stage: str, archive_existing_versions: bool
    ) -> Any:
        target, plain = get_canonical_stage(stage), super().transition_model_version_stage  # type: ignore[misc]
        if archive_existing_versions and target not in DEFAULT_STAGES_FOR_GET_LATEST_VERSIONS:
            return plain(name, version, stage, archive_existing_versions)  # an error, and MLflow's own
        number = _number(version)
        change = {
            "kind": "stage",
            "name": name,
            "version": number,
            "stage": target,
            "archive_existing": bool(archive_existing_versions),
        }
        done = self._moved(change, name, number, partial(plain, name, number, target, archive_existing_versions))
        return done or self.get_model_version(name, number)  # type: ignore[attr-defined]

    def set_registered_model_alias(self, name: str, alias: str, version: Any) -> None:
        plain = super().set_registered_model_alias  # type: ignore[misc]
        if not self.gate.protects(alias):
            plain(name, alias, version)
            return
        number = _number(version)
        change = {"kind": "alias_set", "name": name, "alias": alias, "version": number}
        self._moved(change, name, number, partial(plain, name, alias, number))

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        plain = super().delete_registered_model_alias  # type: ignore[misc]
        if not self.gate.protects(alias):
            plain(name, alias)
            return
        change = {"kind": "alias_deleted", "name": name, "alias": alias}
        self._moved(change, name, None, partial(plain, name, alias))

    def _moved(self, change: Mapping[str, Any], name: str, number: int | None, plain: Callable[[], Any]) -> Any:
        """Make what Signoff prescribes, or what was called for where it prescribes nothing."""
        found = self._scene(name, number, tags=caller.intent() is None)
        if found.is_prompt:
            return plain()
        with self.gate.turn(change):
            answer = self.gate.ask(change, [found.message], self._get_active_workspace())
            if answer.prescribed is None:
                answer.require_time()
                return plain()
            self._carry_out(found.message["name"], answer)
        return None

    def _carry_out(self, name: str, answer: Answer) -> None:
        try:
            with self.ManagedSessionMaker(read_only=False) as session:  # type: ignore[attr-defined]
                carrying_out.carry_out(session, self._get_active_workspace(), name, answer)
        except Exception as error:
            if answer.intent:
                self.gate.report(answer.intent, "failed", str(error))
            if isinstance(error, MlflowException):
                raise
            raise Denied(f"MLflow could not make this change: {error}") from error
        if answer.intent:
            self.gate.report(answer.intent, "applied")

    # ---- tags ----------------------------------------------------------------------------------------------

    def set_model_version_tag(self, name: str, version: Any, tag: Any) -> None:
        plain = super().set_model_version_tag  # type: ignore[misc]
        if _protected(tag.key):
            number = _number(version)
            self._ask(
                {"kind": "tag_set", "name": name, "version": number, "key": tag.key, "value": str(tag.value)},
                self._scene(name, number),
            )
        plain(name, version, tag)

    def delete_model_version_tag(self, name: str, version: Any, key: str) -> None:
        plain = super().delete_model_version_tag  # type: ignore[misc]
        if _protected(key) and key.casefold() != HIDING:
            number = _number(version)
            self._ask({"kind": "tag_deleted", "name": name, "version": number, "key": key}, self._scene(name, number))
        plain(name, version, key)

    def create_model_version(
        self, name: str, source: str, run_id: Any = None, tags: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Add, in the session that makes the version, who registers it. That asks nobody: training never waits."""
        given: list[Any] = list(tags or ())
        named = {tag.key: str(tag.value) for tag in given if tag.key != REGISTERED_BY and _protected(tag.key)}
        if named:
            self._ask({"kind": "version_created", "name": name, "tags": named}, self._scene(name, None))
        kept = [tag for tag in given if tag.key != REGISTERED_BY]
        for tag in given:
            if tag.key == REGISTERED_BY and str(tag.value) != self._registrant_of(source):
                raise Denied(f"{REGISTERED_BY} says who registers a version. It is written by this server alone.")
        if source not in scene.PROMPT_SOURCES:
            kept.append(ModelVersionTag(REGISTERED_BY, caller.user() or ""))
        return super().create_model_version(name, source, run_id, kept, *args, **kwargs)  # type: ignore[misc]

    def _registrant_of(self, source: str) -> str | None:
        """What a copy of a version brings along, as MLflow's client copies all tags; the copy gets its own."""
        try:
            of = _parse_model_uri(source)
            tags: Mapping[str, str] = self.get_model_version(of.name, of.version).tags  # type: ignore[attr-defined]
            return tags.get(REGISTERED_BY)
        except MlflowException:
            return None

    def set_registered_model_tag(self, name: str, tag: Any) -> None:
        hiding = tag.key.casefold() == HIDING
        if hiding or self.gate.chooses(tag.key):
            change = {"kind": "model_tag_set", "name": name, "key": tag.key, "value": str(tag.value)}
            self._ask(change, self._scene(name, None), prompts_too=hiding)
        super().set_registered_model_tag(name, tag)  # type: ignore[misc]

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        hiding = key.casefold() == HIDING
        if hiding or self.gate.chooses(key):
            change = {"kind": "model_tag_deleted", "name": name, "key": key}
            self._ask(change, self._scene(name, None), prompts_too=hiding)
        super().delete_registered_model_tag(name, key)  # type: ignore[misc]

    # ---- names ---------------------------------------------------------------------------------------------

    def rename_registered_model(self, name: str, new_name: str) -> Any:
        change = {"kind": "model_renamed", "name": name, "new_name": str(new_name)}
        self._ask(change, self._scene(name, None, every=True))
        return super().rename_registered_model(name, new_name)  # type: ignore[misc]

    def delete_registered_model(self, name: str) -> None:
        self._ask({"kind": "model_deleted", "name": name}, self._scene(name, None, every=True))
        super().delete_registered_model(name)  # type: ignore[misc]

    def delete_model_version(self, name: str, version: Any) -> None:
        number = _number(version)
        self._ask({"kind": "version_deleted", "name": name, "version": number}, self._scene(name, number))
        super().delete_model_version(name, number)  # type: ignore[misc]

    # ---- asking --------------------------------------------------------------------------------------------

    def _ask(self, change: Mapping[str, Any], found: Scene, *, prompts_too: bool = False) -> None:
        if found.is_prompt and not prompts_too:
            return
        with self.gate.turn(change):
            self.gate.ask(change, [found.message], self._get_active_workspace()).require_time()

    def _scene(self, name: str, number: int | None, *, every: bool = False, tags: bool = False) -> Scene:
        """What is there now; what is not there is answered as MLflow does."""
        _validate_model_name(name)
        with self.ManagedSessionMaker() as session:  # type: ignore[attr-defined]
            found = scene.read(
                session, self._get_active_workspace(), name, () if number is None else (number,), every=every, tags=tags
            )
        if found is None:
            raise MlflowException(f"Registered Model with name={name} not found", RESOURCE_DOES_NOT_EXIST)
        if number is not None and all(version["version"] != number for version in found.message["versions"]):
            raise MlflowException(f"Model Version (name={name}, version={number}) not found", RESOURCE_DOES_NOT_EXIST)
        return found

    def _get_active_workspace(self) -> str:
        return str(super()._get_active_workspace())  # type: ignore[misc]


def _protected(key: str) -> bool:
    """Whether a tag of a version is one that Signoff is asked about, or looks like one."""
    return skeleton(key) in _AS_SEEN or begins_with(key, "signoff") or key.casefold() == HIDING


def _number(version: Any) -> int:
    """``"03"`` and ``3`` are one version."""
    _validate_model_version(version)  # which gave nothing back in earlier versions
    return int(version)
