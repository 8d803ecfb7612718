"""The figures of a comparison, worked out once more with scikit-learn alone: real models, a real MLflow server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest
import sklearn
from mlflow import MlflowClient
from sklearn.base import BaseEstimator
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

from services.domain import VersionRef
from services.mlflow.registry import MlflowRegistry
from services.side_by_side import comparing, panorama
from services.side_by_side.comparison import Comparison, Data, Standing
from services.side_by_side.lineage import Lineage
from services.signoff import Signoff
from stack.sample import training
from stack.sample.data import BREAST_CANCER, split
from stack.sample.recipes import SCREENING
from tests.conftest import settings_in

BASELINE, CANDIDATE, ELSEWHERE, SILENT = 3, 8, 4, 5
NAME = SCREENING.name


@dataclass
class World:
    """The screening model of the sample registry as it is trained on first start, and what a page makes of it."""

    uri: str
    signoff: Signoff
    comparison: Comparison
    story: Lineage

    def model(self, version: int) -> BaseEstimator:
        return mlflow.sklearn.load_model(MlflowClient(self.uri).get_model_version(NAME, str(version)).source)


@pytest.fixture(scope="module")
def world(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Trained once for all tests of this file."""
    list(training.train(mlflow_server, NAME))
    home: Path = tmp_path_factory.mktemp("home")
    signoff = Signoff.wire(settings=settings_in(home), registry=MlflowRegistry(mlflow_server))
    refs = [VersionRef(name=NAME, version=number) for number in (BASELINE, CANDIDATE, ELSEWHERE, SILENT)]
    comparison, story = comparing.opened(signoff, refs)
    yield World(uri=mlflow_server, signoff=signoff, comparison=comparison, story=story)
    signoff.database.engine.dispose()


def scored(model: BaseEstimator, *, other: bool = False) -> dict[str, float]:
    """By scikit-learn, on the holdout as it lies in scikit-learn."""
    holdout = split(BREAST_CANCER, other=other).holdout
    features, truth = holdout.features(tuple(model.feature_names_in_)), holdout.target
    chances = model.predict_proba(features)
    return {
        "val_auc": roc_auc_score(truth, chances[:, 1]),
        "val_accuracy": accuracy_score(truth, model.predict(features)),
        "val_f1": f1_score(truth, model.predict(features)),
        "val_log_loss": log_loss(truth, chances),
    }


@pytest.mark.parametrize("metric", ["val_auc", "val_accuracy", "val_f1", "val_log_loss"])
class TestNumbers:
    def test_values_changes_and_who_is_better(self, world: World, metric: str) -> None:
        old, new = (scored(world.model(version))[metric] for version in (BASELINE, CANDIDATE))
        base, mine, *_ = next(row for row in world.comparison.metrics if row.name == metric).cells
        assert base.value == pytest.approx(old, abs=1e-6)
        assert mine.value == pytest.approx(new, abs=1e-6)
        assert mine.delta == pytest.approx(new - old, abs=2e-6)
        assert mine.relative == pytest.approx((new - old) / old, abs=1e-4)
        better = new < old if metric == "val_log_loss" else new > old
        assert (mine.standing is Standing.BETTER) == better

    def test_measured_on_other_data_is_never_a_judgement(self, world: World, metric: str) -> None:
        there = next(row for row in world.comparison.metrics if row.name == metric).cells[2]
        assert there.value == pytest.approx(scored(world.model(ELSEWHERE), other=True)[metric], abs=1e-6)
        assert there.standing is Standing.OTHER_DATA


class TestEveryView:
    def test_data_sets_are_told_apart_by_digest(self, world: World) -> None:
        assert [world.comparison.data(position) for position in (1, 2)] == [Data.SAME, Data.DIFFERENT]

    def test_a_version_without_metrics_has_no_evidence(self, world: World) -> None:
        assert {cell.standing for _, cell in world.comparison.column(3)} == {Standing.NO_EVIDENCE}

    def test_the_last_step_of_a_curve_is_the_models_own_loss(self, world: World) -> None:
        run = world.comparison.versions[1].run
        assert run
        curve = world.signoff.reader.curves([run.run_id], "val_loss")[run.run_id]
        assert len(curve) == 30
        assert curve[-1][1] == pytest.approx(scored(world.model(CANDIDATE))["val_log_loss"], abs=1e-6)

    def test_the_trend_has_every_version_with_the_same_numbers(self, world: World) -> None:
        for version in world.story.versions:
            if version.ref.version not in {SILENT, ELSEWHERE}:
                found = world.story.value(version, "val_accuracy")
                assert found == pytest.approx(scored(world.model(version.ref.version))["val_accuracy"], abs=1e-6)

    def test_the_pareto_front_is_that_of_scikit_learns_own_numbers(self, world: World) -> None:
        points = panorama.points(world.comparison, world.story)
        placed = panorama.plane(points, "val_log_loss", "val_auc", world.comparison.policy, world.comparison.baseline)
        numbers = {n: scored(world.model(n)) for n in range(1, 9) if n not in {SILENT, ELSEWHERE}}
        pairs = {n: np.array([-round(s["val_log_loss"], 6), round(s["val_auc"], 6)]) for n, s in numbers.items()}
        best = {
            n for n, mine in pairs.items() if not any((o >= mine).all() and (o > mine).any() for o in pairs.values())
        }
        assert {int(one.point.label[1:]) for one in placed if one.best} == best

    def test_params_requirements_source_and_artifacts_are_real(self, world: World) -> None:
        params = {row.name: row.values for row in world.comparison.params}
        assert params["C"] == (None, "0.5", None, None)
        asked = {row.name: row.values for row in comparing.requirements(world.signoff, world.comparison)}
        assert set(asked["scikit-learn"]) == {f"=={sklearn.__version__}"}
        assert {row.name for row in world.comparison.source} >= {"script", "author, as claimed"}
        run = world.comparison.versions[1].run
        assert run
        files = {entry.path for entry in world.signoff.reader.run_files(run.run_id)}
        assert files == {"confusion_matrix.png", "evaluation.json"}


@pytest.mark.parametrize("versions", [2, 8])
def test_no_more_is_asked_of_mlflow_than_there_are_versions_and_curves_on_screen(world: World, versions: int) -> None:
    """A training curve a version, and the trend over all of them."""
    world.signoff.reader.forget()
    before = world.signoff.registry.calls
    refs = [VersionRef(name=NAME, version=number) for number in range(1, versions + 1)]
    comparison, _ = comparing.opened(world.signoff, refs)
    runs = [evidence.run.run_id for evidence in comparison.versions if evidence.run]
    world.signoff.reader.curves(runs, "val_loss")
    assert world.signoff.registry.calls - before == versions + 3
    assert versions + 3 <= versions + versions + 1
