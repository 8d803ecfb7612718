"""What reviewers find, on the terminal: raised with ``request-changes``, listed, resolved and opened again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from commands import remote
from commands.local import Json, answer, table
from commands.verbs import Comment, Key, Model, Seen, Version, act
from services.evidence import Severity

Number = Annotated[int, typer.Argument(min=1, help="The finding's number in `signoff findings`.")]


def register(app: typer.Typer) -> None:
    """Add what concerns findings to the command line."""
    for command in (request_changes, findings, resolve, reopen):
        app.command()(command)


def request_changes(  # noqa: PLR0913
    model: Model,
    version: Version,
    *,
    comment: Comment,
    finding: Annotated[list[str] | None, typer.Option("--finding", help="What is wrong; several times.")] = None,
    severity: Annotated[
        Severity, typer.Option("--severity", help="Of these findings; an open blocking one bars from Production.")
    ] = Severity.MAJOR,
    owner: Annotated[
        str | None, typer.Option("--owner", help="Who is to answer these findings; without it, the submitter.")
    ] = None,
    due: Annotated[
        datetime | None, typer.Option("--due", help="By which day.", formats=["%Y-%m-%d"], show_default=False)
    ] = None,
    seen: Seen = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Send a submission back, with what was found; say it again for findings of another severity, owner or day."""
    asked = {"severity": severity.value, "owner": owner, "due": f"{due:%Y-%m-%d}" if due else None}
    if not finding and (owner or due):
        raise typer.BadParameter("--owner and --due are of findings; name one with --finding.")
    found = [{"text": text, **asked} for text in finding or ()]
    act("request-changes", model, version, comment, key, as_json=as_json, findings=found or None, seen=seen)


def findings(model: Model, version: Version, as_json: Json = False) -> None:
    """What was found in a version, in every round of its review."""
    path = f"{remote.version_path(model, version)}/findings"
    found = remote.pages(path, "findings")
    rows = [
        [
            str(one["id"]),
            one["severity"],
            "open" if one["open"] else f"resolved by {one['resolved_by']}",
            one["owner"],
            one["due"] or "",
            one["raised_by"],
            " ".join(one["text"].split())[:80],
        ]
        for one in found
    ]
    lines = table(["NUMBER", "SEVERITY", "STATE", "FOR", "DUE", "FOUND BY", "WHAT"], rows)
    answer({"findings": found}, lines if rows else f"Nothing was found in {model}/v{version}.", as_json=as_json)


def resolve(
    model: Model, version: Version, number: Number, comment: Comment, key: Key = None, as_json: Json = False
) -> None:
    """Say that a finding is answered, and how; never of one's own version."""
    act(f"findings/{number}/resolve", model, version, comment, key, as_json=as_json)


def reopen(
    model: Model, version: Version, number: Number, comment: Comment, key: Key = None, as_json: Json = False
) -> None:
    """Take a resolution back, and say why."""
    act(f"findings/{number}/reopen", model, version, comment, key, as_json=as_json)
