"""Which versions to compare: three widgets that show what the link says, and write what people choose into the link."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import streamlit as st

from components.badges import stage_words
from components.text import plain
from services.domain import Stage, VersionRef
from services.side_by_side import comparing
from services.side_by_side.comparing import Asked
from services.side_by_side.comparison import MAX_VERSIONS
from services.signoff import Signoff
from services.snapshot import Snapshot

QUERY = "versions"
MODELS_OFFERED = 500
MODEL, VERSIONS, BASELINE = "compare_model", "compare_versions", "compare_baseline"


def choose(signoff: Signoff) -> Asked:
    """Draw the choice; returns what the link asks for. The link is the only state: Back and a copied link work."""
    found = _asked(signoff)
    snapshot = signoff.snapshot.current
    st.session_state[MODEL] = found.model
    st.session_state[VERSIONS] = list(found.refs)
    st.session_state[BASELINE] = found.refs[0] if found.refs else None

    def described(ref: VersionRef) -> str:
        return _described(snapshot, ref, found.model)

    model, versions, baseline = st.columns([4, 5, 2], vertical_alignment="bottom")
    model.selectbox(
        "Registered model",
        _models(snapshot, found.model),
        index=None,
        key=MODEL,
        format_func=plain,
        placeholder="Choose a registered model",
        accept_new_options=len(snapshot.models) > MODELS_OFFERED,
        on_change=_model_chosen,
    )
    versions.multiselect(
        f"Versions, two to {MAX_VERSIONS}",
        _options(snapshot, found),
        key=VERSIONS,
        format_func=described,
        max_selections=MAX_VERSIONS,
        placeholder="Choose versions" if found.model else "Choose a model first",
        disabled=found.model is None,
        on_change=_versions_chosen,
    )
    baseline.selectbox(
        "Baseline",
        found.refs,
        key=BASELINE,
        format_func=described,
        disabled=len(found.refs) < 2,
        on_change=_versions_chosen,
        help="What the others are compared with.",
    )
    return found


def metric_choice(title: str, names: Sequence[str], key: str, help_: str | None = None) -> str | None:
    """A chart's title with the choice of its metric beside it, which is part of the link; None without metrics."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{title}**", help=help_, width="content")
        if not names:
            return None
        return st.selectbox(
            title,
            names,
            key=key,
            format_func=plain,
            bind="query-params",
            label_visibility="collapsed",
            width=240,
        )


def _asked(signoff: Signoff) -> Asked:
    query = st.query_params
    if query.get(QUERY):
        return comparing.asked(signoff, query[QUERY])
    if name := query.get("name"):
        return comparing.asked_one(signoff, name, query.get("version"))
    return Asked(model=None)


def _model_chosen() -> None:
    """Another model: its champion and its newest version, to begin with."""
    _write(st.session_state[MODEL] or "")


def _versions_chosen() -> None:
    chosen: list[VersionRef] = list(st.session_state[VERSIONS])
    if (baseline := st.session_state[BASELINE]) in chosen:
        chosen.sort(key=lambda ref: ref != baseline)
    _write(",".join(f"{ref.name}:{ref.version}" for ref in chosen) or f"{st.session_state[MODEL]}:")


def _write(text: str) -> None:
    """Change one parameter only: each change is a step that Back goes back."""
    st.query_params[QUERY] = text


def _models(snapshot: Snapshot, chosen: str | None) -> list[str]:
    """Every name; of very many the last changed ones, and any other can be typed."""
    if len(snapshot.models) <= MODELS_OFFERED:
        return list(snapshot.models)
    newest = heapq.nlargest(MODELS_OFFERED, snapshot.models.values(), key=lambda model: model.updated_at)
    return sorted({model.name for model in newest} | ({chosen} if chosen else set()))


def _options(snapshot: Snapshot, found: Asked) -> list[VersionRef]:
    """The model's versions, newest first, and whatever the link names of other models."""
    own = [version.ref for version in reversed(snapshot.versions.get(found.model or "", ()))]
    return [*own, *(ref for ref in found.refs if ref not in own)]


def _described(snapshot: Snapshot, ref: VersionRef, model: str | None) -> str:
    version = snapshot.version(ref.name, ref.version)
    name = f"v{ref.version}" if ref.name == model else f"{plain(ref.name, 40)} v{ref.version}"
    return name if version is None or version.stage == Stage.NONE else f"{name} · {stage_words(version.stage)}"
