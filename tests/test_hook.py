"""The hook in a real MLflow server, with a real gate to ask: nobody changes what Production means without approval."""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import mlflow
import pytest
import requests
import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput, LoggedModelStatus, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.request_header import registry as headers
from sqlalchemy.orm import Session

from mlflow_gate import scene
from services import caretaker, proofs
from services.admission import admissions
from services.admission.calls import Call, What
from services.domain import Dataset, VersionRef
from services.errors import RegistryUnavailable
from services.mlflow.registry import MlflowRegistry
from services.place import PlaceKind
from services.record import mirror
from services.record.deviations import open_deviations
from services.registry import Hook, RunContents
from services.signoff import Signoff
from services.steps import intents
from services.tables import slots as slots_table
from services.validation.mirroring import EXPERIMENT
from tests.arena import register
from tests.conftest import wait_until
from tests.gated import TOKEN, Gated, asks, gated, mlflow_server
from tests.ledgers import record
from tests.proxy import FAULTS
from tests.test_checkpoints import check
from tests.verbs import reconciler, releases, reviews

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts"
BY_NOBODY = {"signoff.registered_by": ""}
"""All tags of a version that a client without a login registered."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    """Hook, gate and what is between them."""
    with gated(tmp_path_factory.mktemp("gated")) as found:
        yield found


def approve(server: Gated, name: str, version: int) -> VersionRef:
    ref = VersionRef(name=name, version=version)
    reviews.submit(server.signoff, ref, by="scientist", comment="Please review.")
    reviews.approve(server.signoff, ref, by="reviewer", comment="Looks right.")
    return ref


def released(server: Gated, name: str, versions: int = 2) -> str:
    """A model with a champion that came through the gate, and more versions that did not."""
    register(server.url, name, versions)
    releases.promote(server.signoff, approve(server, name, 1), by="release_manager", reason="First release.")
    return name


def refusal(call: Callable[[], object]) -> str:
    """The call is refused with 403; returns why."""
    with pytest.raises(MlflowException) as error:
        call()
    assert error.value.error_code == "PERMISSION_DENIED"
    return str(error.value)


def recover(server: Gated) -> None:
    with server.signoff.database.writing() as connection:
        connection.execute(slots_table.update().values(expires_at=0.0))
    caretaker.tidy(server.signoff)


@pytest.fixture(scope="module")
def model(server: Gated) -> str:
    """Version 1 serves; version 2 was never submitted, version 3 is submitted and not approved."""
    name = released(server, "tricked", 3)
    reviews.submit(server.signoff, VersionRef(name=name, version=3), by="scientist", comment="Please review.")
    return name


@pytest.fixture(scope="module")
def meant(server: Gated, model: str) -> tuple[Any, ...]:
    """What Production means before anybody tries anything."""
    return server.meaning(model)


def files_of(server: Gated, name: str, version: int) -> str:
    """Where a version's files are, below the server's artifacts."""
    uri = server.client.get_model_version_download_uri(name, str(version))
    return uri.removeprefix("mlflow-artifacts:").lstrip("/")


TO_PRODUCTION = {"name": "tricked", "version": "2", "stage": "Production", "archive_existing_versions": True}
JSON = {"Content-Type": "application/json"}
TRICKS: dict[str, tuple[str, str, Any]] = {
    "transition": ("POST", f"{API}/model-versions/transition-stage", TO_PRODUCTION),
    "transition, encoded": ("POST", f"{API}/model-versions/transition%2Dstage", TO_PRODUCTION),
    "transition, as the page does": (
        "POST",
        f"{API.replace('/api', '/ajax-api')}/model-versions/transition-stage",
        TO_PRODUCTION,
    ),
    "transition, version 02": ("POST", f"{API}/model-versions/transition-stage", {**TO_PRODUCTION, "version": "02"}),
    "transition, version as a number": (
        "POST",
        f"{API}/model-versions/transition-stage",
        {**TO_PRODUCTION, "version": 2},
    ),
    "transition, odd letters": (
        "POST",
        f"{API}/model-versions/transition-stage",
        {**TO_PRODUCTION, "stage": "pRoDuCtIoN"},
    ),
    "transition, without archiving": (
        "POST",
        f"{API}/model-versions/transition-stage",
        {**TO_PRODUCTION, "archive_existing_versions": False},
    ),
    "transition, in camel case": (
        "POST",
        f"{API}/model-versions/transition-stage",
        {"name": "tricked", "version": "2", "stage": "Production", "archiveExistingVersions": True},
    ),
    "transition, UTF-16": (
        "POST",
        f"{API}/model-versions/transition-stage",
        json.dumps(TO_PRODUCTION).encode("utf-16"),
    ),
    "transition of what waits for approval": (
        "POST",
        f"{API}/model-versions/transition-stage",
        {**TO_PRODUCTION, "version": "3"},
    ),
    "the champion demoted": (
        "POST",
        f"{API}/model-versions/transition-stage",
        {"name": "tricked", "version": "1", "stage": "None"},
    ),
    "alias": ("POST", f"{API}/registered-models/alias", {"name": "tricked", "alias": "champion", "version": "2"}),
    "alias, version 02": (
        "POST",
        f"{API}/registered-models/alias",
        {"name": "tricked", "alias": "champion", "version": "02"},
    ),
    "alias, other letters": (
        "POST",
        f"{API}/registered-models/alias",
        {"name": "tricked", "alias": "Champion", "version": "2"},
    ),
    "alias, a look-alike": (
        "POST",
        f"{API}/registered-models/alias",
        {"name": "tricked", "alias": "champ\N{LATIN SMALL LETTER DOTLESS I}on", "version": "2"},
    ),
    "alias, in full width": (
        "POST",
        f"{API}/registered-models/alias",
        {"name": "tricked", "alias": "\uff43\uff48\uff41\uff4d\uff50\uff49\uff4f\uff4e", "version": "2"},
    ),
    "tag, a look-alike": (
        "POST",
        f"{API}/model-versions/set-tag",
        {"name": "tricked", "version": "2", "key": "appr\N{CYRILLIC SMALL LETTER O}ved_by", "value": "me"},
    ),
    "alias deleted": ("DELETE", f"{API}/registered-models/alias", {"name": "tricked", "alias": "champion"}),
    "tag": (
        "POST",
        f"{API}/model-versions/set-tag",
        {"name": "tricked", "version": "2", "key": "approval_status", "value": "approved"},
    ),
    "tag, other letters": (
        "POST",
        f"{API}/model-versions/set-tag",
        {"name": "tricked", "version": "02", "key": "Approved_By", "value": "me"},
    ),
    "tag, of a record that is not there": (
        "POST",
        f"{API}/model-versions/set-tag",
        {"name": "tricked", "version": "2", "key": "promoted_by", "value": "me"},
    ),
    "tag, in our name": (
        "POST",
        f"{API}/model-versions/set-tag",
        {"name": "tricked", "version": "2", "key": "Signoff.anything", "value": "approved"},
    ),
    "tag, of the champion": (
        "POST",
        f"{API}/model-versions/set-tag",
        {"name": "tricked", "version": "1", "key": "reason", "value": "mine"},
    ),
    "tag deleted": (
        "DELETE",
        f"{API}/model-versions/delete-tag",
        {"name": "tricked", "version": "1", "key": "approval_status"},
    ),
    "tags in a new version": (
        "POST",
        f"{API}/model-versions/create",
        {
            "name": "tricked",
            "source": "models:/tricked/2",
            "tags": [{"key": "approval_status", "value": "approved"}],
        },
    ),
    "tags in a new version of a prompt": (
        "POST",
        f"{API}/model-versions/create",
        {
            "name": "tricked",
            "source": "dummy-source",
            "tags": [
                {"key": "mlflow.prompt.is_prompt", "value": "true"},
                {"key": "APPROVAL_STATUS", "value": "approved"},
            ],
        },
    ),
    "hidden as a prompt": (
        "POST",
        f"{API}/registered-models/set-tag",
        {"name": "tricked", "key": "mlflow.prompt.is_prompt", "value": "true"},
    ),
    "hidden by a version that pretends to be a prompt": (
        "POST",
        f"{API}/model-versions/create",
        {
            "name": "tricked",
            "source": "dummy-source",
            "tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}],
        },
    ),
    "hidden by the tag of a version": (
        "POST",
        f"{API}/model-versions/set-tag",
        {"name": "tricked", "version": "2", "key": "mlflow.prompt.is_prompt", "value": "true"},
    ),
    "version deleted": ("DELETE", f"{API}/model-versions/delete", {"name": "tricked", "version": "01"}),
    "model deleted": ("DELETE", f"{API}/registered-models/delete", {"name": "tricked"}),
    "model renamed": ("POST", f"{API}/registered-models/rename", {"name": "tricked", "new_name": "mine"}),
}


MOVE = f"{API}/model-versions/transition-stage"
TWICE = b'{"name": "x", "name": "tricked", "version": "1", "version": "2", "stage": "None", "stage": "Production"}'
OTHER_WAYS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "each key twice": ("POST", MOVE, {"content": TWICE, "headers": JSON}, 403),
    "as text": ("POST", MOVE, {"content": json.dumps(TO_PRODUCTION), "headers": {"Content-Type": "text/plain"}}, 400),
    "in the query": ("POST", MOVE, {"params": TO_PRODUCTION}, 400),
    "as a form": ("POST", MOVE, {"data": TO_PRODUCTION}, 400),
    "as a GET": ("GET", MOVE, {"params": TO_PRODUCTION, "headers": {"X-HTTP-Method-Override": "POST"}}, 405),
    "as a PATCH": ("PATCH", MOVE, {"json": TO_PRODUCTION}, 405),
    "in a workspace": ("POST", MOVE, {"json": TO_PRODUCTION, "headers": {"X-MLFLOW-WORKSPACE": "mine"}}, 500),
    "in Arabic digits": ("POST", MOVE, {"json": {**TO_PRODUCTION, "version": "\N{ARABIC-INDIC DIGIT TWO}"}}, 403),
    "with a space": ("POST", MOVE, {"json": {**TO_PRODUCTION, "version": " 2"}}, 403),
    "of a stage with a space": ("POST", MOVE, {"json": {**TO_PRODUCTION, "stage": "Production "}}, 400),
    "by GraphQL": (
        "POST",
        "/graphql",
        {"json": {"query": 'mutation { transitionStage(input: {name: "tricked", version: "2"}) { stage } }'}},
        200,
    ),
}  # fmt: skip
"""Method, path, request → status. 405, 400 and 500 are MLflow's own; GraphQL answers 200 and knows no such thing."""


class TestNoSpellingOfACall:
    @pytest.mark.parametrize("trick", TRICKS)
    def test_changes_what_production_means(self, server: Gated, model: str, meant: tuple[Any, ...], trick: str) -> None:
        method, path, body = TRICKS[trick]
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        charset = "; charset=utf-16" if isinstance(body, bytes) else ""
        answer = server.send(method, path, content=sent, headers={"Content-Type": f"application/json{charset}"})
        assert answer.status_code == (400 if trick == "transition, version as a number" else 403), answer.text
        assert server.meaning(model) == meant
        assert server.tags(model, 2) == BY_NOBODY
        assert server.tags(model, 1)["approval_status"] == "approved"

    def test_has_more_to_say_than_403(self, server: Gated, model: str) -> None:
        answer = server.send("POST", f"{API}/model-versions/transition-stage", json=TO_PRODUCTION).json()
        assert answer["error_code"] == "PERMISSION_DENIED"
        assert "not submitted for review" in answer["message"]
        assert "0 of 1 approvals" in answer["message"]
        assert f"{server.signoff.settings.url}/version?name=tricked&version=2" in answer["message"]

    def test_puts_a_model_into_a_registered_prompt_and_serves_it_from_there(self, server: Gated, model: str) -> None:
        """A model in what was made as a prompt, where no search shows it, is governed like any other."""
        prompt = {"key": "mlflow.prompt.is_prompt", "value": "true"}
        version = {"name": "poem", "source": "dummy-source", "tags": [prompt]}
        named = {"name": "poem", "alias": "champion", "version": "1"}
        for path, body in (
            ("registered-models/create", {"name": "poem", "tags": [prompt]}),
            ("model-versions/create", version),
            ("registered-models/alias", named),  # a real prompt may
            ("model-versions/create", {"name": "poem", "source": f"models:/{model}/2"}),
        ):
            answer = server.send("POST", f"{API}/{path}", json=body)
            assert answer.is_success, answer.text
        for path, body in (
            ("registered-models/alias", {**named, "version": "2"}),
            ("model-versions/transition-stage", {**TO_PRODUCTION, "name": "poem"}),
        ):
            assert server.send("POST", f"{API}/{path}", json=body).status_code == 403
        shown = server.send("GET", f"{API}/registered-models/get?name=poem").json()["registered_model"]
        assert shown["aliases"] == [{"alias": "champion", "version": "1"}]

    @pytest.mark.parametrize("way", OTHER_WAYS)
    def test_gets_in_by_another_way(self, server: Gated, model: str, meant: tuple[Any, ...], way: str) -> None:
        method, path, more, status = OTHER_WAYS[way]
        answer = server.send(method, path, **more)
        assert answer.status_code == status, answer.text
        assert server.stages(model) == meant[0]
        assert server.aliases(model) == meant[1]

    def test_of_a_prompt_does_what_a_model_may_not(self, server: Gated, model: str, meant: tuple[Any, ...]) -> None:
        client = server.client
        for call in (
            lambda: client.register_prompt(model, "Hello {{ x }}."),
            lambda: client.set_prompt_alias(model, "champion", 2),
            lambda: client.delete_prompt_alias(model, "champion"),
            lambda: client.set_prompt_version_tag(model, 2, "approval_status", "approved"),
            lambda: client.delete_prompt_version(model, "1"),
            lambda: client.delete_prompt(model),
            lambda: client.set_prompt_tag(model, "mlflow.prompt.is_prompt", "true"),
        ):
            with pytest.raises(MlflowException):
                call()
        assert server.meaning(model) == meant
        assert server.tags(model, 2) == BY_NOBODY

    def test_copies_the_approval_of_a_version(self, server: Gated, model: str, meant: tuple[Any, ...]) -> None:
        """MLflow's client copies the tags as well, and a version is not approved for being like another."""
        with pytest.raises(MlflowException, match="registered without approv"):
            server.client.copy_model_version(f"models:/{model}/1", "copied")
        assert server.client.search_model_versions("name='copied'") == []
        assert server.meaning(model) == meant


class TestTheTagsThatChooseAPolicy:
    """MLflow's own `set_registered_model_tag`, on a model that Signoff has seen."""

    def test_are_refused_where_another_policy_would_judge_and_others_are_free(self, server: Gated) -> None:
        name = "chosen_once"
        register(server.url, name, 1)
        reviews.submit(server.signoff, VersionRef(name=name, version=1), by="scientist", comment="Please review.")
        why = refusal(lambda: server.client.set_registered_model_tag(name, "task", "regression"))
        assert "policy default was assigned to it" in why
        assert f"signoff policy assign {name} --policy regression" in why
        server.client.set_registered_model_tag(name, "owner", "crm")
        assert server.client.get_registered_model(name).tags == {"owner": "crm"}
        server.client.delete_registered_model_tag(name, "owner")

    def test_are_free_while_a_model_is_made_and_stay_then(self, server: Gated) -> None:
        name = "made_with_it"
        server.client.create_registered_model(name, tags={"task": "regression"})
        register(server.url, name, 1)
        reviews.submit(server.signoff, VersionRef(name=name, version=1), by="scientist", comment="Please review.")
        assert "policy default would judge it too" in refusal(
            lambda: server.client.delete_registered_model_tag(name, "task")
        )
        assert server.client.get_registered_model(name).tags == {"task": "regression"}


class TestLongTags:
    def test_are_told_cut_so_that_thousands_of_them_hold_up_nobody(self, server: Gated) -> None:
        name = "wordy"
        register(server.url, name, 1)
        server.client.set_registered_model_tag(name, "long", "x" * 8000)
        server.client.set_model_version_tag(name, "1", "long", "y" * 8000)
        with Session(sa.create_engine(f"sqlite:///{server.artifacts.parent / 'mlflow.db'}")) as session:
            found = scene.read(session, "default", name, [1], tags=True)
        assert found
        assert found.message["tags"]["long"] == "x" * scene.MAX_VALUE
        assert found.message["versions"][0]["tags"]["long"] == "y" * scene.MAX_VALUE

    def test_of_a_version_are_told_where_a_client_moves_it_and_nowhere_else(
        self, server: Gated, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name, told = "tagged", []
        register(server.url, name, 1)
        server.client.set_model_version_tag(name, "1", "note", "x")
        answer = admissions._at_once

        def remembered(signoff: Signoff, call: Call) -> admissions.Answer | None:
            told.append((call.what, [version.tags.get("note") for version in call.told[0].versions]))
            return answer(signoff, call)

        monkeypatch.setattr(admissions, "_at_once", remembered)
        refusal(lambda: server.client.transition_model_version_stage(name, "1", "Production"))
        refusal(lambda: server.client.set_model_version_tag(name, "1", "approved_by", "me"))
        reviews.submit(server.signoff, VersionRef(name=name, version=1), by="scientist", comment="Please review.")
        assert told[:2] == [(What.STAGE, ["x"]), (What.TAG_SET, [None])]
        assert {tags for _, (tags,) in told[2:]} == {None}, "what Signoff itself moves and tags"


class TestFiles:
    def paths(self, server: Gated, model: str) -> list[tuple[str, str, dict[str, Any]]]:
        below = files_of(server, model, 1)
        first = below.split("/", maxsplit=1)[0]
        twice = quote(quote(below.replace("models", "m\N{LATIN SMALL LETTER O}dels"), safe=""), safe="")
        put = {"content": b"mine"}
        return [
            ("PUT", f"{ARTIFACTS}/artifacts/{below}/MLmodel", put),
            ("PUT", f"{ARTIFACTS}/artifacts/{below}/new/file", put),
            ("PUT", f"{ARTIFACTS.replace('/api', '/ajax-api')}/artifacts/{below}/MLmodel", put),
            ("PUT", f"{ARTIFACTS}/artifacts/{twice}%252FMLmodel", put),
            ("PUT", f"{ARTIFACTS}/artifacts/./{below.replace('/', '//')}/./MLmodel", put),
            ("DELETE", f"{ARTIFACTS}/artifacts/{below}/MLmodel", {}),
            ("DELETE", f"{ARTIFACTS}/artifacts/{below}", {}),
            ("DELETE", f"{ARTIFACTS}/artifacts/{below.rpartition('/')[0]}", {}),
            ("DELETE", f"{ARTIFACTS}/artifacts/{first}", {}),
            ("DELETE", f"{ARTIFACTS}/artifacts/{first}/%252E", {}),
            ("POST", f"{ARTIFACTS}/mpu/create/{below}", {"json": {"path": "MLmodel", "num_parts": 1}}),
            ("POST", f"{ARTIFACTS}/mpu/complete/{below}", {"json": {"path": "MLmodel", "upload_id": "1", "parts": []}}),
        ]

    def test_of_what_serves_cannot_be_written_or_deleted_by_any_route(
        self, server: Gated, model: str, meant: tuple[Any, ...]
    ) -> None:
        for method, path, more in self.paths(server, model):
            answer = server.send(method, path, **more)
            assert answer.status_code in {403, 404, 501}, (method, path, answer.text)
        assert server.meaning(model) == meant

    def test_that_a_run_holds_cannot_be_uploaded_over(self, server: Gated) -> None:
        """How models were logged before there were logged models: below the artifacts of their run."""
        client = server.client
        run = client.create_run("0")
        client.log_text(run.info.run_id, "flavors: {}", "model/MLmodel")
        client.create_registered_model("legacy")
        client.create_model_version("legacy", f"{run.info.artifact_uri}/model", run.info.run_id)
        upload = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run.info.run_id}&path="
        assert server.send("POST", f"{upload}model/MLmodel", content=b"flavors: {x: {}}").status_code == 200
        ref = VersionRef(name="legacy", version=1)
        reviews.submit(server.signoff, ref, by="scientist", comment="Please review.")
        before = server.signoff.registry.manifest(ref)
        assert server.send("POST", f"{upload}model/MLmodel", content=b"mine").status_code == 403
        answer = server.send("POST", f"{upload}other/file", content=b"mine")
        assert (answer.status_code, "other/file" in answer.text) == (403, True)
        assert "it would be evidence for legacy/v1, which is submitted for review" in answer.text
        assert "files of legacy/v1" in refusal(lambda: client.delete_run(run.info.run_id))
        assert "The experiment" in refusal(lambda: client.delete_experiment("0"))
        assert server.signoff.registry.manifest(ref) == before
        reviews.withdraw(server.signoff, ref, by="scientist", comment="Not yet.")
        assert server.send("POST", f"{upload}model/MLmodel", content=b"flavors: {}").status_code == 200

    def test_that_are_sent_slowly_arrive_only_if_they_still_may(self, server: Gated) -> None:
        """Begun while nobody had a record of the version, ended when it is submitted."""
        client = server.client
        run = client.create_run("0")
        client.log_text(run.info.run_id, "flavors: {}", "model/MLmodel")
        client.create_registered_model("slow")
        client.create_model_version("slow", f"{run.info.artifact_uri}/model", run.info.run_id)
        ref, path = VersionRef(name="slow", version=1), f"0/{run.info.run_id}/artifacts/model"
        folder = server.artifacts / path
        sent = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
        sent.putrequest("PUT", f"{ARTIFACTS}/artifacts/{path}/MLmodel")
        sent.putheader("Content-Length", "12")
        sent.endheaders(b"flavor")
        wait_until(lambda: len(list(folder.iterdir())) > 1, "the beginning of the upload")
        reviews.submit(server.signoff, ref, by="scientist", comment="Please review.")
        sent.send(b"s: {1}")
        answer = sent.getresponse()
        assert (answer.status, b"files of slow/v1" in answer.read()) == (403, True)
        assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("MLmodel", "flavors: {}")]
        sent.close()

    def test_cannot_be_reached_by_what_says_it_is_stored_there(
        self, server: Gated, model: str, meant: tuple[Any, ...]
    ) -> None:
        """An experiment whose artifacts are to lie among a version's. The second way writes them elsewhere."""
        client, below = server.client, files_of(server, model, 1)
        inside = client.create_experiment("inside", artifact_location=f"mlflow-artifacts:/{below}")
        run = client.create_run(inside)
        with pytest.raises(requests.HTTPError, match="files of tricked/v1 are there"):
            client.log_text(run.info.run_id, "mine", "MLmodel")
        upload = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run.info.run_id}&path=MLmodel"
        server.send("POST", upload, content=b"mine")
        assert server.meaning(model) == meant

    def test_of_a_logged_model_stay_though_its_tags_are_deleted_first(
        self, server: Gated, model: str, meant: tuple[Any, ...]
    ) -> None:
        client = server.client
        model_id = client.get_model_version(model, "1").source.rpartition("/")[2]
        for key in client.get_logged_model(model_id).tags:
            server.send("DELETE", f"{API}/logged-models/{model_id}/tags/{key}")
        assert "files of tricked/v1" in refusal(lambda: client.delete_logged_model(model_id))
        experiment = client.get_logged_model(model_id).experiment_id
        assert refusal(lambda: client.delete_experiment(experiment))
        assert server.meaning(model) == meant

    def test_of_nobody_are_nobodys_business(self, server: Gated) -> None:
        client = server.client
        server.proxy.break_("down", asks)
        try:
            run = client.create_run("0")
            client.log_text(run.info.run_id, "text", "notes.txt")
            client.log_metric(run.info.run_id, "m", 1.0)
            client.log_batch(run.info.run_id, params=[Param("a", "b")], tags=[RunTag("c", "d")])
            client.update_run(run.info.run_id, "FINISHED", "named")
            model = client.create_logged_model("0", "model", run.info.run_id, tags={"a": "b"})
            client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
            client.log_metric(run.info.run_id, "m", 2.0, model_id=model.model_id)
            client.delete_logged_model(model.model_id)
            assert server.send("DELETE", f"{ARTIFACTS}/artifacts/0/{run.info.run_id}/artifacts/notes.txt").is_success
            client.delete_run(run.info.run_id)
            client.create_registered_model("unasked", tags={"a": "b"})
            kept = client.create_run("0").info
            client.create_model_version("unasked", f"{kept.artifact_uri}/model", kept.run_id, tags={"c": "d"})
            client.set_model_version_tag("unasked", "1", "mine", "x")
            client.update_model_version("unasked", "1", "Text.")
            assert server.proxy.broken == 0
        finally:
            server.proxy.heal()


class TestWhoRegisteredAVersion:
    """Without a login here; with one in test_hook_auth.py."""

    def test_is_written_with_the_version_and_asks_nobody(self, server: Gated) -> None:
        client = server.client
        server.proxy.break_("down", asks)
        try:
            register(server.url, "registered", 1)
            assert server.proxy.broken == 0
        finally:
            server.proxy.heal()
        assert server.tags("registered", 1) == BY_NOBODY
        client.copy_model_version("models:/registered/1", "copy_of_registered")
        assert server.tags("copy_of_registered", 1) == BY_NOBODY
        client.register_prompt("a_prompt", "Hello {{ x }}.")
        prompt = server.send("GET", f"{API}/model-versions/get?name=a_prompt&version=1").json()["model_version"]
        assert "signoff.registered_by" not in {tag["key"] for tag in prompt["tags"]}

    def test_is_said_by_nobody_else(self, server: Gated) -> None:
        client, name = server.client, "claimed"
        register(server.url, name, 1)
        for key in (
            "signoff.registered_by",
            "Signoff.Registered_By",
            "\N{LATIN SMALL LETTER LONG S}ignoff.registered_by",
        ):
            made = partial(client.create_model_version, name, f"models:/{name}/1", tags={key: "reviewer"})
            for call in (made, partial(client.set_model_version_tag, name, "1", key, "reviewer")):
                assert "registered" in refusal(call)
        assert "who registered" in refusal(lambda: client.delete_model_version_tag(name, "1", "signoff.registered_by"))
        assert server.stages(name) == {1: "None"}
        assert server.tags(name, 1) == BY_NOBODY


SIGNATURE = dict.fromkeys(("inputs", "outputs"), '[{"type": "double", "name": "a"}]')


class TestAChampionWhoseSourceIsItsRun:
    """What `MlflowClient.create_model_version` stores when it is given ``runs:/…``, however that is written."""

    @pytest.mark.parametrize("form", ["runs:/{}/model", "RUNS:///{}/model/?x=y#z"])
    def test_stays_as_it_was_approved(self, server: Gated, form: str) -> None:
        client, name = server.client, f"of_a_run_{len(form)}"
        run = client.create_run("0")
        run_id = run.info.run_id
        client.log_metric(run_id, "val_auc", 0.93)
        client.log_text(run_id, json.dumps({"flavors": {}, "signature": SIGNATURE}), "model/MLmodel")
        client.log_text(run_id, "What it is for.", "model_card.md")
        client.create_registered_model(name)
        client.create_model_version(name, form.format(run_id), run_id)
        client.set_terminated(run_id)
        ref = approve(server, name, 1)
        client.transition_model_version_stage(name, "1", "Production")
        before = server.meaning(name)
        below, upload = f"0/{run_id}/artifacts", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}&path="
        for method, path, more in (
            ("PUT", f"{ARTIFACTS}/artifacts/{below}/model/MLmodel", {"content": b"mine"}),
            ("PUT", f"{ARTIFACTS}/artifacts/{below}/model/new/file", {"content": b"mine"}),
            ("POST", f"{upload}model/MLmodel", {"content": b"mine"}),
            ("DELETE", f"{ARTIFACTS}/artifacts/{below}/model/MLmodel", {}),
            ("DELETE", f"{ARTIFACTS}/artifacts/{below}", {}),
            ("DELETE", f"{ARTIFACTS}/artifacts/0/{run_id}", {}),
            ("POST", f"{API}/runs/delete", {"json": {"run_id": run_id}}),
            *(
                ("POST", f"{api}/logged-models", {"json": {"experiment_id": "0", "source_run_id": run_id, **named}})
                for api in (API, API.replace("/api", "/ajax-api"))
                for named in ({"name": "model"}, {"name": "evil"}, {})
            ),
            ("PUT", f"{ARTIFACTS}/artifacts/{below}/evil/MLmodel", {"content": b"mine"}),
            ("PUT", f"{ARTIFACTS.replace('/api', '/ajax-api')}/artifacts/{below}/evil/MLmodel", {"content": b"mine"}),
            ("POST", f"{upload}evil/MLmodel", {"content": b"mine"}),
            ("DELETE", f"{ARTIFACTS}/artifacts/{below}/model_card.md", {}),
        ):
            answer = server.send(method, path, **more)
            assert (answer.status_code, f"{ref}" in answer.text) == (403, True), (method, path, answer.text)
        assert {file.name for file in (server.artifacts / below).iterdir()} == {"model", "model_card.md"}
        assert server.meaning(name) == before
        assert client.get_run(run_id).info.lifecycle_stage == "active"
        assert client.search_logged_models(["0"], f"source_run_id = '{run_id}'") == []

    def test_and_that_another_one_replaced_stays_for_the_way_back(self, server: Gated) -> None:
        name = released(server, "replaced")
        releases.promote(server.signoff, approve(server, name, 2), by="release_manager", reason="Better.")
        before, below = server.meaning(name), files_of(server, name, 1)
        assert before[0] == {1: "Archived", 2: "Production"}
        for method, more in (("PUT", {"content": b"mine"}), ("DELETE", {})):
            answer = server.send(method, f"{ARTIFACTS}/artifacts/{below}/MLmodel", **more)
            assert (answer.status_code, "was promoted and can be put back" in answer.text) == (403, True)
        version = server.client.get_model_version(name, "1")
        assert refusal(lambda: server.client.delete_logged_model(version.source.rpartition("/")[2]))
        assert refusal(lambda: server.client.delete_run(str(version.run_id)))
        assert server.meaning(name) == before
        releases.rollback(server.signoff, name, by="release_manager", reason="v2 misses more.", version=1)
        assert server.stages(name)[1] == "Production"


class TestWhatLiesInARunOfTheRecord:
    """A model card, which a policy may ask for, and anything that would be judged by the metrics of the run."""

    def refused(self, server: Gated, run_id: str, why: str) -> None:
        """Nobody writes, replaces or deletes anything in a run, or makes a logged model of it, by any route."""
        below, upload = f"0/{run_id}/artifacts", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}&path="
        for method, path, more in (
            ("PUT", f"{ARTIFACTS}/artifacts/{below}/model_card.md", {"content": b"forged"}),
            ("DELETE", f"{ARTIFACTS}/artifacts/{below}/model_card.md", {}),
            ("POST", f"{upload}model_card.md", {"content": b"forged"}),
            ("PUT", f"{ARTIFACTS}/artifacts/{below}/evil/MLmodel", {"content": b"mine"}),
            ("POST", f"{API}/logged-models", {"json": {"experiment_id": "0", "name": "x", "source_run_id": run_id}}),
        ):
            answer = server.send(method, path, **more)
            assert (answer.status_code, why in answer.text) == (403, True), (method, path, answer.text)
        inside = server.client.create_experiment(why, artifact_location=str(server.artifacts / below))
        body = {
            "experiment_id": inside, "run_name": "x", "prompt_template": "a {{b}}", "model_route": "m",
            "prompt_parameters": [{"key": "b", "value": "c"}], "model_parameters": [], "model_input": "a c",
            "model_output": "o", "model_output_parameters": [], "mlflow_version": "3", "user_id": "me",
            "start_time": 1,
        }  # fmt: skip
        answer = server.send("POST", "/ajax-api/2.0/mlflow/runs/create-promptlab-run", json=body)
        assert answer.json()["run"]["info"]["status"] == "FAILED"
        folder = server.artifacts / below
        assert [str(file.relative_to(folder)) for file in folder.rglob("*")] == ["model_card.md"]
        assert (folder / "model_card.md").read_text() == "What it is for."

    def test_stays_from_the_submission_on_for_as_long_as_there_is_a_way_back(self, server: Gated) -> None:
        client, name = server.client, "with_a_card"
        for _ in range(2):
            register(server.url, name, 1)
        run_id = str(client.get_model_version(name, "1").run_id)
        client.log_text(run_id, "What it is for.", "model_card.md")
        approve(server, name, 1)
        self.refused(server, run_id, f"{name}/v1, which is submitted for review")
        releases.promote(
            server.signoff, VersionRef(name=name, version=1), by="release_manager", reason="First release."
        )
        releases.promote(server.signoff, approve(server, name, 2), by="release_manager", reason="Better.")
        self.refused(server, run_id, f"{name}/v1, which was promoted and can be put back")
        releases.rollback(server.signoff, name, by="release_manager", reason="v2 misses more.", version=1)
        assert server.stages(name)[1] == "Production"


class TestTheBar:
    """What a champion was judged by: its run and its logged model, in MLflow, where anybody may log."""

    def test_is_moved_by_nobody(self, server: Gated) -> None:
        client, name = server.client, released(server, "the_bar")
        version = client.get_model_version(name, "1")
        run_id, model_id = str(version.run_id), version.source.rpartition("/")[2]
        other = client.create_run("0").info.run_id
        before = client.get_run(run_id).to_dictionary(), client.get_logged_model(model_id).to_dictionary()
        metric = {"key": "val_auc", "value": 0.1, "timestamp": 1, "step": str(2**63 - 1)}
        dataset = {"name": "d", "digest": "1", "source_type": "local", "source": "x"}
        model = {"artifact_path": "model", "flavors": {}, "utc_time_created": "", "run_id": run_id}
        logged = f"{API}/logged-models/{model_id}"
        for method, path, body in (
            ("POST", f"{API}/runs/log-metric", {"run_id": run_id, **metric}),
            ("POST", f"{API}/runs/log-metric", {"run_uuid": run_id, **metric}),
            ("POST", f"{API}/runs/log-metric", {"run_id": other, "model_id": model_id, **metric}),
            ("POST", f"{API}/runs/log-batch", {"run_id": run_id, "metrics": [metric]}),
            ("POST", f"{API}/runs/log-batch", {"run_id": other, "metrics": [{**metric, "model_id": model_id}]}),
            ("POST", f"{API}/runs/log-parameter", {"run_id": run_id, "key": "a", "value": "b"}),
            ("POST", f"{API}/runs/set-tag", {"run_id": run_id, "key": "mlflow.user", "value": "reviewer"}),
            ("POST", f"{API}/runs/delete-tag", {"run_id": run_id, "key": "mlflow.user"}),
            ("POST", f"{API}/runs/log-inputs", {"run_id": run_id, "datasets": [{"dataset": dataset}]}),
            ("POST", f"{API}/runs/outputs", {"run_id": run_id, "models": [{"model_id": model_id, "step": 1}]}),
            ("POST", f"{API}/runs/log-model", {"run_id": run_id, "model_json": json.dumps(model)}),
            ("POST", f"{API}/runs/update", {"run_id": run_id, "run_name": "other", "end_time": 10**13}),
            ("POST", f"{API}/runs/delete", {"run_id": run_id}),
            ("POST", f"{logged}/params", {"model_id": model_id, "params": [{"key": "a", "value": "b"}]}),
            ("PATCH", f"{logged}/tags", {"model_id": model_id, "tags": [{"key": "a", "value": "b"}]}),
            ("PATCH", logged, {"model_id": model_id, "status": "LOGGED_MODEL_UPLOAD_FAILED"}),
            ("DELETE", logged, {}),
        ):
            answer = server.send(method, path, json=body)
            assert (answer.status_code, f"{name}/v1" in answer.text) == (403, True), (method, path, answer.text)
        after = client.get_run(run_id).to_dictionary(), client.get_logged_model(model_id).to_dictionary()
        assert after == before
        assert client.get_run(other).data.metrics == {}
        client.log_inputs(other, models=[LoggedModelInput(model_id)])  # as the runs of our validations do
        client.log_metric(other, "candidate_roc_auc", 0.9)

    def test_is_anybodys_where_nothing_is_recorded(self, server: Gated) -> None:
        """A version that was only registered keeps nobody from training on, and neither does one that is proposed."""
        client, name = server.client, "still_training"
        register(server.url, name, 1)
        run_id = str(client.get_model_version(name, "1").run_id)
        for step, stage in enumerate(("None", "Staging")):
            client.transition_model_version_stage(name, "1", stage)
            client.log_metric(run_id, "val_auc", 0.5, step=9 + step)
            client.set_tag(run_id, "note", "mine")
            client.log_text(run_id, "text", f"notes-{step}.txt")
            client.create_logged_model("0", f"checkpoint-{step}", run_id)
        assert client.get_run(run_id).data.metrics["val_auc"] == 0.5
        assert [file.path for file in client.list_artifacts(run_id)] == ["notes-0.txt", "notes-1.txt"]


class TestTheLifecycleDocument:
    """Its own lines, with plain `MlflowClient`."""

    def test_unapproved(self, server: Gated) -> None:
        client, model_name, version = server.client, "hyatt_booking_model", 2
        released(server, model_name)
        client.transition_model_version_stage(name=model_name, version=version, stage="Staging")
        assert server.stages(model_name)[2] == "Staging"
        mlflow.set_tracking_uri(server.url)
        for stage in ("Staging", "Production"):
            assert mlflow.pyfunc.load_model(f"models:/{model_name}/{stage}").predict([1.0]) is not None
        for key, value in (
            ("approval_status", "approved"),
            ("approved_by", "julian.wang"),
            ("approval_comment", "Better."),
            ("reason", "Better."),  # moved to Staging it is proposed, and has a record
        ):
            why = refusal(lambda key=key, value=value: client.set_model_version_tag(model_name, version, key, value))  # type: ignore[misc]
            assert "in Signoff" in why
        before = server.stages(model_name)
        why = refusal(
            lambda: client.transition_model_version_stage(
                name=model_name, version=version, stage="Production", archive_existing_versions=True
            )
        )
        assert "0 of 1 approvals" in why
        assert server.stages(model_name) == before
        assert server.events(model_name)[-1] == "promotion:refused"

    def test_approved(self, server: Gated) -> None:
        client, model_name, version = server.client, "approved_model", 2
        released(server, model_name)
        client.set_model_version_tag(model_name, version, "reason", "AUC 0.88 → 0.91 on dataset v3")
        approve(server, model_name, version)
        client.transition_model_version_stage(
            name=model_name, version=version, stage="Production", archive_existing_versions=True
        )
        assert server.stages(model_name) == {1: "Archived", 2: "Production"}
        assert server.aliases(model_name) == {"champion": 2}
        assert server.events(model_name)[-2:] == ["promotion:intended", "promotion:confirmed"]
        assert server.tags(model_name, version)["promoted_by"] == "mlflow-client"
        assert server.tags(model_name, version)["reason"] == "AUC 0.88 → 0.91 on dataset v3"
        assert "promote it" in refusal(
            lambda: client.set_model_version_tag(model_name, version, "promoted_by", "julian.wang")
        )
        assert "promote it" in refusal(lambda: client.set_model_version_tag(model_name, version, "reason", "AUC"))
        client.set_model_version_tag(model_name, version, "team", "crm")
        mlflow.set_tracking_uri(server.url)
        assert mlflow.pyfunc.load_model(f"models:/{model_name}/Production").predict([1.0]) is not None
        with mlflow.start_run(run_name="deploy"):
            mlflow.log_param("model_name", model_name)
            mlflow.log_metric("deployment_latency_ms", 245)
            mlflow.set_tag("stage", "Production")

    def test_approved_with_a_reason_in_a_header(self, server: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
        class Reason:
            def in_context(self) -> bool:
                return True

            def request_headers(self) -> dict[str, str]:
                return {"X-Signoff-Reason": quote("Größer als 0,92")}

        name = released(server, "with_a_reason")
        approve(server, name, 2)
        monkeypatch.setattr(headers._request_header_provider_registry, "_registry", [Reason()])
        server.client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
        monkeypatch.undo()
        assert server.tags(name, 2)["reason"] == "Größer als 0,92"

    def test_approved_by_its_alias(self, server: Gated) -> None:
        name = released(server, "by_alias")
        approve(server, name, 2)
        server.client.set_registered_model_alias(name, "champion", "2")
        assert server.stages(name) == {1: "Archived", 2: "Production"}
        assert server.aliases(name) == {"champion": 2}
        server.client.transition_model_version_stage(name, "2", "Archived")
        assert server.aliases(name) == {}
        assert server.events(name)[-1] == "archival:confirmed"


class TestAnIntent:
    def test_of_ours_lets_its_own_promotion_through_in_one_session(self, server: Gated) -> None:
        name = released(server, "ours")
        server.proxy.writes.clear()
        releases.promote(server.signoff, approve(server, name, 2), by="release_manager", reason="Better.")
        assert server.stages(name) == {1: "Archived", 2: "Production"}
        assert not [line for line in server.proxy.writes if "/outcome" in line]

    def test_that_ends_with_other_files_is_put_back(self, server: Gated) -> None:
        """Also with the index, which lets nobody be in Production before the other one has left."""
        name = released(server, "put_back")
        ref = approve(server, name, 2)
        before = server.stages(name), server.aliases(name)
        opened = releases.promote(server.signoff.prescribing, ref, by="release_manager", reason="Better.").event
        assert opened
        intent = str(opened.body["intent"])
        body = {"name": name, "version": "2", "stage": "Production", "archive_existing_versions": True}
        sent = {"X-Signoff-Intent": intents.proof(server.signoff, intent)}
        assert (
            server.send(
                "POST", f"{API}/model-versions/transition-stage", json=body, headers={"X-Signoff-Intent": intent}
            ).status_code
            == 403
        )  # what anybody can read in the record
        assert (server.stages(name), server.aliases(name)) == before
        assert server.send("POST", f"{API}/model-versions/transition-stage", json=body, headers=sent).is_success
        assert server.stages(name) == {1: "Archived", 2: "Production"}
        server.artifacts.joinpath(files_of(server, name, 2), "new").write_text("past everybody")
        try:
            assert intents.conclude(server.signoff, intent).kind.value == "promotion:aborted"
        finally:
            server.artifacts.joinpath(files_of(server, name, 2), "new").unlink()
        assert (server.stages(name), server.aliases(name)) == before

    def test_that_is_made_up_opens_nothing(self, server: Gated) -> None:
        name = released(server, "made_up")
        approve(server, name, 2)
        body = {"name": name, "version": "2", "stage": "Production", "archive_existing_versions": True}
        answer = server.send(
            "POST", f"{API}/model-versions/transition-stage", json=body, headers={"X-Signoff-Intent": "0" * 32}
        )
        assert answer.status_code == 403
        assert server.stages(name) == {1: "Production", 2: "Staging"}


class TestTagsOfALostRelease:
    """The ledger was restored from an older backup, and MLflow shows what was recorded after it."""

    def test_are_put_back_and_nothing_is_left_to_find(self, server: Gated) -> None:
        ref = VersionRef(name="lost", version=1)
        server.client.create_registered_model(ref.name)
        server.client.create_model_version(ref.name, "s3://bucket/model")
        reconciler.reconcile(server.signoff)
        tags = {"approval_status": "approved", "approved_by": "mira", "signoff.event": f"9999:{'0' * 64}"}
        insert = "INSERT INTO model_version_tags (name, version, key, value) VALUES ('lost', 1, ?, ?)"
        with closing(sqlite3.connect(server.artifacts.parent / "mlflow.db")) as database, database:
            database.executemany(insert, tags.items())
        reconciler.reconcile(server.signoff)
        found = open_deviations(server.signoff, ref.name)
        assert {one.subject for one in found} == {f"tag:1:{key}" for key in tags}
        assert "which only Signoff writes" in refusal(
            lambda: server.client.set_model_version_tag(ref.name, "1", "signoff.event", "1:0")
        )
        reconciler.restore(server.signoff, found[0].id, by="release_manager", reason="That release was lost.")
        assert server.tags(ref.name, 1) == BY_NOBODY
        reconciler.reconcile(server.signoff)
        assert open_deviations(server.signoff, ref.name) == []


def own_calls(experiment: str, run: str, key: str) -> dict[str, tuple[str, str, Any]]:
    """Every call by which somebody could change the witness of the record."""
    of_run, of_experiment = {"run_id": run}, {"experiment_id": experiment}
    artifact = f"{ARTIFACTS}/artifacts/{experiment}/{run}/artifacts/note.txt"
    return {
        "runs/log-parameter": ("POST", f"{API}/runs/log-parameter", {**of_run, "key": key, "value": "false"}),
        "runs/log-metric": ("POST", f"{API}/runs/log-metric", {**of_run, "key": key, "value": 1, "timestamp": 1}),
        "runs/log-batch": ("POST", f"{API}/runs/log-batch", {**of_run, "params": [{"key": f"{key}b", "value": "x"}]}),
        "runs/set-tag": ("POST", f"{API}/runs/set-tag", {**of_run, "key": key, "value": "x"}),
        "runs/delete-tag": ("POST", f"{API}/runs/delete-tag", {**of_run, "key": key}),
        "runs/log-inputs": ("POST", f"{API}/runs/log-inputs", {**of_run, "datasets": []}),
        "runs/update": ("POST", f"{API}/runs/update", {**of_run, "run_name": key}),
        "runs/create": ("POST", f"{API}/runs/create", {**of_experiment, "start_time": 1}),
        "logged-models": ("POST", f"{API}/logged-models", {**of_experiment, "name": "model"}),
        "experiments/set-experiment-tag": (
            "POST", f"{API}/experiments/set-experiment-tag", {**of_experiment, "key": key, "value": "x"}
        ),
        "artifact": ("PUT", artifact, "a note"),
        "artifact, deleted": ("DELETE", artifact, None),
        "runs/delete": ("POST", f"{API}/runs/delete", of_run),
        "runs/restore": ("POST", f"{API}/runs/restore", of_run),
        "experiments/delete": ("POST", f"{API}/experiments/delete", of_experiment),
        "experiments/restore": ("POST", f"{API}/experiments/restore", of_experiment),
        "experiments/update": ("POST", f"{API}/experiments/update", {**of_experiment, "new_name": f"signoff-{key}"}),
        "experiments/create": ("POST", f"{API}/experiments/create", {"name": f"signoff-new-{key}"}),
    }  # fmt: skip


class TestSignoffsOwnExperiments:
    def called(self, server: Gated, call: tuple[str, str, Any], **more: Any) -> httpx.Response:
        method, path, body = call
        return server.send(method, path, **{"content" if isinstance(body, str) else "json": body}, **more)

    def test_are_written_by_signoff_and_by_nobody_else(self, server: Gated) -> None:
        caretaker.tidy(server.signoff)
        report = check(server.signoff)
        assert report.problems == ()
        assert report.last, "our own checkpoint got through"
        (held,) = report.held.values()
        told = httpx.get(f"{server.proxy.url}/api/v1/admissions/names", headers={"Authorization": f"Bearer {TOKEN}"})
        assert told.json()["experiments"] == [held.experiment]
        for what, call in own_calls(held.experiment, held.run, "theirs").items():
            answer = self.called(server, call, headers={"X-Signoff-Intent": f"record-{int(time.time())}.{'0' * 64}"})
            assert answer.status_code == 403, what
            assert "Signoff's own experiments, where nobody else writes" in answer.text, what
        assert check(server.signoff).held == report.held
        refused = [event for event in record(server.signoff) if event.kind.value == "admission:refused"]
        assert any("The parameter" in event.comment and held.run in event.comment for event in refused)
        for what, call in own_calls(held.experiment, held.run, "ours").items():
            sent = {"X-Signoff-Intent": proofs.proof(server.signoff.settings.gate_token, f"record-{int(time.time())}")}
            assert self.called(server, call, headers=sent).is_success, what

    def test_hold_validations_that_signoff_alone_records(self, server: Gated) -> None:
        registry, contents = (
            server.signoff.registry,
            RunContents(
                at=server.signoff.now(),
                metrics={"candidate_roc_auc": 0.9},
                params={"rows": "10"},
                tags={"signoff.event": "7:abc"},
                dataset=Dataset(name="holdout", digest="aaaaaaaa", context="eval", source="upload:holdout.csv"),
                documents={"report.json": "{}"},
            ),
        )
        with pytest.raises(RegistryUnavailable):
            registry.begin_run(EXPERIMENT, "v2 against v1", {})
        with proofs.ours(server.signoff):
            run_id = registry.begin_run(EXPERIMENT, "v2 against v1", {})
        for write in (lambda: registry.complete_run(run_id, contents), lambda: registry.abandon_run(run_id)):
            with pytest.raises(RegistryUnavailable):
                write()
        assert (registry.run(run_id).status, registry.run(run_id).metrics) == ("RUNNING", {})
        with proofs.ours(server.signoff):
            registry.complete_run(run_id, contents)
        assert (registry.run(run_id).status, registry.run_file(run_id, "report.json")) == ("FINISHED", b"{}")


class TestWithoutAnAnswer:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_protected_change_is_refused_and_nothing_changes(self, server: Gated, fault: str) -> None:
        name = released(server, f"fault_{fault.replace(' ', '_')}")
        approve(server, name, 2)
        before = server.meaning(name)
        server.proxy.break_(fault, lambda _method, path: path.endswith("/admissions"))
        try:
            begun = time.monotonic()
            why = refusal(
                lambda: server.client.transition_model_version_stage(
                    name, "2", "Production", archive_existing_versions=True
                )
            )
            said = "broke while answering (status 500)" if fault == "500" else "gave no answer"
            assert said in why
            assert server.proxy.url in why
            assert time.monotonic() - begun < 20
            assert server.proxy.broken == 1
            assert said in refusal(lambda: server.client.delete_registered_model(name))
        finally:
            server.proxy.heal()
        assert server.meaning(name) == before
        recover(server)
        assert server.meaning(name) == before
        assert "promotion:confirmed" not in server.events(name)[-1:]
        server.client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
        assert server.stages(name) == {1: "Archived", 2: "Production"}

    def test_to_the_report_the_change_stands_and_is_recorded_by_the_caretaker(self, server: Gated) -> None:
        name = released(server, "unreported")
        approve(server, name, 2)
        server.proxy.break_("reset before apply", lambda _method, path: path.endswith("/outcome"))
        try:
            server.client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
        finally:
            server.proxy.heal()
        assert server.stages(name) == {1: "Archived", 2: "Production"}
        assert server.events(name)[-1] == "promotion:intended"
        recover(server)
        assert server.events(name)[-1] == "promotion:confirmed"
        assert server.tags(name, 2)["promoted_by"] == "mlflow-client"


class TestManyAtOnce:
    def test_starve_nobody_and_are_each_answered(self, server: Gated) -> None:
        name = released(server, "crowded", 3)
        approve(server, name, 2)
        stop, reads, slowest = threading.Event(), [], [0.0]

        def reader() -> None:
            while not stop.is_set():
                begun = time.monotonic()
                reads.append(server.send("GET", f"{API}/registered-models/get?name={name}").status_code)
                slowest[0] = max(slowest[0], time.monotonic() - begun)

        def one(number: int) -> tuple[int, str]:
            version = {"name": name, "version": str(2 + number % 2)}
            path, body = (
                ("model-versions/transition-stage", {"stage": "Production", "archive_existing_versions": True}),
                ("registered-models/alias", {"alias": "champion"}),
                ("model-versions/transition-stage", {"stage": "Production", "archive_existing_versions": True}),
                ("model-versions/set-tag", {"key": "approval_status", "value": "mine"}),
            )[number // 2 % 4]
            with httpx.Client(timeout=90) as client:
                answer = client.post(f"{server.url}{API}/{path}", json={**version, **body})
                return answer.status_code, answer.json().get("message", "")

        watching = threading.Thread(target=reader)
        watching.start()
        try:
            with ThreadPoolExecutor(100) as pool:
                answers = list(pool.map(one, range(100)))
        finally:
            stop.set()
            watching.join()
        assert {status for status, _ in answers} <= {200, 403}
        assert all(why for status, why in answers if status == 403)
        assert set(reads) == {200}
        assert slowest[0] < 10
        recover(server)
        if server.stages(name)[2] != "Production":  # on a machine that is too busy nobody may have been in time
            server.client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
        assert server.stages(name) == {1: "Archived", 2: "Production", 3: "None"}
        assert server.events(name).count("promotion:confirmed") == 2  # v1's, and one of v2's
        with server.signoff.database.reading() as connection:
            assert list(intents.in_flight(connection)) == []
        assert "in Signoff" in refusal(lambda: server.client.set_model_version_tag(name, "3", "approved_by", "me"))


class TestAServer:
    def test_says_that_it_has_the_hook(self, server: Gated) -> None:
        assert server.signoff.registry.gated()
        assert server.send("GET", "/api/2.0/signoff/gate").json() == {
            "protocol": 1,
            "gate": server.proxy.url,
            "ours": False,
        }

    def test_says_whether_the_caller_has_its_token_and_shows_nothing_of_it(self, server: Gated) -> None:
        for token, ours in ((TOKEN, True), ("another token", False), ("", False)):
            found = proofs.hook(server.signoff.registry, token)
            assert found == Hook(asks=server.proxy.url, ours=ours)
            assert bool(proofs.problem(found, token)) is not ours

    def test_guards_the_files_that_go_through_it(self, server: Gated) -> None:
        registry, name = server.signoff.registry, released(server, "guarded", 1)
        place = registry.place(registry.version(VersionRef(name=name, version=1)))
        assert (place.kind, place.guarded) == (PlaceKind.LOGGED_MODEL, True)

    def test_without_it_is_known_for_that(self, mlflow_server: str) -> None:
        assert not MlflowRegistry(mlflow_server).gated()

    def test_that_starts_while_signoff_is_away_asks_about_the_names_it_was_told_last(
        self, server: Gated, tmp_path: Path
    ) -> None:
        name, nowhere = released(server, "known", 1), "http://127.0.0.1:9"
        server.client.set_registered_model_alias(name, "shadow", "1")
        kept = server.artifacts.parent / "names.json"
        assert kept.stat().st_mode & 0o777 == 0o600
        known = json.loads(kept.read_text())
        assert (known["gate"], known["aliases"]) == (server.proxy.url, ["challenger", "champion"])
        assert "task" in known["model_tags"]
        (tmp_path / kept.name).write_text(json.dumps({**known, "gate": nowhere}))
        with mlflow_server(tmp_path, nowhere) as url:
            client = MlflowClient(url, url)
            client.create_registered_model(name)
            client.create_model_version(name, "s3://bucket/model")
            client.set_registered_model_alias(name, "shadow", "1")
            client.set_registered_model_tag(name, "owner", "crm")
            for protected in (
                lambda: client.set_registered_model_alias(name, "Champion", "1"),
                lambda: client.set_registered_model_tag(name, "task", "regression"),
            ):
                assert "Signoff gave no answer, so nothing was changed" in refusal(protected)
            found = client.get_registered_model(name)
            assert (found.aliases, found.tags) == ({"shadow": "1"}, {"owner": "crm"})

    def test_with_several_workers_and_a_prefix_is_gated_all_the_same(self, tmp_path: Path) -> None:
        with gated(tmp_path, "--static-prefix", "/x", workers=2) as server:
            name = released(server, "prefixed", 3)
            approve(server, name, 2)
            assert server.signoff.registry.gated()
            before = server.meaning(name)
            below = files_of(server, name, 1)
            root = server.url.removesuffix("/x")
            with ThreadPoolExecutor(8) as pool:
                refused = [
                    pool.submit(
                        httpx.request,
                        "PUT",
                        f"{place}{ARTIFACTS}/artifacts/{below}/MLmodel",
                        content=b"mine",
                        timeout=30,
                    )
                    for place in (root, server.url) * 8
                ]
                assert {answer.result().status_code for answer in refused} == {403}
            for _ in range(4):
                assert refusal(
                    lambda: server.client.transition_model_version_stage(
                        name, "3", "Production", archive_existing_versions=True
                    )
                )
            assert server.meaning(name) == before
            server.client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
            assert server.stages(name) == {1: "Archived", 2: "Production", 3: "None"}


def test_headers_of_ours_are_sent_by_our_own_client_only() -> None:
    """MLflow's client of a person in the same process carries no intent."""
    assert "X-Signoff-Intent" not in headers.resolve_request_headers()
    with MlflowRegistry("http://127.0.0.1:9").under("abc"):
        assert headers.resolve_request_headers()["X-Signoff-Intent"] == "abc"


def test_tags_that_a_vote_overtakes_while_they_are_written_end_as_recorded_and_blame_no_client(
    server: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(server.url, "raced", 1)
    ref, votes, said = VersionRef(name="raced", version=1), ["reviewer", "reviewer2"], mirror.prescribed
    reviews.submit(server.signoff, ref, by="scientist", comment="Please review.")

    def overtaken(*asked: Any) -> dict[str, str]:
        found = said(*asked)
        if votes and threading.current_thread() is threading.main_thread():
            reviews.approve(server.signoff, ref, by=votes.pop(), comment="I agree.")
        return found

    monkeypatch.setattr(mirror, "prescribed", overtaken)
    reviews.approve(server.signoff, ref, by=votes.pop(0), comment="Looks right.")
    mirror.flush(server.signoff)
    assert [kind for kind in server.events("raced") if kind.endswith(":refused")] == []
    assert server.tags("raced", 1)["approved_by"] == "reviewer, reviewer2"
