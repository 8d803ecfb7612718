"""How a program inside hands over what it found: a header in JSON, then bytes."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

OUT_OF_MEMORY = 3
"""How a program ends that needed more memory than it may have."""


def begun(order: Mapping[str, Any], header: Mapping[str, Any]) -> BinaryIO:
    """The order's ``result_fd``, with the length of the header in 4 bytes and the header in it; the bytes follow."""
    encoded = json.dumps(header).encode()
    result = os.fdopen(order["result_fd"], "wb")
    result.write(struct.pack("<I", len(encoded)) + encoded)
    return result
