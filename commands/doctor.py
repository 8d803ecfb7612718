"""``signoff doctor [--registry]``: what is reachable and valid, and which versions the gate would refuse."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.local import Json, answer, gate_token, opened, waiting
from commands.remote import REFUSED, UNREACHABLE
from services import proofs
from services.errors import (
    InvalidSettings,
    LedgerBroken,
    LedgerUnavailable,
    Refused,
    RegistryUnavailable,
    SignoffError,
)
from services.policy import PolicyBook
from services.record import condition, mirror
from services.record.condition import State
from services.settings import PROJECT, mlflow_uri
from services.views.diagnosis import Diagnosis, diagnose

SHOWN = 20
"""Versions of one group on the terminal; ``--json`` has them all."""


def doctor(
    registry: Annotated[
        bool, typer.Option("--registry", help="List which versions would be refused as they are, and why.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is reachable and valid; exit code 1 when something is wrong, 3 when something is unreachable."""
    if registry:
        _registry(as_json=as_json)
    else:
        _installation(as_json=as_json)


def _registry(*, as_json: bool) -> None:
    policies = PolicyBook.load(_policies())
    from services.mlflow.registry import MlflowRegistry  # imports MLflow: seconds

    with waiting("Reading the registry"):
        found = diagnose(MlflowRegistry(mlflow_uri()), policies)
    answer(found.as_json(), "\n".join(_report(found)), as_json=as_json)
    if found.symptoms:
        raise typer.Exit(REFUSED)


def _report(found: Diagnosis) -> Iterator[str]:
    for cause, group in found.groups.items():
        yield f"{cause} ({len(group)})"
        for one in group[:SHOWN]:
            yield f"  {_printable(one.model)}{f'/v{one.version}' if one.version else ''}: {_printable(one.sentence)}"
        if len(group) > SHOWN:
            yield f"  and {len(group) - SHOWN} more, which --json lists"
        yield ""
    reasons = _counted(len(found.symptoms), "reason") if found.symptoms else "No reason"
    looked = f"{_counted(found.versions, 'version')} of {_counted(found.models, 'model')}"
    yield f"{reasons} to refuse {'among' if found.symptoms else 'any of'} {looked}."
    yield f"Not looked at: {'; '.join(found.unseen)}."


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _installation(*, as_json: bool) -> None:
    checks, codes = [], set()
    for what, look in (
        ("policies", _policies_valid),
        ("database", _database),
        ("record", _record),
        ("tags", _tags),
        ("MLflow", _mlflow),
    ):
        try:
            checks.append({"what": what, "fine": True, "words": look()})
        except SignoffError as error:
            checks.append({"what": what, "fine": False, "words": str(error)})
            codes.add(UNREACHABLE if isinstance(error, LedgerUnavailable | RegistryUnavailable) else REFUSED)
    lines = [f"{'✓' if one['fine'] else '✗'} {one['what']}: {one['words']}" for one in checks]
    found: dict[str, Any] = {"fine": not codes, "checks": checks}
    answer(found, "\n".join(lines), as_json=as_json)
    if codes:
        raise typer.Exit(max(codes))


def _policies_valid() -> str:
    return f"{len(PolicyBook.load(_policies()).policies)} in {_policies()}, no mistake"


def _database() -> str:
    _, database = opened(told=False)
    return f"{database.place} is reachable, with the tables of this version"


def _record() -> str:
    settings, database = opened(told=False)
    found, _ = condition.examined(database, settings, None, at=datetime.now(UTC))
    if found.state is not State.INTACT:
        raise LedgerBroken(found.sentence, found.seq)
    return f"{_counted(found.events, 'event')}, as recorded; 'signoff ledger verify' also asks the witness in MLflow"


def _tags() -> str:
    _, database = opened(told=False)
    if found := mirror.stuck(database):
        more = f" So it is with {_counted(len(found) - 1, 'more version')}." if len(found) > 1 else ""
        raise Refused(_printable(found[0].sentence) + more)
    return "none that MLflow refused again and again"


def _mlflow() -> str:
    from services.mlflow.registry import MlflowRegistry  # imports MLflow: seconds

    server = MlflowRegistry(mlflow_uri())
    server.ping()
    token = gate_token()
    found = proofs.hook(server, token)
    if wrong := proofs.problem(found, token):
        raise InvalidSettings(wrong)
    hook = (
        f"its hook asks Signoff at {found.asks} before protected changes, and both have the same SIGNOFF_GATE_TOKEN"
        if found
        else "it has no hook, so changes past Signoff are found and not prevented, and no file is guarded"
    )
    return f"{mlflow_uri()} answers; {hook}"


def _policies() -> Path:
    return Path(os.environ.get("SIGNOFF_POLICIES") or PROJECT / "policies").resolve()


def _printable(text: str) -> str:
    """Names and sources are anybody's; a terminal obeys what it is sent."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
