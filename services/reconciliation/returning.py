"""What comes back as champion when a change past Signoff is put back: one version, alone, judged as a rollback is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import SecretStr
from sqlalchemy.engine import Connection

from services import facts
from services.domain import Action, Actor, ModelVersion, Stage, VersionRef
from services.errors import Refused
from services.evidence import Facts
from services.gate import evaluate
from services.policy import Policy, Target
from services.reconciliation import prescription
from services.reconciliation.drift import Difference, Seen
from services.record.deviations import Deviation
from services.record.ledger import Kind
from services.signoff import Signoff
from services.steps.changes import Change
from services.steps.intents import Judge, Judged
from services.verbs.common import Said, allowed, judged_again, refuse_before_files, sign


def returns(target: Target, one: Difference | Deviation) -> bool:
    """Whether putting this back brings a version back as champion: by its stage, or by the champion's alias."""
    if one.kind is Kind.OUTSIDE_STAGE:
        return one.prescribed == target.stage
    alias = one.subject.removeprefix("alias:")
    return one.kind is Kind.OUTSIDE_ALIAS and one.prescribed is not None and alias.casefold() == target.alias.casefold()


def champion(name: str, target: Target, prescribed: Seen, moved: Iterable[Difference]) -> int | None:
    """The version that comes back as champion of a model when ``moved`` is put back; None where none does.

    Raises:
        Refused: something else than the champion by the record would come back.
    """
    back = [one for one in moved if returns(target, one)]
    if not back:
        return None
    named = {number(one.prescribed) or one.version for one in back if one.kind is Kind.OUTSIDE_ALIAS}
    brought = named | {one.version for one in back if one.kind is Kind.OUTSIDE_STAGE}
    recorded = prescription.reigning(prescribed, alias=target.alias, stage=target.stage)
    if recorded not in brought or named - {recorded}:
        shown = " and of ".join(f"v{other}" for other in sorted(brought - {recorded}))
        raise Refused(
            f"By the record {f'v{recorded}' if recorded else 'no version'} is the champion of {name}, and no other "
            f"version goes back to {target.stage}: adopt what MLflow shows of {shown}."
        )
    return recorded


def alone(change: Change, champion: int, stage: str, versions: Mapping[int, ModelVersion]) -> Change:
    """The same change, about the champion. Where that enters its stage, every other version is out of it afterwards."""
    own = versions[champion].stage
    before, after = {champion: own, **change.before.stages}, {champion: own, **change.after.stages}
    if before[champion] != after[champion]:
        rivals = {n: v.stage for n, v in versions.items() if n != champion and after.get(n, v.stage) == stage}
        before.update(rivals)
        after.update(dict.fromkeys(rivals, Stage.ARCHIVED.value))
    return replace(
        change,
        ref=VersionRef(name=change.ref.name, version=champion),
        before=replace(change.before, stages=before),
        after=replace(change.after, stages=after),
    )


def as_a_rollback(
    signoff: Signoff,
    ref: VersionRef,
    *,
    actor: Actor,
    details: Mapping[str, Any],
    password: SecretStr | None,
    still: Callable[[Connection], None],
) -> Judge:
    """Judge the return of ``ref`` as a rollback to it is judged: now, and by what is returned once more under the lock.

    Args:
        details: what the record keeps beside what was judged.
        still: raises under the lock where there is nothing to put back any more.

    Raises:
        GateRefused, WrongCredentials, NotFound, RegistryUnavailable: as `services.verbs.releases.rollback`.
    """

    def first(policy: Policy, seen: Facts) -> None:
        refuse_before_files(signoff, policy, seen, actor=actor, unsigned=password is None)

    policy, seen = facts.fresh(signoff, ref, rollback=True, first=first)
    signature = sign(signoff, policy, seen, actor, Action.ROLLBACK, password)

    def judge(_: object, now: Facts, who: Actor) -> Said:
        return allowed(policy, now, evaluate(policy, now, actor=who, signature=signature)), details

    judge(None, seen, actor)
    again = judged_again(signoff, policy, seen, actor=actor, action=Action.RESTORE, judge=judge, signature=signature)

    def judged(connection: Connection) -> Judged:
        still(connection)
        return again(connection)

    return judged


def number(text: str | None) -> int | None:
    """The version that an alias points at, from how differences word it."""
    return int(text.removeprefix("v")) if text else None
