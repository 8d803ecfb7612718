"""What comes before the dashboard: accounts, and on first start the sample registry. Then `app.py` takes over."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from mlflow_gate.__main__ import main as gate_index
from services.accounts import people
from services.database import Database
from services.errors import SignoffError
from services.settings import PROJECT, Settings
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
        people.ensure_demo_accounts(Database.of(settings), os.environ[PASSWORD], BcryptPasswords())
    except SignoffError as error:
        screen.failure(f"The demo accounts cannot be made: {error}")
        sys.exit(1)
    if settings.embedded and not (settings.home / SAMPLE_COMPLETE).exists():
        train_all(settings.mlflow_uri)
        gate_index(["index", f"sqlite:///{mlflow_database(settings.home)}"])
        # Ends by itself, and with the dashboard: both are of one process group.
        subprocess.Popen([sys.executable, "-m", "stack.sample.history"], env=environment)
    os.execve(sys.executable, [sys.executable, str(PROJECT / "app.py")], environment)  # noqa: S606  (none is wanted)


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

    while not answers(f"{uri}/health"):
        time.sleep(0.2)
    for line in train(uri, name):
        screen.progress(line)


if __name__ == "__main__":
    main()
