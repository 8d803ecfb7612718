"""Changes made past Signoff: the alarm on Home, and on a model's page what to do about each."""

from __future__ import annotations

import streamlit as st

from components import links, markup, signing
from components.acting import carried_out, confirmed_once, outcome_shown
from components.session import Session
from components.text import escaped
from services import assignments
from services.accounts import permissions
from services.desk import Request
from services.domain import Action, Actor
from services.errors import InvalidSettings
from services.policy import Policy
from services.reconciliation.returning import returns
from services.record.deviations import Deviation, open_deviations
from services.signing import asked

MODELS_SHOWN = 5
PER_MODEL = 3

_KEY = "settle-deviation"
_LABELS = {Action.RESTORE: "Restore", Action.ADOPT: "Adopt"}
_ICONS = {Action.RESTORE: ":material/settings_backup_restore:", Action.ADOPT: ":material/done_all:"}


def alarm(session: Session) -> None:
    """Every model that was changed past Signoff, loudly; and plainly, where such changes are not prevented."""
    found = open_deviations(session.signoff)
    by_model: dict[str, list[Deviation]] = {}
    for deviation in found:
        by_model.setdefault(deviation.ref.name, []).append(deviation)
    for name, of_model in sorted(by_model.items(), key=lambda item: not any(f.serving for f in item[1]))[:MODELS_SHOWN]:
        st.error(_alarm(name, of_model), icon=":material/gpp_maybe:")
    if len(by_model) > MODELS_SHOWN:
        st.error(
            f"**And {len(by_model) - MODELS_SHOWN} more models were changed outside Signoff.** "
            f"[See all in the history](/history)",
            icon=":material/gpp_maybe:",
        )
    if problem := session.signoff.snapshot.hook_problem:
        st.error(problem, icon=":material/gpp_maybe:")
    if not session.signoff.snapshot.gated:
        found_not_prevented()


def found_not_prevented() -> None:
    """What this server can promise and what not."""
    st.caption(
        ":material/policy: Changes made directly in MLflow are found, within a minute on a registry of usual size, "
        "and not prevented: this MLflow server has no hook."
    )


def _alarm(name: str, found: list[Deviation]) -> str:
    count = f"{len(found)} thing{'s' if len(found) > 1 else ''}"
    lines = [f"- {escaped(deviation.sentence, 300)}" for deviation in found[:PER_MODEL]]
    if len(found) > PER_MODEL:
        lines.append(f"- and {len(found) - PER_MODEL} more")
    head = (
        f"**[{escaped(name, 80)}]({links.model(name)}) was changed outside Signoff:** {count}; who did it is not known."
    )
    return "\n".join([head, "", *lines])


def panel(session: Session, name: str) -> None:
    """What was found on a model, with "Restore" and "Adopt" for those who may; carries out what is confirmed."""
    outcome_shown()
    found = open_deviations(session.signoff, name)
    if found:
        st.error(
            f"**Changed outside Signoff.** {len(found)} thing{'s are' if len(found) > 1 else ' is'} not as the record "
            "prescribes. Who did it is not known: MLflow does not say.",
            icon=":material/gpp_maybe:",
        )
        signed_under = _signed_under(session, name, found)
        with st.container(border=True, key="deviations"):
            for deviation in found:
                _deviation(deviation, session.user, signed_under)
    if request := confirmed_once(_KEY, lambda request: request.ref.name == name, "model"):
        carried_out(session, request)
        st.rerun()


def _signed_under(session: Session, name: str, found: list[Deviation]) -> Policy | None:
    """The policy that asks for a signature of whoever puts this back; None where none does, or no version returns."""
    model = session.signoff.snapshot.current.models.get(name)
    try:
        policy = assignments.judges(session.signoff).match(model) if model else None
    except InvalidSettings:
        return None  # the verb says so
    if policy is None or not any(returns(policy.rules.champion, one) for one in found):
        return None
    return policy if asked(policy, Action.ROLLBACK) else None


def _deviation(deviation: Deviation, by: Actor, signed_under: Policy | None) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(width="stretch", gap=None):
            st.markdown(f":red[**✗ {escaped(deviation.what, 120)}**] {escaped(deviation.sentence, 600)}")
            record = markup.link(f"#{deviation.seq}", links.event(deviation.seq))
            markup.caption(f"found {markup.when(deviation.found_at)}", f"the record {record}")
        for action in _answers(deviation, by):
            key, icon = f"{action}:{deviation.id}", _ICONS[action]
            if st.button(_LABELS[action], key=key, icon=icon, help=_consequence(action, deviation)):
                _DIALOGS[action](action, deviation, by, signed_under)


def _answers(deviation: Deviation, by: Actor) -> list[Action]:
    """What this person may do about it; the verb checks it all again."""
    answers = [Action.ADOPT] if deviation.beyond_restoring else [Action.RESTORE, Action.ADOPT]
    return [action for action in answers if permissions.may(by, action)]


def _consequence(action: Action, deviation: Deviation) -> str:
    """What will happen, in one or two sentences of Markdown."""
    if action is Action.ADOPT:
        return (
            f"What MLflow shows about the **{escaped(deviation.what, 120)}** of **{escaped(str(deviation.ref), 120)}** "
            "is accepted as it is. This is no approval and no release: a rollback does not return to it."
        )
    if deviation.subject.startswith(("stage:", "alias:")):
        return (
            f"All stages and aliases of **{escaped(deviation.ref.name, 120)}** go back to what the record prescribes. "
            "What returns to Production returns alone, and is judged as a rollback to it is."
        )
    return f"The tags of **{escaped(str(deviation.ref), 120)}** go back to what the record prescribes."


def _dialog(action: Action, deviation: Deviation, by: Actor, signed_under: Policy | None) -> None:
    st.markdown(escaped(deviation.sentence, 600))
    st.markdown(_consequence(action, deviation))
    if action is Action.ADOPT and deviation.beyond_restoring:
        st.caption(escaped(deviation.beyond_restoring))
    policy = signed_under if action is Action.RESTORE and deviation.subject.startswith(("stage:", "alias:")) else None
    form = f"settle:{action}:{deviation.id}"
    with st.form(form, border=False):
        words = st.text_area("Reason (needed)", placeholder="Who did this, and why is it right to do so?", height=96)
        if policy:
            signing.signature(form, policy, Action.ROLLBACK, by)
        sent = signing.sent(_LABELS[action])
    if not sent:
        return
    password = signing.password(form, policy, Action.ROLLBACK) if policy else None
    if not words.strip():
        st.warning("A reason is needed.", icon=":material/edit:")
    elif not (policy and signing.missing(policy, Action.ROLLBACK, password)):
        st.session_state[_KEY] = Request(
            action=action, ref=deviation.ref, words=words, deviation=deviation.id, password=password
        )
        st.rerun()


_DIALOGS = {
    Action.RESTORE: st.dialog("Put back what the record prescribes?", icon=_ICONS[Action.RESTORE])(_dialog),
    Action.ADOPT: st.dialog("Accept what MLflow shows?", icon=_ICONS[Action.ADOPT])(_dialog),
}
