"""Which MLflow servers the hook fits, and the one sentence for all others."""

from __future__ import annotations

import importlib
import sys
import tomllib

import click
import pytest
from packaging.requirements import Requirement

from mlflow_gate import supported
from mlflow_gate.evidence import GatedTracking
from services.settings import PROJECT

OUTSIDE = ("2.22.5", "3.14.0", "3.15.2", "3.18.0", "3.18.0rc1", "4.0.0")
INSIDE = ("3.16.0", "3.16.1", "3.17.2")


@pytest.mark.parametrize("version", OUTSIDE)
def test_another_version_is_refused_with_those_that_fit(version: str) -> None:
    with pytest.raises(click.ClickException, match=rf"fits MLflow 3\.16 to 3\.17, and this is {version}\."):
        supported.require(version)


def test_pip_is_told_the_same() -> None:
    project = tomllib.loads((PROJECT / "mlflow_gate" / "pyproject.toml").read_text())["project"]
    asked = [Requirement(one) for one in (*project["dependencies"], *project["optional-dependencies"]["auth"])]
    for found in (one.specifier for one in asked if one.name == "mlflow"):
        assert [found.contains(version) for version in (*INSIDE, *OUTSIDE)] == [True] * 3 + [False] * 6


def test_a_store_without_what_the_hook_overrides_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    supported.require()
    monkeypatch.setattr(GatedTracking, "log_of_old", GatedTracking.log_batch, raising=False)
    with pytest.raises(click.ClickException, match="whose stores have no log_of_old"):
        supported.require()


@pytest.mark.parametrize("door", ["app", "with_auth"])
def test_a_server_asks_before_it_starts_any_worker(monkeypatch: pytest.MonkeyPatch, door: str) -> None:
    """MLflow imports the door for that."""
    monkeypatch.setattr(supported, "require", lambda: pytest.fail("asked"))
    monkeypatch.delitem(sys.modules, f"mlflow_gate.{door}", raising=False)
    with pytest.raises(pytest.fail.Exception, match="asked"):
        importlib.import_module(f"mlflow_gate.{door}")
