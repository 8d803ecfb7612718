"""The program inside: looks through a skops file for types that skops does not know; it restores none.

The file is its standard input. The header that it hands over has ``unknown``: their names, or None where the file is no
skops file, or larger than it may be.
"""

from __future__ import annotations

import json
import sys
import zipfile
from typing import Any

from evaluator.answers import begun

MAX_NAME = 300
SCHEMA, MAX_SCHEMA = "schema.json", 64 << 20
"""The file that says what is in the others, and bytes of it; a forest of a thousand trees takes a few million."""


def main() -> None:
    """Obey the order in the first argument."""
    order = json.loads(sys.argv[1])
    begun(order, {"unknown": _unknown(sys.stdin.buffer, order["bytes"], order["types"])}).close()


def _unknown(file: Any, most_bytes: int, most_types: int) -> list[str] | None:
    try:
        with zipfile.ZipFile(file) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
        if sum(sizes.values()) > most_bytes or sizes.get(SCHEMA, 0) > MAX_SCHEMA:
            return None
        import skops.io

        found = skops.io.get_untrusted_types(file=file)
        return [name[:MAX_NAME] for name in found[: most_types + 1]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError, RecursionError):
        return None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ImportError):
        return None
