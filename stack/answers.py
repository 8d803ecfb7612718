"""Whether an HTTP server answers; with the standard library, before anything else is known to be installed."""

from __future__ import annotations

from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import ProxyHandler, build_opener

if TYPE_CHECKING:
    from services.settings import Settings

_DIRECT = build_opener(ProxyHandler({}))


def status(url: str, *, seconds: float = 5.0, direct: bool = True) -> int | None:
    """The HTTP status of a GET, or None where nobody answers. ``direct`` passes by any proxy: for this machine."""
    opener = _DIRECT if direct else build_opener()
    try:
        with opener.open(url, timeout=seconds) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code
    except (OSError, HTTPException, ValueError):
        return None


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
    """Whether a GET is answered with 200."""
    return status(url) == 200
