"""The facts the gate judges from: evidence from MLflow, submission and decisions from our own tables."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from fnmatch import fnmatchcase
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import assignments, bars, champions
from services.accounts import people
from services.domain import ArtifactEntry, ModelVersion, RegisteredModel, Stage, Status, VersionRef
from services.errors import FilesUnreadable, NotFound, SignoffError, StoreUnavailable
from services.evidence import Binding, Decision, Ended, Evidence, Facts, Finding, Known, Reigning, Severity, Submission
from services.policy import Policy
from services.reconciliation import prescription
from services.reconciliation.drift import SeenVersion
from services.record import ledger
from services.record.ledger import Kind
from services.registry import version_of
from services.signoff import Signoff
from services.snapshot import champion_of
from services.tables import decisions, emergencies, events, findings, promotions, submissions
from services.validation.record import validations_of

MAX_ARTIFACTS, MAX_ARTIFACT = 20, 1_000_000
"""Of the artifacts that a policy asks for, how many are read, and of how many bytes each."""
OPEN = tuple(status.value for status in Status if status.open)


def fresh(
    signoff: Signoff,
    ref: VersionRef,
    *,
    rollback: bool = False,
    first: Callable[[Policy, Facts], object] = lambda *_: None,
) -> tuple[Policy, Facts]:
    """Facts for a decision: everything read from MLflow at this moment.

    Args:
        first: called with the same facts but for the files, before they are read, which may take minutes; it may
            raise what is certain by then.

    Raises:
        NotFound: no such model or version.
        RegistryUnavailable: MLflow did not answer; nothing may be decided.
        InvalidSettings: no policy, or more than one, judges this model.
    """
    model = signoff.registry.model(ref.name)
    if model.is_prompt:
        raise NotFound(f"{ref.name} is a prompt in MLflow, and no model.")
    policy = assignments.judging(signoff, model)
    version = version_of(signoff.registry, model, ref)
    candidate = signoff.reader.without_files(version).preferring(policy.metric_source)
    champion = _champion_now(signoff, policy, model)
    seen = Facts(
        model=model,
        now=signoff.now(),
        candidate=candidate,
        champion=signoff.reader.without_files(champion).preferring(policy.metric_source)
        if champion and champion.ref != ref
        else None,
        bars={},
        reigning=_reigning(policy, model.latest, champion),
        rollback_of="" if rollback else None,
    )
    with signoff.database.reading() as connection:
        cheap = again(signoff, connection, seen)
    first(policy, cheap)
    candidate = _read_for(signoff, policy, signoff.reader.with_files(candidate), signoff.registry.run_file)
    seen = replace(
        seen,
        candidate=signoff.reader.looked(candidate, policy.digest),
        champion=signoff.reader.looked(signoff.reader.with_files(seen.champion)) if seen.champion else None,
    )
    with signoff.database.reading() as connection:
        return policy, again(signoff, connection, seen)


def again(signoff: Signoff, connection: Connection, seen: Facts) -> Facts:
    """The same facts at this moment, as far as they are in our own tables; what was read of MLflow stays as it is."""
    version = seen.candidate.version
    submission = open_submission(connection, version)
    (now,) = on_record(connection, [replace(seen, now=signoff.now(), submission=submission)])
    return replace(
        now,
        assigned=assignments.assigned(connection, version.ref.name),
        reigning=_by_the_record(connection, version.ref.name, seen.reigning),
        rollback_of=None if seen.rollback_of is None else released_digest(connection, version, to_return_to=True),
    )


def on_record(connection: Connection, every: Collection[Facts]) -> list[Facts]:
    """Facts of which the submission is known, with what our own tables say else of each version and its champion.

    It takes as many statements for many versions as for one, but one more for each that is not submitted.
    """
    candidates = [seen.candidate for seen in every]
    known = [Known.of(candidate) for candidate in candidates]
    records = champions.recorded(connection, [seen.champion.version for seen in every if seen.champion])
    authors = bars.authors_of(connection, candidates)
    barred = bars.of_candidates(connection, candidates, authors)
    votes = latest_decisions(connection, [seen.submission for seen in every if seen.submission])
    rows = connection.execute(sa.select(findings).where(bars.same_as_any(known, findings)).order_by(findings.c.id))
    found = bars.by_version(known, rows.all())
    elsewhere = bars.elsewhere(connection, known)
    validations = validations_of(connection, [candidate.version for candidate in candidates])
    return [
        replace(
            seen,
            champion=records.of(seen.champion),
            author=authors[seen.candidate.ref],
            bars=barred[seen.candidate.ref],
            ended=None if seen.submission else ended(connection, seen.candidate.version),
            decisions=votes.get(seen.submission.id, ()) if seen.submission else (),
            findings=tuple(map(finding_from, found[seen.candidate.ref])),
            elsewhere=elsewhere[seen.candidate.ref],
            validations=validations[seen.candidate.ref],
        )
        for seen in every
    ]


def shown(signoff: Signoff, ref: VersionRef) -> tuple[Policy, Facts]:
    """Facts for a page: from the snapshot and from memory, at most about a minute old."""
    snapshot = signoff.snapshot.current
    model = snapshot.models.get(ref.name)
    if model is None:
        raise NotFound(f"There is no {ref} in the registry.")
    return remembered(signoff, ref, model, snapshot.versions.get(ref.name, ()))


def remembered(
    signoff: Signoff, ref: VersionRef, model: RegisteredModel, versions: tuple[ModelVersion, ...]
) -> tuple[Policy, Facts]:
    """Facts about ``model`` and its ``versions`` as given; their evidence is at most about a minute old."""
    version = next((version for version in versions if version.ref == ref), None)
    if version is None:
        raise NotFound(f"There is no {ref} in the registry.")
    policy = assignments.judging(signoff, model)
    champion = champion_in(policy, model, versions)
    candidate = _read_for(
        signoff, policy, signoff.reader.remembered(version), signoff.reader.run_file, StoreUnavailable
    )
    seen = Facts(
        model=model,
        now=signoff.now(),
        candidate=signoff.reader.looked(candidate, policy.digest),
        champion=signoff.reader.looked(signoff.reader.remembered(champion)).preferring(policy.metric_source)
        if champion and champion.ref != ref
        else None,
        bars={},
        reigning=_reigning(policy, versions, champion),
    )
    with signoff.database.reading() as connection:
        return policy, again(signoff, connection, seen)


def _read_for(
    signoff: Signoff,
    policy: Policy,
    candidate: Evidence,
    read: Callable[[str, str], bytes],
    *shown: type[SignoffError],
) -> Evidence:
    """As the policy reads it, with what its run logged beside the model where it asks for any artifact.

    ``read`` gives the content of one of them: what the policy asks for is bound by content, not by name alone.
    ``shown``: errors of which a page shows the words and a decision does not get past.
    """
    candidate = candidate.preferring(policy.metric_source)
    if candidate.run is None or not any(one.rules.required_artifacts for one in policy.each):
        return candidate
    run_id = candidate.run.run_id
    words: tuple[type[SignoffError], ...] = (FilesUnreadable, *shown)
    try:
        files = signoff.registry.run_files(run_id)
        digests = {
            file.path: f"{file.size} bytes"
            if file.size > MAX_ARTIFACT
            else hashlib.sha256(read(run_id, file.path)).hexdigest()
            for file in _asked(policy, files)
        }
    except words as error:
        return replace(candidate, unreadable=candidate.unreadable or str(error))
    return replace(candidate, run_files=tuple(file.path for file in files), run_digests=digests)


def _asked(policy: Policy, files: Iterable[ArtifactEntry]) -> list[ArtifactEntry]:
    patterns = [pattern for one in policy.each for pattern in one.rules.required_artifacts]
    return [file for file in files if any(fnmatchcase(file.path, pattern) for pattern in patterns)][:MAX_ARTIFACTS]


def _reigning(policy: Policy, versions: Iterable[ModelVersion], champion: ModelVersion | None) -> Reigning:
    """What MLflow shows; among ``versions`` is the newest of each stage."""
    target = policy.rules.champion
    staged = [one for one in versions if one.stage == target.stage != Stage.NONE]
    newest = max(staged, key=lambda one: one.ref.version, default=None)
    return Reigning(alias=target.alias, stage=target.stage, shown=_told(champion), shown_staged=_told(newest))


def _told(version: ModelVersion | None) -> tuple[int, str] | None:
    return (version.ref.version, SeenVersion.of(version).id) if version else None


def _by_the_record(connection: Connection, name: str, found: Reigning | None) -> Reigning | None:
    if found is None:
        return None
    known, recorded, staged = prescription.champion(connection, name, alias=found.alias, stage=found.stage)
    return replace(found, known=known, recorded=recorded, recorded_staged=staged)


def champion_in(policy: Policy, model: RegisteredModel, versions: tuple[ModelVersion, ...]) -> ModelVersion | None:
    """The champion among all versions of a model, as MLflow showed them."""
    target = policy.rules.champion
    return champion_of(model, versions, alias=target.alias, stage=target.stage)


def _champion_now(signoff: Signoff, policy: Policy, model: RegisteredModel) -> ModelVersion | None:
    """The champion of a model just read; of its versions nothing is read but that which the alias points at."""
    versions = model.latest
    if number := model.aliases.get(policy.rules.champion.alias):
        with suppress(NotFound):  # deleted meanwhile: then the stage says who is
            versions += (version_of(signoff.registry, model, VersionRef(name=model.name, version=number)),)
    return champion_in(policy, model, versions)


def champion(signoff: Signoff, name: str) -> tuple[Policy, Evidence | None]:
    """The champion of a model as MLflow and the record have it now, without its files; raises as `fresh`."""
    model = signoff.registry.model(name)
    policy = assignments.judging(signoff, model)
    found = _champion_now(signoff, policy, model)
    if found is None:
        return policy, None
    evidence = signoff.reader.without_files(found).preferring(policy.metric_source)
    with signoff.database.reading() as connection:
        return policy, champions.recorded(connection, [found]).of(evidence)


def open_submission(connection: Connection, version: ModelVersion) -> Submission | None:
    """The open submission of exactly this version; one of an earlier version of the same number does not count."""
    row = connection.execute(
        sa.select(submissions).where(
            submissions.c.model == version.ref.name,
            submissions.c.version == version.ref.version,
            submissions.c.status.in_(OPEN),
        )
    ).one_or_none()
    return submission_from(row) if row is not None and row.identity == version.identity else None


_ENDINGS = {
    Kind.REJECTION_CONFIRMED: "rejected",
    Kind.WITHDRAWAL_CONFIRMED: "withdrawn",
    Kind.ARCHIVAL_CONFIRMED: "archived",
}


def ended(connection: Connection, version: ModelVersion) -> Ended | None:
    """What last took exactly this version out of review or out of Production; None when nothing did."""
    own = sa.and_(events.c.version == version.ref.version, events.c.kind.in_([kind.value for kind in _ENDINGS]))
    row = connection.execute(
        sa.select(events.c.seq, promotions.c.version.label("released"), promotions.c.action)
        .select_from(
            events.outerjoin(
                promotions, sa.and_(promotions.c.model == events.c.model, promotions.c.seq == events.c.seq)
            )
        )
        .where(
            events.c.model == version.ref.name,
            sa.or_(own, promotions.c.version == version.ref.version, promotions.c.replaced == version.ref.version),
        )
        .order_by(events.c.seq.desc())
        .limit(1)
    ).one_or_none()
    if row is None or row.released == version.ref.version:
        return None
    (event,) = ledger.numbered(connection, [row.seq])
    body = event.body
    if row.released is not None:
        if datetime.fromisoformat(body["at"]) < version.created_at:
            return None  # it replaced an earlier version of the same number
        how, successor = row.action, row.released
    elif body["details"]["identity"] != version.identity:
        return None
    else:
        how, successor = _ENDINGS[event.kind], None
    return Ended(how=how, by=body["actor"], at=body["at"], words=body["comment"], successor=successor)


def latest_decisions(connection: Connection, every: Iterable[Submission]) -> dict[int, tuple[Decision, ...]]:
    """Id of a submission → everybody's last vote on it, in the order they were cast, with the roles of this moment."""
    ids = {submission.id for submission in every}
    rows = connection.execute(
        sa.select(decisions).where(decisions.c.submission.in_(ids)).order_by(decisions.c.seq)
    ).all()
    last = {(row.submission, row.person_id): row for row in rows}
    held = people.roles_held(connection, {row.person_id for row in rows})
    found = dict[int, tuple[Decision, ...]]()
    for row in rows:
        if last[row.submission, row.person_id] is row:
            vote = decision_from(row, held.get(row.person_id))
            found[row.submission] = (*found.get(row.submission, ()), vote)
    return found


def findings_of(connection: Connection, version: ModelVersion) -> tuple[Finding, ...]:
    """All that reviewers found in exactly this version, oldest first."""
    exactly = (
        findings.c.model == version.ref.name,
        findings.c.version == version.ref.version,
        findings.c.identity == version.identity,
    )
    rows = connection.execute(sa.select(findings).where(*exactly).order_by(findings.c.id))
    return tuple(map(finding_from, rows))


def released_digest(connection: Connection, version: ModelVersion, *, to_return_to: bool = False) -> str:
    """Manifest digest of the last confirmed release of exactly this version; empty when there was none.

    ``to_return_to``: an emergency is left out unless it was reviewed and found justified: else a rollback, which one
    person asks for, would bring back what nobody ever approved.
    """
    query = sa.select(promotions.c.manifest_digest).where(
        promotions.c.model == version.ref.name,
        promotions.c.version == version.ref.version,
        promotions.c.identity == version.identity,
    )
    if to_return_to:
        justified = sa.exists().where(emergencies.c.released_seq == promotions.c.seq, emergencies.c.justified)
        query = query.where(sa.or_(promotions.c.action != "emergency", justified))
    return str(connection.execute(query.order_by(promotions.c.seq.desc()).limit(1)).scalar() or "")


def submission_from(row: Any) -> Submission:
    """A row of ``submissions``."""
    return Submission(
        id=row.id,
        ref=VersionRef(name=row.model, version=row.version),
        identity=row.identity,
        status=row.status,
        submitted_by=row.submitted_by,
        submitted_by_id=row.submitted_by_id,
        proposal=row.proposal and row.taken_by_id is None,
        taken_by=row.taken_by,
        taken_by_id=row.taken_by_id,
        submitted_at=row.submitted_at,
        comment=row.comment,
        claimed_author=row.claimed_author,
        binding=Binding.from_json(row.binding),
        seq=row.seq,
    )


def decision_from(row: Any, held: frozenset[str] | None) -> Decision:
    """A row of ``decisions``, and the roles that its person has now."""
    return Decision(
        person=row.person,
        person_id=row.person_id,
        roles=frozenset(row.roles),
        held=held,
        decision=row.decision,
        comment=row.comment,
        at=row.at,
        binding=Binding.from_json(row.binding),
        seq=row.seq,
        expired=row.expired,
        automation=row.automation,
        signed=row.signed,
    )


def finding_from(row: Any) -> Finding:
    """A row of ``findings``."""
    return Finding(
        id=row.id,
        ref=VersionRef(name=row.model, version=row.version),
        severity=Severity(row.severity),
        text=row.text,
        owner=row.owner,
        due=date.fromisoformat(row.due) if row.due else None,
        raised_by=row.raised_by,
        raised_at=row.raised_at,
        seq=row.seq,
        resolved_by=row.resolved_by,
        resolved_at=row.resolved_at,
        resolution=row.resolution,
    )
