"""Real models on a real holdout, from files to a report; and that without predictions there is no report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import rfc8785
import yaml
from sklearn import metrics as sk
from sklearn.datasets import load_diabetes, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from services.domain import Column, Signature
from services.validation import sandbox
from services.validation.errors import ConsentNeeded, ModelFailed, ValidationCancelled, WrongColumn
from services.validation.evaluation import evaluate, with_task
from services.validation.holdout import Holdout
from services.validation.report import Conclusion, Method, Report, Task
from services.validation.sandbox import Isolation
from services.validation.subjects import Limits, Phase, Step, Subject
from tests.subjects import classifier_data, holdout_from, poisoned, saved

LIMITS = Limits(seconds=200, resamples=500)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models of this file lie."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def regression(models: Path) -> Subject:
    """A logistic regression, version 2."""
    return saved(models / "regression", make_pipeline(StandardScaler(), LogisticRegression()), classifier_data()[0])


@pytest.fixture(scope="module")
def bayes(models: Path) -> Subject:
    """Naive Bayes, version 1."""
    return saved(models / "bayes", GaussianNB(), classifier_data()[0], version=1)


@pytest.fixture(scope="module")
def pickled(models: Path) -> Subject:
    """A constant in a pickle, to be poisoned."""
    return saved(models / "pickled", DummyClassifier(), classifier_data()[0], serialization_format="pickle")


@pytest.fixture(scope="module")
def holdout() -> Holdout:
    """What both are evaluated on."""
    return holdout_from(classifier_data()[1])


def evaluated(
    candidate: Subject,
    champion: Subject | None,
    holdout: Holdout,
    workspace: Path,
    *,
    consent: bool | None = None,
    steps: list[Step] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Report:
    """A report; where the machine cannot isolate and nothing is said about consent, it is given."""
    (folder := workspace / "work").mkdir()
    return evaluate(
        candidate,
        champion,
        holdout,
        limits=LIMITS,
        consent=not sandbox.isolation().available if consent is None else consent,
        confidence=0.95,
        seed=7,
        workspace=folder,
        progress=(steps if steps is not None else []).append,
        cancelled=cancelled,
    )


@pytest.fixture(scope="module")
def pair(
    regression: Subject, bayes: Subject, holdout: Holdout, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Report, Path, list[Step]]:
    """The report of the two, its workspace, and the steps that were told."""
    workspace, steps = tmp_path_factory.mktemp("pair"), list[Step]()
    return evaluated(regression, bayes, holdout, workspace, steps=steps), workspace / "work", steps


class TestReport:
    """Candidate and champion on the same rows."""

    def test_every_figure_is_that_of_scikit_learn_on_the_models_own_predictions(
        self, pair: tuple[Report, Path, list[Step]], holdout: Holdout
    ) -> None:
        learned, held_out = classifier_data()
        features, truth = held_out.drop(columns="target"), held_out["target"]
        sides = {
            "candidate": make_pipeline(StandardScaler(), LogisticRegression()),
            "current": GaussianNB(),
        }
        for side, model in sides.items():
            model.fit(learned.drop(columns="target"), learned["target"])
            given, chances = model.predict(features), model.predict_proba(features)
            expected = {
                "accuracy_score": sk.accuracy_score(truth, given),
                "precision_score": sk.precision_score(truth, given),
                "recall_score": sk.recall_score(truth, given),
                "f1_score": sk.f1_score(truth, given),
                "roc_auc": sk.roc_auc_score(truth, chances[:, 1]),
                "precision_recall_auc": sk.average_precision_score(truth, chances[:, 1]),
                "log_loss": sk.log_loss(truth, chances),
                "brier_score": sk.brier_score_loss(truth, chances[:, 1]),
            }
            assert {metric.name: getattr(metric, side) for metric in pair[0].metrics} == pytest.approx(expected)

    def test_mlflows_own_evaluator_says_the_same(self, pair: tuple[Report, Path, list[Step]]) -> None:
        report = pair[0]

        for side, model in (("candidate", report.candidate), ("current", report.current)):
            assert model is not None
            ours = {metric.name: getattr(metric, side) for metric in report.metrics if metric.name != "brier_score"}
            assert {name: model.evaluated[name] for name in ours} == pytest.approx(ours)
            assert model.evaluated["example_count"] == report.holdout.rows

    def test_its_pictures_are_in_the_workspace_and_nothing_else(self, pair: tuple[Report, Path, list[Step]]) -> None:
        report, workspace, _ = pair

        assert report.current is not None
        named = {*report.candidate.pictures, *report.current.pictures}
        assert {"candidate_roc_curve_plot.png", "current_confusion_matrix.png"} <= named
        assert {file.name for file in workspace.iterdir()} == named
        assert all((workspace / name).read_bytes().startswith(b"\x89PNG") for name in named)

    def test_differences_have_intervals_and_the_test_that_is_meant_for_them(
        self, pair: tuple[Report, Path, list[Step]]
    ) -> None:
        methods = {metric.name: metric.method for metric in pair[0].metrics}

        assert methods["accuracy_score"] in {Method.MCNEMAR, Method.MCNEMAR_EXACT}
        assert methods["roc_auc"] is Method.DELONG
        for metric in pair[0].metrics:
            assert metric.interval is not None
            assert metric.candidate is not None
            assert metric.current is not None
            assert metric.difference == metric.candidate - metric.current
            if metric.interval.low <= 0 <= metric.interval.high:
                assert metric.conclusion is Conclusion.NOT_ENOUGH_EVIDENCE

    def test_it_names_bytes_data_isolation_and_libraries(
        self, pair: tuple[Report, Path, list[Step]], holdout: Holdout
    ) -> None:
        report = pair[0]

        assert report.current is not None
        assert (report.candidate.digest, report.current.digest) == ("regression", "bayes")
        assert (str(report.candidate.ref), str(report.current.ref)) == ("screening/v2", "screening/v1")
        assert report.holdout == holdout.facts
        assert report.isolation == sandbox.isolation().words
        assert {"python", "mlflow", "scikit-learn", "skops"} <= set(report.libraries)
        assert (report.confidence, report.seed, report.resamples) == (0.95, 7, 500)

    def test_every_column_is_sliced_and_probabilities_and_latency_are_judged(
        self, pair: tuple[Report, Path, list[Step]]
    ) -> None:
        report = pair[0]

        assert {one.column for one in report.slices} == set(report.holdout.columns) - {"target"}
        for model in (report.candidate, report.current):
            assert model is not None
            assert model.calibration is not None
            assert model.latency is not None
            assert sum(one.rows for one in model.calibration.bins) == report.holdout.rows
            assert model.latency.single_ms_p95 >= model.latency.single_ms_p50 > 0

    def test_it_survives_canonical_json(self, pair: tuple[Report, Path, list[Step]]) -> None:
        assert Report.from_json(json.loads(rfc8785.dumps(pair[0].as_json()))) == pair[0]

    def test_a_report_that_was_changed_into_nonsense_is_no_report(self, pair: tuple[Report, Path, list[Step]]) -> None:
        for change in ({"confidence": 95}, {"seed": None}, {"verdict": "better"}):
            with pytest.raises(ValueError, match="validation error"):
                Report.from_json(pair[0].as_json() | change)

    def test_metrics_are_logged_under_the_names_of_the_contract(self, pair: tuple[Report, Path, list[Step]]) -> None:
        logged, auc = pair[0].logged_metrics, pair[0].metric("roc_auc")

        assert auc is not None
        assert logged["candidate_roc_auc"] == auc.candidate
        assert logged["current_roc_auc"] == auc.current
        assert logged["difference_roc_auc"] == auc.difference
        assert logged["candidate_example_count"] == pair[0].holdout.rows

    def test_its_steps_are_told_in_order(self, pair: tuple[Report, Path, list[Step]]) -> None:
        steps = pair[2]

        assert [step.phase for step in steps] == list(Phase)
        assert [step.done for step in steps] == [0, 1, 2, 3, 4]
        assert {step.total for step in steps} == {5}

    def test_numbers_are_evaluated_as_numbers(self, models: Path, tmp_path: Path) -> None:
        frame = load_diabetes(as_frame=True).frame
        learned, held_out = frame[:250], frame[250:].reset_index(drop=True)
        found = saved(models / "line", LinearRegression(), learned)
        line = LinearRegression().fit(learned.drop(columns="target"), learned["target"])
        given, truth = line.predict(held_out.drop(columns="target")), held_out["target"]

        report = evaluated(found, None, holdout_from(held_out), tmp_path)

        assert report.task is Task.REGRESSOR
        assert {metric.name: metric.candidate for metric in report.metrics} == pytest.approx(
            {
                "mean_absolute_error": sk.mean_absolute_error(truth, given),
                "mean_squared_error": sk.mean_squared_error(truth, given),
                "root_mean_squared_error": sk.root_mean_squared_error(truth, given),
                "mean_absolute_percentage_error": sk.mean_absolute_percentage_error(truth, given),
                "r2_score": sk.r2_score(truth, given),
            }
        )
        assert report.candidate.evaluated["max_error"] == pytest.approx(sk.max_error(truth, given))
        assert {metric.conclusion for metric in report.metrics} == {Conclusion.ALONE}

    def test_with_consent_a_model_runs_where_it_cannot_be_isolated_and_the_report_says_so(
        self, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And by the way: three classes of text, and a tree, whose type skops does not vouch for."""
        monkeypatch.setattr(sandbox, "isolation", lambda: Isolation(available=False, reason="not here"))
        iris = load_iris(as_frame=True)
        frame = iris.frame.assign(target=iris.target_names[iris.target])
        frame = frame.sample(frac=1, random_state=3).reset_index(drop=True)
        learned, held_out = frame[:90], frame[90:].reset_index(drop=True)
        tree = DecisionTreeClassifier(max_depth=2, random_state=0)
        found = saved(models / "tree", tree, learned, skops_trusted_types=["sklearn.tree._tree.Tree"])
        truth, given = held_out["target"], tree.predict(held_out.drop(columns="target"))

        report = evaluated(found, None, holdout_from(held_out), tmp_path, consent=True)

        assert report.isolation == ()
        assert len(report.consents) == 2
        assert "sklearn.tree._tree.Tree" in report.consents[0]
        assert report.consents[1] == "This machine cannot isolate a model."
        accuracy, auc = report.metric("accuracy_score"), report.metric("roc_auc")
        assert accuracy is not None
        assert auc is not None
        assert accuracy.candidate == pytest.approx(sk.accuracy_score(truth, given))
        chances = tree.predict_proba(held_out.drop(columns="target"))
        expected = sk.roc_auc_score(truth, chances, multi_class="ovr", average="weighted")
        assert auc.candidate == pytest.approx(expected)
        assert report.candidate.evaluated["f1_score"] == pytest.approx(sk.f1_score(truth, given, average="weighted"))
        assert report.warnings == ()


class TestConsent:
    """What may run without anybody's consent is an allow-list; the refusal names what is not on it."""

    def refused(self, candidate: Subject, holdout: Holdout, tmp_path: Path) -> str:
        steps: list[Step] = []
        with pytest.raises(ConsentNeeded) as refusal:
            evaluated(candidate, None, holdout, tmp_path, consent=False, steps=steps)
        assert [step.phase for step in steps] == [Phase.CHECK], "nothing ran"
        assert not list((tmp_path / "work").iterdir())
        return str(refusal.value)

    def test_a_pickle_needs_it(self, pickled: Subject, holdout: Holdout, tmp_path: Path) -> None:
        found = poisoned(pickled, tmp_path / "model", f"open({str(tmp_path / 'marker')!r}, 'w')")

        assert "screening/v2: it is saved as pickle" in self.refused(found, holdout, tmp_path)
        assert not (tmp_path / "marker").exists()

    def test_types_that_skops_does_not_vouch_for_need_it(self, models: Path, holdout: Holdout, tmp_path: Path) -> None:
        tree = DecisionTreeClassifier(max_depth=2)
        found = saved(tmp_path / "tree", tree, classifier_data()[0], skops_trusted_types=["sklearn.tree._tree.Tree"])

        assert "types that skops does not vouch for: sklearn.tree._tree.Tree" in self.refused(found, holdout, tmp_path)

    def test_a_model_that_serves_another_file_than_scikit_learn_loads_is_not_validated(
        self, regression: Subject, holdout: Holdout, tmp_path: Path
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(regression.folder, folder)
        described = yaml.safe_load((folder / "MLmodel").read_text())
        described["flavors"]["python_function"]["model_path"] = "other.skops"
        (folder / "MLmodel").write_text(yaml.safe_dump(described))
        with pytest.raises(ModelFailed, match=r"names other\.skops to serve and model\.skops for scikit-learn"):
            evaluated(_in(folder, regression), None, holdout, tmp_path, consent=True, steps=[])

    @pytest.mark.parametrize(
        ("flavour", "key", "value", "words"),
        [
            ("python_function", "code", "code", "it brings Python code of its own"),
            ("sklearn", "code", "code", "it brings Python code of its own"),
            ("python_function", "loader_module", "evil", "models of flavour evil can run code"),
            ("sklearn", "serialization_format", "cloudpickle", "it is saved as cloudpickle"),
        ],
    )
    def test_one_line_of_the_mlmodel_that_asks_for_more_is_enough(
        self, flavour: str, key: str, value: str, words: str, regression: Subject, holdout: Holdout, tmp_path: Path
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(regression.folder, folder)
        described = yaml.safe_load((folder / "MLmodel").read_text())
        described["flavors"][flavour][key] = value
        (folder / "MLmodel").write_text(yaml.safe_dump(described))

        assert words in self.refused(_in(folder, regression), holdout, tmp_path)

    def test_an_mlmodel_of_a_few_bytes_that_takes_gigabytes_to_write_out_is_not_written_out(
        self, regression: Subject, holdout: Holdout, tmp_path: Path
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(regression.folder, folder)
        bomb = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
        flavours = "flavors:\n  python_function:\n    loader_module: *a11"
        (folder / "MLmodel").write_text("\n".join([*bomb, flavours]))

        with pytest.raises(ModelFailed, match="has no MLmodel file that can be read"):
            evaluated(_in(folder, regression), None, holdout, tmp_path, consent=True, steps=[])

    def test_a_pickle_that_is_called_skops_is_read_by_skops_and_by_nothing_else(
        self, regression: Subject, pickled: Subject, holdout: Holdout, tmp_path: Path
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(regression.folder, folder)
        marker = tmp_path / "marker"
        evil = poisoned(pickled, tmp_path / "evil", f"open({str(marker)!r}, 'w')")
        shutil.copyfile(evil.folder / "model.pkl", folder / "model.skops")

        assert "its skops file cannot be looked through" in self.refused(_in(folder, regression), holdout, tmp_path)
        assert not marker.exists()

    def test_a_machine_that_cannot_isolate_needs_it_for_every_model(
        self, regression: Subject, holdout: Holdout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sandbox, "isolation", lambda: Isolation(available=False, reason="unshare: not permitted"))

        assert "This machine cannot isolate a model: unshare: not permitted." in self.refused(
            regression, holdout, tmp_path
        )


class TestFailure:
    """No predictions, no report; and whose fault it is."""

    def test_a_model_that_raises(self, pickled: Subject, holdout: Holdout, tmp_path: Path) -> None:
        raising = "class Model:\n    def predict(self, rows): raise ValueError('bad\\nrow')\nmodel = Model()"
        found = poisoned(pickled, tmp_path / "model", raising)

        with pytest.raises(ModelFailed, match="raised while predicting: ValueError: bad row"):
            evaluated(found, None, holdout, tmp_path, consent=True)

        assert not list((tmp_path / "work").iterdir())

    def test_a_champion_that_no_longer_loads(
        self, regression: Subject, pickled: Subject, holdout: Holdout, tmp_path: Path
    ) -> None:
        champion = poisoned(pickled, tmp_path / "model", "import sklearn.removed_long_ago")
        steps: list[Step] = []

        with pytest.raises(ModelFailed, match=r"The champion screening/v2 failed\. It said: could not be loaded: Mod"):
            evaluated(regression, champion, holdout, tmp_path, consent=True, steps=steps)

        assert steps[-1].phase is Phase.CURRENT
        assert not list((tmp_path / "work").iterdir())

    def test_a_holdout_that_lacks_a_column_is_refused_before_anything_runs(
        self, regression: Subject, bayes: Subject, tmp_path: Path
    ) -> None:
        lacking = holdout_from(classifier_data()[1].drop(columns="mean texture"))
        steps: list[Step] = []

        with pytest.raises(WrongColumn, match="The candidate screening/v2 needs 'mean texture'"):
            evaluated(regression, bayes, lacking, tmp_path, steps=steps)

        assert [step.phase for step in steps] == [Phase.CHECK]

    @pytest.mark.parametrize("break_it", ["no MLmodel", "no YAML", "no file", "a link"])
    def test_files_that_are_no_model(
        self, break_it: str, regression: Subject, holdout: Holdout, tmp_path: Path
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(regression.folder, folder)
        match break_it:
            case "no MLmodel":
                (folder / "MLmodel").unlink()
            case "no YAML":
                (folder / "MLmodel").write_text("flavors: [")
            case "no file":
                (folder / "model.skops").unlink()
            case "a link":
                (folder / "extra").symlink_to("/etc/passwd")

        with pytest.raises(ModelFailed, match="screening/v2"):
            evaluated(_in(folder, regression), None, holdout, tmp_path)

    def test_stopping_leaves_nothing(self, regression: Subject, holdout: Holdout, tmp_path: Path) -> None:
        with pytest.raises(ValidationCancelled):
            evaluated(regression, None, holdout, tmp_path, cancelled=lambda: True)

        assert not list((tmp_path / "work").iterdir())


class TestGuess:
    """A target of few whole numbers may be either; a model that answers with fractions says which."""

    def test_a_model_that_answers_with_fractions_makes_it_a_number(self, tmp_path: Path) -> None:
        stars = holdout_from(classifier_data()[1].assign(target=[1, 2, 3, 4] * 57))
        answers = Signature(inputs=(Column(name="x", type="double"),), outputs=(Column(name="0", type="double"),))

        assert stars.task is Task.CLASSIFIER
        assert with_task(stars, [answers, None]).task is Task.REGRESSOR
        assert with_task(stars, [None]).task is Task.CLASSIFIER


def _in(folder: Path, found: Subject) -> Subject:
    return Subject(ref=found.ref, folder=folder, signature=found.signature, digest=found.digest)
