"""Which MLflow servers the hook fits: it overrides what is private to MLflow, so each version is tested first."""

from __future__ import annotations

import click
from mlflow.version import VERSION

OLDEST, NEWEST = (3, 16), (3, 17)
"""Tested from the first to the last release of these; pyproject.toml says the same to pip."""


def require(version: str = VERSION) -> None:
    """Raise `ClickException`, which ends ``mlflow server`` with one sentence, for a version that the hook does not fit.

    A store that no longer has a method which the hook overrides would be written to without asking.
    """
    if not OLDEST <= tuple(int(part) for part in version.split(".")[:2]) <= NEWEST:
        raise click.ClickException(
            f"The hook of Signoff fits MLflow {_said(OLDEST)} to {_said(NEWEST)}, and this is {version}. "
            "Install one of those, or a newer mlflow_gate."
        )
    try:
        from mlflow_gate import installing
    except ImportError as error:
        raise click.ClickException(f"The hook of Signoff does not fit this MLflow {version}: {error}.") from error
    if gone := installing.gone():
        raise click.ClickException(
            f"The hook of Signoff does not fit this MLflow {version}, whose stores have no {', '.join(gone)}."
        )


def _said(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
