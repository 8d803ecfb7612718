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
