"""``GET /policies``: what is in force, as the text that is digested; ``POST /policies/dry-run``: what is not yet."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api import parameters
from api.auth import ByBearer
from api.errors import answers
from api.parameters import WITHOUT_NUL, Recorded
from services.domain import MAX_NAME, Action
from services.errors import BadInput, InvalidSettings
from services.policy import Policy, parse
from services.views.dry_run import Answer, Decided, dry_run

router = APIRouter(tags=["policies"])
MAX_POLICY = 64 * 1024


class PolicyAnswer(BaseModel):
    """One policy; ``digest`` is the sha256 of ``text``, and ``label`` the value of the tag ``signoff.policy``."""

    name: str
    title: str
    label: str
    digest: str
    priority: int
    models: list[str]
    text: str


class PolicyList(BaseModel):
    """Every policy in force, the one that is asked first first."""

    policies: list[PolicyAnswer]


class Trial(BaseModel):
    """The text of a policy, to try on what was decided from ``since`` on; without ``model``, about all of them."""

    model_config = ConfigDict(extra="forbid")
    policy: Annotated[str, Field(min_length=1, max_length=MAX_POLICY)]
    model: Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=WITHOUT_NUL)] | None = None
    since: Annotated[str, Field(max_length=40, description="ISO 8601; UTC where it names no zone.")] | None = None


class DifferenceAnswer(BaseModel):
    """One check that this policy answers otherwise."""

    id: str
    title: str
    then: Answer
    now: Answer
    reason: str


class JudgedAnswer(BaseModel):
    """One past promotion or rollback, judged again."""

    event: int
    at: Recorded
    name: str
    version: int
    action: str
    by: str
    policy: str | None
    then: Decided
    now: Decided
    changed: bool
    differences: list[DifferenceAnswer]


class TrialAnswer(BaseModel):
    """Every past promotion this policy would have judged, newest first; ``not_judged`` names what nobody can know."""

    policy: str
    digest: str
    not_judged: list[str]
    promotions: list[JudgedAnswer]
    judged_by_other_policies: int


@router.get("/policies")
def policies(caller: ByBearer) -> PolicyList:
    """Every policy in force."""
    caller.require(Action.VIEW, None)
    found = sorted(caller.signoff.policies.policies, key=lambda policy: (-policy.rules.priority, policy.rules.name))
    return PolicyList(policies=[_answer(policy) for policy in found])


@router.post("/policies/dry-run", responses=answers(413))
def try_policy(caller: ByBearer, body: Trial) -> TrialAnswer:
    """What a policy would have decided on past promotions. Changes nothing, and says what was not recorded."""
    caller.require(Action.TRY_POLICIES, body.model)
    since, signoff = parameters.moment(body.since) if body.since else None, caller.signoff
    try:
        policy = parse(body.policy, "policy")
        with signoff.database.reading() as connection:
            found = dry_run(connection, policy, signoff.policies, model=body.model, since=since)
    except InvalidSettings as error:  # in the text that was sent; what is in force was read before
        raise BadInput(str(error)) from error
    return TrialAnswer(**found.as_json())


def _answer(policy: Policy) -> PolicyAnswer:
    rules = policy.rules
    return PolicyAnswer(
        name=rules.name,
        title=rules.title,
        label=policy.label,
        digest=policy.digest,
        priority=rules.priority,
        models=list(rules.applies_to.names),
        text=policy.text,
    )
