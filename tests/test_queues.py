"""Queues and histories of any length: no number hides what comes after it, and a long list says that it goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from services import caretaker
from services.accounts import people
from services.domain import Source, Status, VersionRef
from services.policy import PolicyBook, parse
from services.signoff import Signoff
from services.tables import submissions
from services.verbs import reviews
from services.views import inbox, overview
from tests.conftest import BOTH, Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds
from tests.pages import opened, text
from tests.test_policy import GOOD

DATABASES = BOTH
MANY = 101
"""More than any list shows at once."""


def older(signoff: Signoff, ref: VersionRef, count: int = MANY) -> None:
    """As many pending submissions, made before that of ``ref``, of models that nobody finds in MLflow any more."""
    with signoff.database.writing() as connection:
        row = connection.execute(sa.select(submissions).where(submissions.c.model == ref.name)).one()
        common = {**row._mapping, "submitted_at": "2026-10-01T09:00:00.000+00:00", "status": Status.PENDING.value}
        common |= {"manifest": None, "run_id": None, "model_id": None}
        rows = [{**common, "id": -number, "model": f"old{number:03d}"} for number in range(1, count + 1)]
        connection.execute(submissions.insert(), rows)


class TestBehindALongQueue:
    @pytest.fixture
    def signoff(self, signoff: Signoff) -> Signoff:
        """Under a policy whose approvals expire."""
        short = parse(GOOD + "approvals_expire_after_days: 7\n", "short.yaml")
        return replace(signoff, policies=PolicyBook(policies=(short,)))

    @pytest.fixture
    def ref(self, signoff: Signoff, registry: FakeRegistry) -> VersionRef:
        """The newest of many open submissions."""
        found = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, found, by="scientist", comment="Please look.")
        older(signoff, found)
        return found

    def test_an_approval_expires(self, signoff: Signoff, ref: VersionRef, clock: Clock) -> None:
        reviews.approve(signoff, ref, by="reviewer", comment="Fine.")
        clock.now += timedelta(days=6)
        caretaker.tidy(signoff)
        assert "approval:expired" not in kinds(signoff)
        clock.now += timedelta(days=2)
        caretaker.tidy(signoff)
        caretaker.tidy(signoff)
        assert kinds(signoff).count("approval:expired") == 1
        assert inbox.queue(signoff, Status.EXPIRED)[0].ref == ref

    def test_home_counts_all_of_them(self, signoff: Signoff, ref: VersionRef) -> None:
        assert overview.overview(signoff).count(Status.PENDING) == MANY + 1

    def test_the_next_one_to_review_is_found(self, signoff: Signoff, ref: VersionRef, registry: FakeRegistry) -> None:
        after = registry.add_version("n", {"val_auc": 0.95})
        reviews.submit(signoff, after, by="scientist", comment="Please look.")
        both = people.acting(signoff.database, "reviewer", Source.BROWSER)
        with signoff.database.writing() as connection:
            connection.execute(
                submissions.update().where(submissions.c.model.like("old%")).values(submitted_by_id=both.person)
            )
        assert inbox.next_for(signoff, both, after=ref) == after

    def test_a_page_draws_some_and_says_how_many_there_are(self, signoff: Signoff, ref: VersionRef) -> None:
        at = opened(signoff, "reviewer", "review")
        assert f"{MANY + 1} waiting for a decision" in text(at)
        assert f"The first 25 of {MANY + 1} are shown." in text(at)
        next(button for button in at.button if button.label == "Show more").click().run()
        assert f"The first 50 of {MANY + 1} are shown." in text(at)
