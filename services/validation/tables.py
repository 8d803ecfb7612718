"""A file of bytes read as a table: CSV or Parquet, told by its first bytes, within limits that are checked first.

`evaluator.table` reads it, in a process of its own: a few hundred bytes of Parquet can unfold into gigabytes.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import BinaryIO

import pandas as pd
import pyarrow as pa

from services import foreign
from services.foreign import Decoded, NotDecoded, OverLimit
from services.validation.errors import EmptyHoldout, HoldoutRefused, HoldoutTooLarge, UnreadableHoldout, WrongColumn
from services.validation.subjects import Limits

CHUNK = 1 << 20
UNPACKED = 4
"""How many times larger than its file's limit a table may be in memory: Parquet files can be bombs."""
SECONDS = 120.0
MEMORY, LARGE, MEMORY_OF_LARGE = 2 << 30, 64 << 20, 4 << 30
"""Bytes that reading may take, and of a file larger than the second figure: CSV takes many times its own size."""
MAX_WORDS = 300


@dataclass(frozen=True, kw_only=True)
class HoldoutLimits:
    """How much data is read at all."""

    bytes: int = 256 << 20
    rows: int = 1_000_000
    columns: int = 2_000

    @property
    def unpacked(self) -> int:
        """Bytes that the table may have in memory."""
        return self.bytes * UNPACKED


def read(content: BinaryIO, limits: HoldoutLimits) -> tuple[pd.DataFrame, str]:
    """The table in ``content``, an open file, and the sha256 of its bytes.

    Raises:
        HoldoutTooLarge: more bytes, rows or columns than ``limits``, or reading it took too much; the sentence names
            the limit.
        EmptyHoldout: no rows.
        WrongColumn: two columns have the same name, or one has none.
        UnreadableHoldout: it is neither CSV nor Parquet.
    """
    size = content.seek(0, os.SEEK_END)
    if size > limits.bytes:
        raise HoldoutTooLarge(f"The file has {_megabytes(size)}; at most {_megabytes(limits.bytes)} are read.")
    if not size:
        raise EmptyHoldout("The file is empty.")
    content.seek(0)
    sha256 = _sha256(content)
    found = _decoded(content, limits, size)
    try:
        table = pa.ipc.open_stream(pa.py_buffer(found.body)).read_all()
        table.validate(full=True)
        if table.num_rows > limits.rows or table.num_columns > limits.columns or table.nbytes > limits.unpacked:
            raise HoldoutTooLarge("The table is larger than its reader may hand over.")
        frame = table.to_pandas(ignore_metadata=True)
        for position in found.header["integers"]:
            frame.isetitem(position, frame.iloc[:, position].map(int, na_action="ignore").astype(object))
        return frame, sha256
    except (pa.ArrowException, OSError, OverflowError, ValueError, TypeError, LookupError) as error:
        raise UnreadableHoldout("The file cannot be read: it gives no table that pandas can hold.") from error


def _decoded(content: BinaryIO, limits: HoldoutLimits, size: int) -> Decoded:
    most = {"rows": limits.rows, "columns": limits.columns, "unpacked": limits.unpacked}
    allowed = Limits(
        seconds=SECONDS,
        memory_bytes=MEMORY_OF_LARGE if size > LARGE else MEMORY,
        output_bytes=limits.unpacked + (64 << 20),
    )
    try:
        found = foreign.decoded("table", content, {"most": most}, doing="Reading the file", limits=allowed)
    except OverLimit as error:
        raise HoldoutTooLarge(str(error)) from error
    except NotDecoded as error:
        raise UnreadableHoldout("The file cannot be read: it ends the process that reads it.") from error
    if "refused" in found.header:
        raise _refusal(found)
    return found


def _refusal(found: Decoded) -> HoldoutRefused:
    kinds = {one.__name__: one for one in (HoldoutTooLarge, EmptyHoldout, WrongColumn)}
    words = " ".join(str(found.header.get("words")).split())[:MAX_WORDS]
    return kinds.get(str(found.header["refused"]), UnreadableHoldout)(words)


def _sha256(content: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := content.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _megabytes(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MB" if count >= 1 << 20 else f"{count:,} bytes"
