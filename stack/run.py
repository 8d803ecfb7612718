"""`make run`: an MLflow server and the dashboard in the foreground, until Ctrl-C.

Where MLFLOW_TRACKING_URI is set, only the dashboard, which governs that server.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stack import preflight
from stack.answers import address, answers
from stack.hook import python_path

if TYPE_CHECKING:
    from services.settings import Settings
    from stack.processes import Logs

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a process of its own, for what MLflow offers around LLMs
    "GIT_PYTHON_REFRESH": "quiet",
    "PYTHONUNBUFFERED": "1",
}


def main() -> None:
    """Check, start, announce; ends with 0 after Ctrl-C and with 1 after one sentence otherwise."""
    try:
        sys.exit(_run())
    except preflight.CannotStart as error:
        sys.exit(f"Signoff cannot start: {error}")
    except OSError as error:  # of a file in SIGNOFF_HOME that is made only now; no process was started yet
        sys.exit(f"Signoff cannot start: {preflight.unusable(error)}")
    except KeyboardInterrupt:
        sys.exit(0)


def _run() -> int:
    preflight.dependencies()
    settings = preflight.settings()
    lock = preflight.home_lock(settings.home)
    preflight.ports(settings)
    preflight.mlflow(settings)
    record = preflight.database(settings)  # last: where something else is wrong, no new record begins
    with lock:
        return _supervise(settings, record)


def _supervise(settings: Settings, record: str) -> int:
    from stack.processes import Logs, Processes

    folder = settings.home / "logs"
    sentence = _password(settings) if settings.demo else ""
    logs = Logs(folder, lambda text: print(f"  · {text}", flush=True))
    announcer = threading.Thread(target=_announce, args=(settings, sentence), daemon=True)
    processes = Processes(logs, on_start=announcer.start)
    environment = {
        **os.environ,
        **QUIET,
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "MLFLOW_TRACKING_URI": settings.mlflow_uri,
        **_gate_token(settings),
        **({"SIGNOFF_EMBEDDED": "1"} if settings.embedded else {}),
    }
    if settings.embedded:
        theirs = {
            **_theirs(environment),
            "PYTHONPATH": python_path(settings.home / "hook"),
            "SIGNOFF_GATE_URL": address(settings),
            "SIGNOFF_GATE_NAMES": str(settings.home / "gate-names.json"),
        }
        processes.add_process("mlflow", _mlflow_server(settings), env=theirs)
    processes.add_process("dashboard", _command("-m", "stack.dashboard"), env=environment)
    print(record, flush=True)
    logs.note("dashboard", record)
    print(f"Starting {'MLflow and the dashboard' if settings.embedded else 'the dashboard'} …", flush=True)
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    processes.loop()
    return _farewell(processes.returncode, logs, folder)


def _theirs(environment: Mapping[str, str]) -> dict[str, str]:
    """What is the MLflow server's business: of our settings the hook's alone, and none of our keys and databases."""
    own = {"MLFLOW_TRACKING_URI", *(name for name in environment if name.startswith("SIGNOFF_"))}
    return {name: value for name, value in environment.items() if name not in own or name.startswith("SIGNOFF_GATE_")}


def _gate_token(settings: Settings) -> dict[str, str]:
    """What the embedded MLflow server proves itself with, kept for the next start; for another server it is given."""
    from services.settings import private_file

    if not settings.embedded:
        return {}
    given = os.environ.get("SIGNOFF_GATE_TOKEN")
    return {"SIGNOFF_GATE_TOKEN": given or private_file(settings.home / "gate-token", secrets.token_urlsafe(32))}


def _command(*arguments: str) -> str:
    return f"exec {shlex.join([sys.executable, *arguments])}"


def _mlflow_server(settings: Settings) -> str:
    """One worker: several answer 42 ms slower each without uvloop, and SQLite has one writer anyway."""
    return _command(
        *(
            "-m",
            "mlflow",
            "server",
            "--app-name",
            "signoff",
            "--host",
            "127.0.0.1",
            "--port",
            str(settings.mlflow_port),
            "--workers",
            "1",
        ),
        *("--backend-store-uri", f"sqlite:///{preflight.mlflow_database(settings.home)}"),
        *("--artifacts-destination", str(settings.home / "artifacts"), "--serve-artifacts"),
        *("--uvicorn-opts", "--log-level warning"),
    )


def _password(settings: Settings, environ: Mapping[str, str] = os.environ) -> str:
    """What to say of the demo accounts' password: the password itself until a first start was complete."""
    from services.accounts.demo import PASSWORD_FILE
    from services.settings import private_file
    from web.health import SAMPLE_COMPLETE

    if environ.get("SIGNOFF_DEMO_PASSWORD"):
        return "The password of all of them is SIGNOFF_DEMO_PASSWORD."
    file = settings.home / PASSWORD_FILE
    told = file.exists() and (settings.home / SAMPLE_COMPLETE).exists()
    password = private_file(file, secrets.token_urlsafe(9))
    if not told:
        return f"The password of all of them is  {password}  (kept in {_short(file)})."
    return f"The password of all of them that was not changed is in {_short(file)}."


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _announce(settings: Settings, password: str) -> None:
    from stack.banner import banner, demo_people, first_admin

    while not answers(f"{address(settings)}/readyz"):
        time.sleep(0.3)
    people = demo_people(password) if settings.demo else first_admin(settings)
    print(banner(settings, people, logs=_short(settings.home / "logs")), flush=True)


def _farewell(returncode: int, logs: Logs, folder: Path) -> int:
    if logs.failure:
        print(f"Signoff stopped: {logs.failure}", file=sys.stderr)
        return 1
    if returncode in {128 + signal.SIGINT, 128 + signal.SIGTERM}:
        print("Stopped; all data stays.")
        return 0
    print(
        f"Signoff stopped: {logs.ended or 'nothing could be started'}. The logs are in {_short(folder)}.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    main()
