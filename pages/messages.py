"""Messages: who was told what, what waits for its receiver, and what is stuck."""

import streamlit as st

from components import messages as shown
from components.problems import problems_shown
from components.session import Session, current
from services.accounts import permissions
from services.domain import Action
from services.messaging import outbox


def render(session: Session) -> None:
    st.title("Messages", anchor=False)
    shown.outcome()
    signoff = session.signoff
    with problems_shown():
        seen = outbox.overview(signoff.database)
        shown.configured(signoff.messages)
        if not seen.counts:
            shown.nothing_yet(signoff.messages)
            return
        shown.numbers(seen)
        if asked := shown.stuck(seen, allowed=permissions.may(session.user, Action.RETRY_MESSAGES)):
            shown.retried(outbox.retry(signoff.database, asked.number, by=session.user.username, at=signoff.now()))
            st.rerun()
        shown.waiting(seen)
        shown.settled(seen)


render(current())
