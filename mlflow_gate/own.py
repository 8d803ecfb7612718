"""Signoff's own experiments: the witness of its record, and its validations. Nobody else writes there."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlRun

from mlflow_gate.gate import GOVERNED, Denied, Gate
from mlflow_gate.letters import skeleton
from mlflow_gate.sources import lies_below, place

OURS = "signoff"
REMEMBERED_RUNS = 10_000

_EXPERIMENT = sa.select(SqlExperiment.experiment_id, SqlExperiment.name)
_OF_ID = _EXPERIMENT.where(SqlExperiment.experiment_id == sa.bindparam("id"))
_OF_RUN = _EXPERIMENT.join(SqlRun, SqlRun.experiment_id == SqlExperiment.experiment_id).where(
    SqlRun.run_uuid == sa.bindparam("id")
)
_PLACES = sa.select(SqlExperiment.experiment_id, SqlExperiment.artifact_location).where(
    sa.or_(
        SqlExperiment.experiment_id.in_(sa.bindparam("ids", expanding=True)),
        sa.func.lower(SqlExperiment.name).like(f"{OURS}-%"),
    )
)


class Own:
    """Refuses to others what is written to an experiment that Signoff named its own, or that is called ``signoff-…``.

    Signoff is told of each attempt, so that the record names it; without an answer it is refused all the same. A run
    stays in its experiment for ever, so each is looked up once.
    """

    def __init__(self, gate: Gate, tracking: Callable[[], Any], destination: str) -> None:
        self._gate = gate
        self._tracking = tracking
        self._destination = destination
        self._experiment_of = lru_cache(REMEMBERED_RUNS)(self._of_run)

    def require_run(self, what: str, run_id: str) -> None:
        """Raise `Denied` unless the run may be written by this call. One that does not exist is MLflow's to refuse."""
        try:
            experiment, named = self._experiment_of(run_id)
        except LookupError:
            return
        self._require(what, named or experiment in self._gate.experiments())

    def require_experiment(self, what: str, experiment_id: Any) -> None:
        """Raise `Denied` unless the experiment may be written, moved or removed by this call."""
        try:
            found = self._one(_OF_ID, int(experiment_id))
        except (LookupError, ValueError):
            return
        self._require(what, is_ours(found.name) or str(found.experiment_id) in self._gate.experiments())

    def require_name(self, what: str, name: object) -> None:
        """Raise `Denied` unless this call may call an experiment so."""
        self._require(what, is_ours(str(name)))

    def require_place(self, what: str, where: str, *, deleted: bool) -> None:
        """Raise `Denied` unless what lies there may be written by this call, or deleted with all that is below."""
        ids = [int(one) for one in self._gate.experiments() if one.isdecimal()]
        with self._tracking().ManagedSessionMaker() as session:
            rows = session.execute(_PLACES, {"ids": ids}).all()
        self._require(
            what,
            any(
                at == where or lies_below(where, at) or (deleted and lies_below(at, where)) for at in self._placed(rows)
            ),
        )

    def _require(self, what: str, ours: bool) -> None:
        if not ours or self._gate.ours():
            return
        change = {"kind": "record_written", "path": what[:2000]}
        with self._gate.turn(change):
            self._gate.ask(change, [], GOVERNED)
        raise Denied(f"{what} is Signoff's own to write. Nothing was changed.")

    def _of_run(self, run_id: str) -> tuple[str, bool]:
        found = self._one(_OF_RUN, run_id)
        return str(found.experiment_id), is_ours(found.name)

    def _one(self, query: Any, key: Any) -> Any:
        with self._tracking().ManagedSessionMaker() as session:
            found = session.execute(query, {"id": key}).one_or_none()
        if found is None:
            raise LookupError(key)
        return found

    def _placed(self, rows: Iterable[Any]) -> Iterator[str]:
        """Where the artifacts of experiments are, as MLflow lays them out; one that lies elsewhere is none of ours."""
        for row in rows:
            with suppress(ValueError):  # no URI and no path: nothing can be there
                at = place(row.artifact_location or "", self._destination)
                if posixpath.basename(at) == str(row.experiment_id):
                    yield at


def is_ours(name: str) -> bool:
    """Whether an experiment is called ``signoff-…``, or looks as if it was."""
    dashes = (index for index, letter in enumerate(name) if unicodedata.category(letter) == "Pd")
    return any(skeleton(name[:index]) == skeleton(OURS) for index in dashes)
