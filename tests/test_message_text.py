"""What messages say: nothing a person wrote becomes a link, a mention, markup or a header of one."""

from __future__ import annotations

import json
import re
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.messaging import delivery, message_text
from services.messaging.message_text import Letter
from services.record.ledger import Event, Kind
from tests.receivers import post, web

HERE = (ip_network("127.0.0.0/8"),)
NASTY = (
    "<!channel> @here <@U123> <https://evil.example|click> [click](https://evil.example) www.evil.example "
    "evil.example mail@evil.example <at>Everybody</at> <b>x</b> *b* _i_ `c` ~s~ | # - ![x](y) &lt;!channel&gt;"
)


def event(name: str = "m", comment: str = "", kind: str = "submission:confirmed", **more: Any) -> Event:
    body = {
        "kind": kind,
        "at": "2026-11-01T09:00:00.000+00:00",
        "actor": "sam",
        "actor_name": "Sam",
        "model": name,
        "version": 3,
        "comment": comment,
        "checks": [],
        "details": {},
        **more,
    }
    return Event(seq=7, hash="h" * 64, body=body)


def letter(found: Event, **more: Any) -> Letter:
    given_ = {"id": "i" * 32, "occasion": "event", "why": "w", "site": "https://signoff.example", "checkpoint": None}
    return message_text.compose(found, head=(9, "n" * 64), **{**given_, **more})


class TestHarmless:
    def test_in_slack_only_our_link_is_one_and_nobody_is_called(self) -> None:
        text = message_text.mrkdwn(letter(event(NASTY, NASTY, actor_name=NASTY), why=NASTY))
        assert re.findall(r"<[^>]*>", text) == [
            re.search(r"<https://signoff\.example/version\?[^|>]*\|Open in Signoff>", text)[0]
        ]  # type: ignore[index]
        assert not re.search(r"@(here|channel|everyone)", text)
        assert "&amp;lt;!channel" in text

    def test_in_teams_only_our_link_is_one_and_nobody_is_called(self) -> None:
        text = message_text.markdown(letter(event(NASTY, NASTY, actor_name=NASTY), why=NASTY))
        assert re.findall(r"(?<!\\)\]\((?!\\)[^)]*\)", text) == [
            re.search(r"\]\(https://signoff\.example[^)]*\)", text)[0]
        ]  # type: ignore[index]
        assert "<" not in text.replace("\\<", "<").replace("&lt;", "")

    @pytest.mark.parametrize("format_", ["plain", "mrkdwn", "markdown"])
    def test_no_format_has_another_address_than_ours(self, format_: str) -> None:
        text = getattr(message_text, format_)(letter(event(NASTY, NASTY, actor_name=NASTY), why=NASTY))
        shown = re.sub(r"https://signoff\.example/\S*", "", text)
        assert "://" not in shown
        assert "evil.example" not in shown
        assert not re.search(r"(?<!\[)@", shown)

    @given(st.text(min_size=1, max_size=300))
    def test_whatever_a_comment_is(self, comment: str) -> None:
        found = letter(event(comment, comment, actor_name=comment))
        slack = message_text.mrkdwn(found)
        assert slack.count("<") == 1
        assert "\n" not in found.title
        assert "\r" not in message_text.plain(found)
        json.dumps(found.data).encode("utf-8")
        message_text.plain(found).encode("utf-8")

    def test_numbers_stay_readable(self) -> None:
        assert message_text.harmless("val_auc 0.91 >= 0.90, v1.2") == "val_auc 0.91 >= 0.90, v1.2"


class TestBounded:
    def test_everything_has_an_end(self) -> None:
        found = letter(event("m" * 500, "c" * 10_000, actor_name="a" * 5000), why="w" * 5000)
        assert len(found.title) <= message_text.TITLE
        assert max(len(message_text.plain(found)), len(message_text.mrkdwn(found))) < 9000

    def test_lone_surrogates_and_direction_marks_are_shown_as_such(self) -> None:
        assert message_text.clean("a\ud800b\u202ec\x00", 10) == "a\ufffdb\ufffdc\ufffd"


class TestSaid:
    @pytest.mark.parametrize(
        ("kind", "title"),
        [
            ("submission:confirmed", "m v3 waits for review"),
            ("promotion:confirmed", "m v3 was promoted"),
            ("outside:stage", "m v3 was changed outside Signoff (stage)"),
            ("outside:ended", "m v3 is as prescribed again"),
            ("promotion:refused", "m v3 had a request refused (promotion)"),
        ],
    )
    def test_the_title_says_what_happened(self, kind: str, title: str) -> None:
        assert letter(event(kind=kind)).title == title

    def test_every_kind_has_a_title_of_its_own(self) -> None:
        titles = {kind: letter(event(kind=kind.value)).title for kind in Kind}
        assert len(set(titles.values())) == len(Kind)
        assert [kind for kind, title in titles.items() if "a new record" in title] == []

    def test_the_verdict_is_one_line(self) -> None:
        check = {"id": "a", "title": "A", "passed": False, "value": "1", "threshold": "2", "reason": "1 is below\n2."}
        found = letter(event(checks=[check, {**check, "passed": True}]))
        assert dict(found.lines)["Gate"] == "1 of 2 checks did not pass: 1 is below 2."

    def test_an_event_of_no_version_links_to_its_record(self) -> None:
        found = letter(event(model=None, version=None))
        assert found.url == "https://signoff.example/history?event=7"
        assert found.title.startswith("The registry")


class TestSent:
    """As the services themselves send it."""

    def test_a_subject_cannot_become_a_header(self) -> None:
        name = "m\r\nBcc: victim@evil.example\r\n\r\nbody"
        with post() as box:
            delivery.mail_server(box.url, sender="s@signoff.example", to="to@signoff.example")(
                letter(event(name, "x")), HERE
            )
            (recipient, mail), *others = box.got
        assert (recipient, others) == ("to@signoff.example", [])
        assert mail["Bcc"] is None
        assert mail["Subject"].startswith("m Bcc: victim[@]evil[.]example body v3")
        assert mail.get_content_type() == "text/plain"

    def test_slack_gets_mrkdwn_as_we_wrote_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from apprise.plugins.slack import NotifySlack

        found = letter(event(NASTY, NASTY))
        with web() as receiver:
            monkeypatch.setattr(NotifySlack, "webhook_url", receiver.url)
            send = delivery.channel(
                "slack", "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
            )
            send(found, HERE)
            [(_, body)] = receiver.got
        [attachment] = body["attachments"]
        assert body["mrkdwn"] is True
        assert attachment["text"] == message_text.mrkdwn(found)
        assert "<" not in attachment["title"]
        assert "icon_url" not in body

    def test_teams_gets_a_card_without_mentions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is spoken to over TLS only, so the request is caught where it leaves."""
        import requests

        sent: list[tuple[str, Any, Any]] = []

        def caught(url: str, **more: Any) -> Any:
            sent.append((url, json.loads(more["data"]), more["allow_redirects"]))
            answer = requests.Response()
            answer.status_code = 202
            return answer

        monkeypatch.setattr(requests, "post", caught)
        address = "https://prod-1.westeurope.logic.azure.com:443/workflows/abc/triggers/manual/paths/invoke?sig=SIG"
        found = letter(event(NASTY, NASTY))
        delivery.channel("teams", address)(found, ())
        [(url, card, redirects)] = sent
        content = card["attachments"][0]["content"]
        assert url.startswith("https://prod-1.westeurope.logic.azure.com:443/workflows/abc/")
        assert redirects is False
        assert content["body"][-1]["text"] == message_text.markdown(found)
        assert "entities" not in content["msteams"]

    @pytest.mark.parametrize(
        ("kind", "address"),
        [
            ("slack", "https://evil.example/services/T1/B1/x"),
            ("slack", "http://127.0.0.1/"),
            ("teams", "https://evil.example/hook"),
            ("webhook", "ftp://evil.example/"),
            ("webhook", "http://[::1/"),
            ("webhook", "file:///etc/passwd"),
        ],
    )
    def test_an_address_of_another_kind_is_none(self, kind: str, address: str) -> None:
        with pytest.raises(ValueError, match="the variable does not hold") as told:
            delivery.channel(kind, address)
        assert "evil" not in str(told.value)
