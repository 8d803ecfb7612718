"""What may be loaded without anybody's consent: scikit-learn models in skops' format, of types that skops knows.

Everything else runs code that came with the model when it is loaded, or restores objects nobody vouches for.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from services import documents, foreign
from services.foreign import NotDecoded
from services.mlflow.artifacts import MAX_DESCRIPTION
from services.validation.errors import ModelFailed
from services.validation.subjects import Limits, Subject

MAX_TYPES = 100
LOOKING_SECONDS = 60.0
MAX_UNPACKED = 2 << 30
"""Bytes of a skops file, unpacked, that are looked through here; a larger one needs consent."""


class Loader(StrEnum):
    """How a model is read: skops' own reader runs nothing; Python's and MLflow's may run anything.

    A scikit-learn pickle is not read through MLflow, which takes two seconds longer and adds nothing.
    """

    SKOPS = "skops"
    PICKLE = "pickle"
    MLFLOW = "mlflow"


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model will be loaded, and ``consent``: why somebody has to agree first, empty where nobody has to."""

    loader: Loader
    flavour: str
    file: Path | None = None
    types: tuple[str, ...] = ()
    """Types in a skops file that skops does not know; they are read only by consent."""
    consent: str = ""


def inspect(subject: Subject) -> Loading:
    """Decide how ``subject`` is loaded, without loading it.

    Raises:
        ModelFailed: its files hold no ``MLmodel`` that can be read, or links instead of files.
    """
    folder = subject.folder.resolve()
    _without_links(folder, subject)
    flavours = _described(folder, subject)
    function, sklearn = flavours.get("python_function") or {}, flavours.get("sklearn") or {}
    flavour = (_text(function, "loader_module") or str(next(iter(flavours), ""))).removeprefix("mlflow.")[:100]
    if function.get("code") or sklearn.get("code"):
        return _asks(flavour, "it brings Python code of its own, which runs when it is loaded")
    if _text(function, "loader_module") != "mlflow.sklearn" or not sklearn:
        return _asks(flavour, f"models of flavour {flavour or 'unknown'} can run code when they are loaded")
    if (served := _text(function, "model_path")) and served != _text(sklearn, "pickled_model"):
        raise ModelFailed(
            f"The MLmodel file of {subject.ref} names {served[:200]} to serve and "
            f"{_text(sklearn, 'pickled_model')[:200]} for scikit-learn: what was validated would not be what serves."
        )
    file, kept = folder / _text(sklearn, "pickled_model"), _text(sklearn, "serialization_format") or "pickle"
    if not _inside(file, folder):
        raise ModelFailed(f"{subject.ref} has no model file where its MLmodel says.")
    if kept != "skops":
        words = f"it is saved as {kept[:100]}, which can run code when it is loaded"
        return Loading(loader=Loader.PICKLE, flavour=flavour, file=file, consent=words)
    if (unknown := _unknown_types(file)) is None or len(unknown) > MAX_TYPES:
        return _asks(flavour, "its skops file cannot be looked through")
    if unknown:
        words = f"it holds types that skops does not vouch for: {', '.join(unknown)[:300]}"
        return Loading(loader=Loader.SKOPS, flavour=flavour, file=file, types=unknown, consent=words)
    return Loading(loader=Loader.SKOPS, flavour=flavour, file=file)


def made_readable(folder: Path) -> None:
    """Let the sandbox's own user read what lies in ``folder``; who may come that far is up to the folders above."""
    for path in (folder, *folder.rglob("*")):
        wanted = 0o555 if path.is_dir() else 0o444
        if (mode := stat.S_IMODE(path.stat().st_mode)) & wanted != wanted:
            path.chmod(mode | wanted)


def _text(section: dict[str, Any], key: str) -> str:
    """A text; anything else is as good as nothing. A YAML of a few bytes can hold what takes gigabytes to write out."""
    value = section.get(key)
    return value if isinstance(value, str) else ""


def _inside(file: Path, folder: Path) -> bool:
    try:
        return file.is_file() and file.resolve().is_relative_to(folder)
    except (OSError, ValueError):  # a name that no file can have
        return False


def _asks(flavour: str, why: str) -> Loading:
    return Loading(loader=Loader.MLFLOW, flavour=flavour, consent=why)


def _without_links(folder: Path, subject: Subject) -> None:
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            mode = Path(parent, name).lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ModelFailed(f"{subject.ref} holds {name!r}, which is neither a file nor a folder.")


def _described(folder: Path, subject: Subject) -> dict[str, Any]:
    file = folder / "MLmodel"
    try:
        if file.stat().st_size > MAX_DESCRIPTION:
            raise ValueError("too large")
        flavours = documents.foreign(file.read_bytes())["flavors"]
        if not isinstance(flavours, dict) or not all(isinstance(one, dict) for one in flavours.values()):
            raise TypeError("flavors")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFailed(f"{subject.ref} has no MLmodel file that can be read.") from error
    return flavours


def _unknown_types(file: Path) -> tuple[str, ...] | None:
    """None where the file is no skops file, or a bomb; a process of its own looks."""
    try:
        with file.open("rb") as content:
            found = foreign.decoded(
                "skops_types",
                content,
                {"bytes": MAX_UNPACKED, "types": MAX_TYPES},
                doing="Looking through the skops file",
                limits=Limits(seconds=LOOKING_SECONDS, output_bytes=1 << 20),
            )
    except (OSError, NotDecoded):
        return None
    unknown = found.header.get("unknown")
    return tuple(map(str, unknown)) if isinstance(unknown, list) else None
