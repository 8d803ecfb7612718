"""Nightly: train, evaluate, have it approved, promote, tell. Plain functions, for whatever runs them.

It is the CI logic of the MLflow lifecycle document with one difference: it sets no tag and moves no stage. Whether a
version is good enough, and who has to say so, is Signoff's policy; what happened is Signoff's record.

    MLFLOW_TRACKING_URI   where models are trained to
    SIGNOFF_URL           Signoff's address
    SIGNOFF_TOKEN         a token of a service: `signoff user add ci --name Pipeline --service --role release_manager`
                          and `signoff token create nightly --user ci --actions view,submit,auto`
    MODEL                 the registered model, `nightly_screening` unless said otherwise
    NOTIFY_URL            a webhook that takes {"text": …}, as Slack's does; without it the words are printed
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

import mlflow
import pandas as pd
import requests
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import infer_signature
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SECONDS = (5, 300)
"""To connect, and for the answer: Signoff reads every file of a model before it decides."""
FOR_LATER = {"submitted", "approvals", "staging_time", "freeze"}
"""Checks that people or time will see to; whatever else fails, waiting does not mend it."""
Check: TypeAlias = Mapping[str, Any]
Checks: TypeAlias = Sequence[Check]
NIGHT = "night"
"""The tag that says which night a version is of."""


class Refused(Exception):
    """The gate does not let this version through; the message says why, ``checks`` are all that were made."""

    def __init__(self, message: str, checks: Checks = ()) -> None:
        super().__init__(message)
        self.checks = checks


class Waiting(Exception):
    """Nothing is wrong with it, and somebody has yet to approve it. Ask again later."""


def train(night: str) -> int:
    """Train and register a version; returns its number. Tried again for the same night, it finds what it made."""
    name = model()
    made = MlflowClient().search_model_versions(f"name = '{name}'", max_results=1000)
    if found := [int(version.version) for version in made if version.tags.get(NIGHT) == night]:
        return max(found)
    seen, _ = data()
    features, target = seen.drop(columns="target"), seen["target"]
    mlflow.set_experiment(name)
    with mlflow.start_run(run_name=f"night {night}"):
        mlflow.log_input(mlflow.data.from_pandas(seen, name="train", targets="target"), context="training")
        estimator = make_pipeline(StandardScaler(), LogisticRegression(C=0.5)).fit(features, target)
        logged = mlflow.sklearn.log_model(
            estimator,
            name="model",
            signature=infer_signature(features, estimator.predict(features)),
            pip_requirements=["mlflow", "scikit-learn", "skops"],
        )
    # Registered last and in one step with the tag: whoever is interrupted trains again, or finds the version.
    return int(mlflow.register_model(logged.model_uri, name, tags={NIGHT: night}).version)


def evaluate(version: int) -> dict[str, float]:
    """Score it on the holdout, on record with the data it was measured on, and hear what the gate thinks of that.

    What was measured before stays as it is: people may have approved it for just that.

    Raises:
        Refused: for what it shows; it is not even submitted.
    """
    client = MlflowClient()
    found = client.get_model_version(model(), str(version))
    scores = dict(client.get_run(found.run_id).data.metrics) or measure(found)
    checks = signoff("GET", f"{version_path(version)}/verdict?fresh=true")["checks"]
    if lost := [check["reason"] for check in checks if not for_later(check)]:
        raise Refused(f"{model()} v{version} is not submitted. {' '.join(lost)}", checks)
    return scores


def measure(found: ModelVersion) -> dict[str, float]:
    """The scores of a version on the holdout, logged with it."""
    _, holdout = data()
    features, target = holdout.drop(columns="target"), holdout["target"]
    estimator = mlflow.sklearn.load_model(f"models:/{found.name}/{found.version}")
    scores = {
        "val_auc": float(roc_auc_score(target, estimator.predict_proba(features)[:, 1])),
        "val_accuracy": float(accuracy_score(target, estimator.predict(features))),
    }
    dataset = mlflow.data.from_pandas(holdout, name="holdout", targets="target")
    with mlflow.start_run(run_id=found.run_id):
        mlflow.log_input(dataset, context="eval")
        mlflow.log_metrics(scores, dataset=dataset, model_id=found.model_id)
    return scores


def approve(version: int) -> str:
    """Bring it before whoever approves; Signoff tells them. Returns its status, such as ``pending``.

    Submitting what was submitted changes nothing. Where the policy lets a service approve, `promote` does.
    """
    if signoff("GET", version_path(version))["stage"] != "Production":
        signoff("POST", f"{version_path(version)}/submit", {"comment": f"Nightly training, {model()} v{version}."})
    return str(signoff("GET", version_path(version))["status"])


def promote(version: int) -> str:
    """Take it as far as its policy lets a service take it; returns what was done. Safe to ask for again and again.

    Raises:
        Waiting: people have to approve it first, or a freeze to end.
        Refused: for what it shows, or because people ended it.
    """
    try:
        done = signoff("POST", f"{version_path(version)}/auto", {"comment": f"Nightly release, {model()} v{version}."})
    except Refused as error:
        if error.checks and all(map(for_later, error.checks)):
            raise Waiting(str(error)) from error
        raise
    return str(done["message"])


def notify(version: int | None) -> str:
    """Tell the team how the night ended, with the link to look at; returns the words.

    Reviewers need not be told: a submission is a message of Signoff's own.
    """
    text = f"{model()}: no version was made tonight."
    if version is not None:
        found = signoff("GET", version_path(version))
        link = f"{address()}/version?name={quote(model(), safe='')}&version={version}"
        text = f"{model()} v{version}: stage {found['stage']}, {found['status'] or 'not submitted'}. {link}"
    if url := os.environ.get("NOTIFY_URL"):
        requests.post(url, json={"text": text}, timeout=SECONDS).raise_for_status()
    else:
        print(text)
    return text


def data() -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is learned from, and the holdout: the same rows every night, so that nights can be compared."""
    frame = load_breast_cancer(as_frame=True).frame
    seen, holdout = train_test_split(frame, test_size=0.3, random_state=20, stratify=frame["target"])
    return seen, holdout


def model() -> str:
    """The registered model."""
    return os.environ.get("MODEL") or "nightly_screening"


def address() -> str:
    """Where Signoff is."""
    return os.environ.get("SIGNOFF_URL", "http://127.0.0.1:8501").rstrip("/")


def version_path(version: int) -> str:
    """A version under ``/api/v1``."""
    return f"/models/{quote(model(), safe='')}/versions/{version}"


def signoff(method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    """One call over REST; raises `Refused` for 403 and requests' own errors for whatever else went wrong."""
    answer = requests.request(
        method,
        f"{address()}/api/v1{path}",
        json=body,
        headers={"Authorization": f"Bearer {os.environ['SIGNOFF_TOKEN']}"},
        timeout=SECONDS,
    )
    found: dict[str, Any] = answer.json()
    if answer.status_code == requests.codes.forbidden:
        raise Refused(found["message"], found.get("checks") or ())
    answer.raise_for_status()
    return found


def for_later(check: Check) -> bool:
    """Whether a check passed, or is one that waiting mends."""
    return bool(check["passed"]) or check["id"].split(":")[0] in FOR_LATER
