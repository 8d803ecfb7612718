"""The home page's cards: inbox, what is in Production, what changed lately."""

from __future__ import annotations

import streamlit as st

from components import badges, emergencies, findings, links, markup, submissions
from components.events import event_line
from components.session import Session
from components.text import escaped, number, signed
from services.domain import Status
from services.record.ledger import Event
from services.views import inbox
from services.views.inbox import Task
from services.views.overview import DAYS, Champion, Overview

_LABELS = {
    Task.TAKE_OVER: "Submit",
    Task.REVIEW: "Review",
    Task.FIX: "Answer",
    Task.RESOLVE: "Resolve",
    Task.RELEASE: "Release",
}


def numbers(seen: Overview) -> None:
    """Four cards with a number each."""
    cards = (
        ("In Production", seen.in_production, f"of {seen.models} models"),
        ("In review", seen.count(Status.PENDING), "waiting now"),
        ("Approved", seen.count(Status.APPROVED, Status.AUTO_APPROVED), "to be released"),
        ("Released", seen.released, f"in {DAYS} days"),
    )
    for place, (label, value, note) in zip(st.columns(4), cards, strict=True):
        place.metric(label, value, note, border=True, height="stretch", delta_color="off", delta_arrow="off")


def inbox_of(session: Session, seen: Overview) -> None:
    """What this person can do something about, oldest first."""
    st.subheader("Your inbox", anchor=False)
    for intent in seen.under_way:
        st.warning(
            f"A {intent.subject} of {escaped(intent.ref.name)} v{intent.ref.version} "
            f"by {escaped(intent.actor.username)} is under way, or waits to find out what became of it.",
            icon=":material/pending:",
        )
    urgent = emergencies.inbox(seen.emergencies, session.user)
    asked = findings.to_answer(session)
    tasks = inbox.tasks(session.user, list(seen.open_submissions))
    submissions.cards([(_LABELS[task], item) for task, item in tasks], "inbox", prominent=not urgent)
    if not tasks and not asked and not urgent:
        others = len(seen.open_submissions)
        more = f" {others:,} open submission{'s' if others > 1 else ''} wait for others." if others else ""
        st.success(f"Nothing waits for you.{more}", icon=":material/inbox:")


def in_production(champions: tuple[Champion, ...], total: int) -> None:
    """A card for each of these champions of ``total``: version, since when, key metric with its trend."""
    st.subheader("In Production now", anchor=False)
    if not champions:
        st.info("Nothing is in Production yet. Submit a version for review to begin.", icon=":material/rocket_launch:")
        return
    for start in range(0, len(champions), 2):
        for place, champion in zip(st.columns(2), champions[start : start + 2], strict=False):
            with place.container(border=True, gap="small", height="stretch"):
                _champion(champion)
    if total > len(champions):
        st.caption(f"The {len(champions)} released last of {total:,}. Registry lists all of them.")


def _champion(champion: Champion) -> None:
    ref = champion.version.ref
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.markdown(f"**[{escaped(ref.name, 60)}]({links.model(ref.name)})**", width="content")
        st.markdown(f"[v{ref.version}]({links.version(ref)})", width="content")
        st.space("stretch")
        badges.stage(champion.version.stage)
    st.metric(
        escaped(champion.metric, 60),
        number(champion.value),
        f"{signed(champion.gain)} to v{champion.before}" if champion.gain is not None else None,
        delta_color="off" if not champion.gain else "normal" if champion.improved else "inverse",
        chart_data=champion.trend if len(champion.trend) > 1 else None,
        chart_type="area",
    )
    if champion.release:
        since, by = markup.when(champion.release.at), markup.text(champion.release.by, 60)
        how = "released in an emergency by" if champion.release.action == "emergency" else "released by"
        markup.caption(f"since {since}", f"{how} {by}")
    else:
        st.caption(":orange[⚠] not released through Signoff")


def lately(events: tuple[Event, ...]) -> None:
    """The last things that happened, newest first."""
    st.subheader("Lately", anchor=False)
    if not events:
        st.caption("Nothing has happened yet.")
    markup.thread(event_line(event, version=True, limit=140) for event in events)
