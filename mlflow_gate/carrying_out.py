"""Makes in MLflow's database exactly what Signoff prescribes: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL, STAGE_NONE
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
)
from mlflow.utils.time import get_current_time_millis

from mlflow_gate.gate import Answer, Denied, State

PRODUCTION = "Production"
CHANGED = "MLflow shows something else than Signoff saw. Nothing was changed; try again."


def carry_out(session: Any, workspace: str, name: str, answer: Answer) -> None:
    """Bring stages and aliases from before to after, in the caller's session.

    Each may be where it should be already. Every write names what it expects to find, so that whoever comes in
    between, on whatever database, makes all of it fail.

    Raises:
        Denied: something is neither as before nor as after, somebody else is in the stage, or it is too late.
    """
    if answer.prescribed is None:
        raise Denied(CHANGED)
    before, after = answer.prescribed
    at = get_current_time_millis()
    moved = _stages(session, workspace, name, before, after, at)
    moved |= _aliases(session, workspace, name, before, after)
    if moved:
        session.query(SqlRegisteredModel).filter_by(workspace=workspace, name=name).update({"last_updated_time": at})
    session.flush()
    answer.require_time()


def _stages(session: Any, workspace: str, name: str, before: State, after: State, at: int) -> bool:
    rows = (
        session.query(SqlModelVersion.version, SqlModelVersion.current_stage)
        .filter_by(workspace=workspace, name=name)
        .filter(SqlModelVersion.current_stage != STAGE_DELETED_INTERNAL)
    )
    shown = {row.version: row.current_stage for row in rows}
    entered = {stage for number, stage in after.stages.items() if stage != before.stages.get(number)}
    rivals = [
        number
        for number, stage in shown.items()
        if stage == PRODUCTION and stage in entered and number not in after.stages
    ]
    if rivals or not _fits(shown, before.stages, after.stages):
        raise Denied(CHANGED)
    moves = {number: stage for number, stage in after.stages.items() if shown.get(number, STAGE_NONE) != stage}
    # Out of Production first: an index lets nobody else be there.
    for number, stage in sorted(moves.items(), key=lambda move: move[1] == PRODUCTION):
        found = (
            session.query(SqlModelVersion)
            .filter_by(workspace=workspace, name=name, version=number, current_stage=shown[number])
            .update({"current_stage": stage, "last_updated_time": at})
        )
        if found != 1:
            raise Denied(CHANGED)
    return bool(moves)


def _aliases(session: Any, workspace: str, name: str, before: State, after: State) -> bool:
    rows = session.query(SqlRegisteredModelAlias.alias, SqlRegisteredModelAlias.version).filter_by(
        workspace=workspace, name=name
    )
    shown: dict[str, int | None] = {row.alias: int(row.version) for row in rows}
    now = {alias: shown.get(alias) for alias in after.aliases}
    if not _fits(now, before.aliases, after.aliases):
        raise Denied(CHANGED)
    moves = {alias: number for alias, number in after.aliases.items() if now[alias] != number}
    for alias, number in moves.items():
        if now[alias] is None:
            session.add(SqlRegisteredModelAlias(workspace=workspace, name=name, alias=alias, version=number))
            continue
        mine = session.query(SqlRegisteredModelAlias).filter_by(
            workspace=workspace, name=name, alias=alias, version=now[alias]
        )
        if (mine.delete() if number is None else mine.update({"version": number})) != 1:
            raise Denied(CHANGED)
    return bool(moves)


def _fits(shown: Mapping[Any, Any], before: Mapping[Any, Any], after: Mapping[Any, Any]) -> bool:
    return all(key in shown and shown[key] in (value, before.get(key, value)) for key, value in after.items())
