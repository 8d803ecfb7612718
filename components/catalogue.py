"""The Registry page's filters, which live in its link, and what it says where there is nothing to list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from components.badges import STATUS_WORDS, stage_words
from components.listing import CARDS, TABLE
from components.session import Session
from components.status import snapshot_read
from components.text import plain
from services.domain import Stage, Status
from services.views import catalogue
from services.views.catalogue import Overview, Page, Query, Sort

_STAGES = (Stage.PRODUCTION, Stage.STAGING, Stage.ARCHIVED, Stage.NONE)
_EMPTY: dict[str, Any] = {"q": "", "stage": None, "status": None, "owner": None, "tag": None, "page": 1}
_PAGE = "page"


def overview(session: Session) -> Overview:
    """Numbers of the whole registry, as a line under the title."""
    snapshot_read(session)
    seen = catalogue.overview(session.signoff)
    st.caption(
        f"{seen.total:,} registered model{'' if seen.total == 1 else 's'} · "
        f"{seen.in_production:,} with a champion · {seen.statuses.get(Status.PENDING, 0):,} waiting for review"
    )
    return seen


def filters(seen: Overview) -> tuple[Query, str]:
    """Search box, choices and chips, and table or cards. Everything chosen is part of the page's link."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="registry-filters"):
        text = st.text_input(
            "Search",
            key="q",
            type="search",
            placeholder="Name, description, owner or tag",
            live="300ms",
            on_change=_first_page,
            bind="query-params",
        )
        owner = _choice("Owner", "owner", seen.owners)
        tag = _choice("Tag", "tag", seen.tags)
        sort = st.selectbox(
            "Order", [sort.value for sort in Sort], key="sort", width=135, on_change=_first_page, bind="query-params"
        )
        view = st.segmented_control(
            "View", [TABLE, CARDS], default=TABLE, required=True, key="view", bind="query-params"
        )
    with st.container(horizontal=True, key="registry-chips", gap="medium", vertical_alignment="center"):
        stage = _chips("Stage", "stage", {stage.value: stage_words(stage) for stage in _STAGES})
        asked = st.query_params.get("status")
        status = _chips(
            "Review status",
            "status",
            {key.value: words for key, words in STATUS_WORDS.items() if key in seen.statuses or words == asked},
        )
        query = Query(text=text or "", stage=stage, status=status, owner=owner, tag=tag, sort=Sort(sort))
        if query.filtering:
            st.button("Clear filters", icon=":material/close:", type="tertiary", on_click=_clear, key="clear")
    return query, view or TABLE


def turned(session: Session, query: Query) -> Page:
    """Draw the pages of what fits and return the one to show."""
    found = catalogue.search(session.signoff, query)
    if found.pages > 1:
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            place = st.empty()
            number = st.pagination(found.pages, key=_PAGE, bind="query-params")
        found = catalogue.search(session.signoff, replace(query, page=number))
        first = (found.number - 1) * found.size + 1
        place.caption(f"{first:,}–{first + len(found.rows) - 1:,} of {found.total:,}", width="content")
    return found


def empty(seen: Overview) -> None:
    """What to do where nothing can be listed: register a model, or filter less."""
    if seen.total:
        st.info("**No registered model fits these filters.**", icon=":material/filter_alt_off:")
        st.button("Clear filters", icon=":material/close:", type="primary", on_click=_clear, key="clear-all")
        return
    with st.container(border=True):
        st.subheader("No model is registered yet", anchor=False)
        st.markdown("Train a model, log it with MLflow and register it; it appears here within seconds:")
        st.code(_REGISTER, language="python")
        st.caption("Then submit a version for review on its page, or with `signoff submit MODEL VERSION`.")


_REGISTER = """\
with mlflow.start_run():
    mlflow.log_metric("val_auc", 0.97)
    mlflow.sklearn.log_model(model, name="model", registered_model_name="my_model")"""


def _choice(label: str, key: str, options: tuple[str, ...]) -> str | None:
    """One of many, or typed: only the most used ones are offered."""
    return st.selectbox(
        label,
        options,
        index=None,
        key=key,
        format_func=plain,
        placeholder="Any",
        accept_new_options=True,
        width=165,
        on_change=_first_page,
        bind="query-params",
    )


def _chips(label: str, key: str, words: dict[str, str]) -> str | None:
    """At most one of ``words``; returns its key. The words are what the link says."""
    chosen = st.pills(
        label,
        list(words),
        format_func=lambda key: words.get(key, key),
        key=key,
        label_visibility="collapsed",
        on_change=_first_page,
        bind="query-params",
    )
    return chosen if isinstance(chosen, str) else None


def _first_page() -> None:
    st.session_state[_PAGE] = 1


def _clear() -> None:
    st.session_state.update(_EMPTY)
