"""What Home says when the record has no witness, or contradicts the one it has; nothing when all is as it should be."""

from __future__ import annotations

import streamlit as st

from components.session import Session
from components.text import ago, escaped
from services.record import witness


def alarm(session: Session) -> None:
    """Loud where the record was rewritten, plain where a checkpoint waits for MLflow."""
    report = witness.last_report(session.signoff)
    for problem in report.problems if report else ():
        draw = st.error if problem.proven else st.warning
        draw(f"**The record and its witness disagree.** {escaped(problem.sentence, 600)}", icon=":material/gpp_bad:")
    if since := witness.unwitnessed_since(session.signoff):
        st.warning(
            f"**The record is unwitnessed since {ago(since)}.** What is written now cannot be proven lost until MLflow "
            "takes a checkpoint again.",
            icon=":material/visibility_off:",
        )
