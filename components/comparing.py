"""What to do next with a comparison, and its metrics as bars."""

from __future__ import annotations

from functools import partial

import plotly.graph_objects as go
import streamlit as st

from components import charts, links
from components.chart_style import draw, version_colours
from components.comparison import as_csv, stem
from components.text import escaped
from services.accounts import permissions
from services.domain import Action, Actor, ModelVersion, Stage, Status, VersionRef
from services.side_by_side.comparison import Comparison
from services.side_by_side.conclusions import conclude

BUTTONS = 3
"""So many candidates get one; each sentence above leads to its version anyway."""
SUBMITTED = frozenset(status.value for status in Status if status.open)


def nothing_chosen(model: str | None) -> None:
    """What to do where there are not two versions to compare."""
    with st.container(border=True, horizontal_alignment="center"):
        st.space("small")
        st.subheader(":gray[:material/compare_arrows:] Is mine better?", anchor=False, text_alignment="center")
        words = "Choose two to ten versions above" if model else "Choose a registered model above"
        st.caption(
            f"{words}; its champion and its newest version are the usual pair. "
            "The address of this page is a link to the comparison: send it to whoever should see it.",
            text_alignment="center",
        )
        st.space("small")


def next_steps(comparison: Comparison, user: Actor) -> None:
    """A button for each of the best candidates: submit it where that is still to be done, else open it. The CSV."""
    ranked = sorted(
        zip(conclude(comparison), comparison.candidates, strict=True), key=lambda found: not found[0].favourable
    )
    best = ranked[0][0].candidate
    with st.container(horizontal=True, gap="small"):
        for conclusion, evidence in ranked[:BUTTONS]:
            label = conclusion.candidate
            submit = may_submit(evidence.version, user)
            name = escaped(label, 60)
            if st.button(
                f"Submit {name} for review" if submit else f"Open {name}",
                key=f"open:{evidence.ref}",
                type="primary" if submit and label == best else "secondary",
                icon=":material/send:" if submit else ":material/arrow_forward:",
            ):
                st.switch_page(links.PAGES["version"], query_params=links.version_query(evidence.ref))
        st.download_button(
            "CSV",
            partial(as_csv, comparison),
            f"{stem(comparison)}.csv",
            "text/csv",
            key="csv",
            icon=":material/download:",
            on_click="ignore",
            help="Every metric with full numbers.",
        )


def may_submit(version: ModelVersion, user: Actor) -> bool:
    """Whether this person could submit this version now; the verb itself asks again."""
    return (
        permissions.may(user, Action.SUBMIT) and version.stage != Stage.PRODUCTION and version.status not in SUBMITTED
    )


def metric_charts(comparison: Comparison, champion: VersionRef | None) -> None:
    """Change against the baseline, and scores as they are."""
    colours = version_colours(comparison, champion)
    gains = charts.gains(comparison, colours)
    shares = charts.shares(comparison, colours, gains.layout.height)
    left, right = st.columns(2, gap="medium")
    with left.container(border=True, height="stretch"):
        st.markdown(
            "**Change against the baseline**",
            help="In percent of the baseline, on a root scale: small and large changes can both be seen. "
            "Hatched: measured on other data.",
        )
        _chart(gains, "gains", "How much better or worse than the baseline, in percent", comparison)
    with right.container(border=True, height="stretch"):
        st.markdown("**Scores between 0 and 1**", help="Hatched: measured on other data than the baseline.")
        _chart(shares, "shares", "Scores between 0 and 1 of every version", comparison)


def _chart(figure: go.Figure, key: str, alt: str, comparison: Comparison) -> None:
    if any(y is not None and x is not None for trace in figure.data for x, y in zip(trace.x, trace.y, strict=True)):
        draw(figure, key, alt, picture=f"{stem(comparison)}-{key}")
    else:
        st.caption("There is no such metric that can be drawn.")
