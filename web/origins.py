"""Where a form may come from, and where a log-in may lead to."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

MAX_NEXT = 4096
_NOT_PAGES = ("/login", "/session/", "/api/", "/healthz", "/readyz", "/_stcore/", "/static/", "/media/", "/component/")


def cross_site(request: HTTPConnection, url: str) -> bool:
    """Whether a page of another site, or of another port of this host, sent this form or opens this WebSocket.

    The session cookie alone would not notice: a browser sends it to every port of a host. Every browser says where a
    POST or a WebSocket comes from; a client that says nothing is no browser and has no one's cookie.
    ``url`` is our public address: behind a proxy the Host header may be another.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site not in {"same-origin", "none"}
    if origin is None:
        return False
    return origin != url and urlsplit(origin).netloc != request.headers.get("host")


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
