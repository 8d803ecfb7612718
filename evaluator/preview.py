"""The program inside: reads one file that anybody may have logged, and hands back pixels or lines of text.

The file is its standard input. What it writes to ``result_fd`` is read by `services.foreign`: a header, then the
pixels (RGBA, row by row) or the text (UTF-8).
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from typing import Any

from evaluator.answers import begun


def main() -> None:
    """Obey the order in the first argument."""
    order = json.loads(sys.argv[1])
    content = sys.stdin.buffer.read()
    header, body = _picture(content, order) if order["picture"] else _text(content, order)
    with begun(order, header) as result:
        result.write(body)


def _picture(content: bytes, order: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The first frame, made smaller where it is large; no pixels at all where there are too many."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # ours is lower, and says how many there are
    with Image.open(io.BytesIO(content), formats=(order["picture"],)) as image:
        width, height = image.size
        if width * height > order["pixels"]:
            return {"width": width, "height": height}, b""
        image.thumbnail((order["side"], order["side"]))
        shown = image.convert("RGBA")
        return {"width": shown.width, "height": shown.height}, shown.tobytes()


def _text(content: bytes, order: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The first lines, each cut; JSON is written in one way, so that only what differs does."""
    text, cut, written = content.decode("utf-8", "replace"), False, None
    if order["json"]:
        try:
            written, cut = _written(json.loads(text), order["lines"])
        except (ValueError, RecursionError):  # what is no JSON is shown as it was written
            written = None
    lines = (text if written is None else written).splitlines()
    kept = [line if len(line) <= order["line"] else f"{line[: order['line'] - 1]}…" for line in lines[: order["lines"]]]
    body = "\n".join(kept)
    return {"json": written is not None, "cut": cut or kept != lines}, body.encode("utf-8", "replace")


def _written(document: Any, most: int) -> tuple[str, bool]:
    """At most so many lines of a document, and whether there are more: indented, a small one can be gigabytes."""
    parts, lines = list[str](), 0
    rest: Iterator[str] = json.JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False).iterencode(document)
    for part in rest:
        parts.append(part)
        if (lines := lines + part.count("\n")) > most:
            return "".join(parts), True
    return "".join(parts), False
