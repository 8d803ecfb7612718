"""Which row of a table was clicked: by its place among the rows that were on screen, which may be others by now.

Tables open things with a button in a cell, not with ``on_select``: a cell is also selected when the keyboard reaches
the table, and that must not lead anywhere. Who has no mouse finds real links in the cards and in the timeline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import streamlit as st

T = TypeVar("T")


def remember(button: str, values: Sequence[object]) -> None:
    """Note what each row stands for; ``button`` is the key of a ``ButtonColumn``."""
    st.session_state[f"{button}-shown"] = list(values)


def noted(button: str) -> Callable[[], None]:
    """The column's ``on_click``."""

    def note() -> None:
        position, shown = st.session_state[button]["row"], st.session_state.get(f"{button}-shown", [])
        if 0 <= position < len(shown):
            st.session_state[f"{button}-clicked"] = shown[position]

    return note


def clicked(button: str, kind: type[T]) -> T | None:
    """What the row stands for whose button was clicked just now; None when none was."""
    value = st.session_state.pop(f"{button}-clicked", None)
    return value if isinstance(value, kind) else None
