"""What comes out of a sandbox is bytes of a stranger's: each is looked at, none is executed."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from services.validation import predictions
from services.validation.errors import ModelFailed


def handed_over(
    *arrays: Any, classes: Any = (0, 1), rows: int = 4, header: dict[str, Any] | None = None
) -> predictions.Predictions:
    """What `predictions.read` makes of bytes that a model's process may have written."""
    told = {"classes": list(classes), "single_seconds": [0.1], "batch_seconds": 0.1, "load_seconds": 0.1}
    encoded = json.dumps(told | (header or {})).encode()
    body = b"".join(np.asarray(array).tobytes() for array in arrays)
    return predictions.read(
        struct.pack("<I", len(encoded)) + encoded + body, rows=rows, classes=(0, 1), whose="The candidate m/v1"
    )


LABELS = np.array([0, 1, 1, 0], dtype="<i4")
CHANCES = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])


class TestReading:
    def test_classes_are_put_in_the_holdouts_order(self) -> None:
        found = handed_over(LABELS, CHANCES, classes=(1.0, False))

        assert found.answers.tolist() == [1, 0, 0, 1]
        assert found.probabilities is not None
        assert found.probabilities[:, 1].tolist() == CHANCES[:, 0].tolist()

    def test_a_class_that_the_holdout_does_not_have_is_wrong_wherever_it_is_answered(self) -> None:
        found = handed_over(LABELS, np.hstack([CHANCES * 0.5, [[0.5]] * 4]), classes=(0, 7, 1))

        assert found.answers.tolist() == [0, -1, -1, 0]
        assert found.probabilities is not None
        assert found.probabilities[:, 1].tolist() == [0.5] * 4

    @pytest.mark.parametrize(
        ("arrays", "how", "words"),
        [
            ((LABELS[:3],), {}, "gave 3 answers for 4 rows"),
            ((LABELS + 5,), {}, "something else than predictions"),
            ((LABELS - 1,), {}, "something else than predictions"),
            ((LABELS, CHANCES[:3]), {}, "probabilities for another number of rows"),
            ((LABELS, CHANCES * 2), {}, "not between 0 and 1, or do not add up to 1"),
            ((LABELS, CHANCES - 0.5), {}, "not between 0 and 1"),
            ((LABELS, CHANCES * np.nan), {}, "not between 0 and 1"),
            ((LABELS,), {"classes": ("a", "b")}, "predicts 'a', 'b'; none of it is a class of the target"),
            ((LABELS,), {"classes": ()}, "more classes than a classifier has"),
            ((LABELS,), {"classes": range(2000)}, "more classes than a classifier has"),
            ((LABELS,), {"classes": ([], {})}, "something else than predictions"),
            ((LABELS,), {"header": {"single_seconds": []}}, "something else than predictions"),
            ((LABELS,), {"header": {"batch_seconds": float("inf")}}, "something else than predictions"),
            ((LABELS,), {"header": {"batch_seconds": "soon"}}, "something else than predictions"),
            ((LABELS,), {"header": {"padding": "x" * (1 << 20)}}, "something else than predictions"),
        ],
    )
    def test_nonsense_is_no_prediction(self, arrays: tuple[Any, ...], how: dict[str, Any], words: str) -> None:
        with pytest.raises(ModelFailed, match=f"The candidate m/v1.*{words}"):
            handed_over(*arrays, **how)

    @pytest.mark.parametrize("junk", [b"", b"\x00", b"\xff\xff\xff\xff", b"\x02\0\0\0[]", b"\x05\0\0\0{{{{{"])
    def test_neither_is_junk(self, junk: bytes) -> None:
        with pytest.raises(ModelFailed, match="something else than predictions"):
            predictions.read(junk, rows=4, classes=(0, 1), whose="The candidate m/v1")

    @pytest.mark.parametrize("given", [[1.0, 2.0], [1.0, 2.0, 3.0, np.nan], [1.0, 2.0, 3.0, np.inf]])
    def test_numbers_must_be_as_many_as_rows_and_finite(self, given: list[float]) -> None:
        told = {"classes": None, "single_seconds": [0.1], "batch_seconds": 0.1, "load_seconds": 0.1}
        header = json.dumps(told).encode()
        content = struct.pack("<I", len(header)) + header + np.array(given).tobytes()

        with pytest.raises(ModelFailed, match=r"gave 2 answers for 4 rows|no finite number for 1 of 4 rows"):
            predictions.read(content, rows=4, classes=None, whose="The candidate m/v1")
