"""What reviewers found in a version: listed, resolved, opened again. They are raised with ``request-changes``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from api import parameters
from api.auth import ByBearer
from api.errors import CHANGING
from api.models import known_version
from api.parameters import VERSION, Cursor, Day, Limit, Name, Recorded, Version
from api.verbs import Comment, Done, Key, Reason, perform
from services.domain import Action
from services.evidence import Finding, Severity
from services.verbs import findings

router = APIRouter(tags=["findings"])
OF_VERSION = "/models/{name}/versions/{version}/findings"

Number = Annotated[str, Path(pattern=VERSION, description="The finding's `id`.")]


class FindingAnswer(BaseModel):
    """One finding; ``event`` raised it. What says how it was resolved is null while it is open."""

    id: int
    severity: Severity
    text: str
    owner: str
    due: Day | None
    open: bool
    raised_by: str
    raised_at: Recorded
    event: int
    resolved_by: str | None
    resolved_at: Recorded | None
    resolution: str | None


class FindingList(BaseModel):
    """Some of what was found, oldest first."""

    findings: list[FindingAnswer]
    next_cursor: str | None


@router.get(OF_VERSION)
def list_findings(
    caller: ByBearer, name: Name, version: Version, cursor: Cursor = None, limit: Limit = 50
) -> FindingList:
    """Everything that was found in a version, in every round of its review, oldest first."""
    caller.require(Action.VIEW, name)
    _, found = known_version(caller, parameters.version(name, version))
    after = parameters.number("finding", cursor) if cursor is not None else 0
    later = [finding for finding in findings.raised(caller.signoff, found) if finding.id > after]
    following = parameters.cursor("finding", later[limit - 1].id) if len(later) > limit else None
    return FindingList(findings=[_answer(finding) for finding in later[:limit]], next_cursor=following)


@router.post(f"{OF_VERSION}/{{number}}/resolve", responses=CHANGING)
def resolve(
    caller: ByBearer, name: Name, version: Version, number: Number, body: Comment | Reason, key: Key = None
) -> Done:
    """Say that a finding is answered, and how; for those who neither trained nor submitted the version."""
    ref = parameters.version(name, version)
    return perform(caller, Action.RESOLVE, ref, body.words, key, finding=int(number))


@router.post(f"{OF_VERSION}/{{number}}/reopen", responses=CHANGING)
def reopen(
    caller: ByBearer, name: Name, version: Version, number: Number, body: Comment | Reason, key: Key = None
) -> Done:
    """Take a resolution back; the words say why."""
    ref = parameters.version(name, version)
    return perform(caller, Action.REOPEN, ref, body.words, key, finding=int(number))


def _answer(finding: Finding) -> FindingAnswer:
    return FindingAnswer(
        id=finding.id,
        severity=finding.severity,
        text=finding.text,
        owner=finding.owner,
        due=finding.due.isoformat() if finding.due else None,
        open=finding.open,
        raised_by=finding.raised_by,
        raised_at=finding.raised_at,
        event=finding.seq,
        resolved_by=finding.resolved_by,
        resolved_at=finding.resolved_at,
        resolution=finding.resolution,
    )
