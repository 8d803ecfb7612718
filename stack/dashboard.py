"""What comes before the dashboard: demo accounts or none, and on first start the sample registry. Then `app.py`."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context

from mlflow_gate.__main__ import main as gate_index
from services.accounts import demo
from services.database import Database
from services.errors import SignoffError
from services.settings import PROJECT, Settings, private_file
from stack import screen
from stack.answers import answers
from stack.preflight import mlflow_database
from web.health import SAMPLE_COMPLETE
from web.passwords import BcryptPasswords

PASSWORD = "SIGNOFF_DEMO_PASSWORD"  # noqa: S105  (the name of the variable)
WORKERS = 2
MODELS = ("breast_cancer_screening", "digit_recognition", "wine_cultivar", "diabetes_progression")
"""Longest first, so that both workers end at about the same time."""


def main() -> None:
    """Prepare, then become the dashboard."""
    settings = Settings.read()
    environment = {name: value for name, value in os.environ.items() if name != PASSWORD}
    try:
        demo_accounts(settings, os.environ.get(PASSWORD) or None)
    except (SignoffError, OSError) as error:
        screen.failure(f"The accounts cannot be prepared: {error}")
        sys.exit(1)
    untold = settings.demo and not (settings.home / SAMPLE_COMPLETE).exists()
    if untold:
        train_all(settings.mlflow_uri)
    if untold or (settings.embedded and not settings.demo):
        _wait_for(settings.mlflow_uri)
        gate_index(["index", f"sqlite:///{mlflow_database(settings.home)}"])
    if untold:
        # Ends by itself, and with the dashboard: both are of one process group.
        subprocess.Popen([sys.executable, "-m", "stack.sample.history"], env=environment)
    os.execve(sys.executable, [sys.executable, str(PROJECT / "app.py")], environment)  # noqa: S606  (none is wanted)


def demo_accounts(settings: Settings, given: str | None) -> None:
    """Make them in the embedded stack; disable those that an earlier Signoff made in any other database.

    Raises:
        SignoffError: as `services.accounts.demo` raises it.
    """
    database, passwords, at = Database.of(settings), BcryptPasswords(), datetime.now(UTC)
    kept = settings.home / demo.PASSWORD_FILE
    if settings.demo:
        password = given or private_file(kept, secrets.token_urlsafe(9))
        demo.ensure(database, password, passwords, given=given is not None, at=at)
        return
    known = given or (kept.read_text().strip() if kept.exists() else None)
    if ended := demo.disable(database, passwords, known=known, at=at):
        screen.progress(f"disabled the demo accounts {', '.join(ended)}: everybody knows their password")


def train_all(uri: str) -> None:
    """Train what is missing, as soon as MLflow answers; a worker imports MLflow while the server still starts."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(_train, uri, name) for name in MODELS]
        try:
            for task in tasks:
                task.result()
        except Exception as error:
            pool.shutdown(cancel_futures=True)
            screen.failure(f"The sample registry cannot be trained: {type(error).__name__}: {error}")
            sys.exit(1)


def _train(uri: str, name: str) -> None:
    from stack.sample.training import train

    _wait_for(uri)
    for line in train(uri, name):
        screen.progress(line)


def _wait_for(uri: str) -> None:
    while not answers(f"{uri}/health"):
        time.sleep(0.2)


if __name__ == "__main__":
    main()
