"""The HTTP side of the admissions: who may ask, what a question must hold, and how an answer looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.testclient import TestClient

from api.admissions import PATH, admission_routes
from services import caretaker
from services.domain import VersionRef
from services.signoff import Signoff
from services.steps import intents
from services.tables import intents as intents_table
from services.tables import promotions
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.outside import carry_out
from tests.test_releases import lease_runs_out
from tests.verbs import releases, reviews

TOKEN = "a token for tests"
PROMOTION = {"kind": "stage", "name": "m", "version": 2, "stage": "Production", "archive_existing": True}


@pytest.fixture
def http(signoff: Signoff) -> Iterator[TestClient]:
    """As the hook asks."""
    with_token = replace(signoff, settings=replace(signoff.settings, gate_token=TOKEN))
    with TestClient(Starlette(routes=admission_routes(with_token))) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield client


@pytest.fixture
def ready(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 2 of a model whose version 1 serves, approved."""
    for number, auc in ((1, 0.92), (2, 0.95)):
        ref = registry.add_version("m", {"val_auc": auc})
        reviews.submit(signoff, ref, by="scientist", comment="Please review.")
        reviews.approve(signoff, ref, by="reviewer", comment="Looks right.")
        if number == 1:
            releases.promote(signoff, ref, by="release_manager", reason="First release.")
    return ref


def question(registry: FakeRegistry, **change: Any) -> dict[str, Any]:
    model = registry._models["m"]

    def ms(moment: Any) -> int:
        return int(moment.timestamp() * 1000)

    return {
        "protocol": 1,
        "user": None,
        "intent": None,
        "patience": 30.0,
        "workspace": "default",
        "change": {
            "kind": "stage",
            "name": "m",
            "version": 2,
            "stage": "Production",
            "archive_existing": True,
            **change,
        },
        "models": [
            {
                "name": "m",
                "created": ms(model.created_at),
                "updated": ms(model.updated_at),
                "tags": {},
                "aliases": dict(model.aliases),
                "versions": [
                    {
                        "version": v.ref.version,
                        "created": ms(v.created_at),
                        "updated": ms(v.updated_at),
                        "stage": v.stage,
                        "source": v.source,
                        "run_id": v.run_id,
                        "tags": {},
                    }
                    for v in registry._of("m")
                ],
            }
        ],
    }


def test_a_promotion_is_prescribed_made_and_told(
    signoff: Signoff, registry: FakeRegistry, http: TestClient, ready: VersionRef
) -> None:
    answer = http.post(PATH, json=question(registry))
    assert answer.status_code == 200
    document = answer.json()
    assert document["allowed"] is True
    assert document["prescribed"]["after"]["stages"] == {"1": "Archived", "2": "Production"}
    with signoff.database.reading() as connection:
        (intent,) = intents.in_flight(connection)
    carry_out(registry, intent.change)
    told = http.post(f"{PATH}/{document['intent']}/outcome", json={"protocol": 1, "outcome": "applied"})
    assert told.json()["closed"] == "confirmed"
    assert kinds(signoff)[-1] == "promotion:confirmed"


def test_a_trigger_that_makes_a_promotion_of_a_proposal_makes_nothing_of_it(
    signoff: Signoff, registry: FakeRegistry, http: TestClient, ready: VersionRef
) -> None:
    """Who can write the database has the row of a nameless client's move name a release manager's promotion."""
    if signoff.database.engine.dialect.name != "sqlite":
        pytest.skip("The trigger is SQLite's; what is read is the same.")
    promoted = next(event.seq for event in record(signoff) if event.kind.value == "promotion:intended")
    registry.add_version("m", {"val_auc": 0.99})
    with signoff.database.writing() as connection:
        connection.exec_driver_sql(
            f"CREATE TRIGGER forged AFTER INSERT ON intents BEGIN UPDATE intents SET opened_seq = {promoted} "
            "WHERE id = NEW.id; END"
        )
        rows = connection.execute(sa.select(promotions)).all()
    before, shown = kinds(signoff), [version.stage for version in registry._of("m")]
    answer = http.post(PATH, json=question(registry, version=3, stage="Staging", archive_existing=False)).json()
    assert answer["allowed"] is False
    assert "somebody changed that row" in answer["reason"]
    assert "prescribed" not in answer
    opened = record(signoff)[len(before)]
    told = http.post(f"{PATH}/{opened.body['intent']}/outcome", json={"protocol": 1, "outcome": "applied"})
    assert told.status_code == 409
    assert "somebody changed that row" in told.json()["detail"]
    lease_runs_out(signoff)
    caretaker.tidy(signoff)
    assert kinds(signoff)[len(before) :] == ["submission:intended"]
    assert (opened.actor, opened.body["source"]) == ("mlflow-client", "mlflow_client")
    assert [version.stage for version in registry._of("m")] == shown
    with signoff.database.reading() as connection:
        assert connection.execute(sa.select(promotions)).all() == rows


def test_the_row_of_an_intent_repeats_nothing_that_its_event_says() -> None:
    assert set(intents_table.c.keys()) == {"id", "model", "token", "state", "opened_seq"}


def test_no_answer_waits_for_a_thread_that_belongs_to_pages_and_rest(
    registry: FakeRegistry, http: TestClient, ready: VersionRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_is_free(*_: object) -> None:
        pytest.fail("a thread of everybody's was asked for")

    monkeypatch.setattr("fastapi.dependencies.utils.run_in_threadpool", none_is_free)
    monkeypatch.setattr("fastapi.routing.run_in_threadpool", none_is_free)
    assert http.post(PATH, json=question(registry)).json()["allowed"] is True
    assert http.get(f"{PATH}/names").status_code == 200


def test_a_refusal_carries_its_checks(registry: FakeRegistry, http: TestClient, ready: VersionRef) -> None:
    registry.add_version("m", {"val_auc": 0.1})
    document = http.post(PATH, json=question(registry, version=3)).json()
    assert document["allowed"] is False
    assert {check["id"] for check in document["checks"] if not check["passed"]} >= {"submitted", "approvals"}
    assert document["where"].endswith("name=m&version=3")


@pytest.mark.parametrize("sent", ["", "Bearer ", "Bearer wrong", TOKEN, f"Basic {TOKEN}"])
def test_only_the_mlflow_server_may_ask(
    signoff: Signoff, registry: FakeRegistry, http: TestClient, ready: VersionRef, sent: str
) -> None:
    before = kinds(signoff)
    for method, path in (("POST", PATH), ("GET", f"{PATH}/names"), ("POST", f"{PATH}/x/outcome")):
        answer = http.request(method, path, json=question(registry), headers={"Authorization": sent})
        assert answer.status_code == 401
    assert kinds(signoff) == before


def test_nobody_may_where_there_is_no_token(signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
    with TestClient(Starlette(routes=admission_routes(signoff))) as client:
        for sent in ("Bearer ", "Bearer"):
            assert client.get(f"{PATH}/names", headers={"Authorization": sent}).status_code == 401


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 9},
        {"version": None},
        {"version": "2"},
        {"version": 0},
        {"name": "n"},
        {"kind": "anything"},
        {"unknown": 1},
        {"archive_existing": "yes"},
    ],
)
def test_a_question_that_makes_no_sense_is_an_error_and_no_answer(
    signoff: Signoff, registry: FakeRegistry, http: TestClient, ready: VersionRef, wrong: dict[str, Any]
) -> None:
    before = kinds(signoff)
    assert http.post(PATH, json=question(registry, **wrong)).status_code == 422
    assert kinds(signoff) == before


def test_the_protected_names_are_told_in_lower_case(http: TestClient) -> None:
    names = {"aliases": ["challenger", "champion"], "model_tags": ["task"], "experiments": []}
    assert http.get(f"{PATH}/names").json() == {"protocol": 1, **names}


def test_what_became_of_nothing_is_unknown(http: TestClient) -> None:
    answer = http.post(f"{PATH}/{'0' * 32}/outcome", json={"protocol": 1, "outcome": "applied"})
    assert answer.status_code == 404
