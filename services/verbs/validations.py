"""The verbs of a validation: ask for one, and cancel it. What happens in between is in `services.validation`."""

from __future__ import annotations

from services import agreement, bars
from services.domain import Action, Actor, ModelVersion, Source, VersionRef
from services.errors import BadInput, NotFound, Refused
from services.evidence import Evidence, Known
from services.record import ledger
from services.record.ledger import Entry, Kind
from services.signoff import Signoff
from services.validation import jobs, uploads
from services.validation.jobs import Job, State, Wanted
from services.verbs.common import acting, refusals_recorded, words
from services.verbs.reviews import Outcome


def ask(
    signoff: Signoff,
    ref: VersionRef,
    wanted: Wanted | None,
    *,
    by: str,
    comment: str = "",
    consent: bool = False,
    source: Source,
) -> Outcome:
    """Queue the evaluation of a version and of the champion on one holdout.

    Args:
        consent: run what loading the models would run, though it is not on the allow-list; ``comment`` says why. It
            is recorded before anything runs, and is not for the version's own author or submitter to give.

    Raises:
        BadInput: nothing to evaluate on was named, or a consent without words.
        NotAllowed: the role is missing.
        Refused: consent to one's own version.
        PromotionConflict: too many validations wait already.
        NotFound, RegistryUnavailable, LedgerUnavailable.
    """
    if wanted is None:
        raise BadInput("A validation needs a holdout and the name of its target column.")
    comment = words(comment, "reason for the consent") if consent else _optional(comment)
    action = Action.VALIDATE_WITH_CONSENT if consent else Action.VALIDATE
    actor = acting(signoff, by, source, action, ref, "validation")
    with refusals_recorded(signoff, "validation", actor, ref):
        version = signoff.registry.version(ref)
        if consent:
            _not_their_own(signoff, version, actor)
        event = _queued(signoff, version, wanted, actor, comment, consent=consent)
    return Outcome(ref=ref, event=event, message=f"The validation of {ref} waits for its turn.", job=event.seq)


def _queued(
    signoff: Signoff, version: ModelVersion, wanted: Wanted, actor: Actor, comment: str, *, consent: bool
) -> ledger.Event:
    if wanted.folder:
        uploads.keep(signoff.settings, wanted.folder)
    try:
        with signoff.database.writing() as connection:
            event = ledger.append(
                connection,
                Entry(
                    kind=Kind.VALIDATION_REQUESTED,
                    actor=actor,
                    at=signoff.now(),
                    ref=version.ref,
                    comment=comment,
                    details={"identity": version.identity, "consent": consent, **wanted.told, "folder": wanted.folder},
                ),
            )
            jobs.add(connection, event, place=uploads.place(signoff.settings))
    except BaseException:
        uploads.drop(signoff.settings, wanted.folder)
        raise
    return event


def cancel(signoff: Signoff, ref: VersionRef, number: int, *, by: str, comment: str = "", source: Source) -> Outcome:
    """End a validation that waits or runs; whatever it has found by then is nowhere kept.

    Whoever may ask for validations may: the places they run in are few, and everybody's. What has ended stays so.

    Raises:
        NotAllowed: the role is missing.
        NotFound: there is no such validation of this version.
        LedgerUnavailable.
    """
    comment = _optional(comment)
    actor = acting(signoff, by, source, Action.CANCEL_VALIDATION, ref, "validation")
    job = jobs.find(signoff.database, ref, number)
    ended = Outcome(ref=ref, event=None, message=f"Validation #{number} of {ref} has ended already.", job=number)
    if not job.state.open:
        return ended
    with signoff.database.writing() as connection:
        if not jobs.end(connection, number, State.CANCELLED, at=signoff.now(), error=f"Cancelled by {by}."):
            return ended
        event = ledger.append(connection, _ending(Kind.VALIDATION_CANCELLED, job, actor, signoff, comment))
    uploads.drop(signoff.settings, job.wanted.folder)
    return Outcome(ref=ref, event=event, message=f"Validation #{number} of {ref} is cancelled.", job=number)


def fail(signoff: Signoff, job: Job, why: str, actor: Actor) -> bool:
    """Record that nothing came of a job; whether it was still open."""
    with signoff.database.writing() as connection:
        if not jobs.end(connection, job.seq, State.FAILED, at=signoff.now(), error=why):
            return False
        ledger.append(connection, _ending(Kind.VALIDATION_FAILED, job, actor, signoff, why))
    uploads.drop(signoff.settings, job.wanted.folder)
    return True


def _ending(kind: Kind, job: Job, actor: Actor, signoff: Signoff, comment: str) -> Entry:
    details = {"identity": job.identity, "job": job.seq}
    return Entry(kind=kind, actor=actor, at=signoff.now(), ref=job.ref, comment=comment, details=details)


def _optional(text: str) -> str:
    return words(text, "comment") if text.strip() else ""


def _not_their_own(signoff: Signoff, version: ModelVersion, actor: Actor) -> None:
    """Refuses a consent of the version's author, as claimed, or submitter: they would vouch for their own code."""
    try:
        run = signoff.registry.run(version.run_id) if version.run_id else None
    except NotFound:
        run = None
    with signoff.database.reading() as connection:
        candidate = Evidence(version=version, run=run)
        agreement.require_review(connection, Known.of(candidate))
        barred = bars.of_candidate(connection, candidate, bars.author_of(connection, candidate))
    if why := barred.get(actor.person or "") or barred.get(actor.username):
        raise Refused(f"{why}; somebody else must consent to the code of {version.ref}.")
