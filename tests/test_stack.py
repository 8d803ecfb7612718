"""`make run`: what is said when it cannot start, how its processes end, and what the sample registry promises."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import IO

import pytest

from services import gate
from services.domain import Dataset, Stage, VersionRef
from services.facts import fresh
from services.record import ledger
from services.settings import PROJECT, Settings
from services.signoff import Signoff
from stack import dashboard, preflight, run
from stack.preflight import CannotStart
from stack.processes import Logs, Processes
from stack.sample.data import split
from stack.sample.evaluation import Curve, scores, trained
from stack.sample.history import play
from stack.sample.recipes import MODELS, SCREENING, Recipe, SampleModel
from stack.sample.story import STORY, Deed
from tests.conftest import free_port
from tests.fakes import SIGNATURE, FakeRegistry
from tests.ledgers import kinds

RUBBISH = b"this is not a database " * 100


class TestStart:
    """Each way of not starting is one sentence on the error stream, exit code 1, and no traceback."""

    def refusal(self, home: Path, **environ: str) -> str:
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("SIGNOFF_", "MLFLOW_"))}
        ports = {"SIGNOFF_PORT": str(free_port()), "SIGNOFF_MLFLOW_PORT": str(free_port())}
        done = subprocess.run(
            [sys.executable, "-m", "stack.run"],
            env={**plain, **ports, "SIGNOFF_HOME": str(home), **environ},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert done.stdout == ""
        (sentence,) = done.stderr.splitlines()
        return sentence.removeprefix("Signoff cannot start: ")

    @pytest.fixture
    def taken(self) -> Iterator[str]:
        """A port somebody listens on."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield str(server.getsockname()[1])

    @pytest.mark.parametrize("setting", ["SIGNOFF_PORT", "SIGNOFF_MLFLOW_PORT"])
    def test_a_taken_port_is_named_with_the_setting_that_changes_it(
        self, tmp_path: Path, taken: str, setting: str
    ) -> None:
        refusal = self.refusal(tmp_path, **{setting: taken})
        assert refusal == f"Port {taken} is taken by another program; set {setting} to a free one."

    def test_a_setting_that_is_wrong_is_named(self, tmp_path: Path) -> None:
        assert self.refusal(tmp_path, SIGNOFF_SECRET_KEY="short").startswith("SIGNOFF_SECRET_KEY has 5 bytes")

    def test_a_broken_database_of_ours_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "signoff.db").write_bytes(RUBBISH)
        assert self.refusal(tmp_path) == (
            f"Signoff's database cannot be used (file is not a database): SQLite {tmp_path / 'signoff.db'}."
        )

    @pytest.mark.parametrize("schema", ["0001", "0013", "9999"])
    def test_a_database_of_another_version_is_refused_and_stays_as_it_is(self, tmp_path: Path, schema: str) -> None:
        with sqlite3.connect(tmp_path / "signoff.db") as connection:
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            connection.execute("INSERT INTO alembic_version VALUES (?)", (schema,))
        assert self.refusal(tmp_path) == (
            f"Signoff's database has the schema {schema} of another version of Signoff. Export its record with that "
            "version ('signoff ledger export --output FILE'), then bring it into an empty SIGNOFF_HOME or "
            "SIGNOFF_DATABASE_URL with 'signoff ledger import FILE --public-key KEY'."
        )
        with sqlite3.connect(tmp_path / "signoff.db") as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        assert tables == [("alembic_version",)]

    def test_a_broken_database_of_mlflow_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "mlflow").mkdir()
        (tmp_path / "mlflow" / "mlflow.db").write_bytes(RUBBISH)
        assert self.refusal(tmp_path) == (
            f"MLflow's database {tmp_path / 'mlflow' / 'mlflow.db'} cannot be used (file is not a database)."
        )

    def test_the_password_of_a_database_is_not_shown(self, tmp_path: Path) -> None:
        url = f"postgresql+psycopg://signoff:tell-nobody@127.0.0.1:{free_port()}/signoff"
        refusal = self.refusal(tmp_path, SIGNOFF_DATABASE_URL=url, SIGNOFF_SECRET_KEY="k" * 32)
        assert "Signoff's database cannot be used" in refusal
        assert "tell-nobody" not in refusal

    def test_an_mlflow_server_that_does_not_answer_is_named(self, tmp_path: Path) -> None:
        uri = f"http://127.0.0.1:{free_port()}"
        refusal = self.refusal(tmp_path, MLFLOW_TRACKING_URI=uri, SIGNOFF_SECRET_KEY="k" * 32)
        assert refusal.startswith(f"MLflow does not answer at {uri};")

    @pytest.mark.parametrize(
        ("file", "why"),
        [
            ("", "a file is there"),
            ("logs", "a file is there"),
            ("lock/x", "Is a directory"),
            ("logs/dashboard.log/x", "Is a directory"),
            ("gate-token/x", "Is a directory"),
            ("mlflow", "a file is there"),
        ],
    )
    def test_a_home_that_cannot_be_written_is_named_with_what_is_in_the_way(
        self, tmp_path: Path, file: str, why: str
    ) -> None:
        home = tmp_path / "home"
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text("")
        what = home / file.removesuffix("/x")
        assert self.refusal(home, SIGNOFF_DEMO_PASSWORD="x" * 12) == f"SIGNOFF_HOME cannot be used: {why} ({what})."

    @pytest.mark.parametrize("folder", ["", "logs"])
    def test_a_read_only_disk_is_named(self, tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def made(dir: Path) -> IO[bytes]:  # noqa: A002  (as in the standard library)
            if dir == tmp_path / folder:
                raise OSError(errno.EROFS, "Read-only file system", str(dir / "tmpx7"))
            return BytesIO()

        monkeypatch.setattr(preflight, "TemporaryFile", made)
        for name in ("SIGNOFF_DATABASE_URL", "MLFLOW_TRACKING_URI"):  # MLflow's client sets the latter
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("SIGNOFF_HOME", str(tmp_path))
        with pytest.raises(CannotStart) as refused:
            preflight.settings()
        assert str(refused.value) == f"SIGNOFF_HOME cannot be used: Read-only file system ({tmp_path / folder})."

    def test_a_home_in_use_is_refused(self, tmp_path: Path) -> None:
        with preflight.home_lock(tmp_path):
            assert self.refusal(tmp_path).startswith(f"Another Signoff runs on {tmp_path};")

    def test_a_missing_package_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(preflight, "PACKAGES", ("yaml", "no_such_package"))
        with pytest.raises(CannotStart, match=r"^no_such_package is not installed; run `make setup`\.$"):
            preflight.dependencies()

    def test_every_package_that_is_asked_for_is_there(self) -> None:
        preflight.dependencies()

    def test_says_which_database_it_is_on_screen_and_in_the_log(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(Processes, "loop", lambda _: None)
        (tmp_path / "logs").mkdir()
        beside = {"SIGNOFF_HOME": str(tmp_path), "SIGNOFF_SECRET_KEY": "s" * 32, "MLFLOW_TRACKING_URI": "http://m"}
        run._supervise(Settings.read(beside), "The record is here.")
        assert capsys.readouterr().out.startswith("The record is here.\n")
        assert (tmp_path / "logs" / "dashboard.log").read_text().endswith(" The record is here.\n")


class TestTheMlflowServer:
    def test_is_told_nothing_of_ours_but_what_the_hook_needs(self) -> None:
        given = {"PATH": "/bin", "SIGNOFF_GATE_TOKEN": "t", "SIGNOFF_GATE_URL": "u", "MLFLOW_DISABLE_TELEMETRY": "true"}
        ours = {"SIGNOFF_SECRET_KEY", "SIGNOFF_EARLIER_SECRET_KEYS", "SIGNOFF_MESSAGES_MAIL", "MLFLOW_TRACKING_URI"}
        assert run._theirs({**given, **dict.fromkeys(ours, "x")}) == given


class TestProcesses:
    """Two processes live and die together."""

    @pytest.fixture(autouse=True)
    def _signals_restored(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        yield
        for number, action in before.items():
            signal.signal(number, action)

    @pytest.fixture
    def shown(self) -> list[str]:
        return []

    @pytest.fixture
    def logs(self, tmp_path: Path, shown: list[str]) -> Logs:
        return Logs(tmp_path, shown.append)

    def run(self, processes: Processes, **programs: str) -> None:
        for name, program in programs.items():
            processes.add_process(name, f"exec {shlex.join([sys.executable, '-uc', program])}")
        processes.loop()

    def test_when_one_ends_the_other_is_stopped_and_the_first_is_named(self, logs: Logs) -> None:
        self.run(
            Processes(logs, lambda: None),
            mlflow="print('no such table'); raise SystemExit(3)",
            dashboard="import time; time.sleep(60)",
        )
        assert logs.ended == "mlflow ended by itself (exit code 3), its last words were: no such table"

    def test_only_what_is_meant_for_a_person_reaches_the_screen(
        self, logs: Logs, shown: list[str], tmp_path: Path
    ) -> None:
        self.run(Processes(logs, lambda: None), dashboard="print('GET /'); print('signoff: 1 of 2')")
        assert shown == ["1 of 2"]
        assert "GET /" in (tmp_path / "dashboard.log").read_text()

    def test_a_failure_is_kept_as_its_sentence(self, logs: Logs, shown: list[str]) -> None:
        self.run(Processes(logs, lambda: None), dashboard="print('signoff! Nothing works.')")
        assert (logs.failure, shown) == ("Nothing works.", [])

    def test_a_log_that_cannot_be_written_and_a_screen_nobody_reads_end_neither_process(self, tmp_path: Path) -> None:
        shown = []

        def show(text: str) -> None:
            shown.append(text)
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        (tmp_path / "dashboard.log").mkdir()
        logs = Logs(tmp_path, show)
        self.run(Processes(logs, lambda: None), dashboard="print('1'); print('signoff: 2'); print('signoff! 3')")
        assert shown == [f"{tmp_path / 'dashboard.log'} cannot be written: Is a directory", "2"]
        assert (logs.failure, logs.ended) == ("3", "dashboard ended by itself (exit code 0), its last words were: 1")

    def test_a_stop_asked_for_before_anything_runs_stops_it_all_the_same(self, logs: Logs) -> None:
        processes = Processes(logs, lambda: None)
        processes.add_process("other", f"exec {shlex.join([sys.executable, '-c', 'import time; time.sleep(60)'])}")
        processes.terminate()
        self.run(processes, mlflow="import time; time.sleep(60)")
        assert processes.returncode == -signal.SIGTERM

    def test_sigint_stops_both(self, logs: Logs) -> None:
        processes = Processes(logs, lambda: os.kill(os.getpid(), signal.SIGINT))
        self.run(processes, mlflow="import time; time.sleep(60)", dashboard="import time; time.sleep(60)")
        assert processes.returncode == 128 + signal.SIGINT


@pytest.fixture(scope="module")
def measured() -> dict[VersionRef, dict[str, float]]:
    """The real scores of every sample version, trained without a server."""
    return {
        VersionRef(name=model.name, version=number): _scores(model, recipe)
        for model in MODELS
        for number, recipe in enumerate(model.versions, start=1)
    }


def _scores(model: SampleModel, recipe: Recipe) -> dict[str, float]:
    if not recipe.evaluated:
        return {}
    data = split(model.source, other=recipe.other_data)
    train, holdout = ((part.features(recipe.columns), part.target) for part in (data.train, data.holdout))
    return scores(
        model.source.task, trained(model.source.task, recipe.curve, recipe.estimator, train, holdout)[0], *holdout
    )


@pytest.fixture
def sample(signoff: Signoff, registry: FakeRegistry, measured: dict[VersionRef, dict[str, float]]) -> Signoff:
    """The sample registry as it is before anybody did anything."""
    for model in MODELS:
        registry.add_model(model.name, owner=model.owner, task=model.source.task.value)
        for number, recipe in enumerate(model.versions, start=1):
            digest = "second" if recipe.other_data else "usual"
            registry.add_version(
                model.name,
                measured[VersionRef(name=model.name, version=number)],
                dataset=Dataset(name=f"{model.source.name}_holdout", digest=digest, context="eval"),
                author="scientist",
                signature=SIGNATURE if recipe.signature else None,
            )
    return signoff


class TestHistory:
    """What the demo accounts did to the sample registry, judged by the real policies on the real scores."""

    def stages(self, registry: FakeRegistry, name: str) -> list[str]:
        return [version.stage for version in registry.versions(name)]

    def failed(self, signoff: Signoff, version: int) -> set[str]:
        policy, seen = fresh(signoff, VersionRef(name=SCREENING.name, version=version))
        return {check.id for check in gate.evaluate(policy, seen).failed} - {"submitted", "approvals"}

    def test_every_model_has_a_champion_that_replaced_an_earlier_one(
        self, sample: Signoff, registry: FakeRegistry
    ) -> None:
        list(play(sample))
        for model in MODELS:
            assert registry.model(model.name).aliases["champion"] == 3
            assert self.stages(registry, model.name)[:3] == [Stage.ARCHIVED, Stage.NONE, Stage.PRODUCTION]

    def test_the_screening_model_offers_what_the_contract_names(self, sample: Signoff, registry: FakeRegistry) -> None:
        list(play(sample))
        assert self.stages(registry, SCREENING.name)[3:] == [Stage.NONE] * 5
        assert self.failed(sample, 7) == self.failed(sample, 8) == set()
        assert "metric:val_auc" in self.failed(sample, 2)
        assert self.failed(sample, 4) == {"same_dataset"}
        assert "metric:val_auc" in self.failed(sample, 5)

    def test_either_ready_screening_model_may_follow_the_other(
        self, measured: dict[VersionRef, dict[str, float]]
    ) -> None:
        champion, seven, eight = (measured[VersionRef(name=SCREENING.name, version=number)] for number in (3, 7, 8))
        assert seven["val_auc"] == eight["val_auc"] > champion["val_auc"]
        assert seven["val_accuracy"] == eight["val_accuracy"] > champion["val_accuracy"]

    def test_other_models_wait_in_every_state(self, sample: Signoff, registry: FakeRegistry) -> None:
        list(play(sample))
        status = {
            (name, number): registry.version(VersionRef(name=name, version=number)).status
            for name, number in (
                *(("wine_cultivar", 5), ("digit_recognition", 4)),
                *(("diabetes_progression", 4), ("diabetes_progression", 5), ("breast_cancer_screening", 6)),
            )
        }
        assert list(status.values()) == ["pending", "changes_requested", "rejected", "approved", "rejected"]

    def test_it_is_played_once_however_often_it_is_interrupted(self, sample: Signoff) -> None:
        for _ in STORY:
            next(play(sample), None)  # killed after every single step
        assert next(play(sample), None) is None
        recorded = kinds(sample)
        for deed in Deed:
            assert recorded.count(deed.value) == sum(step.deed is deed for step in STORY)

    def test_the_record_is_whole(self, sample: Signoff) -> None:
        list(play(sample))
        with sample.database.reading() as connection:
            assert ledger.broken_at(connection) is None


class TestRecipes:
    """What is trained, and what the training curves show."""

    def test_every_model_is_trained_on_first_start(self) -> None:
        assert set(dashboard.MODELS) == {model.name for model in MODELS}

    @pytest.mark.parametrize("curve", list(Curve))
    def test_a_curve_has_a_point_for_each_step_and_ends_with_the_model(self, curve: Curve) -> None:
        model, recipe = next((m, r) for m in MODELS for r in m.versions if r.curve is curve)
        data = split(model.source)
        train, holdout = ((part.features(recipe.columns), part.target) for part in (data.train, data.holdout))
        estimator, points = trained(model.source.task, curve, recipe.estimator, train, holdout)
        assert len(points) == 30
        assert all(before < after for (before, _, _), (after, _, _) in pairwise(points))
        assert list(estimator.feature_names_in_) == list(train[0].columns)
