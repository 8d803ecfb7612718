"""``POST /models/{name}/versions/{version}/validations``: evaluate a version and the champion on one holdout.

It is answered at once with a job; ask for the job until its ``state`` is ``done``, ``failed`` or ``cancelled``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import UploadFile

from api import parameters
from api.auth import ByBearer, Caller
from api.errors import answers
from api.models import known_version
from api.parameters import Name, Version
from api.verbs import Key
from services import desk
from services.domain import Action, Source, VersionRef
from services.errors import BadInput
from services.validation import jobs, uploads
from services.validation.jobs import Job, Origin, Wanted
from services.validation.record import find as recorded
from services.validation.recording import sentence
from services.verbs.common import MAX_COMMENT

router = APIRouter(tags=["validations"])

CHUNK = 1 << 18
Number = Annotated[int, Path(ge=1, le=2**53 - 1, description="A job, by the number of the record that asked for it.")]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class Asked(BaseModel):
    """How to evaluate; beside it goes a ``file``, as multipart/form-data."""

    model_config = ConfigDict(extra="forbid")
    target: Annotated[str, Field(min_length=1, max_length=250, description="The column that is to be predicted.")]
    confidence: Annotated[float, Field(ge=0.5, lt=1, description="Of the intervals.")] = 0.95
    consent: Annotated[bool, Field(description="Run what loading the models would run; a reason is needed.")] = False
    comment: Annotated[str, Field(max_length=MAX_COMMENT)] = ""


class AskedByName(Asked):
    """The same on what the server reads itself, as JSON: a ``location``, or a ``dataset`` the version's run logged."""

    location: Annotated[Text | None, Field(description="A path in a folder that the server lists.")] = None
    dataset: Annotated[Text | None, Field(description="Name or digest of a data set the version's run logged.")] = None

    @model_validator(mode="after")
    def _one_source(self) -> AskedByName:
        if (self.location is None) == (self.dataset is None):
            raise ValueError("name either a location or a dataset, or send a file as multipart/form-data")
        return self


class Line(BaseModel):
    """One line of a job's log."""

    at: str
    words: str


class JobAnswer(BaseModel):
    """One validation. ``event`` and ``run_id`` are where its figures are on record and in MLflow, once they are."""

    name: str
    version: int
    number: int
    state: str
    step: str
    share: float
    asked_by: str
    asked_at: str
    consent: bool
    ended_at: str | None
    error: str | None
    log: list[Line]
    event: int | None
    run_id: str | None
    summary: str | None
    report: dict[str, Any] | None


class JobList(BaseModel):
    """The newest jobs of a version, without their reports."""

    validations: list[JobAnswer]
    more: bool
    """Whether there are older ones."""


_FILE = {"type": "string", "format": "binary", "description": "A CSV or Parquet file."}
_FORM = Asked.model_json_schema()
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": AskedByName.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    **_FORM,
                    "properties": {**_FORM["properties"], "file": _FILE},
                    "required": [*_FORM["required"], "file"],
                }
            },
        },
    }
}


async def _body(request: Request, _: ByBearer) -> AsyncIterator[tuple[Asked, UploadFile | None]]:
    """What was sent, in either form; after the caller is known."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        yield _checked(AskedByName, await request.body()), None
        return
    async with request.form(max_files=1, max_fields=10) as form:
        file = form.get("file")
        fields = {name: value for name, value in form.multi_items() if name != "file"}
        if not isinstance(file, UploadFile):
            raise BadInput("Send the holdout as the part `file` of a multipart/form-data body.")
        yield _checked(Asked, fields), file


def _checked(model: type[Asked], sent: bytes | dict[str, Any]) -> Asked:
    try:
        return model.model_validate_json(sent) if isinstance(sent, bytes) else model.model_validate(sent)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        raise RequestValidationError(found, body=_json(sent)) from error


def _json(sent: bytes | dict[str, Any]) -> Any:
    if isinstance(sent, dict):
        return sent
    try:
        return json.loads(sent)
    except (ValueError, RecursionError):
        return None


Body = Annotated[tuple[Asked, UploadFile | None], Depends(_body)]


@router.post(
    "/models/{name}/versions/{version}/validations",
    status_code=202,
    responses=answers(409, 413),
    openapi_extra=BODY,
)
def validate(caller: ByBearer, name: Name, version: Version, body: Body, key: Key = None) -> JobAnswer:
    """Evaluate this version and the champion on the same holdout, in the background and in isolation.

    What loading runs code that came with a model is refused without `consent`, which is for reviewers and release
    managers to give, and for nobody to give their own version. The holdout is not kept.
    """
    ref, (asked, file) = parameters.version(name, version), body
    with _source(caller, asked, file) as wanted:
        action = Action.VALIDATE_WITH_CONSENT if asked.consent else Action.VALIDATE
        with caller.asking_mlflow():
            outcome = desk.perform(
                caller.signoff,
                desk.Request(action=action, ref=ref, words=asked.comment, wanted=wanted),
                by=caller.username,
                source=Source.REST,
                key=key,
                within=caller.bearer.scope,
            )
    return _answer(caller, ref, outcome.job or 0)


@contextmanager
def _source(caller: Caller, asked: Asked, file: UploadFile | None) -> Iterator[Wanted]:
    if isinstance(asked, AskedByName):
        origin = Origin.DATASET if asked.dataset else Origin.PLACE
        name = asked.dataset or asked.location or ""
        yield Wanted(origin=origin, name=name, target=asked.target, confidence=asked.confidence)
        return
    if file is None:
        raise BadInput("No holdout was sent.")
    name, content = file.filename or uploads.FILE, file.file
    wanted = Wanted(origin=Origin.UPLOAD, name=name, target=asked.target, confidence=asked.confidence)
    chunks = iter(lambda: content.read(CHUNK), b"")
    with uploads.received(caller.signoff.settings, chunks, max_bytes=uploads.MAX_BYTES) as upload:
        yield replace(wanted, sha256=upload.sha256, folder=upload.folder)


@router.get("/models/{name}/versions/{version}/validations")
def validations(
    caller: ByBearer, name: Name, version: Version, limit: Annotated[int, Query(ge=1, le=50)] = 10
) -> JobList:
    """The newest validations of this version, those under way and those that failed included."""
    caller.require(Action.VIEW, name)
    ref = parameters.version(name, version)
    _, found = known_version(caller, ref)
    listed = jobs.of(caller.signoff.database, ref, found.identity, limit=limit + 1)
    told = [_told(caller, job, with_report=False) for job in listed[:limit]]
    return JobList(validations=told, more=len(listed) > limit)


@router.get("/models/{name}/versions/{version}/validations/{number}")
def validation(caller: ByBearer, name: Name, version: Version, number: Number) -> JobAnswer:
    """One validation: how far it is, or what it found."""
    caller.require(Action.VIEW, name)
    return _answer(caller, parameters.version(name, version), number)


@router.post("/models/{name}/versions/{version}/validations/{number}/cancel", responses=answers(409, 413))
def cancel(caller: ByBearer, name: Name, version: Version, number: Number) -> JobAnswer:
    """End it, whether it waits or runs. One that has ended already stays as it is."""
    ref = parameters.version(name, version)
    desk.perform(
        caller.signoff,
        desk.Request(action=Action.CANCEL_VALIDATION, ref=ref, words="", validation=number),
        by=caller.username,
        source=Source.REST,
        within=caller.bearer.scope,
    )
    return _answer(caller, ref, number)


def _answer(caller: Caller, ref: VersionRef, number: int) -> JobAnswer:
    return _told(caller, jobs.find(caller.signoff.database, ref, number), with_report=True)


def _told(caller: Caller, job: Job, *, with_report: bool) -> JobAnswer:
    found = recorded(caller.signoff.database, job.completed_seq) if job.completed_seq else None
    return JobAnswer(
        name=job.ref.name,
        version=job.ref.version,
        number=job.seq,
        state=job.state.value,
        step=job.step,
        share=job.share,
        asked_by=job.asked_by,
        asked_at=job.asked_at,
        consent=job.consent,
        ended_at=job.ended_at,
        error=job.error,
        log=[Line(at=at, words=words) for at, words in job.log],
        event=job.completed_seq,
        run_id=job.run_id if found else None,
        summary=sentence(found.report) if found else None,
        report=found.report.as_json() if found and with_report else None,
    )
