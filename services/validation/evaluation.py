"""The one way in: two models, one holdout, one report."""

from __future__ import annotations

import pickle
import platform
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor  # noqa: TID251  (told to stop, and waited for, below)
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from threading import Event

from services.domain import Signature
from services.validation import predictions, sandbox
from services.validation.bootstrap import resamples_for
from services.validation.calibration import calibration_of
from services.validation.comparing import metrics_of, scores_of
from services.validation.errors import ConsentNeeded, ValidationCancelled
from services.validation.holdout import Holdout
from services.validation.loading import Loading, inspect, made_readable
from services.validation.mlflow_evaluation import Evaluated, evaluated
from services.validation.predictions import Predictions
from services.validation.report import ModelResult, Report, Task
from services.validation.schema import Rows, rows_for
from services.validation.slices import slices_of
from services.validation.subjects import Limits, Phase, Step, Subject

LIBRARIES = ("mlflow", "numpy", "pandas", "scikit-learn", "scipy", "skops")
MAX_KEPT_OUTPUT = 4000
"""Characters of a model's own output that go into the report."""
POLL_SECONDS = 0.1


def evaluate(  # noqa: PLR0913
    candidate: Subject,
    champion: Subject | None,
    holdout: Holdout,
    *,
    limits: Limits,
    consent: bool,
    confidence: float,
    seed: int,
    workspace: Path,
    progress: Callable[[Step], None],
    cancelled: Callable[[], bool],
) -> Report:
    """Evaluate both models on ``holdout``, each in a sandbox of its own, and compare them.

    ``workspace`` is an existing, empty folder of the caller's; pictures are left in it under the names in the report.
    The models' folders are made readable for the sandbox's user, who gets that far only where they are shown to it.
    ``cancelled`` is asked several times a second, from the calling thread.

    Raises:
        WrongColumn, WrongType: the holdout does not fit a model's signature; nothing ran.
        ConsentNeeded: a model may not be loaded, or not be isolated, without ``consent``; nothing ran.
        ModelFailed, ModelOverLimit: a model gave no predictions; the message says whose and why.
        ValidationCancelled: ``cancelled`` said so; whatever ran is stopped.
    """
    subjects = {"candidate": candidate} | ({"current": champion} if champion else {})
    steps = _Steps(progress, total=len(subjects) + 3)
    steps.begin(Phase.CHECK, "Checking the holdout against the signatures")
    holdout = with_task(holdout, [subject.signature for subject in subjects.values()])
    sides = {name: _side(name, subject, holdout) for name, subject in subjects.items()}
    isolation = sandbox.isolation()
    _require_consent(sides, isolation, consent)

    answers: dict[str, Predictions] = {}
    output: dict[str, str] = {}
    for name, side in sides.items():
        steps.begin(Phase(name), f"{side.whose} predicts {holdout.facts.rows:,} rows")
        answers[name], output[name] = _predicted(side, holdout, limits, workspace, isolation.available, cancelled)

    ours, theirs = answers["candidate"], answers.get("current")
    classes = len(holdout.classes) if holdout.task is Task.CLASSIFIER else 0
    resamples = resamples_for(holdout.facts.rows, limits.resamples, classes)
    stop = Event()
    with ThreadPoolExecutor(max_workers=1) as beside:
        pictures = beside.submit(
            evaluated,
            holdout,
            answers,
            workspace=workspace,
            limits=limits,
            isolate=isolation.available,
            cancelled=stop.is_set,
        )
        try:
            steps.begin(Phase.STATISTICS, f"Comparing them on {resamples:,} resamples")
            metrics = metrics_of(
                holdout, ours, theirs, confidence=confidence, resamples=resamples, seed=seed, tick=_tick(cancelled)
            )
            features = holdout.frame.drop(columns=holdout.facts.target)
            slices = slices_of(features, scores_of(holdout, ours, theirs), confidence=confidence)
            steps.begin(Phase.PICTURES, "MLflow's own evaluator draws")
            seen = _waited_for(pictures, _tick(cancelled))
        finally:
            stop.set()
    results = {name: _result(name, side, holdout, answers[name], output[name], seen) for name, side in sides.items()}
    return Report(
        task=holdout.task,
        candidate=results["candidate"],
        current=results.get("current"),
        holdout=holdout.facts,
        metrics=metrics,
        slices=slices,
        confidence=confidence,
        seed=seed,
        resamples=resamples,
        isolation=isolation.words,
        libraries={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        warnings=_warnings(sides, holdout, answers, seen),
    )


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One of the models, ready to run."""

    whose: str
    subject: Subject
    loading: Loading
    rows: Rows


class _Steps:
    def __init__(self, progress: Callable[[Step], None], total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def begin(self, phase: Phase, words: str) -> None:
        self._progress(Step(phase=phase, done=self._done, total=self._total, words=words))
        self._done += 1


def with_task(holdout: Holdout, signatures: list[Signature | None]) -> Holdout:
    """Numbers that were taken for classes are numbers where a model says that it answers with fractions."""
    if not holdout.task_guessed or holdout.task is not Task.CLASSIFIER:
        return holdout
    answers = {column.type for signature in signatures if signature for column in signature.outputs[:1]}
    numbers = not any(isinstance(label, (str, bool)) for label in holdout.classes)
    return holdout.as_numbers() if numbers and answers and answers <= {"double", "float"} else holdout


def _side(name: str, subject: Subject, holdout: Holdout) -> _Side:
    whose = f"The {'candidate' if name == 'candidate' else 'champion'} {subject.ref}"
    rows = rows_for(holdout, subject.signature, whose)
    return _Side(whose=whose, subject=subject, loading=inspect(subject), rows=rows)


def _require_consent(sides: Mapping[str, _Side], isolation: sandbox.Isolation, consent: bool) -> None:
    reasons = [f"{side.whose}: {side.loading.consent}." for side in sides.values() if side.loading.consent]
    if not isolation.available:
        reasons.append(f"This machine cannot isolate a model: {isolation.reason}.")
    if reasons and not consent:
        raise ConsentNeeded("Somebody has to agree to run this. " + " ".join(reasons))


def _predicted(
    side: _Side, holdout: Holdout, limits: Limits, workspace: Path, isolate: bool, cancelled: Callable[[], bool]
) -> tuple[Predictions, str]:
    folder = side.subject.folder.resolve()
    made_readable(folder)
    data = workspace.resolve() / "rows.pickle"
    data.write_bytes(pickle.dumps(side.rows))
    data.chmod(0o444)
    order = {
        "loader": side.loading.loader.value,
        "folder": str(folder),
        "file": str(side.loading.file or ""),
        "trusted": list(side.loading.types),
        "data": str(data),
        "classifier": holdout.task is Task.CLASSIFIER,
    }
    try:
        outcome = sandbox.run(
            "predict",
            order,
            whose=side.whose,
            visible=[folder, data],
            workspace=workspace,
            limits=limits,
            isolate=isolate,
            cancelled=cancelled,
        )
    finally:
        data.unlink()
    classes = holdout.classes if holdout.task is Task.CLASSIFIER else None
    found = predictions.read(outcome.result, rows=holdout.facts.rows, classes=classes, whose=side.whose)
    return found, outcome.output


def _tick(cancelled: Callable[[], bool]) -> Callable[[], None]:
    def tick() -> None:
        if cancelled():
            raise ValidationCancelled("The validation was stopped.")

    return tick


def _waited_for(future: Future[Evaluated], tick: Callable[[], None]) -> Evaluated:
    while True:
        tick()
        try:
            return future.result(timeout=POLL_SECONDS)
        except NotYet:
            continue


def _result(
    name: str, side: _Side, holdout: Holdout, answers: Predictions, output: str, seen: Evaluated
) -> ModelResult:
    chances = answers.probabilities
    return ModelResult(
        ref=side.subject.ref,
        digest=side.subject.digest,
        flavour=side.loading.flavour,
        consent=f"{side.whose}: {side.loading.consent}." if side.loading.consent else "",
        evaluated=seen.metrics.get(name, {}),
        calibration=None if chances is None else calibration_of(holdout.truth, chances, holdout.classes),
        latency=answers.latency,
        pictures=seen.pictures.get(name, ()),
        output=output[:MAX_KEPT_OUTPUT],
    )


def _warnings(
    sides: Mapping[str, _Side], holdout: Holdout, answers: Mapping[str, Predictions], seen: Evaluated
) -> tuple[str, ...]:
    found = [seen.warning] if seen.warning else []
    for name, side in sides.items():
        if side.subject.signature is None:
            found.append(f"{side.whose} has no signature: it was given every column but the target.")
        if holdout.task is Task.CLASSIFIER and answers[name].probabilities is None:
            found.append(f"{side.whose} gives no probabilities: nothing is said of its AUC, log loss or calibration.")
        if holdout.task is Task.CLASSIFIER and (strange := int((answers[name].answers < 0).sum())):
            found.append(f"{side.whose} answers {strange:,} rows with a class that the holdout does not have.")
    return tuple(found)
