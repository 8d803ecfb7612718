"""The REST door as its clients meet it: the real routes behind the real gate, in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from services.accounts import people, tokens
from services.domain import Source
from services.signoff import Signoff
from tests.conftest import free_port, wait_until
from web.gate import SessionGate
from web.headers import SecurityHeaders
from web.routes import routes

V1 = "/api/v1"
TRANSITION = "/api/2.0/mlflow/transition"


def application(signoff: Signoff) -> Starlette:
    """Everything that answers HTTP but Streamlit."""
    guards = [Middleware(SecurityHeaders, policy="default-src 'self'"), Middleware(SessionGate, signoff=signoff)]
    return Starlette(routes=routes(signoff), middleware=guards)


@contextmanager
def over_http(signoff: Signoff) -> Iterator[str]:
    """The same behind a real socket; gives its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(application(signoff), port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "Signoff")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


class Rest:
    """Calls under ``/api/v1``, as whoever is named; an error inside fails the test."""

    def __init__(self, signoff: Signoff) -> None:
        self.signoff = signoff
        self.client = TestClient(application(signoff), follow_redirects=False)
        self._secrets: dict[str, str] = {}

    def token(self, username: str, name: str = "tests", **scope: Any) -> str:
        """A new token's secret."""
        owner = people.acting(self.signoff.database, username, Source.CLI)
        key, now = self.signoff.settings.secret_key, self.signoff.now()
        return tokens.create(self.signoff.database, key, by=owner, username=username, name=name, at=now, **scope)[0]

    def secret(self, username: str) -> str:
        """The token this person uses in a test."""
        if username not in self._secrets:
            self._secrets[username] = self.token(username)
        return self._secrets[username]

    def get(self, path: str, by: str | None = "viewer", *, token: str | None = None, **query: Any) -> httpx.Response:
        """One GET."""
        return self.client.get(f"{V1}{path}", params=query or None, headers=self._headers(by, token))

    def post(
        self,
        path: str,
        by: str | None = None,
        *,
        token: str | None = None,
        key: str | None = None,
        root: str = V1,
        **body: Any,
    ) -> httpx.Response:
        """One POST of JSON."""
        headers = self._headers(by, token) | ({"Idempotency-Key": key} if key else {})
        return self.client.post(f"{root}{path}", json=body, headers=headers)

    def _headers(self, by: str | None, token: str | None) -> dict[str, str]:
        secret = token or (self.secret(by) if by else None)
        return {"Authorization": f"Bearer {secret}"} if secret else {}


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """The message of a refusal of exactly this shape."""
    assert (answer.status_code, answer.json().get("error_code")) == (status, code), answer.text
    assert set(answer.json()) - {"checks"} == {"error_code", "message"}
    assert answer.headers["content-type"] == "application/json"
    return str(answer.json()["message"])
