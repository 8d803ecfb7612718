"""What the hook costs: a gated MLflow server and one without it, asked in turns, and what goes through the gate."""

from __future__ import annotations

import logging
import os
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path

import httpx
from mlflow import MlflowClient

from bench.measure import Figure, in_turns, once, timed
from services.domain import Source, VersionRef
from services.settings import PROJECT
from services.signoff import Signoff
from services.steps import intents
from services.verbs import releases, reviews
from tests.arena import register
from tests.conftest import free_port
from tests.gated import Gated, gated, mlflow_server, served
from tests.rest import Rest, application

NAME = "benched"
TIMES, WARM = 40, 5
PROMOTIONS = 5
DOORS = 4
VERSIONS = 2 + DOORS * (PROMOTIONS + 1)
GOAL_MS = 20.0
"""For a call that matches an open intent or is refused from the ledger alone."""
Call = Callable[[str], httpx.Response]
API = "/api/2.0/mlflow"


def figures(folder: Path) -> Iterator[Figure]:
    """Every figure of the hook, each beside the same call on a server without it."""
    warnings.filterwarnings("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    (folder / "gated").mkdir()
    (folder / "plain").mkdir()
    with (
        gated(folder / "gated", direct=True) as server,
        mlflow_server(folder / "plain", "", app="") as plain,
        httpx.Client(timeout=30) as http,
    ):
        register(server.url, NAME, VERSIONS)
        register(plain, NAME, VERSIONS)
        _approve(server.signoff, 1)
        releases.promote(server.signoff, _ref(1), by="release_manager", reason="First release.", source=Source.BROWSER)
        MlflowClient(plain, plain).transition_model_version_stage(NAME, "1", "Production")
        MlflowClient(plain, plain).set_registered_model_alias(NAME, "champion", "1")
        yield from _unprotected(server, plain, http)
        yield from _protected(server, plain, http)
        yield from _promotions(server, plain)


def _unprotected(server: Gated, plain: str, http: httpx.Client) -> Iterator[Figure]:
    numbers = count()
    calls: dict[str, Call] = {
        "read": lambda url: http.get(f"{url}{API}/registered-models/get?name={NAME}"),
        "free tag": lambda url: http.post(
            f"{url}{API}/model-versions/set-tag", json=_version(2, key="mine", value=str(next(numbers)))
        ),
        "artifact of 1 KB": lambda url: http.put(
            f"{url}/api/2.0/mlflow-artifacts/artifacts/0/bench/{next(numbers)}", content=b"x" * 1024
        ),
    }
    for what, call in calls.items():
        yield from _compared(
            f"hook, {what}",
            {
                "ungated": lambda call=call: call(plain).raise_for_status(),  # type: ignore[misc]
                "gated": lambda call=call: call(server.url).raise_for_status(),  # type: ignore[misc]
            },
        )


def _protected(server: Gated, plain: str, http: httpx.Client) -> Iterator[Figure]:
    def move(url: str, version: int, **headers: str) -> httpx.Response:
        body = _version(version, stage="Production", archive_existing_versions=True)
        return http.post(f"{url}{API}/model-versions/transition-stage", json=body, headers=headers)

    def tag(url: str) -> httpx.Response:
        body = _version(1, key="approval_status", value="mine")
        return http.post(f"{url}{API}/model-versions/set-tag", json=body)

    yield from _compared(
        "hook, never submitted",
        {"ungated": lambda: move(plain, 2).raise_for_status(), "refused": lambda: _refused(move(server.url, 2))},
        limit=GOAL_MS,
    )
    yield from _compared(
        "hook, tag of the record",
        {"ungated": lambda: tag(plain).raise_for_status(), "refused": lambda: _refused(tag(server.url))},
        limit=GOAL_MS,
    )
    _approve(server.signoff, 2)
    opened = releases.promote(
        server.signoff.prescribing, _ref(2), by="release_manager", reason="Bench.", source=Source.BROWSER
    ).event
    intent = str(opened.body["intent"]) if opened else ""
    yield from _compared(
        "hook, matches an open intent",
        {
            "ungated": lambda: move(plain, 2).raise_for_status(),
            "gated": lambda: move(server.url, 2, **{"X-Signoff-Intent": intent}).raise_for_status(),
        },
        limit=GOAL_MS,
    )
    intents.conclude(server.signoff, intent)


def _promotions(server: Gated, plain: str) -> Iterator[Figure]:
    """The same promotion by every door; the command line's begins with the start of its Python."""
    numbers, waiting = count(3), [0]
    outside, ungated = MlflowClient(server.url, server.url), MlflowClient(plain, plain)
    rest, port = Rest(server.signoff), free_port()
    url, secret = f"http://127.0.0.1:{port}", rest.secret("release_manager")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "SIGNOFF_URL": url, "SIGNOFF_TOKEN": secret}

    def prepare() -> None:
        waiting[0] = next(numbers)
        _approve(server.signoff, waiting[0])

    def two_calls() -> None:
        ungated.transition_model_version_stage(NAME, str(waiting[0]), "Production", archive_existing_versions=True)
        ungated.set_registered_model_alias(NAME, "champion", str(waiting[0]))

    def command_line() -> None:
        words = ("promote", NAME, str(waiting[0]), "--reason", "Bench.")
        subprocess.run(
            [sys.executable, str(PROJECT / "cli.py"), *words], env=environment, check=True, stdout=subprocess.DEVNULL
        )

    doors: dict[str, Callable[[], object]] = {
        "MLflow's two calls, ungated": two_calls,
        "an MLflow client, through the hook": lambda: outside.transition_model_version_stage(
            NAME, str(waiting[0]), "Production", archive_existing_versions=True
        ),
        "REST": lambda: httpx.post(
            f"{url}/api/v1/models/{NAME}/versions/{waiting[0]}/promote",
            json={"reason": "Bench."},
            headers={"Authorization": f"Bearer {secret}"},
            timeout=60,
        ).raise_for_status(),
        "the command line": command_line,
    }
    with served(application(server.signoff), port):
        taken = in_turns(doors, times=PROMOTIONS, prepare=prepare)
    for door, seconds in taken.items():
        yield timed(f"promotion by {door}", seconds)


def _compared(what: str, steps: Mapping[str, Callable[[], object]], limit: float | None = None) -> Iterator[Figure]:
    """Two calls in turns, the second of which may take ``limit`` milliseconds, and the second to the first."""
    taken = in_turns(steps, times=TIMES, warm=WARM)
    (first, before), (second, after) = taken.items()
    yield timed(f"{what}: {first}", before)
    yield timed(f"{what}: {second}", after, limit)
    yield once(f"{what}: {second} / {first}", statistics.median(after) / statistics.median(before), "x")


def _refused(answer: httpx.Response) -> None:
    if answer.status_code != 403:
        raise AssertionError(answer.text)


def _version(number: int, **more: object) -> dict[str, object]:
    return {"name": NAME, "version": str(number), **more}


def _approve(signoff: Signoff, version: int) -> None:
    reviews.submit(signoff, _ref(version), by="scientist", comment="Please review.", source=Source.BROWSER)
    reviews.approve(signoff, _ref(version), by="reviewer", comment="Looks right.", source=Source.BROWSER)


def _ref(version: int) -> VersionRef:
    return VersionRef(name=NAME, version=version)
