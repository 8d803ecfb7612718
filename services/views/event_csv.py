"""Events as CSV for a spreadsheet, with nothing in it that a spreadsheet would run."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from typing import Any, TextIO

from services.errors import LedgerBroken
from services.record.ledger import Event
from services.recorded_facts import counted
from services.spreadsheet import cell
from services.views.history import action

COLUMNS = (
    "record", "at", "action", "kind", "person", "name", "roles", "through", "model", "version", "comment", "policy",
    "policy_digest", "files_digest", "run", "metrics", "champion", "champion_metrics", "failed_checks", "approved_by",
    "signature", "before", "after", "hash", "previous", "person_id",
)  # fmt: skip


def write(events: Iterable[Event], file: TextIO) -> None:
    """Write one line an event, as they come; never holds more than one.

    Where the record was tampered with, the file ends with the sentence that says so.
    """
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    try:
        for event in events:
            writer.writerow([cell(value) for value in _cells(event)])
    except LedgerBroken as error:
        writer.writerow([cell(str(error))])


def _cells(event: Event) -> list[Any]:
    body, get = event.body, event.get
    return [
        event.seq,
        body["at"],
        action(event.kind),
        body["kind"],
        body["actor"],
        body["actor_name"],
        ", ".join(body["roles"]),
        body["source"],
        body["model"],
        body["version"],
        body["comment"],
        get("policy"),
        get("policy_digest"),
        get("manifest_digest"),
        get("run_id"),
        _metrics(get("metrics")),
        get("champion"),
        _metrics(get("champion_metrics")),
        "; ".join(f"{'waived: ' if check.get('waived') else ''}{check['reason']}" for check in event.failed_checks),
        ", ".join(approval["person"] for approval in counted(event)),
        _signature(get("signature")),
        _json(get("before")),
        _json(get("after")),
        event.hash,
        body["previous"],
        event.person,
    ]


def _metrics(metrics: Any) -> str:
    return "; ".join(f"{name}={metric['value']}" for name, metric in sorted((metrics or {}).items()))


def _signature(signature: Any) -> str:
    return f"{signature['printed_name']}: {signature['meaning']} ({signature['at']})" if signature else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if value else ""
