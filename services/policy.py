"""Policies: what a version must show before it may go to Production. YAML in, checked types out."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self, get_args
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from services import documents
from services.accounts.permissions import ROLES_FOR, named
from services.domain import Action, MetricSource, RegisteredModel, Role, Stage
from services.errors import InvalidSettings
from services.validation.rule import ValidationRule

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MetricRule(_Strict):
    """What one metric must show. The semantics are those of MLflow's ``MetricThreshold``.

    ``min_absolute_change`` and ``min_relative_change`` compare with the champion, counted so that positive is
    better: 0 means "not worse", -0.01 means "at most 0.01 worse", 0.02 means "at least 0.02 better".
    """

    name: Text
    greater_is_better: bool
    threshold: Number | None = None
    min_absolute_change: Number | None = None
    min_relative_change: Number | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if (self.threshold, self.min_absolute_change, self.min_relative_change) == (None, None, None):
            raise ValueError(
                "a metric rule must ask for a threshold or a change; an empty rule would refuse everything"
            )
        return self


class ApprovalRule(_Strict):
    """So many approvals by people of one role."""

    role: Role = Field(strict=False)
    count: Annotated[int, Field(ge=1, le=20)] = 1

    @field_validator("role")
    @classmethod
    def _may_approve(cls, role: Role) -> Role:
        return _able(role, Action.APPROVE)


class Match(_Strict):
    """Which registered models a policy is for: a name pattern (``*``, ``?``) or a tag with its value."""

    names: tuple[Text, ...] = Field(default=(), strict=False)
    tags: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _matches_something(self) -> Self:
        if not self.names and not self.tags:
            raise ValueError("name at least one pattern or tag; a policy for nothing is a mistake")
        return self

    def __call__(self, model: RegisteredModel) -> bool:
        """Whether any pattern fits the name, or any tag has its value."""
        return any(fnmatch.fnmatchcase(model.name, pattern) for pattern in self.names) or any(
            model.tags.get(key) == value for key, value in self.tags.items()
        )


class Target(_Strict):
    """The stage and alias a candidate or a champion has in MLflow."""

    stage: Stage = Field(strict=False)
    alias: Text


class Freeze(_Strict):
    """A time in which nothing is promoted: a period, some days of the week, or those days within a period.

    ``from`` and ``until`` are local times of ``time_zone`` like ``2026-12-18 17:00``; ``until`` is not part of it.
    """

    title: Text
    time_zone: Text
    start: datetime | None = Field(default=None, alias="from", strict=False)
    until: datetime | None = Field(default=None, strict=False)
    days: tuple[Weekday, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if self.time_zone not in _time_zones():
            raise ValueError(f"{self.time_zone} is no time zone; write it like Europe/Berlin")
        if (self.start is None) != (self.until is None):
            raise ValueError("give both from and until, or neither")
        if self.start and self.until and self.start >= self.until:
            raise ValueError("from is not before until")
        if self.start is None and not self.days:
            raise ValueError("a freeze needs from and until, or days")
        if any(time and time.tzinfo for time in (self.start, self.until)):
            raise ValueError("from and until are local times; leave the offset out, time_zone says it")
        return self

    def holds(self, now: datetime) -> bool:
        """Whether ``now``, an aware time, lies in it.

        Where a local time comes twice, or not at all, as clocks change, it begins with the earlier and ends with the
        later of the two moments that it may mean.
        """
        zone = ZoneInfo(self.time_zone)
        within = True
        if self.start and self.until:
            within = min(_moments(self.start, zone)) <= now < max(_moments(self.until, zone))
        return within and (not self.days or WEEKDAYS[now.astimezone(zone).weekday()] in self.days)


def _moments(local: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """Both moments, in UTC, that a local time may mean; they are the same on most days."""
    return (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


@cache
def _time_zones() -> frozenset[str]:
    """Those that mean the same on every machine."""
    return frozenset(available_timezones() - {"localtime", "Factory"})


class Rules(_Strict):
    """The document a policy file holds."""

    name: Text
    title: Text
    risk: Literal["low", "medium", "high"] = "medium"
    priority: int = 0
    applies_to: Match
    candidate: Target = Target(stage=Stage.STAGING, alias="challenger")
    champion: Target = Target(stage=Stage.PRODUCTION, alias="champion")
    metrics: tuple[MetricRule, ...] = Field(min_length=1, strict=False)
    metric_source: MetricSource | None = Field(default=None, strict=False)
    """Whose value counts where run and logged model say different ones of one metric; None: a conflict is refused."""
    same_dataset: bool
    validation: ValidationRule | None = None
    signature: bool
    signing: bool = False
    input_example: bool = False
    required_tags: tuple[Text, ...] = Field(default=(), strict=False)
    required_artifacts: tuple[Text, ...] = Field(default=(), strict=False)
    guarded_files: Literal["shown", "required"] = "shown"
    """Whether files may lie where the hook in the MLflow server does not see every change of them."""
    max_evidence_age_days: Days | None = None
    min_hours_in_staging: Days | None = None
    freezes: tuple[Freeze, ...] = Field(default=(), strict=False)
    approvals_expire_after_days: Days | None = None
    automation: bool = False
    """Whether the approval of a service stands for all of ``approvals``."""
    approvals: tuple[ApprovalRule, ...] = Field(min_length=1, strict=False)
    promoted_by: tuple[Annotated[Role, Field(strict=False)], ...] = Field(min_length=1, strict=False)
    break_glass: bool = False
    """Whether two people may put a version into Production in an emergency, past most of the above."""

    @model_validator(mode="after")
    def _no_unsigned_way_around(self) -> Self:
        if self.signing and self.break_glass:
            raise ValueError("signing and break_glass exclude each other: an emergency is not signed")
        return self

    @field_validator("automation")
    @classmethod
    def _low_risk(cls, automation: bool, given: ValidationInfo) -> bool:
        if automation and given.data.get("risk") != "low":
            raise ValueError("automation may approve only where risk is low; add risk: low, or leave it out")
        if automation and given.data.get("signing"):
            raise ValueError("automation and signing exclude each other: a service has no password to sign with")
        return automation

    @field_validator("promoted_by")
    @classmethod
    def _may_promote(cls, roles: tuple[Role, ...]) -> tuple[Role, ...]:
        return tuple(_able(role, Action.PROMOTE) for role in roles)

    @field_validator("approvals")
    @classmethod
    def _no_role_twice(cls, rules: tuple[ApprovalRule, ...]) -> tuple[ApprovalRule, ...]:
        if doubled := _doubled(rule.role for rule in rules):
            raise ValueError(f"role {doubled} has two rules; merge them into one")
        return rules

    @model_validator(mode="after")
    def _no_metric_twice(self) -> Self:
        if doubled := _doubled(rule.name for rule in self.metrics):
            raise ValueError(f"metric {doubled} has two rules; merge them into one")
        return self


def _able(role: Role, action: Action) -> Role:
    """The role, if it may ever do this: what nobody can give would stop every version for ever."""
    if role not in ROLES_FOR[action]:
        raise ValueError(f"no {named([role])} may ever {action}; a {named(ROLES_FOR[action])} may")
    return role


def _doubled(names: Iterable[str]) -> str | None:
    """The first name, by the alphabet, that is given more than once."""
    return min((name for name, times in Counter(names).items() if times > 1), default=None)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rules with the exact text they were read from; ``digest`` is the sha256 of that text.

    Where two policies judge a model this is the assigned one, and ``beside`` the one that its tags or name choose.
    Stage and alias are those of ``rules``; whatever else is asked is asked by `each` of them.
    """

    rules: Rules
    text: str
    file: str
    beside: Policy | None = None

    @property
    def each(self) -> tuple[Policy, ...]:
        """Every policy that judges, the assigned one first; the digest of each is that of both."""
        if self.beside is None:
            return (self,)
        return (self, replace(self.beside, beside=replace(self, beside=None)))

    @property
    def digest(self) -> str:
        """What approvals and events name; of two policies both, whichever of them is the assigned one."""
        own = hashlib.sha256(self.text.encode()).hexdigest()
        return "+".join(sorted((own, self.beside.digest))) if self.beside else own

    @property
    def label(self) -> str:
        """``name@digest``, the value of the tag ``signoff.policy``; of two policies both, the assigned one first."""
        if self.beside:
            return f"{replace(self, beside=None).label}+{self.beside.label}"
        return f"{self.rules.name}@{self.digest[:12]}"

    @property
    def names(self) -> str:
        """What they are called, in a sentence."""
        return " and ".join(one.rules.name for one in self.each)

    @property
    def metric_source(self) -> MetricSource | None:
        """Whose value counts where run and logged model disagree; None where two policies do: that is a conflict."""
        wanted = {one.rules.metric_source for one in self.each}
        return wanted.pop() if len(wanted) == 1 else None

    @property
    def voters(self) -> frozenset[Role]:
        """The roles whose approval is asked for."""
        return frozenset(rule.role for one in self.each for rule in one.rules.approvals)

    @property
    def signing(self) -> bool:
        """Whether whoever decides must sign: one policy that asks for it is enough."""
        return any(one.rules.signing for one in self.each)

    @property
    def automation(self) -> bool:
        """Whether a service may approve: every policy must let it."""
        return all(one.rules.automation for one in self.each)

    @property
    def break_glass(self) -> bool:
        """Whether it knows emergencies: every policy must."""
        return all(one.rules.break_glass for one in self.each)

    def metric(self, name: str) -> MetricRule | None:
        """The rule for one metric, if there is one."""
        return next((rule for one in self.each for rule in one.rules.metrics if rule.name == name), None)

    @property
    def key_metric(self) -> str:
        """The metric shown first: the one the first rule is about."""
        return self.rules.metrics[0].name


def parse(text: str, file: str) -> Policy:
    """Read one policy document.

    Raises:
        InvalidSettings: with ``file:line`` and one sentence for the first mistake.
    """
    rules = documents.checked(text, file, Rules, what="policy", hint="name, applies_to, metrics and so on")
    return Policy(rules=rules, text=text, file=file)


def first_named(label: str) -> str:
    """The name of the policy in a label, of the assigned one where it is the label of two."""
    return re.split(r"@[0-9a-f]{12}(?:\+|$)", label, maxsplit=1)[0]


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Which policy judges a registered model, whatever its tags and name choose later.

    ``passed_over`` is the policy that tags and name chose when a person decided for this one: it does not judge.
    ``seq`` is the event that says so.
    """

    policy: str
    passed_over: str | None
    by: str
    at: str
    seq: int


@dataclass(frozen=True, kw_only=True)
class PolicyBook:
    """All active policies, and which of them judges a model."""

    policies: tuple[Policy, ...]

    def __post_init__(self) -> None:
        if doubled := _doubled(policy.rules.name for policy in self.policies):
            files = ", ".join(policy.file for policy in self.policies if policy.rules.name == doubled)
            raise InvalidSettings(f"Two policies are named {doubled}: {files}.")

    @classmethod
    def load(cls, folder: Path) -> PolicyBook:
        """Read every ``*.yaml`` in ``folder``; raises `InvalidSettings` for the first mistake."""
        files = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
        if not files:
            raise InvalidSettings(f"There is no policy file (*.yaml) in {folder}; without one nothing can be promoted.")
        return cls(policies=tuple(_read(file) for file in files))

    @property
    def protected_aliases(self) -> frozenset[str]:
        """The aliases that any policy names, without case."""
        targets = (target for p in self.policies for target in (p.rules.champion, p.rules.candidate))
        return frozenset(target.alias.casefold() for target in targets)

    @property
    def model_tags(self) -> frozenset[str]:
        """The tags of registered models that policies are chosen by."""
        return frozenset(key for policy in self.policies for key in policy.rules.applies_to.tags)

    def named(self, name: str) -> Policy | None:
        """The policy of this name, if there is one."""
        return next((policy for policy in self.policies if policy.rules.name == name), None)

    def judging(self, model: RegisteredModel, assigned: Assignment | None) -> Policy:
        """The policy that judges a model: the assigned one, and beside it one that its tags or name choose by now.

        Raises:
            InvalidSettings: the assigned policy is gone, or as `match`.
        """
        if assigned is None:
            return self.match(model)
        policy, chosen = self.named(assigned.policy), self.chosen(model)
        if policy is None:
            raise InvalidSettings(
                f"{model.name} is judged by policy {assigned.policy}, and there is no such policy any more, so its "
                "versions can be neither reviewed nor promoted nor archived: the policy says which checks, aliases and "
                "signatures that takes. Bring it back, or have a release manager decide which policy judges it: "
                f"signoff policy assign {model.name} --policy NAME --reason …"
            )
        if chosen is None or chosen.rules.name in {assigned.policy, assigned.passed_over}:
            return policy
        return replace(policy, beside=chosen)

    def match(self, model: RegisteredModel) -> Policy:
        """The matching policy of highest priority.

        Raises:
            InvalidSettings: none matches, or two of equal priority do: then nobody knows which judges.
        """
        chosen = self.chosen(model)
        if chosen is None:
            raise InvalidSettings(
                f"No policy applies to {model.name}, so its versions can be neither reviewed nor promoted nor archived."
            )
        return chosen

    def chosen(self, model: RegisteredModel) -> Policy | None:
        """What a model's name and tags choose; None where no policy is for it. Raises as `match` where two are."""
        matching = _by_priority(policy for policy in self.policies if policy.rules.applies_to(model))
        if len(matching) > 1 and matching[0].rules.priority == matching[1].rules.priority:
            raise InvalidSettings(
                f"Policies {matching[0].rules.name} and {matching[1].rules.name} both apply to {model.name} "
                f"with priority {matching[0].rules.priority}; give one a higher priority."
            )
        return matching[0] if matching else None


def _by_priority(policies: Iterable[Policy]) -> list[Policy]:
    return sorted(policies, key=lambda policy: -policy.rules.priority)


def _read(file: Path) -> Policy:
    return parse(documents.text_of(file), file.name)
