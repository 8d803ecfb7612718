"""Tokens: how my scripts say who they are; made here, shown once, revoked at once."""

import streamlit as st

from components import tokens as shown
from components.problems import problems_shown
from components.session import Session, current
from services.accounts import people, permissions, tokens
from services.domain import Action


def render(session: Session) -> None:
    signoff, user = session.signoff, session.user
    st.title("Tokens", anchor=False)
    shown.outcome(signoff.settings.url)
    keeper = permissions.may(user, Action.MANAGE_PEOPLE)
    key = signoff.settings.secret_key
    with problems_shown():
        services = people.names(signoff.database, services=True) if keeper else {}
        if draft := shown.form(user, {user.username: user.name, **services}):
            shown.made(*tokens.create(signoff.database, key, by=user, at=signoff.now(), **draft))
            st.rerun()
    with problems_shown():
        whose = shown.whose(keeper)
        found = tokens.listed(signoff.database, key, None if whose == shown.ALL else user.username)
        if asked := shown.confirmed(found):
            shown.ended(tokens.revoke(signoff.database, by=user, token=asked, at=signoff.now()))
            st.rerun()
        shown.listing(found)


render(current())
