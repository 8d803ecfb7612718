"""Whether a version is whole: its run is there and not deleted, and so is every file that its MLmodel names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import yaml

from services.domain import Description, LoggedModelFacts, VersionRef
from services.evidence import Manifest
from services.gate import GateRefused, evaluate
from services.mlflow.artifacts import described
from services.policy import PolicyBook
from services.reading import Reader
from services.signoff import Signoff
from services.verdict import Check
from services.views.dry_run import dry_run
from tests.fakes import FakeRegistry
from tests.ledgers import record
from tests.test_gate import POLICY, champion, evidence, facts
from tests.verbs import releases, reviews

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


def said(document: object) -> Description:
    return described(VersionRef(name="m", version=1), yaml.safe_dump(document).encode())


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
        assert set(said(yaml.safe_load(MLMODEL["MLmodel"])).named) == {
            "conda.yaml",
            "python_env.yaml",
            "model.pkl",
            "data",
            "input_example.json",
        }

    @pytest.mark.parametrize("path", ["", ".", 7, None])
    def test_are_named_by_a_path_or_not_at_all(self, path: object) -> None:
        assert said({"flavors": {"x": {"data": path}}}) == Description()

    @pytest.mark.parametrize("path", [path for path in MLMODEL if path != "MLmodel"])
    def test_that_are_gone_are_named_in_the_refusal(self, registry: FakeRegistry, path: str) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95}, files=dict(MLMODEL))
        (found,) = checks("intact", registry=registry, ref=ref)
        assert found.passed, found.reason
        registry.remove_file(ref, path)
        (found,) = checks("intact", registry=registry, ref=ref)
        assert found.value == f"its MLmodel names {path.split('/', maxsplit=1)[0]}, which is not there"


class TestWhatItWouldLoadFromElsewhere:
    @pytest.mark.parametrize(
        "path",
        [
            *("/abs/model.pkl", "../model.pkl", "data/../../model.pkl", "s3://bucket/model.pkl", "file:///model.pkl"),
            *("C:/models/model.pkl", "C:model.pkl", "..\\model.pkl", r"\\server\share\model.pkl"),
        ],
    )
    @pytest.mark.parametrize(
        "at",
        [
            lambda path: {"flavors": {"x": {"data": path}}},
            lambda path: {"flavors": {"x": {"a_key_of_tomorrow": path}}},
            lambda path: {"flavors": {"x": {"env": {"conda": path}}}},
            lambda path: {"flavors": {"x": {"artifacts": {"weights": {"path": path, "uri": "s3://where/it/was"}}}}},
            lambda path: {"saved_input_example_info": {"artifact_path": path}},
        ],
        ids=["data", "any key", "env", "artifact", "example"],
    )
    def test_is_refused_and_named(
        self, registry: FakeRegistry, path: str, at: Callable[[str], dict[str, object]]
    ) -> None:
        files = {"MLmodel": yaml.safe_dump(at(path)).encode(), "model.pkl": b"."}
        ref = registry.add_version("m", {"val_auc": 0.95}, files=files)
        whole, placed = checks("intact", "place", registry=registry, ref=ref)
        assert (whole.passed, placed.passed) == (True, False)
        assert f"The MLmodel file of m/v1 names {path}, which is none of its files" in placed.reason

    def test_is_not_where_a_script_was_copied_from_or_weights_were_saved_from(self) -> None:
        flavors = {
            "python_function": {"model_code_path": "/home/sam/agent.py", "loader_module": "mlflow.pyfunc.model"},
            "transformers": {"source_model_name": "/home/sam/checkpoint", "model_binary": "model", "components": []},
            "sentence_transformers": {"source_model_name": "sentence-transformers/all-MiniLM-L6-v2"},
            "langchain": {"config": {"endpoint": "https://llm.example/v1"}},
        }
        assert said({"flavors": flavors}).outside == ()

    @pytest.mark.parametrize(
        ("flavors", "weights"),
        [
            ({"transformers": {"source_model_name": "org/llm"}}, "org/llm"),
            ({"transformers": {"source_model_name": "org/llm", "source_model_revision": "main"}}, "org/llm"),
            ({"transformers": {"model_binary": "model", "components": ["tokenizer"], "tokenizer_name": "o/t"}}, "o/t"),
            ({"transformers": {"model_binary": "model", "processor_name": "o/p"}}, "o/p"),
            ({"diffusers": {"base_model": "org/base", "adapter_weights": "adapter_weights"}}, "org/base"),
        ],
    )
    def test_is_weights_on_a_hub_that_no_commit_pins(self, flavors: dict[str, dict[str, object]], weights: str) -> None:
        assert said({"flavors": flavors}).outside == (f"{weights} on a hub at no fixed commit",)
        pins = ("source_model_revision", "tokenizer_revision", "processor_revision", "base_model_revision")
        pinned = {name: {**flavor, **dict.fromkeys(pins, "0a" * 20)} for name, flavor in flavors.items()}
        assert said({"flavors": pinned}).outside == ()

    @pytest.mark.parametrize(
        "name", ["/mnt/weights", "../../weights", "https://x.example/w", "a/b/c", "./w", "C:\\w", "~/w"]
    )
    def test_is_a_folder_that_is_called_a_repository_of_a_hub(self, name: str) -> None:
        """MLflow would read it, no matter which commit stands beside it."""
        commit = "0a" * 20
        weights = {"transformers": {"source_model_name": name, "source_model_revision": commit}}
        part = {"transformers": {"model_binary": "model", "processor_name": name, "processor_revision": commit}}
        base = {"diffusers": {"base_model": name, "base_model_revision": commit}}
        assert all(name in said({"flavors": flavors}).outside for flavors in (weights, part, base))

    def test_is_a_base_model_that_was_not_copied(self) -> None:
        flavor = {"source_model_name": "org/llm", "local_base_model_path": "/mnt/llm"}
        assert said({"flavors": {"transformers": flavor}}).outside == ("/mnt/llm",)

    def test_stops_a_promotion_and_changes_nothing(self, signoff: Signoff, registry: FakeRegistry) -> None:
        files = {"MLmodel": b"flavors: {sklearn: {pickled_model: /mnt/w.skops}}"}
        ref = registry.add_version("m", {"val_auc": 0.95}, files=files)
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        reviews.approve(signoff, ref, by="reviewer", comment="Yes.")
        with pytest.raises(GateRefused, match=r"names /mnt/w\.skops, which is none of its files"):
            releases.promote(signoff, ref, by="release_manager", reason="Go.")
        assert registry.version(ref).stage != "Production"
        assert record(signoff)[-1].kind.value == "promotion:refused"
        with signoff.database.reading() as connection:
            (again,) = dry_run(connection, signoff.policies.policies[0], signoff.policies).judged
        assert again.now == "refused"

    def test_is_unknown_where_mlmodel_makes_no_sense(
        self, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})

        def senseless(ref: VersionRef) -> Manifest:
            return Manifest(files=(), named=described(ref, b"- no mapping").named)

        monkeypatch.setattr(registry, "manifest", senseless)
        (placed,) = checks("place", registry=registry, ref=ref)
        assert not placed.passed
        assert "The MLmodel file of m/v1 makes no sense" in placed.reason


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
