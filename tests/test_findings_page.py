"""Findings on the pages: written in the decision form, listed, resolved, and seen by whoever is to answer them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from streamlit.testing.v1 import AppTest

from components.links import version_query
from services import facts
from services.desk import Request
from services.domain import Action, VersionRef
from services.evidence import FindingDraft, Severity
from services.signoff import Signoff
from tests.conftest import Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.pages import opened, text
from tests.test_pages import button
from tests.verbs import findings, reviews


@pytest.fixture
def pending(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """A good version, submitted by ``scientist``."""
    ref = registry.add_version("m", {"val_auc": 0.95})
    reviews.submit(signoff, ref, by="scientist", comment="Better recall.")
    return ref


@pytest.fixture
def sent_back(signoff: Signoff, pending: VersionRef, clock: Clock) -> VersionRef:
    """Sent back by ``reviewer`` with one blocking finding, due in a week."""
    draft = FindingDraft(
        text="Trained on *the* test set.", severity=Severity.BLOCKING, due=clock.now.date() + timedelta(days=7)
    )
    reviews.request_changes(signoff, pending, by="reviewer", comment="Not like this.", findings=[draft])
    return pending


def asking_for_changes(signoff: Signoff, ref: VersionRef) -> AppTest:
    at = opened(signoff, "reviewer", "version", **version_query(ref))
    at.radio[0].set_value(Action.REQUEST_CHANGES).run()
    return at


def settled(at: AppTest, signoff: Signoff, action: Action, ref: VersionRef) -> None:
    """Click, and leave behind what the dialog does; Streamlit's tester cannot run a dialog's own form."""
    (finding,) = facts.shown(signoff, ref)[1].findings
    button(at, action.capitalize()).click().run()
    assert finding.text in text(at)
    at.session_state["settle-finding"] = Request(action=action, ref=ref, words="Looked at.", finding=finding.id)
    at.run()


class TestEditor:
    def test_is_there_only_for_requested_changes(self, signoff: Signoff, pending: VersionRef) -> None:
        at = opened(signoff, "reviewer", "version", **version_query(pending))
        assert not [field for field in at.text_input if field.label.startswith("Finding")]
        at.radio[0].set_value(Action.REQUEST_CHANGES).run()
        assert [field.label for field in at.text_input if field.label.startswith("Finding")] == ["Finding 1"]

    def test_sends_every_row_that_says_something(self, signoff: Signoff, pending: VersionRef) -> None:
        due = datetime.now(UTC).date() + timedelta(days=30)
        at = asking_for_changes(signoff, pending)
        at.text_input[0].set_value("Trained on the test set.")
        at.selectbox[0].set_value(Severity.BLOCKING)
        button(at, "Add a finding").click().run()
        button(at, "Add a finding").click().run()
        assert at.text_input[0].value == "Trained on the test set."
        at.text_input[1].set_value("Say on whom.")
        at.selectbox[3].set_value("both")
        at.date_input[1].set_value(due)
        at.text_area[0].set_value("Not like this.")
        button(at, "Decide").click().run()
        assert not at.exception
        assert record(signoff)[-1].get("findings") == [
            {"severity": "blocking", "text": "Trained on the test set.", "owner": "scientist", "due": None},
            {"severity": "major", "text": "Say on whom.", "owner": "both", "due": due.isoformat()},
        ]
        assert at.text_input[0].value == ""

    def test_keeps_what_was_written_when_it_is_refused(self, signoff: Signoff, pending: VersionRef) -> None:
        at = asking_for_changes(signoff, pending)
        at.text_input[0].set_value("Trained on the test set.")
        button(at, "Decide").click().run()
        assert "comment is needed" in text(at)
        assert at.text_input[0].value == "Trained on the test set."
        assert kinds(signoff)[-1] == "submission:confirmed"


class TestPanel:
    def test_says_what_stands_in_the_way_and_who_answers_it(self, signoff: Signoff, sent_back: VersionRef) -> None:
        drawn = text(opened(signoff, "viewer", "version", **version_query(sent_back)))
        assert "1 open, 0 resolved" in drawn
        assert "Trained on *the* test set." in drawn
        assert "due 2026-11-08" in drawn
        assert "No open blocking finding" in drawn

    def test_lets_a_reviewer_resolve_and_reopen(self, signoff: Signoff, sent_back: VersionRef) -> None:
        at = opened(signoff, "reviewer", "version", **version_query(sent_back))
        settled(at, signoff, Action.RESOLVE, sent_back)
        assert kinds(signoff)[-1] == "finding:resolved"
        assert "0 open, 1 resolved" in text(at)
        settled(at, signoff, Action.REOPEN, sent_back)
        assert kinds(signoff)[-1] == "finding:reopened"
        assert "1 open, 0 resolved" in text(at)

    @pytest.mark.parametrize("person", ["scientist", "viewer", "auditor"])
    def test_offers_nothing_to_others(self, signoff: Signoff, sent_back: VersionRef, person: str) -> None:
        at = opened(signoff, person, "version", **version_query(sent_back))
        assert "Resolve" not in [one.label for one in at.button]

    def test_is_not_there_without_findings(self, signoff: Signoff, pending: VersionRef) -> None:
        assert "Findings" not in text(opened(signoff, "reviewer", "version", **version_query(pending)))


class TestElsewhere:
    def test_home_shows_the_owner_what_waits_and_when_it_is_late(
        self, signoff: Signoff, sent_back: VersionRef, clock: Clock
    ) -> None:
        at = opened(signoff, "scientist", "home")
        assert "waits for your answer: 1 finding open, 1 blocking, due 2026-11-08" in text(at)
        clock.now += timedelta(days=9)
        at = opened(signoff, "scientist", "home")
        assert "overdue since 2026-11-08" in text(at)
        assert "waits for your answer" not in text(opened(signoff, "reviewer2", "home"))

    def test_the_queue_shows_them_too(self, signoff: Signoff, sent_back: VersionRef) -> None:
        reviews.submit(signoff, sent_back, by="scientist", comment="Answered.")
        assert "1 finding open, 1 blocking, due 2026-11-08" in text(opened(signoff, "reviewer", "review"))

    def test_the_conversation_and_the_history_tell_of_them(self, signoff: Signoff, sent_back: VersionRef) -> None:
        (finding,) = facts.shown(signoff, sent_back)[1].findings
        findings.resolve(signoff, sent_back, finding.id, by="reviewer2", comment="Retrained.")
        drawn = text(opened(signoff, "viewer", "version", **version_query(sent_back)))
        assert "Blocking: Trained on *the* test set." in drawn
        assert "resolved a finding in" in drawn
        assert "Finding resolved" in text(opened(signoff, "viewer", "history"))
