"""Names that people take for one another: the hook decides which to ask about, and Signoff which to refuse."""

from __future__ import annotations

import sys

import pytest

from mlflow_gate import letters as of_the_hook
from mlflow_gate.gate import Gate
from mlflow_gate.names import Names
from mlflow_gate.registry import _protected
from services import letters
from services.letters import skeleton
from tests.test_admissions import LOOK_ALIKES


def test_hook_and_signoff_see_every_character_alike() -> None:
    every = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]
    for start in range(0, len(every), 1000):
        text = "".join(every[start : start + 1000])
        assert letters.skeleton(text) == of_the_hook.skeleton(text)


@pytest.mark.parametrize("written", LOOK_ALIKES)
def test_what_looks_alike_has_one_skeleton(written: str) -> None:
    assert skeleton(written) in {skeleton("champion"), skeleton("challenger")}
    assert skeleton(skeleton(written)) == skeleton(written)


@pytest.mark.parametrize(
    "other", ["champions", "championship", "campeon", "chief", "challenge", "шампион", "冠军", "shadow"]
)
def test_other_names_are_other_names(other: str) -> None:
    assert skeleton(other) not in {skeleton("champion"), skeleton("challenger")}


@pytest.mark.parametrize("written", LOOK_ALIKES)
def test_the_hook_asks_about_them(written: str) -> None:
    gate = Gate(url="", token="")
    gate._names, gate._read_at = Names(frozenset({"champion", "challenger"}), frozenset()), sys.float_info.max
    assert gate.protects(written)
    assert not gate.protects("shadow")


@pytest.mark.parametrize(
    "key",
    [
        "appr\N{CYRILLIC SMALL LETTER O}ved_by",
        "S1GNOFF.anything",
        "rea\N{ZERO WIDTH JOINER}son",
        "approved_by ",
        " signoff .digest",
    ],
)
def test_the_hook_asks_about_tags_that_look_like_ours(key: str) -> None:
    assert _protected(key)
    assert not _protected("team")
