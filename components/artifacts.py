"""What the runs left beside their models, side by side: pictures, JSON and text, never anything that can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from components.comparison import differences_table
from components.previewed import previewed
from components.text import escaped, plain, prose, size
from services.domain import ArtifactEntry
from services.reading import Reader
from services.side_by_side import previews
from services.side_by_side.comparison import Comparison
from services.side_by_side.differences import Difference
from services.side_by_side.previews import Preview

WIDTH = 420
MAX_LISTED = 200


def artifacts(reader: Reader, comparison: Comparison, *, only: bool) -> None:
    """Which files there are, and one of them in every version; which one is part of the link."""
    listed = [
        {entry.path: entry for entry in reader.run_files(evidence.run.run_id)} if evidence.run else {}
        for evidence in comparison.versions
    ]
    rows = _rows(listed)
    if not rows:
        st.info("No run left anything beside its model.", icon=":material/search_off:")
        return
    shown = [row for row in rows if row.differs or not only]
    if shown:
        differences_table(shown[:MAX_LISTED], comparison, key="differing_artifacts")
    files = f"{len(rows)} file{'s' if len(rows) > 1 else ''}"
    more = f" The first {MAX_LISTED} are listed." if len(shown) > MAX_LISTED else ""
    st.caption(f"{files}, by size: equal sizes are not yet equal files, so open one to compare what is in it.{more}")
    paths = sorted((row.name for row in rows), key=lambda path: (bool(previews.may_show(path, 0)), path))
    path = st.selectbox("File", paths, key="artifact", format_func=plain, bind="query-params", width=WIDTH)
    _side_by_side(reader, comparison, path, [found.get(path) for found in listed], only=only)


def _rows(listed: Sequence[Mapping[str, ArtifactEntry]]) -> list[Difference]:
    return [
        Difference(name=path, values=tuple(size(found[path].size) if path in found else None for found in listed))
        for path in sorted({path for found in listed for path in found})
    ]


def _side_by_side(
    reader: Reader, comparison: Comparison, path: str, entries: Sequence[ArtifactEntry | None], *, only: bool
) -> None:
    found = [
        previewed(reader, evidence.run.run_id, entry) if evidence.run and entry else None
        for evidence, entry in zip(comparison.versions, entries, strict=True)
    ]
    baseline = found[0]
    with st.container(horizontal=True, gap="medium"):
        for position, (label, preview) in enumerate(zip(comparison.labels, found, strict=True)):
            with st.container(border=True, width=WIDTH, key=f"artifact:{position}"):
                st.markdown(f"**{escaped(label, 200)}**{' (baseline)' if position == 0 else ''}")
                if preview is None:
                    st.caption("It has no such file.")
                elif only and position and preview.text is not None and baseline and baseline.text is not None:
                    _difference(baseline, preview)
                else:
                    _one(preview, path, label)


def _difference(old: Preview, new: Preview) -> None:
    if changed := previews.difference(old, new):
        st.code(prose(changed, 200_000), language="diff", height=WIDTH)
    else:
        st.caption(":green[:material/check: No difference] in what is shown." if new.cut else "No difference.")


def _one(preview: Preview, path: str, label: str) -> None:
    if preview.picture is not None:
        st.image(preview.picture, alt=f"{plain(path, 80)} of {plain(label, 80)}", width="stretch")
    elif preview.text is not None:
        st.code(prose(preview.text, 200_000), language=preview.language, height=WIDTH)
        if preview.cut:
            st.caption("Cut: the whole file is in MLflow.")
    else:
        st.caption(preview.why_not)
