"""What tests of validations share: a holdout, an evaluator that gives what it is told, and a validator's turn."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services import facts
from services.accounts import people
from services.desk import Request
from services.domain import Action, Source, VersionRef
from services.evidence import Evidence
from services.signoff import Signoff
from services.validation import jobs, uploads
from services.validation.holdout import Holdout
from services.validation.jobs import Origin, Wanted
from services.validation.record import Validation
from services.validation.recording import record
from services.validation.report import (
    Conclusion,
    HoldoutFacts,
    Interval,
    MetricResult,
    ModelResult,
    Report,
    Task,
)
from services.validation.subjects import Limits, Step, Subject
from services.validation.worker import Validator
from services.verbs.reviews import Outcome
from tests.verbs import desk, validations

ROWS = b"x,target\n" + b"".join(f"{number},{number % 2}\n".encode() for number in range(100))
TARGET = "target"


def metric(gain: float, within: float, *, name: str = "roc_auc", confidence: float = 0.95) -> MetricResult:
    """The candidate is better by ``gain``, give or take ``within``."""
    low, high = gain - within, gain + within
    sure = Conclusion.BETTER if low > 0 else Conclusion.WORSE if high < 0 else Conclusion.NOT_ENOUGH_EVIDENCE
    return MetricResult(
        name=name,
        greater_is_better=True,
        candidate=0.9 + gain,
        current=0.9,
        difference=gain,
        interval=Interval(low=low, high=high, confidence=confidence),
        conclusion=sure,
    )


@dataclass
class Evaluator:
    """Stands in for the real evaluation. ``meanwhile`` is called while it runs, with what says whether to stop."""

    gain: float = 0.02
    within: float = 0.01
    error: Exception | None = None
    meanwhile: Callable[[Callable[[], bool]], None] = lambda _: None
    seen: list[tuple[Subject, Subject | None]] = field(default_factory=list)
    consents: list[bool] = field(default_factory=list)

    def __call__(  # noqa: PLR0913
        self,
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
        self.seen.append((candidate, champion))
        self.consents.append(consent)
        self.meanwhile(cancelled)
        if self.error:
            raise self.error
        (workspace / "roc.png").write_bytes(b"a picture")
        return report(candidate, champion, holdout.facts, gain=self.gain, within=self.within, confidence=confidence)


def report(
    candidate: Subject,
    champion: Subject | None,
    holdout: HoldoutFacts,
    *,
    gain: float = 0.02,
    within: float = 0.01,
    confidence: float = 0.95,
) -> Report:
    """What an evaluation of these two would be."""
    found = metric(gain, within, confidence=confidence)
    alone = MetricResult(name=found.name, greater_is_better=True, candidate=found.candidate)
    return Report(
        task=Task.CLASSIFIER,
        candidate=_result(candidate),
        current=_result(champion) if champion else None,
        holdout=holdout,
        metrics=(found if champion else alone,),
        confidence=confidence,
        seed=1,
        resamples=2000,
        isolation=("read our files",),
    )


def _result(subject: Subject) -> ModelResult:
    return ModelResult(ref=subject.ref, digest=subject.digest, flavour="sklearn", pictures=("roc.png",))


def ask(  # noqa: PLR0913
    signoff: Signoff,
    ref: VersionRef,
    *,
    by: str = "scientist",
    rows: bytes = ROWS,
    target: str = TARGET,
    name: str = "holdout.csv",
    words: str = "",
    consent: bool = False,
    confidence: float = 0.95,
    source: Source = Source.BROWSER,
    key: str | None = None,
) -> Outcome:
    """Upload a holdout and ask for a validation, as a door does it."""
    action = Action.VALIDATE_WITH_CONSENT if consent else Action.VALIDATE
    with uploads.received(signoff.settings, io.BytesIO(rows), max_bytes=1 << 20) as upload:
        wanted = Wanted(
            origin=Origin.UPLOAD,
            name=name,
            target=target,
            confidence=confidence,
            sha256=upload.sha256,
            folder=upload.folder,
        )
        request = Request(action=action, ref=ref, words=words, wanted=wanted)
        return desk.perform(signoff, request, by=by, source=source, key=key)


def on_record(  # noqa: PLR0913
    signoff: Signoff,
    ref: VersionRef,
    *,
    sha256: str = "f" * 64,
    digest: str = "",
    gain: float = 0.02,
    within: float = 0.01,
    confidence: float = 0.95,
    target: str = TARGET,
) -> Validation:
    """A validation of the version and the champion as they are now, put on record without evaluating anything."""
    wanted = Wanted(origin=Origin.PLACE, name="/data/holdout.csv", target=target, confidence=confidence)
    validations.ask(signoff, ref, wanted, by="scientist")
    claimed = jobs.claim(signoff.database, uploads.place(signoff.settings), at=signoff.now())
    assert claimed
    seen = facts.fresh(signoff, ref)[1]
    holdout = HoldoutFacts(
        name="holdout.csv",
        digest=digest or sha256[:8],
        sha256=sha256,
        rows=100,
        columns=("x", target),
        target=target,
        source=wanted.name,
    )
    found = report(
        _subject(seen.candidate),
        _subject(seen.champion) if seen.champion else None,
        holdout,
        gain=gain,
        within=within,
        confidence=confidence,
    )
    champion = seen.champion.version if seen.champion else None
    actor = people.acting(signoff.database, "scientist", Source.BROWSER)
    version, at = seen.candidate.version, signoff.now()
    with signoff.database.writing() as connection:
        done = record(connection, claimed.job, version, champion, found, run_id="0" * 32, actor=actor, at=at)
        jobs.update(connection, claimed, completed_seq=done.seq, run_id=done.run_id)
        jobs.complete(connection, claimed.job.seq, at=at)
    return done


def _subject(evidence: Evidence) -> Subject:
    assert evidence.manifest
    return Subject(ref=evidence.ref, folder=Path(), signature=None, digest=evidence.manifest.digest)


def validated(signoff: Signoff, ref: VersionRef, evaluator: Evaluator | None = None, **asked: object) -> int:
    """Ask for a validation and carry it out; the number of its job."""
    outcome = ask(signoff, ref, **asked)  # type: ignore[arg-type]
    assert outcome.job
    assert Validator(signoff, evaluator or Evaluator()).turn()
    return outcome.job
