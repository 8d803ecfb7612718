"""Whether an HTTP server answers; with the standard library, before anything else is known to be installed."""

from __future__ import annotations

from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit
from urllib.request import ProxyHandler, build_opener

if TYPE_CHECKING:
    from services.settings import Settings

_DIRECT = build_opener(ProxyHandler({}))


def address(settings: Settings) -> str:
    """Where the dashboard is reached from this machine, whatever its public address is."""
    return (
        f"http://[{settings.host}]:{settings.port}"
        if ":" in settings.host
        else f"http://{settings.host}:{settings.port}"
    )


def without_password(url: str) -> str:
    """An address that may be shown: without the name and password in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def answers(url: str) -> bool:
    """Whether a GET of something on this machine is answered with 200, past any proxy."""
    try:
        with _DIRECT.open(url, timeout=5.0) as response:
            return bool(response.status == 200)
    except (OSError, HTTPException, ValueError):
        return False
