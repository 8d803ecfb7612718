"""Validations on the version page: the form that asks for one, and those under way with progress, log and cancel."""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO

import streamlit as st

from components import links, markup, validation
from components.acting import carried_out
from components.problems import problems_shown
from components.session import Session
from components.text import escaped, plain
from services.accounts import permissions
from services.desk import Request
from services.domain import Action
from services.errors import BadInput
from services.validation import jobs, uploads
from services.validation.jobs import Job, Origin, State, Wanted
from services.views.dossier import Dossier

MEGABYTES = uploads.MAX_BYTES >> 20
CHUNK = 1 << 20
CONFIDENCES = (0.9, 0.95, 0.99)
REFRESH_SECONDS = 1.0

_SOURCES = {
    Origin.UPLOAD: "Upload a file",
    Origin.PLACE: "A file in a folder the server may read",
    Origin.DATASET: "A data set its run logged",
}
_ENDED = {
    State.FAILED: ":red-badge[:material/error: Failed]",
    State.CANCELLED: ":gray-badge[:material/cancel: Cancelled]",
}


def panel(session: Session, dossier: Dossier) -> None:
    """What is being validated, what was found, and the form for one more."""
    busy = under_way(session, dossier)
    found = validation.headline(session, dossier, quiet=busy)
    with problems_shown():
        if form(session, dossier, expanded=not (found or busy)):
            st.rerun()
    if found:
        validation.details(session, found)


def under_way(session: Session, dossier: Dossier) -> bool:
    """What waits or runs, drawn anew every second by itself; and the last one, where nothing came of it.

    Whether there is anything that waits or runs.
    """
    found = jobs.of(session.signoff.database, dossier.ref, dossier.version.identity)
    if any(job.state.open for job in found):
        st.fragment(_running, run_every=REFRESH_SECONDS)(session, dossier)
        return True
    if found and found[0].state is not State.DONE:
        _ended(found[0])
    return False


def _running(session: Session, dossier: Dossier) -> None:
    found = [job for job in jobs.of(session.signoff.database, dossier.ref, dossier.version.identity) if job.state.open]
    if not found:
        st.rerun()
    for job in found:
        with st.container(border=True, key=f"validation:{job.seq}"):
            head, button = st.columns([5, 1], vertical_alignment="center")
            head.progress(job.share, text=f"**{_numbered(job)}**: {_doing(job)}")
            if permissions.may(session.user, Action.CANCEL_VALIDATION) and button.button(
                "Cancel", key=f"cancel-validation:{job.seq}", icon=":material/cancel:", width="stretch"
            ):
                request = Request(action=Action.CANCEL_VALIDATION, ref=job.ref, words="", validation=job.seq)
                carried_out(session, request)
                st.rerun()
            _log(job)


def _doing(job: Job) -> str:
    return escaped(job.step or "waiting for its turn", 200)


def _numbered(job: Job) -> str:
    return f"Validation [#{job.seq}]({links.event(job.seq)})"


def _ended(job: Job) -> None:
    with st.container(border=True, key=f"validation:{job.seq}"):
        st.markdown(
            f"{_ENDED[job.state]} **Validation [#{job.seq}]({links.event(job.seq)})**: {escaped(job.error or '', 1000)}"
        )
        st.caption("Nothing was recorded as evidence.")
        _log(job)


def _log(job: Job) -> None:
    with st.expander(f"Log of #{job.seq}", icon=":material/receipt_long:"):
        asked = f"asked for by {markup.text(job.asked_by, 60)} {markup.when(job.asked_at)}"
        about = f"{markup.text(job.wanted.name, 120)}, target {markup.text(job.wanted.target, 80)}"
        markup.caption(asked, about, "with consent to run code" if job.consent else "")
        st.code("\n".join(f"{at[11:19]}  {plain(words, 300)}" for at, words in job.log), language=None)


def form(session: Session, dossier: Dossier, *, expanded: bool) -> bool:
    """Ask for a validation; whether somebody just did. Nothing for those who may not.

    Raises:
        BadInput: something was left out.
    """
    if not permissions.may(session.user, Action.VALIDATE):
        return False
    with st.expander("Validate on a holdout", icon=":material/science:", expanded=expanded):
        st.caption(
            "This version and the champion are evaluated on the same rows, each in a process of its own without "
            "secrets or network. The data is not kept; its digest is."
        )
        origin = _origin(session, dossier)
        with st.form(f"validate:{dossier.version.identity}", border=False):
            file, name = _source(origin, dossier)
            left, right = st.columns([3, 2])
            target = left.text_input("Target column", placeholder="target", key="validate-target")
            confidence = right.selectbox(
                "Confidence", CONFIDENCES, index=1, format_func=lambda share: f"{share * 100:g} %"
            )
            consent, words = _consent(session)
            if not st.form_submit_button("Validate", type="primary", icon=":material/play_arrow:"):
                return False
        if origin is Origin.UPLOAD and file is None:
            raise BadInput("Choose a file first.")
        wanted = Wanted(origin=origin, name=name, target=target, confidence=confidence)
        action = Action.VALIDATE_WITH_CONSENT if consent else Action.VALIDATE
        _send(session, Request(action=action, ref=dossier.ref, words=words, wanted=wanted), wanted, file)
        return True


def _send(session: Session, request: Request, wanted: Wanted, file: BinaryIO | None) -> None:
    if file is None:
        carried_out(session, request)
        return
    chunks = iter(lambda: file.read(CHUNK), b"")
    with uploads.received(session.signoff.settings, chunks, max_bytes=uploads.MAX_BYTES) as upload:
        wanted = replace(wanted, sha256=upload.sha256, folder=upload.folder)
        carried_out(session, replace(request, wanted=wanted))


def _origin(session: Session, dossier: Dossier) -> Origin:
    run = dossier.facts.candidate.run
    offered = [
        Origin.UPLOAD,
        *([Origin.PLACE] if session.signoff.settings.holdouts else []),
        *([Origin.DATASET] if run and run.datasets else []),
    ]
    if len(offered) == 1:
        return Origin.UPLOAD
    return st.radio("Holdout", offered, format_func=_SOURCES.__getitem__, horizontal=True, key="validate-origin")


def _source(origin: Origin, dossier: Dossier) -> tuple[BinaryIO | None, str]:
    if origin is Origin.UPLOAD:
        file = st.file_uploader(
            f"CSV or Parquet, at most {MEGABYTES} MB",
            type=["csv", "parquet"],
            max_upload_size=MEGABYTES,
            key="validate-file",
        )
        return file, file.name if file else ""
    if origin is Origin.PLACE:
        return None, st.text_input("Its path", placeholder="/data/holdout.parquet", key="validate-place")
    run = dossier.facts.candidate.run
    known = {data.digest: f"{plain(data.name, 80)} ({data.digest[:8]})" for data in run.datasets} if run else {}
    return None, st.selectbox("Data set", list(known), format_func=known.__getitem__, key="validate-dataset") or ""


def _consent(session: Session) -> tuple[bool, str]:
    if not permissions.may(session.user, Action.VALIDATE_WITH_CONSENT):
        return False, ""
    consent = st.checkbox(
        "I consent to running code that comes with these models",
        help="Needed for pickles, custom flavours and models with code of their own. It still runs isolated; your "
        "consent and its reason are recorded. Not for your own versions.",
        key="validate-consent",
    )
    words = st.text_input("Reason for the consent", placeholder="What did you look at?", key="validate-words")
    return consent, words
