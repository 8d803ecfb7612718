"""Who is looking at a page, looked up again in every run: a revoked session bites on the next click.

A test signs in without a browser and without replacing anything::

    session.use(signoff)                                        # any `Signoff`, for instance from `Signoff.wire`
    token = sessions.open_session(signoff.database, "reviewer", signoff.settings.secret_key)
    at = AppTest.from_file("components/shell.py")
    at.user = {"session": sessions.session_key(token, signoff.settings.secret_key)}
    at.run()                                                    # Home
    at.switch_page("../pages/registry.py").run()
"""

from __future__ import annotations

import html
import logging
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import quote, urlsplit

import streamlit as st

from services.accounts import permissions, sessions
from services.domain import Action, Actor
from services.errors import LedgerUnavailable
from services.signoff import Signoff

log = logging.getLogger(__name__)

_served: Signoff | None = None  # modules are imported once per process, unlike the script, which is run again


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a page works with: who asks, and everything it can ask."""

    user: Actor
    signoff: Signoff


def use(signoff: Signoff) -> Signoff:
    """Serve this instance from now on; called once, by app.py or a test."""
    global _served  # noqa: PLW0603  (the script has no other way to reach what app.py opened)
    _served = signoff
    return signoff


def signoff() -> Signoff:
    """The one instance of this process."""
    if _served is None:
        raise RuntimeError("Nothing is served yet: app.py or the test must call components.session.use first.")
    return _served


def current() -> Session:
    """The session of this run; where there is none, says so and ends the run."""
    served = signoff()
    key = st.user.to_dict().get("session")
    try:
        user = sessions.session_user(served.database, key) if isinstance(key, str) else None
    except LedgerUnavailable as error:
        log.warning("%s", error)
        st.error(error.TO_STRANGERS, icon=":material/database_off:")
        st.stop()
    if user is None:
        _signed_out()
    if not permissions.may(user, Action.VIEW):
        st.error(permissions.refusal(user, Action.VIEW), icon=":material/block:")
        st.stop()
    return Session(user=user, signoff=served)


def _signed_out() -> NoReturn:
    st.session_state.clear()  # nothing that was typed stays for whoever comes next
    url = urlsplit(st.context.url or "/")
    here = (url.path or "/") + (f"?{url.query}" if url.query else "")
    link = html.escape(f"/login?next={quote(here, safe='/')}", quote=True)
    with st.container(horizontal_alignment="center"):
        st.space("large")
        st.subheader("You have been signed out", text_alignment="center", anchor=False)
        st.caption(
            "Sessions end after 12 hours, after five wrong passwords while signing, or when you sign out elsewhere.",
            text_alignment="center",
        )
        st.html(f'<a class="signoff-button" href="{link}" target="_self">Sign in again</a>', width="content")
    st.stop()
