"""What the gate costs: a promotion end to end against the two calls of MLflow's that it stands in front of."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from mlflow import MlflowClient

from bench.measure import Figure, once, timed
from bench.server import mlflow
from services.verbs import releases
from tests.arena import Arena, register

TURNS = 15


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
            releases.promote(arena.signoff, challenger, by="release_manager", reason="Fewer misses.")
            gated.append(time.perf_counter() - begun)
            calls.append(arena.signoff.registry.calls - before)
            begun = time.perf_counter()
            number = str(1 + turn % 2)
            client.transition_model_version_stage("raw", number, "Production", archive_existing_versions=True)
            client.set_registered_model_alias("raw", "champion", number)
            raw.append(time.perf_counter() - begun)
        arena.assert_consistent()
        arena.signoff.database.engine.dispose()
    whole = timed("promotion: through the gate", gated[1:])
    return [
        Figure(what=whole.what, median=whole.median, worst=whole.worst, calls=max(calls[1:])),
        timed("promotion: MLflow's two calls", raw[1:]),
        once("promotion: gate / two calls", statistics.median(gated[1:]) / statistics.median(raw[1:]), "x"),
    ]
