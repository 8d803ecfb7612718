"""What pages say about the record as a whole: the one judgement of `services.record.condition`, in words and colour."""

from __future__ import annotations

import streamlit as st

from components.session import Session
from components.text import ago, escaped, exact
from services.record import condition, mirror
from services.record.condition import Condition, State

SHOWN = 3
"""Versions that are named."""


def alarm(session: Session) -> None:
    """Loud where the record was tampered with, plain where its witness is missing; else nothing."""
    _alarm(condition.of(session.signoff))


def unwritten(session: Session) -> None:
    """Which tags could not be written into MLflow again and again; nothing where there are none."""
    found = mirror.stuck(session.signoff.database)
    if found:
        more = f" {len(found) - SHOWN:,} more versions wait likewise." if len(found) > SHOWN else ""
        st.warning(
            f"**MLflow does not take all tags.** {' '.join(escaped(one.sentence) for one in found[:SHOWN])}{more} "
            "The record is complete. Signoff tries again, at least every five minutes, and looks for no other changes "
            "of these models in MLflow meanwhile.",
            icon=":material/label_off:",
        )


def line(session: Session) -> None:
    """The same for the page that shows the record: also that all is as it should be, and how much there is."""
    found = condition.of(session.signoff)
    _alarm(found)
    count = f"{found.events:,} event{'' if found.events == 1 else 's'} · head `{found.head[:12]}`"
    match found.state:
        case State.INTACT:
            read = f"Every event was read again at {exact(found.checked_at)}, " if found.checked_at else ""
            st.caption(
                f":green[✓] Record intact · {count}",
                help=f"{read}with its hash, its seal, its link to the one before and the signed checkpoints. "
                "What came since is read as it comes.",
            )
        case State.UNVERIFIED:
            st.caption(f":material/hourglass_top: {escaped(found.sentence)} · {count}")
        case _:
            st.caption(f":material/warning: Record {found.state} · {count}")


def of_event(session: Session) -> None:
    """What that means for one event, in its drawer."""
    found = condition.of(session.signoff)
    if found.state is State.TAMPERED:
        st.error(
            "**The record was tampered with.** This event bears Signoff's seal, but what happened around it "
            f"cannot be relied on. {escaped(found.sentence, 600)}",
            icon=":material/gpp_bad:",
        )


def _alarm(found: Condition) -> None:
    match found.state:
        case State.TAMPERED:
            st.error(
                f"**The record was tampered with.** {escaped(found.sentence, 900)} Keep a copy of the "
                "database and tell an auditor.",
                icon=":material/gpp_bad:",
            )
        case State.UNWITNESSED:
            since = f" since {ago(found.since)}" if found.since else ""
            st.warning(
                f"**The record is unwitnessed{since}.** {escaped(found.sentence, 900)}",
                icon=":material/visibility_off:",
            )
