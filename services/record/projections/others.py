"""What other events write: which policy judges a model, and what was found changed outside Signoff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services import tables
from services.domain import Status
from services.record.projections.rows import Rows, Writes
from services.record.projections.states import ADOPTED, ASKED, ENDED, FOUND, OPEN, RESTORED, WITHDRAWN, by

if TYPE_CHECKING:
    from services.record.ledger import Event


def _assigned(rows: Rows, event: Event) -> None:
    first = event.get("models")
    for model, policy in (first or {event.body["model"]: event.get("assigned")}).items():
        said = {"policy": policy, "passed_over": event.get("passed_over"), **by(event), "seq": event.seq}
        if first or not rows.change(tables.policy_assignments, {"model": model}, said):
            rows.insert(tables.policy_assignments, {"model": model, **said})


def _found(rows: Rows, event: Event) -> None:
    subject = {"model": event.body["model"], "subject": event.get("subject")}
    found = {
        "version": event.body["version"],
        "kind": event.body["kind"],
        "prescribed": event.get("prescribed"),
        "shown": event.get("shown"),
        "found_at": event.body["at"],
        "seq": event.seq,
    }
    if not rows.change(tables.deviations, {**subject, "state": FOUND}, found):
        rows.insert(tables.deviations, {"id": event.seq, **subject, **found, "state": FOUND})


def _ended(rows: Rows, event: Event) -> None:
    _close(rows, event, ENDED, subject=event.get("subject"))


def _restored(rows: Rows, event: Event) -> None:
    which: dict[str, Any] = {"id": list(event.get("deviations"))}
    if event.body["format"] == 1:  # their numbers were a database's own
        which = {"kind": ["outside:tag"], "version": event.body["version"]}
        if not event.get("tags"):
            which = {"kind": ["outside:stage", "outside:alias"]}
    _close(rows, event, RESTORED, **which)


def _adopted(rows: Rows, event: Event) -> None:
    """Reviews of what is not in MLflow any more, and emergencies asked for it, end: no verb could reach them."""
    model, subject = event.body["model"], event.get("subject")
    kinds = rows.find(tables.deviations, {"model": model, "subject": subject, "state": FOUND}, "kind")
    _close(rows, event, ADOPTED, subject=subject)
    if kinds == ["outside:deleted"]:
        gone = {"model": model, **({} if subject == "model" else {"version": event.body["version"]})}
        rows.change(tables.submissions, {**gone, "status": OPEN}, {"status": Status.WITHDRAWN.value})
        rows.change(tables.emergencies, {**gone, "state": ASKED}, {"state": WITHDRAWN})


def _close(rows: Rows, event: Event, state: str, **which: Any) -> None:
    where = {"model": event.body["model"], **which, "state": FOUND}
    rows.change(tables.deviations, where, {"state": state, "closed_seq": event.seq})


WRITES: Writes = {
    "policy:assigned": (_assigned, ()),
    **{f"outside:{what}": (_found, ("subject",)) for what in tables.DEVIATIONS},
    "outside:ended": (_ended, ("subject",)),
    "restoration:confirmed": (_restored, ("deviations",)),
    "adoption:recorded": (_adopted, ("subject",)),
}
