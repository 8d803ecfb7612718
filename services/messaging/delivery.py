"""How a message leaves: Apprise's own services for mail, Slack, Teams and webhooks, watched by `egress`.

Apprise knows 130 services; these four are what can be named, so that nothing else of it runs. What went wrong is
told in our own words only: its log lines and exceptions hold addresses, and those hold tokens.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from services.messaging import egress, message_text
from services.messaging.egress import Network
from services.messaging.message_text import Letter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apprise.plugins import NotifyBase

HEADER = "X-Signoff-Message"
"""The header that names a message in mail and webhooks; a repeat has the same."""
APPRISE = "apprise"
CONNECT_SECONDS, READ_SECONDS = 5.0, 10.0

_STATUS = re.compile(r"\berror=(\d{3})\b")
_MARKED = frozenset({"Slack", "Power Automate / Workflows (for MSTeams)"})
_SMTP = re.compile(r"(?:^|\D)([45]\d\d)[ ,]")
_CAUSES = (
    (re.compile(r"name resolution|Name or service not known|getaddrinfo|No address associated", re.I), "host unknown"),
    (re.compile(r"refused", re.I), "connection refused"),
    (re.compile(r"certificate|SSL|TLS", re.I), "no trusted encrypted connection"),
    (re.compile(r"timed out|timeout", re.I), "no answer in time"),
    (re.compile(r"unreachable|reset|aborted|closed|EOF", re.I), "connection lost"),
)


class NotDelivered(Exception):
    """It did not arrive, as far as we know. ``final``: the receiver will not take it later either."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


Send = Callable[[Letter, Sequence[Network]], None]
"""Send one letter, raising `NotDelivered`; networks are those that are allowed beside the public ones."""


def mail_server(server: str, *, sender: str, to: str = "nobody@example.com") -> Send:
    """How to send a mail through a server given as ``mailto://`` or ``mailtos://`` URL; raises `ValueError`."""
    from apprise.plugins.email.base import NotifyEmail

    parsed = NotifyEmail.parse_url(server) if server.startswith(("mailto://", "mailtos://")) else None
    if not parsed or not parsed.get("host"):
        raise ValueError("the variable does not hold mailto://user:password@host:port or mailtos://…")
    known = ("schema", "host", "port", "user", "password", "secure", "secure_mode", "smtp_host")
    plugin = _plugin(
        NotifyEmail, {name: parsed[name] for name in known if parsed.get(name)}, targets=[to], from_addr=sender
    )

    def send(letter: Letter, allowed: Sequence[Network]) -> None:
        plugin.headers = {HEADER: letter.id, "Auto-Submitted": "auto-generated"}
        _sent(plugin, message_text.as_plain(letter.title), message_text.plain(letter), letter.tone, allowed)

    return send


def channel(kind: str, address: str) -> Send:
    """How to send to a channel of this kind at an address as its service gives it; raises `ValueError`."""
    return {"slack": _slack, "teams": _teams, "webhook": _webhook}[kind](address)


def _slack(address: str) -> Send:
    from apprise.plugins.slack import NotifySlack

    native = address.startswith("https://")
    parsed = NotifySlack.parse_native_url(address) if native else NotifySlack.parse_url(address)
    if not parsed or not parsed.get("token_a"):
        raise ValueError("the variable does not hold https://hooks.slack.com/services/…")
    tokens = {name: parsed[name] for name in ("token_a", "token_b", "token_c")}
    plugin = _plugin(NotifySlack, tokens, include_image=False, include_footer=False)

    def send(letter: Letter, allowed: Sequence[Network]) -> None:
        _sent(plugin, message_text.as_plain(letter.title), message_text.mrkdwn(letter), letter.tone, allowed)

    return send


def _teams(address: str) -> Send:
    from apprise.plugins.workflows import NotifyWorkflows

    native = address.startswith("https://")
    parsed = NotifyWorkflows.parse_native_url(address) if native else NotifyWorkflows.parse_url(address)
    if not parsed or not parsed.get("workflow"):
        raise ValueError("the variable does not hold the address of a Teams workflow")
    known = ("host", "port", "workflow", "signature", "version", "power_automate", "routing_id")
    given = {name: parsed[name] for name in known if parsed.get(name)}
    plugin = _plugin(NotifyWorkflows, given, include_image=False)

    def send(letter: Letter, allowed: Sequence[Network]) -> None:
        _sent(plugin, message_text.as_markdown(letter.title), message_text.markdown(letter), letter.tone, allowed)

    return send


def _webhook(address: str) -> Send:
    from apprise.plugins.custom_json import NotifyJSON

    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ValueError("the variable does not hold an address") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("the variable does not hold https://… or http://…")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    plugin = _plugin(
        NotifyJSON,
        {"host": host, "port": port, "user": parts.username, "password": parts.password},
        secure=parts.scheme == "https",
        fullpath=parts.path or "/",
        params=dict(parse_qsl(parts.query, keep_blank_values=True)),
    )

    def send(letter: Letter, allowed: Sequence[Network]) -> None:
        plugin.headers = {HEADER: letter.id}
        plugin.payload_extras = {"signoff": dict(letter.data)}
        _sent(plugin, message_text.as_plain(letter.title), message_text.plain(letter), letter.tone, allowed)

    return send


def _plugin(service: type[NotifyBase], given: dict[str, Any], **more: Any) -> Any:
    from apprise import AppriseAsset, exception

    asset = AppriseAsset(app_id="Signoff", http_redirects=False, async_mode=False)
    try:
        plugin = service(**{**given, **more, "asset": asset})
    except (exception.AppriseException, TypeError, ValueError):
        raise ValueError("the variable does not hold an address that can be sent to") from None
    plugin.redirects = False
    plugin.verify_certificate = True
    plugin.request_rate_per_sec = 0
    plugin.socket_connect_timeout, plugin.socket_read_timeout = CONNECT_SECONDS, READ_SECONDS
    return plugin


def _sent(plugin: Any, title: str, body: str, tone: str, allowed: Sequence[Network]) -> None:
    """Send through the service's own ``send``: what comes before it would convert, split and guess formats."""
    from apprise import NotifyFormat, NotifyType

    marked = plugin.service_name in _MARKED
    with egress.watched(allowed), _listening() as lines:
        try:
            done = plugin.send(
                body=body,
                title=title,
                notify_type=NotifyType(tone),
                body_format=NotifyFormat.MARKDOWN if marked else NotifyFormat.TEXT,
            )
        except egress.ForbiddenAddress:  # of a thread or process, which no library takes for a failed connection
            done = False
        refused = egress.refused()
    if not done:
        why, final = _why(refused, lines)
        raise NotDelivered(why, final=final)


def _why(refused: str | None, lines: Sequence[str]) -> tuple[str, bool]:
    """What went wrong in our own words, and whether trying again is of no use."""
    if refused:
        return refused, True  # a finding, not a hiccup: somebody has to look
    text = "\n".join(lines)
    if found := _STATUS.search(text):
        status = int(found[1])
        return f"The receiver answered HTTP {status}.", 300 <= status < 500 and status not in {408, 425, 429}
    for pattern, words in _CAUSES:
        if pattern.search(text):
            return f"The receiver was not reached: {words}.", False
    if found := _SMTP.search(text):
        return f"The mail server answered {found[1]}.", found[1].startswith("5")
    return "The receiver did not take it.", False


class _Overheard(threading.local):
    lines: list[str] | None = None


_overheard = _Overheard()


def _kept_in(record: logging.LogRecord) -> bool:
    """Lines of a thread that delivers hold addresses and tokens: they are read here, and go to no log."""
    if _overheard.lines is None:
        return record.name != APPRISE
    if record.name == APPRISE:
        _overheard.lines.append(record.getMessage())
    return False


logging.getLogger(APPRISE).setLevel(logging.DEBUG)  # the cause of a failure is told at this level only
for _name in (APPRISE, "urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_kept_in)


@contextmanager
def _listening() -> Iterator[list[str]]:
    lines = _overheard.lines = []
    try:
        yield lines
    finally:
        _overheard.lines = None
