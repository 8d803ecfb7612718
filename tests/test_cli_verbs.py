"""The verbs on the terminal, over HTTP to the real routes: what is done, what is printed, and the exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from commands import main
from services.domain import Dataset, RegisteredModel, VersionRef
from services.errors import RegistryUnavailable
from services.signoff import Signoff
from tests.conftest import free_port
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.rest import Rest, over_http
from tests.test_releases import approve, release
from tests.verbs import reviews

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def url(signoff: Signoff) -> Iterator[str]:
    """Signoff's routes behind a real socket."""
    with over_http(signoff) as found:
        yield found


@pytest.fixture
def run(signoff: Signoff, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command as somebody; gives exit code, stdout and stderr."""
    rest = Rest(signoff)
    monkeypatch.setenv("SIGNOFF_URL", url)

    def command(by: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("SIGNOFF_TOKEN", rest.secret(by))
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(list(arguments))
        return (int(left.value.code or 0), *capsys.readouterr())

    return command


@pytest.fixture
def candidate(registry: FakeRegistry) -> VersionRef:
    """A good version nobody has submitted yet."""
    return registry.add_version("m", {"val_auc": 0.95})


def done(signoff: Signoff) -> list[str]:
    """What happened, but for the tokens of this test."""
    return [kind for kind in kinds(signoff) if not kind.startswith("token:")]


class TestVerbs:
    def test_take_a_version_all_the_way_and_back(
        self, run: Run, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        release(signoff, candidate)
        second = registry.add_version("m", {"val_auc": 0.97})
        assert run("scientist", "submit", "m", "2", "--comment", "Better.")[0] == 0
        assert run("reviewer", "approve", "m", "2", "--comment", "Yes.")[0] == 0
        code, out, _ = run("release_manager", "promote", "m", "2", "--reason", "Go.")
        assert (code, out) == (0, "m/v2 is in Production.\n")
        assert registry.version(second).stage == "Production"
        assert record(signoff)[-1].body["source"] == "rest"
        assert run("release_manager", "rollback", "m", "--reason", "Worse in the field.")[0] == 0
        assert registry.model("m").aliases["champion"] == 1
        assert run("release_manager", "archive", "m", "2", "--reason", "Done with it.")[0] == 0
        assert registry.version(second).stage == "Archived"

    def test_that_are_refused_print_every_failed_check_and_end_with_1(
        self, run: Run, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        code, out, err = run("release_manager", "promote", "m", "1", "--reason", "Go.")
        assert (code, out) == (1, "")
        assert "✗ Submitted for review: It was not submitted for review." in err
        assert "0 of 1 approvals" in err
        assert done(signoff) == ["promotion:refused"]
        assert registry.writes == []

    def test_answer_programs_in_json(self, run: Run, candidate: VersionRef) -> None:
        code, out, _ = run("scientist", "submit", "m", "1", "--comment", "Better.", "--json")
        assert code == 0
        assert {"name": "m", "version": 1}.items() <= json.loads(out).items()
        code, out, _ = run("release_manager", "promote", "m", "1", "--reason", "Go.", "--json")
        assert code == 1
        assert {check["id"] for check in json.loads(out)["checks"] if not check["passed"]} == {"approvals"}

    def test_under_one_key_are_done_once(self, run: Run, signoff: Signoff, candidate: VersionRef) -> None:
        approve(signoff, candidate)
        asked = ("promote", "m", "1", "--reason", "Go.", "--idempotency-key", "nightly-1")
        assert run("release_manager", *asked)[1] == run("release_manager", *asked)[1]
        assert done(signoff).count("promotion:confirmed") == 1

    @pytest.mark.parametrize("option", ["--idempotency-key", "--seen"])
    def test_under_an_empty_key_or_digest_are_a_mistake(
        self, run: Run, signoff: Signoff, candidate: VersionRef, option: str
    ) -> None:
        """A shell variable that is not set: doing it unprotected is not what was asked for."""
        approve(signoff, candidate)
        before = done(signoff)
        code, out, _ = run("release_manager", "promote", "m", "1", "--reason", "Go.", option, "")
        assert (code, out, done(signoff)) == (2, "", before)

    def test_may_be_spelled_as_mlflow_does(self, run: Run, signoff: Signoff, candidate: VersionRef) -> None:
        approve(signoff, candidate)
        asked = ("transition", "--name", "m", "--version", "1", "--stage", "Production")
        assert run("release_manager", *asked)[0] == 0
        assert done(signoff)[-1] == "promotion:confirmed"
        code, _, err = run("release_manager", *asked[:-1], "Nowhere")
        assert code == 2
        assert "none of Production" in err

    def test_of_a_name_that_needs_quoting_reach_it(self, run: Run, signoff: Signoff, registry: FakeRegistry) -> None:
        registry.add_version("my model + ü?", {"val_auc": 0.95})
        assert run("scientist", "submit", "my model + ü?", "1", "--comment", "Please.")[0] == 0
        assert done(signoff)[-1] == "submission:confirmed"


class TestReads:
    def test_check_says_what_stands_in_the_way(self, run: Run, signoff: Signoff, candidate: VersionRef) -> None:
        code, out, _ = run("viewer", "check", "m", "1")
        assert code == 1
        assert "m/v1 may not go to Production." in out
        approve(signoff, candidate)
        code, out, _ = run("viewer", "check", "m", "1", "--fresh", "--json")
        assert (code, json.loads(out)["allowed"]) == (0, True)

    def test_history_pages_through_everything(self, run: Run, signoff: Signoff, registry: FakeRegistry) -> None:
        for number in range(60):
            ref = registry.add_version(f"m{number}", {"val_auc": 0.95})
            reviews.submit(signoff, ref, by="scientist", comment="Please.")
        code, out, _ = run("viewer", "history", "--kind", "submission:confirmed", "--limit", "1000", "--json")
        found = json.loads(out)["events"]
        assert (code, len(found)) == (0, 60)
        assert [one["seq"] for one in found] == sorted((one["seq"] for one in found), reverse=True)

    def test_production_compare_and_reconcile(
        self, run: Run, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        release(signoff, candidate)
        registry.add_version("m", {"val_auc": 0.97})
        assert "m/v1 since" in run("viewer", "production", "m")[1]
        compared = run("viewer", "compare", "m:1", "m:2")[1]
        assert "v2 beats v1 on val_auc" in compared
        assert "0.97 (+0.02)" in compared
        registry.add_version("m", {"val_auc": 0.99}, dataset=Dataset(name="other", digest="bbbb", context="eval"))
        signoff.snapshot.refresh()
        assert "0.99 (+0.04, other data)" in run("viewer", "compare", "m:1", "m:3")[1]
        assert "1 models read" in run("auditor", "reconcile")[1]


class TestUnanswered:
    def test_nobody_there_is_3_and_says_that_nothing_was_changed(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SIGNOFF_URL", f"http://127.0.0.1:{free_port()}")
        code, _, err = run("release_manager", "promote", "m", "1", "--reason", "Go.")
        assert code == 3
        assert "nothing was changed" in err

    def test_mlflow_away_is_3(
        self,
        run: Run,
        signoff: Signoff,
        registry: FakeRegistry,
        candidate: VersionRef,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def away(_: str) -> RegisteredModel:
            raise RegistryUnavailable("MLflow does not answer.")

        monkeypatch.setattr(registry, "model", away)
        assert run("scientist", "submit", "m", "1", "--comment", "Better.")[0] == 3
        assert done(signoff) == []

    @pytest.mark.parametrize(
        "arguments",
        [
            ("submit", "m", "03", "--comment", "x"),
            ("submit", "nothing", "1", "--comment", "x"),
            ("submit", "m", "1", "--comment", " "),
            ("submit", "m", "1"),
        ],
    )
    def test_wrong_usage_is_2_and_leaves_nothing(
        self, run: Run, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef, arguments: tuple[str, ...]
    ) -> None:
        assert run("scientist", *arguments)[0] == 2
        assert done(signoff) == []
        assert registry.writes == []

    def test_no_token_and_a_wrong_one_are_2(self, run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for token in ("", "signoff_wrong"):
            monkeypatch.setenv("SIGNOFF_TOKEN", token)
            with pytest.raises(SystemExit) as left:
                main(["check", "m", "1"])
            assert left.value.code == 2


class TestProgress:
    """On stderr, and only where a person looks on."""

    LONG = (("check", "m", "1", "--fresh"), ("reconcile",), ("auto", "m", "1", "--comment", "x"))

    @pytest.mark.parametrize("command", LONG, ids=lambda words: words[0])
    def test_is_shown_on_a_terminal_and_stdout_stays_the_answer(
        self, run: Run, candidate: VersionRef, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
    ) -> None:
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        _, out, err = run("release_manager", *command, "--json")
        assert json.loads(out)
        assert "0:00:00" in err

    @pytest.mark.parametrize("command", LONG, ids=lambda words: words[0])
    def test_is_not_shown_to_programs(self, run: Run, candidate: VersionRef, command: tuple[str, ...]) -> None:
        _, _, err = run("release_manager", *command)
        assert "0:00" not in err
        assert "\r" not in err
