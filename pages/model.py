"""Model: how did we get here? The champion, versions over time, one metric across versions, every version."""

import streamlit as st

from components import deviations
from components import model as parts
from components.problems import problems_shown
from components.session import Session, current
from components.versions_table import versions_table
from services.side_by_side import lineage


def render(session: Session) -> None:
    name = st.query_params.get("name")
    if not name:
        parts.nothing_named()
        return
    beside = parts.title(name)
    with problems_shown():
        deviations.panel(session, name)
        with st.spinner("Reading the versions…"):
            story = lineage.shown(session.signoff, name)
        parts.header(story, beside, session.signoff.settings.mlflow_uri)
        if not story.versions:
            parts.no_versions()
            return
        parts.cards(story)
        parts.lanes(story)
        parts.metric_trend(story, key="metric")
        versions_table(story)


render(current())
