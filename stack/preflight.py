"""Everything that can be found out before anything is started; each finding is one sentence.

Imports only the standard library at first: a missing package is one of the findings.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sqlite3
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from services.settings import Settings

PACKAGES = (
    "alembic", "cryptography", "honcho", "mlflow", "pandas", "plotly", "pydantic", "rfc8785", "skops", "sklearn",
    "sqlalchemy", "starlette", "streamlit", "streamlit_authenticator", "uvloop", "yaml",
)  # fmt: skip
DATABASE = "SIGNOFF_DATABASE_URL"


class CannotStart(Exception):
    """Why the stack cannot start, in one sentence."""


def dependencies() -> None:
    """Raise `CannotStart` naming what is not installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise CannotStart(f"{', '.join(missing)} is not installed; run `make setup`.")


def settings() -> Settings:
    """The checked settings; what a parent stack set for its children does not count."""
    from services.errors import SignoffError
    from services.settings import Settings, private_folder

    os.environ.pop("SIGNOFF_EMBEDDED", None)
    try:
        found = Settings.read()
        private_folder(found.home)
        _require_writable(found.home)
    except SignoffError as error:
        raise CannotStart(str(error)) from error
    except OSError as error:
        raise unusable(error) from error
    return found


def _require_writable(home: Path) -> None:
    """Raise `OSError` unless files can be made in both folders, and those that are always written can be."""
    logs = home / "logs"
    logs.mkdir(exist_ok=True)
    for folder in (home, logs):
        try:
            TemporaryFile(dir=folder).close()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from error  # not the name that was tried
    for file in (home / "lock", *(logs / f"{name}.log" for name in ("mlflow", "dashboard", "system"))):
        file.open("a").close()


def unusable(error: OSError) -> CannotStart:
    """That something in SIGNOFF_HOME cannot be made, read or written, in one sentence."""
    why = "a file is there" if isinstance(error, FileExistsError) else error.strerror
    return CannotStart(f"SIGNOFF_HOME cannot be used: {why} ({error.filename}).")


def home_lock(home: Path) -> IO[str]:
    """Held as long as the file stays open: two stacks on one home would write the same databases."""
    file = (home / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CannotStart(f"Another Signoff runs on {home}; stop it, or set SIGNOFF_HOME to another folder.") from error
    return file


def ports(settings: Settings) -> None:
    """Raise `CannotStart` when a port cannot be listened on; names the setting to change."""
    _free(settings.host, settings.port, "SIGNOFF_PORT")
    if settings.embedded:
        _free("127.0.0.1", settings.mlflow_port, "SIGNOFF_MLFLOW_PORT")


def _free(host: str, port: int, setting: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotStart(f"Port {port} is taken by another program; set {setting} to a free one.") from error
            if error.errno == errno.EACCES:
                raise CannotStart(f"Port {port} needs more rights; set {setting} to one above 1023.") from error
            raise CannotStart(f"SIGNOFF_HOST is {host!r}, which is not an address of this machine.") from error


def database(settings: Settings) -> str:
    """Bring Signoff's database to the newest schema and activate the policies, or raise `CannotStart`.

    Returns in a sentence which database it is, and whether there is a record in it.
    """
    from services.database import Database
    from services.errors import LedgerUnavailable, OtherSchema, SignoffError
    from services.policy import PolicyBook
    from services.record import ledger
    from services.record.activation import activate

    try:
        policies = PolicyBook.load(settings.policies)
        place = Database.of(settings)
    except (SignoffError, OSError) as error:
        raise CannotStart(str(error)) from error
    except ImportError as error:
        raise CannotStart(f"SIGNOFF_DATABASE_URL needs a driver that is not installed: {error}.") from error
    try:
        place.upgrade()
        with place.reading() as connection:
            known = ledger.count(connection, ledger.Filter())
        if not (known or settings.embedded or os.environ.get(DATABASE)):
            _no_other_record(settings, place.place)
        activate(place, policies, at=datetime.now(UTC))  # here, so that it is done once and not by two children at once
    except OtherSchema as error:
        raise CannotStart(str(error)) from error
    except LedgerUnavailable as error:
        raise CannotStart(f"{str(error).removesuffix('; nothing was changed.')}: {place.place}.") from error
    unset = "" if settings.demo or os.environ.get(DATABASE) else f", as {DATABASE} is not set"
    held = f"It holds {known:,} event{'' if known == 1 else 's'}." if known else "A new record begins here."
    return f"The record is in {place.place}{unset}. {held}"


def _no_other_record(settings: Settings, place: str) -> None:
    """Raise `CannotStart` when MLflow witnesses a record: a second one would begin because a setting was forgotten."""
    from services.errors import RegistryUnavailable
    from services.mlflow.registry import MlflowRegistry

    try:
        witnessed = MlflowRegistry(settings.mlflow_uri).witnesses()
    except RegistryUnavailable as error:
        raise CannotStart(str(error)) from error
    if witnessed:
        raise CannotStart(
            f"MLflow witnesses a record of Signoff already, and an empty one would begin in {place}, as {DATABASE} is "
            f"not set. Set it to the database of that record, or to an SQLite file (sqlite:////PATH) for a second one."
        )


def mlflow(settings: Settings) -> None:
    """Raise `CannotStart` when the embedded server's database is broken, or another server does not let us in."""
    if not settings.embedded:
        _reachable(settings.mlflow_uri)
        return
    file = mlflow_database(settings.home)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        return
    try:
        connection = sqlite3.connect(f"file:{file}?mode=rw", uri=True)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise CannotStart(f"MLflow's database {file} cannot be used ({error}).") from error


def mlflow_database(home: Path) -> Path:
    """The SQLite file of the embedded MLflow server."""
    return home / "mlflow" / "mlflow.db"


def _reachable(uri: str) -> None:
    if not uri.startswith(("http://", "https://")):
        raise CannotStart(f"MLFLOW_TRACKING_URI is {uri!r}; Signoff governs a server, so it must be an http address.")
    from stack.access import refusal  # imports MLflow: seconds

    if why := refusal(uri):
        raise CannotStart(why)
