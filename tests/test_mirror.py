"""Tags that MLflow refuses: they are tried again less and less often, in nobody else's request, and people are told."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from services.domain import VersionRef
from services.errors import BadInput
from services.record import mirror
from services.signoff import Signoff
from services.tables import mirror_jobs
from tests.conftest import BOTH, Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds
from tests.pages import opened, text
from tests.verbs import reviews

DATABASES = BOTH
pytestmark = pytest.mark.postgresql
MANY = 7
"""Failures after which the tag waits for minutes."""


@pytest.fixture
def refused(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """A submitted version one of whose tags MLflow refuses, as often as anybody tries to write it."""
    ref = registry.add_version("refused", {"val_auc": 0.95})

    def refuse(what: str) -> None:
        if what == f"tag {ref} approval_status":
            raise BadInput("MLflow does not accept the tag approval_status.")

    registry.before_write = refuse
    reviews.submit(signoff, ref, by="scientist", comment="Please.")
    return ref


def attempts(signoff: Signoff) -> int:
    with signoff.database.reading() as connection:
        return connection.execute(sa.select(sa.func.sum(mirror_jobs.c.attempts))).scalar() or 0


def fail(signoff: Signoff, times: int = mirror.TRIES) -> None:
    while attempts(signoff) < times:  # each look at the clock of these tests takes a second
        mirror.flush(signoff)


class TestARefusedTag:
    def test_is_tried_in_no_request_about_another_version(
        self, signoff: Signoff, registry: FakeRegistry, refused: VersionRef
    ) -> None:
        fail(signoff, MANY)
        other = registry.add_version("other", {"val_auc": 0.95})
        reviews.submit(signoff, other, by="scientist", comment="Please.")
        reviews.approve(signoff, other, by="reviewer", comment="Good.")
        assert attempts(signoff) == MANY
        assert registry.version(other).tags["approval_status"] == "approved"

    def test_waits_twice_as_long_after_each_failure_and_five_minutes_at_most(
        self, signoff: Signoff, clock: Clock, refused: VersionRef
    ) -> None:
        fail(signoff)
        for seconds in (10, 20, 40, 80, 160, 300, 300, 300):
            failed = attempts(signoff)
            clock.now += timedelta(seconds=seconds - 2)
            assert (mirror.flush(signoff), attempts(signoff)) == (0, failed)  # which takes a second
            clock.now += timedelta(seconds=1)
            assert (mirror.flush(signoff), attempts(signoff)) == (1, failed + 1)

    def test_is_tried_at_once_when_something_happens_to_its_version(
        self, signoff: Signoff, registry: FakeRegistry, refused: VersionRef
    ) -> None:
        fail(signoff)
        registry.before_write = lambda _: None
        reviews.approve(signoff, refused, by="reviewer", comment="Good.")
        assert registry.version(refused).tags["approval_status"] == "approved"
        assert mirror.stuck(signoff.database) == ()

    def test_is_tried_at_once_where_the_clock_was_set_back(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock, refused: VersionRef
    ) -> None:
        fail(signoff)
        registry.before_write = lambda _: None
        assert "approval_status" not in registry.version(refused).tags
        clock.now -= timedelta(days=365)
        mirror.flush(signoff)
        assert registry.version(refused).tags["approval_status"] == "pending"

    def test_is_named_on_home_once_it_failed_again_and_again_and_recorded_as_nothing(
        self, signoff: Signoff, refused: VersionRef
    ) -> None:
        before = kinds(signoff)
        assert mirror.stuck(signoff.database) == ()
        fail(signoff)
        shown = text(opened(signoff, "viewer", "home"))
        assert "refused/v1 in MLflow are not as the record says: writing them failed 3 times." in shown
        assert "MLflow does not accept the tag approval_status." in shown
        assert kinds(signoff) == before
