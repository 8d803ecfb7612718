"""Automation: what the verb `auto` does and leaves alone, and that a service never counts as a person."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from services import caretaker, gate
from services.accounts import people, sessions
from services.accounts.permissions import FOR_AUTOMATION, may
from services.checks.bound import bound
from services.desk import Request
from services.domain import Action, Actor, Role, Source, VersionRef
from services.errors import BadInput, InvalidSettings, NotAllowed, Refused
from services.evidence import FindingDraft, Severity
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.record import ledger
from services.settings import PROJECT
from services.signoff import Signoff
from services.tables import events, refusal_windows
from services.views import dossier
from tests.conftest import BOTH, Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.pages import opened, text
from tests.test_gate import approved, evidence, facts
from tests.verbs import automation, desk, releases, reviews

DATABASES = BOTH
LOW = (PROJECT / "policies" / "examples" / "low-risk.yaml").read_text().replace("tags: {risk: low}", 'names: ["*"]')
NO_AUTOMATION = LOW.replace("automation: true", "automation: false")
TWO = LOW.replace("count: 1", "count: 2")
WORDS = "Nightly run 17."
ALL_THE_WAY = [
    "submission:intended",
    "submission:confirmed",
    "approval:given",
    "promotion:intended",
    "promotion:confirmed",
]


def under(signoff: Signoff, text: str) -> Signoff:
    return replace(signoff, policies=PolicyBook(policies=(parse(text, "low.yaml"),)))


@pytest.fixture
def low(signoff: Signoff) -> Signoff:
    """Under the low-risk example, for every model, with the service ``ci``."""
    people.add_automation(signoff.database, username="ci", name="Pipeline", roles=[Role.RELEASE_MANAGER])
    return under(signoff, LOW)


@pytest.fixture
def good(registry: FakeRegistry) -> VersionRef:
    return registry.add_version("m", {"val_auc": 0.95}, author="ci")


def auto(signoff: Signoff, ref: VersionRef, by: str = "ci") -> reviews.Outcome:
    return automation.auto(signoff, ref, by=by, comment=WORDS)


class TestAuto:
    def test_takes_a_good_version_all_the_way(self, low: Signoff, registry: FakeRegistry, good: VersionRef) -> None:
        outcome = auto(low, good)
        assert kinds(low) == ALL_THE_WAY
        assert outcome.event == record(low)[-1]
        tags = registry.version(good).tags
        assert registry.version(good).stage == "Production"
        assert registry.model("m").aliases == {"champion": 1}
        assert (tags["approval_status"], tags["approved_by"], tags["promoted_by"]) == ("auto_approved", "ci", "ci")
        assert [event.get("automation") for event in record(low)] == [True] * 5
        assert record(low)[-1].get("approved_automatically") is True

    def test_on_the_champion_changes_nothing(self, low: Signoff, registry: FakeRegistry, good: VersionRef) -> None:
        auto(low, good)
        registry.writes.clear()
        outcome = auto(low, good)
        assert outcome.event is None
        assert registry.writes == []
        assert kinds(low) == ALL_THE_WAY

    def test_replaces_the_champion_with_a_better_one(self, low: Signoff, registry: FakeRegistry) -> None:
        first, second = (registry.add_version("m", {"val_auc": value}) for value in (0.9, 0.95))
        auto(low, first)
        auto(low, second)
        assert [registry.version(ref).stage for ref in (first, second)] == ["Archived", "Production"]

    @pytest.mark.postgresql
    def test_what_fails_the_checks_is_one_refusal_and_not_even_submitted(
        self, low: Signoff, registry: FakeRegistry
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.5})
        for _ in range(3):
            with pytest.raises(GateRefused, match=r"val_auc is 0\.5") as refusal:
                auto(low, ref)
            assert "metric:val_auc" in {check.id for check in refusal.value.verdict.failed}
        assert kinds(low) == ["promotion:refused"]
        assert registry.writes == []
        with low.database.reading() as connection:
            assert connection.execute(sa.select(refusal_windows.c.times)).scalar() == 3

    def test_where_the_policy_wants_people_it_submits_for_them_and_is_refused_until_they_approve(
        self, low: Signoff, registry: FakeRegistry, good: VersionRef
    ) -> None:
        strict = under(low, NO_AUTOMATION)
        for _ in range(2):
            with pytest.raises(GateRefused) as refusal:
                auto(strict, good)
            assert {check.id for check in refusal.value.verdict.failed} == {"approvals"}
        assert kinds(strict) == ["submission:intended", "submission:confirmed", "promotion:refused"]
        assert registry.version(good).tags["approval_status"] == "pending"
        reviews.approve(strict, good, by="reviewer", comment="Right.")
        auto(strict, good)
        assert registry.version(good).tags["approval_status"] == "approved"

    def test_where_people_have_approved_it_adds_nothing_of_its_own(
        self, low: Signoff, registry: FakeRegistry, good: VersionRef
    ) -> None:
        reviews.submit(low, good, by="scientist", comment="x")
        reviews.approve(low, good, by="reviewer", comment="Right.")
        auto(low, good)
        assert kinds(low).count("approval:given") == 1
        assert registry.version(good).tags["approval_status"] == "approved"

    def test_one_automatic_approval_stands_for_all_and_is_shown_as_such(
        self, low: Signoff, registry: FakeRegistry, good: VersionRef
    ) -> None:
        two = under(low, TWO)
        reviews.submit(two, good, by="scientist", comment="x")
        reviews.approve(two, good, by="reviewer", comment="Right.")
        auto(two, good)
        tags = registry.version(good).tags
        assert (tags["approval_status"], tags["approved_by"]) == ("auto_approved", "reviewer, ci")

    def test_waits_for_time_and_goes_on_the_next_night(
        self, low: Signoff, registry: FakeRegistry, good: VersionRef, clock: Clock
    ) -> None:
        slow = under(low, LOW + "min_hours_in_staging: 12\n")
        with pytest.raises(GateRefused, match="at least 12 hours must have passed"):
            auto(slow, good)
        assert registry.version(good).tags["approval_status"] == "auto_approved"
        clock.now += timedelta(hours=24)
        auto(slow, good)
        assert kinds(slow).count("approval:given") == 1
        assert registry.version(good).stage == "Production"

    def test_approves_again_when_its_approval_has_expired(
        self, low: Signoff, registry: FakeRegistry, good: VersionRef, clock: Clock
    ) -> None:
        short = under(low, LOW + "approvals_expire_after_days: 7\n")
        reviews.submit(short, good, by="ci", comment="x")
        reviews.approve_automatically(short, good, by="ci", comment="x")
        clock.now += timedelta(days=8)
        caretaker.tidy(short)
        assert registry.version(good).tags["approval_status"] == "expired"
        auto(short, good)
        assert registry.version(good).tags["approval_status"] == "auto_approved"

    @pytest.mark.parametrize("words", ["", "  "])
    def test_without_words_is_bad_input(self, low: Signoff, good: VersionRef, words: str) -> None:
        with pytest.raises(BadInput):
            automation.auto(low, good, by="ci", comment=words)
        assert kinds(low) == []

    def test_is_something_one_can_ask_the_desk_for(self, low: Signoff, good: VersionRef) -> None:
        request = Request(action=Action.AUTO, ref=good, words=WORDS)
        assert desk.perform(low, request, by="ci", source=Source.REST).event

    @pytest.mark.parametrize("role", [role for role in Role if role is not Role.RELEASE_MANAGER])
    def test_needs_the_role_of_who_promotes(self, low: Signoff, good: VersionRef, role: Role) -> None:
        people.set_roles(low.database, "ci", [role])
        with pytest.raises(NotAllowed):
            auto(low, good)
        assert kinds(low) == ["promotion:refused"]

    @pytest.mark.postgresql
    def test_by_a_person_gives_no_automatic_approval(self, low: Signoff, good: VersionRef) -> None:
        with pytest.raises(GateRefused):
            auto(low, good, by="release_manager")
        assert "approval:given" not in kinds(low)
        with pytest.raises(NotAllowed, match="release_manager is a person"):
            reviews.approve_automatically(low, good, by="release_manager", comment="x")


class TestWhatPeopleEnded:
    def ended(self, low: Signoff, ref: VersionRef, words: str) -> None:
        before = kinds(low)
        with pytest.raises(Refused, match=words):
            auto(low, ref)
        assert kinds(low) == [*before, "promotion:refused"]

    def test_a_rejection_stays(self, low: Signoff, good: VersionRef) -> None:
        reviews.submit(low, good, by="scientist", comment="x")
        reviews.reject(low, good, by="reviewer", comment="Leaks the target.")
        self.ended(low, good, "was rejected")

    def test_a_withdrawal_stays(self, low: Signoff, good: VersionRef) -> None:
        reviews.submit(low, good, by="scientist", comment="x")
        reviews.withdraw(low, good, by="scientist", comment="A bug.")
        self.ended(low, good, "was withdrawn")

    def test_a_rollback_stays(self, low: Signoff, registry: FakeRegistry) -> None:
        first, second = (registry.add_version("m", {"val_auc": value}) for value in (0.9, 0.95))
        auto(low, first)
        auto(low, second)
        releases.rollback(low, "m", by="release_manager", reason="It alarms for nothing.")
        self.ended(low, second, "a person must submit it again")
        assert registry.version(first).stage == "Production"

    def test_an_archived_version_stays_archived(self, low: Signoff, good: VersionRef) -> None:
        releases.archive(low, good, by="release_manager", reason="Of no use.")
        self.ended(low, good, "archived")

    def test_requested_changes_stay_even_where_the_request_no_longer_binds(
        self, low: Signoff, registry: FakeRegistry, good: VersionRef
    ) -> None:
        reviews.submit(low, good, by="scientist", comment="x")
        reviews.request_changes(low, good, by="reviewer", comment="On which patients?")
        with pytest.raises(GateRefused, match="reviewer requested changes"):
            auto(low, good)
        auto(low, registry.add_version("m", {"val_auc": 0.91}))
        self.ended(low, good, "Changes of m/v1 were requested")

    def test_a_blocking_finding_stays_after_it_was_submitted_again(
        self, low: Signoff, registry: FakeRegistry, good: VersionRef
    ) -> None:
        reviews.submit(low, good, by="scientist", comment="x")
        found = FindingDraft(text="It leaks the target.", severity=Severity.BLOCKING)
        reviews.request_changes(low, good, by="reviewer", comment="x", findings=[found])
        reviews.submit(low, good, by="scientist", comment="x")
        with pytest.raises(GateRefused, match="It leaks the target"):
            auto(low, good)
        assert "approval:given" not in kinds(low)

    def test_what_people_submit_again_goes_on(self, low: Signoff, registry: FakeRegistry, good: VersionRef) -> None:
        reviews.submit(low, good, by="scientist", comment="x")
        reviews.reject(low, good, by="reviewer", comment="Say why.")
        reviews.submit(low, good, by="scientist", comment="Because.")
        auto(low, good)
        assert registry.version(good).stage == "Production"


class TestItsApproval:
    def test_counts_only_while_the_policy_lets_it(
        self, low: Signoff, registry: FakeRegistry, good: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reviews.submit(low, good, by="ci", comment="x")
        reviews.approve_automatically(low, good, by="ci", comment="x")
        strict = under(low, NO_AUTOMATION)
        with pytest.raises(GateRefused, match="lets no automation approve"):
            releases.promote(strict, good, by="release_manager", reason="Now.")
        with pytest.raises(Refused, match="lets no automation approve"):
            reviews.approve_automatically(strict, good, by="ci", comment="x")
        assert registry.version(good).stage == "Staging"

    def test_never_counts_as_a_persons_whatever_roles_it_has(self, low: Signoff, good: VersionRef) -> None:
        people.set_roles(low.database, "ci", list(Role))
        reviews.submit(low, good, by="scientist", comment="x")
        for verb in (reviews.approve, reviews.request_changes, reviews.reject):
            with pytest.raises(NotAllowed, match="Only people may"):
                verb(low, good, by="ci", comment="x")
        assert "approval:given" not in kinds(low)

    def test_is_not_taken_for_a_reviewers_even_where_it_counts(self) -> None:
        policy, seen = parse(LOW, "low.yaml"), approved(facts(evidence(0.95)), "ci")
        vote = replace(seen.decisions[0], automation=True, binding=bound(policy, seen))
        seen = replace(seen, decisions=(vote,))
        verdict = gate.evaluate(policy, seen)
        assert verdict.allowed
        assert gate.automatic(policy, seen)
        assert [check.value for check in verdict.checks if check.id == "approvals"] == ["automatic"]

    @pytest.mark.postgresql
    def test_is_told_as_automatic_where_people_read_it(self, low: Signoff, good: VersionRef) -> None:
        auto(low, good)
        page = opened(low, "viewer", "version", name=good.name, version=str(good.version))
        assert "approved it automatically" in text(page)
        assert "automatically by ci" in text(page)

    def test_is_bound_to_the_files_like_any_other(self, low: Signoff, registry: FakeRegistry, good: VersionRef) -> None:
        reviews.submit(low, good, by="ci", comment="x")
        reviews.approve_automatically(low, good, by="ci", comment="x")
        registry.write_file(good, "model.skops", b"other bytes")
        with pytest.raises(GateRefused, match="files changed"):
            releases.promote(low, good, by="release_manager", reason="Now.")

    def test_is_no_longer_missing_for_people(self, low: Signoff, good: VersionRef) -> None:
        reviews.submit(low, good, by="ci", comment="x")
        reviews.approve_automatically(low, good, by="ci", comment="x")
        reviewer = people.acting(low.database, "reviewer", Source.BROWSER)
        offered = dossier.open_dossier(low, good).actions(reviewer)
        assert Action.APPROVE not in offered
        assert {Action.REQUEST_CHANGES, Action.REJECT} <= set(offered)

    def test_a_policy_lets_it_only_where_risk_is_low(self) -> None:
        line = next(n for n, found in enumerate(LOW.splitlines(), 1) if found.startswith("automation"))
        for other in (LOW.replace("risk: low\n", "risk: medium\n"), LOW.replace("risk: low\n", "risk: high\n")):
            with pytest.raises(InvalidSettings, match=rf"p\.yaml:{line}: automation: .*only where risk is low"):
                parse(other, "p.yaml")
        with pytest.raises(InvalidSettings, match=f":{line}: automation: .*no password to sign with"):
            parse(LOW.replace("break_glass: true", "signing: true"), "p.yaml")
        parse(LOW.replace("automation: true", "automation: false").replace("risk: low\n", "risk: high\n"), "p.yaml")


class TestServices:
    @pytest.mark.parametrize("action", [action for action in Action if action not in FOR_AUTOMATION])
    def test_may_do_nothing_that_is_judgement(self, action: Action) -> None:
        assert not may(
            Actor(username="ci", name="", roles=frozenset(Role), automation=True, source=Source.BROWSER), action
        )

    def test_cannot_log_in(self, low: Signoff) -> None:
        asked: list[str | None] = []

        class Anything:
            def hash(self, password: str) -> str:
                return password

            def check(self, password: str, hashed: str | None) -> bool:
                asked.append(hashed)
                return True

        with pytest.raises(sessions.WrongCredentials):
            sessions.log_in(low.database, "ci", "!", Anything(), b"k" * 32)
        assert asked == [None], "there is nothing that a password could fit"
        with pytest.raises(NotAllowed, match="is an automation"):
            sessions.open_session(low.database, "ci", b"k" * 32)
        with pytest.raises(BadInput, match="is an automation"):
            people.set_password(low.database, "ci", "hash")
        assert people.credentials(low.database, "ci") == {"usernames": {}}

    @pytest.mark.postgresql
    def test_a_session_of_an_account_that_is_a_service_opens_nothing(self, low: Signoff) -> None:
        key = sessions.session_key(sessions.open_session(low.database, "viewer", b"k" * 32), b"k" * 32)
        with low.database.writing() as connection:
            connection.execute(
                people.accounts.update().where(people.accounts.c.username == "viewer").values(automation=True)
            )
        assert sessions.session_user(low.database, key) is None

    @pytest.mark.parametrize("name", ["unknown", "signoff", "mlflow-client", "Signoff", "UNKNOWN", "ｓｉｇｎｏｆｆ"])
    def test_names_of_the_record_are_nobodys(self, signoff: Signoff, name: str) -> None:
        with pytest.raises(BadInput, match="Signoff's own"):
            people.add_account(signoff.database, username=name, name="x", hashed="!", roles=[])
        with pytest.raises(BadInput, match="Signoff's own"):
            people.add_automation(signoff.database, username=name, name="x", roles=[])

    def test_refused_repeats_of_a_service_are_told_as_its_own(
        self, low: Signoff, registry: FakeRegistry, clock: Clock
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.5})
        for _ in range(2):
            with pytest.raises(GateRefused):
                auto(low, ref)
        clock.now += timedelta(hours=1)
        caretaker.tidy(low)
        assert [event.get("automation") for event in record(low)] == [True, True]

    def test_the_chain_holds(self, low: Signoff, good: VersionRef) -> None:
        auto(low, good)
        with low.database.reading() as connection:
            assert ledger.broken_at(connection) is None
            assert connection.execute(sa.select(sa.func.count()).select_from(events)).scalar()
