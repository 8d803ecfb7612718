"""Policies: what is accepted, what is refused with file and line, and which one judges a model."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from services.domain import RegisteredModel
from services.errors import InvalidSettings
from services.policy import Freeze, PolicyBook, parse
from services.settings import PROJECT
from tests.fakes import START

GOOD = """\
name: tested
title: A policy for tests
applies_to: {names: ["*"]}
metrics:
  - name: val_auc
    greater_is_better: true
    threshold: 0.9
same_dataset: true
signature: true
approvals:
  - role: reviewer
promoted_by: [release_manager]
"""


SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def model(name: str = "m", **tags: str) -> RegisteredModel:
    return RegisteredModel(name=name, created_at=START, updated_at=START, tags=tags)


class TestParsing:
    def test_a_good_policy_is_read(self) -> None:
        policy = parse(GOOD, "p.yaml")
        assert policy.rules.metrics[0].threshold == 0.9
        assert policy.label == f"tested@{policy.digest[:12]}"

    def test_the_digest_is_that_of_the_exact_text(self) -> None:
        assert parse(GOOD, "p.yaml").digest != parse(GOOD + "# a comment\n", "p.yaml").digest

    @pytest.mark.parametrize(
        ("text", "where"),
        [
            ("name: [\n", "p.yaml:2"),
            ("- a list", "p.yaml:1"),
            (GOOD.replace("threshold: 0.9", "threshold: high"), "p.yaml:7"),
            (GOOD.replace("threshold: 0.9", "threshold: .nan"), "p.yaml:7"),
            (GOOD.replace("threshold: 0.9", "treshold: 0.9"), "p.yaml:7"),
            (GOOD.replace("    threshold: 0.9\n", ""), "p.yaml:5"),
            (GOOD.replace("role: reviewer", "role: wizard"), "p.yaml:11"),
            (GOOD.replace("  - role: reviewer", "  []"), "p.yaml:10"),
            (GOOD.replace("role: reviewer", "role: auditor"), "p.yaml:11"),
            (GOOD.replace("role: reviewer", "role: scientist"), "p.yaml:11"),
            (GOOD.replace("  - role: reviewer", "  - role: reviewer\n  - role: reviewer"), "p.yaml:10"),
            (GOOD.replace("[release_manager]", "[release_manager, scientist]"), "p.yaml:12"),
            (GOOD.replace("[release_manager]", "[admin]"), "p.yaml:12"),
            (GOOD.replace('{names: ["*"]}', "{}"), "p.yaml:3"),
            (GOOD + "unknown_rule: true\n", "p.yaml:13"),
            (GOOD + "signature: false\n", "p.yaml:13"),
            (GOOD.replace("signature: true\n", ""), "p.yaml:1"),
            (GOOD + "risk: none\n", "p.yaml:13"),
            (GOOD + "signing: true\nbreak_glass: true\n", "p.yaml:1"),
            (GOOD + "max_evidence_age_days: 0\n", "p.yaml:13"),
            (GOOD + "validation: {}\n", "p.yaml:13"),
            (GOOD + f"validation:\n  holdout: {SHA256}\n", "p.yaml:13"),
            (GOOD + "validation:\n  target: y\n  holdout: 12345678\n", "p.yaml:15"),
            (GOOD + "validation:\n  target: y\n  holdout: latest\n", "p.yaml:15"),
            (GOOD + "validation:\n  target: y\n  holdout: 9f86d081\n", "p.yaml:15"),
            (GOOD + f"validation:\n  target: y\n  holdout: {SHA256.upper()}\n", "p.yaml:15"),
            (GOOD + f"validation:\n  target: y\n  holdout: {SHA256}\n  confidence: 95\n", "p.yaml:16"),
            (GOOD + f"validation:\n  target: y\n  holdout: {SHA256}\n  min_improvement: .inf\n", "p.yaml:16"),
            (GOOD + f"validation:\n  target: y\n  holdout: {SHA256}\n  min_gain: 0.1\n", "p.yaml:16"),
            (GOOD + "freezes:\n  - {title: X, time_zone: Mars/Olympus, days: [monday]}\n", "p.yaml:14"),
            (GOOD + "freezes:\n  - {title: X, time_zone: localtime, days: [monday]}\n", "p.yaml:14"),
            (GOOD + "freezes:\n  - {title: X, time_zone: UTC}\n", "p.yaml:14"),
            (GOOD + "freezes:\n  - {title: X, time_zone: UTC, from: 2026-01-02 00:00:00}\n", "p.yaml:14"),
            (GOOD + "freezes:\n  - {title: X, time_zone: UTC, days: [someday]}\n", "p.yaml:14"),
        ],
    )
    def test_a_mistake_is_named_with_file_and_line(self, text: str, where: str) -> None:
        with pytest.raises(InvalidSettings) as refusal:
            parse(text, "p.yaml")
        assert str(refusal.value).startswith(where + ":")
        assert "\n" not in str(refusal.value)

    def test_a_validation_is_asked_for_by_its_holdout_and_target(self) -> None:
        rule = parse(GOOD + f"validation: {{holdout: {SHA256}, target: y}}\n", "p.yaml").rules.validation
        assert rule is not None
        assert (rule.metric, rule.min_improvement, rule.confidence) == (None, 0.0, 0.95)
        assert parse(GOOD, "p.yaml").rules.validation is None

    @pytest.mark.parametrize("holdout", ["9f86d081", "12345678", "9f86d081" * 7])
    def test_a_holdout_is_named_by_its_sha256_only(self, holdout: str) -> None:
        with pytest.raises(InvalidSettings, match="named by the sha256 of its file, 64 hexadecimal digits"):
            parse(GOOD + f"validation: {{holdout: {holdout}}}\n", "p.yaml")

    def test_the_shipped_policies_are_good(self) -> None:
        assert {policy.rules.name for policy in PolicyBook.load(PROJECT / "policies").policies} >= {"default"}

    def test_so_are_the_worked_examples(self) -> None:
        book = PolicyBook.load(PROJECT / "policies" / "examples")
        assert {policy.rules.name for policy in book.policies} == {"low-risk", "regulated", "lifecycle", "validated"}


class TestFreezes:
    @pytest.mark.parametrize(
        ("start", "until", "begins", "ends"),
        [
            ("2026-10-25 02:30", "2026-10-26 08:00", "2026-10-25 00:30", "2026-10-26 07:00"),
            ("2026-10-24 08:00", "2026-10-25 02:30", "2026-10-24 06:00", "2026-10-25 01:30"),
            ("2026-03-29 02:30", "2026-03-30 08:00", "2026-03-29 00:30", "2026-03-30 06:00"),
            ("2026-03-28 08:00", "2026-03-29 02:30", "2026-03-28 07:00", "2026-03-29 01:30"),
        ],
    )
    def test_one_that_begins_or_ends_as_clocks_change_has_no_hole(
        self, start: str, until: str, begins: str, ends: str
    ) -> None:
        """Local times in Berlin; ``begins`` and ``ends`` in UTC."""
        given = {"title": "X", "time_zone": "Europe/Berlin", "from": start, "until": until}
        freeze = Freeze.model_validate(given)
        first, after = (datetime.fromisoformat(f"{one}+00:00") for one in (begins, ends))
        minutes = range(-300, int((after - first).total_seconds() / 60) + 300)
        held = [minute for minute in minutes if freeze.holds(first + timedelta(minutes=minute))]
        assert held == list(range(int((after - first).total_seconds() / 60)))


class TestMatching:
    def book(self, *texts: str) -> PolicyBook:
        return PolicyBook(policies=tuple(parse(text, f"{n}.yaml") for n, text in enumerate(texts)))

    def test_the_higher_priority_judges(self) -> None:
        special = GOOD.replace("tested", "special").replace("applies_to:", "priority: 5\napplies_to:")
        assert self.book(GOOD, special).match(model()).rules.name == "special"

    def test_a_tag_matches_where_the_name_does_not(self) -> None:
        tagged = GOOD.replace('{names: ["*"]}', "{tags: {task: regression}}")
        assert self.book(tagged).match(model(task="regression")).rules.name == "tested"
        with pytest.raises(InvalidSettings, match="No policy applies"):
            self.book(tagged).match(model(task="other"))

    def test_two_of_equal_priority_refuse(self) -> None:
        with pytest.raises(InvalidSettings, match="both apply"):
            self.book(GOOD, GOOD.replace("tested", "other")).match(model())

    def test_names_are_compared_with_case(self) -> None:
        named = GOOD.replace('["*"]', '["Model*"]')
        with pytest.raises(InvalidSettings):
            self.book(named).match(model("model_a"))

    def test_two_policies_of_one_name_are_refused(self) -> None:
        with pytest.raises(InvalidSettings, match=r"0\.yaml, 1\.yaml"):
            self.book(GOOD, GOOD)

    def test_an_empty_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidSettings, match="no policy file"):
            PolicyBook.load(tmp_path)
