"""Emergencies: loud on every page until somebody has reviewed them; and their dialogs."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from components import links, markup
from components.acting import carried_out
from components.decision import past_the_gate
from components.problems import problems_shown
from components.session import Session
from components.text import ago, escaped
from services.desk import Request
from services.domain import Action, Actor
from services.verbs.emergencies import Emergency, open_emergencies
from services.views.dossier import Dossier

BANNERS_SHOWN = 3
ICON = ":material/notification_important:"

_KEY = "settle-emergency"
_LABELS = {
    Action.CONFIRM_EMERGENCY: "Confirm, promote now",
    Action.WITHDRAW_EMERGENCY: "Withdraw",
    Action.REVIEW_EMERGENCY: "Review",
}
_ICONS = {
    Action.CONFIRM_EMERGENCY: ICON,
    Action.WITHDRAW_EMERGENCY: ":material/undo:",
    Action.REVIEW_EMERGENCY: ":material/fact_check:",
}


def banner(session: Session) -> None:
    """On every page: what went out in an emergency and was not reviewed, and what waits for this person's word."""
    with problems_shown():
        found = open_emergencies(session.signoff)
        loud = [one for one in found if one.unreviewed]
        for emergency in loud[:BANNERS_SHOWN]:
            st.error(_unreviewed(emergency, session.user), icon=ICON)
        if len(loud) > BANNERS_SHOWN:
            st.error(
                f"**And {len(loud) - BANNERS_SHOWN} more emergencies nobody has reviewed.** "
                "[See all of them](/promotions)",
                icon=ICON,
            )
        for emergency in (one for one in found if one.may_confirm(session.user)):
            st.warning(f"{_asked(emergency)} [Look, and confirm or not]({links.version(emergency.ref)})", icon=ICON)


def _unreviewed(emergency: Emergency, by: Actor) -> str:
    """Who, why, since when, and what to do about it, in Markdown."""
    count, seq = len(emergency.waived), emergency.released_seq or 0
    past = f"past {count} failed check{'s' if count != 1 else ''}" if count else "without the usual release"
    second, first = escaped(emergency.confirmed_by or "", 60), escaped(emergency.asked_by, 60)
    review = "[Review it](/promotions)" if emergency.may_review(by) else "A reviewer or auditor must review it"
    return (
        f"**Emergency, not reviewed.** {_name(emergency)} was put into Production {past} {ago(emergency.released_at)} "
        f"by **{second}**, asked for by **{first}**: {_reason(emergency, 300)} · "
        f"[Record #{seq}]({links.event(seq)}) · {review}"
    )


def _asked(emergency: Emergency) -> str:
    return (
        f"**Emergency asked for.** **{escaped(emergency.asked_by, 60)}** asks for {_name(emergency)} to go to "
        f"Production at once: {_reason(emergency, 300)} · runs out {ago(emergency.expires_at)} ·"
    )


def _name(emergency: Emergency) -> str:
    ref = emergency.ref
    return f"[{escaped(ref.name, 80)} v{ref.version}]({links.version(ref)})"


def _reason(emergency: Emergency, limit: int) -> str:
    return escaped(" ".join(emergency.reason.split()), limit)


def inbox(found: Iterable[Emergency], by: Actor) -> bool:
    """Cards of those this person can confirm or review, to open; whether there were any."""
    mine = [one for one in found if one.may_confirm(by) or one.may_review(by)]
    for emergency in mine:
        label = "Look and confirm" if emergency.waits else "Review the emergency"
        with st.container(border=True, gap="small", key=f"emergency:{emergency.seq}"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{_name(emergency)}**", width="content")
                st.badge("Emergency", icon=ICON, color="red")
                st.space("stretch")
                if st.button(label, key=f"open-emergency:{emergency.seq}", icon=ICON, type="primary"):
                    st.switch_page(links.PAGES["version"], query_params=links.version_query(emergency.ref))
            _story(emergency)
    return bool(mine)


def listing(session: Session) -> None:
    """Every request that waits and every emergency nobody has reviewed; carries out what is confirmed."""
    found = open_emergencies(session.signoff)
    if found:
        st.subheader("Emergencies", anchor=False)
    panel(session, found)


def panel(session: Session, found: Iterable[Emergency], dossier: Dossier | None = None) -> None:
    """Each with what this person may do about it; ``dossier`` is its version's, where that is on the page.

    To confirm is only offered beside the evidence, so not without a dossier.
    """
    for emergency in found:
        with st.container(border=True, gap="small", key=f"settle:{emergency.seq}"):
            if emergency.waits:
                st.markdown(f":red[{ICON}] **Emergency asked for: {_name(emergency)}**")
            else:
                st.markdown(f":red[{ICON}] **Emergency, not reviewed: {_name(emergency)}**")
            _story(emergency)
            _buttons(emergency, session.user, dossier)
    if request := _confirmed():
        carried_out(session, request)
        st.rerun()


def _story(emergency: Emergency) -> None:
    st.markdown(_reason(emergency, 2000))
    asked = f"asked for {markup.when(emergency.asked_at)} by {markup.text(emergency.asked_by, 60)}"
    if emergency.waits:
        markup.caption(asked, f"runs out {markup.when(emergency.expires_at)}", _record(emergency.seq))
        return
    confirmed = f"confirmed {markup.when(emergency.released_at)} by {markup.text(emergency.confirmed_by or '', 60)}"
    markup.caption(asked, confirmed, _record(emergency.released_seq or 0))
    if emergency.waived:
        titles = " · ".join(escaped(title, 120) for title in emergency.waived)
        st.markdown(f":orange[**Waived:**] {titles}")


def _record(seq: int) -> str:
    return f"record {markup.link(f'#{seq}', links.event(seq))}"


def _buttons(emergency: Emergency, by: Actor, dossier: Dossier | None) -> None:
    if dossier and emergency.waits and (changed := emergency.binding.differences(dossier.binding, substance=True)):
        st.warning(f"Void: since it was asked for, {escaped(' and '.join(changed), 1000)}. It must be asked for anew.")
    offered = {
        Action.CONFIRM_EMERGENCY: emergency.may_confirm(by) and dossier is not None,
        Action.WITHDRAW_EMERGENCY: emergency.may_withdraw(by),
        Action.REVIEW_EMERGENCY: emergency.may_review(by),
    }
    with st.container(horizontal=True):
        for action in (action for action, fits in offered.items() if fits):
            kind = "secondary" if action is Action.WITHDRAW_EMERGENCY else "primary"
            if st.button(_LABELS[action], key=f"{action}:{emergency.seq}", icon=_ICONS[action], type=kind):  # type: ignore[arg-type]
                _DIALOGS[action](action, emergency, dossier)
    if not any(offered.values()):
        st.caption(f"Waits for {_waits_for(emergency)}.")


def _waits_for(emergency: Emergency) -> str:
    if emergency.waits:
        return "a break-glass holder or release manager who neither asked nor trained nor submitted it"
    return "a reviewer or auditor who neither asked nor confirmed nor trained nor submitted it"


def _dialog(action: Action, emergency: Emergency, dossier: Dossier | None) -> None:
    justified: bool | None = False
    if action is Action.CONFIRM_EMERGENCY and dossier:
        past_the_gate(Action.CONFIRM_EMERGENCY, dossier)
    _story(emergency)
    with st.form(f"{action}:form:{emergency.seq}", border=False):
        if action is Action.REVIEW_EMERGENCY:
            choices = {True: "Justified", False: "Not justified"}
            justified = st.radio("Was it an emergency?", choices, format_func=choices.__getitem__, index=None)
        words = st.text_area("Your words (needed)", placeholder=_PLACEHOLDERS[action], height=96)
        sent = st.form_submit_button(_LABELS[action], type="primary")
    if sent and justified is None:
        st.warning("Say whether it was justified.", icon=":material/edit:")
    elif sent and not words.strip():
        st.warning("Words are needed.", icon=":material/edit:")
    elif sent:
        st.session_state[_KEY] = Request(
            action=action,
            ref=emergency.ref,
            words=words,
            seen=dossier.binding if dossier else None,
            emergency=emergency.seq,
            justified=bool(justified),
        )
        st.rerun()


def _confirmed() -> Request | None:
    """A confirmed request is given out once: a second click finds nothing."""
    request: Request | None = st.session_state.pop(_KEY, None)
    return request


_PLACEHOLDERS = {
    Action.CONFIRM_EMERGENCY: "Why is it right to do this now? The record keeps this for years.",
    Action.WITHDRAW_EMERGENCY: "Why is it no longer needed?",
    Action.REVIEW_EMERGENCY: "What did you look at, and what follows from it?",
}
_DIALOGS = {
    Action.CONFIRM_EMERGENCY: st.dialog("Promote past the usual checks?", icon=ICON)(_dialog),
    Action.WITHDRAW_EMERGENCY: st.dialog("Withdraw the emergency?", icon=":material/undo:")(_dialog),
    Action.REVIEW_EMERGENCY: st.dialog("Was this an emergency?", icon=":material/fact_check:")(_dialog),
}
