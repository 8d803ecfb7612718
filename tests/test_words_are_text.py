"""What people write is shown as the text that it is: no icon, emoji, link, formula or arrow is made of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from streamlit.testing.v1 import AppTest

from components.links import version_query
from components.text import JOINER, escaped
from services.evidence import FindingDraft
from services.signoff import Signoff
from tests.fakes import FakeRegistry
from tests.pages import opened
from tests.verbs import reviews

BY_STREAMLIT = (
    r":material/",  # replaced before anything is parsed
    r":material_\w+:",
    r":streamlit:",
    r":\+1:|:-1:|:[\w-]+:",  # emoji
    r"(?i)(https?://|www(?=\.))[-.\w]+",
    r"[-.\w+]+@[-\w]+(\.[-\w]+)+",
    r"(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)",
)
"""What Streamlit's Markdown makes icons, emoji, links and signs of once backslashes are gone, as its browser part says
it."""
BY_MARKDOWN = re.compile(r"(?<!\\)[`*_{}\[\]()<>#+\-.!|~$:^&\"'=]")
WORDS = (
    ":material/verified:",
    "::material/verified::",
    "see foo:material/bar",
    ":tada: and :+1: and :100:",
    ":streamlit:",
    ":red[x] :red-badge[x] :small[x]",
    "https://evil.example/x",
    "HTTP://EVIL.EXAMPLE www.evil.example WWW.evil.example",
    "rita@evil.example, mailto:rita@evil.example",
    "[here](https://evil.example) ![p](https://evil.example/p.png) <https://evil.example>",
    "$x^2$ and $$y$$",
    "->",
    "a -> b <- c <-> d -- e >= f <= g ~= h",
    "**b** `c` ~~s~~ <b>h</b> &amp; &#58;material/verified:",
    "at 12:30:45 of 2026-11-01",
)


def unescaped(markdown: str) -> str:
    """The text that Markdown leaves to what is made of text."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)


class TestEscaped:
    @pytest.mark.parametrize("words", WORDS)
    def test_words_become_nothing_else(self, words: str) -> None:
        assert not BY_MARKDOWN.findall(escaped(words))
        left = unescaped(escaped(words))
        assert [pattern for pattern in BY_STREAMLIT if re.search(pattern, left)] == []

    @pytest.mark.parametrize("words", WORDS)
    def test_words_are_shown_with_all_their_characters(self, words: str) -> None:
        assert unescaped(escaped(words)).replace(JOINER, "") == words

    @pytest.mark.parametrize("words", ["It is fine: 0.95 > 0.92.", "holdout (aaaaaaaa)", "m/v1", "p < 0.05, a->b"])
    def test_usual_words_hold_no_character_more(self, words: str) -> None:
        assert JOINER not in escaped(words)


NASTY = ":material/skull: :skull: https://evil.example/x skull@evil.example"


def drawn(at: AppTest) -> Iterator[str]:
    """Every Markdown on the page."""
    groups = (at.title, at.subheader, at.markdown, at.caption, at.error, at.warning, at.info, at.success)
    yield from (str(element.value) for group in groups for element in group)
    yield from (str(element.label) for group in (at.metric, at.button, at.expander, at.radio) for element in group)
    yield from (str(cell) for table in at.table for row in table.value.itertuples() for cell in row)


class TestPages:
    @pytest.mark.parametrize("page", ["model", "version"])
    def test_make_nothing_of_what_anybody_wrote(self, signoff: Signoff, registry: FakeRegistry, page: str) -> None:
        registry.add_model("m", owner=NASTY, note=NASTY)
        ref = registry.add_version("m", {"val_auc": 0.95, NASTY: 0.5}, params={"p": NASTY}, author=NASTY)
        registry.describe(ref, NASTY)
        reviews.submit(signoff, ref, by="scientist", comment=NASTY)
        reviews.request_changes(
            signoff, ref, by="reviewer", comment=NASTY, findings=[FindingDraft(text=f"Finding: {NASTY}")]
        )
        at = opened(signoff, "scientist", page, **version_query(ref))
        assert not at.exception
        found = [unescaped(words) for words in drawn(at) if "skull" in words]
        assert found, "what was written is on the page"
        made_of = r":material.skull:|:skull:|https://evil|skull@evil"
        assert [words for words in found if re.search(made_of, words)] == []
