"""What the columns of projected rows say: the words of states, and how rows are numbered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.domain import Status

if TYPE_CHECKING:
    from services.record.ledger import Event

NO_PASSWORD = "!"  # noqa: S105  (no password, and no hash of one)
"""In place of a hash: no password has it."""
OPEN = [status.value for status in Status if status.open]
RELEASED = "released"
"""A submission that led to a promotion; in MLflow its tag stays ``approved``."""
SUPERSEDED = "superseded"
"""A submission answered by a newer one of the same version, after changes were requested."""
AUTO_RELEASED = "auto_released"
"""A submission that led to a promotion on an automatic approval."""
BYPASSED = "bypassed"
"""A submission that an emergency went past: nobody finished deciding on it, so no tag says anybody did."""
ASKED, REPLACED, WITHDRAWN, CARRIED_OUT, REVIEWED = "asked", "replaced", "withdrawn", "released", "reviewed"
"""An emergency is replaced when it is asked anew because it ran out or what it was about changed."""
FOUND, RESTORED, ADOPTED, ENDED = "open", "restored", "adopted", "ended"
"""A deviation has ended when MLflow shows what the record prescribes again, without anybody asking for it here."""
FINDINGS_OF_AN_EVENT = 100
"""Findings are numbered by their event: the second one of event 12 is 1202."""
RELEASES = {"promotion": "promote", "rollback": "rollback", "emergency": "emergency"}
"""Subject of an event → what ``promotions.action`` calls it."""


def about(event: Event) -> dict[str, Any]:
    """The version that an event is about, and its number, as most tables have them."""
    body = event.body
    return {"model": body["model"], "version": body["version"], "identity": event.get("identity"), "seq": event.seq}


def by(event: Event) -> dict[str, Any]:
    """Who did it, and when."""
    return {"by": event.actor, "by_id": event.person, "at": event.body["at"]}


def open_submission(event: Event) -> dict[str, Any]:
    """Where the open submission of the version is."""
    return {"model": event.body["model"], "version": event.body["version"], "status": OPEN}
