"""What reviewers state about the data set of a champion that names none: shown as their word, and written down here."""

from __future__ import annotations

import streamlit as st

from components import links, markup
from components.text import escaped
from services import gate
from services.desk import Request
from services.domain import Action, Actor, Dataset, VersionRef
from services.evidence import Statement
from services.verbs.statements import MAX_DIGEST, MAX_NAME
from services.views.dossier import Dossier


def panel(dossier: Dossier, by: Actor) -> Request | None:
    """Every statement, and the form for one; nothing where the champion names its data set itself."""
    champion = dossier.without_data_set
    if champion is None or not (dossier.statements or Action.STATE_DATASET in dossier.actions(by)):
        return None
    with st.container(border=True, key="statements"):
        name = f"{escaped(champion.name, 80)} v{champion.version}"
        st.markdown(f"**{name} does not name the data set it was measured on.** :gray[A reviewer can state it.]")
        for one in dossier.statements:
            _row(one, dossier)
        if Action.STATE_DATASET in dossier.actions(by):
            return _form(dossier, champion)
    return None


def _row(one: Statement, dossier: Dossier) -> None:
    st.markdown(f":orange-badge[:material/record_voice_over: Stated] {escaped(one.dataset, 200)} `{one.digest[:8]}`")
    record = markup.link(f"#{one.seq}", links.event(one.seq))
    own = gate.barred(one.person, one.by, dossier.facts) if dossier.facts.champion else None
    why = f"does not count: {one.lost}" if one.lost else f"does not count for v{dossier.ref.version}: {own}"
    apart = markup.text(why, 200) if one.lost or own else ""
    markup.caption(f"{markup.text(one.by, 60)} · {markup.when(one.at)} · {record}", apart)
    st.html(f'<div class="said">{markup.text(" ".join(one.comment.split()), 1000)}</div>')


def _form(dossier: Dossier, champion: VersionRef) -> Request | None:
    """Begun with the candidate's own data set, which is what is usually meant."""
    mine = dossier.facts.candidate.holdout[:1] if dossier.facts.champion else ()
    with st.form(f"state-dataset:{dossier.version.identity}", border=False):
        left, right = st.columns([3, 2])
        name = left.text_input("Data set", value=mine[0].name if mine else "", max_chars=MAX_NAME)
        digest = right.text_input("Digest", value=mine[0].digest if mine else "", max_chars=MAX_DIGEST)
        words = st.text_area("Comment (needed)", placeholder="How do you know? The record keeps it.", height=96)
        sent = st.form_submit_button(f"State the data set of v{champion.version}", icon=":material/record_voice_over:")
    if not sent:
        return None
    stated = Dataset(name=name, digest=digest, context="")
    return Request(action=Action.STATE_DATASET, ref=champion, words=words, dataset=stated)
