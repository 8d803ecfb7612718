"""Registry: every registered model; search, filter, page through, open."""

import streamlit as st

from components import catalogue, links
from components.listing import listing
from components.problems import problems_shown
from components.session import Session, current


def render(session: Session) -> None:
    st.title("Registry", anchor=False)
    with problems_shown():
        seen = catalogue.overview(session)
        if not seen.total:
            catalogue.empty(seen)
            return
        query, view = catalogue.filters(seen)
        table = st.container()
        found = catalogue.turned(session, query)
        with table:
            if not found.total:
                catalogue.empty(seen)
            elif name := listing(session, found, view):
                st.switch_page(links.PAGES["model"], query_params={"name": name})


render(current())
