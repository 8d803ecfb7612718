"""What nobody but Signoff writes in MLflow: the experiments that witness its record and show its validations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from mlflow.entities import Dataset, DatasetInput, ExperimentTag, LoggedModelOutput, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from mlflow_gate.gate import Denied
from mlflow_gate.own import is_ours
from tests.test_hook_evidence import NOW, Stores, metric

INPUT = DatasetInput(Dataset("d", "1", "local", "{}"), [])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """MLflow's database takes a second to make."""
    return Stores(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def stores(shared: Stores) -> Stores:
    """A gate that says no to everything it is asked."""
    shared.gate.changes.clear()
    shared.gate.no, shared.gate.signoff, shared.gate.own = True, False, frozenset()
    return shared


def made(stores: Stores, name: str) -> tuple[str, str]:
    """An experiment and a run in it, made by Signoff."""
    stores.gate.signoff = True
    try:
        experiment = stores.tracking.create_experiment(f"{name} {uuid4().hex}")
        return experiment, str(stores.tracking.create_run(experiment, "signoff", NOW, [], "ledger").info.run_id)
    finally:
        stores.gate.signoff = False


WRITES: dict[str, Callable[[Any, str, str], Any]] = {
    "log_metric": lambda t, _, run: t.log_metric(run, metric()),
    "log_param": lambda t, _, run: t.log_param(run, Param("checkpoint-9", "false")),
    "set_tag": lambda t, _, run: t.set_tag(run, RunTag("signoff.ledger", "another")),
    "delete_tag": lambda t, _, run: t.delete_tag(run, "mlflow.runName"),
    "log_batch": lambda t, _, run: t.log_batch(run, [], [Param("checkpoint-9", "false")], []),
    "log_batch_async": lambda t, _, run: t.log_batch_async(run, [], [Param("checkpoint-9", "false")], []),
    "log_inputs": lambda t, _, run: t.log_inputs(run, [INPUT]),
    "log_outputs": lambda t, _, run: t.log_outputs(run, [LoggedModelOutput("m-1", 0)]),
    "record_logged_model": lambda t, _, run: t.record_logged_model(run, Model()),
    "update_run_info": lambda t, _, run: t.update_run_info(run, 3, NOW, None),
    "delete_run": lambda t, _, run: t.delete_run(run),
    "restore_run": lambda t, _, run: t.restore_run(run),
    "create_run": lambda t, experiment, _: t.create_run(experiment, "me", NOW, [], "another"),
    "create_logged_model": lambda t, experiment, _: t.create_logged_model(experiment, "model"),
    "delete_experiment": lambda t, experiment, _: t.delete_experiment(experiment),
    "restore_experiment": lambda t, experiment, _: t.restore_experiment(experiment),
    "rename_experiment": lambda t, experiment, _: t.rename_experiment(experiment, uuid4().hex),
    "set_experiment_tag": lambda t, experiment, _: t.set_experiment_tag(experiment, ExperimentTag("a", "b")),
    "delete_experiment_tag": lambda t, experiment, _: t.delete_experiment_tag(experiment, "a"),
}


class TestAnExperimentOfSignoffs:
    @pytest.fixture(params=["by its name", "by its id"])
    def own(self, request: pytest.FixtureRequest, stores: Stores) -> tuple[str, str]:
        """As a server without a list knows it, and one that was renamed and is on the list."""
        experiment, run = made(stores, "signoff-ledger" if request.param == "by its name" else "renamed before")
        if request.param == "by its id":
            stores.gate.own = frozenset({experiment})
        return experiment, run

    @pytest.mark.parametrize("write", WRITES)
    def test_is_written_by_nobody_else(self, stores: Stores, own: tuple[str, str], write: str) -> None:
        before = stores.tracking.get_run(own[1]).to_dictionary()
        with pytest.raises(Denied, match=r"No\."):
            WRITES[write](stores.tracking, *own)
        (change,) = stores.gate.changes
        assert change["kind"] == "record_written"
        assert stores.tracking.get_run(own[1]).to_dictionary() == before
        assert stores.tracking.get_experiment(own[0]).lifecycle_stage == "active"

    @pytest.mark.parametrize("write", sorted(WRITES.keys() - {"log_outputs", "record_logged_model"}))
    def test_is_written_by_signoff_which_is_not_asked(self, stores: Stores, own: tuple[str, str], write: str) -> None:
        stores.gate.signoff = True
        stores.tracking.set_experiment_tag(own[0], ExperimentTag("a", "b"))
        if write.startswith("restore"):
            WRITES[write.replace("restore", "delete")](stores.tracking, *own)
        WRITES[write](stores.tracking, *own)
        assert stores.gate.changes == []

    def test_has_artifacts_that_nobody_else_writes_or_deletes(self, stores: Stores, own: tuple[str, str]) -> None:
        experiment, run = own
        for deleted in (False, True):
            for path in (f"{experiment}/{run}/artifacts/report.json", f"{experiment}/{run}", experiment):
                assert stores.written(path, deleted=deleted)
        assert stores.written("", deleted=True)
        with pytest.raises(Denied):
            stores.files.require_unregistered(f"{stores.root}/{experiment}/{run}/artifacts/report.json")
        assert not stores.written(f"{experiment}99/report.json")
        stores.gate.signoff = True
        assert not stores.written(f"{experiment}/{run}/artifacts/report.json")

    def test_is_refused_also_when_signoff_would_allow_it(self, stores: Stores, own: tuple[str, str]) -> None:
        stores.gate.no = False
        with pytest.raises(Denied, match="is Signoff's own to write"):
            stores.tracking.log_param(own[1], Param("checkpoint-9", "false"))


class TestAnyOther:
    @pytest.mark.parametrize("write", sorted(WRITES.keys() - {"log_outputs", "record_logged_model"}))
    def test_is_everybodys(self, stores: Stores, write: str) -> None:
        made(stores, "signoff-ledger")
        experiment = stores.tracking.create_experiment(f"signoff {uuid4().hex}")
        run = str(stores.tracking.create_run(experiment, "me", NOW, [], "mine").info.run_id)
        stores.tracking.set_experiment_tag(experiment, ExperimentTag("a", "b"))
        if write.startswith("restore"):
            WRITES[write.replace("restore", "delete")](stores.tracking, experiment, run)
        WRITES[write](stores.tracking, experiment, run)
        assert not stores.written(f"{experiment}/{run}/artifacts/a")
        assert stores.gate.changes == []

    def test_cannot_be_called_like_signoffs_own(self, stores: Stores) -> None:
        experiment = stores.tracking.create_experiment("mine")
        before = {one.name for one in stores.tracking.search_experiments()}
        with pytest.raises(Denied):
            stores.tracking.create_experiment("signoff-validations")
        with pytest.raises(Denied):
            stores.tracking.rename_experiment(experiment, "Signoff-Ledger")
        assert {one.name for one in stores.tracking.search_experiments()} == before

    def test_that_does_not_exist_is_mlflows_to_refuse(self, stores: Stores) -> None:
        with pytest.raises(MlflowException, match="not found"):
            stores.tracking.log_param("0" * 32, Param("a", "b"))
        with pytest.raises(MlflowException, match="No Experiment"):
            stores.tracking.rename_experiment("777777777", "x")
        assert stores.gate.changes == []

    @pytest.mark.parametrize("place", ["mlflow-artifacts:/", "mlflow-artifacts:/0"])
    def test_called_so_before_the_hook_was_there_closes_no_place_of_others(self, stores: Stores, place: str) -> None:
        stores.gate.signoff = True
        stores.tracking.create_experiment(f"signoff-{uuid4().hex}", place)
        stores.gate.signoff = False
        assert not stores.written("0/a/artifacts/b")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("signoff-ledger", True),
        ("Signoff-ledger", True),
        ("signoff\N{HYPHEN}ledger", True),
        ("s\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}gnoff-ledger", True),
        ("signoff-", True),
        ("signoff", False),
        ("signoffs-ledger", False),
        ("my-signoff-ledger", False),
        ("", False),
    ],
)
def test_names_that_are_signoffs_own(name: str, ours: bool) -> None:
    assert is_ours(name) is ours
