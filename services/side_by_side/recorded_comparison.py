"""What somebody had before them when deciding: a comparison as an event keeps it, bounded, and readable years later.

An event names every metric of candidate and champion anyway. This says what was made of them at that moment: which way
is better, how large each change was, on which data each version was measured, and the sentence that was on screen.
Numbers are text, as everywhere in an event: canonical JSON has neither NaN nor more than one way to write a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from services.evidence import Facts
from services.policy import Policy
from services.recorded_facts import datasets
from services.side_by_side import comparison
from services.side_by_side.comparison import Comparison
from services.side_by_side.conclusions import conclude, summary

MAX_METRICS = 40
"""As many as a page shows before somebody asks for all; the policy's own come first."""
MAX_SENTENCE = 2000


def against_champion(policy: Policy, seen: Facts) -> dict[str, Any]:
    """The part of an event's details that keeps the comparison with the champion; empty where there is none."""
    if seen.champion is None:
        return {}
    found = comparison.compare(seen.champion, [seen.candidate], policy, champion=seen.champion.ref)
    return {"comparison": recorded(found)}


def recorded(found: Comparison) -> dict[str, Any]:
    """A comparison as plain JSON."""
    shown = found.metrics[:MAX_METRICS]
    left_out = len(found.metrics) - len(shown)
    return {
        "sentence": summary(found)[:MAX_SENTENCE],
        "versions": [
            {
                "name": evidence.ref.name,
                "version": evidence.ref.version,
                "identity": evidence.version.identity,
                "data": found.data(position).value,
                "datasets": datasets(evidence),
            }
            for position, evidence in enumerate(found.versions)
        ],
        "metrics": [
            {
                "name": row.name,
                "better": row.direction.value,
                "wanted": row.wanted,
                "cells": [
                    {"value": _text(cell.value), "delta": _text(cell.delta), "standing": cell.standing.value}
                    for cell in row.cells
                ],
            }
            for row in shown
        ],
        "signatures": [conclusion.signature.compatibility.value for conclusion in conclude(found)],
        **({"left_out": left_out} if left_out else {}),
    }


def _text(number: float | None) -> str | None:
    return None if number is None else repr(number)


@dataclass(frozen=True, kw_only=True)
class KeptCell:
    """One number of one version, its difference to the first version's, and how it stood."""

    value: float | None
    delta: float | None
    standing: str


@dataclass(frozen=True, kw_only=True)
class KeptMetric:
    """One metric across the versions, as it was."""

    name: str
    better: str
    wanted: str
    cells: tuple[KeptCell, ...]


@dataclass(frozen=True, kw_only=True)
class KeptVersion:
    """One of the versions that were compared; ``data`` is how its data was to the first one's."""

    name: str
    version: int
    data: str
    datasets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A comparison as an event kept it; the first version is the one the others were compared with."""

    sentence: str
    versions: tuple[KeptVersion, ...]
    metrics: tuple[KeptMetric, ...]
    left_out: int

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Self | None:
        """Out of an event's details; None where it kept none."""
        kept = details.get("comparison")
        if kept is None:
            return None
        return cls(
            sentence=kept["sentence"],
            versions=tuple(
                KeptVersion(
                    name=one["name"],
                    version=one["version"],
                    data=one["data"],
                    datasets=tuple(f"{data['name']} {data['digest']}".strip() for data in one["datasets"]),
                )
                for one in kept["versions"]
            ),
            metrics=tuple(
                KeptMetric(
                    name=one["name"],
                    better=one["better"],
                    wanted=one["wanted"],
                    cells=tuple(
                        KeptCell(value=_number(c["value"]), delta=_number(c["delta"]), standing=c["standing"])
                        for c in one["cells"]
                    ),
                )
                for one in kept["metrics"]
            ),
            left_out=kept.get("left_out", 0),
        )


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
