"""The gate as a pure function: each check fails for its own reason, and nothing passes for want of evidence."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.checks.approvals import expired
from services.checks.bound import bound
from services.domain import Actor, ArtifactFile, Dataset, LoggedModelFacts, Metric, Role, Source, VersionRef
from services.evidence import Decision, Evidence, Facts, Released, Submission
from services.gate import Verdict, automatic, evaluate, wanted
from services.policy import Policy, parse
from services.reading import Reader
from tests.fakes import HOLDOUT, START, FakeRegistry
from tests.test_policy import GOOD

POLICY = parse(GOOD.replace("threshold: 0.9", "threshold: 0.9\n    min_absolute_change: 0"), "p.yaml")
NOW = START + timedelta(days=1)
OTHER_DATA = Dataset(name="other", digest="bbbbbbbb", context="eval")


def evidence(value: float | None, **options: object) -> Evidence:
    registry = FakeRegistry()
    metrics = {} if value is None else {"val_auc": value}
    return Reader(registry).fresh(registry.add_version("m", metrics, **options))  # type: ignore[arg-type]


BARS = {"id-scientist": "scientist submitted it on 2026-01-01", "id-trainer": "trainer is recorded as its author"}
"""Who may not approve it."""


TWO_ROLES = frozenset({"reviewer", "release_manager"})


def facts(candidate: Evidence, champion: Evidence | None = None, **more: object) -> Facts:
    registry = FakeRegistry()
    registry.add_model("m")
    kept = {"bars": BARS, **more}
    return Facts(model=registry.model("m"), now=NOW, candidate=candidate, champion=champion, **kept)  # type: ignore[arg-type]


def champion(value: float | None = 0.92, **options: object) -> Evidence:
    """Version 7, of whose promotion nothing is recorded."""
    found = evidence(value, **options)
    return replace(found, version=replace(found.version, ref=VersionRef(name="m", version=7)))


def promoted(found: Evidence) -> Evidence:
    """A champion that was promoted here with just this evidence."""
    released = Released(seq=7, measured=found.measured, datasets=found.holdout, manifest=found.manifest_digest)
    return replace(found, released=released)


def approved(seen: Facts, *people: str, role: str = "reviewer", decision: str = "approved") -> Facts:
    """The same facts, submitted by ``scientist`` and decided on by ``people`` with what they are now on screen."""
    binding = bound(POLICY, seen)
    submission = Submission(
        id=1,
        ref=seen.candidate.ref,
        identity=seen.candidate.version.identity,
        status="pending",
        submitted_by="scientist",
        submitted_by_id="id-scientist",
        proposal=False,
        submitted_at="2026-01-01T00:00:00+00:00",
        comment="",
        claimed_author="trainer",
        binding=binding,
        seq=1,
    )
    votes = tuple(
        Decision(
            person=p,
            person_id=f"id-{p}",
            roles=frozenset({role}),
            held=frozenset({role}),
            decision=decision,
            comment="",
            at=START.isoformat(),
            binding=binding,
            seq=n,
        )
        for n, p in enumerate(people)
    )
    return replace(seen, submission=submission, decisions=votes)


def before(vote: Decision, *changed: str) -> Decision:
    """The same vote, given when these facts were others."""
    return replace(vote, binding=replace(vote.binding, facts={**vote.binding.facts, **dict.fromkeys(changed, "0")}))


def failed(verdict: Verdict) -> set[str]:
    return {check.id for check in verdict.failed}


class TestAllowed:
    def test_good_approved_and_promoted_by_a_release_manager(self) -> None:
        actor = Actor(username="r", name="R", roles=frozenset({Role.RELEASE_MANAGER}), source=Source.BROWSER)
        verdict = evaluate(POLICY, approved(facts(evidence(0.95), champion()), "reviewer"), actor=actor)
        assert verdict.allowed, verdict.summary()

    def test_without_a_champion_there_is_nothing_to_compare(self) -> None:
        assert evaluate(POLICY, approved(facts(evidence(0.95)), "reviewer")).allowed

    def test_no_checks_at_all_refuse(self) -> None:
        assert not Verdict(checks=()).allowed


class TestEvidence:
    @pytest.mark.parametrize("value", [0.5, math.nan, math.inf, -math.inf, None])
    def test_a_low_or_unusable_or_missing_metric_refuses(self, value: float | None) -> None:
        verdict = evaluate(POLICY, approved(facts(evidence(value)), "reviewer"))
        if value == math.inf:
            assert "metric:val_auc" in failed(verdict), "infinity is no evidence, however large"
        assert "metric:val_auc" in failed(verdict)

    def test_a_metric_at_the_threshold_passes(self) -> None:
        assert "metric:val_auc" not in failed(evaluate(POLICY, facts(evidence(0.9))))

    def test_worse_than_the_champion_refuses_and_says_by_how_much(self) -> None:
        verdict = evaluate(POLICY, facts(evidence(0.95), champion(0.97)))
        (check,) = (check for check in verdict.failed if check.id == "champion:val_auc:absolute")
        assert "0.02 worse than m/v7 with 0.97" in check.reason

    @pytest.mark.parametrize("value", [math.nan, None])
    def test_a_champion_without_the_metric_refuses(self, value: float | None) -> None:
        assert "champion:val_auc:absolute" in failed(evaluate(POLICY, facts(evidence(0.95), champion(value))))

    def test_other_data_refuses(self) -> None:
        verdict = evaluate(POLICY, facts(evidence(0.95, dataset=OTHER_DATA), champion()))
        (check,) = (check for check in verdict.failed if check.id == "same_dataset")
        assert "other (bbbbbbbb)" in check.reason
        assert "holdout (aaaaaaaa)" in check.reason

    def test_data_that_nobody_recorded_refuses(self) -> None:
        assert "same_dataset" in failed(evaluate(POLICY, facts(evidence(0.95, dataset=None), champion())))
        assert "same_dataset" in failed(evaluate(POLICY, facts(evidence(0.95), champion(dataset=None))))

    def test_same_name_but_other_digest_is_other_data(self) -> None:
        moved = replace(HOLDOUT, digest="cccccccc")
        assert "same_dataset" in failed(evaluate(POLICY, facts(evidence(0.95, dataset=moved), champion())))

    def test_a_missing_signature_refuses(self) -> None:
        assert "signature" in failed(evaluate(POLICY, facts(evidence(0.95, signature=None))))

    def test_a_missing_run_or_unread_files_refuse(self) -> None:
        whole = evidence(0.95)
        assert "intact" in failed(evaluate(POLICY, facts(replace(whole, run=None))))
        assert "intact" in failed(evaluate(POLICY, facts(replace(whole, manifest=None))))

    def test_a_relative_change_is_counted_so_that_positive_is_better(self) -> None:
        text = GOOD.replace("greater_is_better: true", "greater_is_better: false")
        lower = parse(text.replace("threshold: 0.9", "min_relative_change: 0.1"), "p.yaml")
        assert "champion:val_auc:relative" not in failed(evaluate(lower, facts(evidence(0.8), champion(0.9))))
        assert "champion:val_auc:relative" in failed(evaluate(lower, facts(evidence(0.85), champion(0.9))))
        assert "champion:val_auc:relative" in failed(evaluate(lower, facts(evidence(0.85), champion(0.0))))

    @given(st.floats(), st.floats())
    def test_whatever_the_numbers_a_verdict_comes_out_and_never_favours_the_worse(
        self, mine: float, theirs: float
    ) -> None:
        candidate, other = evidence(0.95), champion()
        for found, value in ((candidate, mine), (other, theirs)):
            assert found.run
            found.run.metrics["val_auc"] = Metric(  # type: ignore[index]
                name="val_auc", value=value, dataset_name="holdout", dataset_digest="aaaaaaaa"
            )
        verdict = evaluate(POLICY, approved(facts(candidate, other), "reviewer"))
        if verdict.allowed:
            assert math.isfinite(mine)
            assert mine >= max(0.9, theirs)


class TestApprovals:
    def test_missing(self) -> None:
        verdict = evaluate(POLICY, approved(facts(evidence(0.95))))
        assert failed(verdict) == {"approvals"}
        assert verdict.waits_for_approval_only

    @pytest.mark.parametrize("person", ["scientist", "trainer"])
    def test_by_submitter_or_author_do_not_count(self, person: str) -> None:
        assert failed(evaluate(POLICY, approved(facts(evidence(0.95)), person))) == {"approvals"}

    def test_by_another_role_do_not_count(self) -> None:
        assert failed(evaluate(POLICY, approved(facts(evidence(0.95)), "a", role="auditor"))) == {"approvals"}

    def test_one_person_is_one_vote_across_roles(self) -> None:
        two = parse(GOOD.replace("  - role: reviewer", "  - role: reviewer\n  - role: release_manager"), "p.yaml")
        seen = approved(facts(evidence(0.95)), "a")
        binding = bound(two, seen)
        both = replace(seen.decisions[0], roles=TWO_ROLES, held=TWO_ROLES, binding=binding)
        assert failed(evaluate(two, replace(seen, decisions=(both,)))) == {"approvals:release_manager"}
        assert evaluate(two, replace(seen, decisions=(both, replace(both, person="b", person_id="id-b")))).allowed
        for role in ("reviewer", "release_manager"):
            other = replace(both, person="b", person_id="id-b", roles=frozenset({role}), held=frozenset({role}))
            for order in ((both, other), (other, both)):
                assert evaluate(two, replace(seen, decisions=order)).allowed, "who of two roles counts as what is free"

    def test_requested_changes_refuse_even_beside_an_approval(self) -> None:
        seen = approved(facts(evidence(0.95)), "a")
        asking = approved(facts(evidence(0.95)), "b", decision="changes_requested").decisions
        assert "changes" in failed(evaluate(POLICY, replace(seen, decisions=(*seen.decisions, *asking))))

    @pytest.mark.parametrize(
        ("fact", "words"),
        [
            ("files", "files changed"),
            ("version", "the version is another one"),
            ("metric:val_auc", "the metric val_auc or its data set changed"),
            ("champion", "the champion it is compared with changed"),
            ("policy", "policy changed"),
        ],
    )
    def test_void_when_what_they_were_bound_to_changed(self, fact: str, words: str) -> None:
        seen = approved(facts(evidence(0.95)), "reviewer")
        verdict = evaluate(POLICY, replace(seen, decisions=(before(seen.decisions[0], fact),)))
        (check,) = verdict.failed
        assert check.id == "approvals"
        assert words in check.reason


class TestWhoseApprovalIsWanted:
    TWO = parse(GOOD.replace("  - role: reviewer", "  - role: reviewer\n  - role: release_manager"), "p.yaml")

    def seen(self, *people: str) -> Facts:
        """Submitted, and approved by these reviewers under `TWO`."""
        found = approved(facts(evidence(0.95)), *people)
        votes = tuple(replace(vote, binding=bound(self.TWO, found)) for vote in found.decisions)
        return replace(found, decisions=votes)

    def actor(self, username: str, *roles: Role, automation: bool = False) -> Actor:
        return Actor(
            username=username,
            name=username,
            roles=frozenset(roles),
            automation=automation,
            person=f"id-{username}",
            source=Source.BROWSER,
        )

    def test_that_of_somebody_whose_role_is_missing(self) -> None:
        assert wanted(self.actor("b", Role.RELEASE_MANAGER), self.TWO, self.seen("a"))
        assert not wanted(self.actor("b", Role.REVIEWER), self.TWO, self.seen("a"))

    def test_never_that_of_a_service_or_before_it_is_submitted(self) -> None:
        assert not wanted(self.actor("b", Role.RELEASE_MANAGER, automation=True), self.TWO, self.seen("a"))
        assert not wanted(self.actor("b", Role.RELEASE_MANAGER), self.TWO, facts(evidence(0.95)))

    @pytest.mark.parametrize("username", ["scientist", "trainer"])
    def test_never_that_of_submitter_or_author(self, username: str) -> None:
        assert not wanted(self.actor(username, Role.RELEASE_MANAGER), self.TWO, self.seen("a"))

    def test_never_a_second_one_of_the_same_person_not_even_in_a_new_role(self) -> None:
        assert not wanted(self.actor("b", Role.RELEASE_MANAGER), self.TWO, self.seen("a", "b"))

    def test_none_where_a_service_has_approved(self) -> None:
        low = parse(GOOD + "risk: low\nautomation: true\n", "p.yaml")
        found = approved(facts(evidence(0.95)), "pipeline", "a")
        by_service, by_person = (replace(vote, binding=bound(low, found)) for vote in found.decisions)
        alone = replace(found, decisions=(replace(by_service, automation=True),))
        assert automatic(low, alone)
        assert not wanted(self.actor("b", Role.REVIEWER), low, alone)
        assert not automatic(low, replace(alone, decisions=(*alone.decisions, by_person))), "people have agreed as well"
        assert not automatic(low, replace(alone, decisions=()))


def policy_with(extra: str) -> Policy:
    return parse(GOOD + extra, "p.yaml")


class TestWhatElseAPolicyCanAskFor:
    def test_a_required_tag_on_version_or_model(self) -> None:
        policy, candidate = policy_with("required_tags: [owner]\n"), evidence(0.95)
        assert "tag:owner" in failed(evaluate(policy, facts(candidate)))
        for value, passes in (("  ", False), ("cardiology", True)):
            tagged = replace(candidate, version=replace(candidate.version, tags={"owner": value}))
            assert ("tag:owner" not in failed(evaluate(policy, facts(tagged)))) is passes
        seen = facts(candidate)
        owned = replace(seen, model=replace(seen.model, tags={"owner": "cardiology"}))
        assert "tag:owner" not in failed(evaluate(policy, owned))

    def test_a_required_artifact_in_the_model_or_beside_it(self) -> None:
        policy, candidate = policy_with('required_artifacts: ["*model_card.md"]\n'), evidence(0.95)
        assert "artifact:*model_card.md" in failed(evaluate(policy, facts(candidate)))
        beside = replace(candidate, run_files=("docs/model_card.md",))
        assert "artifact:*model_card.md" not in failed(evaluate(policy, facts(beside)))

    def test_evidence_no_older_than_it_says(self) -> None:
        policy, candidate = policy_with("max_evidence_age_days: 1\n"), evidence(0.95)
        assert candidate.run
        assert "evidence_age" not in failed(evaluate(policy, facts(candidate)))
        for ended in (START - timedelta(hours=1), None):
            old = replace(candidate, run=replace(candidate.run, ended_at=ended))
            assert "evidence_age" in failed(evaluate(policy, facts(old)))

    def test_evidence_that_was_measured_long_before_its_run_ended_is_old(self) -> None:
        policy, candidate = policy_with("max_evidence_age_days: 1\n"), evidence(0.95)
        assert candidate.run
        long_ago = replace(candidate.run.metrics["val_auc"], at=NOW - timedelta(days=730))
        old = replace(candidate, run=replace(candidate.run, metrics={"val_auc": long_ago}))
        (check,) = (c for c in evaluate(policy, facts(old)).failed if c.id == "evidence_age")
        assert check.value == "730.0 days"

    def test_a_value_is_told_as_exactly_as_it_takes_to_see_that_it_is_too_small(self) -> None:
        (check,) = (c for c in evaluate(POLICY, facts(evidence(0.89999999))).failed if c.id == "metric:val_auc")
        assert check.reason == "val_auc is 0.89999999; ≥ 0.9 is needed."

    @pytest.mark.parametrize("value", ["\u200b", " \u2060\ufeff", "\u3164"])
    def test_a_tag_that_nobody_can_see_is_missing(self, value: str) -> None:
        policy, candidate = policy_with("required_tags: [owner]\n"), evidence(0.95)
        tagged = replace(candidate, version=replace(candidate.version, tags={"owner": value}))
        assert "tag:owner" in failed(evaluate(policy, facts(tagged)))

    @pytest.mark.parametrize("where", ["inside", "beside"])
    def test_a_card_with_nothing_in_it_is_missing(self, where: str) -> None:
        policy, candidate = policy_with("required_artifacts: ['*model_card.md']\n"), evidence(0.95)
        assert candidate.manifest
        card = ArtifactFile(path="model_card.md", size=0, sha256=hashlib.sha256(b"").hexdigest())
        inside = replace(candidate, manifest=replace(candidate.manifest, files=(*candidate.manifest.files, card)))
        beside = replace(candidate, run_files=(card.path,), run_digests={card.path: card.sha256})
        found = facts(inside if where == "inside" else beside)
        assert "artifact:*model_card.md" in failed(evaluate(policy, found))

    def test_a_logged_model_that_was_not_finished_is_not_complete(self) -> None:
        pending = replace(evidence(0.95), logged_model=LoggedModelFacts(model_id="m-1", ready=False))
        assert "intact" in failed(evaluate(POLICY, facts(pending)))

    @pytest.mark.parametrize("ahead", [timedelta(days=3650), timedelta(minutes=6)])
    def test_evidence_of_the_future_has_no_age(self, ahead: timedelta) -> None:
        policy, candidate = policy_with("max_evidence_age_days: 1\n"), evidence(0.95)
        assert candidate.run
        later = replace(candidate, run=replace(candidate.run, ended_at=NOW + ahead))
        (check,) = (c for c in evaluate(policy, facts(later)).checks if c.id == "evidence_age")
        assert (check.passed, check.value) == (False, "in the future")
        assert "lies in the future" in check.reason

    def test_clocks_of_two_machines_may_be_a_little_apart(self) -> None:
        policy, candidate = policy_with("max_evidence_age_days: 1\n"), evidence(0.95)
        assert candidate.run
        soon = replace(candidate, run=replace(candidate.run, ended_at=NOW + timedelta(minutes=4)))
        (check,) = (c for c in evaluate(policy, facts(soon)).checks if c.id == "evidence_age")
        assert (check.passed, check.value) == (True, "0.0 days")

    def test_a_submission_of_the_future_has_waited_for_no_time(self) -> None:
        policy, seen = policy_with("min_hours_in_staging: 24\n"), approved(facts(evidence(0.95)))
        assert seen.submission
        since = (NOW + timedelta(days=2)).isoformat()
        later = replace(seen, submission=replace(seen.submission, submitted_at=since))
        (check,) = (c for c in evaluate(policy, later).failed if c.id == "staging_time")
        assert check.value == "0.0 hours"
        assert "lies in the future" in check.reason

    def test_an_approval_of_the_future_counts_not_and_is_not_marked_as_expired(self) -> None:
        policy = policy_with("approvals_expire_after_days: 1\n")
        seen = approved(facts(evidence(0.95)), "a")
        binding, at = bound(policy, seen), (NOW + timedelta(days=2)).isoformat()
        vote = replace(seen.decisions[0], binding=binding, at=at)
        (check,) = evaluate(policy, replace(seen, decisions=(vote,))).failed
        assert "lies in the future" in check.reason
        assert not expired(vote, policy, seen)

    def test_enough_time_in_review(self) -> None:
        policy = policy_with("min_hours_in_staging: 24\n")
        assert "staging_time" in failed(evaluate(policy, facts(evidence(0.95))))
        seen = approved(facts(evidence(0.95)))
        assert seen.submission
        for hours, passes in ((23, False), (24, True)):
            since = (NOW - timedelta(hours=hours)).isoformat()
            waited = replace(seen, submission=replace(seen.submission, submitted_at=since))
            assert ("staging_time" not in failed(evaluate(policy, waited))) is passes

    @pytest.mark.parametrize(
        ("now", "frozen"),
        [
            ("2026-12-18T15:59:00", False),
            ("2026-12-18T16:00:00", True),  # 17:00 in Berlin
            ("2027-01-04T06:59:00", True),
            ("2027-01-04T07:00:00", False),
        ],
    )
    def test_a_freeze_counts_in_its_own_time_zone(self, now: str, frozen: bool) -> None:
        policy = policy_with(
            "freezes:\n  - {title: Year end, time_zone: Europe/Berlin, "
            "from: 2026-12-18 17:00:00, until: 2027-01-04 08:00:00}\n"
        )
        seen = replace(facts(evidence(0.95)), now=datetime.fromisoformat(now).replace(tzinfo=UTC))
        assert ("freeze:Year end" in failed(evaluate(policy, seen))) is frozen

    @pytest.mark.parametrize(("now", "frozen"), [("2026-11-27T22:59:00", False), ("2026-11-27T23:00:00", True)])
    def test_a_weekend_begins_when_it_begins_there(self, now: str, frozen: bool) -> None:
        policy = policy_with("freezes:\n  - {title: Weekend, time_zone: Europe/Berlin, days: [saturday, sunday]}\n")
        seen = replace(facts(evidence(0.95)), now=datetime.fromisoformat(now).replace(tzinfo=UTC))
        assert ("freeze:Weekend" in failed(evaluate(policy, seen))) is frozen

    def test_an_approval_expires_and_never_comes_back(self) -> None:
        policy = policy_with("approvals_expire_after_days: 1\n")
        seen = approved(facts(evidence(0.95)), "a")
        (vote,) = (replace(d, binding=bound(policy, seen)) for d in seen.decisions)
        assert evaluate(policy, replace(seen, decisions=(vote,))).allowed
        late = replace(seen, decisions=(vote,), now=NOW + timedelta(seconds=1))
        (check,) = evaluate(policy, late).failed
        assert "expired after 1 day." in check.reason
        back = replace(late, decisions=(replace(vote, expired=True),), now=START)
        assert failed(evaluate(policy, back)) == {"approvals"}, "a clock set back does not revive it"

    def test_a_rollback_is_open_on_every_day(self) -> None:
        policy = policy_with(
            "freezes:\n  - {title: Always, time_zone: UTC, "
            "days: [monday, tuesday, wednesday, thursday, friday, saturday, sunday]}\n"
        )
        candidate = evidence(0.95)
        assert candidate.manifest
        assert evaluate(policy, replace(facts(candidate), rollback_of=candidate.manifest.digest)).allowed


class TestPromoter:
    @pytest.mark.parametrize("role", [role for role in Role if role is not Role.RELEASE_MANAGER])
    def test_only_the_roles_the_policy_names(self, role: Role) -> None:
        actor = Actor(username="x", name="X", roles=frozenset({role}), source=Source.BROWSER)
        assert failed(evaluate(POLICY, approved(facts(evidence(0.95)), "a"), actor=actor)) == {"promoter"}


class TestRollback:
    def test_waives_comparison_and_approvals_for_unchanged_files(self) -> None:
        candidate = evidence(0.91)
        assert candidate.manifest
        seen = replace(facts(candidate, champion(0.99)), rollback_of=candidate.manifest.digest)
        verdict = evaluate(POLICY, seen)
        assert verdict.allowed, verdict.summary()
        assert {check.value for check in verdict.checks if check.id.startswith("champion")} == {"waived"}

    @pytest.mark.parametrize("earlier", ["", "another digest"])
    def test_refuses_other_files_and_versions_never_released(self, earlier: str) -> None:
        assert "released_before" in failed(evaluate(POLICY, replace(facts(evidence(0.95)), rollback_of=earlier)))
