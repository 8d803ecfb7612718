"""What happens around a verb on a page: progress while it runs, and afterwards what became of it."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from components import links
from components.problems import draw
from components.session import Session
from components.text import escaped
from components.waiting import reading_shown
from services import desk
from services.desk import VOTES, Request
from services.domain import Source
from services.errors import BadInput, SignoffError
from services.verbs.reviews import Outcome
from services.views.inbox import next_for

_KEY = "outcomes"


def confirmed_once(key: str, fits: Callable[[Request], bool], what: str) -> Request | None:
    """What a dialog left under ``key``, given out once: a second click finds nothing.

    Raises:
        BadInput: it does not fit this page any more; ``what`` says what it is about, ``version`` or ``model``.
    """
    request: Request | None = st.session_state.pop(key, None)
    if request is not None and not fits(request):
        raise BadInput(f"What was confirmed is about another {what}; nothing was done. Please try again.")
    return request


def carried_out(session: Session, request: Request) -> bool:
    """Carry out a request and keep what became of it for `outcome_shown` in the next run; whether it was not refused.

    What was on screen may be why it was refused, so the page is to be drawn anew in either case.
    """
    doing = f"{request.action.replace('_', ' ').capitalize()} v{request.ref.version}"
    # Asked for now: a click meanwhile ends this run at the next thing it draws or asks of the session.
    kept: list[Outcome | SignoffError] = st.session_state.setdefault(_KEY, [])
    with reading_shown(f"{doing}: reading the evidence again…"):
        try:
            kept.append(desk.perform(session.signoff, request, by=session.user.username, source=Source.BROWSER))
        except SignoffError as error:
            kept.append(error)
            return False
    return True


def act_and_move_on(session: Session, request: Request) -> None:
    """Carry out a request; a reviewer then lands on the next item of the queue, else this page is drawn anew."""
    if carried_out(session, request) and request.action in VOTES:
        following = next_for(session.signoff, session.user, after=request.ref)
        if following:
            st.switch_page(links.PAGES["version"], query_params=links.version_query(following))
    st.rerun()


def outcome_shown() -> None:
    """What became of each request since this was last asked, with a link to its record."""
    kept: list[Outcome | SignoffError] = st.session_state.get(_KEY, [])
    with st.container():  # also around nothing: else all below moves, and tabs below begin anew
        while kept:
            if isinstance(kept[0], SignoffError):
                draw(kept[0])
            else:
                _done(kept[0])
            del kept[0]  # only now that it was drawn


def _done(outcome: Outcome) -> None:
    text = escaped(outcome.message, 300)
    if outcome.event:
        record = f"[Record #{outcome.event.seq}]({links.event(outcome.event.seq)})"
        st.success(f"{text} {record}", icon=":material/task_alt:")
    else:
        st.info(f"{text} Nothing was changed.", icon=":material/info:")
