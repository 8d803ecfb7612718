"""Whether another MLflow server lets Signoff in, asked as MLflow's own client asks; each finding is one sentence."""

from __future__ import annotations

from typing import Any

import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from services import certificates
from stack.answers import without_password

ASKED = "/api/2.0/mlflow/registered-models/search"
SECONDS = 10
ACCOUNT = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of an admin of MLflow."


def refusal(uri: str) -> str | None:
    """Why Signoff cannot govern the MLflow server at ``uri`` as things are; None when it can.

    It takes `SECONDS` at most: one request, never repeated.
    """
    server = without_password(uri)
    try:
        creds = get_default_host_creds(uri)
        answer = http_request(
            creds, ASKED, "GET", params={"max_results": 1}, max_retries=0, timeout=SECONDS, raise_on_status=False
        )
    except MlflowException as error:
        return _unanswered(error.__cause__ or error.__context__, server)
    if answer.status_code == 401 and not (creds.username or creds.token or server != uri):
        return f"MLflow at {server} asks for a log-in; {ACCOUNT}"
    if answer.status_code == 401:
        return f"MLflow at {server} does not accept the name and password of Signoff's account (401); {ACCOUNT}"
    if answer.status_code == 403:
        return f"MLflow at {server} does not let Signoff's account read the registry (403); {ACCOUNT}"
    if answer.status_code == 200 and _is_mlflow(answer):
        return None
    said = "no list of models" if answer.status_code == 200 else f"status {answer.status_code}"
    return f"What answers at {server} gives {said} where MLflow lists its models; is MLFLOW_TRACKING_URI right?"


def _unanswered(error: BaseException | None, server: str) -> str:
    if why := certificates.unusable(server, certificates.MLFLOW):
        return why
    if isinstance(error, requests.exceptions.SSLError):
        why = str(error).rpartition("[SSL")[2].partition("] ")[2].partition(" (_ssl")[0] or "TLS fails"
        return (
            f"The connection to {server} is not secure ({why}); name a file with the right certificates in "
            "MLFLOW_TRACKING_SERVER_CERT_PATH, or correct MLFLOW_TRACKING_URI."
        )
    if "timed out" in str(error):
        return f"MLflow does not answer at {server} within {SECONDS} seconds; is MLFLOW_TRACKING_URI right?"
    return f"MLflow does not answer at {server}; start it, or set MLFLOW_TRACKING_URI to where it runs."


def _is_mlflow(answer: Any) -> bool:
    try:
        found = answer.json()
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() <= {"registered_models", "next_page_token"}
