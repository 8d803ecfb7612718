"""One registered model: who it is, who is in Production, and how it got there."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from components import badges, links, timelines
from components.chart_style import draw
from components.choosing import metric_choice
from components.text import NONE, ago, escaped, exact, number, plain
from components.timelines import TrendPoint
from services.domain import ModelVersion, RegisteredModel, Stage
from services.record.ledger import Kind
from services.record.periods import Period
from services.side_by_side.lineage import Lineage

LANES = 20
TAGS_SHOWN = 20


def title(name: str) -> DeltaGenerator:
    """The model's name, drawn before anything is read; returns where its aliases go, beside it."""
    beside = st.container(horizontal=True, vertical_alignment="center", gap="small")
    beside.title(escaped(name, 256), anchor=False, width="content")
    return beside


def header(story: Lineage, beside: DeltaGenerator, mlflow_uri: str) -> None:
    """Aliases, owner, description and tags."""
    model = story.model
    for alias, version in sorted(model.aliases.items())[:TAGS_SHOWN]:
        colour = _alias_colour(story, alias)
        beside.badge(f"{escaped(alias, 40)} → v{version}", color=colour, icon=":material/label:")
    parts = [
        f":material/group: {escaped(model.owner, 80) if model.owner else 'no owner'}",
        f"{story.total} version{'' if story.total == 1 else 's'}",
        f"judged by policy {escaped(story.policy.names, 160)}",
        f"registered {ago(model.created_at)}",
        f"[open in MLflow ↗]({_in_mlflow(mlflow_uri, model)})",
    ]
    st.caption(" · ".join(parts), help=f"Registered {exact(model.created_at)}")
    if model.description:
        st.markdown("  \n".join(escaped(line, 2000) for line in model.description.splitlines()))
    shown = {k: v for k, v in sorted(model.tags.items()) if k != "owner" and not k.startswith("mlflow.")}
    if shown:
        chips = [f":gray-badge[{escaped(k, 60)}: {escaped(v, 60)}]" for k, v in list(shown.items())[:TAGS_SHOWN]]
        more = f" and {len(shown) - TAGS_SHOWN} more" if len(shown) > TAGS_SHOWN else ""
        st.markdown(" ".join(chips) + more)


def _alias_colour(story: Lineage, alias: str) -> str:
    rules = story.policy.rules
    return {rules.champion.alias: "green", rules.candidate.alias: "blue"}.get(alias, "gray")


def _in_mlflow(uri: str, model: RegisteredModel) -> str:
    return f"{uri}/#/models/{quote(model.name, safe='')}"


def cards(story: Lineage) -> None:
    """Who is in Production, and who may follow."""
    left, right = st.columns(2, gap="medium")
    with left.container(border=True, height="stretch", key="champion"):
        _champion(story)
    with right.container(border=True, height="stretch", key="challenger"):
        _challenger(story)


def _champion(story: Lineage) -> None:
    if story.champion is None:
        st.markdown("**In Production**")
        st.caption("Nothing yet. The first version that is approved and promoted will be shown here.")
        return
    _title("In Production", story.champion)
    release, before = story.release, _replaced(story)
    with st.container(horizontal=True, gap="large"):
        _key_metric(story, story.champion, before)
        with st.container(gap="xsmall", width="stretch"):
            if release is None:
                st.markdown(":orange[:material/warning:] Came to Production past Signoff; who did it is not recorded.")
                return
            st.markdown(f"since **{ago(release.at)}**", help=exact(release.at))
            approvals = release.get("approvals") or []
            people = ", ".join(dict.fromkeys(escaped(a["person"], 60) for a in approvals)) or "nobody"
            how = " in an emergency" if release.kind is Kind.EMERGENCY_CONFIRMED else ""
            st.markdown(f"promoted by **{escaped(release.actor, 60)}**{how} · approved by **{people}**")
            st.caption(f"“{escaped(release.comment, 200)}” · [the record \\#{release.seq}]({links.event(release.seq)})")


def _replaced(story: Lineage) -> ModelVersion | None:
    """The version the champion took over from, as its record says."""
    number_ = story.release.get("champion") if story.release else None
    return next((version for version in story.versions if version.ref.version == number_), None)


def _challenger(story: Lineage) -> None:
    """The submitted candidate, else the newest version."""
    alias = story.model.aliases.get(story.policy.rules.candidate.alias)
    others = [version for version in reversed(story.versions) if version != story.champion]
    found = next((v for v in others if v.ref.version == alias), others[0] if others else None)
    if found is None:
        st.markdown("**Challenger**")
        st.caption("No other version. Register one with MLflow, then submit it for review here.")
        return
    _title("Challenger" if found.ref.version == alias else "Newest version", found)
    with st.container(horizontal=True, gap="large"):
        _key_metric(story, found, story.champion)
        with st.container(gap="xsmall", width="stretch"):
            st.markdown(f"registered **{ago(found.created_at)}**", help=exact(found.created_at))
            approvers = ", ".join(escaped(person, 60) for person in story.approvers(found)) or "nobody yet"
            st.markdown(f"by {escaped(_author(story, found), 60)} · approved by **{approvers}**")
            if story.champion:
                pair = links.compare([story.champion.ref, found.ref])
                st.markdown(f"[Compare with v{story.champion.ref.version}]({pair})")


def _title(words: str, version: ModelVersion) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        link = links.version(version.ref)
        st.markdown(f"{words}: **[v{version.ref.version}]({link})**", width="content")
        badges.stage(version.stage)
        badges.status(version.status)


def _key_metric(story: Lineage, version: ModelVersion, before: ModelVersion | None) -> None:
    name = story.policy.key_metric
    value, old = story.value(version, name), story.value(before, name) if before else None
    rule = story.policy.metric(name)
    st.metric(
        escaped(name, 40),
        number(value),
        None if value is None or old is None or before is None else f"{value - old:+.3g} to v{before.ref.version}",
        delta_color="normal" if rule is None or rule.greater_is_better else "inverse",
        width=160,
    )


def lanes(story: Lineage) -> None:
    """The stages of each version over time; of many versions the newest and those that left no stage."""
    moved = {period.ref for period in story.periods if period.stage != Stage.NONE}
    newest = [version.ref for version in story.versions[-LANES:]]
    shown = set(sorted(moved | set(newest), key=lambda ref: (ref in moved, ref.version))[-LANES:])
    with st.container(border=True):
        st.markdown("**Versions over time**")
        found = [period for period in story.periods if period.ref in shown]
        draw(timelines.lanes(found, story.now), "lanes", "The stages of each version over time")
        if len(shown) < story.total:
            st.caption(f"{len(shown)} of {story.total} versions.")


def nothing_named() -> None:
    """What to do at an address that names no model."""
    st.title("Model")
    st.info("This page shows one registered model. Choose it in the Registry.", icon=":material/inventory_2:")
    st.page_link(links.PAGES["registry"], label="Open the Registry", icon=":material/arrow_forward:")


def no_versions() -> None:
    """A registered model without versions."""
    st.info(
        "This model has no version yet. Register one with MLflow; it appears here within half a minute.",
        icon=":material/hourglass_empty:",
    )


def metric_trend(story: Lineage, key: str, *, picture: str = "") -> None:
    """One metric across versions, those that were in Production shaded; ``picture`` as in `draw`."""
    with st.container(border=True, height="stretch"):
        metric = metric_choice("Trend across versions", story.metrics, key, "Shaded: was in Production; darker: is.")
        if metric is None:
            st.caption("No run of this model has metrics.")
            return
        rule = story.policy.metric(metric)
        against, elsewhere = story.elsewhere(metric)
        points = [
            TrendPoint(
                version=v.ref.version,
                value=story.value(v, metric),
                stage=v.stage,
                released=_released(story.periods, v),
                other_data=v.ref in elsewhere,
            )
            for v in story.versions
        ]
        draw(
            timelines.trend(metric, points, wanted=rule.threshold if rule else None),
            f"{key}_chart",
            f"{plain(metric)} of every version",
            picture=picture,
        )
        silent = [f"v{point.version}" for point in points if point.value is None]
        notes = [
            *([f"no evidence: {_some(silent)}"] if silent else []),
            *([f"the newest {len(points)} of {story.total} versions"] if len(points) < story.total else []),
        ]
        if elsewhere:
            names = _some([f"v{ref.version}" for ref in elsewhere])
            st.caption(
                f":orange[:material/warning: Measured on other data than {against}, so not on the line: {names}]"
            )
        if notes:
            st.caption(" · ".join(notes))


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:12])}{' …' if len(names) > 12 else ''}"


def _released(periods: Sequence[Period], version: ModelVersion) -> str:
    """``in Production from 2026-11-02 until 2026-11-20``; empty where it never was."""
    spans = [
        f"{period.since:%Y-%m-%d %H:%M} – {f'{period.until:%Y-%m-%d %H:%M}' if period.until else 'now'}"
        for period in periods
        if period.ref == version.ref and period.stage == Stage.PRODUCTION
    ]
    return f"in Production {', '.join(spans)}" if spans else ""


def _author(story: Lineage, version: ModelVersion) -> str:
    """Who trained it, as the client claimed."""
    run = story.run(version)
    return (run.user if run else None) or version.user or NONE
