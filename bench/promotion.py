"""What the gate costs: a promotion end to end against the two calls of MLflow's that it stands in front of."""

from __future__ import annotations

import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path

from mlflow import MlflowClient

from bench.measure import Figure, once, timed
from bench.server import mlflow
from services.domain import Source
from services.verbs import releases
from tests.arena import Arena, register

TURNS = 15
TAGS, LENGTH = 3_900, 8_000
"""31 MB of tags on one version, as long as MLflow keeps them."""
GOAL_TAGS_MS = 10_000.0


def figures(folder: Path) -> list[Figure]:
    """`releases.promote` of an approved version, until its tags are written, and the two raw calls, in turns.

    Raw: ``transition_model_version_stage`` with ``archive_existing_versions`` and ``set_registered_model_alias``, on
    another model of the same server with the same files. Submission and approval before it are not timed.
    """
    print(f"Promotion: {TURNS} turns …")
    with mlflow(folder / "mlflow.db", folder) as uri:
        arena = Arena.build(folder, uri, f"sqlite:///{folder / 'signoff.db'}", versions=2)
        register(uri, "raw", 2)
        client = MlflowClient(uri, uri)
        gated: list[float] = []
        raw: list[float] = []
        calls: list[int] = []
        for turn in range(TURNS + 1):
            challenger = arena.approve(next(version for version in arena.versions if version != arena.champion()))
            before, begun = arena.signoff.registry.calls, time.perf_counter()
            releases.promote(
                arena.signoff, challenger, by="release_manager", reason="Fewer misses.", source=Source.BROWSER
            )
            gated.append(time.perf_counter() - begun)
            calls.append(arena.signoff.registry.calls - before)
            begun = time.perf_counter()
            number = str(1 + turn % 2)
            client.transition_model_version_stage("raw", number, "Production", archive_existing_versions=True)
            client.set_registered_model_alias("raw", "champion", number)
            raw.append(time.perf_counter() - begun)
        tagged = [_with_tags(arena, folder / "mlflow.db", whose) for whose in ("candidate", "champion")]
        arena.assert_consistent()
        arena.signoff.database.engine.dispose()
    whole = timed("promotion: through the gate", gated[1:])
    return [
        Figure(what=whole.what, median=whole.median, worst=whole.worst, calls=max(calls[1:])),
        timed("promotion: MLflow's two calls", raw[1:]),
        once("promotion: gate / two calls", statistics.median(gated[1:]) / statistics.median(raw[1:]), "x"),
        *tagged,
    ]


def _with_tags(arena: Arena, database: Path, whose: str) -> Figure:
    """One promotion while one of the two versions has 31 MB of tags; MLflow needs minutes to write them, so we do."""
    champion = arena.champion()
    candidate = next(version for version in arena.versions if version != champion)
    version = {"candidate": candidate, "champion": champion}[whose]
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        rows = [(arena.name, version, f"bench {number}", "x" * LENGTH) for number in range(TAGS)]
        into = "INSERT INTO model_version_tags (workspace, name, version, key, value) VALUES ('default', ?, ?, ?, ?)"
        connection.executemany(into, rows)
    arena.approve(candidate)
    before, begun = arena.signoff.registry.calls, time.perf_counter()
    releases.promote(
        arena.signoff, arena.ref(candidate), by="release_manager", reason="Fewer misses.", source=Source.BROWSER
    )
    seconds, calls = time.perf_counter() - begun, arena.signoff.registry.calls - before
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.execute("DELETE FROM model_version_tags WHERE key LIKE 'bench %'")
    return once(f"promotion: 31 MB of tags on the {whose}", seconds * 1000, "ms", calls, limit=GOAL_TAGS_MS)
