"""What MLflow's database holds of a registered model, as Signoff is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from mlflow.entities.model_registry.model_version_stages import (
    DEFAULT_STAGES_FOR_GET_LATEST_VERSIONS,
    STAGE_DELETED_INTERNAL,
)
from mlflow.prompt.constants import _PROMPT_SOURCE_PLACEHOLDERS, IS_PROMPT_TAG_KEY
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModel


@dataclass(frozen=True)
class Scene:
    """One registered model and some of its versions; `message` is what Signoff is told."""

    message: Mapping[str, Any]

    @property
    def is_prompt(self) -> bool:
        """Whether it was made as a prompt, and nothing of it that matters here can be loaded as a model."""
        return str(self.message["tags"].get(IS_PROMPT_TAG_KEY, "")).lower() == "true" and all(
            version["source"] in _PROMPT_SOURCE_PLACEHOLDERS for version in self.message["versions"]
        )

    @property
    def aliases(self) -> Mapping[str, int]:
        """Alias → version."""
        aliases: Mapping[str, int] = self.message["aliases"]
        return aliases


def read(session: Any, workspace: str, name: str, numbers: Iterable[int] = (), *, every: bool = False) -> Scene | None:
    """A model with the versions ``numbers``, those that aliases point at, and those in Staging or Production.

    Args:
        every: with all of its versions.

    Returns None where there is no such model.
    """
    model = session.query(SqlRegisteredModel).filter_by(workspace=workspace, name=name).one_or_none()
    if model is None:
        return None
    wanted = set(numbers)
    aliases = {alias.alias: int(alias.version) for alias in model.registered_model_aliases}
    query = session.query(SqlModelVersion).filter(
        SqlModelVersion.workspace == model.workspace,
        SqlModelVersion.name == model.name,
        SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL,
    )
    if not every:
        query = query.filter(
            sa.or_(
                SqlModelVersion.version.in_(wanted | set(aliases.values())),
                SqlModelVersion.current_stage.in_(DEFAULT_STAGES_FOR_GET_LATEST_VERSIONS),
            )
        )
    return Scene(
        {
            "name": model.name,
            "created": model.creation_time or 0,
            "updated": model.last_updated_time or 0,
            "tags": {tag.key: tag.value or "" for tag in model.registered_model_tags},
            "aliases": aliases,
            "versions": [_version(version, tags=version.version in wanted) for version in query],
        }
    )


def _version(version: Any, *, tags: bool) -> dict[str, Any]:
    return {
        "version": version.version,
        "created": version.creation_time or 0,
        "updated": version.last_updated_time or 0,
        "stage": version.current_stage,
        "source": version.source or "",
        "run_id": version.run_id or None,
        "tags": {tag.key: tag.value or "" for tag in version.model_version_tags} if tags else {},
    }
