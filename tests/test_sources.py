"""A version goes to Production with exactly what was approved, or not at all, in each way its source can resolve.

After the approval things happen to its files, its run, its logged model, and what it was copied from, in any order.
Either promotion is refused by a check that says why, and nothing is written; or MLflow loads what it loaded before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import mlflow
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from services.domain import VersionRef
from services.errors import RegistryUnavailable
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.registry import Registry
from services.signoff import Signoff
from services.steps.intents import in_flight
from tests.arena import HALF
from tests.conftest import SOAKING
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.pages import opened, text
from tests.sources import ANOTHER_SPELLING, CHANGES, OF_OLD, ON_DISK, SERVER, WAYS, Memory, OnMlflow, Way, World
from tests.test_releases import approve
from tests.verbs import releases, reviews

RULES = parse(
    """\
name: tested
title: What a version is made of
applies_to: {names: ["*"]}
metrics: [{name: val_auc, greater_is_better: true, threshold: 0.9}]
same_dataset: false
signature: false
approvals: [{role: reviewer}]
promoted_by: [release_manager]
""",
    "p.yaml",
)
Files = Mapping[str, bytes]
IN_MEMORY: Mapping[str, Way] = {**ON_DISK, **WAYS, **OF_OLD}
ON_A_SERVER: Mapping[str, Way] = {
    way: make for way, make in {**ON_DISK, **WAYS}.items() if SOAKING or way not in ANOTHER_SPELLING
}


def in_each_way(ways: Mapping[str, Way], *, drawn: int) -> Callable[[Callable[..., None]], Any]:
    """Runs a test with each way once, with one change after another, and with so many cases drawn at random."""

    def decorated(test: Callable[..., None]) -> Any:
        found = given(way=st.sampled_from([*ways]), changes=st.lists(st.sampled_from([*CHANGES]), max_size=4))(test)
        for way, change in zip(ways, cycle(CHANGES), strict=False):
            found = example(way=way, changes=[change])(found)
        return settings(
            max_examples=max(drawn, 1),
            phases=[Phase.explicit, *([Phase.generate, Phase.shrink] if drawn else [])],
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        )(found)

    return decorated


def outcome(world: World, signoff: Signoff, way: Way, changes: Sequence[str]) -> tuple[bool, VersionRef, Files]:
    """Approve a version, let the changes happen, and promote it.

    Returns whether it serves, the version, and what MLflow loaded when it was approved.
    """
    case = way(world)
    approve(signoff, case.ref)
    approved, before = world.means(case.ref), kinds(signoff)
    for change in changes:
        CHANGES[change](world, case)
    shown = world.registry.version(case.ref), world.registry.model(case.ref.name)
    refused = _refused(lambda: releases.promote(signoff, case.ref, by="release_manager", reason="Now."))
    if refused is None:
        assert kinds(signoff) == [*before, "promotion:intended", "promotion:confirmed"]
        return True, case.ref, approved
    assert kinds(signoff) == [*before, "promotion:refused"]
    named = [(check["id"], check["reason"]) for check in record(signoff)[-1].failed_checks]
    assert {check for check, _ in named} & {"intact", "place", "approvals"}, named
    assert all(reason and reason in str(refused) for _, reason in named)
    with signoff.database.reading() as connection:
        assert in_flight(connection) == []
    assert (world.registry.version(case.ref), world.registry.model(case.ref.name)) == shown, "nothing was written"
    return False, case.ref, approved


def _refused(act: Callable[[], object]) -> GateRefused | None:
    try:
        act()
    except GateRefused as refusal:
        return refusal
    return None


@pytest.fixture
def judging(signoff: Signoff) -> Signoff:
    """Under rules that every version meets which is whole."""
    return replace(signoff, policies=PolicyBook(policies=(RULES,)))


class TestInMemory:
    @pytest.fixture
    def registry(self) -> FakeRegistry:
        return Memory()

    @pytest.mark.timeout(0 if SOAKING else 300)
    @in_each_way(IN_MEMORY, drawn=HALF)
    def test_it_serves_where_mlflow_reads_the_same_of_the_same_run_or_logged_model_and_nowhere_else(
        self, judging: Signoff, registry: Memory, way: str, changes: list[str]
    ) -> None:
        served, ref, approved = outcome(registry, judging, IN_MEMORY[way], changes)
        assert served == (bool(approved) and registry.means(ref) == approved)

    def test_a_version_of_a_logged_model_that_is_gone_takes_over_no_other_run(
        self, judging: Signoff, registry: Memory
    ) -> None:
        experiment = registry.new_experiment()
        good, own = registry.new_run(experiment), registry.new_run(experiment)
        model = registry.new_model(experiment, own)
        registry.write(f"{registry.location(model)}/MLmodel", b"flavors: {}\n")
        ref = registry.register(f"models:/{model}", run=good, model=model)
        approve(judging, ref)
        for gone, why in ((False, f"the version claims run {good}"), (True, f"MLflow has no logged model {model}")):
            if gone:
                registry.lose_model(model)
                reviews.approve(judging, ref, by="reviewer", comment="Again.")
            with pytest.raises(GateRefused, match=why) as refusal:
                releases.promote(judging, ref, by="release_manager", reason="0.999!")
            assert "place" in {check.id for check in refusal.value.verdict.failed}
        assert "promotion:intended" not in kinds(judging)

    @pytest.mark.parametrize(
        "address", ["mlflow-artifacts://{server}", "http://{server}/api/2.0/mlflow-artifacts/artifacts"]
    )
    def test_nor_does_one_whose_source_names_the_server(self, judging: Signoff, registry: Memory, address: str) -> None:
        experiment = registry.new_experiment()
        good, own = registry.new_run(experiment), registry.new_run(experiment)
        folder = f"{registry.location(own)}/model"
        registry.write(f"{folder}/MLmodel", b"flavors: {}\n")
        path = folder.removeprefix("mlflow-artifacts:")
        ref = registry.register(address.format(server=SERVER) + path, run=own)
        taken = registry.register(address.format(server=SERVER) + path, run=good)
        assert registry.place(registry.version(ref)).id == own
        with pytest.raises(GateRefused, match=f"run {own}, folder model; the version claims run {good}"):
            releases.promote(judging, approve(judging, taken), by="release_manager", reason="0.999!")
        assert kinds(judging)[-1] == "promotion:refused"

    def test_an_mlmodel_that_makes_no_sense_is_no_outage(self, judging: Signoff, registry: Memory) -> None:
        case = WAYS["models:/m-…"](registry)
        approve(judging, case.ref)
        CHANGES["its MLmodel makes no sense"](registry, case)
        with pytest.raises(GateRefused, match=f"The MLmodel file of {case.ref} makes no sense"):
            releases.promote(judging, case.ref, by="release_manager", reason="Now.")
        assert kinds(judging)[-1] == "promotion:refused"
        judging.reader.forget()
        judging.snapshot.refresh()
        at = opened(judging, "viewer", "version", name=case.ref.name, version="1")
        assert not at.exception
        assert f"The MLmodel file of {case.ref} makes no sense" in text(at)

    def test_and_one_that_is_written_while_it_is_promoted_puts_it_back(
        self, judging: Signoff, registry: Memory
    ) -> None:
        case = WAYS["models:/m-…"](registry)
        approve(judging, case.ref)
        registry.after_write = lambda _: CHANGES["its MLmodel makes no sense"](registry, case)
        with pytest.raises(RegistryUnavailable, match="was not changed as prescribed"):
            releases.promote(judging, case.ref, by="release_manager", reason="Now.")
        assert kinds(judging)[-1] == "promotion:aborted"
        assert registry.version(case.ref).stage == "Staging"

    @pytest.mark.skipif(not SOAKING, reason="each change alone in each way: in make soak")
    @pytest.mark.parametrize("way", IN_MEMORY)
    def test_the_same_for_each_change_alone(self, judging: Signoff, registry: Memory, way: str) -> None:
        for change in CHANGES:
            served, ref, approved = outcome(registry, judging, IN_MEMORY[way], [change])
            assert served == (bool(approved) and registry.means(ref) == approved), change


class TestOnMlflow:
    """Without the hook: then the bytes do change."""

    @pytest.fixture
    def world(self, mlflow_server: str, mlflow_folder: Path, monkeypatch: pytest.MonkeyPatch) -> OnMlflow:
        monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        mlflow.set_tracking_uri(mlflow_server)
        return OnMlflow(mlflow_server, mlflow_folder)

    @pytest.fixture
    def registry(self, world: OnMlflow) -> Registry:
        return world.registry

    @pytest.mark.timeout(0 if SOAKING else 300)
    @in_each_way(ON_A_SERVER, drawn=HALF if SOAKING else 0)
    def test_what_serves_is_what_was_approved(
        self, judging: Signoff, world: OnMlflow, way: str, changes: list[str]
    ) -> None:
        served, ref, approved = outcome(world, judging, ON_A_SERVER[way], changes)
        assert not served or (approved and world.means(ref) == approved)
