"""What an emergency goes past and what it never does, as a pure function."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.checks.bound import bound
from services.checks.emergency import WAIVABLE
from services.domain import Actor, Role, Source
from services.evidence import Facts, Waiver
from services.gate import Verdict, evaluate
from services.policy import Policy, parse
from tests.test_gate import approved, champion, evidence, facts
from tests.test_policy import GOOD

DEMANDING = """
input_example: true
required_tags: [owner]
required_artifacts: ["*card.md"]
max_evidence_age_days: 0.001
min_hours_in_staging: 24
freezes:
  - {title: Always, time_zone: UTC, days: [monday, tuesday, wednesday, thursday, friday, saturday, sunday]}
"""
KEPT = {"intact", "place", "guarded_files", "signature", "input_example"}
"""What a version is, whoever is in a hurry."""


def policy(more: str = "", *, break_glass: bool = True) -> Policy:
    text = GOOD.replace("threshold: 0.9", "threshold: 0.9\n    min_absolute_change: 0")
    return parse(f"{text}{more}break_glass: {str(break_glass).lower()}\n", "p.yaml")


def person(username: str, *roles: Role) -> Actor:
    return Actor(
        username=username, name=username, roles=frozenset(roles), person=f"id-{username}", source=Source.BROWSER
    )


ASKER, SECOND = person("a", Role.BREAK_GLASS), person("b", Role.RELEASE_MANAGER)


def judged(rules: Policy, seen: Facts, first: Actor = ASKER, second: Actor | None = SECOND) -> Verdict:
    waiver = Waiver(asked_by=first, confirmed_by=second, binding=bound(rules, seen))
    return evaluate(rules, seen, emergency=waiver)


def failed(verdict: Verdict) -> set[str]:
    return {check.id for check in verdict.failed}


class TestWaived:
    def test_is_all_that_others_say_when_how_good_and_its_papers(self) -> None:
        rules = policy(DEMANDING.replace("input_example: true\n", ""))
        verdict = judged(rules, facts(evidence(0.5), champion(0.99)))
        assert verdict.allowed, verdict.summary()
        families = {check.id.split(":")[0] for check in verdict.waived}
        assert {"metric", "champion", "tag", "artifact", "evidence_age", "freeze", "staging_time"} <= families
        assert {"submitted", "approvals"} <= families

    def test_keeps_the_value_and_the_reason_the_usual_verdict_has(self) -> None:
        rules, seen = policy(), facts(evidence(0.5), champion(0.99))
        usual = {check.id: check for check in evaluate(rules, seen).failed}
        assert {check.id: replace(check, waived=False) for check in judged(rules, seen).waived} == usual

    def test_is_only_what_failed(self) -> None:
        seen = approved(facts(evidence(0.95)), "r")
        rules = policy()
        votes = tuple(replace(vote, binding=bound(rules, seen)) for vote in seen.decisions)
        assert judged(rules, replace(seen, decisions=votes)).waived == ()

    def test_goes_past_requested_changes_and_names_who_asked_for_them(self) -> None:
        rules = policy()
        seen = approved(facts(evidence(0.95)), "r", decision="changes_requested")
        votes = tuple(replace(vote, binding=bound(rules, seen)) for vote in seen.decisions)
        verdict = judged(rules, replace(seen, decisions=votes))
        assert verdict.allowed
        assert next(check for check in verdict.waived if check.id == "changes").value == "r"

    def test_every_check_is_either_waivable_or_kept_on_purpose(self) -> None:
        asked = evaluate(policy(DEMANDING), facts(evidence(0.5), champion(0.99)))
        families = {check.id.split(":")[0] for check in asked.checks}
        assert families <= WAIVABLE | KEPT
        assert not WAIVABLE & KEPT


class TestNeverWaived:
    @pytest.mark.parametrize("value", [None, 0.95])
    def test_that_the_version_is_whole(self, value: float | None) -> None:
        candidate = replace(evidence(value), manifest=None)
        assert "intact" in failed(judged(policy(), facts(candidate)))

    def test_its_signature_and_input_example(self) -> None:
        verdict = judged(policy("input_example: true\n"), facts(evidence(0.95, signature=None)))
        assert failed(verdict) == {"signature", "input_example"}

    def test_that_the_policy_allows_it(self) -> None:
        assert failed(judged(policy(break_glass=False), facts(evidence(0.95)))) == {"break_glass"}
        assert parse(GOOD, "p.yaml").rules.break_glass is False, "a policy that does not say allows none"

    @pytest.mark.parametrize("role", [role for role in Role if role is not Role.BREAK_GLASS])
    def test_the_role_of_the_first(self, role: Role) -> None:
        assert failed(judged(policy(), facts(evidence(0.95)), first=person("a", role))) == {"asked_by"}

    @pytest.mark.parametrize("role", [role for role in Role if role not in {Role.BREAK_GLASS, Role.RELEASE_MANAGER}])
    def test_the_role_of_the_second(self, role: Role) -> None:
        assert failed(judged(policy(), facts(evidence(0.95)), second=person("b", role))) == {"second_person"}

    @pytest.mark.parametrize("username", ["a", "trainer"])
    def test_that_the_second_is_neither_the_first_nor_the_author(self, username: str) -> None:
        second = person(username, Role.BREAK_GLASS, Role.RELEASE_MANAGER)
        assert failed(judged(policy(), facts(evidence(0.95)), second=second)) == {"second_person"}

    @pytest.mark.parametrize("fact", ["files", "version", "metric:val_auc", "champion", "policy"])
    def test_that_nothing_changed_since_it_was_asked_for(self, fact: str) -> None:
        rules, seen = policy(), facts(evidence(0.95), champion())
        now = bound(rules, seen)
        asked = replace(now, facts={**now.facts, fact: "something else"})
        waiver = Waiver(asked_by=ASKER, confirmed_by=SECOND, binding=asked)
        assert failed(evaluate(rules, seen, emergency=waiver)) == {"as_asked"}


def test_a_verdict_with_waivers_survives_the_record() -> None:
    verdict = judged(policy(), facts(evidence(0.5)))
    assert Verdict.from_json(verdict.as_json()) == verdict
    assert [check["id"] for check in verdict.as_json() if check.get("waived")] == [check.id for check in verdict.waived]
