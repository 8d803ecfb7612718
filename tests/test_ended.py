"""A version that is no longer in review says who ended that, when and why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services import facts, gate
from services.domain import VersionRef
from services.gate import GateRefused
from services.signoff import Signoff
from services.views import dossier
from tests.fakes import FakeRegistry
from tests.test_releases import approve, release
from tests.verbs import break_glass, releases, reviews

NEVER = "It was not submitted for review."
SINCE = " It was not submitted for review since."


@pytest.fixture
def ref(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 2, submitted; version 1 is in Production."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    found = registry.add_version("m", {"val_auc": 0.95})
    reviews.submit(signoff, found, by="scientist", comment="Look.")
    return found


def said(signoff: Signoff, ref: VersionRef) -> str:
    """What the check ``submitted`` says, the same fresh and on a page."""
    policy, seen = facts.fresh(signoff, ref)
    reason = {check.id: check.reason for check in gate.evaluate(policy, seen).checks}["submitted"]
    signoff.snapshot.refresh()
    shown = {check.id: check.reason for check in dossier.verdict(signoff, ref)[0].checks}["submitted"]
    assert shown == reason
    return reason


def reject(signoff: Signoff, ref: VersionRef) -> None:
    reviews.reject(signoff, ref, by="reviewer", comment="It misses\nthe young.")


def withdraw(signoff: Signoff, ref: VersionRef) -> None:
    reviews.withdraw(signoff, ref, by="scientist", comment="Wrong file.")


def archive(signoff: Signoff, ref: VersionRef) -> None:
    releases.archive(signoff, ref, by="release_manager", reason="Tidying up.")


ENDS: dict[str, tuple[Callable[[Signoff, VersionRef], None], str]] = {
    "rejected": (reject, "reviewer rejected it on 2026-11-01: It misses the young."),
    "withdrawn": (withdraw, "It was withdrawn by scientist on 2026-11-01: Wrong file."),
    "archived": (archive, "release_manager archived it on 2026-11-01: Tidying up."),
}


class TestNoLongerInReview:
    @pytest.mark.parametrize("how", ENDS)
    def test_says_who_ended_it_when_and_why(self, signoff: Signoff, ref: VersionRef, how: str) -> None:
        end, sentence = ENDS[how]
        end(signoff, ref)
        assert said(signoff, ref) == sentence + SINCE
        with pytest.raises(GateRefused, match=sentence):
            releases.promote(signoff, ref, by="release_manager", reason="x")

    def test_replaced_says_by_which_version(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        reviews.approve(signoff, ref, by="reviewer", comment="Fine.")
        releases.promote(signoff, ref, by="release_manager", reason="Fewer misses.")
        assert said(signoff, VersionRef(name="m", version=1)) == (
            f"v2 replaced it on 2026-11-01, promoted by release_manager: Fewer misses.{SINCE}"
        )

    def test_rolled_back_says_by_whom_and_why(self, signoff: Signoff, ref: VersionRef) -> None:
        reviews.approve(signoff, ref, by="reviewer", comment="Fine.")
        releases.promote(signoff, ref, by="release_manager", reason="Fewer misses.")
        releases.rollback(signoff, "m", by="release_manager", reason="It answers slowly.")
        sentence = "release_manager rolled back from it to v1 on 2026-11-01: It answers slowly."
        assert said(signoff, ref) == sentence + SINCE
        with pytest.raises(GateRefused, match=sentence):
            releases.promote(signoff, ref, by="release_manager", reason="x")

    def test_replaced_in_an_emergency_says_so(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        event = break_glass.ask(signoff, ref, by="break_glass", reason="Nonsense since noon.").event
        assert event
        break_glass.confirm(signoff, event.seq, by="release_manager", comment="Agreed.")
        assert said(signoff, VersionRef(name="m", version=1)) == (
            f"v2 replaced it on 2026-11-01 in an emergency, confirmed by release_manager: Agreed.{SINCE}"
        )

    def test_the_last_end_counts(self, signoff: Signoff, ref: VersionRef) -> None:
        reject(signoff, ref)
        reviews.submit(signoff, ref, by="scientist", comment="Again.")
        assert said(signoff, ref) == "It was submitted for review."
        withdraw(signoff, ref)
        assert said(signoff, ref).startswith("It was withdrawn by scientist")

    def test_long_words_are_cut(self, signoff: Signoff, ref: VersionRef) -> None:
        reviews.reject(signoff, ref, by="reviewer", comment="long " * 200)
        assert len(said(signoff, ref)) < 400


class TestNeverInReview:
    def test_is_still_said_of_a_new_version(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        reject(signoff, ref)
        assert said(signoff, registry.add_version("m", {"val_auc": 0.95})) == NEVER

    def test_is_said_of_a_later_version_of_the_same_number(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reject(signoff, ref)
        registry.drop_version(ref)
        assert registry.add_version("m", {"val_auc": 0.95}) == ref
        assert said(signoff, ref) == NEVER

    def test_is_said_of_a_model_of_another_name(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        reject(signoff, ref)
        other = [registry.add_version("n", {"val_auc": 0.95}) for _ in range(2)][1]
        assert said(signoff, other) == NEVER
        approve(signoff, other)
        assert said(signoff, other) == "It was submitted for review."
