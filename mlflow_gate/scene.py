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
from mlflow.prompt.constants import IS_PROMPT_TAG_KEY
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
    SqlRegisteredModelTag,
)


def _of(table: Any, *columns: Any) -> Any:
    """What MLflow holds of one registered model; columns, not objects, because a caller waits for every read here."""
    mine = (table.workspace == sa.bindparam("workspace"), table.name == sa.bindparam("name"))
    return sa.select(*columns).where(*mine)


PROMPT_SOURCES = frozenset({"dummy-source", "prompt-template"})
"""What MLflow's client and store give as the source of a prompt, which has none; no version of MLflow loads either."""
MAX_VALUE = 500
"""Characters of a tag that are told: what a policy asks for is shorter, and MLflow keeps 8,000 of each."""


def _short(value: Any) -> Any:
    return sa.func.substr(value, 1, MAX_VALUE)


_MODEL = _of(
    SqlRegisteredModel, SqlRegisteredModel.name, SqlRegisteredModel.creation_time, SqlRegisteredModel.last_updated_time
)
_MODEL_TAGS = _of(SqlRegisteredModelTag, SqlRegisteredModelTag.key, _short(SqlRegisteredModelTag.value))
_ALIASES = _of(SqlRegisteredModelAlias, SqlRegisteredModelAlias.alias, SqlRegisteredModelAlias.version)
_VERSIONS = _of(
    SqlModelVersion,
    SqlModelVersion.version,
    SqlModelVersion.creation_time,
    SqlModelVersion.last_updated_time,
    SqlModelVersion.current_stage,
    SqlModelVersion.source,
    SqlModelVersion.run_id,
).where(SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL)
_THOSE = _VERSIONS.where(
    sa.or_(
        SqlModelVersion.version.in_(sa.bindparam("numbers", expanding=True)),
        SqlModelVersion.current_stage.in_(DEFAULT_STAGES_FOR_GET_LATEST_VERSIONS),
    )
)
_TAGS = _of(
    SqlModelVersionTag, SqlModelVersionTag.version, SqlModelVersionTag.key, _short(SqlModelVersionTag.value)
).where(SqlModelVersionTag.version.in_(sa.bindparam("numbers", expanding=True)))


@dataclass(frozen=True)
class Scene:
    """One registered model and some of its versions; `message` is what Signoff is told."""

    message: Mapping[str, Any]

    @property
    def is_prompt(self) -> bool:
        """Whether it was made as a prompt, and nothing of it that matters here can be loaded as a model."""
        return str(self.message["tags"].get(IS_PROMPT_TAG_KEY, "")).lower() == "true" and all(
            version["source"] in PROMPT_SOURCES for version in self.message["versions"]
        )

    @property
    def aliases(self) -> Mapping[str, int]:
        """Alias → version."""
        aliases: Mapping[str, int] = self.message["aliases"]
        return aliases


def read(
    session: Any, workspace: str, name: str, numbers: Iterable[int] = (), *, every: bool = False, tags: bool = False
) -> Scene | None:
    """A model with the versions ``numbers``, those that aliases point at, and those in Staging or Production.

    Args:
        every: with all of its versions.
        tags: with the tags of the versions ``numbers``, of which there may be thousands.

    Returns None where there is no such model.
    """
    mine = {"workspace": workspace, "name": name}
    model = session.execute(_MODEL, mine).one_or_none()
    if model is None:
        return None
    wanted = set(numbers)
    aliases = {alias: int(version) for alias, version in session.execute(_ALIASES, mine)}
    versions = session.execute(
        *((_VERSIONS, mine) if every else (_THOSE, {**mine, "numbers": [*wanted, *aliases.values()]}))
    )
    told: dict[int, dict[str, str]] = {number: {} for number in wanted}
    for number, key, value in session.execute(_TAGS, {**mine, "numbers": [*wanted]}) if wanted and tags else ():
        told[number][key] = value or ""
    return Scene(
        {
            "name": model.name,
            "created": model.creation_time or 0,
            "updated": model.last_updated_time or 0,
            "tags": {key: value or "" for key, value in session.execute(_MODEL_TAGS, mine)},
            "aliases": aliases,
            "versions": [_version(row, told.get(row.version, {})) for row in versions],
        }
    )


def _version(row: Any, tags: Mapping[str, str]) -> dict[str, Any]:
    return {
        "version": row.version,
        "created": row.creation_time or 0,
        "updated": row.last_updated_time or 0,
        "stage": row.current_stage,
        "source": row.source or "",
        "run_id": row.run_id or None,
        "tags": tags,
    }
