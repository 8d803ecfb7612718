"""Words for people: escaped names, ages, numbers."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:^&\"'=])")
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_MADE_OF_TEXT = re.compile(
    r":(?=//|[\w+-]+[:/\[])"  # :material/x:, :streamlit:, :tada: and the middle of https://
    r"|@(?=\w)|www(?=\.)"  # addresses without a scheme
    r"|(?<!\S)[<>~-](?=(?:->|[->=])(?!\S))",  # ->, <-, <->, --, >=, <= and ~= that stand alone
    re.IGNORECASE,
)
JOINER = "\N{WORD JOINER}"
NONE = "–"


def plain(text: str, limit: int = 500) -> str:
    """Text without control and direction characters, cut to ``limit``: for places that show text as it is."""
    cleaned = _INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", text)
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def prose(text: str, limit: int = 10_000) -> str:
    """`plain`, but keeping line breaks."""
    return "\n".join(plain(line, limit) for line in text.splitlines())[:limit]


def escaped(text: str, limit: int = 500) -> str:
    """`plain` as Markdown that shows just these characters: names, tags and words are anybody's.

    Backslashes keep Markdown from reading anything into them. Icons, emoji, bare links and arrows are made of text
    when its backslashes are gone, so what would become one is joined by a character that cannot be seen.
    """
    return _MARKDOWN.sub(r"\\\1", _MADE_OF_TEXT.sub(rf"\g<0>{JOINER}", plain(text, limit)))


def ago(moment: datetime | str | None, now: datetime | None = None) -> str:
    """``3 days ago``; a dash for None. Text is read as ISO 8601."""
    if moment is None:
        return NONE
    then = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    future = seconds < -1
    seconds = abs(seconds)
    for size, unit in ((31_536_000, "year"), (2_592_000, "month"), (86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            words = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"in {words}" if future else f"{words} ago"
    return "just now"


def exact(moment: datetime | str | None) -> str:
    """``2026-11-23 09:30:12 UTC``."""
    if moment is None:
        return NONE
    then = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return then.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def number(value: float | None) -> str:
    """Four significant digits, or a word where there is no number."""
    if value is None:
        return "no evidence"
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def signed(value: float | None) -> str:
    """`number` with its sign, for a difference."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{'+' if value > 0 else '−' if value < 0 else '±'}{number(abs(value))}"


def size(bytes_: int) -> str:
    """``1.2 MB``."""
    amount = float(bytes_)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
