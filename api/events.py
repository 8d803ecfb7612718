"""``GET /events``: the ledger, newest first."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api import parameters
from api.auth import ByBearer
from api.errors import CheckAnswer
from api.parameters import Cursor, Limit, Moment, Recorded, Text
from services.domain import Action
from services.record import ledger
from services.record.ledger import Event, Filter, Kind

router = APIRouter(tags=["ledger"])


class EventAnswer(BaseModel):
    """One event, whole: ``hash`` is the sha256 of all the rest as canonical JSON."""

    format: int
    seq: int
    previous: str
    at: Recorded
    kind: str
    actor: str
    actor_id: str | None
    actor_name: str
    roles: list[str]
    source: str
    model: str | None
    version: int | None
    comment: str
    intent: str | None
    closes: str | None
    account: str | None = None
    """Whose account it tells of; events of format 1 do not say."""
    checks: list[CheckAnswer]
    details: dict[str, Any]
    hash: str


class EventList(BaseModel):
    """Some events, newest first."""

    events: list[EventAnswer]
    next_cursor: str | None


@router.get("/events", response_model_exclude_unset=True)
def events(  # noqa: PLR0913, PLR0917
    caller: ByBearer,
    model: Text = None,
    actor: Text = None,
    kind: Annotated[list[Kind] | None, Query(description="May be given several times.")] = None,
    since: Moment = None,
    until: Moment = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> EventList:
    """What fits, `until` not included. The next page begins after this one's last event, whatever was appended since.

    A token that is for some models only has to name one of them.
    """
    caller.require(Action.VIEW, model)
    wanted = Filter(
        model=model,
        actor=actor,
        kinds=tuple(kind or ()),
        since=parameters.moment(since) if since is not None else None,
        until=parameters.moment(until) if until is not None else None,
    )
    before = parameters.number("event", cursor) if cursor is not None else None
    with caller.signoff.database.reading() as connection:
        found = ledger.events(connection, wanted, before=before, limit=limit + 1)
    following = parameters.cursor("event", found[limit - 1].seq) if len(found) > limit else None
    return EventList(events=[_answer(event) for event in found[:limit]], next_cursor=following)


def _answer(event: Event) -> EventAnswer:
    return EventAnswer(**event.body, hash=event.hash)
