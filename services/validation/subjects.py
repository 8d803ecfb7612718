"""What goes into a validation beside the holdout: the models, the limits, and what is told on the way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from services.domain import Signature, VersionRef


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model version whose files lie in ``folder`` (with ``MLmodel`` in it), read and checked by the caller.

    ``digest`` is that of its artifact manifest; it goes into the report, so that evidence names bytes.
    """

    ref: VersionRef
    folder: Path
    signature: Signature | None
    digest: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one model may use. Its clock starts with its process."""

    seconds: float = 300.0
    memory_bytes: int = 4 << 30
    output_bytes: int = 512 << 20
    """All that it may write to its scratch folder, predictions included."""
    resamples: int = 2000


class Phase(StrEnum):
    """The parts of a validation, in their order."""

    CHECK = "check"
    CANDIDATE = "candidate"
    CURRENT = "current"
    STATISTICS = "statistics"
    PICTURES = "pictures"


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where a validation is: ``done`` of ``total`` phases are over, and ``words`` say what begins now."""

    phase: Phase
    done: int
    total: int
    words: str
