"""Who calls: the bearer token of a request, as an account with the roles of this moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import BoundedSemaphore
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from services.accounts import permissions, tokens
from services.accounts.tokens import Bearer
from services.domain import Action, Source
from services.errors import RegistryUnavailable, Unauthenticated
from services.signoff import Signoff
from services.verbs.common import refusals_recorded
from web.attempts import WrongTokens, client_of

MLFLOW_CALLS_AT_ONCE = 16
"""Requests that may wait for MLflow at one time, of the 40 that are served: with MLflow away, other reads still are."""

_scheme = HTTPBearer(auto_error=False, description="A token made with `signoff token create NAME --user USERNAME`.")


@dataclass(frozen=True)
class Door:
    """What all requests share; one for each app, in its state."""

    signoff: Signoff
    free: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MLFLOW_CALLS_AT_ONCE))
    wrong: WrongTokens = field(default_factory=WrongTokens)


@dataclass(frozen=True)
class Caller:
    """Who sent a request."""

    door: Door
    bearer: Bearer

    @property
    def signoff(self) -> Signoff:
        """What is asked."""
        return self.door.signoff

    @property
    def username(self) -> str:
        """The account."""
        return self.bearer.actor.username

    def require(self, action: Action, model: str | None, *, filtered: bool = False) -> None:
        """Raise `NotAllowed`, and record it, unless role and token allow it.

        ``model`` is None for what concerns all of them; ``filtered`` says that only those the token is for are shown.
        """
        actor, scope = self.bearer.actor, self.bearer.scope
        with refusals_recorded(self.signoff, "access", actor, None):
            (replace(scope, models=()) if filtered else scope).require(action, model)
            permissions.require(actor, action)

    @contextmanager
    def asking_mlflow(self) -> Iterator[None]:
        """Hold one of the few places for what waits for MLflow; raises `RegistryUnavailable` when all are taken."""
        if not self.door.free.acquire(blocking=False):
            raise RegistryUnavailable(
                f"{MLFLOW_CALLS_AT_ONCE} requests are waiting for MLflow already; nothing was changed, ask again soon."
            )
        try:
            yield
        finally:
            self.door.free.release()


def _caller(request: Request, sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]) -> Caller:
    door: Door = request.app.state.door
    signoff = door.signoff
    secret = sent.credentials.strip() if sent else ""
    client = client_of(request)
    door.wrong.require_patience(client, secret)
    try:
        found = tokens.bearer(signoff.database, secret, signoff.settings.secret_key, Source.REST)
    except Unauthenticated:
        if secret.startswith(tokens.PREFIX):  # else it was not even looked up
            door.wrong.note(client, secret, right=False)
        raise
    door.wrong.note(client, secret, right=True)
    return Caller(door, found)


ByBearer = Annotated[Caller, Depends(_caller)]
"""How an endpoint asks for its caller."""
