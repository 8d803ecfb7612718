"""REST: every path of the contract, its answers, and what it refuses and records."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from api import auth
from api.auth import Door
from api.bodies import MAX_BODY
from api.errors import STATUSES, status_of
from services import errors
from services.accounts import sessions, tokens
from services.domain import Role, VersionRef
from services.errors import LedgerUnavailable, OutcomeUnknown, RegistryUnavailable, SignoffError
from services.policy import PolicyBook, parse
from services.record import checkpoints
from services.settings import PROJECT
from services.signoff import Signoff
from services.steps import slots
from services.views import dossier
from tests.conftest import Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.rest import TRANSITION, V1, Rest, refused
from tests.test_releases import approve, release
from tests.verbs import reviews
from verifier.verify import keys_in, verify_file
from web.attempts import WRONG_TOKENS


@pytest.fixture
def rest(signoff: Signoff) -> Rest:
    return Rest(signoff)


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """m v1, in Production."""
    return release(signoff, registry.add_version("m", {"val_auc": 0.92}))


@pytest.fixture
def candidate(registry: FakeRegistry, champion: VersionRef) -> VersionRef:
    """m v2, good enough and not submitted."""
    return registry.add_version("m", {"val_auc": 0.95})


@pytest.fixture
def ready(signoff: Signoff, candidate: VersionRef) -> VersionRef:
    """m v2, approved."""
    return approve(signoff, candidate)


def path(ref: VersionRef, rest: str = "") -> str:
    return f"/models/{ref.name}/versions/{ref.version}{rest}"


def others(signoff: Signoff) -> list[str]:
    """What is on record beside tokens."""
    return [kind for kind in kinds(signoff) if not kind.startswith("token:")]


class TestReading:
    def test_models_are_listed_by_name_from_the_snapshot(
        self, rest: Rest, registry: FakeRegistry, champion: VersionRef, candidate: VersionRef
    ) -> None:
        registry.add_version("z", {"val_auc": 0.9})
        rest.get("/models")
        before = registry.calls
        answer = rest.get("/models").json()
        assert registry.calls == before
        assert [line["name"] for line in answer["models"]] == ["m", "z"]
        assert answer["next_cursor"] is None
        line = answer["models"][0]
        assert (line["champion"], line["versions"], line["challenger"]) == (1, 2, None)

    def test_pages_neither_repeat_nor_skip_while_models_are_added(self, rest: Rest, registry: FakeRegistry) -> None:
        for name in ("a", "c", "e", "g"):
            registry.add_version(name)
        first = rest.get("/models", limit=2).json()
        for name in ("b", "f"):
            registry.add_version(name)
        rest.signoff.snapshot.refresh()
        second = rest.get("/models", limit=2, cursor=first["next_cursor"]).json()
        third = rest.get("/models", limit=2, cursor=second["next_cursor"]).json()
        names = [[line["name"] for line in page["models"]] for page in (first, second, third)]
        assert names == [["a", "c"], ["e", "f"], ["g"]]
        assert third["next_cursor"] is None

    def test_models_are_searched(self, rest: Rest, registry: FakeRegistry, champion: VersionRef) -> None:
        registry.add_model("n", owner="Mira")
        found = [line["name"] for line in rest.get("/models", owner="mira").json()["models"]]
        assert found == ["n"]
        assert [line["name"] for line in rest.get("/models", stage="Production").json()["models"]] == ["m"]

    def test_a_model_has_its_versions_newest_first_and_paged(
        self, rest: Rest, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        for _ in range(3):
            registry.add_version("m")
        rest.signoff.snapshot.refresh()
        first = rest.get("/models/m", limit=3).json()
        registry.add_version("m")
        rest.signoff.snapshot.refresh()
        second = rest.get("/models/m", limit=3, cursor=first["next_cursor"]).json()
        assert [line["version"] for line in first["versions"]] == [4, 3, 2]
        assert [line["version"] for line in second["versions"]] == [1]
        assert second["versions"][0]["aliases"] == ["champion"]
        assert second["next_cursor"] is None

    def test_a_version_has_evidence_submission_and_votes(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        answer = rest.get(path(ready)).json()
        (measured := answer["metrics"]["val_auc"]).pop("logged_at")
        said = {"value": 0.95, "source": "run", "dataset": "holdout", "dataset_digest": "aaaaaaaa"}
        assert measured == {**said, "values": []}
        assert (answer["stage"], answer["aliases"], answer["status"]) == ("Staging", ["challenger"], "approved")
        assert answer["digest"] == registry.manifest(ready).digest
        assert (answer["submission"]["submitted_by"], answer["submission"]["status"]) == ("scientist", "approved")
        assert [(d["person"], d["decision"]) for d in answer["decisions"]] == [("reviewer", "approved")]

    def test_a_metric_that_is_no_number_is_null(self, rest: Rest, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": float("nan"), "loss": float("inf")})
        metrics = rest.get(path(ref)).json()["metrics"]
        assert [metrics[name]["value"] for name in ("val_auc", "loss")] == [None, None]

    def test_a_metric_of_two_values_shows_both(self, rest: Rest, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.log_on_model(ref, "val_auc", 0.5)
        found = rest.get(path(ref)).json()["metrics"]["val_auc"]
        assert found["value"] == 0.95
        assert [(one["source"], one["value"]) for one in found["values"]] == [("run", 0.95), ("logged_model", 0.5)]

    def test_what_was_registered_a_moment_ago_is_there(
        self, rest: Rest, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        """A script registers, and asks for the verdict; the snapshot is up to ten seconds old."""
        rest.get("/models")
        ref, other = registry.add_version("m", {"val_auc": 0.95}), registry.add_version("new")
        assert rest.get(path(ref, "/verdict")).status_code == 200
        assert rest.get(path(ref)).status_code == 200
        assert rest.get(f"/models/{other.name}").status_code == 200

    @pytest.mark.parametrize(
        "wanted",
        ["/models/nothing", "/models/nothing/versions/1", "/models/m/versions/99", "/models/m/versions/99/verdict"],
    )
    def test_what_is_not_there_is_404(self, rest: Rest, champion: VersionRef, wanted: str) -> None:
        refused(rest.get(wanted), 404, "RESOURCE_DOES_NOT_EXIST")

    @pytest.mark.parametrize("version", ["03", "0", "-1", "3.0", "x", "٣", "9999999999"])
    def test_a_version_is_a_plain_number(self, rest: Rest, champion: VersionRef, version: str) -> None:
        refused(rest.get(f"/models/m/versions/{version}"), 400, "INVALID_PARAMETER_VALUE")

    @pytest.mark.parametrize(
        "name", ["grün ♥", "a b", "日本", "=HYPERLINK(1)", "100%", "a?b#c", "\u202ename", "x\ny", ".x"]
    )
    def test_any_name_mlflow_allows_is_found(self, rest: Rest, registry: FakeRegistry, name: str) -> None:
        from urllib.parse import quote

        registry.add_version(name, {"val_auc": 0.95})
        answer = rest.get(f"/models/{quote(name, safe='')}/versions/1")
        assert (answer.status_code, answer.json()["name"]) == (200, name)

    def test_a_name_with_a_slash_leads_nowhere(self, rest: Rest, champion: VersionRef) -> None:
        """MLflow has none; what is encoded is decoded before paths are told apart."""
        for encoded in ("a%2Fb", "m%2Fversions%2F1%2Fx", "a/b"):
            refused(rest.get(f"/models/{encoded}"), 404, "ENDPOINT_NOT_FOUND")
        refused(rest.get("/models/a%00b"), 400, "INVALID_PARAMETER_VALUE")

    def test_policies_are_given_with_the_text_that_is_digested(self, rest: Rest, signoff: Signoff) -> None:
        found = rest.get("/policies").json()["policies"]
        assert {(p["name"], p["digest"]) for p in found} == {
            (policy.rules.name, policy.digest) for policy in signoff.policies.policies
        }
        assert found[-1]["text"] == (PROJECT / "policies" / "default.yaml").read_text()

    def test_versions_are_compared(self, rest: Rest, champion: VersionRef, candidate: VersionRef) -> None:
        answer = rest.get("/compare", versions="m:1,m:2").json()
        assert [line["version"] for line in answer["versions"]] == [1, 2]
        assert answer["versions"][1]["data"] == "same"
        row = next(row for row in answer["metrics"] if row["name"] == "val_auc")
        assert [cell["standing"] for cell in row["cells"]] == ["baseline", "better"]
        (said,) = answer["candidates"]
        assert (said["version"], said["better"], said["failed_checks"]) == (2, ["val_auc"], [])
        assert said["sentence"].startswith("v2 beats v1 on val_auc")
        assert answer["versions"][1]["datasets"] == ["holdout aaaaaaaa"]
        assert answer["requirements"] is None
        assert rest.get("/compare", versions="m:1,m:2", requirements="true").json()["requirements"] == []
        too_many = ",".join(f"m:{number}" for number in range(1, 12))
        for asked in ("m", "m:1", "m:03", too_many, ","):
            refused(rest.get("/compare", versions=asked), 400, "INVALID_PARAMETER_VALUE")
        refused(rest.get("/compare", versions="m:1,m:9"), 404, "RESOURCE_DOES_NOT_EXIST")


class TestVerdict:
    def test_has_every_check_with_value_threshold_and_reason(self, rest: Rest, candidate: VersionRef) -> None:
        answer = rest.get(path(candidate, "/verdict")).json()
        assert set(answer) == {"allowed", "checks", "seen"}
        assert answer["allowed"] is False
        assert {frozenset(check) for check in answer["checks"]} == {
            frozenset({"id", "title", "passed", "value", "threshold", "reason"})
        }
        failed = [check["id"] for check in answer["checks"] if not check["passed"]]
        assert failed == ["submitted", "approvals:reviewer"] or "submitted" in failed

    def test_is_the_pages(self, rest: Rest, signoff: Signoff, champion: VersionRef, ready: VersionRef) -> None:
        for ref in (champion, ready):
            shown = dossier.open_dossier(signoff, ref)
            expected = {"allowed": True, "checks": shown.verdict.as_json(), "seen": shown.binding.digest}
            assert rest.get(path(ref, "/verdict")).json() == expected

    def test_that_is_fresh_sees_files_that_changed_just_now(
        self, rest: Rest, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        assert rest.get(path(ready, "/verdict")).json()["allowed"] is True
        registry.write_file(ready, "model.skops", b"another model!!!")
        assert rest.get(path(ready, "/verdict"), fresh="true").json()["allowed"] is False

    def test_of_a_model_without_a_policy_is_403(self, rest: Rest, signoff: Signoff, registry: FakeRegistry) -> None:
        new = registry.add_version("n", {"val_auc": 0.95})
        text = (PROJECT / "policies" / "default.yaml").read_text().replace('["*"]', '["other"]')
        alone = Rest(replace(signoff, policies=PolicyBook(policies=(parse(text, "x.yaml"),))))
        assert "No policy applies to n" in refused(alone.get(path(new, "/verdict")), 403, "PERMISSION_DENIED")


class TestVerbs:
    def test_the_whole_way_to_production_and_back(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        steps = [
            ("submit", "scientist", {"comment": "Better."}),
            ("request-changes", "reviewer", {"comment": "Say on what."}),
            ("submit", "scientist", {"comment": "On the holdout."}),
            ("approve", "reviewer", {"comment": "Good."}),
            ("promote", "release_manager", {"reason": "Release 5."}),
        ]
        for verb, by, words in steps:
            answer = rest.post(path(candidate, f"/{verb}"), by, **words)
            assert answer.status_code == 200, answer.text
        last = record(signoff)[-1]
        assert answer.json() == {
            "name": "m",
            "version": 2,
            "message": "m/v2 is in Production.",
            "event": last.seq,
            "hash": last.hash,
        }
        assert (last.actor, last.comment, last.body["source"]) == ("release_manager", "Release 5.", "rest")
        assert registry.version(candidate).tags["promoted_by"] == "release_manager"
        back = rest.post("/models/m/rollback", "release_manager", reason="Wrong scores.")
        assert (back.status_code, back.json()["version"]) == (200, 1)
        assert registry.model("m").aliases["champion"] == 1

    def test_submitting_what_is_pending_and_promoting_the_champion_change_nothing(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, candidate: VersionRef
    ) -> None:
        reviews.submit(signoff, candidate, by="scientist", comment="x")
        rest.secret("scientist"), rest.secret("release_manager")
        before, writes = kinds(signoff), list(registry.writes)
        for answer in (
            rest.post(path(candidate, "/submit"), "scientist", comment="Again."),
            rest.post(path(champion, "/promote"), "release_manager", reason="Again."),
        ):
            assert (answer.status_code, answer.json()["event"]) == (200, None)
        assert (kinds(signoff), registry.writes) == (before, writes)

    def test_a_refusal_of_the_gate_has_every_check_and_one_event(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        rest.secret("release_manager")
        before, writes = kinds(signoff), list(registry.writes)
        answer = rest.post(path(candidate, "/promote"), "release_manager", reason="Now.")
        message = refused(answer, 403, "PERMISSION_DENIED")
        failed = [check for check in answer.json()["checks"] if not check["passed"]]
        assert failed
        assert all(check["reason"] in message for check in failed)
        assert kinds(signoff) == [*before, "promotion:refused"]
        assert record(signoff)[-1].body["source"] == "rest"
        assert registry.writes == writes

    def test_a_void_approval_is_403(self, rest: Rest, registry: FakeRegistry, ready: VersionRef) -> None:
        registry.write_file(ready, "model.skops", b"other bytes")
        answer = rest.post(path(ready, "/promote"), "release_manager", reason="Now.")
        assert "files changed" in refused(answer, 403, "PERMISSION_DENIED")

    def test_a_taken_slot_is_409_and_names_the_first(self, rest: Rest, signoff: Signoff, ready: VersionRef) -> None:
        slots.take(signoff.database, "m", holder="mira", purpose="the promotion of v7")
        answer = rest.post(path(ready, "/promote"), "release_manager", reason="Now.")
        assert "mira acted first" in refused(answer, 409, "RESOURCE_CONFLICT")
        assert kinds(signoff)[-1] == "promotion:refused"

    def test_one_does_not_approve_ones_own(self, rest: Rest, signoff: Signoff, candidate: VersionRef) -> None:
        reviews.submit(signoff, candidate, by="both", comment="x")
        refused(rest.post(path(candidate, "/approve"), "both", comment="Mine."), 403, "PERMISSION_DENIED")

    def test_without_an_earlier_champion_there_is_no_way_back(
        self, rest: Rest, signoff: Signoff, champion: VersionRef
    ) -> None:
        answer = rest.post("/models/m/rollback", "release_manager", reason="x")
        assert "no earlier champion" in refused(answer, 403, "PERMISSION_DENIED")
        assert kinds(signoff)[-1] == "rollback:refused"
        refused(rest.post("/models/nothing/rollback", "release_manager", reason="x"), 404, "RESOURCE_DOES_NOT_EXIST")

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"comment": ""},
            {"comment": "   "},
            {"comment": "x" * 10_001},
            {"comment": "a\0b"},
            {"comment": "half \ud800"},
            {"comment": 7},
            {"comment": "x", "stage": "Production"},
            {"comment": "x", "reason": "y"},
        ],
    )
    def test_words_are_needed_and_unknown_fields_refused(
        self, rest: Rest, signoff: Signoff, candidate: VersionRef, body: dict[str, object]
    ) -> None:
        rest.secret("scientist")
        before = kinds(signoff)
        answer = rest.client.post(
            V1 + path(candidate, "/submit"),
            content=json.dumps(body),
            headers={"Authorization": f"Bearer {rest.secret('scientist')}"},
        )
        refused(answer, 400, "INVALID_PARAMETER_VALUE")
        assert kinds(signoff) == before

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b'{"comment": ' + b"9" * 5000 + b"}"]
    )
    def test_a_body_that_is_no_object_is_400(self, rest: Rest, candidate: VersionRef, content: bytes) -> None:
        headers = {"Authorization": f"Bearer {rest.secret('scientist')}"}
        answer = rest.client.post(V1 + path(candidate, "/submit"), content=content, headers=headers)
        refused(answer, 400, "INVALID_PARAMETER_VALUE")

    def test_a_body_that_is_too_large_is_not_read(self, rest: Rest, signoff: Signoff, candidate: VersionRef) -> None:
        rest.secret("scientist")
        before = kinds(signoff)
        answer = rest.post(path(candidate, "/submit"), "scientist", comment="x" * MAX_BODY)
        refused(answer, 413, "RESOURCE_EXHAUSTED")
        assert kinds(signoff) == before

    def test_a_browser_session_is_no_token(self, rest: Rest, signoff: Signoff, candidate: VersionRef) -> None:
        from web.gate import cookie_name

        secret = sessions.open_session(signoff.database, "scientist", signoff.settings.secret_key)
        rest.client.cookies.set(cookie_name(signoff.settings), secret)
        refused(rest.post(path(candidate, "/submit"), comment="x"), 401, "UNAUTHENTICATED")
        refused(rest.post(path(candidate, "/submit"), token=secret, comment="x"), 401, "UNAUTHENTICATED")


class TestIdempotency:
    def test_a_repeat_gets_the_first_answer_and_does_nothing(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        first = rest.post(path(ready, "/promote"), "release_manager", key="a", reason="Now.")
        before, writes = kinds(signoff), list(registry.writes)
        again = rest.post(path(ready, "/promote"), "release_manager", key="a", reason="Now.")
        assert (first.status_code, again.status_code) == (200, 200)
        assert again.json() == first.json()
        assert (kinds(signoff), registry.writes) == (before, writes)

    def test_a_rollback_to_whichever_came_before_goes_back_once(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        release(signoff, registry.add_version("m", {"val_auc": 0.97}))
        rest.post(path(ready, "/promote"), "release_manager", reason="x")
        answers = [rest.post("/models/m/rollback", "release_manager", key="b", reason="x") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert len({answer.text for answer in answers}) == 1
        assert kinds(signoff).count("rollback:confirmed") == 1

    def test_a_key_is_for_one_request(self, rest: Rest, signoff: Signoff, ready: VersionRef) -> None:
        rest.post(path(ready, "/promote"), "release_manager", key="a", reason="Now.")
        other = rest.post(path(ready, "/archive"), "release_manager", key="a", reason="Now.")
        assert "another request" in refused(other, 400, "INVALID_PARAMETER_VALUE")
        refused(
            rest.post(path(ready, "/archive"), "release_manager", key="x" * 201, reason="Now."),
            400,
            "INVALID_PARAMETER_VALUE",
        )


class TestTransition:
    """The lifecycle document's curl, which sends no Content-Type of JSON."""

    def send(self, rest: Rest, by: str, **body: object) -> object:
        headers = {
            "Authorization": f"Bearer {rest.secret(by)}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return rest.client.post(TRANSITION, content=json.dumps(body), headers=headers)

    def test_production_is_refused_unapproved_and_promotes_approved(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        answer = self.send(rest, "release_manager", name="m", version=2, stage="Production")
        refused(answer, 403, "PERMISSION_DENIED")
        assert answer.json()["checks"]
        approve(signoff, candidate)
        answer = self.send(rest, "release_manager", name="m", version=2, stage="Production")
        assert answer.status_code == 200
        assert registry.version(candidate).stage == "Production"
        assert record(signoff)[-1].comment == "Transition to Production, asked for without a reason."

    def test_staging_submits_and_archived_archives(self, rest: Rest, signoff: Signoff, candidate: VersionRef) -> None:
        assert self.send(rest, "scientist", name="m", version="2", stage="staging").status_code == 200
        assert kinds(signoff)[-1] == "submission:confirmed"
        assert self.send(rest, "release_manager", name="m", version="2", stage="Archived").status_code == 200
        assert kinds(signoff)[-1] == "archival:confirmed"

    @pytest.mark.parametrize(
        "body",
        [
            {"name": "m", "version": 2, "stage": "None"},
            {"name": "m", "version": 2, "stage": "Live"},
            {"name": "m", "version": "02", "stage": "Staging"},
            {"name": "m", "version": 2.0, "stage": "Staging"},
            {"name": "m", "version": True, "stage": "Staging"},
            {"name": "", "version": 2, "stage": "Staging"},
            {"name": "m", "version": 2},
            {"name": "m", "version": 2, "stage": "Staging", "archive_existing_versions": True},
        ],
    )
    def test_what_is_malformed_is_400(self, rest: Rest, candidate: VersionRef, body: dict[str, object]) -> None:
        refused(self.send(rest, "release_manager", **body), 400, "INVALID_PARAMETER_VALUE")

    def test_asks_for_a_token(self, rest: Rest, candidate: VersionRef) -> None:
        body = {"name": "m", "version": 2, "stage": "Staging"}
        answer = rest.client.post(TRANSITION, json=body)
        refused(answer, 401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"] == "Bearer"


class TestProduction:
    def test_says_who_served_at_a_moment(
        self, rest: Rest, signoff: Signoff, clock: Clock, champion: VersionRef, ready: VersionRef
    ) -> None:
        before = clock.now
        clock.now += timedelta(hours=1)
        rest.post(path(ready, "/promote"), "release_manager", reason="x")
        promoted = next(event for event in reversed(record(signoff)) if event.kind.value == "promotion:confirmed")
        now = rest.get("/models/m/production").json()
        assert now == {
            "name": "m",
            "version": 2,
            "since": promoted.body["at"],
            "promoted_by": "release_manager",
            "approved_by": ["reviewer"],
            "policy": promoted.get("policy"),
            "digest": promoted.get("manifest_digest"),
            "event": promoted.seq,
            "released_as": "promotion",
            "waived": [],
        }
        for at in (before.isoformat(), before.strftime("%Y-%m-%dT%H:%M:%SZ"), before.isoformat().replace("+", " ")):
            assert (
                rest.client.get(
                    f"{V1}/models/m/production?at={at}", headers={"Authorization": f"Bearer {rest.secret('viewer')}"}
                ).json()["version"]
                == 1
            )

    def test_before_the_first_and_of_the_unknown_there_is_none(self, rest: Rest, champion: VersionRef) -> None:
        refused(rest.get("/models/m/production", at="2020-01-01"), 404, "RESOURCE_DOES_NOT_EXIST")
        refused(rest.get("/models/x/production"), 404, "RESOURCE_DOES_NOT_EXIST")

    @pytest.mark.parametrize(
        "at", ["", "yesterday", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-13-01"]
    )
    def test_a_moment_is_iso_8601(self, rest: Rest, champion: VersionRef, at: str) -> None:
        refused(rest.get("/models/m/production", at=at), 400, "INVALID_PARAMETER_VALUE")


class TestEvents:
    def test_pages_are_stable_while_events_are_appended(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        rest.secret("viewer")
        with_all = [event["seq"] for event in rest.get("/events", limit=200).json()["events"]]
        seen, cursor = [], None
        while True:
            page = rest.get("/events", limit=2, **({"cursor": cursor} if cursor else {})).json()
            seen += [event["seq"] for event in page["events"]]
            approve(signoff, registry.add_version("other", {"val_auc": 0.95}))
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == with_all
        assert seen[-1] == 1

    def test_are_the_ledgers_own_with_all_that_is_hashed(self, rest: Rest, signoff: Signoff, ready: VersionRef) -> None:
        answer = rest.get("/events", kind="approval:given", model="m").json()["events"][0]
        event = next(event for event in reversed(record(signoff)) if event.kind.value == "approval:given")
        assert answer == {**event.body, "hash": event.hash}

    def test_are_filtered(self, rest: Rest, clock: Clock, ready: VersionRef) -> None:
        def found(**asked: object) -> set[str]:
            return {event["kind"] for event in rest.get("/events", **asked).json()["events"]}

        assert found(actor="reviewer") == {"approval:given"}
        assert found(model="nothing") == set()
        assert found(kind=["approval:given", "promotion:confirmed"]) == {"approval:given", "promotion:confirmed"}
        assert found(since=(clock.now + timedelta(days=1)).isoformat()) == set()
        assert found(model="m", until=clock.now.isoformat()) > {"approval:given"}

    @pytest.mark.parametrize(
        "asked",
        [
            {"kind": "approval:imagined"},
            {"since": "x"},
            {"cursor": "x"},
            {"cursor": ""},
            {"limit": 0},
            {"limit": 201},
            {"cursor": "bW9kZWw6bQ"},
            {"model": "a\0b"},
        ],
    )
    def test_what_is_malformed_is_400(self, rest: Rest, asked: dict[str, object]) -> None:
        refused(rest.get("/events", **asked), 400, "INVALID_PARAMETER_VALUE")


class TestLedger:
    def test_the_checkpoint_is_signed(self, rest: Rest, signoff: Signoff, champion: VersionRef) -> None:
        rest.secret("viewer")
        answer = rest.get("/ledger/checkpoint").json()
        with signoff.database.reading() as connection:
            newest = checkpoints.newest(connection)
        assert newest is not None
        assert answer == json.loads(newest.text)
        before = len(signoff.policies.policies) + 2  # each was activated, one was assigned, and the accounts recorded
        assert answer["checkpoint"]["seq"] == len(record(signoff)) + before

    def test_what_is_exported_verifies(
        self, rest: Rest, signoff: Signoff, tmp_path: Path, champion: VersionRef
    ) -> None:
        answer = rest.get("/ledger/export", "auditor")
        assert answer.headers["content-type"] == "application/x-ndjson"
        file = tmp_path / "ledger.jsonl"
        file.write_bytes(answer.content)
        keys = keys_in(checkpoints.public_key_file(signoff.settings).read_bytes())
        assert verify_file(file, keys).seq == len(answer.content.splitlines()) - 1

    @pytest.mark.parametrize("role", [role for role in Role if role not in {Role.AUDITOR, Role.ADMIN}])
    def test_the_export_is_for_auditors_and_a_refusal_is_recorded(
        self, rest: Rest, signoff: Signoff, role: Role
    ) -> None:
        refused(rest.get("/ledger/export", role.value), 403, "PERMISSION_DENIED")
        last = record(signoff)[-1]
        assert (last.kind.value, last.actor, last.body["source"]) == ("access:refused", role.value, "rest")

    def test_a_broken_ledger_is_neither_signed_nor_exported(self, rest: Rest, signoff: Signoff) -> None:
        from tests.test_checkpoints import tamper

        rest.secret("auditor")
        tamper(signoff, "DELETE FROM events WHERE seq = 2")
        for wanted in ("/ledger/checkpoint", "/ledger/export"):
            refused(rest.get(wanted, "auditor"), 403, "DATA_LOSS")


class TestReconcile:
    def test_finds_what_was_changed_past_signoff(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        assert rest.post("/reconcile", "admin").json()["baseline"] is True
        registry.set_stage(champion, "Archived")
        answer = rest.post("/reconcile", "release_manager").json()
        assert (answer["models"], answer["baseline"]) == (1, False)
        assert [event.kind.value for event in record(signoff) if event.seq in answer["events"]] == ["outside:stage"]

    def test_is_not_for_everybody(self, rest: Rest, signoff: Signoff, registry: FakeRegistry) -> None:
        rest.secret("viewer")
        calls = registry.calls
        refused(rest.post("/reconcile", "viewer"), 403, "PERMISSION_DENIED")
        assert registry.calls == calls
        assert kinds(signoff)[-1] == "access:refused"


class TestWrongTokens:
    def test_of_one_client_end_without_a_look_up_and_right_ones_go_on(
        self, rest: Rest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert rest.get("/models").status_code == 200
        wrong = [rest.get("/models", token=f"{tokens.PREFIX}{number}").status_code for number in range(WRONG_TOKENS)]
        assert set(wrong) == {401}
        assert rest.get("/models").status_code == 200, "a token that was valid before"
        monkeypatch.setattr(tokens, "bearer", lambda *_: pytest.fail("nothing is looked up"))
        answer = rest.get("/models", token=f"{tokens.PREFIX}again")
        assert "Too many invalid tokens" in refused(answer, 429, "REQUEST_LIMIT_EXCEEDED")
        assert 0 < int(answer.headers["retry-after"]) <= 60

    def test_that_are_no_tokens_at_all_cost_nothing_and_count_for_nothing(self, rest: Rest) -> None:
        for text in ("x", "hello", ""):
            for _ in range(WRONG_TOKENS):
                assert rest.get("/models", by=None, token=text or None).status_code == 401
        assert rest.get("/models").status_code == 200


class TestErrors:
    def test_every_error_has_a_status(self) -> None:
        def below(kind: type[SignoffError]) -> set[type[SignoffError]]:
            return {kind}.union(*(below(child) for child in kind.__subclasses__()))

        for kind in below(SignoffError) - {SignoffError}:
            assert any(issubclass(kind, known) for known, _, _ in STATUSES), kind
        assert status_of(OutcomeUnknown("x"))[0] == 504
        assert status_of(errors.UnreadableModel("x"))[0] == 403

    @pytest.mark.parametrize("wanted", ["/models", "/models/m", "/models/m/versions/1/verdict?fresh=true"])
    def test_without_mlflow_it_is_503(
        self, rest: Rest, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, wanted: str
    ) -> None:
        def away(*_: object, **__: object) -> object:
            raise RegistryUnavailable("MLflow did not give a usable answer.")

        for method in ("models", "model", "version"):
            monkeypatch.setattr(registry, method, away)
        refused(rest.get(wanted), 503, "TEMPORARILY_UNAVAILABLE")

    def test_without_mlflow_nothing_is_changed(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: object) -> object:
            raise RegistryUnavailable("MLflow did not give a usable answer.")

        rest.secret("release_manager")
        before = kinds(signoff)
        monkeypatch.setattr(registry, "model", away)
        answer = rest.post(path(ready, "/promote"), "release_manager", reason="x")
        refused(answer, 503, "TEMPORARILY_UNAVAILABLE")
        assert kinds(signoff) == before

    def test_an_outcome_nobody_knows_is_not_told_as_nothing_changed(
        self, rest: Rest, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        def lost(_: str) -> None:
            raise RegistryUnavailable("the answer was lost")

        registry.after_write = lost
        answer = rest.post(path(ready, "/promote"), "release_manager", key="k", reason="x")
        if answer.status_code != 200:
            assert "nothing was changed" not in refused(answer, 504, "DEADLINE_EXCEEDED")

    def test_without_the_database_nobody_is_told_where_it_is(
        self, rest: Rest, signoff: Signoff, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from services.database import Database

        rest.secret("viewer")
        monkeypatch.setattr(signoff.database, "reading", Database("sqlite:////nowhere/at/all.db").reading)
        assert refused(rest.get("/models"), 503, "TEMPORARILY_UNAVAILABLE") == LedgerUnavailable.TO_STRANGERS

    def test_what_nobody_thought_of_is_500_without_its_insides(
        self, signoff: Signoff, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from starlette.testclient import TestClient

        from tests.rest import application

        rest = Rest(signoff)
        rest.secret("viewer")
        rest.client = TestClient(application(signoff), raise_server_exceptions=False)

        def broken(*_: object, **__: object) -> object:
            raise ZeroDivisionError("secret insides")

        monkeypatch.setattr("services.views.catalogue.after", broken)
        assert "secret" not in refused(rest.get("/models"), 500, "INTERNAL_ERROR")

    def test_what_is_not_there_and_methods_that_are_not_have_the_same_shape(self, rest: Rest) -> None:
        refused(rest.get("/nothing"), 404, "ENDPOINT_NOT_FOUND")
        refused(rest.client.get("/api/2.0/mlflow/nothing"), 404, "ENDPOINT_NOT_FOUND")
        for path in ("/api/elsewhere", "/api/else%0Awhere", "/api/v1%0A", "/api/v1/%0A"):
            refused(rest.client.get(path), 404, "ENDPOINT_NOT_FOUND")
        answer = rest.client.delete(f"{V1}/models")
        refused(answer, 405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"] == "GET"

    def test_with_every_place_taken_reads_from_memory_still_answer(
        self, rest: Rest, signoff: Signoff, champion: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(auth, "MLFLOW_CALLS_AT_ONCE", 0)
        full = Rest(signoff)
        full._secrets = {"release_manager": rest.secret("release_manager"), "viewer": rest.secret("viewer")}
        answer = full.post(path(champion, "/archive"), "release_manager", reason="x")
        assert "nothing was changed" in refused(answer, 503, "TEMPORARILY_UNAVAILABLE")
        assert full.get("/models").status_code == 200
        assert full.get("/events").status_code == 200
        assert Door(signoff).free.acquire(blocking=False) is False


class TestDocumentation:
    def test_the_page_asks_no_other_host(self, rest: Rest) -> None:
        page = rest.client.get(f"{V1}/docs")
        assert page.status_code == 200
        assert "//" not in page.text.replace("<!doctype", "")
        assert "script-src 'self';" in page.headers["content-security-policy"]
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for file in ("swagger-ui-bundle.js", "swagger-ui.css", "docs.js", "docs.css", "swagger-ui-LICENSE.txt"):
            assert rest.client.get(f"{V1}/static/{file}").status_code == 200
        assert rest.client.get(f"{V1}/static/../app.py").status_code == 404
        assert rest.client.get(f"{V1}/static/%2e%2e/app.py").status_code == 404

    def test_describes_every_path_of_the_contract(self, rest: Rest) -> None:
        schema = rest.client.get(f"{V1}/openapi.json").json()
        assert schema["servers"] == [{"url": V1}]
        version = "/models/{name}/versions/{version}"
        verbs = ("submit", "approve", "request-changes", "reject", "withdraw", "promote", "archive", "auto")
        verbs = (*verbs, "statements")
        assert set(schema["paths"]) == {
            *("/models", "/models/{name}", version, f"{version}/verdict", *(f"{version}/{verb}" for verb in verbs)),
            *(
                "/models/{name}/rollback",
                "/models/{name}/policy",
                "/models/{name}/production",
                "/compare",
                "/policies",
                "/reconcile",
            ),
            *("/events", "/ledger/checkpoint", "/ledger/export", "/policies/dry-run"),
            *(f"{version}/findings{rest}" for rest in ("", "/{number}/resolve", "/{number}/reopen")),
            *(f"{version}/validations{rest}" for rest in ("", "/{number}", "/{number}/cancel")),
        }

    def test_every_operation_asks_for_a_token(self, rest: Rest) -> None:
        schema = rest.client.get(f"{V1}/openapi.json").json()
        for operations in schema["paths"].values():
            for operation in operations.values():
                assert operation["security"] == [{"HTTPBearer": []}]
                assert {"400", "401", "403", "404", "429", "503"} <= set(operation["responses"])
                assert "422" not in operation["responses"]
