"""A call to MLflow that could alter what Production means, as the hook in the MLflow server describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.accounts.people import MLFLOW_CLIENT
from services.domain import ModelVersion, RegisteredModel, VersionRef

WORKSPACE = "default"
"""The workspace of MLflow that is governed."""
HOOK_SECONDS = 20.0
"""How long the hook has for its database session, from when it asked."""


class What(StrEnum):
    """What is to be changed."""

    STAGE = "stage"
    ALIAS_SET = "alias_set"
    ALIAS_DELETED = "alias_deleted"
    TAG_SET = "tag_set"
    TAG_DELETED = "tag_deleted"
    VERSION_CREATED = "version_created"
    MODEL_TAG_SET = "model_tag_set"
    MODEL_TAG_DELETED = "model_tag_deleted"
    VERSION_DELETED = "version_deleted"
    MODEL_DELETED = "model_deleted"
    MODEL_RENAMED = "model_renamed"
    FILES_WRITTEN = "files_written"
    FILES_DELETED = "files_deleted"
    EVIDENCE_WRITTEN = "evidence_written"
    EVIDENCE_DELETED = "evidence_deleted"
    LOGGED_MODEL_CREATED = "logged_model_created"
    RECORD_WRITTEN = "record_written"


MOVES = frozenset({What.STAGE, What.ALIAS_SET, What.ALIAS_DELETED})
TAGS = frozenset({What.TAG_SET, What.TAG_DELETED})
BENEATH = frozenset(
    {
        What.FILES_WRITTEN,
        What.FILES_DELETED,
        What.EVIDENCE_WRITTEN,
        What.EVIDENCE_DELETED,
        What.LOGGED_MODEL_CREATED,
    }
)
"""Changes of files, runs and logged models that registered versions name; they may be versions of several models."""


UNGOVERNED = frozenset({What.VERSION_DELETED, What.MODEL_DELETED, What.MODEL_RENAMED})
"""What may happen in a workspace that is not governed: nothing is promoted there, so nothing can be lost."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A registered model with some of its versions, as the hook has just read them from MLflow's database."""

    model: RegisteredModel
    versions: tuple[ModelVersion, ...]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call to MLflow that could alter what Production means. Fields that its kind does not have are empty."""

    what: What
    name: str = ""
    version: int | None = None
    stage: str = ""
    archive_existing: bool = False
    alias: str = ""
    key: str = ""
    value: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    new_name: str = ""
    path: str = ""
    told: tuple[Told, ...] = ()
    user: str | None = None
    intent: str | None = None
    workspace: str = WORKSPACE
    patience: float = HOOK_SECONDS
    reason: str = ""
    """What the caller says it is for."""

    @property
    def actor(self) -> str:
        """Who asks: MLflow's authenticated user, or the service identity of those it does not know.

        A user who has that very name is not taken for it: there is no account of the name given instead.
        """
        return f"{self.user} (a user of MLflow)" if self.user == MLFLOW_CLIENT else self.user or MLFLOW_CLIENT

    @property
    def ref(self) -> VersionRef | None:
        """The version it is about; of a whole model, of files, or of a run, the first that was told."""
        if self.version is not None:
            return VersionRef(name=self.name, version=self.version)
        return next((version.ref for one in self.told for version in one.versions), None)
