"""What a confirmed change means in our own tables, written in the transaction of its closing event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services.domain import Status, VersionRef
from services.evidence import FindingDraft, Submission
from services.record import deviations, mirror
from services.record.ledger import Event
from services.steps.changes import Intent
from services.tables import decisions, emergencies, findings, promotions, submissions

RELEASED = "released"
"""A submission that led to a promotion; in MLflow its tag stays ``approved``."""
SUPERSEDED = "superseded"
"""A submission answered by a newer one of the same version, after changes were requested."""
_OPEN = [status.value for status in Status if status.open]


def settle(connection: Connection, intent: Intent, event: Event) -> None:
    """Apply a confirmed intent to submissions, decisions and promotions, and ask for the mirror to be written."""
    _SETTLE[intent.subject](connection, intent, event)
    if intent.subject not in _SAYS_NOTHING:
        mirror.ask(connection, intent.ref, event.seq)


def _submitted(connection: Connection, intent: Intent, event: Event) -> None:
    set_status(connection, intent.ref, SUPERSEDED)
    connection.execute(
        submissions.insert().values(
            model=intent.ref.name,
            version=intent.ref.version,
            identity=intent.context["identity"],
            status=Status.PENDING.value,
            submitted_by=intent.actor.username,
            submitted_by_id=intent.actor.person,
            proposal=bool(intent.context.get("proposal")),
            registered_by=intent.context["registered_by"],
            submitted_at=event.body["at"],
            comment=intent.comment,
            claimed_author=intent.context["claimed_author"],
            binding=intent.context["binding"],
            manifest=intent.context["manifest_digest"],
            run_id=intent.context["run_id"],
            model_id=intent.context["model_id"],
            seq=event.seq,
        )
    )


def take_over(connection: Connection, submission: int, event: Event) -> bool:
    """Let the person of ``event`` answer for an open proposal; False where it has ended or somebody else does."""
    open_proposal = (
        submissions.c.id == submission,
        submissions.c.status.in_(_OPEN),
        submissions.c.proposal,
        submissions.c.taken_by_id.is_(None),
    )
    taken = {"taken_by": event.actor, "taken_by_id": event.person}
    return connection.execute(submissions.update().where(*open_proposal).values(taken)).rowcount == 1


def _rejected(connection: Connection, intent: Intent, event: Event) -> None:
    vote(connection, intent.context["submission"], event, "rejected", intent.context["binding"])
    set_status(connection, intent.ref, Status.REJECTED.value)


def _withdrawn(connection: Connection, intent: Intent, _: Event) -> None:
    set_status(connection, intent.ref, Status.WITHDRAWN.value)


_RELEASES = {"promotion": "promote", "rollback": "rollback", "emergency": "emergency"}
"""Subject → what ``promotions.action`` calls it."""


def _released(connection: Connection, intent: Intent, event: Event, *, reason: str = "") -> None:
    replaced = intent.change.replaced or intent.change.succeeds
    connection.execute(
        promotions.insert().values(
            intent=intent.id,
            action=_RELEASES[intent.subject],
            model=intent.ref.name,
            version=intent.ref.version,
            identity=intent.context["identity"],
            replaced=replaced,
            by=intent.actor.username,
            by_id=intent.actor.person,
            reason=reason or intent.comment,
            at=event.body["at"],
            manifest_digest=intent.context["manifest_digest"],
            policy=intent.context["policy"],
            seq=event.seq,
        )
    )
    automatic = intent.context.get("approved_automatically")
    set_status(connection, intent.ref, mirror.AUTO_RELEASED if automatic else RELEASED)
    ask_for_new_approvals(connection, intent.ref.name, event)  # those of others were given against the old champion


def _broken_glass(connection: Connection, intent: Intent, event: Event) -> None:
    """Released as always, under the reason of whoever asked; but what nobody approved is not called approved."""
    request = intent.context["emergency"]
    waived = intent.verdict.waived if intent.verdict else ()
    if any(check.family in {"approvals", "changes"} for check in waived):
        set_status(connection, intent.ref, mirror.BYPASSED)
    _released(connection, intent, event, reason=request["reason"])
    connection.execute(
        emergencies.update()
        .where(emergencies.c.seq == request["request"])
        .values(
            state="released",
            confirmed_by=intent.actor.username,
            confirmed_by_id=intent.actor.person,
            released_at=event.body["at"],
            released_seq=event.seq,
            waived=[check.title for check in waived],
            own=request["own"],
        )
    )


def _archived(connection: Connection, intent: Intent, _: Event) -> None:
    set_status(connection, intent.ref, Status.WITHDRAWN.value)


def _moved(_: Connection, __: Intent, ___: Event) -> None:
    pass


def _restored(connection: Connection, intent: Intent, event: Event) -> None:
    deviations.close(connection, intent.context["deviations"], deviations.RESTORED, event)


_SETTLE = {
    "submission": _submitted,
    "rejection": _rejected,
    "withdrawal": _withdrawn,
    "promotion": _released,
    "rollback": _released,
    "emergency": _broken_glass,
    "archival": _archived,
    "restoration": _restored,
    "transition": _moved,
}
_SAYS_NOTHING = frozenset({"restoration", "transition"})
"""Changes nothing that the tags say, and may be about a version without any."""


def ask_for_new_approvals(connection: Connection, model: str, event: Event) -> None:
    """Let what is approved wait for review again: what the approvals were bound to has changed for the whole model."""
    for row in connection.execute(
        sa.select(submissions.c.id, submissions.c.version).where(
            submissions.c.model == model,
            submissions.c.status.in_([Status.APPROVED.value, Status.AUTO_APPROVED.value]),
        )
    ).all():
        connection.execute(submissions.update().where(submissions.c.id == row.id).values(status=Status.PENDING.value))
        mirror.ask(connection, VersionRef(name=model, version=row.version), event.seq)


def set_status(connection: Connection, ref: VersionRef, status: str) -> None:
    """Give the open submission of a version, if there is one, a new status."""
    connection.execute(
        submissions.update()
        .where(submissions.c.model == ref.name, submissions.c.version == ref.version, submissions.c.status.in_(_OPEN))
        .values(status=status)
    )


def end_of_deleted(connection: Connection, model: str, version: int | None) -> None:
    """End the reviews of a version that MLflow no longer has, or with None of all versions of a model.

    No verb can reach them, and a request for changes among them would bar the same bytes under every other name.
    """
    gone = sa.true() if version is None else submissions.c.version == version
    connection.execute(
        submissions.update()
        .where(submissions.c.model == model, gone, submissions.c.status.in_(_OPEN))
        .values(status=Status.WITHDRAWN.value)
    )


def vote(connection: Connection, submission: int, event: Event, decision: str, binding: dict[str, Any]) -> None:
    """Store one person's decision on a submission."""
    connection.execute(
        decisions.insert().values(
            submission=submission,
            person=event.actor,
            person_id=event.person,
            roles=event.body["roles"],
            decision=decision,
            comment=event.comment,
            at=event.body["at"],
            binding=binding,
            seq=event.seq,
            automation=bool(event.get("automation")),
            signed=event.get("signature") is not None,
        )
    )


def raise_findings(
    connection: Connection, submission: Submission, event: Event, drafts: Iterable[FindingDraft]
) -> None:
    """Store what a reviewer found, with the event that tells of it."""
    for draft in drafts:
        connection.execute(
            findings.insert().values(
                model=submission.ref.name,
                version=submission.ref.version,
                identity=submission.identity,
                **draft.as_json(),
                manifest=event.get("manifest_digest"),
                run_id=event.get("run_id"),
                model_id=event.get("model_id"),
                raised_by=event.actor,
                raised_by_id=event.person,
                raised_at=event.body["at"],
                seq=event.seq,
            )
        )
