"""Where a form may come from, where a log-in may lead to, and where a browser belongs."""

from __future__ import annotations

from functools import cache
from urllib.parse import quote, urlsplit

from starlette.requests import HTTPConnection

MAX_NEXT = 4096
LOOPBACK = frozenset({"127.0.0.1", "::1"})
_NOT_PAGES = ("/login", "/session/", "/api/", "/healthz", "/readyz", "/_stcore/", "/static/", "/media/", "/component/")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@cache
def origin(url: str) -> str:
    """The origin of an address, as browsers write it: in lower case and ASCII, without the port its scheme implies."""
    parts = urlsplit(url)
    name = (parts.hostname or "").encode("idna").decode()
    host = f"[{name}]" if ":" in name else name
    port = parts.port
    return f"{parts.scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(parts.scheme) else "")


def cross_site(request: HTTPConnection, url: str) -> bool:
    """Whether anything but a page of ours sent this form or opens this WebSocket.

    The session cookie alone would not notice: a browser sends it to every port of a host. Every browser says where a
    POST or a WebSocket comes from; a client that says nothing is no browser and has no one's cookie.
    The Host header does not count: the browser takes it from the address it was led to, which may be any.

    Args:
        url: our public address.
    """
    site, sent = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if sent is not None and sent != origin(url):
        return True
    return site is not None and site not in {"same-origin", "none"}


def elsewhere(request: HTTPConnection, url: str) -> str | None:
    """The same page at ``url``, where it is ``localhost`` and a browser came to the number of the same port instead.

    Pages act at one address only, and people type both.
    """
    ours, (name, port) = urlsplit(url), _host(request.headers.get("host", ""))
    if ours.scheme != "http" or ours.hostname != "localhost" or name not in LOOPBACK or port != (ours.port or 80):
        return None
    query: str = request.scope["query_string"].decode("latin-1")
    return origin(url) + quote(request.scope["path"]) + (f"?{query}" if query else "")


def _host(header: str) -> tuple[str, int]:
    """Name and port of a Host header; no name where it is none."""
    try:
        parts = urlsplit(f"//{header}")
        return parts.hostname or "", parts.port or 80
    except ValueError:
        return "", 0


def safe_next(target: str | None) -> str:
    """The page to go to after log-in: a path on our own host, or ``/`` for anything else.

    Browsers drop tabs and newlines and read ``\\`` as ``/``, so ``/\\evil.example`` and ``/<tab>/evil.example``
    lead elsewhere; none of those characters belongs in a link of ours.
    """
    if not target or len(target) > MAX_NEXT or not target.startswith("/") or target.startswith("//"):
        return "/"
    if "\\" in target or any(not character.isprintable() or character.isspace() for character in target):
        return "/"
    path = urlsplit(target).path
    return "/" if path.startswith(_NOT_PAGES) or "//" in path else target
