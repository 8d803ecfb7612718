"""``--app-name signoff-auth``: the hook on top of MLflow's basic-auth. Whoever is logged in is the one who acts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from services import proofs
from services.accounts import people
from services.domain import Role, VersionRef
from services.record.ledger import Event
from services.registry import Hook
from stack.hook import python_path
from tests.arena import register
from tests.conftest import free_port
from tests.gated import TOKEN, Gated, asks, gated, logged_in
from tests.ledgers import record
from tests.verbs import releases, reviews

API, V3 = "/api/2.0/mlflow", "/api/3.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
OURS, PASSWORD = "signoff", "twelve letters or more"
"""The account Signoff itself has in MLflow, the first of its admins; everybody here has the same password."""
PEOPLE = (
    *("scientist", "reviewer", "release_manager"),
    *("leaver", "mallory", "Release_Manager", "release_manager ", people.MLFLOW_CLIENT),
)
"""Whom MLflow knows. Signoff knows the first three, and knows that the fourth has left."""
EVERY_MODEL = {"resource_type": "registered_model", "resource_id": "*"}
SETTINGS = {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD, "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key for tests only"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    """With basic-auth, two workers and a prefix; its people may write every model, and read the rest."""
    folder = tmp_path_factory.mktemp("auth")
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder / 'auth.db'}\n"
        f"admin_username = {OURS}\nauth_cache_ttl_seconds = 60\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    settings = {**SETTINGS, "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini")}
    with gated(
        folder, "--static-prefix", "/x", app="signoff-auth", login=f"{OURS}:{PASSWORD}", workers=2, **settings
    ) as found:
        for name in PEOPLE:
            asked(found, OURS, "POST", f"{API}/users/create", username=name, password=PASSWORD).raise_for_status()
            granted = {"username": name, **EVERY_MODEL, "permission": "MANAGE"}
            asked(found, OURS, "POST", f"{V3}/users/permissions/grant", **granted).raise_for_status()
        database = found.signoff.database
        people.add_account(database, username="leaver", name="Lee Ver", hashed="!", roles=[Role.RELEASE_MANAGER])
        people.disable(database, "leaver")
        yield found


def asked(server: Gated, by: str, method: str, path: str, **body: Any) -> httpx.Response:
    """A raw request by somebody who is logged in."""
    return server.send(method, path, auth=(by, PASSWORD), json=body)


def client(server: Gated, username: str) -> MlflowClient:
    """MLflow's own client, logged in."""
    uri = logged_in(server.url, f"{username}:{PASSWORD}")
    return MlflowClient(uri, uri)


def released(server: Gated, name: str, versions: int = 2) -> str:
    """A model whose version 1 came through the gate; the others were never submitted."""
    register(server.signoff.settings.mlflow_uri, name, versions)
    releases.promote(server.signoff, approve(server, name, 1), by="release_manager", reason="First release.")
    return name


def approve(server: Gated, name: str, version: int) -> VersionRef:
    ref = VersionRef(name=name, version=version)
    reviews.submit(server.signoff, ref, by="scientist", comment="Please review.")
    reviews.approve(server.signoff, ref, by="reviewer", comment="Looks right.")
    return ref


@pytest.fixture(scope="module")
def ready(server: Gated) -> VersionRef:
    """Version 2 is approved and version 3 never submitted, while version 1 serves."""
    name = released(server, "ready", 3)
    return approve(server, name, 2)


def promoted(server: Gated, username: str, ref: VersionRef) -> None:
    client(server, username).transition_model_version_stage(
        ref.name, str(ref.version), "Production", archive_existing_versions=True
    )


def refused(server: Gated, username: str, ref: VersionRef) -> str:
    """Nothing changes when they promote; returns why."""
    before = meaning(server, ref)
    with pytest.raises(MlflowException) as error:
        promoted(server, username, ref)
    assert error.value.error_code == "PERMISSION_DENIED"
    assert meaning(server, ref) == before
    return str(error.value)


def meaning(server: Gated, ref: VersionRef) -> tuple[dict[int, str], dict[str, int]]:
    registry = server.signoff.registry
    stages = {version.ref.version: version.stage for version in registry.versions(ref.name)}
    return stages, dict(registry.model(ref.name).aliases)


def last(server: Gated) -> Event:
    return record(server.signoff)[-1]


class TestWhoeverIsLoggedIn:
    def test_is_the_actor_of_the_promotion(self, server: Gated) -> None:
        ref = approve(server, released(server, "acted"), 2)
        promoted(server, "release_manager", ref)
        assert meaning(server, ref) == ({1: "Archived", 2: "Production"}, {"champion": 2})
        events = [event for event in record(server.signoff) if event.ref == ref][-2:]
        assert [event.kind.value for event in events] == ["promotion:intended", "promotion:confirmed"]
        for event in events:
            assert (event.actor, event.body["source"]) == ("release_manager", "mlflow_client")
        assert server.signoff.registry.version(ref).tags["promoted_by"] == "release_manager"

    def test_is_written_on_what_they_register_and_cannot_be_somebody_else(self, server: Gated) -> None:
        register(server.signoff.settings.mlflow_uri, "theirs", 1)
        source = server.signoff.registry.version(VersionRef(name="theirs", version=1)).source
        named = {"name": "theirs", "source": source, "model_id": source.rpartition("/")[2]}
        created = client(server, "scientist").create_model_version(**named)
        assert created.tags == {"signoff.registered_by": "scientist"}
        copied = client(server, "reviewer").copy_model_version("models:/theirs/2", "theirs")
        assert copied.tags == {"signoff.registered_by": "reviewer"}
        with pytest.raises(MlflowException, match="by this server alone"):
            client(server, "scientist").create_model_version(**named, tags={"signoff.registered_by": "reviewer"})
        assert set(meaning(server, VersionRef(name="theirs", version=3))[0]) == {1, 2, 3}

    def test_promotes_nothing_unapproved(self, server: Gated, ready: VersionRef) -> None:
        why = refused(server, "release_manager", VersionRef(name=ready.name, version=3))
        assert "not submitted for review" in why
        assert "0 of 1 approvals" in why
        assert (last(server).kind.value, last(server).actor) == ("promotion:refused", "release_manager")

    @pytest.mark.parametrize("username", ["scientist", "reviewer"])
    def test_has_the_roles_of_the_account_of_that_name(self, server: Gated, ready: VersionRef, username: str) -> None:
        assert f"Only a release manager may promote; {username} is {username}" in refused(server, username, ready)
        assert (last(server).kind.value, last(server).actor) == ("promotion:refused", username)

    @pytest.mark.parametrize("username", ["mallory", "Release_Manager", "release_manager ", "leaver", OURS])
    def test_and_has_no_account_of_that_very_name_is_refused(
        self, server: Gated, ready: VersionRef, username: str
    ) -> None:
        """However alike the names are, and whatever MLflow lets them do: its admins too. Or it is disabled."""
        assert f"{username!r} has no account here that may act" in refused(server, username, ready)
        assert (last(server).kind.value, last(server).actor) == ("promotion:refused", username)

    def test_under_the_name_of_those_who_are_not_is_not_taken_for_them(self, server: Gated, ready: VersionRef) -> None:
        assert server.signoff.settings.anonymous_roles
        assert "has no account here that may act" in refused(server, people.MLFLOW_CLIENT, ready)
        assert last(server).actor != people.MLFLOW_CLIENT

    def test_cannot_say_that_they_are_somebody_else(self, server: Gated, ready: VersionRef) -> None:
        names = dict.fromkeys(("X-Signoff-User", "X-Remote-User", "Remote-User", "X-Forwarded-User"), "release_manager")
        body = {"name": ready.name, "version": "3", "stage": "Production", "archive_existing_versions": True}
        before = meaning(server, ready)
        answer = server.send(
            "POST",
            f"{API}/model-versions/transition-stage",
            auth=("mallory", PASSWORD),
            headers=names,
            json={**body, "user": "release_manager"},
        )
        assert answer.status_code == 403
        wrong = ("release_manager", "a password of somebody else")
        assert server.send("POST", f"{API}/model-versions/transition-stage", auth=wrong, json=body).status_code == 401
        assert meaning(server, ready) == before
        assert last(server).actor == "mallory"

    def test_is_named_where_files_are_refused(self, server: Gated, ready: VersionRef) -> None:
        """Routes that Flask does not serve: who is logged in is known there too."""
        uri = server.signoff.registry.version(VersionRef(name=ready.name, version=1)).source
        model_id = uri.rpartition("/")[2]
        below = f"0/models/{model_id}/artifacts"
        answer = server.send("PUT", f"{ARTIFACTS}/{below}/MLmodel", auth=(OURS, PASSWORD), content=b"mine")
        assert answer.status_code == 403
        assert f"files of {ready.name}/v1 are there" in answer.text
        assert (last(server).kind.value, last(server).actor) == ("admission:refused", OURS)


class TestMLflowsOwnLogin:
    def test_lets_signoff_show_the_hook_that_both_have_one_token(self, server: Gated) -> None:
        assert proofs.hook(server.signoff.registry, TOKEN) == Hook(asks=server.proxy.url, ours=True)

    def test_comes_first(self, server: Gated, ready: VersionRef) -> None:
        """Who is not logged in, or not permitted by MLflow, is told so by MLflow; Signoff is not asked."""
        events, before = len(record(server.signoff)), meaning(server, ready)
        revoked = {"username": "mallory", **EVERY_MODEL}
        asked(server, OURS, "POST", f"{V3}/users/permissions/revoke", **revoked).raise_for_status()
        server.proxy.writes.clear()
        calls = (
            ("POST", "model-versions/transition-stage", {"version": "2", "stage": "Production"}),
            ("POST", "registered-models/alias", {"alias": "champion", "version": "2"}),
            ("POST", "model-versions/set-tag", {"version": "2", "key": "approval_status", "value": "approved"}),
            ("DELETE", "registered-models/delete", {}),
        )
        for method, path, more in calls:
            body = {"name": ready.name, **more}
            assert server.send(method, f"{API}/{path}", json=body).status_code == 401, path
            answer = asked(server, "mallory", method, f"{API}/{path}", **body)
            assert (answer.status_code, answer.text) == (403, "Permission denied"), path
        assert server.send("PUT", f"{ARTIFACTS}/0/x", content=b"x").status_code == 401
        assert server.proxy.writes == []
        assert meaning(server, ready) == before
        assert len(record(server.signoff)) == events
        asked(server, OURS, "POST", f"{V3}/users/permissions/grant", **revoked, permission="MANAGE").raise_for_status()

    def test_is_administered_without_asking(self, server: Gated) -> None:
        model = {"resource_type": "registered_model", "resource_id": "new"}
        server.proxy.break_("down", asks)
        try:
            for method, path, body in (
                ("POST", f"{API}/users/create", {"username": "new", "password": PASSWORD}),
                ("POST", f"{V3}/users/permissions/grant", {"username": "new", **model, "permission": "EDIT"}),
                ("POST", f"{V3}/users/permissions/revoke", {"username": "new", **model}),
                ("PATCH", f"{API}/users/update-password", {"username": "new", "password": PASSWORD[::-1]}),
                ("PATCH", f"{API}/users/update-admin", {"username": "new", "is_admin": True}),
                ("POST", f"{V3}/roles/create", {"name": "new", "workspace": "default"}),
                ("DELETE", f"{API}/users/delete", {"username": "new"}),
            ):
                answer = asked(server, OURS, method, path, **body)
                assert answer.is_success, (path, answer.text)
            assert server.proxy.broken == 0
        finally:
            server.proxy.heal()


def test_a_server_without_what_basic_auth_needs_ends_with_one_sentence(tmp_path: Path) -> None:
    """MLflow would start such a worker again and again."""
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "signoff-auth", "--port", str(free_port())]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "SIGNOFF"))},
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "PYTHONPATH": python_path(tmp_path / "hook"),
    }
    ended = subprocess.run(
        command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "Error: A static secret key needs to be set" in ended.stderr
    assert "Traceback" not in ended.stderr
