"""The Registry page on 10,000 models of 10 versions each, behind a real MLflow server."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from streamlit.testing.v1 import AppTest

from bench.measure import Figure, once, repeated
from bench.server import mlflow
from components import links, session
from services.accounts import people, sessions
from services.domain import Role
from services.mlflow.registry import MlflowRegistry
from services.settings import PROJECT, Settings
from services.signoff import Signoff
from services.views import catalogue
from services.views.catalogue import Query, Sort

MAKER = PROJECT.parent / "shared" / "bench" / "big_registry.py"
MODELS = 10_000
LIMIT = 50.0
"""Milliseconds a warm interaction may cost the server."""


def figures(folder: Path) -> list[Figure]:
    """All figures of the big registry; none, with a word why, where there is no database."""
    database = _database(folder)
    if database is None:
        print(f"Big registry: skipped. BENCH_BIG_DB is not set and there is no {MAKER.name} beside the checkout.")
        return []
    with mlflow(database, folder) as uri:
        signoff = Signoff.wire(
            settings=Settings.read({"SIGNOFF_HOME": str(folder / "home"), "SIGNOFF_EMBEDDED": "1"}),
            registry=MlflowRegistry(uri),
        )
        return [*_snapshot(signoff), *_searches(signoff), *_page(signoff)]


def _database(folder: Path) -> Path | None:
    if given := os.environ.get("BENCH_BIG_DB"):
        return Path(given)
    if not MAKER.exists():
        return None
    file = folder / "big.db"
    print(f"Big registry: making {MODELS:,} models of 10 versions, about a minute …")
    subprocess.run([sys.executable, str(MAKER), f"sqlite:///{file}", "--models", str(MODELS)], check=True)
    return file


def _snapshot(signoff: Signoff) -> list[Figure]:
    before, begun = _megabytes(), time.perf_counter()
    snapshot = signoff.snapshot.current
    taken = time.perf_counter() - begun
    size = f"{len(snapshot.models):,} models, {sum(map(len, snapshot.versions.values())):,} versions"
    return [
        once(f"snapshot of {size}", taken, "s", signoff.registry.calls),
        once("memory it takes, at most", _megabytes() - before, "MB"),
    ]


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def _searches(signoff: Signoff) -> list[Figure]:
    begun = time.perf_counter()
    catalogue.search(signoff, Query())
    built = (time.perf_counter() - begun) * 1000
    words = [f"{number:03d} bench" for number in range(30)]
    everything = Query(stage="Production", sort=Sort.CHANGED)
    return [
        once("rows of all models, once a full snapshot", built, "ms"),
        repeated("search in memory", lambda n: catalogue.search(signoff, Query(text=words[n])), limit=10),
        repeated(
            "search with filter and order",
            lambda n: catalogue.search(signoff, replace(everything, text=words[n])),
            limit=10,
        ),
    ]


def _page(signoff: Signoff) -> list[Figure]:
    people.add_account(signoff.database, username="viewer", name="Vera", hashed="!", roles=[Role.VIEWER])
    token = sessions.open_session(signoff.database, "viewer", signoff.settings.secret_key)
    session.use(signoff)
    at = AppTest.from_file(PROJECT / "components" / "shell.py", default_timeout=60)
    at.user = {"session": sessions.session_key(token, signoff.settings.secret_key)}
    at.run()

    def settle() -> None:
        if "models-asked" in at.session_state:
            at.session_state["models-asked"][1].result(timeout=60)
        at.run()  # what the page's own poll does

    def opened(_: int) -> None:
        at.switch_page(links.PAGES["registry"]).run()

    def searched(number: int) -> None:
        at.text_input(key="q").set_value(f"{number + 10:03d}").run()

    def turned(number: int) -> None:
        at.pagination(key="page").set_value(number + 10).run()

    def measured(what: str, step: Callable[[int], object]) -> Figure:
        return repeated(
            f"Registry page: {what}", step, limit=LIMIT, calls=lambda: signoff.registry.calls, settle=settle
        )

    found = [
        measured("open", opened),
        measured("run again, nothing changed", lambda _: at.run()),
        measured("search, 25 rows not seen before", searched),
        measured("the same searches again", searched),
    ]
    at.text_input(key="q").set_value("").run()
    return [*found, measured("turn to a page not seen before", turned)]
