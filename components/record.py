"""The tables behind a verdict and a version: every check, every event, every public tag."""

from __future__ import annotations

import streamlit as st

from components import links
from components.events import signed_words
from components.text import ago, escaped, exact
from services.gate import Verdict
from services.record.mirror import OURS
from services.views.dossier import MAX_EVENTS, Dossier


def checks_table(verdict: Verdict) -> None:
    """Every check with value, threshold and reason."""
    st.table(
        {
            "": [
                "✓ passed" if check.passed else "! waived" if check.waived else "✗ failed" for check in verdict.checks
            ],
            "check": [escaped(check.title, 160) for check in verdict.checks],
            "value": [escaped(check.value, 160) for check in verdict.checks],
            "threshold": [escaped(check.threshold, 160) for check in verdict.checks],
            "reason": [escaped(check.reason, 600) for check in verdict.checks],
        },
        border="horizontal",
        hide_index=True,
    )


def record(dossier: Dossier) -> None:
    """What the ledger holds about this version, and the mirror of it in MLflow."""
    if not dossier.events:
        st.info("The ledger holds nothing about this version yet.", icon=":material/menu_book:")
    else:
        st.table(
            {
                "record": [f"[#{event.seq}]({links.event(event.seq)})" for event in dossier.events],
                "what": [event.kind.value.replace(":", " ") for event in dossier.events],
                "who": [escaped(event.actor, 60) for event in dossier.events],
                "when": [f"{exact(event.at)} ({ago(event.at)})" for event in dossier.events],
                **_signatures(dossier),
                "policy": [escaped(str(event.get("policy") or ""), 60) for event in dossier.events],
                "hash": [f"`{event.hash[:12]}`" for event in dossier.events],
            },
            border="horizontal",
            hide_index=True,
        )
    if dossier.more_events:
        st.caption(f"The newest {MAX_EVENTS} events. History has all of them.")
    st.subheader("Public record in MLflow", anchor=False)
    tags = {key: value for key, value in sorted(dossier.version.tags.items()) if key in OURS}
    if not tags:
        st.caption("MLflow carries no tag of ours on this version.")
        return
    st.caption("Tags show, the ledger proves: these are written from the record, and anybody may read them.")
    st.table(
        {"tag": [f"`{key}`" for key in tags], "value": [escaped(value, 300) for value in tags.values()]},
        border="horizontal",
        hide_index=True,
    )


def _signatures(dossier: Dossier) -> dict[str, list[str]]:
    """A column of them, where there is one at all."""
    signatures = [escaped(signed_words(event), 300) for event in dossier.events]
    return {"signed": signatures} if any(signatures) else {}
