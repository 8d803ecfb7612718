"""The whole way, nothing replaced: a real MLflow server, real models, the real sandbox, and a policy that asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from services.domain import VersionRef
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.settings import Settings
from services.signoff import Signoff
from services.validation import jobs, sandbox
from services.validation.jobs import State
from services.validation.worker import Validator
from services.views import dossier
from tests.conftest import add_people
from tests.ledgers import record
from tests.test_policy import GOOD
from tests.validation import TARGET, ask
from tests.verbs import releases, reviews

NEAREST = KNeighborsClassifier(n_neighbors=1, algorithm="brute")
LINE = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))


@pytest.fixture(scope="module")
def holdout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every other row of scikit-learn's breast cancer data; the rest is for training."""
    file = tmp_path_factory.mktemp("holdout") / "holdout.csv"
    data().iloc[::2].to_csv(file, index=False)
    return file


def data() -> pd.DataFrame:
    frame: pd.DataFrame = load_breast_cancer(as_frame=True).frame
    return frame


def register(uri: str, name: str, model: object) -> VersionRef:
    """Train on the other half, and register with a metric the policy asks for."""
    mlflow.set_tracking_uri(uri)
    train = data().iloc[1::2]
    features = train.drop(columns="target")
    model.fit(features, train["target"])  # type: ignore[attr-defined]
    with mlflow.start_run():
        signature = mlflow.models.infer_signature(features, train["target"])
        logged = mlflow.sklearn.log_model(model, name="model", signature=signature, pip_requirements=["scikit-learn"])
        mlflow.log_metric("val_auc", 0.95)
    return VersionRef(name=name, version=int(mlflow.register_model(logged.model_uri, name).version))


@pytest.fixture
def signoff(tmp_path: Path, mlflow_server: str) -> Iterator[Signoff]:
    environment = {"SIGNOFF_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": mlflow_server, "SIGNOFF_SECRET_KEY": "s" * 32}
    opened = Signoff.open(
        Settings.read({**environment, "SIGNOFF_DATABASE_URL": f"sqlite:///{tmp_path / 'signoff.db'}"})
    )
    add_people(opened)
    yield replace(opened, policies=PolicyBook(policies=(parse(GOOD.replace("same_dataset: true", PLAIN), "p.yaml"),)))
    opened.database.engine.dispose()


PLAIN = "same_dataset: false"


def asking_for(signoff: Signoff, sha256: str) -> Signoff:
    rule = f"validation: {{holdout: '{sha256}', target: {TARGET}, metric: roc_auc}}\n{PLAIN}"
    return replace(signoff, policies=PolicyBook(policies=(parse(GOOD.replace("same_dataset: true", rule), "p.yaml"),)))


def approve(signoff: Signoff, ref: VersionRef) -> VersionRef:
    reviews.submit(signoff, ref, by="scientist", comment="Please review.")
    reviews.approve(signoff, ref, by="reviewer", comment="Looks right.")
    return ref


def test_a_candidate_goes_to_production_because_it_was_validated(
    signoff: Signoff, mlflow_server: str, holdout: Path
) -> None:
    if not (isolation := sandbox.isolation()).available:
        pytest.skip(f"This machine cannot isolate a model: {isolation.reason}.")
    name = f"screening_{uuid4().hex[:8]}"
    nearest, line = (register(mlflow_server, name, model) for model in (NEAREST, LINE))
    releases.promote(signoff, approve(signoff, nearest), by="release_manager", reason="First release.")
    asked = ask(signoff, line, rows=holdout.read_bytes(), name="holdout.csv")
    wanted = jobs.find(signoff.database, line, asked.job or 0).wanted
    strict = asking_for(signoff, wanted.sha256)
    approve(strict, line)
    with pytest.raises(GateRefused, match="was not validated"):
        releases.promote(strict, line, by="release_manager", reason="Better.")

    assert Validator(signoff).turn()
    job = jobs.find(signoff.database, line, asked.job or 0)
    assert (job.state, job.error) == (State.DONE, None)

    truth = pd.read_csv(holdout)
    features, target = truth.drop(columns="target"), truth["target"]
    run = MlflowClient(mlflow_server).get_run(job.run_id)
    for side, model in (("candidate", LINE), ("current", NEAREST)):
        auc = roc_auc_score(target, model.predict_proba(features)[:, 1])
        assert run.data.metrics[f"{side}_roc_auc"] == pytest.approx(auc, abs=1e-9)
        accuracy = accuracy_score(target, model.predict(features))
        assert run.data.metrics[f"{side}_accuracy_score"] == pytest.approx(accuracy, abs=1e-9)
    (logged,) = run.inputs.dataset_inputs
    assert logged.dataset.digest == mlflow.data.from_pandas(truth).digest
    files = {file.path for file in MlflowClient(mlflow_server).list_artifacts(job.run_id)}
    assert {"report.json", "pictures"} <= files

    event = record(signoff)[-1]
    assert (event.seq, event.get("mlflow_run")) == (job.completed_seq, job.run_id)
    found = dossier.open_dossier(strict, line)
    (validation,) = found.facts.validations
    assert found.outdated(validation) == ()
    gain = validation.report.metric("roc_auc")
    assert gain is not None
    assert gain.least_gain is not None
    assert gain.least_gain > 0
    with pytest.raises(GateRefused, match="failed then and pass now"):
        releases.promote(strict, line, by="release_manager", reason="Better, and approved before anybody knew.")
    reviews.approve(strict, line, by="reviewer", comment="Better on our holdout.")
    assert releases.promote(strict, line, by="release_manager", reason="Better, and not by chance.").event
