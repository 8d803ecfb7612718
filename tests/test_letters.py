"""Names that people take for one another: the hook decides which to ask about, and Signoff which to refuse."""

from __future__ import annotations

import inspect
import sys

import pytest

from mlflow_gate import letters as of_the_hook
from mlflow_gate.gate import Gate
from mlflow_gate.names import Names
from mlflow_gate.registry import _protected
from services import letters
from services.admission import protection
from services.letters import skeleton
from tests.test_admissions import LOOK_ALIKES


def test_hook_and_signoff_see_every_character_alike() -> None:
    ours, the_hooks = (inspect.getsource(module).partition('"""\n\n')[2] for module in (letters, of_the_hook))
    assert ours == the_hooks
    assert "def skeleton(" in ours


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
        *("promoted_by.", "-promoted_by", "promoted_by_", "._promoted__by-", "promoted-by", "promoted by", "reason."),
        *("promoted_by\N{MODIFIER LETTER APOSTROPHE}", "promoted_by\N{ARABIC-INDIC DIGIT ZERO}"),
        *(".signoff.x", "signoff\N{LISU LETTER TONE MYA TI}x", "signoff_digest", "signoff-registered-by", "signoff."),
    ],
)
def test_the_hook_asks_about_tags_that_look_like_ours_and_signoff_refuses_them(key: str) -> None:
    assert _protected(key)
    assert protection._is_of_every_record(key) or skeleton(key) == "reason"


@pytest.mark.parametrize(
    "key",
    [
        *(
            "team",
            "my.tag",
            "validation_status",
            "approval",
            "approved",
            "promoted",
            "status",
            "reasons",
            "reason.code",
        ),
        *(
            "signoffs",
            "signoff_needed",
            "design.off",
            "sign",
            "promoted_by_team",
            "approved_by.qa",
            "mlflow.user",
            "...",
        ),
    ],
)
def test_tags_of_other_names_are_free(key: str) -> None:
    assert not _protected(key)
    assert not protection._is_of_every_record(key)
