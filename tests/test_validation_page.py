"""Validations on the version page: what was found in one sentence first, what is under way, and who may ask."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from services.domain import VersionRef
from services.evidence import canonical
from services.signoff import Signoff
from services.tables import validations as table
from services.validation import jobs, uploads
from services.validation.jobs import Origin, State, Wanted
from services.validation.record import Validation
from services.validation.report import (
    Calibration,
    CalibrationBin,
    Conclusion,
    Interval,
    Latency,
    Method,
    Report,
    SliceResult,
)
from services.validation.worker import Validator
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.pages import opened, text
from tests.test_releases import release
from tests.validation import Evaluator, on_record
from tests.verbs import validations

NASTY = "<img src=x onerror=alert(1)> *bold*"


@pytest.fixture
def ref(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    return registry.add_version("m", {"val_auc": 0.95})


def page(signoff: Signoff, ref: VersionRef, username: str = "scientist") -> AppTest:
    signoff.snapshot.refresh()
    signoff.reader.forget()
    at = opened(signoff, username, "version", name=ref.name, version=str(ref.version))
    assert not at.exception, at.exception
    return at


def detailed(found: Report) -> Report:
    """With everything a report can have."""
    calibration = Calibration(
        positive="1",
        bins=(
            CalibrationBin(rows=50, predicted=0.2, observed=0.1),
            CalibrationBin(rows=50, predicted=0.8, observed=0.9),
        ),
        brier=0.05,
        ece=0.1,
    )
    latency = Latency(
        batch_rows=100, batch_seconds=0.002, single_calls=50, single_ms_p50=0.4, single_ms_p95=0.9, load_seconds=1.5
    )
    models = [replace(one, calibration=calibration, latency=latency) for one in (found.candidate, found.current) if one]
    part = SliceResult(
        column=NASTY,
        value="1.5 – 3.2",
        rows=40,
        metric="roc_auc",
        greater_is_better=True,
        candidate=0.9,
        current=0.8,
        difference=0.1,
        interval=Interval(low=0.05, high=0.15, confidence=0.95),
        conclusion=Conclusion.BETTER,
    )
    small = SliceResult(
        column=NASTY,
        value="rare",
        rows=3,
        metric="roc_auc",
        greater_is_better=True,
        note="too few rows to say anything",
    )
    tested = replace(found.metrics[0], method=Method.DELONG, p_value=0.0004)
    return replace(
        found,
        candidate=replace(models[0], output=NASTY),
        current=models[1],
        metrics=(tested,),
        slices=(part, small),
        warnings=("Only 100 rows.",),
        libraries={"scikit-learn": "1.9.1"},
    )


def with_report(signoff: Signoff, done: Validation, found: Report) -> None:
    with signoff.database.writing() as connection:
        text_of = canonical(found.as_json()).decode()
        connection.execute(table.update().where(table.c.seq == done.seq).values(report=text_of))


class TestTheReport:
    def test_one_sentence_first_then_every_figure(self, signoff: Signoff, ref: VersionRef) -> None:
        done = on_record(signoff, ref)
        with_report(signoff, done, detailed(done.report))
        at = page(signoff, ref, "reviewer")
        words = text(at)
        assert "v2 beats v1 on roc_auc by 0.02 (95 % interval 0.01 to 0.03, 100 rows)." in words
        assert f'href="/history?event={done.seq}"' in words
        table_ = next(one.value for one in at.table if "v1 (champion)" in one.value.columns)
        assert table_.iloc[0].tolist() == [
            "**0\\.92**",
            "0\\.9",
            "\\+0\\.02",
            "\\+0\\.01 to \\+0\\.03",
            "DeLong, p \\< 0\\.001",
            ":green[▲ better]",
        ]
        assert "Brier 0.0500, ECE 0.1000" in words
        assert "rare (3 rows): too few rows" in words
        assert len(at.get("plotly_chart")) >= 2
        latency = next(one.value for one in at.table if "One row, median" in one.value.columns)
        assert latency.iloc[0].tolist()[:3] == ["0.40 ms", "0.90 ms", "2.0 ms for 100 rows"]
        assert "Only 100 rows." in words

    def test_not_enough_evidence_names_no_winner(self, signoff: Signoff, ref: VersionRef) -> None:
        on_record(signoff, ref, gain=0.01, within=0.02)
        words = text(page(signoff, ref))
        assert "Not enough evidence that v2 and v1 differ on roc_auc" in words
        assert "beats" not in words.split("Not enough evidence")[1][:400]

    def test_one_that_no_longer_counts_says_why(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        on_record(signoff, ref)
        assert "No longer counts" not in text(page(signoff, ref))
        registry.write_file(ref, "model.skops", b"other bytes")
        assert "**No longer counts:** the model's files changed." in text(page(signoff, ref))

    def test_of_several_the_newest_is_shown_and_others_can_be_chosen(self, signoff: Signoff, ref: VersionRef) -> None:
        first = on_record(signoff, ref, gain=0.05)
        on_record(signoff, ref, gain=0.02)
        at = page(signoff, ref)
        assert "by 0.02 (" in text(at)
        at.selectbox(key="validation-chosen").select_index(1).run()
        assert f'href="/history?event={first.seq}"' in text(at)
        assert "by 0.05 (" in text(at)

    def test_of_none_it_says_so(self, signoff: Signoff, ref: VersionRef) -> None:
        assert "Nobody has validated this version yet" in text(page(signoff, ref))

    def test_without_a_champion_it_stands_alone(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("new", {"val_auc": 0.9})
        on_record(signoff, ref)
        assert "there is no champion to compare with" in text(page(signoff, ref))


class TestUnderWay:
    def waiting(self, signoff: Signoff, ref: VersionRef) -> int:
        wanted = Wanted(origin=Origin.PLACE, name=NASTY, target="y")
        return validations.ask(signoff, ref, wanted, by="scientist").job or 0

    def test_shows_how_far_it_is(self, signoff: Signoff, ref: VersionRef) -> None:
        number = self.waiting(signoff, ref)
        claimed = jobs.claim(signoff.database, uploads.place(signoff.settings), at=signoff.now())
        assert claimed
        jobs.note(signoff.database, claimed, "Predicting with v2", 0.4, at=signoff.now())
        at = page(signoff, ref, "viewer")
        (bar,) = at.get("progress")
        assert (bar.proto.value, "Predicting with v2" in bar.proto.text) == (40, True)
        assert f"#{number}" in bar.proto.text
        assert any("Predicting with v2" in code.value for code in at.code)
        assert not [button for button in at.button if button.label == "Cancel"], "a viewer only looks"

    def test_can_be_cancelled(self, signoff: Signoff, ref: VersionRef) -> None:
        number = self.waiting(signoff, ref)
        at = page(signoff, ref)
        at.button(key=f"cancel-validation:{number}").click().run()
        assert not at.exception
        assert jobs.find(signoff.database, ref, number).state is State.CANCELLED
        assert kinds(signoff)[-1] == "validation:cancelled"
        assert "Cancelled by scientist." in text(at)

    def test_that_failed_says_why_and_that_nothing_counts(self, signoff: Signoff, ref: VersionRef) -> None:
        self.waiting(signoff, ref)
        Validator(signoff, Evaluator()).turn()
        words = text(page(signoff, ref))
        assert "Failed" in words
        assert "Nothing was recorded as evidence." in words


class TestTheForm:
    @pytest.mark.parametrize("username", ["viewer", "auditor", "admin"])
    def test_is_only_for_those_who_may(self, signoff: Signoff, ref: VersionRef, username: str) -> None:
        at = page(signoff, ref, username)
        assert not [button for button in at.button if button.label == "Validate"]

    def test_a_scientist_cannot_consent_and_a_reviewer_can(self, signoff: Signoff, ref: VersionRef) -> None:
        assert not [box for box in page(signoff, ref).checkbox if "consent" in box.label]
        assert [box for box in page(signoff, ref, "reviewer").checkbox if "consent" in box.label]

    def test_without_a_file_asks_for_one(self, signoff: Signoff, ref: VersionRef) -> None:
        at = page(signoff, ref)
        next(button for button in at.button if button.label == "Validate").click().run()
        assert "Choose a file first." in text(at)
        assert "validation:requested" not in kinds(signoff)

    def test_asks_on_a_data_set_its_run_logged(self, signoff: Signoff, ref: VersionRef) -> None:
        at = page(signoff, ref, "reviewer")
        at.radio(key="validate-origin").set_value(Origin.DATASET).run()
        at.text_input(key="validate-target").set_value("target")
        at.checkbox(key="validate-consent").set_value(True)
        at.text_input(key="validate-words").set_value("I read its code.")
        next(button for button in at.button if button.label == "Validate").click().run()
        assert not at.exception
        asked = record(signoff)[-1]
        assert (asked.kind.value, asked.actor, asked.comment) == (
            "validation:requested",
            "reviewer",
            "I read its code.",
        )
        assert (asked.get("holdout"), asked.get("origin"), asked.get("consent")) == ("aaaaaaaa", "dataset", True)
        assert "waits for its turn" in text(at)

    def test_a_wrong_target_is_one_sentence(self, signoff: Signoff, ref: VersionRef) -> None:
        at = page(signoff, ref)
        at.radio(key="validate-origin").set_value(Origin.DATASET).run()
        next(button for button in at.button if button.label == "Validate").click().run()
        assert "The target must be named" in text(at)
        with signoff.database.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(jobs.table)).scalar() == 0
