"""What reviewers found in a version: resolved by a reviewer who is independent of it, or opened again.

They are raised with `reviews.request_changes`. An open blocking one keeps the version out of Production, in this round
of review and in every later one.
"""

from __future__ import annotations

import sqlalchemy as sa

from services import agreement, bars, facts
from services.domain import Action, ModelVersion, Source, VersionRef
from services.errors import NotFound, Refused
from services.evidence import Finding, Known
from services.record import ledger, mirror
from services.record.ledger import Entry, Kind
from services.signoff import Signoff
from services.tables import findings, submissions
from services.verbs.common import acting, refusals_recorded, still_may, words
from services.verbs.reviews import Outcome


def resolve(signoff: Signoff, ref: VersionRef, number: int, *, by: str, comment: str, source: Source) -> Outcome:
    """Say that a finding is answered, and how. Resolving what is resolved changes nothing.

    Raises:
        NotFound: there is no such finding in ``ref``.
        Refused: the person trained or submitted the version.
        BadInput, NotAllowed, LedgerUnavailable: nothing was changed.
    """
    return _settle(signoff, ref, number, by, comment, source, Action.RESOLVE)


def reopen(signoff: Signoff, ref: VersionRef, number: int, *, by: str, comment: str, source: Source) -> Outcome:
    """Take a resolution back; the words say why. Raises as `resolve`."""
    return _settle(signoff, ref, number, by, comment, source, Action.REOPEN)


def raised(signoff: Signoff, version: ModelVersion) -> tuple[Finding, ...]:
    """Everything that was found in exactly this version, oldest first."""
    with signoff.database.reading() as connection:
        return facts.findings_of(connection, version)


def owned_by(signoff: Signoff, username: str) -> list[Finding]:
    """What waits for this person's answer, by due day, those without one last."""
    query = (
        sa.select(findings)
        .where(findings.c.owner == username, findings.c.resolved_by.is_(None))
        .where(_not_answered())
        .order_by(findings.c.due.is_(None), findings.c.due, findings.c.id)
    )
    with signoff.database.reading() as connection:
        return [facts.finding_from(row) for row in connection.execute(query)]


def _not_answered() -> sa.ColumnElement[bool]:
    """Raised in the round of review that is still open: submitting again is the answer, withdrawing makes it moot."""
    return sa.exists().where(
        submissions.c.model == findings.c.model,
        submissions.c.version == findings.c.version,
        submissions.c.identity == findings.c.identity,
        submissions.c.status.in_(facts.OPEN),
        submissions.c.seq < findings.c.seq,
    )


def _settle(
    signoff: Signoff, ref: VersionRef, number: int, by: str, comment: str, source: Source, action: Action
) -> Outcome:
    comment = words(comment, "comment")
    resolving = action is Action.RESOLVE
    _require_in(signoff, ref, number)
    actor = acting(signoff, by, source, action, ref, "finding")
    with refusals_recorded(signoff, "finding", actor, ref), signoff.database.writing() as connection:
        row = connection.execute(sa.select(findings).where(findings.c.id == number).with_for_update()).one()
        ledger.lock(connection)
        actor = still_may(signoff, connection, actor, action)
        agreement.require_review(connection, Known.of_row(row))
        barred = bars.recorded(connection, Known.of_row(row))
        if why := barred.get(actor.person or "") or barred.get(actor.username):
            raise Refused(f"{why}; somebody else must say whether a finding in {ref} is answered.")
        if facts.finding_from(row).open is not resolving:
            state = "resolved" if resolving else "open"
            return Outcome(ref=ref, event=None, message=f"The finding in {ref} is {state} already.")
        event = ledger.append(
            connection,
            Entry(
                kind=Kind.FINDING_RESOLVED if resolving else Kind.FINDING_REOPENED,
                actor=actor,
                at=signoff.now(),
                ref=ref,
                comment=comment,
                details={
                    "identity": row.identity,
                    "finding": {
                        "id": row.id,
                        "raised": row.seq,
                        "severity": row.severity,
                        "text": row.text,
                        "owner": row.owner,
                        "due": row.due,
                    },
                },
            ),
        )
        mirror.ask(connection, ref, event.seq)
    mirror.flush(signoff)
    done = "resolved" if resolving else "open again"
    return Outcome(ref=ref, event=event, message=f"The finding in {ref} is {done}.")


def _require_in(signoff: Signoff, ref: VersionRef, number: int) -> None:
    query = sa.select(findings.c.model, findings.c.version).where(findings.c.id == number)
    with signoff.database.reading() as connection:
        row = connection.execute(query).one_or_none()
    if row is None or (row.model, row.version) != (ref.name, ref.version):
        raise NotFound(f"There is no finding {number} in {ref}.")
