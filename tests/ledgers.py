"""What tests ask of the record and of the fake registry."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import tables
from services.domain import Source
from services.record import ledger
from services.record.ledger import Event
from services.signoff import Signoff


def record(signoff: Signoff) -> list[Event]:
    """All events but which policies are in force, which judges a model at first sight, and which accounts there are.

    Oldest first. Accounts that a test makes or changes itself, past the verbs, are left out as well.
    """
    with signoff.database.reading() as connection:
        found = ledger.events(connection, limit=None)
    return [event for event in reversed(found) if not (before_all(event) or first(event))]


def before_all(event: Event) -> bool:
    """Whether it is of the scene: the policies in force, the accounts there are, or what witnesses it."""
    ours = event.kind in {ledger.Kind.POLICY_ACTIVATED, ledger.Kind.ACCOUNTS_BASELINE, ledger.Kind.WITNESS_OPENED}
    return ours or (event.kind in ledger.ACCOUNT and event.body["source"] == Source.SYSTEM)


def first(event: Event) -> bool:
    """Whether it says which policy judges a model at first sight."""
    return event.kind is ledger.Kind.POLICY_ASSIGNED and event.get("models") is not None


def kinds(signoff: Signoff) -> list[str]:
    """What happened, oldest first."""
    return [event.kind.value for event in record(signoff)]


def refusals_counted(signoff: Signoff) -> int:
    """How many refusals there ever were by the record: each told once, or counted in a window, closed or open.

    A window's last word names all it counted, the first refusal included, which has an event of its own.
    """
    refused = [event for event in record(signoff) if event.kind.outcome == "refused"]
    firsts = sum(event.get("repeats") is None for event in refused)
    repeats = {event.get("first_event"): event.get("repeats") - 1 for event in refused if event.get("repeats")}
    with signoff.database.reading() as connection:
        windows = connection.execute(sa.select(tables.refusal_windows.c.first_seq, tables.refusal_windows.c.times))
        repeats |= {window.first_seq: window.times - 1 for window in windows}
    return firsts + sum(repeats.values())


def drop_triggers(connection: Connection) -> None:
    """What somebody does first who can write the database."""
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'").all()
    else:
        found = connection.exec_driver_sql(
            "SELECT DISTINCT trigger_name, event_object_table FROM information_schema.triggers "
            "UNION SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
        ).all()
    for name, table in found:
        on = "" if connection.dialect.name == "sqlite" else f" ON {table}"
        connection.exec_driver_sql(f"DROP TRIGGER {name}{on}")
