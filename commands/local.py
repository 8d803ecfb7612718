"""What commands that work straight on the database share: opening it, answering as text or JSON, showing progress."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from services.database import Database
from services.domain import Actor, Role, Source
from services.errors import LedgerUnavailable
from services.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Answer as one JSON object.")]
DATABASE = "SIGNOFF_DATABASE_URL"


def opened(*, told: bool = True) -> tuple[Settings, Database]:
    """The settings and the database of this machine. Creates and migrates nothing.

    Args:
        told: say on stderr which database it is where no setting names it: another shell may have one that does.

    Raises:
        InvalidSettings: see `Settings.read`.
        LedgerUnavailable: there is no database, or it is older than this program.
    """
    home = _home()
    if not os.environ.get(DATABASE) and not (home / "signoff.db").is_file():
        raise LedgerUnavailable(
            f"There is no ledger in {home}; name its folder with SIGNOFF_HOME, or its database with {DATABASE}."
        )
    settings = settings_here()
    database = database_of(settings, told=told)
    with database.reading() as connection:
        if not sa.inspect(connection).has_table("tokens"):
            raise LedgerUnavailable("This database is not of this version of Signoff; start Signoff once.")
    return settings, database


def database_of(settings: Settings, *, told: bool = True) -> Database:
    """The database of these settings; see `opened`."""
    database = Database.of(settings)
    embedded = (settings.home / "mlflow").is_dir()  # `make run` keeps its own MLflow there: nobody forgot a setting
    if told and not os.environ.get(DATABASE) and not embedded:
        typer.echo(f"{DATABASE} is not set, so this is about the record in {database.place}.", err=True)
    return database


def gate_token() -> str:
    """What the dashboard of this machine takes for the hook's token: given, or kept by the embedded stack, or none."""
    kept = _home() / "gate-token"
    return os.environ.get("SIGNOFF_GATE_TOKEN") or (kept.read_text().strip() if kept.is_file() else "")


def settings_here() -> Settings:
    """The settings of this machine; raises as `Settings.read`."""
    # A home with a key of its own is an embedded stack's, also for whoever set MLFLOW_TRACKING_URI to use its server.
    ours = {"SIGNOFF_EMBEDDED": "1"} if (_home() / "secret-key").is_file() else {}
    return Settings.read({**os.environ, **ours})


def _home() -> Path:
    return Path(os.environ.get("SIGNOFF_HOME") or ".signoff")


def operator() -> Actor:
    """Whoever can write the database of this machine needs no role; the record says that it was such a person."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "somebody"
    return Actor(username="signoff", name=f"{name} on this machine", roles=frozenset({Role.ADMIN}), source=Source.CLI)


def answer(found: Mapping[str, Any], sentence: str, *, as_json: bool) -> None:
    """What a command found, on stdout."""
    typer.echo(json.dumps(found, ensure_ascii=False) if as_json else sentence)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, each as wide as its widest cell; what cannot be printed is shown as an escape."""
    cells = [[cell if cell.isprintable() else repr(cell)[1:-1] for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr where a person looks on; the function inside takes how much was done since."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with typer.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


@contextmanager
def waiting(doing: str) -> Iterator[None]:
    """The same for what does not say how much there is to do: that it goes on, and for how long it has."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        shown.add_task(doing, total=None)
        yield
