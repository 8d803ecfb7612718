"""How fast the files of a version are read and hashed through MLflow, against the same bytes read in plainer ways."""

from __future__ import annotations

import hashlib
import os
import statistics
from pathlib import Path

import requests

from bench.measure import Figure, in_turns, once
from bench.server import mlflow
from services.domain import VersionRef
from services.mlflow.registry import MlflowRegistry
from tests.arena import register

SIZE = 512 << 20
CHUNK = 1 << 20
TURNS = 7
SHARE = 0.8


def figures(folder: Path) -> list[Figure]:
    """MB a second of four ways to read one file of 512 MB: random bytes, in the page cache, on this machine.

    1. hashlib on the file itself, where the server keeps it.
    2. One plain GET of MLflow's artifact route, thrown away: what its proxy gives at most.
    3. One plain GET of it, each megabyte into hashlib: what anybody would write.
    4. `MlflowRegistry.manifest`: listing, the same GET, hashing, the size compared, progress told.

    Where 2 is slower than 1, nothing that goes through the proxy can be as fast as 1; then the goal is a share of 3.
    """
    print(f"Files: {TURNS} turns of {SIZE >> 20} MB …")
    with mlflow(folder / "mlflow.db", folder) as uri:
        ref = VersionRef(name="large", version=register(uri, "large", 1)[0])
        registry = MlflowRegistry(uri)
        (described,) = (folder / "artifacts").rglob("MLmodel")
        file = described.with_name("weights.bin")
        _fill(file)
        path = file.relative_to(folder / "artifacts").as_posix()
        url = f"{uri}/api/2.0/mlflow-artifacts/artifacts/{path}"
        expected = _local(file)
        assert {entry.path: entry.sha256 for entry in registry.manifest(ref).files}["weights.bin"] == expected
        taken = in_turns(
            {
                "local": lambda: _local(file),
                "get": lambda: _get(url, hashed=False),
                "plain": lambda: _get(url, hashed=True),
                "manifest": lambda: registry.manifest(ref),
            },
            times=TURNS,
        )
    local, get, plain, manifest = (statistics.median(taken[name]) for name in ("local", "get", "plain", "manifest"))
    limited = get > local / SHARE
    return [
        _speed("files: hashlib on the local file", taken["local"]),
        _speed("files: GET through MLflow's proxy, not hashed", taken["get"]),
        _speed("files: GET through MLflow's proxy and hashlib", taken["plain"]),
        _speed("files: manifest", taken["manifest"]),
        once("files: manifest / GET and hashlib", plain / manifest, "x", least=SHARE),
        once("files: manifest / local hashlib", local / manifest, "x", least=None if limited else SHARE),
        once("files: GET alone / local hashlib: the proxy's share", local / get, "x"),
    ]


def _speed(what: str, seconds: list[float]) -> Figure:
    megabytes = SIZE / 1e6
    return Figure(what=what, median=megabytes / statistics.median(seconds), worst=megabytes / max(seconds), unit="MB/s")


def _fill(file: Path) -> None:
    with file.open("wb") as opened:
        for _ in range(SIZE // CHUNK):
            opened.write(os.urandom(CHUNK))


def _local(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _get(url: str, *, hashed: bool) -> None:
    digest = hashlib.sha256()
    with requests.get(url, stream=True, timeout=60) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_content(CHUNK):
            if hashed:
                digest.update(chunk)
