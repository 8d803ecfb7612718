"""``signoff policy lint|show``: the rules, before they are in force and as they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from commands.local import Json, answer, opened
from services.errors import BadInput, InvalidSettings, NotFound
from services.policy import PolicyBook, parse
from services.settings import PROJECT
from services.tables import policies

app = typer.Typer(help="Check and show policies.", no_args_is_help=True)


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
