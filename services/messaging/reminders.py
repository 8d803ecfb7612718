"""Submissions that nobody decided on: each is reminded of once, and once more when it is overdue."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from services.domain import Status
from services.messaging import messages
from services.messaging.message_book import Reminder
from services.record import ledger
from services.signoff import Signoff
from services.tables import reminders, submissions

PER_ROUND = 100


def sweep(signoff: Signoff) -> int:
    """Write the reminders and escalations that are due into the outbox; returns of how many submissions."""
    overdue = signoff.messages.overdue
    if overdue is None:
        return 0
    reminded = _sweep(signoff, overdue.reminder, messages.REMINDER)
    return reminded + (_sweep(signoff, overdue.escalation, messages.ESCALATION) if overdue.escalation else 0)


def _sweep(signoff: Signoff, rule: Reminder, occasion: str) -> int:
    now = signoff.now()
    since = (now - timedelta(hours=rule.after_hours)).isoformat(timespec="milliseconds")
    given = sa.exists().where(reminders.c.submission == submissions.c.id, reminders.c.occasion == occasion)
    with signoff.database.reading() as connection:
        rows = connection.execute(
            sa.select(submissions.c.id, submissions.c.seq)
            .where(submissions.c.status == Status.PENDING.value, submissions.c.submitted_at <= since, ~given)
            .order_by(submissions.c.id)
            .limit(PER_ROUND)
        ).all()
    return sum(_given(signoff, rule, occasion, row.id, row.seq, now) for row in rows)


def _given(signoff: Signoff, rule: Reminder, occasion: str, submission: int, seq: int, now: datetime) -> bool:
    at = now.isoformat(timespec="milliseconds")
    try:
        with signoff.database.writing() as connection:
            connection.execute(reminders.insert().values(submission=submission, occasion=occasion, at=at))
            event = ledger.event(connection, seq)
            if event:
                why = f"No decision for {rule.after_hours:g} hours"
                messages.write(connection, event, rule, occasion=occasion, why=why, at=at)
    except IntegrityError:
        return False  # another dashboard remembered first
    return True
