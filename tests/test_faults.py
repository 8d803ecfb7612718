"""What MLflow's failures do to a change: refused or unknown, never half done, never sent twice, never falsely told."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from services.errors import OutcomeUnknown, RegistryUnavailable
from services.mlflow.registry import VERSIONS_PATH, MlflowRegistry
from services.signoff import Signoff
from tests.arena import HALF, Arena, print_tally
from tests.conftest import BOTH, SOAKING
from tests.ledgers import record
from tests.proxy import FAULTS, FaultyProxy, Wanted, between
from tests.verbs import releases, reviews

APPLIED = {"stall after apply", "reset after apply", "truncated"}
STAGE, ALIAS, TAG = "transition-stage", "registered-models/alias", "set-tag"


@pytest.fixture(scope="module")
def proxy(mlflow_server: str) -> Iterator[FaultyProxy]:
    """Between us and the server."""
    with between(mlflow_server) as found:
        yield found


@pytest.fixture(scope="module")
def arena(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, proxy: FaultyProxy
) -> Iterator[Arena]:
    """Two versions, the first in Production; MLflow is asked through the proxy, and not waited for long."""
    folder: Path = tmp_path_factory.mktemp("faults")
    url = f"sqlite:///{folder / 'signoff.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_server").new_database()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.mlflow.connection.TIMEOUT_SECONDS", 1)
        found = Arena.build(folder, proxy.url, url, versions=2)
        yield found
        found.signoff.database.engine.dispose()


def on_both(faults: Iterable[str], few: frozenset[str]) -> pytest.MarkDecorator:
    """Every fault on SQLite, and on PostgreSQL a few of them; in ``make soak`` every one there too."""
    cases = [(database, fault) for database in BOTH for fault in faults]
    kept = [(database, fault) for database, fault in cases if SOAKING or database == "sqlite" or fault in few]
    return pytest.mark.parametrize(("arena", "fault"), kept, indirect=["arena"], scope="module")


@pytest.fixture(autouse=True)
def impatient(arena: Arena, proxy: FaultyProxy) -> None:
    """Every MlflowRegistry that was made since has set MLflow's time-out for the whole process."""
    proxy.heal()  # where the test before failed, its fault may still wait
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.mlflow.connection.TIMEOUT_SECONDS", 1)
        MlflowRegistry(arena.signoff.registry.uri)  # type: ignore[attr-defined]


def change(line: str) -> tuple[str, str]:
    """A write without what may differ between two sendings of the same: method, path and body."""
    method, path, body = line.split(" ", 2)
    return f"{method} {path}", json.dumps(json.loads(body), sort_keys=True) if body else ""


def assert_sent_once(proxy: FaultyProxy) -> None:
    twice = {write: number for write, number in Counter(map(change, proxy.writes)).items() if number > 1}
    assert twice == {}


def heal_and_recover(arena: Arena, proxy: FaultyProxy) -> int:
    proxy.heal()
    arena.recover()
    return arena.assert_consistent()


def rested(arena: Arena) -> tuple[int, int]:
    """Champion and challenger once all is quiet."""
    arena.recover()
    champion = arena.champion()
    return champion, next(version for version in arena.versions if version != champion)


def verb(signoff: Signoff, arena: Arena, name: str, version: int) -> None:
    ref = arena.ref(version)
    if name == "promote":
        releases.promote(signoff, ref, by="release_manager", reason="Fewer misses.")
    elif name == "submit":
        reviews.submit(signoff, ref, by="scientist", comment="Please review.")
    else:
        reviews.approve(signoff, ref, by="reviewer", comment="Looks right.")


def prepare(arena: Arena, name: str, version: int) -> None:
    """Bring the challenger to where the verb has something to do."""
    ref = arena.ref(version)
    if name == "promote":
        arena.approve(version)
        return
    reviews.submit(arena.signoff, ref, by="scientist", comment="Please review.")
    if name == "submit":
        reviews.withdraw(arena.signoff, ref, by="scientist", comment="Not yet.")
    else:
        reviews.request_changes(arena.signoff, ref, by="reviewer", comment="Say more.")


class TestReading:
    @on_both(FAULTS, frozenset({"503"}))
    @pytest.mark.parametrize("name", ["promote", "submit", "approve"])
    def test_that_fails_means_nothing_is_done_and_nothing_is_recorded(
        self, arena: Arena, proxy: FaultyProxy, name: str, fault: str
    ) -> None:
        champion, challenger = rested(arena)
        prepare(arena, name, challenger)
        marker = arena.marker()
        asked = "model-versions/search" if name == "promote" else "registered-models/get"
        proxy.break_(fault, lambda method, path: asked in path)
        with pytest.raises(RegistryUnavailable) as error:
            verb(arena.signoff, arena, name, challenger)
        assert not isinstance(error.value, OutcomeUnknown)
        assert proxy.broken
        assert proxy.writes == []
        assert arena.since(marker) == []
        assert heal_and_recover(arena, proxy) == champion

    @pytest.mark.parametrize("arena", ["sqlite"], indirect=True, scope="module")
    def test_that_repeats_a_page_is_not_taken_for_the_whole(
        self, arena: Arena, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry = arena.signoff.registry
        page = registry._got(VERSIONS_PATH, {"filter": f"name='{arena.name}'"})  # type: ignore[attr-defined]
        monkeypatch.setattr(registry, "_got", lambda *_: {**page, "next_page_token": "again"})
        with pytest.raises(RegistryUnavailable, match="repeats itself"):
            registry.versions(arena.name)


class TestWriting:
    @on_both(FAULTS, frozenset({"reset before apply", "reset after apply"}))
    @pytest.mark.parametrize("write", [STAGE, ALIAS])
    @pytest.mark.parametrize("name", ["promote", "submit"])
    def test_that_gets_no_usable_answer_is_confirmed_by_what_mlflow_shows_or_unknown(
        self, arena: Arena, proxy: FaultyProxy, name: str, write: str, fault: str
    ) -> None:
        champion, challenger = rested(arena)
        prepare(arena, name, challenger)
        marker = arena.marker()
        subject = {"promote": "promotion", "submit": "submission"}[name]
        proxy.break_(fault, lambda method, path: write in path and method != "GET")
        if fault in APPLIED:
            verb(arena.signoff, arena, name, challenger)
            assert arena.since(marker) == [f"{subject}:intended", f"{subject}:confirmed"]
        else:
            with pytest.raises(OutcomeUnknown):
                verb(arena.signoff, arena, name, challenger)
            assert arena.since(marker) == [f"{subject}:intended", f"{subject}:unknown"]
        assert proxy.broken
        assert_sent_once(proxy)
        now = heal_and_recover(arena, proxy)
        done = fault in APPLIED or write == ALIAS  # the stage had moved: rolled forward
        assert arena.since(marker)[-1] == f"{subject}:{'confirmed' if done else 'aborted'}"
        assert now == (challenger if done and name == "promote" else champion)

    @on_both(FAULTS, frozenset({"503"}))
    def test_of_tags_that_fails_undoes_no_approval_and_is_made_up_for(
        self, arena: Arena, proxy: FaultyProxy, fault: str
    ) -> None:
        _, challenger = rested(arena)
        prepare(arena, "approve", challenger)
        marker = arena.marker()
        proxy.break_(fault, lambda method, path: TAG in path)
        verb(arena.signoff, arena, "approve", challenger)
        assert proxy.broken
        assert arena.since(marker) == ["approval:given"]
        assert_sent_once(proxy)
        heal_and_recover(arena, proxy)

    @on_both(["stall", "reset before apply", "503", "truncated"], frozenset({"reset before apply"}))
    def test_whose_read_back_fails_is_unknown_until_it_can_be_read(
        self, arena: Arena, proxy: FaultyProxy, fault: str
    ) -> None:
        _, challenger = rested(arena)
        prepare(arena, "promote", challenger)
        proxy.break_(
            fault, lambda method, path: "model-versions/search" in path and any(STAGE in line for line in proxy.writes)
        )
        with pytest.raises(OutcomeUnknown):
            verb(arena.signoff, arena, "promote", challenger)
        assert record(arena.signoff)[-1].kind.value == "promotion:unknown"
        assert record(arena.signoff)[-1].get("after") is None
        assert_sent_once(proxy)
        assert heal_and_recover(arena, proxy) == challenger


def somewhere(chance: random.Random) -> Wanted:
    """One request, three or all that follow, beginning with any request or with any write."""
    from_write = chance.random() < 0.6
    passed, broken = chance.randrange(3 if from_write else 40), chance.choice([1, 3, 1000])
    seen = begun = 0

    def wanted(method: str, path: str) -> bool:
        nonlocal seen, begun
        if not begun and not (from_write and (method == "GET" or path.split("?", maxsplit=1)[0].endswith("/search"))):
            seen += 1
        begun += seen > passed
        return 0 < begun <= broken

    return wanted


class TestAtRandom:
    @pytest.mark.timeout(0)
    @pytest.mark.parametrize("arena", BOTH, indirect=True, scope="module")
    def test_any_fault_in_any_request_leaves_the_record_and_mlflow_at_one(
        self, arena: Arena, proxy: FaultyProxy
    ) -> None:
        chance, tally = random.Random(), defaultdict[str, Counter[str]](Counter)
        for _ in range(HALF):
            champion, challenger = rested(arena)
            name, fault = chance.choice(["promote", "submit", "approve"]), chance.choice(FAULTS)
            prepare(arena, name, challenger)
            marker = arena.marker()
            proxy.break_(fault, somewhere(chance))
            try:
                verb(arena.signoff, arena, name, challenger)
                told = "done"
            except RegistryUnavailable as error:
                told = type(error).__name__
            assert_sent_once(proxy)
            now, happened = heal_and_recover(arena, proxy), arena.since(marker)
            if told == "done":
                assert happened[-1].endswith((":confirmed", ":given"))
            elif told == "RegistryUnavailable":
                assert happened == [] or happened[-1].endswith(":aborted")
            assert now == (challenger if name == "promote" and "promotion:confirmed" in happened else champion)
            tally[f"{name}, {fault}"][f"{told}, {happened[-1] if happened else 'nothing recorded'}"] += 1
        print_tally(f"faults on {arena.database}", tally)
