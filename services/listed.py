"""Open submissions as lists judge them: in as many statements and MLflow calls for many as for one, and no file read.

Files are looked at in the background (`look`), and wherever a page or a verb reads a version. Until then a list knows
nothing of them, and says so. A list decides nothing: every verb reads again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from services import assignments, facts, logs
from services.assignments import Judges
from services.domain import ModelVersion, RegisteredModel
from services.errors import LedgerBroken, NotFound, RegistryUnavailable, SignoffError
from services.evidence import Evidence, Facts, Submission
from services.policy import Assignment, Policy
from services.signoff import Signoff
from services.tables import submissions

AT_ONCE = 500
"""Submissions asked about in one statement."""
SECONDS = 5.0
"""So long one round looks at files before other work has its turn; at least one version is read whole."""

log = logs.seldom(__name__)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One open submission with what is known of it; where files were not looked at, ``facts`` say none were read."""

    submission: Submission
    policy: Policy
    facts: Facts
    looked_at: bool


@dataclass(frozen=True, kw_only=True)
class _Version:
    """A submitted version as the snapshot shows it, with its champion, unless it is that itself."""

    submission: Submission
    policy: Policy
    assigned: Assignment | None
    model: RegisteredModel
    version: ModelVersion
    champion: ModelVersion | None


def listed(signoff: Signoff, found: Sequence[Submission]) -> dict[int, Listed | SignoffError]:
    """Id of each submission → its facts for a list, or why there are none."""
    judges = assignments.judges(signoff)
    answers: dict[int, Listed | SignoffError] = {}
    versions: list[_Version] = []
    for submission in found:
        try:
            versions.append(_version(signoff, judges, submission))
        except SignoffError as error:
            answers[submission.id] = error
    try:
        measured = _measured(signoff, versions)
    except RegistryUnavailable as error:
        return {**answers, **{one.submission.id: error for one in versions}}
    for start in range(0, len(versions), AT_ONCE):
        answers |= _on_record(signoff, [_told(signoff, one, measured) for one in versions[start : start + AT_ONCE]])
    return answers


def _on_record(signoff: Signoff, told: Sequence[Listed]) -> dict[int, Listed | SignoffError]:
    """The same with what our own tables say; a row that cannot be read is told of the submission it is about alone."""
    try:
        with signoff.database.reading() as connection:
            known = facts.on_record(connection, [one.facts for one in told])
    except LedgerBroken as error:
        if len(told) == 1:
            return {told[0].submission.id: error}
        middle = len(told) // 2
        return _on_record(signoff, told[:middle]) | _on_record(signoff, told[middle:])
    return {one.submission.id: replace(one, facts=now) for one, now in zip(told, known, strict=True)}


def _version(signoff: Signoff, judges: Judges, submission: Submission) -> _Version:
    ref, snapshot = submission.ref, signoff.snapshot.current
    model, version = snapshot.models.get(ref.name), snapshot.version(ref.name, ref.version)
    if model is None or version is None:
        raise NotFound(f"There is no {ref} in the registry.")
    policy = judges.match(model)
    champion = facts.champion_in(policy, model, snapshot.versions[ref.name])
    return _Version(
        submission=submission,
        policy=policy,
        assigned=judges.assigned.get(ref.name),
        model=model,
        version=version,
        champion=champion if champion and champion.ref != ref else None,
    )


def _measured(signoff: Signoff, every: Sequence[_Version]) -> Mapping[str, Evidence]:
    """Identity → what run and logged model say, of all versions and champions."""
    versions = [version for one in every for version in (one.version, one.champion) if version]
    unique = list({version.identity: version for version in versions}.values())
    return {found.version.identity: found for found in signoff.reader.measured(unique)}


def _told(signoff: Signoff, one: _Version, measured: Mapping[str, Evidence]) -> Listed:
    candidate = measured[one.version.identity].preferring(one.policy.metric_source)
    champion = measured[one.champion.identity].preferring(one.policy.metric_source) if one.champion else None
    files = signoff.reader.as_looked_at(candidate, one.policy.digest)
    others = signoff.reader.as_looked_at(champion) if champion else None
    # Both or none: the files of a candidate say nothing where those that it is compared with are not known.
    looked_at = files is not None and (champion is None or others is not None)
    return Listed(
        submission=one.submission,
        policy=one.policy,
        facts=Facts(
            model=one.model,
            now=signoff.now(),
            candidate=files if files and looked_at else candidate,
            champion=others if looked_at else champion,
            bars={},
            assigned=one.assigned,
            submission=one.submission if one.submission.identity == one.version.identity else None,
        ),
        looked_at=looked_at,
    )


def look(signoff: Signoff, *, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> int:
    """Look at the files of open submissions and their champions that nobody looked at lately; returns at how many.

    One that cannot be read keeps none of the others waiting; a later round tries it again.
    """
    until, count = clock() + seconds, 0
    if signoff.snapshot.problem:
        return 0  # the snapshot waits for its time-outs already
    for one in _due(signoff):
        try:
            facts.shown(signoff, one.submission.ref)
            count += 1
        except SignoffError as error:
            log.warning("files of %s: %s", one.submission.ref, error)
        if clock() >= until:
            break
    return count


def _due(signoff: Signoff) -> Iterator[_Version]:
    query = sa.select(submissions).where(submissions.c.status.in_(facts.OPEN)).order_by(submissions.c.id)
    with signoff.database.reading() as connection:
        found = [facts.submission_from(row) for row in connection.execute(query)]
    judges, reader = assignments.judges(signoff), signoff.reader
    for submission in found:
        try:
            one = _version(signoff, judges, submission)
        except SignoffError:
            continue
        if reader.look_due(one.version, one.policy.digest) or (one.champion and reader.look_due(one.champion)):
            yield one
