"""One registered model on a real MLflow server and a real database, fought over in rounds, and what must hold after."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import pandas as pd
import sqlalchemy as sa

from services import caretaker
from services.database import database_time
from services.domain import Stage, VersionRef
from services.record import ledger, mirror
from services.settings import PROJECT, Settings
from services.signoff import Signoff
from services.steps import slots
from services.steps.intents import in_flight
from services.tables import processes
from services.tables import slots as slots_table
from tests.conftest import add_people
from tests.ledgers import record
from tests.verbs import releases, reviews

ROUNDS = int(os.environ.get("SIGNOFF_ROUNDS", "8"))
"""Random kills, races and faults, so many of each: a few in ``make test``, a thousand in ``make soak``."""
QUARTER, HALF = math.ceil(ROUNDS / 4), math.ceil(ROUNDS / 2)
"""What falls to one of the four, or two, tests that share the rounds of a kind: by database, and by verb or rival."""
Tally = dict[str, Counter[str]]
"""How often what was done ended how: what → ending → times."""


def print_tally(title: str, tally: Tally) -> None:
    """What happened in all rounds of one kind, for whoever reads ``make soak``."""
    total = sum(tally.values(), Counter[str]())
    lines = [f"{title}: {total.total()} rounds: {_counts(total)}"]
    width = max(map(len, tally), default=0)
    lines += [f"  {what:{width}}  {_counts(endings)}" for what, endings in sorted(tally.items())]
    print("\n" + "\n".join(lines))  # noqa: T201


def _counts(endings: Counter[str]) -> str:
    return ", ".join(f"{ending} {times}" for ending, times in endings.most_common())


class Doomed:
    """The process that forks those that may be killed; see tests/doomed.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore::FutureWarning", "-m", "tests.doomed"],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *jobs: dict[str, Any]) -> list[dict[str, Any]]:
        """Run the jobs at the same moment, each in a process of its own; returns what became of each."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(jobs) + "\n")
        self._process.stdin.flush()
        answers: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return answers

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=20)


@contextmanager
def doomed() -> Iterator[Doomed]:
    """Start it, and end it."""
    process = Doomed()
    try:
        yield process
    finally:
        process.close()


class _Constant(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[float]) -> list[float]:
        return [0.0 for _ in model_input]


def register(server: str, name: str, versions: int) -> list[int]:
    """Train one tiny model on the server, and register it that many times; returns the version numbers."""
    mlflow.set_tracking_uri(server)
    holdout = mlflow.data.from_pandas(pd.DataFrame({"x": [1.0, 2.0]}), name="holdout")
    with mlflow.start_run():
        model = mlflow.pyfunc.log_model(
            name="model", python_model=_Constant(), input_example=[1.0, 2.0], pip_requirements=["mlflow"]
        )
        mlflow.log_input(holdout, context="eval")
        mlflow.log_metric("val_auc", 0.95)
    return [int(mlflow.register_model(model.model_uri, name).version) for _ in range(versions)]


@dataclass(frozen=True)
class Arena:
    """A model with several equally good versions, the first of them released."""

    signoff: Signoff
    environment: dict[str, str]
    name: str
    versions: tuple[int, ...]

    @classmethod
    def build(cls, folder: Path, server: str, database_url: str, *, versions: int) -> Arena:
        environment = {
            "SIGNOFF_HOME": str(folder),
            "MLFLOW_TRACKING_URI": server,
            "SIGNOFF_DATABASE_URL": database_url,
            "SIGNOFF_SECRET_KEY": "s" * 32,
        }
        name = f"arena_{uuid4().hex[:8]}"
        numbers = tuple(register(server, name, versions))
        signoff = Signoff.open(Settings.read(environment))
        add_people(signoff)
        arena = cls(signoff=signoff, environment=environment, name=name, versions=numbers)
        arena.approve(numbers[0])
        releases.promote(signoff, arena.ref(numbers[0]), by="release_manager", reason="First release.")
        return arena

    @property
    def database(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.signoff.database.engine.dialect.name

    def ref(self, version: int) -> VersionRef:
        return VersionRef(name=self.name, version=version)

    def approve(self, version: int) -> VersionRef:
        """Have it submitted and approved, as far as that is not so already."""
        reviews.submit(self.signoff, self.ref(version), by="scientist", comment="Please review.")
        reviews.approve(self.signoff, self.ref(version), by="reviewer", comment="Looks right.")
        return self.ref(version)

    def champion(self) -> int:
        """The one version in Production; its alias must agree."""
        serving = [v.ref.version for v in self.signoff.registry.versions(self.name) if v.stage == Stage.PRODUCTION]
        assert len(serving) == 1, f"in Production: {serving}"
        assert self.signoff.registry.model(self.name).aliases.get("champion") == serving[0]
        return serving[0]

    def job(self, verb: str, version: int, **death: float | str | None) -> dict[str, Any]:
        return {"verb": verb, "name": self.name, "version": version, "environment": self.environment, **death}

    def recover(self) -> None:
        """What happens once the lease of a dead process has run out, without waiting for that."""
        with self.signoff.database.writing() as connection:
            connection.execute(slots_table.update().values(expires_at=0.0))
        caretaker.tidy(self.signoff)

    def process_dies(self, process: str) -> None:
        """What happens once a process was not heard of for long enough, without waiting for that."""
        dead = processes.update().where(processes.c.process == process).values(alive_until=database_time())
        with self.signoff.database.writing() as connection:
            assert connection.execute(dead).rowcount == 1
            left = slots_table.c.expires_at - database_time()
            lease = connection.execute(sa.select(left).where(slots_table.c.model == self.name)).scalar_one()
        assert lease > slots.LEASE_SECONDS / 2
        caretaker.tidy(self.signoff)

    def marker(self) -> int:
        """The sequence number of the newest event."""
        return record(self.signoff)[-1].seq

    def since(self, marker: int) -> list[str]:
        """What was recorded after `marker`."""
        return [event.kind.value for event in record(self.signoff) if event.seq > marker]

    def assert_consistent(self) -> int:
        """Everything that holds whenever nothing is under way; returns the champion."""
        champion, events = self.champion(), record(self.signoff)
        with self.signoff.database.reading() as connection:
            assert ledger.broken_at(connection) is None
            assert in_flight(connection) == []
            assert connection.execute(sa.select(sa.func.count()).select_from(mirror.mirror_jobs)).scalar() == 0
        intended = [event.body["intent"] for event in events if event.kind.outcome == "intended"]
        closed = [event.body["closes"] for event in events if event.body["closes"]]
        assert sorted(intended) == sorted(closed), "each intent is closed exactly once"
        released = [e for e in events if e.kind.value in {"promotion:confirmed", "rollback:confirmed"}]
        assert [r.seq for r in reversed(releases.releases(self.signoff, self.name, limit=100_000))] == [
            e.seq for e in released
        ]
        assert released[-1].ref == self.ref(champion), "the last confirmed release serves"
        for version in self.signoff.registry.versions(self.name):
            with self.signoff.database.reading() as connection:
                wanted = mirror.prescribed(connection, version.ref, version.identity)
            shown = {key: value for key, value in version.tags.items() if key in mirror.OURS}
            assert shown == wanted, f"tags of v{version.ref.version}"
        slot = slots.take(self.signoff.database, self.name, holder="test", purpose="seeing that it is free")
        with self.signoff.database.writing() as connection:
            slots.release(connection, slot)
        return champion
