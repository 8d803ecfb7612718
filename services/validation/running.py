"""One validation carried out: holdout and files read, both models evaluated in isolation, the result recorded.

The ledger is the proof and MLflow the mirror. The run in MLflow is begun empty, so that the event can name it; its
figures are logged only after they are on record. Whatever goes wrong before that leaves no figure anywhere.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from services import assignments
from services.accounts import people, permissions
from services.domain import Action, Actor, ModelVersion, VersionRef
from services.errors import LedgerUnavailable, NotFound, RegistryUnavailable, SignoffError
from services.record.activation import SYSTEM
from services.signoff import Signoff
from services.snapshot import champion_of
from services.validation import data, jobs, mirroring, uploads
from services.validation.errors import ValidationCancelled
from services.validation.holdout import Holdout
from services.validation.jobs import Claim, State
from services.validation.record import Validation
from services.validation.recording import record
from services.validation.report import Report
from services.validation.subjects import Limits, Step, Subject
from services.verbs import validations

SEED = 20_260_101
"""Always the same: who could choose another would choose until the interval suits them."""
MAX_MODEL_BYTES = 4 << 30
MODELS_SHARE, EVALUATED_SHARE = 0.1, 0.3
"""Of the progress bar, where the models' files are read from on, and where the evaluation begins."""

log = logging.getLogger(__name__)


class Evaluate(Protocol):
    """`services.validation.evaluation.evaluate`, or what stands in for it."""

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
        """See there."""


def carry_out(signoff: Signoff, claimed: Claim, evaluate: Evaluate, *, stopping: Callable[[], bool]) -> None:
    """Run one job to its end; raises nothing, the job says what became of it.

    Args:
        stopping: whether the dashboard is about to end; the job then waits for its turn again.
    """
    actor: Actor = SYSTEM
    with jobs.kept_alive(signoff.database, claimed) as lost:
        try:
            actor = _still_allowed(signoff, claimed)
            _validate(signoff, claimed, evaluate, actor, lambda: lost() or stopping())
        except ValidationCancelled:
            if stopping() and not lost():
                _give_back(signoff, claimed)
        except SignoffError as error:
            _failed(signoff, claimed, str(error), actor)
        except Exception:
            log.exception("validation #%s", claimed.job.seq)
            _failed(signoff, claimed, "Something broke inside Signoff; its log says what.", actor)


def _still_allowed(signoff: Signoff, claimed: Claim) -> Actor:
    """Who asked, with the roles of this moment: they may have been taken away while the job waited."""
    job = claimed.job
    action = Action.VALIDATE_WITH_CONSENT if job.consent else Action.VALIDATE
    actor = people.acting(signoff.database, job.asked_by, job.source)
    permissions.require(actor, action)
    return actor


def _validate(
    signoff: Signoff, claimed: Claim, evaluate: Evaluate, actor: Actor, cancelled: Callable[[], bool]
) -> None:
    job = claimed.job

    def told(words: str, share: float) -> None:
        if cancelled():
            raise ValidationCancelled("It was cancelled.")
        jobs.note(signoff.database, claimed, words, share, at=signoff.now())

    told("Reading the holdout", 0.0)
    holdout = data.read(signoff, job)
    told(f"{holdout.facts.rows} rows, digest {holdout.facts.digest}", MODELS_SHARE / 2)
    version, champion = _versions(signoff, job.ref, job.identity)
    with tempfile.TemporaryDirectory(prefix="signoff-validation-") as folder:
        told(f"Reading the files of {version.ref}", MODELS_SHARE)
        candidate = _subject(signoff, version, Path(folder, "candidate"))
        current = None
        if champion is not None:
            told(f"Reading the files of {champion.ref}", (MODELS_SHARE + EVALUATED_SHARE) / 2)
            current = _subject(signoff, champion, Path(folder, "current"))
        (workspace := Path(folder, "work")).mkdir()

        def step(begun: Step) -> None:
            told(begun.words, EVALUATED_SHARE + (1 - EVALUATED_SHARE) * begun.done / max(begun.total, 1))

        report = evaluate(
            candidate,
            current,
            holdout,
            limits=Limits(),
            consent=job.consent,
            confidence=job.wanted.confidence,
            seed=SEED,
            workspace=workspace,
            progress=step,
            cancelled=cancelled,
        )
        told("Recording the result", 1.0)
        _recorded(signoff, claimed, version, champion, report, workspace, actor)


def _versions(signoff: Signoff, ref: VersionRef, identity: str) -> tuple[ModelVersion, ModelVersion | None]:
    """The version that was asked about, and the champion of this moment unless it is that itself."""
    model, versions = signoff.registry.model(ref.name), signoff.registry.versions(ref.name)
    target = assignments.judging(signoff, model).rules.champion
    version = next((version for version in versions if version.ref == ref), None)
    if version is None or version.identity != identity:
        raise NotFound(f"{ref} was deleted since its validation was asked for.")
    champion = champion_of(model, versions, alias=target.alias, stage=target.stage)
    return version, champion if champion and champion.ref != ref else None


def _subject(signoff: Signoff, version: ModelVersion, folder: Path) -> Subject:
    folder.mkdir()
    manifest = signoff.registry.fetch(version.ref, folder, max_bytes=MAX_MODEL_BYTES)
    return Subject(ref=version.ref, folder=folder, signature=manifest.signature, digest=manifest.digest)


def _keep_pictures(report: Report, workspace: Path, kept: Path) -> None:
    """Put them where they wait until MLflow has them, also past a crash."""
    for model in (report.candidate, report.current):
        for name in model.pictures if model else ():
            kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(workspace / name, kept / Path(name).name)


def _recorded(
    signoff: Signoff,
    claimed: Claim,
    version: ModelVersion,
    champion: ModelVersion | None,
    report: Report,
    workspace: Path,
    actor: Actor,
) -> None:
    run_id, kept = "", uploads.pictures(signoff.settings, claimed.job.seq)
    try:
        _keep_pictures(report, workspace, kept)
        run_id = mirroring.begin(signoff, version, champion, report, actor)
        with signoff.database.writing() as connection:
            jobs.update(connection, claimed, run_id=run_id)
        with signoff.database.writing() as connection:
            jobs.require(connection, claimed)
            permissions.require(people.acting(connection, actor.username, actor.source), Action.VALIDATE)
            found = record(
                connection, claimed.job, version, champion, report, run_id=run_id, actor=actor, at=signoff.now()
            )
            jobs.update(connection, claimed, completed_seq=found.seq)
    except BaseException:
        uploads.drop(signoff.settings, kept.name)
        if run_id:
            mirroring.give_up(signoff, run_id)
        raise
    _finished(signoff, claimed, found)


def _finished(signoff: Signoff, claimed: Claim, found: Validation) -> None:
    """It is on record. What is still to do, the mirror included, is made up for by `finish` when it fails here."""
    with suppress(LedgerUnavailable):
        try:
            mirroring.mirror(signoff, found)
        except RegistryUnavailable as error:
            jobs.note(signoff.database, claimed, f"{error} Its figures are logged there later.", 1.0, at=signoff.now())
        with signoff.database.writing() as connection:
            jobs.complete(connection, claimed.job.seq, at=signoff.now())
    uploads.drop(signoff.settings, claimed.job.wanted.folder)
    with suppress(RegistryUnavailable):
        signoff.snapshot.touch(found.ref.name)


def _failed(signoff: Signoff, claimed: Claim, why: str, actor: Actor) -> None:
    try:
        validations.fail(signoff, claimed.job, why, actor)
    except LedgerUnavailable:
        log.warning("validation #%s: %s", claimed.job.seq, why)  # its lease will run out


def _give_back(signoff: Signoff, claimed: Claim) -> None:
    with suppress(LedgerUnavailable), signoff.database.writing() as connection:
        jobs.update(connection, claimed, state=State.QUEUED, claim=None, step="", share=0.0)
