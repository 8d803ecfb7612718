"""The little HTML we write ourselves, every piece of text in it escaped: times with a tooltip, links, lists, lines."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from html import escape

import streamlit as st

from components.text import ago, exact, plain, prose


def text(value: str, limit: int = 200) -> str:
    """Anybody's text, on one line."""
    return escape(plain(value, limit))


def link(label: str, url: str, limit: int = 80) -> str:
    """A link within this window; ``url`` is one of ours."""
    return f'<a href="{escape(url)}" target="_self">{text(label, limit)}</a>'


def outside(label: str, url: str, limit: int = 80) -> str:
    """A link into MLflow, in a window of its own."""
    return f'<a href="{escape(url)}" target="_blank" rel="noopener">{text(label, limit)}</a>'


def when(moment: datetime | str | None) -> str:
    """``3 days ago``, with the exact time on hover."""
    return f'<time title="{escape(exact(moment))}">{escape(ago(moment))}</time>'


def caption(*parts: str) -> None:
    """A quiet line of pieces made by this module."""
    st.html(f'<div class="quiet">{" · ".join(part for part in parts if part)}</div>')


def line(sign: str, tone: str, headline: str, said: str = "", note: str = "", signed: str = "") -> str:
    """One line of a thread: a sign in a coloured disc, who did what, their words, why it no longer counts, and what
    they signed."""
    words = f'<div class="said{" struck" if note else ""}">{escape(prose(said))}</div>' if said else ""
    voided = f'<div class="void">{escape(note)}</div>' if note else ""
    disc = f'<span class="sign" aria-hidden="true">{escape(sign)}</span>'
    signature = f'<div class="signed">signed: {escape(plain(signed))}</div>' if signed else ""
    return f'<div class="line {tone}">{disc}<div>{headline}{words}{signature}{voided}</div></div>'


def item(sign: str, tone: str, meaning: str, body: str) -> str:
    """One item of a list: a sign in a coloured disc, which says what it means to those who cannot see it."""
    disc = f'<span class="sign" role="img" aria-label="{escape(meaning)}">{escape(sign)}</span>'
    return f'<li class="{tone}">{disc}<div>{body}</div></li>'


def thread(lines: Iterable[str]) -> None:
    """Lines made by `line`, one below the other."""
    st.html(f'<div class="thread">{"".join(lines)}</div>')
