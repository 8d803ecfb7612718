"""What reviewers find in a version: raised with requested changes, resolved by somebody independent."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import date, timedelta

import pytest

from services import facts
from services.accounts import people
from services.accounts.permissions import ROLES_FOR
from services.domain import Action, Role, VersionRef
from services.errors import BadInput, NotAllowed, NotFound, PromotionConflict, Refused
from services.evidence import Finding, FindingDraft, Severity
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.signoff import Signoff
from services.views import inbox
from tests.conftest import BOTH, Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.test_policy import GOOD
from tests.test_roles import tasks
from tests.verbs import break_glass, findings, releases, reviews

DATABASES = BOTH
BLOCKING = FindingDraft(text="Trained on the test set.", severity=Severity.BLOCKING)


@pytest.fixture
def submitted(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """A good version, submitted by ``scientist``."""
    ref = registry.add_version("m", {"val_auc": 0.95})
    reviews.submit(signoff, ref, by="scientist", comment="Better recall.")
    return ref


@pytest.fixture
def blocked(signoff: Signoff, submitted: VersionRef, registry: FakeRegistry) -> VersionRef:
    """Sent back by ``reviewer`` with one blocking finding; the registry's list of writes starts empty."""
    reviews.request_changes(signoff, submitted, by="reviewer", comment="Not like this.", findings=[BLOCKING])
    registry.writes.clear()
    return submitted


def found(signoff: Signoff, ref: VersionRef) -> tuple[Finding, ...]:
    """All findings of a version."""
    return facts.shown(signoff, ref)[1].findings


def only(signoff: Signoff, ref: VersionRef) -> Finding:
    (finding,) = found(signoff, ref)
    return finding


class TestRaise:
    def test_keeps_severity_owner_and_due_day_and_records_them_all(
        self, signoff: Signoff, submitted: VersionRef
    ) -> None:
        drafts = [
            BLOCKING,
            FindingDraft(text=" Say on whom. ", severity=Severity.MINOR, owner="both", due=date(2026, 12, 1)),
        ]
        outcome = reviews.request_changes(signoff, submitted, by="reviewer", comment="See below.", findings=drafts)
        first, second = found(signoff, submitted)
        assert (first.severity, first.owner, first.due, first.open) == (Severity.BLOCKING, "scientist", None, True)
        assert (second.text, second.owner, second.due) == ("Say on whom.", "both", date(2026, 12, 1))
        assert (second.raised_by, second.seq) == ("reviewer", outcome.event and outcome.event.seq)
        assert record(signoff)[-1].get("findings") == [
            {"severity": "blocking", "text": "Trained on the test set.", "owner": "scientist", "due": None},
            {"severity": "minor", "text": "Say on whom.", "owner": "both", "due": "2026-12-01"},
        ]

    def test_without_any_asks_for_changes_all_the_same(self, signoff: Signoff, submitted: VersionRef) -> None:
        reviews.request_changes(signoff, submitted, by="reviewer", comment="Say more.")
        assert found(signoff, submitted) == ()
        assert record(signoff)[-1].get("findings") is None

    def test_a_second_time_adds_to_the_first(self, signoff: Signoff, blocked: VersionRef) -> None:
        more = FindingDraft(text="Nor is the card complete.")
        reviews.request_changes(signoff, blocked, by="reviewer", comment="One more.", findings=[more])
        assert [finding.text for finding in found(signoff, blocked)] == [BLOCKING.text, more.text]

    def test_sent_twice_is_raised_once(self, signoff: Signoff, blocked: VersionRef) -> None:
        before = record(signoff)
        again = reviews.request_changes(signoff, blocked, by="reviewer", comment="Not like this.", findings=[BLOCKING])
        assert again.event is None
        assert len(found(signoff, blocked)) == 1
        assert record(signoff) == before

    @pytest.mark.parametrize(
        ("draft", "words"),
        [
            ({"text": "Nul\0."}, "control characters"),
            ({"text": "Wrong.", "owner": "nobody"}, "no account 'nobody'"),
            ({"text": "Wrong.", "due": date(2020, 1, 1)}, "before today"),
            ({"text": "  "}, "needs words"),
            ({"text": "x" * 2001}, "at most 2000"),
        ],
    )
    def test_of_nonsense_is_bad_input_and_leaves_nothing(
        self, signoff: Signoff, registry: FakeRegistry, submitted: VersionRef, draft: dict[str, object], words: str
    ) -> None:
        before = record(signoff)
        registry.writes.clear()
        with pytest.raises(BadInput, match=words):
            reviews.request_changes(
                signoff,
                submitted,
                by="reviewer",
                comment="See below.",
                findings=[FindingDraft(**draft)],  # type: ignore[arg-type]
            )
        assert found(signoff, submitted) == ()
        assert record(signoff) == before
        assert registry.writes == []

    def test_of_too_many_is_bad_input(self, signoff: Signoff, submitted: VersionRef) -> None:
        with pytest.raises(BadInput, match="at most 50"):
            reviews.request_changes(signoff, submitted, by="reviewer", comment="Oh.", findings=[BLOCKING] * 51)
        assert found(signoff, submitted) == ()

    def test_refused_leaves_no_finding(self, signoff: Signoff, submitted: VersionRef) -> None:
        with pytest.raises(NotAllowed):
            reviews.request_changes(signoff, submitted, by="viewer", comment="No.", findings=[BLOCKING])
        assert found(signoff, submitted) == ()


class TestPromotion:
    def test_is_refused_while_a_blocking_one_is_open(
        self, signoff: Signoff, registry: FakeRegistry, blocked: VersionRef
    ) -> None:
        """Also after a new round in which everybody approved: the finding stays with the version."""
        reviews.submit(signoff, blocked, by="scientist", comment="Please look again.")
        reviews.approve(signoff, blocked, by="reviewer2", comment="Fine with me.")
        registry.writes.clear()
        before = len(record(signoff))
        with pytest.raises(GateRefused) as refusal:
            releases.promote(signoff, blocked, by="release_manager", reason="Go.")
        (check,) = refusal.value.verdict.failed
        assert (check.id, check.value, check.threshold) == ("findings", "1 open", "none open")
        assert check.reason == "reviewer found: Trained on the test set (for scientist)."
        assert registry.writes == []
        assert registry.version(blocked).stage == "Staging"
        assert kinds(signoff)[before:] == ["promotion:refused"]

    def test_is_allowed_once_it_is_resolved(
        self, signoff: Signoff, registry: FakeRegistry, blocked: VersionRef
    ) -> None:
        reviews.submit(signoff, blocked, by="scientist", comment="Please look again.")
        reviews.approve(signoff, blocked, by="reviewer2", comment="Fine with me.")
        findings.resolve(signoff, blocked, only(signoff, blocked).id, by="reviewer", comment="It was another file.")
        releases.promote(signoff, blocked, by="release_manager", reason="Go.")
        assert registry.version(blocked).stage == "Production"

    @pytest.mark.parametrize("severity", [Severity.MAJOR, Severity.MINOR])
    def test_is_not_held_up_by_lesser_ones(
        self, signoff: Signoff, registry: FakeRegistry, submitted: VersionRef, severity: Severity
    ) -> None:
        draft = FindingDraft(text="The card could say more.", severity=severity)
        reviews.request_changes(signoff, submitted, by="reviewer", comment="Small things.", findings=[draft])
        reviews.approve(signoff, submitted, by="reviewer", comment="Good enough after all.")
        releases.promote(signoff, submitted, by="release_manager", reason="Go.")
        assert registry.version(submitted).stage == "Production"

    def test_a_way_back_is_closed_by_one_as_well(self, signoff: Signoff, registry: FakeRegistry) -> None:
        """What was found wrong since it was released does not return."""
        for value in (0.92, 0.95):
            ref = registry.add_version("m", {"val_auc": value})
            reviews.submit(signoff, ref, by="scientist", comment="Please.")
            reviews.approve(signoff, ref, by="reviewer", comment="Fine.")
            releases.promote(signoff, ref, by="release_manager", reason="Go.")
        first = VersionRef(name="m", version=1)
        reviews.submit(signoff, first, by="scientist", comment="Once more.")
        reviews.request_changes(signoff, first, by="reviewer", comment="No!", findings=[BLOCKING])
        with pytest.raises(GateRefused, match="Trained on the test set"):
            releases.rollback(signoff, "m", by="release_manager", reason="Back.")
        assert registry.model("m").aliases["champion"] == 2

    def test_of_a_later_version_of_the_same_number_is_not_held_up(
        self, signoff: Signoff, registry: FakeRegistry, blocked: VersionRef
    ) -> None:
        registry.drop_model("m")
        again = registry.add_version("m", {"val_auc": 0.95}, files={"MLmodel": b"", "model.skops": b"another one"})
        signoff.snapshot.refresh()
        assert (again, found(signoff, again)) == (blocked, ())


class TestResolve:
    def test_records_who_how_and_what(self, signoff: Signoff, blocked: VersionRef) -> None:
        finding = only(signoff, blocked)
        findings.resolve(signoff, finding.ref, finding.id, by="reviewer2", comment="Retrained.")
        now, event = only(signoff, blocked), record(signoff)[-1]
        assert (now.open, now.resolved_by, now.resolution) == (False, "reviewer2", "Retrained.")
        assert (event.kind.value, event.ref, event.comment) == ("finding:resolved", blocked, "Retrained.")
        assert event.get("finding")["text"] == "Trained on the test set."

    def test_shows_in_the_tags_that_the_record_went_on(
        self, signoff: Signoff, registry: FakeRegistry, blocked: VersionRef
    ) -> None:
        findings.resolve(signoff, blocked, only(signoff, blocked).id, by="reviewer2", comment="Retrained.")
        event = record(signoff)[-1]
        assert registry.version(blocked).tags["signoff.event"] == f"{event.seq}:{event.hash}"

    def test_twice_is_one_effect(self, signoff: Signoff, blocked: VersionRef) -> None:
        number = only(signoff, blocked).id
        findings.resolve(signoff, blocked, number, by="reviewer2", comment="Retrained.")
        before = record(signoff)
        again = findings.resolve(signoff, blocked, number, by="reviewer", comment="Retrained.")
        assert again.event is None
        assert record(signoff) == before
        assert only(signoff, blocked).resolved_by == "reviewer2"

    @pytest.mark.postgresql
    def test_at_once_is_one_effect(self, signoff: Signoff, blocked: VersionRef) -> None:
        number = only(signoff, blocked).id
        threads = [
            threading.Thread(
                target=findings.resolve, args=(signoff, blocked, number), kwargs={"by": who, "comment": "Done."}
            )
            for who in ("reviewer", "reviewer2") * 3
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kinds(signoff).count("finding:resolved") == 1

    def test_can_be_taken_back(self, signoff: Signoff, blocked: VersionRef) -> None:
        number = only(signoff, blocked).id
        findings.resolve(signoff, blocked, number, by="reviewer2", comment="Retrained.")
        findings.reopen(signoff, blocked, number, by="reviewer", comment="It is the same file.")
        finding = only(signoff, blocked)
        assert (finding.open, finding.blocks, finding.resolution) == (True, True, None)
        assert kinds(signoff)[-2:] == ["finding:resolved", "finding:reopened"]

    @pytest.mark.parametrize("verb", [findings.resolve, findings.reopen])
    def test_of_ones_own_version_is_refused(self, signoff: Signoff, registry: FakeRegistry, verb: object) -> None:
        ref = registry.add_version("own", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="both", comment="Mine.")
        reviews.request_changes(signoff, ref, by="reviewer", comment="No.", findings=[BLOCKING])
        before, finding = len(record(signoff)), only(signoff, ref)
        with pytest.raises(Refused, match="somebody else must say"):
            verb(signoff, ref, finding.id, by="both", comment="Surely answered.")  # type: ignore[operator]
        assert only(signoff, ref) == finding
        assert kinds(signoff)[before:] == ["finding:refused"]

    @pytest.mark.parametrize("role", sorted(Role))
    def test_is_for_those_the_table_names(self, signoff: Signoff, blocked: VersionRef, role: Role) -> None:
        person = f"as_{role}"
        people.add_account(signoff.database, username=person, name="Somebody", hashed="!", roles=[role])
        before, finding = len(record(signoff)), only(signoff, blocked)
        if role in ROLES_FOR[Action.RESOLVE]:
            findings.resolve(signoff, finding.ref, finding.id, by=person, comment="Done.")
            assert not only(signoff, blocked).open
        else:
            with pytest.raises(NotAllowed, match="may resolve"):
                findings.resolve(signoff, finding.ref, finding.id, by=person, comment="Done.")
            assert only(signoff, blocked) == finding
            assert kinds(signoff)[before:] == ["finding:refused"]

    def test_of_an_unknown_one_and_without_words_leaves_nothing(self, signoff: Signoff, blocked: VersionRef) -> None:
        before = record(signoff)
        with pytest.raises(NotFound):
            findings.resolve(signoff, blocked, 999, by="reviewer", comment="Done.")
        other, number = VersionRef(name="other", version=1), only(signoff, blocked).id
        with pytest.raises(NotFound, match="in other/v1"):
            findings.resolve(signoff, other, number, by="reviewer", comment="Done.")
        with pytest.raises(BadInput, match="comment is needed"):
            findings.resolve(signoff, blocked, only(signoff, blocked).id, by="reviewer", comment=" ")
        assert record(signoff) == before


class TestOwner:
    def test_sees_what_waits_for_an_answer_by_due_day(
        self, signoff: Signoff, submitted: VersionRef, clock: Clock
    ) -> None:
        later, sooner = date(2026, 12, 24), date(2026, 11, 3)
        drafts = [
            FindingDraft(text="Without a day."),
            FindingDraft(text="Later.", due=later),
            FindingDraft(text="Sooner.", due=sooner),
            FindingDraft(text="For somebody else.", owner="both"),
        ]
        reviews.request_changes(signoff, submitted, by="reviewer", comment="See below.", findings=drafts)
        waiting = findings.owned_by(signoff, "scientist")
        assert [finding.text for finding in waiting] == ["Sooner.", "Later.", "Without a day."]
        assert not any(finding.overdue(clock.now) for finding in waiting)
        clock.now += timedelta(days=5)
        assert [finding.text for finding in waiting if finding.overdue(clock.now)] == ["Sooner."]

    def test_has_answered_once_it_was_submitted_again(self, signoff: Signoff, blocked: VersionRef) -> None:
        assert len(findings.owned_by(signoff, "scientist")) == 1
        reviews.submit(signoff, blocked, by="scientist", comment="Answered.")
        assert findings.owned_by(signoff, "scientist") == []

    def test_of_an_approved_version_leaves_the_next_step_to_whoever_may_resolve(
        self, signoff: Signoff, blocked: VersionRef
    ) -> None:
        reviews.submit(signoff, blocked, by="scientist", comment="Answered.")
        reviews.approve(signoff, blocked, by="reviewer2", comment="Fine.")
        assert tasks(signoff, "reviewer") == [inbox.Task.RESOLVE]
        assert tasks(signoff, "release_manager") == [inbox.Task.RESOLVE]
        findings.resolve(signoff, blocked, only(signoff, blocked).id, by="reviewer", comment="Yes.")
        assert tasks(signoff, "reviewer") == []
        assert tasks(signoff, "release_manager") == [inbox.Task.RELEASE]

    def test_is_left_alone_when_it_was_withdrawn(self, signoff: Signoff, blocked: VersionRef) -> None:
        reviews.withdraw(signoff, blocked, by="scientist", comment="A new one comes.")
        assert findings.owned_by(signoff, "scientist") == []
        assert only(signoff, blocked).open


def test_a_submission_that_ended_meanwhile_takes_no_finding(
    signoff: Signoff, submitted: VersionRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both happen while the other is being read: whoever records first wins, the other leaves nothing."""
    fresh = facts.fresh

    def withdrawn_meanwhile(*args: object, **kwargs: object) -> object:
        seen = fresh(*args, **kwargs)  # type: ignore[arg-type]
        monkeypatch.setattr(facts, "fresh", fresh)
        reviews.withdraw(signoff, submitted, by="scientist", comment="Never mind.")
        return seen

    monkeypatch.setattr(facts, "fresh", withdrawn_meanwhile)
    with pytest.raises(PromotionConflict):
        reviews.request_changes(signoff, submitted, by="reviewer", comment="No.", findings=[BLOCKING])
    assert found(signoff, submitted) == ()


class TestWhoOverrulesAReviewer:
    def test_does_not_promote_the_version_as_well(
        self, signoff: Signoff, blocked: VersionRef, registry: FakeRegistry
    ) -> None:
        findings.resolve(signoff, blocked, only(signoff, blocked).id, by="release_manager", comment="I see no problem.")
        reviews.submit(signoff, blocked, by="scientist", comment="Again.")
        reviews.approve(signoff, blocked, by="reviewer2", comment="Fine.")
        registry.writes.clear()
        why = "reviewer found: Trained on the test set .*release_manager resolved it, so somebody else must release"
        with pytest.raises(GateRefused, match=why):
            releases.promote(signoff, blocked, by="release_manager", reason="Go.")
        assert kinds(signoff)[-1] == "promotion:refused"
        assert registry.version(blocked).stage != "Production"
        people.add_account(signoff.database, username="second", name="S", hashed="!", roles=[Role.RELEASE_MANAGER])
        releases.promote(signoff, blocked, by="second", reason="Looked at it too.")
        assert registry.version(blocked).stage == "Production"

    @pytest.mark.parametrize("who", ["asked", "confirmed"])
    def test_takes_no_part_in_an_emergency(
        self, signoff: Signoff, blocked: VersionRef, registry: FakeRegistry, who: str
    ) -> None:
        both = [Role.RELEASE_MANAGER, Role.BREAK_GLASS]
        for username in ("asked", "confirmed"):
            people.add_account(signoff.database, username=username, name=username, hashed="!", roles=both)
        policy = parse(GOOD.replace("name: tested", "name: default") + "break_glass: true\n", "p.yaml")
        signoff = replace(signoff, policies=PolicyBook(policies=(policy,)))
        findings.resolve(signoff, blocked, only(signoff, blocked).id, by=who, comment="I see no problem.")

        def both_acted() -> None:
            request = break_glass.ask(signoff, blocked, by="asked", reason="Patients wait, and it is wrong.").event
            assert request
            break_glass.confirm(signoff, request.seq, by="confirmed", comment="Agreed.")

        with pytest.raises(GateRefused, match=f"{who} resolved it, so somebody else must release this version"):
            both_acted()
        assert registry.version(blocked).stage != "Production"
