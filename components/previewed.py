"""A file that a run logged, as it may be shown: read from MLflow, decoded in a process of its own, remembered."""

from __future__ import annotations

import hashlib
import threading
from typing import Literal

import streamlit as st
from cachetools import TTLCache, cached

from components.text import escaped, plain
from services.domain import ArtifactEntry
from services.errors import SignoffError
from services.reading import Reader
from services.side_by_side import previews
from services.side_by_side.previews import Preview

TTL_SECONDS = 3600
MAX_BYTES = 64_000_000
"""All that is remembered; what was not shown for the longest time is forgotten first."""


def _size(preview: Preview) -> int:
    """Bytes that it takes, about."""
    return 1000 + len(preview.picture or b"") + 4 * len(preview.text or "")


def _content(path: str, content: bytes) -> tuple[str, bytes]:
    return path, hashlib.sha256(content).digest()


def previewed(reader: Reader, run_id: str, entry: ArtifactEntry) -> Preview:
    """The file, or in words why it is not shown."""
    if why := previews.may_show(entry.path, entry.size):
        return Preview(why_not=why)
    return _preview(entry.path, reader.run_file(run_id, entry.path))


def picture(reader: Reader, run_id: str, entry: ArtifactEntry, caption: str, width: int | Literal["stretch"]) -> None:
    """One picture with its caption; where it cannot be shown, a sentence in its place."""
    try:
        preview = previewed(reader, run_id, entry)
    except SignoffError as error:
        preview = Preview(why_not=str(error))
    if preview.picture is not None:
        st.image(preview.picture, caption=plain(caption, 80), width=width)
    else:
        st.caption(f"{escaped(caption, 80)} is not shown. {escaped(preview.why_not, 300)}", width=width)


@cached(TTLCache[tuple[str, bytes], Preview](MAX_BYTES, TTL_SECONDS, getsizeof=_size), _content, threading.Lock())
def _preview(path: str, content: bytes) -> Preview:
    """Decoding a picture takes longer than anything else on the page."""
    return previews.preview(path, content)
