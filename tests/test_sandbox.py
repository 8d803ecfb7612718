"""A model is somebody else's program: what it cannot do in the sandbox, each thing tried by a model that wants to.

Every attempt is also made without the sandbox, where it succeeds: so a test cannot pass because the attempt was wrong.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow.pyfunc
import pytest
from sklearn.dummy import DummyClassifier

from services.settings import PROJECT
from services.validation import sandbox
from services.validation.errors import ModelFailed, ModelOverLimit, ValidationCancelled
from services.validation.loading import inspect
from services.validation.sandbox import Outcome
from services.validation.subjects import Limits, Subject
from tests.subjects import classifier_data, poisoned, saved, subject

CANARY = "canary-8f1d0c"
LIMITS = Limits(seconds=120, memory_bytes=2 << 30, output_bytes=8 << 20)

SPY = """
import os, socket
def attempt(name, act):
    try:
        print("SPY", name, "succeeded", act(), flush=True)
    except BaseException as error:
        print("SPY", name, "failed", type(error).__name__, flush=True)
attempt("write", lambda: open({marker!r}, "w").write("was here"))
attempt("change", lambda: open({model!r}, "a").write("#"))
attempt("read", lambda: open({secret!r}).read())
attempt("spy", lambda: open("/proc/{process}/environ").read())
attempt("list", lambda: os.listdir({home!r} + "/services"))
attempt("connect", lambda: socket.create_connection(("127.0.0.1", {port}), 5).sendall(b"hello"))
attempt("kill", lambda: os.kill({victim}, 9))
print("SPY environment", sorted(os.environ.items()), flush=True)
"""


@pytest.fixture(scope="module")
def isolated() -> None:
    """Skips where the kernel gives no namespaces; where it does, that we cannot isolate is a failure of ours."""
    wanted = "linux.NEW_MOUNTS | linux.NEW_PROCESSES | linux.NEW_NETWORK"
    wanted += "" if os.geteuid() == 0 else " | linux.NEW_USER"
    code = f"from evaluator import linux; linux.unshare({wanted}); linux.forget_propagation()"
    asked = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip(f"this machine gives no namespaces: {asked.stderr.splitlines()[-1]}")
    assert sandbox.isolation().available, sandbox.isolation().reason


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A small model in a pickle, to be poisoned."""
    folder = tmp_path_factory.mktemp("pickled") / "model"
    return saved(folder, DummyClassifier(), classifier_data()[0], serialization_format="pickle")


class Stage:
    """All that a spy could be after, outside the sandbox: files, a listener, a process, our environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marker, self.secret = folder / "marker", folder / "secret"
        self.secret.write_text(CANARY)
        self.secret.chmod(0o600)
        self.visited = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._listen, daemon=True).start()
        self.victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    def _listen(self) -> None:
        while True:
            try:
                self._listener.accept()[0].close()
            except OSError:
                return
            self.visited.set()

    def spy(self, model: Path) -> str:
        """The spy's code."""
        return SPY.format(
            marker=str(self.marker),
            model=str(model / "MLmodel"),
            secret=str(self.secret),
            process=os.getpid(),
            home=str(PROJECT),
            port=self._listener.getsockname()[1],
            victim=self.victim.pid,
        )

    def close(self) -> None:
        self._listener.close()
        self.victim.kill()
        self.victim.communicate()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage of its own for each test."""
    monkeypatch.setenv("SIGNOFF_SECRET_KEY", CANARY)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", CANARY)
    (folder := tmp_path / "stage").mkdir()
    found = Stage(folder)
    yield found
    found.close()


def predicted(
    found: Subject,
    workspace: Path,
    *,
    isolate: bool = True,
    limits: Limits = LIMITS,
    cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Let a model predict ten rows."""
    data = workspace / "rows.pickle"
    data.write_bytes(pickle.dumps(classifier_data()[1].drop(columns="target").head(10)))
    data.chmod(0o444)
    loading = inspect(found)
    order = {
        "loader": loading.loader.value,
        "folder": str(found.folder),
        "file": str(loading.file),
        "data": str(data),
        "classifier": True,
    }
    return sandbox.run(
        "predict",
        order,
        whose="The candidate screening/v2",
        visible=[found.folder, data],
        workspace=workspace,
        limits=limits,
        isolate=isolate,
        cancelled=cancelled,
    )


def attempts(outcome: Outcome) -> dict[str, str]:
    """What a spy tried, and how it went."""
    lines = [line.split(maxsplit=3) for line in outcome.output.splitlines() if line.startswith("SPY")]
    return {line[1]: line[2] for line in lines if line[1] != "environment"}


def left_behind(workspace: Path) -> list[str]:
    """Processes that were started for this workspace and still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(workspace).encode() in entry.read_bytes():
                found.append(entry.parent.name)
        except OSError:
            continue  # it ended meanwhile
    return found


def until(reached: Callable[[], bool]) -> None:
    """Wait for something that is about to happen; a minute is for a machine that is busy elsewhere."""
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestReach:
    def test_a_pickle_neither_writes_reads_connects_nor_kills(
        self, isolated: None, pickled: Subject, stage: Stage, tmp_path: Path
    ) -> None:
        found = poisoned(pickled, tmp_path / "model", stage.spy(tmp_path / "model"))
        before = (found.folder / "MLmodel").read_bytes()

        outcome = predicted(found, tmp_path)

        assert set(attempts(outcome).values()) == {"failed"}
        assert len(attempts(outcome)) == 7
        assert not stage.marker.exists()
        assert not stage.visited.is_set()
        assert stage.victim.poll() is None
        assert (found.folder / "MLmodel").read_bytes() == before
        assert CANARY not in outcome.output
        assert outcome.result, "and it was evaluated all the same"

    def test_code_that_comes_with_a_model_does_not_either(self, isolated: None, stage: Stage, tmp_path: Path) -> None:
        (code := tmp_path / "spy.py").write_text(
            stage.spy(tmp_path / "model")
            + "class Model:\n    def predict(self, rows): return [0] * len(rows)\n"
            + "def _load_pyfunc(path): return Model()\n"
        )
        mlflow.pyfunc.save_model(
            tmp_path / "model", loader_module="spy", code_paths=[str(code)], pip_requirements=["mlflow"]
        )

        outcome = predicted(subject(tmp_path / "model"), tmp_path)

        assert set(attempts(outcome).values()) == {"failed"}
        assert not stage.marker.exists()
        assert not stage.visited.is_set()
        assert CANARY not in outcome.output

    def test_without_the_sandbox_all_of_it_succeeds_but_our_environment_is_not_there(
        self, pickled: Subject, stage: Stage, tmp_path: Path
    ) -> None:
        """What consent on a machine without isolation means; and the proof that the spy is a good one."""
        found = poisoned(pickled, tmp_path / "model", stage.spy(tmp_path / "model"))

        outcome = predicted(found, tmp_path, isolate=False)

        tried = attempts(outcome)
        tried.pop("spy")  # root without its capabilities may not look into a process that has them; others may
        assert set(tried.values()) == {"succeeded"}
        assert stage.marker.exists()
        assert stage.visited.wait(10)
        assert CANARY not in next(line for line in outcome.output.splitlines() if "SPY environment" in line)


class TestLimits:
    @pytest.mark.parametrize("isolate", [True, False], ids=["in the sandbox", "without isolation"])
    def test_a_model_that_sleeps_is_ended_with_its_time(
        self, isolate: bool, request: pytest.FixtureRequest, pickled: Subject, tmp_path: Path
    ) -> None:
        if isolate:
            request.getfixturevalue("isolated")
        found = poisoned(pickled, tmp_path / "model", "import time\ntime.sleep(600)")

        with pytest.raises(ModelOverLimit, match=r"The candidate screening/v2 was stopped: it took longer than 2 s"):
            predicted(found, tmp_path, isolate=isolate, limits=Limits(seconds=2))

        assert left_behind(tmp_path) == []

    @pytest.mark.parametrize("isolate", [True, False], ids=["in the sandbox", "without isolation"])
    def test_a_daemon_does_not_outlive_the_model_that_started_it(
        self, isolate: bool, request: pytest.FixtureRequest, pickled: Subject, tmp_path: Path
    ) -> None:
        if isolate:
            request.getfixturevalue("isolated")
        daemon = (
            "import os, time\n"
            "open('left', 'w').write('x')\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    if os.fork() == 0:\n"
            "        os.closerange(0, 100)\n"
            "        time.sleep(600)\n"
            "    os._exit(0)\n"
            "os.wait()\n"
        )

        outcome = predicted(poisoned(pickled, tmp_path / "model", daemon), tmp_path, isolate=isolate)

        assert outcome.result
        assert left_behind(tmp_path) == []
        assert not list(tmp_path.glob("scratch-*"))

    def test_a_model_that_takes_all_memory_is_stopped_and_says_so(self, pickled: Subject, tmp_path: Path) -> None:
        found = poisoned(pickled, tmp_path / "model", "hog = bytearray(8 << 30)")

        with pytest.raises(ModelOverLimit, match="needed more than 2 GB of memory"):
            predicted(found, tmp_path, isolate=sandbox.isolation().available)

    def test_a_model_that_takes_it_by_many_processes_is_stopped_too(self, pickled: Subject, tmp_path: Path) -> None:
        hogs = (
            "import os, time\n"
            "for _ in range(4):\n"
            "    if os.fork() == 0:\n"
            "        hog = bytearray(b'x') * (400 << 20)\n"
            "        time.sleep(600)\n"
            "time.sleep(600)\n"
        )

        with pytest.raises(ModelOverLimit, match="needed more than 1 GB of memory"):
            predicted(
                poisoned(pickled, tmp_path / "model", hogs),
                tmp_path,
                isolate=sandbox.isolation().available,
                limits=Limits(seconds=120, memory_bytes=1 << 30),
            )

        assert left_behind(tmp_path) == []

    def test_a_model_that_fills_the_disk_fills_its_scratch_folder_only(
        self, isolated: None, pickled: Subject, tmp_path: Path
    ) -> None:
        flood = "for number in range(40):\n    open(str(number), 'wb').write(bytes(1 << 20))"

        with pytest.raises(ModelOverLimit, match="wrote more than 8 MB"):
            predicted(poisoned(pickled, tmp_path / "model", flood), tmp_path)

    def test_a_model_that_answers_without_end_is_cut_off(self, pickled: Subject, tmp_path: Path) -> None:
        flood = (
            "import json, os, sys\n"
            "fd = json.loads(sys.argv[1])['result_fd']\n"
            "while True:\n"
            "    os.write(fd, bytes(1 << 20))\n"
        )

        with pytest.raises(ModelOverLimit, match="wrote more than 8 MB"):
            predicted(poisoned(pickled, tmp_path / "model", flood), tmp_path, isolate=sandbox.isolation().available)

    def test_a_model_that_chatters_is_heard_in_part(self, pickled: Subject, tmp_path: Path) -> None:
        found = poisoned(pickled, tmp_path / "model", "print('x' * 3_000_000)")

        outcome = predicted(found, tmp_path, isolate=sandbox.isolation().available)

        assert len(outcome.output) == sandbox.MAX_OUTPUT
        assert outcome.result


class TestEnding:
    def test_stopping_stops_it_at_once(self, pickled: Subject, tmp_path: Path) -> None:
        found = poisoned(pickled, tmp_path / "model", "import time\ntime.sleep(600)")
        asked = iter([False, False, True])

        with pytest.raises(ValidationCancelled):
            predicted(found, tmp_path, isolate=sandbox.isolation().available, cancelled=lambda: next(asked))

        assert left_behind(tmp_path) == []

    def test_a_model_that_cannot_be_loaded_says_why(self, pickled: Subject, tmp_path: Path) -> None:
        found = poisoned(pickled, tmp_path / "model", "import no_such_library")

        with pytest.raises(ModelFailed, match=r"could not be loaded: ModuleNotFoundError: No module named 'no_such_"):
            predicted(found, tmp_path, isolate=sandbox.isolation().available)

    def test_a_model_that_crashes_says_by_which_signal(self, pickled: Subject, tmp_path: Path) -> None:
        found = poisoned(pickled, tmp_path / "model", "import os\nos.kill(os.getpid(), 11)")

        with pytest.raises(ModelFailed, match="its process was ended by signal 11"):
            predicted(found, tmp_path, isolate=sandbox.isolation().available)

    def test_it_does_not_outlive_a_server_that_is_killed(self, pickled: Subject, tmp_path: Path) -> None:
        found = poisoned(pickled, tmp_path / "model", "import time\ntime.sleep(600)")
        asked = (
            "import json, sys\n"
            "from pathlib import Path\n"
            "from services.validation import sandbox\n"
            "from services.validation.subjects import Limits\n"
            "folder = Path(sys.argv[1])\n"
            "file = str(folder / 'model/model.pkl')\n"
            "sandbox.run('predict', {'loader': 'pickle', 'file': file}, whose='It', visible=[folder / 'model'],\n"
            "    workspace=folder, limits=Limits(seconds=600), isolate=sandbox.isolation().available,\n"
            "    cancelled=lambda: False)\n"
        )
        server = subprocess.Popen([sys.executable, "-c", asked, str(tmp_path)], cwd=PROJECT)
        until(lambda: len(left_behind(tmp_path)) >= 3)  # the server itself, the jail, and the model in it

        server.kill()
        server.wait()

        assert found.folder.exists()
        until(lambda: not left_behind(tmp_path))


class TestRefusal:
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up what isolating needs")
    def test_a_machine_that_refuses_says_so_and_nothing_runs(self) -> None:
        """As in a container without CAP_SYS_ADMIN."""
        code = (
            "import os, sys\n"
            "from evaluator import linux\n"
            "linux.give_up_privileges()\n"
            "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])\n"
        )
        asked = (
            "import json\n"
            "from services.validation.sandbox import isolation\n"
            "print(json.dumps([isolation().available, isolation().reason, list(isolation().words)]))"
        )

        said = subprocess.run(
            [sys.executable, "-c", code, asked], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout

        available, reason, words = json.loads(said)
        assert (available, words) == (False, [])
        assert "Operation not permitted" in reason
