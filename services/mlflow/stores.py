"""Places outside the MLflow server where the files of old or copied versions are said to lie: what is wrong with them.

Signoff reads what MLflow has a store for, where its library and credentials are at hand. All else ends in one sentence.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from services.errors import FilesUnreadable, SignoffError, StoreUnavailable

STORE_SECONDS = 20.0
"""How long a store outside may give nothing at all."""
REST_SECONDS = 60.0
"""For how long a store that did not answer is not asked again."""

_LIBRARIES = {
    "s3": ("boto3", "credentials of AWS, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "r2": ("boto3", "credentials of Cloudflare R2, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "b2": ("boto3", "credentials of Backblaze, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "gs": ("google-cloud-storage", "credentials of Google Cloud, such as GOOGLE_APPLICATION_CREDENTIALS"),
    "wasbs": ("azure-storage-blob azure-identity", "AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCESS_KEY"),
    "abfss": ("azure-storage-file-datalake azure-identity", "credentials of Azure, such as AZURE_CLIENT_ID"),
    "hdfs": ("pyarrow", "the settings of a Hadoop client"),
    "viewfs": ("pyarrow", "the settings of a Hadoop client"),
    "sftp": ("pysftp", "a key that may log in there"),
    "ftp": ("", "a user that may log in there"),
}
"""By scheme: the Python packages that MLflow's store needs, and what else."""
_MODULES = {
    **dict.fromkeys(("s3", "r2", "b2"), "boto3"),
    **dict.fromkeys(("hdfs", "viewfs"), "pyarrow"),
    "gs": "google.cloud.storage",
    "wasbs": "azure.storage.blob",
    "abfss": "azure.storage.filedatalake",
    "sftp": "pysftp",
}
"""The module of that library, by scheme."""
_UNREACHABLE = ("timeout", "timedout", "connect", "unreachable", "unavailable", "throttl", "slowdown", "resolution")
_REGISTER_ANEW = "Log the model to this MLflow server and register it anew"

T = TypeVar("T")


def named(uri: str) -> str:
    """A source as it may be shown: without a password, and not without end."""
    try:
        parts = urlsplit(uri)
        if parts.password:
            bare = parts.netloc.rpartition("@")[2]
            uri = urlunsplit(parts._replace(netloc=f"{parts.username}:…@{bare}"))
    except ValueError:
        pass
    return uri if len(uri) <= 300 else f"{uri[:299]}…"


def scheme_of(uri: str) -> str:
    """The scheme in lower case; empty for a path, and ``drive`` for one on a Windows drive."""
    if re.match(r"(file:/{0,3})?[A-Za-z]:[\\/]", uri) or uri.startswith("\\\\"):
        return "drive"
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", uri)
    return found[1].lower() if found else ""


def require_readable(uri: str, what: str) -> None:
    """Raise `FilesUnreadable` for what is not even tried: a path of another machine or one with .., Databricks' own."""
    scheme = scheme_of(uri)
    if scheme == "drive":
        raise unreadable(uri, what, "that is a path on a Windows drive of another machine", _REGISTER_ANEW)
    if scheme in {"runs", "models"}:
        raise unreadable(uri, what, "MLflow has no such run or model", _REGISTER_ANEW)
    if scheme == "dbfs":
        raise unreadable(
            uri, what, "dbfs: is read through a Databricks workspace, and this MLflow server is none", _REGISTER_ANEW
        )
    if scheme == "mlflow-artifacts" and ".." in _plain(urlsplit(uri).path).split("/"):
        raise unreadable(
            uri,
            what,
            "MLflow refuses every path with .. in it",
            "Log the model to an experiment whose artifact location has none, and register it anew",
        )
    if scheme not in {"", "file"}:
        return
    path = uri if not scheme else "/" + urlsplit(uri).path.lstrip("/")
    if scheme and urlsplit(uri).hostname not in {None, "localhost"}:
        raise unreadable(uri, what, "that is a folder of another machine", _REGISTER_ANEW)
    if not path.startswith("/"):
        raise unreadable(uri, what, "that is a relative path of the machine that registered it", _REGISTER_ANEW)
    if not Path(path).exists():
        raise unreadable(uri, what, "there is no such folder on the machine where Signoff runs", _REGISTER_ANEW)


def _plain(path: str) -> str:
    """A path as MLflow looks at it: decoded until nothing is left to decode."""
    while (decoded := unquote(path)) != path:
        path = decoded
    return path


def require_library(uri: str, what: str, *, known: bool) -> None:
    """Raise `FilesUnreadable` where MLflow has no store for this scheme, or not the library that it needs."""
    scheme = scheme_of(uri)
    if not known:
        raise translated(ValueError(), uri, what, known=known)
    module = _MODULES.get(scheme)
    if module and not _installed(module):
        raise translated(ModuleNotFoundError(name=module), uri, what)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def unreadable(uri: str, what: str, why: str, advice: str) -> FilesUnreadable:
    """One sentence: what cannot be read, from where, why, and what helps."""
    return FilesUnreadable(
        f"{what[:1].upper()}{what[1:]} cannot be read from {named(uri) or 'no source at all'}: {why}. {advice}. "
        "What lies there is unguarded."
    )


def translated(error: BaseException, uri: str, what: str, *, known: bool = True) -> SignoffError:
    """What a store of MLflow's, or the library below it, raised, as our own error.

    Args:
        known: whether MLflow has a store for this scheme at all.
    """
    if isinstance(error, SignoffError):
        return error
    scheme = scheme_of(uri)
    packages, needs = _LIBRARIES.get(scheme, ("", "credentials"))
    if not known:
        return unreadable(
            uri,
            what,
            f"MLflow has no artifact store for {scheme}: here",
            f"Where Signoff runs, install the plugin of MLflow that has one, or l{_REGISTER_ANEW[1:]}",
        )
    if isinstance(error, ImportError):
        wanted = packages or str(error.name or "").partition(".")[0] or "its library"
        return unreadable(
            uri,
            what,
            f"the Python package {wanted.split()[0]} is not installed",
            f"Install it where Signoff runs (pip install {wanted}), with {needs}",
        )
    name, words = _told(error)
    if "credential" in name or "authenticat" in name or "token" in name:
        return unreadable(uri, what, "Signoff has no credentials for it", f"Give the process of Signoff {needs}")
    if any(part in name for part in _UNREACHABLE):
        return silent(uri, what)
    if isinstance(error, FileNotFoundError) or "notfound" in name or "nosuch" in name or "does_not_exist" in name:
        return unreadable(uri, what, "there is nothing", _REGISTER_ANEW)
    return unreadable(uri, what, f"its store answers {words}", f"Give the process of Signoff {needs}")


def silent(uri: str, what: str) -> StoreUnavailable:
    """In one sentence, that the store did not answer."""
    return StoreUnavailable(f"The store of {what} at {named(uri)} does not answer; it is asked again in a minute.")


def _told(error: BaseException) -> tuple[str, str]:
    """The names of an error and of what caused it, without case, and its first line."""
    names: list[str] = []
    line = (str(error).splitlines() or [""])[0][:200]
    seen: BaseException | None = error
    while seen is not None and len(names) < 10:
        code = getattr(seen, "error_code", "") or getattr(seen, "response", None)
        if isinstance(code, dict):
            code = code.get("Error", {}).get("Code", "")
        names.append(f"{type(seen).__name__} {code if isinstance(code, str) else ''}")
        seen = seen.__cause__ or seen.__context__
    return " ".join(names).lower(), f"{type(error).__name__}: {line}"


class Patience:
    """Bounds what a store outside may take, and leaves one alone for a while that did not answer."""

    def __init__(self) -> None:
        self._silent: dict[str, float] = {}

    def bounded(self, call: Callable[[], T], uri: str, what: str, folder: Path | None = None) -> T:
        """The result of ``call``, in a thread of its own: the libraries below know no common limit of time.

        Args:
            folder: what ``call`` writes into; as long as it grows there, the store answers.

        Raises:
            StoreUnavailable: nothing came for `STORE_SECONDS`, now or a moment ago.
        """
        host = f"{scheme_of(uri)}://{urlsplit(uri).netloc}"
        if self._silent.get(host, 0.0) > time.monotonic():
            raise silent(uri, what)
        found: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                found.append(call())
            except BaseException as error:  # raised again below, in the thread that asked
                failed.append(error)

        thread = threading.Thread(target=run, name="store", daemon=True)
        thread.start()
        size = 0
        thread.join(STORE_SECONDS)
        while thread.is_alive():
            grown = _size(folder) if folder else 0
            if grown == size:
                now = time.monotonic()
                resting = {other: until for other, until in self._silent.items() if until > now}
                self._silent = {**resting, host: now + REST_SECONDS}  # anybody can name any number of hosts
                raise silent(uri, what)
            size = grown
            thread.join(STORE_SECONDS)
        if failed:
            raise failed[0]
        return found[0]


def _size(folder: Path) -> int:
    """Bytes of all files below; those that are renamed meanwhile count next time."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total
