"""The verifier's canonical JSON is RFC 8785, byte for byte what the reference library writes."""

from __future__ import annotations

import math
import struct

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from verifier.canonical import MAX_INTEGER, canonical, number

numbers = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(min_value=-MAX_INTEGER, max_value=MAX_INTEGER)
texts = st.text(st.characters(exclude_categories=["Cs"]))
documents = st.recursive(
    st.none() | st.booleans() | whole | numbers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)


@given(documents)
def test_any_document_is_written_as_the_reference_writes_it(document: object) -> None:
    assert canonical(document) == rfc8785.dumps(document)


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_any_bit_pattern_of_a_double_is_written_as_ecmascript_does(bits: int) -> None:
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    if math.isfinite(value):
        assert number(value).encode() == rfc8785.dumps(value)
        assert float(number(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (1.0, "1"), (0.1, "0.1"), (1e21, "1e+21"), (1e20, "100000000000000000000"),
        (123456789012345680000.0, "123456789012345680000"), (1e-6, "0.000001"), (1e-7, "1e-7"), (-1.5e-10, "-1.5e-10"),
        (5e-324, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e+308"),
        (333333333.33333329, "333333333.3333333"),
        (4.35, "4.35"), (0.002, "0.002"),
    ],
)  # fmt: skip
def test_the_examples_of_the_standard(value: float, text: str) -> None:
    assert number(value) == text


def test_keys_are_sorted_by_their_utf_16_code_units() -> None:
    assert canonical({"\ufb33": 1, "\U0001f600": 2, "€": 3, "1": 4, "\r": 5}).decode() == (
        '{"\\r":5,"1":4,"€":3,"\U0001f600":2,"\ufb33":1}'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53, -(2**53), "\ud800", {"\ud800": 1}, [2**60, 0.5]])
def test_what_readers_take_differently_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical(value)


@pytest.mark.parametrize("value", [{1: 2}, {None: 0.5}, object(), {1, 2}, b"bytes"])
def test_what_json_has_no_word_for_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical(value)


def test_bottomless_nesting_is_refused_and_does_not_crash() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested"):
        canonical(deep)
