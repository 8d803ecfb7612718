"""Files of strangers that were made to break their decoder: each ends in one sentence, and takes nothing of ours.

Most are small versions of files from public bug reports, named where they are.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from api import validations
from services import foreign
from services.domain import VersionRef
from services.errors import UnreadableModel
from services.foreign import OverLimit
from services.mlflow import entities
from services.mlflow.artifacts import described
from services.side_by_side import differences, previews
from services.side_by_side.previews import Preview, preview
from services.signoff import Signoff
from services.validation import loading, sandbox, tables
from services.validation.errors import HoldoutRefused, HoldoutTooLarge, UnreadableHoldout
from services.validation.sandbox import Isolation, Outcome
from services.validation.subjects import Limits
from services.validation.tables import HoldoutLimits
from tests.fakes import FakeRegistry
from tests.pages import opened, text
from tests.test_previews import png

MEGABYTE = 1 << 20


def read(content: bytes, limits: HoldoutLimits | None = None) -> pd.DataFrame:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        return tables.read(file, limits or HoldoutLimits())[0]


def parquet(table: pa.Table, **how: object) -> bytes:
    written = io.BytesIO()
    pq.write_table(table, written, **how)
    return written.getvalue()


def bomb(columns: int = 1) -> bytes:
    """100,000 rows of one text of 100,000 letters: 10 GB in a few hundred bytes."""
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array(["x" * 100_000]))
    table = pa.table({f"c{number}": values for number in range(columns)})
    return parquet(table, compression="zstd", store_schema=False, write_statistics=False, data_page_size=1 << 30)


def our_peak() -> int:
    """Bytes of memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, *chunks: bytes, pixels: bytes = b"\0\0") -> bytes:
    """A PNG of one bit a pixel that says it has this size, whatever follows."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rest = (*chunks, chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(rest)


def animated(kind: str, frames: int = 40) -> bytes:
    shown = [Image.new("RGB", (40, 30), (number, 0, 0)) for number in range(frames)]
    written = io.BytesIO()
    shown[0].save(written, kind, save_all=True, append_images=shown[1:])
    return written.getvalue()


def told() -> bytes:
    written, info = io.BytesIO(), PngInfo()
    info.add_text("Comment", "who took it, and where", zip=True)
    Image.new("RGB", (4, 3), "red").save(written, "PNG", pnginfo=info)
    return written.getvalue()


class TestParquet:
    @pytest.mark.parametrize(("columns", "isolated"), [(1, True), (20, False)])
    def test_a_few_hundred_bytes_that_unfold_into_gigabytes_take_none_of_ours(
        self, columns: int, isolated: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = bomb(columns)
        assert len(content) < 600 * columns
        if not isolated:
            monkeypatch.setattr(sandbox, "isolation", lambda: Isolation(available=False, reason="refused"))
        before = our_peak()

        with pytest.raises(HoldoutTooLarge, match=r"more than 2 GB of memory|larger than 1,024 MB once it is unpacked"):
            read(content)

        assert our_peak() - before < 64 * MEGABYTE

    @pytest.mark.usefixtures("decoding_here")
    def test_columns_of_nothing_are_counted_as_what_they_become(self) -> None:
        content = parquet(pa.table({f"n{number}": pa.nulls(1000) for number in range(20)}))

        with pytest.raises(HoldoutTooLarge, match="once it is unpacked"):
            read(content, HoldoutLimits(bytes=30_000, rows=1000, columns=20))

    def test_a_damaged_file_is_said_to_be_one(self) -> None:
        content = bytearray(parquet(pa.table({"s": ["north", "south"] * 20, "y": [0, 1] * 20}), compression="none"))
        content[5] = 0x80  # the size of the first page

        with pytest.raises(HoldoutRefused):  # arrow issues 41317 and 41321 were crashes
            read(bytes(content))

    @pytest.mark.usefixtures("decoding_here")
    def test_text_that_is_none_is_refused(self) -> None:
        offsets, letters = pa.py_buffer(struct.pack("<3i", 0, 1, 2)), pa.py_buffer(b"\xff\xfe")
        broken = pa.Array.from_buffers(pa.string(), 2, [None, offsets, letters])

        with pytest.raises(UnreadableHoldout, match="gives no table"):
            read(parquet(pa.table({"s": broken, "y": [0, 1]})))

    def test_very_deep_columns_are_refused(self) -> None:
        deep = pa.int64()
        for _ in range(100):
            deep = pa.list_(deep)

        with pytest.raises(UnreadableHoldout):
            read(parquet(pa.table({"x": pa.nulls(2, deep), "y": [0, 1]})))


class TestCsv:
    @pytest.mark.usefixtures("decoding_here")
    @pytest.mark.parametrize(
        ("content", "error", "words"),
        [
            (b"a," * 1_000_000 + b"b\n1\n", HoldoutTooLarge, "columns; at most 2,000 are read"),
            (b"a,y\n" + b"x" * MEGABYTE + b",1\n", UnreadableHoldout, "field larger than field limit"),
            (b'a,y\n1,0\n"' + b"x\n" * MEGABYTE, UnreadableHoldout, "cannot be read as CSV"),
            (b"a,y\n1,0\n\0\0\0", UnreadableHoldout, "holds bytes that no text has"),
            ("a,y\n1,0\n".encode("utf-16"), UnreadableHoldout, "holds bytes that no text has"),
            (
                gzip.compress(b"a,y\n1,0\n" * 100_000),
                UnreadableHoldout,
                "CSV",
            ),
        ],
        ids=["a million columns", "a long line", "an open quote", "NUL", "UTF-16", "gzip"],
    )
    def test_each_kind_is_refused(self, content: bytes, error: type[HoldoutRefused], words: str) -> None:
        with pytest.raises(error, match=words) as refused:
            read(content)

        assert str(refused.value).count("\n") == 0

    def test_short_rows_that_are_filled_up_take_none_of_our_memory(self) -> None:
        before, head = our_peak(), b",".join(b"c%d" % number for number in range(2000))

        with pytest.raises(HoldoutTooLarge, match="more than 2 GB of memory"):
            read(head + b"\n" + b"1\n" * 150_000)  # 2.4 GB once each row has 2,000 values

        assert our_peak() - before < 64 * MEGABYTE

    def test_a_row_that_overflows_the_parser_of_pandas_is_read_or_refused(self) -> None:
        """A heap overflow in pandas issue 66657."""
        rows = [",".join(f"c{number}" for number in range(2000)), *["a"] * 40, "X" * 100_000, ""]

        with suppress(HoldoutRefused):
            assert read("\n".join(rows).encode()).shape == (41, 2000)

    @pytest.mark.usefixtures("decoding_here")
    def test_what_comes_back_is_what_pandas_reads(self) -> None:
        columns = {
            "whole": [1, -2, 3],
            "fraction": [0.1, np.nan, 1e300],
            "text": ["north", None, "with, comma\nand line"],
            "truth": [True, False, True],
            "some_truth": [True, None, False],
            "large": [2**63, 1, 2],
            "larger": [str(2**70), "1", "2"],
            "y": [0, 1, 0],
        }
        content = pd.DataFrame(columns).to_csv(index=False)

        pd.testing.assert_frame_equal(read(content.encode()), pd.read_csv(io.StringIO(content)), check_exact=True)


def laughs(repeating: str) -> bytes:
    """Each of eight lines repeats the one before nine times."""
    lines = (f"a{n}: &a{n} {repeating % ', '.join([f'*a{n - 1}'] * 9)}" for n in range(1, 9))
    return "\n".join(["a0: &a0 {k: 1}", *lines]).encode()


class TestMLmodel:
    """It is read in our own process, at each look at a version: so it is refused before it can cost anything."""

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"flavors: [" + b"1," * 20_000 + b"1]", "more than 20,000 values"),
            (b"a: " + b"[" * 60 + b"]" * 60, "nested more than 50 levels deep"),
            (b"- " * 1100 + b"a", "nested more than 50 levels deep"),  # PyYAML issue 895
            (laughs("[%s]"), "more than 20,000 values"),  # PyYAML issue 235
            (laughs("{<<: [%s]}"), "more than 20,000 values"),  # PyYAML issue 897
            (b"flavors: &a [*a]", "an alias repeats what it is part of"),
            (b"flavors: [*a]", "an alias repeats what it is part of"),
            (b"a: 1" + b":1" * 60, "a number has more than 100 characters"),
            (b"a: 1" + b"0" * 5000, "a number has more than 100 characters"),
            (b"flavors: {}\nflavors: {python_function: {}}", "'flavors' is given twice"),
            (b"a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
            (b"a: !!int ''", "a value that cannot be read"),
            (b"a: 2026-02-30", "a value that cannot be read"),
            (b"? [a, b]\n: c", "unhashable"),
            (b"\xff\xfea: 1", "it is not UTF-8"),
            (b"a: \0", "unreadable"),
            (b"--- a\n--- b", "another document"),
            (b"signature: {inputs: '" + b"[" * 5000 + b"'}", ""),
        ],
    )
    def test_what_would_cost_or_say_too_much_is_refused(self, content: bytes, words: str) -> None:
        with pytest.raises(UnreadableModel, match=f"makes no sense.*{words}"):
            described(VersionRef(name="m", version=1), content)

    def test_what_is_in_it_twice_is_read(self) -> None:
        twice = {"pip": ["pandas"]}
        content = yaml.safe_dump({"metadata": {"a": twice, "b": twice}, "flavors": {"x": {"data": "model.bin"}}})
        assert "*id001" in content

        assert described(VersionRef(name="m", version=1), content.encode()).named == ("model.bin",)

    def test_one_of_very_many_columns_is_read(self) -> None:
        columns = json.dumps([{"type": "double", "name": f"column number {number}"} for number in range(2000)])
        found = described(VersionRef(name="m", version=1), yaml.safe_dump({"signature": {"inputs": columns}}).encode())

        assert found.signature is not None
        assert len(found.signature.inputs) == 2000


def test_a_skops_file_whose_description_unfolds_into_gigabytes_needs_consent(tmp_path: Path) -> None:
    before, file = our_peak(), tmp_path / "model.skops"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("schema.json", "w") as schema:
        schema.write(b'{"a": [')
        for _ in range(70):
            schema.write(b"[]," * (MEGABYTE // 3))
        schema.write(b"0]}")

    assert loading._unknown_types(file) is None
    assert our_peak() - before < 64 * MEGABYTE


@pytest.mark.parametrize("read", [entities._place, validations._json])
def test_json_without_an_end_is_none(read: Callable[[Any], object]) -> None:
    assert not read("[" * 100_000)


def test_spaces_in_requirements_take_no_time() -> None:
    (found,) = differences.requirements(["pandas" + " " * 200_000 + "x"])  # hours, where each space is tried with each

    assert found.values == ("named",)


class TestTheAnswer:
    """The process that reads a file may have become somebody else's: it is not believed."""

    def answering(self, monkeypatch: pytest.MonkeyPatch, header: object, body: bytes = b"") -> None:
        encoded = json.dumps(header).encode()
        result = struct.pack("<I", len(encoded)) + encoded + body
        monkeypatch.setattr(sandbox, "run", lambda *_, **__: Outcome(result=result, output=""))

    def stream(self, table: pa.Table) -> bytes:
        written = io.BytesIO()
        with pa.ipc.new_stream(written, table.schema) as stream:
            stream.write_table(table)
        return written.getvalue()

    def test_a_larger_table_than_it_may_hand_over_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answering(monkeypatch, {"integers": []}, self.stream(pa.table({"y": list(range(50))})))

        with pytest.raises(HoldoutTooLarge, match="larger than its reader may hand over"):
            read(b"y\n1\n", HoldoutLimits(rows=49))

    @pytest.mark.parametrize("body", [b"", b"\x80\x04K\x01.", b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 4])
    def test_what_is_no_table_is_refused(self, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answering(monkeypatch, {"integers": []}, body)

        with pytest.raises(UnreadableHoldout):
            read(b"y\n1\n")

    @pytest.mark.parametrize("integers", [[5], [0], "x", None, 3])
    def test_integers_that_are_none_are_refused(self, integers: object, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answering(monkeypatch, {"integers": integers}, self.stream(pa.table({"y": ["a", "b"]})))

        with pytest.raises(UnreadableHoldout):
            read(b"y\n1\n")

    def test_a_kind_of_refusal_that_we_do_not_know_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answering(monkeypatch, {"refused": "SystemExit", "words": "a\nb" * 1000})

        with pytest.raises(UnreadableHoldout, match=r"^a ba b") as refused:
            read(b"y\n1\n")

        assert len(str(refused.value)) <= tables.MAX_WORDS

    @pytest.mark.parametrize("header", [[], {"words": "x" * foreign.MAX_HEADER}, None])
    def test_a_header_that_is_none_is_refused(self, header: object, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answering(monkeypatch, header)

        with pytest.raises(UnreadableHoldout):
            read(b"y\n1\n")

    @pytest.mark.parametrize(
        ("header", "body"),
        [
            ({"width": 2, "height": 2}, b"\0" * 15),
            ({"width": 2, "height": 2}, b"\0" * 17),
            ({"width": 2000, "height": 2000}, b"\0" * 16_000_000),
            ({"width": -1, "height": -1}, b"\0" * 4),
            ({"width": "many", "height": 1}, b""),
            ({}, b"\x89PNG"),
        ],
        ids=["too few", "too many", "too large", "negative", "no number", "a file"],
    )
    def test_pixels_that_make_no_picture_are_refused(
        self, header: dict[str, object], body: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.answering(monkeypatch, header, body)

        assert preview("a.png", b"") == Preview(why_not="It is not a PNG picture.")

    def test_a_text_is_cut_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answering(monkeypatch, {"json": False, "cut": False}, b"x" * 10_000 + b"\n" * 10_000)
        found = preview("a.txt", b"").text or ""

        assert max(map(len, found.split("\n"))) <= previews.MAX_LINE
        assert len(found.split("\n")) <= previews.MAX_LINES


PICTURES: Sequence[tuple[str, Callable[[], bytes], str]] = (
    ("a bomb", lambda: png_of(60_000, 60_000), "60000 × 60000 pixels are too many to show."),
    ("cut off", lambda: png(300, 200)[:-30], "It is not a PNG picture."),
    ("a script", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "It is not a PNG"),
    # Pillow issue 6252: a second, empty header after the pixels raised a struct.error
    ("two headers", lambda: png()[:-12] + chunk(b"IHDR", b"") + png()[-12:], "It is not a PNG picture."),
    # Pillow issue 318: a piece of a compressed text raised a zlib.error
    ("text cut off", lambda: png_of(8, 1, chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 99)[:9])), ""),
    # Pillow 1060: each text below its limit, all of them 200 MB
    ("much text", lambda: png_of(8, 1, *[chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 999_999))] * 200), "It is not"),
)  # fmt: skip


class TestPictures:
    """With the process of its own; `test_previews` has the rest."""

    @pytest.mark.parametrize(("content", "words"), [one[1:] for one in PICTURES], ids=[one[0] for one in PICTURES])
    def test_each_ends_in_a_sentence_or_is_shown(self, content: Callable[[], bytes], words: str) -> None:
        before = our_peak()
        found = preview("a.png", content())

        assert found.why_not.startswith(words)
        assert (found.picture is None) == bool(found.why_not)
        assert our_peak() - before < 64 * MEGABYTE

    @pytest.mark.parametrize(("path", "kind"), [("a.png", "PNG"), ("a.gif", "GIF"), ("a.webp", "WEBP")])
    def test_of_a_moving_one_the_first_picture_is_shown(self, path: str, kind: str) -> None:
        found = preview(path, animated(kind)).picture

        assert found is not None
        assert getattr(Image.open(io.BytesIO(found)), "n_frames", 1) == 1

    def test_what_was_written_beside_the_pixels_is_gone(self) -> None:
        found = preview("a.png", told()).picture

        assert found is not None
        assert not Image.open(io.BytesIO(found)).info
        assert b"zTXt" not in found

    def test_json_that_unfolds_into_gigabytes_is_cut(self) -> None:
        before = our_peak()
        found = preview("a.json", b"[" * 900 + b"0," * 500_000 + b"0" + b"]" * 900)

        assert found.cut
        assert our_peak() - before < 64 * MEGABYTE

    def test_a_decoder_that_never_ends_is_ended(self) -> None:
        reading, writing = os.pipe()  # nothing comes, and nobody closes it
        endless = SimpleNamespace(seek=lambda _: 0, fileno=lambda: reading)
        try:
            with pytest.raises(OverLimit, match=r"^Reading it was stopped: it took longer than 0\.2 s\.$"):
                foreign.decoded("preview", endless, {"picture": ""}, doing="Reading it", limits=Limits(seconds=0.2))
        finally:
            os.close(reading)
            os.close(writing)

    def test_one_that_was_stopped_says_so_in_place_of_the_picture(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def stopped(*_: object, **__: object) -> foreign.Decoded:
            raise OverLimit("Reading this picture was stopped.")

        monkeypatch.setattr(foreign, "decoded", stopped)

        assert preview("a.png", png()) == Preview(why_not="Reading this picture was stopped.")

    def test_no_process_at_all_is_a_sentence_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*_: object, **__: object) -> Outcome:
            raise OSError(12, os.strerror(12))

        monkeypatch.setattr(sandbox, "run", refused)

        assert preview("a.txt", b"x").why_not == "It is no text that can be read."


class TestVersionPage:
    def test_it_opens_with_a_broken_picture_in_the_run(self, signoff: Signoff, registry: FakeRegistry) -> None:
        candidate = registry.add_version("m", {"val_auc": 0.99})
        registry.log_file(candidate, "a_good.png", png())
        registry.log_file(candidate, "b_broken.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
        registry.log_file(candidate, "c_bomb.png", png_of(60_000, 60_000))
        registry.log_file(candidate, "d_script.PNG", b"<svg onload=alert(1)>")
        at = opened(signoff, "reviewer", "version", name=candidate.name, version=str(candidate.version))

        assert not at.exception
        assert len([*at.get("imgs"), *at.get("image")]) == 1
        assert "b_broken.png is not shown. It is not a PNG picture." in text(at)
        assert "c_bomb.png is not shown. 60000 × 60000 pixels are too many to show." in text(at)
        assert "d_script.PNG is not shown. It is not a PNG picture." in text(at)
        assert "onload" not in text(at)
