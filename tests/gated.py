"""A real MLflow server with the hook, a real gate for it to ask, and a proxy between the two that can break."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from mlflow import MlflowClient
from starlette.applications import Starlette

from api.admissions import admission_routes
from mlflow_gate.__main__ import main
from services.domain import VersionRef
from services.mlflow.registry import MlflowRegistry
from services.signoff import Signoff
from stack.hook import python_path
from tests.conftest import add_people, free_port, http_ok, settings_in, wait_until
from tests.ledgers import record
from tests.proxy import FaultyProxy, between

TOKEN = "the token of the hook, for tests only"
PATIENCE = 8.0
"""Seconds the hook waits for an answer."""


@contextmanager
def mlflow_server(
    folder: Path, gate: str, *arguments: str, app: str = "signoff", workers: int = 1, **environ: str
) -> Iterator[str]:
    """An MLflow server whose hook asks ``gate``; yields its URL. Without an ``app`` it has no hook."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *(("--app-name", app) if app else ()),
        *("--workers", str(workers), "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts"), *arguments),
    ]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("SIGNOFF", "MLFLOW_TRACKING"))},
        "PYTHONPATH": python_path(folder / "hook"),
        "SIGNOFF_GATE_URL": gate,
        "SIGNOFF_GATE_TOKEN": TOKEN,
        "SIGNOFF_GATE_SECONDS": str(PATIENCE),
        "SIGNOFF_GATE_NAMES": str(folder / "names.json"),
        **environ,
    }
    with (folder / "server.log").open("a") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: http_ok(f"{url}/health") or http_ok(f"{url}/x/health"), "MLflow")
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        server.wait(timeout=20)


def asks(_method: str, path: str) -> bool:
    """Whether the hook asks Signoff something; which names are protected it reads every half minute by itself."""
    return not path.endswith("/names")


def logged_in(url: str, login: str) -> str:
    """A URL with name and password in it, which MLflow's client sends along."""
    return url.replace("://", f"://{login}@", 1) if login else url


@contextmanager
def served(app: Starlette, port: int) -> Iterator[None]:
    """An application of ours, in this process."""
    config = uvicorn.Config(app, port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the gate")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@dataclass(frozen=True)
class Gated:
    """The hook's MLflow server, the gate's Signoff, and the proxy between them."""

    url: str
    signoff: Signoff
    proxy: FaultyProxy
    artifacts: Path

    @property
    def client(self) -> MlflowClient:
        """Anybody's own client."""
        return MlflowClient(self.url, self.url)

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """A raw request."""
        return httpx.request(method, f"{self.url}{path}", timeout=60, **more)

    def stages(self, name: str) -> dict[int, str]:
        """Version → stage, as MLflow has them."""
        return {int(v.version): v.current_stage for v in self.client.search_model_versions(f"name='{name}'")}

    def aliases(self, name: str) -> dict[str, int]:
        """Alias → version, as MLflow has them."""
        return {alias: int(v) for alias, v in self.client.get_registered_model(name).aliases.items()}

    def tags(self, name: str, version: int) -> dict[str, str]:
        """The tags of a version."""
        return dict(self.client.get_model_version(name, str(version)).tags)

    def meaning(self, name: str) -> tuple[Any, ...]:
        """All that Production can mean for a model: who is there, who is called so, and with which bytes."""
        refs = [VersionRef(name=name, version=number) for number in sorted(self.stages(name))]
        digests = [self.signoff.registry.manifest(ref).digest for ref in refs]
        return self.stages(name), self.aliases(name), digests

    def events(self, name: str) -> list[str]:
        """What is recorded about a model, oldest first."""
        return [event.kind.value for event in record(self.signoff) if event.ref and event.ref.name == name]


@contextmanager
def gated(
    folder: Path,
    *arguments: str,
    app: str = "signoff",
    workers: int = 1,
    direct: bool = False,
    login: str = "",
    **environ: str,
) -> Iterator[Gated]:
    """Everything, started.

    Args:
        direct: with nothing between hook and gate.
        login: ``name:password`` with which Signoff itself asks MLflow, where MLflow has a login.
    """
    gate_port = free_port()
    gate = f"http://127.0.0.1:{gate_port}"
    with (
        between(gate) as proxy,
        mlflow_server(folder, gate if direct else proxy.url, *arguments, app=app, workers=workers, **environ) as url,
    ):
        prefix = arguments[arguments.index("--static-prefix") + 1] if "--static-prefix" in arguments else ""
        asked = logged_in(url, login) + prefix
        settings = settings_in(folder / "signoff", SIGNOFF_GATE_TOKEN=TOKEN, MLFLOW_TRACKING_URI=asked)
        signoff = Signoff.wire(settings=settings, registry=MlflowRegistry(asked))
        add_people(signoff)
        assert main(["index", f"sqlite:///{folder / 'mlflow.db'}"]) == 0
        with served(Starlette(routes=admission_routes(signoff)), gate_port):
            yield Gated(url=url + prefix, signoff=signoff, proxy=proxy, artifacts=folder / "artifacts")
        signoff.database.engine.dispose()
