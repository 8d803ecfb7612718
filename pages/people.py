"""People: who may come in, and as what; an admin's page."""

import streamlit as st

from components import people as shown
from components.problems import problems_shown
from components.session import Session, current
from services.accounts import keeping, people, permissions
from services.domain import Action


def render(session: Session) -> None:
    signoff, user = session.signoff, session.user
    st.title("People", anchor=False)
    with problems_shown():
        permissions.require(user, Action.MANAGE_PEOPLE)
        shown.outcome()
        with problems_shown():
            if draft := shown.form(signoff.passwords):
                keeping.add(signoff.database, by=user, at=signoff.now(), **draft)
                shown.done(f"{draft['username']} is in.")
        with problems_shown():
            if change := shown.confirmed():
                carry_out = keeping.disable if change.roles is None else keeping.set_roles
                carry_out(signoff.database, by=user, at=signoff.now(), **change.asked)
                shown.done(change.told)
        shown.listing(people.listed(signoff.database))


render(current())
