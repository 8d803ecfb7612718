"""The hook without a server: tells the core about calls on the in-memory registry, and makes what is prescribed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.admission import admissions
from services.admission.admissions import Answer
from services.admission.calls import Call, Told, What
from services.domain import VersionRef
from services.signoff import Signoff
from services.steps.changes import Change
from tests.fakes import FakeRegistry


def call(registry: FakeRegistry, what: What, name: str = "m", version: int | None = None, **more: Any) -> Call:
    """A call about what the registry holds now; ``every`` version of it is told."""
    told = Told(model=registry._models[name], versions=registry._of(name))
    return Call(what=what, name=name, version=version, told=(told,), **more)


def stage(registry: FakeRegistry, version: int, to: str, *, archive: bool = False, **more: Any) -> Call:
    return call(registry, What.STAGE, version=version, stage=to, archive_existing=archive, **more)


def alias(registry: FakeRegistry, name: str, version: int, **more: Any) -> Call:
    return call(registry, What.ALIAS_SET, version=version, alias=name, **more)


def ask(signoff: Signoff, asked: Call, *, waited: float = 0.0) -> Answer:
    """The whole of the gate's side of a call, up to the answer."""
    return admissions.at_once(signoff, asked) or admissions.judged(signoff, asked, lambda: waited)


def carry_out(registry: FakeRegistry, change: Change) -> None:
    """In one go, as the hook's database session does."""
    for number, to in change.after.stages.items():
        ref = VersionRef(name=change.ref.name, version=number)
        registry._versions[ref] = replace(registry._versions[ref], stage=to)
    model = registry._models[change.ref.name]
    aliases = {**model.aliases, **change.after.aliases}
    kept = {name: number for name, number in aliases.items() if number is not None}
    registry._models[change.ref.name] = replace(model, aliases=kept)


def do(signoff: Signoff, registry: FakeRegistry, asked: Call) -> Answer:
    """The whole of a call: asked, made, told."""
    answer = ask(signoff, asked)
    if answer.allowed and answer.change:
        carry_out(registry, answer.change)
    if answer.intent:
        admissions.conclude(signoff, answer.intent)
    return answer
