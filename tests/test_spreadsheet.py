"""No cell that we write is read as a formula, by a spreadsheet of any country, and numbers stay numbers."""

from __future__ import annotations

import csv
import io
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.settings import PROJECT
from services.spreadsheet import cell

FORMULAS = "=+-@|%＝＋－＠｜％﹦﹢﹣﹫﹪⁼⁺⁻−"
UNSEEN = "\ufeff\u200b\u200e\u00ad\u2060\u3164\u115f\u2800\u180e\u00a0\u3000\x01\x1b\ufe0f'\"’“«`"
TEXTS = st.text(st.sampled_from(f"{FORMULAS}{UNSEEN};,\t\r\n\v\u2028 a1.(){{}}é"), max_size=20)


class TestCell:
    @pytest.mark.parametrize("first", FORMULAS)
    def test_a_formula_is_text_whatever_stands_unseen_before_it(self, first: str) -> None:
        for before in ("", " ", *UNSEEN):
            assert cell(f"{before}{first}1+1") == f"'{before}{first}1+1"

    @pytest.mark.parametrize("separator", [";", ",", "\t", "\r", "\n", "\r\n", "; ", ";\ufeff", ";;", "\u2028"])
    def test_so_is_one_behind_what_another_country_separates_with(self, separator: str) -> None:
        assert cell(f"fine{separator}=cmd|'/c calc'!A1") in {
            f"fine{separator}'=cmd|'/c calc'!A1",
            f"fine{separator[0]}'{separator[1:]}=cmd|'/c calc'!A1",
        }

    @pytest.mark.parametrize("begin", ["\t", "\r", "\n"])
    def test_a_break_at_the_beginning_is_text(self, begin: str) -> None:
        assert cell(f"{begin}x") == f"'{begin}x"

    @pytest.mark.parametrize(
        ("value", "written"),
        [(-0.5, "-0.5"), (0.1, "0.1"), (-3, "-3"), (1e-300, "1e-300")],
    )
    def test_a_number_stays_a_number(self, value: object, written: str) -> None:
        assert cell(value) == written
        assert float(cell(value)) == float(str(value))

    @pytest.mark.parametrize("value", [float("-inf"), "-inf", "-1-1", "+49 30 1234", "-5 %", "- item", "1;-1=1", "-1"])
    def test_what_only_looks_like_one_is_text(self, value: object) -> None:
        assert "'" in cell(value)

    @pytest.mark.parametrize(
        "text", ["a=b", "it's", "über", "a, b; c", "val_auc=0.95; loss=-0.5", '{"a": 1, "b": -2.5}', ""]
    )
    def test_other_text_stays_as_it_is(self, text: str) -> None:
        assert cell(text) == text

    def test_nul_is_made_visible_and_nothing_is_empty(self) -> None:
        assert (cell("a\0b"), cell(None), cell(True)) == ("a\N{REPLACEMENT CHARACTER}b", "", "True")

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    @settings(derandomize=True, deadline=None)
    @given(row=st.lists(TEXTS, min_size=1, max_size=4))
    def test_no_way_to_split_a_line_makes_a_formula(self, separator: str, row: list[str]) -> None:
        file = io.StringIO(newline="")
        csv.writer(file).writerow([cell(value) for value in row])
        quoted = [
            one for line in csv.reader(io.StringIO(file.getvalue(), newline=""), delimiter=separator) for one in line
        ]
        plain = [one for line in file.getvalue().splitlines() for one in line.split(separator)]

        for one in (*quoted, *plain):
            assert not one.lstrip(f" {UNSEEN.replace(chr(39), '')}").startswith(tuple(FORMULAS))


def test_tables_of_the_pages_offer_no_download_of_their_own() -> None:
    """Streamlit's own button, and copying, write cells in the browser as they are; in this setting are neither."""
    config = tomllib.loads((PROJECT / ".streamlit" / "config.toml").read_text())

    assert config["client"]["disableDataExport"] is True
