"""What Signoff talks about: versions, runs, evidence, people. Frozen, and valid once built."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from services.errors import BadInput

MAX_NAME = 500
"""Longest registered-model name we look up; MLflow's own column is 256 characters wide."""


class Stage(StrEnum):
    """MLflow's four stages of a model version."""

    NONE = "None"
    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"


class Status(StrEnum):
    """Where a version stands in review: the values of the tag ``approval_status``."""

    PENDING = "pending"
    APPROVED = "approved"
    AUTO_APPROVED = "auto_approved"
    CHANGES_REQUESTED = "changes_requested"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"

    @property
    def open(self) -> bool:
        """Whether a submission in this status still asks for a decision or a promotion."""
        return self not in {Status.REJECTED, Status.WITHDRAWN}


@dataclass(frozen=True, kw_only=True, order=True, slots=True)
class VersionRef:
    """A registered model's name and one version number, as ``name/v5`` in text."""

    name: str
    version: int

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > MAX_NAME:
            raise BadInput("A registered model's name must have between 1 and 500 characters.")
        if self.version < 1:
            raise BadInput(f"Versions are counted from 1; {self.version} is not one.")

    def __str__(self) -> str:
        return f"{self.name}/v{self.version}"

    @classmethod
    def parse(cls, name: str | None, version: str | int | None) -> VersionRef:
        """Build a reference from what a link or a person gave.

        Raises:
            BadInput: a name is missing, or the version is not a plain number such as ``3``
                (``"03"``, ``"3.0"`` and ``"٣"`` are refused: MLflow would read some of them as 3).
        """
        if not name:
            raise BadInput("No registered model was named.")
        if isinstance(version, int):
            return cls(name=name, version=version)
        if version is None or not re.fullmatch(r"[1-9][0-9]{0,8}", version):
            raise BadInput(f"{version!r} is not a version number; write it like 3.")
        return cls(name=name, version=int(version))


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set logged with ``mlflow.log_input``: its name, digest and context (``eval`` …).

    ``source`` is the path or address it is said to come from, empty where MLflow knows none; it is not its identity.
    """

    name: str
    digest: str
    context: str = ""
    source: str = field(default="", compare=False)


class MetricSource(StrEnum):
    """Who says a metric: policies choose by these words where the two say different values."""

    RUN = "run"
    LOGGED_MODEL = "logged_model"

    @property
    def words(self) -> str:
        """In a sentence."""
        return self.value.replace("_", " ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One value of one metric: who says it, when it was logged, and on which data set it was measured, where known.

    ``doubtful``: a 0 of a logged model that its run does not confirm, since MLflow keeps NaN as 0 there; or a value of
    a run that logged several models and does not say which of them was measured.
    """

    name: str
    value: float
    dataset_name: str | None = None
    dataset_digest: str | None = None
    source: MetricSource = MetricSource.RUN
    at: datetime | None = None
    doubtful: bool = False

    @property
    def usable(self) -> bool:
        """Whether the value is a number one may compare: neither NaN nor infinite, nor `doubtful`."""
        return math.isfinite(self.value) and not self.doubtful


@dataclass(frozen=True, kw_only=True)
class Column:
    """One field of a model signature: name (or position), type and whether it is required."""

    name: str
    type: str
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a model takes and gives; ``params`` can be given with a request, and each has a default."""

    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]
    params: tuple[Column, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a version's ``MLmodel`` file says; ``signature`` is None where it names none.

    ``named`` are the files and folders without which the model cannot be loaded, or its example not be read.
    ``outside`` is what loading it would read that is none of the version's own files.
    """

    signature: Signature | None = None
    has_input_example: bool = False
    named: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()


IS_PROMPT = "mlflow.prompt.is_prompt"
"""Makes a registered model a prompt: it hides the model, and on one version all of its versions, from every search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """One model version as MLflow shows it. ``created_at`` and ``updated_at`` are UTC."""

    ref: VersionRef
    created_at: datetime
    updated_at: datetime
    stage: str = Stage.NONE
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    run_id: str | None = None
    model_id: str | None = None
    source: str = ""
    user: str | None = None
    ready: bool = True

    @property
    def identity(self) -> str:
        """Tells a version from a later one of the same number: a number is reused after delete and create."""
        return f"{self.ref.name}:{self.ref.version}:{int(self.created_at.timestamp() * 1000)}:{self.source}"

    @property
    def status(self) -> str | None:
        """The public review status, from the tag ``approval_status``: shown, never decided upon."""
        return self.tags.get("approval_status")

    @property
    def is_prompt(self) -> bool:
        """Whether MLflow calls it a version of a prompt, and does not know it as one of a model."""
        return self.tags.get(IS_PROMPT, "").lower() == "true"


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredModel:
    """A registered model with its aliases (alias → version number) and the newest version of each stage."""

    name: str
    created_at: datetime
    updated_at: datetime
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    latest: tuple[ModelVersion, ...] = ()

    @property
    def owner(self) -> str | None:
        """Whose model it is, from the tag ``owner``."""
        return self.tags.get("owner")

    @property
    def is_prompt(self) -> bool:
        """Whether MLflow calls it a prompt: nothing of it is promoted."""
        return self.tags.get(IS_PROMPT, "").lower() == "true"

    def newest(self, ref: VersionRef) -> ModelVersion | None:
        """The version ``ref`` as it came with the model; None unless it is the newest of its stage, and no prompt."""
        return next((version for version in self.latest if version.ref == ref and not version.is_prompt), None)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run says: last metrics, params, tags, data sets. ``user`` is what the client claimed.

    ``models`` are the ids of the models that it logged. ``deleted``: MLflow still answers, but the run can be removed
    for good at any moment, and its files with it.
    """

    run_id: str
    name: str
    user: str | None
    experiment_id: str
    started_at: datetime | None
    ended_at: datetime | None
    status: str
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    datasets: tuple[Dataset, ...] = ()
    models: tuple[str, ...] = ()
    deleted: bool = False


@dataclass(frozen=True, kw_only=True)
class LoggedModelFacts:
    """What a logged model says: its own metrics with their data sets, and its params. ``run_id`` is who made it.

    One name can have several values: one for each data set, and more where several were logged at the last step.
    """

    model_id: str
    run_id: str | None = None
    ready: bool = True
    metrics: tuple[Metric, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ArtifactFile:
    """One file of a version: path relative to the model, size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ArtifactEntry:
    """One listed artifact, not yet read: path and size in bytes."""

    path: str
    size: int


Curve = tuple[tuple[int, float], ...]
"""One metric of a run over its steps, as (step, value), by step."""


class Action(StrEnum):
    """What a person may ask for."""

    VIEW = "view"
    SUBMIT = "submit"
    APPROVE = "approve"
    REQUEST_CHANGES = "request_changes"
    REJECT = "reject"
    RESOLVE = "resolve"
    REOPEN = "reopen"
    STATE_DATASET = "state_dataset"
    WITHDRAW = "withdraw"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    ARCHIVE = "archive"
    RESTORE = "restore"
    ADOPT = "adopt"
    AUTO = "auto"
    VALIDATE = "validate"
    VALIDATE_WITH_CONSENT = "validate_with_consent"
    CANCEL_VALIDATION = "cancel_validation"
    BREAK_GLASS = "break_glass"
    CONFIRM_EMERGENCY = "confirm_emergency"
    WITHDRAW_EMERGENCY = "withdraw_emergency"
    REVIEW_EMERGENCY = "review_emergency"
    RECONCILE = "reconcile"
    TRY_POLICIES = "try_policies"
    ASSIGN_POLICY = "assign_policy"
    EXPORT_LEDGER = "export_ledger"
    RETRY_MESSAGES = "retry_messages"
    MANAGE_PEOPLE = "manage_people"


class Role(StrEnum):
    """What a person may be; one person can be several."""

    VIEWER = "viewer"
    SCIENTIST = "scientist"
    REVIEWER = "reviewer"
    RELEASE_MANAGER = "release_manager"
    BREAK_GLASS = "break_glass"
    AUDITOR = "auditor"
    ADMIN = "admin"

    @property
    def words(self) -> str:
        """Whoever has it, in a sentence."""
        return "break-glass holder" if self is Role.BREAK_GLASS else self.value.replace("_", " ")


class Source(StrEnum):
    """The door a request came through."""

    BROWSER = "browser"
    REST = "rest"
    CLI = "cli"
    MLFLOW_CLIENT = "mlflow_client"
    RECONCILER = "reconciler"
    SYSTEM = "system"


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who acts, with the roles held at that moment and the door they came through."""

    username: str
    name: str
    roles: frozenset[Role]
    source: Source
    automation: bool = False
    """A service, not a person: it never counts as somebody who looked."""
    person: str | None = None
    """The immutable id of the person or service that the account belongs to; None for nobody's account."""


@dataclass(frozen=True, kw_only=True)
class WitnessRun:
    """A run of MLflow's that may hold checkpoints as write-once params, ``texts`` by name.

    ``called`` is the name of the experiment, and ``ledger`` what the run's tag says, which anybody may have written.
    ``active`` is False when somebody deleted the run or its experiment; its params are still read then.
    """

    run: str
    experiment: str
    called: str
    ledger: str
    active: bool
    texts: Mapping[str, str]


_EARLIEST_MS, _LATEST_MS = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000) for year in (1700, 2200))
"""What pandas, and a browser of any time zone, can show."""


def utc_from_ms(milliseconds: int | None) -> datetime:
    """MLflow's epoch milliseconds as an aware UTC datetime; 1970 where MLflow has none.

    MLflow takes any 64-bit number from anybody: what lies before 1700 or after 2200 becomes that year, which every
    check of time refuses as well.
    """
    return datetime.fromtimestamp(min(max(milliseconds or 0, _EARLIEST_MS), _LATEST_MS) / 1000, tz=UTC)
