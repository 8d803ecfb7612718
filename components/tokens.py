"""Tokens as people see them: made in a form, shown once with how to use them, listed without their secret, revoked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from components import markup
from components.text import escaped
from services.accounts import permissions, tokens
from services.accounts.tokens import Token
from services.domain import Action, Actor
from services.errors import NotFound

MINE, ALL = "Mine", "Everybody's"
_DAYS = (7, 30, tokens.DEFAULT_DAYS, 180, tokens.MAX_DAYS)
_SECRET, _REVOKE, _ENDED, _FORM = "token-secret", "token-revoke", "token-ended", "token-form"
_PAGE = 25


def form(user: Actor, owners: Mapping[str, str]) -> dict[str, Any] | None:
    """What a new token is to be, once it was sent; the fields are those of `tokens.create`.

    Args:
        owners: username → name of the accounts it may be for: one's own, and for an admin those of services.
    """
    key = f"{_FORM}:{st.session_state.get(_FORM, 0)}"  # after one was made, an empty form
    with st.expander("New token", icon=":material/add:", key=f"{key}:open"), st.form(key, border=False):
        name, days = st.columns([3, 1])
        draft = {
            "name": name.text_input(
                "What it is for", placeholder="nightly-ci", max_chars=tokens.MAX_TOKEN_NAME, key=f"{key}:name"
            ).strip(),
            "days": days.selectbox("Ends after", _DAYS, index=2, format_func="{} days".format, key=f"{key}:days"),
            "username": _owner(user, owners, key),
            "actions": st.multiselect(
                "Only these actions",
                _offered(user, owners),
                format_func=_said,
                placeholder="All that the account may do",
                key=f"{key}:actions",
            ),
            "models": st.multiselect(
                "Only these models",
                [],
                accept_new_options=True,
                placeholder="All models; or names and patterns such as fraud_*",
                key=f"{key}:models",
            ),
        }
        st.caption(
            "It acts as the account, with the roles of the moment, and can only ever do less. Reading is “view”."
        )
        sent = st.form_submit_button("Make token", type="primary")
    if sent and not draft["name"]:
        st.warning("Say what the token is for: a name is needed.", icon=":material/edit:")
        return None
    return draft if sent else None


def _owner(user: Actor, owners: Mapping[str, str], key: str) -> str:
    if len(owners) == 1:
        return user.username
    usernames = list(owners)
    chosen: str = st.selectbox(
        "Acts as",
        usernames,
        index=usernames.index(user.username),
        format_func=lambda username: f"{owners[username]} ({username})",
        key=f"{key}:owner",
    )
    return chosen


def _offered(user: Actor, owners: Mapping[str, str]) -> list[Action]:
    """What a token can be limited to: of somebody else, anything that any token can be used for."""
    usable = [action for action in Action if action not in permissions.ONLY_IN_BROWSER]
    return usable if len(owners) > 1 else [action for action in usable if permissions.may(user, action)]


def made(secret: str, token: Token) -> None:
    """Keep a new token's secret until `outcome` has shown it."""
    st.session_state[_SECRET] = (secret, token)
    st.session_state[_FORM] = st.session_state.get(_FORM, 0) + 1


def ended(token: Token) -> None:
    """Keep what was revoked for `outcome` in the next run."""
    st.session_state[_ENDED] = token


def outcome(site: str) -> None:
    """The secret that was made, this once, with how to use it; or which token was revoked."""
    if _SECRET in st.session_state:
        secret, token = st.session_state[_SECRET]
        with st.container(border=True, key="token-made"):
            st.markdown(f":material/key: **{escaped(token.name, 100)}** of {escaped(token.username, 80)} is made.")
            st.code(secret, language=None, wrap_lines=True)
            st.caption("Copy it now: it is kept nowhere, and gone with your next click.")
            st.code(f"export SIGNOFF_URL={site}\nread -rs SIGNOFF_TOKEN && export SIGNOFF_TOKEN", language="bash")
        del st.session_state[_SECRET]  # only now that it was drawn
    if _ENDED in st.session_state:
        token = st.session_state[_ENDED]
        name = f"**{escaped(token.name, 100)}** of {escaped(token.username, 80)}"
        st.success(f"{name} is revoked, from its next use on.", icon=":material/task_alt:")
        del st.session_state[_ENDED]


def whose(keeper: bool) -> str:
    """Whose tokens to list: an admin may see everybody's."""
    if not keeper:
        return MINE
    chosen: str = st.segmented_control(
        "Whose", [MINE, ALL], default=MINE, required=True, key="whose", bind="query-params"
    )
    return chosen


def listing(found: list[Token]) -> None:
    """Those that can be used or whose names are taken, each with its way to end it; the others below."""
    over = [one for one in found if one.revoked_at or one.expired]
    kept = [one for one in found if one not in over]
    if not any(one.live for one in found):
        st.info("No token can be used now. Scripts, pipelines and the command line need one.", icon=":material/key:")
    for token in _turned(kept):
        with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"token:{token.id}"):
            with st.container(width="stretch"):
                mark, tone = ("✓", "good") if token.live else ("×", "bad")
                markup.thread([markup.line(mark, tone, f"{_headline(token)}{_told(token)}")])
            if st.button("Revoke", icon=":material/block:", key=f"revoke:{token.id}"):
                _confirm(token)
    if over:
        with st.expander(f"{len(over)} expired or revoked"):
            markup.thread(markup.line("–", "plain", _headline(token), _end(token)) for token in over[:_PAGE])
            if len(over) > _PAGE:
                st.caption(f"And {len(over) - _PAGE} more.")


def _turned(kept: list[Token]) -> list[Token]:
    if len(kept) <= _PAGE:
        return kept
    number = st.pagination(-(-len(kept) // _PAGE), key="token-page", bind="query-params")
    return kept[(number - 1) * _PAGE : number * _PAGE]


def confirmed(found: list[Token]) -> Token | None:
    """The token whose end was confirmed, given out once.

    Raises:
        NotFound: it is not in the list any more.
    """
    asked = st.session_state.pop(_REVOKE, None)
    if asked is None:
        return None
    token = next((token for token in found if token.id == asked), None)
    if token is None:
        raise NotFound("That token is not in this list any more; nothing was revoked.")
    return token


@st.dialog("Revoke this token?", icon=":material/block:")
def _confirm(token: Token) -> None:
    st.markdown(f"**{escaped(token.name, 100)}** of {escaped(token.username, 80)}")
    st.caption("Whatever uses it is refused from its next call on. It cannot be taken back; a new one can be made.")
    if st.button("Revoke", type="primary", key=f"revoke:{token.id}:confirmed"):
        st.session_state[_REVOKE] = token.id
        st.rerun()


def _headline(token: Token) -> str:
    actions = ", ".join(sorted(_said(action) for action in token.scope.actions)) or "all its account may do"
    models = ", ".join(token.scope.models) or "all models"
    name, limits = markup.text(token.name, 100), markup.text(f"{actions} · {models}", 300)
    return f"<strong>{name}</strong> · {markup.text(token.username, 80)} · {limits}"


def _told(token: Token) -> str:
    by = "" if token.created_by == token.username else f" by {markup.text(token.created_by, 80)}"
    used = f"last used {markup.when(token.last_used_at)}" if token.last_used_at else "never used"
    end = f"ends {markup.when(token.expires_at)}" if token.live else f"{token.state}: revoke it, and make another one"
    parts = (f"made {markup.when(token.created_at)}{by}", used, end)
    return f'<div class="quiet">{" · ".join(parts)}</div>'


def _end(token: Token) -> str:
    if token.revoked_at:
        return f"Revoked on {token.revoked_at:%Y-%m-%d}."
    return f"Expired on {token.expires_at:%Y-%m-%d}."


def _said(action: Action) -> str:
    return action.replace("_", " ")
