"""docs/checks.md says word for word what the gate answers, of every family of checks passed and refused."""

from __future__ import annotations

from services.checks.emergency import WAIVABLE
from tests.checks_document import FILE, TITLES, text, verdicts


def test_it_is_what_the_gate_says() -> None:
    assert FILE.read_text() == text(), "write it anew with python -m tests.checks_document, and read the difference"


def test_every_family_is_there_passed_and_refused() -> None:
    seen = {(check.id.split(":")[0], check.passed) for verdict in verdicts() for check in verdict.checks}
    assert {family for family, passed in seen if not passed} == set(TITLES)
    assert {family for family, passed in seen if passed} == set(TITLES) - {"changes", "settled"}, (
        "which are there only where they refuse"
    )


def test_whatever_an_emergency_goes_past_is_described() -> None:
    assert set(TITLES) >= WAIVABLE


def test_every_answer_is_yes_or_no() -> None:
    assert {type(check.passed) for verdict in verdicts() for check in verdict.checks} == {bool}
