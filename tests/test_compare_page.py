"""The compare page as people use it: a link in, one sentence and a table out, and nothing that breaks it."""

from __future__ import annotations

import csv
import io
import json
import math
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from components import comparison as parts
from components.choosing import MODELS_OFFERED
from components.links import PAGES
from services.accounts import people
from services.domain import Column, Curve, Dataset, Role, Signature, VersionRef
from services.errors import RegistryUnavailable
from services.side_by_side import comparing
from services.signoff import Signoff
from tests.fakes import SIGNATURE, FakeRegistry
from tests.pages import opened, text
from tests.test_previews import png
from tests.test_releases import release
from tests.verbs import reviews

OTHER = Dataset(name="second_site", digest="bbbbbbbb2222", context="eval")
NASTY = [
    "<img src=x onerror=alert(1)>",
    "**bold** [a](javascript:x)",
    "\u202egnp",
    "a\nb",
    "=HYPERLINK(1)",
    "мodel",
    "a,b:c",
    "$x$",
]


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    return release(
        signoff, registry.add_version("m", {"val_auc": 0.90, "latency_ms": 50.0}, params={"C": "1", "k": "3"})
    )


@pytest.fixture
def candidate(registry: FakeRegistry, champion: VersionRef) -> VersionRef:
    return registry.add_version("m", {"val_auc": 0.99, "latency_ms": 56.0}, params={"C": "2", "k": "3"})


def page(signoff: Signoff, versions: str | None = None, *, by: str = "scientist", **query: str) -> AppTest:
    signoff.snapshot.refresh()
    at = opened(signoff, by, "compare", **({"versions": versions} if versions is not None else {}), **query)
    assert not at.exception, at.exception
    return at


def link(at: AppTest, key: str = "versions") -> str:
    """A query parameter; the tester gives a list for what it was given and text for what the script set."""
    value = at.query_params[key]
    return value if isinstance(value, str) else value[-1]


def calls_of(signoff: Signoff, registry: FakeRegistry, page_name: str, /, **query: str) -> tuple[int, int]:
    """What opening a page asks MLflow for when nothing is remembered, and what the next run of it does."""
    signoff.snapshot.refresh()
    at = opened(signoff, "scientist", "history")
    signoff.reader.forget()
    for key, value in query.items():
        at.query_params[key] = value
    before = registry.calls
    at.switch_page(PAGES[page_name]).run()
    first = registry.calls - before
    at.run()
    return first, registry.calls - before - first


def images(at: AppTest) -> list[Any]:
    """Pictures on the page, without those of the page itself."""
    return [*at.get("imgs"), *at.get("image")]


def labels(at: AppTest) -> list[str]:
    return [button.label for button in at.button]


class TestFirstGlance:
    def test_one_sentence_and_the_table(self, signoff: Signoff, candidate: VersionRef) -> None:
        at = page(signoff, "m:1,m:2")
        assert "v2 beats v1 on 1 of 2 metrics; worse on latency_ms by 12 %; same data; signature compatible." in (
            text(at).replace("**", "")
        )
        table = at.table[0].value
        assert list(table.columns) == ["v1 (baseline)", "v2", "Policy"]
        auc, latency = ([cell.replace("\\", "") for cell in row] for row in table.values.tolist())
        assert auc == [
            "**0.9** :green[✓]",
            "**0.99** :green[✓]  \n:green[▲ +10 % better]",
            "≥ 0.9, not worse than the champion",
        ]
        assert latency == ["**50**", "**56**  \n:red[▲ +12 % worse]", "–"]

    def test_a_threshold_that_is_missed_has_a_sign_and_a_colour(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        registry.add_version("m", {"val_auc": 0.5})
        cells = page(signoff, "m:1,m:2").table[0].value["v2"].tolist()
        assert ":red[✗]" in cells[0]
        assert "no evidence" in cells[1]

    def test_charts_are_there(self, signoff: Signoff, candidate: VersionRef) -> None:
        assert len(page(signoff, "m:1,m:2").get("plotly_chart")) == 6

    def test_ten_versions(self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef) -> None:
        for _ in range(8):
            registry.add_version("m", {"val_auc": 0.95})
        at = page(signoff, ",".join(f"m:{n}" for n in range(1, 11)))
        assert len(at.table[0].value.columns) == 11
        assert "At most" not in text(at)

    def test_versions_of_two_models(self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef) -> None:
        registry.add_version("n", {"val_auc": 0.95})
        assert "n v1 beats m v1 on val_auc" in text(page(signoff, "m:1,n:1"))


class TestHonesty:
    def test_no_evidence_is_said(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        registry.add_version("m")
        assert "v2 has no evidence" in text(page(signoff, "m:1,m:2"))

    def test_a_deleted_run_is_no_evidence(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry.drop_run(candidate)
        assert "v2 has no evidence: its run no longer exists" in text(page(signoff, "m:1,m:2"))

    def test_different_data_has_a_banner(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        registry.add_version("m", {"val_auc": 0.99}, dataset=OTHER)
        at = page(signoff, "m:1,m:2")
        (banner,) = at.warning
        assert "second_site" in banner.value.replace("\\", "")
        assert "not comparable with v1: measured on different data" in text(at)
        assert "other data" in at.table[0].value["v2"].tolist()[0]

    def test_same_data_has_none(self, signoff: Signoff, candidate: VersionRef) -> None:
        assert not page(signoff, "m:1,m:2").warning

    def test_nan_and_infinity_are_no_evidence(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        registry.add_version("m", {"val_auc": math.nan, "latency_ms": math.inf, "train_loss": -math.inf})
        at = page(signoff, "m:1,m:2")
        assert all("no evidence" in cell for cell in at.table[0].value["v2"])


class TestTheLink:
    def test_a_model_alone_is_its_champion_and_the_newest(self, signoff: Signoff, candidate: VersionRef) -> None:
        for query in ({"versions": "m"}, {"name": "m"}, {"name": "m", "version": "2"}):
            at = page(signoff, **query)  # type: ignore[arg-type]
            assert "v2 beats v1" in text(at)

    def test_nothing_named_says_what_to_do(self, signoff: Signoff, candidate: VersionRef) -> None:
        at = page(signoff)
        assert "Choose a registered model above" in text(at)
        assert not at.table

    def test_the_widgets_show_the_link(self, signoff: Signoff, candidate: VersionRef) -> None:
        at = page(signoff, "m:2,m:1")
        assert at.selectbox(key="compare_model").value == "m"
        assert [ref.version for ref in at.multiselect(key="compare_versions").value] == [2, 1]
        assert at.selectbox(key="compare_baseline").value.version == 2

    def test_choosing_writes_the_link(self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef) -> None:
        third = registry.add_version("m", {"val_auc": 0.95})
        at = page(signoff, "m:1,m:2")
        at.multiselect(key="compare_versions").set_value([VersionRef(name="m", version=n) for n in (1, 2, 3)]).run()
        assert link(at, "versions") == "m:1,m:2,m:3"
        at.selectbox(key="compare_baseline").set_value(third).run()
        assert link(at, "versions") == "m:3,m:1,m:2"
        assert "v1" in text(at)
        at.multiselect(key="compare_versions").set_value([]).run()
        assert link(at, "versions") == "m:"
        assert "Choose two to ten versions above" in text(at)

    def test_choosing_another_model_starts_with_its_usual_pair(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry.add_version("n", {"val_auc": 0.8})
        registry.add_version("n", {"val_auc": 0.9})
        at = page(signoff, "m:1,m:2")
        at.selectbox(key="compare_model").set_value("n").run()
        assert link(at, "versions") == "n"
        assert "v2 beats v1 on val_auc" in text(at)

    def test_of_very_many_models_the_last_changed_are_offered(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        for number in range(MODELS_OFFERED + 10):
            registry.add_model(f"model-{number}")
        at = page(signoff, "m:1,m:2")
        options = at.selectbox(key="compare_model").options
        assert len(options) <= MODELS_OFFERED + 1
        assert "m" in options
        assert "model-0" not in options
        assert "Choose two to ten versions above" in text(page(signoff, "model-0"))

    def test_one_version_alone_asks_for_another(self, signoff: Signoff, candidate: VersionRef) -> None:
        assert "Choose two to ten versions above" in text(page(signoff, "m:1"))

    @pytest.mark.parametrize(
        ("versions", "sentence"),
        [
            ("ghost", "There is no registered model ghost."),
            ("ghost:1", "There is no ghost/v1 in the registry."),
            ("m:1,m:99", "There is no m/v99 in the registry."),
            ("m:03", "'03' is not a version number; write it like 3."),
            (",".join(f"m:{n}" for n in range(1, 12)), "At most 10 versions can be compared; this is 11."),
            ("m:x", "'x' is not a version number; write it like 3."),
            ("<img src=x onerror=alert(1)>:1", "There is no <img src=x onerror=alert(1)>/v1 in the registry."),
            (f"{'x' * 600}:1", "A registered model's name must have between 1 and 500 characters."),
        ],
    )
    def test_what_cannot_be_shown_gets_one_sentence(
        self, signoff: Signoff, candidate: VersionRef, versions: str, sentence: str
    ) -> None:
        at = page(signoff, versions)
        assert sentence in text(at)
        assert not at.table
        assert at.selectbox(key="compare_model").options == ["m"]

    def test_mlflow_away_is_one_sentence(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: object) -> None:
            raise RegistryUnavailable("MLflow did not give a usable answer.")

        signoff.snapshot.refresh()
        signoff.reader.forget()
        for method in ("run", "runs", "listing", "manifest"):
            monkeypatch.setattr(registry, method, away)
        at = opened(signoff, "scientist", "compare", versions="m:1,m:2")
        assert not at.exception
        assert "MLflow is away" in text(at)


class TestNextStep:
    def test_a_scientist_is_led_to_the_submission(self, signoff: Signoff, candidate: VersionRef) -> None:
        at = page(signoff, "m:1,m:2")
        assert "Submit v2 for review" in labels(at)
        at.button(key="open:m/v2").click().run()
        assert not at.exception
        assert link(at, "version") == "2"

    def test_who_may_not_submit_is_led_to_the_version(self, signoff: Signoff, candidate: VersionRef) -> None:
        assert "Open v2" in labels(page(signoff, "m:1,m:2", by="viewer"))

    def test_what_is_submitted_is_only_opened(self, signoff: Signoff, candidate: VersionRef) -> None:
        reviews.submit(signoff, candidate, by="scientist", comment="Look.")
        assert "Open v2" in labels(page(signoff, "m:1,m:2"))

    def test_the_champion_is_not_submitted(self, signoff: Signoff, candidate: VersionRef) -> None:
        assert "Open v1" in labels(page(signoff, "m:2,m:1"))

    def test_a_role_taken_away_changes_the_button(self, signoff: Signoff, candidate: VersionRef) -> None:
        people.set_roles(signoff.database, "scientist", [Role.VIEWER])
        assert "Open v2" in labels(page(signoff, "m:1,m:2"))


class TestDifferences:
    def test_only_what_differs_until_all_is_asked_for(self, signoff: Signoff, candidate: VersionRef) -> None:
        at = page(signoff, "m:1,m:2")
        assert at.dataframe[0].value["Name"].tolist() == ["C"]
        at.toggle(key="only_differences").set_value(False).run()
        assert at.dataframe[0].value["Name"].tolist() == ["C", "k"]
        assert at.dataframe[0].value["Differs"].tolist() == ["≠ differs", "= same"]

    def test_our_own_tags_are_behind_a_switch(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry.tag(candidate, "team", "blue")
        at = page(signoff, "m:1,m:2", differences="Tags")
        assert at.dataframe[0].value["Name"].tolist() == ["team"]
        at.toggle(key="reserved_tags").set_value(True).run()
        assert "approval_status" in at.dataframe[0].value["Name"].tolist()

    @pytest.mark.parametrize("tab", ["Signature", "Data sets"])
    def test_no_difference_is_said(self, signoff: Signoff, candidate: VersionRef, tab: str) -> None:
        assert f"No difference in {tab.lower()}" in text(page(signoff, "m:1,m:2", differences=tab))

    def test_a_tag_of_100_000_characters_is_cut(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry.tag(candidate, "huge", "x" * 100_000)
        at = page(signoff, "m:1,m:2", differences="Tags")
        assert len(at.dataframe[0].value["v2"].tolist()[0]) <= 500


class TestNames:
    @pytest.mark.parametrize("name", NASTY)
    def test_stay_names(self, signoff: Signoff, registry: FakeRegistry, name: str) -> None:
        for value in (0.91, 0.95):
            ref = registry.add_version(name, {"val_auc": value, name: value}, params={name: str(value)})
            registry.tag(ref, name, f"{name}{value}")
        at = page(signoff, f"{name}:1,{name}:2", differences="Tags")
        assert "v2 beats v1 on val_auc" in text(at)
        assert not any(element.allow_html for element in at.markdown)

    def test_metrics_that_look_alike_when_cut(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        long = "val_auc_" + "x" * 200
        registry.add_version("m", {"val_auc": 0.95, f"{long}1": 0.5, f"{long}2": 0.6})
        assert len(page(signoff, "m:1,m:2").table[0].value) == 4

    def test_a_thousand_metrics_are_shown_in_part(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        registry.add_version("m", {"val_auc": 0.95, **{f"metric_{n}": float(n) for n in range(1000)}})
        at = page(signoff, "m:1,m:2")
        assert len(at.table[0].value) == parts.METRICS_AT_ONCE
        at.toggle(key="all_metrics").set_value(True).run()
        assert len(at.table[0].value) == 1002


class TestDownload:
    def test_full_numbers(self, signoff: Signoff, candidate: VersionRef) -> None:
        rows = list(
            csv.reader(
                io.StringIO(parts.as_csv(comparing.shown(signoff, [VersionRef(name="m", version=1), candidate])))
            )
        )
        assert rows[0] == [
            *("metric", "better", "policy"),
            *("v1", "v1 change", "v1 relative", "v1 verdict", "v2", "v2 change", "v2 relative", "v2 verdict"),
        ]
        assert rows[2] == ["latency_ms", "lower", "", "50.0", "", "", "baseline", "56.0", "6.0", "0.12", "worse"]

    @pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@sum", "\tx", "\rx", "\nx", " =1", "\u200b=1", "％x"])
    def test_no_cell_is_a_formula(self, signoff: Signoff, registry: FakeRegistry, name: str) -> None:
        refs = [registry.add_version("m", {"val_auc": 0.9, name: -1.5}) for _ in range(2)]
        rows = list(csv.reader(io.StringIO(parts.as_csv(comparing.shown(signoff, refs)))))
        assert rows[2][0] == f"'{name}"
        assert rows[2][3] == "-1.5"

    def test_no_part_of_a_value_is_one_for_a_spreadsheet_that_splits_elsewhere(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        refs = [registry.add_version("m", {"val_auc": 0.9}, params={"a": f"{n};=1\t@x", "b": "-1"}) for n in "12"]
        comparison = comparing.shown(signoff, refs)
        rows = list(csv.reader(io.StringIO(parts.differences_csv(comparison.params, comparison))))
        assert rows[1][1:3] == ["1;'=1\t'@x", "2;'=1\t'@x"]
        assert rows[2][1:3] == ["'-1", "'-1"]

    def test_a_file_name_of_plain_letters(self, signoff: Signoff, registry: FakeRegistry) -> None:
        refs = [registry.add_version("../a b\x00<", {"val_auc": 0.9}) for _ in range(2)]
        assert parts.stem(comparing.shown(signoff, refs)) == "compare-.._a_b_-v1-v2"


class TestCurves:
    @pytest.fixture
    def trained(self, registry: FakeRegistry, champion: VersionRef) -> list[VersionRef]:
        """Ten versions with a loss step by step; one has fallen below zero."""
        refs = [
            champion,
            *(registry.add_version("m", {"val_auc": 0.95, "val_loss": 0.5, "other_loss": 1.0}) for _ in range(9)),
        ]
        for ref in refs[1:]:
            registry.log_curve(ref, "val_loss", tuple((step, 1.0 / (1 + step)) for step in range(5)))
        registry.log_curve(refs[1], "val_loss", ((0, 1.0), (1, -0.5), (2, 0.25)))
        return refs

    def figure(self, at: AppTest) -> dict[str, Any]:
        (chart,) = (c for c in at.get("plotly_chart") if "-curves" in c.proto.id or '"step"' in c.proto.spec)
        return json.loads(chart.proto.spec)

    def test_of_ten_versions_are_one_call_and_only_the_metric_on_screen_is_read(
        self, signoff: Signoff, registry: FakeRegistry, trained: list[VersionRef]
    ) -> None:
        at = page(signoff, ",".join(f"m:{ref.version}" for ref in trained), curve="val_loss")
        assert registry.curves_asked == ["val_loss"]
        at.selectbox(key="curve").set_value("other_loss").run()
        assert registry.curves_asked == ["val_loss", "other_loss"]
        at.selectbox(key="curve").set_value("val_loss").run()
        assert registry.curves_asked == ["val_loss", "other_loss"], "the first is remembered"

    def test_smoothing_and_scale_are_part_of_the_link(self, signoff: Signoff, trained: list[VersionRef]) -> None:
        at = page(signoff, "m:2,m:3", curve="val_loss", smoothing="0.6", log="true")
        assert at.slider(key="smoothing").value == 0.6
        figure = self.figure(at)
        assert figure["layout"]["yaxis"]["type"] == "log"
        assert len(figure["data"]) == 4, "each smoothed curve has the values themselves behind it"
        assert "1 values of 0 or less have no place on a log scale" in text(at)

    def test_that_take_long_are_asked_for_first_and_drawn_last(
        self, signoff: Signoff, registry: FakeRegistry, trained: list[VersionRef], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn, read = threading.Event(), registry.curves
        in_time: list[bool] = []

        def slow(run_ids: Iterable[str], metric: str, limit: int) -> dict[str, Curve]:
            in_time.append(drawn.wait(20))
            return read(run_ids, metric, limit)

        monkeypatch.setattr(registry, "curves", slow)
        monkeypatch.setattr("components.differing.other_differences", lambda *_: drawn.set())
        at = page(signoff, "m:2,m:3", curve="val_loss")
        assert in_time == [True], "everything else was on screen while MLflow thinned the curves"
        assert "Reading" not in text(at)
        assert len(at.get("plotly_chart")) == 6

    def test_that_cannot_be_read_are_told_once_and_asked_for_again(
        self, signoff: Signoff, registry: FakeRegistry, trained: list[VersionRef], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: object) -> None:
            raise RegistryUnavailable("MLflow did not give a usable answer for the curves.")

        with monkeypatch.context() as broken:
            broken.setattr(registry, "curves", away)
            at = page(signoff, "m:2,m:3", curve="val_loss")
            assert "MLflow is away" in text(at)
            assert len(at.get("plotly_chart")) == 5, "the rest is there"
        at = page(signoff, "m:2,m:3", curve="val_loss")
        assert "MLflow is away" not in text(at)


class TestTradeOffs:
    def test_two_metrics_and_the_front_are_part_of_the_link(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry.add_version("m", {"val_auc": 0.80, "latency_ms": 60.0})
        at = page(signoff, "m:1,m:2", across="latency_ms", up="val_auc")
        assert (at.selectbox(key="across").value, at.selectbox(key="up").value) == ("latency_ms", "val_auc")
        assert "On the Pareto front: v1, v2" in text(at)

    def test_what_was_measured_on_other_data_is_named_beside_every_figure(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry.add_version("m", {"val_auc": 0.999, "latency_ms": 1.0}, dataset=OTHER)
        at = page(signoff, "m:1,m:2,m:3", curve="val_auc")
        warned = [caption.value for caption in at.caption if "Measured on other data than" in caption.value]
        assert len(warned) == 4, "curves, trend, plane, parallel coordinates"
        assert all("v3" in words for words in warned)


class TestEveryDifference:
    def test_requirements_are_read_only_when_they_are_asked_for(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry.write_file(VersionRef(name="m", version=1), "requirements.txt", b"skops==0.1\nnumpy==2\n")
        registry.write_file(candidate, "requirements.txt", b"skops==0.2\nnumpy==2\n")
        at = page(signoff, "m:1,m:2", differences="Requirements")
        assert at.dataframe[0].value.values.tolist() == [["skops", "==0.1", "==0.2"]]
        before = registry.calls
        page(signoff, "m:1,m:2", differences="Params")
        assert registry.calls - before <= 2, "the snapshot alone"

    def test_the_commit_each_was_trained_from(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry.tag_run(candidate, **{"mlflow.source.git.commit": "abc123"})
        at = page(signoff, "m:1,m:2", differences="Source")
        assert at.dataframe[0].value.values.tolist() == [["commit", "–", "abc123"]]

    def test_the_signature_says_what_a_change_means_for_callers(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        wider = Signature(inputs=(*SIGNATURE.inputs, Column(name="y", type="long")), outputs=SIGNATURE.outputs)
        registry.add_version("m", {"val_auc": 0.95}, signature=wider)
        at = page(signoff, "m:1,m:2", differences="Signature")
        assert "breaking]: input y added, required" in text(at)
        assert at.dataframe[0].value["Name"].tolist() == ["input y"]

    def test_metrics_too(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        registry.add_version("m", {"val_auc": 0.95, "latency_ms": 50.0})
        at = page(signoff, "m:1,m:2", only_differing_metrics="true")
        assert [name.replace("\\", "").split()[0] for name in at.table[0].value.index] == ["val_auc"]


class TestArtifacts:
    def test_text_is_compared_line_by_line_and_whole_when_asked_for(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry.log_file(VersionRef(name="m", version=1), "report.json", b'{"f1": 0.8, "n": 5}')
        registry.log_file(candidate, "report.json", b'{"n": 5, "f1": 0.9}')
        at = page(signoff, "m:1,m:2", differences="Artifacts")
        whole, diff = (code.value for code in at.code)
        assert json.loads(whole) == {"f1": 0.8, "n": 5}
        assert ('-  "f1": 0.8,' in diff, '+  "f1": 0.9,' in diff, '"n": 5' in diff) == (True, True, True)
        at.toggle(key="only_differences").set_value(False).run()
        assert json.loads(at.code[1].value) == {"f1": 0.9, "n": 5}

    def test_pictures_stand_beside_each_other(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        for ref in (VersionRef(name="m", version=1), candidate):
            registry.log_file(ref, "confusion.png", png())
        at = page(signoff, "m:1,m:2", differences="Artifacts", artifact="confusion.png")
        assert len(images(at)) == 2

    @pytest.mark.parametrize("path", ["evil.svg", "evil.html", "model.pkl"])
    def test_what_can_run_is_listed_and_never_read(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        candidate: VersionRef,
        path: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        registry.log_file(candidate, path, b"<svg onload=alert(1)>")
        monkeypatch.setattr(registry, "run_file", lambda *_: pytest.fail("it was read"))
        at = page(signoff, "m:1,m:2", differences="Artifacts", artifact=path)
        assert at.dataframe[0].value["Name"].tolist() == [path]
        assert "Only pictures, JSON and plain text are shown here." in text(at)
        assert not at.code
        assert not images(at)

    def test_none_at_all_is_said(self, signoff: Signoff, candidate: VersionRef) -> None:
        assert "No run left anything beside its model." in text(page(signoff, "m:1,m:2", differences="Artifacts"))


class TestPictures:
    def test_every_figure_can_be_saved_as_png_by_the_browser(self, signoff: Signoff, candidate: VersionRef) -> None:
        found = [json.loads(chart.proto.config) for chart in page(signoff, "m:1,m:2").get("plotly_chart")]
        names = {config["toImageButtonOptions"]["filename"] for config in found}
        assert names == {
            f"compare-m-v1-v2-{view}" for view in ("gains", "shares", "curves", "trend", "plane", "parallel")
        }
        assert all(config["displayModeBar"] and config["modeBarButtons"] == [["toImage"]] for config in found)


class TestHowManyCalls:
    def test_do_not_grow_with_the_registry_and_are_none_the_second_time(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        registry.add_version("m", {"val_auc": 0.9})
        few = calls_of(signoff, registry, "compare", versions="m:1,m:2")
        for number in range(50):
            registry.add_version(f"model-{number}", {"val_auc": 0.9})
            registry.add_version("m", {"val_auc": 0.9})
        many = calls_of(signoff, registry, "compare", versions="m:1,m:2")
        assert many == few
        assert few[0] == 1 + 2 + 1, "all runs in one call, MLmodel of each version, both curves in one call"
        assert few[1] == 0

    def test_are_at_most_as_many_as_versions_and_curves_on_screen(
        self, signoff: Signoff, registry: FakeRegistry, candidate: VersionRef
    ) -> None:
        metrics = {f"metric_{n}": float(n) for n in range(100)}
        for _ in range(8):
            registry.add_version("m", {"val_auc": 0.95, **metrics})
        for versions in (2, 10):
            link = ",".join(f"m:{number}" for number in range(1, versions + 1))
            assert calls_of(signoff, registry, "compare", versions=link)[0] <= versions + versions
