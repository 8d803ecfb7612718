"""The rest of the compare page: what to do next, charts, and every other difference, each part of the link."""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st

from components import charts, links
from components.chart_style import draw, version_colours
from components.charts import Curve
from components.choosing import metric_choice
from components.comparison import as_csv, differences_table, file_name
from components.text import escaped, plain
from services import permissions
from services.comparison import Comparison
from services.conclusions import conclude
from services.differences import Difference
from services.domain import Action, Actor, ModelVersion, Stage, Status, VersionRef
from services.metrics import says_how_good
from services.reading import Reader

SUBMITTED = frozenset(status.value for status in Status if status.open)
TABS = ("Params", "Tags", "Signature", "Data sets")


def nothing_chosen(model: str | None) -> None:
    """What to do where there are not two versions to compare."""
    with st.container(border=True, horizontal_alignment="center"):
        st.space("small")
        st.subheader(":gray[:material/compare_arrows:] Is mine better?", anchor=False, text_alignment="center")
        words = "Choose two to five versions above" if model else "Choose a registered model above"
        st.caption(
            f"{words}; its champion and its newest version are the usual pair. "
            "The address of this page is a link to the comparison: send it to whoever should see it.",
            text_alignment="center",
        )
        st.space("small")


def next_steps(comparison: Comparison, user: Actor) -> None:
    """A button for each candidate: submit it where that is still to be done, else open it; and the download."""
    best = next((c.candidate for c in conclude(comparison) if c.favourable), comparison.labels[1])
    with st.container(horizontal=True, gap="small"):
        for evidence, label in zip(comparison.candidates, comparison.labels[1:], strict=True):
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
            as_csv(comparison),
            file_name(comparison),
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
        _chart(gains, "gains", "How much better or worse than the baseline, in percent")
    with right.container(border=True, height="stretch"):
        st.markdown("**Scores between 0 and 1**")
        _chart(shares, "shares", "Scores between 0 and 1 of every version")


def _chart(figure: go.Figure, key: str, alt: str) -> None:
    if any(y is not None and x is not None for trace in figure.data for x, y in zip(trace.x, trace.y, strict=True)):
        draw(figure, key, alt)
    else:
        st.caption("There is no such metric that can be drawn.")


def training_curves(comparison: Comparison, reader: Reader, champion: VersionRef | None) -> None:
    """One metric over the steps of training, all versions over each other."""
    with st.container(border=True, height="stretch"):
        metric = metric_choice("Training curves", _curve_names(comparison), "curve")
        if metric is None:
            st.caption("No version has a run with metrics.")
            return
        colours = version_colours(comparison, champion)
        found = [
            Curve(
                label=label, points=reader.curve(e.run.run_id, metric), colour=colour, baseline=e is comparison.baseline
            )
            for e, label, colour in zip(comparison.versions, comparison.labels, colours, strict=True)
            if e.run and metric in e.run.metrics
        ]
        draw(charts.curves(metric, found), "curves", f"{plain(metric)} over the steps of training")
        short = [curve.label for curve in found if len(curve.points) < 2]
        silent = [label for label in comparison.labels if label not in {curve.label for curve in found}]
        notes = [
            *([f"one value only: {', '.join(short)}"] if short else []),
            *([f"no evidence: {', '.join(silent)}"] if silent else []),
        ]
        if notes:
            st.caption(escaped(" · ".join(notes)))


def _curve_names(comparison: Comparison) -> list[str]:
    """Metrics of the runs, losses first: those are what people log step by step."""
    names = {name for evidence in comparison.versions if evidence.run for name in evidence.run.metrics}

    def order(name: str) -> tuple[bool, bool, str]:
        return "loss" not in name.lower() or "log" in name.lower(), not says_how_good(name), name

    return sorted((n for n in names if not n.startswith("system/")), key=order)


def other_differences(comparison: Comparison) -> None:
    """Params, tags, signature and data sets; which tab and which rows are part of the link."""
    st.subheader("Differences", anchor=False)
    found = (comparison.params, comparison.tags, comparison.signature, comparison.datasets)
    counts = [sum(row.differs for row in rows if not row.reserved) for rows in found]
    tabs = st.tabs(list(TABS), key="differences", on_change="rerun", bind="query-params")
    for tab, title, rows, count in zip(tabs, TABS, found, counts, strict=True):
        if tab.open:
            with tab:
                _differences(title, rows, count, comparison)


def _differences(title: str, rows: tuple[Difference, ...], count: int, comparison: Comparison) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        only = st.toggle("Only differences", value=True, key="only_differences", bind="query-params")
        reserved = title == "Tags" and st.toggle(
            "MLflow's and Signoff's own tags", key="reserved_tags", bind="query-params"
        )
        st.caption(f"{count} of {sum(not row.reserved for row in rows)} differ")
    shown = [row for row in rows if (row.differs or not only) and (reserved or not row.reserved)]
    if shown:
        differences_table(shown, comparison, key=f"differing_{title}")
    elif not rows:
        st.info(f"No version has any {title.lower()}.", icon=":material/search_off:")
    else:
        st.success(f"No difference in {title.lower()}.", icon=":material/check:")
