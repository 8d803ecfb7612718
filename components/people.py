"""Accounts as their keeper sees them: made in a form, listed with their roles, given others, disabled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from components import markup
from components.text import escaped
from services.accounts import new_passwords, people
from services.accounts.people import Account, Passwords
from services.domain import Role
from services.errors import BadInput

_CHANGE, _DONE, _FORM = "account-change", "account-done", "account-form"
_PAGE = 25


@dataclass(frozen=True, kw_only=True)
class Change:
    """What was confirmed about an account: other roles, or None to disable it."""

    username: str
    roles: tuple[Role, ...] | None

    @property
    def asked(self) -> dict[str, Any]:
        """As the verb takes it."""
        return {"username": self.username} | ({} if self.roles is None else {"roles": self.roles})

    @property
    def told(self) -> str:
        """What is said once it is done."""
        if self.roles is None:
            return f"{self.username} is disabled; sessions and tokens have ended."
        return f"{self.username} is now {', '.join(role.words for role in self.roles)}."


def form(passwords: Passwords | None) -> dict[str, Any] | None:
    """What a new account is to be, once it was sent; the fields are those of `keeping.add`.

    Raises:
        BadInput: the password is too short, easily guessed, or one that cannot be hashed whole.
    """
    key = f"{_FORM}:{st.session_state.get(_FORM, 0)}"  # after one was made, an empty form
    with st.expander("New account", icon=":material/person_add:", key=f"{key}:open"), st.form(key, border=False):
        left, right = st.columns(2)
        username = left.text_input("Username", max_chars=people.MAX_USERNAME, key=f"{key}:username")
        name = right.text_input("Name in print", placeholder="As signatures and pages show it", key=f"{key}:name")
        roles = st.multiselect("Roles", list(Role), default=[Role.VIEWER], format_func=_words, key=f"{key}:roles")
        email = st.text_input("E-mail", placeholder="For messages; may be empty", key=f"{key}:email")
        service = st.checkbox("A service: it acts by token only, and nobody logs in with it", key=f"{key}:service")
        st.text_input(
            "Password",
            type="password",
            autocomplete="new-password",
            placeholder=f"At least {new_passwords.MIN_LENGTH} characters; none for a service",
            key=_password_key(),
        )
        sent = st.form_submit_button("Make account", type="primary", on_click=_turn)
    # Read as the field was named before `_turn`: no widget of this run has that name, so it is forgotten as it ends.
    password = str(st.session_state.get(_password_key(-1)) or "") if sent else ""
    draft = {"username": username, "name": name, "roles": roles, "email": email}
    if not sent:
        return None
    if service:
        return {**draft, "email": "", "hashed": None}
    if passwords is None:
        raise BadInput("Passwords cannot be hashed here, so no account of a person can be made here.")
    return {**draft, "hashed": new_passwords.hashed(password, passwords, about=(username, name, email))}


def done(words: str) -> None:
    """Keep what was done for `outcome`, and draw the page anew with an empty form."""
    st.session_state[_DONE] = words
    st.session_state[_FORM] = st.session_state.get(_FORM, 0) + 1
    st.rerun()


def outcome() -> None:
    """What was done last, once."""
    if _DONE in st.session_state:
        st.success(escaped(st.session_state[_DONE], 400), icon=":material/task_alt:")
        del st.session_state[_DONE]  # only now that it was drawn


def listing(found: list[Account]) -> None:
    """Everybody who may act, each with what can be changed; the disabled below."""
    active, over = [one for one in found if not one.disabled], [one for one in found if one.disabled]
    for account in _turned(active):
        with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"account:{account.username}"):
            with st.container(width="stretch"):
                markup.thread([markup.line("⚙" if account.automation else "•", "plain", _headline(account))])
            if st.button("Change", icon=":material/edit:", key=f"change:{account.username}"):
                _change(account)
    if over:
        with st.expander(f"{len(over)} disabled"):
            markup.thread(markup.line("–", "plain", _headline(account)) for account in over)


def confirmed() -> Change | None:
    """What a dialog left, given out once."""
    change: Change | None = st.session_state.pop(_CHANGE, None)
    return change


@st.dialog("Change an account", icon=":material/edit:")
def _change(account: Account) -> None:
    st.markdown(f"**{escaped(account.name, 200)}** :gray[{escaped(account.username, 80)}]")
    known = [Role(role) for role in account.roles if role in set(Role)]
    with st.form(f"roles:{account.username}", border=False):
        roles = st.multiselect("Roles", list(Role), default=known, format_func=_words)
        saved = st.form_submit_button("Save roles", type="primary")
    st.caption("Roles count at once, in open sessions too. What is disabled stays in the record and cannot come in.")
    disabled = st.button("Disable account", icon=":material/block:", key=f"disable:{account.username}")
    if saved or disabled:
        st.session_state[_CHANGE] = Change(username=account.username, roles=None if disabled else tuple(roles))
        st.rerun()


def _turned(active: list[Account]) -> list[Account]:
    if len(active) <= _PAGE:
        return active
    number = st.pagination(-(-len(active) // _PAGE), key="people-page", bind="query-params")
    return active[(number - 1) * _PAGE : number * _PAGE]


def _headline(account: Account) -> str:
    roles = ", ".join(role.replace("_", " ") for role in account.roles) or "no role"
    kind = "service" if account.automation else markup.text(account.email, 120)
    parts = [markup.text(roles, 200), kind, f"since {markup.when(account.created_at)}"]
    name = f"<strong>{markup.text(account.name, 120)}</strong> · {markup.text(account.username, 120)}"
    return f'{name}<div class="quiet">{" · ".join(part for part in parts if part)}</div>'


def _words(role: Role) -> str:
    return role.value.replace("_", " ")


def _turn() -> None:
    """Before the run that uses a password begins: give the field a new name, and with it no value."""
    st.session_state["account-passwords"] = st.session_state.get("account-passwords", 0) + 1


def _password_key(back: int = 0) -> str:
    return f"account-password:{st.session_state.get('account-passwords', 0) + back}"
