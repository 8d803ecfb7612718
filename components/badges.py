"""Stage, status and check as small labels: one colour for one meaning everywhere, and always a word with it."""

from __future__ import annotations

import streamlit as st

from services.domain import Stage, Status

# grey none · blue Staging · amber waiting · green Production or passed · red refused or failed · violet archived
STAGE_COLOURS = {Stage.NONE: "gray", Stage.STAGING: "blue", Stage.PRODUCTION: "green", Stage.ARCHIVED: "violet"}
STATUS_COLOURS = {
    Status.PENDING: "orange",
    Status.APPROVED: "green",
    Status.AUTO_APPROVED: "green",
    Status.CHANGES_REQUESTED: "orange",
    Status.REJECTED: "red",
    Status.WITHDRAWN: "gray",
    Status.EXPIRED: "red",
}
STATUS_WORDS = {
    Status.PENDING: "Waiting for review",
    Status.APPROVED: "Approved",
    Status.AUTO_APPROVED: "Approved automatically",
    Status.CHANGES_REQUESTED: "Changes requested",
    Status.REJECTED: "Rejected",
    Status.WITHDRAWN: "Withdrawn",
    Status.EXPIRED: "Approval expired",
}
STATUS_ICONS = {
    Status.PENDING: ":material/hourglass_top:",
    Status.APPROVED: ":material/check:",
    Status.AUTO_APPROVED: ":material/check:",
    Status.CHANGES_REQUESTED: ":material/edit_note:",
    Status.REJECTED: ":material/close:",
    Status.WITHDRAWN: ":material/undo:",
    Status.EXPIRED: ":material/timer_off:",
}


def stage_words(stage: str) -> str:
    """The stage as people say it."""
    return "No stage" if stage == Stage.NONE else stage


def stage(value: str) -> None:
    """A badge for a stage."""
    st.badge(stage_words(value), color=STAGE_COLOURS.get(value, "gray"))  # type: ignore[arg-type,call-overload]


def status(value: str | None) -> None:
    """A badge for a review status; nothing where there is none; grey for a value that is not ours."""
    if value is None:
        return
    known = value if value in set(Status) else None
    st.badge(
        STATUS_WORDS[Status(known)] if known else "Unknown status",
        icon=STATUS_ICONS[Status(known)] if known else ":material/help:",
        color=STATUS_COLOURS[Status(known)] if known else "gray",  # type: ignore[arg-type]
    )


def inline(words: str, colour: str) -> str:
    """A badge inside Markdown; ``words`` must be our own, never a name from MLflow."""
    return f":{colour}-badge[{words}]"


WAIVED = ":orange[! waived]"
"""The sign of a check that an emergency went past."""


def passed(ok: bool) -> str:
    """A sign and colour for a check, inside Markdown."""
    return ":green[✓]" if ok else ":red[✗]"
