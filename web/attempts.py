"""How much guessing one client, and all of them together, may do; and how many passwords are checked at once.

What is counted here is counted by each dashboard for itself: it keeps a machine from being kept busy. What keeps an
account from being guessed is counted in the database (`services.accounts.sessions`).
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
from cachetools import LRUCache, TTLCache
from starlette.requests import HTTPConnection

from services.errors import TooManyAttempts

MAX_CLIENTS = 10_000
"""So many clients are remembered; of more, those that came first are forgotten."""
MAX_CLIENT = 64
CLIENT_FAILURES, ALL_FAILURES, SECONDS = 20, 200, 300.0
"""Wrong passwords of strangers. Many people may be behind one address, and nobody types more than a few."""
ALL = "all"
GUESSED = "Too many wrong passwords came from {where}. Try again in {when}, or in a browser you signed in with before."
WRONG_TOKENS, TOKEN_SECONDS, RIGHT_TOKENS = 60, 60.0, 1024


def client_of(request: HTTPConnection) -> str:
    """Where a request comes from: an IPv4 address, or the network of 64 bits that one customer has of IPv6.

    Behind a proxy it is what the proxy says, if SIGNOFF_TRUSTED_PROXIES names it, else the proxy.
    """
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:MAX_CLIENT]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
        address = address.ipv4_mapped
    return str(address)


class Failures:
    """Counts failures by client, ``most`` in ``seconds`` from the first one on."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: TTLCache[str, list[float]] = TTLCache(MAX_CLIENTS, seconds, timer=clock)

    def left(self, client: str) -> float:
        """For how many seconds a client is to wait; 0 when it need not."""
        with self._lock:
            begun, times = self._kept.get(client, (0.0, 0))
            return begun + self._seconds - self._clock() if times >= self._most else 0.0

    def note(self, client: str) -> bool:
        """Count one more; whether it is the last that is let through."""
        with self._lock:
            found = self._kept.get(client)
            if found is None:
                found = self._kept[client] = [self._clock(), 0]
            found[1] += 1
            return found[1] == self._most


class Guesses:
    """Wrong passwords of strangers: so many from one client in a while, and so many from all of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._of_one = Failures(CLIENT_FAILURES, SECONDS, clock)
        self._of_all = Failures(ALL_FAILURES, SECONDS, clock)

    def require_patience(self, client: str) -> None:
        """Raise `TooManyAttempts` while a client has to wait."""
        for left, where in ((self._of_one.left(client), "your network"), (self._of_all.left(ALL), "everywhere")):
            if left:
                when = f"{math.ceil(left / 60)} minutes" if left > 60 else f"{math.ceil(left)} seconds"
                raise TooManyAttempts(GUESSED.format(where=where, when=when), left)

    def note(self, client: str) -> Iterator[str]:
        """Count one more; gives what is to be on record, where it was the last that is let through."""
        for last, where in ((self._of_one.note(client), "one address"), (self._of_all.note(ALL), "all addresses")):
            if last:
                yield f"Too many wrong passwords from {where}: new devices wait for {SECONDS / 60:.0f} minutes."


class WrongTokens:
    """Invalid bearer tokens by client. A token that was valid before is not kept waiting by what others send."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._wrong = Failures(WRONG_TOKENS, TOKEN_SECONDS, clock)
        self._lock = threading.Lock()
        self._right: LRUCache[bytes, bool] = LRUCache(RIGHT_TOKENS)

    def require_patience(self, client: str, secret: str) -> None:
        """Raise `TooManyAttempts` while a client has to wait, before anything is looked up."""
        if left := self._wrong.left(client):
            with self._lock:
                right = _digest(secret) in self._right
            if not right:
                raise TooManyAttempts("Too many invalid tokens came from this address; try again later.", left)

    def note(self, client: str, secret: str, *, right: bool) -> None:
        """Remember what a token turned out to be."""
        if not right:
            self._wrong.note(client)
            return
        with self._lock:
            self._right[_digest(secret)] = True


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()


class Places:
    """So many passwords checked at once, and so many waiting for a moment; one more is refused."""

    def __init__(self, at_once: int, waiting: int, seconds: float) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._waiting = waiting
        self._seconds = seconds

    @asynccontextmanager
    async def taken(self, sentence: str) -> AsyncIterator[None]:
        """Hold one; raises `TooManyAttempts` with ``sentence`` when there is none in time."""
        if self._limiter.statistics().tasks_waiting >= self._waiting:
            raise TooManyAttempts(sentence, self._seconds)
        with anyio.move_on_after(self._seconds) as patience:
            await self._limiter.acquire()
        if patience.cancelled_caught:
            raise TooManyAttempts(sentence, self._seconds)
        try:
            yield
        finally:
            self._limiter.release()
