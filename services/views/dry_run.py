"""What a policy that is not in force would have decided on past promotions. It changes nothing and guesses nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy.engine import Connection

from services import gate
from services.domain import VersionRef
from services.letters import blank
from services.policy import Policy, PolicyBook
from services.record import ledger
from services.record.ledger import Event, Filter, Kind
from services.recorded_facts import Rebuilt, rebuild
from services.verdict import Check

KINDS = (Kind.PROMOTION_CONFIRMED, Kind.PROMOTION_REFUSED, Kind.ROLLBACK_CONFIRMED, Kind.ROLLBACK_REFUSED)


class Answer(StrEnum):
    """What became of one check, or of all of them."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RECORDED = "not recorded"
    NOT_ASKED = "not asked"


class Decided(StrEnum):
    """What a policy says of one promotion."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    NOT_RECORDED = "not recorded"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One check that another policy answers otherwise. ``reason`` is a sentence about now, or about what is missing."""

    id: str
    title: str
    then: Answer
    now: Answer
    reason: str


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One past promotion or rollback, asked for and decided ``then`` under ``policy``, judged again."""

    seq: int
    at: datetime
    ref: VersionRef
    action: str
    by: str
    policy: str
    then: Decided
    now: Decided
    differences: tuple[Difference, ...]

    @property
    def changed(self) -> bool:
        """Whether it would be decided otherwise, as far as that can be known."""
        return self.now is not Decided.NOT_RECORDED and self.now is not self.then

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "event": self.seq,
            "at": self.at.isoformat(timespec="milliseconds"),
            "name": self.ref.name,
            "version": self.ref.version,
            "action": self.action,
            "by": self.by,
            "policy": self.policy or None,
            "then": self.then,
            "now": self.now,
            "changed": self.changed,
            "differences": [asdict(difference) for difference in self.differences],
        }


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Every promotion that the policy would have judged, newest first; ``elsewhere`` counts those it would not."""

    policy: Policy
    judged: tuple[Judged, ...]
    elsewhere: int

    def as_json(self) -> dict[str, Any]:
        """For programs. ``not_judged`` are checks that only people at the time could have answered."""
        return {
            "policy": self.policy.rules.name,
            "digest": self.policy.digest,
            "not_judged": ["signed"] if self.policy.rules.signing else [],
            "promotions": [one.as_json() for one in self.judged],
            "judged_by_other_policies": self.elsewhere,
        }


def dry_run(
    connection: Connection,
    policy: Policy,
    book: PolicyBook,
    *,
    model: str | None = None,
    since: datetime | None = None,
) -> DryRun:
    """Judge past promotions and rollbacks, carried out or refused by the gate, by ``policy``.

    Whether people would have signed where nobody asked them to is not judged.

    Args:
        policy: the one to try; it takes the place of the one of its name in ``book``.
        book: the policies in force. A promotion that another of them would judge is only counted.
        model: only this registered model.
        since: UTC; only what was decided from then on.
    """
    others = tuple(one for one in book.policies if one.rules.name != policy.rules.name)
    tried = PolicyBook(policies=(*others, policy))
    carried = _ASKED_BY_NO_POLICY | ({"signed"} if policy.rules.signing else set())
    unsigned = replace(policy, rules=policy.rules.model_copy(update={"signing": False}))
    judged, elsewhere = [], 0
    for event in ledger.stream(connection, Filter(model=model, kinds=KINDS, since=since)):
        if event.ref is None or not event.body["checks"]:
            continue  # refused for something else than what the gate says, or a count of such refusals
        rebuilt = rebuild(event, policy)
        mine = _judges(policy, tried, event, rebuilt)
        if mine is False:
            elsewhere += 1
        else:
            judged.append(_judge(unsigned, event, event.ref, rebuilt, sure=mine is True, carried=carried))
    return DryRun(policy=policy, judged=tuple(judged), elsewhere=elsewhere)


def _judges(policy: Policy, book: PolicyBook, event: Event, rebuilt: Rebuilt | None) -> bool | None:
    """Whether it would have judged this version; None when the tags that decide it were not recorded.

    Where no tags were recorded at all, it takes over what the policy of its name judged.
    """
    asked = {key for one in book.policies for key in one.rules.applies_to.tags}
    if rebuilt is None or rebuilt.kept is None:
        if str(event.get("policy") or "").rpartition("@")[0] == policy.rules.name:
            return True
        match = policy.rules.applies_to
        fits = any(fnmatchcase(str(event.body["model"]), pattern) for pattern in match.names)
        return None if fits or match.tags else False
    if any(rebuilt.tag(key, model=True) is None or not rebuilt.whole(key) for key in asked):
        return None
    assigned = rebuilt.facts.assigned
    judging = book.judging(rebuilt.facts.model, assigned if assigned and book.named(assigned.policy) else None)
    return policy.rules.name in {one.rules.name for one in judging.each}


def _judge(
    policy: Policy, event: Event, ref: VersionRef, rebuilt: Rebuilt | None, *, sure: bool, carried: Set[str]
) -> Judged:
    then, beside = _answered_then(policy, event)
    if rebuilt is None:
        now, differences = Decided.NOT_RECORDED, [_lacking("facts", "Facts", "what it was judged from")]
    elif not sure:
        now, differences = Decided.NOT_RECORDED, [_lacking("policy", "Judged by this policy", "the model's tags")]
    else:
        now, differences = _compared(policy, then, rebuilt, carried, beside)
    return Judged(
        seq=event.seq,
        at=event.at,
        ref=ref,
        action=event.kind.subject,
        by=event.actor,
        policy=str(event.get("policy") or ""),
        then=Decided.ALLOWED if event.kind.outcome == "confirmed" else Decided.REFUSED,
        now=now,
        differences=tuple(differences),
    )


def _answered_then(policy: Policy, event: Event) -> tuple[dict[str, Check], list[Check]]:
    """The checks to compare with, by their id under one policy, and those of a second one that judged beside it.

    Where ``policy`` was neither of the two, it takes the place of the one that tags or name chose.
    """
    names = list(dict.fromkeys(check.policy for check in event.verdict.checks))
    name = policy.rules.name if policy.rules.name in names else names[-1]
    then = {check.bare: check for check in event.verdict.checks if check.policy == name}
    return then, [check for check in event.verdict.checks if check.policy != name]


def _compared(
    policy: Policy, then: Mapping[str, Check], rebuilt: Rebuilt, carried: Set[str], beside: Sequence[Check]
) -> tuple[Decided, list[Difference]]:
    """What the very gate says of the facts as recorded, check by check; a second policy's answers stay as they were."""
    answers, differences = {_answer(check) for check in beside}, []
    checks = gate.evaluate(policy, rebuilt.facts, actor=rebuilt.actor).checks
    for check in checks:
        before = _answer(then[check.id]) if check.id in then else Answer.NOT_ASKED
        lacking = _unrecorded(check.id, rebuilt)
        if lacking and check.family in _SAME_UNDER_EVERY_POLICY and check.id in then:
            answers.add(before)  # the same question was asked then, of facts that are not kept
        elif lacking:
            answers.add(Answer.NOT_RECORDED)
            differences.append(_lacking(check.id, check.title, lacking, then=before))
        else:
            answers.add(now := _answer(check))
            if now is not before:
                differences.append(
                    Difference(id=check.id, title=check.title, then=before, now=now, reason=check.reason)
                )
    asked = {check.id for check in checks}
    answers |= {_answer(check) for check in then.values() if check.bare in carried}
    for check in then.values():
        if check.bare not in asked | carried:
            reason = f"It is not asked for; then: {check.reason}"
            differences.append(
                Difference(id=check.bare, title=check.title, then=_answer(check), now=Answer.NOT_ASKED, reason=reason)
            )
    if Answer.FAILED in answers:
        return Decided.REFUSED, differences
    return Decided.NOT_RECORDED if Answer.NOT_RECORDED in answers else Decided.ALLOWED, differences


_SAME_UNDER_EVERY_POLICY = {
    *("intact", "place", "signature", "input_example"),
    *("submitted", "released_before", "tag", "artifact"),
}
_ASKED_BY_NO_POLICY = {"findings", "settled"}
"""Checks that hold whatever the policy, and of facts that only their own answer of then is kept of."""
_KEPT_SINCE = {  # checks whose facts are in no event of before they were kept, and what is lacking there
    "intact": "whether it was complete",
    "signature": "whether it had a signature",
    "input_example": "whether it had an input example",
    "submitted": "whether it was submitted",
    "changes": "who had requested changes",
    "staging_time": "when it was submitted",
    "evidence_age": "when its evidence ended",
    "approvals": "which approvals counted, and since when",
    "released_before": "the files of its earlier promotion",
}
_ALWAYS_KEPT = {"metric", "champion", "freeze", "promoter"}


def _unrecorded(check: str, rebuilt: Rebuilt) -> str:
    """What a check would have to know and the event does not say; empty when it says it all."""
    family, _, about = check.partition(":")
    if family in _ALWAYS_KEPT:
        return ""
    if family in _KEPT_SINCE:
        return "" if rebuilt.kept is not None else _KEPT_SINCE[family]
    if family in {"place", "guarded_files"}:
        return "" if rebuilt.facts.candidate.place else "where its files lay"
    special = {"same_dataset": _data, "tag": _tag, "artifact": _artifact, "validation": _validation}.get(family)
    return special(about, rebuilt) if special else "what this check asks"


def _data(_: str, rebuilt: Rebuilt) -> str:
    facts = rebuilt.facts
    if rebuilt.kept is not None or facts.champion is None or facts.rollback_of is not None:
        return ""
    return "" if facts.candidate.holdout and facts.champion.holdout else "on which data it was measured"


def _validation(_: str, rebuilt: Rebuilt) -> str:
    return "" if rebuilt.kept is not None and "validations" in rebuilt.kept else "what validations had found"


def _tag(key: str, rebuilt: Rebuilt) -> str:
    values = rebuilt.tag(key), rebuilt.tag(key, model=True)
    return "" if any(value and not blank(value) for value in values) or None not in values else f"its tag {key}"


def _artifact(pattern: str, rebuilt: Rebuilt) -> str:
    return f"whether it had an artifact {pattern}" if rebuilt.path(pattern) is None else ""


def _lacking(check: str, title: str, what: str, *, then: Answer = Answer.NOT_ASKED) -> Difference:
    return Difference(
        id=check, title=title, then=then, now=Answer.NOT_RECORDED, reason=f"The record does not say {what}."
    )


def _answer(check: Check) -> Answer:
    return Answer.PASSED if check.passed else Answer.FAILED
