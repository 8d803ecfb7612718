"""Which policy judges a model: tags and name choose it once; what they choose later judges beside it until decided."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from components.events import event_line
from services import assignments, facts, gate
from services.accounts import people
from services.admission.calls import What
from services.checks.approvals import wanted
from services.domain import Actor, RegisteredModel, Role, Source, VersionRef
from services.errors import BadInput, InvalidSettings, NotAllowed, Refused, StaleDecision
from services.evidence import Manifest
from services.gate import GateRefused
from services.messaging.message_text import compose
from services.policy import PolicyBook, first_named, parse
from services.record import ledger
from services.record.ledger import Event, Filter, Kind
from services.settings import PROJECT
from services.signoff import Signoff
from services.views import catalogue, history, overview
from services.views.dossier import open_dossier
from services.views.dry_run import Decided, dry_run
from tests.conftest import Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.outside import ask, call
from tests.pages import opened, text
from tests.rest import Rest, refused
from tests.test_policy import GOOD
from tests.verbs import automation, break_glass, policies, reconciler, releases, reviews

LOW = (PROJECT / "policies" / "examples" / "low-risk.yaml").read_text()
STRICT = GOOD.replace("tested", "strict") + "break_glass: true\n"
"""For every model; a reviewer must approve."""


def book(*texts: str) -> PolicyBook:
    return PolicyBook(policies=tuple(parse(text, f"{n}.yaml") for n, text in enumerate(texts)))


def under(signoff: Signoff, *texts: str) -> Signoff:
    return replace(signoff, policies=book(*texts))


def tagged(registry: FakeRegistry, name: str = "m", **tags: str) -> None:
    """What an MLflow client without a name does: `set_registered_model_tag`, where no hook asks."""
    model = registry._models[name]
    registry._models[name] = replace(model, tags={**model.tags, **tags})


def assigned_events(signoff: Signoff) -> list[Event]:
    with signoff.database.reading() as connection:
        found = ledger.events(connection, Filter(kinds=(Kind.POLICY_ASSIGNED,)), limit=None)
    return found[::-1]


def assigned_to(signoff: Signoff, name: str = "m") -> str | None:
    with signoff.database.reading() as connection:
        found = assignments.assigned(connection, name)
    return found.policy if found else None


def nightly(signoff: Signoff, ref: VersionRef) -> None:
    automation.auto(signoff, ref, by="ci", comment="Nightly run 17.")


@pytest.fixture
def world(signoff: Signoff) -> Signoff:
    """The strict policy for every model, the shipped example for those tagged ``risk: low``, and the service ``ci``."""
    people.add_automation(signoff.database, username="ci", name="Pipeline", roles=[Role.RELEASE_MANAGER])
    return under(signoff, STRICT, LOW)


@pytest.fixture
def ref(registry: FakeRegistry) -> VersionRef:
    return registry.add_version("m", {"val_auc": 0.95})


@pytest.fixture
def both(world: Signoff, registry: FakeRegistry, ref: VersionRef) -> Signoff:
    """``m`` was assigned the strict policy, and is tagged low since."""
    reconciler.reconcile(world)
    tagged(registry, risk="low")
    world.snapshot.refresh()
    return world


class TestTheAttack:
    """The judged chooses the judge: anybody tags a model, and a service releases it with no person involved."""

    def refused(self, world: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        with pytest.raises(GateRefused, match="0 of 1 approvals by a reviewer") as refusal:
            nightly(world, ref)
        assert "strict/approvals" in {check.id for check in refusal.value.verdict.failed}
        assert registry.version(ref).stage != "Production"
        assert "champion" not in registry.model("m").aliases
        assert not {"approval:given", "promotion:intended", "promotion:confirmed"} & set(kinds(world))
        with pytest.raises(Refused, match="Policy strict lets no automation approve"):
            reviews.approve_automatically(world, ref, by="ci", comment="x")

    def test_a_tag_set_before_the_submission_lets_no_service_release(
        self, world: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reconciler.reconcile(world)
        tagged(registry, risk="low")
        self.refused(world, registry, ref)

    def test_nor_on_a_model_that_came_after_the_registry_was_first_met(
        self, world: Signoff, registry: FakeRegistry
    ) -> None:
        reconciler.reconcile(world)
        ref = registry.add_version("m", {"val_auc": 0.95})
        reconciler.reconcile(world)
        tagged(registry, risk="low")
        self.refused(world, registry, ref)

    def test_a_tag_set_after_the_submission_lets_no_service_release(
        self, world: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reviews.submit(world, ref, by="scientist", comment="x")
        tagged(registry, risk="low")
        self.refused(world, registry, ref)

    def test_nor_does_a_new_name(self, world: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        reconciler.reconcile(world)
        reviews.submit(world, ref, by="scientist", comment="x")
        registry.rename_model("m", "easy")
        tagged(registry, "easy", risk="low")
        reconciler.reconcile(world)
        assert assigned_to(world, "easy") == "strict"
        with pytest.raises(GateRefused, match="0 of 1 approvals by a reviewer"):
            nightly(world, VersionRef(name="easy", version=1))

    def test_an_approval_of_a_service_under_the_low_policy_is_void_once_the_strict_one_judges_too(
        self, world: Signoff, registry: FakeRegistry
    ) -> None:
        registry.add_model("m", risk="low")
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(world, ref, by="ci", comment="x")
        reviews.approve_automatically(world, ref, by="ci", comment="x")
        tagged(registry, risk="high")
        with pytest.raises(GateRefused, match="policy changed and policy strict lets no automation approve"):
            nightly(world, ref)
        assert registry.version(ref).stage == "Staging"

    def test_a_tag_does_not_bring_emergencies_to_a_policy_without_them(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        world = under(signoff, STRICT.replace("break_glass: true", "break_glass: false"), LOW)
        reconciler.reconcile(world)
        tagged(registry, risk="low")
        with pytest.raises(GateRefused, match="Policy strict does not allow breaking the glass"):
            break_glass.ask(world, ref, by="break_glass", reason="Nonsense since noon.")
        assert kinds(world)[-1] == "emergency:refused"

    def test_an_emergency_is_first_sight_too(self, world: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        break_glass.ask(world, ref, by="break_glass", reason="Nonsense since noon.")
        assert assigned_to(world) == "strict"


class TestFirstSight:
    def test_is_the_first_full_reading_one_event_for_all_models(
        self, world: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        registry.add_model("n", risk="low")
        reconciler.reconcile(world)
        reconciler.reconcile(world)
        (event,) = assigned_events(world)
        assert event.get("models") == {"m": "strict", "n": "low-risk"}
        assert (event.actor, event.body["source"], event.ref) == ("signoff", "reconciler", None)

    def test_or_the_first_submission_by_the_person_who_makes_it(
        self, world: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reviews.submit(world, ref, by="scientist", comment="x")
        reviews.submit(world, registry.add_version("m", {"val_auc": 0.96}), by="scientist", comment="x")
        reconciler.reconcile(world)
        (event,) = assigned_events(world)
        assert (event.get("models"), event.actor, event.ref) == ({"m": "strict"}, "scientist", ref)

    def test_leaves_out_what_no_one_policy_is_for_until_that_is_mended(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        other = STRICT.replace("strict", "other")
        reconciler.reconcile(under(signoff, STRICT, other))
        assert assigned_to(signoff) is None
        reconciler.reconcile(under(signoff, STRICT, other.replace("applies_to:", "priority: 3\napplies_to:")))
        assert assigned_to(signoff) == "other"

    def test_of_a_large_registry_is_a_few_events(
        self, world: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(assignments, "MET_AT_ONCE", 4)
        for number in range(10):
            registry.add_model(f"m{number}")
        reconciler.reconcile(world)
        assert [len(event.get("models")) for event in assigned_events(world)] == [4, 4, 2]
        assert all(assigned_to(world, f"m{number}") == "strict" for number in range(10))


class TestTheJudges:
    def model(self, **tags: str) -> RegisteredModel:
        return RegisteredModel(name="m", created_at=Clock()(), updated_at=Clock()(), tags=tags)

    def assigned(self, policy: str, passed_over: str | None = None) -> assignments.Assignment:
        return assignments.Assignment(policy=policy, passed_over=passed_over, by="x", at="", seq=1)

    def test_are_the_assigned_policy_alone_while_tags_choose_it(self) -> None:
        judging = book(STRICT, LOW).judging(self.model(risk="low"), self.assigned("low-risk"))
        assert judging == book(STRICT, LOW).named("low-risk")

    def test_are_both_while_tags_choose_another(self) -> None:
        judging = book(STRICT, LOW).judging(self.model(risk="low"), self.assigned("strict"))
        assert judging.names == "strict and low-risk"
        assert judging.rules.name == "strict"
        assert (judging.automation, judging.break_glass, judging.signing) == (False, True, False)
        assert len({one.digest for one in judging.each}) == 1
        assert {part[:12] for part in judging.digest.split("+")} == {
            label.rpartition("@")[2] for label in judging.label.split("+")
        }
        assert first_named(judging.label) == "strict"
        assert first_named("a@b+c@0123456789ab") == "a@b+c"

    def test_are_the_assigned_one_alone_where_it_was_decided_so(self) -> None:
        judging = book(STRICT, LOW).judging(self.model(risk="low"), self.assigned("strict", "low-risk"))
        assert (judging.rules.name, judging.beside) == ("strict", None)

    def test_are_the_assigned_one_alone_where_nothing_else_is_for_the_model(self) -> None:
        judging = book(LOW).judging(self.model(), self.assigned("low-risk"))
        assert (judging.rules.name, judging.beside) == ("low-risk", None)

    def test_are_nobody_where_two_of_equal_priority_are_chosen(self) -> None:
        with pytest.raises(InvalidSettings, match="both apply"):
            book(STRICT, STRICT.replace("strict", "other")).judging(self.model(), self.assigned("strict"))

    def test_are_nobody_where_the_assigned_policy_is_gone(
        self, world: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reviews.submit(world, ref, by="scientist", comment="x")
        without = under(world, LOW.replace("tags: {risk: low}", 'names: ["*"]'))
        for verb in (
            lambda: releases.promote(without, ref, by="release_manager", reason="x"),
            lambda: reviews.approve(without, ref, by="reviewer", comment="x"),
            lambda: nightly(without, ref),
            lambda: releases.archive(without, ref, by="release_manager", reason="x"),
        ):
            gone = "judged by policy strict, and there is no such policy any more, so its versions can be neither "
            with pytest.raises(InvalidSettings, match=f"{gone}reviewed nor promoted nor archived"):
                verb()
        assert registry.version(ref).stage == "Staging"
        policies.assign(without, ref, policy="low-risk", by="release_manager", reason="strict was given up.")
        nightly(without, ref)
        assert registry.version(ref).stage == "Production"


class TestBoth:
    def test_ask_all_that_each_asks_under_their_names(self, both: Signoff, ref: VersionRef) -> None:
        policy, seen = facts.fresh(both, ref)
        verdict = gate.evaluate(policy, seen)
        alone = {
            name: [check.id for check in gate.evaluate(one, seen).checks]
            for name in ("strict", "low-risk")
            if (one := both.policies.named(name))
        }
        assert [check.id for check in verdict.checks] == [
            f"{name}/{check}" for name in ("strict", "low-risk") for check in alone[name]
        ]
        assert {check.family for check in verdict.checks} >= {"metric", "approvals", "intact"}
        assert [check.title for check in verdict.checks if check.family == "approvals"] == [
            "Approved: 1 by a reviewer (strict)",
            "Approved: 1 by a reviewer (low-risk)",
        ]
        assert verdict.summary().count("It was not submitted for review.") == 1

    def test_bind_approvals_so_that_one_given_under_one_policy_is_void(
        self, world: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reviews.submit(world, ref, by="scientist", comment="x")
        reviews.approve(world, ref, by="reviewer", comment="Right.")
        tagged(registry, risk="low")
        with pytest.raises(GateRefused, match="void because the policy changed"):
            releases.promote(world, ref, by="release_manager", reason="Now.")
        reviews.approve(world, ref, by="reviewer", comment="Right, by both.")
        releases.promote(world, ref, by="release_manager", reason="Now.")
        confirmed = record(world)[-1]
        digests = {policy.digest for policy in world.policies.policies}
        assert set(confirmed.get("policy_digest").split("+")) == digests
        assert confirmed.get("policy").startswith("strict@")
        assert "+low-risk@" in confirmed.get("policy")
        assert registry.version(ref).tags["signoff.policy"] == confirmed.get("policy")

    def test_fill_the_seats_of_each(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        two = LOW.replace("automation: true", "automation: false").replace("count: 1", "count: 2")
        world = under(signoff, STRICT.replace("role: reviewer", "role: release_manager"), two)
        reconciler.reconcile(world)
        tagged(registry, risk="low")
        reviews.submit(world, ref, by="scientist", comment="x")
        missing = []
        for person in ("reviewer", "reviewer2", "release_manager"):
            policy, seen = facts.fresh(world, ref)
            assert wanted(people.acting(world.database, person, Source.BROWSER), policy, seen)
            missing.append(open_dossier(world, ref).missing)
            reviews.approve(world, ref, by=person, comment="Right.")
            world.snapshot.refresh()
            if person != "release_manager":
                with pytest.raises(GateRefused):
                    releases.promote(world, ref, by="release_manager", reason="Now.")
        assert missing[0] == (Role.RELEASE_MANAGER, Role.REVIEWER)
        assert missing[-1] == (Role.RELEASE_MANAGER,)
        releases.promote(world, ref, by="release_manager", reason="Now.")
        assert {check.value for check in record(world)[-1].verdict.checks if check.family == "approvals"} == {
            "1 of 1",
            "2 of 2",
        }

    def test_one_person_may_fill_a_seat_of_each(self, both: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        reviews.submit(both, ref, by="scientist", comment="x")
        reviews.approve(both, ref, by="reviewer", comment="Right.")
        assert registry.version(ref).tags["approval_status"] == "approved"
        nightly(both, ref)
        assert registry.version(ref).stage == "Production"

    def test_put_a_version_where_the_assigned_policy_says(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        elsewhere = LOW + "champion: {stage: Archived, alias: easy}\ncandidate: {stage: None, alias: try}\n"
        world = under(signoff, STRICT, elsewhere.replace("stage: None", 'stage: "None"'))
        reconciler.reconcile(world)
        tagged(registry, risk="low")
        reviews.submit(world, ref, by="scientist", comment="x")
        assert (registry.version(ref).stage, registry.model("m").aliases) == ("Staging", {"challenger": 1})
        reviews.approve(world, ref, by="reviewer", comment="Right.")
        releases.promote(world, ref, by="release_manager", reason="Now.")
        assert (registry.version(ref).stage, registry.model("m").aliases) == ("Production", {"champion": 1})

    def test_expire_approvals_by_the_shorter_time(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, clock: Clock
    ) -> None:
        world = under(signoff, STRICT, LOW + "approvals_expire_after_days: 7\n")
        reconciler.reconcile(world)
        tagged(registry, risk="low")
        reviews.submit(world, ref, by="scientist", comment="x")
        reviews.approve(world, ref, by="reviewer", comment="Right.")
        clock.now += timedelta(days=8)
        with pytest.raises(GateRefused, match="it expired after 7 days") as refusal:
            releases.promote(world, ref, by="release_manager", reason="Now.")
        assert {check.id for check in refusal.value.verdict.failed} == {"strict/approvals", "low-risk/approvals"}
        assert "approval:expired" in kinds(world)

    def test_waive_in_an_emergency_what_each_lets_them(
        self, both: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        event = break_glass.ask(both, ref, by="break_glass", reason="Nonsense since noon.").event
        assert event
        break_glass.confirm(both, event.seq, by="release_manager", comment="Agreed.")
        verdict = record(both)[-1].verdict
        assert registry.version(ref).stage == "Production"
        assert {check.id for check in verdict.waived} == {
            *("strict/submitted", "strict/approvals", "low-risk/submitted", "low-risk/approvals"),
        }
        assert {"strict/break_glass", "low-risk/break_glass"} <= {check.id for check in verdict.checks if check.passed}
        assert "approval_status" not in registry.version(ref).tags

    def test_are_what_an_emergency_is_bound_to(self, world: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        event = break_glass.ask(world, ref, by="break_glass", reason="Nonsense since noon.").event
        assert event
        tagged(registry, risk="low")
        with pytest.raises(GateRefused, match="the policy changed; it must be asked for anew"):
            break_glass.confirm(world, event.seq, by="release_manager", comment="Agreed.")
        assert registry.version(ref).stage == "None"

    def test_are_shown_by_lists_as_the_assigned_one(
        self, both: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        (row,) = catalogue.search(both, catalogue.Query()).rows
        assert row.metric == "val_auc"
        assert overview.overview(both).in_production == 0
        assert assignments.judges(both) is assignments.judges(both), "read again only when something was assigned"


class TestADecision:
    def test_to_keep_leaves_the_assigned_policy_alone(
        self, both: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        outcome = policies.assign(both, ref, policy="strict", by="release_manager", reason="It is no toy.")
        assert outcome.event is not None
        assert outcome.event.kind is Kind.POLICY_ASSIGNED
        assert outcome.event.get("passed_over") == "low-risk"
        policy, _ = facts.fresh(both, ref)
        assert policy == both.policies.named("strict")
        with pytest.raises(GateRefused) as refusal:
            nightly(both, ref)
        assert {check.id for check in refusal.value.verdict.failed} == {"approvals"}

    def test_to_change_lets_the_other_one_judge_alone(
        self, both: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        outcome = policies.assign(both, ref, policy="low-risk", by="release_manager", reason="A toy.")
        assert outcome.event is not None
        assert (outcome.event.get("assigned_before"), outcome.event.get("passed_over")) == ("strict", None)
        nightly(both, ref)
        assert registry.version(ref).stage == "Production"

    def test_holds_until_tags_choose_yet_another(self, both: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        policies.assign(both, ref, policy="strict", by="release_manager", reason="It is no toy.")
        third = STRICT.replace("strict", "third").replace('names: ["*"]', "tags: {risk: none}")
        world = under(both, STRICT, LOW, third.replace("applies_to:", "priority: 20\napplies_to:"))
        tagged(registry, risk="none")
        assert facts.fresh(world, ref)[0].names == "strict and third"

    @pytest.mark.parametrize("seen_before", [True, False])
    def test_names_no_policy_that_neither_tags_nor_name_choose(
        self, world: Signoff, registry: FakeRegistry, ref: VersionRef, seen_before: bool
    ) -> None:
        """The attack: one release manager assigns what lets a service approve, promotes, and assigns back."""
        if seen_before:
            reconciler.reconcile(world)
        before = kinds(world)
        with pytest.raises(Refused) as refusal:
            policies.assign(world, ref, policy="low-risk", by="release_manager", reason="Tidy up.")
        assert str(refusal.value) == (
            f"Policy low-risk cannot be named for m: {'strict' if seen_before else 'no policy'} is assigned to it, and "
            "its tags and name choose strict; to choose low-risk, set the tag risk=low on the registered model in "
            "MLflow first."
        )
        assert kinds(world) == [*before, "policy:refused"]
        assert assigned_to(world) == ("strict" if seen_before else None)
        reviews.submit(world, ref, by="scientist", comment="x")
        with pytest.raises(Refused, match="Policy strict lets no automation approve"):
            reviews.approve_automatically(world, ref, by="ci", comment="x")

    def test_says_that_no_tag_chooses_a_policy_that_only_a_name_does(self, world: Signoff, ref: VersionRef) -> None:
        named = STRICT.replace("strict", "named").replace('names: ["*"]', 'names: ["fraud_*"]')
        with pytest.raises(Refused, match="to choose named, change its applies_to first"):
            policies.assign(under(world, STRICT, named), ref, policy="named", by="release_manager", reason="x")

    @pytest.mark.parametrize("hand", ["trained", "submitted", "took over"])
    def test_is_not_for_a_person_who_has_a_hand_in_a_version_in_review(
        self, both: Signoff, registry: FakeRegistry, ref: VersionRef, hand: str
    ) -> None:
        people.add_account(both.database, username="second", name="S", hashed="!", roles=[Role.RELEASE_MANAGER])
        own = registry.add_version("m", {"val_auc": 0.5}, author="second" if hand == "trained" else "trainer")
        if hand == "took over":
            client = Actor(
                username="mlflow-client",
                name="A client",
                roles=frozenset(),
                source=Source.MLFLOW_CLIENT,
                automation=True,
            )
            reviews.propose(both, own, actor=client, comment="x")
        reviews.submit(both, own, by="scientist" if hand == "trained" else "second", comment="x")
        before = kinds(both)
        for policy in ("strict", "low-risk"):
            with pytest.raises(Refused, match=r"m/v2 is in review, and second .*; another release manager must decide"):
                policies.assign(both, ref, policy=policy, by="second", reason="x")
        assert kinds(both)[: len(before)] == before
        assert set(kinds(both)[len(before) :]) == {"policy:refused"}
        assert assigned_to(both) == "strict"
        policies.assign(both, ref, policy="low-risk", by="release_manager", reason="I looked.")
        assert assigned_to(both) == "low-risk"

    def test_is_open_to_that_person_again_when_the_review_has_ended(
        self, both: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reviews.submit(both, ref, by="release_manager", comment="x")
        reviews.withdraw(both, ref, by="release_manager", comment="x")
        policies.assign(both, ref, policy="strict", by="release_manager", reason="It is no toy.")

    def test_is_told_with_the_policy_of_before_and_the_one_from_then_on(
        self, both: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        outcome = policies.assign(both, ref, policy="low-risk", by="release_manager", reason="A toy.")
        assert outcome.message == "Policy low-risk judges m from now on instead of strict."
        assert outcome.event
        letter = compose(
            outcome.event, id="1", occasion="event", why="x", site="http://s", head=(1, "0"), checkpoint=None
        )
        assert letter.title == "m v1 is judged by policy low-risk from now on instead of strict"
        line = event_line(outcome.event, version=False)
        assert "decided that policy low-risk judges the model instead of strict" in line
        assert "what became of it" not in line

    def test_to_keep_is_told_with_both_names_as_well(self, both: Signoff, ref: VersionRef) -> None:
        outcome = policies.assign(both, ref, policy="strict", by="release_manager", reason="It is no toy.")
        assert outcome.message == (
            "Policy strict judges m from now on; low-risk, which tags and name choose, does not."
        )

    def test_of_what_is_so_already_changes_nothing(self, both: Signoff, ref: VersionRef) -> None:
        policies.assign(both, ref, policy="strict", by="release_manager", reason="It is no toy.")
        before = len(assigned_events(both))
        outcome = policies.assign(both, ref, policy="strict", by="release_manager", reason="Again.")
        assert (outcome.event, len(assigned_events(both))) == (None, before)

    def test_asks_for_approvals_again(self, both: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        reviews.submit(both, ref, by="scientist", comment="x")
        reviews.approve(both, ref, by="reviewer", comment="Right.")
        policies.assign(both, ref, policy="strict", by="release_manager", reason="It is no toy.")
        assert registry.version(ref).tags["approval_status"] == "pending"
        with pytest.raises(GateRefused, match="void because the policy changed"):
            releases.promote(both, ref, by="release_manager", reason="Now.")

    def test_made_while_files_are_read_stops_what_was_judged_before_it(
        self, both: Signoff, registry: FakeRegistry, ref: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reviews.submit(both, ref, by="scientist", comment="x")
        read = registry.manifest

        def slowly(of: VersionRef) -> Manifest:
            monkeypatch.setattr(registry, "manifest", read)
            policies.assign(both, ref, policy="strict", by="release_manager", reason="It is no toy.")
            return read(of)

        monkeypatch.setattr(registry, "manifest", slowly)
        with pytest.raises(StaleDecision, match="Which policy judges m was decided meanwhile"):
            reviews.approve(both, ref, by="reviewer", comment="Right.")
        assert kinds(both)[-2:] == ["policy:assigned", "approval:refused"]

    @pytest.mark.parametrize("role", [role for role in Role if role is not Role.RELEASE_MANAGER])
    def test_is_for_release_managers(self, both: Signoff, ref: VersionRef, role: Role) -> None:
        people.add_account(both.database, username="other", name="O", hashed="!", roles=[role])
        with pytest.raises(NotAllowed, match="Only a release manager may assign policy"):
            policies.assign(both, ref, policy="low-risk", by="other", reason="x")
        assert kinds(both)[-1] == "policy:refused"
        assert assigned_to(both) == "strict"

    def test_is_for_people(self, both: Signoff, ref: VersionRef) -> None:
        with pytest.raises(NotAllowed, match="Only people may assign policy"):
            policies.assign(both, ref, policy="low-risk", by="ci", reason="x")

    @pytest.mark.parametrize(("policy", "reason"), [("lax", "x"), ("low-risk", " ")])
    def test_names_a_policy_that_there_is_and_a_reason(
        self, both: Signoff, ref: VersionRef, policy: str, reason: str
    ) -> None:
        with pytest.raises(BadInput):
            policies.assign(both, ref, policy=policy, by="release_manager", reason=reason)
        assert assigned_to(both) == "strict"

    def test_is_not_for_the_person_who_asked_mlflow_for_the_tag(
        self, world: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        people.add_account(world.database, username="second", name="S", hashed="!", roles=[Role.RELEASE_MANAGER])
        reconciler.reconcile(world)
        asked = call(registry, What.MODEL_TAG_SET, key="risk", value="low", user="release_manager")
        assert not ask(world, asked).allowed
        with pytest.raises(Refused, match="release_manager asked MLflow for the tag that chooses policy low-risk"):
            policies.assign(world, ref, policy="low-risk", by="release_manager", reason="Mine.")
        assert assigned_to(world) == "strict"
        policies.assign(world, ref, policy="low-risk", by="second", reason="I looked.")
        assert assigned_to(world) == "low-risk"


class TestTheHook:
    def answer(self, signoff: Signoff, registry: FakeRegistry, value: str | None, key: str = "risk") -> str:
        what = What.MODEL_TAG_SET if value is not None else What.MODEL_TAG_DELETED
        answer = ask(signoff, call(registry, what, key=key, value=value))
        return "" if answer.allowed else answer.reason

    def test_refuses_a_tag_that_would_choose_another_policy_and_says_who_decides(
        self, world: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reconciler.reconcile(world)
        reason = self.answer(world, registry, "low")
        assert "policy strict was assigned to it" in reason
        assert "signoff policy assign m --policy low-risk" in reason
        (refusal,) = [event for event in record(world) if event.kind is Kind.ADMISSION_REFUSED]
        assert refusal.get("policy_tag") == {"model": "m", "key": "risk", "value": "low", "chooses": "low-risk"}
        assert registry.writes == []

    def test_refuses_that_such_a_tag_is_deleted(self, world: Signoff, registry: FakeRegistry) -> None:
        registry.add_model("m", risk="low")
        registry.add_version("m")
        reconciler.reconcile(world)
        assert "policy strict would judge it too" in self.answer(world, registry, None)

    def test_refuses_a_tag_that_leaves_two_of_equal_priority(
        self, world: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reconciler.reconcile(world)
        twice = under(world, STRICT, LOW, LOW.replace("name: low-risk", "name: lower"))
        assert "two policies of equal priority" in self.answer(twice, registry, "low")

    def test_lets_tags_be_set_that_change_no_choice(
        self, world: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reconciler.reconcile(world)
        assert self.answer(world, registry, "high") == ""
        assert self.answer(world, registry, "low", key="Risk") == "", "MLflow and policies tell letters apart"
        assert self.answer(world, registry, "x", key="owner") == ""

    def test_lets_a_tag_lead_back_to_the_assigned_policy(self, both: Signoff, registry: FakeRegistry) -> None:
        assert self.answer(both, registry, "high") == ""
        assert self.answer(both, registry, None) == ""

    def test_leaves_a_model_that_signoff_has_not_seen_alone(
        self, world: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        assert self.answer(world, registry, "low") == ""
        assert record(world) == []

    def test_is_told_by_which_tags_policies_are_chosen(self, world: Signoff) -> None:
        told = replace(world, settings=replace(world.settings, gate_token="told"))
        headers = {"Authorization": "Bearer told"}
        names = Rest(told).client.get("/api/v1/admissions/names", headers=headers).json()
        assert names["model_tags"] == ["risk"]


class TestADryRun:
    def tried(self, signoff: Signoff, text: str) -> tuple[list[Decided], int]:
        with signoff.database.reading() as connection:
            found = dry_run(connection, parse(text, "new.yaml"), signoff.policies)
        return [one.now for one in found.judged], found.elsewhere

    def test_of_either_policy_judges_again_what_both_have_judged(
        self, both: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reviews.submit(both, ref, by="scientist", comment="x")
        reviews.approve(both, ref, by="reviewer", comment="Right.")
        releases.promote(both, ref, by="release_manager", reason="Now.")
        for rules in (STRICT, LOW):
            assert self.tried(both, rules) == ([Decided.ALLOWED], 0)
            harder = rules.replace("threshold: 0.9\n", "threshold: 0.99\n").replace("0.80", "0.99")
            assert self.tried(both, harder) == ([Decided.REFUSED], 0)

    def test_leaves_the_answers_of_the_other_policy_as_they_were(self, both: Signoff, ref: VersionRef) -> None:
        with pytest.raises(GateRefused):
            releases.promote(both, ref, by="release_manager", reason="Now.")
        easy = LOW.replace("count: 1", "count: 2")
        assert self.tried(both, easy) == ([Decided.REFUSED], 0)

    def test_of_a_policy_that_was_passed_over_counts_as_judged_elsewhere(
        self, both: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        policies.assign(both, ref, policy="strict", by="release_manager", reason="It is no toy.")
        with pytest.raises(GateRefused):
            releases.promote(both, ref, by="release_manager", reason="Now.")
        assert self.tried(both, LOW) == ([], 1)
        assert self.tried(both, STRICT) == ([Decided.REFUSED], 0)


class TestThePages:
    def test_say_that_two_policies_judge_and_a_release_manager_decides(self, both: Signoff, ref: VersionRef) -> None:
        query = {"name": "m", "version": "1"}
        at = opened(both, "viewer", "version", **query)
        assert not at.exception
        assert "Two policies judge m" in text(at)
        assert not [one for one in at.radio if one.label == "Which policy judges it"]
        at = opened(both, "release_manager", "version", **query)
        (choice,) = [one for one in at.radio if one.label == "Which policy judges it"]
        choice.set_value("strict")
        next(one for one in at.text_input if one.label == "Reason (needed)").set_value("It is no toy.")
        next(one for one in at.button if one.label == "Decide which policy judges it").click().run()
        assert not at.exception
        assert "Policy strict judges m from now on" in text(at)
        assert "Two policies judge" not in text(at)
        assert facts.fresh(both, ref)[0].names == "strict"

    def test_name_both_on_the_model(self, both: Signoff, ref: VersionRef) -> None:
        assert "judged by policy strict and low-risk" in text(opened(both, "viewer", "model", name="m"))

    def test_say_what_to_do_where_the_assigned_policy_is_gone(self, both: Signoff, ref: VersionRef) -> None:
        at = opened(under(both, LOW), "viewer", "version", name="m", version="1")
        assert not at.exception
        assert "there is no such policy any more" in text(at)

    def test_rest_takes_the_decision_and_refuses_others(self, both: Signoff, ref: VersionRef) -> None:
        rest, body = Rest(both), {"policy": "low-risk", "reason": "A toy."}
        verdict = rest.get("/models/m/versions/1/verdict", "viewer").json()
        assert {check["id"].partition("/")[0] for check in verdict["checks"]} == {"strict", "low-risk"}
        assert "release manager" in refused(
            rest.post("/models/m/policy", "scientist", **body), 403, "PERMISSION_DENIED"
        )
        assert rest.post("/models/none/policy", "release_manager", **body).status_code == 404
        done = rest.post("/models/m/policy", "release_manager", **body)
        assert (done.status_code, done.json()["message"]) == (
            200,
            "Policy low-risk judges m from now on instead of strict.",
        )
        verdict = rest.get("/models/m/versions/1/verdict", "viewer").json()
        assert not [check["id"] for check in verdict["checks"] if "/" in check["id"]]

    def test_history_says_what_was_assigned(self, both: Signoff, ref: VersionRef) -> None:
        policies.assign(both, ref, policy="low-risk", by="release_manager", reason="A toy.")
        assert history.action(Kind.POLICY_ASSIGNED) == "Policy assigned"
        assert "A toy." in text(opened(both, "viewer", "version", name="m", version="1"))


def test_the_chain_holds(both: Signoff, ref: VersionRef) -> None:
    policies.assign(both, ref, policy="low-risk", by="release_manager", reason="A toy.")
    with both.database.reading() as connection:
        assert ledger.broken_at(connection) is None
