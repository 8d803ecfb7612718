"""``signoff policy lint|show|dry-run|assign``: the rules, before they are in force and as they are, and for whom."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import sqlalchemy as sa
import typer

from commands import remote
from commands.local import Json, answer, opened, waiting
from services.errors import BadInput, InvalidSettings, NotFound
from services.policy import PolicyBook, parse
from services.settings import PROJECT
from services.tables import policies
from services.views.dry_run import Answer, DryRun, Judged
from services.views.dry_run import dry_run as tried

app = typer.Typer(help="Check, show and assign policies.", no_args_is_help=True)


@app.command()
def lint(
    folder: Annotated[Path | None, typer.Argument(help="Folder of policy files; without it, the active one.")] = None,
    as_json: Json = False,
) -> None:
    """Name the first mistake of every policy file, with file and line."""
    folder = folder or Path(os.environ.get("SIGNOFF_POLICIES") or PROJECT / "policies")
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise BadInput(f"There is no policy file (*.yaml) in {folder}.")
    mistakes, good = [], []
    for file in files:
        try:
            good.append(parse(file.read_text(encoding="utf-8"), file.name))
        except UnicodeDecodeError:
            mistakes.append(f"{file.name}: not UTF-8.")
        except InvalidSettings as error:
            mistakes.append(str(error))
    try:
        PolicyBook(policies=tuple(good))
    except InvalidSettings as error:
        mistakes.append(str(error))
    fine = f"{len(files)} policies, no mistake."
    answer({"files": len(files), "mistakes": mistakes}, "\n".join(mistakes) or fine, as_json=as_json)
    if mistakes:
        raise typer.Exit(1)


@app.command()
def show(name: Annotated[str, typer.Argument(help="The policy's name.")], as_json: Json = False) -> None:
    """The text of the policy of this name that is in force."""
    _, database = opened()
    with database.reading() as connection:
        rows = connection.execute(sa.select(policies).where(policies.c.active)).all()
    found = next((row for row in rows if row.name == name), None)
    if found is None:
        names = ", ".join(sorted(row.name for row in rows))
        raise NotFound(f"No policy named {name} is in force; there are {names}.")
    told = {"name": found.name, "digest": found.digest, "since": found.activated_at, "text": found.text}
    answer(told, found.text.rstrip("\n"), as_json=as_json)


@app.command("dry-run")
def dry_run(
    file: Annotated[Path, typer.Argument(help="A policy file, in force or not.", exists=True, dir_okay=False)],
    model: Annotated[str | None, typer.Option("--model", help="Only this registered model.")] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", help="Only from this day on, UTC.", formats=["%Y-%m-%d"])
    ] = None,
    as_json: Json = False,
) -> None:
    """What this policy would have decided on past promotions. Changes nothing, and says what was not recorded."""
    try:
        policy = parse(file.read_text(encoding="utf-8"), file.name)
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"{file.name}: not UTF-8.") from error
    settings, database = opened()
    book = PolicyBook.load(settings.policies)
    with waiting("Judging the past again"), database.reading() as connection:
        found = tried(connection, policy, book, model=model, since=since.replace(tzinfo=UTC) if since else None)
    answer(found.as_json(), "\n".join(_table(found)), as_json=as_json)


@app.command()
def assign(
    model: Annotated[str, typer.Argument(help="The registered model.")],
    policy: Annotated[str, typer.Option("--policy", help="The name of the policy that is to judge it.")],
    reason: Annotated[str, typer.Option("--reason", "--comment", help="The record keeps it for years.")],
    as_json: Json = False,
) -> None:
    """Keep the policy that judges a model while its tags or name choose another, or change to that; over REST."""
    with waiting(f"{model}: policy {policy}"):
        done = remote.post(f"/models/{quote(model, safe='')}/policy", {"policy": policy, "reason": reason})
    answer(done, done["message"], as_json=as_json)


def _table(found: DryRun) -> Iterator[str]:
    head = ("record", "when (UTC)", "version", "asked by", "then", "now")
    rows = [head, *(_row(one) for one in found.judged)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    if found.judged:
        yield "  ".join(cell.ljust(width) for cell, width in zip(head, widths, strict=True)).rstrip()
    for row, one in zip(rows[1:], found.judged, strict=True):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for difference in one.differences:
            if Answer.FAILED in {difference.then, difference.now} or difference.now is Answer.NOT_RECORDED:
                yield f"    {difference.then} → {difference.now}: {_printable(difference.reason)}"
    if found.policy.rules.signing:
        yield "Whether people would have signed is not judged."
    changed = sum(one.changed for one in found.judged)
    unknown = sum(one.now == "not recorded" for one in found.judged)
    yield f"{len(found.judged)} promotions; {changed} would be decided otherwise, {unknown} cannot be judged." + (
        f" {found.elsewhere} more are judged by other policies." if found.elsewhere else ""
    )


def _row(one: Judged) -> tuple[str, ...]:
    mark = " *" if one.changed else ""
    when, action = f"{one.at:%Y-%m-%d %H:%M}", " (rollback)" if one.action == "rollback" else ""
    version, by = _printable(f"{one.ref}{action}"), _printable(one.by)
    return (f"#{one.seq}", when, version, by, one.then.value, f"{one.now.value}{mark}")


def _printable(text: str) -> str:
    """Names and tags are anybody's; a terminal obeys what it is sent."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
