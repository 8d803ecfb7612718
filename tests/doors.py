"""How each door is asked for something, by somebody, in this process: what is refused comes back as words."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import pytest

from commands import main, remote
from services.accounts import keeping, people
from services.desk import Request
from services.domain import Role, Source
from services.errors import NotAllowed
from services.messaging import outbox
from services.settings import PROJECT
from services.signoff import Signoff
from tests.fakes import FakeRegistry
from tests.outside import do
from tests.outside import stage as moved
from tests.pages import opened, text
from tests.rest import V1, Rest, refused
from tests.verbs import desk

POLICY = (PROJECT / "policies" / "default.yaml").read_text()


@dataclass(frozen=True)
class World:
    """What the doors open on."""

    signoff: Signoff
    registry: FakeRegistry
    rest: Rest


Ask = Callable[[World, Request, str], str | None]
"""Asks for what a request says, as somebody; the refusal in words, or None when it was done."""


def by_click(world: World, request: Request, by: str) -> str | None:
    """What a page does with a request that was confirmed."""
    return _or_words(lambda: desk.perform(world.signoff, request, by=by))


def by_opening(world: World, request: Request, by: str) -> str | None:
    """A page, which everybody may open who has a role."""
    at = opened(world.signoff, by, "messages")
    assert not at.exception
    return text(at) if at.error else None


def by_retrying(world: World, request: Request, by: str) -> str | None:
    """The button on the page Messages."""
    return _or_words(lambda: outbox.retry(world.signoff.database, request.finding, by=by, at=world.signoff.now()))


def by_keeping(world: World, request: Request, by: str) -> str | None:
    """The form on the page People."""
    signoff, name = world.signoff, f"made by {by}"
    asked = {"username": name, "name": name, "roles": [Role.VIEWER], "hashed": "!", "at": signoff.now()}
    actor = people.acting(signoff.database, by, Source.BROWSER)
    return _or_words(lambda: keeping.add(signoff.database, by=actor, **asked))


@dataclass(frozen=True)
class Posted:
    """A POST to a path below the version, or from ``/`` on."""

    path: str
    body: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, world: World, request: Request, by: str) -> str | None:
        ref, whole = request.ref, self.path.startswith("/")
        path = self.path if whole else f"/models/{{name}}/versions/{{version}}/{self.path}"
        place = path.format(name=ref.name, version=ref.version, number=_number(request))
        body = dict(self.body) if whole else {"comment": request.words, **self.body}
        if self.path.endswith("rollback"):
            body["version"] = str(ref.version)
        return _answered(world.rest.post(place, token=world.rest.secret(by), **body))


@dataclass(frozen=True)
class Got:
    """A GET."""

    path: str

    def __call__(self, world: World, request: Request, by: str) -> str | None:
        return _answered(world.rest.get(self.path, by))


class Typed:
    """A command; exit code 1 is a refusal, and anything but that and 0 a mistake of the test."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __call__(self, world: World, request: Request, by: str) -> str | None:
        known = {"name": request.ref.name, "version": request.ref.version, "number": _number(request)}
        told, code = io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stderr(told), redirect_stdout(io.StringIO()):
            patch.setenv("SIGNOFF_TOKEN", world.rest.secret(by))
            patch.setattr(remote.requests, "request", _sent(world))
            try:
                main([word.format(**known) for word in self.words])
            except SystemExit as left:
                code = int(left.code or 0)
        assert code in {0, 1}, told.getvalue()
        return told.getvalue() if code else None


def transition(stage: str) -> Ask:
    """A stage set with MLflow's own client, which the hook asks about."""

    def ask(world: World, request: Request, by: str) -> str | None:
        archive = stage == "Production"
        call = moved(world.registry, request.ref.version, stage, archive=archive, name=request.ref.name, user=by)
        answer = do(world.signoff, world.registry, call)
        return None if answer.allowed else answer.reason

    return ask


def _number(request: Request) -> int:
    return request.finding or request.validation


def _or_words(act: Callable[[], object]) -> str | None:
    try:
        act()
    except NotAllowed as error:
        return str(error)
    return None


def _answered(answer: Any) -> str | None:
    return None if answer.status_code in {200, 202} else refused(answer, 403, "PERMISSION_DENIED")


def _sent(world: World) -> Callable[..., Any]:
    """`requests.request`, without the socket."""

    def send(method: str, url: str, *, timeout: object, allow_redirects: bool, **more: Any) -> Any:
        return world.rest.client.request(method, V1 + url.partition(V1)[2], **more)

    return send
