"""Every shipped policy and every worked example can be satisfied by the people there are, and asks for what it says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from services.accounts import people
from services.domain import Dataset, Role, VersionRef
from services.errors import NotAllowed
from services.gate import GateRefused
from services.policy import Freeze, MetricRule, Policy, PolicyBook
from services.settings import PROJECT
from services.signoff import Signoff
from tests.conftest import Clock
from tests.fakes import HOLDOUT, SIGNATURE, FakeRegistry
from tests.ledgers import kinds, record
from tests.validation import on_record
from tests.verbs import releases, reviews

BOOK = PolicyBook(
    policies=tuple(
        policy
        for folder in (PROJECT / "policies", PROJECT / "policies" / "examples")
        for policy in PolicyBook.load(folder).policies
    )
)
POLICIES = {policy.rules.name: policy for policy in BOOK.policies}
PEOPLE = {Role.REVIEWER: ("reviewer", "reviewer2"), Role.RELEASE_MANAGER: ("release_manager",)}
PASSWORD = SecretStr("everybody's")
SERVES, GOOD = 0, 1
VALUES = {  # of the champion, and of a good successor
    "val_auc": (0.96, 0.97),
    "val_log_loss": (0.20, 0.18),
    "val_accuracy": (0.95, 0.96),
    "val_r2": (0.50, 0.60),
    "val_rmse": (10.0, 9.0),
}
MONDAY, WEDNESDAY = (datetime(2026, 11, day, 9, 0, tzinfo=UTC) for day in (2, 4))
IN_FREEZE = {
    "Weekend": datetime(2026, 11, 14, 12, 0, tzinfo=UTC),
    "Year end": datetime(2026, 12, 22, 12, 0, tzinfo=UTC),  # a Tuesday
}


def demands(policy: Policy) -> set[str]:
    """Everything a policy asks for, as the ids of its checks."""
    rules = policy.rules
    found = {"submitted", "promoter"}
    found |= {f"metric:{rule.name}" for rule in rules.metrics if rule.threshold is not None}
    found |= {f"champion:{rule.name}:absolute" for rule in rules.metrics if rule.min_absolute_change is not None}
    found |= {f"champion:{rule.name}:relative" for rule in rules.metrics if rule.min_relative_change is not None}
    found |= {name for name in ("same_dataset", "signature", "input_example") if getattr(rules, name)}
    found |= {f"tag:{tag}" for tag in rules.required_tags}
    found |= {f"artifact:{pattern}" for pattern in rules.required_artifacts}
    found |= {"guarded_files"} if rules.guarded_files == "required" else set()
    found |= {"evidence_age"} if rules.max_evidence_age_days else set()
    found |= {"staging_time"} if rules.min_hours_in_staging else set()
    found |= {f"freeze:{freeze.title}" for freeze in rules.freezes}
    found |= {"signed"} if rules.signing else set()
    found |= {"validation:report", "validation:improvement"} if rules.validation else set()
    several = len(rules.approvals) > 1
    return found | {f"approvals:{rule.role}" if several else "approvals" for rule in rules.approvals}


class World:
    """A registry under all policies at once, in which a version of one model goes all the way, or nearly."""

    def __init__(self, signoff: Signoff, registry: FakeRegistry, clock: Clock, policy: Policy) -> None:
        self.signoff = replace(signoff, policies=BOOK)
        self.registry, self.clock, self.policy = registry, clock, policy
        self.rules = policy.rules
        self.name = (*self.rules.applies_to.names, "any")[0].replace("*", "m")
        for username in {person for people_of_role in PEOPLE.values() for person in people_of_role}:
            people.set_password(signoff.database, username, f"plain:{PASSWORD.get_secret_value()}")
        registry.add_model(self.name, **self.rules.applies_to.tags)
        assert self.signoff.policies.match(registry.model(self.name)) == policy

    def version(self, start: datetime, which: int, without: str = "") -> VersionRef:
        """A version that shows everything but what ``without`` says."""
        old = timedelta(days=(self.rules.max_evidence_age_days or 0) + 1)
        ref = self.registry.add_version(
            self.name,
            {rule.name: self._value(rule, which, without) for rule in self.rules.metrics}
            if not without.startswith("metric:")
            else {r.name: VALUES[r.name][which] for r in self.rules.metrics if without != f"metric:{r.name}"},
            dataset=Dataset(name="other", digest="bbbbbbbb", context="eval") if without == "same_dataset" else HOLDOUT,
            signature=None if without == "signature" else SIGNATURE,
            input_example=without != "input_example",
            ended_at=start - (old if without == "evidence_age" else timedelta(hours=1)),
            files={
                "MLmodel": b"flavors: {}\n",
                **{
                    pattern.replace("*", "docs/"): b"text"
                    for pattern in self.rules.required_artifacts
                    if without != f"artifact:{pattern}"
                },
            },
        )
        for tag in self.rules.required_tags:
            if without != f"tag:{tag}":
                self.registry.tag(ref, tag, "said")
        return ref

    def _value(self, rule: MetricRule, which: int, without: str) -> float:
        if without.startswith(f"champion:{rule.name}:"):
            return VALUES[rule.name][SERVES] * (0.999 if rule.greater_is_better else 1.2)
        return VALUES[rule.name][which]

    def release(self, ref: VersionRef, start: datetime, without: str = "") -> None:
        """Submit, approve and promote it, but for what ``without`` says."""
        self.registry.hooked = without != "guarded_files"
        self.clock.now = start
        if (rule := self.rules.validation) and without != "validation:report":
            gain = 0.005 if without == "validation:improvement" else 0.02
            asked = {"sha256": rule.holdout, "target": rule.target, "confidence": rule.confidence}
            on_record(self.signoff, ref, gain=gain, within=0.01, **asked)
        if without != "submitted":
            reviews.submit(self.signoff, ref, by="scientist", comment="Please review.")
            for rule in self.rules.approvals:
                short = without in {"approvals", f"approvals:{rule.role}"}
                for person in PEOPLE[rule.role][: rule.count - short]:
                    reviews.approve(self.signoff, ref, by=person, comment="Looks right.", password=PASSWORD)
        if without != "staging_time":
            self.clock.now += timedelta(hours=self.rules.min_hours_in_staging or 0)
        if without == "expiry":
            self.clock.now += timedelta(days=self.rules.approvals_expire_after_days or 0)
        promoter = "reviewer" if without == "promoter" else self.rules.promoted_by[0].value
        password = None if without == "signed" else PASSWORD
        releases.promote(self.signoff, ref, by=promoter, reason="Better.", password=password)


CASES = [(name, demand) for name, policy in POLICIES.items() for demand in sorted(demands(policy))]


class TestEveryPolicy:
    @pytest.mark.parametrize("name", POLICIES)
    def test_can_be_satisfied_by_the_people_there_are(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock, name: str
    ) -> None:
        world = World(signoff, registry, clock, POLICIES[name])
        first, second = world.version(MONDAY, SERVES), world.version(WEDNESDAY, GOOD)
        world.release(first, MONDAY)
        world.release(second, WEDNESDAY)
        assert registry.version(second).stage == "Production"
        assert registry.version(first).stage == "Archived"
        assert {check.id for check in record(signoff)[-1].verdict.checks} == demands(world.policy) | {"intact", "place"}

    @pytest.mark.parametrize(("name", "demand"), CASES)
    def test_refuses_when_one_thing_it_asks_for_is_missing(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock, name: str, demand: str
    ) -> None:
        world = World(signoff, registry, clock, POLICIES[name])
        start = _start(world, demand)
        world.release(world.version(MONDAY, SERVES), MONDAY)
        ref = world.version(start, GOOD, without=demand)
        with pytest.raises(NotAllowed if demand == "promoter" else GateRefused) as refusal:
            world.release(ref, start, without=demand)
        if isinstance(refusal.value, GateRefused):
            assert demand in {check.id for check in refusal.value.verdict.failed}
        assert registry.version(ref).stage != "Production"
        assert kinds(signoff)[-1] == "promotion:refused"

    @pytest.mark.parametrize("name", [n for n, p in POLICIES.items() if p.rules.approvals_expire_after_days])
    def test_refuses_when_its_approvals_have_expired(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock, name: str
    ) -> None:
        world = World(signoff, registry, clock, POLICIES[name])
        ref = world.version(WEDNESDAY, GOOD)
        with pytest.raises(GateRefused, match="expired after 14 days"):
            world.release(ref, WEDNESDAY, without="expiry")


def _start(world: World, demand: str) -> datetime:
    """When its review begins, so that its promotion falls into the freeze it is about, or into none."""
    freeze: Freeze | None = next((f for f in world.rules.freezes if demand == f"freeze:{f.title}"), None)
    if freeze is None:
        return WEDNESDAY
    return IN_FREEZE[freeze.title] - timedelta(hours=world.rules.min_hours_in_staging or 0)
