"""Holdouts, answers and models for the tests of validation: what is real is saved by MLflow itself."""

from __future__ import annotations

import pickle
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas as pd
import yaml
from mlflow.models import infer_signature
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from services.domain import VersionRef
from services.mlflow.entities import signature
from services.validation.holdout import Holdout, HoldoutLimits, from_upload
from services.validation.predictions import Predictions
from services.validation.report import HoldoutFacts, Latency, Task
from services.validation.subjects import Subject

LATENCY = Latency(
    batch_rows=1, batch_seconds=0.1, single_calls=1, single_ms_p50=1.0, single_ms_p95=1.0, load_seconds=0.1
)


def holdout_of(truth: Any, *, task: Task = Task.CLASSIFIER) -> Holdout:
    """A holdout of one column beside these targets."""
    frame = pd.DataFrame({"x": np.arange(len(truth)), "y": truth})
    facts = HoldoutFacts(
        name="h", digest="d", sha256="s", rows=len(frame), columns=("x", "y"), target="y", source="upload:h"
    )
    return Holdout(facts=facts, task=task, frame=frame)


def answers(chances: Any, *, probabilities: bool = True) -> Predictions:
    """What a classifier says whose probabilities these are."""
    given = np.asarray(chances, dtype=float)
    return Predictions(answers=given.argmax(axis=1), probabilities=given if probabilities else None, latency=LATENCY)


def numbers(given: Any) -> Predictions:
    """What a regressor says."""
    return Predictions(answers=np.asarray(given, dtype=float), latency=LATENCY)


def classifier_data() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows to learn from and rows held out: scikit-learn's breast cancer data, a third of its columns."""
    frame = load_breast_cancer(as_frame=True).frame.iloc[:, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, -1]]
    learned, held_out = train_test_split(frame, test_size=0.4, random_state=1)
    return learned.reset_index(drop=True), held_out.reset_index(drop=True)


def holdout_from(frame: pd.DataFrame) -> Holdout:
    """A holdout as an upload of these rows gives it."""
    with tempfile.TemporaryFile() as content:
        frame.to_parquet(content)
        return from_upload(content, file_name="holdout.parquet", target="target", limits=HoldoutLimits())


def saved(folder: Path, estimator: Any, learned: pd.DataFrame, *, version: int = 2, **how: Any) -> Subject:
    """Fit an estimator and save it as MLflow does; in skops' format unless ``how`` says otherwise."""
    features = learned.drop(columns="target")
    estimator.fit(features, learned["target"])
    mlflow.sklearn.save_model(
        estimator,
        folder,
        signature=infer_signature(features, estimator.predict(features)),
        pip_requirements=["scikit-learn"],
        **({"serialization_format": "skops"} | how),
    )
    return subject(folder, version)


def subject(folder: Path, version: int = 2) -> Subject:
    """A version whose files lie in ``folder``."""
    found = signature(yaml.safe_load((folder / "MLmodel").read_text()).get("signature"))
    return Subject(
        ref=VersionRef(name="screening", version=version), folder=folder, signature=found, digest=folder.name
    )


def poisoned(pickled: Subject, folder: Path, code: str) -> Subject:
    """A copy of a pickled model that executes ``code`` when it is loaded, and is a constant classifier afterwards.

    ``code`` may leave another model in the variable ``model``.
    """
    shutil.copytree(pickled.folder, folder)
    prepared = (
        f"from sklearn.dummy import DummyClassifier as D\nmodel = D(strategy='prior').fit([[0], [1]], [0, 1])\n{code}"
    )
    (folder / "model.pkl").write_bytes(pickle.dumps(_Executed(prepared)))
    return replace(pickled, folder=folder)


class _Executed:
    def __init__(self, code: str) -> None:
        self._code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"(lambda seen: (exec({self._code!r}, seen), seen['model'])[1])({{}})",)
