"""Registries of strangers, as course projects leave them: every page opens, and says what is wrong with a version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.domain import VersionRef
from services.policy import PolicyBook
from services.settings import PROJECT
from services.signoff import Signoff
from services.views.diagnosis import Cause, diagnose
from tests.fakes import FakeRegistry
from tests.pages import opened, text
from tests.verbs import reconciler, reviews

DRIVE = "file:///D:/code/course/week-02/mlruns/1/92025337761b47258bb509b166789a29/artifacts/model"
PAGES = [
    ("home", {}),
    ("registry", {}),
    ("review", {}),
    ("promotions", {}),
    ("history", {}),
    ("model", {"name": "Random Forest"}),
    ("model", {"name": "taxi"}),
    *(("version", {"name": "taxi", "version": str(number)}) for number in range(1, 6)),
    ("compare", {"versions": "taxi:1,taxi:2,taxi:3,taxi:4,taxi:5"}),
]


@pytest.fixture
def strange(signoff: Signoff, registry: FakeRegistry) -> Signoff:
    """A model without a live version, and one with two versions in Staging, a source on a Windows drive, a relative
    path, a deleted run, aliases of its own and a version that MLflow deleted inside."""
    registry.add_model("Random Forest")
    drive, first, champion, relative, deleted = (registry.add_version("taxi", {"rmse": 6.3}) for _ in range(5))
    registry.hide_files(drive, DRIVE, "that is a path on a Windows drive of another machine")
    registry.hide_files(relative, "./mlruns/1/f5393948/artifacts/model", "that is a relative path")
    for ref, stage in ((first, "Staging"), (relative, "Staging"), (champion, "Production")):
        registry.set_stage(ref, stage)
    registry._versions[deleted] = replace(registry._versions[deleted], stage="Deleted_Internal")
    registry.drop_run(first)
    registry.set_alias(champion, "productionmodel")
    registry.set_alias(first, "stagingmodel")
    signoff.snapshot.refresh()
    assert [event.kind.value for event in reconciler.reconcile(signoff).events] == ["registry:baseline"]
    assert reconciler.reconcile(signoff).events == ()
    return signoff


@pytest.mark.parametrize(("page", "query"), PAGES, ids=lambda part: part if isinstance(part, str) else str(part))
def test_every_page_opens(strange: Signoff, page: str, query: dict[str, str]) -> None:
    at = opened(strange, "reviewer", page, **query)
    assert not at.exception, at.exception
    hidden = page == "version" and query["version"] in {"1", "4"}
    assert ("cannot be read from" in text(at)) == hidden
    assert bool(at.error) == hidden


def test_a_version_on_a_windows_drive_may_be_proposed_and_its_page_still_opens(strange: Signoff) -> None:
    reviews.submit(strange, VersionRef(name="taxi", version=1), by="scientist", comment="Ours.")
    at = opened(strange, "reviewer", "version", name="taxi", version="1")
    assert not at.exception
    assert "that is a path on a Windows drive" in text(at)


def test_the_doctor_names_what_is_wrong_with_it(strange: Signoff) -> None:
    found = diagnose(strange.registry, PolicyBook.load(PROJECT / "policies"))
    assert {(one.cause, one.version) for one in found.symptoms} >= {
        (Cause.UNREADABLE, 1),
        (Cause.UNREADABLE, 4),
        (Cause.DELETED_RUN, 2),
        (Cause.CHAMPION_METRICS, 3),
    }
