"""The release manager's lists: under way, released, and the way back."""

from __future__ import annotations

import streamlit as st

from components import links
from components.text import escaped, exact
from services.domain import VersionRef
from services.steps.changes import Intent
from services.verbs.releases import Release, Return

_HOW = {"promote": "promoted", "rollback": "rolled back", "emergency": ":red[emergency]"}
RELEASED = 25
"""So many releases are listed, the newest ones."""


def under_way(found: list[Intent]) -> None:
    """Changes that were begun and not yet closed."""
    st.subheader("In flight", anchor=False)
    if not found:
        st.caption("Nothing is under way.")
    for intent in found:
        st.warning(
            f"{intent.subject.capitalize()} of [{escaped(intent.ref.name)} v{intent.ref.version}]"
            f"({links.version(intent.ref)}) by {escaped(intent.actor.username)}: {escaped(intent.comment, 200)}",
            icon=":material/pending:",
        )


def released(found: list[Release]) -> None:
    """What went to Production lately."""
    st.subheader("Released", anchor=False)
    if not found:
        st.info("Nothing was released yet. An approved version appears above.", icon=":material/rocket_launch:")
        return
    more, found = len(found) > RELEASED, found[:RELEASED]
    st.table(
        {
            "when": [f"{exact(release.at)[:16]} UTC" for release in found],
            "version": [_version(release.ref) for release in found],
            "how": [_HOW[release.action] for release in found],
            "replaced": [f"v{release.replaced}" if release.replaced else "–" for release in found],
            "by": [escaped(release.by, 60) for release in found],
            "reason": [escaped(release.reason, 200) for release in found],
            "record": [f"[#{release.seq}]({links.event(release.seq)})" for release in found],
        },
        border="horizontal",
        hide_index=True,
    )
    if more:
        st.caption(f"The newest {RELEASED}. History has all of them.")


def ways_back(found: list[Return], *, allowed: bool) -> None:
    """For each champion the earlier one it can be rolled back to."""
    st.subheader("Rollback", anchor=False)
    if not found:
        st.caption("No champion has a predecessor that was released through Signoff.")
        return
    st.caption("Returns to an earlier champion with unchanged files. The role and a reason are needed.")
    for way in found:
        with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"back:{way.target}"):
            st.markdown(
                f"**{escaped(way.target.name, 80)}** :gray[serves v{way.champion}; before it served] "
                f"[v{way.target.version}]({links.version(way.target)})",
                width="stretch",
            )
            label = f"Roll back to v{way.target.version}"
            if st.button(label, key=f"roll:{way.target}", icon=":material/undo:", disabled=not allowed):
                st.switch_page(links.PAGES["version"], query_params=links.version_query(way.target))


def _version(ref: VersionRef) -> str:
    return f"[{escaped(ref.name, 60)} v{ref.version}]({links.version(ref)})"
