"""The main job in a real Chromium on the whole stack: submit, compare, approve, promote, and what MLflow shows then."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import mlflow
import pytest
from mlflow import MlflowClient
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect
from sklearn.datasets import load_breast_cancer

from components.text import JOINER
from services.database import Database
from services.settings import PROJECT
from services.steps import slots
from tests.browser import browser, chromium, settle
from tests.conftest import wait_until
from tests.stack import PASSWORD, Stack, running

MODEL, CHAMPION, CHALLENGER, OTHER, WEAK = "breast_cancer_screening", 3, 8, 7, 2
PENDING = ("wine_cultivar", "5")
PENDING_PAGE = "/version?name=wine_cultivar&version=5"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack with the sample registry for all tests here; they build on each other, in the order of the file."""
    chromium()  # find out first whether there is a browser at all
    with running(tmp_path_factory.mktemp("stack") / "home") as started:
        yield started


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    """One browser; each person gets a context of their own."""
    with browser() as started:
        yield started


@dataclass
class Person:
    """Somebody at a screen, logged in. ``foreign`` and ``errors`` collect what a page must not do."""

    stack: Stack
    page: Page
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def opens(self, path: str) -> None:
        self.page.goto(self.stack.url + path)
        settle(self.page)

    def clicks(self, label: str, role: str = "button") -> None:
        self.page.get_by_role(role, name=label, exact=False).first.click()  # type: ignore[arg-type]
        settle(self.page)

    def writes(self, label: str, words: str) -> None:
        self.page.get_by_label(label).first.fill(words)

    def sees(self, words: str | re.Pattern[str]) -> None:
        expect(self.page.locator("body")).to_contain_text(words, timeout=20_000)  # a record opens beside the page


class Office:
    """Logs people in on first sight and keeps their windows."""

    def __init__(self, stack: Stack, chrome: Browser) -> None:
        self._stack, self._chrome = stack, chrome
        self._people: dict[str, Person] = {}

    def __getitem__(self, username: str) -> Person:
        if username not in self._people:
            context = self._chrome.new_context(viewport={"width": 1440, "height": 1000})
            page = context.new_page()
            person = Person(self._stack, page)
            page.on("request", lambda request: self._watch(person, request))
            page.on("console", lambda message: self._listen(person, message))
            page.goto(self._stack.url + "/")
            page.get_by_label("Username").fill(username)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_label("Password").press("Enter")
            page.get_by_test_id("stMain").wait_for()
            settle(page)
            self._people[username] = person
        return self._people[username]

    def _watch(self, person: Person, request: Request) -> None:
        if not request.url.startswith((self._stack.url, self._stack.url.replace("http", "ws"), "data:", "blob:")):
            person.foreign.append(request.url)

    def _listen(self, person: Person, message: ConsoleMessage) -> None:
        if message.type == "error":
            person.errors.append(f"{message.text} {message.location['url']}".rstrip())

    def misdeeds(self) -> list[str]:
        return [deed for person in self._people.values() for deed in (*person.foreign, *person.errors)]


@pytest.fixture(scope="module")
def office(stack: Stack, chrome: Browser) -> Office:
    return Office(stack, chrome)


@pytest.fixture
def client(stack: Stack) -> MlflowClient:
    return MlflowClient(stack.mlflow, stack.mlflow)


def version_page(version: int) -> str:
    return f"/version?name={MODEL}&version={version}"


def state(client: MlflowClient) -> tuple[dict[int, str], dict[str, str], dict[str, str]]:
    """Stages, aliases, and the tags of the challenger."""
    stages = {int(v.version): v.current_stage for v in client.search_model_versions(f"name='{MODEL}'")}
    tags = client.get_model_version(MODEL, str(CHALLENGER)).tags
    return stages, dict(client.get_registered_model(MODEL).aliases), dict(tags)


def events(stack: Stack) -> list[str]:
    """The kinds of all events, oldest first, read from the database beside the running dashboard."""
    with sqlite3.connect(stack.home / "signoff.db") as connection:
        return [kind for (kind,) in connection.execute("SELECT kind FROM events ORDER BY seq")]


def test_the_sample_registry_is_what_the_contract_promises(client: MlflowClient) -> None:
    models = list(client.search_registered_models())
    assert len(models) >= 4
    for model in models:
        versions = client.search_model_versions(f"name='{model.name}'")
        assert len(versions) >= 4
        (champion,) = [v for v in versions if v.current_stage == "Production"]
        assert model.aliases["champion"] == champion.version
        assert champion.tags["promoted_by"] == "release_manager"
        assert champion.source.startswith("models:/") or champion.source.startswith("mlflow-artifacts:")


def test_an_unapproved_version_cannot_be_promoted_from_the_page(
    office: Office, client: MlflowClient, stack: Stack
) -> None:
    before, recorded = state(client), len(events(stack))
    manager = office["release_manager"]
    manager.opens(version_page(WEAK))
    manager.sees("checks failed")
    manager.sees("val_auc is 0.74")
    manager.clicks("Promote v2 to Production")
    dialog = manager.page.get_by_role("dialog")
    expect(dialog).to_contain_text("the gate will refuse this")
    dialog.get_by_label("Reason").fill("We are in a hurry.")
    dialog.get_by_role("button", name="Promote v2").click()
    manager.sees("Refused by the gate")
    manager.sees("val_auc is 0.74")
    assert state(client) == before
    assert len(events(stack)) == recorded + 1
    assert events(stack)[-1] == "promotion:refused"


def test_a_scientist_submits_the_challenger(office: Office, client: MlflowClient) -> None:
    scientist = office["scientist"]
    scientist.opens(version_page(CHALLENGER))
    scientist.sees("beats v3")
    scientist.clicks("Submit v8 for review")
    scientist.sees("A comment is needed.")
    assert state(client)[0][CHALLENGER] == "None"
    scientist.writes("Comment", "Calibrated, and fewer false negatives.")
    scientist.clicks("Submit v8 for review")
    scientist.sees("is submitted for review")
    stages, aliases, tags = state(client)
    assert (stages[CHALLENGER], aliases["challenger"], tags["approval_status"]) == ("Staging", "8", "pending")


def test_nobody_approves_their_own(office: Office) -> None:
    scientist = office["scientist"]
    scientist.opens(version_page(CHALLENGER))
    scientist.sees("a reviewer who is neither its author nor its submitter decides")
    assert scientist.page.get_by_role("button", name="Decide").count() == 0


def test_a_reviewer_comes_from_the_inbox_compares_and_approves(office: Office, client: MlflowClient) -> None:
    reviewer = office["reviewer"]
    reviewer.opens("/")
    reviewer.sees("Your inbox")
    reviewer.sees(f"{MODEL} / v{CHALLENGER}")
    reviewer.opens(f"/compare?versions={MODEL}:{CHAMPION},{MODEL}:{CHALLENGER}")
    reviewer.sees("val_auc")
    reviewer.opens(version_page(CHALLENGER))
    reviewer.sees("Waits for approval only")
    reviewer.clicks("Decide")
    reviewer.sees("A comment is needed.")
    assert "approved_by" not in state(client)[2]
    reviewer.writes("Comment", "Confusion matrix checked; two misses fewer than v3.")
    reviewer.clicks("Decide")
    reviewer.sees("is approved")
    tags = state(client)[2]
    assert (tags["approval_status"], tags["approved_by"]) == ("approved", "reviewer")
    assert tags["approval_comment"] == "Confusion matrix checked; two misses fewer than v3."
    assert state(client)[0][CHALLENGER] == "Staging", "an approval promotes nothing"


def test_a_release_manager_promotes_it_with_a_reason_and_a_confirmation(office: Office, client: MlflowClient) -> None:
    manager = office["release_manager"]
    manager.opens(version_page(CHALLENGER))
    manager.sees("Ready to promote")
    manager.clicks("Promote v8 to Production")
    dialog = manager.page.get_by_role("dialog")
    expect(dialog).to_contain_text("v8 goes to Production, and v3 is archived")
    dialog.get_by_role("button", name="Promote v8").click()
    expect(dialog).to_contain_text("A reason is needed.")
    assert state(client)[0][CHALLENGER] == "Staging"
    dialog.get_by_label("Reason").fill("Approved, and the screening round starts Monday.")
    dialog.get_by_role("button", name="Promote v8").dblclick()
    settle(manager.page)
    manager.sees("is in Production")
    stages, aliases, tags = state(client)
    assert (stages[CHALLENGER], stages[CHAMPION]) == ("Production", "Archived")
    assert list(stages.values()).count("Production") == 1
    assert (aliases["champion"], "challenger" in aliases) == ("8", False)
    assert (tags["promoted_by"], tags["reason"]) == (
        "release_manager",
        "Approved, and the screening round starts Monday.",
    )
    assert tags["signoff.policy"].startswith("default@")
    manager.clicks("Record #", role="link")
    manager.sees("Approved, and the screening round starts Monday.")


def test_the_promoted_model_loads_and_predicts(stack: Stack) -> None:
    mlflow.set_tracking_uri(stack.mlflow)
    features = load_breast_cancer(as_frame=True).data.head(5)
    model = mlflow.pyfunc.load_model(f"models:/{MODEL}/Production")
    assert len(model.predict(features)) == 5


def test_history_tells_the_story(office: Office) -> None:
    auditor = office["auditor"]
    auditor.opens(f"/history?model={MODEL}&version={CHALLENGER}")
    auditor.sees("release_manager")
    auditor.sees("reviewer")
    auditor.sees("scientist")


def test_a_link_survives_the_login(stack: Stack, chrome: Browser) -> None:
    page = chrome.new_context().new_page()
    page.goto(stack.url + version_page(CHALLENGER))
    expect(page.get_by_label("Username")).to_be_visible()
    page.get_by_label("Username").fill("viewer")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Password").press("Enter")
    expect(page.get_by_test_id("stMain")).to_contain_text(f"{MODEL} / v{CHALLENGER}", timeout=20_000)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/version?name=breast_cancer_screening&version=03", "is not a version number"),
        ("/version?name=breast_cancer_screening&version=99", "There is no breast_cancer_screening/v99"),
        (
            "/version?name=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&version=1",
            "There is no <img src=x onerror=alert(1)>/v1",
        ),
        ("/version", "No registered model was named"),
        ("/model?name=brеast_cancer_screening", "brеast_cancer_screening"),  # a Cyrillic е
        ("/compare?versions=breast_cancer_screening:3,breast_cancer_screening:99", "99"),
        ("/history?event=999999", "999999"),
    ],
)
def test_a_bad_link_gets_one_clear_sentence(office: Office, path: str, words: str) -> None:
    viewer = office["viewer"]
    viewer.opens(path)
    viewer.sees(words)
    expect(viewer.page.get_by_test_id("stException")).to_have_count(0)


def test_a_blocking_finding_is_seen_by_whoever_is_to_answer_it_and_keeps_the_version_back(
    office: Office, client: MlflowClient
) -> None:
    reviewer, scientist = office["reviewer2"], office["scientist"]
    reviewer.opens(PENDING_PAGE)
    reviewer.page.get_by_text("Request changes", exact=True).click()
    reviewer.writes("Finding 1", "It was tuned on the holdout.")
    reviewer.page.get_by_label("Severity").first.click()
    reviewer.page.get_by_role("option", name="Blocking").click()
    reviewer.writes("Comment", "Not before this is answered.")
    reviewer.clicks("Decide")
    reviewer.sees("sent back with changes requested")
    scientist.opens("/")
    scientist.sees("waits for your answer: 1 finding open, 1 blocking")
    scientist.opens(PENDING_PAGE)
    scientist.sees("reviewer2 found: It was tuned on the holdout (for scientist).")
    assert client.get_model_version(*PENDING).tags["approval_status"] == "changes_requested"


def test_an_approval_is_void_once_the_files_change_and_the_change_raises_the_alarm(
    office: Office, client: MlflowClient, stack: Stack
) -> None:
    reviewer = office["reviewer"]
    reviewer.opens(PENDING_PAGE)
    reviewer.writes("Comment", "Holdout and tuning set differ, I looked.")
    reviewer.clicks("Decide")
    reviewer.sees("is approved")
    model = client.get_model_version(*PENDING).source.removeprefix("models:/")
    (folder,) = (stack.home / "artifacts").glob(f"**/{model}/artifacts")
    with (folder / "requirements.txt").open("a") as file:
        file.write("surprise==1.0\n")
    reviewer.opens(PENDING_PAGE)
    reviewer.page.locator(".st-key-refresh-registry button").first.click()
    reviewer.sees("the approval by reviewer is void because the model's files changed")
    reviewer.sees("No longer counts: the model's files changed.")

    def alarmed() -> bool:
        reviewer.opens("/")
        return "was changed outside Signoff" in reviewer.page.locator("body").inner_text()

    wait_until(alarmed, "the alarm", seconds=60)


def test_whoever_comes_second_is_told_who_came_first(office: Office, client: MlflowClient, stack: Stack) -> None:
    before, manager = state(client), office["release_manager"]
    database = Database(f"sqlite:///{stack.home / 'signoff.db'}")
    slot = slots.take(database, MODEL, holder="somebody", purpose="the promotion of v5")
    manager.opens(version_page(OTHER))
    manager.clicks("Promote v7 to Production")
    dialog = manager.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("Mine, now.")
    dialog.get_by_role("button", name="Promote v7").click()
    manager.sees("somebody acted first: the promotion of v5 is under way. Nothing was changed")
    assert state(client) == before
    with database.writing() as connection:
        slots.release(connection, slot)


def test_an_emergency_needs_two_people_and_is_loud_until_a_third_has_reviewed_it(
    office: Office, client: MlflowClient, stack: Stack
) -> None:
    first, second, third, viewer = (office[who] for who in ("break_glass", "release_manager", "auditor", "viewer"))
    first.opens(version_page(WEAK))
    first.clicks("Break the glass")
    dialog = first.page.get_by_role("dialog")
    expect(dialog).to_contain_text("v2 to go to Production, and v8 is archived")
    expect(dialog).to_contain_text("Waived: val_auc is 0.74")
    dialog.get_by_label("Reason").fill("The champion answers nonsense.")
    dialog.get_by_role("button", name="Ask for v2").click()
    first.sees("waits for a second person")
    assert state(client)[0][WEAK] != "Production", "asking promotes nothing"
    viewer.opens("/registry")
    expect(viewer.page.locator("body")).not_to_contain_text("Emergency, not reviewed")

    second.opens("/")
    second.sees("Emergency asked for")
    second.clicks("Look and confirm")
    second.clicks("Confirm, promote now")
    dialog = second.page.get_by_role("dialog")
    dialog.get_by_label("Your words").fill("I see it too.")
    dialog.get_by_role("button", name="Confirm, promote now").dblclick()
    settle(second.page)
    second.sees("Somebody else must now review the emergency")
    stages, aliases, _ = state(client)
    assert (stages[WEAK], stages[CHALLENGER], aliases["champion"]) == ("Production", "Archived", str(WEAK))
    assert "approval_status" not in client.get_model_version(MODEL, str(WEAK)).tags
    assert events(stack).count("emergency:confirmed") == 1

    for path in ("/", "/review"):
        viewer.opens(path)
        viewer.sees("Emergency, not reviewed.")
    third.opens("/promotions")
    third.page.get_by_role("button", name="Review").first.click()
    dialog = third.page.get_by_role("dialog")
    dialog.get_by_text("Not justified").click()
    dialog.get_by_label("Your words").fill("A rollback would have done.")
    dialog.get_by_role("button", name="Review").click()
    third.sees("is reviewed: not justified")
    viewer.opens("/")
    viewer.sees("Good to see you")
    expect(viewer.page.locator("body")).not_to_contain_text("Emergency, not reviewed")


def test_every_page_opens_for_everybody_without_an_outside_request_or_an_error(office: Office) -> None:
    viewer = office["viewer"]
    paths = ["/", "/registry", f"/model?name={MODEL}", version_page(CHALLENGER), f"/compare?name={MODEL}"]
    for path in [*paths, "/review", "/promotions", "/history"]:
        viewer.opens(path)
        expect(viewer.page.get_by_test_id("stMain").get_by_role("heading").first).to_be_visible()
        expect(viewer.page.get_by_test_id("stException")).to_have_count(0)
    assert office.misdeeds() == []


def test_the_lifecycle_documents_curl_meets_the_same_gate(stack: Stack, client: MlflowClient) -> None:
    """With a token from the terminal; the call is the document's own, down to its missing Content-Type."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "SIGNOFF"))}
    made = subprocess.run(
        [sys.executable, "cli.py", "token", "create", "curl", "--user", "release_manager", "--json"],
        cwd=PROJECT,
        env={**environment, "SIGNOFF_HOME": str(stack.home)},
        capture_output=True,
        text=True,
        check=True,
    )
    headers = {
        "Authorization": f"Bearer {json.loads(made.stdout)['token']}",
        "Content-Type": "application/x-www-form-urlencoded",
    }

    def curl(version: int) -> httpx.Response:
        body = json.dumps({"name": MODEL, "version": version, "stage": "Production"})
        url = f"{stack.url}/api/2.0/mlflow/transition"
        return httpx.post(url, content=body, headers=headers, timeout=60, trust_env=False)

    before = {v.version: v.current_stage for v in client.search_model_versions(f"name='{MODEL}'")}
    refused = curl(OTHER)
    assert (refused.status_code, refused.json()["error_code"]) == (403, "PERMISSION_DENIED")
    assert any(not check["passed"] for check in refused.json()["checks"])
    champion = curl(int(client.get_registered_model(MODEL).aliases["champion"]))
    assert (champion.status_code, champion.json()["event"]) == (200, None)
    assert {v.version: v.current_stage for v in client.search_model_versions(f"name='{MODEL}'")} == before


def test_what_anybody_writes_is_shown_as_text(office: Office, client: MlflowClient) -> None:
    words = "Read me: :material/verified: :tada: https://evil.example www.evil.example a@evil.example $x^2$ -> :red[x]"
    client.update_registered_model(MODEL, words)
    person = office["viewer"]
    shown = person.page.locator("p", has_text="Read me")

    def opened() -> bool:
        person.opens(f"/model?name={MODEL}")
        return shown.count() > 0

    wait_until(opened, "the description")
    assert shown.first.inner_text().replace(JOINER, "") == words
    expect(shown.locator("a, [translate=no], .katex, img, span")).to_have_count(0)


def test_the_documentation_of_rest_is_drawn_from_our_own_files(office: Office) -> None:
    person = office["viewer"]
    person.page.goto(person.stack.url + "/api/v1/docs")
    expect(person.page.locator(".opblock-summary-path").first).to_have_text("/models", timeout=20_000)
    assert person.foreign == []
    assert person.errors == []
