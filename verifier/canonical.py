"""Canonical JSON (RFC 8785): the same content always gives the same bytes, so a hash means the same everywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from json.encoder import encode_basestring
from typing import Any

MAX_INTEGER = 2**53 - 1
"""The largest whole number every JSON reader keeps exactly; a larger one is refused."""

_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False).encode


def canonical(value: Any) -> bytes:
    """``value`` (dict, list, str, int, float, bool, None) as canonical JSON in UTF-8.

    Raises:
        ValueError: NaN, an infinity, a whole number beyond 2**53, a lone surrogate, or nesting beyond all measure.
        TypeError: something JSON has no word for.
    """
    try:
        text = _encode(value) if _is_plain(value) else "".join(_parts(value))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return text.encode()


def _is_plain(value: Any) -> bool:
    """Whether the standard library's encoder, ten times as fast, writes ``value`` canonically.

    It differs in two things: how it writes floats, and the order of keys beyond ASCII.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if not (isinstance(key, str) and key.isascii() and (type(item) is str or _is_plain(item))):
                return False
        return True
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, int):
        return -MAX_INTEGER <= value <= MAX_INTEGER
    return value is None or isinstance(value, str)


def _parts(value: Any) -> Iterator[str]:  # noqa: C901  (one case for each kind of JSON value)
    match value:
        case None:
            yield "null"
        case bool():
            yield "true" if value else "false"
        case str():
            yield encode_basestring(value)
        case int():
            if not -MAX_INTEGER <= value <= MAX_INTEGER:
                raise ValueError("a whole number beyond 2**53 is not the same to every reader")
            yield int.__repr__(value)
        case float():
            yield number(value)
        case dict():
            yield "{"
            for index, key in enumerate(sorted(value, key=_utf16)):
                yield f"{',' if index else ''}{encode_basestring(key)}:"
                yield from _parts(value[key])
            yield "}"
        case list() | tuple():
            yield "["
            for index, item in enumerate(value):
                yield "," if index else ""
                yield from _parts(item)
            yield "]"
        case _:
            raise TypeError(f"JSON has no {type(value).__name__}")


def _utf16(key: Any) -> bytes:
    """What keys are sorted by: their UTF-16 code units."""
    if not isinstance(key, str):
        raise TypeError("a key that is no text")
    return key.encode("utf-16-be")


def number(value: float) -> str:
    """A float as ECMAScript writes it: the shortest digits that read back the same, 21 places before an exponent."""
    if not math.isfinite(value):
        raise ValueError(f"JSON has no {value}")
    if value == 0:
        return "0"
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The value is 0.DIGITS times ten to the power of `point`.
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"
