"""A validation closes no file descriptor but its own: requests, pages and the ledger live in the same process."""

from __future__ import annotations

import functools
import os
import pickle
import struct
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.validation import sandbox
from services.validation.errors import ModelFailed, ValidationCancelled
from services.validation.subjects import Limits
from tests.conftest import SOAKING

VALIDATIONS, REQUESTS = (1000, 20_000) if SOAKING else (12, 240)
VALIDATORS, CLIENTS = 2, 4
LIMITS = Limits(seconds=60, memory_bytes=2 << 30, output_bytes=8 << 20)
PAGE = b"a page that somebody else asked for"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a model that loads at once and answers each row with itself, and the rows."""
    stub = functools.partial(len)
    vars(stub)["predict"] = functools.partial(list)
    (folder := tmp_path / "model").mkdir()
    (folder / "model").write_bytes(pickle.dumps(stub))
    (folder / "rows").write_bytes(pickle.dumps([1.0, 2.0, 3.0]))
    folder.chmod(0o755)
    return folder


def _predict(
    model: Path, workspace: Path, *, file: str = "model", cancelled: Callable[[], bool] = lambda: False
) -> int:
    """How many bytes of answers come back."""
    order = {
        "loader": "pickle",
        "file": str(model / file),
        "data": str(model / "rows"),
        "classifier": False,
    }
    outcome = sandbox.run(
        "predict",
        order,
        whose="The candidate m/v1",
        visible=[model],
        workspace=workspace,
        limits=LIMITS,
        isolate=sandbox.isolation().available,
        cancelled=cancelled,
    )
    (header,) = struct.unpack_from("<I", outcome.result)
    return len(outcome.result) - 4 - header


class TestEachEndOfAPipeIsClosedOnce:
    @pytest.fixture
    def neighbour(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
        """Files that another thread opens as soon as the sandbox has given descriptors back."""
        sandbox.isolation()
        opened: list[int] = []
        collected = sandbox._collected

        def with_neighbour(*args: object) -> object:
            opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(16))
            return collected(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(sandbox, "_collected", with_neighbour)
        yield opened
        for descriptor in opened:
            os.close(descriptor)

    def _still_open(self, descriptors: list[int]) -> bool:
        return len(descriptors) == 16 and all(
            os.path.samestat(os.fstat(one), Path(os.devnull).stat()) for one in descriptors
        )

    def test_a_validation_that_ends_leaves_files_of_others_open(
        self, model: Path, tmp_path: Path, neighbour: list[int]
    ) -> None:
        assert _predict(model, tmp_path) == 24
        assert self._still_open(neighbour)

    def test_a_model_that_fails_leaves_files_of_others_open(
        self, model: Path, tmp_path: Path, neighbour: list[int]
    ) -> None:
        with pytest.raises(ModelFailed):
            _predict(model, tmp_path, file="missing")
        assert self._still_open(neighbour)

    def test_a_cancelled_validation_leaves_files_of_others_open(
        self, model: Path, tmp_path: Path, neighbour: list[int]
    ) -> None:
        with pytest.raises(ValidationCancelled):
            _predict(model, tmp_path, cancelled=lambda: True)
        assert self._still_open(neighbour)

    def test_a_jail_that_cannot_start_loses_no_descriptor(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sandbox.isolation()
        before = _pipes()
        monkeypatch.setattr(sandbox, "_python", lambda: [str(tmp_path / "no-python")])
        with pytest.raises(FileNotFoundError):
            _predict(model, tmp_path)
        assert not _pipes() - before


class TestValidationsBesideRequests:
    @pytest.fixture
    def address(self) -> Iterator[str]:
        """A server in this process, as the dashboard is."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        serving.join()
        server.server_close()

    @pytest.mark.timeout(0 if SOAKING else 300)
    def test_no_request_and_no_validation_is_lost(self, model: Path, tmp_path: Path, address: str) -> None:
        def ask(_: int) -> bytes:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return bytes(answer.read())

        sandbox.isolation()
        with ThreadPoolExecutor(VALIDATORS) as validators, ThreadPoolExecutor(CLIENTS) as clients:
            ask(0)
            validations = validators.map(lambda _: _predict(model, tmp_path), range(VALIDATIONS))
            pages = clients.map(ask, range(REQUESTS))
            assert list(validations) == [24] * VALIDATIONS
            assert list(pages) == [PAGE] * REQUESTS
        assert not list(tmp_path.glob("scratch-*"))

    def test_no_pipe_is_left_open(self, model: Path, tmp_path: Path) -> None:
        sandbox.isolation()
        before = _pipes()
        _predict(model, tmp_path)
        assert not _pipes() - before


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        pass


def _pipes() -> set[str]:
    """The pipes that this process has an end of."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(descriptor.readlink()))
    return {one for one in found if one.startswith("pipe:")}
