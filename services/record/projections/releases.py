"""What events of a release write: promotions, emergencies, validations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from services import tables
from services.record.projections import states
from services.record.projections.reviews import end
from services.record.projections.rows import Rows, Writes
from services.record.projections.states import RELEASES, about, by

if TYPE_CHECKING:
    from services.record.ledger import Event


def _released(rows: Rows, event: Event) -> None:
    _release(rows, event, event.comment)


def _broken_glass(rows: Rows, event: Event) -> None:
    """Released as always, for the reason of the person who asked; but what nobody approved is not called approved."""
    request, waived = event.get("emergency"), event.verdict.waived
    if any(check.family in {"approvals", "changes"} for check in waived):
        end(rows, event, states.BYPASSED)
    _release(rows, event, request["reason"])
    rows.change(
        tables.emergencies,
        {"seq": request["request"]},
        {
            "state": states.CARRIED_OUT,
            "confirmed_by": event.actor,
            "confirmed_by_id": event.person,
            "released_at": event.body["at"],
            "released_seq": event.seq,
            "waived": [check.title for check in waived],
            "own": request["own"],
        },
    )


def _release(rows: Rows, event: Event, reason: str) -> None:
    rows.insert(
        tables.promotions,
        {
            **about(event),
            "id": event.seq,
            "intent": event.body["closes"],
            "action": RELEASES[event.body["kind"].partition(":")[0]],
            "replaced": event.get("replaced") if event.body["format"] > 1 else _replaced(event.body),
            **by(event),
            "reason": reason,
            "manifest_digest": event.get("manifest_digest"),
            "policy": event.get("policy"),
        },
    )
    end(rows, event, states.AUTO_RELEASED if event.get("approved_automatically") else states.RELEASED)


def _replaced(body: Mapping[str, Any]) -> int | None:
    """In format 1: the version that left the stage, of several the one that an alias pointed at."""
    before, own = body["details"]["before"], str(body["version"])
    stage = body["details"]["after"]["stages"][own]
    leaving = [int(number) for number, was in before["stages"].items() if number != own and was == stage]
    pointed = [number for number in leaving if number in before["aliases"].values()]
    return next(iter([*pointed, *leaving]), None)


def _emergency_asked(rows: Rows, event: Event) -> None:
    version = {name: event.body[name] for name in ("model", "version")}
    rows.change(tables.emergencies, {**version, "state": states.ASKED}, {"state": states.REPLACED})
    rows.insert(
        tables.emergencies,
        {
            **about(event),
            "binding": event.get("binding"),
            "asked_by": event.actor,
            "asked_by_id": event.person,
            "reason": event.comment,
            "asked_at": event.body["at"],
            "expires_at": datetime.fromisoformat(event.get("expires_at")).timestamp(),
            "own": event.get("own") or {},
            "state": states.ASKED,
        },
    )


def _emergency_withdrawn(rows: Rows, event: Event) -> None:
    rows.change(tables.emergencies, {"seq": event.get("emergency")["request"]}, {"state": states.WITHDRAWN})


def _emergency_reviewed(rows: Rows, event: Event) -> None:
    reviewed = {
        "state": states.REVIEWED,
        "reviewed_by": event.actor,
        "reviewed_by_id": event.person,
        "justified": event.get("verdict") == "justified",
        "reviewed_seq": event.seq,
    }
    rows.change(tables.emergencies, {"seq": event.get("emergency")["request"]}, reviewed)


def _validated(rows: Rows, event: Event) -> None:
    rows.insert(
        tables.validations,
        {
            **about(event),
            "job": event.get("job"),
            "manifest": event.get("manifest_digest"),
            "champion": event.get("champion"),
            "champion_identity": event.get("champion_identity"),
            "champion_manifest": event.get("champion_manifest_digest"),
            **by(event),
            "consent": event.get("consent"),
            "run_id": event.get("mlflow_run"),
        },
    )


_RELEASE = ("identity", "before", "after")
WRITES: Writes = {
    "promotion:confirmed": (_released, _RELEASE),
    "rollback:confirmed": (_released, _RELEASE),
    "emergency:confirmed": (_broken_glass, (*_RELEASE, "emergency")),
    "emergency:requested": (_emergency_asked, ("identity", "binding", "expires_at")),
    "emergency:withdrawn": (_emergency_withdrawn, ("emergency",)),
    "emergency:reviewed": (_emergency_reviewed, ("emergency", "verdict")),
    "validation:completed": (_validated, ("identity", "job")),
}
