"""``GET /models/{name}/production?at=``: who was in Production at a moment, by the record."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api import parameters
from api.auth import ByBearer
from api.errors import CheckAnswer
from api.parameters import Moment, Name, Recorded
from services.domain import Action
from services.errors import NotFound
from services.verdict import Verdict
from services.views.production import production_at

router = APIRouter(tags=["production"])
_RELEASED_AS: dict[str, Literal["promotion", "rollback", "emergency", "adoption"]] = {
    "promote": "promotion",
    "rollback": "rollback",
    "emergency": "emergency",
    "adopt": "adoption",
}


class Champion(BaseModel):
    """Who was in Production, since when and why. ``event`` is the release's number in the ledger.

    ``released_as`` says how it came there, and ``waived`` which checks an emergency went past. An ``adoption`` is no
    release: it was moved past Signoff, ``promoted_by`` adopted that, and nobody approved it. ``approved_by`` are the
    persons whose approvals counted. After a rollback both are those of the release that it returned to.
    """

    name: str
    version: int
    since: Recorded
    promoted_by: str
    approved_by: list[str]
    policy: str
    digest: str
    event: int
    released_as: Literal["promotion", "rollback", "emergency", "adoption"]
    waived: list[CheckAnswer]


@router.get("/models/{name}/production")
def production(caller: ByBearer, name: Name, at: Moment = None) -> Champion:
    """The version that was in Production at `at`, or is now. What was moved past Signoff counts once it is adopted."""
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
        released_as=_RELEASED_AS[held.action],
        waived=[CheckAnswer(**check) for check in Verdict(checks=held.waived).as_json()],
    )
