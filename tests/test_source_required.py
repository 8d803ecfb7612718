"""No function and no type assumes a door: a forgotten ``source`` is an error, and no event with the wrong door."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from services import desk
from services.domain import Actor
from services.settings import PROJECT
from tests import verbs

OURS = ("services", "api", "commands", "components", "pages", "stack", "web")
VERBS = {
    f"{name}.{function}": inspect.signature(getattr(module._module, function)).parameters["source"]
    for name, module in vars(verbs).items()
    if isinstance(module, verbs.ThroughTheBrowser)
    for function, found in vars(module._module).items()
    if inspect.isfunction(found) and "source" in inspect.signature(found).parameters
}
"""Every function of a verb's module that takes a source, by its name."""


def assumed(tree: ast.AST) -> Iterator[int]:
    """The lines where a parameter or a field of type `Source` has a default."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            positional = [*node.posonlyargs, *node.args]
            given = dict(zip(reversed(positional), reversed(node.defaults), strict=False))
            given |= {one: value for one, value in zip(node.kwonlyargs, node.kw_defaults, strict=True) if value}
            yield from (one.lineno for one in given if one.annotation and "Source" in names(one.annotation))
        elif isinstance(node, ast.AnnAssign) and node.value and "Source" in names(node.annotation):
            yield node.lineno


def names(annotation: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_needs_a_source(name: str) -> None:
    assert VERBS[name].default is inspect.Parameter.empty


def test_all_verbs_are_looked_at() -> None:
    assert {"desk.perform", "reviews.approve", "releases.promote", "redress.restore", "automation.auto"} <= VERBS.keys()
    assert "source" in inspect.signature(desk.roll_back).parameters


def test_so_does_who_acts() -> None:
    with pytest.raises(TypeError, match="source"):
        Actor(username="ana", name="Ana", roles=frozenset())  # type: ignore[call-arg]


@pytest.mark.parametrize("folder", OURS)
def test_nothing_else_assumes_one(folder: str) -> None:
    def found(file: Path) -> list[str]:
        return [f"{file.relative_to(PROJECT)}:{line}" for line in assumed(ast.parse(file.read_text()))]

    assert [place for file in sorted((PROJECT / folder).rglob("*.py")) for place in found(file)] == []


def test_what_is_looked_for_is_found() -> None:
    keyword = "def f(*, source: Source = X): ..."
    optional = "def f(a, source: Source | None = None): ..."
    field = "class C:\n  source: Source = X"
    required = "def f(a, source: Source, *, b=1): ...\nclass C:\n  source: Source"
    assert [list(assumed(ast.parse(code))) for code in (keyword, optional, field, required)] == [[1], [1], [2], []]
