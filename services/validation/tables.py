"""A file of bytes read as a table: CSV or Parquet, told by its first bytes, within limits that are checked first."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from dataclasses import dataclass
from typing import BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from services.validation.errors import EmptyHoldout, HoldoutTooLarge, UnreadableHoldout, WrongColumn

PARQUET = b"PAR1"
INDEX = "__index_level_"
"""How pandas names its row labels in a Parquet file; they are no data."""
SEPARATORS = ",;\t"
HEADER_BYTES = 1 << 20
CHUNK = 1 << 20
UNPACKED = 4
"""How many times larger than its file's limit a table may be in memory: Parquet files can be bombs."""


@dataclass(frozen=True, kw_only=True)
class HoldoutLimits:
    """How much data is read at all."""

    bytes: int = 256 << 20
    rows: int = 1_000_000
    columns: int = 2_000


def read(content: BinaryIO, limits: HoldoutLimits) -> tuple[pd.DataFrame, str]:
    """The table in ``content``, which can be sought in, and the sha256 of its bytes.

    Raises:
        HoldoutTooLarge: more bytes, rows or columns than ``limits``; what is too large is not read.
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
    content.seek(0)
    parquet = content.read(len(PARQUET)) == PARQUET
    content.seek(0)
    try:
        frame = _parquet(content, limits) if parquet else _csv(content, limits)
    except (pa.ArrowException, pd.errors.ParserError, UnicodeDecodeError, csv.Error, OverflowError) as error:
        kind = "Parquet" if parquet else "CSV"
        raise UnreadableHoldout(f"The file cannot be read as {kind}: {str(error).splitlines()[0][:200]}") from error
    if frame.empty:
        raise EmptyHoldout("The file has columns but no rows.")
    return frame, sha256


def _csv(content: BinaryIO, limits: HoldoutLimits) -> pd.DataFrame:
    head = content.read(HEADER_BYTES)
    content.seek(0)
    if b"\0" in head:
        raise UnreadableHoldout("The file is neither CSV nor Parquet: it holds bytes that no text has.")
    text = head.decode("utf-8-sig", errors="replace").lstrip("\r\n")
    if not text:
        raise EmptyHoldout("The file holds nothing but empty lines.")
    separator = max(SEPARATORS, key=text.splitlines()[0].count)
    records = csv.reader(io.StringIO(text), delimiter=separator)
    _names(names := next(records), limits)
    if len(next(records, [])) > len(names):  # pandas would take the first column for row labels
        raise WrongColumn(f"The first row has more values than the {len(names):,} columns that have a name.")
    try:
        frame = pd.read_csv(
            content,
            sep=separator,
            encoding="utf-8-sig",
            compression=None,
            low_memory=False,
            nrows=limits.rows + 1,
        )
    except pd.errors.EmptyDataError as error:
        raise EmptyHoldout("The file holds no table.") from error
    _rows(len(frame), limits)
    return frame


def _parquet(content: BinaryIO, limits: HoldoutLimits) -> pd.DataFrame:
    file = pq.ParquetFile(content)
    _names(file.schema_arrow.names, limits)
    _rows(file.metadata.num_rows, limits)
    batches, size = [], 0
    for batch in file.iter_batches(batch_size=10_000, use_threads=False):
        size += batch.nbytes
        if size > limits.bytes * UNPACKED:
            most = _megabytes(limits.bytes * UNPACKED)
            raise HoldoutTooLarge(f"The table is larger than {most} once it is unpacked.")
        batches.append(batch)
    table = pa.Table.from_batches(batches, schema=file.schema_arrow)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return frame[[name for name in frame.columns if not name.startswith(INDEX)]]


def _names(names: list[str], limits: HoldoutLimits) -> None:
    if len(names) > limits.columns:
        raise HoldoutTooLarge(f"The table has {len(names):,} columns; at most {limits.columns:,} are read.")
    if not all(name.strip() for name in names):
        raise WrongColumn(f"Column {next(i for i, name in enumerate(names, 1) if not name.strip())} has no name.")
    if len(set(names)) < len(names):
        raise WrongColumn(f"Two columns are named {next(name for name in names if names.count(name) > 1)!r}.")


def _rows(count: int, limits: HoldoutLimits) -> None:
    if count > limits.rows:
        raise HoldoutTooLarge(f"The table has more than {limits.rows:,} rows, which is all that is read.")


def _sha256(content: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := content.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _megabytes(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MB" if count >= 1 << 20 else f"{count:,} bytes"
