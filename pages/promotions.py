"""Promotions: what may go out, what is under way, what went out, and the way back."""

import streamlit as st

from components import emergencies, promotions, submissions
from components.acting import outcome_shown
from components.problems import problems_shown
from components.session import Session, current
from services.accounts import permissions
from services.domain import Action, Status
from services.steps import intents
from services.verbs import releases
from services.views import inbox


def render(session: Session) -> None:
    st.title("Promotions", anchor=False)
    outcome_shown()
    signoff = session.signoff
    with problems_shown():
        emergencies.listing(session)
        with st.spinner("Reading the evidence…"):
            waiting = inbox.judged(signoff, inbox.queue(signoff, Status.APPROVED, Status.AUTO_APPROVED))
        st.caption(f"{len(waiting)} approved and waiting · {sum(item.ready for item in waiting)} ready to go")
        submissions.cards([("Promote", item) for item in waiting], "approved", icon=":material/rocket_launch:")
        if not waiting:
            st.info("Nothing is approved and waiting.", icon=":material/inbox:")
        with signoff.database.reading() as connection:
            promotions.under_way(intents.in_flight(connection))
        promotions.ways_back(releases.ways_back(signoff), allowed=permissions.may(session.user, Action.ROLLBACK))
        promotions.released(releases.releases(signoff, limit=promotions.RELEASED + 1))


render(current())
