"""History: who did what, when, why and from which metrics; who was in Production back then."""

import streamlit as st

from components import history as frame
from components import history_list as shown
from components import links
from components import record_state as record
from components.history_record import open_record, record_drawer
from components.problems import problems_shown
from components.session import Session, current
from services.views import history


def render(session: Session) -> None:
    if ref := shown.version_clicked():
        st.switch_page(links.PAGES["version"], query_params=links.version_query(ref))
    if seq := shown.record_clicked():
        open_record(seq)
    st.title("History", anchor=False)
    state = st.container()
    with problems_shown():
        wanted = frame.filters(session)
        if wanted.moment:
            shown.production(session, wanted.moment, wanted.asked.model)
        found = history.page(session.signoff, wanted.asked, before=frame.cursor())
        if not found.events:
            frame.empty(wanted.asked)
        else:
            shown.chart(session, wanted.asked)
            shown.events(session, found, wanted.view)
            shown.pager(found)
        record_drawer(session)
    with state, problems_shown():  # last, so that it knows what was read below it
        record.line(session)


render(current())
