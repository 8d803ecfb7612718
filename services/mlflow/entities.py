"""MLflow's entities read into our own types; nothing else knows their shape. Needs no import of MLflow."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any, Self

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
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"(?!.*\.\.)\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
"""A name that Hugging Face takes: ``owner/name``, or a name alone."""
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


def told_model(document: Mapping[str, Any]) -> RegisteredModel:
    """A ``RegisteredModel`` as MLflow's REST API tells it; raises `KeyError` or `ValueError` for half an answer."""
    aliases = {one["alias"]: int(one["version"]) for one in document.get("aliases", ())}
    latest = [_told(one) for one in document.get("latest_versions", ())]
    return model(_told(document, aliases=aliases, latest_versions=latest))


def told_version(document: Mapping[str, Any]) -> ModelVersion:
    """A ``ModelVersion`` as MLflow's REST API tells it; raises as `told_model`."""
    return version(_told(document))


@dataclass(frozen=True)
class Page:
    """Some of the versions that a search found; ``token`` asks for the next ones."""

    versions: tuple[ModelVersion, ...]
    token: str

    @classmethod
    def told(cls, document: Mapping[str, Any]) -> Self:
        """As MLflow's REST API tells it; raises as `told_model`."""
        found = tuple(told_version(one) for one in document.get("model_versions", ()))
        return cls(found, document.get("next_page_token", ""))


_WITHOUT = {"description": "", "run_id": "", "source": "", "user_id": "", "status": "", "current_stage": ""}
"""What a version may be told without."""


def _told(document: Mapping[str, Any], **more: Any) -> SimpleNamespace:
    """A part of an answer in the shape of MLflow's own entities."""
    times = {key: int(document[key]) for key in ("creation_timestamp", "last_updated_timestamp")}
    tags = {tag["key"]: tag.get("value", "") for tag in document.get("tags", ())}
    return SimpleNamespace(**{**_WITHOUT, **document, **times, "tags": tags, **more})


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
        models=tuple(output.model_id for output in entity.outputs.model_outputs) if entity.outputs else (),
        deleted=info.lifecycle_stage != "active",
    )


def logged_model(entity: Any) -> LoggedModelFacts:
    """A ``LoggedModel`` of MLflow's."""
    return LoggedModelFacts(
        model_id=entity.model_id,
        run_id=entity.source_run_id or None,
        ready=str(entity.status) == "READY",
        metrics=_last(entity.metrics or ()),
        params=dict(entity.params or {}),
        tags=_cut(entity.tags),
    )


def signature(document: Mapping[str, Any] | None) -> Signature | None:
    """The ``signature`` section of an ``MLmodel`` file; None where there is none, or none that names an input."""
    if not document or not (inputs := _columns(document.get("inputs"))):
        return None
    return Signature(
        inputs=inputs,
        outputs=_columns(document.get("outputs")),
        params=tuple(replace(column, required=False) for column in _columns(document.get("params"))),
    )


def named(document: Mapping[str, Any]) -> Iterator[str]:
    """The files and folders that an ``MLmodel`` document names: what its flavors load, and its example."""
    found: list[Any] = []
    for flavor in (document.get("flavors") or {}).values():
        environment = flavor.get("env")
        found += [flavor.get(key) for key in LOADED]
        found += environment.values() if isinstance(environment, Mapping) else [environment]
        found += [artifact.get("path") for artifact in (flavor.get("artifacts") or {}).values()]
    example = document.get("saved_input_example_info") or {}
    found += [example.get("artifact_path"), example.get("serving_input_path")]
    paths = dict.fromkeys(path for path in found if isinstance(path, str) and path)
    yield from (path if leads_out(path) else PurePosixPath(path).as_posix() for path in paths if path != ".")


def leads_out(path: str) -> bool:
    """Whether a path in ``MLmodel`` leads out of the version's folder: up, from the root, to a drive, to an address."""
    return (
        "://" in path
        or ".." in re.split(r"[/\\]", path)
        or PurePosixPath(path).is_absolute()
        or bool(PureWindowsPath(path).anchor)
    )


def elsewhere(document: Mapping[str, Any]) -> Iterator[str]:
    """What else a flavor would read that is none of the version's files.

    That is any value of it that leads out, whatever its key, and weights on a hub that no commit pins, or that are no
    repository of a hub: a folder has no commits. Names are left out where weights are saved (``source_model_name``
    tells where they came from), and so is where a script was copied from (``model_code_path``): MLflow reads the
    copies.
    """
    for name, flavor in (document.get("flavors") or {}).items():
        for key, told in flavor.items():
            if isinstance(told, str) and leads_out(told) and not key.endswith("_name") and key != "model_code_path":
                yield told
        for weights, commit in _on_a_hub(name, flavor):
            if weights and not _REPOSITORY.fullmatch(str(weights)):
                yield str(weights)
            elif weights and not _COMMIT.fullmatch(str(commit or "")):
                yield f"{weights} on a hub at no fixed commit"


def _on_a_hub(name: str, flavor: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """What is not saved with the model but loaded from Hugging Face, and the commit that is asked for there."""
    if name == "diffusers":
        yield flavor.get("base_model"), flavor.get("base_model_revision")
    if name == "transformers":
        if not flavor.get("model_binary") and not flavor.get("local_base_model_path"):
            yield flavor.get("source_model_name"), flavor.get("source_model_revision")
        for part in (*(flavor.get("components") or ()), "processor"):
            yield flavor.get(f"{part}_name"), flavor.get(f"{part}_revision")


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
    except (ValueError, RecursionError):
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
