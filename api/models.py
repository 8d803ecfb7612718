"""``GET /models``, one of them, and one version: from the snapshot, as pages are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api import parameters
from api.auth import ByBearer, Caller
from api.parameters import WITHOUT_NUL, Cursor, Limit, Name, Recorded, Text, Version
from services import facts
from services.domain import Action, Metric, MetricSource, ModelVersion, RegisteredModel, VersionRef
from services.errors import NotFound
from services.evidence import Decision, Submission
from services.measurements import Measurement
from services.views import catalogue
from services.views.catalogue import MAX_TEXT
from services.views.rows import Row

router = APIRouter(tags=["models"])


class ModelLine(BaseModel):
    """One registered model in the list; ``champion`` and ``challenger`` are version numbers."""

    name: str
    owner: str | None
    tags: dict[str, str]
    champion: int | None
    challenger: int | None
    status: str | None
    versions: int
    changed_at: datetime


class ModelList(BaseModel):
    """Some registered models, by name."""

    models: list[ModelLine]
    next_cursor: str | None


class VersionLine(BaseModel):
    """One version in a model's list; ``status`` is the public tag, a mirror of the record."""

    version: int
    stage: str
    aliases: list[str]
    status: str | None
    run_id: str | None
    created_at: datetime


class ModelAnswer(BaseModel):
    """One registered model with some of its versions, newest first."""

    name: str
    description: str
    owner: str | None
    tags: dict[str, str]
    aliases: dict[str, int]
    created_at: datetime
    updated_at: datetime
    versions: list[VersionLine]
    next_cursor: str | None


class MetricValue(BaseModel):
    """A value of a metric, null where it is not a finite number; who says it since when; what it was measured on."""

    value: float | None
    source: MetricSource
    logged_at: datetime | None
    dataset: str | None
    dataset_digest: str | None


class MetricAnswer(MetricValue):
    """A metric; ``values`` has each value where run and logged model say different ones, and is empty otherwise."""

    values: list[MetricValue]


class SubmissionAnswer(BaseModel):
    """The open submission. A ``proposal`` was made by an MLflow client, and nobody answers for it yet."""

    status: str
    submitted_by: str
    proposal: bool
    submitted_at: Recorded
    comment: str
    event: int


class DecisionAnswer(BaseModel):
    """Somebody's last vote on the open submission; whether it counts is for the verdict to say."""

    person: str
    decision: str
    comment: str
    at: Recorded
    event: int


class VersionAnswer(VersionLine):
    """One version with its evidence and its open submission. ``claimed_author`` is what the training client said."""

    name: str
    description: str
    tags: dict[str, str]
    model_id: str | None
    source: str
    claimed_author: str | None
    updated_at: datetime
    digest: str | None
    metrics: dict[str, MetricAnswer]
    params: dict[str, str]
    submission: SubmissionAnswer | None
    decisions: list[DecisionAnswer]


@router.get("/models")
def registered_models(  # noqa: PLR0913, PLR0917
    caller: ByBearer,
    q: Annotated[str, Query(max_length=MAX_TEXT, pattern=WITHOUT_NUL, description="Words, in any order.")] = "",
    stage: Text = None,
    status: Text = None,
    owner: Text = None,
    tag: Text = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> ModelList:
    """The registered models this token is for, by name. A `tag` is `key` or `key:value`."""
    caller.require(Action.VIEW, None, filtered=True)
    query = catalogue.Query(text=q, stage=stage, status=status, owner=owner, tag=tag)
    name = parameters.place("model", cursor) if cursor is not None else ""
    found = catalogue.after(caller.signoff, query, name=name, size=limit, covered=caller.bearer.scope.covers)
    following = parameters.cursor("model", found.last) if found.last is not None else None
    return ModelList(models=[_line(row) for row in found.rows], next_cursor=following)


@router.get("/models/{name}")
def registered_model(caller: ByBearer, name: Name, cursor: Cursor = None, limit: Limit = 50) -> ModelAnswer:
    """One registered model and its versions, newest first."""
    caller.require(Action.VIEW, name)
    before = parameters.number("version", cursor) if cursor is not None else math.inf
    model, versions = known(caller, name)
    older = [version for version in reversed(versions) if version.ref.version < before]
    following = parameters.cursor("version", older[limit - 1].ref.version) if len(older) > limit else None
    return ModelAnswer(
        name=model.name,
        description=model.description,
        owner=model.owner,
        tags=dict(model.tags),
        aliases=dict(model.aliases),
        created_at=model.created_at,
        updated_at=model.updated_at,
        versions=[VersionLine(**_version(model, version)) for version in older[:limit]],
        next_cursor=following,
    )


@router.get("/models/{name}/versions/{version}")
def model_version(caller: ByBearer, name: Name, version: Version) -> VersionAnswer:
    """One version: what MLflow shows, its evidence, and its open submission."""
    caller.require(Action.VIEW, name)
    ref = parameters.version(name, version)
    model, found = known_version(caller, ref)
    with caller.asking_mlflow():
        evidence = caller.signoff.reader.remembered(found)
    with caller.signoff.database.reading() as connection:
        submission = facts.open_submission(connection, found)
        decisions = facts.latest_decisions(connection, [submission]).get(submission.id, ()) if submission else ()
    return VersionAnswer(
        **_version(model, found),
        name=ref.name,
        description=found.description,
        tags=dict(found.tags),
        model_id=found.model_id,
        source=found.source,
        claimed_author=evidence.claimed_author,
        updated_at=found.updated_at,
        digest=evidence.manifest.digest if evidence.manifest else None,
        metrics={key: _metric(evidence.metrics[key], found) for key, found in sorted(evidence.measured.items())},
        params=dict(sorted(evidence.params.items())),
        submission=_submission(submission) if submission else None,
        decisions=[_decision(decision) for decision in decisions],
    )


def known(caller: Caller, name: str) -> tuple[RegisteredModel, tuple[ModelVersion, ...]]:
    """A registered model and its versions from the snapshot; one it does not know is asked for in MLflow, once.

    Raises:
        NotFound: neither knows it.
    """
    snapshot = caller.signoff.snapshot.current
    if name not in snapshot.models:
        with caller.asking_mlflow():
            caller.signoff.snapshot.touch(name)
        snapshot = caller.signoff.snapshot.current
    if name not in snapshot.models:
        raise NotFound(f"There is no registered model {name}.")
    return snapshot.models[name], snapshot.versions.get(name, ())


def known_version(caller: Caller, ref: VersionRef) -> tuple[RegisteredModel, ModelVersion]:
    """One version, as `known`: what a script registered a moment ago is there."""
    model, versions = known(caller, ref.name)
    if not any(version.ref == ref for version in versions):
        with caller.asking_mlflow():
            caller.signoff.snapshot.touch(ref.name)
        model, versions = known(caller, ref.name)
    found = next((version for version in versions if version.ref == ref), None)
    if found is None:
        raise NotFound(f"There is no {ref} in the registry.")
    return model, found


def _line(row: Row) -> ModelLine:
    return ModelLine(
        name=row.name,
        owner=row.owner,
        tags=dict(row.tags),
        champion=row.champion.ref.version if row.champion else None,
        challenger=row.challenger.ref.version if row.challenger else None,
        status=row.status,
        versions=len(row.versions),
        changed_at=row.changed_at,
    )


def _version(model: RegisteredModel, version: ModelVersion) -> Mapping[str, object]:
    number = version.ref.version
    return {
        "version": number,
        "stage": version.stage,
        "aliases": sorted(alias for alias, pointed in model.aliases.items() if pointed == number),
        "status": version.status,
        "run_id": version.run_id,
        "created_at": version.created_at,
    }


def _metric(metric: Metric, found: Measurement) -> MetricAnswer:
    return MetricAnswer(
        **_value(metric), values=[MetricValue(**_value(one)) for one in found.values] if found.differs else []
    )


def _value(metric: Metric) -> dict[str, Any]:
    return {
        "value": metric.value if metric.usable else None,
        "source": metric.source,
        "logged_at": metric.at,
        "dataset": metric.dataset_name,
        "dataset_digest": metric.dataset_digest,
    }


def _submission(submission: Submission) -> SubmissionAnswer:
    return SubmissionAnswer(
        status=submission.status,
        submitted_by=submission.owner,
        proposal=submission.proposal,
        submitted_at=submission.submitted_at,
        comment=submission.comment,
        event=submission.seq,
    )


def _decision(decision: Decision) -> DecisionAnswer:
    return DecisionAnswer(
        person=decision.person,
        decision=decision.decision,
        comment=decision.comment,
        at=decision.at,
        event=decision.seq,
    )
