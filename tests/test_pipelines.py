"""The examples are run for real: against a gated MLflow server, and REST behind a real socket."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import mlflow
import pytest
import yaml

from services.accounts import people
from services.domain import Role, VersionRef
from services.policy import PolicyBook
from services.settings import PROJECT
from services.signoff import Signoff
from tests.conftest import free_port
from tests.gated import Gated, gated
from tests.receivers import web
from tests.rest import Rest, over_http
from tests.verbs import reviews

EXAMPLES = PROJECT / "examples"
WORKFLOW = EXAMPLES / "github-workflow.yml"
NIGHT = "2026-11-25"
TASKS = ["train", "evaluate", "approve", "promote", "notify"]


@dataclass(frozen=True)
class World:
    """A gated MLflow server, Signoff behind a socket, and the environment a pipeline is given."""

    server: Gated
    signoff: Signoff
    environment: dict[str, str]

    def ref(self, model: str, version: int) -> VersionRef:
        return VersionRef(name=model, version=version)

    def approve(self, model: str, version: int) -> None:
        reviews.approve(self.signoff, self.ref(model, version), by="reviewer", comment="Looks right.")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Under the shipped policies and the low-risk example, with the service ``ci``."""
    low = PolicyBook.load(PROJECT / "policies" / "examples").policies
    with gated(tmp_path_factory.mktemp("pipelines")) as server:
        policies = (*server.signoff.policies.policies, *(one for one in low if one.rules.name == "low-risk"))
        signoff = replace(server.signoff, policies=PolicyBook(policies=policies))
        people.add_automation(signoff.database, username="ci", name="Pipeline", roles=[Role.RELEASE_MANAGER])
        with over_http(signoff) as url:
            secret = Rest(signoff).token("ci", "nightly", actions=["view", "submit", "auto"])
            environment = {"MLFLOW_TRACKING_URI": server.url, "SIGNOFF_URL": url, "SIGNOFF_TOKEN": secret}
            yield World(server=server, signoff=signoff, environment=environment)


@pytest.fixture
def pipeline(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module of tasks, as a worker imports it, with its environment."""
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NOTIFY_URL", raising=False)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)  # `set_experiment` holds for a process
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    mlflow.set_tracking_uri(world.server.url)
    yield importlib.import_module("pipeline")
    mlflow.set_tracking_uri(None)


def model(monkeypatch: pytest.MonkeyPatch, world: World, name: str, **tags: str) -> str:
    """A registered model for one test."""
    monkeypatch.setenv("MODEL", name)
    world.server.client.create_registered_model(name, tags=tags)
    return name


class TestTheTasks:
    def test_go_all_the_way_once_people_have_approved(
        self, pipeline: ModuleType, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = model(monkeypatch, world, "watched")
        version = pipeline.train(NIGHT)
        assert pipeline.evaluate(version)["val_auc"] > 0.95
        assert pipeline.approve(version) == "pending"
        with pytest.raises(pipeline.Waiting, match="0 of 1 approvals by a reviewer"):
            pipeline.promote(version)
        assert world.server.stages(name) == {1: "Staging"}
        world.approve(name, version)
        assert pipeline.promote(version) == "watched/v1 is in Production."
        assert world.server.stages(name) == {1: "Production"}
        assert world.server.aliases(name) == {"champion": 1}
        with web() as chat:
            monkeypatch.setenv("NOTIFY_URL", chat.url)
            words = pipeline.notify(version)
            assert chat.got[0][1] == {"text": words}
        assert "watched v1: stage Production, approved." in words
        assert "/version?name=watched&version=1" in words

    def test_go_all_the_way_alone_where_the_policy_lets_automation_approve_and_only_once_a_night(
        self, pipeline: ModuleType, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = model(monkeypatch, world, "small", risk="low")
        for _ in range(2):
            version = pipeline.train(NIGHT)
            pipeline.evaluate(version)
            pipeline.approve(version)
            pipeline.promote(version)
        assert world.server.stages(name) == {1: "Production"}
        tags = world.server.tags(name, version)
        assert (tags["approval_status"], tags["approved_by"], tags["promoted_by"]) == ("auto_approved", "ci", "ci")
        events = world.server.events(name)
        assert [events.count(f"{what}:confirmed") for what in ("submission", "promotion")] == [1, 1]

    def test_do_not_even_submit_what_scores_too_low(
        self, pipeline: ModuleType, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = model(monkeypatch, world, "weak", risk="low")
        version = pipeline.train(NIGHT)
        monkeypatch.setattr(pipeline, "roc_auc_score", lambda *_: 0.5)
        with pytest.raises(pipeline.Refused, match=r"val_auc is 0\.5; ≥ 0\.8 is needed"):
            pipeline.evaluate(version)
        with pytest.raises(pipeline.Refused, match=r"val_auc is 0\.5"):
            pipeline.promote(version)
        assert world.server.stages(name) == {1: "None"}
        assert world.server.events(name) == ["promotion:refused"]

    def test_do_not_wait_for_what_people_ended(
        self, pipeline: ModuleType, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = model(monkeypatch, world, "ended")
        version = pipeline.train(NIGHT)
        pipeline.evaluate(version)
        pipeline.approve(version)
        reviews.reject(world.signoff, world.ref(name, version), by="reviewer", comment="Wrong target.")
        with pytest.raises(pipeline.Refused, match="was rejected"):
            pipeline.promote(version)


class TestTheScript:
    def test_ends_with_1_while_it_waits_and_with_0_once_it_serves(
        self, pipeline: ModuleType, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        name = model(monkeypatch, world, "scripted")
        nightly = importlib.import_module("nightly")
        assert nightly.main(NIGHT) == 1
        told = capsys.readouterr()
        assert "0 of 1 approvals" in told.err
        assert "stage Staging, pending" in told.out
        world.approve(name, 1)
        assert nightly.main(NIGHT) == 0
        assert world.server.stages(name) == {1: "Production"}

    def test_ends_with_3_when_nobody_answers_and_has_changed_nothing(
        self, pipeline: ModuleType, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = model(monkeypatch, world, "unreached")
        monkeypatch.setenv("SIGNOFF_URL", f"http://127.0.0.1:{free_port()}")
        assert importlib.import_module("nightly").main(NIGHT) == 3
        assert world.server.stages(name) == {1: "None"}


@dataclass
class Airflow:
    """What the DAG file needs of Airflow, run at once: a task is called where it is written, and what failed stays."""

    ran: list[str] = field(default_factory=list)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)

    class AirflowFailException(Exception):
        """Not tried again."""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sdk = SimpleNamespace(dag=self.dag, task=self.task)
        exceptions = SimpleNamespace(AirflowFailException=self.AirflowFailException)
        for name, found in {
            "airflow": SimpleNamespace(),
            "airflow.sdk": sdk,
            "airflow.sdk.exceptions": exceptions,
        }.items():
            monkeypatch.setitem(sys.modules, name, found)  # type: ignore[arg-type]

    def dag(self, **options: Any) -> Callable[[Callable[[], None]], Callable[[], None]]:
        self.options["dag"] = options
        return lambda body: body

    def task(self, body: Callable[..., Any] | None = None, **options: Any) -> Any:
        if body is None:
            return lambda found: self.task(found, **options)
        self.options[body.__name__] = options

        def run(*arguments: Any) -> Step:
            self.ran.append(body.__name__)
            known = {name: value for name, value in self.given.items() if name in body.__code__.co_varnames}
            return Step(body(*(one.value if isinstance(one, Step) else one for one in arguments), **known))

        return run


@dataclass(frozen=True)
class Step:
    """A task's answer; the order of ``>>`` is the order in which they were called."""

    value: Any

    def __rshift__(self, other: Step) -> Step:
        return other


class TestTheDag:
    @pytest.fixture
    def airflow(self, pipeline: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Airflow:
        found = Airflow(given={"run_id": "scheduled__2026-11-25T02:17:00+00:00"})
        found.install(monkeypatch)
        monkeypatch.delitem(sys.modules, "airflow_dag", raising=False)
        return found

    def test_runs_the_tasks_in_order_and_the_version_goes_to_production(
        self, airflow: Airflow, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = model(monkeypatch, world, "scheduled", risk="low")
        importlib.import_module("airflow_dag")
        assert airflow.ran == TASKS
        assert world.server.stages(name) == {1: "Production"}
        assert world.server.tags(name, 1)["night"] == airflow.given["run_id"]

    def test_waits_for_people_by_trying_again_and_tells_however_it_ends(
        self, airflow: Airflow, world: World, pipeline: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model(monkeypatch, world, "patient")
        with pytest.raises(pipeline.Waiting):
            importlib.import_module("airflow_dag")
        assert airflow.ran == TASKS[:4]
        assert airflow.options["promote"]["retries"] > 0
        assert airflow.options["notify"] == {"trigger_rule": "all_done"}

    def test_does_not_try_again_what_is_refused(
        self, airflow: Airflow, world: World, pipeline: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model(monkeypatch, world, "hopeless")
        monkeypatch.setattr(pipeline, "roc_auc_score", lambda *_: 0.5)
        with pytest.raises(airflow.AirflowFailException, match="is not submitted"):
            importlib.import_module("airflow_dag")
        assert airflow.ran == TASKS[:2]


class TestTheWorkflow:
    @pytest.fixture
    def job(self) -> dict[str, Any]:
        return dict(yaml.safe_load(WORKFLOW.read_text())["jobs"]["release"])

    def test_is_what_github_takes(self) -> None:
        """The schema comes with the linter: nothing is fetched."""
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
        told = subprocess.run([*command, str(WORKFLOW)], capture_output=True, text=True, timeout=60, check=False)
        assert told.returncode == 0, told.stdout

    def test_gives_its_token_only_to_the_steps_that_ask_signoff_and_puts_nothing_into_a_script(
        self, job: dict[str, Any]
    ) -> None:
        trusted = [step.get("name") for step in job["steps"] if "SIGNOFF_TOKEN" in json.dumps(step)]
        assert trusted == ["Evaluate", "Approve and promote, as far as the policy lets a service", "Notify"]
        assert [step["run"] for step in job["steps"] if "${{" in step.get("run", "")] == []

    def test_steps_take_a_version_to_production(
        self,
        pipeline: ModuleType,
        job: dict[str, Any],
        world: World,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Each step's script; what is Python runs in this process, which has imported MLflow already."""
        name = model(monkeypatch, world, "actions", risk="low")
        (tmp_path / "signoff").symlink_to(PROJECT)
        monkeypatch.setenv("GITHUB_RUN_ID", "17")
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        scripts = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
        assert scripts.pop("Install").startswith("python -m pip install")
        capsys.readouterr()
        for step, script in scripts.items():
            words = shlex.split(script)
            if words[:2] == ["python", "-c"]:
                exec(words[2], {})
            else:
                subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, check=True, timeout=120)
            if step == "Train":
                assert words[3:] == [">>", "$GITHUB_OUTPUT"]
                monkeypatch.setenv("VERSION", re.findall(r"^version=(\d+)$", capsys.readouterr().out, re.MULTILINE)[0])
        assert world.server.stages(name) == {1: "Production"}
        assert world.server.tags(name, 1)["approved_by"] == "ci"
