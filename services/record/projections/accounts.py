"""What events write about accounts, as far as the record tells of them: no password, no address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from services import tables
from services.letters import skeleton
from services.record.projections.rows import Rows, Writes
from services.record.projections.states import NO_PASSWORD

if TYPE_CHECKING:
    from services.record.ledger import Event


def _added(rows: Rows, event: Event) -> None:
    if event.body["format"] == 1:
        _said(rows, event)
    else:
        _make(rows, event, event.body["details"])  # a second one of the name is refused by the table


def _said(rows: Rows, event: Event) -> None:
    said = event.body["details"]
    if event.body["format"] == 1 and event.body["kind"] == "account:disabled":
        said = said | {"disabled": True}
    _keep(rows, event, said)


def _baseline(rows: Rows, event: Event) -> None:
    for account in event.get("accounts"):
        _keep(rows, event, account)


def _keep(rows: Rows, event: Event, said: Mapping[str, Any]) -> None:
    known = {name: said[name] for name in ("person", "name", "automation", "disabled") if name in said}
    if not rows.change(tables.accounts, {"username": said["account"]}, {**known, "roles": said["roles_held"]}):
        _make(rows, event, said)


def _make(rows: Rows, event: Event, said: Mapping[str, Any]) -> None:
    username = said["account"]
    service = event.comment.startswith(f"Service {username} ")  # how format 1 says it
    rows.insert(
        tables.accounts,
        {
            "username": username,
            "person": said.get("person") or event.hash[:32],
            "looks_like": skeleton(username)[:256],
            "name": said.get("name") or username,
            "password": NO_PASSWORD,
            "roles": said["roles_held"],
            "disabled": bool(said.get("disabled")),
            "automation": bool(said.get("automation", service)),
            "created_at": f"{event.body['at'][:19]}+00:00",
        },
    )


def actor_of_format_1(rows: Rows, event: Event) -> None:
    """Make or complete the account of the person who acted.

    Format 1 records no account as it is. Those made with the database never had an event of their own, and of the
    others only what they did says their id.
    """
    person, username, held = event.person, {"username": event.actor}, event.body["roles"]
    if person is None or not held:
        return
    known = rows.find(tables.accounts, username, "person")
    if not known:
        said = {"account": event.actor, "person": person, "name": event.body["actor_name"], "roles_held": held}
        _make(rows, event, said | {"automation": bool(event.get("automation"))})
    elif known != [person]:
        rows.change(tables.accounts, username, {"person": person, "name": event.body["actor_name"]})


WRITES: Writes = {
    "account:added": (_added, ("account", "roles_held")),
    "account:changed": (_said, ("account", "roles_held")),
    "account:disabled": (_said, ("account", "roles_held")),
    "accounts:baseline": (_baseline, ("accounts",)),
}
