"""Compare: is mine better? One sentence, the table, charts, and every other difference."""

import streamlit as st

from components import comparing as parts
from components.choosing import choose
from components.comparison import conclusions, data_warning, metric_table, stem
from components.differing import other_differences
from components.model import metric_trend
from components.panorama import trade_offs
from components.problems import problems_shown
from components.session import Session, current
from components.training import training_curves
from components.waiting import reading_shown
from services.side_by_side import comparing


def render(session: Session) -> None:
    st.title("Compare")
    with problems_shown():
        asked = choose(session.signoff)
        if asked.problem:
            raise asked.problem
        if len(asked.refs) < 2:
            parts.nothing_chosen(asked.model)
            return
        with reading_shown("Reading the evidence…"):
            comparison, story = comparing.opened(session.signoff, asked.refs)
        champion = story.champion.ref if story.champion else None
        above = st.container()
        left, right = st.columns(2, gap="medium")
        with left:
            draw_curves = training_curves(comparison, session.signoff.reader, champion)
        with above:
            with st.container(border=True, key="summary"):
                conclusions(comparison, linked=True)
                parts.next_steps(comparison, session.user)
            data_warning(comparison)
            metric_table(comparison)
            parts.metric_charts(comparison, champion)
        with right:
            metric_trend(story, key="trend", picture=f"{stem(comparison)}-trend")
        trade_offs(comparison, story, champion)
        other_differences(session.signoff, comparison)
        draw_curves()


render(current())
