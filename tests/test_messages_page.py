"""The page Messages: what is stuck is shown with its reason and no secret, and retried by those who may."""

from __future__ import annotations

import pytest

from services.domain import VersionRef
from services.record.ledger import Kind
from services.signoff import Signoff
from services.tables import outbox
from tests.fakes import FakeRegistry
from tests.pages import opened, text
from tests.receivers import deliver, states, telling, web
from tests.test_messages import EVERYTHING, append

URL = "{}?token=t0ken"


@pytest.fixture
def stuck(signoff: Signoff, registry: FakeRegistry) -> Signoff:
    """Two messages no receiver took, one that waits, one that was sent."""
    ref = VersionRef(name="<b>m</b>", version=1)
    with web() as receiver:
        told = telling(signoff, EVERYTHING, hook=URL.format(receiver.url))
        append(told, Kind.OUTSIDE_TAG, ref=ref)
        deliver(told, "hook")
        receiver.status = 410
        for _ in range(2):
            append(told, Kind.OUTSIDE_STAGE, ref=ref)
        deliver(told, "hook")
    append(told, Kind.OUTSIDE_ALIAS, ref=ref)
    deliver(told, "hook", chance=1.0)
    assert states(told) == ["delivered", "stuck", "stuck", "waiting"]
    return told


class TestMessages:
    def test_without_a_book_says_how_to_have_one(self, signoff: Signoff) -> None:
        at = opened(signoff, "viewer", "messages")
        assert not at.exception
        assert "SIGNOFF_MESSAGES" in text(at)
        assert "docs/messages.example.yaml" in text(at)

    def test_shows_what_is_stuck_waits_and_was_sent(self, stuck: Signoff) -> None:
        at = opened(stuck, "viewer", "messages")
        assert not at.exception
        assert [metric.value for metric in at.metric] == ["1", "1", "2"]
        shown = text(at)
        assert "The receiver answered HTTP 410." in shown
        assert "Attempt 1 of 20 failed. The receiver was not reached: connection refused. Next one" in shown
        assert "t0ken" not in shown
        assert "127.0.0.1" not in shown

    def test_shows_every_attempt_at_what_is_stuck_and_who_had_it_retried(self, stuck: Signoff) -> None:
        at = opened(stuck, "release_manager", "messages")
        at.button(key="retry:3").click().run()
        with stuck.database.writing() as connection:
            connection.execute(outbox.update().where(outbox.c.number == 3).values(state="stuck"))
        at.run()
        assert "release_manager had it retried" in text(at)
        assert text(at).count("The receiver answered HTTP 410.") == 4, "the last error and the log, of both"

    def test_names_are_text(self, stuck: Signoff) -> None:
        at = opened(stuck, "viewer", "messages")
        assert all("<b>m" not in element.proto.body for element in at.get("html"))

    @pytest.mark.parametrize("role", ["release_manager", "admin"])
    def test_one_is_retried(self, stuck: Signoff, role: str) -> None:
        at = opened(stuck, role, "messages")
        at.button(key="retry:3").click().run()
        assert states(stuck) == ["delivered", "stuck", "waiting", "waiting"]
        assert "tried again from the start" in text(at)

    def test_all_are_retried(self, stuck: Signoff) -> None:
        opened(stuck, "admin", "messages").button(key="retry:all").click().run()
        assert states(stuck) == ["delivered", "waiting", "waiting", "waiting"]

    def test_others_cannot(self, stuck: Signoff) -> None:
        at = opened(stuck, "reviewer", "messages")
        assert all(button.disabled for button in at.button if str(button.key).startswith("retry"))
        assert states(stuck) == ["delivered", "stuck", "stuck", "waiting"]
