"""``GET /compare?versions=name:version,…``: two to ten versions side by side, the first being the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.auth import ByBearer
from api.models import known_version
from api.parameters import WITHOUT_NUL
from services.domain import MAX_NAME, Action, VersionRef
from services.side_by_side import comparing
from services.side_by_side.comparison import MAX_VERSIONS, Comparison
from services.side_by_side.conclusions import Conclusion, conclude
from services.side_by_side.differences import Difference

router = APIRouter(tags=["compare"])
MAX_ASKED = MAX_VERSIONS * (MAX_NAME + 11)


class Compared(BaseModel):
    """One of the versions; ``data`` says whether it was measured on the baseline's data, ``datasets`` on which."""

    name: str
    version: int
    data: str
    datasets: list[str]


class CellAnswer(BaseModel):
    """One metric of one version; ``meets`` is what the policy says, null where it says nothing."""

    value: float | None
    standing: str
    delta: float | None
    relative: float | None
    meets: bool | None


class MetricLine(BaseModel):
    """One metric, a cell a version in their order."""

    name: str
    direction: str
    wanted: str
    counts: bool
    cells: list[CellAnswer]


class DifferenceLine(BaseModel):
    """One named thing, a value a version; ``note`` says what a difference means."""

    name: str
    values: list[str | None]
    differs: bool
    note: str


class CandidateLine(BaseModel):
    """What a comparison says about one version: ``failed_checks`` are those of its own model's policy."""

    name: str
    version: int
    sentence: str
    better: list[str]
    worse: list[str]
    incomparable: list[str]
    missing: list[str]
    failed_checks: list[str]
    signature: str


class ComparisonAnswer(BaseModel):
    """Versions side by side; the first is the baseline, and the others are ``candidates``."""

    policy: str
    candidates: list[CandidateLine]
    versions: list[Compared]
    metrics: list[MetricLine]
    params: list[DifferenceLine]
    tags: list[DifferenceLine]
    signature: list[DifferenceLine]
    requirements: list[DifferenceLine] | None
    datasets: list[DifferenceLine]
    source: list[DifferenceLine]


@router.get("/compare")
def compare(
    caller: ByBearer,
    versions: Annotated[
        str, Query(max_length=MAX_ASKED, pattern=WITHOUT_NUL, description="`name:version,name:version`, up to ten.")
    ],
    requirements: Annotated[
        bool, Query(description="Compare `requirements.txt` too, which is one more file to read of each version.")
    ] = False,
) -> ComparisonAnswer:
    """Metrics and every other difference, judged by the policy of the second version's model."""
    refs = comparing.parse(versions)
    for ref in refs:
        caller.require(Action.VIEW, ref.name)
    for ref in refs:
        known_version(caller, ref)
    with caller.asking_mlflow():
        found = comparing.shown(caller.signoff, refs)
        return _answer(found, comparing.requirements(caller.signoff, found) if requirements else None)


def _answer(found: Comparison, requirements: Sequence[Difference] | None) -> ComparisonAnswer:
    return ComparisonAnswer(
        policy=found.policy.label,
        candidates=[
            _candidate(evidence.ref, said) for evidence, said in zip(found.candidates, conclude(found), strict=True)
        ],
        versions=[
            Compared(
                name=evidence.ref.name,
                version=evidence.ref.version,
                data=found.data(position),
                datasets=[f"{dataset.name} {dataset.digest}".strip() for dataset in evidence.holdout],
            )
            for position, evidence in enumerate(found.versions)
        ],
        metrics=[
            MetricLine(
                name=row.name,
                direction=row.direction,
                wanted=row.wanted,
                counts=row.counts,
                cells=[
                    CellAnswer(
                        value=cell.value,
                        standing=cell.standing,
                        delta=cell.delta,
                        relative=cell.relative,
                        meets=cell.meets,
                    )
                    for cell in row.cells
                ],
            )
            for row in found.metrics
        ],
        params=_lines(found.params),
        tags=_lines(found.tags),
        signature=_lines(found.signature),
        requirements=None if requirements is None else _lines(requirements),
        datasets=_lines(found.datasets),
        source=_lines(found.source),
    )


def _candidate(ref: VersionRef, said: Conclusion) -> CandidateLine:
    better, worse, incomparable, missing = (
        [row.name for row, _ in group] for group in (said.better, said.worse, said.incomparable, said.missing)
    )
    return CandidateLine(
        name=ref.name,
        version=ref.version,
        sentence=f"{said.sentence}.",
        better=better,
        worse=worse,
        incomparable=incomparable,
        missing=missing,
        failed_checks=[check.reason for check in said.failed],
        signature=said.signature.compatibility,
    )


def _lines(found: Sequence[Difference]) -> list[DifferenceLine]:
    return [
        DifferenceLine(name=line.name, values=list(line.values), differs=line.differs, note=line.note) for line in found
    ]
