"""What happens around a verb on a page: progress while it runs, and afterwards what became of it."""

from __future__ import annotations

import streamlit as st

from components import links
from components.problems import draw
from components.session import Session
from components.text import escaped
from components.waiting import reading_shown
from services import desk
from services.desk import Request
from services.errors import SignoffError
from services.reviews import Outcome

_KEY = "outcome"


def carried_out(session: Session, request: Request) -> bool:
    """Carry out a request and keep what became of it for `outcome_shown` in the next run; whether it was not refused.

    What was on screen may be why it was refused, so the page is to be drawn anew in either case.
    """
    doing = f"{request.action.replace('_', ' ').capitalize()} v{request.ref.version}"
    with reading_shown(f"{doing}: reading the evidence again…"):
        try:
            # Kept before anything else is drawn: a further click ends this run at the next thing drawn.
            st.session_state[_KEY] = desk.perform(session.signoff, request, by=session.user.username)
        except SignoffError as error:
            st.session_state[_KEY] = error
            return False
    return True


def outcome_shown() -> None:
    """What became of the last request, once, with a link to its record."""
    outcome: Outcome | SignoffError | None = st.session_state.pop(_KEY, None)
    if outcome is None:
        return
    if isinstance(outcome, SignoffError):
        draw(outcome)
        return
    text = escaped(outcome.message, 300)
    if outcome.event:
        record = f"[Record #{outcome.event.seq}]({links.event(outcome.event.seq)})"
        st.success(f"{text} {record}", icon=":material/task_alt:")
    else:
        st.info(f"{text} Nothing was changed.", icon=":material/info:")
