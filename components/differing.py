"""Every difference beside the metrics, a tab each; which tab and which rows are part of the link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import streamlit as st

from components.artifacts import artifacts
from components.comparison import differences_csv, differences_table, stem
from components.text import escaped
from services.side_by_side import comparing
from services.side_by_side.comparison import Comparison
from services.side_by_side.conclusions import conclude
from services.side_by_side.differences import Compatibility, Difference
from services.signoff import Signoff

TABS = ("Params", "Tags", "Signature", "Requirements", "Data sets", "Source", "Artifacts")
_SIGNS = {
    Compatibility.COMPATIBLE: ":green[:material/check: compatible]",
    Compatibility.WIDENED: ":blue[:material/open_in_full: widened]",
    Compatibility.BREAKING: ":red[:material/link_off: breaking]",
    Compatibility.UNKNOWN: ":gray[:material/help: not known]",
}


def other_differences(signoff: Signoff, comparison: Comparison) -> None:
    """Only the open tab is drawn, and what it alone needs is read only then."""
    st.subheader("Differences", anchor=False)
    rows: dict[str, Callable[[], Sequence[Difference]]] = {
        "Params": lambda: comparison.params,
        "Tags": lambda: comparison.tags,
        "Signature": lambda: comparison.signature,
        "Requirements": partial(comparing.requirements, signoff, comparison),
        "Data sets": lambda: comparison.datasets,
        "Source": lambda: comparison.source,
    }
    for tab, title in zip(
        st.tabs(list(TABS), key="differences", on_change="rerun", bind="query-params"), TABS, strict=True
    ):
        if tab.open:
            with tab:
                if title in rows:
                    _differences(title, rows[title](), comparison)
                else:
                    artifacts(signoff.reader, comparison, only=_only())


def _only() -> bool:
    return st.toggle("Only differences", value=True, key="only_differences", bind="query-params")


def _differences(title: str, rows: Sequence[Difference], comparison: Comparison) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        only = _only()
        reserved = title == "Tags" and st.toggle(
            "MLflow's and Signoff's own tags", key="reserved_tags", bind="query-params"
        )
        counted = [row for row in rows if not row.reserved]
        st.caption(f"{sum(row.differs for row in counted)} of {len(counted)} differ")
        shown = [row for row in rows if (row.differs or not only) and (reserved or not row.reserved)]
        if shown:
            name = f"{stem(comparison)}-{title.lower().replace(' ', '-')}.csv"
            st.space("stretch")
            st.download_button(
                "CSV",
                partial(differences_csv, shown, comparison),
                name,
                "text/csv",
                key=f"csv_{title}",
                icon=":material/download:",
                on_click="ignore",
            )
    if title == "Signature":
        _compatibility(comparison)
    if shown:
        differences_table(shown, comparison, key=f"differing_{title}")
    elif not rows:
        st.info(f"No version has any {title.lower()}.", icon=":material/search_off:")
    else:
        st.success(f"No difference in {title.lower()}.", icon=":material/check:")


def _compatibility(comparison: Comparison) -> None:
    """What each candidate's signature means for those who call the baseline today."""
    for conclusion in conclude(comparison):
        why = conclusion.unsigned or ", ".join(conclusion.signature.reasons)
        sign = _SIGNS[conclusion.signature.compatibility]
        st.markdown(f"**{escaped(conclusion.candidate)}** {sign}{f': {escaped(why, 1000)}' if why else ''}")
