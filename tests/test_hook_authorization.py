"""The mutating routes that MLflow's own authorization guards, and how the hook treats each of them.

The names are those of MLflow's requests, as its `tests/server/auth` and the tables of `mlflow/server/auth` list them;
what only its main branch has is listed apart, so that an upgrade to it has to be decided on here.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from mlflow.server import app as flask_app
from mlflow.server.fastapi_app import app as fastapi_app
from mlflow.server.handlers import HANDLERS

from tests.test_hook_routes import ASKED, DECIDED, DESCRIBES, NOTHING_OF_MODELS, WORKSPACES

ASKED_FOR, WORDS, ELSEWHERE, WORKSPACE = (
    "asked about",
    "free: a name or a description",
    "free: no registered model there",
    "free: nothing is promoted in another workspace",
)
GUARDED = {
    # experiments
    "CreateExperiment": ASKED_FOR,
    "DeleteExperiment": ASKED_FOR,
    "RestoreExperiment": ASKED_FOR,
    "UpdateExperiment": ASKED_FOR,
    "SetExperimentTag": ASKED_FOR,
    "DeleteExperimentTag": ASKED_FOR,
    # runs
    "CreateRun": ASKED_FOR,
    "DeleteRun": ASKED_FOR,
    "RestoreRun": ASKED_FOR,
    "UpdateRun": ASKED_FOR,
    "LogMetric": ASKED_FOR,
    "LogBatch": ASKED_FOR,
    "LogInputs": ASKED_FOR,
    "LogModel": ASKED_FOR,
    "LogOutputs": ASKED_FOR,
    "SetTag": ASKED_FOR,
    "DeleteTag": ASKED_FOR,
    "LogParam": ASKED_FOR,
    "CreatePresignedUploadUrl": ASKED_FOR,
    # logged models
    "CreateLoggedModel": ASKED_FOR,
    "DeleteLoggedModel": ASKED_FOR,
    "FinalizeLoggedModel": ASKED_FOR,
    "DeleteLoggedModelTag": ASKED_FOR,
    "SetLoggedModelTags": ASKED_FOR,
    "LogLoggedModelParamsRequest": ASKED_FOR,
    # the registry
    "CreateRegisteredModel": WORDS,
    "DeleteRegisteredModel": ASKED_FOR,
    "UpdateRegisteredModel": WORDS,
    "RenameRegisteredModel": ASKED_FOR,
    "CreateModelVersion": ASKED_FOR,
    "DeleteModelVersion": ASKED_FOR,
    "UpdateModelVersion": WORDS,
    "TransitionModelVersionStage": ASKED_FOR,
    "SetRegisteredModelTag": ASKED_FOR,
    "DeleteRegisteredModelTag": ASKED_FOR,
    "SetModelVersionTag": ASKED_FOR,
    "DeleteModelVersionTag": ASKED_FOR,
    "SetRegisteredModelAlias": ASKED_FOR,
    "DeleteRegisteredModelAlias": ASKED_FOR,
    # artifacts
    "UploadArtifact": ASKED_FOR,
    "DeleteArtifact": ASKED_FOR,
    "CreateMultipartUpload": ASKED_FOR,
    "CompleteMultipartUpload": ASKED_FOR,
    # jobs that end with runs
    "DeletePromptOptimizationJob": ASKED_FOR,
    "CreatePromptOptimizationJob": ELSEWHERE,
    "CancelPromptOptimizationJob": ELSEWHERE,
    # traces, assessments, issues
    **dict.fromkeys(
        (
            "StartTrace", "StartTraceV3", "EndTrace", "DeleteTraces", "DeleteTracesV3", "SetTraceTag", "SetTraceTagV3",
            "DeleteTraceTag", "DeleteTraceTagV3", "LinkTracesToRun", "LinkPromptsToTrace", "CreateAssessment",
            "UpdateAssessment", "DeleteAssessment", "CreateIssue", "UpdateIssue",
        ),
        ELSEWHERE,
    ),
    # reviews of traces, scorers, evaluation data sets
    **dict.fromkeys(
        (
            "CreateReviewQueue", "GetOrCreateUserQueue", "UpdateReviewQueue", "DeleteReviewQueue",
            "AddItemsToReviewQueue", "RemoveItemsFromReviewQueue", "SetReviewQueueItemStatus", "CreateLabelSchema",
            "UpdateLabelSchema", "DeleteLabelSchema", "RegisterScorer", "DeleteScorer", "CreateDataset",
            "DeleteDataset", "SetDatasetTags", "DeleteDatasetTag", "UpsertDatasetRecords", "DeleteDatasetRecords",
            "AddDatasetToExperiments", "RemoveDatasetFromExperiments",
        ),
        ELSEWHERE,
    ),
    # gateways
    **dict.fromkeys(
        (
            "CreateGatewaySecret", "UpdateGatewaySecret", "DeleteGatewaySecret", "CreateGatewayEndpoint",
            "UpdateGatewayEndpoint", "DeleteGatewayEndpoint", "CreateGatewayModelDefinition",
            "UpdateGatewayModelDefinition", "DeleteGatewayModelDefinition", "CreateGatewayBudgetPolicy",
            "UpdateGatewayBudgetPolicy", "DeleteGatewayBudgetPolicy", "CreateGatewayGuardrail",
            "DeleteGatewayGuardrail", "AddGuardrailToEndpoint", "RemoveGuardrailFromEndpoint",
            "UpdateEndpointGuardrailConfig", "AttachModelToGatewayEndpoint", "DetachModelFromGatewayEndpoint",
            "CreateGatewayEndpointBinding", "DeleteGatewayEndpointBinding", "SetGatewayEndpointTag",
            "DeleteGatewayEndpointTag",
        ),
        ELSEWHERE,
    ),
    # webhooks, workspaces
    **dict.fromkeys(("CreateWebhook", "UpdateWebhook", "DeleteWebhook", "TestWebhook"), ELSEWHERE),
    **dict.fromkeys(("CreateWorkspace", "UpdateWorkspace", "DeleteWorkspace"), WORKSPACE),
}  # fmt: skip
OF_NO_REQUEST = {
    "UPLOAD_ARTIFACT": ("_upload_artifact", ASKED_FOR),
    "CREATE_PROMPTLAB_RUN": ("serve_create_promptlab_run", ASKED_FOR),
    "DEMO_DELETE": ("_delete_demo", ASKED_FOR),
    "DEMO_GENERATE": ("_generate_demo", ELSEWHERE),
    "GATEWAY_PROXY": ("serve_gateway_proxy", ELSEWHERE),
    "INVOKE_SCORER": ("_invoke_scorer_handler", ELSEWHERE),
    "INVOKE_ISSUE_DETECTION": ("_invoke_issue_detection_handler", ELSEWHERE),
    "INVOKE_GENAI_EVALUATE": ("_invoke_genai_evaluate_handler", ELSEWHERE),
    "ONLINE_SCORING_CONFIG": ("_upsert_online_scoring_config", ELSEWHERE),
    "JOB_CANCEL": ("_cancel_job", ELSEWHERE),
    "UI_TELEMETRY": ("serve_post_ui_telemetry", ELSEWHERE),
}
"""Routes that have no request of MLflow's: their name in `mlflow/server/auth/routes.py`, and who serves them."""
PEOPLE_AND_ROLES = (
    "CREATE_USER", "CREATE_USER_UI", "UPDATE_USER_PASSWORD", "UPDATE_USER_ADMIN", "DELETE_USER",
    "GRANT_USER_PERMISSION", "REVOKE_USER_PERMISSION", "CREATE_ROLE", "UPDATE_ROLE", "DELETE_ROLE",
    "ADD_ROLE_PERMISSION", "REMOVE_ROLE_PERMISSION", "UPDATE_ROLE_PERMISSION", "ASSIGN_ROLE", "UNASSIGN_ROLE",
)  # fmt: skip
"""Free: who may do what at MLflow is MLflow's; what its admins allow is asked about all the same."""
ON_MAIN_ONLY = {
    "skills": "not in 3.17.2: create, update, delete, register and bulk-register of skills, their tags, aliases and "
    "versions; free, as no registered model is there",
    "mutation-conditions": "not in 3.17.2: add, update and remove for a role or a user; free, as they only narrow",
}
"""What a route of it has in its path → how it would be treated."""


def of(treatment: str) -> set[str]:
    """The handlers that are treated so, in our own table of routes."""
    groups = {
        ASKED_FOR: set(ASKED),
        WORDS: DESCRIBES,
        ELSEWHERE: NOTHING_OF_MODELS,
        WORKSPACE: WORKSPACES,
    }
    return groups[treatment]


@pytest.mark.parametrize("name", GUARDED)
def test_what_mlflow_guards_is_treated_as_our_table_says(name: str) -> None:
    (handler,) = [handler.__name__ for request, handler in HANDLERS.items() if request.__name__ == name]
    assert handler in of(GUARDED[name])


def test_nothing_else_of_mlflows_requests_changes_anything() -> None:
    """Whatever our table decides on and MLflow has a request for is in this list."""
    listed = {handler.__name__ for request, handler in HANDLERS.items() if request.__name__ in GUARDED}
    served = {handler.__name__ for handler in HANDLERS.values()}
    groups = set(ASKED) | DESCRIBES | WORKSPACES | NOTHING_OF_MODELS
    assert (groups & served) - listed - {"_not_implemented"} == set()


@pytest.mark.parametrize("name", OF_NO_REQUEST)
def test_routes_without_a_request_are_treated_as_our_table_says(name: str) -> None:
    handler, treatment = OF_NO_REQUEST[name]
    assert handler in of(treatment)
    assert f"\n{name} = " in routes_of_mlflow()


@pytest.mark.parametrize("name", PEOPLE_AND_ROLES)
def test_routes_of_people_and_roles_are_none_of_the_plain_server(name: str) -> None:
    (line,) = [line for line in routes_of_mlflow().splitlines() if line.startswith(f"{name} = ")]
    path = line.partition('"')[2].partition('"')[0]
    assert path
    assert not [rule for rule in flask_app.url_map.iter_rules() if rule.rule.endswith(path)]
    assert name not in DECIDED


@pytest.mark.parametrize("word", ON_MAIN_ONLY)
def test_what_only_the_main_branch_has_is_not_here(word: str) -> None:
    """When this fails, MLflow was upgraded: decide on these routes in test_hook_routes.py."""
    paths = [rule.rule for rule in flask_app.url_map.iter_rules()]
    paths += [str(getattr(route, "path", "")) for route in fastapi_app.routes]
    assert not [path for path in paths if f"/{word}" in path]


def routes_of_mlflow() -> str:
    """The text of its module: importing it would start its authorization."""
    spec = find_spec("mlflow.server")
    assert spec
    assert spec.origin
    return (Path(spec.origin).parent / "auth" / "routes.py").read_text()
