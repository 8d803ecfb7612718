"""What was said and done about a version, one line an event, oldest first; comments in full, void approvals struck."""

from __future__ import annotations

import streamlit as st

from components import markup
from components.events import event_line
from services.views.dossier import MAX_EVENTS, Dossier


def conversation(dossier: Dossier) -> None:
    """The thread of one version."""
    run, version = dossier.facts.candidate.run, dossier.version
    void = {decision.seq: dossier.void_reasons(decision) for decision in dossier.facts.decisions}
    registered = f"<strong>v{version.ref.version}</strong> was registered · {markup.when(version.created_at)}"
    lines = [markup.line("+", "plain", registered, version.description)]
    if run:
        who = markup.text(run.user or "somebody", 60)
        trained = f"<strong>{who}</strong> trained it in run {markup.text(run.name, 80)} · {markup.when(run.ended_at)}"
        lines.insert(0, markup.line("*", "plain", trained))
    if dossier.more_events:
        lines.append(markup.line("…", "plain", f"What came before the newest {MAX_EVENTS} events is in History"))
    lines += [event_line(event, version=False, void=void.get(event.seq, ())) for event in reversed(dossier.events)]
    markup.thread(lines)
    if not dossier.events:
        st.caption("Nobody has said anything yet: it was never submitted for review.")
