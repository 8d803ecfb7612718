"""``GET /policies``: what is in force, as the very text that is digested."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from api.auth import ByBearer
from services.domain import Action
from services.policy import Policy

router = APIRouter(tags=["policies"])


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


@router.get("/policies")
def policies(caller: ByBearer) -> PolicyList:
    """Every policy in force."""
    caller.require(Action.VIEW, None)
    found = sorted(caller.signoff.policies.policies, key=lambda policy: (-policy.rules.priority, policy.rules.name))
    return PolicyList(policies=[_answer(policy) for policy in found])


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
