"""Two to ten versions side by side: which is better, on what, and may one compare them at all. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from services.domain import Metric, VersionRef
from services.errors import BadInput
from services.evidence import Evidence
from services.metrics import Direction, direction, says_how_good
from services.policy import MetricRule, Policy
from services.side_by_side import differences
from services.side_by_side.differences import Difference
from services.verdict import Verdict

MAX_VERSIONS = 10
SHORT_NAME = 16


class Standing(StrEnum):
    """How one value stands against the baseline's."""

    BASELINE = "baseline"
    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"
    UNJUDGED = "unjudged"
    """There is a difference, but nobody says which way is better."""
    OTHER_DATA = "other data"
    """Measured on other data than the baseline's: the difference means nothing."""
    ALONE = "alone"
    """The baseline has no such value."""
    NO_EVIDENCE = "no evidence"
    """The version has no such value, or one that is not a number."""
    SEVERAL = "several values"
    """The policy asks for it, run and logged model say different values, and nobody said which counts."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One metric of one version. ``value`` is finite or None; ``delta`` is value minus baseline, and ``relative``
    that divided by the baseline's magnitude; ``meets`` is what the policy says, None where it says nothing."""

    value: float | None
    standing: Standing
    delta: float | None = None
    relative: float | None = None
    meets: bool | None = None


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric across all versions. ``counts`` tells metrics of how good a model is from those of its training."""

    name: str
    direction: Direction
    wanted: str
    counts: bool
    cells: tuple[Cell, ...]

    @property
    def differs(self) -> bool:
        """Whether any version has another value than the baseline."""
        return any(cell.value != self.cells[0].value for cell in self.cells)


class Data(StrEnum):
    """Whether two versions were measured on the same data."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Versions side by side, the first being the baseline; rows are in the order in which to read them."""

    versions: tuple[Evidence, ...]
    policy: Policy
    metrics: tuple[MetricRow, ...]
    verdicts: Mapping[VersionRef, Verdict] = field(default_factory=dict)
    """What the gate says about versions, as far as it was asked."""

    @property
    def baseline(self) -> Evidence:
        """What the others are compared with."""
        return self.versions[0]

    @property
    def candidates(self) -> tuple[Evidence, ...]:
        """The others."""
        return self.versions[1:]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """``v5``, or with the model's name where there are several models."""
        one_model = len({evidence.ref.name for evidence in self.versions}) == 1
        return tuple(f"v{e.ref.version}" if one_model else f"{e.ref.name} v{e.ref.version}" for e in self.versions)

    @cached_property
    def short(self) -> tuple[str, ...]:
        """`labels` for where there is little room: long model names are cut, unless they could then be mixed up."""
        names = {evidence.ref.name for evidence in self.versions}
        cut = {name: name if len(name) <= SHORT_NAME else f"{name[: SHORT_NAME - 1]}…" for name in names}
        if len(names) == 1 or len(set(cut.values())) < len(names):
            return self.labels
        return tuple(f"{cut[e.ref.name]} v{e.ref.version}" for e in self.versions)

    @cached_property
    def params(self) -> tuple[Difference, ...]:
        """Params by name."""
        return differences.params(self.versions)

    @cached_property
    def tags(self) -> tuple[Difference, ...]:
        """Tags by name; MLflow's and ours are marked reserved."""
        return differences.tags(self.versions)

    @cached_property
    def signature(self) -> tuple[Difference, ...]:
        """Signature fields, inputs first."""
        return differences.signature(self.versions)

    @cached_property
    def datasets(self) -> tuple[Difference, ...]:
        """Data sets by what they were used for."""
        return differences.datasets(self.versions)

    @cached_property
    def source(self) -> tuple[Difference, ...]:
        """The code each was trained with."""
        return differences.source(self.versions)

    def column(self, position: int) -> list[tuple[MetricRow, Cell]]:
        """Every metric of one version, with its row."""
        return [(row, row.cells[position]) for row in self.metrics]

    def data(self, position: int) -> Data:
        """Whether a version was measured on the baseline's data, by digests, as the gate asks it."""
        mine, theirs = _digests(self.versions[position]), _digests(self.baseline)
        if not mine or not theirs:
            return Data.UNKNOWN
        return Data.SAME if mine == theirs else Data.DIFFERENT


def compare(
    baseline: Evidence,
    candidates: Sequence[Evidence],
    policy: Policy,
    *,
    champion: VersionRef | None = None,
    verdicts: Mapping[VersionRef, Verdict] | None = None,
) -> Comparison:
    """Compare one to nine candidates with a baseline.

    Args:
        policy: says which way its metrics are better, and what it asks of them.
        champion: who is in Production; where it is among the versions, what the policy asks compared with the champion
            is judged too.
        verdicts: what the gate says about them, each by the policy of its own model.

    Raises:
        BadInput: fewer than two versions, more than ten, or one twice.
    """
    versions = tuple(one.preferring(policy.rules.metric_source) for one in (baseline, *candidates))
    if not 2 <= len(versions) <= MAX_VERSIONS:
        raise BadInput(f"Choose two to {MAX_VERSIONS} versions to compare; this is {len(versions)}.")
    if len({evidence.ref for evidence in versions}) < len(versions):
        raise BadInput("One version is named twice; choose different ones.")
    crowned = next((evidence for evidence in versions if evidence.ref == champion), None)
    rows = (_row(name, versions, policy, crowned) for name in _names(versions, policy))
    return Comparison(versions=versions, policy=policy, metrics=tuple(rows), verdicts=verdicts or {})


def _names(versions: Sequence[Evidence], policy: Policy) -> list[str]:
    """What the policy asks for first, then what says how good a model is, then the rest."""
    asked = [rule.name for rule in policy.rules.metrics]
    found = {name for evidence in versions for name in evidence.metrics} - set(asked)
    return asked + sorted(
        found, key=lambda name: (not says_how_good(name), direction(name, policy) is Direction.UNKNOWN, name)
    )


def _row(name: str, versions: Sequence[Evidence], policy: Policy, champion: Evidence | None) -> MetricRow:
    rule, better = policy.metric(name), direction(name, policy)
    return MetricRow(
        name=name,
        direction=better,
        wanted=wanted(rule) if rule else "",
        counts=better is not Direction.UNKNOWN and (rule is not None or says_how_good(name)),
        cells=tuple(_cell(name, evidence, versions[0], better, rule, champion) for evidence in versions),
    )


def _cell(
    name: str, mine: Evidence, base: Evidence, better: Direction, rule: MetricRule | None, champion: Evidence | None
) -> Cell:
    if rule and (measured := mine.measured.get(name)) and measured.counting(mine.preferred) is None:
        return Cell(value=None, standing=Standing.SEVERAL, meets=False)
    value, reference = number(mine, name), number(base, name)
    meets = _meets(rule, value, number(champion, name) if champion and champion is not mine else None) if rule else None
    if value is None:
        return Cell(value=None, standing=Standing.NO_EVIDENCE, meets=meets)
    if mine is base:
        return Cell(value=value, standing=Standing.BASELINE, meets=meets)
    if reference is None:
        return Cell(value=value, standing=Standing.ALONE, meets=meets)
    delta = value - reference
    relative = delta / abs(reference) if reference else None
    return Cell(
        value=value,
        standing=Standing.OTHER_DATA if same_data(name, mine, base) is False else _standing(delta, better),
        delta=delta if math.isfinite(delta) else None,
        relative=relative if relative is not None and math.isfinite(relative) else None,
        meets=meets,
    )


def _standing(delta: float, better: Direction) -> Standing:
    if delta == 0:
        return Standing.EQUAL
    if better is Direction.UNKNOWN:
        return Standing.UNJUDGED
    return Standing.BETTER if (delta > 0) == (better is Direction.HIGHER) else Standing.WORSE


def number(evidence: Evidence, name: str) -> float | None:
    """The finite value of one metric; None where there is none: NaN and infinities are no evidence."""
    metric = evidence.metrics.get(name)
    return metric.value if metric and metric.usable else None


def same_data(name: str, mine: Evidence, base: Evidence) -> bool | None:
    """Whether one metric was measured on the same data in both; None where one does not say."""
    one, other = _measured_on(mine, mine.metrics.get(name)), _measured_on(base, base.metrics.get(name))
    return one == other if one and other else None


def _measured_on(evidence: Evidence, metric: Metric | None) -> set[str]:
    return {metric.dataset_digest} if metric and metric.dataset_digest else _digests(evidence)


def _digests(evidence: Evidence) -> set[str]:
    return {dataset.digest for dataset in evidence.holdout}


def _meets(rule: MetricRule, value: float | None, champion: float | None) -> bool | None:
    """Whether a value is what a rule asks for; None where that cannot be said from these versions."""
    if value is None:
        return False
    sign = 1 if rule.greater_is_better else -1
    answers: list[bool] = []
    if rule.threshold is not None:
        answers.append(value * sign >= rule.threshold * sign)
    if champion is not None:
        gain = (value - champion) * sign
        if rule.min_absolute_change is not None:
            answers.append(gain >= rule.min_absolute_change)
        if rule.min_relative_change is not None:
            answers.append(champion != 0 and gain / abs(champion) >= rule.min_relative_change)
    return all(answers) if answers else None


def wanted(rule: MetricRule) -> str:
    """What a rule asks for, in words: ``≥ 0.9, not worse than the champion``."""
    parts = [f"{'≥' if rule.greater_is_better else '≤'} {rule.threshold:.6g}"] if rule.threshold is not None else []
    for limit, unit in ((rule.min_absolute_change, 1.0), (rule.min_relative_change, 100.0)):
        if limit is not None:
            amount = f"{abs(limit) * unit:.3g}{' %' if unit > 1 else ''}"
            words = f"at {'least' if limit > 0 else 'most'} {amount} {'better' if limit > 0 else 'worse'}"
            parts.append(f"{words if limit else 'not worse'} than the champion")
    return ", ".join(dict.fromkeys(parts))
