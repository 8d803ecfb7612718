"""Is mine better? Every number here was worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.domain import (
    Column,
    Dataset,
    LoggedModelFacts,
    Metric,
    MetricSource,
    ModelVersion,
    RunFacts,
    Signature,
    VersionRef,
)
from services.errors import BadInput
from services.evidence import Evidence, Manifest
from services.metrics import Direction, direction, is_share, says_how_good
from services.policy import MetricRule, Policy, parse
from services.side_by_side import conclusions, differences
from services.side_by_side.comparison import Cell, Comparison, Data, Standing, compare, wanted
from services.verdict import Check, Verdict

NOW = datetime(2026, 11, 1, tzinfo=UTC)
HOLDOUT = Dataset(name="holdout", digest="aaaaaaaa1111", context="eval")
OTHER = Dataset(name="second_site", digest="bbbbbbbb2222", context="eval")
SIGNED = Signature(inputs=(Column(name="x", type="double"),), outputs=(Column(name="0", type="long"),))


def policy(text: str = "- {name: auc, greater_is_better: true, threshold: 0.9, min_absolute_change: 0}") -> Policy:
    return parse(
        f"name: p\ntitle: P\napplies_to: {{names: ['*']}}\nmetrics:\n  {text}\nsame_dataset: true\nsignature: true\n"
        "approvals: [{role: reviewer, count: 1}]\npromoted_by: [release_manager]\n",
        "p.yaml",
    )


def version(  # noqa: PLR0913
    number: int,
    metrics: dict[str, float] | None = None,
    *,
    data: Dataset | None = HOLDOUT,
    measured: bool = True,
    params: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    run_tags: dict[str, str] | None = None,
    signature: Signature | None = SIGNED,
    run: bool = True,
    name: str = "m",
) -> Evidence:
    """One version; ``measured`` ties each metric to ``data``, as MLflow does when it is told the data set."""
    found = {
        key: Metric(
            name=key,
            value=value,
            dataset_name=data.name if data and measured else None,
            dataset_digest=data.digest if data and measured else None,
        )
        for key, value in (metrics or {}).items()
    }
    facts = RunFacts(
        run_id=f"r{number}",
        name=f"run {number}",
        user="u",
        experiment_id="1",
        started_at=NOW,
        ended_at=NOW,
        status="FINISHED",
        metrics=found,
        params=params or {},
        tags=run_tags or {},
        datasets=(data,) if data else (),
    )
    ref = VersionRef(name=name, version=number)
    return Evidence(
        version=ModelVersion(ref=ref, created_at=NOW, updated_at=NOW, tags=tags or {}, run_id=f"r{number}"),
        run=facts if run else None,
        manifest=Manifest(files=(), signature=signature),
    )


def cell(comparison: Comparison, name: str, position: int = 1) -> Cell:
    return next(row for row in comparison.metrics if row.name == name).cells[position]


def sentence(baseline: Evidence, *candidates: Evidence, by: Policy | None = None) -> str:
    return conclusions.summary(compare(baseline, candidates, by or policy()))


class TestDirection:
    @pytest.mark.parametrize(
        "name",
        [
            "val_auc",
            "AUC",
            "f1",
            "F1",
            "r2",
            "r2_score",
            "accuracy",
            "balanced-accuracy",
            "roc_auc",
            "precision_recall_auc",
            "mcc",
            "neg_mean_squared_error",
            "neg_log_loss",
            "true_positives",
            "throughput_qps",
            "evalAccuracy",
        ],
    )
    def test_more_is_better(self, name: str) -> None:
        assert direction(name) is Direction.HIGHER

    @pytest.mark.parametrize(
        "name",
        [
            "loss",
            "val_log_loss",
            "valLogLoss",
            "rmse",
            "val/MAE",
            "latency_ms",
            "p95_latency",
            "error_rate",
            "brier_score",
            "mean_squared_error",
            "max_error",
            "false_positives",
            "false_negative",
            "fpr",
            "perplexity",
            "training_time",
        ],
    )
    def test_less_is_better(self, name: str) -> None:
        assert direction(name) is Direction.LOWER

    @pytest.mark.parametrize(
        "name", ["example_count", "best_f1_threshold", "epoch", "flossing", "x", "", "⚕", "error_count"]
    )
    def test_nobody_says(self, name: str) -> None:
        assert direction(name) is Direction.UNKNOWN

    def test_the_policy_has_the_first_word(self) -> None:
        odd = policy("- {name: accuracy, greater_is_better: false, threshold: 1}")
        assert direction("accuracy", odd) is Direction.LOWER
        assert direction("loss", odd) is Direction.LOWER

    @pytest.mark.parametrize("name", ["train_loss", "training_score", "fit_time", "system/gpu_error", "Train-AUC"])
    def test_training_and_machine_say_nothing_about_the_model(self, name: str) -> None:
        assert not says_how_good(name)

    def test_shares(self) -> None:
        assert is_share("val_auc")
        assert not is_share("rmse")


class TestCells:
    def test_delta_relative_and_standing_of_a_metric_of_which_more_is_better(self) -> None:
        found = cell(compare(version(1, {"auc": 0.8}), [version(2, {"auc": 0.9})], policy()), "auc")
        assert found.standing is Standing.BETTER
        assert found.delta == pytest.approx(0.1)
        assert found.relative == pytest.approx(0.125)

    def test_less_is_better_for_a_latency(self) -> None:
        found = cell(
            compare(version(1, {"latency_ms": 50.0}), [version(2, {"latency_ms": 56.0})], policy()), "latency_ms"
        )
        assert found.standing is Standing.WORSE
        assert (found.delta, found.relative) == (6.0, pytest.approx(0.12))

    def test_relative_to_the_magnitude_of_a_negative_baseline(self) -> None:
        found = cell(compare(version(1, {"r2": -0.5}), [version(2, {"r2": -0.25})], policy()), "r2")
        assert (found.delta, found.relative, found.standing) == (0.25, 0.5, Standing.BETTER)

    def test_a_baseline_of_zero_has_no_relative_change(self) -> None:
        found = cell(compare(version(1, {"loss": 0.0}), [version(2, {"loss": 0.2})], policy()), "loss")
        assert (found.delta, found.relative, found.standing) == (0.2, None, Standing.WORSE)

    def test_equal_is_neither(self) -> None:
        found = cell(compare(version(1, {"auc": 0.9}), [version(2, {"auc": 0.9})], policy()), "auc")
        assert (found.standing, found.delta, found.relative) == (Standing.EQUAL, 0, 0)

    def test_an_unknown_direction_is_not_judged(self) -> None:
        found = compare(version(1, {"magic": 1.0}), [version(2, {"magic": 2.0})], policy())
        assert cell(found, "magic").standing is Standing.UNJUDGED
        assert not next(row for row in found.metrics if row.name == "magic").counts

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_nan_and_infinity_are_no_evidence(self, value: float) -> None:
        found = cell(compare(version(1, {"auc": 0.9}), [version(2, {"auc": value})], policy()), "auc")
        assert (found.value, found.standing, found.delta, found.meets) == (None, Standing.NO_EVIDENCE, None, False)

    def test_a_missing_metric_is_no_evidence(self) -> None:
        found = compare(version(1, {"auc": 0.9, "f1": 0.8}), [version(2, {"auc": 0.9})], policy())
        assert cell(found, "f1").standing is Standing.NO_EVIDENCE

    def test_a_metric_of_the_candidate_alone(self) -> None:
        found = cell(compare(version(1, {"auc": 0.9}), [version(2, {"f1": 0.7})], policy()), "f1")
        assert (found.standing, found.delta) == (Standing.ALONE, None)

    def test_numbers_too_far_apart_give_no_delta_but_a_standing(self) -> None:
        found = cell(compare(version(1, {"auc": -1.7e308}), [version(2, {"auc": 1.7e308})], policy()), "auc")
        assert (found.delta, found.relative, found.standing) == (None, None, Standing.BETTER)

    def test_measured_on_other_data_means_nothing(self) -> None:
        found = cell(compare(version(1, {"auc": 0.9}), [version(2, {"auc": 0.99}, data=OTHER)], policy()), "auc")
        assert found.standing is Standing.OTHER_DATA
        assert found.delta == pytest.approx(0.09)

    def test_of_two_values_the_policy_says_which_counts_and_without_it_none_does(self) -> None:
        said = Metric(name="auc", value=0.95, source=MetricSource.LOGGED_MODEL)
        mine = replace(version(2, {"auc": 0.1}), logged_model=LoggedModelFacts(model_id="m-1", metrics=(said,)))
        for line, value, standing in (
            ("metric_source: run", 0.1, Standing.WORSE),
            ("metric_source: logged_model", 0.95, Standing.BETTER),
            ("", None, Standing.SEVERAL),
        ):
            rules = parse(f"{policy().text}{line}\n", "p.yaml")
            found = cell(compare(version(1, {"auc": 0.9}), [mine], rules), "auc")
            assert (found.value, found.standing) == (value, standing)


class TestPolicy:
    def test_threshold_met_and_missed_in_every_version(self) -> None:
        found = compare(version(1, {"auc": 0.9}), [version(2, {"auc": 0.89}), version(3)], policy())
        assert [cell(found, "auc", n).meets for n in range(3)] == [True, False, False]

    def test_what_no_policy_asks_for_is_neither_met_nor_missed(self) -> None:
        assert cell(compare(version(1, {"f1": 1.0}), [version(2, {"f1": 0.0})], policy()), "f1").meets is None

    def test_not_worse_than_the_champion_is_judged_when_the_champion_is_there(self) -> None:
        champion, worse = version(1, {"auc": 0.95}), version(2, {"auc": 0.94})
        assert cell(compare(champion, [worse], policy(), champion=champion.ref), "auc").meets is False
        assert cell(compare(champion, [worse], policy()), "auc").meets is True

    def test_the_champion_need_not_be_the_baseline(self) -> None:
        champion, worse = version(1, {"auc": 0.95}), version(2, {"auc": 0.94})
        found = compare(worse, [champion], policy(), champion=champion.ref)
        assert [cell(found, "auc", n).meets for n in range(2)] == [False, True]

    def test_a_change_alone_cannot_be_judged_without_the_champion(self) -> None:
        rule = policy("- {name: rmse, greater_is_better: false, min_relative_change: 0.05}")
        champion, enough, short = (version(n, {"rmse": v}) for n, v in ((1, 100.0), (2, 95.0), (3, 96.0)))
        found = compare(champion, [enough, short], rule, champion=champion.ref)
        assert [cell(found, "rmse", n).meets for n in range(3)] == [None, True, False]

    @pytest.mark.parametrize(
        ("rule", "words"),
        [
            ({"threshold": 0.9}, "≥ 0.9"),
            ({"threshold": 0.9, "min_absolute_change": 0.0}, "≥ 0.9, not worse than the champion"),
            ({"min_absolute_change": -0.01}, "at most 0.01 worse than the champion"),
            ({"min_relative_change": 0.02}, "at least 2 % better than the champion"),
        ],
    )
    def test_in_words(self, rule: dict[str, float], words: str) -> None:
        assert wanted(MetricRule(name="auc", greater_is_better=True, **rule)) == words

    def test_rows_begin_with_what_the_policy_asks_and_end_with_what_does_not_count(self) -> None:
        found = compare(
            version(1, {"zeta": 1, "train_loss": 1, "accuracy": 1, "auc": 1, "brier": 1}), [version(2)], policy()
        )
        assert [row.name for row in found.metrics] == ["auc", "accuracy", "brier", "zeta", "train_loss"]


class TestHowMany:
    @pytest.mark.parametrize("count", [0, 10])
    def test_two_to_ten(self, count: int) -> None:
        with pytest.raises(BadInput, match="two to 10"):
            compare(version(1), [version(n) for n in range(2, 2 + count)], policy())

    def test_no_version_twice(self) -> None:
        with pytest.raises(BadInput, match="twice"):
            compare(version(1), [version(1)], policy())

    def test_labels_name_the_model_only_where_there_are_several(self) -> None:
        assert compare(version(1), [version(2)], policy()).labels == ("v1", "v2")
        assert compare(version(1), [version(2, name="n")], policy()).labels == ("m v1", "n v2")


class TestShortLabels:
    def test_long_names_are_cut_where_there_are_several(self) -> None:
        found = compare(version(1, name="breast_cancer_screening"), [version(2, name="wine")], policy())
        assert found.short == ("breast_cancer_s… v1", "wine v2")
        assert found.labels[0] == "breast_cancer_screening v1"

    def test_but_not_where_they_could_then_be_mixed_up(self) -> None:
        names = ("breast_cancer_screening", "breast_cancer_staging")
        found = compare(version(1, name=names[0]), [version(1, name=names[1])], policy())
        assert found.short == (f"{names[0]} v1", f"{names[1]} v1")

    def test_one_model_needs_no_name(self) -> None:
        assert compare(version(1), [version(2)], policy()).short == ("v1", "v2")


FIVE = {"auc": 0.9, "accuracy": 0.8, "f1": 0.8, "recall": 0.7, "latency_ms": 50.0}
BETTER = {"auc": 0.95, "accuracy": 0.9, "f1": 0.85, "recall": 0.75, "latency_ms": 56.0}


class TestTheSentence:
    def test_better_on_most_worse_on_one(self) -> None:
        assert sentence(version(3, FIVE), version(5, BETTER)) == (
            "v5 beats v3 on 4 of 5 metrics; worse on latency_ms by 12 %; same data; signature compatible."
        )

    def test_better_on_all(self) -> None:
        assert sentence(version(3, FIVE), version(5, BETTER | {"latency_ms": 40.0})).startswith(
            "v5 beats v3 on all 5 metrics; same data"
        )

    def test_better_on_none(self) -> None:
        assert sentence(version(3, BETTER | {"latency_ms": 40.0}), version(5, FIVE)).startswith(
            "v5 does not beat v3 on any of 5 metrics; "
            "worse on auc by 5.26 %, accuracy by 11.1 %, f1 by 5.88 % and 2 more; same data"
        )

    def test_equal(self) -> None:
        assert sentence(version(3, FIVE), version(5, FIVE)).startswith("v5 equals v3 on all 5 metrics; same data")
        one_up = sentence(version(3, {"auc": 0.9, "f1": 0.5}), version(5, {"auc": 0.95, "f1": 0.5}))
        assert one_up.startswith("v5 beats v3 on 1 of 2 metrics; equal on f1; same data")

    def test_no_evidence_at_all(self) -> None:
        assert sentence(version(3, FIVE), version(6)) == "v6 has no evidence; signature compatible."

    def test_a_deleted_run_is_named_as_the_reason(self) -> None:
        assert sentence(version(3, FIVE), version(6, run=False)).startswith(
            "v6 has no evidence: its run no longer exists"
        )

    def test_a_baseline_without_evidence(self) -> None:
        assert sentence(version(3), version(5, FIVE)).startswith("v3 has no evidence to compare with")

    def test_nothing_in_common(self) -> None:
        by = policy("- {name: other, greater_is_better: true, threshold: 1}")
        assert sentence(version(3, {"auc": 1}), version(5, {"f1": 1}), by=by).startswith(
            "v5 and v3 have no metric in common that says how good they are"
        )

    def test_what_the_policy_asks_for_is_missing(self) -> None:
        found = sentence(version(3, FIVE), version(6, {"f1": 0.9}))
        assert found.startswith(
            "v6 has no evidence for auc, accuracy, latency_ms and 1 more; of the rest it beats v3 on f1; same data"
        )

    def test_a_missing_side_metric_is_mentioned(self) -> None:
        assert "no evidence for recall" in sentence(
            version(3, FIVE), version(5, {name: value for name, value in BETTER.items() if name != "recall"})
        )

    def test_nan_is_missing(self) -> None:
        assert "no evidence for auc" in sentence(version(3, FIVE), version(5, BETTER | {"auc": math.nan}))

    def test_different_data_is_not_comparable(self) -> None:
        assert sentence(version(3, FIVE), version(5, BETTER, data=OTHER)) == (
            "v5 is not comparable with v3: measured on different data; "
            "second_site (bbbbbbbb) vs holdout (aaaaaaaa); signature compatible."
        )

    def test_data_that_nobody_names_is_said_so(self) -> None:
        assert "v5 does not say on which data it was measured" in sentence(
            version(3, FIVE), version(5, BETTER, data=None)
        )
        assert "v5 and v3 do not say on which data they were measured" in sentence(
            version(3, FIVE, data=None), version(5, BETTER, data=None)
        )

    def test_training_metrics_do_not_count(self) -> None:
        found = sentence(version(3, {"auc": 0.9, "train_loss": 0.1}), version(5, {"auc": 0.95, "train_loss": 9.0}))
        assert found.startswith("v5 beats v3 on auc; same data")

    def test_a_change_from_zero_is_told_as_it_is(self) -> None:
        assert "worse on loss by 0.25" in sentence(
            version(3, {"auc": 0.9, "loss": 0.0}), version(5, {"auc": 0.95, "loss": 0.25})
        )

    def test_the_signature_is_part_of_it(self) -> None:
        wider = Signature(inputs=(*SIGNED.inputs, Column(name="y", type="long")), outputs=SIGNED.outputs)
        assert sentence(version(3, FIVE), version(5, BETTER, signature=wider)).endswith(
            "signature breaking: input y added, required."
        )
        assert sentence(version(3, FIVE), version(5, BETTER, signature=None)).endswith("v5 has no signature.")

    def test_failed_checks_are_counted_and_named(self) -> None:
        failed, passed = (
            Check(id=name, title=title, passed=ok, value="", threshold="", reason="")
            for name, title, ok in (("metric:auc", "auc ≥ 0.99", False), ("signature", "Signature present", True))
        )
        unrelated = Check(id="approvals", title="1 approval", passed=False, value="", threshold="", reason="")
        verdicts = {VersionRef(name="m", version=5): Verdict(checks=(failed, passed, unrelated))}
        found = compare(version(3, FIVE), [version(5, BETTER | {"latency_ms": 40.0})], policy(), verdicts=verdicts)
        assert conclusions.summary(found) == (
            "v5 beats v3 on all 5 metrics; fails 1 check (auc ≥ 0.99); same data; signature compatible."
        )
        (said,) = conclusions.conclude(found)
        assert not said.favourable

    def test_one_sentence_a_candidate(self) -> None:
        assert sentence(version(1, FIVE), version(2, BETTER), version(3)).count("v1") == 1
        assert len(conclusions.conclude(compare(version(1), [version(2), version(3)], policy()))) == 2

    def test_favourable_and_doubtful(self) -> None:
        base, up = version(3, FIVE), BETTER | {"latency_ms": 40.0}

        def judged(candidate: Evidence) -> tuple[bool, bool]:
            (found,) = conclusions.conclude(compare(base, [candidate], policy()))
            return found.favourable, found.doubtful

        assert judged(version(5, up)) == (True, False)
        assert judged(version(5, BETTER)) == (False, False)
        assert judged(version(5, up, data=OTHER)) == (False, True)
        assert judged(version(5, {"f1": 0.99})) == (False, True)
        assert judged(version(5)) == (False, True)


class TestData:
    def test_by_digest_and_not_by_name(self) -> None:
        renamed = Dataset(name="other name", digest=HOLDOUT.digest, context="eval")
        assert compare(version(1, FIVE), [version(2, FIVE, data=renamed)], policy()).data(1) is Data.SAME

    def test_the_logged_holdout_stands_in_for_metrics_that_name_none(self) -> None:
        found = compare(version(1, FIVE), [version(2, BETTER, data=OTHER, measured=False)], policy())
        assert found.data(1) is Data.DIFFERENT
        assert cell(found, "auc").standing is Standing.OTHER_DATA

    def test_rows_name_what_was_measured_on_and_every_context(self) -> None:
        rows = differences.datasets([version(1, FIVE), version(2, FIVE, data=OTHER)])
        assert [(row.name, row.differs) for row in rows] == [("metrics measured on", True), ("eval", True)]
        assert rows[0].values == ("holdout (aaaaaaaa)", "second_site (bbbbbbbb)")

    def test_no_rows_where_nothing_was_logged(self) -> None:
        assert differences.datasets([version(1, data=None), version(2, run=False)]) == ()
