"""The model page: how did we get here?"""

from __future__ import annotations

import math

import pytest
from streamlit.testing.v1 import AppTest

from services.domain import Stage, VersionRef
from services.side_by_side import lineage
from services.signoff import Signoff
from tests.fakes import FakeRegistry
from tests.pages import opened, text
from tests.test_compare_page import NASTY, calls_of, link
from tests.test_releases import release
from tests.verbs import releases, reviews


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    return release(signoff, registry.add_version("m", {"val_auc": 0.95}))


def page(signoff: Signoff, name: str = "m", **query: str) -> AppTest:
    signoff.snapshot.refresh()
    at = opened(signoff, "viewer", "model", name=name, **query)
    assert not at.exception, at.exception
    return at


def select(at: AppTest, *rows: int) -> AppTest:
    at.session_state["versions:m"] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
    return at.run()


class TestTheChampion:
    def test_since_when_by_whom_and_how_good(self, signoff: Signoff, champion: VersionRef) -> None:
        at = page(signoff)
        words = text(at)
        assert "In Production: **[v2]" in words
        assert "promoted by **release_manager** · approved by **reviewer**" in words
        assert "First release." in words
        assert (at.metric[0].label, at.metric[0].value, at.metric[0].delta) == (r"val\_auc", "0.95", "+0.03 to v1")

    def test_one_that_came_past_us_is_said_so(self, signoff: Signoff, registry: FakeRegistry) -> None:
        registry.set_stage(registry.add_version("m", {"val_auc": 0.92}), Stage.PRODUCTION)
        assert "Came to Production past Signoff" in text(page(signoff))

    def test_none_yet(self, signoff: Signoff, registry: FakeRegistry) -> None:
        registry.add_version("m", {"val_auc": 0.92})
        assert "Nothing yet." in text(page(signoff))

    def test_after_a_rollback_it_is_the_earlier_one(self, signoff: Signoff, champion: VersionRef) -> None:
        releases.rollback(signoff, "m", by="release_manager", reason="It was slow.")
        words = text(page(signoff))
        assert "In Production: **[v1]" in words
        assert "It was slow." in words

    def test_a_worse_challenger_is_shown_as_worse(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        reviews.submit(signoff, registry.add_version("m", {"val_auc": 0.91}), by="scientist", comment="Look.")
        at = page(signoff)
        assert "Challenger: **[v3]" in text(at)
        assert at.metric[1].delta == "-0.04 to v2"


class TestVersions:
    def test_newest_first_with_all_that_matters(self, signoff: Signoff, champion: VersionRef) -> None:
        table = page(signoff).dataframe[0].value
        assert table["Version"].tolist() == ["v2", "v1"]
        assert [list(stage) for stage in table["Stage"]] == [["Production"], ["Archived"]]
        assert table["metric"].tolist() == [0.95, 0.92]
        assert table["Approved by"].tolist() == ["reviewer", "reviewer"]
        assert table["Author"].tolist() == ["trainer", "trainer"]

    def test_one_selected_can_be_opened(self, signoff: Signoff, champion: VersionRef) -> None:
        at = select(page(signoff), 1)
        assert at.button(key="compare_versions").disabled
        at.button(key="open_version").click().run()
        assert (link(at, "name"), link(at, "version")) == ("m", "1")

    def test_several_selected_can_be_compared_the_champion_first(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        registry.add_version("m", {"val_auc": 0.9})
        at = select(page(signoff), 0, 1, 2)
        assert at.button(key="open_version").disabled
        at.button(key="compare_versions").click().run()
        assert link(at) == "m:2,m:1,m:3"

    def test_more_than_ten_are_too_many(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        for _ in range(9):
            registry.add_version("m", {"val_auc": 0.9})
        at = select(page(signoff), *range(11))
        assert at.button(key="compare_versions").disabled
        assert "At most 10 versions can be compared." in text(at)

    def test_of_many_the_newest_with_a_note(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        for _ in range(60):
            registry.add_version("m", {"val_auc": 0.9})
        at = page(signoff)
        assert len(at.dataframe[0].value) == lineage.MAX_VERSIONS
        assert "The newest 50 of 62 versions." in text(at)
        assert "In Production: **[v2]" in text(at)


class TestCharts:
    def test_lanes_and_trend(self, signoff: Signoff, champion: VersionRef) -> None:
        assert len(page(signoff).get("plotly_chart")) == 2

    def test_the_metric_of_the_trend_is_part_of_the_link(self, signoff: Signoff, registry: FakeRegistry) -> None:
        registry.add_version("m", {"val_auc": 0.92, "loss": 0.1})
        assert page(signoff).selectbox(key="metric").value == "val_auc"
        assert page(signoff, metric="loss").selectbox(key="metric").value == "loss"
        assert page(signoff, metric="nonsense").selectbox(key="metric").value == "val_auc"

    def test_without_metrics_it_says_so(self, signoff: Signoff, registry: FakeRegistry) -> None:
        registry.add_version("m")
        assert "No run of this model has metrics." in text(page(signoff))


class TestBadInput:
    def test_no_name_says_where_to_find_one(self, signoff: Signoff, champion: VersionRef) -> None:
        assert "Choose it in the Registry" in text(opened(signoff, "viewer", "model"))

    @pytest.mark.parametrize("name", ["ghost", "<img src=x onerror=alert(1)>", "x" * 3000, "\x00"])
    def test_an_unknown_model_gets_one_sentence(self, signoff: Signoff, champion: VersionRef, name: str) -> None:
        assert "There is no registered model" in text(page(signoff, name))

    def test_no_versions_says_what_to_do(self, signoff: Signoff, registry: FakeRegistry) -> None:
        registry.add_model("m")
        assert "This model has no version yet." in text(page(signoff))

    @pytest.mark.parametrize("name", NASTY)
    def test_names_stay_names(self, signoff: Signoff, registry: FakeRegistry, name: str) -> None:
        registry.add_model(name, owner=name, team=name)
        ref = registry.add_version(name, {"val_auc": 0.95, name: math.nan}, author=name)
        registry.set_alias(ref, name)
        at = page(signoff, name)
        assert not any(element.allow_html for element in at.markdown)

    def test_a_deleted_run_is_no_evidence(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        registry.drop_run(champion)
        signoff.reader.forget()
        at = page(signoff)
        assert at.metric[0].value == "no evidence"
        assert at.dataframe[0].value["Run"].tolist()[0] == "no longer there"


class TestHowManyCalls:
    def test_one_for_all_runs_and_none_the_second_time(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        few = calls_of(signoff, registry, "model", name="m")
        for number in range(30):
            registry.add_version(f"model-{number}", {"val_auc": 0.9})
            registry.add_version("m", {"val_auc": 0.9})
        assert calls_of(signoff, registry, "model", name="m") == few == (1, 0)
