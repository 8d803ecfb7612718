"""What a message says, and how text that people wrote is made harmless in each format it is sent in.

Nothing a person wrote is a link, a mention or markup in a message, whatever it looks like: addresses are written as
people write dangerous ones, ``https[:]//example[.]com``, which no reader turns into a link.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode

from services.record.ledger import Event

TITLE, LINE, COMMENT = 150, 400, 1500
"""How many characters of a title, of one line and of a comment are sent."""
Tone = Literal["info", "success", "warning", "failure"]

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-!|~>])")
_LINKED = re.compile(r"(?<=\w)[.。．｡](?=[^\W\d_]{2})")
_WHAT = {
    "policy:activated": "has a new policy in force",
    "policy:assigned": "has a policy that judges it",
    "submission:confirmed": "waits for review",
    "submission:taken_over": "was proposed by a client and waits for review now",
    "approval:given": "was approved",
    "approval:expired": "has an approval that expired",
    "changes:requested": "was sent back with changes requested",
    "finding:resolved": "had a finding resolved",
    "finding:reopened": "had a finding opened again",
    "statement:recorded": "had the data set stated that it was measured on",
    "rejection:confirmed": "was rejected",
    "withdrawal:confirmed": "was withdrawn",
    "promotion:confirmed": "was promoted",
    "rollback:confirmed": "was rolled back to",
    "archival:confirmed": "was archived",
    "transition:confirmed": "was moved to another stage",
    "registry:baseline": "was met for the first time",
    "emergency:requested": "is asked to go to Production in an emergency",
    "emergency:withdrawn": "is no longer asked to go to Production in an emergency",
    "emergency:confirmed": "went to Production in an emergency",
    "emergency:reviewed": "had its emergency reviewed",
    "validation:requested": "is being validated",
    "validation:completed": "was validated",
    "validation:failed": "could not be validated",
    "validation:cancelled": "is no longer being validated",
    "restoration:confirmed": "was put back to what the record prescribes",
    "adoption:recorded": "had a change outside Signoff adopted",
    "outside:ended": "is as prescribed again",
    "token:created": "has a new token",
    "token:revoked": "has a token less",
    "account:added": "has a new account",
    "account:changed": "has an account with other roles",
    "account:disabled": "has an account that was disabled",
    "accounts:baseline": "has its accounts on record",
    "ledger:imported": "has a record that was imported",
    "ledger:restored": "has a record of which a person states that events or their witness were lost",
    "key:rotated": "has another key that signs checkpoints",
    "witness:opened": "has a run in MLflow that witnesses the record",
    "witness:replaced": "lost the run in MLflow that witnessed the record",
}
_OUTCOMES = {
    "intended": "is about to be changed ({})",
    "refused": "had a request refused ({})",
    "aborted": "was not changed after all ({})",
    "unknown": "was to be changed, and nobody knows yet whether it was ({})",
}
_GOOD = frozenset({"confirmed", "given", "ended", "recorded"})
_BAD = frozenset({"refused", "aborted", "unknown"})


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One message, before it takes a format. ``lines`` are label and text; ``data`` is the same for programs."""

    id: str
    title: str
    tone: Tone
    lines: tuple[tuple[str, str], ...]
    comment: str
    url: str
    proof: tuple[tuple[str, str], ...]
    """Record, head and checkpoint: ours, and exact."""
    data: Mapping[str, Any] = field(default_factory=dict)


def compose(
    event: Event,
    *,
    id: str,  # noqa: A002  (what it is called everywhere else)
    occasion: str,
    why: str,
    site: str,
    head: tuple[int, str],
    checkpoint: str | None,
) -> Letter:
    """The message about an event.

    Args:
        occasion: event, reminder or escalation.
        why: title of the rule.
        site: SIGNOFF_URL.
        head: sequence number and hash of the newest event.
        checkpoint: the newest signed checkpoint's compact text, whole, so that it can be verified.
    """
    ref, summary = event.ref, _verdict(event)
    link = {"name": ref.name, "version": ref.version} if ref else {"event": event.seq}
    url = f"{site}/{'version' if ref else 'history'}?{urlencode(link, errors='replace')}"
    record, newest = f"{event.seq}:{event.hash}", f"{head[0]}:{head[1]}"
    return Letter(
        id=id,
        title=one_line(f"{_subject(event)} {_said(event, occasion)}", TITLE),
        tone=_tone(event, occasion),
        lines=(
            ("By", one_line(f"{event.body['actor_name']} ({event.actor}), {event.at:%Y-%m-%d %H:%M} UTC", LINE)),
            ("Gate", one_line(summary, LINE)),
            ("Told because", one_line(why, LINE)),
        ),
        comment=clean(event.comment, COMMENT),
        url=url,
        proof=(("Record", record), ("Ledger head", newest), ("Checkpoint", checkpoint or "none was signed yet")),
        data={
            "id": id,
            "occasion": occasion,
            "kind": event.kind.value,
            "at": event.body["at"],
            "actor": clean(event.actor, LINE),
            "model": clean(ref.name, LINE) if ref else None,
            "model_version": ref.version if ref else None,
            "verdict": one_line(summary, LINE),
            "comment": clean(event.comment, COMMENT),
            "url": url,
            "event": record,
            "ledger_head": newest,
            "checkpoint": checkpoint,
        },
    )


def _subject(event: Event) -> str:
    return f"{one_line(event.ref.name, 80)} v{event.ref.version}" if event.ref else "The registry"


def _said(event: Event, occasion: str) -> str:
    if occasion != "event":
        since = f"{event.at:%Y-%m-%d %H:%M} UTC"
        return f"has waited for review since {since}" + (" and is overdue" if occasion == "escalation" else "")
    if (policy := event.get("assigned")) and event.kind.subject == "policy":
        before = event.get("assigned_before")
        instead = f" instead of {before}" if before not in {None, policy} else ""
        return f"is judged by policy {policy} from now on{instead}"
    return said(event.kind.value)


def said(kind: str) -> str:
    """What an event says about its version: ``was promoted`` …"""
    subject, outcome = kind.split(":")
    if subject == "outside" and outcome != "ended":
        return f"was changed outside Signoff ({outcome})"
    return _WHAT.get(kind) or _OUTCOMES[outcome].format(subject)


def _tone(event: Event, occasion: str) -> Tone:
    if event.kind.outcome in _BAD:
        return "failure"
    if occasion != "event" or (event.kind.subject in {"outside", "emergency"} and event.kind.outcome != "ended"):
        return "warning"
    return "success" if event.kind.outcome in _GOOD and event.kind.subject != "submission" else "info"


def _verdict(event: Event) -> str:
    verdict = event.verdict
    if not verdict.checks:
        return "was not asked"
    if verdict.allowed:
        return f"all {len(verdict.checks)} checks passed"
    return f"{len(verdict.failed)} of {len(verdict.checks)} checks did not pass: {verdict.summary()}"


# What a person wrote


def clean(text: str, limit: int) -> str:
    """Text without control, direction and half characters, cut to ``limit``; line breaks stay."""
    kept = "".join(_visible(character) for character in text)
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def _visible(character: str) -> str:
    if character == "\n":
        return character
    category = unicodedata.category(character)
    return "\N{REPLACEMENT CHARACTER}" if category in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else character


def one_line(text: str, limit: int) -> str:
    """`clean` on one line: no header and no title can be continued by it."""
    return clean(" ".join(text.split()), limit)


def harmless(text: str) -> str:
    """Text that no reader takes for a link, an address or a mention."""
    text = text.replace("://", "[:]//").replace("@", "[@]").replace("＠", "[@]")
    return _LINKED.sub("[.]", text)


def as_plain(text: str) -> str:
    """For mail, and for titles."""
    return harmless(text)


def as_mrkdwn(text: str) -> str:
    """For Slack: ``<`` begins links and mentions there; its other marks are kept from meaning anything."""
    text = harmless(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([*_~`])", "\N{ZERO WIDTH SPACE}\\1\N{ZERO WIDTH SPACE}", text)


def as_markdown(text: str) -> str:
    """For Teams."""
    text = harmless(text).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN.sub(r"\\\1", text)


# Formats


def plain(letter: Letter) -> str:
    """The body of a mail, as plain text."""
    lines = [f"{label}: {as_plain(text)}" for label, text in letter.lines]
    quote = [f"> {as_plain(line)}" for line in letter.comment.splitlines()]
    proof = [f"{label}: {text}" for label, text in (*letter.proof, ("Message", letter.id))]
    return "\n".join([as_plain(letter.title), "", *lines, *quote, "", f"Open: {letter.url}", "", "--", *proof, ""])


def mrkdwn(letter: Letter) -> str:
    """The body of a message to Slack."""
    link = f"<{_entities(letter.url)}|Open in Signoff>"
    return _marked(letter, as_mrkdwn, link, bold="*", quote="&gt; ", newline="\n", code=_entities)


def markdown(letter: Letter) -> str:
    """The body of a card in Teams."""
    url = letter.url.replace("(", "%28").replace(")", "%29")
    return _marked(letter, as_markdown, f"[Open in Signoff]({url})", bold="**", quote="", newline="\n\n", code=as_proof)


def _marked(
    letter: Letter,
    escaped: Callable[[str], str],
    link: str,
    *,
    bold: str,
    quote: str,
    newline: str,
    code: Callable[[str], str],
) -> str:
    lines = [f"{bold}{label}{bold} {escaped(text)}" for label, text in letter.lines]
    said = [f"{quote}{escaped(line)}" for line in letter.comment.splitlines() if line.strip()]
    proof = [f"{label} `{code(text)}`" for label, text in (*letter.proof, ("Message", letter.id))]
    return newline.join([*lines, *said, link, *proof])


def as_proof(text: str) -> str:
    """What we made ourselves, in a code span: exact, and without a backtick by construction."""
    return text


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
