"""What a validation found, on the version page: the sentence, every metric, slices, calibration, latency, pictures."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from components import links, markup, validation_charts
from components.chart_style import draw
from components.comparison import WIDE, right_aligned
from components.previewed import picture
from components.session import Session
from components.text import NONE, ago, escaped, number, plain, signed
from services.reading import Reader
from services.validation.record import Validation
from services.validation.recording import sentence
from services.validation.report import Conclusion, MetricResult, Report
from services.views.dossier import Dossier

_WORDS = {
    Conclusion.BETTER: ":green[▲ better]",
    Conclusion.WORSE: ":red[▼ worse]",
    Conclusion.EQUAL: ":gray[= equal]",
    Conclusion.NOT_ENOUGH_EVIDENCE: ":orange[≈ not enough evidence]",
    Conclusion.ALONE: ":gray[no champion]",
}
_SIGNS = {
    Conclusion.BETTER: ":green[:material/trending_up:]",
    Conclusion.WORSE: ":red[:material/trending_down:]",
    Conclusion.NOT_ENOUGH_EVIDENCE: ":orange[:material/help:]",
}
_TESTS = {"delong": "DeLong", "mcnemar": "McNemar", "mcnemar_exact": "McNemar, exact", "bootstrap": "bootstrap"}


def headline(session: Session, dossier: Dossier, *, quiet: bool) -> Validation | None:
    """The newest validation, or the one that is chosen, in one sentence; returns it. ``quiet``: none is no news."""
    found = dossier.facts.validations
    if not found:
        if not quiet:
            nobody = "Nobody has validated this version yet: what is known of it, its own run says."
            st.info(nobody, icon=":material/science:")
        return None
    chosen = found[0] if len(found) == 1 else _chosen(found)
    _headline(session, dossier, chosen)
    return chosen


def details(session: Session, found: Validation) -> None:
    """All its figures, and how it was done."""
    _metrics(found.report)
    _charts(found.report)
    _latency(found.report)
    _pictures(session.signoff.reader, found)
    _conditions(found.report)


def _chosen(found: Sequence[Validation]) -> Validation:
    def described(one: Validation) -> str:
        return f"#{one.seq}, {ago(one.at)}, {plain(one.report.holdout.name, 60)}, {one.report.holdout.rows} rows"

    return st.selectbox("Validation", found, format_func=described, key="validation-chosen")


def _headline(session: Session, dossier: Dossier, found: Validation) -> None:
    holdout, key = found.report.holdout, found.report.key
    sign = _SIGNS.get(key.conclusion, "") if key else ""
    with st.container(border=True, key="validated"):
        st.markdown(f"{sign or ':gray[:material/balance:]'} **{escaped(sentence(found.report), 400)}**")
        run = session.signoff.reader.run(found.run_id)
        uri = session.signoff.settings.mlflow_uri
        markup.caption(
            f"{markup.text(holdout.name, 80)}, sha256 {markup.text(holdout.sha256, 64)}",
            f"asked for by {markup.text(found.by, 60)} {markup.when(found.at)}",
            markup.link(f"record #{found.seq}", links.event(found.seq)),
            markup.outside("run in MLflow", links.mlflow_run(uri, run)) if run else "its run is gone from MLflow",
        )
        if void := dossier.outdated(found):
            st.warning(f"**No longer counts:** {escaped(' and '.join(void), 600)}.", icon=":material/history:")
        if found.consent:
            what = " ".join(found.report.consents) or "Nothing needed it."
            st.caption(f":orange[:material/lock_open:] Ran with consent. {escaped(what, 600)}")


def _metrics(found: Report) -> None:
    """Every metric of both, the difference with its interval, and what it says."""
    names = [
        escaped(f"v{found.candidate.ref.version}"),
        escaped(f"v{found.current.ref.version}") if found.current else "",
    ]
    sure = f"{found.confidence * 100:g} % interval"
    columns = [names[0], *([f"{names[1]} (champion)", "Difference", sure, "Test"] if found.current else [])]
    frame = pd.DataFrame(
        [[_value(metric), *(_compared(metric) if found.current else [])] for metric in found.metrics],
        columns=columns,
        index=pd.Index([_name(metric) for metric in found.metrics], name="Metric"),
    )
    if found.current:
        frame["Conclusion"] = [_WORDS[metric.conclusion] for metric in found.metrics]
    st.table(right_aligned(frame, len(columns) - bool(found.current)), border="horizontal", width=WIDE)


def _name(metric: MetricResult) -> str:
    return f"{escaped(metric.name, 80)} {'↑' if metric.greater_is_better else '↓'}"


def _value(metric: MetricResult) -> str:
    if metric.candidate is None:
        return f":gray[{escaped(metric.note or 'not defined', 160)}]"
    return f"**{escaped(number(metric.candidate))}**"


def _compared(metric: MetricResult) -> list[str]:
    interval, p = metric.interval, metric.p_value
    test = _TESTS[metric.method.value] + (f", p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}" if p is not None else "")
    return [
        NONE if metric.current is None else escaped(number(metric.current)),
        escaped(signed(metric.difference)),
        NONE if interval is None else escaped(f"{_end(interval.low)} to {_end(interval.high)}"),
        escaped(test),
    ]


def _end(value: float) -> str:
    return signed(value) if value else "0"


def _charts(found: Report) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        _slices(found)
    if figure := validation_charts.calibration(found):
        with right:
            st.subheader("Calibration", anchor=False)
            draw(figure, "calibration", "How often what was predicted came true, for both versions")
            st.caption(escaped(_calibrated(found), 300))


def _slices(found: Report) -> None:
    """The difference on parts of the data, one column at a time."""
    columns = list(dict.fromkeys(part.column for part in found.slices))
    if not columns:
        return
    st.subheader("Where it is better or worse", anchor=False)
    column = st.selectbox("Column", columns, format_func=plain, key="slice-column", label_visibility="collapsed")
    parts = [part for part in found.slices if part.column == column]
    if figure := validation_charts.slices(parts):
        draw(figure, "slices", f"Difference of {parts[0].metric} on each part of {plain(column, 80)}")
    if small := [part for part in parts if part.note]:
        words = "; ".join(f"{part.value} ({part.rows} rows): {part.note}" for part in small)
        st.caption(escaped(words, 600))


def _calibrated(found: Report) -> str:
    sides = [(f"v{model.ref.version}", model.calibration) for model in (found.candidate, found.current) if model]
    said = [f"{name}: Brier {one.brier:.4f}, ECE {one.ece:.4f}" for name, one in sides if one]
    return f"{'; '.join(said)}. 0 is perfect."


def _latency(found: Report) -> None:
    rows = [(f"v{model.ref.version}", model.latency) for model in (found.candidate, found.current) if model]
    timed = [(name, latency) for name, latency in rows if latency]
    if not timed:
        return
    st.subheader("Latency of predictions", anchor=False)
    frame = pd.DataFrame(
        [
            [
                f"{one.single_ms_p50:.2f} ms",
                f"{one.single_ms_p95:.2f} ms",
                f"{one.batch_seconds * 1000:.1f} ms for {one.batch_rows} rows",
                f"{one.load_seconds:.1f} s",
            ]
            for _, one in timed
        ],
        columns=["One row, median", "One row, 95th percentile", "All rows at once", "Loading"],
        index=pd.Index([name for name, _ in timed], name="Version"),
    )
    st.table(right_aligned(frame, 4), border="horizontal", width=WIDE)
    st.caption("Inside the sandbox, on this machine, after warming up: a comparison, no promise about production.")


def _pictures(reader: Reader, found: Validation) -> None:
    """What MLflow's own evaluator drew, of both versions beside each other; one kind at a time."""
    sides = [("candidate", found.report.candidate), ("current", found.report.current)]
    kinds = {
        name.removeprefix(f"{side}_").removesuffix(".png"): None
        for side, model in sides
        for name in (model.pictures if model else ())
    }
    if not kinds or reader.run(found.run_id) is None:
        return
    logged = {file.path: file for file in reader.run_files(found.run_id)}
    st.subheader("Pictures by MLflow's evaluator", anchor=False)
    kind = st.selectbox(
        "Picture",
        list(kinds),
        format_func=lambda name: plain(name.replace("_", " ").capitalize(), 80),
        key="picture-kind",
        label_visibility="collapsed",
    )
    for column, (side, model) in zip(st.columns(2, gap="medium"), sides, strict=True):
        path = f"pictures/{side}_{kind}.png"
        if model and path in logged:
            with column:
                picture(reader, found.run_id, logged[path], f"v{model.ref.version}", "stretch")


def _conditions(found: Report) -> None:
    for warning in found.warnings:
        st.warning(escaped(warning, 600), icon=":material/warning:")
    isolated = "; ".join(found.isolation) or "nothing kept from them, by consent"
    with st.expander("How it was done", icon=":material/info:"):
        st.markdown(
            f"Kept from the models: {escaped(isolated, 800)}.  \n"
            f"Seed {found.seed}, {found.resamples} resamples, {found.confidence * 100:g} % confidence.  \n"
            f"{escaped(', '.join(f'{name} {version}' for name, version in found.libraries.items()), 600)}"
        )
        for model in (found.candidate, found.current):
            if model and model.output:
                st.caption(f"What v{model.ref.version} wrote while it ran; its words, not ours.")
                st.code(plain(model.output, 4000), language=None)
