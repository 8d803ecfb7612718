"""``/api/v1/admissions``: the hook in the MLflow server asks, and tells what became of it. See mlflow_gate/README.md.

An application of its own with threads of its own: MLflow's calls wait for these answers, so no page, and no other
call of the API, may take their place. What is told at once, what is judged and what is concluded do not wait for each
other either, because to judge and to conclude we ask MLflow, which may have to ask us.
"""

from __future__ import annotations

import hmac
import time
from functools import partial
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.admission import admissions
from services.admission.admissions import Answer
from services.admission.calls import BENEATH, MOVES, Call, Told, What
from services.domain import MAX_NAME, ModelVersion, RegisteredModel, VersionRef, utc_from_ms
from services.errors import NotFound, SignoffError
from services.mlflow.entities import model_id_in
from services.signoff import Signoff

PATH = "/api/v1/admissions"
AT_ONCE, JUDGED, CONCLUDED = 16, 8, 8
MAX_TEXT = 20_000


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class VersionMessage(_Message):
    """A model version as the hook read it."""

    version: int = Field(ge=1, le=2**31)
    created: int
    updated: int
    stage: str = Field(max_length=64)
    source: str = Field(max_length=MAX_TEXT)
    run_id: str | None = Field(default=None, max_length=64)
    tags: dict[str, str] = {}


class ModelMessage(_Message):
    """A registered model as the hook read it."""

    name: str = Field(min_length=1, max_length=MAX_NAME)
    created: int
    updated: int
    tags: dict[str, str] = {}
    aliases: dict[str, int] = {}
    versions: list[VersionMessage]


class ChangeMessage(_Message):
    """What is to be changed; the fields that its kind has."""

    kind: What = Field(strict=False)
    name: str = Field(default="", max_length=MAX_NAME)
    version: int | None = Field(default=None, ge=1, le=2**31)
    stage: str = Field(default="", max_length=64)
    archive_existing: bool = False
    alias: str = Field(default="", max_length=MAX_NAME)
    key: str = Field(default="", max_length=MAX_TEXT)
    value: str | None = Field(default=None)
    tags: dict[str, str] = {}
    new_name: str = ""
    path: str = ""


class Question(_Message):
    """May this happen?"""

    protocol: Literal[1]
    user: str | None = Field(default=None, min_length=1, max_length=256)
    intent: str | None = Field(default=None, max_length=128)
    patience: float = Field(gt=0, le=600)
    workspace: str = Field(max_length=256)
    reason: str | None = Field(default=None, max_length=MAX_TEXT)
    change: ChangeMessage
    models: list[ModelMessage]

    def call(self) -> Call:
        """As the core knows it.

        Raises:
            HTTPException: a change of a stage, an alias or a tag comes without its model or version.
        """
        asked, told = self.change, tuple(_told(model) for model in self.models)
        if asked.kind not in BENEATH | {What.RECORD_WRITTEN} and [one.model.name for one in told] != [asked.name]:
            raise HTTPException(422, "models must be the one that the change is about")
        numbers = {version.ref.version for one in told for version in one.versions}
        if asked.version is not None and asked.version not in numbers:
            raise HTTPException(422, "versions must hold the one that the change is about")
        if (
            asked.kind in MOVES | {What.TAG_SET, What.TAG_DELETED, What.VERSION_DELETED}
            and asked.version is None
            and asked.kind is not What.ALIAS_DELETED
        ):
            raise HTTPException(422, "version is missing")
        return Call(
            what=asked.kind,
            told=told,
            user=self.user,
            intent=self.intent,
            workspace=self.workspace,
            patience=self.patience,
            reason=self.reason or "",
            **asked.model_dump(exclude={"kind"}),
        )


class Report(_Message):
    """What became of it."""

    protocol: Literal[1]
    outcome: Literal["applied", "failed"]
    why: str = Field(default="", max_length=MAX_TEXT)


def _told(model: ModelMessage) -> Told:
    return Told(
        model=RegisteredModel(
            name=model.name,
            created_at=utc_from_ms(model.created),
            updated_at=utc_from_ms(model.updated),
            tags=model.tags,
            aliases=model.aliases,
        ),
        versions=tuple(
            ModelVersion(
                ref=VersionRef(name=model.name, version=version.version),
                created_at=utc_from_ms(version.created),
                updated_at=utc_from_ms(version.updated),
                stage=version.stage,
                tags=version.tags,
                run_id=version.run_id,
                model_id=model_id_in(version.source),
                source=version.source,
            )
            for version in sorted(model.versions, key=lambda version: version.version)
        ),
    )


class Desk:
    """What all requests share: who is asked, and how many may wait for what."""

    def __init__(self, signoff: Signoff) -> None:
        self.signoff = signoff
        self.at_once = anyio.CapacityLimiter(AT_ONCE)
        self.judged = anyio.CapacityLimiter(JUDGED)
        self.concluded = anyio.CapacityLimiter(CONCLUDED)


class OnlyTheHook:
    """Lets nobody in but the MLflow server, before a body is read; the one place that knows its token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self._expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._proven(scope):
            answer = {"error_code": "UNAUTHENTICATED", "message": "Only the MLflow server may ask here."}
            await JSONResponse(answer, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _proven(self, scope: Scope) -> bool:
        sent = dict(scope["headers"]).get(b"authorization", b"")
        return self._expected is not None and hmac.compare_digest(sent, self._expected)


async def _desk(request: Request) -> Desk:  # not a thread's: those belong to pages and REST as well
    desk: Desk = request.app.state.desk
    return desk


ByDesk = Annotated[Desk, Depends(_desk)]
"""How an endpoint asks for it."""

router = APIRouter(prefix=PATH)


@router.post("")
async def admit(question: Question, desk: ByDesk) -> JSONResponse:
    """May this change happen?"""
    begun, call = time.monotonic(), question.call()
    answer = await anyio.to_thread.run_sync(partial(admissions.at_once, desk.signoff, call), limiter=desk.at_once)
    if answer is None:
        judge = partial(admissions.judged, desk.signoff, call, lambda: time.monotonic() - begun)
        answer = await anyio.to_thread.run_sync(judge, limiter=desk.judged)
    return JSONResponse(_as_json(answer))


@router.get("/names")
async def names(desk: ByDesk) -> JSONResponse:
    """Which aliases are protected, in lower case, which tags choose policies, and which experiments are our own."""
    try:
        told = await anyio.to_thread.run_sync(partial(admissions.names, desk.signoff), limiter=desk.at_once)
    except SignoffError as error:  # the hook goes on with the names it was told last
        raise HTTPException(503, str(error)) from error
    return JSONResponse({"protocol": 1, **told})


@router.post("/{intent}/outcome")
async def outcome(intent: str, _: Report, desk: ByDesk) -> JSONResponse:
    """What became of it; either way the record is closed by what MLflow shows."""
    try:
        found = await anyio.to_thread.run_sync(
            partial(admissions.conclude, desk.signoff, intent), limiter=desk.concluded
        )
    except NotFound as error:
        raise HTTPException(404, str(error)) from error
    except SignoffError as error:
        raise HTTPException(409, str(error)) from error
    return JSONResponse({"protocol": 1, "closed": found.closed, "event": found.event, "reason": found.reason})


def _as_json(answer: Answer) -> dict[str, Any]:
    if not answer.allowed:
        checks = answer.verdict.as_json() if answer.verdict else []
        return {"protocol": 1, "allowed": False, "reason": answer.reason, "where": answer.where, "checks": checks}
    found: dict[str, Any] = {"protocol": 1, "allowed": True, "valid_for": answer.valid_for}
    if answer.intent:
        found["intent"] = answer.intent
    if answer.change:
        found["prescribed"] = {"before": answer.change.before.as_json(), "after": answer.change.after.as_json()}
    return found


def admission_routes(signoff: Signoff) -> list[Route]:
    """The application, to be tried before anything else under ``/api``."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.desk = Desk(signoff)
    app.include_router(router)
    guarded = OnlyTheHook(app, signoff.settings.gate_token)
    return [Route(PATH, guarded), Route(f"{PATH}/{{rest:path}}", guarded)]
