"""The record as people ask for it: filters, one record in full, back then, CSV, and the state of the chain."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, date, datetime, timedelta

import pytest

from components.events import event_line
from services.domain import VersionRef
from services.errors import NotFound, SignoffError
from services.gate import GateRefused
from services.record import witness
from services.record.deviations import open_deviations
from services.record.ledger import Kind
from services.signoff import Signoff
from services.views import event_csv, history
from services.views.history import ACTIONS, Asked
from services.views.production import production_at
from tests.conftest import Clock
from tests.fakes import FakeRegistry
from tests.ledgers import record
from tests.pages import opened, text
from tests.test_message_text import event as happened
from tests.test_releases import release
from tests.verbs import reconciler, releases, reviews


def listed(signoff: Signoff, **asked: object) -> list[str]:
    return [history.action(event.kind) for event in history.page(signoff, Asked(**asked)).events]


@pytest.fixture
def story(signoff: Signoff, registry: FakeRegistry, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """v1 of ``m`` is released, a day later v2 of ``m``; a promotion of ``n`` is refused in between; all witnessed."""
    monkeypatch.setattr(witness, "unwitnessed_since", lambda _: None)
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    clock.now += timedelta(hours=12)
    with pytest.raises(GateRefused):
        releases.promote(
            signoff, registry.add_version("n", {"val_auc": 0.1}), by="release_manager", reason="Just trying."
        )
    clock.now += timedelta(hours=12)
    release(signoff, registry.add_version("m", {"val_auc": 0.95}))


class TestWords:
    def test_every_kind_has_words_of_its_own(self) -> None:
        words = [history.action(kind) for kind in Kind]
        assert len(set(words)) == len(words)
        assert history.action(Kind.PROMOTION_CONFIRMED) == "Promoted"
        assert history.action(Kind.PROMOTION_REFUSED) == "Refused: promotion"

    def test_every_kind_has_a_sentence_of_its_own_in_the_thread_of_a_version(self) -> None:
        lines = {kind: event_line(happened(kind=kind.value), version=False) for kind in Kind}
        assert len(set(lines.values())) == len(lines)
        assert not [kind for kind, line in lines.items() if re.search(f"asked {kind.subject} |[{{}}]", line)]
        unclear = {kind.outcome for kind, line in lines.items() if "what became of it was not known" in line}
        assert unclear == {"unknown"}
        assert "assigned policies as tags and names choose them" in lines[Kind.POLICY_ASSIGNED]
        assert "asked to decide which policy judges it and was refused" in lines[Kind.POLICY_REFUSED]
        assert "began to promote it; a later record says what became of it" in lines[Kind.PROMOTION_INTENDED]

    def test_an_event_of_no_version_speaks_of_none(self) -> None:
        def line(kind: str) -> str:
            return event_line(happened(kind=kind, model=None, version=None), version=True)

        assert "assigned policies as tags and names choose them" in line("policy:assigned")
        assert "asked to roll back to a version and was refused" in line("rollback:refused")

    def test_every_kind_but_the_steps_can_be_filtered_by(self) -> None:
        offered = {kind for kinds in ACTIONS.values() for kind in kinds}
        assert offered == {kind for kind in Kind if kind.outcome != "intended"}


@pytest.mark.usefixtures("story")
class TestFilters:
    @pytest.mark.parametrize(
        ("asked", "found"),
        [
            ({"model": "n"}, ["Refused: promotion"]),
            ({"model": "m", "version": 2}, ["Promoted", "Approved", "Submitted"]),
            ({"person": "reviewer"}, ["Approved", "Approved"]),
            ({"actions": ("Promoted",)}, ["Promoted", "Promoted"]),
            ({"actions": ("Promoted", "Refused: anything")}, ["Promoted", "Refused: promotion", "Promoted"]),
            ({"model": "m", "until": date(2026, 11, 1)}, ["Promoted", "Approved", "Submitted", "Policy assigned"]),
            ({"since": date(2026, 11, 2)}, ["Promoted", "Approved", "Submitted"]),
            ({"since": date(2027, 1, 1)}, []),
            ({"until": date.max, "person": "reviewer"}, ["Approved", "Approved"]),
        ],
    )
    def test_each_narrows(self, signoff: Signoff, asked: dict[str, object], found: list[str]) -> None:
        assert listed(signoff, **asked) == found

    def test_steps_are_left_out_unless_asked_for(self, signoff: Signoff) -> None:
        assert not [words for words in listed(signoff) if words.startswith("Step")]
        assert listed(signoff, model="m", version=2, steps=True) == [
            "Promoted",
            "Step: promotion",
            "Approved",
            "Submitted",
            "Step: submission",
        ]

    def test_pages_follow_each_other_without_gap(self, signoff: Signoff) -> None:
        whole = [event.seq for event in history.page(signoff, Asked(), size=1000).events]
        first = history.page(signoff, Asked(), size=4)
        second = history.page(signoff, Asked(), size=1000, before=first.older)
        assert [event.seq for event in (*first.events, *second.events)] == whole
        assert (first.total, second.older) == (len(whole), None)

    def test_choices_are_who_and_what_is_in_the_record(self, signoff: Signoff) -> None:
        known = history.choices(signoff)
        assert known.models == ("m", "n")
        assert set(known.people) == {"signoff", "scientist", "reviewer", "release_manager"}


@pytest.mark.usefixtures("story")
class TestRecord:
    def test_a_promotion_shows_the_checks_of_the_step_it_closes(self, signoff: Signoff) -> None:
        promotion = record(signoff)[-1]
        found = history.record(signoff, promotion.seq)
        assert promotion.kind is Kind.PROMOTION_CONFIRMED
        assert found.opened_by is not None
        assert found.opened_by.kind is Kind.PROMOTION_INTENDED
        assert found.checks
        assert all(check["passed"] for check in found.checks)

    def test_it_was_measured_by_its_policys_first_metric(self, signoff: Signoff) -> None:
        found = history.measured(signoff, record(signoff)[-1])
        assert found is not None
        assert (found.name, found.value, found.champion) == ("val_auc", "0.95", "0.92")

    def test_an_unknown_number_is_not_found(self, signoff: Signoff) -> None:
        with pytest.raises(NotFound, match="#9999"):
            history.record(signoff, 9999)


class TestBackThen:
    def at(self, signoff: Signoff, moment: datetime, model: str | None = None) -> list[tuple[str, int]]:
        return [(held.name, held.version) for held in production_at(signoff, moment, model)]

    def test_the_last_release_before_the_moment_counts(self, signoff: Signoff, story: None) -> None:
        assert self.at(signoff, datetime(2026, 11, 1, 8, 0, tzinfo=UTC)) == []
        assert self.at(signoff, datetime(2026, 11, 1, 12, 0, tzinfo=UTC)) == [("m", 1)]
        assert self.at(signoff, datetime(2026, 11, 3, 0, 0, tzinfo=UTC)) == [("m", 2)]
        assert self.at(signoff, datetime(2026, 11, 3, 0, 0, tzinfo=UTC), "n") == []

    def test_it_says_who_why_and_on_what(self, signoff: Signoff, story: None) -> None:
        (held,) = production_at(signoff, signoff.now())
        promotion = record(signoff)[-1]
        assert (held.promoted_by, held.approved_by, held.reason) == (
            "release_manager",
            ("reviewer",),
            "First release.",
        )
        assert (held.event, held.since) == (promotion.seq, promotion.body["at"])
        assert held.digest == promotion.get("manifest_digest")
        assert held.policy == promotion.get("policy")

    def test_an_archived_champion_leaves_nobody(self, signoff: Signoff, clock: Clock, story: None) -> None:
        before = signoff.now()
        releases.archive(signoff, VersionRef(name="m", version=2), by="release_manager", reason="Switched off.")
        assert self.at(signoff, before) == [("m", 2)]
        assert self.at(signoff, signoff.now()) == []

    def test_archiving_the_one_that_was_replaced_changes_nothing(self, signoff: Signoff, story: None) -> None:
        releases.rollback(signoff, "m", by="release_manager", reason="Alerts.")
        releases.archive(signoff, VersionRef(name="m", version=2), by="release_manager", reason="Not again.")
        assert self.at(signoff, signoff.now()) == [("m", 1)]

    def test_a_rollback_names_who_approved_what_it_returned_to(self, signoff: Signoff, story: None) -> None:
        releases.rollback(signoff, "m", by="release_manager", reason="Alerts.")
        (held,) = production_at(signoff, signoff.now())
        assert (held.version, held.action, held.approved_by) == (1, "rollback", ("reviewer",))
        assert held.waived == ()

    def test_what_was_adopted_counts_from_then_on_and_nobody_approved_it(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock, story: None
    ) -> None:
        reconciler.reconcile(signoff)
        registry.set_stage(registry.add_version("m", {"val_auc": 0.1}), "Production", archive_existing=True)
        registry.set_alias(VersionRef(name="m", version=3), "champion")
        reconciler.reconcile(signoff)
        assert self.at(signoff, signoff.now()) == [("m", 2)]
        before = signoff.now()
        for found in open_deviations(signoff, "m"):
            clock.now += timedelta(minutes=1)
            reconciler.adopt(signoff, found.id, by="release_manager", reason="It was urgent.")
        (held,) = production_at(signoff, signoff.now(), "m")
        assert (held.version, held.action, held.promoted_by) == (3, "adopt", "release_manager")
        assert (held.approved_by, held.reason, held.policy, held.digest) == ((), "It was urgent.", "", "")
        assert self.at(signoff, before) == [("m", 2)]

    def test_what_was_adopted_beside_the_champion_is_not_the_champion(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock, story: None
    ) -> None:
        reconciler.reconcile(signoff)
        registry.set_stage(registry.add_version("m", {"val_auc": 0.1}), "Production")
        reconciler.reconcile(signoff)
        (found,) = open_deviations(signoff, "m")
        clock.now += timedelta(minutes=1)
        reconciler.adopt(signoff, found.id, by="release_manager", reason="For a while.")
        assert self.at(signoff, signoff.now()) == [("m", 2)]

    def test_a_champion_that_was_deleted_and_adopted_so_leaves_nobody(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock, story: None
    ) -> None:
        reconciler.reconcile(signoff)
        registry.drop_version(VersionRef(name="m", version=2))
        reconciler.reconcile(signoff)
        (found,) = open_deviations(signoff, "m")
        clock.now += timedelta(minutes=1)
        reconciler.adopt(signoff, found.id, by="release_manager", reason="It had to go.")
        assert self.at(signoff, signoff.now()) == []


class TestCsv:
    def written(self, signoff: Signoff, **asked: object) -> list[dict[str, str]]:
        file = io.StringIO(newline="")
        event_csv.write(history.stream(signoff, Asked(**asked)), file)
        return list(csv.DictReader(io.StringIO(file.getvalue(), newline="")))

    def test_it_holds_what_fits_the_filters(self, signoff: Signoff, story: None) -> None:
        rows = self.written(signoff, actions=("Promoted",))
        assert [(row["model"], row["version"], row["person"]) for row in rows] == [
            ("m", "2", "release_manager"),
            ("m", "1", "release_manager"),
        ]
        assert rows[0]["metrics"] == "val_auc=0.95"
        assert rows[0]["approved_by"] == "reviewer"

    def test_names_and_comments_of_any_kind_survive(self, signoff: Signoff, registry: FakeRegistry) -> None:
        name = '=HYPERLINK("x","y")'
        reviews.submit(
            signoff, registry.add_version(name, {"val_auc": 0.9}), by="scientist", comment='two\nlines, "quoted"'
        )
        row = self.written(signoff, actions=("Submitted",))[0]
        assert (row["model"], row["comment"]) == (f"'{name}", 'two\nlines, "quoted"')


@pytest.mark.usefixtures("story")
class TestPage:
    def rows(self, signoff: Signoff, **query: str) -> list[str]:
        at = opened(signoff, "auditor", "history", **query)
        assert not at.exception, at.exception
        return [cell[0] for cell in at.dataframe[0].value["what"]] if at.dataframe else []

    def test_it_lists_events_newest_first_and_says_the_record_is_intact(self, signoff: Signoff) -> None:
        assert self.rows(signoff)[:4] == ["Promoted", "Approved", "Submitted", "Refused: promotion"]
        assert "Record intact" in text(opened(signoff, "auditor", "history"))

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"model": "n"}, ["Refused: promotion"]),
            ({"model": "m", "v": "1"}, ["Promoted", "Approved", "Submitted", "Policy assigned"]),
            ({"person": "reviewer"}, ["Approved", "Approved"]),
            ({"action": "Refused: promotion"}, ["Refused: promotion"]),
            ({"since": "2026-11-02"}, ["Promoted", "Approved", "Submitted"]),
            ({"until": "2026-10-01"}, []),
            ({"before": "8"}, ["Submitted", "Policy assigned", "Accounts met", *["Policy activated"] * 3]),
        ],
    )
    def test_its_link_says_what_is_listed(self, signoff: Signoff, query: dict[str, str], found: list[str]) -> None:
        assert self.rows(signoff, **query) == found

    def test_a_moment_shows_who_was_in_production(self, signoff: Signoff) -> None:
        at = opened(signoff, "auditor", "history", as_of="2026-11-01T12:00")
        assert at.dataframe[0].value["version"].iloc[0] == ["m v1"]

    def test_a_link_to_a_record_shows_all_of_it(self, signoff: Signoff) -> None:
        promotion = record(signoff)[-1]
        at = opened(signoff, "auditor", "history", event=str(promotion.seq))
        assert not at.exception, at.exception
        shown = (
            text(at) + " ".join(str(table.value.to_dict()) for table in at.table) + " ".join(e.value for e in at.text)
        )
        for part in ("Promoted", "m v2", "First release.", "Archived", "0.95", "0.92", "reviewer", promotion.hash):
            assert part in shown.replace("\\", ""), part
        assert promotion.body["previous"] in shown

    @pytest.mark.parametrize("event", ["x", "0", "-1", "99999", "1" * 100, "٣", ""])
    def test_a_link_to_no_record_is_one_sentence(self, signoff: Signoff, event: str) -> None:
        at = opened(signoff, "auditor", "history", event=event)
        assert not at.exception, at.exception
        assert len(at.warning) + len(at.info) == 1

    def test_nothing_found_offers_to_clear_the_filters(self, signoff: Signoff) -> None:
        at = opened(signoff, "auditor", "history", v="99")
        assert "Nothing in the record fits" in text(at)
        at.button(key="clear-all").click().run()
        assert at.dataframe

    def test_the_timeline_has_links(self, signoff: Signoff) -> None:
        at = opened(signoff, "auditor", "history", view="Timeline")
        assert not at.dataframe
        assert "/history?event=" in text(at)

    def test_a_record_opens_while_mlflow_is_away(
        self, signoff: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signoff.reader.forget()

        def away(*_: object) -> None:
            raise SignoffError("MLflow is gone.")

        monkeypatch.setattr(registry, "run", away)
        at = opened(signoff, "auditor", "history", event=str(record(signoff)[-1].seq))
        assert not at.exception, at.exception
