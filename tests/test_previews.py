"""Artifacts are anybody's: what is shown of them is harmless and in bounds."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from components import previewed
from services.side_by_side import previews
from services.side_by_side.previews import Preview, preview

pytestmark = pytest.mark.usefixtures("decoding_here")

SECRET = b"<script>alert(1)</script>"


def png(width: int = 4, height: int = 3, kind: str = "PNG") -> bytes:
    found = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(found, kind)
    return found.getvalue()


class TestPictures:
    @pytest.mark.parametrize(
        ("path", "kind"), [("a.png", "PNG"), ("b.JPG", "JPEG"), ("c.webp", "WEBP"), ("d.gif", "GIF")]
    )
    def test_are_written_anew_as_png(self, path: str, kind: str) -> None:
        found = preview(path, png(kind=kind) + SECRET).picture
        assert found is not None
        assert found.startswith(b"\x89PNG")
        assert SECRET not in found

    def test_large_ones_are_made_smaller(self) -> None:
        found = preview("a.png", png(3000, 2000)).picture
        assert found is not None
        assert Image.open(io.BytesIO(found)).size == (previews.MAX_SIDE, 800)

    def test_one_with_very_many_pixels_is_not_decoded(self) -> None:
        assert "pixels are too many" in preview("a.png", png(5000, 5000)).why_not

    @pytest.mark.parametrize(
        "content",
        [b"", SECRET, b"\x89PNG\r\n\x1a\n" + b"\0" * 50, png()[:40], png(kind="GIF")],
        ids=["nothing", "a script", "a beginning", "a piece", "another kind"],
    )
    def test_what_is_none_is_said_to_be_none(self, content: bytes) -> None:
        assert preview("a.png", content) == Preview(why_not="It is not a PNG picture.")


class TestTexts:
    def test_json_is_written_in_one_way_so_that_only_what_differs_does(self) -> None:
        old, new = preview("r.json", b'{"b": 1,\n\n "a": 2}'), preview("r.json", b'{"a":2,"b":1}')
        assert old == new
        assert old.language == "json"
        assert previews.difference(old, new) == ""

    @pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'{"a": 1e999999}', b"9" * 5000])
    def test_json_that_is_none_is_shown_as_it_was_written(self, content: bytes) -> None:
        assert preview("r.json", content).text is not None

    def test_bytes_that_are_no_text_stay_harmless(self) -> None:
        assert preview("a.txt", b"\xff\xfe\x00").text == "\ufffd\ufffd\x00"

    def test_is_cut_in_lines_and_in_length_and_says_so(self) -> None:
        found = preview("a.txt", b"x" * 1000 + b"\n" + b"y\n" * 2000)
        assert found.text is not None
        assert found.cut
        lines = found.text.splitlines()
        assert (len(lines), len(lines[0])) == (previews.MAX_LINES, previews.MAX_LINE)
        assert not preview("a.txt", b"short\n").cut

    def test_a_difference_names_what_went_and_what_came(self) -> None:
        found = previews.difference(preview("a.txt", b"one\ntwo\n"), preview("a.txt", b"one\nthree\n"))
        assert found.splitlines()[-2:] == ["-two", "+three"]


class TestNever:
    @pytest.mark.parametrize("path", ["a.svg", "a.html", "a.HTM", "a.pkl", "a.png.svg", "a", "model.js", ".png"])
    def test_what_can_run_is_neither_read_nor_shown(self, path: str) -> None:
        assert previews.may_show(path, 1)
        assert preview(path, SECRET) == Preview(why_not="Only pictures, JSON and plain text are shown here.")

    def test_what_is_too_large_is_not_read(self) -> None:
        assert "Larger than 2 MB" in previews.may_show("a.png", previews.MAX_BYTES + 1)
        assert "Larger than 2 MB" in preview("a.txt", b"x" * (previews.MAX_BYTES + 1)).why_not


class TestWhatIsRemembered:
    def test_has_so_many_bytes_at_most_and_what_was_shown_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        decoded: list[str] = []

        def decode(path: str, content: bytes) -> Preview:
            decoded.append(path)
            return Preview(picture=bytes(previewed.MAX_BYTES * 2 // 5))

        monkeypatch.setattr(previews, "preview", decode)
        for path in ("a.png", "b.png", "a.png", "c.png", "a.png", "b.png"):  # two of them fit
            previewed._preview(path, b"of this test alone")
        assert decoded == ["a.png", "b.png", "c.png", "b.png"]

    def test_what_is_too_large_is_shown_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        huge = Preview(picture=bytes(previewed.MAX_BYTES + 1))
        monkeypatch.setattr(previews, "preview", lambda path, content: huge)
        assert previewed._preview("huge.png", b"of this test alone") is huge
