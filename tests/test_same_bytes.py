"""Who had a hand in a version may not vote on it, under whatever name the same bytes turn up again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services import facts
from services.accounts import people
from services.domain import Role, VersionRef
from services.errors import Refused, SelfApproval
from services.evidence import FindingDraft, Severity
from services.gate import GateRefused
from services.signoff import Signoff
from services.validation.jobs import Origin, Wanted
from tests.conftest import BOTH
from tests.fakes import FakeRegistry
from tests.ledgers import kinds
from tests.outside import do, stage
from tests.verbs import findings, releases, reviews, validations

DATABASES = BOTH
WANTED = Wanted(origin=Origin.PLACE, name="/data/holdout.csv", target="y")
BLOCKING = FindingDraft(text="Trained on the test set.", severity=Severity.BLOCKING)


@pytest.fixture
def candidate(registry: FakeRegistry) -> VersionRef:
    """A good version nobody has submitted yet."""
    return registry.add_version("m", {"val_auc": 0.95})


def copy(registry: FakeRegistry, of: VersionRef, name: str, **changes: object) -> VersionRef:
    """The same run and bytes registered again."""
    found = registry.add_version(name, {"val_auc": 0.95}, files=dict(registry._files[of]))
    same = {"run_id": registry._versions[of].run_id, "source": registry._versions[of].source, **changes}
    registry._versions[found] = replace(registry._versions[found], **same)
    return found


def claim(registry: FakeRegistry, ref: VersionRef, user: str) -> None:
    """The run's ``mlflow.user``, as anybody may set it."""
    run_id = registry._versions[ref].run_id or ""
    registry._runs[run_id] = replace(registry._runs[run_id], user=user)


def approved_by(signoff: Signoff, ref: VersionRef, person: str) -> None:
    """The approval is refused, and nothing but the refusal is recorded."""
    before = kinds(signoff)
    with pytest.raises(SelfApproval):
        reviews.approve(signoff, ref, by=person, comment="I like it.")
    assert kinds(signoff) == [*before, "approval:refused"]


class TestWhoSubmitted:
    def test_stays_barred_when_the_submission_was_withdrawn_and_a_client_proposed_it_again(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        reviews.submit(signoff, candidate, by="both", comment="Mine.")
        reviews.withdraw(signoff, candidate, by="both", comment="Not yet.")
        assert do(signoff, registry, stage(registry, 1, "Staging")).allowed
        reviews.submit(signoff, candidate, by="scientist", comment="I answer for it.")
        approved_by(signoff, candidate, "both")
        with pytest.raises(GateRefused):
            releases.promote(signoff, candidate, by="release_manager", reason="Now.")
        assert registry.version(candidate).stage == "Staging"

    @pytest.mark.parametrize("name", ["m", "another_name"])
    def test_is_barred_from_the_same_run_registered_again(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef, name: str
    ) -> None:
        reviews.submit(signoff, candidate, by="both", comment="Mine.")
        again = copy(registry, candidate, name)
        reviews.submit(signoff, again, by="scientist", comment="The same run.")
        approved_by(signoff, again, "both")

    @pytest.mark.postgresql
    def test_is_barred_from_the_same_bytes_of_another_run(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        reviews.submit(signoff, candidate, by="both", comment="Mine.")
        again = copy(registry, candidate, "m", run_id=None, source="models:/m-copied")
        reviews.submit(signoff, again, by="scientist", comment="A copy.")
        approved_by(signoff, again, "both")

    def test_may_vote_on_what_only_shares_the_name(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        reviews.submit(signoff, candidate, by="both", comment="Mine.")
        other = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, other, by="scientist", comment="Another one.")
        assert reviews.approve(signoff, other, by="both", comment="Good.").event

    def test_does_not_consent_to_its_code(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        reviews.submit(signoff, candidate, by="both", comment="Mine.")
        reviews.withdraw(signoff, candidate, by="both", comment="Not yet.")
        with pytest.raises(
            Refused,
            match="that was withdrawn, and still counts; somebody else must consent",
        ):
            validations.ask(signoff, candidate, WANTED, by="both", comment="I trust it.", consent=True)
        assert kinds(signoff)[-1] == "validation:refused"


class TestWhoTrained:
    def test_stays_barred_when_the_claim_is_rewritten_after_the_submission(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        claim(registry, candidate, "reviewer")
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        claim(registry, candidate, "somebody-else")
        approved_by(signoff, candidate, "reviewer")

    def test_is_nobody_who_is_claimed_only_afterwards(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        claim(registry, candidate, "reviewer")
        assert reviews.approve(signoff, candidate, by="reviewer", comment="Good.").event
        assert releases.promote(signoff, candidate, by="release_manager", reason="Now.").event

    def test_stays_barred_when_it_is_submitted_again_under_another_claim(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        claim(registry, candidate, "reviewer")
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        reviews.withdraw(signoff, candidate, by="scientist", comment="Wait.")
        claim(registry, candidate, "somebody-else")
        reviews.submit(signoff, candidate, by="scientist", comment="Again.")
        approved_by(signoff, candidate, "reviewer")


class TestWhatNobodyAnswersFor:
    """Anybody may copy files that can be read, claim an author for the copy, and propose it."""

    @pytest.fixture
    def approved(self, signoff: Signoff, candidate: VersionRef) -> VersionRef:
        """The candidate, submitted by ``scientist`` and approved by ``reviewer``."""
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        reviews.approve(signoff, candidate, by="reviewer", comment="Good.")
        return candidate

    def _claimed_copy(self, registry: FakeRegistry, of: VersionRef, user: str) -> VersionRef:
        """The same bytes in another run, whose client says that ``user`` trained it."""
        found = registry.add_version("attack", {"val_auc": 0.95}, files=dict(registry._files[of]), author=user)
        assert registry.manifest(found).digest == registry.manifest(of).digest
        return found

    def test_bars_no_reviewer_and_voids_no_approval(
        self, signoff: Signoff, registry: FakeRegistry, approved: VersionRef
    ) -> None:
        for person in ("reviewer", "reviewer2"):
            attack = self._claimed_copy(registry, approved, person)
            assert do(signoff, registry, stage(registry, attack.version, "Staging", name="attack")).allowed
        assert releases.promote(signoff, approved, by="release_manager", reason="Now.").event

    def test_nor_does_a_later_claim_that_somebody_answers_for(
        self, signoff: Signoff, registry: FakeRegistry, approved: VersionRef
    ) -> None:
        attack = self._claimed_copy(registry, approved, "reviewer")
        reviews.submit(signoff, attack, by="both", comment="A copy.")
        assert releases.promote(signoff, approved, by="release_manager", reason="Now.").event

    def test_does_not_free_the_author_of_what_is_submitted_later(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        claim(registry, candidate, "nobody")
        assert do(signoff, registry, stage(registry, 1, "Staging")).allowed
        reviews.withdraw(signoff, candidate, by="release_manager", comment="Not ours.")
        claim(registry, candidate, "reviewer")
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        approved_by(signoff, candidate, "reviewer")

    def test_an_approval_that_does_not_count_says_why(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        assert do(signoff, registry, stage(registry, 1, "Staging")).allowed
        reviews.approve(signoff, candidate, by="both", comment="Good.")
        reviews.submit(signoff, candidate, by="both", comment="I answer for it.")
        with pytest.raises(GateRefused, match="the approval by both does not count because both answered for it on"):
            releases.promote(signoff, candidate, by="release_manager", reason="Now.")


@pytest.mark.postgresql
def test_an_author_is_known_in_every_spelling(signoff: Signoff, registry: FakeRegistry) -> None:
    """A stranger chooses what ``mlflow.user`` says."""
    said = [
        *("REVIEWER", " reviewer ", "re\u200bviewer", "CORP\\reviewer", "reviewer@corp.example"),
        *("rev\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}ewer", "CORP\\R\N{CYRILLIC CAPITAL LETTER IE}VIEWER"),
        *("rev1ewer@corp.example", "re vi ewer", "r\N{LATIN SMALL LETTER E WITH ACUTE}viewer"),
    ]
    for author in said:
        candidate = registry.add_version("m", {"val_auc": 0.95}, author=author)
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        approved_by(signoff, candidate, "reviewer")
    assert reviews.approve(signoff, candidate, by="reviewer2", comment="Good.").event


@pytest.mark.parametrize(
    ("author", "account"),
    [
        ("kim", "kim@example.com"),
        ("KIM", "Kim@example.com"),
        ("kim", "CORP\\kim"),
        ("kim@corp.example", "CORP\\Kim"),
        ("\u00e9va", "\u00c9VA@example.org"),
        ("k1m", "kim@example.com"),
        ("kim", "kim+ml@example.com"),
        ("kim@example.com", "kim+ml@example.com"),
        ("kim", "corp/kim"),
    ],
)
def test_an_author_is_known_whose_account_has_a_domain(
    signoff: Signoff, registry: FakeRegistry, author: str, account: str
) -> None:
    for username in (account, "kimberly@example.com", "CORP\\joakim"):
        people.add_account(signoff.database, username=username, name="K", hashed="!", roles=[Role.REVIEWER])
    candidate = registry.add_version("m", {"val_auc": 0.95}, author=author)
    reviews.submit(signoff, candidate, by="scientist", comment="Better.")
    approved_by(signoff, candidate, account)
    assert reviews.approve(signoff, candidate, by="kimberly@example.com", comment="Good.").event
    assert reviews.approve(signoff, candidate, by="CORP\\joakim", comment="Good.").event


def test_every_account_that_an_author_may_be_is_barred(
    signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
) -> None:
    for username in ("\u00c9va", "\u00c9VA@example.org", "eva"):
        people.add_account(signoff.database, username=username, name="E", hashed="!", roles=[Role.REVIEWER])
    claim(registry, candidate, "\u00c9va")
    reviews.submit(signoff, candidate, by="scientist", comment="Better.")
    approved_by(signoff, candidate, "\u00c9va")
    for username in ("Reviewer", "reviewer@example.org"):
        people.add_account(signoff.database, username=username, name="R", hashed="!", roles=[Role.REVIEWER])
    again = registry.add_version("m", {"val_auc": 0.95}, author="reviewer@example.org")
    reviews.submit(signoff, again, by="scientist", comment="Better.")
    for username in ("reviewer", "Reviewer", "reviewer@example.org"):
        with pytest.raises(SelfApproval):
            reviews.approve(signoff, again, by=username, comment="I like it.")
    assert reviews.approve(signoff, again, by="eva", comment="Good.").event


def test_a_look_alike_that_is_claimed_after_the_submission_bars_nobody_and_frees_nobody(
    signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
) -> None:
    """The claim counts as it was first seen."""
    claim(registry, candidate, "rev\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}ewer")
    reviews.submit(signoff, candidate, by="scientist", comment="Better.")
    claim(registry, candidate, "rev1ewer2")
    approved_by(signoff, candidate, "reviewer")
    assert reviews.approve(signoff, candidate, by="reviewer2", comment="Good.").event


class TestWhoRegistered:
    @pytest.mark.postgresql
    def test_is_barred_by_the_tag_that_the_hook_wrote(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry.tag(candidate, "signoff.registered_by", "reviewer")
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        approved_by(signoff, candidate, "reviewer")
        registry.tag(candidate, "signoff.registered_by", "")
        with pytest.raises(SelfApproval):
            reviews.approve(signoff, candidate, by="reviewer", comment="I still like it.")

    @pytest.mark.postgresql
    def test_is_barred_as_the_person_whose_account_it_is(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        people.add_account(signoff.database, username="rita@mlflow", name="R", hashed="!", roles=[Role.VIEWER])
        with signoff.database.writing() as connection:
            person = people.acting(connection, "reviewer", people.Source.BROWSER).person
            people.update(connection, "rita@mlflow", person=person)
        registry.tag(candidate, "signoff.registered_by", "rita@mlflow")
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        approved_by(signoff, candidate, "reviewer")


class TestWhatWasSaidOfTheSameBytes:
    def test_a_blocking_finding_keeps_a_copy_under_another_name_out_of_production(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        reviews.request_changes(signoff, candidate, by="reviewer", comment="No.", findings=[BLOCKING])
        reviews.reject(signoff, candidate, by="reviewer", comment="Not like this.")
        again = copy(registry, candidate, "another_name")
        reviews.submit(signoff, again, by="scientist", comment="A good one.")
        reviews.approve(signoff, again, by="reviewer2", comment="Good.")
        with pytest.raises(GateRefused, match="reviewer found in m/v1, which is the same model: Trained on the test"):
            releases.promote(signoff, again, by="release_manager", reason="Now.")
        assert registry.version(again).stage == "Staging"

    def test_resolving_it_where_it_was_raised_lets_the_copy_pass(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        reviews.request_changes(signoff, candidate, by="reviewer", comment="No.", findings=[BLOCKING])
        reviews.reject(signoff, candidate, by="reviewer", comment="Not like this.")
        again = copy(registry, candidate, "another_name")
        reviews.submit(signoff, again, by="scientist", comment="A good one.")
        _, seen = facts.fresh(signoff, again)
        (found,) = seen.findings
        assert found.ref == candidate
        findings.resolve(signoff, found.ref, found.id, by="reviewer2", comment="It was not.")
        reviews.approve(signoff, again, by="reviewer2", comment="Good.")
        assert releases.promote(signoff, again, by="release_manager", reason="Now.").event

    def test_a_rejection_is_told_to_the_reviewers_of_a_copy(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        reviews.reject(signoff, candidate, by="reviewer", comment="It leaks.")
        again = copy(registry, candidate, "another_name")
        outcome = reviews.submit(signoff, again, by="scientist", comment="A good one.")
        assert outcome.event
        (check,) = [check for check in outcome.event.verdict.checks if check.id == "elsewhere"]
        assert check.passed
        assert check.reason.startswith("reviewer rejected m/v1, which is the same model, on 2026-11-01: It leaks.")

    def test_an_open_request_for_changes_refuses_a_copy(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        reviews.request_changes(signoff, candidate, by="reviewer", comment="Look at the split.")
        again = copy(registry, candidate, "another_name")
        reviews.submit(signoff, again, by="scientist", comment="A good one.")
        reviews.approve(signoff, again, by="reviewer2", comment="Good.")
        with pytest.raises(GateRefused, match="reviewer requested changes of m/v1, which is the same model"):
            releases.promote(signoff, again, by="release_manager", reason="Now.")
        reviews.withdraw(signoff, candidate, by="scientist", comment="Given up.")
        assert releases.promote(signoff, again, by="release_manager", reason="Now.").event

    @pytest.mark.postgresql
    def test_versions_without_files_are_not_taken_for_each_other(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry._files[candidate] = {}
        reviews.submit(signoff, candidate, by="both", comment="Mine.")
        other = registry.add_version("m", {"val_auc": 0.95})
        registry._files[other] = {}
        reviews.submit(signoff, other, by="scientist", comment="Another one.")
        assert reviews.approve(signoff, other, by="both", comment="Good.").event
