"""Errors as people should meet them: one clear sentence, what to do next, and never a stack trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from components.text import escaped
from services.errors import (
    BadInput,
    LedgerUnavailable,
    NotAsPrescribed,
    NotFound,
    PromotionConflict,
    Refused,
    RegistryUnavailable,
    SignoffError,
    UnreadableRow,
)
from services.gate import GateRefused


@contextmanager
def problems_shown() -> Iterator[None]:
    """Draw any named error raised inside; everything drawn before it stays."""
    try:
        yield
    except SignoffError as error:
        draw(error)


def draw(error: SignoffError) -> None:
    """One named error; where the gate refused, every failed check with value and threshold."""
    text = escaped(str(error), 2000)
    match error:
        case GateRefused():
            _refused_by_the_gate(error)
        case PromotionConflict():
            st.warning(f"**Someone was faster.** {text}", icon=":material/group:")
        case Refused():
            st.error(f"**Refused.** {text}", icon=":material/block:")
        case NotAsPrescribed():
            st.error(f"**MLflow did not make this change.** {text}", icon=":material/undo:")
        case RegistryUnavailable():
            st.error(f"**MLflow is away.** {text} Try again in a moment.", icon=":material/cloud_off:")
        case UnreadableRow():
            st.error(f"**A row of Signoff's database cannot be read.** {text}", icon=":material/gpp_bad:")
        case LedgerUnavailable():
            st.error(f"**The record cannot be written.** {text}", icon=":material/database_off:")
        case NotFound():
            st.info(text, icon=":material/search_off:")
        case BadInput():
            st.warning(text, icon=":material/edit:")
        case _:
            st.error(text, icon=":material/error:")


def _refused_by_the_gate(error: GateRefused) -> None:
    st.error("**Refused by the gate.** Nothing was changed.", icon=":material/gpp_bad:")
    for check in error.verdict.failed:
        st.markdown(f":red[✗] **{escaped(check.title)}** — {escaped(check.reason, 1000)}")
