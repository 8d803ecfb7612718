"""No page asks MLflow more often because the registry is larger."""

from __future__ import annotations

from pathlib import Path

import pytest

from components import links
from services.domain import VersionRef
from services.signoff import Signoff
from services.verbs import releases, reviews
from tests.conftest import add_people, settings_in
from tests.fakes import FakeRegistry
from tests.pages import shell

VERSION = {"name": "m000", "version": "2"}
PAGES = [
    ("home", {}),
    ("registry", {}),
    ("registry", {"q": "m0"}),
    ("model", {"name": "m000"}),
    ("version", VERSION),
    ("compare", {"versions": "m000:1,m000:2"}),
    ("review", {}),
    ("promotions", {}),
    ("history", {}),
]
"""Every page with the query of its link; a page that grows must be added here."""
SMALL, LARGE = 10, 300


def registry_of(models: int, home: Path) -> tuple[Signoff, FakeRegistry]:
    """Models with three versions each; the first two models have a champion, the first a challenger too."""
    registry = FakeRegistry()
    signoff = Signoff.wire(settings=settings_in(home), registry=registry)
    add_people(signoff)
    for number in range(models):
        for value in (0.91, 0.93, 0.95):
            registry.add_version(f"m{number:03d}", {"val_auc": value})
    for name in ("m000", "m001"):
        ref = VersionRef(name=name, version=1)
        reviews.submit(signoff, ref, by="scientist", comment="Please look.")
        reviews.approve(signoff, ref, by="reviewer", comment="Fine.")
        releases.promote(signoff, ref, by="release_manager", reason="First release.")
    reviews.submit(signoff, VersionRef(name="m000", version=2), by="scientist", comment="Better.")
    return signoff, registry


def calls(models: int, page: str, query: dict[str, str], home: Path) -> int:
    """MLflow calls of opening one page, with nothing remembered but the snapshot."""
    signoff, registry = registry_of(models, home)
    at = shell(signoff, "reviewer").run()
    signoff.snapshot.refresh()
    signoff.reader.forget()
    before = registry.calls
    for key, value in query.items():
        at.query_params[key] = value
    at.switch_page(links.PAGES[page]).run()
    assert not at.exception, at.exception
    return registry.calls - before


@pytest.mark.parametrize(("page", "query"), PAGES, ids=lambda part: part if isinstance(part, str) else "&".join(part))
def test_calls_do_not_grow_with_the_registry(page: str, query: dict[str, str], tmp_path: Path) -> None:
    assert calls(SMALL, page, query, tmp_path / "small") == calls(LARGE, page, query, tmp_path / "large")


def test_the_registry_page_asks_once_for_all_its_metrics(tmp_path: Path) -> None:
    assert calls(LARGE, "registry", {}, tmp_path) == 1


def test_history_asks_nothing(tmp_path: Path) -> None:
    assert calls(LARGE, "history", {}, tmp_path) == 0
