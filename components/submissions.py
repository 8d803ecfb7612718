"""Submissions as cards: who waits, since when, and what the gate says."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from components import badges, findings, links, markup
from components.text import escaped, number, signed
from services.views.inbox import Item

ARROW = ":material/arrow_forward:"
STEP = 25
"""So many cards are drawn at first, and with each click more."""


def cards(items: Sequence[tuple[str, Item]], key: str, *, icon: str = ARROW, prominent: bool = True) -> None:
    """Submissions with the label of each one's button, in their order; of many the first ones, and how to see more.

    ``prominent``: the first button is the page's own.
    """
    drawn = f"drawn:{key}"
    most = st.session_state.get(drawn, STEP)
    for position, (label, item) in enumerate(items[:most]):
        card(item, label, icon=icon, primary=prominent and position == 0)
    if len(items) > most:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"The first {most} of {len(items):,} are shown.", width="content")
            st.button("Show more", key=f"more:{key}", on_click=_draw, args=(drawn, most + STEP), type="tertiary")


def _draw(drawn: str, most: int) -> None:
    st.session_state[drawn] = most


def card(item: Item, label: str, *, icon: str = ARROW, primary: bool = False) -> None:
    """One submission with its verdict and a button that leads to it."""
    ref = item.submission.ref
    with st.container(border=True, gap="small", key=f"card:{label}:{ref}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**[{escaped(ref.name, 80)} / v{ref.version}]({links.version(ref)})**", width="content")
            badges.status(item.status)
            st.space("stretch")
            if st.button(label, key=f"open:{label}:{ref}", icon=icon, type="primary" if primary else "secondary"):
                st.switch_page(links.PAGES["version"], query_params=links.version_query(ref))
        found = findings.due_line(item.facts.findings, item.facts.now) if item.facts else ""
        quiet = " · ".join(part for part in (delta_line(item), found) if part)
        st.markdown(f"{verdict_line(item)} :gray[· {quiet}]" if quiet else verdict_line(item))
        markup.caption(
            f"{'proposed' if item.submission.proposal else 'submitted'} {markup.when(item.submission.submitted_at)} "
            f"by {markup.text(item.submission.owner, 60)}",
            markup.text(item.submission.comment, 220),
        )


def verdict_line(item: Item) -> str:
    """What the gate says, in half a line of Markdown; of files nobody looked at yet, that nothing is known."""
    told, unseen = item.certain, "" if item.looked_at else "; its files were not looked at yet"
    if told is None:
        return f":red[✗] {escaped(item.problem or 'It cannot be judged.', 160)}"
    if item.ready:
        return ":green[✓] Nothing stands in the way"
    if not told.failed:
        return ":gray[◷] Its files were not looked at yet"
    if item.submission.proposal and told.waits_for_approval_only:
        return f":orange[◷] Nobody answers for it yet: a person must submit it{unseen}"
    if told.waits_for_approval_only:
        return f":orange[◷] {'An' if unseen else 'Only an'} approval is missing{unseen}"
    more = f" and {len(told.failed) - 1} more" if len(told.failed) > 1 else ""
    return f":red[✗] {escaped(told.failed[0].title, 80)}{more}{unseen}"


def delta_line(item: Item) -> str:
    """The key metric and how far it is from the champion's."""
    if item.facts is None or item.policy is None:
        return ""
    name = item.policy.key_metric
    mine = item.facts.candidate.metrics.get(name)
    if mine is None or not mine.usable:
        return f"{escaped(name, 60)}: no evidence"
    words = f"{escaped(name, 60)} {number(mine.value)}"
    champion = item.facts.champion
    if champion is None:
        return f"{words}, nothing in Production yet"
    theirs = champion.metrics.get(name)
    if theirs is None or not theirs.usable:
        return f"{words}, v{champion.ref.version} has none"
    return f"{words} ({signed(mine.value - theirs.value)} to v{champion.ref.version})"
