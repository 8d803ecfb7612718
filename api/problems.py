"""What is wrong with a request, in plain words: the field, what was given, and what is allowed.

pydantic tells it in its own terms, and of a body that may have one of several shapes it tells what is wrong with each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from api.parameters import DAY, DIGEST, VERSION, WITHOUT_NUL

MAX_PROBLEMS = 5
MAX_GIVEN = 80
"""Characters of what was given that are repeated."""

_PATTERNS = {
    VERSION: "a version number such as 3",
    WITHOUT_NUL: "text without a NUL character",
    DAY: "a day such as 2026-12-01",
    DIGEST: "a digest of 64 characters, as the verdict has it under seen",
}
_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "an object with named fields",
    "model_type": "an object with named fields",
    "model_attributes_type": "an object with named fields",
    "string_unicode": "text in UTF-8",
}
_LIMITS = {
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "less than {lt}",
    "enum": "{expected}",
    "literal_error": "{expected}",
}
_ABSENT = frozenset({"missing", "extra_forbidden"})


def told(errors: Sequence[Mapping[str, Any]], body: Any, takes: Iterable[str] = ()) -> str:
    """Every problem in one line.

    Args:
        errors: as pydantic lists them; the first part of ``loc`` is where the value came from, such as ``body``.
        body: what was sent, as far as it is JSON.
        takes: the names of the fields that the call takes; empty where that is not known.
    """
    found = _of_the_shape_that_was_meant([(*_place(error, body), error) for error in errors])
    if not_both := _too_many(found):
        return not_both
    missing = list(dict.fromkeys(path for path, _, error in found if error["type"] == "missing" and path))
    sentences = [f"{' or '.join(missing)} is missing"] if missing else []
    allowed: dict[str, list[Mapping[str, Any]]] = {}
    for path, _, error in found:
        if error["type"] != "missing" or not path:
            allowed.setdefault(path, []).append(error)
    sentences += [_problem(path, some, takes) for path, some in allowed.items()]
    line = f"{'; '.join(sentences[:MAX_PROBLEMS])}."
    return line.encode(errors="backslashreplace").decode()  # JSON can hold half a character


_Found = tuple[str, tuple[Any, ...], Mapping[str, Any]]
"""The path of a field, the names of the shapes that pydantic tried on the way, and what it says."""


def _place(error: Mapping[str, Any], body: Any) -> tuple[str, tuple[Any, ...]]:
    where, *rest = error["loc"]
    if where != "body":
        return str(rest[0]) if rest else str(where), ()
    path: list[str] = []
    tried: list[Any] = []
    value = body
    for number, part in enumerate(rest):
        last = number == len(rest) - 1
        if (isinstance(value, Mapping) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            path.append(str(part))
            value = value[part]
        elif last and error["type"] in _ABSENT:
            path.append(str(part))
        else:
            tried.append(part)
    return ".".join(path), tuple(tried)


def _of_the_shape_that_was_meant(found: Sequence[_Found]) -> list[_Found]:
    """Of several shapes those that lack least; two that lack as much are both told of."""
    shapes: dict[tuple[Any, ...], list[_Found]] = {}
    for one in found:
        shapes.setdefault(one[1], []).append(one)
    every = shapes.pop((), [])
    cost = {shape: (sum(e["type"] in _ABSENT for *_, e in some), len(some)) for shape, some in shapes.items()}
    least = min(cost.values(), default=None)
    return every + [one for shape, some in shapes.items() if cost[shape] == least for one in some]


def _too_many(found: Sequence[_Found]) -> str:
    """What is to be said where fields exclude each other; empty where they do not."""
    shapes = {tried for _, tried, _ in found}
    fields = list(dict.fromkeys(path for path, *_ in found))
    if len(shapes) < 2 or len(fields) < 2 or any(error["type"] != "extra_forbidden" for *_, error in found):
        return ""
    each = [{path for path, tried, _ in found if tried == shape} for shape in shapes]
    return f"Give {' or '.join(fields)}, not both." if all(some != each[0] for some in each[1:]) else ""


def _problem(path: str, errors: Sequence[Mapping[str, Any]], takes: Iterable[str]) -> str:
    first = errors[0]
    match first["type"]:
        case "missing":
            return "A body of JSON is missing"
        case "json_invalid":
            return "The body is no JSON"
        case "extra_forbidden":
            known = ", ".join(sorted(takes)) if "." not in path else ""
            return f"{path} is no field of this call" + (f", which takes {known}" if known else "")
        case "value_error" | "assertion_error":
            words = str(first["msg"]).partition(", ")[2] or str(first["msg"])
            return f"{path}: {words}" if path else words
    # Where one of two kinds of values fits, only its limit is of interest.
    limits = [error for error in errors if error["type"] not in _TYPES] or errors
    allowed = " or ".join(dict.fromkeys(_allowed(error) for error in limits))
    return f"{path or 'The body'}: {_given(first.get('input'))} is given; allowed is {allowed}"


def _allowed(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context.get("pattern", ""), f"what fits {context.get('pattern')}")
    if kind in {"string_too_short", "too_short"} and context["min_length"] == 1:
        return "one that is not empty"
    if kind in _LIMITS:
        return _LIMITS[kind].format(**context)
    return _TYPES.get(kind, "something else")


def _given(value: Any) -> str:
    if isinstance(value, str) and len(value) > MAX_GIVEN:
        return f"text of {len(value):,} characters"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_GIVEN else f"{text[: MAX_GIVEN - 1]}…"
