"""``POST /reconcile``: look for changes made past Signoff, now rather than within the minute."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from api.auth import ByBearer
from api.errors import answers
from services.domain import Action
from services.reconciliation import reconciler

router = APIRouter(tags=["reconcile"], responses=answers(413))


class Found(BaseModel):
    """What one pass found: the numbers of its events. ``skipped`` models are being changed through Signoff."""

    models: int
    events: list[int]
    skipped: list[str]
    discarded: list[str]
    baseline: bool


@router.post("/reconcile")
def reconcile(caller: ByBearer) -> Found:
    """One full pass over the registry. What it finds is recorded, and shown on Home."""
    caller.require(Action.RECONCILE, None)
    with caller.asking_mlflow():
        report = reconciler.reconcile(caller.signoff)
    return Found(
        models=report.models,
        events=[event.seq for event in report.events],
        skipped=sorted(report.skipped),
        discarded=sorted(report.discarded),
        baseline=report.baseline,
    )
