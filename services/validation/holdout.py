"""The data both models are evaluated on: where it may come from, what it must look like, which digest names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from services.validation.report import HoldoutFacts, Task


@dataclass(frozen=True, kw_only=True)
class HoldoutLimits:
    """How much data is read at all."""

    bytes: int = 256 << 20
    rows: int = 1_000_000
    columns: int = 2_000


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the server may read a holdout from: folders an administrator listed; nothing unless listed."""

    folders: tuple[Path, ...] = ()
    schemes: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """A holdout that was read and makes sense by itself: rows, at least two targets, none missing."""

    facts: HoldoutFacts
    task: Task
    frame: pd.DataFrame = field(repr=False)
    """All columns, the target among them."""


def from_upload(
    content: BinaryIO, *, file_name: str, target: str, limits: HoldoutLimits, task: Task | None = None
) -> Holdout:
    """Read an uploaded CSV or Parquet file (told by its first bytes, not by its name).

    ``task`` None: a target of text, booleans or few whole numbers is a class, everything else a number.

    Raises:
        HoldoutRefused: one of its subclasses says what is wrong.
    """
    raise NotImplementedError


def from_place(
    location: str, *, target: str, places: Places, limits: HoldoutLimits, task: Task | None = None
) -> Holdout:
    """Read a path or URI that the server may read.

    Raises:
        SourceNotAllowed: it is not in a listed folder, or leads out of it, or has a scheme that is not listed.
        HoldoutRefused: one of its subclasses says what is wrong.
    """
    raise NotImplementedError


def fits(holdout: Holdout, signatures: Sequence[object]) -> None:
    """Compare the columns with what the models' signatures require, before anything runs."""
    raise NotImplementedError
