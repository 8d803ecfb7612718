"""What the hook costs: a gated MLflow server beside one without, in one run, and what goes through the gate."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import httpx
from mlflow import MlflowClient

from bench.measure import Figure, repeated
from services import intents, releases, reviews
from services.domain import VersionRef
from services.signoff import Signoff
from tests.arena import register
from tests.gated import Gated, gated, mlflow_server

NAME = "benched"
TIMES = 60
PROMOTIONS = 6
GOAL_MS = 20.0
"""For a call that matches an open intent or is refused from the ledger alone."""
Call = Callable[[httpx.Client, str, int], httpx.Response]
TRANSITION = "/api/2.0/mlflow/model-versions/transition-stage"


def figures(folder: Path) -> Iterator[Figure]:
    """Every figure of the hook, each compared with the same call on a server without it where there is such a call."""
    warnings.filterwarnings("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    (folder / "gated").mkdir()
    (folder / "plain").mkdir()
    with gated(folder / "gated", direct=True) as server, mlflow_server(folder / "plain", "", app="") as plain:
        register(server.url, NAME, 2 + 2 * PROMOTIONS + 4)
        register(plain, NAME, 2)
        _approve(server.signoff, 1)
        releases.promote(server.signoff, _ref(1), by="release_manager", reason="First release.")
        yield from _unprotected(server, plain)
        yield from _protected(server)
        yield from _promotions(server)


def _unprotected(server: Gated, plain: str) -> Iterator[Figure]:
    calls: dict[str, Call] = {
        "free tag": lambda http, url, n: http.post(
            f"{url}/api/2.0/mlflow/model-versions/set-tag",
            json={"name": NAME, "version": "2", "key": "mine", "value": str(n)},
        ),
        "artifact of 1 KB": lambda http, url, n: http.put(
            f"{url}/api/2.0/mlflow-artifacts/artifacts/0/bench/{n}", content=b"x" * 1024
        ),
        "read": lambda http, url, _: http.get(f"{url}/api/2.0/mlflow/registered-models/get?name={NAME}"),
    }
    with httpx.Client(timeout=30) as http:
        for what, call in calls.items():
            for label, url in (("ungated", plain), ("gated", server.url)):

                def step(n: int, url: str = url, call: Call = call) -> None:
                    call(http, url, n).raise_for_status()

                yield repeated(f"MLflow, {what}, {label}", step, times=TIMES, warm=5)


def _protected(server: Gated) -> Iterator[Figure]:
    with httpx.Client(timeout=30) as http:

        def move(version: int, **headers: str) -> httpx.Response:
            body = {"name": NAME, "version": str(version), "stage": "Production", "archive_existing_versions": True}
            return http.post(f"{server.url}{TRANSITION}", json=body, headers=headers)

        def refused(answer: httpx.Response) -> None:
            if answer.status_code != 403:
                raise AssertionError(answer.text)

        def tag(_: int) -> None:
            body = {"name": NAME, "version": "1", "key": "approval_status", "value": "mine"}
            refused(http.post(f"{server.url}/api/2.0/mlflow/model-versions/set-tag", json=body))

        yield repeated("gate, refused: never submitted", lambda _: refused(move(2)), times=TIMES, warm=5, limit=GOAL_MS)
        yield repeated("gate, refused: a tag of the record", tag, times=TIMES, warm=5, limit=GOAL_MS)
        _approve(server.signoff, 2)
        opened = releases.promote(server.signoff.prescribing, _ref(2), by="release_manager", reason="Bench.").event
        intent = str(opened.body["intent"]) if opened else ""
        yield repeated(
            "gate, matches an open intent",
            lambda _: move(2, **{"X-Signoff-Intent": intent}).raise_for_status(),
            times=TIMES,
            warm=5,
            limit=GOAL_MS,
        )
        intents.conclude(server.signoff, intent)


def _promotions(server: Gated) -> Iterator[Figure]:
    numbers = count(3)
    client, waiting = MlflowClient(server.url, server.url), [0]

    def prepare() -> None:
        waiting[0] = next(numbers)
        _approve(server.signoff, waiting[0])

    def outside(_: int) -> None:
        client.transition_model_version_stage(NAME, str(waiting[0]), "Production", archive_existing_versions=True)

    def inside(_: int) -> None:
        releases.promote(server.signoff, _ref(waiting[0]), by="release_manager", reason="Bench.")

    promotions: tuple[tuple[str, Callable[[int], object]], ...] = (
        ("whole promotion from an MLflow client", outside),
        ("whole promotion by our own verb", inside),
    )
    for what, step in promotions:
        prepare()
        yield repeated(what, step, times=PROMOTIONS, warm=1, settle=prepare)


def _approve(signoff: Signoff, version: int) -> None:
    reviews.submit(signoff, _ref(version), by="scientist", comment="Please review.")
    reviews.approve(signoff, _ref(version), by="reviewer", comment="Looks right.")


def _ref(version: int) -> VersionRef:
    return VersionRef(name=NAME, version=version)
