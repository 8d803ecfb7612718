"""Validations over REST and on the terminal: a file or a source goes in, a job comes back, and the report with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import bodies
from services.domain import VersionRef
from services.signoff import Signoff
from services.validation import worker
from services.validation.errors import ModelFailed
from services.validation.worker import Validator
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.rest import V1, Rest, refused
from tests.test_cli_verbs import Run, run, url  # noqa: F401  (fixtures)
from tests.test_releases import release
from tests.validation import ROWS, Evaluator

PATH = "/models/m/versions/2/validations"


@pytest.fixture
def rest(signoff: Signoff) -> Rest:
    return Rest(signoff)


@pytest.fixture
def ref(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 2 beside a champion."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    return registry.add_version("m", {"val_auc": 0.95})


def sent(rest: Rest, by: str = "scientist", content: bytes = ROWS, **fields: Any) -> httpx.Response:
    """Upload a holdout."""
    files = {"file": ("holdout.csv", content)}
    headers = {"Authorization": f"Bearer {rest.secret(by)}"}
    return rest.client.post(f"{V1}{PATH}", data={"target": "target", **fields}, files=files, headers=headers)


@pytest.mark.usefixtures("ref")
class TestRest:
    def test_takes_a_file_and_answers_with_a_job(self, signoff: Signoff, rest: Rest) -> None:
        answer = sent(rest, comment="For the review.")
        assert answer.status_code == 202
        job = answer.json()
        assert (job["state"], job["asked_by"], job["report"]) == ("queued", "scientist", None)
        asked = record(signoff)[-1]
        assert (asked.seq, asked.kind.value, asked.body["source"]) == (job["number"], "validation:requested", "rest")
        assert asked.comment == "For the review."

    def test_tells_how_far_it_is_and_then_the_report(self, signoff: Signoff, rest: Rest) -> None:
        number = sent(rest).json()["number"]
        Validator(signoff, Evaluator()).turn()
        event = record(signoff)[-1]
        job = rest.get(f"{PATH}/{number}").json()
        assert (job["state"], job["error"]) == ("done", None)
        assert job["summary"].startswith("v2 beats v1 on roc_auc by 0.02 (95 % interval")
        assert job["report"]["metrics"][0]["name"] == "roc_auc"
        assert (job["event"], job["run_id"]) == (event.seq, event.get("mlflow_run"))
        (listed,) = rest.get(PATH).json()["validations"]
        assert listed == {**job, "report": None}

    def test_tells_why_nothing_came_of_it(self, signoff: Signoff, rest: Rest) -> None:
        number = sent(rest).json()["number"]
        Validator(signoff, Evaluator(error=ModelFailed("The champion m/v1 cannot be loaded."))).turn()
        job = rest.get(f"{PATH}/{number}").json()
        assert (job["state"], job["error"]) == ("failed", "The champion m/v1 cannot be loaded.")
        assert (job["report"], job["event"], job["run_id"]) == (None, None, None)

    def test_takes_a_source_the_server_reads_as_json(self, signoff: Signoff, rest: Rest) -> None:
        answer = rest.post(PATH, "scientist", target="y", location="/data/holdout.parquet")
        assert answer.status_code == 202
        assert record(signoff)[-1].get("holdout") == "/data/holdout.parquet"

    @pytest.mark.parametrize(
        "body",
        [
            {"target": "y"},
            {"location": "/x"},
            {"target": "y", "location": "/x", "dataset": "d"},
            {"target": "y", "location": "/x", "confidence": 1.5},
            {"target": "y", "location": "/x", "unknown": 1},
            {"target": "", "location": "/x"},
        ],
    )
    def test_malformed_requests_are_bad_input(self, signoff: Signoff, rest: Rest, body: dict[str, Any]) -> None:
        refused(rest.post(PATH, "scientist", **body), 400, "INVALID_PARAMETER_VALUE")
        assert "validation:requested" not in kinds(signoff)

    def test_a_form_without_a_file_is_bad_input(self, rest: Rest) -> None:
        headers = {"Authorization": f"Bearer {rest.secret('scientist')}"}
        answer = rest.client.post(f"{V1}{PATH}", data={"target": "y"}, files={"other": b"x"}, headers=headers)
        assert "part `file`" in refused(answer, 400, "INVALID_PARAMETER_VALUE")
        both = sent(rest, location="/x")
        assert "location is no field of this call" in refused(both, 400, "INVALID_PARAMETER_VALUE")

    def test_too_large_a_file_is_refused_before_it_is_read_whole(
        self, signoff: Signoff, rest: Rest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bodies, "MAX_FILE", 100_000)
        assert "at most" in refused(sent(rest, content=bytes(200_000)), 413, "RESOURCE_EXHAUSTED")
        assert "validation:requested" not in kinds(signoff)
        assert list((signoff.settings.home / "validations").glob("*")) == []

    def test_consent_is_for_reviewers_and_with_a_reason(self, signoff: Signoff, rest: Rest) -> None:
        assert "may validate with consent" in refused(
            sent(rest, consent="true", comment="It is fine."), 403, "PERMISSION_DENIED"
        )
        refused(sent(rest, by="reviewer", consent="true"), 400, "INVALID_PARAMETER_VALUE")
        answer = sent(rest, by="reviewer", consent="true", comment="I read its code.")
        assert (answer.status_code, answer.json()["consent"]) == (202, True)
        assert record(signoff)[-1].get("consent") is True

    def test_a_token_for_validating_does_not_consent(self, signoff: Signoff, rest: Rest) -> None:
        token = rest.token("reviewer", name="ci", actions=["validate", "view"])
        files, headers = {"file": ("h.csv", ROWS)}, {"Authorization": f"Bearer {token}"}
        fields = {"target": "target", "consent": "true", "comment": "It is fine."}
        answer = rest.client.post(f"{V1}{PATH}", data=fields, files=files, headers=headers)
        assert "This token may not validate with consent" in refused(answer, 403, "PERMISSION_DENIED")
        assert "validation:requested" not in kinds(signoff)

    def test_cancels(self, signoff: Signoff, rest: Rest) -> None:
        number = sent(rest).json()["number"]
        assert rest.post(f"{PATH}/{number}/cancel", "scientist").json()["state"] == "cancelled"
        assert kinds(signoff)[-1] == "validation:cancelled"
        assert rest.post(f"{PATH}/{number}/cancel", "scientist").status_code == 200
        refused(rest.post(f"{PATH}/99/cancel", "scientist"), 404, "RESOURCE_DOES_NOT_EXIST")
        refused(rest.get("/models/m/versions/1/validations/" + str(number)), 404, "RESOURCE_DOES_NOT_EXIST")

    def test_without_a_token_nothing_is_taken(self, signoff: Signoff, rest: Rest) -> None:
        answer = rest.client.post(f"{V1}{PATH}", data={"target": "target"}, files={"file": ("h.csv", ROWS)})
        refused(answer, 401, "UNAUTHENTICATED")
        assert not (signoff.settings.home / "validations").exists()


@pytest.fixture
def validating(signoff: Signoff, monkeypatch: pytest.MonkeyPatch) -> Iterator[Evaluator]:
    """A validator at work."""
    monkeypatch.setattr(worker, "INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr("commands.validate.INTERVAL_SECONDS", 0.01)
    evaluator = Evaluator()
    validator = Validator(signoff, evaluator)
    validator.start()
    yield evaluator
    validator.stop()


@pytest.mark.usefixtures("ref")
class TestTerminal:
    @pytest.fixture
    def file(self, tmp_path: Path) -> str:
        (found := tmp_path / "holdout.csv").write_bytes(ROWS)
        return str(found)

    def test_waits_for_the_report(
        self,
        run: Run,  # noqa: F811
        signoff: Signoff,
        validating: Evaluator,
        file: str,
    ) -> None:
        code, out, _ = run("scientist", "validate", "m", "2", "--data", file, "--target", "target")
        assert code == 0
        assert out.startswith("v2 beats v1 on roc_auc by 0.02 (95 % interval 0.01 to 0.03, 100 rows).\nMETRIC")
        assert "0.01 to 0.03" in out
        assert f"Record #{record(signoff)[-1].seq}, MLflow run" in out

    def test_tells_programs_the_run(
        self,
        run: Run,  # noqa: F811
        registry: FakeRegistry,
        validating: Evaluator,
        file: str,
    ) -> None:
        code, out, _ = run("scientist", "validate", "m", "2", "--data", file, "--target", "target", "--json")
        found = json.loads(out)
        assert (code, found["state"]) == (0, "done")
        assert set(registry.run(found["run_id"]).metrics) >= {"candidate_roc_auc", "current_roc_auc"}

    def test_exits_with_one_when_nothing_came_of_it(
        self,
        run: Run,  # noqa: F811
        validating: Evaluator,
        file: str,
    ) -> None:
        validating.error = ModelFailed("m/v2 raised ValueError: no.")
        code, out, _ = run("scientist", "validate", "m", "2", "--data", file, "--target", "target")
        assert (code, out) == (1, "m/v2 raised ValueError: no.\n")

    def test_exits_with_one_when_the_role_is_missing(
        self,
        run: Run,  # noqa: F811
        file: str,
    ) -> None:
        code, _, err = run("viewer", "validate", "m", "2", "--data", file, "--target", "target")
        assert (code, "may validate" in err) == (1, True)

    def test_exits_with_two_when_it_is_asked_wrongly(
        self,
        run: Run,  # noqa: F811
        file: str,
    ) -> None:
        assert run("scientist", "validate", "m", "2", "--target", "target")[0] == 2
        assert run("scientist", "validate", "m", "2", "--data", file, "--dataset", "d", "--target", "t")[0] == 2
        assert run("scientist", "validate", "m", "2", "--data", "/no/such/file", "--target", "t")[0] == 2

    def test_exits_with_two_before_it_sends_what_is_too_large(
        self,
        run: Run,  # noqa: F811
        signoff: Signoff,
        tmp_path: Path,
    ) -> None:
        with (file := tmp_path / "large.csv").open("wb") as content:
            content.truncate(2 << 30)
        code, _, err = run("scientist", "validate", "m", "2", "--data", str(file), "--target", "target")
        assert (code, "has 2,048 MB; a holdout has at most 256 MB" in err) == (2, True)
        assert "validation:requested" not in kinds(signoff)

    def test_who_stops_waiting_cancels(
        self,
        run: Run,  # noqa: F811
        signoff: Signoff,
        file: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def interrupted(_: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("commands.validate.time.sleep", interrupted)
        code, out, _ = run("scientist", "validate", "m", "2", "--data", file, "--target", "target")
        assert (code, out) == (1, "Cancelled by scientist.\n")
        assert kinds(signoff)[-1] == "validation:cancelled"

    def test_need_not_wait(
        self,
        run: Run,  # noqa: F811
        file: str,
    ) -> None:
        code, out, _ = run("scientist", "validate", "m", "2", "--data", file, "--target", "target", "--no-wait")
        assert (code, "is queued" in out) == (0, True)
