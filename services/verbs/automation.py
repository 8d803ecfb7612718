"""What a pipeline does with a version, as one verb: check, submit, approve if the policy lets it, promote, record."""

from __future__ import annotations

import sqlalchemy as sa

from services import facts, gate
from services.domain import Action, Actor, Source, Stage, Status, VersionRef
from services.errors import Refused
from services.evidence import Facts
from services.policy import Policy
from services.signoff import Signoff
from services.tables import submissions
from services.verbs import releases, reviews
from services.verbs.common import acting, gate_refused, refusals_recorded, words
from services.verbs.reviews import Outcome

_LATER = frozenset({"submitted", "approvals", "staging_time", "freeze"})
"""Checks that may still fail when a version is submitted: the verb itself, people or time will see to them."""


def auto(signoff: Signoff, ref: VersionRef, *, by: str, comment: str, source: Source) -> Outcome:
    """Take a version as far towards Production as its policy lets automation take it; safe to run every night.

    A version that fails for what it shows is not even submitted. One that lacks only the approval of people is
    submitted for them, and refused until they have approved it. What people ended (rejected, withdrew, archived,
    replaced or rolled back from) stays ended until people submit it again. On the champion it changes nothing.

    A person may ask for the same, but only a service approves automatically.

    Raises:
        GateRefused: a check failed; the error carries the verdict, and there is one refusal on record.
        Refused: people have ended what is asked for.
        and as `releases.promote`.
    """
    comment = words(comment, "comment")
    actor = acting(signoff, by, source, Action.AUTO, ref, "promotion")
    with refusals_recorded(signoff, "promotion", actor, ref):
        policy, seen = facts.fresh(signoff, ref)
        if done := releases.already_champion(policy, seen):
            return done
        missing = _missing(policy, seen, actor)
        _left_to_it(signoff, seen)
    if seen.submission is None:
        reviews.submit(signoff, ref, by=by, comment=comment, source=source)
    if "approvals" in missing and actor.automation and policy.automation:
        reviews.approve_automatically(signoff, ref, by=by, comment=comment, source=source)
    return releases.promote(signoff, ref, by=by, reason=comment, source=source)


def _missing(policy: Policy, seen: Facts, actor: Actor) -> set[str]:
    """What is still to be seen to, as families of checks; refuses for what nobody will see to."""
    verdict = gate.evaluate(policy, seen, actor=actor)
    missing = {check.family for check in verdict.failed}
    if missing - _LATER:
        raise gate_refused(policy, seen, verdict)
    return missing


def _left_to_it(signoff: Signoff, seen: Facts) -> None:
    """Refuses what people have ended or sent back, even where their reason to no longer binds anybody."""
    version = seen.candidate.version
    if seen.submission is not None:
        if seen.submission.status == Status.CHANGES_REQUESTED:
            raise Refused(f"Changes of {version.ref} were requested; a person must answer and submit it again.")
        return
    query = sa.select(submissions.c.status).where(submissions.c.identity == version.identity)
    query = query.where(submissions.c.model == version.ref.name, submissions.c.version == version.ref.version)
    with signoff.database.reading() as connection:
        last = connection.execute(query.order_by(submissions.c.id.desc()).limit(1)).scalar()
    if last is not None or version.stage == Stage.ARCHIVED:
        ended = last if last in {"rejected", "withdrawn"} else "in Production before, or archived"
        raise Refused(f"{version.ref} was {ended}; automation does not bring it back, a person must submit it again.")
