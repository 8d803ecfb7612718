"""What pages read from: complete, refreshed, and never behind our own changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from services.domain import ModelVersion, VersionRef
from services.errors import RegistryUnavailable
from services.evidence import Manifest
from services.reading import Reader
from services.signoff import Signoff
from services.snapshot import Snapshots
from tests.conftest import wait_until
from tests.fakes import FakeRegistry


class TestSnapshots:
    def test_the_first_reader_takes_it_and_later_ones_ask_nobody(self, registry: FakeRegistry) -> None:
        registry.add_version("m", {})
        snapshots = Snapshots(registry)
        assert set(snapshots.current.models) == {"m"}
        calls = registry.calls
        assert snapshots.current.version("m", 1)
        assert registry.calls == calls

    def test_a_quick_pass_sees_new_versions_and_stages(
        self, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.add_version("m", {})
        snapshots = Snapshots(registry)
        before = snapshots.current
        monkeypatch.setattr("services.snapshot.OVERLAP", before.taken_at - registry.model("m").created_at)  # type: ignore[operator]
        ref = registry.add_version("n", {})
        registry.set_stage(ref, "Staging")
        snapshots.refresh_quick()
        assert snapshots.current.version("n", 1).stage == "Staging"  # type: ignore[union-attr]
        assert snapshots.current.full_at == before.full_at

    def test_a_full_pass_sees_tags_and_deletions(self, registry: FakeRegistry) -> None:
        first = registry.add_version("m", {})
        registry.add_version("n", {})
        snapshots = Snapshots(registry)
        assert len(snapshots.current.models) == 2
        registry.tag(first, "a", "b")
        del registry._models["n"]
        snapshots.refresh()
        assert set(snapshots.current.models) == {"m"}
        assert snapshots.current.version("m", 1).tags == {"a": "b"}  # type: ignore[union-attr]

    @pytest.mark.parametrize("whole_model", [True, False])
    def test_our_own_change_shows_even_while_a_pass_that_began_earlier_goes_on(
        self, registry: FakeRegistry, whole_model: bool
    ) -> None:
        ref = registry.add_version("m", {})
        snapshots = Snapshots(registry)
        assert snapshots.current.models
        listed, go_on = threading.Event(), threading.Event()
        whole = registry.all_versions

        def slow(*, newest_first: bool = False) -> Iterator[list[ModelVersion]]:
            pages = list(whole(newest_first=newest_first))
            listed.set()
            go_on.wait(5)
            yield from pages

        registry.all_versions = slow  # type: ignore[method-assign]
        passing = threading.Thread(target=snapshots.refresh)
        passing.start()
        assert listed.wait(5)
        registry.set_stage(ref, "Production")
        if whole_model:
            snapshots.touch("m")
        else:
            snapshots.show((registry.version(ref),))
        go_on.set()
        passing.join()
        assert snapshots.current.version("m", 1).stage == "Production"  # type: ignore[union-attr]

    def test_what_is_shown_of_a_model_leaves_the_rest_of_it_as_it_is(self, registry: FakeRegistry) -> None:
        first, second = registry.add_version("m", {}), registry.add_version("m", {})
        snapshots = Snapshots(registry)
        assert snapshots.current.models
        for ref in (first, second):
            registry.tag(ref, "a", "b")
        registry.set_alias(second, "champion")
        third, calls = registry.version(registry.add_version("m", {})), registry.calls
        snapshots.show((registry.version(first), third))
        assert [version.tags for version in snapshots.current.versions["m"]] == [{"a": "b"}, {}, {}]
        assert snapshots.current.models["m"].aliases == {}
        snapshots.show((third,), model=registry.model("m"))
        assert snapshots.current.models["m"].aliases == {"champion": 2}
        assert registry.calls == calls + 2, "those of this test"
        snapshots.touch("m")
        assert snapshots.current.versions["m"] == registry.versions("m")

    def test_what_is_shown_of_a_model_that_is_not_known_yet_is_all_of_it(self, registry: FakeRegistry) -> None:
        registry.add_version("m", {})
        snapshots = Snapshots(registry)
        assert snapshots.current.models
        registry.add_version("n", {})
        snapshots.show((registry.version(registry.add_version("n", {})),))
        assert [version.ref.version for version in snapshots.current.versions["n"]] == [1, 2]

    def test_a_hook_that_does_not_know_us_is_logged_once(
        self, registry: FakeRegistry, caplog: pytest.LogCaptureFixture
    ) -> None:
        snapshots = Snapshots(registry, gate_token="mine")
        registry.hooked, registry.knows_us = True, False
        for _ in range(2):
            snapshots.refresh()
        (told,) = caplog.messages
        assert told == snapshots.hook_problem
        assert "its SIGNOFF_GATE_TOKEN is not the one that Signoff has here" in told
        registry.knows_us = True
        snapshots.refresh()
        assert (snapshots.gated, snapshots.hook_problem, len(caplog.messages)) == (True, None, 1)

    def test_asking_for_what_is_not_there_makes_nobody_look_again(self, registry: FakeRegistry) -> None:
        registry.add_version("m", {})
        snapshots = Snapshots(registry)
        before = snapshots.current
        snapshots.touch("nothing")
        assert snapshots.current is before
        registry.add_version("n", {})
        snapshots.touch("n")
        assert set(snapshots.current.models) == {"m", "n"}

    def test_when_mlflow_is_away_the_last_one_stays(
        self, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.add_version("m", {})
        snapshots = Snapshots(registry)
        assert snapshots.current.models

        def away(**_: object) -> Iterator[list[ModelVersion]]:
            raise RegistryUnavailable("away")

        monkeypatch.setattr(registry, "models", away)
        with pytest.raises(RegistryUnavailable):
            snapshots.refresh()
        assert snapshots.current.models

    def test_after_a_first_failure_a_page_fails_at_once_while_the_thread_tries_again(
        self, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(**_: object) -> Iterator[list[ModelVersion]]:
            raise RegistryUnavailable("away")

        monkeypatch.setattr(registry, "models", away)
        snapshots = Snapshots(registry)
        snapshots.start()
        wait_until(lambda: snapshots.problem is not None, "the first failure")
        calls = registry.calls
        with pytest.raises(RegistryUnavailable):
            _ = snapshots.current
        assert registry.calls == calls
        snapshots.stop()


class TestReader:
    def test_a_page_asks_once_a_decision_every_time(self, registry: FakeRegistry) -> None:
        version = registry.version(registry.add_version("m", {"val_auc": 0.9}))
        reader = Reader(registry)
        first = reader.remembered(version)
        calls = registry.calls
        assert reader.remembered(version) == first
        assert registry.calls == calls
        reader.fresh(version.ref)
        assert registry.calls > calls

    def test_files_are_hashed_again_only_when_their_listing_changed(self, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {})
        now = [0.0]
        reader = Reader(registry, clock=lambda: now[0])
        first = reader.remembered(registry.version(ref)).manifest
        now[0] = 100.0
        calls = registry.calls
        assert reader.remembered(registry.version(ref)).manifest == first
        assert registry.calls - calls == 4, "version, run, listing and place, but no manifest"
        registry.write_file(ref, "more", b"x")
        now[0] = 200.0
        assert reader.remembered(registry.version(ref)).manifest != first

    def test_what_a_decision_saw_a_page_sees(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {})
        signoff.reader.remembered(registry.version(ref))
        registry.write_file(ref, "MLmodel", b"flavors: {}?")
        fresh = signoff.reader.fresh(ref)
        assert signoff.reader.remembered(registry.version(ref)).manifest == fresh.manifest

    def test_many_runs_are_one_call(self, registry: FakeRegistry) -> None:
        refs = [registry.add_version("m", {"val_auc": 0.9}) for _ in range(5)]
        runs = [registry.version(ref).run_id for ref in refs]
        reader = Reader(registry)
        calls = registry.calls
        assert len(reader.runs([run for run in runs if run] + ["gone"])) == 5
        assert registry.calls == calls + 1
        reader.runs([run for run in runs if run] + ["gone"])
        assert registry.calls == calls + 1

    def test_what_nobody_asked_for_the_longest_time_is_forgotten_before_there_is_too_much(
        self, registry: FakeRegistry, asked: list[str]
    ) -> None:
        reader = Reader(registry, most=10_000)
        for path in ("a", "b", "c", "a", "d", "a", "b"):  # three of them fit
            assert len(reader.run_file("run", path)) == 3000
        assert asked == ["a", "b", "c", "d", "b"]

    def test_what_is_too_large_is_read_and_not_remembered(self, registry: FakeRegistry, asked: list[str]) -> None:
        reader = Reader(registry, most=3300)
        for path in ("a", "huge", "huge", "a"):
            reader.run_file("run", path)
        assert asked == ["a", "huge", "huge"]

    def test_what_lies_deep_inside_an_answer_counts(self, registry: FakeRegistry) -> None:
        reader = Reader(registry, most=100_000)
        for number in range(5):
            ref = registry.add_version(
                "m", {"val_auc": 0.9}, files={f"{number}-{part:090}": b"x" for part in range(200)}
            )
            reader.remembered(registry.version(ref))
        manifests = [kept for kept in reader._memory.values() if isinstance(kept.value, Manifest)]
        assert len(manifests) == 1
        assert manifests[0].size > 200 * (90 + 64), "each file has its path and its sha256"


@pytest.fixture
def asked(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read from MLflow since the test began: each has 3,000 bytes, and one more."""
    paths: list[str] = []

    def read(run_id: str, path: str) -> bytes:
        paths.append(path)
        return bytes(4000 if path == "huge" else 3000)

    monkeypatch.setattr(registry, "run_file", read)
    return paths


def test_a_reference_is_read_strictly() -> None:
    assert VersionRef.parse("m", "3") == VersionRef(name="m", version=3)
