"""Home: what needs me, what is in Production now, what changed lately."""

import streamlit as st

from components import deviations, home, record_state
from components.acting import outcome_shown
from components.problems import problems_shown
from components.session import Session, current
from components.text import escaped
from services.views.overview import overview


def render(session: Session) -> None:
    st.title(f"Good to see you, {escaped(session.user.name.split()[0])}", anchor=False)
    outcome_shown()
    with problems_shown():
        deviations.alarm(session)
        record_state.alarm(session)
        record_state.unwritten(session)
        with st.spinner("Reading the registry…"):
            seen = overview(session.signoff)
        work, news = st.columns([7, 3], gap="large")
        with work:
            home.inbox_of(session, seen)
            home.numbers(seen)
            home.in_production(seen.champions, seen.in_production)
        with news:
            home.lately(seen.lately)


render(current())
