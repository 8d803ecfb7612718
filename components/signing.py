"""Signing inside a form: as whom, what it means, and a password that outlives no run but the one that uses it."""

from __future__ import annotations

import streamlit as st
from pydantic import SecretStr

from components.text import escaped
from services import signing
from services.domain import Action, Actor
from services.policy import Policy

_SENT = "passwords-sent"


def signature(form: str, policy: Policy, action: Action, by: Actor) -> None:
    """Say who signs and what that means, and ask for the password; nothing where the policy asks for no signature.

    Args:
        form: the key of the form this is in.
    """
    if not signing.asked(policy, action):
        return
    words = f"“{escaped(signing.meaning(policy, action))}”"
    st.markdown(f":material/ink_pen: **Sign as {escaped(by.name, 80)}** :gray[{words}]")
    st.text_input(
        "Your password",
        type="password",
        autocomplete="current-password",
        placeholder="The one you sign in with",
        key=_key(form, _sent()),
    )


def sent(label: str, *, icon: str | None = None) -> bool:
    """The button that sends the form, and empties the field whatever comes of it."""
    return st.form_submit_button(label, type="primary", icon=icon, on_click=_turn)


def password(form: str, policy: Policy, action: Action) -> SecretStr | None:
    """What was typed, in the run in which `sent` is true; None where nothing was, or the policy asks for nothing.

    It is read from the field as it was named before `_turn`: no widget of this run has that name, so Streamlit
    forgets it as the run ends.
    """
    typed = st.session_state.get(_key(form, _sent() - 1))
    return SecretStr(typed) if typed and signing.asked(policy, action) else None


def missing(policy: Policy, action: Action, typed: SecretStr | None) -> bool:
    """Whether a password is needed and was not typed; says so."""
    if typed is not None or not signing.asked(policy, action):
        return False
    st.warning("Your password is needed to sign this.", icon=":material/ink_pen:")
    return True


def _turn() -> None:
    """Before the run that uses a password begins: give the field a new name, and with it no value."""
    st.session_state[_SENT] = _sent() + 1


def _sent() -> int:
    times: int = st.session_state.get(_SENT, 0)
    return times


def _key(form: str, times: int) -> str:
    return f"password:{form}:{times}"
