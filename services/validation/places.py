"""Files the server may read: inside folders an administrator listed, and by no link that leads out of them.

Every folder on the way is opened by its name inside the one before and never through a link, so that what was
checked is what is read, whoever renames things meanwhile. No address is ever asked over a network.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
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
    with ExitStack() as steps:

        def step(name: str | Path, flags: int, inside: int | None) -> int:
            found = os.open(name, _STEP | flags, dir_fd=inside)
            steps.callback(os.close, found)
            return found

        try:
            at = step(folder, os.O_DIRECTORY, None)
            for name in parts[:-1]:
                at = step(name, os.O_DIRECTORY, at)
            file = step(parts[-1], os.O_NONBLOCK, at)
            if stat.S_ISREG(os.fstat(file).st_mode):
                return os.fdopen(os.dup(file), "rb")
        except FileNotFoundError as error:
            raise UnreadableHoldout(f"There is no file {location!r}.") from error
        except OSError as error:  # a link, or something on the way that is no folder, or not ours to read
            raise SourceNotAllowed(f"The server may not read {location!r}: {os.strerror(error.errno or 0)}.") from error
    raise SourceNotAllowed(f"{location!r} is not a file.")
