"""A comparison in one sentence, which promises nothing that the numbers do not say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.evidence import Evidence
from services.metrics import says_how_good
from services.side_by_side.comparison import Cell, Comparison, Data, MetricRow, Standing
from services.side_by_side.differences import SignatureChange, named, signature_change
from services.verdict import Check

NAMED_AT_MOST = 3
COMPARED = frozenset({"metric", "champion", "same_dataset", "signature"})
"""The gate's checks that are about what a comparison shows; whether somebody approved is for another page."""


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What a comparison says about one candidate. Each metric that counts is in exactly one of the groups."""

    candidate: str
    baseline: str
    better: tuple[tuple[MetricRow, Cell], ...]
    worse: tuple[tuple[MetricRow, Cell], ...]
    equal: tuple[tuple[MetricRow, Cell], ...]
    incomparable: tuple[tuple[MetricRow, Cell], ...]
    missing: tuple[tuple[MetricRow, Cell], ...]
    failed: tuple[Check, ...]
    data: Data
    data_sets: str
    signature: SignatureChange
    unsigned: str
    """Why the signatures cannot be compared, in words; empty when they can."""
    silent: str
    """Why there is nothing to compare, in words; empty where there is."""

    @property
    def judged(self) -> int:
        """How many metrics could be compared."""
        return len(self.better) + len(self.worse) + len(self.equal)

    @property
    def favourable(self) -> bool:
        """Better on something, worse on nothing, no check failed, and nothing that makes this doubtful."""
        against = self.worse or self.missing or self.failed or self.doubtful
        return bool(self.better) and not against and self.data is Data.SAME

    @property
    def doubtful(self) -> bool:
        """Whether the numbers cannot carry a decision: evidence is missing, or was measured on different data."""
        return self._lacking or not self.judged or bool(self.incomparable) or self.data is Data.DIFFERENT

    @property
    def sentence(self) -> str:
        """``v5 beats v3 on 4 of 5 metrics; worse on latency_ms by 12 %; same data; signature compatible``."""
        return "; ".join([self.opening, *self.details])

    @property
    def _lacking(self) -> bool:
        """Whether evidence is missing on what the policy asks for, or on most of what the baseline shows."""
        return any(row.wanted for row, _ in self.missing) or len(self.missing) > self.judged

    @property
    def opening(self) -> str:
        """The part of the sentence that matters most."""
        if self.judged and self._lacking:
            return f"{self.candidate} has no evidence for {self._names(self.missing)}"
        if self.judged:
            return f"{self.candidate} {self._score()}"
        if self.incomparable:
            return f"{self.candidate} is not comparable with {self.baseline}: measured on different data"
        return self.silent

    @property
    def details(self) -> tuple[str, ...]:
        """The rest of it, part by part."""
        return (*self._metrics(), *self._checks(), *self._circumstances())

    def _metrics(self) -> Iterator[str]:
        if self.judged and self._lacking:
            yield f"of the rest it {self._score()}"
        if self.worse:
            yield f"worse on {_listed([f'{row.name} by {_amount(cell)}' for row, cell in self.worse])}"
        if self.equal and len(self.equal) < self.judged:
            yield f"equal on {self._names(self.equal)}"
        if self.missing and (self.incomparable or (self.judged and not self._lacking)):
            yield f"no evidence for {self._names(self.missing)}"
        if self.incomparable and self.judged:
            yield f"not comparable on {self._names(self.incomparable)}: measured on different data"

    def _checks(self) -> Iterator[str]:
        if self.failed:
            titles = _listed([check.title for check in self.failed])
            yield f"fails {len(self.failed)} check{'s' if len(self.failed) > 1 else ''} ({titles})"

    def _circumstances(self) -> Iterator[str]:
        if self.judged:
            yield {Data.SAME: "same data", Data.DIFFERENT: f"different data: {self.data_sets}"}.get(
                self.data, self.data_sets
            )
        elif self.incomparable and self.data is not Data.SAME:
            yield self.data_sets
        if self.unsigned or not self.signature.reasons:
            yield self.unsigned or "signature compatible"
        else:
            yield f"signature {self.signature.compatibility.value}: {_listed(self.signature.reasons)}"

    def _score(self) -> str:
        total = f"{self.judged} metric{'s' if self.judged > 1 else ''}"
        every = f"all {total}" if self.judged > 1 else self._names([*self.better, *self.worse, *self.equal])
        if len(self.equal) == self.judged:
            return f"equals {self.baseline} on {every}"
        if len(self.better) == self.judged:
            return f"beats {self.baseline} on {every}"
        if not self.better:
            return f"does not beat {self.baseline} on {f'any of {total}' if self.judged > 1 else every}"
        return f"beats {self.baseline} on {len(self.better)} of {total}"

    @staticmethod
    def _names(group: Sequence[tuple[MetricRow, Cell]]) -> str:
        return _listed([row.name for row, _ in group])


def conclude(comparison: Comparison) -> tuple[Conclusion, ...]:
    """One conclusion for every candidate, in order."""
    return tuple(_conclusion(comparison, position) for position in range(1, len(comparison.versions)))


def summary(comparison: Comparison) -> str:
    """Every conclusion as one sentence with a full stop."""
    return " ".join(f"{conclusion.sentence}." for conclusion in conclude(comparison))


def _conclusion(comparison: Comparison, position: int) -> Conclusion:
    baseline, candidate = comparison.baseline, comparison.versions[position]
    counted = [(row, cell) for row, cell in comparison.column(position) if row.counts]

    def standing(*wanted: Standing) -> tuple[tuple[MetricRow, Cell], ...]:
        return tuple((row, cell) for row, cell in counted if cell.standing in wanted)

    # A metric that only one of the two has says nothing about them, unless the policy asks for it.
    missing = tuple(
        (row, cell)
        for row, cell in standing(Standing.NO_EVIDENCE, Standing.SEVERAL)
        if row.cells[0].value is not None or row.wanted
    )
    label, base = comparison.labels[position], comparison.labels[0]
    return Conclusion(
        candidate=label,
        baseline=base,
        better=standing(Standing.BETTER),
        worse=standing(Standing.WORSE),
        equal=standing(Standing.EQUAL),
        incomparable=standing(Standing.OTHER_DATA),
        missing=missing,
        failed=_failed(comparison, candidate),
        data=comparison.data(position),
        data_sets=_data_sets(candidate, baseline, label, base),
        signature=signature_change(baseline.signature, candidate.signature),
        unsigned=_unsigned(candidate, baseline, label, base),
        silent=_silent(candidate, baseline, label, base),
    )


def _failed(comparison: Comparison, candidate: Evidence) -> tuple[Check, ...]:
    verdict = comparison.verdicts.get(candidate.ref)
    return tuple(check for check in verdict.failed if check.family in COMPARED) if verdict else ()


def _data_sets(candidate: Evidence, baseline: Evidence, label: str, base: str) -> str:
    mine, theirs = (", ".join(named(dataset) for dataset in e.holdout) for e in (candidate, baseline))
    if mine and theirs:
        return f"{mine} vs {theirs}"
    silent = [name for name, found in ((label, mine), (base, theirs)) if not found]
    does, was = ("does", "it was") if len(silent) == 1 else ("do", "they were")
    return f"{' and '.join(silent)} {does} not say on which data {was} measured"


def _unsigned(candidate: Evidence, baseline: Evidence, label: str, base: str) -> str:
    both = ((label, candidate), (base, baseline))
    if unread := [name for name, evidence in both if evidence.described is None]:
        return f"the files of {' and '.join(unread)} could not be read"
    names = [name for name, evidence in both if evidence.signature is None]
    return f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} no signature" if names else ""


def _silent(candidate: Evidence, baseline: Evidence, label: str, base: str) -> str:
    for evidence, words in (
        (candidate, f"{label} has no evidence"),
        (baseline, f"{base} has no evidence to compare with"),
    ):
        if evidence.run is None and evidence.logged_model is None:
            return f"{words}: {evidence.run_problem}"
        if not any(metric.usable and says_how_good(metric.name) for metric in evidence.metrics.values()):
            return words
    return f"{label} and {base} have no metric in common that says how good they are"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED_AT_MOST])
    return shown if len(names) <= NAMED_AT_MOST else f"{shown} and {len(names) - NAMED_AT_MOST} more"


def _amount(cell: Cell) -> str:
    """How far a value is from the baseline, without sign: ``12 %``, or the bare difference from a baseline of 0."""
    if cell.relative is not None:
        return f"{abs(cell.relative) * 100:.3g} %"
    return f"{abs(cell.delta):.3g}" if cell.delta is not None else "more than can be counted"
