"""``mlflow server --app-name signoff-auth``: the hook on top of MLflow's basic-auth.

MLflow imports this before it starts its workers, which is the moment to refuse. It looks for what basic-auth needs by
then for its own app by name, and for no other.
"""

from __future__ import annotations

from typing import Any

import click
from mlflow.environment_variables import _MLFLOW_SGI_NAME, MLFLOW_FLASK_SERVER_SECRET_KEY
from mlflow.exceptions import MlflowException

from mlflow_gate import supported

supported.require()


def _prepare() -> None:
    """Have MLflow make its admin, and find out what it lacks; before MLflow 3.17 each worker does that for itself."""
    import mlflow.server.auth

    if hasattr(mlflow.server, "_bootstrap_basic_auth"):
        mlflow.server._bootstrap_basic_auth()
    elif not MLFLOW_FLASK_SERVER_SECRET_KEY.get():
        raise MlflowException("A static secret key needs to be set in MLFLOW_FLASK_SERVER_SECRET_KEY.")


if not _MLFLOW_SGI_NAME.get():  # not in a worker: there it is set
    try:
        _prepare()
    except ImportError as error:
        raise click.ClickException(
            f"The app signoff-auth needs what MLflow's basic-auth needs ({error}): pip install 'mlflow[auth]'."
        ) from error
    except KeyError as error:
        raise click.ClickException(f"The configuration of MLflow's basic-auth has no {error}.") from error
    except MlflowException as error:
        raise click.ClickException(error.message) from error


def create_app() -> Any:
    """MLflow's server with its basic-auth, gated; whoever is logged in is the one who acts."""
    from mlflow.server import app as flask_app
    from mlflow.server.auth import create_app as with_auth

    from mlflow_gate.caller import Remembered
    from mlflow_gate.gate import Gate
    from mlflow_gate.installing import install

    install(Gate.from_environment())
    app = with_auth()
    return app if app is flask_app else Remembered(app)
