"""MLflow's webhooks: only what is signed for this body, now and once, hastens a refresh; nothing else does anything."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from mlflow import MlflowClient
from starlette.testclient import TestClient

from api.webhooks import router
from services.errors import BadInput, Refused
from services.messaging import webhooks
from services.messaging.webhooks import BadSignature
from services.signoff import Signoff
from tests.conftest import BOTH, Clock, settings_in, wait_until
from tests.fakes import FakeRegistry
from tests.gated import mlflow_server
from tests.ledgers import kinds
from tests.rest import over_http

DATABASES = BOTH
SECRET = "webhook-secret"
BODY = json.dumps({"entity": "model_version", "action": "created", "data": {"name": "m", "version": "1"}}).encode()


@pytest.fixture
def receiving(signoff: Signoff, clock: Clock) -> Signoff:
    """Signoff with a webhook secret and a snapshot that counts its hints."""
    told = replace(signoff, settings=replace(signoff.settings, webhook_secret=SECRET), now=lambda: clock.now)
    hints: list[str | None] = []
    told.snapshot.hasten = hints.append  # type: ignore[method-assign]
    told.snapshot.hints = hints  # type: ignore[attr-defined]
    return told


def hints(signoff: Signoff) -> Any:
    return signoff.snapshot.hints  # type: ignore[attr-defined]


def signed(clock: Clock, body: bytes = BODY, *, delivery: str = "d-1", age: float = 0, secret: str = SECRET) -> Any:
    """The headers MLflow would send with a body."""
    timestamp = str(int(clock.now.timestamp() - age))
    digest = hmac.new(secret.encode(), f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "x-mlflow-delivery-id": delivery,
        "x-mlflow-timestamp": timestamp,
        "x-mlflow-signature": "v1," + base64.b64encode(digest).decode(),
    }


FORGERIES = {
    "no headers": {"x-mlflow-signature": "", "x-mlflow-delivery-id": "", "x-mlflow-timestamp": ""},
    "no signature": {"x-mlflow-signature": ""},
    "another scheme": {"x-mlflow-signature": "v2,AAAA"},
    "not base64": {"x-mlflow-signature": "v1,%%%"},
    "empty signature": {"x-mlflow-signature": "v1,"},
    "another delivery": {"x-mlflow-delivery-id": "d-2"},
    "another time": {"x-mlflow-timestamp": "1793523661"},
    "a time that is none": {"x-mlflow-timestamp": "soon"},
    "a time that is huge": {"x-mlflow-timestamp": "9" * 400},
    "letters beyond ASCII": {"x-mlflow-signature": "v1,ä", "x-mlflow-timestamp": "１２"},
}


class TestReceived:
    @pytest.mark.postgresql
    def test_a_genuine_one_hastens_a_refresh_and_records_nothing(self, receiving: Signoff, clock: Clock) -> None:
        assert webhooks.received(receiving, signed(clock), BODY)
        assert hints(receiving) == ["m"]
        assert kinds(receiving) == []

    def test_as_mlflow_itself_signs(self, receiving: Signoff, clock: Clock) -> None:
        from mlflow.webhooks.delivery import _generate_hmac_signature

        headers = signed(clock)
        headers["x-mlflow-signature"] = _generate_hmac_signature(
            SECRET, "d-1", headers["x-mlflow-timestamp"], BODY.decode()
        )
        assert webhooks.received(receiving, headers, BODY)

    @pytest.mark.parametrize("wrong", FORGERIES.values(), ids=FORGERIES.keys())
    def test_a_forgery_does_nothing(self, receiving: Signoff, clock: Clock, wrong: dict[str, str]) -> None:
        with pytest.raises(BadSignature):
            webhooks.received(receiving, {**signed(clock), **wrong}, BODY)
        assert hints(receiving) == []

    def test_another_body_or_secret_does_nothing(self, receiving: Signoff, clock: Clock) -> None:
        with pytest.raises(BadSignature):
            webhooks.received(receiving, signed(clock), BODY + b" ")
        with pytest.raises(BadSignature):
            webhooks.received(receiving, signed(clock, secret="other"), BODY)
        assert hints(receiving) == []

    @pytest.mark.parametrize("age", [301, 86_400, -301])
    def test_one_from_another_time_does_nothing(self, receiving: Signoff, clock: Clock, age: float) -> None:
        with pytest.raises(BadSignature):
            webhooks.received(receiving, signed(clock, age=age), BODY)
        assert hints(receiving) == []

    @pytest.mark.parametrize("age", [299, -299])
    def test_one_within_five_minutes_counts(self, receiving: Signoff, clock: Clock, age: float) -> None:
        assert webhooks.received(receiving, signed(clock, age=age), BODY)

    def test_a_replay_does_nothing_also_on_another_dashboard(self, receiving: Signoff, clock: Clock) -> None:
        headers = signed(clock)
        assert webhooks.received(receiving, headers, BODY)
        webhooks.forget(receiving)
        assert not webhooks.received(replace(receiving), headers, BODY)
        assert hints(receiving) == ["m"]

    @pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 100_000])
    def test_a_signed_body_that_is_no_object_is_bad_input(self, receiving: Signoff, clock: Clock, body: bytes) -> None:
        with pytest.raises(BadInput):
            webhooks.received(receiving, signed(clock, body), body)
        assert hints(receiving) == []

    @pytest.mark.parametrize("data", [None, 3, {}, {"name": 3}, {"name": ""}])
    def test_one_that_names_no_model_hastens_the_next_pass(
        self, receiving: Signoff, clock: Clock, data: object
    ) -> None:
        body = json.dumps({"data": data}).encode()
        assert webhooks.received(receiving, signed(clock, body), body)
        assert hints(receiving) == [None]

    def test_without_a_secret_none_is_taken(self, signoff: Signoff, clock: Clock) -> None:
        with pytest.raises(Refused, match="SIGNOFF_WEBHOOK_SECRET"):
            webhooks.received(signoff, signed(clock, secret=""), BODY)


class TestRoute:
    @pytest.fixture
    def client(self, receiving: Signoff) -> TestClient:
        app = FastAPI()
        app.state.door = SimpleNamespace(signoff=receiving)
        app.include_router(router)
        return TestClient(app)

    def test_takes_what_is_signed(self, client: TestClient, receiving: Signoff, clock: Clock) -> None:
        answer = client.post("/webhooks/mlflow", content=BODY, headers=signed(clock))
        assert (answer.status_code, answer.json()) == (200, {"new": True})
        assert client.post("/webhooks/mlflow", content=BODY, headers=signed(clock)).json() == {"new": False}
        assert hints(receiving) == ["m"]

    def test_refuses_what_is_not(self, client: TestClient, receiving: Signoff) -> None:
        with pytest.raises(BadSignature):
            client.post("/webhooks/mlflow", content=BODY)
        assert hints(receiving) == []

    def test_reads_no_huge_body(self, client: TestClient, clock: Clock) -> None:
        huge = b"x" * (webhooks.MAX_BODY + 1)
        with pytest.raises(BadInput):
            client.post("/webhooks/mlflow", content=huge, headers=signed(clock, huge))


class TestFromARealServer:
    def test_what_mlflow_sends_itself_is_taken_and_hastens_a_refresh_of_its_model(self, tmp_path: Path) -> None:
        """Set up as the README says; MLflow sends to this machine only where it is told that it may."""
        settings = settings_in(tmp_path / "signoff", SIGNOFF_WEBHOOK_SECRET=SECRET)
        signoff = Signoff.wire(settings=settings, registry=FakeRegistry())
        hints: list[str | None] = []
        signoff.snapshot.hasten = hints.append  # type: ignore[method-assign]
        ours = {
            "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
            "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": base64.urlsafe_b64encode(b"k" * 32).decode(),
        }
        before = kinds(signoff)
        with over_http(signoff) as url, mlflow_server(tmp_path, "", app="", **ours) as mlflow:
            client = MlflowClient(mlflow, mlflow)
            events = ["registered_model.created", "model_version.created", "model_version_alias.created"]
            client.create_webhook("signoff", f"{url}/api/v1/webhooks/mlflow", events, secret=SECRET)
            client.create_registered_model("told")
            wait_until(lambda: hints == ["told"], "the webhook")
        assert kinds(signoff) == before
        signoff.database.engine.dispose()


class TestHaste:
    def test_a_hint_shows_what_a_quick_pass_cannot(self, signoff: Signoff, registry: FakeRegistry) -> None:
        """Aliases move no timestamp in MLflow."""
        ref = registry.add_version("m", {"val_auc": 0.95})
        signoff.snapshot.turn()
        registry.set_alias(ref, "champion")
        signoff.snapshot.turn()
        assert "champion" not in signoff.snapshot.current.models["m"].aliases
        signoff.snapshot.hasten("m")
        signoff.snapshot.turn()
        assert signoff.snapshot.current.models["m"].aliases["champion"] == ref.version

    def test_a_model_that_is_not_there_does_no_harm(self, signoff: Signoff, registry: FakeRegistry) -> None:
        signoff.snapshot.turn()
        signoff.snapshot.hasten("nothing")
        signoff.snapshot.turn()
        assert signoff.snapshot.problem is None
