"""The files of a version are hashed as they arrive: nothing large is kept, and whoever waits is told how far it is."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from streamlit.testing.v1 import AppTest

from components.waiting import words
from services.domain import ArtifactEntry, VersionRef
from services.errors import RegistryUnavailable, UnreadableModel
from services.mlflow.artifacts import MAX_DESCRIPTION, ManifestReading
from services.mlflow.registry import MlflowRegistry
from services.progress import Progress, told_to
from services.settings import PROJECT
from services.signoff import Signoff
from tests.arena import register
from tests.conftest import SOAKING
from tests.fakes import FakeRegistry
from tests.pages import opened, text
from tests.proxy import between

REF = VersionRef(name="m", version=1)
LARGE = (1 << 30) if SOAKING else (1 << 28)
"""Bytes of the large file: 256 MB in ``make test``, 1 GB in ``make soak``. Sparse, so the disk holds none of them."""
MEGABYTE = 1 << 20


@pytest.fixture
def trained(mlflow_server: str) -> VersionRef:
    """A registered version on the real server."""
    name = f"large_{uuid4().hex[:8]}"
    return VersionRef(name=name, version=register(mlflow_server, name, 1)[0])


@pytest.fixture
def files(mlflow_server: str, mlflow_folder: Path, trained: VersionRef) -> Path:
    """Where the server keeps the files of `trained`."""
    uri = MlflowClient(mlflow_server).get_model_version_download_uri(trained.name, str(trained.version))
    return mlflow_folder / "artifacts" / uri.removeprefix("mlflow-artifacts:/")


def sparse(file: Path, size: int) -> str:
    """Make a file of zeros; returns its sha256."""
    with file.open("wb") as opened_file:
        opened_file.truncate(size)
    digest = hashlib.sha256()
    for _ in range(size // MEGABYTE):
        digest.update(bytes(MEGABYTE))
    return digest.hexdigest()


MEASURE = """
import json, re, resource, sys
from pathlib import Path
from services.domain import VersionRef
from services.mlflow.registry import MlflowRegistry

def peak():  # ru_maxrss would count what this process was before it became Python
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

registry, ref = MlflowRegistry(sys.argv[1]), VersionRef(name=sys.argv[2], version=int(sys.argv[3]))
registry.listing(ref)  # everything that is imported late is there now
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # a copy on disk would be the end
before = peak()
manifest = registry.manifest(ref)
print(json.dumps({"grown": peak() - before, "files": {file.path: file.sha256 for file in manifest.files}}))
"""


def measured(server: str, ref: VersionRef) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, server, ref.name, str(ref.version)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


class TestLargeFiles:
    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
    def test_are_hashed_without_being_kept_in_memory_or_on_disk(
        self, mlflow_server: str, trained: VersionRef, files: Path
    ) -> None:
        expected = sparse(files / "weights.bin", LARGE)
        found = measured(mlflow_server, trained)
        assert found["files"]["weights.bin"] == expected
        assert found["grown"] < 30_000_000
        print(f"\n{LARGE >> 20} MB hashed; peak memory grew by {found['grown'] / 1e6:.1f} MB")  # noqa: T201
        (files / "weights.bin").unlink()

    def test_tell_how_far_they_are(self, mlflow_server: str, trained: VersionRef, files: Path) -> None:
        sparse(files / "weights.bin", 8 * MEGABYTE)
        told: list[Progress] = []
        with told_to(told.append):
            manifest = MlflowRegistry(mlflow_server).manifest(trained)
        total = sum(file.size for file in manifest.files)
        assert {(one.ref, one.total) for one in told} == {(trained, total)}
        assert [one.done for one in told] == sorted(one.done for one in told)
        assert told[-1].done == total
        assert len(told) > 8


class TestFiles:
    def test_of_any_name_are_read_as_themselves(self, mlflow_server: str, trained: VersionRef, files: Path) -> None:
        names = ["data.bin", "data.bin?2", "data.bin;3", "a + b=&c.txt", "größe.txt"]
        for name in names:
            (files / name).write_text(f"the bytes of {name}")
        manifest = MlflowRegistry(mlflow_server).manifest(trained)
        found = {file.path: file.sha256 for file in manifest.files}
        for name in names:
            assert found[name] == hashlib.sha256(f"the bytes of {name}".encode()).hexdigest(), name

    def test_that_arrive_cut_short_are_no_evidence(self, mlflow_server: str, trained: VersionRef, files: Path) -> None:
        (files / "weights.bin").write_bytes(b"x" * 1000)
        with between(mlflow_server) as proxy:
            registry = MlflowRegistry(proxy.url)
            proxy.break_("truncated", lambda _, path: path.endswith("weights.bin"))
            with pytest.raises(RegistryUnavailable, match=r"weights\.bin .* 1000 bytes and gave 500"):
                registry.manifest(trained)
            assert proxy.broken == 3
            proxy.heal()
            assert "weights.bin" in {file.path for file in registry.manifest(trained).files}


class TestReading:
    """One pass over the files, wherever they come from."""

    def test_a_file_given_again_after_a_failure_counts_once(self) -> None:
        reading = ManifestReading(REF, [ArtifactEntry(path="a", size=4)])

        def broken() -> Iterator[bytes]:
            yield b"ab"
            raise ConnectionError

        told: list[int] = []
        with told_to(lambda progress: told.append(progress.done)):
            with pytest.raises(ConnectionError):
                reading.file("a", broken())
            reading.file("a", iter([b"ab", b"cd"]))
        (file,) = reading.manifest().files
        assert (file.size, file.sha256) == (4, hashlib.sha256(b"abcd").hexdigest())
        assert told == [2, 2, 4]

    def test_a_file_that_changed_its_size_while_it_was_read_is_no_evidence(self) -> None:
        reading = ManifestReading(REF, [ArtifactEntry(path="a", size=4)])
        with pytest.raises(RegistryUnavailable, match="lists a of m/v1 with 4 bytes and gave 5"):
            reading.file("a", iter([b"abcde"]))

    def test_a_size_mlflow_does_not_tell_is_not_held_against_a_file(self) -> None:
        reading = ManifestReading(REF, [ArtifactEntry(path="a", size=0)])
        reading.file("a", iter([b"abcde"]))
        assert reading.manifest().files[0].size == 5

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"- a\n- b\n", b"[" * 100_000, b"signature: {inputs: 3}"])
    def test_an_mlmodel_file_that_makes_no_sense_is_unreadable(self, content: bytes) -> None:
        reading = ManifestReading(REF, [ArtifactEntry(path="MLmodel", size=len(content))])
        reading.file("MLmodel", iter([content]))
        with pytest.raises(UnreadableModel):
            reading.manifest()

    def test_an_mlmodel_file_of_any_size_fills_no_memory(self) -> None:
        given = 0

        def endless() -> Iterator[bytes]:
            nonlocal given
            while True:
                given += MEGABYTE
                yield bytes(MEGABYTE)

        with pytest.raises(UnreadableModel, match="larger"):
            ManifestReading(REF, []).file("MLmodel", endless())
        assert given <= MAX_DESCRIPTION + MEGABYTE

    def test_nobody_else_is_told(self) -> None:
        told: list[Progress] = []
        with told_to(told.append):
            reading = ManifestReading(REF, [])
            other = threading.Thread(target=reading.file, args=("a", iter([b"ab"])))
            other.start()
            other.join()
        reading.file("b", iter([b"ab"]))
        assert told == []


class TestShown:
    """What a page says meanwhile."""

    def test_in_words(self) -> None:
        ref = VersionRef(name="a*b", version=3)
        assert words(Progress(ref=ref, done=512_000_000, total=1_000_000_000)) == (
            r"Files of a\*b/v3: 512.0 MB of 1.0 GB read"
        )
        assert words(Progress(ref=ref, done=5, total=0)) == r"Files of a\*b/v3: 5 B read"
        assert Progress(ref=ref, done=5, total=0).share == 0.0
        assert Progress(ref=ref, done=7, total=5).share == 1.0

    def test_a_reading_that_takes_its_time_has_a_bar(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("components.waiting.DELAY_SECONDS", 0.0)
        at = AppTest.from_function(_slow_page)
        at.run(timeout=20)
        assert not at.exception, at.exception
        assert [markdown.value for markdown in at.markdown] == ["Drawn: Files of m/v1: 2 B of 4 B read at 0.5"]
        assert not at.get("progress")

    def test_a_quick_one_has_none(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.9})
        at = opened(signoff, "viewer", "version", name=ref.name, version=str(ref.version))
        assert not at.exception, at.exception
        assert "Files of" not in text(at)
        assert not at.get("progress")


def _slow_page() -> None:
    import threading

    import streamlit as st
    from streamlit.delta_generator import DeltaGenerator

    from components.waiting import reading_shown
    from services.domain import VersionRef
    from services.progress import Progress, tell

    drawn, original, said = threading.Event(), DeltaGenerator.progress, []

    def progress(self, value, text):  # type: ignore[no-untyped-def]
        found = original(self, value, text=text)
        said.append(f"{text} at {value}")
        drawn.set()
        return found

    DeltaGenerator.progress = progress  # type: ignore[method-assign]
    try:
        with reading_shown("Reading…"):
            tell(Progress(ref=VersionRef(name="m", version=1), done=2, total=4))
            assert drawn.wait(10)
    finally:
        DeltaGenerator.progress = original  # type: ignore[method-assign]
    st.markdown(f"Drawn: {said[0]}")
