"""Who receives messages in tests: a real HTTP server and a real SMTP server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import sqlalchemy as sa
from aiosmtpd.controller import Controller

from services import documents
from services.messaging import messages
from services.messaging.courier import Courier
from services.messaging.message_book import MessageBook
from services.signoff import Signoff
from services.tables import message_attempts, outbox
from tests.conftest import free_port

HERE = 'allowed_networks: ["127.0.0.0/8", "::1/128"]\n'


@dataclass
class Web:
    """A receiver of webhooks: what came, and with which status it answers."""

    url: str
    got: list[tuple[dict[str, str], Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    status: int = 200
    answer: bytes = b"ok"
    location: str = ""
    hold: threading.Event | None = None
    """While it is there and not set, answers wait for it."""

    @property
    def ids(self) -> list[str]:
        return [headers["x-signoff-message"] for headers, _ in self.got]

    @property
    def events(self) -> list[str]:
        return [body["signoff"]["kind"] for _, body in self.got]


@contextmanager
def web(port: int = 0) -> Iterator[Web]:
    """A receiver of webhooks on this machine, until the end of the block."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.paths.append(self.path)
            if received.status == 200:
                received.got.append(({k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
            if received.hold:
                received.hold.wait(20)
            self.send_response(received.status)
            if received.location:
                self.send_header("Location", received.location)
            self.send_header("Content-Length", str(len(received.answer)))
            self.end_headers()
            self.wfile.write(received.answer)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Answering)
    received = Web(url=f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Post:
    """A mail server: what came, by recipient, and what it says to a recipient."""

    url: str
    got: list[tuple[str, EmailMessage]] = field(default_factory=list)
    refusal: str = ""

    @property
    def recipients(self) -> list[str]:
        return sorted(recipient.removesuffix("@signoff.example") for recipient, _ in self.got)


@contextmanager
def post() -> Iterator[Post]:
    """A mail server on this machine, until the end of the block."""
    port = free_port()
    received = Post(url=f"mailto://127.0.0.1:{port}?mode=insecure")

    class Box:
        async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
            if received.refusal:
                return received.refusal
            envelope.rcpt_tos.append(address)
            return "250 OK"

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            mail = message_from_bytes(envelope.content, policy=default)
            assert isinstance(mail, EmailMessage)
            received.got.extend((recipient, mail) for recipient in envelope.rcpt_tos)
            return "250 OK"

    controller = Controller(Box(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield received
    finally:
        controller.stop()


def telling(signoff: Signoff, text: str, **secrets: str) -> Signoff:
    """The same Signoff with a message book; ``secrets`` are the variables it names, without their beginning."""
    named = {f"SIGNOFF_MESSAGES_{name.upper()}": value for name, value in secrets.items()}
    book = documents.checked(text, "m.yaml", MessageBook, what="message book", hint="rules", context={"secrets": named})
    signoff.database.listener = None
    messages.listen(signoff.database, book)
    return replace(signoff, messages=book)


def deliver(signoff: Signoff, channel: str, chance: float = 0.0) -> int:
    """Send all that is due on a channel; how many attempts that took."""
    courier, attempts = Courier(signoff, chance=lambda: chance), 0
    while courier.turn(channel):
        attempts += 1
    return attempts


def rows(signoff: Signoff) -> list[Any]:
    """The outbox, oldest first."""
    with signoff.database.reading() as connection:
        return list(connection.execute(sa.select(outbox).order_by(outbox.c.number)))


def states(signoff: Signoff) -> list[str]:
    return [row.state for row in rows(signoff)]


def log(signoff: Signoff) -> list[tuple[str | None, str | None]]:
    """Outcome and error of every attempt, oldest first."""
    with signoff.database.reading() as connection:
        found = connection.execute(sa.select(message_attempts).order_by(message_attempts.c.id))
        return [(row.outcome, row.error) for row in found]


def later(signoff: Signoff, seconds: float = 3600.0) -> None:
    """Let time pass in the outbox: pauses and leases run out."""
    with signoff.database.writing() as connection:
        connection.execute(
            outbox.update().values(due_at=outbox.c.due_at - seconds, leased_until=outbox.c.leased_until - seconds)
        )
