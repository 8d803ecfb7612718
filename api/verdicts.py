"""``GET /models/{name}/versions/{version}/verdict``: what the gate says, check by check."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api import parameters
from api.auth import ByBearer
from api.errors import CheckAnswer
from api.models import known_version
from api.parameters import Name, Version
from services.domain import Action
from services.views import dossier

router = APIRouter(tags=["verdict"])


class VerdictAnswer(BaseModel):
    """Whether the version may go to Production now, and why.

    ``seen`` is a digest over its files, its evidence, the champion and the policy: hand it back with a decision, which
    is refused when any of them changed since.
    """

    allowed: bool
    checks: list[CheckAnswer]
    seen: str


@router.get("/models/{name}/versions/{version}/verdict")
def verdict(
    caller: ByBearer,
    name: Name,
    version: Version,
    fresh: Annotated[bool, Query(description="Read everything from MLflow now, files included.")] = False,
) -> VerdictAnswer:
    """Every check of the policy in force, whoever promotes; of the champion, those it was released on.

    It is what the dashboard shows, at most a minute old, unless `fresh` asks for MLflow's present state. A promotion
    reads everything again in any case.
    """
    caller.require(Action.VIEW, name)
    ref = parameters.version(name, version)
    if not fresh:
        known_version(caller, ref)
    with caller.asking_mlflow():
        found, about = dossier.verdict(caller.signoff, ref, fresh=fresh)
    checks = [CheckAnswer(**check) for check in found.as_json()]
    return VerdictAnswer(allowed=found.allowed, checks=checks, seen=about.digest)
