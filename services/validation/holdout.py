"""The data both models are evaluated on: where it may come from, what it must look like, which digest names it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pandas as pd

from services.domain import Dataset
from services.mlflow.datasets import digest_of
from services.validation import tables
from services.validation.errors import (
    MissingTargets,
    OneClassOnly,
    SourceNotAllowed,
    UnreadableHoldout,
    WrongColumn,
    WrongType,
)
from services.validation.places import Places, opened
from services.validation.predictions import MAX_CLASSES, Label
from services.validation.report import HoldoutFacts, Task
from services.validation.tables import HoldoutLimits

__all__ = ["Holdout", "HoldoutLimits", "Places", "from_dataset", "from_place", "from_upload"]

FEW_NUMBERS = 20
"""A target of at most so many different whole numbers is taken for classes."""


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """A holdout that was read and makes sense by itself: rows, at least two targets, none missing.

    ``task_guessed`` is True where nobody said whether the target is a class or a number.
    """

    facts: HoldoutFacts
    task: Task
    task_guessed: bool = False
    frame: pd.DataFrame = field(repr=False)
    """All columns, the target among them."""

    @cached_property
    def classes(self) -> tuple[Label, ...]:
        """The target's classes in ascending order; of two the last is the positive one, as for MLflow."""
        found = self.frame[self.facts.target].unique().tolist()
        return tuple(sorted(found))

    @cached_property
    def truth(self) -> npt.NDArray[Any]:
        """The target of each row: a position among `classes` (int64), or a number (float64)."""
        target = self.frame[self.facts.target]
        if self.task is Task.REGRESSOR:
            return target.to_numpy(dtype=np.float64)
        position = {label: number for number, label in enumerate(self.classes)}
        return np.array([position[label] for label in target], dtype=np.int64)

    def as_numbers(self) -> Holdout:
        """The same rows with a target that is a number, not a class."""
        return replace(self, task=Task.REGRESSOR, task_guessed=False)


def from_upload(
    content: BinaryIO, *, file_name: str, target: str, limits: HoldoutLimits, task: Task | None = None
) -> Holdout:
    """Read an uploaded CSV or Parquet file (told by its first bytes, not by its name).

    ``task`` None: a target of text, booleans or few whole numbers is a class, everything else a number.

    Raises:
        HoldoutRefused: one of its subclasses says what is wrong.
    """
    return _read(content, file_name, f"upload:{file_name}", target=target, limits=limits, task=task)


def from_place(
    location: str, *, target: str, places: Places, limits: HoldoutLimits, task: Task | None = None
) -> Holdout:
    """Read a path or ``file:`` URI that the server may read.

    Raises:
        SourceNotAllowed: it is not in a listed folder, or leads out of it, or has another scheme.
        HoldoutRefused: one of its subclasses says what is wrong.
    """
    with opened(location, places) as content:
        name = location.rstrip("/").rpartition("/")[2]
        return _read(content, name, location, target=target, limits=limits, task=task)


def from_dataset(
    dataset: Dataset, *, target: str, places: Places, limits: HoldoutLimits, task: Task | None = None
) -> Holdout:
    """Read a data set that a run logged from where it says it came from; MLflow keeps no rows itself.

    Raises:
        SourceNotAllowed: it names no source, or one that the server may not read.
        UnreadableHoldout: what lies there now is not what was logged.
        HoldoutRefused: another of its subclasses says what is wrong.
    """
    if not dataset.source:
        raise SourceNotAllowed(f"MLflow does not know where {dataset.name!r} came from; upload its file instead.")
    found = from_place(dataset.source, target=target, places=places, limits=limits, task=task)
    if found.facts.digest != dataset.digest:
        raise UnreadableHoldout(
            f"{dataset.source!r} is not what was logged as {dataset.name!r}: "
            f"its digest is {found.facts.digest} and was {dataset.digest}."
        )
    return replace(found, facts=replace(found.facts, name=dataset.name))


def _read(
    content: BinaryIO, name: str, source: str, *, target: str, limits: HoldoutLimits, task: Task | None
) -> Holdout:
    frame, sha256 = tables.read(content, limits)
    if target not in frame.columns:
        columns = ", ".join(map(repr, frame.columns[:10])) + (" …" if len(frame.columns) > 10 else "")
        raise WrongColumn(f"There is no column {target!r} to be the target; there are {columns}.")
    if len(frame.columns) < 2:
        raise WrongColumn(f"There is no column beside the target {target!r}.")
    judged = _task(frame[target], target, task)
    facts = HoldoutFacts(
        name=name,
        digest=digest_of(frame),
        sha256=sha256,
        rows=len(frame),
        columns=tuple(frame.columns),
        target=target,
        source=source,
    )
    return Holdout(facts=facts, task=judged, task_guessed=task is None, frame=frame)


def _task(values: pd.Series, target: str, asked: Task | None) -> Task:
    """What the target is, or why it is none."""
    missing = int(values.isna().sum())
    if not missing and pd.api.types.is_float_dtype(values):
        missing = int((~np.isfinite(values.to_numpy())).sum())
    if missing:
        raise MissingTargets(f"{missing:,} of {len(values):,} rows have no usable target {target!r}.")
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if not number and not pd.api.types.is_bool_dtype(values):
        _only_text(values, target)
    different = values.nunique()
    if different == 1:
        (only,) = values.unique().tolist()  # as Python writes it, not NumPy
        raise OneClassOnly(f"All {len(values):,} rows have the target {only!r}: nothing can be told apart.")
    whole = not number or bool((values == values.round()).all())
    judged = asked or (Task.CLASSIFIER if not number or (whole and different <= FEW_NUMBERS) else Task.REGRESSOR)
    if judged is Task.REGRESSOR and not number:
        raise WrongType(f"The target {target!r} holds no numbers, which a regressor predicts.")
    if judged is Task.CLASSIFIER and different > MAX_CLASSES:
        raise WrongType(f"The target {target!r} has {different:,} different values; a classifier has at most 1,000.")
    return judged


def _only_text(values: pd.Series, target: str) -> None:
    if not values.map(lambda value: isinstance(value, str)).all():
        raise WrongType(f"The target {target!r} holds neither text nor numbers throughout.")
