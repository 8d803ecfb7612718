"""Which value of a metric counts: a run and a logged model may say different ones, and a logged model several. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from services.domain import Dataset, Metric, MetricSource


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Everything that is said of one metric of a version, the run's value first; never empty."""

    values: tuple[Metric, ...]

    @property
    def differs(self) -> bool:
        """Whether two of the values are not the same number."""
        return len({repr(metric.value) for metric in self.values}) > 1

    @property
    def several(self) -> bool:
        """Whether one value and one data set do not tell all of it."""
        return self.differs or len({metric.dataset_digest for metric in self.values if metric.dataset_digest}) > 1

    def of(self, source: MetricSource | None) -> tuple[Metric, ...]:
        """What this source says; everything where nobody said which source counts, or this one says nothing."""
        return tuple(metric for metric in self.values if metric.source is source) or self.values

    def counting(self, source: MetricSource | None) -> Metric | None:
        """The one value that counts, with its data set where any of those who say the same value knows it.

        None is a conflict: two different values, and ``source`` does not tell them apart.
        """
        found = self.of(source)
        if len({repr(metric.value) for metric in found}) > 1:
            return None
        measured = next((metric for metric in self._saying(found[0]) if metric.dataset_digest), found[0])
        return replace(found[0], dataset_name=measured.dataset_name, dataset_digest=measured.dataset_digest)

    def datasets(self, source: MetricSource | None) -> frozenset[Dataset]:
        """The data sets that the counting value was measured on; in a conflict, those of every value."""
        counting = self.counting(source)
        return frozenset(
            Dataset(name=metric.dataset_name or "", digest=metric.dataset_digest, context="eval")
            for metric in (self._saying(counting) if counting else self.of(source))
            if metric.dataset_digest
        )

    def as_json(self) -> list[list[Any]]:
        """For a digest. Numbers as text: canonical JSON has no NaN, and evidence may."""
        return sorted(
            [metric.source.value, repr(metric.value), metric.dataset_name or "", metric.dataset_digest or ""]
            for metric in self.values
        )

    def _saying(self, metric: Metric) -> tuple[Metric, ...]:
        """Everybody who says the value of ``metric``."""
        return tuple(other for other in self.values if repr(other.value) == repr(metric.value))


def measurements(
    run: Iterable[Metric], logged_model: Iterable[Metric], *, alone: bool = True
) -> dict[str, Measurement]:
    """Both sources by the name of the metric.

    ``alone``: the run logged no other model. Where it did, what it says last may be about another one: it is left out
    where the logged model says another value, and doubtful where that says none.

    MLflow's table of logged models' metrics has no NaN and keeps 0 instead, so a 0 there is believed only where the run
    says 0 as well; where the run says NaN, it is that NaN.
    """
    said, own = {metric.name: metric for metric in run}, tuple(logged_model)
    if not alone:
        said = {metric.name: _meant(metric, own) for metric in said.values()}
    found = {
        name: [metric]
        for name, metric in said.items()
        if not metric.doubtful or all(other.name != name for other in own)
    }
    for metric in own:
        found.setdefault(metric.name, []).append(_zero(metric, said.get(metric.name)) if metric.value == 0 else metric)
    return {name: Measurement(values=tuple(values)) for name, values in found.items()}


def _meant(metric: Metric, own: tuple[Metric, ...]) -> Metric:
    """What a run says, doubtful unless the logged model says the same; NaN is 0 there."""
    value = 0.0 if math.isnan(metric.value) else metric.value
    meant = any((other.name, other.value) == (metric.name, value) for other in own)
    return metric if meant else replace(metric, doubtful=True)


def _zero(metric: Metric, said_by_run: Metric | None) -> Metric:
    """A 0 of a logged model, read beside what its run says of the same metric."""
    if said_by_run is not None and math.isnan(said_by_run.value):
        return replace(metric, value=math.nan)
    return replace(metric, doubtful=said_by_run is None or said_by_run.value != 0)
