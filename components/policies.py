"""Where two policies judge a model: what that means, and the form in which a release manager decides."""

from __future__ import annotations

import streamlit as st

from components.text import escaped
from services.accounts import permissions
from services.desk import Request
from services.domain import Action, Actor
from services.views.dossier import Dossier


def panel(dossier: Dossier, by: Actor) -> Request | None:
    """Nothing where one policy judges; what was decided in this run, if anything was."""
    if dossier.policy.beside is None:
        return None
    assigned, chosen = (one.rules.name for one in dossier.policy.each)
    with st.container(border=True, key="policies"):
        st.markdown(
            f":orange[:material/policy:] **Two policies judge {escaped(dossier.ref.name, 80)}.** "
            f"**{escaped(assigned, 80)}** was assigned to it, and tags or name now choose **{escaped(chosen, 80)}**. "
            "Until a release manager decides, it must pass both, and approvals count for both."
        )
        if not permissions.may(by, Action.ASSIGN_POLICY):
            return None
        with st.form(f"policy:{dossier.version.identity}", border=False):
            words = {assigned: f"Keep {escaped(assigned, 80)}", chosen: f"Change to {escaped(chosen, 80)}"}
            choice = st.radio(
                "Which policy judges it", [assigned, chosen], format_func=words.__getitem__, horizontal=True
            )
            reason = st.text_input("Reason (needed)", placeholder="Why is this the policy for it?")
            sent = st.form_submit_button("Decide which policy judges it", icon=":material/policy:")
    if not sent or not choice:
        return None
    return Request(action=Action.ASSIGN_POLICY, ref=dossier.ref, words=reason, policy=choice)
