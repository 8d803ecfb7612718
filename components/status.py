"""How fresh what pages show is: the age of the registry snapshot, and a button to read everything again."""

from __future__ import annotations

from concurrent.futures import Future
from weakref import WeakKeyDictionary, WeakSet

import streamlit as st

from components.session import Session
from components.text import escaped
from services.errors import SignoffError
from services.signoff import Signoff
from services.snapshot import Snapshot, Snapshots

TICK_SECONDS = 15
"""The age is drawn again this often: a page that stays open must not go on saying it is from just now."""
PATIENCE_SECONDS = 0.1
_REFRESH = (
    "Read the registry again, now. Changes made through Signoff show at once; tags and aliases changed elsewhere show "
    "with the next full reading. Decisions always read MLflow again."
)

_asked: WeakKeyDictionary[Snapshots, Future[Snapshot]] = WeakKeyDictionary()
_once_taken: WeakSet[Snapshots] = WeakSet()


def snapshot_badge(session: Session) -> None:
    """Age and size of the snapshot with a refresh button, and a warning when MLflow is away; for the sidebar."""
    st.fragment(_badge, run_every=TICK_SECONDS)(session)


def snapshot_read(session: Session) -> Snapshot:
    """The snapshot, with a sign of progress while the first one is being taken.

    Raises:
        RegistryUnavailable: there is none yet and MLflow does not answer.
    """
    with st.spinner("Reading the registry for the first time…", show_time=True):
        return session.signoff.snapshot.current


def _badge(session: Session) -> None:
    snapshots = session.signoff.snapshot
    with st.container(key="snapshot", gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            place = st.empty()
            pressed = st.button(":material/refresh:", type="tertiary", key="refresh-registry", help=_REFRESH)
        problem = _read_again(session) if pressed else snapshots.problem
        if pressed and problem is None:
            st.rerun()  # the whole page, not only this corner of it
        try:
            place.caption(_age(session, _taken(session.signoff)))
        except SignoffError as error:
            problem = str(error)
        if problem:
            # Not `st.warning`: its colours are the page's, and the sidebar is dark in both themes.
            st.markdown(f":orange[:material/cloud_off: **MLflow is away.**] {escaped(problem, 300)}")


def _taken(signoff: Signoff) -> Snapshot | None:
    """The snapshot; None while the first one is being taken: the page says so, and must not wait for its sidebar."""
    snapshots = signoff.snapshot
    if snapshots in _once_taken:
        return snapshots.current
    asked = _asked.get(snapshots) or signoff.pools.snapshot.submit(lambda: snapshots.current)
    _asked[snapshots] = asked
    try:
        seen = asked.result(timeout=PATIENCE_SECONDS)
    except TimeoutError:
        return None
    finally:
        if asked.done():
            _asked.pop(snapshots, None)
    _once_taken.add(snapshots)
    return seen


def _age(session: Session, seen: Snapshot | None) -> str:
    if seen is None:
        return "Reading the registry…"
    seconds = (session.signoff.now() - seen.taken_at).total_seconds() if seen.taken_at else 0.0
    count = f"{len(seen.models):,} model{'' if len(seen.models) == 1 else 's'}"
    return f"Registry as of {_ago(seconds)}  \n{count}"


def _read_again(session: Session) -> str | None:
    """Read everything again; returns what went wrong, in one sentence."""
    with st.spinner("Reading the registry…"):
        try:
            session.signoff.reader.forget()
            session.signoff.snapshot.refresh()
        except SignoffError as error:
            return str(error)
    return None


def _ago(seconds: float) -> str:
    if seconds < 2:
        return "just now"
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{seconds / 3600:.0f} h ago"
