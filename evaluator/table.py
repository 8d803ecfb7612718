"""The program inside: reads a CSV or Parquet file that somebody uploaded, within limits, and hands it over as Arrow.

The file is its standard input. What it writes to ``result_fd`` is read by `services.validation.tables`: a header that
says with ``refused`` and ``words`` why there is no table, or an empty one, then an Arrow stream.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from dataclasses import dataclass
from typing import BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from evaluator.answers import OUT_OF_MEMORY, begun

PARQUET = b"PAR1"
INDEX = "__index_level_"
"""How pandas names its row labels in a Parquet file; they are no data."""
SEPARATORS = ",;\t"
HEADER_BYTES = 1 << 20
BATCH, MAX_BATCH = 200_000, 10_000
"""Values and rows that are unpacked before their size is looked at: a value may be as large as the file says."""


class Unusable(Exception):
    """There is no table to hand over. ``kind`` is the error of `services.validation.errors` that it becomes."""

    def __init__(self, kind: str, words: str) -> None:
        self.kind = kind
        super().__init__(words)


@dataclass(frozen=True, kw_only=True)
class Most:
    """How much is read; ``unpacked`` is bytes of memory."""

    rows: int
    columns: int
    unpacked: int

    def names(self, names: list[str]) -> None:
        """Refuse too many columns, one without a name, and two of the same name."""
        if len(names) > self.columns:
            raise Unusable(
                "HoldoutTooLarge", f"The table has {len(names):,} columns; at most {self.columns:,} are read."
            )
        if not all(name.strip() for name in names):
            raise Unusable(
                "WrongColumn", f"Column {next(i for i, n in enumerate(names, 1) if not n.strip())} has no name."
            )
        if len(set(names)) < len(names):
            raise Unusable("WrongColumn", f"Two columns are named {next(n for n in names if names.count(n) > 1)!r}.")

    def length(self, rows: int) -> None:
        """Refuse too many rows."""
        if rows > self.rows:
            raise Unusable("HoldoutTooLarge", f"The table has more than {self.rows:,} rows, which is all that is read.")

    def size(self, count: int) -> None:
        """Refuse a table that is too large in memory."""
        if count > self.unpacked:
            raise Unusable(
                "HoldoutTooLarge", f"The table is larger than {megabytes(self.unpacked)} once it is unpacked."
            )


Handed = tuple[pa.Table, list[int]]
"""A table, and the positions of its columns of whole numbers that are written as text."""


def main() -> None:
    """Obey the order in the first argument."""
    order = json.loads(sys.argv[1])
    try:
        table, integers = read(sys.stdin.buffer, Most(**order["most"]))
    except Unusable as error:
        begun(order, {"refused": error.kind, "words": str(error)}).close()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    else:
        with begun(order, {"integers": integers}) as result, pa.ipc.new_stream(result, table.schema) as stream:
            stream.write_table(table)


def read(content: BinaryIO, most: Most) -> Handed:
    """The table in ``content``; `Unusable` says why there is none."""
    parquet = content.read(len(PARQUET)) == PARQUET
    content.seek(0)
    try:
        frame, (table, integers) = _parquet(content, most) if parquet else _csv(content, most)
    except (pa.ArrowException, pd.errors.ParserError, ValueError, csv.Error, OverflowError, OSError) as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error):
            raise MemoryError from error
        kind, said = "Parquet" if parquet else "CSV", [*str(error).splitlines(), type(error).__name__][0]
        raise Unusable("UnreadableHoldout", f"The file cannot be read as {kind}: {said[:200]}") from error
    if frame.empty:
        raise Unusable("EmptyHoldout", "The file has columns but no rows.")
    most.size(int(frame.memory_usage(index=False, deep=True).sum()))
    return table, integers


def _csv(content: BinaryIO, most: Most) -> tuple[pd.DataFrame, Handed]:
    head = content.read(HEADER_BYTES)
    content.seek(0)
    if b"\0" in head:
        raise Unusable("UnreadableHoldout", "The file is neither CSV nor Parquet: it holds bytes that no text has.")
    text = head.decode("utf-8-sig", errors="replace").lstrip("\r\n")
    if not text:
        raise Unusable("EmptyHoldout", "The file holds nothing but empty lines.")
    separator = max(SEPARATORS, key=text.splitlines()[0].count)
    records = csv.reader(io.StringIO(text), delimiter=separator)
    most.names(names := next(records))
    if len(next(records, [])) > len(names):  # pandas would take the first column for row labels
        raise Unusable(
            "WrongColumn", f"The first row has more values than the {len(names):,} columns that have a name."
        )
    try:
        frame = pd.read_csv(
            content,
            sep=separator,
            encoding="utf-8-sig",
            compression=None,
            low_memory=False,
            nrows=most.rows + 1,
        )
    except pd.errors.EmptyDataError as error:
        raise Unusable("EmptyHoldout", "The file holds no table.") from error
    most.length(len(frame))
    return frame, _arrow(frame)


def _parquet(content: BinaryIO, most: Most) -> tuple[pd.DataFrame, Handed]:
    file = pq.ParquetFile(content)
    most.names(file.schema_arrow.names)
    most.length(file.metadata.num_rows)
    empty = sum(pa.types.is_null(one.type) for one in file.schema_arrow)
    most.size(8 * empty * file.metadata.num_rows)  # no bytes for Arrow, eight a value for pandas
    batches, rows, size = [], 0, 0
    at_once = min(MAX_BATCH, max(1, BATCH // max(1, len(file.schema_arrow.names))))
    for batch in file.iter_batches(batch_size=at_once, use_threads=False):
        rows, size = rows + batch.num_rows, size + batch.nbytes
        most.length(rows)
        most.size(size)
        batches.append(batch)
    table = pa.Table.from_batches(batches, schema=file.schema_arrow)
    table = table.select([name for name in table.column_names if not name.startswith(INDEX)])
    return table.to_pandas(ignore_metadata=True), (table, [])


def _arrow(frame: pd.DataFrame) -> Handed:
    objects = (position for position, kind in enumerate(frame.dtypes) if kind == "object")
    integers = [position for position in objects if frame.iloc[:, position].map(lambda value: type(value) is int).any()]
    handed = frame.copy(deep=False)
    for position in integers:
        handed.isetitem(position, frame.iloc[:, position].map(str, na_action="ignore").to_numpy())
    return pa.Table.from_pandas(handed, preserve_index=False), integers


def megabytes(count: int) -> str:
    """``256 MB``."""
    return f"{count / (1 << 20):,.0f} MB" if count >= 1 << 20 else f"{count:,} bytes"
