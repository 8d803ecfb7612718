"""The entry script: the frame around every page. It lives here so that nothing lies in a ``pages/`` beside it:
Streamlit would serve those pages past the log-in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import streamlit as st

from components import emergencies
from components.session import Session, current
from components.status import snapshot_badge
from components.text import escaped
from services.accounts.permissions import may
from services.domain import Action

ABOUT = "**Signoff** is one gate in front of MLflow's Model Registry: propose, review, approve, promote, prove."


def frame() -> None:
    """What every page shares, also the one that says you are signed out."""
    st.set_page_config("Signoff", "/app/static/mark.svg", layout="wide", menu_items={"About": ABOUT})
    st.logo("/app/static/logo.svg", icon_image="/app/static/mark.svg", size="large", link=None)
    st.html(Path(__file__).with_name("shell.css"))


def account(session: Session) -> None:
    """Who is signed in, as what, and the way out."""
    with st.container(key="account", gap="xsmall"):
        st.markdown(f":material/account_circle: **{escaped(session.user.name)}**")
        st.markdown(" ".join(f":gray-badge[{role.replace('_', ' ')}]" for role in sorted(session.user.roles)))
        st.html('<form method="post" action="/session/logout"><button class="signoff-quiet">Sign out</button></form>')


frame()
session = current()
for_keepers: Literal["visible", "hidden"] = "visible" if may(session.user, Action.MANAGE_PEOPLE) else "hidden"
page = st.navigation(
    {
        "Overview": [
            st.Page("../pages/home.py", title="Home", icon=":material/home:", default=True),
            st.Page("../pages/registry.py", title="Registry", icon=":material/inventory_2:", url_path="registry"),
            st.Page("../pages/model.py", title="Model", url_path="model", visibility="hidden"),
            st.Page("../pages/version.py", title="Version", url_path="version", visibility="hidden"),
        ],
        "Decide": [
            st.Page("../pages/review.py", title="Review", icon=":material/rate_review:", url_path="review"),
            st.Page(
                "../pages/promotions.py", title="Promotions", icon=":material/rocket_launch:", url_path="promotions"
            ),
            st.Page("../pages/compare.py", title="Compare", icon=":material/compare_arrows:", url_path="compare"),
        ],
        "Record": [
            st.Page("../pages/history.py", title="History", icon=":material/history:", url_path="history"),
            st.Page("../pages/messages.py", title="Messages", icon=":material/outgoing_mail:", url_path="messages"),
        ],
        "Access": [
            st.Page("../pages/tokens.py", title="Tokens", icon=":material/key:", url_path="tokens"),
            st.Page(
                "../pages/people.py", title="People", icon=":material/group:", url_path="people", visibility=for_keepers
            ),
        ],
    }
)
with st.sidebar:
    snapshot_badge(session)
    account(session)
emergencies.banner(session)
page.run()
