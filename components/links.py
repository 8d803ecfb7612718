"""Where things are: links to our own pages, which survive the login, and into MLflow's user interface."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, urlencode

from services.domain import ModelVersion, RunFacts, VersionRef

PAGES = {
    "home": "../pages/home.py",
    "registry": "../pages/registry.py",
    "model": "../pages/model.py",
    "version": "../pages/version.py",
    "compare": "../pages/compare.py",
    "review": "../pages/review.py",
    "promotions": "../pages/promotions.py",
    "history": "../pages/history.py",
    "messages": "../pages/messages.py",
    "tokens": "../pages/tokens.py",
    "people": "../pages/people.py",
}
"""Scripts of the pages, for ``st.switch_page`` and ``st.page_link``; their URL paths are the keys."""


def model(name: str) -> str:
    """The model page."""
    return f"/model?{urlencode({'name': name})}"


def version(ref: VersionRef, **more: str) -> str:
    """The version page."""
    return f"/version?{urlencode({'name': ref.name, 'version': ref.version, **more})}"


def version_query(ref: VersionRef) -> dict[str, str]:
    """Query parameters of the version page, for ``st.switch_page``."""
    return {"name": ref.name, "version": str(ref.version)}


def compare(refs: Iterable[VersionRef]) -> str:
    """The compare page; versions are written ``name:3,name:5``."""
    return f"/compare?{urlencode({'versions': ','.join(f'{ref.name}:{ref.version}' for ref in refs)})}"


def event(seq: int) -> str:
    """One record on the history page."""
    return f"/history?{urlencode({'event': seq})}"


def mlflow_version(mlflow_uri: str, found: ModelVersion) -> str:
    """A model version in MLflow."""
    return f"{mlflow_uri}/#/models/{quote(found.ref.name, safe='')}/versions/{found.ref.version}"


def mlflow_run(mlflow_uri: str, run: RunFacts) -> str:
    """A run in MLflow."""
    return f"{mlflow_uri}/#/experiments/{quote(run.experiment_id)}/runs/{quote(run.run_id)}"
