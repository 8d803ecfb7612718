"""Findings of a review: written down in the decision form, listed on the version, resolved or opened again there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import streamlit as st

from components import links, markup
from components.acting import confirmed_once
from components.session import Session
from components.text import escaped
from services import gate
from services.accounts import permissions
from services.desk import Request
from services.domain import Action, Actor, VersionRef
from services.evidence import Finding, FindingDraft, Severity
from services.verbs import findings
from services.views.dossier import Dossier

_KEY = "settle-finding"
_LABELS = {Action.RESOLVE: "Resolve", Action.REOPEN: "Reopen"}
_ICONS = {Action.RESOLVE: ":material/task_alt:", Action.REOPEN: ":material/undo:"}
_ASKS = {
    Action.RESOLVE: "How was it answered? What did you look at?",
    Action.REOPEN: "Why is it not answered after all?",
}
_BADGES = {
    Severity.BLOCKING: ":red-badge[:material/block: Blocking]",
    Severity.MAJOR: ":orange-badge[:material/priority_high: Major]",
    Severity.MINOR: ":gray-badge[:material/info: Minor]",
}
_MEANINGS = {
    Severity.BLOCKING: "Blocking: not in Production with this",
    Severity.MAJOR: "Major: to be answered",
    Severity.MINOR: "Minor: for the next time",
}


def editor(dossier: Dossier, owners: Mapping[str, str]) -> tuple[FindingDraft, ...]:
    """Rows for findings, inside a form: what was written so far, and a button for one more.

    Args:
        owners: username → name of everybody who could answer one.
    """
    # With the next decision there are more findings, and the editor begins anew.
    key = f"findings:{dossier.version.identity}:{len(dossier.facts.findings)}"
    rows = st.session_state.setdefault(key, 1)
    submission = dossier.facts.submission
    usernames = list(owners)
    default = usernames.index(submission.submitted_by) if submission and submission.submitted_by in owners else None
    drafts = []
    for row in range(rows):
        with st.container(border=True, gap="small"):
            text = st.text_input(
                f"Finding {row + 1}", placeholder="What is wrong, and what would answer it?", key=f"{key}:{row}:text"
            )
            severity, owner, due = st.columns([5, 4, 4])
            draft = (
                severity.selectbox(
                    "Severity", list(Severity), index=1, format_func=_MEANINGS.__getitem__, key=f"{key}:{row}:severity"
                ),
                owner.selectbox("Who answers", usernames, index=default, key=f"{key}:{row}:owner"),
                due.date_input("Due", value=None, min_value="today", format="YYYY-MM-DD", key=f"{key}:{row}:due"),
            )
        if text.strip():
            drafts.append(FindingDraft(text=text, severity=draft[0], owner=draft[1], due=draft[2]))
    if st.form_submit_button("Add a finding", type="tertiary", icon=":material/add:"):
        st.session_state[key] = rows + 1
        st.rerun()
    return tuple(drafts)


def to_answer(session: Session) -> bool:
    """What waits for this person's answer, a line a version, overdue ones first; whether there was any."""
    by_version: dict[VersionRef, list[Finding]] = {}
    for finding in findings.owned_by(session.signoff, session.user.username):
        by_version.setdefault(finding.ref, []).append(finding)
    for ref, of_version in by_version.items():
        due = due_line(of_version, session.signoff.now())
        where = f"**[{escaped(ref.name, 80)} / v{ref.version}]({links.version(ref)})**"
        text = f"{where} waits for your answer: {due}."
        (st.error if any(f.overdue(session.signoff.now()) for f in of_version) else st.warning)(
            text, icon=":material/edit_note:"
        )
    return bool(by_version)


def due_line(found: Iterable[Finding], now: datetime) -> str:
    """``2 findings open, 1 blocking, due 2026-12-01``; empty when none is open."""
    waiting = [finding for finding in found if finding.open]
    if not waiting:
        return ""
    blocking = sum(finding.blocks for finding in waiting)
    first = min((finding.due for finding in waiting if finding.due), default=None)
    late = any(finding.overdue(now) for finding in waiting)
    return ", ".join(
        part
        for part in (
            f"{len(waiting)} finding{'s' if len(waiting) > 1 else ''} open",
            f"{blocking} blocking" if blocking else "",
            f"{'overdue since' if late else 'due'} {first}" if first else "",
        )
        if part
    )


def panel(dossier: Dossier, by: Actor) -> Request | None:
    """Every finding of the version, open ones first; nothing where nobody has found anything."""
    found = dossier.facts.findings
    if not found:
        return None
    open_ = sum(finding.open for finding in found)
    with st.container(border=True, key="findings"):
        st.markdown(f"**Findings** :gray[{open_} open, {len(found) - open_} resolved]")
        for finding in sorted(found, key=lambda one: (not one.open, list(Severity).index(one.severity), one.id)):
            _row(finding, dossier, by)
    shown = {finding.id for finding in found}
    return confirmed_once(_KEY, lambda request: request.finding in shown, "version")


def _row(finding: Finding, dossier: Dossier, by: Actor) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(width="stretch", gap=None):
            text = escaped(finding.text, 2000)
            st.markdown(f"{_BADGES[finding.severity]} {text if finding.open else f':gray[~~{text}~~]'}")
            markup.caption(*_told(finding, dossier.ref, dossier.facts.now))
            if finding.resolution:
                st.html(f'<div class="said">{markup.text(" ".join(finding.resolution.split()), 1000)}</div>')
        action = Action.RESOLVE if finding.open else Action.REOPEN
        if (
            permissions.may(by, action)
            and not gate.barred(by.person, by.username, dossier.facts)
            and st.button(_LABELS[action], key=f"{action}:{finding.id}", icon=_ICONS[action])
        ):
            _DIALOGS[action](action, finding)


def _told(finding: Finding, here: VersionRef, now: datetime) -> list[str]:
    record = markup.link(f"#{finding.seq}", links.event(finding.seq))
    raised = f"{markup.text(finding.raised_by, 60)} · {markup.when(finding.raised_at)} · {record}"
    if finding.ref != here:
        raised += f" · in {markup.link(str(finding.ref), links.version(finding.ref))}, which is the same model"
    if finding.resolved_by:
        return [raised, f"✓ resolved by {markup.text(finding.resolved_by, 60)} {markup.when(finding.resolved_at)}"]
    due = ""
    if finding.due:
        due = f"<strong>overdue since {finding.due}</strong>" if finding.overdue(now) else f"due {finding.due}"
    return [raised, f"for {markup.text(finding.owner, 60)}", due]


def _dialog(action: Action, finding: Finding) -> None:
    st.markdown(f"{_BADGES[finding.severity]} {escaped(finding.text, 2000)}")
    with st.form(f"{action}:{finding.id}:form", border=False):
        words = st.text_area("Comment (needed)", placeholder=_ASKS[action], height=96)
        sent = st.form_submit_button(_LABELS[action], type="primary")
    if sent and not words.strip():
        st.warning("A comment is needed.", icon=":material/edit:")
    elif sent:
        st.session_state[_KEY] = Request(action=action, ref=finding.ref, words=words, finding=finding.id)
        st.rerun()


_DIALOGS = {
    Action.RESOLVE: st.dialog("Is it answered?", icon=_ICONS[Action.RESOLVE])(_dialog),
    Action.REOPEN: st.dialog("Open it again?", icon=_ICONS[Action.REOPEN])(_dialog),
}
