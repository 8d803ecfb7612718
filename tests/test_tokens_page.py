"""The page Tokens: one's own for everybody, all of them for an admin; a secret is shown once and kept nowhere."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from services.accounts import people, permissions, tokens
from services.accounts.tokens import PREFIX, Token
from services.domain import Action, Role, Source
from services.signoff import Signoff
from tests.ledgers import kinds
from tests.pages import opened, text
from tests.rest import Rest


def page(signoff: Signoff, username: str, **query: str) -> AppTest:
    at = opened(signoff, username, "tokens", **query)
    assert not at.exception
    return at


def made(at: AppTest, name: str, **fields: object) -> AppTest:
    """Fill the form in and send it."""
    at.text_input[0].set_value(name)
    for label, value in fields.items():
        found = {widget.label: widget for widget in (*at.multiselect, *at.selectbox)}
        found[label].set_value(value)
    return at.button(key=next(str(b.key) for b in at.button if b.label == "Make token")).click().run()


def secret(at: AppTest) -> str:
    return next(element.value for element in at.code if element.value.startswith(PREFIX))


def token(signoff: Signoff, username: str, name: str, **scope: object) -> Token:
    owner = people.acting(signoff.database, username, Source.CLI)
    key = signoff.settings.secret_key
    now = signoff.now()
    return tokens.create(signoff.database, key, by=owner, username=username, name=name, at=now, **scope)[1]  # type: ignore[arg-type]


class TestMaking:
    def test_shows_the_secret_once_and_it_works(self, signoff: Signoff) -> None:
        at = made(page(signoff, "viewer"), "nightly")
        found = secret(at)
        assert Rest(signoff).get("/models", token=found).status_code == 200
        assert kinds(signoff) == ["token:created"]
        assert found not in str(at.session_state)
        at.run()
        assert not [element for element in at.code if PREFIX in element.value]
        assert "nightly" in text(at)

    def test_takes_the_limits_that_were_chosen(self, signoff: Signoff) -> None:
        made(
            page(signoff, "reviewer"),
            "narrow",
            **{"Only these actions": [Action.VIEW, Action.APPROVE], "Ends after": 7},
        )
        (found,) = tokens.listed(signoff.database, signoff.settings.secret_key)
        assert found.scope.actions == {Action.VIEW, Action.APPROVE}
        assert (found.expires_at - found.created_at).days == 7
        assert (found.username, found.created_by) == ("reviewer", "reviewer")

    def test_offers_only_what_the_account_may_and_a_token_can(self, signoff: Signoff) -> None:
        at = page(signoff, "release_manager")
        (offered,) = [set(box.options) for box in at.multiselect if box.label == "Only these actions"]
        actor = people.acting(signoff.database, "release_manager", Source.BROWSER)
        usable = set(Action) - permissions.ONLY_IN_BROWSER
        assert offered == {a.replace("_", " ") for a in usable if permissions.may(actor, a)}

    @pytest.mark.parametrize("name", ["", "   "])
    def test_needs_a_name(self, signoff: Signoff, name: str) -> None:
        assert "a name is needed" in text(made(page(signoff, "viewer"), name))
        assert tokens.listed(signoff.database, signoff.settings.secret_key) == []

    def test_of_a_taken_name_is_one_clear_sentence_and_the_list_stays(self, signoff: Signoff) -> None:
        token(signoff, "viewer", "nightly")
        at = made(page(signoff, "viewer"), "nightly")
        assert "viewer already has a token 'nightly'" in text(at)
        assert any(button.label == "Revoke" for button in at.button)
        assert len(tokens.listed(signoff.database, signoff.settings.secret_key)) == 1

    def test_for_a_service_is_for_an_admin(self, signoff: Signoff) -> None:
        people.add_automation(signoff.database, username="ci", name="Pipeline", roles=[Role.RELEASE_MANAGER])
        assert "Acts as" not in {box.label for box in page(signoff, "release_manager").selectbox}
        at = page(signoff, "admin")
        assert [box.options for box in at.selectbox if box.label == "Acts as"] == [
            ["Adam Novak (admin)", "Pipeline (ci)"]
        ]
        made(at, "nightly", **{"Acts as": "ci"})
        (found,) = tokens.listed(signoff.database, signoff.settings.secret_key)
        assert (found.username, found.created_by) == ("ci", "admin")


class TestListing:
    def test_is_of_ones_own_and_for_an_admin_of_everybody(self, signoff: Signoff) -> None:
        token(signoff, "viewer", "mine")
        token(signoff, "scientist", "theirs")
        for who, query in (("viewer", {}), ("viewer", {"whose": "Everybody's"})):
            assert "theirs" not in text(page(signoff, who, **query))
        assert "mine" in text(page(signoff, "viewer"))
        assert "theirs" not in text(page(signoff, "admin"))
        at = page(signoff, "admin", whose="Everybody's")
        assert "theirs" in text(at)
        assert "mine" in text(at)

    def test_shows_no_secret_and_names_as_text(self, signoff: Signoff) -> None:
        token(signoff, "viewer", "<b>x</b>", models=["<i>*"])
        at = page(signoff, "viewer")
        assert all("<b>x" not in element.proto.body for element in at.get("html"))
        assert not re.search(rf"{PREFIX}\w", text(at))

    def test_of_an_earlier_secret_key_says_that_it_ended_and_can_be_revoked(self, signoff: Signoff) -> None:
        found = token(signoff, "viewer", "old")
        at = page(replace(signoff, settings=replace(signoff.settings, secret_key=b"n" * 32)), "viewer")
        assert "ended by the new secret key" in text(at)
        assert "No token can be used now" in text(at)
        at.button(key=f"revoke:{found.id}").click().run()
        assert "It cannot be taken back" in text(at)


class TestRevoking:
    def test_is_asked_for_twice_and_ends_it_at_once(self, signoff: Signoff) -> None:
        found = token(signoff, "viewer", "old")
        at = page(signoff, "viewer")
        at.button(key=f"revoke:{found.id}").click().run()
        assert kinds(signoff) == ["token:created"]
        assert "It cannot be taken back" in text(at)
        at.session_state["token-revoke"] = found.id  # what the dialog leaves: Streamlit's tester cannot click in one
        at.run()
        assert kinds(signoff) == ["token:created", "token:revoked"]
        assert "is revoked, from its next use on" in text(at)
        assert [one.live for one in tokens.listed(signoff.database, signoff.settings.secret_key)] == [False]

    def test_of_somebody_elses_is_not_done_whatever_the_page_is_told(self, signoff: Signoff) -> None:
        theirs = token(signoff, "scientist", "theirs")
        at = page(signoff, "viewer")
        at.session_state["token-revoke"] = theirs.id
        at.run()
        assert "nothing was revoked" in text(at)
        assert kinds(signoff) == ["token:created"]
