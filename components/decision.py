"""The decision box: verdict, and below it what this person can do. Gives back a request; carries out nothing."""

from __future__ import annotations

import streamlit as st

from components import findings, markup, signing
from components.acting import confirmed_once
from components.text import ago, escaped
from services.accounts.permissions import named
from services.desk import VOTES, Request
from services.domain import Action, Actor, VersionRef
from services.evidence import Binding, FindingDraft
from services.gate import Check, Verdict
from services.signing import asked
from services.views.dossier import Dossier

_DECISIONS = {Action.APPROVE: "Approve", Action.REQUEST_CHANGES: "Request changes", Action.REJECT: "Reject"}
_ICONS = {
    Action.APPROVE: ":material/check:",
    Action.REQUEST_CHANGES: ":material/edit_note:",
    Action.REJECT: ":material/close:",
}


def decision_box(dossier: Dossier, by: Actor) -> Request | None:
    """Verdict with every check, then the approval form, the promote button, or what still stands in the way."""
    actions = dossier.actions(by)
    seen = _seen(dossier)
    with st.container(border=True, key="decision"):
        _headline(dossier)
        left, right = st.columns([5, 6], gap="large")
        with left:
            checks(dossier.verdict)
        with right:
            request = _votes(dossier, actions, seen, by)
            if request is None and not VOTES.intersection(actions):
                _standing_by(dossier, by, actions)
            request = request or _buttons(dossier, actions, seen, by)
    return request


def checks(verdict: Verdict) -> None:
    """Every check in one line: sign, title, value and, where it failed, why."""
    st.html(f'<ul class="checks">{"".join(_check(check) for check in verdict.checks)}</ul>')


def _check(check: Check) -> str:
    title, reason = markup.text(check.title), markup.text(check.reason, 600)
    if check.passed:
        return markup.item("✓", "good", "passed", f'{title} <span class="quiet">{markup.text(check.value, 120)}</span>')
    if check.waived:
        return markup.item("!", "wait", "waived", f"<strong>{title}</strong><br>Waived: {reason}")
    return markup.item("×", "bad", "failed", f"<strong>{title}</strong><br>{reason}")


def _headline(dossier: Dossier) -> None:
    verdict, stage = dossier.verdict, dossier.policy.rules.champion.stage
    policy = f"policy {escaped(dossier.policy.names, 120)}"
    if dossier.is_champion:
        release = dossier.releases[0] if dossier.releases else None
        when = (
            f"The verdict it was released on, {ago(release.at)}." if release else "It was not released through Signoff."
        )
        if release and release.action == "emergency":
            st.markdown(
                f":red[:material/notification_important:] **In {stage} by an emergency**, {ago(release.at)}. "
                f":gray[{len(verdict.waived)} checks of the {policy} were waived.]"
            )
        else:
            st.markdown(f":green[:material/verified:] **In {stage}.** :gray[{when}]")
    elif verdict.allowed:
        st.markdown(
            ":green[:material/verified:] **Ready to promote.** "
            f":gray[All {dossier.passed} checks of the {policy} pass.]"
        )
    elif verdict.waits_for_approval_only:
        submission = dossier.facts.submission
        what = "submission and review" if submission is None or submission.proposal else "approval"
        st.markdown(
            f":orange[:material/hourglass_top:] **Waits for {what} only.** "
            f":gray[{dossier.passed} of {len(verdict.checks)} checks of the {policy} pass.]"
        )
    else:
        count = len(verdict.failed)
        st.markdown(
            f":red[:material/gpp_bad:] **{count} check{'s' if count > 1 else ''} failed.** "
            f":gray[{dossier.passed} of {len(verdict.checks)} checks of the {policy} pass.]"
        )


def _seen(dossier: Dossier) -> Binding:
    """What was on screen when the person clicked: the binding of the run before this one."""
    key = f"seen:{dossier.version.identity}"
    before: Binding = st.session_state.get(key, dossier.binding)
    st.session_state[key] = dossier.binding
    return before


def _votes(dossier: Dossier, actions: tuple[Action, ...], seen: Binding, by: Actor) -> Request | None:
    choices = [action for action in _DECISIONS if action in actions]
    if not choices:
        return None
    form, policy = f"decide:{dossier.version.identity}", dossier.policy
    choice = st.radio(
        "Decision",
        choices,
        format_func=_DECISIONS.__getitem__,
        horizontal=True,
        label_visibility="collapsed",
        key=f"choice:{dossier.version.identity}",
    )
    drafts: tuple[FindingDraft, ...] = ()
    with st.form(form, border=False, clear_on_submit=False):
        words = st.text_area("Comment (needed)", placeholder="What did you look at, and what convinced you?", height=96)
        if choice is Action.REQUEST_CHANGES:
            drafts = findings.editor(dossier, dossier.owners)
        signing.signature(form, policy, choice, by)
        sent = signing.sent("Sign and decide" if asked(policy, choice) else "Decide", icon=":material/gavel:")
    if Action.APPROVE not in choices:
        st.caption(dossier.unasked(by))
    if not sent or not choice:
        return None
    password = signing.password(form, policy, choice)
    if signing.missing(policy, choice, password):
        return None
    return Request(action=choice, ref=dossier.ref, words=words, seen=seen, findings=drafts, password=password)


def _buttons(dossier: Dossier, actions: tuple[Action, ...], seen: Binding, by: Actor) -> Request | None:
    request = _submission(dossier) if Action.SUBMIT in actions and Action.ROLLBACK not in actions else None
    with st.container(horizontal=True):
        if Action.PROMOTE in actions:
            label = f"Promote v{dossier.ref.version} to {dossier.policy.rules.champion.stage}"
            kind = "primary" if dossier.verdict.allowed else "secondary"
            if st.button(label, type=kind, icon=":material/rocket_launch:"):
                confirm(Action.PROMOTE, dossier, seen, by)
        if Action.ROLLBACK in actions and st.button("Roll back to this version", icon=":material/undo:"):
            confirm(Action.ROLLBACK, dossier, seen, by)
        if Action.WITHDRAW in actions and st.button("Withdraw", icon=":material/undo:"):
            confirm(Action.WITHDRAW, dossier, seen, by)
        if Action.BREAK_GLASS in actions and st.button("Break the glass…", icon=":material/notification_important:"):
            confirm(Action.BREAK_GLASS, dossier, seen, by)
        if Action.ARCHIVE in actions and st.button("Archive", icon=":material/archive:"):
            confirm(Action.ARCHIVE, dossier, seen, by)
    return request


def _submission(dossier: Dossier) -> Request | None:
    again = dossier.facts.submission is not None and not dossier.facts.submission.proposal
    with st.form(f"submit:{dossier.version.identity}", border=False):
        words = st.text_area(
            "Comment (needed)",
            placeholder="What is new in this version, and why should it replace the champion?",
            height=96,
        )
        label = "Submit again" if again else f"Submit v{dossier.ref.version} for review"
        sent = st.form_submit_button(label, type="primary", icon=":material/send:")
    return Request(action=Action.SUBMIT, ref=dossier.ref, words=words) if sent else None


def _standing_by(dossier: Dossier, by: Actor, actions: tuple[Action, ...]) -> None:
    """For whoever has no vote here: what happens next, and who does it."""
    st.markdown(f"**Next:** {_next(dossier)}")
    if not actions:
        roles = ", ".join(sorted(role.words for role in by.roles)) or "no role"
        st.caption(f"You are {escaped(roles)}; there is nothing for you to decide here.")


def _next(dossier: Dossier) -> str:
    failed = {check.family for check in dossier.verdict.failed}
    if dossier.is_champion:
        return "nothing; this version serves."
    if dossier.facts.submission is None or dossier.facts.submission.proposal:
        return (
            "a scientist submits it for review."
            if failed <= {"submitted", "approvals"}
            else "a better version is needed."
        )
    if "changes" in failed:
        return f"{escaped(dossier.facts.submission.owner, 60)} answers the requested changes and submits again."
    if failed == {"findings"}:
        return "an independent reviewer resolves the blocking finding, or a better version is needed."
    if "approvals" in failed:
        besides = ", and the blocking finding must be resolved" if "findings" in failed else ""
        who = named(dossier.missing, " and a ")
        if len(dossier.missing) > 1:
            return f"a {who}, neither of them its author or submitter, decide{besides}."
        return f"a {who} who is neither its author nor its submitter decides{besides}."
    return "a release manager promotes it." if not failed else "what failed must be mended in a new version."


# ---- confirmation ------------------------------------------------------------------------------------------------


def confirm(action: Action, dossier: Dossier, seen: Binding, by: Actor) -> None:
    """Open the dialog that names what will happen; what is confirmed comes out of `confirmed` in the next run."""
    _DIALOGS[action](action, dossier, seen, by)


def consequences(action: Action, dossier: Dossier) -> str:
    """One sentence in Markdown that names every version the action touches."""
    ref, rules = dossier.ref, dossier.policy.rules
    name, champion = escaped(ref.name, 80), dossier.facts.champion
    archived = f", and **v{champion.ref.version}** is archived" if champion else "; nothing is there now"
    match action:
        case Action.PROMOTE:
            return (
                f"**{name} v{ref.version}** goes to **{rules.champion.stage}**{archived}. "
                f"Alias `{rules.champion.alias}` moves with it."
            )
        case Action.ROLLBACK:
            return (
                f"**{name} v{ref.version}** returns to **{rules.champion.stage}**{archived}. "
                "The comparison with the champion is waived, and recorded as waived."
            )
        case Action.BREAK_GLASS:
            return (
                f"You ask for **{name} v{ref.version}** to go to **{rules.champion.stage}**{archived}. **It happens at "
                "once when a second person confirms**, within an hour. Everybody sees it until a third has reviewed it."
            )
        case Action.CONFIRM_EMERGENCY:
            return (
                f"**{name} v{ref.version}** goes to **{rules.champion.stage}** **at once**{archived}. "
                "Everybody sees it on every page until a reviewer or auditor has reviewed it."
            )
        case Action.ARCHIVE if dossier.is_champion:
            return f"**{name} v{ref.version}** leaves **{rules.champion.stage}** and **nothing takes its place**."
        case Action.ARCHIVE:
            return f"**{name} v{ref.version}** is archived."
        case _:
            return f"The submission of **{name} v{ref.version}** is taken back."


def past_the_gate(action: Action, dossier: Dossier) -> None:
    """What an emergency does, what it goes past, and what even an emergency does not."""
    st.markdown(consequences(action, dossier))
    verdict = dossier.in_an_emergency
    if verdict.waived:
        st.markdown(":orange[**These checks fail and are waived, on the record:**]")
        checks(Verdict(checks=verdict.waived))
    else:
        st.caption("Every check passes: nothing is waived but the release manager.")
    if verdict.failed:
        st.error("These are never waived, so the gate will refuse it:", icon=":material/gpp_bad:")
        checks(Verdict(checks=verdict.failed))


def _dialog(action: Action, dossier: Dossier, seen: Binding, by: Actor) -> None:
    if action is Action.BREAK_GLASS:
        past_the_gate(action, dossier)
    else:
        st.markdown(consequences(action, dossier))
    if action is Action.PROMOTE and not dossier.verdict.allowed:
        st.warning("As things are, the gate will refuse this and record that you asked.", icon=":material/gpp_bad:")
        checks(Verdict(checks=dossier.verdict.failed))
    form, policy = f"confirm:{action}:{dossier.version.identity}", dossier.policy
    with st.form(form, border=False):
        words = st.text_area("Reason (needed)", placeholder="Why now? The record keeps this for years.", height=96)
        signing.signature(form, policy, action, by)
        label = _LABELS[action].format(version=dossier.ref.version)
        sent = signing.sent(f"Sign: {label[0].lower()}{label[1:]}" if asked(policy, action) else label)
    if not sent:
        return
    password = signing.password(form, policy, action)
    if not words.strip():
        st.warning("A reason is needed.", icon=":material/edit:")
    elif not signing.missing(policy, action, password):
        request = Request(action=action, ref=dossier.ref, words=words, seen=seen, password=password)
        st.session_state["confirmed"] = request
        st.rerun()


def confirmed(ref: VersionRef) -> Request | None:
    """What was confirmed in a dialog, once: a second click finds nothing. To be taken before anything can fail."""
    return confirmed_once("confirmed", lambda request: request.ref == ref, "version")


_LABELS = {
    Action.PROMOTE: "Promote v{version}",
    Action.ROLLBACK: "Roll back to v{version}",
    Action.ARCHIVE: "Archive v{version}",
    Action.WITHDRAW: "Withdraw v{version}",
    Action.BREAK_GLASS: "Ask for v{version}",
}
_DIALOGS = {
    Action.PROMOTE: st.dialog("Promote to Production?", icon=":material/rocket_launch:")(_dialog),
    Action.ROLLBACK: st.dialog("Roll back?", icon=":material/undo:")(_dialog),
    Action.ARCHIVE: st.dialog("Archive?", icon=":material/archive:")(_dialog),
    Action.WITHDRAW: st.dialog("Withdraw the submission?", icon=":material/undo:")(_dialog),
    Action.BREAK_GLASS: st.dialog("Break the glass?", icon=":material/notification_important:")(_dialog),
}
