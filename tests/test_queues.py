"""Queues and histories of any length: no number hides what comes after it, and a long list says that it goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from components import submissions as cards
from services import caretaker, facts, gate
from services.accounts import people
from services.domain import Action, Source, Status, VersionRef
from services.errors import NotAllowed
from services.policy import PolicyBook, parse
from services.signoff import Signoff
from services.tables import decisions, promotions, submissions
from services.views import dossier, inbox, overview
from tests.conftest import BOTH, Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds
from tests.pages import opened, text
from tests.test_policy import GOOD
from tests.verbs import releases, reviews

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

    @pytest.mark.parametrize("database_url", BOTH, indirect=True)
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

    def test_a_page_draws_some_and_says_how_many_there_are(
        self, signoff: Signoff, ref: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cards, "STEP", 2)
        at = opened(signoff, "reviewer", "review")
        assert f"{MANY + 1} waiting for a decision" in text(at)
        assert f"The first 2 of {MANY + 1} are shown." in text(at)
        next(button for button in at.button if button.label == "Show more").click().run()
        assert f"The first 4 of {MANY + 1} are shown." in text(at)


class TestBehindManyReleases:
    """``m`` went to version 2 and after that other models, and other versions of it, were released many times."""

    @pytest.fixture
    def champion(self, signoff: Signoff, registry: FakeRegistry) -> VersionRef:
        for value in (0.91, 0.95):
            ref = registry.add_version("m", {"val_auc": value})
            reviews.submit(signoff, ref, by="scientist", comment="Please look.")
            reviews.approve(signoff, ref, by="reviewer", comment="Fine.")
            releases.promote(signoff, ref, by="release_manager", reason="Better.")
        signoff.snapshot.refresh()
        return ref

    def released(self, signoff: Signoff, count: int, **values: object) -> None:
        """As many newer releases like the last one, but for these values."""
        with signoff.database.writing() as connection:
            last = connection.execute(sa.select(promotions).order_by(promotions.c.seq.desc()).limit(1)).one()
            common = {**last._mapping, **values}
            rows = [
                {**common, "id": -n, "seq": last.seq + 1000 + n, "intent": f"copy {n}"} for n in range(1, count + 1)
            ]
            connection.execute(promotions.insert(), rows)

    @pytest.mark.parametrize("database_url", BOTH, indirect=True)
    def test_a_version_keeps_its_own(self, signoff: Signoff, champion: VersionRef) -> None:
        was = dossier.verdict(signoff, champion)[0]
        self.released(signoff, 101, identity="another one of that number", version=3)
        first = VersionRef(name="m", version=1)
        found = dossier.open_dossier(signoff, first)
        assert [release.ref for release in found.releases] == [first]
        assert Action.ROLLBACK in found.actions(people.acting(signoff.database, "release_manager", Source.BROWSER))
        assert dossier.verdict(signoff, champion)[0] == was, "as it was released"

    def test_a_model_keeps_its_way_back_and_home_says_since_when(self, signoff: Signoff, champion: VersionRef) -> None:
        self.released(signoff, 1001, model="n")
        assert VersionRef(name="m", version=1) in [way.target for way in releases.ways_back(signoff)]
        assert releases.previous_champion(signoff, "m") == 1
        (shown,) = overview.overview(signoff).champions
        assert shown.release
        assert (shown.release.ref, shown.before) == (champion, 1)

    def test_a_long_list_says_that_there_are_more(self, signoff: Signoff, champion: VersionRef) -> None:
        at = opened(signoff, "release_manager", "promotions")
        assert "History has all of them." not in text(at)
        self.released(signoff, 24, model="n")
        assert "The newest 25. History has all of them." in text(at.run())


class TestBehindManyEvents:
    @pytest.fixture
    def champion(self, signoff: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> VersionRef:
        monkeypatch.setattr(dossier, "MAX_EVENTS", 2)
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please look.")
        reviews.approve(signoff, ref, by="reviewer", comment="Fine.")
        releases.promote(signoff, ref, by="release_manager", reason="Better.")
        for _ in range(2):
            with pytest.raises(NotAllowed):
                reviews.submit(signoff, ref, by="viewer", comment=f"Please look once more, {_}.")
        signoff.snapshot.refresh()
        return ref

    def test_a_version_has_its_release_and_its_approval(self, signoff: Signoff, champion: VersionRef) -> None:
        found = dossier.open_dossier(signoff, champion)
        assert found.more_events
        assert found.released
        assert found.released.kind == "promotion:confirmed"
        assert found.verdict == found.released.verdict
        approved = next(step for step in found.lifecycle if step.title == "Approve")
        assert (approved.mark, approved.detail) == (dossier.Mark.DONE, "by reviewer")

    def test_the_thread_says_that_there_were_more(self, signoff: Signoff, champion: VersionRef) -> None:
        assert "What came before" in text(opened(signoff, "reviewer", "version", name="m", version="1"))


def test_a_request_for_changes_refuses_behind_many_rejections_of_the_same_bytes(
    signoff: Signoff, registry: FakeRegistry
) -> None:
    """What refuses is never among what is left out: only rejections, which refuse nothing, are."""
    bytes_ = {"MLmodel": b"flavors: {}\n"}
    asked, ref = (registry.add_version(name, {"val_auc": 0.95}, files=bytes_) for name in ("asked", "m"))
    reviews.submit(signoff, asked, by="scientist", comment="Please look.")
    reviews.request_changes(signoff, asked, by="reviewer", comment="Explain the data.")
    reviews.submit(signoff, ref, by="scientist", comment="Please look.")
    with signoff.database.writing() as connection:
        row = connection.execute(sa.select(submissions).where(submissions.c.model == "asked")).one()
        vote = connection.execute(sa.select(decisions)).one()
        for number in range(1, 26):
            rejected = {"id": -number, "model": f"other{number}", "status": "rejected"}
            connection.execute(submissions.insert().values({**row._mapping, **rejected}))
            no = {"id": -number, "submission": -number, "decision": "rejected", "seq": vote.seq + number}
            connection.execute(decisions.insert().values({**vote._mapping, **no}))
    policy, seen = facts.shown(signoff, ref)
    check = next(one for one in gate.evaluate(policy, seen).checks if one.id == "elsewhere")
    assert not check.passed
    assert check.reason.startswith("reviewer requested changes of asked/v1")
    assert check.reason.endswith("There are 6 more.")
