"""Review: what waits for a decision, since when; oldest first."""

import streamlit as st

from components import submissions
from components.acting import outcome_shown
from components.problems import problems_shown
from components.session import Session, current
from services.views import inbox


def render(session: Session) -> None:
    st.title("Review", anchor=False)
    outcome_shown()
    with problems_shown():
        with st.spinner("Reading the evidence…"):
            waiting, sent_back = inbox.in_review(session.signoff)
        st.caption(f"{len(waiting)} waiting for a decision, oldest first · {len(sent_back)} sent back")
        submissions.cards([("Open", item) for item in waiting], "waiting")
        if not waiting:
            st.success("Nothing waits for review. New submissions appear here, oldest first.", icon=":material/inbox:")
        if sent_back:
            st.subheader("Sent back, waiting for the submitter", anchor=False)
            submissions.cards([("Look", item) for item in sent_back], "sent_back", prominent=False)


render(current())
