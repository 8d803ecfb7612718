"""How often MLflow is asked: no page more often in a larger registry, no verb again and again for the same tags."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from components import links
from services import listed
from services.domain import ModelVersion, RegisteredModel, VersionRef
from services.signoff import Signoff
from tests.conftest import add_people, settings_in
from tests.fakes import FakeRegistry
from tests.ledgers import record
from tests.pages import shell
from tests.verbs import releases, reviews

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


def waiting(count: int, home: Path) -> tuple[Signoff, FakeRegistry]:
    """As many open submissions; one of them was approved, and changes of another one were requested."""
    signoff, registry = registry_of(count, home)
    for number in range(1, count):
        author = VersionRef(name=f"m{number:03d}", version=2)
        reviews.submit(signoff, author, by="scientist", comment="Better.")
    reviews.approve(signoff, VersionRef(name="m000", version=2), by="reviewer", comment="Fine.")
    reviews.request_changes(signoff, VersionRef(name="m001", version=2), by="reviewer", comment="Explain the data.")
    signoff.snapshot.refresh()
    return signoff, registry


def costs(signoff: Signoff, registry: FakeRegistry) -> dict[tuple[str, bool], tuple[int, int, int]]:
    """SQL statements, MLflow calls and files of versions read to open Home and Review: first with nothing remembered
    but the snapshot, then with every file looked at."""
    at = shell(signoff, "reviewer").run()
    statements: list[str] = []
    read: list[str] = []
    registry.while_reading = read.append
    sa.event.listen(signoff.database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    found = {}
    for page, looked_at in (("home", False), ("review", False), ("home", True), ("review", True)):
        if looked_at:
            listed.look(signoff, seconds=math.inf)
        else:
            signoff.reader.forget()
        before = (len(statements), registry.calls, read.count("files"))
        at.switch_page(links.PAGES[page]).run()
        assert not at.exception, at.exception
        after = (len(statements), registry.calls, read.count("files"))
        found[page, looked_at] = (after[0] - before[0], after[1] - before[1], after[2] - before[2])
    return found


def test_home_and_review_cost_no_more_for_many_open_submissions(tmp_path: Path) -> None:
    few, many = (costs(*waiting(count, tmp_path / str(count))) for count in (3, 6))
    assert few == many
    called = {where: cost[1:] for where, cost in many.items()}
    assert called == {
        ("home", False): (2, 0),  # the runs of all submissions and champions in one call, those of trends in another
        ("review", False): (1, 0),
        ("home", True): (1, 0),
        ("review", True): (0, 0),
    }


class Read(FakeRegistry):
    """Counts how often each version was read, alone or with others: each time MLflow sends all of its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.times: Counter[int] = Counter()

    def model(self, name: str) -> RegisteredModel:
        found = super().model(name)
        self.times.update(version.ref.version for version in found.latest)
        return found

    def version(self, ref: VersionRef) -> ModelVersion:
        self.times[ref.version] += 1
        return super().version(ref)

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        found = super().versions(name)
        self.times.update(version.ref.version for version in found)
        return found


CHAMPION, CANDIDATE, OTHER = (VersionRef(name="m", version=number) for number in (1, 2, 3))


def submit(signoff: Signoff) -> object:
    return reviews.submit(signoff, CANDIDATE, by="scientist", comment="Please look.")


def approve(signoff: Signoff) -> object:
    return reviews.approve(signoff, CANDIDATE, by="reviewer", comment="Fine.")


def promote(signoff: Signoff) -> object:
    return releases.promote(signoff, CANDIDATE, by="release_manager", reason="Better.")


class TestVersionsOfAModelWithManyTags:
    @pytest.fixture
    def registry(self) -> Read:
        return Read()

    @pytest.fixture
    def signoff(self, registry: Read, tmp_path: Path) -> Signoff:
        found = Signoff.wire(settings=settings_in(tmp_path), registry=registry)
        add_people(found)
        for value in (0.91, 0.95, 0.93):
            registry.add_version("m", {"val_auc": value})
        reviews.submit(found, CHAMPION, by="scientist", comment="Please look.")
        reviews.approve(found, CHAMPION, by="reviewer", comment="Fine.")
        releases.promote(found, CHAMPION, by="release_manager", reason="First release.")
        found.snapshot.refresh()
        return found

    @pytest.mark.parametrize(
        ("verb", "before", "champion", "candidate", "other"),
        [(submit, [], 2, 4, 2), (approve, [submit], 1, 2, 1), (promote, [submit, approve], 4, 5, 4)],
    )
    def test_are_read_no_more_often_than_what_is_judged_moved_and_shown_needs(
        self,
        signoff: Signoff,
        registry: Read,
        verb: Callable[[Signoff], object],
        before: list[Callable[[Signoff], object]],
        champion: int,
        candidate: int,
        other: int,
    ) -> None:
        """As judged, before it is moved, as moved, and for the tags of the record; the champion and all others too
        wherever MLflow sends a whole model."""
        for earlier in before:
            earlier(signoff)
        registry.times.clear()
        verb(signoff)
        assert registry.times == {1: champion, 2: candidate, 3: other}

    @pytest.mark.parametrize("before", [[submit], [submit, approve], [submit, approve, promote]])
    def test_are_shown_at_once_as_a_verb_left_them(
        self, signoff: Signoff, registry: Read, before: list[Callable[[Signoff], object]]
    ) -> None:
        for verb in before:
            verb(signoff)
        shown = signoff.snapshot.current
        assert shown.versions["m"] == registry.versions("m")
        assert shown.models["m"].aliases == registry.model("m").aliases

    def test_are_not_read_to_find_a_champion_that_is_not_the_newest_of_its_stage(
        self, signoff: Signoff, registry: Read
    ) -> None:
        registry.set_stage(CHAMPION, "Archived")
        registry.set_stage(OTHER, "Archived")
        registry.times.clear()
        submit(signoff)
        event = record(signoff)[-1]
        assert event.get("champion") == 1, "the alias says who"
        assert registry.times[1] == 1
