"""Which row of a table was clicked: by its place among the rows that were on screen, which may be others by now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import streamlit as st

T = TypeVar("T")
_NOTHING = {"selection": {"rows": [], "columns": [], "cells": []}}


def remember(table: str, values: Sequence[object]) -> None:
    """Note what each row of ``table`` (its widget key) stands for; call it whenever the table is drawn."""
    st.session_state[f"{table}-shown"] = list(values)


def clicked(table: str, kind: type[T]) -> T | None:
    """What the row stands for that was clicked just now; None when none was."""
    value = st.session_state.pop(f"{table}-clicked", None)
    return value if isinstance(value, kind) else None


def on_cell(table: str) -> Callable[[], None]:
    """For ``on_select`` with ``selection_mode="single-cell"``: a click anywhere in a row."""

    def note() -> None:
        cells = st.session_state[table]["selection"]["cells"]
        if cells:
            _note(table, cells[0][0])
            st.session_state[table] = _NOTHING  # so that the same row can be clicked again

    return note


def on_button(table: str, column: str) -> Callable[[], None]:
    """For a ``ButtonColumn`` with ``column`` as its key."""
    return lambda: _note(table, st.session_state[column]["row"])


def _note(table: str, position: int) -> None:
    shown = st.session_state.get(f"{table}-shown", [])
    if 0 <= position < len(shown):
        st.session_state[f"{table}-clicked"] = shown[position]
