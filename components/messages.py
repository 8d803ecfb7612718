"""Messages as people see them: what is stuck and why, what waits, what was sent. No address is ever among it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import streamlit as st

from components import links, markup
from components.text import ago, escaped
from services.messaging import message_text
from services.messaging.message_book import MAIL, MessageBook
from services.messaging.messages import ESCALATION, EVENT, REMINDER, WAITING
from services.messaging.outbox import ATTEMPTS, DELIVERED, DROPPED, FAILED, RETRIED, STUCK, Attempt, Message, Overview

EXAMPLE = "docs/messages.example.yaml"
_OCCASIONS = {REMINDER: "has waited for review", ESCALATION: "is overdue for review"}
_OUTCOMES = {FAILED: ("×", "bad"), DELIVERED: ("✓", "good")}
_KEY = "messages-retried"


@dataclass(frozen=True, kw_only=True)
class Retry:
    """What is to be tried again: one message, or with None all that are stuck."""

    number: int | None


def configured(book: MessageBook) -> None:
    """Where messages go, or how to have them go anywhere."""
    if book.destinations:
        names = [f"{channel.name} ({channel.kind})" for channel in book.channels]
        reached = " · ".join(escaped(name, 80) for name in ([MAIL] if book.mail else []) + names)
        st.caption(f":material/outgoing_mail: Sent to {reached} · {len(book.rules)} rules")
        return
    with st.container(border=True, key="messages-set-up"):
        st.markdown("**Nobody is told anything yet.** Signoff can write to Slack, Teams, webhooks and by mail.")
        st.markdown(
            f"1. Copy `{EXAMPLE}` and say in it who is told what.\n"
            "2. Put the addresses into environment variables: the file names them, and holds none.\n"
            "3. Name the file in `SIGNOFF_MESSAGES` and start Signoff again."
        )


def nothing_yet(book: MessageBook) -> None:
    """Where there is not one message."""
    if book.destinations:
        st.info(
            "No message was written yet. The next event that a rule is about appears here.", icon=":material/inbox:"
        )


def numbers(seen: Overview) -> None:
    """How many of each."""
    with st.container(horizontal=True, gap="small"):
        for label, state in (("Sent", DELIVERED), ("Waiting", WAITING), ("Stuck", STUCK)):
            st.metric(label, seen.counts.get(state, 0), border=True, width="stretch")


def stuck(seen: Overview, *, allowed: bool) -> Retry | None:
    """What no receiver took, with the reason; what is to be tried again, when asked for."""
    if not seen.stuck:
        return None
    asked, count = None, seen.counts[STUCK]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Stuck", anchor=False, width="stretch")
        why = None if allowed else "Only a release manager or an admin may."
        if count > 1 and st.button(
            f"Retry all {count}", icon=":material/replay:", key="retry:all", disabled=not allowed, help=why
        ):
            asked = Retry(number=None)
    for message in seen.stuck:
        with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"stuck:{message.number}"):
            with st.container(gap=None, width="stretch"):
                markup.thread([markup.line("×", "bad", _headline(message), message.last_error or "")])
                with st.expander("Every attempt", key=f"log:{message.number}"):
                    markup.thread(map(_attempt, seen.log[message.number]))
            if st.button(
                "Retry", icon=":material/replay:", key=f"retry:{message.number}", disabled=not allowed, help=why
            ):
                asked = Retry(number=message.number)
    _rest(count, len(seen.stuck))
    return asked


def retried(count: int) -> None:
    """Keep what became of a retry for `outcome` in the next run."""
    st.session_state[_KEY] = count


def outcome() -> None:
    """What became of the last retry, once."""
    if count := st.session_state.pop(_KEY, 0):
        what = "The message is" if count == 1 else f"{count} messages are"
        st.success(f"{what} tried again from the start.", icon=":material/task_alt:")


def waiting(seen: Overview) -> None:
    """What is on its way, oldest first."""
    if not seen.waiting:
        return
    st.subheader("Waiting", anchor=False)
    markup.thread(markup.line("…", "wait", _headline(message), _progress(message)) for message in seen.waiting)
    _rest(seen.counts[WAITING], len(seen.waiting))


def settled(seen: Overview) -> None:
    """What was sent, and what could be sent to nobody."""
    st.subheader("Sent", anchor=False)
    if not seen.settled:
        st.caption("Nothing was sent yet.")
        return
    markup.thread(_settled(message) for message in seen.settled)
    _rest(seen.counts.get(DELIVERED, 0) + seen.counts.get(DROPPED, 0), len(seen.settled))


def _settled(message: Message) -> str:
    if message.state == DROPPED:
        return markup.line("–", "plain", _headline(message), message.last_error or "")
    return markup.line("✓", "good", _headline(message))


def _attempt(attempt: Attempt) -> str:
    if attempt.outcome == RETRIED:
        return markup.line(
            "↻", "plain", f"{markup.when(attempt.at)} · {markup.text(attempt.by or '', 80)} had it retried"
        )
    sign, tone = _OUTCOMES.get(attempt.outcome or "", ("…", "wait"))
    return markup.line(sign, tone, markup.when(attempt.at), attempt.error or "")


def _headline(message: Message) -> str:
    to = f"{message.person} by mail" if message.person else message.channel
    about = message_text.said(message.kind) if message.occasion == EVENT else _OCCASIONS[message.occasion]
    ref = message.ref
    which = markup.link(f"{ref.name} v{ref.version}", links.version(ref)) if ref else "The registry"
    record = markup.link(f"#{message.seq}", links.event(message.seq))
    why = f'<span title="{markup.text(message.why, 200)}">{markup.text(about, 60)}</span>'
    return f"<strong>{markup.text(to, 80)}</strong> · {which} {why} · {markup.when(message.at)} · {record}"


def _progress(message: Message) -> str:
    if not message.attempts:
        return ""
    tried = f"Attempt {message.attempts} of {ATTEMPTS}"
    if message.last_error is None:
        return f"{tried} is under way."
    again = ago(datetime.now(UTC) + timedelta(seconds=message.due_in)) if message.due_in > 1 else "now"
    return f"{tried} failed. {message.last_error} Next one {again}."


def _rest(count: int, shown: int) -> None:
    if count > shown:
        st.caption(f"And {count - shown} more.")
