"""Versions side by side: the sentence, the table of metrics, and what differs beside them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from components import links
from components.charts import percent
from components.text import NONE, escaped, number, plain, signed
from services.metrics import Direction
from services.side_by_side.comparison import Cell, Comparison, Data, MetricRow, Standing
from services.side_by_side.conclusions import Conclusion, conclude
from services.side_by_side.differences import Difference
from services.spreadsheet import cell

WIDE = 4000
"""Wider than any screen: the table is as wide as the page, and on a narrow one its first column stays in view."""
ARROWS = {Direction.HIGHER: "↑", Direction.LOWER: "↓", Direction.UNKNOWN: ""}
WORDS = {
    Standing.BETTER: ":green[{} better]",
    Standing.WORSE: ":red[{} worse]",
    Standing.EQUAL: ":gray[= equal]",
    Standing.UNJUDGED: ":gray[{}]",
    Standing.OTHER_DATA: ":orange[{}, other data]",
    Standing.ALONE: ":gray[no baseline]",
}
ROWS_AT_ONCE = 14
METRICS_AT_ONCE = 40


def conclusions(comparison: Comparison, *, linked: bool = False) -> None:
    """One sentence for each candidate: what matters first; ``linked`` leads from each to its version."""
    for conclusion, evidence in zip(conclude(comparison), comparison.candidates, strict=True):
        rest = f"; {'; '.join(conclusion.details)}" if conclusion.details else ""
        link = f" [Open]({links.version(evidence.ref)})" if linked else ""
        st.markdown(f"{_sign(conclusion)} **{escaped(conclusion.opening, 600)}**{escaped(rest, 1000)}.{link}")


def _sign(conclusion: Conclusion) -> str:
    if conclusion.favourable:
        return ":green[:material/trending_up:]"
    if conclusion.doubtful:
        return ":orange[:material/warning:]"
    worse = len(conclusion.worse) > len(conclusion.better)
    return ":red[:material/trending_down:]" if worse else ":gray[:material/balance:]"


def data_warning(comparison: Comparison) -> None:
    """A banner where metrics were measured on different data, or nobody says on which."""
    found = [words for conclusion in conclude(comparison) if (words := _doubt(conclusion))]
    if not found:
        return
    listed = found[0] if len(found) == 1 else "\n".join(f"- {words}" for words in found)
    end = "A difference between such metrics may come from the data alone."
    st.warning(f"{listed} {end}" if len(found) == 1 else f"{listed}\n\n{end}", icon=":material/difference:")


def _doubt(conclusion: Conclusion) -> str:
    """Why the metrics of one candidate cannot simply be compared, as Markdown; empty where they can."""
    names = f"**{escaped(conclusion.candidate)}** and **{escaped(conclusion.baseline)}**"
    if conclusion.data is Data.DIFFERENT:
        return f"{names} were measured on different data: {escaped(conclusion.data_sets, 600)}."
    if conclusion.incomparable:
        of = ", ".join(row.name for row, _ in conclusion.incomparable[:METRICS_AT_ONCE])
        return f"{names} had some metrics measured on different data: {escaped(of, 600)}."
    if conclusion.judged and conclusion.data is Data.UNKNOWN:
        return f"{escaped(conclusion.data_sets, 600)}, so nobody can tell whether its metrics may be compared."
    return ""


def elsewhere_noted(labels: Sequence[str], comparison: Comparison) -> None:
    """Beside a figure: whose numbers in it were measured on other data than the baseline's."""
    if labels:
        names = f"{escaped(comparison.short[0])}: {escaped(', '.join(labels), 600)}"
        st.caption(f":orange[:material/warning: Measured on other data than {names}]")


def metric_table(comparison: Comparison) -> None:
    """Every metric in every version; what the policy asks, and whether it is met."""
    rows = _rows_asked_for(comparison.metrics)
    if not rows:
        st.success("No difference in metrics.", icon=":material/check:")
        return
    labels = [escaped(label, 300) for label in comparison.labels]
    headers = [f"{labels[0]} (baseline)", *labels[1:]]
    frame = pd.DataFrame(
        [[*(_cell(cell) for cell in row.cells), _asked(row)] for row in rows],
        columns=[*headers, "Policy"],
        index=pd.Index([f"{escaped(row.name, 80)} {ARROWS[row.direction]}" for row in rows], name="Metric"),
    )
    st.table(right_aligned(frame, len(headers)), border="horizontal", width=WIDE)


def _rows_asked_for(rows: tuple[MetricRow, ...]) -> tuple[MetricRow, ...]:
    with st.container(horizontal=True, gap="medium"):
        if st.toggle("Only differences", key="only_differing_metrics", bind="query-params"):
            rows = tuple(row for row in rows if row.differs)
        if len(rows) > METRICS_AT_ONCE and not st.toggle(
            f"All {len(rows)} metrics", key="all_metrics", bind="query-params"
        ):
            return rows[:METRICS_AT_ONCE]
    return rows


def side_by_side(comparison: Comparison | None) -> None:
    """The comparison with the champion on another page: warning, metrics, and the params that differ."""
    if comparison is None:
        st.info("There is no champion to compare with.", icon=":material/balance:")
        return
    data_warning(comparison)
    metric_table(comparison)
    if differing := [row for row in comparison.params if row.differs]:
        st.markdown("**Params that differ**")
        differences_table(differing, comparison, key="params_beside")


def differences_table(rows: Sequence[Difference], comparison: Comparison, key: str) -> None:
    """One row a name, one column a version, and whether they differ."""
    noted, mixed = any(row.note for row in rows), not all(row.differs for row in rows)
    columns = [
        "Name",
        *(plain(label, 300) for label in comparison.labels),
        *(["Differs"] if mixed else []),
        *(["Change"] if noted else []),
    ]
    frame = pd.DataFrame(
        [
            [
                plain(row.name, 200),
                *(NONE if value is None else plain(value) for value in row.values),
                *(["≠ differs" if row.differs else "= same"] if mixed else []),
                *([row.note] if noted else []),
            ]
            for row in rows
        ],
        columns=pd.Index(columns),
    )
    st.dataframe(
        frame,
        key=key,
        hide_index=True,
        height="content" if len(rows) <= ROWS_AT_ONCE else "auto",
        column_config={0: st.column_config.TextColumn(pinned=True)},
    )


def as_csv(comparison: Comparison) -> str:
    """The table of metrics as CSV with full numbers; no cell can be read as a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    versions = [
        label
        for name in comparison.labels
        for label in (name, *[f"{name} change", f"{name} relative", f"{name} verdict"])
    ]
    writer.writerow([cell(value) for value in ("metric", "better", "policy", *versions)])
    for row in comparison.metrics:
        fields = [field for found in row.cells for field in _fields(found)]
        writer.writerow([cell(value) for value in (row.name, row.direction.value, row.wanted, *fields)])
    return text.getvalue()


def differences_csv(rows: Sequence[Difference], comparison: Comparison) -> str:
    """Rows of differences as CSV, in full; no cell can be read as a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([cell(value) for value in ("name", *comparison.labels, "differs", "change")])
    for row in rows:
        values = (row.name, *row.values, "yes" if row.differs else "no", row.note)
        writer.writerow([cell(value) for value in values])
    return text.getvalue()


def stem(comparison: Comparison) -> str:
    """The name of a download without its ending, of letters every file system takes."""
    base = "-".join([comparison.baseline.ref.name[:60], *(f"v{e.ref.version}" for e in comparison.versions)])
    return f"compare-{re.sub(r'[^A-Za-z0-9._-]+', '_', base)}"


def _fields(found: Cell) -> tuple[float | str | None, ...]:
    return found.value, found.delta, found.relative, found.standing.value


def right_aligned(frame: pd.DataFrame, columns: int) -> Styler:
    """Numbers to the right; Streamlit aligns text to the left inline, hence the ``!important``."""
    right = "text-align: right !important;"
    style = [{"selector": f"th.col{n}, td.col{n}", "props": right} for n in range(columns)]
    return frame.style.set_table_styles([*style, {"selector": "", "props": "width: 100%;"}])


def _cell(cell: Cell) -> str:
    if cell.value is None:
        words = cell.standing.value if cell.standing is Standing.SEVERAL else "no evidence"
        return f":gray[{words}]" + (" :red[✗]" if cell.meets is False else "")
    met = {True: " :green[✓]", False: " :red[✗]", None: ""}[cell.meets]
    words = WORDS.get(cell.standing, "").format(_change(cell))
    return f"**{escaped(number(cell.value))}**{met}" + (f"  \n{words}" if words else "")


def _change(cell: Cell) -> str:
    """``▲ +1.2 %``: the arrow says where the value went, colour and word say whether that is good."""
    arrow = "▲" if (cell.delta or 0) > 0 else "▼"
    return f"{arrow} {escaped(signed(cell.delta) if cell.relative is None else percent(cell.relative))}"


def _asked(row: MetricRow) -> str:
    if row.wanted:
        return escaped(row.wanted)
    return NONE if row.counts else ":gray[does not count]"
