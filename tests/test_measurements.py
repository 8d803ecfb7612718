"""Which value of a metric is judged, where run and logged model say different ones, or none that can be believed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain import Dataset, LoggedModelFacts, Metric, MetricSource, VersionRef
from services.errors import InvalidSettings
from services.evidence import Evidence
from services.gate import GateRefused, evaluate
from services.measurements import Measurement, measurements
from services.mlflow.entities import value
from services.place import Place, PlaceKind
from services.policy import Policy, PolicyBook, parse
from services.settings import PROJECT
from services.signoff import Signoff
from services.verdict import Check
from services.views.dry_run import dry_run
from tests.fakes import HOLDOUT, FakeRegistry
from tests.ledgers import record
from tests.test_gate import champion, evidence, facts
from tests.test_policy import GOOD
from tests.verbs import releases, reviews

TRAINING = Dataset(name="train", digest="cccccccc", context="eval")
LOSS = """\
  - name: val_rmse
    greater_is_better: false
    threshold: 60
    min_relative_change: 0
"""
COMPARING = GOOD.replace("threshold: 0.9\n", "threshold: 0.9\n    min_absolute_change: 0\n")


def ruled(source: str = "", text: str = COMPARING) -> Policy:
    return parse(text + (f"metric_source: {source}\n" if source else ""), "p.yaml")


def on_model(number: float, dataset: Dataset | None = None, name: str = "val_auc") -> Metric:
    return Metric(
        name=name,
        value=number,
        dataset_name=dataset.name if dataset else None,
        dataset_digest=dataset.digest if dataset else None,
        source=MetricSource.LOGGED_MODEL,
    )


def beside(found: Evidence, *metrics: Metric) -> Evidence:
    """The same with a logged model that says these."""
    return replace(found, logged_model=LoggedModelFacts(model_id="m-1", metrics=metrics))


def judged(policy: Policy, candidate: Evidence, other: Evidence | None = None, check: str = "metric:val_auc") -> Check:
    return next(one for one in evaluate(policy, facts(candidate, other)).checks if one.id == check)


class TestNan:
    def test_of_the_run_wins_over_the_0_that_mlflow_keeps_for_it_on_the_logged_model(self) -> None:
        policy = ruled(
            text=GOOD.replace("same_dataset", f"{LOSS}same_dataset").replace(
                "same_dataset: true", "same_dataset: false"
            )
        )
        mine = replace(
            evidence(0.95),
            run=replace(
                evidence(0.95).run,
                metrics={  # type: ignore[type-var]
                    "val_auc": Metric(name="val_auc", value=0.95),
                    "val_rmse": Metric(name="val_rmse", value=math.nan),
                },
            ),
        )
        mine = beside(mine, on_model(0.95), on_model(0.0, name="val_rmse"))
        for source in ("", "run", "logged_model"):
            rules = ruled(source, policy.text)
            for check in ("metric:val_rmse", "champion:val_rmse:relative"):
                found = judged(rules, mine, champion(), check)
                assert (found.passed, found.value) == (False, "nan"), source
                assert "val_rmse is nan" in found.reason
        assert math.isnan(mine.metrics["val_rmse"].value)

    def test_may_be_behind_any_0_of_a_logged_model_that_its_run_does_not_confirm(self) -> None:
        rules = ruled("logged_model", GOOD.replace("greater_is_better: true", "greater_is_better: false"))
        unsaid, other, same = evidence(None), evidence(0.4), evidence(0.0)
        for found in (unsaid, other):
            check = judged(rules, beside(found, on_model(0.0)))
            assert (check.passed, check.value) == (False, "0, or NaN")
            assert "MLflow keeps NaN as 0" in check.reason
        assert judged(rules, beside(same, on_model(0.0))).passed, "a 0 that both say is a 0"


class TestInfinity:
    @pytest.mark.parametrize("sign", [1, -1])
    def test_is_what_mlflow_stores_for_it(self, sign: int) -> None:
        assert value(sign * 1.7976931348623157e308) == sign * math.inf
        assert value(sign * 1.7e300) == sign * 1.7e300

    @pytest.mark.parametrize(
        ("better", "number", "words"), [("true", math.inf, "infinite"), ("false", -math.inf, "negative infinite")]
    )
    def test_is_no_evidence_however_good_it_looks_and_is_called_so(
        self, better: str, number: float, words: str
    ) -> None:
        rules = ruled(text=COMPARING.replace("greater_is_better: true", f"greater_is_better: {better}"))
        check = judged(rules, evidence(number))
        assert (check.passed, check.value) == (False, words)
        assert f"val_auc is {words};" in check.reason
        against = judged(rules, evidence(0.95), champion(number), "champion:val_auc:absolute")
        assert (against.passed, against.value) == (False, words)


CONFLICTS: dict[str, Callable[[], Evidence]] = {
    "logged again on the run": lambda: beside(evidence(0.61, dataset=None), on_model(0.97)),
    "logged again on the model": lambda: beside(evidence(0.97, dataset=None), on_model(0.61)),
    "measured on other data": lambda: beside(evidence(0.97), on_model(0.61, TRAINING), on_model(0.97, HOLDOUT)),
    "only on the model, and twice": lambda: beside(evidence(None), on_model(0.61), on_model(0.97)),
}


class TestTwoValues:
    @pytest.mark.parametrize("case", CONFLICTS)
    def test_refuse_and_the_refusal_names_both_and_each_source(self, case: str) -> None:
        check = judged(ruled(), CONFLICTS[case]())
        assert not check.passed
        assert {"0.61", "0.97"} == set(check.value.split(" and "))
        assert "0.61 on the " in check.reason
        assert "0.97 on the " in check.reason

    @pytest.mark.parametrize("case", CONFLICTS)
    def test_are_settled_by_exactly_the_line_that_the_refusal_prints_and_by_no_other(self, case: str) -> None:
        found, reason = CONFLICTS[case](), judged(ruled(), CONFLICTS[case]()).reason
        for source in MetricSource:
            settled = judged(ruled(source), found).value in {"0.61", "0.97"}
            assert (f"`metric_source: {source}`" in reason) is settled

    @pytest.mark.parametrize(("source", "said", "passes"), [("run", "0.61", False), ("logged_model", "0.97", True)])
    def test_are_one_where_the_policy_says_whose_counts(self, source: str, said: str, passes: bool) -> None:
        check = judged(ruled(source), CONFLICTS["logged again on the run"]())
        assert (check.value, check.passed) == (said, passes)

    def test_of_the_champion_refuse_the_comparison(self) -> None:
        other = beside(champion(0.97, dataset=None), on_model(0.61))
        check = judged(ruled(), evidence(0.98), other, "champion:val_auc:absolute")
        assert not check.passed
        assert "The champion m/v7 cannot be compared with: val_auc has different values" in check.reason
        assert "`metric_source: run`" in check.reason

    def test_that_are_equal_are_one_and_the_data_set_is_that_of_whoever_knows_it(self) -> None:
        mine = beside(evidence(0.95, dataset=None), on_model(0.95, HOLDOUT))
        assert judged(ruled(), mine).passed
        check = judged(ruled(), mine, champion(), "same_dataset")
        assert (check.passed, check.value) == (True, "holdout (aaaaaaaa)")

    def test_that_are_equal_on_two_data_sets_were_measured_on_both(self) -> None:
        mine = beside(evidence(0.95, dataset=None), on_model(0.95, HOLDOUT), on_model(0.95, TRAINING))
        assert judged(ruled(), mine).passed
        check = judged(ruled(), mine, champion(), "same_dataset")
        assert (check.passed, check.value) == (False, "holdout (aaaaaaaa), train (cccccccc)")

    def test_of_which_one_does_not_count_lend_it_no_data_set(self) -> None:
        mine = beside(evidence(0.99, dataset=None), on_model(0.6, HOLDOUT))
        check = judged(ruled("run"), mine, champion(), "same_dataset")
        assert (check.passed, check.value) == (False, "no evidence"), "0.99 was measured nobody knows on what"

    def test_of_many_only_a_few_are_listed(self) -> None:
        check = judged(ruled(), beside(evidence(None), *(on_model(n / 10) for n in range(9))))
        assert check.value == "0, 0.1, 0.2, 0.3 and 5 more"
        assert check.reason.endswith("Log it once, on one data set."), "no line of a policy would settle that"

    @given(st.lists(st.tuples(st.floats(), st.sampled_from([None, HOLDOUT, TRAINING])), max_size=4), st.floats())
    def test_what_counts_is_always_something_that_was_said(
        self, logged: list[tuple[float, Dataset | None]], run: float
    ) -> None:
        found = measurements([Metric(name="a", value=run)], [on_model(n, d, "a") for n, d in logged])["a"]
        for source in (None, *MetricSource):
            counting = found.counting(source)
            assert counting is None or repr(counting.value) in {repr(one.value) for one in found.values}
        assert found.counting(MetricSource.RUN) is not None, "a run has one last value"


class TestALoggedModelThatIsOnlyNamed:
    """A version can name any, by an id or in a path of its source; its files are what they are."""

    def test_lends_it_no_evidence_and_no_bars(self, signoff: Signoff, registry: FakeRegistry) -> None:
        good, ref = registry.add_version("m", {"val_auc": 0.97}), registry.add_version("m", {})
        registry.log_on_model(good, "val_auc", 0.97, HOLDOUT)
        claimed = str(registry.version(good).model_id)
        run = str(registry.version(ref).run_id)
        folder = Place(kind=PlaceKind.RUN, uri="", id=run, path=claimed, run_id=run)
        registry.source(ref, f"runs:/{run}/{claimed}", place=folder)
        registry._versions[ref] = replace(registry.version(ref), model_id=claimed)
        for found in (signoff.reader.fresh(ref), signoff.reader.remembered(registry.version(ref))):
            assert (dict(found.measured), found.logged_model_id) == ({}, None)
        with pytest.raises(GateRefused, match="val_auc has no evidence"):
            releases.promote(signoff, ref, by="release_manager", reason="0.97!")

    def test_of_which_one_value_names_its_data_set_says_nothing_of_another_value(self) -> None:
        found = beside(evidence(0.99, dataset=None), on_model(0.5, HOLDOUT))
        logged = replace(found, run=replace(found.run, datasets=(HOLDOUT,)))  # type: ignore[type-var]
        assert logged.measured_on(["val_auc"], MetricSource.RUN) == ()
        assert logged.measured_on(["val_auc"], MetricSource.LOGGED_MODEL) != ()


class TestARunThatLoggedSeveralModels:
    """What the run says last may have been measured on any of them."""

    POLICY = ruled("run", GOOD)

    def of_run(self, said: float, *own: Metric, models: tuple[str, ...] = ("m-1", "m-2")) -> Evidence:
        found = beside(evidence(said), *own)
        run = replace(found.run, models=models)  # type: ignore[type-var]
        return replace(found, run=run, version=replace(found.version, model_id="m-1"))

    def test_says_nothing_of_a_model_that_was_not_told_the_same(self) -> None:
        check = judged(self.POLICY, self.of_run(0.999))
        assert (check.passed, check.value) == (False, "0.999, of one of several models")
        assert "val_auc is 0.999 on the run, which logged several models and says not of which" in check.reason
        assert 'mlflow.log_metric("val_auc", …, model_id="m-…")' in check.reason

    def test_is_not_believed_where_the_model_itself_says_another_value(self) -> None:
        check = judged(self.POLICY, self.of_run(0.999, on_model(0.1)))
        assert (check.passed, check.value) == (False, "0.1")

    def test_is_believed_where_the_model_says_the_same(self) -> None:
        assert judged(self.POLICY, self.of_run(0.95, on_model(0.95))).passed

    def test_is_what_counts_where_it_logged_no_other_one(self) -> None:
        own = str(self.of_run(0.95).logged_model_id)
        for models in ((), (own,)):
            assert judged(self.POLICY, self.of_run(0.95, on_model(0.1), models=models)).value == "0.95"

    def test_says_nothing_of_a_folder_of_its_files_either(self) -> None:
        found = self.of_run(0.999, models=("m-2",))
        place = Place(kind=PlaceKind.RUN, uri="", id="r", path="evil", run_id="r")
        folder = replace(found, version=replace(found.version, model_id=None), logged_model=None, place=place)
        assert not judged(self.POLICY, folder).passed
        unknown = replace(folder, place=None)
        assert judged(self.POLICY, unknown).passed, "a runs: source whose place was not asked may be the one model"

    def test_stops_a_promotion_and_a_policy_tried_later_says_the_same(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        signoff = replace(signoff, policies=PolicyBook(policies=(self.POLICY,)))
        ref = registry.add_version("m", {"val_auc": 0.999})
        registry.log_on_model(ref, "other", 1.0)
        registry.log_outputs(ref, str(registry.version(ref).model_id), "m-other")
        with pytest.raises(GateRefused, match="which logged several models"):
            releases.promote(signoff, ref, by="release_manager", reason="Go.")
        with signoff.database.reading() as connection:
            (again,) = dry_run(connection, self.POLICY, signoff.policies).judged
        assert (again.now, again.differences) == ("refused", ())


class TestThePoliciesThatAreShipped:
    @pytest.mark.parametrize("file", sorted((PROJECT / "policies").glob("*.yaml")), ids=lambda file: file.stem)
    def test_say_that_the_last_value_of_the_run_counts(self, file: object) -> None:
        """Training logs epochs after ``log_model``, which copied the first of them."""
        (policy,) = (p for p in PolicyBook.load(PROJECT / "policies").policies if p.file == file.name)  # type: ignore[attr-defined]
        assert policy.rules.metric_source is MetricSource.RUN

    def test_a_source_that_does_not_exist_is_a_mistake_with_its_line(self) -> None:
        with pytest.raises(InvalidSettings, match=r"p.yaml:13: metric_source: .*'run' or 'logged_model'"):
            ruled("both", GOOD)


class TestWhatIsKept:
    def submitted(self, signoff: Signoff, registry: FakeRegistry) -> VersionRef:
        ref = registry.add_version("m", {"val_auc": 0.95}, dataset=None)
        registry.log_on_model(ref, "val_auc", 0.5)
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        reviews.approve(signoff, ref, by="reviewer", comment="Yes.")
        return ref

    def test_a_promotion_that_is_refused_for_two_values_records_both_and_changes_nothing(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        signoff = replace(signoff, policies=PolicyBook(policies=(ruled(),)))
        ref = self.submitted(signoff, registry)
        with pytest.raises(GateRefused, match="different values"):
            releases.promote(signoff, ref, by="release_manager", reason="Go.")
        kept = record(signoff)[-1].get("metrics")["val_auc"]
        assert [(one["value"], one["source"]) for one in kept["values"]] == [("0.95", "run"), ("0.5", "logged_model")]
        assert registry.version(ref).stage != "Production"

    @pytest.mark.parametrize(("source", "allowed"), [("", False), ("run", True), ("logged_model", False)])
    def test_another_policy_judges_it_again_with_both(
        self, signoff: Signoff, registry: FakeRegistry, source: str, allowed: bool
    ) -> None:
        signoff = replace(signoff, policies=PolicyBook(policies=(ruled("run"),)))
        ref = self.submitted(signoff, registry)
        releases.promote(signoff, ref, by="release_manager", reason="Go.")
        with signoff.database.reading() as connection:
            (again,) = dry_run(connection, ruled(source), signoff.policies).judged
        assert again.now == ("allowed" if allowed else "refused")


def test_a_measurement_is_the_same_in_whatever_order_it_was_read() -> None:
    values = (on_model(0.5, HOLDOUT), on_model(0.6, TRAINING))
    assert Measurement(values=values).as_json() == Measurement(values=values[::-1]).as_json()
