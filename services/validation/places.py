"""Files the server may read: inside folders an administrator listed, and by no link that leads out of them.

Every folder on the way is opened by its name inside the one before and never through a link, so that what was
checked is what is read, whoever renames things meanwhile. No address is ever asked over a network.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from services.validation.errors import SourceNotAllowed, UnreadableHoldout

_STEP = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True)
class Places:
    """Folders that holdouts may be read from; none unless listed."""

    folders: tuple[Path, ...] = ()


def opened(location: str, places: Places) -> BinaryIO:
    """Open the file that a path or ``file:`` URI names.

    Raises:
        SourceNotAllowed: it is not in a listed folder, or a link, or has another scheme.
        UnreadableHoldout: there is no such file there.
    """
    path = _path(location)
    for folder in places.folders:
        for spelled in dict.fromkeys((folder.absolute(), folder.resolve())):
            if path.is_relative_to(spelled) and path != PurePosixPath(spelled):
                return _inside(folder.resolve(), path.relative_to(spelled).parts, location)
    listed = "no folder is listed" if not places.folders else "it is in none of the folders that are listed"
    raise SourceNotAllowed(f"The server may not read {location!r}: {listed} for holdouts.")


def _path(location: str) -> PurePosixPath:
    parts = urlsplit(location)
    if parts.scheme not in {"", "file"} or parts.netloc not in {"", "localhost"}:
        raise SourceNotAllowed(f"The server reads files in listed folders only, not {location!r}.")
    path = PurePosixPath(unquote(parts.path) if parts.scheme else location)
    if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise SourceNotAllowed(
            f"The server reads files by their full path only, without '..'; {location!r} is not one."
        )
    return path


def _inside(folder: Path, parts: tuple[str, ...], location: str) -> BinaryIO:
    at = -1
    try:
        at = os.open(folder, _STEP | os.O_DIRECTORY)
        for name in parts[:-1]:
            at = _stepped(at, name, os.O_DIRECTORY)
        at = _stepped(at, parts[-1], os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(at).st_mode):
            raise SourceNotAllowed(f"{location!r} is not a file.")
        file, at = os.fdopen(at, "rb"), -1
        return file
    except FileNotFoundError as error:
        raise UnreadableHoldout(f"There is no file {location!r}.") from error
    except OSError as error:  # a link, or something on the way that is no folder, or not ours to read
        raise SourceNotAllowed(f"The server may not read {location!r}: {os.strerror(error.errno or 0)}.") from error
    finally:
        if at >= 0:
            os.close(at)


def _stepped(folder: int, name: str, flags: int) -> int:
    try:
        return os.open(name, _STEP | flags, dir_fd=folder)
    finally:
        os.close(folder)
