"""Uploaded holdouts: kept in a private folder from the asking until their job has ended, and never longer."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import shutil
import socket
import time
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.errors import NotFound
from services.settings import Settings
from services.validation.errors import HoldoutTooLarge

MAX_BYTES = 256 << 20
"""Of one holdout."""
FILE = "holdout"
_INCOMING = "incoming-"
STALE_SECONDS = 3600.0
_OURS = re.compile("(?:[0-9a-f]{32}|pictures-[1-9][0-9]{0,18})")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that was received; `keep` it by its ``folder``."""

    folder: str
    sha256: str


def place(settings: Settings) -> str:
    """The machine and folder that have what is uploaded here."""
    return f"{socket.gethostname()}:{_root(settings)}"[:512]


@contextmanager
def received(settings: Settings, chunks: Iterable[bytes], *, max_bytes: int) -> Iterator[Upload]:
    """Write an upload down as it arrives; it is gone afterwards, unless it was kept.

    Raises:
        HoldoutTooLarge: there is more than ``max_bytes`` of it; the rest is not read.
    """
    name = secrets.token_hex(16)
    folder = _root(settings) / f"{_INCOMING}{name}"
    folder.mkdir(mode=0o700, parents=True)
    try:
        digest, size = hashlib.sha256(), 0
        with (folder / FILE).open("wb") as file:
            for chunk in chunks:
                if (size := size + len(chunk)) > max_bytes:
                    raise HoldoutTooLarge(f"The holdout has more than {max_bytes:,} bytes; that many are read at most.")
                digest.update(chunk)
                file.write(chunk)
        yield Upload(folder=name, sha256=digest.hexdigest())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep(settings: Settings, name: str) -> None:
    """Let an upload outlive the request that brought it."""
    kept = _folder(settings, name)
    (_root(settings) / f"{_INCOMING}{name}").rename(kept)


def file(settings: Settings, name: str) -> Path:
    """Where an upload that was kept lies; raises `NotFound` for a name that none of ours has."""
    return _inside(_folder(settings, name) / FILE)


def drop(settings: Settings, name: str) -> None:
    """Remove what was kept; nothing where nothing was, or where the name is none of ours."""
    if not name:
        return
    try:
        shutil.rmtree(_folder(settings, name), ignore_errors=True)
    except NotFound as error:
        log.warning("nothing is deleted: %s", error)


def sweep(settings: Settings, needed: Container[str]) -> None:
    """Remove what a crash left behind: whatever is no longer ``needed`` and not of the last hour."""
    root = _root(settings)
    for folder in root.iterdir() if root.is_dir() else ():
        if folder.name not in needed and time.time() - folder.lstat().st_mtime > STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def pictures(settings: Settings, job: int) -> Path:
    """Where the pictures of a job wait until MLflow has them."""
    return _folder(settings, f"pictures-{job}")


def _folder(settings: Settings, name: str) -> Path:
    """The folder of this name; raises `NotFound` for one that Signoff does not make, or that leads elsewhere."""
    if not isinstance(name, str) or not _OURS.fullmatch(name):
        raise NotFound(f"{str(name)[:100]!r} is no name of a folder that Signoff keeps holdouts or pictures in.")
    return _inside(_root(settings) / name)


def _inside(path: Path) -> Path:
    """The path, unless it is a link."""
    if path.is_symlink():
        raise NotFound(f"{path.name!r} is a link to somewhere else; Signoff makes none.")
    return path


def _root(settings: Settings) -> Path:
    return settings.home / "validations"
