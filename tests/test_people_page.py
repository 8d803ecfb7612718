"""Keeping the accounts, as a verb and on its page: an admin's, on record, and never without anybody left to do it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from components.people import Change
from services.accounts import keeping, people, sessions
from services.domain import Actor, Role, Source
from services.errors import BadInput, NotAllowed, NotFound, Refused
from services.signoff import Signoff
from tests.ledgers import kinds, record
from tests.pages import opened, text

PASSWORD = "correct horse battery"


def actor(signoff: Signoff, username: str) -> Actor:
    return people.acting(signoff.database, username, Source.BROWSER)


def set_roles(signoff: Signoff, by: str, username: str, *roles: Role) -> None:
    keeping.set_roles(signoff.database, by=actor(signoff, by), username=username, roles=roles, at=signoff.now())


def disable(signoff: Signoff, by: str, username: str) -> None:
    keeping.disable(signoff.database, by=actor(signoff, by), username=username, at=signoff.now())


def add(signoff: Signoff, by: str, username: str, **more: object) -> None:
    asked = {"name": "Nora Bye", "roles": [Role.REVIEWER], "hashed": "!", **more}
    keeping.add(signoff.database, by=actor(signoff, by), username=username, at=signoff.now(), **asked)  # type: ignore[arg-type]


VERBS: list[Callable[[Signoff, str], None]] = [
    lambda signoff, by: add(signoff, by, "nora"),
    lambda signoff, by: set_roles(signoff, by, "viewer", Role.ADMIN),
    lambda signoff, by: disable(signoff, by, "viewer"),
]


class TestKeeping:
    @pytest.mark.parametrize("verb", VERBS, ids=["add", "set_roles", "disable"])
    def test_is_for_admins_and_each_refusal_is_recorded(self, signoff: Signoff, verb: Callable[..., None]) -> None:
        before = people.listed(signoff.database)
        for role in sorted(set(Role) - {Role.ADMIN}):
            with pytest.raises(NotAllowed, match="Only an admin may"):
                verb(signoff, role.value)
            assert record(signoff)[-1].kind.value == "account:refused"
            assert record(signoff)[-1].actor == role.value
        assert people.listed(signoff.database) == before
        verb(signoff, "admin")
        assert people.listed(signoff.database) != before

    def test_is_on_record_with_who_did_it_and_what_was_before(self, signoff: Signoff) -> None:
        add(signoff, "admin", "nora")
        set_roles(signoff, "admin", "nora", Role.AUDITOR)
        disable(signoff, "admin", "nora")
        assert kinds(signoff) == ["account:added", "account:changed", "account:disabled"]
        assert [event.actor for event in record(signoff)[-3:]] == ["admin"] * 3
        assert record(signoff)[-2].comment == "nora is now auditor, and was reviewer."
        assert all("!" not in str(event.body) for event in record(signoff)[-3:]), "no hash is in the record"

    def test_again_changes_nothing(self, signoff: Signoff) -> None:
        set_roles(signoff, "admin", "viewer", Role.VIEWER)
        assert kinds(signoff) == []
        for _ in range(2):
            disable(signoff, "admin", "viewer")
        assert kinds(signoff) == ["account:disabled"]

    def test_never_leaves_nobody_to_do_it(self, signoff: Signoff) -> None:
        for last in (
            lambda: disable(signoff, "admin", "admin"),
            lambda: set_roles(signoff, "admin", "admin", Role.VIEWER),
        ):
            with pytest.raises(Refused, match="admin is the last admin"):
                last()
        assert kinds(signoff) == []
        set_roles(signoff, "admin", "viewer", Role.ADMIN)
        disable(signoff, "viewer", "admin")
        assert [a.username for a in people.listed(signoff.database) if "admin" in a.roles and not a.disabled] == [
            "viewer"
        ]

    def test_of_nonsense_is_bad_input_and_leaves_nothing(self, signoff: Signoff) -> None:
        wrong: list[dict[str, object]] = [
            {"username": ""},
            {"username": "viewer"},
            {"username": "signoff"},
            {"name": " "},
            {"name": "a\nb"},
            {"roles": []},
            {"email": "nowhere"},
        ]
        for more in wrong:
            with pytest.raises(BadInput):
                add(signoff, "admin", **{"username": "nora", **more})  # type: ignore[arg-type]
        with pytest.raises(BadInput, match="needs a role"):
            set_roles(signoff, "admin", "viewer")
        with pytest.raises(NotFound):
            disable(signoff, "admin", "nobody")
        assert kinds(signoff) == []

    def test_a_new_password_is_given_by_admins_alone(self, signoff: Signoff) -> None:
        with pytest.raises(NotAllowed, match="Only an admin may"):
            keeping.set_password(
                signoff.database, by=actor(signoff, "reviewer"), username="viewer", hashed="!x", at=signoff.now()
            )
        assert kinds(signoff) == ["account:refused"]
        with signoff.database.reading() as connection:
            assert people.account_of(connection, "viewer").password == "!"  # type: ignore[union-attr]

    @pytest.mark.parametrize("username", ["Reviewer", "revіewer", "reviewer\u200b2", "REVIEWER2", "revlewer"])
    def test_no_name_looks_like_another(self, signoff: Signoff, username: str) -> None:
        before = len(people.listed(signoff.database))
        with pytest.raises(BadInput, match=r"looks like the account|printable"):
            add(signoff, "admin", username)
        assert len(people.listed(signoff.database)) == before
        assert kinds(signoff) == []


class TestPage:
    def page(self, signoff: Signoff, username: str = "admin") -> AppTest:
        at = opened(signoff, username, "people")
        assert not at.exception
        return at

    def filled(self, at: AppTest, password: str) -> AppTest:
        values = {"Username": "nora", "Name in print": "Nora Bye", "Password": password}
        for field in at.text_input:
            if field.label in values:
                field.set_value(values[field.label])
        return at.button(key=next(str(b.key) for b in at.button if b.label == "Make account")).click().run()

    def test_is_for_admins(self, signoff: Signoff) -> None:
        at = self.page(signoff, "release_manager")
        assert "Only an admin may manage people" in text(at)
        assert "Sam Okafor" not in text(at)

    def test_makes_an_account_that_can_log_in_and_keeps_no_password(self, signoff: Signoff) -> None:
        at = self.filled(self.page(signoff), PASSWORD)
        assert "nora is in." in text(at)
        assert PASSWORD not in str(at.session_state)
        assert signoff.passwords
        key = signoff.settings.secret_key
        assert sessions.log_in(signoff.database, "nora", PASSWORD, signoff.passwords, key)
        assert kinds(signoff) == ["account:added"]

    def test_asks_for_a_long_password(self, signoff: Signoff) -> None:
        assert "at least 12 characters" in text(self.filled(self.page(signoff), "short"))
        assert kinds(signoff) == []

    def test_carries_out_what_was_confirmed_once_and_says_why_not(self, signoff: Signoff) -> None:
        at = self.page(signoff)
        at.session_state["account-change"] = Change(username="viewer", roles=(Role.AUDITOR,))
        assert "viewer is now auditor." in text(at.run())
        at.session_state["account-change"] = Change(username="admin", roles=None)
        at.run()
        assert "admin is the last admin" in text(at)
        assert "Sam Okafor" in text(at), "the list stays"
        at.run()
        assert kinds(signoff) == ["account:changed"]

    def test_names_are_text(self, signoff: Signoff) -> None:
        add(signoff, "admin", "<i>x", name="<b>x</b>")
        assert all("<b>x" not in element.proto.body for element in self.page(signoff).get("html"))
