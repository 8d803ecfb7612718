"""The message book: what is wrong in it is named with file and line, and no address is ever part of what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import documents
from services.errors import InvalidSettings
from services.messaging.message_book import MessageBook
from services.settings import PROJECT
from services.signoff import Signoff
from tests.conftest import settings_in
from tests.fakes import FakeRegistry

EXAMPLE = PROJECT / "docs" / "messages.example.yaml"
SECRETS = {
    "SIGNOFF_MESSAGES_MAIL": "mailtos://user:hunter2@smtp.example.com:587",
    "SIGNOFF_MESSAGES_SLACK": "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "SIGNOFF_MESSAGES_TEAMS": "https://prod-1.westeurope.logic.azure.com:443/workflows/abc/triggers/manual/paths/invoke?sig=S",
    "SIGNOFF_MESSAGES_PAGER": "https://pager.example.com/hook?token=hunter2",
    "SIGNOFF_MESSAGES_BAD": "gopher://hunter2",
    "OTHER": "https://hunter2.example.com/",
}
HOOK = "channels: [{name: a, kind: webhook, address: SIGNOFF_MESSAGES_PAGER}]\n"

MISTAKES = {
    "unknown key": ("rulez: []\n", "m.yaml:1: rulez"),
    "kind that is none": (
        HOOK + 'rules:\n  - {title: t, events: ["submision:*"], channels: [a]}\n',
        "m.yaml:3: rules.0.events.0: no kind of event fits submision:*",
    ),
    "no events": (HOOK + "rules:\n  - {title: t, events: [], channels: [a]}\n", "m.yaml:3: rules.0.events"),
    "nobody told": (HOOK + 'rules:\n  - {title: t, events: ["*"]}\n', "m.yaml:3: rules.0: name people or channels"),
    "unknown channel": (HOOK + 'rules:\n  - {title: t, events: ["*"], channels: [b]}\n', "there is no channel b"),
    "unknown person": (
        HOOK + 'rules:\n  - {title: t, events: ["*"], people: [bob]}\n',
        "m.yaml:3: rules.0.people.0: bob is nobody",
    ),
    "people without mail": (HOOK + 'rules:\n  - {title: t, events: ["*"], people: [reviewer]}\n', "under mail"),
    "a channel twice": (
        HOOK.replace("]", ", {name: a, kind: webhook, address: SIGNOFF_MESSAGES_PAGER}]"),
        "two channels",
    ),
    "an address in the file": (
        "channels:\n  - {name: a, kind: webhook, address: 'https://hunter2.example.com'}\n",
        "m.yaml:2: channels.0.address: give the name of an environment variable",
    ),
    "another variable": (
        "channels:\n  - {name: a, kind: webhook, address: OTHER}\n",
        "m.yaml:2: channels.0.address: give the name of an environment variable",
    ),
    "a variable that is not set": (
        "channels:\n  - {name: a, kind: webhook, address: SIGNOFF_MESSAGES_GONE}\n",
        "m.yaml:2: channels.0.address: the environment variable SIGNOFF_MESSAGES_GONE is not set",
    ),
    "an address of another kind": (
        "channels:\n  - {name: a, kind: slack, address: SIGNOFF_MESSAGES_PAGER}\n",
        "m.yaml:2: channels.0: the variable does not hold https://hooks.slack.com",
    ),
    "an address that is none": (
        "channels:\n  - {name: a, kind: webhook, address: SIGNOFF_MESSAGES_BAD}\n",
        "m.yaml:2: channels.0: the variable does not hold",
    ),
    "a sender with a header in it": (
        'mail: {server: SIGNOFF_MESSAGES_MAIL, sender: "a@b.c\\r\\nBcc: x@y.z"}\n',
        "m.yaml:1: mail.sender",
    ),
    "the whole internet allowed": ('allowed_networks: ["0.0.0.0/0"]\n', "includes link-local addresses"),
    "a network that is none": ('allowed_networks: ["10.0.0.1/8"]\n', "m.yaml:1: allowed_networks.0"),
    "escalation before reminder": (
        HOOK
        + "overdue:\n  reminder: {after_hours: 24, channels: [a]}\n  escalation: {after_hours: 24, channels: [a]}\n",
        "m.yaml:2: overdue: the escalation is to come after the reminder",
    ),
}


def read(text: str) -> MessageBook:
    return documents.checked(
        text, "m.yaml", MessageBook, what="message book", hint="rules", context={"secrets": SECRETS}
    )


class TestMistakes:
    @pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES.keys())
    def test_are_named_with_line_and_without_the_secret(self, text: str, said: str) -> None:
        with pytest.raises(InvalidSettings) as told:
            read(text)
        assert said in str(told.value)
        assert "hunter2" not in str(told.value)

    def test_stop_the_start(self, tmp_path: Path) -> None:
        """A rule that is wrong would be silence when it matters."""
        (tmp_path / "m.yaml").write_text("rulez: []\n")
        settings = settings_in(tmp_path, SIGNOFF_MESSAGES=str(tmp_path / "m.yaml"))
        with pytest.raises(InvalidSettings, match=r"m\.yaml:1"):
            Signoff.wire(settings=settings, registry=FakeRegistry())

    def test_a_file_that_is_not_there_stops_the_start(self, tmp_path: Path) -> None:
        settings = settings_in(tmp_path, SIGNOFF_MESSAGES=str(tmp_path / "m.yaml"))
        with pytest.raises(InvalidSettings, match="cannot be read"):
            Signoff.wire(settings=settings, registry=FakeRegistry())


class TestExample:
    def test_is_a_book(self) -> None:
        book = read(EXAMPLE.read_text(encoding="utf-8"))
        assert book.destinations == ("mail", "ml-releases", "ml-ops", "pager")
        assert {pattern for rule in book.rules for pattern in rule.events} >= {"outside:*", "emergency:confirmed"}
        assert book.overdue

    def test_shows_no_secret(self) -> None:
        assert "hunter2" not in repr(read(EXAMPLE.read_text(encoding="utf-8")))

    def test_without_a_file_nobody_is_told(self) -> None:
        assert MessageBook.load(None, {}) == MessageBook()
