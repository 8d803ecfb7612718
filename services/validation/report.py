"""What a validation found, as it is shown, logged and recorded. Checked when built; every number is finite or None."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, FiniteFloat, NonNegativeInt, TypeAdapter
from pydantic.dataclasses import dataclass

from services.domain import VersionRef

KEY_METRICS = ("roc_auc", "root_mean_squared_error", "accuracy_score")
"""The first of them that a report has is the one it is about; AUC before accuracy, which hangs on a threshold."""

_CONFIG = ConfigDict(extra="forbid")
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Task(StrEnum):
    """What the target asks for."""

    CLASSIFIER = "classifier"
    REGRESSOR = "regressor"


class Method(StrEnum):
    """How a difference was told from chance."""

    BOOTSTRAP = "bootstrap"
    MCNEMAR_EXACT = "mcnemar_exact"
    MCNEMAR = "mcnemar"
    DELONG = "delong"


class Conclusion(StrEnum):
    """What the difference says about the candidate. ``ALONE``: there is no champion to differ from."""

    BETTER = "better"
    WORSE = "worse"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"
    EQUAL = "equal"
    ALONE = "alone"

    @property
    def words(self) -> str:
        """As a person reads it."""
        return self.value.replace("_", " ")


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Interval:
    """Where a value lies with this ``confidence`` (0.95 = 95 %)."""

    low: FiniteFloat
    high: FiniteFloat
    confidence: Share


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class MetricResult:
    """One metric of both models on all rows. ``difference`` is candidate − current, whichever way is better.

    ``interval`` is that of the difference, from a paired bootstrap. ``method`` and ``p_value`` name the test beside it:
    McNemar's for accuracy, DeLong's for the AUC of two classes, none for all else. A winner is named only where the
    interval excludes zero and the test agrees. Figures are None where a metric is not defined; ``note`` says why.
    """

    name: str
    greater_is_better: bool
    candidate: FiniteFloat | None
    candidate_interval: Interval | None = None
    current: FiniteFloat | None = None
    difference: FiniteFloat | None = None
    interval: Interval | None = None
    method: Method = Method.BOOTSTRAP
    p_value: Share | None = None
    conclusion: Conclusion = Conclusion.ALONE
    note: str = ""

    @property
    def gain(self) -> float | None:
        """The difference counted so that positive is better."""
        return None if self.difference is None else self.difference * (1 if self.greater_is_better else -1)

    @property
    def least_gain(self) -> float | None:
        """What the candidate is better by at least, with the interval's confidence; what a policy should ask about."""
        if self.interval is None:
            return None
        return self.interval.low if self.greater_is_better else -self.interval.high


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class SliceResult:
    """One metric on the rows where ``column`` has ``value`` (a category, or a range such as ``1.5 – 3.2``).

    Where there are too few rows to say anything all figures are None, and ``note`` says so.
    """

    column: str
    value: str
    rows: NonNegativeInt
    metric: str
    greater_is_better: bool
    candidate: FiniteFloat | None = None
    current: FiniteFloat | None = None
    difference: FiniteFloat | None = None
    interval: Interval | None = None
    conclusion: Conclusion = Conclusion.ALONE
    note: str = ""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class CalibrationBin:
    """Rows whose predicted probability lies in a bin: what was predicted on average, and how often it was so."""

    rows: NonNegativeInt
    predicted: Share
    observed: Share


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Calibration:
    """How far predicted probabilities can be taken at their word. ``brier`` and ``ece``: 0 is perfect."""

    positive: str
    """The class whose probability it is."""
    bins: tuple[CalibrationBin, ...]
    brier: Share
    ece: Share


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Latency:
    """How long predictions took inside the sandbox, after warming up: a comparison, not a promise about production.

    The model's own process holds the watch, so no verdict may rest on it.
    """

    batch_rows: NonNegativeInt
    batch_seconds: FiniteFloat
    single_calls: NonNegativeInt
    single_ms_p50: FiniteFloat
    single_ms_p95: FiniteFloat
    load_seconds: FiniteFloat


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class ModelResult:
    """One of the two models: which bytes, how they were loaded, and what MLflow's own evaluator says of them."""

    ref: VersionRef
    digest: str
    """Of the artifact manifest that was evaluated."""
    flavour: str
    consent: str = ""
    """Why its loading needed consent; empty where the allow-list let it pass."""
    evaluated: Mapping[str, FiniteFloat] = Field(default_factory=dict)
    """Metrics of ``mlflow.models.evaluate`` over the same predictions, by MLflow's names."""
    calibration: Calibration | None = None
    latency: Latency | None = None
    pictures: tuple[str, ...] = ()
    """File names in the workspace, PNG."""
    output: str = ""
    """What the model wrote to its standard output and error, cut; text of the model's, not ours."""


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class HoldoutFacts:
    """What both were evaluated on. ``digest`` is the one that MLflow computes for a pandas data set.

    ``sha256`` is of the file's bytes; ``source`` is the path or URI it came from, or ``upload:NAME``.
    """

    name: str
    digest: str
    sha256: str
    rows: NonNegativeInt
    columns: tuple[str, ...]
    target: str
    source: str


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Report:
    """All that a validation found; built by us from predictions, never by a model's process."""

    task: Task
    candidate: ModelResult
    current: ModelResult | None
    """The champion; None where there is none."""
    holdout: HoldoutFacts
    metrics: tuple[MetricResult, ...]
    slices: tuple[SliceResult, ...] = ()
    confidence: Share
    seed: int
    resamples: NonNegativeInt
    isolation: tuple[str, ...]
    """What the models could not do, in words; empty when they ran without isolation, by consent."""
    libraries: Mapping[str, str] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def metric(self, name: str) -> MetricResult | None:
        """The result for one metric, by its name in MLflow (``roc_auc``, ``accuracy_score`` …)."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    @property
    def key(self) -> MetricResult | None:
        """The metric that is told first, and asked about by a policy that names none; None without any."""
        known = [found for name in KEY_METRICS if (found := self.metric(name))]
        return next(iter((*known, *self.metrics)), None)

    @property
    def consents(self) -> tuple[str, ...]:
        """Everything that ran only because somebody agreed to it."""
        found = [model.consent for model in (self.candidate, self.current) if model and model.consent]
        return tuple(found) if self.isolation else (*found, "This machine cannot isolate a model.")

    @property
    def logged_metrics(self) -> dict[str, float]:
        """What is logged to MLflow: ``candidate_roc_auc``, ``current_roc_auc``, ``difference_roc_auc`` and so on."""
        found: dict[str, float] = {}
        for side, model in (("candidate", self.candidate), ("current", self.current)):
            found |= {f"{side}_{name}": value for name, value in (model.evaluated if model else {}).items()}
        for metric in self.metrics:
            values = {"candidate": metric.candidate, "current": metric.current, "difference": metric.difference}
            found |= {f"{side}_{metric.name}": value for side, value in values.items() if value is not None}
        return found

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, ready for canonical form."""
        document: dict[str, Any] = _REPORT.dump_python(self, mode="json")
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Report:
        """Read back what `as_json` gave; raises ``ValueError`` when it is not that."""
        return _REPORT.validate_python(document)


_REPORT = TypeAdapter(Report)
