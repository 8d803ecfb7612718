"""The runs of MLflow's that hold the checkpoints of ledgers, as write-once params."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from services.domain import WitnessRun
from services.errors import NotFound
from services.mlflow.connection import ALL_RUNS, MlflowConnection

EXPERIMENT = "signoff-ledger"
TAG = "signoff.ledger"
ACTIVE = "active"
RUNS_PER_PAGE = 5
_NOTE = "Signed checkpoints of Signoff's ledger, one param each. They prove that nothing was cut off; keep this run."


class Witnessing(MlflowConnection):
    """The part of `services.registry.Registry` that knows witnesses."""

    def witnesses(self, experiments: Iterable[str] = ()) -> tuple[WitnessRun, ...]:
        """Every run in ``experiments``, by id, and in all that are called like the witness; deleted ones too.

        What is not there any more is left out.
        """
        what = "the ledger's checkpoints"
        found = {one.experiment_id: one for one in self._called_alike(what)}
        for experiment in experiments:
            if experiment not in found:
                with suppress(NotFound):
                    found[experiment] = self._read(lambda one=experiment: self._client.get_experiment(one), what)  # type: ignore[misc]
        if not found:
            return ()
        pages = self._pages(
            lambda token: self._client.search_runs(
                list(found), "", ALL_RUNS, max_results=RUNS_PER_PAGE, page_token=token
            ),
            what,
        )
        return tuple(_witness(run, found[run.info.experiment_id]) for page in pages for run in page)

    def witness_run(self, run_id: str) -> WitnessRun:
        """One such run, deleted or not; raises `NotFound`."""

        def read() -> WitnessRun:
            run = self._client.get_run(run_id)
            return _witness(run, self._client.get_experiment(run.info.experiment_id))

        return self._read(read, f"the run {run_id}, which holds the ledger's checkpoints")

    def open_witness(self, ledger: str, experiments: Sequence[str] = ()) -> WitnessRun:
        """A new run for the checkpoints of a ledger.

        Args:
            experiments: ids of those it may be in, the best one first; where none is there, one is made.
        """

        def create() -> WitnessRun:
            experiment = self._client.get_experiment(self._usable(experiments) or self._new(bool(experiments)))
            tags = {TAG: ledger, "mlflow.note.content": _NOTE}
            run = self._client.create_run(experiment.experiment_id, run_name=f"ledger-{ledger[:8]}", tags=tags)
            return _witness(run, experiment)

        return self._once(create, "a run for the ledger's checkpoints")

    def witness(self, run_id: str, name: str, text: str) -> None:
        """Write a checkpoint as a param, once and for ever; writing the same again changes nothing.

        Raises:
            BadInput: the run holds something else under this name, or was deleted.
            NotFound: there is no such run.
        """
        self._once(lambda: self._client.log_param(run_id, name, text), f"{name} of the ledger")

    def _called_alike(self, what: str) -> list[Any]:
        pages = self._pages(
            lambda token: self._client.search_experiments(
                ALL_RUNS, max_results=1000, filter_string=f"name LIKE '{EXPERIMENT}%'", page_token=token
            ),
            what,
        )
        return [experiment for page in pages for experiment in page]

    def _usable(self, experiments: Sequence[str]) -> str | None:
        for experiment in experiments:
            with suppress(NotFound):
                found = self._read(lambda one=experiment: self._client.get_experiment(one), "the ledger's experiment")  # type: ignore[misc]
                if found.lifecycle_stage == ACTIVE:
                    return experiment
        return None

    def _new(self, another: bool) -> str:
        """The one of that name, unless ours is known to be another, or it was deleted."""
        named = self._client.get_experiment_by_name(EXPERIMENT)
        if named is None:
            return str(self._client.create_experiment(EXPERIMENT))
        if named.lifecycle_stage == ACTIVE and not another:
            return str(named.experiment_id)
        return str(self._client.create_experiment(f"{EXPERIMENT}-{uuid4().hex[:8]}"))


def _witness(run: Any, experiment: Any) -> WitnessRun:
    return WitnessRun(
        run=run.info.run_id,
        experiment=experiment.experiment_id,
        called=experiment.name,
        ledger=run.data.tags.get(TAG, ""),
        active=ACTIVE == run.info.lifecycle_stage == experiment.lifecycle_stage,
        texts=run.data.params,
    )
