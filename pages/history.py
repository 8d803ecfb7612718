"""History: who did what, when, why and from which metrics; who was in Production back then."""

import streamlit as st

from components import history as frame
from components import history_list as shown
from components.history_record import open_record, record_drawer
from components.problems import problems_shown
from components.session import Session, current
from services import history


def render(session: Session) -> None:
    if seq := shown.opened():
        open_record(seq)
    st.title("History", anchor=False)
    with problems_shown():
        frame.state_of_record(session)
        asked = frame.filters(session)
        found = history.page(session.signoff, asked, before=frame.cursor())
        if found.total:
            shown.chart(session, asked)
        else:
            frame.empty(asked)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            view, moment = frame.view(), frame.as_of()
            shown.download(session, asked)
        if moment:
            shown.production(session, moment, asked.model)
        if found.events:
            shown.events(session, found, view)
            shown.pager(found)
        record_drawer(session)


render(current())
