"""What is uploaded, asked about once more when all of it has arrived: then MLflow puts it where it belongs.

A client may send the last byte of a file hours after the first, when the version whose file it is has been approved.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import BinaryIO

import anyio


class AskedAtItsEnd:
    """A stream to read from, whose end comes only if ``ask`` raises nothing."""

    def __init__(self, stream: BinaryIO, ask: Callable[[], None]) -> None:
        self._stream, self._ask = stream, ask

    def read(self, size: int = -1) -> bytes:
        """Some bytes, or none at the end."""
        piece = self._stream.read(size)
        if not piece or size < 0:
            self._ask()
        return piece


async def asked_at_its_end(pieces: AsyncIterable[bytes], ask: Callable[[], None]) -> AsyncIterator[bytes]:
    """The same pieces, whose end comes only if ``ask`` raises nothing."""
    async for piece in pieces:
        yield piece
    await anyio.to_thread.run_sync(ask)
