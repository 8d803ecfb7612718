"""``POST /api/2.0/mlflow/transition``: the lifecycle document's own curl. MLflow itself has no such route."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from api.auth import ByBearer
from api.errors import CHANGING
from api.parameters import WITHOUT_NUL
from api.verbs import Done, Key, Number, perform
from services.domain import MAX_NAME, Action, VersionRef

router = APIRouter(tags=["transition"], responses=CHANGING)

ACTIONS = {"Production": Action.PROMOTE, "Staging": Action.SUBMIT, "Archived": Action.ARCHIVE}
WORDS = "Transition to {stage}, asked for without a reason."


def _canonical(stage: object) -> object:
    return stage.capitalize() if isinstance(stage, str) else stage  # MLflow reads stages without case


class Transition(BaseModel):
    """A version and the stage it is to have; `None` is no stage one can ask for: withdraw or archive instead."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=WITHOUT_NUL)]
    version: Number
    stage: Annotated[Literal["Production", "Staging", "Archived"], BeforeValidator(_canonical)]


@router.post("/transition")
def transition(caller: ByBearer, body: Transition, key: Key = None) -> Done:
    """Production promotes, Staging submits, Archived archives; each through the gate."""
    ref = VersionRef.parse(body.name, body.version)
    return perform(caller, ACTIONS[body.stage], ref, WORDS.format(stage=body.stage), key)
