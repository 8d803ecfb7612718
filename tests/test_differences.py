"""How versions differ beside their metrics, and what a changed signature means for callers."""

from __future__ import annotations

import pytest

from services.domain import Column, Signature
from services.side_by_side import differences
from services.side_by_side.differences import Compatibility, signature_change
from tests.test_comparison import SIGNED, version


class TestParamsAndTags:
    def test_params_that_differ(self) -> None:
        rows = differences.params([version(1, params={"C": "1", "solver": "lbfgs"}), version(2, params={"C": "0.1"})])
        assert [(row.name, row.values, row.differs) for row in rows] == [
            ("C", ("1", "0.1"), True),
            ("solver", ("lbfgs", None), True),
        ]

    def test_our_tags_and_mlflows_are_reserved_whatever_the_letter_case(self) -> None:
        mine = version(1, tags={"Approved_By": "x", "team": "a"}, run_tags={"mlflow.user": "u", "Signoff.digest": "d"})
        rows = differences.tags([mine, version(2, tags={"team": "b"})])
        assert {row.name: row.reserved for row in rows} == {
            "Approved_By": True,
            "Signoff.digest": True,
            "mlflow.user": True,
            "team": False,
        }

    def test_a_versions_own_tag_wins_over_its_runs(self) -> None:
        (row,) = differences.tags([version(1, tags={"team": "v"}, run_tags={"team": "r"}), version(2)])
        assert row.values == ("v", None)


def signed(*inputs: Column, outputs: tuple[Column, ...] = SIGNED.outputs) -> Signature:
    return Signature(inputs=inputs, outputs=outputs)


X, Y = Column(name="x", type="double"), Column(name="y", type="long")
MAYBE_Y = Column(name="y", type="long", required=False)


class TestSignature:
    @pytest.mark.parametrize(
        ("old", "new", "compatibility", "reason"),
        [
            (signed(X), signed(X), Compatibility.COMPATIBLE, ""),
            (signed(X, Y), signed(Y, X), Compatibility.COMPATIBLE, ""),
            (signed(X), signed(X, Y), Compatibility.BREAKING, "input y added, required"),
            (signed(X), signed(X, MAYBE_Y), Compatibility.WIDENED, "input y added"),
            (signed(X, Y), signed(X), Compatibility.WIDENED, "input y removed"),
            (signed(X, Y), signed(X, MAYBE_Y), Compatibility.WIDENED, "input y now optional"),
            (signed(X, MAYBE_Y), signed(X, Y), Compatibility.BREAKING, "input y now required"),
            (
                signed(X),
                signed(Column(name="x", type="string")),
                Compatibility.BREAKING,
                "input x type double → string",
            ),
            (
                signed(Column(name="x", type="integer")),
                signed(X),
                Compatibility.WIDENED,
                "input x type integer → double",
            ),
            (signed(X), signed(X, outputs=()), Compatibility.BREAKING, "output 0 removed"),
            (signed(X), signed(X, outputs=(*SIGNED.outputs, Y)), Compatibility.WIDENED, "output y added"),
            (
                signed(X),
                signed(X, outputs=(Column(name="0", type="double"),)),
                Compatibility.BREAKING,
                "output 0 type long → double",
            ),
        ],
    )
    def test_field_by_field(self, old: Signature, new: Signature, compatibility: Compatibility, reason: str) -> None:
        found = signature_change(old, new)
        assert found.compatibility is compatibility
        assert found.reasons == ((reason,) if reason else ())

    def test_one_breaking_change_outweighs_the_rest(self) -> None:
        found = signature_change(signed(X), signed(MAYBE_Y))
        assert found.compatibility is Compatibility.WIDENED
        found = signature_change(signed(X, MAYBE_Y), signed(Y))
        assert (found.compatibility, found.reasons) == (Compatibility.BREAKING, ("input y now required",))

    @pytest.mark.parametrize(("old", "new"), [(None, SIGNED), (SIGNED, None), (None, None)])
    def test_without_one_nothing_can_be_said(self, old: Signature | None, new: Signature | None) -> None:
        assert signature_change(old, new).compatibility is Compatibility.UNKNOWN

    def test_rows_for_every_field_with_what_changed(self) -> None:
        rows = differences.signature([version(1, signature=signed(X)), version(2, signature=signed(X, MAYBE_Y))])
        assert [(row.name, row.values, row.note) for row in rows] == [
            ("input x", ("double", "double"), ""),
            ("input y", (None, "long, optional"), "added"),
            ("output 0", ("long", "long"), ""),
        ]


P = Column(name="temperature", type="double", required=False)


class TestParamsOfASignature:
    @pytest.mark.parametrize(
        ("old", "new", "compatibility", "reasons"),
        [
            ((), (P,), Compatibility.WIDENED, ("param temperature added",)),
            ((P,), (), Compatibility.BREAKING, ("param temperature removed",)),
            (
                (P,),
                (Column(name="temperature", type="string", required=False),),
                Compatibility.BREAKING,
                ("param temperature type double → string",),
            ),
        ],
    )
    def test_are_part_of_what_callers_rely_on(
        self, old: tuple[Column, ...], new: tuple[Column, ...], compatibility: Compatibility, reasons: tuple[str, ...]
    ) -> None:
        before, after = (Signature(inputs=(X,), outputs=(), params=params) for params in (old, new))
        change = signature_change(before, after)
        assert (change.compatibility, change.reasons) == (compatibility, reasons)


class TestRequirements:
    def test_packages_by_name_with_what_is_asked_of_each(self) -> None:
        rows = differences.requirements(
            ["scikit-learn==1.5\nPy_Yaml>=6 # config\n\n# note\nuvloop", "Scikit_Learn==1.6\npy.yaml>=6\n", None]
        )
        assert [(row.name, row.values, row.differs) for row in rows] == [
            ("py-yaml", (">=6", ">=6", None), True),
            ("scikit-learn", ("==1.5", "==1.6", None), True),
            ("uvloop", ("any", None, None), True),
        ]

    @pytest.mark.parametrize("line", ["-r other.txt", "git+https://example.test/x.git", "./wheels/x.whl", "<b>x</b>"])
    def test_what_is_no_package_by_name_is_shown_as_it_is(self, line: str) -> None:
        (row,) = differences.requirements([line, ""])
        assert (row.name, row.values) == (line, ("named", None))

    def test_extras_and_markers_belong_to_what_is_asked(self) -> None:
        (row,) = differences.requirements(["psycopg[binary]>=3; python_version > '3.8'"])
        assert row.values == ("[binary]>=3; python_version > '3.8'",)


class TestSource:
    def test_commit_branch_and_script(self) -> None:
        found = {"mlflow.source.git.commit": "abc", "mlflow.source.name": "train.py"}
        rows = differences.source([version(1, run_tags=found), version(2, run_tags=found | {"mlflow.user": "eve"})])
        assert [(row.name, row.values) for row in rows] == [
            ("commit", ("abc", "abc")),
            ("script", ("train.py", "train.py")),
            ("author, as claimed", (None, "eve")),
        ]

    def test_what_nobody_says_is_no_row(self) -> None:
        assert differences.source([version(1), version(2, run=False)]) == ()
