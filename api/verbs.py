"""The verbs: ``POST /models/{name}/versions/{version}/submit`` and the others, and ``POST /models/{name}/rollback``.

Each does what the button of the same name does in the dashboard, through the same `services.desk`.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field

from api import parameters
from api.auth import ByBearer, Caller
from api.errors import CHANGING
from api.parameters import DIGEST, VERSION, WITHOUT_NUL, Day, Name, Version
from services import desk
from services.accounts.people import MAX_USERNAME
from services.desk import Request
from services.domain import Action, Dataset, Source, VersionRef
from services.evidence import MAX_FINDING, FindingDraft, Severity
from services.verbs import policies
from services.verbs.common import MAX_COMMENT
from services.verbs.idempotency import MAX_KEY
from services.verbs.reviews import MAX_FINDINGS, Outcome
from services.verbs.statements import MAX_DIGEST, MAX_NAME

router = APIRouter(tags=["verbs"], responses=CHANGING)

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=MAX_KEY,
        description="Chosen by the client. A second request under the same key is answered as the first was, and does "
        "nothing; what was refused may be asked for again.",
    ),
]
Words = Annotated[str, Field(min_length=1, max_length=MAX_COMMENT)]
Number = Annotated[int, Field(strict=True, ge=1, le=999_999_999)] | Annotated[str, Field(pattern=VERSION)]


class Comment(BaseModel):
    """A reviewer's or a submitter's words."""

    model_config = ConfigDict(extra="forbid")
    comment: Words

    @property
    def words(self) -> str:
        """Whichever they are called."""
        return self.comment


class Sighted(BaseModel):
    """What the caller had seen of the version when they decided."""

    seen: Annotated[str, Field(pattern=DIGEST)] | None = Field(
        default=None,
        description="The verdict's `seen`: with it the decision is refused when files, evidence, champion or policy "
        "changed since.",
    )


class Decision(Comment, Sighted):
    """A reviewer's words, about what they saw."""


class FindingDraftBody(BaseModel):
    """Something found: how grave it is, who is to answer it (without ``owner`` its submitter), and until which day."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(min_length=1, max_length=MAX_FINDING)]
    severity: Severity = Severity.MAJOR
    owner: Annotated[str, Field(min_length=1, max_length=MAX_USERNAME, pattern=WITHOUT_NUL)] | None = None
    due: Day | None = None

    @property
    def draft(self) -> FindingDraft:
        """As the verb takes it."""
        due = parameters.day(self.due) if self.due else None
        return FindingDraft(text=self.text, severity=self.severity, owner=self.owner, due=due)


class Changes(Decision):
    """A reviewer's words, and what exactly is to be changed."""

    findings: Annotated[list[FindingDraftBody], Field(max_length=MAX_FINDINGS)] = []


class Reason(BaseModel):
    """The words of whoever changes what is in Production."""

    model_config = ConfigDict(extra="forbid")
    reason: Words

    @property
    def words(self) -> str:
        """Whichever they are called."""
        return self.reason


class Release(Reason, Sighted):
    """Why, about what was seen."""


class DatasetBody(BaseModel):
    """A data set, as MLflow names it in the input of a run."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=WITHOUT_NUL)]
    digest: Annotated[str, Field(min_length=1, max_length=MAX_DIGEST, pattern=WITHOUT_NUL)]


class Stated(Comment):
    """The data set that a champion was measured on, and how the reviewer knows."""

    dataset: DatasetBody


class Rollback(Release):
    """Where to go back to; without a version, to the champion that the present one replaced."""

    version: Number | None = None


class PolicyChoice(Reason):
    """Which policy is to judge a model, by its name."""

    policy: Annotated[str, Field(min_length=1, max_length=500, pattern=WITHOUT_NUL)]


class Done(BaseModel):
    """What was done. ``event`` is its number in the ledger, null where there was nothing left to do."""

    name: str
    version: int
    message: str
    event: int | None
    hash: str | None


def perform(caller: Caller, action: Action, ref: VersionRef, words: str, key: str | None, **more: Any) -> Done:
    """Have the desk carry it out; ``more`` is the rest of its `Request`."""
    with caller.asking_mlflow():
        outcome = desk.perform(
            caller.signoff,
            Request(action=action, ref=ref, words=words, **more),
            by=caller.username,
            source=Source.REST,
            key=key,
            within=caller.bearer.scope,
        )
    return _done(outcome)


def _done(outcome: Outcome) -> Done:
    event = outcome.event
    return Done(
        name=outcome.ref.name,
        version=outcome.ref.version,
        message=outcome.message,
        event=event.seq if event else None,
        hash=event.hash if event else None,
    )


@router.post("/models/{name}/versions/{version}/submit")
def submit(caller: ByBearer, name: Name, version: Version, body: Comment | Reason, key: Key = None) -> Done:
    """Propose it for Production. What waits for review already is not submitted twice."""
    return perform(caller, Action.SUBMIT, parameters.version(name, version), body.words, key)


@router.post("/models/{name}/versions/{version}/approve")
def approve(caller: ByBearer, name: Name, version: Version, body: Decision | Release, key: Key = None) -> Done:
    """Approve it as it is now: files, evidence, champion and policy. Never one's own."""
    return perform(caller, Action.APPROVE, parameters.version(name, version), body.words, key, seen=body.seen)


@router.post("/models/{name}/versions/{version}/request-changes")
def request_changes(caller: ByBearer, name: Name, version: Version, body: Changes | Release, key: Key = None) -> Done:
    """Send a submission back, with what was found. An open blocking finding keeps a version out of Production."""
    found = tuple(one.draft for one in body.findings) if isinstance(body, Changes) else ()
    ref = parameters.version(name, version)
    return perform(caller, Action.REQUEST_CHANGES, ref, body.words, key, findings=found, seen=body.seen)


@router.post("/models/{name}/versions/{version}/statements")
def state_dataset(caller: ByBearer, name: Name, version: Version, body: Stated, key: Key = None) -> Done:
    """State on which data set the champion was measured, where it names none. It is shown as the word of a person."""
    stated = Dataset(name=body.dataset.name, digest=body.dataset.digest, context="")
    ref = parameters.version(name, version)
    return perform(caller, Action.STATE_DATASET, ref, body.words, key, dataset=stated)


@router.post("/models/{name}/versions/{version}/reject")
def reject(caller: ByBearer, name: Name, version: Version, body: Decision | Release, key: Key = None) -> Done:
    """End a submission."""
    return perform(caller, Action.REJECT, parameters.version(name, version), body.words, key, seen=body.seen)


@router.post("/models/{name}/versions/{version}/withdraw")
def withdraw(caller: ByBearer, name: Name, version: Version, body: Comment | Reason, key: Key = None) -> Done:
    """Take one's own submission back."""
    return perform(caller, Action.WITHDRAW, parameters.version(name, version), body.words, key)


@router.post("/models/{name}/versions/{version}/promote")
def promote(caller: ByBearer, name: Name, version: Version, body: Decision | Release, key: Key = None) -> Done:
    """Put an approved version into Production. Promoting the champion changes nothing."""
    return perform(caller, Action.PROMOTE, parameters.version(name, version), body.words, key, seen=body.seen)


@router.post("/models/{name}/versions/{version}/auto")
def auto(caller: ByBearer, name: Name, version: Version, body: Comment | Reason, key: Key = None) -> Done:
    """Take it as far towards Production as its policy lets automation take it; safe to ask for every night."""
    return perform(caller, Action.AUTO, parameters.version(name, version), body.words, key)


@router.post("/models/{name}/versions/{version}/archive")
def archive(caller: ByBearer, name: Name, version: Version, body: Comment | Reason, key: Key = None) -> Done:
    """Archive it; the champion too, which leaves nothing in Production."""
    return perform(caller, Action.ARCHIVE, parameters.version(name, version), body.words, key)


@router.post("/models/{name}/rollback")
def rollback(caller: ByBearer, name: Name, body: Rollback, key: Key = None) -> Done:
    """Return to an earlier champion: to `version`, or to the one that the present champion replaced."""
    if body.version is not None:
        return perform(caller, Action.ROLLBACK, VersionRef.parse(name, body.version), body.words, key, seen=body.seen)
    with caller.asking_mlflow():
        outcome = desk.roll_back(
            caller.signoff,
            name,
            words=body.words,
            by=caller.username,
            source=Source.REST,
            key=key,
            within=caller.bearer.scope,
            seen=body.seen,
        )
    return _done(outcome)


@router.post("/models/{name}/policy")
def assign_policy(caller: ByBearer, name: Name, body: PolicyChoice, key: Key = None) -> Done:
    """Decide which policy judges a model: keep the one that was assigned, or change to another."""
    with caller.asking_mlflow():
        ref = policies.newest(caller.signoff, name)
    return perform(caller, Action.ASSIGN_POLICY, ref, body.words, key, policy=body.policy)
