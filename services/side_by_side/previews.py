"""Artifacts of a run as they may be shown: anybody can log anything, so only what is surely harmless, and in bounds.

Pictures are decoded and written anew, so that nothing of the file itself reaches a browser. What can carry scripts,
such as SVG and HTML, is not shown at all.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import warnings
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".gif": "GIF"}
TEXTS = frozenset({".json", ".txt", ".log", ".csv", ".tsv", ".md", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".py"})
MAX_BYTES = 2_000_000
"""Of a file that is read to be shown; a larger one is for MLflow's own page."""
MAX_PIXELS = 16_000_000
MAX_SIDE = 1200
MAX_LINES, MAX_LINE = 1000, 400


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
    return _picture(path, content) if _ending(path) in PICTURES else _text(path, content)


def difference(old: Preview, new: Preview) -> str:
    """What changed from one text to the other, as a unified diff; empty when nothing did."""
    before, after = ((preview.text or "").splitlines() for preview in (old, new))
    return "\n".join(difflib.unified_diff(before, after, "baseline", "this version", lineterm="", n=2))


def _ending(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _picture(path: str, content: bytes) -> Preview:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=(PICTURES[_ending(path)],)) as image:
                if image.width * image.height > MAX_PIXELS:
                    return Preview(why_not=f"{image.width} × {image.height} pixels are too many to show.")
                image.thumbnail((MAX_SIDE, MAX_SIDE))
                found = io.BytesIO()
                image.convert("RGBA").save(found, "PNG")
                return Preview(picture=found.getvalue())
    except Exception:  # whatever a decoder stumbles over: it is the file that is wrong
        return Preview(why_not=f"It is not a {PICTURES[_ending(path)]} picture.")


def _text(path: str, content: bytes) -> Preview:
    text, language = content.decode("utf-8", "replace"), None
    if _ending(path) == ".json":
        language = "json"
        with contextlib.suppress(ValueError, RecursionError):  # what is no JSON is shown as it was written
            text = json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False)
    lines = text.splitlines()
    kept = [line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…" for line in lines[:MAX_LINES]]
    return Preview(text="\n".join(kept), language=language, cut="\n".join(kept) != "\n".join(lines))
