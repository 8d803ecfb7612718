"""The head of the version page: what it is, how it compares, how far it is, and what its run left behind."""

from __future__ import annotations

import streamlit as st

from components import badges, links, markup
from components.comparison import conclusions
from components.previewed import picture
from components.text import ago, escaped, number, size
from services.domain import RunFacts
from services.evidence import Evidence
from services.reading import Reader
from services.views.dossier import Dossier, Mark, Step

_MARKS = {
    Mark.DONE: ("✓", "good", "done"),
    Mark.NOW: ("…", "wait", "under way"),
    Mark.AHEAD: ("", "plain", "not yet"),
    Mark.FAILED: ("×", "bad", "failed"),
}


def header(dossier: Dossier, mlflow_uri: str) -> None:
    """Name, stage and status, where it comes from and what it proposes."""
    ref, version, run = dossier.ref, dossier.version, dossier.facts.candidate.run
    problem = dossier.facts.candidate.run_problem
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.title(f"{escaped(ref.name, 80)} / v{ref.version}", anchor=False, width="content")
        badges.stage(version.stage)
        badges.status(dossier.status)
        for alias in (alias for alias, number_ in dossier.facts.model.aliases.items() if number_ == ref.version):
            st.badge(f"@{escaped(alias, 40)}", color="gray")
        st.space("stretch")
        st.link_button("Open in MLflow", links.mlflow_version(mlflow_uri, version), icon=":material/open_in_new:")
    markup.caption(
        f"registered {markup.when(version.created_at)}{_by(dossier)}",
        *([f"run {markup.outside(run.name, links.mlflow_run(mlflow_uri, run))}"] if run else []),
        *([problem] if problem else []),
        _proposal(dossier),
    )


def _by(dossier: Dossier) -> str:
    """Who registered it, where MLflow knew that, and who trained it, which is the client's claim alone."""
    author, registrant = dossier.facts.candidate.claimed_author, dossier.registrant
    known = f" by {markup.text(registrant, 60)} (logged in to MLflow)" if registrant else ""
    if not author or author == registrant:
        return known
    claimed = f"{markup.text(author, 60)} (as the client claimed)"
    return f"{known}, trained by {claimed}" if known else f" by {claimed}"


def _proposal(dossier: Dossier) -> str:
    champion = dossier.facts.champion
    if dossier.is_champion:
        return "in Production now"
    model = markup.link(dossier.ref.name, links.model(dossier.ref.name))
    if champion is None:
        return f"{model} has nothing in Production yet"
    words = "proposes to replace" if dossier.facts.submission else "would replace"
    return f"{words} {markup.link(f'v{champion.ref.version}', links.version(champion.ref))} of {model}"


def summary(dossier: Dossier) -> None:
    """One sentence: candidate against champion; another where it is not described as it was when it was released."""
    with st.container(border=True, key="summary"):
        if dossier.released and dossier.rewritten:
            since = f"Since its release on {dossier.released.at:%Y-%m-%d} {' and '.join(dossier.rewritten)}."
            st.markdown(f":orange[:material/edit_note:] {escaped(since, 1000)}")
        if dossier.comparison is None:
            words = (
                "It is the champion itself." if dossier.is_champion else "Nothing is in Production to compare it with."
            )
            st.markdown(f":gray[:material/balance:] {words}")
            return
        with st.container(horizontal=True, vertical_alignment="center"):
            with st.container(width="stretch", gap=None):
                conclusions(dossier.comparison)
            link = links.compare(evidence.ref for evidence in dossier.comparison.versions)
            st.markdown(f"[Compare in full]({link})", width="content")


def lifecycle(dossier: Dossier, mlflow_uri: str) -> None:
    """Train → Register → Validate → Approve → Promote → Deploy → Monitor, with times and links."""
    steps = "".join(_step(step, mlflow_uri) for step in dossier.lifecycle)
    st.html(f'<ol class="lifecycle" aria-label="Lifecycle">{steps}</ol>')


def _step(step: Step, mlflow_uri: str) -> str:
    detail = markup.text(step.detail, 40)
    if step.run:
        detail = markup.outside(step.detail, links.mlflow_run(mlflow_uri, step.run), 40)
    at = markup.when(step.at) if step.at else ("" if step.detail else "not yet")
    body = "<br>".join(part for part in (f"<strong>{step.title}</strong>", detail, at) if part)
    return markup.item(*_MARKS[step.mark], body)


def evidence(dossier: Dossier) -> None:
    """Metrics with their data sets, params, signature and files, as bound into an approval."""
    candidate = dossier.facts.candidate
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Metrics", anchor=False)
        if not candidate.metrics:
            st.info("No evidence: neither the run nor the logged model has a metric.", icon=":material/monitoring:")
        else:
            _metrics(candidate)
        st.subheader("Params", anchor=False)
        if candidate.params:
            st.table(
                {
                    "param": [escaped(key, 80) for key in candidate.params],
                    "value": [escaped(value, 200) for value in candidate.params.values()],
                },
                border="horizontal",
                hide_index=True,
            )
        else:
            st.caption("No params were logged.")
    with right:
        _files(dossier)


def _metrics(candidate: Evidence) -> None:
    """A line for each metric, and for each value of one where run and logged model say different ones."""
    shown = [
        metric
        for name, found in candidate.measured.items()
        for metric in (found.values if found.differs else (candidate.metrics[name],))
    ]
    st.table(
        {
            "metric": [escaped(metric.name, 80) for metric in shown],
            "value": [number(metric.value) for metric in shown],
            "said by": [f"{metric.source.words}{f', {ago(metric.at)}' if metric.at else ''}" for metric in shown],
            "measured on": [
                escaped(f"{metric.dataset_name} ({metric.dataset_digest})", 80)
                if metric.dataset_digest
                else "not recorded"
                for metric in shown
            ],
        },
        border="horizontal",
        hide_index=True,
    )
    if differing := [name for name, found in candidate.measured.items() if found.differs]:
        counts = f"the {candidate.preferred.words}'s counts" if candidate.preferred else "no policy says which counts"
        st.caption(f"Different values are said of {escaped(', '.join(differing), 200)}; {counts}.")


def _files(dossier: Dossier) -> None:
    candidate, manifest = dossier.facts.candidate, dossier.facts.candidate.manifest
    st.subheader("Files", anchor=False)
    if candidate.place:
        st.caption(f"{escaped(candidate.place.words, 300)}. {escaped(candidate.place.standing, 300)}")
    if dossier.astray:
        st.caption(f":orange[:material/warning: {escaped(dossier.astray, 1000)}]")
    if manifest is None:
        words = candidate.unreadable or "The files of this version are gone."
        st.error(escaped(words, 1000), icon=":material/folder_off:")
        return
    st.caption(f"{len(manifest.files)} files, {size(manifest.size)} · manifest `{manifest.digest}`")
    st.table(
        {
            "file": [escaped(file.path, 120) for file in manifest.files],
            "size": [size(file.size) for file in manifest.files],
            "sha256": [f"{file.sha256[:16]}…" for file in manifest.files],
        },
        border="horizontal",
        hide_index=True,
    )
    st.subheader("Signature", anchor=False)
    if manifest.signature is None:
        st.caption("No signature.")
        return
    rows = [("input", c) for c in manifest.signature.inputs] + [("output", c) for c in manifest.signature.outputs]
    st.dataframe(
        {"": [side for side, _ in rows], "name": [c.name for _, c in rows], "type": [c.type for _, c in rows]},
        hide_index=True,
        height=min(38 + 35 * len(rows), 320),
    )


def pictures(reader: Reader, run: RunFacts | None) -> None:
    """The pictures a run logged beside its model: confusion matrix, residuals."""
    if run is None:
        return
    shown = [file for file in reader.run_files(run.run_id) if file.path.lower().endswith(".png")]
    if not shown:
        return
    st.subheader("Pictures", anchor=False)
    with st.container(horizontal=True):
        for file in shown[:4]:
            picture(reader, run.run_id, file, file.path, 420)
