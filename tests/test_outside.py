"""Changes past Signoff on a real MLflow server, and how pages show them."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import mlflow
import pytest
from mlflow import MlflowClient

from services.desk import Request
from services.domain import Action, VersionRef
from services.mlflow.registry import MlflowRegistry
from services.record.deviations import open_deviations
from services.signoff import Signoff
from tests.conftest import add_people, settings_in
from tests.fakes import FakeRegistry
from tests.ledgers import kinds
from tests.pages import opened, text
from tests.test_registry import train
from tests.test_releases import release
from tests.verbs import reconciler

NOBODY_KNOWS = "was changed outside Signoff"


@pytest.fixture
def real(mlflow_server: str, tmp_path: Path) -> Iterator[Signoff]:
    """A Signoff of its own on the real server, that has met the registry with one model in it."""
    wired = Signoff.wire(settings=settings_in(tmp_path), registry=MlflowRegistry(mlflow_server))
    add_people(wired)
    yield wired
    wired.database.engine.dispose()


class TestOnARealServer:
    def test_each_change_is_found_by_one_pass(self, real: Signoff, mlflow_server: str) -> None:
        name = f"outside_{uuid4().hex[:8]}"
        client = MlflowClient(mlflow_server)
        train(mlflow_server, name, {"val_auc": 0.95})
        second = train(mlflow_server, name, {"val_auc": 0.95})
        client.transition_model_version_stage(name, "1", "Production")
        client.set_registered_model_alias(name, "champion", "1")

        def found() -> list[str]:
            return [e.kind.value for e in reconciler.reconcile(real).events if e.ref is None or e.ref.name == name]

        assert found() == ["registry:baseline"]
        assert found() == []

        client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
        assert found() == ["outside:stage", "outside:stage"]
        client.set_registered_model_alias(name, "champion", "2")
        assert found() == ["outside:alias"]
        client.set_model_version_tag(name, "2", "approved_by", "me")
        assert found() == ["outside:tag"]
        upload(mlflow_server, real, second)
        assert found() == ["outside:files"]
        assert found() == []

        client.delete_model_version(name, "1")
        assert found() == ["outside:deleted", "outside:ended"], "its stage is nobody's question any more"
        client.delete_registered_model(name)
        assert train(mlflow_server, name, {}).version == 1
        assert found().count("outside:recreated") == 1
        assert found() == []
        for deviation in open_deviations(real, name):
            reconciler.adopt(real, deviation.id, by="release_manager", reason="Begun anew.")
        client.rename_registered_model(name, f"{name}_new")
        assert found() == ["outside:renamed"]
        client.rename_registered_model(f"{name}_new", name)
        assert found() == ["outside:ended"]
        assert found() == []

    def test_a_restoration_puts_stage_and_tag_back(self, real: Signoff, mlflow_server: str) -> None:
        name = f"outside_{uuid4().hex[:8]}"
        reconciler.reconcile(real)
        ref = train(mlflow_server, name, {"val_auc": 0.95})
        client = MlflowClient(mlflow_server)
        registry = real.registry
        registry.set_stage(ref, "Staging")
        report = reconciler.reconcile(real)
        assert [(e.kind.value, e.ref) for e in report.events if e.ref == ref] == [("outside:stage", ref)]
        (deviation,) = open_deviations(real, name)
        reconciler.restore(real, deviation.id, by="release_manager", reason="Not through the gate.")
        assert client.get_model_version(name, "1").current_stage == "None"
        client.set_model_version_tag(name, "1", "approval_status", "approved")
        reconciler.reconcile(real)
        (deviation,) = open_deviations(real, name)
        reconciler.restore(real, deviation.id, by="release_manager", reason="Nobody approved it.")
        assert "approval_status" not in client.get_model_version(name, "1").tags
        assert [e for e in reconciler.reconcile(real).events if e.ref == ref] == []
        assert open_deviations(real, name) == []


def upload(uri: str, signoff: Signoff, ref: VersionRef) -> None:
    """A file more under a registered version, through MLflow's public artifact route."""
    version = signoff.registry.version(ref)
    mlflow.set_tracking_uri(uri)
    location = MlflowClient(uri).get_model_version_download_uri(ref.name, str(ref.version))
    model = mlflow.get_logged_model(version.model_id) if version.model_id else None
    path = (model.artifact_location if model else location).removeprefix("mlflow-artifacts:/")
    url = f"{uri}/api/2.0/mlflow-artifacts/artifacts/{path.lstrip('/')}/added.txt"
    request = urllib.request.Request(url, data=b"x", method="PUT")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


@pytest.fixture
def archived(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """The champion, archived by nobody knows whom; the deviation is there."""
    ref = release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    reconciler.reconcile(signoff)
    registry.set_stage(ref, "Archived")
    reconciler.reconcile(signoff)
    return ref


class TestOnPages:
    @pytest.mark.parametrize("role", ["viewer", "release_manager"])
    def test_home_is_loud_and_leads_to_the_model(self, signoff: Signoff, archived: VersionRef, role: str) -> None:
        at = opened(signoff, role, "home")
        assert not at.exception
        (alarm,) = at.error
        assert f"[m](/model?name=m) {NOBODY_KNOWS}" in alarm.value
        assert "the record prescribes Production, MLflow shows Archived" in text(at)
        assert "moved the stage of" in text(at)

    def test_home_says_what_is_not_prevented_and_is_quiet_otherwise(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        at = opened(signoff, "viewer", "home")
        assert "not prevented" in text(at)
        assert not at.error

    def test_home_does_not_say_so_where_mlflow_has_the_hook(self, signoff: Signoff, registry: FakeRegistry) -> None:
        registry.hooked = True
        signoff.snapshot.refresh()
        at = opened(signoff, "viewer", "home")
        assert "not prevented" not in text(at)

    @pytest.mark.parametrize("role", ["viewer", "scientist", "reviewer", "auditor", "admin"])
    def test_only_a_release_manager_is_offered_the_answers(
        self, signoff: Signoff, archived: VersionRef, role: str
    ) -> None:
        at = opened(signoff, role, "model", name="m")
        assert "Changed outside Signoff" in text(at)
        assert not {"Restore", "Adopt"} & {button.label for button in at.button}

    @pytest.mark.parametrize("action", [Action.RESTORE, Action.ADOPT])
    def test_the_model_page_settles_it_with_a_reason(
        self, signoff: Signoff, registry: FakeRegistry, archived: VersionRef, action: Action
    ) -> None:
        at = opened(signoff, "release_manager", "model", name="m")
        (settle,) = [button for button in at.button if button.label == action.value.capitalize()]
        settle.click().run()
        assert not at.exception
        assert "the record prescribes" in text(at)
        (deviation,) = open_deviations(signoff)
        request = Request(action=action, ref=archived, words="Checked.", deviation=deviation.id)
        at.session_state["settle-deviation"] = request
        at.run()
        assert not at.exception
        assert open_deviations(signoff) == []
        assert registry.version(archived).stage == ("Production" if action is Action.RESTORE else "Archived")
        assert "Changed outside Signoff" not in text(at)
        assert "Record #" in text(at)
        assert kinds(signoff)[-1] in {"restoration:confirmed", "adoption:recorded"}

    def test_a_deleted_model_still_has_its_panel(
        self, signoff: Signoff, registry: FakeRegistry, archived: VersionRef
    ) -> None:
        registry.drop_model("m")
        reconciler.reconcile(signoff)
        at = opened(signoff, "release_manager", "model", name="m")
        assert not at.exception
        assert "is no longer in MLflow" in text(at)
        assert [button.label for button in at.button if button.label in {"Restore", "Adopt"}] == ["Adopt"]

    def test_any_name_and_tag_is_only_text(self, signoff: Signoff, registry: FakeRegistry) -> None:
        nasty = "<img src=x onerror=alert(1)> [a](javascript:x)"
        ref = registry.add_version(nasty, {"val_auc": 0.92})
        reconciler.reconcile(signoff)
        registry.tag(ref, "approved_by", nasty * 100)
        reconciler.reconcile(signoff)
        for at in (opened(signoff, "release_manager", "home"), opened(signoff, "viewer", "model", name=nasty)):
            assert not at.exception
            shown = [*(e.value for e in at.error), *(e.value for e in at.markdown)]
            assert not any("[a](javascript" in one for one in shown)
            shown += [element.proto.body for element in at.get("html")]
            assert not any("<img src=x" in one for one in shown)

    def test_history_tells_it(self, signoff: Signoff, archived: VersionRef) -> None:
        at = opened(signoff, "auditor", "history")
        assert not at.exception
        assert "unknown" in text(at)
