"""Each fact of the moment is another one between the reading and the intent: then nothing happens.

What no approval is bound to has only this second look to be found by. A new fact of the moment needs a change here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta

import pytest
from pydantic import SecretStr

from services.accounts import people
from services.checks import view
from services.checks.view import OF_THE_MOMENT
from services.domain import VersionRef
from services.errors import NotAllowed, Refused
from services.evidence import Facts
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.reconciliation import prescription
from services.signoff import Signoff
from services.steps import effects
from services.steps.intents import in_flight
from services.tables import promotions
from tests.conftest import Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds
from tests.test_judged_twice import BLOCKING, DEFAULT, at_the_last, loses_role, promote
from tests.test_releases import approve, release, slot_is_free
from tests.test_same_bytes import copy
from tests.verbs import findings, reconciler, releases, reviews

FROM_FACTS: Mapping[str, frozenset[str]] = {
    "model": frozenset({"tag", "description"}),
    "candidate": frozenset(
        {
            *("version", "registered", "files", "signature", "place", "unreadable", "run", "run_end"),
            *("metric", "datasets", "tag", "artifact", "description"),
        }
    ),
    "champion": frozenset(
        {
            *("champion", "champion_run", "champion_files", "champion_metric", "champion_datasets"),
            *("champion_recorded", "champion_statements"),
        }
    ),
    "now": frozenset({"now"}),
    "bars": frozenset({"bars", "champion_statements"}),
    "author": frozenset({"bars"}),
    "submission": frozenset({"submission"}),
    "ended": frozenset({"submission"}),
    "decisions": frozenset({"decisions"}),
    "findings": frozenset({"findings"}),
    "elsewhere": frozenset({"elsewhere"}),
    "validations": frozenset({"validations"}),
    "assigned": frozenset({"policy"}),
    "reigning": frozenset({"reigning"}),
    "rollback_of": frozenset({"rollback"}),
}
"""What the gate is handed, and which facts are read from it: each is declared by checks, or of the moment."""


@dataclass(frozen=True)
class Case:
    """``attempt`` would succeed but for ``meanwhile``, and is then refused with ``why``."""

    attempt: Callable[[], object]
    meanwhile: Callable[[], object]
    why: str
    error: type[Refused] = GateRefused


@dataclass(frozen=True)
class Scene:
    """Version 1 of ``m`` is in Production."""

    signoff: Signoff
    registry: FakeRegistry
    clock: Clock

    def under(self, *lines: str) -> Scene:
        """With lines more in the policy."""
        policy = parse("\n".join((DEFAULT, *lines, "")), "p.yaml")
        return replace(self, signoff=replace(self.signoff, policies=PolicyBook(policies=(policy,))))

    def submitted(self) -> VersionRef:
        """Version 2, under review."""
        ref = self.registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(self.signoff, ref, by="scientist", comment="Please.")
        return ref

    def approved(self) -> VersionRef:
        """Version 2, approved."""
        return approve(self.signoff, self.registry.add_version("m", {"val_auc": 0.95}))

    def passes(self, spent: timedelta) -> None:
        self.clock.now += spent


def now(scene: Scene) -> Case:
    freeze = "{title: Year end, time_zone: UTC, from: 2026-11-02 00:00, until: 2026-11-03 00:00}"
    scene = scene.under(f"freezes: [{freeze}]")
    ref = scene.approved()
    return Case(lambda: promote(scene.signoff, ref), lambda: scene.passes(timedelta(hours=16)), "during Year end")


def rollback(scene: Scene) -> Case:
    release(scene.signoff, scene.registry.add_version("m", {"val_auc": 0.95}))

    def forgotten() -> None:  # no verb can: what was released stays so
        with scene.signoff.database.writing() as connection:
            connection.execute(promotions.delete().where(promotions.c.version == 1))

    back = {"version": 1, "by": "release_manager", "reason": "Back."}
    return Case(
        lambda: releases.rollback(scene.signoff, "m", **back),  # type: ignore[arg-type]
        forgotten,
        "no earlier release to return to",
    )


def submission(scene: Scene) -> Case:
    ref = scene.approved()

    def ended() -> None:  # no verb can while the slot is held: they are kept out by that
        with scene.signoff.database.writing() as connection:
            effects.show_status(connection, ref, "withdrawn")

    return Case(lambda: promote(scene.signoff, ref), ended, "not submitted")


def decisions(scene: Scene) -> Case:
    ref = scene.approved()
    return Case(
        lambda: promote(scene.signoff, ref),
        lambda: reviews.request_changes(scene.signoff, ref, by="reviewer", comment="I was too quick."),
        "reviewer requested changes",
    )


def finding(scene: Scene) -> Case:
    ref = scene.submitted()
    reviews.request_changes(scene.signoff, ref, by="reviewer", comment="No.", findings=[BLOCKING])
    (found,) = findings.raised(scene.signoff, scene.registry.version(ref))
    findings.resolve(scene.signoff, ref, found.id, by="reviewer", comment="Answered.")
    reviews.approve(scene.signoff, ref, by="reviewer", comment="Good.")
    return Case(
        lambda: promote(scene.signoff, ref),
        lambda: findings.reopen(scene.signoff, ref, found.id, by="reviewer2", comment="It still does."),
        "patients' names",
    )


def elsewhere(scene: Scene) -> Case:
    ref = scene.approved()
    twin = copy(scene.registry, ref, "twin")
    reviews.submit(scene.signoff, twin, by="scientist", comment="Please.")
    return Case(
        lambda: promote(scene.signoff, ref),
        lambda: reviews.request_changes(scene.signoff, twin, by="reviewer2", comment="Look at the split."),
        "reviewer2 requested changes of twin/v1, which is the same model",
    )


def bars(scene: Scene) -> Case:
    ref = scene.submitted()
    reviews.approve(scene.signoff, ref, by="both", comment="Good.")
    twin = copy(scene.registry, ref, "twin")
    return Case(
        lambda: promote(scene.signoff, ref),
        lambda: reviews.submit(scene.signoff, twin, by="both", comment="Mine."),
        "the approval by both does not count because both submitted",
    )


def actor(scene: Scene) -> Case:
    ref = scene.approved()
    return Case(
        lambda: promote(scene.signoff, ref),
        lambda: loses_role(scene.signoff, "release_manager"),
        "release_manager is viewer",
        NotAllowed,
    )


def electronic_signature(scene: Scene) -> Case:
    scene = scene.under("signing: true")
    for who in ("reviewer", "release_manager"):
        people.set_password(scene.signoff.database, who, "plain:own")
    ref, own = scene.submitted(), SecretStr("own")
    reviews.approve(scene.signoff, ref, by="reviewer", comment="Good.", password=own)
    return Case(
        lambda: releases.promote(scene.signoff, ref, by="release_manager", reason="Now.", password=own),
        lambda: scene.passes(timedelta(seconds=61)),
        "It was signed 6[0-9] seconds before",
    )


def reigning(scene: Scene) -> Case:
    reconciler.reconcile(scene.signoff)
    ref = scene.approved()

    def adopted() -> None:  # no verb can while the slot is held: the record names another champion
        with scene.signoff.database.writing() as connection:
            known = prescription.load(connection, "m")
            assert known
            state = replace(known.seen, aliases={}, versions={})
            prescription.save(connection, "m", replace(known, seen=state))

    return Case(
        lambda: promote(scene.signoff, ref), adopted, "v1 is the champion of m, and by the record it is no version"
    )


MEANWHILE: Mapping[str, Callable[[Scene], Case]] = {
    "now": now,
    "rollback": rollback,
    "submission": submission,
    "decisions": decisions,
    "findings": finding,
    "elsewhere": elsewhere,
    "bars": bars,
    "actor": actor,
    "reigning": reigning,
    "electronic_signature": electronic_signature,
}


@pytest.fixture
def scene(signoff: Signoff, registry: FakeRegistry, clock: Clock) -> Scene:
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    return Scene(signoff, registry, clock)


class TestEachFactOfTheMoment:
    def test_is_changed_here(self) -> None:
        assert MEANWHILE.keys() == OF_THE_MOMENT.keys()

    @pytest.mark.parametrize("fact", OF_THE_MOMENT)
    def test_that_changed_at_the_last_refuses_and_changes_nothing(self, scene: Scene, fact: str) -> None:
        signoff, registry = scene.signoff, scene.registry
        case = MEANWHILE[fact](scene)
        stages, aliases = [v.stage for v in registry._of("m")], registry.model("m").aliases
        before: list[str] = []

        def meanwhile() -> None:
            case.meanwhile()
            before.extend(kinds(signoff))
            registry.writes.clear()

        at_the_last(registry).meanwhile(meanwhile)
        with pytest.raises(case.error, match=case.why):
            case.attempt()
        assert before, "it happened before the attempt was refused"
        assert kinds(signoff) == [*before, "rollback:refused" if fact == "rollback" else "promotion:refused"]
        assert registry.writes == []
        assert ([v.stage for v in registry._of("m")], registry.model("m").aliases) == (stages, aliases)
        assert slot_is_free(signoff)
        with signoff.database.reading() as connection:
            assert in_flight(connection) == []

    @pytest.mark.parametrize("fact", OF_THE_MOMENT)
    def test_that_stays_as_it_was_refuses_nothing(self, scene: Scene, fact: str) -> None:
        MEANWHILE[fact](scene).attempt()
        assert kinds(scene.signoff)[-1] == ("rollback:confirmed" if fact == "rollback" else "promotion:confirmed")


class TestWhatTheGateIsHanded:
    def test_is_declared_by_checks_or_of_the_moment(self) -> None:
        """A new field of the facts, and a new fact that a view reads, must be said here, and be changed in a test."""
        assert FROM_FACTS.keys() == {field.name for field in fields(Facts) if field.init}
        read = frozenset[str]().union(*FROM_FACTS.values())
        assert read | {"policy", "actor", "electronic_signature"} == view._READ.keys() | OF_THE_MOMENT.keys()
