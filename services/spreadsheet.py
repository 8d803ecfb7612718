"""Cells of the CSV files that people download: text that no spreadsheet runs, and numbers that stay numbers.

A spreadsheet takes a cell for a formula by how it begins, after what nobody sees too, and where it splits a line
is a matter of its country: after commas, semicolons or tabs. So each part of a text is looked at, and what would begin
like a formula gets an apostrophe. (`defusedcsv` looks at the first character of a cell only.)
"""

from __future__ import annotations

import math
import re
import unicodedata

_SEPARATORS = re.compile(r"([;,\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029])")
_BREAKS = ("\t", "\r", "\n")
_FORMULAS = frozenset("=+-@|%\N{MINUS SIGN}")
"""After widths were made one: some spreadsheets read ``＝`` as ``=``."""
_UNSEEN = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me", "Cn", "Co", "Cs", "Pi", "Pf"})
"""Kinds of characters that are not seen, are dropped, or are quotes."""
_SKIPPED = frozenset("'\"`´\u201a\u201e\u115f\u1160\u2800\u3164\uff02\uff07\uffa0")


def cell(value: object) -> str:
    """``value`` as the text of one cell.

    A finite number stays as it is. Text gets an apostrophe before each part of it that a spreadsheet may take for a
    formula, ``-1`` too: with ``1*f()`` in the next cell it is one where commas are decimal. NUL becomes a visible sign,
    None an empty cell.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return repr(float(value) if isinstance(value, float) else int(value))
    text = "" if value is None else str(value).replace("\0", "\N{REPLACEMENT CHARACTER}")
    parts = _SEPARATORS.split(text)
    safe = "".join(f"'{part}" if _runs(part) else part for part in parts)
    return f"'{safe}" if text.startswith(_BREAKS) else safe


def _runs(part: str) -> bool:
    """Whether a spreadsheet may take this, at the beginning of a cell, for a formula."""
    first = next((c for c in part if unicodedata.category(c) not in _UNSEEN and c not in _SKIPPED), "")
    return unicodedata.normalize("NFKC", first)[:1] in _FORMULAS
