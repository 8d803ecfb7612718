"""Simultaneous promotions, by threads and by processes, through two dashboards on one database and one MLflow."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.errors import SignoffError
from services.settings import Settings
from services.signoff import Signoff
from tests.arena import QUARTER, Arena, Doomed, doomed, print_tally
from tests.conftest import BOTH
from tests.ledgers import refusals_counted
from tests.verbs import releases

DATABASES = BOTH
REFUSALS = {"PromotionConflict", "GateRefused"}


@pytest.fixture(scope="module")
def processes() -> Iterator[Doomed]:
    """Where the racing processes come from."""
    with doomed() as found:
        yield found


@pytest.fixture
def arena(tmp_path: Path, mlflow_server: str, database_url: str) -> Iterator[Arena]:
    """Three versions, the first of them in Production."""
    found = Arena.build(tmp_path, mlflow_server, database_url, versions=3)
    yield found
    found.signoff.database.engine.dispose()


def rivals(arena: Arena) -> list[int]:
    """Two approved candidates, each asked for twice: as by two people, one of whom clicks twice."""
    champion = arena.champion()
    candidates = [version for version in arena.versions if version != champion]
    for version in candidates:
        arena.approve(version)
    return candidates * 2


def assert_one_won(arena: Arena, marker: int, counted: int, old: int, answers: list[str]) -> None:
    assert answers.count("confirmed") == 1, answers
    assert set(answers) <= {"confirmed", "nothing to do"} | REFUSALS, answers
    happened = Counter(arena.since(marker))
    refused = sum(answer in REFUSALS for answer in answers)
    # The same refusal of the same person is one event and a count, and that of an earlier round is told when its ten
    # minutes are over: there may be fewer events than refusals, and also more.
    happened.pop("promotion:refused", None)
    assert refusals_counted(arena.signoff) - counted == refused
    assert happened == {"promotion:intended": 1, "promotion:confirmed": 1}
    arena.recover()  # the tags of whoever lost an approval may still wait
    assert arena.assert_consistent() != old


def by_threads(dashboards: list[Signoff], arena: Arena, versions: list[int]) -> list[str]:
    start, answers = threading.Barrier(len(versions)), []

    def click(signoff: Signoff, version: int) -> None:
        start.wait()
        try:
            outcome = releases.promote(signoff, arena.ref(version), by="release_manager", reason="Now.")
            answers.append("confirmed" if outcome.event else "nothing to do")
        except SignoffError as error:
            answers.append(type(error).__name__)
        except Exception as error:
            answers.append(repr(error))

    threads = [
        threading.Thread(target=click, args=(dashboards[number % 2], version))
        for number, version in enumerate(versions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


class TestOneWins:
    @pytest.mark.postgresql
    @pytest.mark.timeout(0)
    def test_of_the_threads_of_two_dashboards(self, arena: Arena) -> None:
        other = Signoff.open(Settings.read(arena.environment))
        tally = Counter[str]()
        for _ in range(QUARTER):
            old, versions, marker = arena.champion(), rivals(arena), arena.marker()
            counted = refusals_counted(arena.signoff)
            answers = by_threads([arena.signoff, other], arena, versions)
            assert_one_won(arena, marker, counted, old, answers)
            tally.update(answers)
        other.database.engine.dispose()
        print_tally(f"four threads race on {arena.database}, {QUARTER} times", {"what they were told": tally})

    @pytest.mark.postgresql
    @pytest.mark.timeout(0)
    def test_of_several_processes(self, arena: Arena, processes: Doomed) -> None:
        tally = Counter[str]()
        for _ in range(QUARTER):
            old, versions, marker = arena.champion(), rivals(arena), arena.marker()
            counted = refusals_counted(arena.signoff)
            told = processes.run(*[arena.job("promote", version) for version in versions])
            answers = [answer["answer"] for answer in told]
            assert_one_won(arena, marker, counted, old, answers)
            tally.update(answers)
        print_tally(f"four processes race on {arena.database}, {QUARTER} times", {"what they were told": tally})
