"""Findings over REST and on the terminal: raised, listed, resolved and opened again as in the dashboard."""

from __future__ import annotations

import json

import pytest

from services.domain import VersionRef
from services.evidence import FindingDraft, Severity
from services.signoff import Signoff
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.rest import Rest, refused
from tests.test_cli_verbs import Run
from tests.test_cli_verbs import run as run  # noqa: PLC0414  (fixtures)
from tests.test_cli_verbs import url as url  # noqa: PLC0414
from tests.verbs import reviews

PATH = "/models/m/versions/1"
BLOCKING = {"text": "Trained on the test set.", "severity": "blocking", "owner": "both", "due": "2026-12-01"}


@pytest.fixture
def submitted(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """A good version, submitted by ``scientist``."""
    ref = registry.add_version("m", {"val_auc": 0.95})
    reviews.submit(signoff, ref, by="scientist", comment="Better recall.")
    return ref


@pytest.fixture
def rest(signoff: Signoff) -> Rest:
    return Rest(signoff)


def raised(signoff: Signoff) -> str:
    """The number of the first finding that was raised last."""
    return str(100 * [event.seq for event in record(signoff) if event.get("findings")][-1] + 1)


def others(signoff: Signoff) -> list[str]:
    """What is on record beside tokens."""
    return [kind for kind in kinds(signoff) if not kind.startswith("token:")]


def listed(rest: Rest) -> list[dict[str, object]]:
    return list(rest.get(f"{PATH}/findings").json()["findings"])


class TestOverRest:
    def test_come_with_requested_changes_and_keep_severity_owner_and_due_day(
        self, rest: Rest, signoff: Signoff, submitted: VersionRef
    ) -> None:
        found = [BLOCKING, {"text": "Say on whom."}]
        answer = rest.post(f"{PATH}/request-changes", "reviewer", comment="Not like this.", findings=found)
        assert answer.status_code == 200, answer.text
        first, second = listed(rest)
        assert BLOCKING.items() <= first.items()
        assert (second["severity"], second["owner"], second["due"]) == ("major", "scientist", None)
        assert (first["open"], first["raised_by"], first["resolved_by"]) == (True, "reviewer", None)
        assert first["event"] == answer.json()["event"]
        verdict = {check["id"]: check for check in rest.get(f"{PATH}/verdict").json()["checks"]}
        assert verdict["findings"]["passed"] is False

    @pytest.mark.parametrize("body", [{"comment": "Again."}, {"reason": "Again."}])
    def test_are_not_needed(self, rest: Rest, submitted: VersionRef, body: dict[str, str]) -> None:
        assert rest.post(f"{PATH}/request-changes", "reviewer", **body).status_code == 200
        assert listed(rest) == []

    def test_are_resolved_and_opened_again(self, rest: Rest, signoff: Signoff, submitted: VersionRef) -> None:
        rest.post(f"{PATH}/request-changes", "reviewer", comment="No.", findings=[BLOCKING])
        number = listed(rest)[0]["id"]
        answer = rest.post(f"{PATH}/findings/{number}/resolve", "reviewer2", comment="Trained again.")
        assert answer.json()["message"] == "The finding in m/v1 is resolved."
        (one,) = listed(rest)
        assert (one["open"], one["resolved_by"], one["resolution"]) == (False, "reviewer2", "Trained again.")
        assert rest.post(f"{PATH}/findings/{number}/resolve", "reviewer", comment="Yes.").json()["event"] is None
        assert rest.post(f"{PATH}/findings/{number}/reopen", "reviewer", reason="It was not.").status_code == 200
        assert listed(rest)[0]["open"] is True
        assert others(signoff)[-2:] == ["finding:resolved", "finding:reopened"]
        assert record(signoff)[-1].body["source"] == "rest"

    def test_under_one_key_are_raised_and_resolved_once(
        self, rest: Rest, signoff: Signoff, submitted: VersionRef
    ) -> None:
        for _ in range(2):
            rest.post(f"{PATH}/request-changes", "reviewer", key="k1", comment="No.", findings=[BLOCKING])
        number = listed(rest)[0]["id"]
        answers = [
            rest.post(f"{PATH}/findings/{number}/resolve", "reviewer", key="k2", comment="Yes.").json()
            for _ in range(2)
        ]
        assert answers[0] == answers[1]
        assert others(signoff)[-2:] == ["changes:requested", "finding:resolved"]
        other = rest.post(f"{PATH}/request-changes", "reviewer", key="k1", comment="No.", findings=[])
        assert other.status_code in {400, 409}, "a key is for one request, findings included"

    @pytest.mark.parametrize(
        "finding",
        [
            {},
            {"text": ""},
            {"text": "  "},
            {"text": "x" * 100_000},
            {"text": "x", "severity": "grave"},
            {"text": "x", "owner": "nobody"},
            {"text": "x", "owner": "a\x00b"},
            {"text": "x", "due": "2026-02-30"},
            {"text": "x", "due": "1"},
            {"text": "x", "due": 1},
            {"text": "x", "due": "2020-01-01"},
            {"text": "x", "more": 1},
            "x",
        ],
    )
    def test_of_nonsense_are_400_and_leave_nothing(
        self, rest: Rest, signoff: Signoff, submitted: VersionRef, finding: object
    ) -> None:
        before = others(signoff)
        answer = rest.post(f"{PATH}/request-changes", "reviewer", comment="No.", findings=[finding])
        refused(answer, 400, "INVALID_PARAMETER_VALUE")
        assert others(signoff) == before
        assert listed(rest) == []

    def test_of_another_version_are_404(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, submitted: VersionRef
    ) -> None:
        rest.post(f"{PATH}/request-changes", "reviewer", comment="No.", findings=[BLOCKING])
        registry.add_version("m", {"val_auc": 0.95})
        number = listed(rest)[0]["id"]
        for path in (f"/models/m/versions/2/findings/{number}/resolve", f"{PATH}/findings/999/resolve"):
            refused(rest.post(path, "reviewer", comment="x"), 404, "RESOURCE_DOES_NOT_EXIST")
        refused(rest.post(f"{PATH}/findings/x/resolve", "reviewer", comment="x"), 400, "INVALID_PARAMETER_VALUE")
        assert listed(rest)[0]["open"] is True

    def test_a_token_reaches_only_those_of_its_models_and_actions(
        self, rest: Rest, signoff: Signoff, submitted: VersionRef
    ) -> None:
        rest.post(f"{PATH}/request-changes", "reviewer", comment="No.", findings=[BLOCKING])
        number = listed(rest)[0]["id"]
        for scope in ({"models": ["n*"]}, {"actions": ["view", "reopen"]}):
            secret = rest.token("reviewer", str(scope), **scope)
            answer = rest.post(f"{PATH}/findings/{number}/resolve", token=secret, comment="x")
            assert "This token may not" in refused(answer, 403, "PERMISSION_DENIED")
            assert others(signoff)[-1] == "finding:refused"
        assert listed(rest)[0]["open"] is True

    def test_are_paged(self, rest: Rest, signoff: Signoff, submitted: VersionRef) -> None:
        drafts = [FindingDraft(text=f"Finding {number}.", severity=Severity.MINOR) for number in range(5)]
        reviews.request_changes(signoff, submitted, by="reviewer", comment="No.", findings=drafts)
        first = rest.get(f"{PATH}/findings", limit=3).json()
        second = rest.get(f"{PATH}/findings", limit=3, cursor=first["next_cursor"]).json()
        texts = [one["text"] for one in (*first["findings"], *second["findings"])]
        assert texts == [draft.text for draft in drafts]
        assert second["next_cursor"] is None


class TestOnTheTerminal:
    def test_are_raised_listed_resolved_and_opened_again(
        self, run: Run, signoff: Signoff, submitted: VersionRef
    ) -> None:
        two = ("--finding", "Trained on the test set.", "--finding", "Say on whom.")
        more = ("--severity", "blocking", "--owner", "both", "--due", "2026-12-01")
        code, out, _ = run("reviewer", "request-changes", "m", "1", "--comment", "No.", *two, *more)
        assert (code, out) == (0, "m/v1 is sent back with changes requested.\n")
        code, out, _ = run("viewer", "findings", "m", "1")
        assert code == 0
        number = raised(signoff)
        assert out.splitlines()[1].split() == [
            *(number, "blocking", "open", "both", "2026-12-01", "reviewer", "Trained", "on", "the", "test", "set."),
        ]
        assert run("reviewer2", "resolve", "m", "1", number, "--comment", "Trained again.")[0] == 0
        assert "resolved by reviewer2" in run("viewer", "findings", "m", "1")[1]
        assert run("reviewer", "reopen", "m", "1", number, "--comment", "It was not.")[0] == 0
        found = json.loads(run("viewer", "findings", "m", "1", "--json")[1])["findings"]
        assert [one["open"] for one in found] == [True, True]
        assert others(signoff)[-3:] == ["changes:requested", "finding:resolved", "finding:reopened"]

    def test_where_there_are_none_it_says_so(self, run: Run, submitted: VersionRef) -> None:
        assert run("viewer", "findings", "m", "1")[:2] == (0, "Nothing was found in m/v1.\n")

    def test_exit_codes_are_the_contracts(self, run: Run, signoff: Signoff, submitted: VersionRef) -> None:
        run("reviewer", "request-changes", "m", "1", "--comment", "No.", "--finding", "Wrong.")
        number = raised(signoff)
        code, _, err = run("viewer", "resolve", "m", "1", number, "--comment", "x")
        assert code == 1
        assert "may resolve" in err
        assert run("reviewer", "resolve", "m", "1", "9", "--comment", "x")[0] == 2
        assert run("reviewer", "request-changes", "m", "1", "--comment", "x", "--owner", "both")[0] == 2
        assert others(signoff)[-2:] == ["changes:requested", "finding:refused"]
