"""Whether a version is whole: its run is there and not deleted, and so is every file that its MLmodel names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import yaml

from services.domain import LoggedModelFacts, VersionRef
from services.gate import GateRefused, evaluate
from services.mlflow.entities import named
from services.policy import PolicyBook
from services.reading import Reader
from services.signoff import Signoff
from services.verbs import releases, reviews
from services.verdict import Check
from services.views.dry_run import dry_run
from tests.fakes import FakeRegistry
from tests.ledgers import record
from tests.test_gate import POLICY, champion, evidence, facts

MLMODEL: Mapping[str, bytes] = {
    "MLmodel": yaml.safe_dump(
        {
            "flavors": {
                "python_function": {
                    "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                    "model_path": "model.pkl",
                    "loader_module": "mlflow.sklearn",
                    "predict_fn": "predict",
                },
                "sklearn": {"pickled_model": "model.pkl", "code": None},
                "pytorch": {"model_data": "data"},
            },
            "saved_input_example_info": {"artifact_path": "input_example.json", "type": "dataframe"},
        }
    ).encode(),
    **dict.fromkeys(("conda.yaml", "python_env.yaml", "model.pkl", "data/weights.pt", "input_example.json"), b"."),
}


def checks(*check_ids: str, registry: FakeRegistry, ref: VersionRef, other: VersionRef | None = None) -> list[Check]:
    reader = Reader(registry)
    seen = facts(reader.fresh(ref), reader.fresh(other) if other else None)
    return [check for check in evaluate(POLICY, seen).checks if check.id in check_ids]


class TestItsRun:
    def test_is_deleted_although_mlflow_still_answers_it_and_has_its_logged_model(self, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.log_on_model(ref, "val_auc", 0.95)
        registry.delete_run(ref)
        (found,) = checks("intact", registry=registry, ref=ref)
        assert (found.passed, found.value) == (False, "its run is deleted in MLflow")
        assert f"MlflowClient().restore_run('{registry.version(ref).run_id}') brings the run back." in found.reason
        registry.delete_run(ref, deleted=False)
        (found,) = checks("intact", registry=registry, ref=ref)
        assert found.passed

    def test_is_gone_although_its_logged_model_is_there(self, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.log_on_model(ref, "val_auc", 0.95)
        registry.drop_run(ref)
        (found,) = checks("intact", registry=registry, ref=ref)
        assert (found.passed, found.value) == (False, "its run no longer exists")

    def test_is_not_asked_for_where_the_version_names_none_and_has_a_logged_model(self) -> None:
        found = evidence(0.95)
        bare = replace(found, run=None, version=replace(found.version, run_id=None))
        whole = replace(bare, logged_model=LoggedModelFacts(model_id="m-1"))
        assert [bare.run_problem, whole.run_problem] == ["its run no longer exists", ""]

    def test_promotion_of_a_version_whose_run_is_deleted_is_refused_and_changes_nothing(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        reviews.approve(signoff, ref, by="reviewer", comment="Yes.")
        registry.delete_run(ref)
        with pytest.raises(GateRefused, match="its run is deleted in MLflow"):
            releases.promote(signoff, ref, by="release_manager", reason="Go.")
        assert registry.version(ref).stage != "Production"
        assert record(signoff)[-1].kind.value == "promotion:refused"
        registry.delete_run(ref, deleted=False)
        releases.promote(signoff, ref, by="release_manager", reason="It is back.")
        assert registry.version(ref).stage == "Production"


class TestTheChampionsRun:
    def test_is_why_a_candidate_cannot_be_compared_and_the_comparison_says_so(self, registry: FakeRegistry) -> None:
        reigning, ref = (registry.add_version("m", {"val_auc": value}) for value in (0.9, 0.95))
        registry.delete_run(reigning)
        found = checks("champion:val_auc:absolute", "same_dataset", registry=registry, ref=ref, other=reigning)
        assert len(found) == 2
        for check in found:
            assert not check.passed
            assert "The champion m/v1 cannot be compared with: its run is deleted in MLflow." in check.reason
            assert "restore_run" in check.reason
        registry.delete_run(reigning, deleted=False)
        found = checks("champion:val_auc:absolute", "same_dataset", registry=registry, ref=ref, other=reigning)
        assert [check.passed for check in found] == [True, True]

    def test_that_is_gone_for_good_is_named_where_its_evidence_is_missing(self) -> None:
        gone = replace(champion(), run=None)
        (check,) = [c for c in evaluate(POLICY, facts(evidence(0.95), gone)).failed if c.id.startswith("champion")]
        assert "val_auc has no evidence; its run no longer exists" in check.reason


class TestItsFiles:
    def test_that_mlmodel_names_are_what_its_flavors_load_and_its_example(self) -> None:
        assert set(named(yaml.safe_load(MLMODEL["MLmodel"]))) == {
            "conda.yaml",
            "python_env.yaml",
            "model.pkl",
            "data",
            "input_example.json",
        }

    @pytest.mark.parametrize("path", ["", ".", "/abs/model.pkl", "../model.pkl", "s3://bucket/model.pkl", 7, None])
    def test_are_no_paths_that_lie_elsewhere(self, path: object) -> None:
        assert named({"flavors": {"x": {"data": path}}}) == ()

    @pytest.mark.parametrize("path", [path for path in MLMODEL if path != "MLmodel"])
    def test_that_are_gone_are_named_in_the_refusal(self, registry: FakeRegistry, path: str) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95}, files=dict(MLMODEL))
        (found,) = checks("intact", registry=registry, ref=ref)
        assert found.passed, found.reason
        registry.remove_file(ref, path)
        (found,) = checks("intact", registry=registry, ref=ref)
        assert found.value == f"its MLmodel names {path.split('/', maxsplit=1)[0]}, which is not there"


class TestWhatIsKept:
    def test_a_policy_tried_later_refuses_it_for_the_same_reason(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        signoff = replace(signoff, policies=PolicyBook(policies=(POLICY,)))
        ref = registry.add_version("m", {"val_auc": 0.95}, files=dict(MLMODEL))
        registry.remove_file(ref, "model.pkl")
        registry.delete_run(ref)
        with pytest.raises(GateRefused):
            releases.promote(signoff, ref, by="release_manager", reason="Go.")
        with signoff.database.reading() as connection:
            (again,) = dry_run(connection, POLICY, signoff.policies).judged
        assert (again.now, again.differences) == ("refused", ())
