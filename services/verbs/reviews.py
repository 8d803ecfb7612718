"""The verbs of review: submit, approve, request changes, reject, withdraw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import SecretStr
from sqlalchemy.engine import Connection

from services import assignments, facts, gate
from services.accounts import people, permissions
from services.checks.bound import bound
from services.checks.data_sets import unnamed
from services.domain import Action, Actor, ModelVersion, Source, Stage, Status, VersionRef
from services.errors import BadInput, NotAllowed, PromotionConflict, Refused, SelfApproval
from services.evidence import Facts, FindingDraft, Seen, Submission
from services.policy import Policy
from services.record import ledger, mirror
from services.record.ledger import Entry, Event, Kind
from services.side_by_side.recorded_comparison import against_champion
from services.signoff import Signoff
from services.steps import changes, effects, intents
from services.tables import events
from services.verbs.common import (
    Said,
    acting,
    claimed,
    judged_again,
    refusals_recorded,
    require_as_seen,
    signature_needed,
    slot_held,
    words,
)

MAX_FINDINGS = 50


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a verb did. ``event`` is None when there was nothing to do: it had been done before."""

    ref: VersionRef
    event: Event | None
    message: str
    job: int | None = None
    """What goes on in the background because of it, by its number."""


def submit(
    signoff: Signoff,
    ref: VersionRef,
    *,
    by: str,
    comment: str,
    source: Source,
    words_from: str = "",
) -> Outcome:
    """Submit a version for review: stage Staging, alias challenger, status pending.

    Submitting what is pending changes nothing; submitting after changes were requested starts a new round. Submitting
    what an MLflow client proposed takes the proposal over: the person answers for it from then on.

    What the tag `reason` of the version says is kept with the submission, because the tag becomes part of the record.

    Args:
        words_from: where the comment was found, when ``by`` did not say it.

    Raises:
        BadInput, NotFound, NotAllowed, PromotionConflict, RegistryUnavailable, OutcomeUnknown, LedgerUnavailable;
        Refused: the version is already in Production.
    """
    actor = acting(signoff, by, source, Action.SUBMIT, ref, "submission")
    return _submit(signoff, ref, actor, comment, words_from=words_from)


def claimed_reason(signoff: Signoff, version: ModelVersion) -> str:
    """What the tag `reason` of a version said when it was submitted last; empty where it said nothing."""
    mine = (events.c.model == version.ref.name, events.c.version == version.ref.version)
    with signoff.database.reading() as connection:
        found = ledger.chosen(connection, *mine, events.c.kind == Kind.SUBMISSION_CONFIRMED.value)
        same = [event for event in found if event.get("identity") == version.identity]
    return str(same[-1].get("claimed_reason") or "") if same else ""


def propose(signoff: Signoff, ref: VersionRef, *, actor: Actor, comment: str, words_from: str = "") -> Outcome:
    """Submit a version for an MLflow client, which needs no role: nobody answers for it until a person submits it.

    Raises as `submit`.
    """
    return _submit(signoff, ref, actor, comment, proposal=True, words_from=words_from)


def _submit(
    signoff: Signoff, ref: VersionRef, actor: Actor, comment: str, *, proposal: bool = False, words_from: str = ""
) -> Outcome:
    comment = words(comment, "comment")
    with (
        refusals_recorded(signoff, "submission", actor, ref),
        slot_held(signoff, ref, actor, f"submitting v{ref.version}", proposes=True) as slot,
    ):
        policy, seen = facts.fresh(signoff, ref)
        if seen.submission and seen.submission.proposal and not proposal and actor.person:
            return _take_over(signoff, policy, seen, seen.submission, actor, comment)
        if _pending(seen):
            return Outcome(ref=ref, event=None, message=f"{ref} is already waiting for review.")
        if proposal and seen.submission:
            raise Refused(f"Changes of {ref} were requested; a person must answer them and submit it again.")
        if seen.candidate.version.stage == policy.rules.champion.stage:
            raise Refused(f"{ref} is already in {policy.rules.champion.stage}.")
        assignments.at_first_sight(signoff, seen.model, ref, actor)
        change = changes.prescribe(
            seen.model,
            [signoff.registry.version(ref)],
            ref,
            stage=policy.rules.candidate.stage,
            point=[policy.rules.candidate.alias],
        )

        def judge(connection: Connection, now: Facts, __: Actor) -> Said:
            if _pending(now):
                raise PromotionConflict(f"Someone else acted on the submission of {ref} first; look again.")
            version = now.candidate.version
            ours = mirror.prescribed(connection, ref, version.identity).get("reason")
            reason = "" if ours else claimed(version.tags.get("reason", ""))
            details = {"proposal": proposal, "claimed_reason": reason, "words_from": words_from}
            return gate.evaluate(policy, now), {key: value for key, value in details.items() if value}

        needed = None if proposal else Action.SUBMIT
        event = intents.carry_out(
            signoff,
            slot,
            subject="submission",
            change=change,
            comment=comment,
            judge=judged_again(signoff, policy, seen, actor=actor, action=needed, judge=judge),
        )
    mirror.flush(signoff)
    done = "proposed; a person must submit it" if proposal else "submitted for review"
    warning = unnamed(policy, seen)
    return Outcome(ref=ref, event=event, message=f"{ref} is {done}.{f' {warning}' if warning else ''}")


def _take_over(
    signoff: Signoff, policy: Policy, seen: Facts, submission: Submission, actor: Actor, comment: str
) -> Outcome:
    ref = seen.candidate.ref

    def judge(_: object, now: Facts, __: Actor) -> Said:
        _same(submission, now)
        if now.submission and not now.submission.proposal:
            raise PromotionConflict(f"Someone else submitted {ref} first; look again.")
        return gate.evaluate(policy, now), {}

    with signoff.database.writing() as connection:
        ledger.lock(connection)
        judged = judged_again(signoff, policy, seen, actor=actor, action=Action.SUBMIT, judge=judge)(connection)
        event = ledger.append(
            connection,
            Entry(
                kind=Kind.SUBMISSION_TAKEN_OVER,
                actor=judged.actor,
                at=signoff.now(),
                ref=ref,
                comment=comment,
                verdict=judged.verdict,
                details=judged.context,
            ),
        )
        mirror.ask(connection, ref, event.seq)
    mirror.flush(signoff)
    return Outcome(ref=ref, event=event, message=f"{ref} is submitted for review; {actor.username} answers for it.")


def approve(
    signoff: Signoff,
    ref: VersionRef,
    *,
    by: str,
    comment: str,
    seen: Seen | None = None,
    source: Source,
    password: SecretStr | None = None,
) -> Outcome:
    """Approve a submitted version. The approval is bound to files, evidence, champion and policy as they are now.

    Args:
        seen: what was on screen, or its digest; when anything changed since, nothing is recorded but the refusal.
        password: what the person signs with, where the policy asks for a signature.

    Raises:
        SelfApproval: the person is its author or submitter.
        NotAllowed: the person has none of the roles whose vote the policy asks for.
        StaleDecision: something changed since ``seen``.
        WrongCredentials: the password is wrong, or the account is locked.
        GateRefused: the policy asks for a signature, and there was no password.
        and as `submit`.
    """
    return _decide(signoff, ref, by, comment, seen, source, Action.APPROVE, password=password)


def approve_automatically(signoff: Signoff, ref: VersionRef, *, by: str, comment: str, source: Source) -> Outcome:
    """Approve as a service, where the policy lets automation approve; its own submission too.

    Raises:
        NotAllowed: it is a person, or has not the role.
        Refused: the policy does not let automation approve.
        and as `approve`.
    """
    return _decide(signoff, ref, by, comment, None, source, Action.AUTO, password=None)


def request_changes(  # noqa: PLR0913
    signoff: Signoff,
    ref: VersionRef,
    *,
    by: str,
    comment: str,
    findings: Sequence[FindingDraft] = (),
    seen: Seen | None = None,
    source: Source,
    password: SecretStr | None = None,
) -> Outcome:
    """Send a submission back, with what was found; it can be submitted again, or approved after all.

    Raises:
        BadInput: also a finding for somebody unknown, or due before today.
        and as `approve`.
    """
    action = Action.REQUEST_CHANGES
    return _decide(signoff, ref, by, comment, seen, source, action, password=password, findings=findings)


def reject(
    signoff: Signoff,
    ref: VersionRef,
    *,
    by: str,
    comment: str,
    seen: Seen | None = None,
    source: Source,
    password: SecretStr | None = None,
) -> Outcome:
    """End a submission; the version leaves Staging and loses the challenger alias. Raises as `approve`."""
    return _end(signoff, ref, by, comment, seen, source, Action.REJECT, password)


def withdraw(signoff: Signoff, ref: VersionRef, *, by: str, comment: str, source: Source) -> Outcome:
    """Take a submission back; for its submitter or a release manager. Raises as `submit`."""
    return _end(signoff, ref, by, comment, None, source, Action.WITHDRAW, None)


_VOTE = {
    Action.APPROVE: ("approval", Kind.APPROVAL_GIVEN, "approved"),
    Action.AUTO: ("approval", Kind.APPROVAL_GIVEN, "approved"),
    Action.REQUEST_CHANGES: ("changes", Kind.CHANGES_REQUESTED, "changes_requested"),
}


_ENDING = {Action.REJECT: ("rejection", "rejected"), Action.WITHDRAW: ("withdrawal", "withdrawn")}


def _decide(  # noqa: PLR0913
    signoff: Signoff,
    ref: VersionRef,
    by: str,
    comment: str,
    saw: Seen | None,
    source: Source,
    action: Action,
    *,
    password: SecretStr | None,
    findings: Sequence[FindingDraft] = (),
) -> Outcome:
    comment = words(comment, "comment")
    subject, kind, vote = _VOTE[action]
    actor = acting(signoff, by, source, action, ref, subject)
    with refusals_recorded(signoff, subject, actor, ref):

        def judge(now: Facts, who: Actor) -> Submission:
            _asked(policy, who, action)
            submission = _submitted(now)
            if action is Action.APPROVE and (why := gate.barred(who.person, who.username, now)):
                raise SelfApproval(f"{why}; somebody else must approve {ref}.")
            return submission

        policy, seen = facts.fresh(signoff, ref)
        submission = judge(seen, actor)
        require_as_seen(saw, policy, seen, "Look again, then decide.")
        found = _addressed(signoff, findings, seen, submission, by)
        now = bound(policy, seen)

        def decided(present: Facts) -> bool:
            """Whether there is nothing to add: a request sent twice, also at once, is one vote."""
            mine = (one for one in present.decisions if one.person_id == actor.person and one.decision == vote)
            return not found and any(not gate.void_reasons(one, policy, present) for one in mine)

        nothing_new = Outcome(ref=ref, event=None, message=f"{by} has already decided so on {ref}.")
        if decided(seen):
            return nothing_new
        signature = signature_needed(signoff, policy, seen, actor, action, password)
        compared = against_champion(policy, seen) | ({"findings": [one.as_json() for one in found]} if found else {})

        def in_transaction(_: object, present: Facts, who: Actor) -> Said:
            _same(submission, present)
            judge(present, who)
            # What was seen is decided on; what arrived since, the person has not seen.
            return gate.evaluate(policy, present), {**compared, "binding": now.as_json()}

        with signoff.database.writing() as connection:
            ledger.lock(connection)
            if decided(facts.again(signoff, connection, seen)):
                return nothing_new
            judged = judged_again(
                signoff, policy, seen, actor=actor, action=action, judge=in_transaction, signature=signature
            )(connection)
            event = ledger.append(
                connection,
                Entry(
                    kind=kind,
                    actor=judged.actor,
                    at=signoff.now(),
                    ref=ref,
                    comment=comment,
                    verdict=judged.verdict,
                    details=judged.context,
                ),
            )
            effects.show_status(connection, ref, status(policy, facts.again(signoff, connection, seen)))
            mirror.ask(connection, ref, event.seq)
    mirror.flush(signoff)
    done = "sent back with changes requested" if action is Action.REQUEST_CHANGES else "approved"
    return Outcome(ref=ref, event=event, message=f"{ref} is {done}.")


def _end(  # noqa: PLR0913, PLR0917
    signoff: Signoff,
    ref: VersionRef,
    by: str,
    comment: str,
    saw: Seen | None,
    source: Source,
    action: Action,
    password: SecretStr | None,
) -> Outcome:
    comment = words(comment, "comment")
    subject, done = _ENDING[action]
    actor = acting(signoff, by, source, action, ref, subject)
    with (
        refusals_recorded(signoff, subject, actor, ref),
        slot_held(signoff, ref, actor, f"the {subject} of v{ref.version}", proposes=True) as slot,
    ):

        def judge(now: Facts, who: Actor) -> Submission:
            if action is Action.REJECT:
                _asked(policy, who, action)
            submission = _submitted(now)
            if action is Action.WITHDRAW:
                _own(who, submission)
            return submission

        policy, seen = facts.fresh(signoff, ref)
        submission = judge(seen, actor)
        require_as_seen(saw, policy, seen, "Look again, then decide.")
        signature = signature_needed(signoff, policy, seen, actor, action, password)
        compared = against_champion(policy, seen) if action is Action.REJECT else {}
        stage = seen.candidate.version.stage
        change = changes.prescribe(
            seen.model,
            [signoff.registry.version(ref)],
            ref,
            stage=Stage.NONE if stage == policy.rules.candidate.stage else stage,
            unpoint=[policy.rules.candidate.alias],
        )

        def in_transaction(_: object, present: Facts, who: Actor) -> Said:
            _same(submission, present)
            judge(present, who)
            return None, {**compared, "submission": submission.id}

        event = intents.carry_out(
            signoff,
            slot,
            subject=subject,
            change=change,
            comment=comment,
            judge=judged_again(
                signoff, policy, seen, actor=actor, action=action, judge=in_transaction, signature=signature
            ),
        )
    mirror.flush(signoff)
    return Outcome(ref=ref, event=event, message=f"{ref} is {done}.")


def _asked(policy: Policy, actor: Actor, action: Action) -> None:
    permissions.require(actor, action)
    if action is Action.AUTO:
        if not actor.automation:
            raise NotAllowed(f"Only an automation approves automatically; {actor.username} is a person.")
        for one in policy.each:
            if not one.rules.automation:
                raise Refused(f"Policy {one.rules.name} lets no automation approve.")
        return
    permissions.require_vote(actor, action, policy=policy.names, asked=policy.voters)


def _pending(seen: Facts) -> bool:
    return seen.submission is not None and seen.submission.status != Status.CHANGES_REQUESTED


def _same(submission: Submission, now: Facts) -> None:
    if now.submission is None or now.submission.id != submission.id:
        raise PromotionConflict(f"Someone else ended the submission of {submission.ref} first; look again.")


def _submitted(seen: Facts) -> Submission:
    if seen.submission is None:
        raise Refused(f"{seen.candidate.ref} is not submitted for review, so there is nothing to decide.")
    return seen.submission


def _own(actor: Actor, submission: Submission) -> None:
    if actor.person not in submission.owners and not permissions.may(actor, Action.PROMOTE):
        raise Refused(f"Only {submission.owner}, who submitted it, or a release manager may withdraw it.")


def _addressed(
    signoff: Signoff, drafts: Sequence[FindingDraft], seen: Facts, submission: Submission, by: str
) -> tuple[FindingDraft, ...]:
    """The findings not raised yet, each with who is to answer it: the submitter where nobody was named."""
    if len(drafts) > MAX_FINDINGS:
        raise BadInput(f"{len(drafts)} findings are too many for one decision; at most {MAX_FINDINGS} are taken.")
    known = people.names(signoff.database) if drafts else {}
    for draft in drafts:
        if draft.owner is not None and draft.owner not in known:
            raise BadInput(f"There is no account {draft.owner!r} that could answer a finding.")
        if draft.due is not None and draft.due < signoff.now().date():
            raise BadInput(f"A finding cannot be due before today; {draft.due} is over.")
    owner = submission.owner
    asked = (replace(draft, text=words(draft.text, "finding"), owner=draft.owner or owner) for draft in drafts)
    raised = {(f.text, f.severity, f.owner, f.due) for f in seen.findings if f.open and f.raised_by == by}
    return tuple(draft for draft in asked if (draft.text, draft.severity, draft.owner, draft.due) not in raised)


def status(policy: Policy, seen: Facts) -> str:
    """The status the votes add up to."""
    failed = {check.family for check in gate.evaluate(policy, seen).failed}
    if "changes" in failed:
        return Status.CHANGES_REQUESTED.value
    if "approvals" in failed:
        return Status.PENDING.value
    return Status.AUTO_APPROVED.value if gate.automatic(policy, seen) else Status.APPROVED.value
