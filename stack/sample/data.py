"""The data sets scikit-learn ships, cut into a training part and a fixed holdout, as MLflow data sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import mlflow.data
import pandas as pd
from mlflow.data.pandas_dataset import PandasDataset
from sklearn import datasets
from sklearn.model_selection import train_test_split

TARGET = "target"
USUAL_SPLIT, OTHER_SPLIT = 20, 77


class Task(StrEnum):
    """What is predicted: the tag ``task`` of a registered model, by which policies tell them apart."""

    BINARY = "binary_classification"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One of scikit-learn's data sets. ``holdout`` is the share kept for evaluation, ``url`` where it comes from."""

    name: str
    task: Task
    load: Callable[..., object]
    holdout: float
    url: str


BREAST_CANCER = Source(
    name="breast_cancer",
    task=Task.BINARY,
    load=datasets.load_breast_cancer,
    holdout=0.3,
    url="https://archive.ics.uci.edu/dataset/17/breast+cancer+wisconsin+diagnostic",
)
WINE = Source(
    name="wine",
    task=Task.MULTICLASS,
    load=datasets.load_wine,
    holdout=0.4,
    url="https://archive.ics.uci.edu/dataset/109/wine",
)
DIABETES = Source(
    name="diabetes",
    task=Task.REGRESSION,
    load=datasets.load_diabetes,
    holdout=0.3,
    url="https://www4.stat.ncsu.edu/~boos/var.select/diabetes.html",
)
DIGITS = Source(
    name="digits",
    task=Task.MULTICLASS,
    load=datasets.load_digits,
    holdout=0.4,
    url="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows for one purpose, and the data set MLflow knows them as: its digest is that of all columns."""

    rows: pd.DataFrame
    dataset: PandasDataset

    def features(self, columns: tuple[str, ...] = ()) -> pd.DataFrame:
        """The named columns, or all but the target."""
        return self.rows[list(columns)] if columns else self.rows.drop(columns=TARGET)

    @property
    def target(self) -> pd.Series:
        """What is to be predicted."""
        return self.rows[TARGET]


@dataclass(frozen=True, kw_only=True)
class Split:
    """A training part and the holdout that belongs to it."""

    train: Part
    holdout: Part


@cache
def split(source: Source, *, other: bool = False) -> Split:
    """The same rows at every call. ``other`` cuts differently: a holdout whose scores cannot be compared."""
    frame = source.load(as_frame=True).frame  # type: ignore[attr-defined]
    train, holdout = train_test_split(
        frame,
        test_size=source.holdout,
        random_state=OTHER_SPLIT if other else USUAL_SPLIT,
        stratify=None if source.task is Task.REGRESSION else frame[TARGET],
    )
    suffix = "_second_site" if other else ""
    return Split(
        train=_part(train, f"{source.name}_train{suffix}", source),
        holdout=_part(holdout, f"{source.name}_holdout{suffix}", source),
    )


def _part(rows: pd.DataFrame, name: str, source: Source) -> Part:
    rows = rows.reset_index(drop=True)
    return Part(rows=rows, dataset=mlflow.data.from_pandas(rows, source=source.url, targets=TARGET, name=name))
