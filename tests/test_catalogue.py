"""The list of registered models: what a row says, what a search finds, what it costs."""

from __future__ import annotations

import time

import pytest

from services.errors import RegistryUnavailable
from services.signoff import Signoff
from services.views import catalogue, rows
from services.views.catalogue import Query, Sort
from services.views.rows import Row
from tests.fakes import FakeRegistry
from tests.pages import opened, text
from tests.test_releases import release
from tests.verbs import reviews

NASTY = ["<img src=x onerror=alert(1)>", "\u202egnp.exe", "a\0b", "=HYPERLINK(1)", "[a](b) *c*", "мodel", "a\nb"]


def names(signoff: Signoff, **query: object) -> list[str]:
    return [row.name for row in catalogue.search(signoff, Query(**query)).rows]


def row(signoff: Signoff, name: str) -> Row:
    (found,) = (row for row in catalogue.search(signoff, Query(page_size=1000)).rows if row.name == name)
    return found


@pytest.fixture
def three(signoff: Signoff, registry: FakeRegistry) -> None:
    """``fraud`` in Production with a challenger, ``churn`` never submitted, ``old`` without any version."""
    registry.add_model("fraud", owner="Ann", domain="Payments")
    registry.add_model("churn", owner="bob")
    registry.add_model("old")
    release(signoff, registry.add_version("fraud", {"val_auc": 0.92}))
    reviews.submit(signoff, registry.add_version("fraud", {"val_auc": 0.95}), by="scientist", comment="Better.")
    registry.add_version("churn", {"val_auc": 0.8})
    signoff.snapshot.refresh()


@pytest.mark.usefixtures("three")
class TestRow:
    def test_champion_and_challenger_are_told_apart(self, signoff: Signoff) -> None:
        fraud = row(signoff, "fraud")
        assert fraud.champion is not None
        assert fraud.challenger is not None
        assert (fraud.champion.ref.version, fraud.challenger.ref.version) == (1, 2)
        assert fraud.stages == {"Production", "Staging"}

    def test_its_status_is_the_challengers(self, signoff: Signoff) -> None:
        assert row(signoff, "fraud").status == "pending"
        assert row(signoff, "churn").status is None

    def test_a_model_without_versions_has_a_row(self, signoff: Signoff) -> None:
        assert row(signoff, "old").versions == ()
        assert row(signoff, "old").champion is None

    def test_it_names_the_first_metric_of_its_policy(self, signoff: Signoff) -> None:
        assert row(signoff, "fraud").metric == "val_auc"

    def test_it_changed_when_its_newest_version_did(self, signoff: Signoff, registry: FakeRegistry) -> None:
        newest = registry.add_version("churn", {"val_auc": 0.9})
        signoff.snapshot.refresh()
        assert row(signoff, "churn").changed_at == registry.version(newest).updated_at


@pytest.mark.usefixtures("three")
class TestSearch:
    @pytest.mark.parametrize("words", ["fraud", "FRAUD", "payments", "domain:pay", "ann", "fraud ann", " fr "])
    def test_text_is_looked_for_in_name_owner_and_tags_whatever_the_case(self, signoff: Signoff, words: str) -> None:
        assert names(signoff, text=words) == ["fraud"]

    def test_every_word_must_fit(self, signoff: Signoff) -> None:
        assert names(signoff, text="fraud bob") == []

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"stage": "Production"}, ["fraud"]),
            ({"stage": "None"}, ["churn"]),
            ({"status": "pending"}, ["fraud"]),
            ({"owner": "BOB"}, ["churn"]),
            ({"tag": "domain"}, ["fraud"]),
            ({"tag": "Domain:payments"}, ["fraud"]),
            ({"tag": "domain:other"}, []),
            ({"stage": "Production", "owner": "bob"}, []),
            ({}, ["churn", "fraud", "old"]),
        ],
    )
    def test_every_filter_narrows(self, signoff: Signoff, query: dict[str, str], found: list[str]) -> None:
        assert names(signoff, **query) == found

    def test_orders(self, signoff: Signoff) -> None:
        assert names(signoff, sort=Sort.CHANGED)[-1] == "old"
        assert names(signoff, sort=Sort.VERSIONS) == ["fraud", "churn", "old"]

    def test_a_change_shows_with_the_next_snapshot(self, signoff: Signoff, registry: FakeRegistry) -> None:
        assert names(signoff, text="new") == []
        registry.add_model("new")
        signoff.snapshot.refresh()
        assert names(signoff, text="new") == ["new"]

    def test_rows_that_did_not_change_are_kept(self, signoff: Signoff) -> None:
        before = row(signoff, "fraud")
        signoff.snapshot.refresh()
        assert row(signoff, "fraud") is before

    @pytest.mark.parametrize("name", NASTY)
    def test_any_name_can_be_listed_and_found(self, signoff: Signoff, registry: FakeRegistry, name: str) -> None:
        registry.add_model(name, owner=name, note="x" * 100_000)
        signoff.snapshot.refresh()
        assert names(signoff, owner=name) == [name]
        assert name in names(signoff, text=name.split(maxsplit=1)[0])


class TestPages:
    def test_pages_are_cut_and_the_last_one_stands_for_any_later(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        for number in range(30):
            registry.add_model(f"m{number:02d}")
        first, second = (catalogue.search(signoff, Query(page=page)) for page in (1, 2))
        assert (len(first.rows), len(second.rows), first.total, first.pages) == (25, 5, 30, 2)
        assert catalogue.search(signoff, Query(page=99)).number == 2
        assert catalogue.search(signoff, Query(page=-1)).number == 1

    def test_nothing_is_one_empty_page(self, signoff: Signoff) -> None:
        found = catalogue.search(signoff, Query())
        assert (found.rows, found.total, found.pages) == ((), 0, 1)

    def test_ten_thousand_models_are_searched_in_milliseconds(self, signoff: Signoff, registry: FakeRegistry) -> None:
        for number in range(10_000):
            registry.add_model(f"model_{number:05d}", owner=f"owner{number % 50}")
        catalogue.search(signoff, Query())
        begun = time.perf_counter()
        for number in range(20):
            catalogue.search(signoff, Query(text=f"{number} owner", owner="owner7", sort=Sort.CHANGED))
        assert (time.perf_counter() - begun) / 20 < 0.05  # about 1 ms on an idle core; the limit is for a busy one


class TestMetrics:
    def lines(self, signoff: Signoff) -> list[rows.Line]:
        found = catalogue.search(signoff, Query()).rows
        return rows.lines(found, rows.ask(signoff, rows.run_ids(found)).result(timeout=5))

    def test_all_rows_cost_one_call_and_none_when_remembered(self, signoff: Signoff, registry: FakeRegistry) -> None:
        for number in range(25):
            for _ in range(3):
                registry.add_version(f"m{number}", {"val_auc": 0.9})
        signoff.snapshot.refresh()
        before = registry.calls
        self.lines(signoff)
        assert registry.calls == before + 1
        self.lines(signoff)
        assert registry.calls == before + 1

    def test_the_value_is_the_champions_and_the_trend_leaves_out_what_is_no_number(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        release(signoff, registry.add_version("m", {"val_auc": 0.92}))
        registry.add_version("m", {"val_auc": float("nan")})
        registry.add_version("m")
        registry.add_version("m", {"val_auc": 0.95})
        signoff.snapshot.refresh()
        (line,) = self.lines(signoff)
        assert (line.value, line.trend) == (0.92, (0.92, 0.95))

    def test_the_champion_is_in_the_trend_however_old(self, signoff: Signoff, registry: FakeRegistry) -> None:
        release(signoff, registry.add_version("m", {"val_auc": 0.91}))
        for _ in range(20):
            registry.add_version("m", {"val_auc": 0.95})
        signoff.snapshot.refresh()
        (line,) = self.lines(signoff)
        assert line.value == 0.91
        assert len(line.trend) == rows.TREND_VERSIONS

    def test_a_run_that_is_gone_is_no_evidence(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = release(signoff, registry.add_version("m", {"val_auc": 0.91}))
        registry.drop_run(ref)
        signoff.snapshot.refresh()
        signoff.reader.forget()
        (line,) = self.lines(signoff)
        assert (line.value, line.trend) == (None, ())


class TestPage:
    @pytest.mark.usefixtures("three")
    def test_it_lists_one_row_a_model(self, signoff: Signoff) -> None:
        at = opened(signoff, "viewer", "registry")
        frame = at.dataframe[0].value
        assert [cell[0] for cell in frame["model"]] == ["churn", "fraud", "old"]
        assert "3 registered models · 1 with a champion · 1 waiting for review" in text(at)

    @pytest.mark.usefixtures("three")
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"q": "pay"}, ["fraud"]),
            ({"stage": "Production"}, ["fraud"]),
            ({"status": "Waiting for review"}, ["fraud"]),
            ({"owner": "bob"}, ["churn"]),
            ({"tag": "domain:Payments"}, ["fraud"]),
            ({"sort": "Most versions"}, ["fraud", "churn", "old"]),
        ],
    )
    def test_its_link_says_what_is_listed(self, signoff: Signoff, query: dict[str, str], found: list[str]) -> None:
        at = opened(signoff, "viewer", "registry", **query)
        assert [cell[0] for cell in at.dataframe[0].value["model"]] == found

    def test_nothing_found_offers_to_clear_the_filters(self, signoff: Signoff, three: None) -> None:
        at = opened(signoff, "viewer", "registry", q="nothing like it")
        assert "No registered model fits" in text(at)
        at.button(key="clear-all").click().run()
        assert len(at.dataframe[0].value) == 3

    def test_a_filter_goes_back_to_the_first_page(self, signoff: Signoff, registry: FakeRegistry) -> None:
        for number in range(80):
            registry.add_model(f"m{number:02d}", group="all")
        at = opened(signoff, "viewer", "registry")
        at.pagination(key="page").set_value(3).run()
        assert at.dataframe[0].value["model"].iloc[0] == ["m50"]
        at.text_input(key="q").set_value("m").run()
        assert at.dataframe[0].value["model"].iloc[0] == ["m00"]

    def test_an_empty_registry_says_what_to_do(self, signoff: Signoff) -> None:
        at = opened(signoff, "viewer", "registry")
        assert "registered_model_name" in at.code[0].value

    @pytest.mark.usefixtures("three")
    def test_without_metrics_the_list_is_still_there(
        self, signoff: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signoff.reader.forget()

        def away(*_: object) -> None:
            raise RegistryUnavailable("MLflow did not give a usable answer for runs.")

        monkeypatch.setattr(registry, "runs", away)
        at = opened(signoff, "viewer", "registry")
        assert len(at.dataframe[0].value) == 3
        assert "MLflow is away" in text(at)

    def test_a_name_of_several_alphabets_carries_a_warning(self, signoff: Signoff, registry: FakeRegistry) -> None:
        registry.add_model("mоdel")  # the o is Cyrillic
        registry.add_model("model")
        at = opened(signoff, "viewer", "registry")
        assert [cell[0] for cell in at.dataframe[0].value["model"]] == ["model", "⚠ mоdel"]

    def test_cards_link_to_the_models(self, signoff: Signoff, three: None) -> None:
        at = opened(signoff, "viewer", "registry", view="Cards")
        assert not at.dataframe
        assert "/model?name=fraud" in text(at)
