"""A proxy in front of a real MLflow server that breaks chosen requests in chosen ways. Loopback only."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = (
    "down",  # connection refused … by closing it before anything is read
    "stall",  # no answer; the request never arrives
    "stall after apply",  # no answer; the request has its effect
    "500",
    "503",
    "429",
    "reset before apply",
    "reset after apply",
    "truncated",  # applied, and half of the answer
)
UPSTREAM_SECONDS = 20
Wanted = Callable[[str, str], bool]


class FaultyProxy:
    """Passes everything on except what `break_` names. ``writes`` are the changes that were sent to it, in order."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.writes: list[str] = []
        self.applied: list[str] = []
        self.broken = 0
        self.fault: str | None = None
        self.wanted: Wanted = lambda _method, _path: False
        self.released = threading.Event()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def break_(self, fault: str, wanted: Wanted) -> None:
        """From now on answer the requests ``wanted(method, path)`` names with the fault."""
        self.released.clear()
        self.fault, self.wanted, self.broken = fault, wanted, 0
        self.writes.clear()
        self.applied.clear()

    def heal(self) -> None:
        """Pass everything on again; stalled requests end without an answer."""
        self.fault = None
        self.released.set()

    def close(self) -> None:
        """Stop."""
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


class _Handler(BaseHTTPRequestHandler):
    owner: FaultyProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits 40 ms for an acknowledgement
    wbufsize = -1

    def _serve(self) -> None:
        owner = self.owner
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        write = self.command != "GET" and not self.path.split("?")[0].endswith("/search")
        line = f"{self.command} {self.path} {body.decode(errors='replace')}"
        if write:
            owner.writes.append(line)
        fault = owner.fault if owner.fault and owner.wanted(self.command, self.path) else None
        if fault:
            owner.broken += 1
        if fault in {"500", "503", "429"}:
            self._answer(int(fault), b'{"error_code": "INTERNAL_ERROR", "message": "injected"}', {"Retry-After": "30"})
        elif fault in {"down", "reset before apply"}:
            self._reset()
        elif fault == "stall":
            owner.released.wait(UPSTREAM_SECONDS)
            self._reset()
        else:
            status, answer, headers = self._pass_on(body)
            if write:
                owner.applied.append(line)
            if fault == "stall after apply":
                owner.released.wait(UPSTREAM_SECONDS)
            if fault in {"stall after apply", "reset after apply"}:
                self._reset()
            elif fault == "truncated":
                self._answer(status, answer[: len(answer) // 2] or b"{", headers)
            else:
                self._answer(status, answer, headers)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _serve  # noqa: N815

    def _pass_on(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        upstream = http.client.HTTPConnection(
            self.owner.upstream.hostname or "", self.owner.upstream.port, timeout=UPSTREAM_SECONDS
        )
        try:
            kept = {key: value for key, value in self.headers.items() if key.lower() not in {"host", "connection"}}
            upstream.request(self.command, self.path, body=body or None, headers=kept)
            response = upstream.getresponse()
            return response.status, response.read(), {"Content-Type": response.headers.get("Content-Type") or ""}
        finally:
            upstream.close()

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)
            self.wfile.flush()

    def _reset(self) -> None:
        """Close so that the other side reads ECONNRESET instead of an orderly end."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_: object) -> None:
        """Silence."""


@contextmanager
def between(upstream: str) -> Iterator[FaultyProxy]:
    """A proxy in front of ``upstream``, closed at the end."""
    proxy = FaultyProxy(upstream)
    try:
        yield proxy
    finally:
        proxy.close()
