"""Everything a page shows about one version: the pull request of a promotion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from sqlalchemy.engine import Connection

from services import agreement, facts, gate
from services.accounts import people, permissions
from services.checks.bound import bound
from services.checks.data_sets import silent
from services.checks.validation import outdated
from services.domain import Action, Actor, ModelVersion, Role, RunFacts, Stage, Status, VersionRef
from services.errors import RegistryUnavailable
from services.evidence import Binding, Decision, Facts, Statement
from services.gate import Verdict
from services.place import astray, original
from services.policy import Policy
from services.record import ledger
from services.record.ledger import Event, Filter, Kind
from services.record.mirror import REGISTERED_BY
from services.side_by_side import comparison
from services.side_by_side.comparison import Comparison
from services.signoff import Signoff
from services.validation.record import Validation
from services.verbs import statements
from services.verbs.emergencies import Emergency, open_emergencies
from services.verbs.releases import Release, releases_of

MAX_EVENTS = 200


class Mark(StrEnum):
    """How far a lifecycle step is."""

    DONE = "done"
    NOW = "now"
    AHEAD = "ahead"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of Train → Register → Validate → Approve → Promote → Deploy → Monitor."""

    title: str
    mark: Mark
    at: datetime | str | None = None
    detail: str = ""
    run: RunFacts | None = None
    """The run to link to in MLflow, if the step is one."""


@dataclass(frozen=True, kw_only=True)
class Dossier:
    """One version with its verdict, comparison, record and lifecycle, as at most a minute ago."""

    policy: Policy
    facts: Facts
    verdict: Verdict
    events: tuple[Event, ...]
    """The newest `MAX_EVENTS`, newest first, the technical ``…:intended`` steps left out."""
    more_events: bool = False
    """Whether there are older ones."""
    last: Mapping[Kind, Event]
    """The newest approval and the newest rejection, however old they are."""
    releases: tuple[Release, ...]
    """Confirmed promotions and rollbacks of exactly this version, newest first."""
    released: Event | None = None
    """What the newest of them recorded."""
    deployments: tuple[RunFacts, ...] = ()
    owners: Mapping[str, str]
    """Username → name of everybody who could answer a finding."""
    statements: tuple[Statement, ...] = ()
    """What reviewers state about the data set of the champion, which this version is compared with or is itself."""
    emergencies: tuple[Emergency, ...] = ()
    """Of exactly this version: requests that wait for a second person, and what nobody has reviewed."""
    registrant: str | None = None
    """Whom MLflow had authenticated when it was registered, as its hook wrote then; None: nobody, or no hook says."""
    astray: str = ""
    """What the source of a copy does not say any more, in one sentence."""

    @property
    def version(self) -> ModelVersion:
        """The version itself."""
        return self.facts.candidate.version

    @property
    def ref(self) -> VersionRef:
        """Its name and number."""
        return self.version.ref

    @property
    def binding(self) -> Binding:
        """What a decision made on this dossier is bound to."""
        return bound(self.policy, self.facts)

    @property
    def is_champion(self) -> bool:
        """Whether it is in Production now."""
        return self.facts.champion is None and self.version.stage == self.policy.rules.champion.stage

    @property
    def without_data_set(self) -> VersionRef | None:
        """The champion whose data set a reviewer can state, because it names none and the policy compares them."""
        champion = self.facts.champion or (self.facts.candidate if self.is_champion else None)
        return champion.ref if champion and silent(self.policy, champion) else None

    @property
    def status(self) -> str | None:
        """Its review status from our own record, else None."""
        return self.facts.submission.status if self.facts.submission else self.version.status

    @cached_property
    def comparison(self) -> Comparison | None:
        """Candidate against champion; None when there is no champion to compare with."""
        if self.facts.champion is None:
            return None
        return comparison.compare(
            self.facts.champion,
            [self.facts.candidate],
            self.policy,
            champion=self.facts.champion.ref,
            verdicts={self.ref: self.verdict},
        )

    @cached_property
    def rewritten(self) -> tuple[str, ...]:
        """What tells people what it is and was changed after its newest release, in words."""
        then = self.released.get("binding") if self.released else None
        return Binding.from_json(then).rewritten(self.binding) if then else ()

    @property
    def passed(self) -> int:
        """How many checks passed."""
        return sum(check.passed for check in self.verdict.checks)

    @property
    def request(self) -> Emergency | None:
        """The emergency somebody has asked for and nobody has confirmed yet."""
        return next((emergency for emergency in self.emergencies if emergency.waits), None)

    @property
    def in_an_emergency(self) -> Verdict:
        """The same checks with those marked that two people could go past."""
        return gate.waived(self.verdict)

    def void_reasons(self, decision: Decision) -> tuple[str, ...]:
        """Why a decision no longer counts; empty when it does."""
        return gate.void_reasons(decision, self.policy, self.facts)

    def outdated(self, validation: Validation) -> tuple[str, ...]:
        """Why a validation does not count under the policy that judges now; empty when it does."""
        reasons = (outdated(validation, one, self.facts) for one in self.policy.each)
        return tuple(dict.fromkeys(reason for found in reasons for reason in found))

    def actions(self, actor: Actor) -> tuple[Action, ...]:
        """What this person could ask for now, by role and state; the verb checks it all again."""
        submission = self.facts.submission
        released = self.is_champion
        vote = submission is not None and bool(actor.roles & self.policy.voters)
        fitting = {
            Action.SUBMIT: not released
            and (submission is None or submission.proposal or submission.status == Status.CHANGES_REQUESTED),
            Action.APPROVE: vote and gate.wanted(actor, self.policy, self.facts),
            Action.REQUEST_CHANGES: vote,
            Action.REJECT: vote,
            Action.STATE_DATASET: self.without_data_set is not None
            and not (self.facts.champion and gate.barred(actor.person, actor.username, self.facts)),
            Action.PROMOTE: not released,
            Action.WITHDRAW: submission is not None and actor.person in submission.owners,
            Action.ROLLBACK: not released and any(release.returnable for release in self.releases),
            Action.ARCHIVE: self.version.stage != Stage.ARCHIVED,
            Action.BREAK_GLASS: not released and self.request is None and self.policy.break_glass,
            Action.CONFIRM_EMERGENCY: any(emergency.may_confirm(actor) for emergency in self.emergencies),
            Action.WITHDRAW_EMERGENCY: any(emergency.may_withdraw(actor) for emergency in self.emergencies),
            Action.REVIEW_EMERGENCY: any(emergency.may_review(actor) for emergency in self.emergencies),
        }
        return tuple(action for action, fits in fitting.items() if fits and permissions.may(actor, action))

    def unasked(self, actor: Actor) -> str:
        """In one sentence, why somebody who has a vote here is not asked to approve; empty when they are."""
        if gate.wanted(actor, self.policy, self.facts):
            return ""
        if why := gate.barred(actor.person, actor.username, self.facts):
            return f"It is your own ({why}): you may not approve it, only ask for changes or reject it."
        if self.facts.submission is not None and self.facts.submission.proposal:
            return "An MLflow client proposed it: your approval is asked for once a person has submitted it."
        return "Your approval is not missing; you can still ask for changes or reject it."

    @property
    def missing(self) -> tuple[Role, ...]:
        """The roles whose approval is still missing."""
        failed = {(check.policy or self.policy.rules.name, check.bare) for check in self.verdict.failed}
        asking = ((one.rules.name, rule.role) for one in self.policy.each for rule in one.rules.approvals)
        unmet = (role for name, role in asking if failed & {(name, "approvals"), (name, f"approvals:{role}")})
        return tuple(dict.fromkeys(unmet))

    @cached_property
    def lifecycle(self) -> tuple[Step, ...]:
        """Where it is on its way from training to monitoring."""
        return _lifecycle(self)


def open_dossier(signoff: Signoff, ref: VersionRef) -> Dossier:
    """Put together what is known about a version.

    Raises:
        NotFound: there is no such version.
        RegistryUnavailable, LedgerUnavailable, InvalidSettings.
    """
    policy, seen = facts.shown(signoff, ref)
    identity, mine = seen.candidate.version.identity, releases_of(signoff, seen.candidate.version)
    with signoff.database.reading() as connection:
        found = ledger.events(connection, Filter(model=ref.name, version=ref.version), limit=MAX_EVENTS + 1)
        last = {kind: event for kind in _DECIDING for event in _newest(connection, ref, kind)}
        released = ledger.event(connection, mine[0].seq) if mine else None
        owners = people.names(connection)
    dossier = Dossier(
        policy=policy,
        facts=seen,
        verdict=agreement.told(signoff, gate.evaluate(policy, seen), seen),
        events=tuple(event for event in found[:MAX_EVENTS] if event.kind.outcome != "intended"),
        more_events=len(found) > MAX_EVENTS,
        last=last,
        releases=tuple(mine),
        released=released,
        registrant=_registrant(signoff, seen.candidate.version),
        astray=_astray(signoff, seen.candidate.version),
        deployments=_deployments(signoff, ref) if mine else (),
        owners=owners,
        statements=seen.champion.stated if seen.champion else statements.about(signoff, seen.candidate.version),
        emergencies=tuple(
            replace(e, bars={**e.bars, **seen.bars})
            for e in open_emergencies(signoff)
            if e.ref == ref and e.identity == identity
        ),
    )
    then = released.verdict if released else None
    # A champion is shown with the verdict it was released on: its approvals were for that release, and are used up.
    return replace(dossier, verdict=then) if dossier.is_champion and then and then.checks else dossier


_DECIDING = (Kind.APPROVAL_GIVEN, Kind.REJECTION_CONFIRMED)


def _newest(connection: Connection, ref: VersionRef, kind: Kind) -> list[Event]:
    """The newest event of a kind about a version, if there is one."""
    return ledger.events(connection, Filter(model=ref.name, version=ref.version, kinds=(kind,)), limit=1)


def _registrant(signoff: Signoff, version: ModelVersion) -> str | None:
    """Without the hook that tag is anybody's to write, so it is no more than a claim."""
    return (version.tags.get(REGISTERED_BY) or None) if signoff.snapshot.gated else None


def _astray(signoff: Signoff, version: ModelVersion) -> str:
    copied = original(version)
    known = signoff.snapshot.current.versions.get(copied.name, ()) if copied else ()
    return astray(version, next((one for one in known if one.ref == copied), None))


def verdict(signoff: Signoff, ref: VersionRef, *, fresh: bool = False) -> tuple[Verdict, Binding]:
    """The verdict alone, and what it is about: as `open_dossier` shows it, or on facts read from MLflow at this moment.

    Raises:
        NotFound: there is no such version.
        RegistryUnavailable, LedgerUnavailable, InvalidSettings.
    """
    policy, seen = facts.fresh(signoff, ref) if fresh else facts.shown(signoff, ref)
    now, about = agreement.told(signoff, gate.evaluate(policy, seen), seen), bound(policy, seen)
    version = seen.candidate.version
    if seen.champion is not None or version.stage != policy.rules.champion.stage:
        return now, about
    last = next(iter(releases_of(signoff, version)), None)
    with signoff.database.reading() as connection:
        event = ledger.event(connection, last.seq) if last else None
    return (event.verdict if event and event.body["checks"] else now), about


def _deployments(signoff: Signoff, ref: VersionRef) -> tuple[RunFacts, ...]:
    try:
        return signoff.reader.deployments(ref)
    except RegistryUnavailable:
        return ()  # an ornament of the page; without it everything else still stands


def _lifecycle(dossier: Dossier) -> tuple[Step, ...]:
    candidate, version = dossier.facts.candidate, dossier.version
    run = candidate.run
    trained = Step(
        title="Train",
        mark=Mark.FAILED if candidate.run_problem else Mark.DONE,
        at=(run.ended_at or run.started_at) if run else None,
        detail=candidate.run_problem or (run.name if run else ""),
        run=run,
    )
    registered = Step(title="Register", mark=Mark.DONE, at=version.created_at, detail=f"as v{version.ref.version}")
    return (trained, registered, _validated(dossier), _approved(dossier), _promoted(dossier), *_served(dossier))


def _validated(dossier: Dossier) -> Step:
    candidate = dossier.facts.candidate
    counts = next((one for one in dossier.facts.validations if not dossier.outdated(one)), None)
    if not candidate.metrics and counts is None:
        return Step(title="Validate", mark=Mark.FAILED, detail="no evidence")
    failed = [check for check in dossier.verdict.failed if check.family in {"metric", "champion", "same_dataset"}]
    names = ", ".join(dataset.name for dataset in candidate.holdout)
    if failed and not dossier.releases:
        return Step(title="Validate", mark=Mark.FAILED, detail=f"{len(failed)} of the checks failed")
    if counts:
        return Step(title="Validate", mark=Mark.DONE, at=counts.at, detail=f"on {counts.report.holdout.rows} rows")
    detail = f"{len(candidate.metrics)} metrics" + (f" on {names}" if names else "")
    return Step(title="Validate", mark=Mark.DONE, at=candidate.run.ended_at if candidate.run else None, detail=detail)


def _approved(dossier: Dossier) -> Step:
    approval, rejection = map(dossier.last.get, _DECIDING)
    if rejection and (approval is None or rejection.seq > approval.seq) and dossier.facts.submission is None:
        return Step(title="Approve", mark=Mark.FAILED, at=rejection.at, detail=f"rejected by {rejection.actor}")
    release = dossier.releases[0] if dossier.releases else None
    if release and release.action == "emergency" and _unapproved(dossier):
        return Step(title="Approve", mark=Mark.FAILED, at=release.at, detail="waived in an emergency")
    done = {Status.APPROVED, Status.AUTO_APPROVED}
    approved = dossier.facts.submission is None or dossier.facts.submission.status in done
    if approval and (approved or dossier.releases):
        how = "automatically " if approval.get("automation") else ""
        return Step(title="Approve", mark=Mark.DONE, at=approval.at, detail=f"{how}by {approval.actor}")
    if dossier.facts.submission:
        return Step(title="Approve", mark=Mark.NOW, at=dossier.facts.submission.submitted_at, detail="waiting since")
    return Step(title="Approve", mark=Mark.AHEAD)


def _unapproved(dossier: Dossier) -> bool:
    waived = dossier.released.verdict.waived if dossier.released else ()
    return any(check.family in {"approvals", "changes"} for check in waived)


def _promoted(dossier: Dossier) -> Step:
    if dossier.releases:
        release = dossier.releases[0]
        how = "in an emergency, by" if release.action == "emergency" else "by"
        return Step(title="Promote", mark=Mark.DONE, at=release.at, detail=f"{how} {release.by}")
    ready = dossier.verdict.allowed
    return Step(title="Promote", mark=Mark.NOW if ready else Mark.AHEAD, detail="ready" if ready else "")


def _served(dossier: Dossier) -> tuple[Step, Step]:
    if not dossier.deployments:
        return Step(title="Deploy", mark=Mark.AHEAD), Step(title="Monitor", mark=Mark.AHEAD)
    run = dossier.deployments[0]
    where = run.tags.get("deployment_env") or run.name
    deployed = Step(title="Deploy", mark=Mark.DONE, at=run.started_at, detail=where, run=run)
    if not run.metrics:
        return deployed, Step(title="Monitor", mark=Mark.AHEAD)
    detail = ", ".join(f"{metric.name} {metric.value:g}" for metric in list(run.metrics.values())[:2])
    return deployed, Step(title="Monitor", mark=Mark.DONE, at=run.ended_at or run.started_at, detail=detail, run=run)
