"""The Compare page on a real MLflow server: 10 versions × 100 metrics × 10,000 steps against 2 × 10 × 100."""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Param
from mlflow.models import infer_signature
from playwright.sync_api import Page
from sklearn.linear_model import LogisticRegression
from streamlit.testing.v1 import AppTest

from bench.measure import Figure, once, timed
from bench.server import mlflow as server
from components import links, session
from services.accounts import people, sessions
from services.database import Database
from services.domain import Role
from services.mlflow.registry import MlflowRegistry
from services.settings import PROJECT, Settings
from services.signoff import Signoff
from tests.browser import browser, settle
from tests.conftest import free_port, http_ok, wait_until
from web.gate import cookie_name

SIZES = {"small": (2, 10, 100), "large": (10, 100, 10_000)}
"""Versions, metrics, steps."""
TIMES = 7
FIGURES = 6


def figures(folder: Path) -> list[Figure]:
    """How long each takes to open with nothing remembered, their ratio, and what each asks of MLflow."""
    database = folder / "mlflow.db"
    with server(database, folder) as uri:
        runs = {name: _versions(uri, name, size[0]) for name, size in SIZES.items()}
        for name, size in SIZES.items():
            print(f"Compare: writing {size[0]} × {size[1]} × {size[2]:,} values …")
            _history(database, runs[name], *size[1:])
        signoff = Signoff.wire(
            settings=Settings.read({"SIGNOFF_HOME": str(folder / "home"), "SIGNOFF_EMBEDDED": "1"}),
            registry=MlflowRegistry(uri),
        )
        return [*_times(uri, folder), *_calls(signoff)]


def _versions(uri: str, name: str, versions: int) -> list[str]:
    """Registered versions of a real little model, each with a run of its own; the runs' ids."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(name)
    client, made = MlflowClient(uri), []
    client.create_registered_model(name)
    features, target = [[float(n), float(n % 7)] for n in range(50)], [n % 2 for n in range(50)]
    model = LogisticRegression().fit(features, target)
    for number in range(versions):
        with mlflow.start_run() as run:
            info = mlflow.sklearn.log_model(
                model,
                name="model",
                signature=infer_signature(features, model.predict(features)),
                pip_requirements=["scikit-learn"],
                skops_trusted_types=[],
            )
            client.log_batch(run.info.run_id, params=[Param(f"param_{n}", str(number % (n + 2))) for n in range(20)])
            client.create_model_version(
                name, info.model_uri, run_id=run.info.run_id, model_id=info.model_id, await_creation_for=0
            )
            made.append(run.info.run_id)
    return made


def _history(database: Path, runs: list[str], metrics: int, steps: int) -> None:
    """Written past MLflow, in the order of the index: over its API ten million values would take hours."""
    with sqlite3.connect(database, timeout=60) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -500000")  # kilobytes: three indexes are kept
        for number in range(metrics):
            key = f"val_accuracy_{number:03d}"
            connection.executemany(
                "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)",
                (
                    (key, 1 - 1 / (2 + step + rank), 1_700_000_000_000 + step, run, step)
                    for step in range(steps)
                    for rank, run in enumerate(sorted(runs))
                ),
            )
            connection.executemany(
                "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, 0, ?)",
                (
                    (key, 1 - 1 / (2 + steps + rank), 1_700_000_000_000 + steps, steps - 1, run)
                    for rank, run in enumerate(sorted(runs))
                ),
            )


def _calls(signoff: Signoff) -> list[Figure]:
    """What each asks of MLflow, with nothing remembered."""
    people.add_account(signoff.database, username="viewer", name="Vera", hashed="!", roles=[Role.VIEWER])
    token = sessions.open_session(signoff.database, "viewer", signoff.settings.secret_key)
    session.use(signoff)
    at = AppTest.from_file(PROJECT / "components" / "shell.py", default_timeout=120)
    at.user = {"session": sessions.session_key(token, signoff.settings.secret_key)}
    at.run()
    found: list[Figure] = []
    for name, (versions, metrics, steps) in SIZES.items():
        for _ in range(2):  # at first MLflow is also asked which experiments there are
            signoff.reader.forget()
            before = signoff.registry.calls
            at.query_params["versions"] = _link(name)
            at.switch_page(links.PAGES["compare"]).run()
            if at.exception or at.error:
                raise RuntimeError(f"The page does not open: {at.exception or at.error}")
        calls, most = signoff.registry.calls - before, versions + versions + 1
        what = f"MLflow calls, {versions} × {metrics} × {steps:,}: versions and curves"
        found.append(once(what, calls, "", calls, limit=most))
    return found


def _times(uri: str, folder: Path) -> list[Figure]:
    """In a browser, from following a link until the last figure is drawn, with nothing remembered on the server."""
    environ = {
        "SIGNOFF_HOME": str(folder / "browser"),
        "SIGNOFF_PORT": str(free_port()),
        "SIGNOFF_SECRET_KEY": "a key for a benchmark, and for nothing else",
        "MLFLOW_TRACKING_URI": uri,
    }
    settings = Settings.read(environ)
    settings.home.mkdir()
    database = Database.of(settings)
    database.upgrade()
    people.add_account(database, username="viewer", name="Vera", hashed="!", roles=[Role.VIEWER])
    token = sessions.open_session(database, "viewer", settings.secret_key)
    with _dashboard(environ, settings.url, folder), browser() as chrome:
        context = chrome.new_context(viewport={"width": 1440, "height": 5000})
        context.add_cookies([{"name": cookie_name(settings), "value": token, "url": settings.url}])
        page = context.new_page()
        page.set_default_timeout(120_000)
        taken: dict[str, list[float]] = {name: [] for name in SIZES}
        for turn in range(-1, TIMES):
            for name in SIZES:
                seconds = _opened(page, settings.url, name)
                if turn >= 0:
                    taken[name].append(seconds)
    ratio = statistics.median(taken["large"]) / statistics.median(taken["small"])
    return [
        *(timed(f"Compare in a browser: {' × '.join(f'{n:,}' for n in SIZES[name])}", taken[name]) for name in SIZES),
        once("the larger is so many times slower", ratio, "x", limit=2),
    ]


def _link(name: str) -> str:
    return ",".join(f"{name}:{number}" for number in range(1, SIZES[name][0] + 1))


def _opened(page: Page, url: str, name: str) -> float:
    page.goto(f"{url}/history")
    page.locator(".st-key-refresh-registry button").first.dispatch_event("click")  # forgets what is remembered
    settle(page)
    page.wait_for_timeout(1000)
    begun = time.perf_counter()
    page.goto(f"{url}/compare?versions={_link(name)}")
    page.wait_for_function(
        f"() => document.querySelectorAll('.js-plotly-plot .main-svg').length >= {2 * FIGURES}"
        " && !document.body.innerText.includes('curves…')"
    )
    return time.perf_counter() - begun


@contextmanager
def _dashboard(environ: dict[str, str], url: str, folder: Path) -> Iterator[None]:
    with (folder / "dashboard.log").open("w") as log:
        app = subprocess.Popen(
            [sys.executable, str(PROJECT / "app.py")],
            env={**os.environ, **environ},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: http_ok(f"{url}/readyz"), "the dashboard", seconds=120)
        yield
    finally:
        os.killpg(app.pid, 15)
        app.wait(timeout=20)
