"""YAML that people write and we check: the first mistake is named with file and line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from services.errors import InvalidSettings

M = TypeVar("M", bound=BaseModel)


MAX_VALUES, MAX_DEPTH, MAX_NUMBER = 20_000, 50, 100
"""Values of one document, levels of it, and characters of a number: PyYAML takes a second for 80,000 values, and much
longer for a number such as 1:1:1:1… of base 60. A document of MLflow has a hundred values on five levels."""
_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}


class NotYaml(ValueError):
    """It is not YAML that is read here; ``line`` is where, from 1, where that is known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        self.problem, self.line = problem, line
        super().__init__(problem)


class _Plain(yaml.SafeLoader):
    """In bounds, and without aliases: few lines of them unfold into more than any memory holds, and some for ever."""

    values = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event, before = self.peek_event(), self.values  # type: ignore[no-untyped-call]
        mark, repeated = event.start_mark, isinstance(event, yaml.AliasEvent)
        self.values, self.depth = before + (self._repeats(event) if repeated else 1), self.depth + 1
        if self.values > MAX_VALUES:
            raise yaml.composer.ComposerError(None, None, f"it has more than {MAX_VALUES:,} values", mark)
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"it is nested more than {MAX_DEPTH} levels deep", mark)
        node = super().compose_node(parent, index)
        if node and node.tag in _NUMBERS and len(node.value) > MAX_NUMBER:
            raise yaml.composer.ComposerError(None, None, f"a number has more than {MAX_NUMBER} characters", mark)
        self.depth -= 1
        if not repeated:
            self._composed(node, self.values - before)
        return node

    def _repeats(self, event: Any) -> int:
        raise yaml.composer.ComposerError(None, None, "aliases such as *this are not taken", event.start_mark)

    def _composed(self, node: yaml.Node | None, values: int) -> None:
        """Told of each node with all that is in it."""


class _Foreign(_Plain):
    """With aliases, which PyYAML writes for what is in a document twice; each counts for all that it repeats."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._sizes: dict[int, int] = {}

    def _repeats(self, event: Any) -> int:
        size = self._sizes.get(id(self.anchors.get(event.anchor)))
        if size is None:
            raise yaml.composer.ComposerError(None, None, "an alias repeats what it is part of", event.start_mark)
        return size

    def _composed(self, node: yaml.Node | None, values: int) -> None:
        self._sizes[id(node)] = values


def foreign(content: bytes) -> Any:
    """What a document of strangers says; `NotYaml` where it is none, is out of bounds, or says a thing twice."""
    try:
        _, document, doubled = _read(content.decode(), _Foreign)
    except UnicodeDecodeError as error:
        raise NotYaml("it is not UTF-8") from error
    if doubled is not None:
        raise NotYaml(f"{doubled.value[:80]!r} is given twice", doubled.start_mark.line + 1)
    return document


def _read(text: str, loading: type[_Plain]) -> tuple[yaml.Node | None, Any, Any]:
    """The node of the one document, what it says, and the node of the second of two equal keys or None."""
    try:
        loader = loading(text)
        node = loader.get_single_node()
        doubled = _doubled_key(node)
        return node, loader.construct_document(node) if node else None, doubled
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise NotYaml(getattr(error, "problem", None) or "unreadable", mark.line + 1 if mark else None) from error
    except (ValueError, LookupError, ArithmeticError, AttributeError, TypeError, RecursionError) as error:
        # A day such as 2026-02-30, a number too long, !!bool perhaps, a thousand brackets: PyYAML lets each through.
        raise NotYaml("it holds a value that cannot be read") from error


def text_of(file: Path) -> str:
    """The text of a file; raises `InvalidSettings` where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{file.name}: cannot be read ({error}).") from error


def checked(
    text: str, file: str, model: type[M], *, what: str, hint: str, context: Mapping[str, Any] | None = None
) -> M:
    """Read one document as ``model``.

    Args:
        what: what the document is called in a sentence; ``hint`` says what it is a mapping with.
        context: what the model's validators may look at.

    Raises:
        InvalidSettings: with ``file:line`` and one sentence for the first mistake.
    """
    try:
        node, document, doubled = _read(text, _Plain)
    except NotYaml as error:
        line = f":{error.line}" if error.line else ""
        raise InvalidSettings(f"{file}{line}: not YAML ({error.problem}).") from error
    if not isinstance(document, dict):
        raise InvalidSettings(f"{file}:1: a {what} is a mapping with {hint}.")
    if doubled is not None:
        raise InvalidSettings(f"{file}:{doubled.start_mark.line + 1}: {doubled.value} is given twice.")
    try:
        return model.model_validate(document, context=dict(context or {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidSettings(f"{file}:{_line(node, first['loc'])}: {where or what}: {message}.") from error


def _doubled_key(node: yaml.Node | None) -> Any:
    """The node of the second of two equal keys, or None: YAML readers silently keep the last one."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    return key
                seen.add(key.value)
            if (found := _doubled_key(value)) is not None:
                return found
    elif isinstance(node, yaml.SequenceNode):
        return next((found for item in node.value if (found := _doubled_key(item)) is not None), None)
    return None


def _line(node: yaml.Node | None, path: tuple[int | str, ...]) -> int:
    """The line of the deepest node on ``path``, counted from 1."""
    line = node.start_mark.line if node else 0
    for part in path:
        step: Any = None
        if isinstance(node, yaml.MappingNode):
            step = next(((key, value) for key, value in node.value if key.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            step = (node.value[part], node.value[part])
        if step is None:
            break
        line, node = step[0].start_mark.line, step[1]
    return line + 1
