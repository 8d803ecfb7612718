"""A policy that asks for a validation: what it asks for, removed one thing at a time, refuses by name and value."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services import facts, gate
from services.domain import VersionRef
from services.gate import GateRefused
from services.policy import Policy, PolicyBook, parse
from services.signoff import Signoff
from services.verdict import Check
from services.views import dry_run
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.test_policy import GOOD
from tests.test_releases import approve, release
from tests.validation import TARGET, on_record
from tests.verbs import releases, reviews

HOLDOUT, OTHER = "9" * 64, "7" * 64
RULE = f"""\
validation: {{holdout: '{HOLDOUT}', target: {TARGET}, metric: roc_auc, min_improvement: 0.0, confidence: 0.95}}
"""


def policy(rule: str = RULE) -> Policy:
    """Named as the shipped one, which `release` has the model assigned to."""
    return parse(GOOD.replace("name: tested", "name: default") + rule, "p.yaml")


def judged_by(signoff: Signoff, rule: str = RULE) -> Signoff:
    return replace(signoff, policies=PolicyBook(policies=(policy(rule),)))


@pytest.fixture
def strict(signoff: Signoff) -> Signoff:
    """Under a policy that asks for a validation; the champion is older than it."""
    return judged_by(signoff)


@pytest.fixture
def ref(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    return registry.add_version("m", {"val_auc": 0.95})


def checks(signoff: Signoff, ref: VersionRef) -> tuple[Check, Check]:
    """Whether there is a validation that counts, and whether it shows enough."""
    verdict = gate.evaluate(*facts.fresh(signoff, ref))
    found = {check.id: check for check in verdict.checks}
    return found["validation:report"], found["validation:improvement"]


class TestTheReport:
    def test_passes_when_everything_is_as_it_was_validated(self, strict: Signoff, ref: VersionRef) -> None:
        done = on_record(strict, ref, sha256=HOLDOUT)
        report, gain = checks(strict, ref)
        assert (report.passed, report.value) == (True, f"record #{done.seq}, 100 rows")
        assert (gain.passed, gain.value) == (True, "+0.02 (95 % interval +0.01 to +0.03, 100 rows)")

    def test_none_refuses_and_says_which_is_needed(self, strict: Signoff, ref: VersionRef) -> None:
        report, gain = checks(strict, ref)
        assert not report.passed
        assert (report.value, report.threshold) == (
            "no validation",
            "holdout 99999999, target target, against m/v1, 95 % confidence",
        )
        assert (
            report.reason
            == "m/v2 was not validated; holdout 99999999, target target, against m/v1, 95 % confidence is needed."
        )
        assert (gain.passed, gain.value) == (False, "no evidence")

    def test_of_another_column_of_the_holdout_refuses(self, signoff: Signoff, ref: VersionRef) -> None:
        strict = judged_by(signoff, RULE.replace(f"target: {TARGET}", "target: malignant"))
        done = on_record(strict, ref, sha256=HOLDOUT)
        report, gain = checks(strict, ref)
        assert report.reason == f"Validation #{done.seq} does not count: its target is {TARGET}, not malignant."
        assert (report.passed, gain.passed) == (False, False)

    def test_on_other_bytes_refuses(self, strict: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        done = on_record(strict, ref, sha256=HOLDOUT)
        registry.write_file(ref, "model.skops", b"other bytes")
        report, gain = checks(strict, ref)
        assert not report.passed
        assert report.reason == f"Validation #{done.seq} does not count: the model's files changed."
        assert not gain.passed

    def test_against_other_bytes_of_the_champion_refuses(
        self, strict: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        registry.write_file(VersionRef(name="m", version=1), "model.skops", b"other bytes")
        on_record(strict, ref, sha256=HOLDOUT)
        report, _ = checks(strict, ref)
        assert (report.passed, "the champion's files changed" in report.reason) == (False, True)

    def test_against_the_bytes_of_its_promotion_counts_when_the_champion_is_overwritten_afterwards(
        self, strict: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        on_record(strict, ref, sha256=HOLDOUT)
        registry.write_file(VersionRef(name="m", version=1), "model.skops", b"other bytes")
        report, _ = checks(strict, ref)
        assert report.passed, report.reason

    def test_against_another_champion_refuses(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        on_record(signoff, ref, sha256=HOLDOUT)
        release(signoff, registry.add_version("m", {"val_auc": 0.94}))
        report, _ = checks(judged_by(signoff), ref)
        assert not report.passed
        assert "it was compared with v1, and v3 is the champion now" in report.reason

    def test_on_another_holdout_refuses(self, strict: Signoff, ref: VersionRef) -> None:
        on_record(strict, ref, sha256=OTHER)
        report, _ = checks(strict, ref)
        assert (report.passed, "it was made on holdout 77777777, not on 99999999" in report.reason) == (False, True)

    def test_that_has_the_same_digest_of_mlflows_and_other_labels_refuses(
        self, strict: Signoff, ref: VersionRef
    ) -> None:
        """With a boolean target MLflow's digest is the same for every label inverted."""
        on_record(strict, ref, sha256=OTHER, digest=HOLDOUT[:8])
        report, _ = checks(strict, ref)
        assert (report.passed, "it was made on holdout 77777777, not on 99999999" in report.reason) == (False, True)

    def test_at_lower_confidence_refuses(self, strict: Signoff, ref: VersionRef) -> None:
        on_record(strict, ref, sha256=HOLDOUT, confidence=0.9)
        report, _ = checks(strict, ref)
        assert (report.passed, "its confidence is 90 %, 95 % is needed" in report.reason) == (False, True)

    def test_at_higher_confidence_passes(self, strict: Signoff, ref: VersionRef) -> None:
        on_record(strict, ref, sha256=HOLDOUT, confidence=0.99)
        assert all(check.passed for check in checks(strict, ref))

    def test_the_newest_that_counts_is_the_one_that_is_asked(self, strict: Signoff, ref: VersionRef) -> None:
        on_record(strict, ref, sha256=HOLDOUT, gain=0.05)
        newest = on_record(strict, ref, sha256=HOLDOUT, gain=0.005)
        on_record(strict, ref, sha256=OTHER, gain=0.5)
        report, gain = checks(strict, ref)
        assert report.value.startswith(f"record #{newest.seq},")
        assert not gain.passed, "the best of several does not count"


class TestTheImprovement:
    @pytest.mark.parametrize(
        ("limit", "gain", "within", "passed"),
        [
            (0.0, 0.02, 0.01, True),
            (0.0, 0.02, 0.03, False),
            (0.0, 0.0, 0.0, False),
            (0.01, 0.02, 0.005, True),
            (0.01, 0.02, 0.01, False),
            (-0.01, 0.0, 0.005, True),
            (-0.01, -0.02, 0.001, False),
        ],
    )
    def test_is_asked_of_the_lower_end_of_the_interval(
        self, signoff: Signoff, ref: VersionRef, limit: float, gain: float, within: float, passed: bool
    ) -> None:
        on_record(signoff, ref, sha256=HOLDOUT, gain=gain, within=within)
        _, found = checks(judged_by(signoff, RULE.replace("0.0,", f"{limit},")), ref)
        assert found.passed is passed

    def test_that_may_be_chance_is_told_apart_from_one_that_is_too_small(
        self, signoff: Signoff, ref: VersionRef
    ) -> None:
        on_record(signoff, ref, sha256=HOLDOUT, gain=0.02, within=0.03)
        _, chance = checks(judged_by(signoff), ref)
        assert chance.reason == (
            "The gain in roc_auc over m/v1 is +0.02 (95 % interval -0.01 to +0.05, 100 rows); that is not enough "
            "evidence: lower end of the 95 % interval > 0 is needed."
        )
        _, small = checks(judged_by(signoff, RULE.replace("0.0,", "0.05,")), ref)
        assert "that is not better by enough: lower end of the 95 % interval > 0.05 is needed" in small.reason

    def test_in_a_metric_the_report_lacks_refuses(self, signoff: Signoff, ref: VersionRef) -> None:
        done = on_record(signoff, ref, sha256=HOLDOUT)
        _, found = checks(judged_by(signoff, RULE.replace("roc_auc", "f1_score")), ref)
        assert (found.passed, found.reason) == (False, f"Validation #{done.seq} compares no f1_score.")

    def test_without_a_champion_needs_the_report_only(self, strict: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("new", {"val_auc": 0.95})
        assert not checks(strict, ref)[0].passed
        on_record(strict, ref, sha256=HOLDOUT)
        assert [check.passed for check in checks(strict, ref)] == [True, True]


class TestPromotion:
    def test_is_refused_without_and_done_with_a_validation(
        self, strict: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        approve(strict, ref)
        with pytest.raises(GateRefused, match="was not validated"):
            releases.promote(strict, ref, by="release_manager", reason="Now.")
        assert registry.version(ref).stage == "Staging"
        on_record(strict, ref, sha256=HOLDOUT)
        reviews.approve(strict, ref, by="reviewer", comment="It holds on our data.")
        assert releases.promote(strict, ref, by="release_manager", reason="Now.").event
        assert kinds(strict)[-1] == "promotion:confirmed"

    def test_tags_prove_nothing(self, strict: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        registry.tag(ref, "signoff.validation", "passed")
        assert not checks(strict, ref)[0].passed

    def test_a_rollback_asks_for_none(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        release(signoff, ref)
        strict = judged_by(signoff)
        assert releases.rollback(strict, "m", by="release_manager", reason="Worse in the field.").event
        waived = {check.id: check.value for check in record(strict)[-1].verdict.checks if "validation" in check.id}
        assert waived == {"validation:report": "waived", "validation:improvement": "waived"}

    def test_an_approval_given_before_does_not_count_as_nobody_who_approved_has_seen_it(
        self, strict: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reviews.submit(strict, ref, by="scientist", comment="Please.")
        reviews.approve(strict, ref, by="reviewer", comment="If it holds on our data.")
        on_record(strict, ref, sha256=HOLDOUT)
        words = "checks validation:report, validation:improvement failed then and pass now"
        with pytest.raises(GateRefused, match=words):
            releases.promote(strict, ref, by="release_manager", reason="It does.")
        assert registry.version(ref).stage == "Staging"

    def test_an_approval_given_after_one_counts_whatever_is_validated_later(
        self, strict: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        on_record(strict, ref, sha256=HOLDOUT)
        approve(strict, ref)
        on_record(strict, ref, sha256=HOLDOUT, gain=0.03)
        event = releases.promote(strict, ref, by="release_manager", reason="It does.").event
        assert event
        (said,) = [check.reason for check in event.verdict.checks if check.id == "approvals"]
        assert "since then there are other validations" in said


class TestDryRun:
    def tried(self, signoff: Signoff, rule: str) -> dry_run.Judged:
        tested = policy(rule)
        with signoff.database.reading() as connection:
            found = dry_run.dry_run(connection, tested, PolicyBook(policies=(tested,)))
        return found.judged[0]

    def test_judges_by_the_validations_that_counted_then(self, strict: Signoff, ref: VersionRef) -> None:
        on_record(strict, ref, sha256=HOLDOUT)
        approve(strict, ref)
        releases.promote(strict, ref, by="release_manager", reason="Now.")
        assert (self.tried(strict, RULE).now, self.tried(strict, RULE).differences) == (dry_run.Decided.ALLOWED, ())
        harder = self.tried(strict, RULE.replace("0.0,", "0.05,"))
        assert harder.now is dry_run.Decided.REFUSED
        assert [one.id for one in harder.differences] == ["validation:improvement"]

    def test_one_that_did_not_count_then_does_not_now(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        on_record(signoff, ref, sha256=HOLDOUT)
        registry.write_file(ref, "model.skops", b"other bytes")
        release(signoff, ref)
        assert self.tried(signoff, RULE).now is dry_run.Decided.REFUSED

    def test_an_event_from_before_validations_were_kept_says_so(self, signoff: Signoff, ref: VersionRef) -> None:
        release(signoff, ref)
        event = record(signoff)[-1]
        del event.body["details"]["facts"]["validations"]
        from services.recorded_facts import rebuild

        found = rebuild(event, policy())
        assert found is not None
        assert dry_run._unrecorded("validation:report", found) == "what validations had found"
