"""History: still to be drawn."""

import streamlit as st

from components.session import Session, current


def render(session: Session) -> None:
    st.title("History")


render(current())
