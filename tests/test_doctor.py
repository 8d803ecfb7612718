"""``signoff doctor``: what the gate would refuse is listed before anything is, by cause, without reading files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import services.mlflow.registry
from commands import main
from services import proofs
from services.domain import LoggedModelFacts
from services.place import Place, PlaceKind
from services.policy import PolicyBook, parse
from services.signoff import Signoff
from services.tables import mirror_jobs
from services.views import diagnosis
from services.views.diagnosis import Cause, diagnose
from tests.conftest import free_port
from tests.fakes import FakeRegistry
from tests.test_policy import GOOD

POLICY = parse(GOOD.replace("threshold: 0.9", "min_absolute_change: 0"), "p.yaml")
BOOK = PolicyBook(policies=(POLICY,))


def found(registry: FakeRegistry, book: PolicyBook = BOOK) -> dict[Cause, list[tuple[str, int | None]]]:
    return {
        cause: [(one.model, one.version) for one in group] for cause, group in diagnose(registry, book).groups.items()
    }


def sentence(registry: FakeRegistry, book: PolicyBook = BOOK) -> str:
    (symptom,) = diagnose(registry, book).symptoms
    return symptom.sentence


class TestDiagnosis:
    def test_of_a_sound_registry_is_empty(self, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.92})
        registry.set_alias(ref, "champion")
        registry.add_version("m", {"val_auc": 0.95})
        assert found(registry) == {}

    def test_names_files_that_cannot_be_read_from_here(self, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.92})
        registry.hide_files(ref, "s3://b/m", "the Python package boto3 is not installed")
        assert found(registry) == {Cause.UNREADABLE: [("m", 1)]}
        assert "boto3 is not installed" in sentence(registry)

    def test_names_a_deleted_run_and_one_that_was_never_named(self, registry: FakeRegistry) -> None:
        gone, none = (registry.add_version("m", {"val_auc": 0.92}) for _ in range(2))
        registry.drop_run(gone)
        registry.source(none, "mlflow-artifacts:/7/model")
        registry._versions[none] = replace(registry._versions[none], run_id=None)
        assert found(registry) == {Cause.DELETED_RUN: [("m", 1)], Cause.NO_RUN: [("m", 2)]}

    def test_names_files_of_another_run(self, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
        ref, other = (registry.add_version("m", {"val_auc": value}) for value in (0.1, 0.999))
        claimed = registry.version(other).run_id or ""
        made_by = registry.version(ref).run_id or ""
        registry.source(ref, f"mlflow-artifacts:/1/{made_by}/artifacts/model", run_id=claimed)
        assert found(registry) == {Cause.OTHER_RUN: [("m", 1)]}
        assert f"the version claims run {claimed}" in sentence(registry)
        registry._versions[ref] = replace(registry._versions[ref], model_id="m-1", source="models:/m-1")
        monkeypatch.setattr(
            registry, "logged_models", lambda ids: {one: LoggedModelFacts(model_id=one, run_id=made_by) for one in ids}
        )
        assert f"logged model m-1, which run {made_by} made" in sentence(registry)

    def test_names_files_of_a_logged_model_that_is_gone(self, registry: FakeRegistry) -> None:
        ref, model = registry.add_version("m", {"val_auc": 0.92}), f"m-{'a' * 32}"
        registry._versions[ref] = replace(registry.version(ref), model_id=model, source=f"models:/{model}")
        assert found(registry) == {Cause.LOST: [("m", 1)]}
        assert f"MLflow has no logged model {model} there" in sentence(registry)

    def test_names_a_source_of_two_places_and_says_how_many_it_did_not_resolve(
        self, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(3):
            ref = registry.add_version("m", {"val_auc": 0.92})
            run = registry.version(ref).run_id or ""
            place = Place(kind=PlaceKind.RUN, uri="", id=run, path="model", run_id=run, others=("logged model m-2",))
            registry.source(ref, f"runs:/{run}/model", place=place)
        assert found(registry) == {Cause.TWO_PLACES: [("m", 1), ("m", 2), ("m", 3)]}
        monkeypatch.setattr(diagnosis, "MAX_RESOLVED", 1)
        assert found(registry) == {Cause.TWO_PLACES: [("m", 1)]}
        assert any("the source of 2 more versions" in words for words in diagnose(registry, BOOK).unseen)

    def test_names_models_that_no_policy_judges_or_two(self, registry: FakeRegistry) -> None:
        registry.add_version("m", {"val_auc": 0.92})
        nobody = parse(GOOD.replace('names: ["*"]', 'names: ["other"]'), "p.yaml")
        assert found(registry, PolicyBook(policies=(nobody,))) == {Cause.POLICY: [("m", None)]}
        two = PolicyBook(policies=(POLICY, parse(GOOD.replace("name: tested", "name: other", 1), "q.yaml")))
        assert "both apply to m" in sentence(registry, two)

    def test_names_a_champion_whose_successors_are_all_refused(self, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"other": 0.92}, dataset=None)
        registry.add_version("m", {"val_auc": 0.95})
        assert found(registry) == {}
        registry.set_stage(ref, "Production")
        assert found(registry) == {Cause.CHAMPION_METRICS: [("m", 1)], Cause.CHAMPION_DATASET: [("m", 1)]}

    def test_asks_mlflow_no_more_for_more_versions_and_reads_no_file(
        self, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for method in ("listing", "manifest", "version_file", "fetch", "run_files", "run", "version"):
            monkeypatch.setattr(registry, method, None)
        counted = []
        for _ in range(2):
            for _ in range(50):
                registry.add_version("m", {"val_auc": 0.92})
            before = registry.calls
            diagnose(registry, BOOK)
            counted.append(registry.calls - before)
        assert counted[0] == counted[1]
        assert diagnose(registry, BOOK).versions == 100


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Run a command on the in-memory registry and a folder with one policy; gives exit code, stdout and stderr."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "p.yaml").write_text(POLICY.text)
    monkeypatch.setenv("SIGNOFF_POLICIES", str(tmp_path / "policies"))
    monkeypatch.setattr(services.mlflow.registry, "MlflowRegistry", lambda uri: registry)

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(list(arguments))
        return (int(left.value.code or 0), *capsys.readouterr())

    return command


class TestCommand:
    def test_a_sound_registry_is_exit_code_0_and_says_what_was_not_looked_at(
        self, run: Run, registry: FakeRegistry
    ) -> None:
        registry.add_version("m", {"val_auc": 0.92})
        code, out, _ = run("doctor", "--registry")
        assert code == 0
        assert out.startswith("No reason to refuse any of 1 version of 1 model.")
        assert "Not looked at: the files themselves" in out

    def test_what_would_be_refused_is_exit_code_1_grouped_with_counts(self, run: Run, registry: FakeRegistry) -> None:
        for _ in range(25):
            registry.hide_files(
                registry.add_version("a\x1b[31m", {}), r"C:\mlruns", "that is a path on a Windows drive"
            )
        code, out, _ = run("doctor", "--registry")
        assert code == 1
        assert "Its files cannot be read from here (25)" in out
        assert "and 5 more, which --json lists" in out
        assert "\x1b" not in out
        code, out, _ = run("doctor", "--registry", "--json")
        answer = json.loads(out)
        assert (code, answer["versions"], answer["counts"]) == (1, 25, {"unreadable": 25})
        assert answer["refused"][0]["version"] == 1
        assert "Windows drive" in answer["refused"][0]["reason"]

    def test_an_mlflow_that_is_away_is_exit_code_3(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(SystemExit) as left:
            main(["doctor", "--registry"])
        assert left.value.code == 3
        assert "did not give a usable answer" in capsys.readouterr().err

    def test_alone_it_says_what_is_reachable_and_valid(
        self, run: Run, signoff: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SIGNOFF_HOME", str(signoff.settings.home))
        monkeypatch.setenv("SIGNOFF_DATABASE_URL", signoff.settings.database_url)
        monkeypatch.setenv("SIGNOFF_SECRET_KEY", "s" * 32)
        code, out, _ = run("doctor")
        assert code == 0
        checks = ("policies", "database", "record", "tags", "MLflow")
        assert [line.split(":")[0] for line in out.splitlines()] == [f"✓ {check}" for check in checks]
        assert f"✓ database: SQLite {signoff.settings.home / 'signoff.db'} is reachable" in out
        assert "it has no hook" in out
        registry.hooked = True
        assert "its hook asks Signoff" in run("doctor")[1]
        monkeypatch.setenv("SIGNOFF_HOME", "/nowhere")
        monkeypatch.delenv("SIGNOFF_DATABASE_URL")
        code, out, _ = run("doctor", "--json")
        assert code == 3
        assert [one["fine"] for one in json.loads(out)["checks"]] == [True, False, False, False, True]

    def test_tags_that_mlflow_refuses_again_and_again_are_exit_code_1(
        self, run: Run, signoff: Signoff, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SIGNOFF_HOME", str(signoff.settings.home))
        monkeypatch.setenv("SIGNOFF_DATABASE_URL", signoff.settings.database_url)
        monkeypatch.setenv("SIGNOFF_SECRET_KEY", "s" * 32)
        with signoff.database.writing() as connection:
            for version in (1, 2):
                job = {"model": "m", "version": version, "seq": 1, "attempts": 3, "last_error": "No."}
                connection.execute(mirror_jobs.insert().values(job))
        code, out, _ = run("doctor")
        assert code == 1
        assert "✗ tags: The tags of m/v1 in MLflow are not as the record says: writing them failed 3 times. No." in out
        assert "So it is with 1 more version." in out

    @pytest.mark.parametrize(
        ("token", "why"), [("mine", "is not the one that Signoff has here"), ("", "has no SIGNOFF_GATE_TOKEN here")]
    )
    def test_a_hook_with_another_token_is_exit_code_1(
        self, run: Run, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str, why: str
    ) -> None:
        monkeypatch.setenv("SIGNOFF_HOME", str(tmp_path))
        monkeypatch.setenv("SIGNOFF_GATE_TOKEN", token)
        registry.hooked, registry.knows_us = True, False
        code, out, _ = run("doctor", "--json")
        (told,) = [one for one in json.loads(out)["checks"] if one["what"] == "MLflow"]
        assert (code > 0, told["fine"], why in told["words"]) == (True, False, True)
        registry.hooked = False
        (told,) = [one for one in json.loads(run("doctor", "--json")[1])["checks"] if one["what"] == "MLflow"]
        assert (told["fine"], "it has no hook" in told["words"]) == (True, True)

    def test_the_token_that_the_embedded_stack_keeps_is_shown_to_its_hook(
        self, run: Run, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("SIGNOFF_HOME", str(tmp_path))
        monkeypatch.delenv("SIGNOFF_GATE_TOKEN", raising=False)
        (tmp_path / "gate-token").write_text("kept")
        sent: list[str] = []
        monkeypatch.setattr(registry, "hook", lambda: sent.append(registry.intent))
        run("doctor")
        about, _, _ = sent[0].rpartition(".")
        assert sent == [proofs.proof("kept", about)]

    def test_a_policy_with_a_mistake_is_named(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "policies" / "p.yaml").write_text("name: [")
        assert "✗ policies: p.yaml:" in run("doctor")[1]
        assert run("doctor", "--registry")[0] == 2
