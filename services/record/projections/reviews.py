"""What events of a review write: submissions, votes, findings, statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services import tables
from services.domain import Status
from services.record.projections.rows import Rows, Writes
from services.record.projections.states import FINDINGS_OF_AN_EVENT, SUPERSEDED, about, by, open_submission

if TYPE_CHECKING:
    from services.record.ledger import Event


def _submitted(rows: Rows, event: Event) -> None:
    end(rows, event, SUPERSEDED)
    rows.insert(
        tables.submissions,
        {
            **about(event),
            "id": event.seq,
            "status": Status.PENDING.value,
            "submitted_by": event.actor,
            "submitted_by_id": event.person,
            "proposal": bool(event.get("proposal")),
            "submitted_at": event.body["at"],
            "comment": event.comment,
            "manifest": event.get("manifest_digest"),
            **{name: event.get(name) for name in ("registered_by", "claimed_author", "binding", "run_id", "model_id")},
        },
    )


def _taken_over(rows: Rows, event: Event) -> None:
    taken = {"taken_by": event.actor, "taken_by_id": event.person}
    rows.change(tables.submissions, {**open_submission(event), "proposal": True, "taken_by_id": None}, taken)


def _approved(rows: Rows, event: Event) -> None:
    _voted(rows, event, "approved")
    asked = {**open_submission(event), "status": Status.CHANGES_REQUESTED.value}
    for submission in rows.find(tables.submissions, asked, "id"):
        votes = {"submission": submission}
        persons = rows.find(tables.decisions, votes, "person_id")
        last = dict(zip(persons, rows.find(tables.decisions, votes, "decision"), strict=True))
        if "changes_requested" not in last.values():
            rows.change(tables.submissions, {"id": submission}, {"status": Status.PENDING.value})


def _changes_requested(rows: Rows, event: Event) -> None:
    _voted(rows, event, "changes_requested")
    rows.change(tables.submissions, open_submission(event), {"status": Status.CHANGES_REQUESTED.value})
    for number, finding in enumerate(event.get("findings") or (), start=1):
        rows.insert(
            tables.findings,
            {
                **about(event),
                "id": event.seq * FINDINGS_OF_AN_EVENT + number,
                **{name: finding[name] for name in ("severity", "text", "owner", "due")},
                "manifest": event.get("manifest_digest"),
                "run_id": event.get("run_id"),
                "model_id": event.get("model_id"),
                "raised_by": event.actor,
                "raised_by_id": event.person,
                "raised_at": event.body["at"],
            },
        )


def _rejected(rows: Rows, event: Event) -> None:
    _voted(rows, event, "rejected")
    end(rows, event, Status.REJECTED.value)


def _voted(rows: Rows, event: Event, decision: str) -> None:
    for submission in rows.find(tables.submissions, open_submission(event), "id"):
        rows.insert(
            tables.decisions,
            {
                "id": event.seq,
                "seq": event.seq,
                "submission": submission,
                "person": event.actor,
                "person_id": event.person,
                "roles": event.body["roles"],
                "decision": decision,
                "comment": event.comment,
                "at": event.body["at"],
                "binding": event.get("binding"),
                "expired": False,
                "automation": bool(event.get("automation")),
                "signed": event.get("signature") is not None,
            },
        )


def _withdrawn(rows: Rows, event: Event) -> None:
    end(rows, event, Status.WITHDRAWN.value)


def _expired(rows: Rows, event: Event) -> None:
    rows.change(tables.decisions, {"id": list(event.get("approvals"))}, {"expired": True})


def _resolved(rows: Rows, event: Event) -> None:
    _settle(rows, event, event.actor, event.person, event.body["at"], event.comment)


def _reopened(rows: Rows, event: Event) -> None:
    _settle(rows, event, None, None, None, None)


def _settle(rows: Rows, event: Event, *said: str | None) -> None:
    finding = event.get("finding")
    where = {"seq": finding["raised"], "id": finding["id"]}
    if event.body["format"] == 1:  # their numbers were a database's own
        where = {name: finding[name] for name in ("severity", "text", "owner", "due")} | {"seq": finding["raised"]}
    columns = ("resolved_by", "resolved_by_id", "resolved_at", "resolution")
    rows.change(tables.findings, where, dict(zip(columns, said, strict=True)))


def _stated(rows: Rows, event: Event) -> None:
    rows.insert(
        tables.statements,
        {**about(event), "id": event.seq, **event.get("stated"), "comment": event.comment, **by(event)},
    )


def end(rows: Rows, event: Event, status: str) -> None:
    """End the open submission of the version that ``event`` is about, if there is one."""
    rows.change(tables.submissions, open_submission(event), {"status": status})


_VOTE = ("identity", "binding")
WRITES: Writes = {
    "submission:confirmed": (_submitted, _VOTE),
    "submission:taken_over": (_taken_over, ()),
    "approval:given": (_approved, _VOTE),
    "approval:expired": (_expired, ("approvals",)),
    "changes:requested": (_changes_requested, _VOTE),
    "rejection:confirmed": (_rejected, _VOTE),
    "withdrawal:confirmed": (_withdrawn, ()),
    "archival:confirmed": (_withdrawn, ()),
    "finding:resolved": (_resolved, ("finding",)),
    "finding:reopened": (_reopened, ("finding",)),
    "statement:recorded": (_stated, ("identity", "stated")),
}
