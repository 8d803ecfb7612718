"""``mlflow server --app-name signoff``: MLflow's server, whose stores and artifact repositories ask first."""

from __future__ import annotations

from typing import Any

from mlflow_gate import supported

supported.require()  # MLflow imports this before it starts its workers, which it would start again and again


def create_app() -> Any:
    """MLflow's server, gated."""
    from mlflow_gate.installing import gated

    return gated()
