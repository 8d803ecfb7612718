"""An emergency on the pages: loud on every one of them until somebody has reviewed it, and quiet afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from services.accounts import people
from services.desk import Request
from services.domain import Action, Role, VersionRef
from services.signoff import Signoff
from services.verbs.emergencies import open_emergencies
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.pages import opened, text
from tests.test_pages import NASTY, PAGES, button, version_query
from tests.test_releases import release
from tests.verbs import break_glass, releases

LOUD = "Emergency, not reviewed."


@pytest.fixture
def weak(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 2, too weak and never submitted, beside a champion."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    return registry.add_version("m", {"val_auc": 0.85})


def ask(signoff: Signoff, ref: VersionRef, reason: str = "Nonsense since noon.") -> int:
    event = break_glass.ask(signoff, ref, by="break_glass", reason=reason).event
    assert event
    return event.seq


@pytest.fixture
def broken(signoff: Signoff, weak: VersionRef) -> int:
    """Version 2 in Production by an emergency: the record that asked for it."""
    seq = ask(signoff, weak)
    break_glass.confirm(signoff, seq, by="release_manager", comment="Agreed.")
    return seq


@contextmanager
def statements(signoff: Signoff, about: str) -> Iterator[list[str]]:
    """The SQL statements about a table that are sent meanwhile."""
    found: list[str] = []

    def listen(*arguments: object) -> None:
        if f"FROM {about}" in str(arguments[2]):
            found.append(str(arguments[2]))

    sa.event.listen(signoff.database.engine, "before_cursor_execute", listen)
    try:
        yield found
    finally:
        sa.event.remove(signoff.database.engine, "before_cursor_execute", listen)


class TestTheBanner:
    @pytest.mark.parametrize("page", PAGES)
    def test_is_on_every_page_until_it_was_reviewed(
        self, signoff: Signoff, weak: VersionRef, broken: int, page: str
    ) -> None:
        at = opened(signoff, "viewer", page, **version_query(weak))
        assert not at.exception
        (banner,) = [error.value.replace("\\", "") for error in at.error if LOUD in error.value]
        for words in ("release_manager", "break_glass", "Nonsense since noon.", "past 4 failed checks", "/version?"):
            assert words in banner
        break_glass.review(signoff, broken, by="auditor", comment="Seen.", justified=False)
        assert LOUD not in text(opened(signoff, "viewer", page, **version_query(weak)))

    def test_stays_through_a_rollback_and_the_next_release(
        self, signoff: Signoff, registry: FakeRegistry, broken: int
    ) -> None:
        releases.rollback(signoff, "m", by="release_manager", reason="Worse.")
        release(signoff, registry.add_version("m", {"val_auc": 0.99}))
        assert LOUD in text(opened(signoff, "viewer", "registry"))

    def test_is_not_there_while_nobody_has_confirmed(self, signoff: Signoff, weak: VersionRef) -> None:
        ask(signoff, weak)
        assert LOUD not in text(opened(signoff, "viewer", "home"))

    @pytest.mark.parametrize("page", ["registry", "history", "compare"])
    def test_costs_a_page_one_query_however_many_there_are(self, signoff: Signoff, broken: int, page: str) -> None:
        at = opened(signoff, "viewer", page)
        with statements(signoff, "emergencies") as sent:
            at.run()
        assert len(sent) == 1

    @pytest.mark.parametrize("nasty", [words for words in NASTY if words.isprintable()])
    def test_shows_any_reason_as_words_only(self, signoff: Signoff, weak: VersionRef, nasty: str) -> None:
        seq = ask(signoff, weak, f"{nasty}\nsecond line")
        break_glass.confirm(signoff, seq, by="release_manager", comment=nasty)
        for page in ("home", "promotions", "version"):
            at = opened(signoff, "auditor", page, **version_query(weak))
            assert not at.exception
            assert not any("<img src=x" in element.value for element in (*at.markdown, *at.error))
            assert not any("<img src=x" in element.proto.body for element in at.get("html"))
            assert "](javascript" not in "".join(element.value for element in (*at.markdown, *at.error))
        assert "second line" in text(opened(signoff, "viewer", "home"))


class TestTheInbox:
    @pytest.mark.parametrize("page", ["home", "registry"])
    def test_of_those_who_may_confirm_is_loud(self, signoff: Signoff, weak: VersionRef, page: str) -> None:
        ask(signoff, weak)
        people.add_account(signoff.database, username="another", name="Ann", hashed="!", roles=[Role.BREAK_GLASS])
        for person, loud in (
            ("release_manager", True),
            ("another", True),
            ("break_glass", False),
            ("reviewer", False),
            ("viewer", False),
        ):
            shown = text(opened(signoff, person, page))
            assert ("Emergency asked for." in shown) is loud, person

    def test_offers_what_one_may_do_and_nothing_to_others(self, signoff: Signoff, weak: VersionRef) -> None:
        ask(signoff, weak)
        assert "Look and confirm" in labels(signoff, "release_manager", "home")
        assert "Look and confirm" not in labels(signoff, "break_glass", "home")
        on_version = labels(signoff, "break_glass", "version", weak)
        assert "Withdraw" in on_version
        assert not {"Confirm, promote now", "Break the glass…"} & on_version

    def test_offers_the_review_to_third_persons_only(self, signoff: Signoff, broken: int) -> None:
        assert "Review the emergency" in labels(signoff, "reviewer", "home")
        people.set_roles(signoff.database, "release_manager", [Role.RELEASE_MANAGER, Role.REVIEWER])
        assert "Review the emergency" not in labels(signoff, "release_manager", "home")
        assert "Review" not in labels(signoff, "release_manager", "promotions")


class TestTheVersionPage:
    def test_offers_to_break_the_glass_to_holders_where_the_policy_allows(
        self, signoff: Signoff, weak: VersionRef
    ) -> None:
        assert "Break the glass…" in labels(signoff, "break_glass", "version", weak)
        for other in ("release_manager", "reviewer", "scientist", "auditor", "admin", "viewer"):
            assert "Break the glass…" not in labels(signoff, other, "version", weak)

    def test_asks_confirms_and_reviews(self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef) -> None:
        """What a dialog leaves behind is put there by hand: Streamlit's tester cannot run a dialog's own form."""
        at = opened(signoff, "break_glass", "version", **version_query(weak))
        button(at, "Break the glass…").click().run()
        assert "m v2 to go to Production, and v1 is archived" in text(at).replace("*", "")
        assert "Waived: val_auc is 0.85" in text(at)
        at.session_state["confirmed"] = Request(action=Action.BREAK_GLASS, ref=weak, words="Nonsense since noon.")
        at.run()
        assert kinds(signoff)[-1] == "emergency:requested"
        assert registry.version(weak).stage == "None"
        (asked,) = open_emergencies(signoff)

        at = opened(signoff, "release_manager", "version", **version_query(weak))
        button(at, "Confirm, promote now").click().run()
        assert "m v2 goes to Production at once, and v1 is archived" in text(at).replace("*", "")
        assert "Waived: val_auc is 0.85" in text(at)
        request = Request(action=Action.CONFIRM_EMERGENCY, ref=weak, words="Agreed.", emergency=asked.seq)
        at.session_state["settle-emergency"] = request
        at.run()
        assert kinds(signoff)[-1] == "emergency:confirmed"
        assert registry.version(weak).stage == "Production"
        assert "Somebody else must now review the emergency" in text(at)

        at = opened(signoff, "auditor", "promotions")
        request = Request(action=Action.REVIEW_EMERGENCY, ref=weak, words="Seen.", emergency=asked.seq, justified=True)
        at.session_state["settle-emergency"] = request
        at.run()
        assert record(signoff)[-1].get("verdict") == "justified"
        assert "is reviewed: justified" in text(at)
        assert LOUD not in text(at)

    def test_withdraws(self, signoff: Signoff, weak: VersionRef) -> None:
        seq = ask(signoff, weak)
        at = opened(signoff, "break_glass", "promotions")
        at.session_state["settle-emergency"] = Request(
            action=Action.WITHDRAW_EMERGENCY, ref=weak, words="Found it.", emergency=seq
        )
        at.run()
        assert kinds(signoff)[-1] == "emergency:withdrawn"
        assert open_emergencies(signoff) == []

    def test_tells_how_it_came_into_production(self, signoff: Signoff, weak: VersionRef, broken: int) -> None:
        shown = text(opened(signoff, "viewer", "version", **version_query(weak)))
        assert "In Production by an emergency" in shown
        assert "waived in an emergency" in shown
        assert "Waived: val_auc is 0.85" in shown

    def test_says_when_a_request_is_void(self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef) -> None:
        ask(signoff, weak)
        release(signoff, registry.add_version("m", {"val_auc": 0.95}))
        signoff.snapshot.refresh()
        shown = text(opened(signoff, "release_manager", "version", **version_query(weak)))
        assert "Void: since it was asked for, the champion it is compared with changed" in shown


def labels(signoff: Signoff, username: str, page: str, ref: VersionRef | None = None) -> set[str]:
    at = opened(signoff, username, page, **(version_query(ref) if ref else {}))
    assert not at.exception
    return {one.label for one in at.button}
