"""Which policy judges each registered model: assigned at first sight and by decision, whatever its tags say later.

A model's tags and name are anybody's in MLflow, so they choose once: when Signoff first sees the model. What they
choose after that judges beside the assigned policy, until a release manager decides (`services.verbs.policies`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from services import agreement
from services.domain import Actor, RegisteredModel, VersionRef
from services.errors import InvalidSettings, Refused
from services.policy import Assignment, Policy, PolicyBook
from services.record import filing, ledger
from services.record.deviations import RECONCILER
from services.record.ledger import Entry, Kind
from services.signoff import Signoff
from services.snapshot import Listing, Snapshots
from services.tables import policy_assignments as table

MET_AT_ONCE = 500
"""Models that one event assigns; a registry of any size is met without an event for each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Judges:
    """Which policy judges each registered model, for all of them; to show, never to decide upon."""

    book: PolicyBook
    assigned: Mapping[str, Assignment]
    state: tuple[int, int]

    def match(self, model: RegisteredModel) -> Policy:
        """What judges one model; raises as `PolicyBook.judging`."""
        return self.book.judging(model, self.assigned.get(model.name))


def judging(signoff: Signoff, model: RegisteredModel) -> Policy:
    """What judges a model at this moment.

    Raises:
        InvalidSettings: no policy does, two of equal priority would, or the assigned one is gone.
        LedgerUnavailable.
    """
    with signoff.database.reading() as connection:
        return signoff.policies.judging(model, assigned(connection, model.name))


def assigned(connection: Connection, name: str) -> Assignment | None:
    """What was assigned to a model, if anything was."""
    row = connection.execute(sa.select(table).where(table.c.model == name)).one_or_none()
    return _from(row) if row else None


def judges(signoff: Signoff) -> Judges:
    """What judges any model, for pages that show many; read again only when something was assigned since."""
    with signoff.database.reading() as connection:
        count, last = connection.execute(sa.select(sa.func.count(), sa.func.max(table.c.seq))).one()
        with _lock:
            known = _known.get(signoff.snapshot)
        if known and known.book is signoff.policies and known.state == (count, last or 0):
            return known
        found = {row.model: _from(row) for row in connection.execute(sa.select(table))}
    now = Judges(book=signoff.policies, assigned=found, state=(count, last or 0))
    with _lock:
        _known[signoff.snapshot] = now
    return now


_known: WeakKeyDictionary[Snapshots, Judges] = WeakKeyDictionary()
_lock = threading.Lock()


def at_first_sight(signoff: Signoff, model: RegisteredModel, ref: VersionRef, actor: Actor) -> None:
    """Assign what tags and name choose at the first verb about a model; nothing where something is assigned."""
    with signoff.database.reading() as connection:
        if assigned(connection, model.name) or _was_assigned(connection, [model.name]):
            return
    policy = signoff.policies.match(model)
    try:
        with signoff.database.writing() as connection:
            ledger.append(
                connection,
                Entry(
                    kind=Kind.POLICY_ASSIGNED,
                    actor=actor,
                    at=signoff.now(),
                    ref=ref,
                    comment=f"Policy {policy.rules.name} judges {model.name}; at first sight tags and name choose it.",
                    details={"models": {model.name: policy.rules.name}, "tags": _chosen_by(signoff.policies, model)},
                ),
            )
    except IntegrityError:
        return  # somebody else saw it first


def meet(signoff: Signoff, listing: Listing, renamed: Mapping[str, str]) -> None:
    """Assign to every model of a full reading that has no policy yet what its tags and name choose.

    What no policy is for, or two are, is met when that is mended.

    Args:
        renamed: old name → new name; what was assigned under the old one stays assigned.
    """
    with signoff.database.reading() as connection:
        known = {row.model: row.policy for row in connection.execute(sa.select(table.c.model, table.c.policy))}
        true = {old for old in renamed if old in known and not any(agreement.assignment(connection, old))}
        gone = _was_assigned(connection, listing.models.keys() - known.keys())
    before = {new: known[old] for old, new in renamed.items() if old in true}
    unmet = [model for name, model in listing.models.items() if name not in known and name not in gone]
    chosen = {model.name: name for model in unmet if (name := before.get(model.name) or _choice(signoff, model))}
    for some in _batches(chosen, MET_AT_ONCE):
        try:
            with signoff.database.writing() as connection:
                ledger.append(connection, _met(some, signoff.now()))
        except IntegrityError:
            return  # another dashboard meets them right now; whom it leaves out is met in the next pass


def _was_assigned(connection: Connection, models: Iterable[str]) -> set[str]:
    """Those of which an event says so; one whose row is gone is not met anew, and every decision about it refuses."""
    keys = {filing.about_policy_of(model): model for model in models}
    told, _ = filing.numbers(connection, keys)
    return {keys[key] for key, numbers in told.items() if numbers}


def require_kept(signoff: Signoff, model: RegisteredModel, after: RegisteredModel, key: str) -> None:
    """Raise `Refused` when a change of the tag ``key`` would let another policy than the assigned one judge a model.

    A model without an assignment is not one that Signoff has seen, and its tags are free. So is a change that leaves
    the choice as it is, or leads back to the assigned policy.

    Raises:
        Refused: with the name of the policy and who decides; the record keeps what was asked for.
        LedgerUnavailable.
    """
    with signoff.database.reading() as connection:
        now = assigned(connection, model.name)
    if now is None:
        return
    try:
        chosen = signoff.policies.chosen(after)
        name = chosen.rules.name if chosen else now.policy
    except InvalidSettings:
        name = ""
    if name in {now.policy, now.passed_over, _choice(signoff, model)}:
        return
    effect = f"policy {name} would judge it too" if name else "two policies of equal priority would be for it"
    raise Refused(
        f"The tag {key} chooses which policy judges {model.name}, and policy {now.policy} was assigned to it. "
        f"With this change {effect}. A release manager decides which policy judges it: "
        f"signoff policy assign {model.name} --policy {name or 'NAME'} --reason …",
        {"policy_tag": {"model": model.name, "key": key, "value": after.tags.get(key), "chooses": name}},
    )


def _met(models: Mapping[str, str], at: datetime) -> Entry:
    what = f"{len(models)} registered model{'' if len(models) == 1 else 's'}"
    return Entry(
        kind=Kind.POLICY_ASSIGNED,
        actor=RECONCILER,
        at=at,
        comment=f"Met {what}; at first sight tags and names choose the policies.",
        details={"models": dict(models)},
    )


def _choice(signoff: Signoff, model: RegisteredModel) -> str | None:
    try:
        return signoff.policies.match(model).rules.name
    except InvalidSettings:
        return None


def _chosen_by(book: PolicyBook, model: RegisteredModel) -> dict[str, str]:
    return {key: value[:80] for key, value in model.tags.items() if key in book.model_tags}


def _batches(models: Mapping[str, str], size: int) -> Iterator[Mapping[str, str]]:
    names = sorted(models)
    for start in range(0, len(names), size):
        yield {name: models[name] for name in names[start : start + size]}


def _from(row: Any) -> Assignment:
    return Assignment(policy=row.policy, passed_over=row.passed_over, by=row.by, at=row.at, seq=row.seq)
