"""``GET /models/{name}/production?at=``: who was in Production at a moment, by the record."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from api import parameters
from api.auth import ByBearer
from api.parameters import Moment, Name, Recorded
from services.domain import Action
from services.errors import NotFound
from services.views.production import production_at

router = APIRouter(tags=["production"])


class Champion(BaseModel):
    """Who was in Production, since when and why. ``event`` is the promotion's number in the ledger."""

    name: str
    version: int
    since: Recorded
    promoted_by: str
    approved_by: list[str]
    policy: str
    digest: str
    event: int


@router.get("/models/{name}/production")
def production(caller: ByBearer, name: Name, at: Moment = None) -> Champion:
    """The version that was in Production at `at`, or is now. What was moved past Signoff is not in the record."""
    caller.require(Action.VIEW, name)
    moment = parameters.moment(at) if at is not None else caller.signoff.now()
    found = production_at(caller.signoff, moment, name)
    if not found:
        raise NotFound(f"By the record, nothing of {name} was in Production at {moment.isoformat(timespec='seconds')}.")
    held = found[0]
    return Champion(
        name=held.name,
        version=held.version,
        since=held.since,
        promoted_by=held.promoted_by,
        approved_by=list(held.approved_by),
        policy=held.policy,
        digest=held.digest,
        event=held.event,
    )
