"""MLflow's entities read into our own types; nothing else knows their shape. Needs no import of MLflow."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from services.domain import (
    Column,
    Dataset,
    LoggedModelFacts,
    Metric,
    MetricSource,
    ModelVersion,
    RegisteredModel,
    RunFacts,
    Signature,
    VersionRef,
    utc_from_ms,
)

MAX_TEXT = 8000
"""Longest tag or description we keep: MLflow's own limit for tags; a longer one is cut for display."""
LOADED = ("data", "model_path", "model_data", "model_binary", "pickled_model", "python_model", "code")
"""Keys of a flavor in ``MLmodel`` whose value is the path of a file or folder of the version."""
INFINITE = 1.797e308
"""What MLflow's SQL store keeps for infinity is 1.7976931348623157e308; no metric of a model comes near."""


def model_id_in(source: str) -> str | None:
    """The id of the logged model that a version's source names, if it names one."""
    found = re.search(r"\b(m-[0-9a-f]{32})\b", source)
    return found.group(1) if found else None


def version(entity: Any) -> ModelVersion:
    """A ``ModelVersion`` of MLflow's."""
    return ModelVersion(
        ref=VersionRef(name=entity.name, version=int(entity.version)),
        created_at=utc_from_ms(entity.creation_timestamp),
        updated_at=utc_from_ms(entity.last_updated_timestamp),
        stage=entity.current_stage or "None",
        tags=_cut(entity.tags),
        description=(entity.description or "")[:MAX_TEXT],
        run_id=entity.run_id or None,
        model_id=getattr(entity, "model_id", None) or model_id_in(entity.source or ""),
        source=entity.source or "",
        user=entity.user_id or None,
        ready=entity.status == "READY",
    )


def model(entity: Any) -> RegisteredModel:
    """A ``RegisteredModel`` of MLflow's."""
    return RegisteredModel(
        name=entity.name,
        created_at=utc_from_ms(entity.creation_timestamp),
        updated_at=utc_from_ms(entity.last_updated_timestamp),
        description=(entity.description or "")[:MAX_TEXT],
        tags=_cut(entity.tags),
        aliases={alias: int(number) for alias, number in (entity.aliases or {}).items()},
        latest=tuple(version(latest) for latest in entity.latest_versions or ()),
    )


def run(entity: Any) -> RunFacts:
    """A ``Run`` of MLflow's, with the data set of each metric where MLflow kept it."""
    info, data = entity.info, entity.data
    inputs = entity.inputs.dataset_inputs if entity.inputs else []
    return RunFacts(
        run_id=info.run_id,
        name=info.run_name or info.run_id,
        user=data.tags.get("mlflow.user") or info.user_id or None,
        experiment_id=info.experiment_id,
        started_at=utc_from_ms(info.start_time) if info.start_time else None,
        ended_at=utc_from_ms(info.end_time) if info.end_time else None,
        status=info.status,
        # `data.metrics` holds bare numbers; the objects behind it know their data set.
        metrics={metric.key: _metric(metric, MetricSource.RUN) for metric in data._metric_objs},
        params=dict(data.params),
        tags=_cut(data.tags),
        datasets=tuple(
            Dataset(
                name=item.dataset.name,
                digest=item.dataset.digest,
                context=next((tag.value for tag in item.tags if tag.key == "mlflow.data.context"), ""),
                source=_place(item.dataset.source),
            )
            for item in inputs
        ),
        deleted=info.lifecycle_stage != "active",
    )


def logged_model(entity: Any) -> LoggedModelFacts:
    """A ``LoggedModel`` of MLflow's."""
    return LoggedModelFacts(
        model_id=entity.model_id,
        run_id=entity.source_run_id or None,
        metrics=_last(entity.metrics or ()),
        params=dict(entity.params or {}),
        tags=_cut(entity.tags),
    )


def signature(document: Mapping[str, Any] | None) -> Signature | None:
    """The ``signature`` section of an ``MLmodel`` file; None where there is none."""
    if not document or not document.get("inputs"):
        return None
    return Signature(
        inputs=_columns(document.get("inputs")),
        outputs=_columns(document.get("outputs")),
        params=tuple(replace(column, required=False) for column in _columns(document.get("params"))),
    )


def named(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The files and folders that an ``MLmodel`` document names, relative to it: what its flavors load, and its example.

    Anything else than a plain relative path is left out: it names nothing inside the version.
    """
    found: list[Any] = []
    for flavor in (document.get("flavors") or {}).values():
        environment = flavor.get("env")
        found += [flavor.get(key) for key in LOADED]
        found += environment.values() if isinstance(environment, Mapping) else [environment]
        found += [artifact.get("path") for artifact in (flavor.get("artifacts") or {}).values()]
    example = document.get("saved_input_example_info") or {}
    found += [example.get("artifact_path"), example.get("serving_input_path")]
    paths = (PurePosixPath(path) for path in found if isinstance(path, str) and "://" not in path)
    inside = (path for path in paths if path.parts and not path.is_absolute() and ".." not in path.parts)
    return tuple(dict.fromkeys(path.as_posix() for path in inside))


def _columns(text: str | None) -> tuple[Column, ...]:
    return tuple(
        Column(name=str(column.get("name", position)), type=_type(column), required=bool(column.get("required", True)))
        for position, column in enumerate(json.loads(text) if text else [])
    )


def _type(column: Mapping[str, Any]) -> str:
    tensor = column.get("tensor-spec")
    return f"tensor {tensor['dtype']} {tensor['shape']}" if tensor else str(column["type"])


def _place(source: str | None) -> str:
    """Where a data set came from; a ``code`` source names the script that logged it, which is not that."""
    try:
        document = json.loads(source or "{}")
    except ValueError:
        return ""
    place = document.get("uri") or document.get("url") if isinstance(document, dict) else None
    return place if isinstance(place, str) else ""


def value(stored: float) -> float:
    """A metric's value as it was logged: MLflow stores infinity as the largest number there is."""
    return math.copysign(math.inf, stored) if abs(stored) >= INFINITE else float(stored)


def _metric(entity: Any, source: MetricSource) -> Metric:
    return Metric(
        name=entity.key,
        value=value(entity.value),
        dataset_name=getattr(entity, "dataset_name", None),
        dataset_digest=getattr(entity, "dataset_digest", None),
        source=source,
        at=utc_from_ms(entity.timestamp),
    )


def _last(entities: Iterable[Any]) -> tuple[Metric, ...]:
    """Of everything a logged model was told: for each metric and data set the different values of the last step.

    MLflow lists every value ever logged. Two values of one step are no course of training, so none of them is left out.
    """
    rows = sorted(entities, key=lambda row: (row.key, row.timestamp))
    steps: dict[tuple[str, str | None], int] = {}
    for row in rows:
        steps[row.key, row.dataset_digest] = max(row.step, steps.get((row.key, row.dataset_digest), row.step))
    last = [row for row in rows if row.step == steps[row.key, row.dataset_digest]]
    newest = {(row.key, row.dataset_digest, repr(row.value)): row for row in last}
    return tuple(_metric(row, MetricSource.LOGGED_MODEL) for row in newest.values())


def _cut(tags: Mapping[str, str] | None) -> dict[str, str]:
    return {key: str(value)[:MAX_TEXT] for key, value in (tags or {}).items()}
