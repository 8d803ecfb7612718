"""The versions of one model as a table: select one to open it, two to five to compare them."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from components import badges, links
from components.text import plain
from services.domain import ModelVersion, Stage, Status
from services.side_by_side.comparison import MAX_VERSIONS
from services.side_by_side.lineage import MAX_VERSIONS as READ_AT_MOST
from services.side_by_side.lineage import Lineage

STAGES = [badges.stage_words(stage) for stage in Stage]
STAGE_COLOURS = [badges.STAGE_COLOURS[stage] for stage in Stage]
STATUSES = [badges.STATUS_WORDS[status] for status in Status]
STATUS_COLOURS = [badges.STATUS_COLOURS[status] for status in Status]


def versions_table(story: Lineage) -> None:
    """Newest first; above it what can be done with the selected ones."""
    shown = tuple(reversed(story.versions))
    st.subheader("Versions", anchor=False)
    actions = st.container(horizontal=True, vertical_alignment="center", gap="small")
    selected = st.dataframe(
        pd.DataFrame([_row(story, version) for version in shown]),
        key=f"versions:{story.model.name}",
        hide_index=True,
        height="content" if len(shown) <= READ_AT_MOST else "auto",
        on_select="rerun",
        selection_mode="multi-row",
        placeholder="no evidence",
        column_config=_columns(story),
    )
    if len(shown) < story.total:
        st.caption(f"The newest {len(shown)} of {story.total} versions. Older ones are in MLflow and in the History.")
    with actions:
        _actions(story, [shown[row] for row in selected["selection"]["rows"] if row < len(shown)])


def _actions(story: Lineage, chosen: list[ModelVersion]) -> None:
    refs = sorted((v.ref for v in chosen), key=lambda ref: (story.champion is None or ref != story.champion.ref, ref))
    opened = st.button(
        f"Open v{refs[0].version}" if len(refs) == 1 else "Open version",
        icon=":material/arrow_forward:",
        disabled=len(refs) != 1,
        type="primary" if len(refs) == 1 else "secondary",
        key="open_version",
    )
    compared = st.button(
        f"Compare {', '.join(f'v{ref.version}' for ref in refs)}"
        if 1 < len(refs) <= MAX_VERSIONS
        else "Compare selected",
        icon=":material/compare_arrows:",
        disabled=not 1 < len(refs) <= MAX_VERSIONS,
        type="primary" if 1 < len(refs) <= MAX_VERSIONS else "secondary",
        key="compare_versions",
    )
    if len(refs) > MAX_VERSIONS:
        st.caption(f"At most {MAX_VERSIONS} versions can be compared.")
    elif not refs:
        st.caption(f"Select one version to open it, two to {MAX_VERSIONS} to compare them.")
    if opened:
        st.switch_page(links.PAGES["version"], query_params=links.version_query(refs[0]))
    if compared:
        st.switch_page(
            links.PAGES["compare"], query_params={"versions": ",".join(f"{ref.name}:{ref.version}" for ref in refs)}
        )


def _row(story: Lineage, version: ModelVersion) -> dict[str, object]:
    run = story.run(version)
    known = version.status if version.status in set(Status) else None
    return {
        "Version": f"v{version.ref.version}",
        "Stage": [badges.stage_words(version.stage)],
        "Status": [badges.STATUS_WORDS[Status(known)]] if known else [],
        "metric": story.value(version, story.policy.key_metric),
        "Approved by": ", ".join(plain(person, 60) for person in story.approvers(version)),
        "Run": plain(run.name, 80) if run else "no longer there" if version.run_id else "",
        "Author": plain((run.user if run else None) or version.user or "", 60),
        "Created": version.created_at,
        "Description": plain(version.description, 200),
    }


def _columns(story: Lineage) -> dict[str, object]:
    columns = st.column_config
    return {
        "Version": columns.TextColumn(pinned=True),
        "Stage": columns.MultiselectColumn(options=STAGES, color=STAGE_COLOURS),
        "Status": columns.MultiselectColumn(width=170, options=STATUSES, color=STATUS_COLOURS),
        "metric": columns.NumberColumn(plain(story.policy.key_metric, 40), width=110, format="%.4g"),
        "Author": columns.TextColumn(help="As the training client claimed."),
        "Created": columns.DatetimeColumn(format="distance", help="In your own time zone when you point at it."),
        "Description": columns.TextColumn(width="large"),
    }
