"""Signing on the version page: what is asked for, what the thread says afterwards, and that no password stays."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import SecretStr
from streamlit.testing.v1 import AppTest

from components.events import signed_words
from services.accounts import people, sessions
from services.desk import Request
from services.domain import Action, VersionRef
from services.policy import PolicyBook
from services.signoff import Signoff
from services.views import event_csv, history
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.pages import opened, text
from tests.test_pages import button
from tests.test_signing import POLICY, own, perform
from tests.verbs import reviews

SECRET = "reviewer's own"


@pytest.fixture
def signoff(signoff: Signoff) -> Signoff:
    """Every model is under a policy that asks for signatures; reviewer's password is `SECRET`."""
    for username in ("reviewer", "release_manager"):
        people.set_password(signoff.database, username, f"plain:{username}'s own")
    return replace(signoff, policies=PolicyBook(policies=(POLICY,)))


@pytest.fixture
def pending(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    ref = registry.add_version("m", {"val_auc": 0.95})
    reviews.submit(signoff, ref, by="scientist", comment="Please look.")
    return ref


def version_page(signoff: Signoff, ref: VersionRef, username: str = "reviewer") -> AppTest:
    return opened(signoff, username, "version", name=ref.name, version=str(ref.version))


def decide(at: AppTest, password: str, comment: str = "Convincing.") -> AppTest:
    at.text_area[0].set_value(comment)
    at.text_input[0].set_value(password)
    return button(at, "Sign and decide").click().run()


def kept(at: AppTest) -> str:
    """All that Streamlit remembers of the session, widgets included."""
    state = at.session_state._state._state
    return str([state._new_session_state, state._old_state, dict(state._new_widget_state.states)])


class TestDeciding:
    def test_the_form_says_who_signs_and_what_each_choice_means(self, signoff: Signoff, pending: VersionRef) -> None:
        at = version_page(signoff, pending)
        assert "Sign as Rita Alvarez" in text(at)
        assert "I have reviewed this version and approve it for Production" in text(at)
        at.radio[0].set_value(Action.REJECT).run()
        assert "I have reviewed this version and reject it" in text(at)
        assert at.text_input[0].proto.autocomplete == "current-password"

    def test_with_the_password_it_is_done_and_the_thread_says_who_signed(
        self, signoff: Signoff, pending: VersionRef
    ) -> None:
        at = decide(version_page(signoff, pending), SECRET)
        assert not at.exception
        assert kinds(signoff)[-1] == "approval:given"
        at = version_page(signoff, pending, "viewer")
        words = "Rita Alvarez, “I have reviewed this version and approve it for Production”, 2026-11-01 09:"
        assert f"signed: {words}" in text(at)
        assert any(words in str(cell).replace("\\", "") for table in at.table for cell in table.value.to_numpy().flat)

    @pytest.mark.parametrize("password", [SECRET, "a wrong one"])
    def test_the_password_does_not_stay_in_the_session(
        self, signoff: Signoff, pending: VersionRef, password: str
    ) -> None:
        at = decide(version_page(signoff, pending), password)
        assert at.text_input[0].value == ""
        assert password not in kept(at)

    def test_a_wrong_one_keeps_the_comment_and_says_no_more_than_the_log_in_page(
        self, signoff: Signoff, pending: VersionRef
    ) -> None:
        before = kinds(signoff)
        at = decide(version_page(signoff, pending), "a wrong one")
        assert str(sessions.WrongCredentials()) in text(at)
        assert at.text_area[0].value == "Convincing."
        assert kinds(signoff) == [*before, "approval:refused"]

    def test_none_is_asked_for_and_recorded_as_nothing(self, signoff: Signoff, pending: VersionRef) -> None:
        before = kinds(signoff)
        at = decide(version_page(signoff, pending), "")
        assert "Your password is needed" in text(at)
        assert kinds(signoff) == before

    def test_the_fifth_wrong_one_signs_out(self, signoff: Signoff, pending: VersionRef) -> None:
        at = version_page(signoff, pending)
        for _ in range(sessions.MAX_FAILURES):
            decide(at, "a wrong one")
        assert "You have been signed out" in text(at)
        assert "a wrong one" not in kept(at)

    def test_nothing_is_asked_where_the_policy_does_not(self, signoff: Signoff, pending: VersionRef) -> None:
        unsigned = replace(signoff, policies=PolicyBook(policies=(replace(POLICY, rules=_unsigned()),)))
        at = version_page(unsigned, pending)
        assert "Sign as" not in text(at)
        assert not [field for field in at.text_input if field.proto.autocomplete == "current-password"]
        assert button(at, "Decide")


class TestDialogs:
    def test_name_the_signer_and_the_meaning(self, signoff: Signoff, pending: VersionRef) -> None:
        perform(signoff, Action.APPROVE, pending, own("reviewer"))
        at = version_page(signoff, pending, "release_manager")
        button(at, "Promote v1 to Production").click().run()
        assert "Sign as Mira Patel" in text(at)
        assert "I release this version to Production" in text(at)

    def test_what_was_confirmed_with_a_password_is_given_out_once_and_then_forgotten(
        self, signoff: Signoff, registry: FakeRegistry, pending: VersionRef
    ) -> None:
        perform(signoff, Action.APPROVE, pending, own("reviewer"))
        at = version_page(signoff, pending, "release_manager")
        at.session_state["confirmed"] = Request(
            action=Action.PROMOTE, ref=pending, words="Now.", password=own("release_manager")
        )
        at.run()
        assert registry.version(pending).stage == "Production"
        assert "confirmed" not in at.session_state

    def test_it_is_forgotten_even_when_the_page_cannot_be_drawn(
        self, signoff: Signoff, pending: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        at = version_page(signoff, pending, "release_manager")
        at.query_params["version"] = "99"
        at.session_state["confirmed"] = Request(
            action=Action.ARCHIVE, ref=VersionRef(name="m", version=99), words="x", password=SecretStr(SECRET)
        )
        at.run()
        assert "There is no m/v99" in text(at)
        assert "confirmed" not in at.session_state


class TestRecord:
    def test_history_and_the_spreadsheet_show_it(self, signoff: Signoff, pending: VersionRef, tmp_path: object) -> None:
        perform(signoff, Action.APPROVE, pending, own("reviewer"))
        event = record(signoff)[-1]
        at = opened(signoff, "auditor", "history", event=str(event.seq))
        assert "Electronic signature" in text(at)
        assert signed_words(event).startswith("Rita Alvarez, “I have reviewed")
        row = dict(zip(event_csv.COLUMNS, event_csv._cells(event), strict=True))
        assert row["signature"].startswith("Rita Alvarez: I have reviewed this version and approve it for Production (")
        assert json.dumps(history.record(signoff, event.seq).event.body)


def _unsigned():  # type: ignore[no-untyped-def]
    return POLICY.rules.model_copy(update={"signing": False})
