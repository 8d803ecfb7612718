"""The hook's entry points where `mlflow server --app-name signoff` finds them, without installing anything."""

from __future__ import annotations

import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
GROUP = "mlflow.app"


def entry_points(folder: Path) -> Path:
    """Write the metadata an installation would write; returns the folder to put on the path, beside the project's.

    Several processes may do so at once: whoever comes last writes the same.
    """
    project = tomllib.loads((PROJECT / "mlflow_gate" / "pyproject.toml").read_text())["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir(parents=True, exist_ok=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n")
    lines = (f"{app} = {target}\n" for app, target in project["entry-points"][GROUP].items())
    (place / "entry_points.txt").write_text(f"[{GROUP}]\n{''.join(lines)}")
    return folder


def python_path(folder: Path) -> str:
    """PYTHONPATH of an MLflow server with the hook."""
    return f"{PROJECT}:{entry_points(folder)}"
