"""Statistics of a validation: scikit-learn computed independently, and worked examples that others published."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from services.validation import bootstrap
from services.validation.bootstrap import resampled, resamples_for
from services.validation.calibration import calibration_of
from services.validation.comparing import metrics_of, scores_of
from services.validation.measures import measures_of
from services.validation.report import Conclusion, Interval, Method, MetricResult, Task
from services.validation.slices import slices_of
from services.validation.statistics import conclusion, delong, mcnemar, mcnemar_of_counts
from tests.subjects import answers, holdout_of, numbers

ROWS = 400

# 113 patients with aneurysmal subarachnoid haemorrhage: WFNS grade and S100β, by outcome. Turck et al., Intensive Care
# Medicine 36 (2010) 107; as in the R package pROC (Robin et al., BMC Bioinformatics 12 (2011) 77), data set aSAH.
GOOD = (
    "1:0.13 1:0.14 1:0.1 1:0.04 5:0.47 1:0.18 2:0.1 2:0.1 1:0.04 2:0.08 2:0.04 1:0.09 1:0.11 1:0.07 2:0.17 1:0.07 "
    "2:0.11 1:0.13 1:0.19 3:0.05 4:0.16 1:0.14 4:0.34 1:0.09 5:0.5 5:0.46 1:0.16 1:0.07 2:0.43 4:0.45 1:0.11 "
    "1:0.08 2:0.09 2:0.08 1:0.06 2:0.13 1:0.1 2:0.14 2:0.15 1:0.06 1:0.05 1:0.09 1:0.04 2:0.09 1:0.08 2:0.16 "
    "1:0.09 1:0.08 3:0.33 2:0.11 4:0.28 2:0.07 1:0.1 4:0.32 1:0.07 1:0.05 5:0.24 4:0.38 2:0.1 2:0.15 1:0.08 "
    "1:0.14 1:0.1 3:0.07 1:0.04 2:0.19 2:0.15 4:0.47 4:0.17 1:0.15 1:0.5 1:0.48 "
)
POOR = (
    "3:0.13 2:0.1 4:0.16 5:0.12 5:0.44 5:0.71 5:0.49 2:0.07 5:0.33 2:0.09 1:0.07 2:0.41 5:0.35 4:0.48 4:0.96 "
    "2:0.25 5:0.86 5:0.52 5:2.07 2:0.07 5:0.77 2:0.3 5:0.03 2:0.09 4:0.23 5:0.7 4:0.27 4:0.71 1:0.08 4:0.26 "
    "4:0.13 2:0.1 2:0.11 5:0.22 5:0.56 2:0.14 2:0.58 5:0.32 5:0.82 5:0.74 5:0.44 "
)


def random_classifier(seed: int, *, classes: int = 2, skill: float = 1.0) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Truth, and probabilities that know something of it, with ties among them."""
    random = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), random.integers(0, classes, ROWS - classes)])
    score = random.normal(size=(ROWS, classes)).round(1)
    score[np.arange(ROWS), truth] += skill
    return truth, np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)


def measured(task: Task, truth: Any, given: Any, chances: Any, classes: int, weights: Any = None) -> dict[str, float]:
    weights = np.ones((1, len(truth))) if weights is None else weights[None, :].astype(float)
    found: dict[str, float] = {}
    for measure in measures_of(task, truth, given, chances, classes):
        found |= {name: float(values[0]) for name, values in measure(weights).items()}
    return found


class TestMetrics:
    """A weight of two is a row that occurs twice: so one test is that of all rows and of any resample."""

    @pytest.mark.parametrize("weighted", [False, True], ids=["all rows", "a resample"])
    def test_two_classes_agree_with_scikit_learn(self, weighted: bool) -> None:
        truth, chances = random_classifier(1)
        given = chances.argmax(axis=1)
        weights = np.random.default_rng(2).integers(0, 4, ROWS) if weighted else np.ones(ROWS)

        found = measured(Task.CLASSIFIER, truth, given, chances, 2, weights)

        how = {"sample_weight": weights}
        assert found == pytest.approx(
            {
                "accuracy_score": sk.accuracy_score(truth, given, **how),
                "precision_score": sk.precision_score(truth, given, **how),
                "recall_score": sk.recall_score(truth, given, **how),
                "f1_score": sk.f1_score(truth, given, **how),
                "roc_auc": sk.roc_auc_score(truth, chances[:, 1], **how),
                "precision_recall_auc": sk.average_precision_score(truth, chances[:, 1], **how),
                "log_loss": sk.log_loss(truth, chances, **how),
                "brier_score": sk.brier_score_loss(truth, chances[:, 1], **how),
            }
        )

    @pytest.mark.parametrize("weighted", [False, True], ids=["all rows", "a resample"])
    def test_more_classes_agree_with_scikit_learn(self, weighted: bool) -> None:
        truth, chances = random_classifier(3, classes=4)
        given = chances.argmax(axis=1)
        weights = np.random.default_rng(4).integers(0, 4, ROWS) if weighted else np.ones(ROWS)

        found = measured(Task.CLASSIFIER, truth, given, chances, 4, weights)

        how = {"sample_weight": weights}
        by_support = {"average": "weighted", **how}
        assert found == pytest.approx(
            {
                "accuracy_score": sk.accuracy_score(truth, given, **how),
                "precision_score": sk.precision_score(truth, given, **by_support),
                "recall_score": sk.recall_score(truth, given, **by_support),
                "f1_score": sk.f1_score(truth, given, **by_support),
                "roc_auc": sk.roc_auc_score(truth, chances, multi_class="ovr", **by_support),
                "log_loss": sk.log_loss(truth, chances, **how),
            }
        )

    def test_numbers_agree_with_scikit_learn_also_far_from_zero(self) -> None:
        random = np.random.default_rng(5)
        truth = 1e6 + random.normal(size=ROWS)
        given = truth + random.normal(size=ROWS)
        weights = random.integers(0, 4, ROWS)

        found = measured(Task.REGRESSOR, truth, given, None, 0, weights)

        how = {"sample_weight": weights}
        assert found == pytest.approx(
            {
                "mean_absolute_error": sk.mean_absolute_error(truth, given, **how),
                "mean_squared_error": sk.mean_squared_error(truth, given, **how),
                "root_mean_squared_error": sk.root_mean_squared_error(truth, given, **how),
                "mean_absolute_percentage_error": sk.mean_absolute_percentage_error(truth, given, **how),
                "r2_score": sk.r2_score(truth, given, **how),
            },
            rel=1e-6,
        )

    def test_an_answer_that_is_no_class_of_the_holdout_is_wrong_and_nothing_else(self) -> None:
        truth, given = np.array([0, 0, 1, 1]), np.array([0, -1, 1, -1])

        found = measured(Task.CLASSIFIER, truth, given, None, 2)

        assert found["accuracy_score"] == 0.5
        assert (found["precision_score"], found["recall_score"]) == (1.0, 0.5)


class TestMcNemar:
    def test_the_approval_of_a_president_two_months_in_a_row(self) -> None:
        """Agresti, Categorical Data Analysis (1990) 350; R's mcnemar.test prints 16.818 and 4.115e-05."""
        found = mcnemar_of_counts(150, 86)

        assert found.method is Method.MCNEMAR
        assert found.statistic == pytest.approx(16.818, abs=5e-4)
        assert found.p_value == pytest.approx(4.115e-05, rel=1e-3)

    def test_airways_of_children_before_and_after_a_transplant(self) -> None:
        """Bentur et al., in Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13 (2013) 91: twice the
        binomial probability of at most 1 of 8."""
        found = mcnemar_of_counts(1, 7)

        assert (found.method, found.statistic) == (Method.MCNEMAR_EXACT, None)
        assert found.p_value == pytest.approx(2 * 9 / 256)

    def test_only_rows_on_which_exactly_one_is_right_count(self) -> None:
        first = np.array([True, True, False, False, True])
        second = np.array([True, False, True, False, False])

        found = mcnemar(first, second)

        assert (found.only_first, found.only_second) == (2, 1)

    def test_two_models_that_are_right_on_the_same_rows_do_not_differ(self) -> None:
        assert mcnemar_of_counts(0, 0).p_value == 1.0


class TestDeLong:
    def test_two_markers_of_a_haemorrhage(self) -> None:
        """pROC's own example, roc.test(r.wfns, r.s100b): Z, p, interval and areas as its tests have them."""
        patients = [part.split(":") for part in (GOOD + POOR).split()]
        wfns, s100b = np.array(patients, dtype=float).T
        poor = np.arange(len(patients)) >= len(GOOD.split())

        found = delong(poor, wfns, s100b)

        assert (found.first, found.second) == pytest.approx((0.8236789, 0.7313686), abs=5e-8)
        assert (found.z, found.p_value) == pytest.approx((2.20898359144091, 0.0271757822291882))
        interval = found.interval(0.95)
        assert (interval.low, interval.high) == pytest.approx((0.0104061769564846, 0.174214419249478))

    def test_the_areas_are_those_of_scikit_learn(self) -> None:
        truth, chances = random_classifier(7)

        found = delong(truth == 1, chances[:, 1], np.zeros(ROWS))

        assert (found.first, found.second) == pytest.approx((sk.roc_auc_score(truth, chances[:, 1]), 0.5))

    def test_a_score_does_not_differ_from_itself(self) -> None:
        truth, chances = random_classifier(8)

        found = delong(truth == 1, chances[:, 1], chances[:, 1])

        assert (found.z, found.p_value) == (0.0, 1.0)


class TestBootstrap:
    def test_a_mean_has_the_interval_that_theory_gives_it(self) -> None:
        """The standard error of a share p of n is the root of p(1-p)/n."""
        truth, chances = random_classifier(9)
        given = chances.argmax(axis=1)
        measures = measures_of(Task.CLASSIFIER, truth, given, None, 2)

        (found,) = resampled([measures], rows=ROWS, resamples=4000, seed=1, tick=lambda: None)

        share = found["accuracy_score"].value
        interval = bootstrap.interval(found["accuracy_score"].resamples, 0.95)
        reach = 1.96 * np.sqrt(share * (1 - share) / ROWS)
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx((share - reach, share + reach), abs=0.006)

    def test_the_difference_of_two_areas_has_the_interval_that_delong_gives_it(self) -> None:
        truth, ours = random_classifier(10)
        theirs = random_classifier(10, skill=0.6)[1]

        metric = compared(truth, ours, theirs)["roc_auc"]

        assert metric.interval is not None
        exact = delong(truth == 1, ours[:, 1], theirs[:, 1]).interval(0.95)
        assert (metric.interval.low, metric.interval.high) == pytest.approx((exact.low, exact.high), abs=0.01)

    def test_both_models_are_drawn_the_same_rows(self) -> None:
        """What they share cancels out: a model and a copy of it that is wrong once more differ by one row, always."""
        truth, chances = random_classifier(11)
        given = chances.argmax(axis=1)
        worse = given.copy()
        worse[np.flatnonzero(given == truth)[0]] ^= 1

        first, second = resampled(
            [measures_of(Task.CLASSIFIER, truth, one, None, 2) for one in (given, worse)],
            rows=ROWS,
            resamples=500,
            seed=1,
            tick=lambda: None,
        )

        difference = (first["accuracy_score"].resamples - second["accuracy_score"].resamples) * ROWS
        assert difference.min() >= 0
        assert np.abs(difference - difference.round()).max() < 1e-9

    def test_the_same_seed_gives_the_same_report_and_another_seed_another(self) -> None:
        truth, ours = random_classifier(12)
        theirs = random_classifier(13)[1]

        assert compared(truth, ours, theirs, seed=1) == compared(truth, ours, theirs, seed=1)
        assert compared(truth, ours, theirs, seed=1) != compared(truth, ours, theirs, seed=2)

    def test_large_holdouts_are_resampled_less_often_but_never_less_than_four_hundred_times(self) -> None:
        assert resamples_for(100_000, 2000, 2) == 2000
        assert resamples_for(1_000_000, 2000, 2) == 400
        assert resamples_for(1_000_000, 2000, 10) == 400
        assert resamples_for(1000, 200, 2) == 200

    def test_it_can_be_stopped_between_any_two_batches(self) -> None:
        truth, chances = random_classifier(14)

        def stop() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            resampled(
                [measures_of(Task.CLASSIFIER, truth, truth, chances, 2)], rows=ROWS, resamples=9, seed=1, tick=stop
            )


def compared(truth: Any, ours: Any, theirs: Any, *, seed: int = 1) -> dict[str, MetricResult]:
    """The metrics of two classifiers by name."""
    found = metrics_of(
        holdout_of(truth),
        answers(ours),
        answers(theirs),
        confidence=0.95,
        resamples=1000,
        seed=seed,
        tick=lambda: None,
    )
    return {metric.name: metric for metric in found}


class TestConclusion:
    def test_a_model_that_knows_more_is_better_and_the_other_worse(self) -> None:
        truth, ours = random_classifier(20, skill=2.5)
        theirs = random_classifier(20, skill=0.5)[1]

        for name, metric in compared(truth, ours, theirs).items():
            assert metric.conclusion is Conclusion.BETTER, name
        for name, metric in compared(truth, theirs, ours).items():
            assert metric.conclusion is Conclusion.WORSE, name

    def test_a_lower_loss_is_a_gain(self) -> None:
        truth, ours = random_classifier(20, skill=2.5)

        metric = compared(truth, ours, random_classifier(20, skill=0.5)[1])["log_loss"]

        assert metric.difference is not None
        assert metric.difference < 0
        assert metric.gain == -metric.difference
        assert metric.interval is not None
        assert metric.least_gain == -metric.interval.high

    def test_two_models_of_the_same_skill_are_not_told_apart(self) -> None:
        truth, ours = random_classifier(21)
        theirs = ours.copy()
        ours[0:20:2], theirs[1:20:2] = ours[0:20:2, ::-1], theirs[1:20:2, ::-1]  # each errs on other rows

        metric = compared(truth, ours, theirs)["accuracy_score"]

        assert metric.conclusion is Conclusion.NOT_ENOUGH_EVIDENCE
        assert metric.interval is not None
        assert metric.interval.low <= 0 <= metric.interval.high

    def test_a_model_equals_itself(self) -> None:
        truth, ours = random_classifier(23)

        for metric in compared(truth, ours, ours).values():
            assert metric.conclusion is Conclusion.EQUAL
            assert metric.difference == 0

    def test_an_interval_alone_does_not_make_a_winner_where_the_test_beside_it_doubts(self) -> None:
        clear = Interval(low=0.1, high=0.2, confidence=0.95)

        for p_value, expected in ((0.04, Conclusion.BETTER), (0.06, Conclusion.NOT_ENOUGH_EVIDENCE)):
            found = conclusion(clear, greater_is_better=True, rows=100, p_value=p_value, unchanged=False)
            assert found is expected

    def test_few_rows_name_no_winner_however_clear_it_looks(self) -> None:
        truth = np.array([0, 1] * 10)
        right, wrong = np.eye(2)[truth], np.eye(2)[1 - truth]

        metric = compared(truth, right, wrong)["log_loss"]

        assert metric.conclusion is Conclusion.NOT_ENOUGH_EVIDENCE
        assert "Only 20 rows" in metric.note

    def test_where_only_one_gives_probabilities_nothing_is_concluded_from_them(self) -> None:
        truth, ours = random_classifier(24)
        silent = answers(ours, probabilities=False)

        found = metrics_of(
            holdout_of(truth), answers(ours), silent, confidence=0.95, resamples=100, seed=1, tick=lambda: None
        )

        metric = next(metric for metric in found if metric.name == "roc_auc")
        assert (metric.current, metric.difference, metric.conclusion) == (None, None, Conclusion.NOT_ENOUGH_EVIDENCE)
        assert "The champion has no such figure" in metric.note

    def test_without_a_champion_there_are_figures_and_their_intervals_but_no_difference(self) -> None:
        truth, ours = random_classifier(25)

        found = metrics_of(
            holdout_of(truth), answers(ours), None, confidence=0.95, resamples=100, seed=1, tick=lambda: None
        )

        for metric in found:
            assert (metric.conclusion, metric.current, metric.difference) == (Conclusion.ALONE, None, None)
            assert metric.candidate_interval is not None

    def test_numbers_are_compared_too(self) -> None:
        random = np.random.default_rng(26)
        truth = random.normal(size=ROWS)
        near, far = truth + random.normal(size=ROWS) * 0.1, truth + random.normal(size=ROWS)

        found = metrics_of(
            holdout_of(truth, task=Task.REGRESSOR),
            numbers(near),
            numbers(far),
            confidence=0.95,
            resamples=500,
            seed=1,
            tick=lambda: None,
        )

        conclusions = {metric.name: metric.conclusion for metric in found}
        assert conclusions.pop("mean_absolute_percentage_error")  # near zero it is no measure of anything
        assert set(conclusions.values()) == {Conclusion.BETTER}


class TestSlices:
    """Every column tells where the difference is; what is too small says so."""

    def frame(self) -> tuple[pd.DataFrame, Any]:
        random = np.random.default_rng(30)
        truth = np.array([0, 1] * (ROWS // 2))
        columns = {
            "age": random.normal(50, 10, ROWS),
            "site": ["north"] * 300 + ["south"] * 90 + ["new"] * 10,
            "same": ["x"] * ROWS,
        }
        return pd.DataFrame(columns), truth

    def slices(self, frame: pd.DataFrame, truth: Any) -> dict[tuple[str, str], Any]:
        ours, theirs = np.eye(2)[truth], np.eye(2)[truth].copy()
        theirs[300:390:2] = theirs[300:390:2][:, ::-1]  # the champion fails in the south
        holdout = holdout_of(truth)
        found = slices_of(frame, scores_of(holdout, answers(ours), answers(theirs)), confidence=0.95)
        return {(one.column, one.value): one for one in found}

    def test_a_difference_is_found_where_it_is_and_nowhere_else(self) -> None:
        found = self.slices(*self.frame())

        south = found["site", "south"]
        assert (south.rows, south.candidate, south.current) == (90, 1.0, 0.5)
        assert south.conclusion is Conclusion.BETTER
        assert found["site", "north"].conclusion is Conclusion.EQUAL

    def test_a_slice_of_ten_rows_says_that_it_is_too_small(self) -> None:
        new = self.slices(*self.frame())["site", "new"]

        assert (new.rows, new.candidate, new.interval) == (10, None, None)
        assert new.note == "Only 10 rows: too few to say anything."

    def test_numbers_are_cut_at_their_quartiles(self) -> None:
        frame, truth = self.frame()

        parts = [one for (column, _), one in self.slices(frame, truth).items() if column == "age"]

        assert sorted(one.rows for one in parts) == [100, 100, 100, 100]

    def test_missing_values_are_a_slice_of_their_own(self) -> None:
        frame, truth = self.frame()
        frame.loc[:49, "age"] = np.nan

        assert self.slices(frame, truth)["age", "missing"].rows == 50

    def test_a_column_of_one_value_has_no_slices(self) -> None:
        assert not [column for column, _ in self.slices(*self.frame()) if column == "same"]

    def test_rare_values_share_one_slice(self) -> None:
        frame, truth = self.frame()
        frame["id"] = [f"patient {number}" for number in range(ROWS)]

        parts = {value: one for (column, value), one in self.slices(frame, truth).items() if column == "id"}

        assert len(parts) == 13
        assert parts["all others"].rows == ROWS - 12


class TestCalibration:
    def test_the_bins_are_those_of_scikit_learn(self) -> None:
        truth, chances = random_classifier(40)

        found = calibration_of(truth, chances, ("benign", "malignant"))

        observed, predicted = calibration_curve(truth, chances[:, 1], n_bins=10)
        assert found.positive == "malignant"
        assert [one.observed for one in found.bins] == pytest.approx(observed)
        assert [one.predicted for one in found.bins] == pytest.approx(predicted)
        assert sum(one.rows for one in found.bins) == ROWS
        assert found.brier == pytest.approx(sk.brier_score_loss(truth, chances[:, 1]))
        weights = np.array([one.rows for one in found.bins]) / ROWS
        assert found.ece == pytest.approx(float((weights * np.abs(observed - predicted)).sum()))

    def test_of_more_classes_it_is_how_often_the_most_likely_one_is_right(self) -> None:
        truth, chances = random_classifier(41, classes=3)

        found = calibration_of(truth, chances, ("a", "b", "c"))

        right = sum(one.observed * one.rows for one in found.bins) / ROWS
        assert right == pytest.approx(sk.accuracy_score(truth, chances.argmax(axis=1)))
