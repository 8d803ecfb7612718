"""Artifacts of a run as they may be shown: anybody can log anything, so only what is surely harmless, and in bounds.

Pictures are written anew from their pixels, which a process of its own decodes, so that nothing of the file itself
reaches a browser. What can carry scripts, such as SVG and HTML, is not shown at all.
"""

from __future__ import annotations

import difflib
import io
import tempfile
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image

from services import foreign
from services.foreign import Decoded, NotDecoded, OverLimit
from services.validation.subjects import Limits

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".gif": "GIF"}
TEXTS = frozenset({".json", ".txt", ".log", ".csv", ".tsv", ".md", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".py"})
MAX_BYTES = 2_000_000
"""Of a file that is read to be shown; a larger one is for MLflow's own page."""
MAX_PIXELS = 16_000_000
MAX_SIDE = 1200
MAX_LINES, MAX_LINE = 1000, 400
LIMITS = Limits(seconds=20, memory_bytes=512 << 20, output_bytes=8 << 20)
"""Of the process that reads one file."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """One file: a picture as PNG, or text, or in words why neither."""

    picture: bytes | None = None
    text: str | None = None
    language: str | None = None
    why_not: str = ""
    cut: bool = False
    """Whether some of the text was left out."""


def may_show(path: str, size: int) -> str:
    """Why a file is not even read, in words; empty when it is."""
    ending = _ending(path)
    if ending not in PICTURES and ending not in TEXTS:
        return "Only pictures, JSON and plain text are shown here."
    return f"Larger than {MAX_BYTES // 1_000_000} MB; open it in MLflow." if size > MAX_BYTES else ""


def preview(path: str, content: bytes) -> Preview:
    """One file as it may be shown."""
    if why := may_show(path, len(content)):
        return Preview(why_not=why)
    kind = PICTURES.get(_ending(path))
    order = {"picture": kind, "json": _ending(path) == ".json", "pixels": MAX_PIXELS, "side": MAX_SIDE}
    try:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            found = foreign.decoded(
                "preview",
                file,
                {**order, "lines": MAX_LINES, "line": MAX_LINE},
                doing=f"Reading this {'picture' if kind else 'text'}",
                limits=LIMITS,
            )
        return _picture(found) if kind else _text(found)
    except OverLimit as error:
        return Preview(why_not=str(error))
    except (NotDecoded, ValueError, KeyError, TypeError):
        return Preview(why_not=f"It is not a {kind} picture." if kind else "It is no text that can be read.")


def difference(old: Preview, new: Preview) -> str:
    """What changed from one text to the other, as a unified diff; empty when nothing did."""
    before, after = ((preview.text or "").splitlines() for preview in (old, new))
    return "\n".join(difflib.unified_diff(before, after, "baseline", "this version", lineterm="", n=2))


def _ending(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _picture(found: Decoded) -> Preview:
    """A PNG of our own making; a `ValueError` or `TypeError` where the pixels are not as many as they should be."""
    width, height = int(found.header["width"]), int(found.header["height"])
    if width * height > MAX_PIXELS:
        return Preview(why_not=f"{width} × {height} pixels are too many to show.")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE) or len(found.body) != 4 * width * height:
        raise ValueError("size")
    written = io.BytesIO()
    Image.frombytes("RGBA", (width, height), bytes(found.body)).save(written, "PNG")
    return Preview(picture=written.getvalue())


def _text(found: Decoded) -> Preview:
    lines = bytes(found.body).decode("utf-8", "replace").splitlines()
    text = "\n".join(line[:MAX_LINE] for line in lines[:MAX_LINES])
    return Preview(text=text, language="json" if found.header["json"] else None, cut=bool(found.header["cut"]))
