"""The comparison a decision was made on, as its record kept it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from components.comparison import ARROWS
from components.text import NONE, escaped, number, signed
from services.metrics import Direction
from services.side_by_side.recorded_comparison import Kept, KeptCell

_COLOURS = {"better": "green", "worse": "red", "other data": "orange"}


def compared(kept: Kept) -> None:
    """The sentence that was on screen, every number with its change, and what each version was measured on."""
    st.markdown("**What was compared**")
    st.caption(escaped(kept.sentence, 2000))
    one_model = len({version.name for version in kept.versions}) == 1
    names = [f"v{v.version}" if one_model else f"{escaped(v.name, 80)} v{v.version}" for v in kept.versions]
    heads = [f"{names[0]} (baseline)", *names[1:]]
    frame = pd.DataFrame(
        [
            [f"{escaped(row.name, 80)} {ARROWS.get(Direction(row.better), '')}", *map(_cell, row.cells)]
            for row in kept.metrics
        ],
        columns=pd.Index(["metric", *heads]),
    )
    right = ", ".join(f"{cell}.col{n}" for n in range(1, len(heads) + 1) for cell in ("th", "td"))
    styled = frame.style.set_table_styles([{"selector": right, "props": "text-align: right !important;"}])
    st.table(styled, border="horizontal", hide_index=True)
    if kept.left_out:
        st.caption(f"{kept.left_out} more metrics were not kept here.")
    for name, version in zip(names, kept.versions, strict=True):
        on = escaped(", ".join(version.datasets), 600) or "not said"
        warning = " :orange[— other data than the baseline]" if version.data == "different" else ""
        st.caption(f"{name} measured on {on}{warning}")


def _cell(cell: KeptCell) -> str:
    if cell.value is None:
        return ":gray[no evidence]"
    if not cell.delta:
        return escaped(number(cell.value)) + (f" :gray[{cell.standing}]" if cell.standing == "equal" else "")
    words = escaped(f"{signed(cell.delta) if cell.delta else NONE} {cell.standing}")
    return f"{escaped(number(cell.value))}  \n:{_COLOURS.get(cell.standing, 'gray')}[{words}]"
