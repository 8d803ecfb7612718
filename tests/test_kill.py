"""``kill -9`` at every step of promote and rollback, and at random: real processes, MLflow and databases."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services import caretaker
from tests.arena import QUARTER, Arena, Doomed, Tally, doomed, print_tally
from tests.conftest import BOTH, SOAKING
from tests.verbs import releases

DATABASES = BOTH
VERBS = ("promote", "rollback")
SUBJECT = {"promote": "promotion", "rollback": "rollback"}


@pytest.fixture(scope="module")
def processes() -> Iterator[Doomed]:
    """Where the victims come from."""
    with doomed() as found:
        yield found


@pytest.fixture
def arena(tmp_path: Path, mlflow_server: str, database_url: str) -> Iterator[Arena]:
    """Two versions, both released once, so that either can be promoted or rolled back to."""
    found = Arena.build(tmp_path, mlflow_server, database_url, versions=2)
    other = found.approve(2)
    releases.promote(found.signoff, other, by="release_manager", reason="Second release.")
    yield found
    found.signoff.database.engine.dispose()


def killed_round(arena: Arena, processes: Doomed, verb: str, **death: float | None) -> tuple[str, dict[str, Any]]:
    """Kill one verb, let the lease run out, and see that all is well; returns how it ended and what it told."""
    old = arena.champion()
    new = next(version for version in arena.versions if version != old)
    if verb == "promote":
        arena.approve(new)
    marker = arena.marker()
    (victim,) = processes.run(arena.job(verb, new, **death))
    assert victim["killed"] or victim["answer"] == "confirmed", victim
    arena.recover()
    champion, happened = arena.assert_consistent(), arena.since(marker)
    subject = SUBJECT[verb]
    ending = {old: [f"{subject}:intended", f"{subject}:aborted"], new: [f"{subject}:intended", f"{subject}:confirmed"]}
    assert happened == ending[champion] or (champion == old and happened == []), happened
    return happened[-1] if happened else "nothing was done", victim


class TestKilled:
    @pytest.mark.postgresql
    @pytest.mark.timeout(600)
    @pytest.mark.parametrize("verb", VERBS)
    def test_at_every_step_it_leaves_the_old_or_the_new_champion_and_says_which(
        self, arena: Arena, processes: Doomed, verb: str
    ) -> None:
        _, told = killed_round(arena, processes, verb)
        steps = told["steps"]
        assert {"before set_stage", "after set_stage", "after set_alias", "before a commit"} <= set(steps)
        # ``make soak`` takes every one; without it PostgreSQL differs in its transactions, of which a few will do.
        apart = 1 if SOAKING else {"sqlite": 2, "postgresql": 5}[arena.database]
        some = sorted({*range(0, len(steps), apart), steps.index("before set_stage"), steps.index("after set_stage")})
        tally: Tally = defaultdict(Counter)
        for step in some:
            tally[f"{step + 1:3}. {steps[step]}"][killed_round(arena, processes, verb, kill_at=step + 1)[0]] += 1
        assert set().union(*tally.values()) == {
            "nothing was done",
            f"{SUBJECT[verb]}:aborted",
            f"{SUBJECT[verb]}:confirmed",
        }
        print_tally(f"{verb} on {arena.database}, killed at {len(some)} of {len(steps)} steps", tally)

    @pytest.mark.postgresql
    def test_beside_a_living_one_its_change_is_closed_long_before_the_lease_is_over(
        self, arena: Arena, processes: Doomed
    ) -> None:
        _, told = killed_round(arena, processes, "promote")
        old = arena.champion()
        new = next(version for version in arena.versions if version != old)
        arena.approve(new)
        marker, dies = arena.marker(), told["steps"].index("after set_stage") + 1
        (victim,) = processes.run(arena.job("promote", new, kill_at=dies, process="the dead one"))
        assert victim["killed"]
        caretaker.tidy(arena.signoff)
        assert arena.since(marker) == ["promotion:intended"]
        arena.process_dies("the dead one")
        assert arena.since(marker) == ["promotion:intended", "promotion:confirmed"]
        assert arena.assert_consistent() == new

    @pytest.mark.postgresql
    @pytest.mark.timeout(0)
    @pytest.mark.parametrize("verb", VERBS)
    def test_at_random_it_leaves_the_old_or_the_new_champion_and_says_which(
        self, arena: Arena, processes: Doomed, verb: str
    ) -> None:
        chance, tally = random.Random(), defaultdict[str, Counter[str]](Counter)
        duration = killed_round(arena, processes, verb)[1]["seconds"]
        for _ in range(QUARTER):
            ending, victim = killed_round(arena, processes, verb, kill_after=chance.uniform(0.0, duration))
            where = f"last step: {victim['steps'][-1]}" if victim["steps"] else "before the first step"
            tally[where if victim["killed"] else "not at all: it was faster"][ending] += 1
        print_tally(f"{verb} on {arena.database}, killed at random", tally)
