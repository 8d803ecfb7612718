"""Every call of MLflow's that can change something, and what we decided about it. A new one fails this test."""

from __future__ import annotations

import re

import pytest
from fastapi import APIRouter
from mlflow.server import app as flask_app
from mlflow.server.fastapi_app import app as fastapi_app
from mlflow.store.artifact import artifact_repo
from mlflow.store.model_registry.abstract_store import AbstractStore as AbstractRegistry
from mlflow.store.tracking.abstract_store import AbstractStore as AbstractTracking
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as SqlTracking

from mlflow_gate.evidence import GatedTracking
from mlflow_gate.files import GuardedArtifacts
from mlflow_gate.registry import GatedRegistry

READ_METHODS = {"GET", "HEAD", "OPTIONS"}

ASKED = {
    "_transition_stage": "always",
    "_set_registered_model_alias": "a protected alias",
    "_delete_registered_model_alias": "a protected alias",
    "_set_model_version_tag": "a tag of the record, or one that hides",
    "_delete_model_version_tag": "a tag of the record",
    "_create_model_version": "with such a tag",
    "_set_registered_model_tag": "the tag that hides, or one that policies are chosen by",
    "_delete_registered_model_tag": "the tag that hides, or one that policies are chosen by",
    "_rename_registered_model": "always",
    "_delete_registered_model": "always",
    "_delete_model_version": "always",
    "_upload_artifact": "below a registered version",
    "_delete_artifact_mlflow_artifacts": "below or above a registered version",
    "_create_multipart_upload_artifact": "below a registered version",
    "_complete_multipart_upload_artifact": "below a registered version",
    "_create_presigned_upload_url": "below a registered version",
    "serve_upload_artifact": "below a registered version",
    "serve_create_promptlab_run": "below a registered version",
    "_delete_run": "named by a registered version, or with its files",
    "_delete_logged_model": "named by a registered version, or with its files",
    "_delete_experiment": "with a run, a logged model or the files of a registered version",
    "_update_run": "a run that a registered version names, unless it ends now",
    "_set_tag": "a run that a registered version names",
    "_delete_tag": "a run that a registered version names",
    "_log_batch": "a run that a registered version names, or a logged model",
    "_log_metric": "a run that a registered version names, or a logged model",
    "_log_param": "a run that a registered version names",
    "_log_inputs": "a run that a registered version names",
    "_log_outputs": "a run that a registered version names",
    "_log_model": "a run that a registered version names",
    "_create_logged_model": "of a run that a registered version names",
    "_finalize_logged_model": "named by a registered version",
    "_log_logged_model_params": "named by a registered version",
    "_set_logged_model_tags": "named by a registered version",
    "_delete_logged_model_tag": "named by a registered version",
    "_create_experiment": "called signoff-…",
    "_update_experiment": "Signoff's own, or to be called signoff-…",
    "_restore_experiment": "Signoff's own",
    "_set_experiment_tag": "Signoff's own",
    "_delete_experiment_tag": "Signoff's own",
    "_create_run": "in an experiment of Signoff's own",
    "_restore_run": "in an experiment of Signoff's own",
    "_delete_demo": "with the files of a registered version, or with a registered model of a demo's name",
    "_delete_prompt_optimization_job": "with the files of a registered version, in its run",
}
"""Through the store or the artifact repository, by whatever route; also in an experiment of Signoff's own."""

DESCRIBES = {"_create_registered_model", "_update_registered_model", "_update_model_version"}
"""Free: a name nothing is registered under, or a description."""

ABORTS = {"_abort_multipart_upload_artifact"}
"""Free: what was never completed is given up."""

WORKSPACES = {"_create_workspace_handler", "_update_workspace_handler", "_delete_workspace_handler"}
"""Free: only the default workspace is governed, which MLflow does not delete, and nothing is promoted in another."""

READS = {
    "_batch_get_trace_infos", "_calculate_trace_filter_correlation", "_create_presigned_download_url",
    "_get_latest_versions", "_query_trace_metrics", "_search_evaluation_datasets_handler", "_search_experiments",
    "_search_issues", "_search_logged_models", "_search_prompt_optimization_jobs", "_search_runs",
    "_search_traces_v3", "serve_search_datasets", "_graphql",
}  # fmt: skip
"""Free: reads that are sent as POST."""

NOTHING_OF_MODELS = {
    "_add_dataset_to_experiments_handler", "_create_dataset_handler", "_delete_dataset_handler",
    "_delete_dataset_records_handler", "_delete_dataset_tag_handler", "_remove_dataset_from_experiments_handler",
    "_set_dataset_tags_handler", "_upsert_dataset_records_handler",
    "_add_guardrail_to_endpoint", "_attach_model_to_gateway_endpoint", "_create_budget_policy",
    "_create_gateway_endpoint", "_create_gateway_endpoint_binding", "_create_gateway_guardrail",
    "_create_gateway_model_definition", "_create_gateway_secret", "_delete_budget_policy", "_delete_gateway_endpoint",
    "_delete_gateway_endpoint_binding", "_delete_gateway_endpoint_tag", "_delete_gateway_guardrail",
    "_delete_gateway_model_definition", "_delete_gateway_secret", "_detach_model_from_gateway_endpoint",
    "_remove_guardrail_from_endpoint", "_set_gateway_endpoint_tag", "_update_budget_policy",
    "_update_endpoint_guardrail_config", "_update_gateway_endpoint", "_update_gateway_model_definition",
    "_update_gateway_secret", "serve_gateway_proxy",
    "_create_assessment", "_delete_assessment", "_update_assessment", "_delete_trace_tag", "_delete_trace_tag_v3",
    "_delete_traces", "_deprecated_end_trace_v2", "_deprecated_start_trace_v2", "_link_prompts_to_trace",
    "_link_traces_to_run", "_set_trace_tag", "_set_trace_tag_v3", "_start_trace_v3",
    "_add_items_to_review_queue", "_create_issue", "_create_label_schema", "_create_review_queue",
    "_delete_label_schema", "_delete_review_queue", "_get_or_create_user_queue", "_remove_items_from_review_queue",
    "_set_review_queue_item_status", "_update_issue", "_update_label_schema", "_update_review_queue",
    "_delete_scorer", "_register_scorer", "_upsert_online_scoring_config",
    "_create_webhook", "_delete_webhook", "_test_webhook", "_update_webhook",
    "_cancel_job", "_cancel_prompt_optimization_job", "_create_prompt_optimization_job",
    "_invoke_genai_evaluate_handler", "_invoke_issue_detection_handler", "_invoke_scorer_handler", "_generate_demo",
    "_not_implemented", "serve_post_ui_telemetry",
}  # fmt: skip
"""Free: data sets, gateways, traces, reviews of traces, scorers, webhooks, jobs, demos: no registered model there."""

DECIDED = ASKED.keys() | DESCRIBES | ABORTS | WORKSPACES | READS | NOTHING_OF_MODELS

NATIVE = {
    "/api/2.0/mlflow-artifacts/artifacts/{artifact_path:path}": "asked: below a registered version",
    "/ajax-api/2.0/mlflow-artifacts/artifacts/{artifact_path:path}": "asked: below a registered version",
}
FREE_NATIVE = (
    r"/v1/traces",
    r"/ajax-api/3\.0/jobs/.*",
    r"/ajax-api/3\.0/mlflow/assistant/.*",  # on this machine only
    r"/gateway/.*",
    r"(/\{name:path\}(/(aliases|endpoints|tags|versions)(/.*)?)?)?",  # the registry of MCP servers, below its prefix
)
"""Free: traces, jobs, the assistant, gateways, MCP servers."""


def mutating() -> set[str]:
    """The handlers of the Flask side that answer to more than reading."""
    return {rule.endpoint for rule in flask_app.url_map.iter_rules() if (rule.methods or set()) - READ_METHODS}


def native() -> list[str]:
    """The paths of the FastAPI side that answer to more than reading, as their routers have them."""
    routers = [getattr(route, "original_router", None) for route in fastapi_app.routes]
    return [
        route.path
        for router in routers
        if isinstance(router, APIRouter)
        for route in router.routes
        if getattr(route, "methods", set()) - READ_METHODS
    ]


def public(of: type) -> set[str]:
    return {name for name in vars(of) if not name.startswith("_") and callable(getattr(of, name))}


class TestEveryMutatingRoute:
    def test_of_mlflow_is_decided_on(self) -> None:
        assert mutating() - DECIDED == set(), "new in MLflow: decide whether it must be asked for"
        assert DECIDED - mutating() == set(), "no longer in MLflow"

    def test_that_flask_does_not_serve_is_decided_on(self) -> None:
        assert NATIVE.keys() <= set(native())
        undecided = [p for p in native() if p not in NATIVE and not any(re.fullmatch(free, p) for free in FREE_NATIVE)]
        assert undecided == []

    def test_is_decided_on_once(self) -> None:
        groups = (ASKED.keys(), DESCRIBES, ABORTS, WORKSPACES, READS, NOTHING_OF_MODELS)
        assert sum(map(len, groups)) == len(DECIDED)


class TestEveryWritingMethod:
    """Below the routes: what a store or a repository can do, whoever calls it."""

    def test_of_the_registry_store_is_decided_on(self) -> None:
        free = {
            "create_registered_model", "update_registered_model", "update_model_version",
            "copy_model_version",  # by way of create_model_version
            "create_webhook", "update_webhook", "delete_webhook", "test_webhook",
            "create_prompt", "delete_prompt", "create_prompt_version", "delete_prompt_version",  # by way of the others
            "set_prompt_tag", "delete_prompt_tag", "set_prompt_alias", "delete_prompt_alias",
            "set_prompt_version_tag", "delete_prompt_version_tag",
            "link_prompt_version_to_model", "link_prompt_version_to_run", "link_prompts_to_trace",
            "link_chat_prompt_to_model",
        }  # fmt: skip
        reads = {name for name in public(AbstractRegistry) if name.startswith(("get", "search", "list", "supports"))}
        assert public(AbstractRegistry) - reads - free == public(GatedRegistry)

    def test_of_the_tracking_store_is_decided_on(self) -> None:
        """Also those of MLflow's own SQL store that its abstract one does not have."""
        every = public(AbstractTracking) | public(SqlTracking)
        reading = ("get_", "search_", "list_", "supports_", "batch_get_", "calculate_", "find_", "query_", "resolve_")
        reads = {name for name in every if name.startswith(reading) and "create" not in name}
        reads |= {"filter_active_experiment_ids", "sanitize_metric_value"}
        free = {
            "set_model_versions_tags",  # MLflow's own note of where a logged model is registered
            "log_metric_async", "log_param_async", "set_tag_async",  # by way of log_batch_async
            "end_async_logging", "flush_async_logging", "shut_down_async_logging",
        }  # fmt: skip
        nothing_of_models = {
            "add_dataset_to_experiments", "create_dataset", "delete_dataset", "delete_dataset_records",
            "delete_dataset_tag", "remove_dataset_from_experiments", "set_dataset_tags", "upsert_dataset_records",
            "add_items_to_review_queue", "create_review_queue", "delete_review_queue", "get_or_create_user_queue",
            "remove_items_from_review_queue", "set_review_queue_item_status", "update_review_queue",
            "create_label_schema", "delete_label_schema", "update_label_schema", "create_issue", "update_issue",
            "archive_traces", "delete_trace_tag", "delete_traces", "deprecated_end_trace_v2",
            "deprecated_start_trace_v2", "link_prompts_to_trace", "link_traces_to_run", "log_spans", "log_spans_async",
            "set_trace_tag", "start_trace", "unlink_traces_from_run",
            "create_assessment", "delete_assessment", "update_assessment",
            "delete_scorer", "register_scorer", "upsert_online_scoring_config",
        }  # fmt: skip
        assert every - reads - free - nothing_of_models == public(GatedTracking)

    @pytest.mark.parametrize(
        "kind",
        [
            artifact_repo.ArtifactRepository,
            artifact_repo.MultipartUploadMixin,
            artifact_repo.PresignedUploadMixin,
            artifact_repo.StreamUploadMixin,
        ],
    )
    def test_of_an_artifact_repository_is_decided_on(self, kind: type) -> None:
        reads = {"list_artifacts", "get_local_path", "flush_async_logging", "max_workers", "log_artifact_handler"}
        reads |= {name for name in public(kind) if name.startswith("download")}
        ends = {"abort_multipart_upload"}
        traces = {name for name in public(kind) if name.startswith("upload_")}  # by way of log_artifact
        assert public(kind) - reads - ends - traces <= public(GuardedArtifacts)
