"""YAML that people write and we check: the first mistake is named with file and line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from services.errors import InvalidSettings

M = TypeVar("M", bound=BaseModel)


class _Plain(yaml.SafeLoader):
    """Without aliases: few lines of them unfold into more than any memory holds, and some into themselves."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases such as *this are not taken", mark)
        return super().compose_node(parent, index)


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
        node = yaml.compose(text, Loader=_Plain)
        document = yaml.load(text, Loader=_Plain)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InvalidSettings(f"{file}{line}: not YAML ({getattr(error, 'problem', None) or 'unreadable'}).") from error
    except (ValueError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
        # A day such as 2026-02-30, a number too long, !!bool perhaps, a thousand brackets: PyYAML lets each through.
        raise InvalidSettings(f"{file}: not YAML (it holds a value that cannot be read).") from error
    if not isinstance(document, dict):
        raise InvalidSettings(f"{file}:1: a {what} is a mapping with {hint}.")
    doubled = _doubled_key(node)
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
