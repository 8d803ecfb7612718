"""What a decision about a version rests on, and the digests that tie approvals to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, TypeAlias

import rfc8785

from services.domain import (
    Actor,
    ArtifactFile,
    Dataset,
    Description,
    LoggedModelFacts,
    Metric,
    MetricSource,
    ModelVersion,
    RegisteredModel,
    RunFacts,
    Signature,
    VersionRef,
)
from services.errors import BadInput
from services.measurements import Measurement, measurements
from services.place import Place, PlaceKind
from services.policy import Assignment
from services.validation.record import Validation

CLOCK_SKEW = timedelta(minutes=5)
"""How far the clocks of two machines may be apart; what is further ahead than this lies in the future."""
MAX_FINDING = 2000
"""Characters of one finding."""


def canonical(value: Any) -> bytes:
    """``value`` as canonical JSON (RFC 8785): the same content always gives the same bytes."""
    return bytes(rfc8785.dumps(value))


def digest(value: Any) -> str:
    """The sha256, in hex, of `canonical` ``value``."""
    return hashlib.sha256(canonical(value)).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Every file of a version, sorted by path. ``signature`` and what follows it come from ``MLmodel``."""

    files: tuple[ArtifactFile, ...]
    signature: Signature | None = None
    has_input_example: bool = False
    named: tuple[str, ...] = ()
    """Paths of files and folders that ``MLmodel`` names."""
    outside: tuple[str, ...] = ()
    """What it names that is none of these files: no digest covers it."""

    @property
    def missing(self) -> tuple[str, ...]:
        """What ``MLmodel`` names and is not there."""
        there = {file.path for file in self.files}
        folders = {folder.as_posix() for path in there for folder in PurePosixPath(path).parents}
        return tuple(path for path in self.named if path not in there | folders)

    @property
    def digest(self) -> str:
        """sha256 over path, size and sha256 of every file: the public tag ``signoff.digest``."""
        return digest([asdict(file) for file in self.files])

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, kw_only=True)
class Released:
    """What the promotion of a champion recorded about it: event ``seq``, metrics, data sets and manifest digest."""

    seq: int
    measured: Mapping[str, Measurement]
    datasets: tuple[Dataset, ...]
    manifest: str | None
    source: MetricSource | None = None
    """Who was believed then; a policy of today does not choose again."""

    @property
    def judged(self) -> Mapping[str, Measurement]:
        """What was said by those who were believed."""
        return {name: Measurement(values=found.of(self.source)) for name, found in self.measured.items()}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A reviewer's word that a champion was measured on a data set. MLflow says nothing of it.

    ``by`` is the username, ``person`` the id; ``at`` is ISO 8601 UTC, ``seq`` its event. ``lost`` says why it counts
    no longer, in words: the person is no reviewer any more. It is empty while it does.
    """

    dataset: str
    digest: str
    comment: str
    by: str
    person: str
    at: str
    seq: int
    lost: str = ""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One version with what its run and logged model say. ``manifest`` is None when its bytes were not read.

    ``run`` is None when MLflow no longer has it: the page shows "no evidence" and the gate refuses.
    """

    version: ModelVersion
    run: RunFacts | None
    logged_model: LoggedModelFacts | None = None
    manifest: Manifest | None = None
    description: Description | None = None
    """What ``MLmodel`` says, where that file was read and not all of them: enough to compare, never to decide."""
    run_files: tuple[str, ...] = ()
    """Paths of what the run logged beside the model; read only where a policy asks for an artifact."""
    run_digests: Mapping[str, str] = field(default_factory=dict)
    """Of those that a policy asks for: path → sha256 of the content; of a large file its size."""
    preferred: MetricSource | None = None
    """Who is believed where run and logged model say different values; None: nobody said."""
    place: Place | None = None
    """Where its files lie; None where that was not asked: enough to compare, never to decide."""
    unreadable: str = ""
    """Why its files cannot be read from there, in words; empty where they can, or were not asked for."""
    released: Released | None = None
    """Of a champion: what its promotion recorded. It counts, whatever MLflow says today; None: it was not promoted
    here."""
    stated: tuple[Statement, ...] = ()
    """Of a champion: the last statement of each person about its data set, oldest first."""

    @property
    def ref(self) -> VersionRef:
        """The version this is about."""
        return self.version.ref

    @property
    def logged_model_id(self) -> str | None:
        """The logged model that its files are, also where the source names a run; None where they are a run's own."""
        if self.place is None:
            return self.version.model_id
        return self.place.id if self.place.kind in {PlaceKind.LOGGED_MODEL, PlaceKind.LOST} else None

    def at(self, place: Place | None) -> Evidence:
        """The same with the place of its files.

        A version can name any logged model, by an id or in a path. One that is not this place says nothing of it.
        """
        own = place is None or self.logged_model is None or place.id == self.logged_model.model_id
        return replace(self, place=place, logged_model=self.logged_model if own else None)

    @property
    def run_problem(self) -> str:
        """What is wrong with its run, in half a sentence; empty when nothing is."""
        if self.run is not None:
            return "its run is deleted in MLflow" if self.run.deleted else ""
        return "its run no longer exists" if self.version.run_id or not self.logged_model else ""

    @property
    def registered(self) -> bool:
        """Whether MLflow finished registering it, and its logged model was finished too."""
        return self.version.ready and (self.logged_model is None or self.logged_model.ready)

    def measured_at(self, metrics: Iterable[str]) -> datetime | None:
        """How old its evidence is: when its run ended, or when one of these metrics was logged before.

        None where the run does not say that it ended.
        """
        if self.run is None or self.run.ended_at is None:
            return None
        logged = (self.metrics[name].at for name in metrics if name in self.metrics)
        return min([self.run.ended_at, *(at for at in logged if at)])

    def preferring(self, source: MetricSource | None) -> Evidence:
        """The same, read as a policy with this ``metric_source`` reads it."""
        return self if source is self.preferred else replace(self, preferred=source)

    @cached_property
    def measured(self) -> Mapping[str, Measurement]:
        """Everything that run and logged model say of each metric, by name; of a champion, said at its promotion."""
        if self.released:
            return self.released.judged
        return measurements(
            self.run.metrics.values() if self.run else (),
            self.logged_model.metrics if self.logged_model else (),
            alone=not self._beside_others,
        )

    @property
    def _beside_others(self) -> bool:
        """Whether its run logged other models than this one."""
        logged, own = set(self.run.models if self.run else ()), self.logged_model_id
        if own is None and self.place is None:
            return len(logged) > 1  # it may be the one: what a ``runs:`` source is was not asked
        return bool(logged - {own})

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """One value of each metric by name; where values differ and nobody said which counts, the run's is shown."""
        return {name: found.counting(self.preferred) or found.values[0] for name, found in self.measured.items()}

    @property
    def params(self) -> Mapping[str, str]:
        """Params of the run and of the logged model."""
        return {**(self.run.params if self.run else {}), **(self.logged_model.params if self.logged_model else {})}

    @property
    def described(self) -> Description | None:
        """What its ``MLmodel`` says; None where its files could not be read."""
        if self.manifest is None:
            return self.description
        return Description(signature=self.manifest.signature, has_input_example=self.manifest.has_input_example)

    @property
    def signature(self) -> Signature | None:
        """What it takes and gives; None where it does not say, or its files could not be read."""
        return self.described.signature if self.described else None

    @property
    def holdout(self) -> tuple[Dataset, ...]:
        """The data sets that any metric was measured on; else those its run logged to be evaluated on."""
        return self.measured_on(self.measured, self.preferred)

    def measured_on(self, metrics: Iterable[str], source: MetricSource | None) -> tuple[Dataset, ...]:
        """The data sets that these metrics were measured on; else those its run logged to be evaluated on."""
        found = [self.measured[name] for name in metrics if name in self.measured]
        by_metric = {dataset for measured in found for dataset in measured.datasets(source)}
        if by_metric:
            return tuple(sorted(by_metric, key=lambda dataset: (dataset.name, dataset.digest)))
        if self.released:
            return self.released.datasets
        if any(metric.dataset_digest for measured in found for metric in measured.values):
            return ()  # of another value it is known on what it was measured, and of the one that counts it is not
        logged = self.run.datasets if self.run else ()
        return tuple(d for d in logged if d.context.lower() in {"eval", "evaluation", "test", "validation", "holdout"})

    @property
    def manifest_digest(self) -> str | None:
        """Digest of its files; None where they could not be read."""
        if self.released and self.released.manifest:
            return self.released.manifest
        return self.manifest.digest if self.manifest else None

    @property
    def claimed_author(self) -> str | None:
        """Who trained it, as the training client claimed; never proof."""
        return (self.run.user if self.run else None) or self.version.user


_CHANGED = {
    "version": "the version is another one",
    "registered": "MLflow finished registering or logging it, or began anew",
    "files": "the model's files changed",
    "place": "the place of its files changed",
    "unreadable": "its files became readable, or no longer are",
    "signature": "its signature changed",
    "run": "its run was deleted or restored",
    "run_end": "the time of its evidence changed",
    "metric": "the metric {} or its data set changed",
    "datasets": "the data sets of its run changed",
    "tag": "the tag {} changed",
    "artifact": "the artifacts {} changed",
    "description": "the description of the version or its model changed",
    "champion": "the champion it is compared with changed",
    "champion_run": "the champion's run was deleted or restored",
    "champion_files": "the champion's files changed",
    "champion_metric": "the champion's metric {} changed",
    "champion_datasets": "the data sets of the champion's run changed",
    "champion_recorded": "the champion was promoted here, or its record is gone",
    "champion_statements": "what is stated about the champion's data set changed",
    "validations": "there are other validations",
    "policy": "the policy changed",
}
"""What to say when a fact is another one than then, by its kind."""
_SUBSTANCE = frozenset({"version", "files", "place", "metric", "artifact", "champion", "policy"})
"""Kinds of facts that a decision is about: when one changes, it no longer counts. The others may arrive later, from
anybody; see `Binding.voided`."""
_DESCRIBING = frozenset({"description", "tag", "artifact"})
"""Kinds of facts that tell people what a version is, and that stay open to change after its release."""


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What was on screen when someone decided: the sha256 of each fact by its name, and the checks that failed then."""

    facts: Mapping[str, str]
    failed: tuple[str, ...] = ()

    @property
    def files(self) -> str:
        """The manifest digest of the version's files; empty where they could not be read."""
        return self.facts.get("files", "")

    @property
    def digest(self) -> str:
        """sha256 over all its facts, in hex: what a script hands back to say what it saw."""
        return digest(dict(self.facts))

    def changed(self, now: Binding, *, substance: bool | None = None) -> tuple[str, ...]:
        """Names of the facts that are not what they were.

        A fact that nobody bound counts as changed, unless another policy asks for it now, which is said itself.
        ``substance`` leaves out what a decision is not about, or what it is about.
        """
        other_policy = self.facts.get("policy") != now.facts.get("policy")
        names = [name for name in now.facts if name in self.facts or not other_policy]
        kinds = {name: name.partition(":")[0] in _SUBSTANCE for name in names}
        wanted = (name for name in names if substance in {None, kinds[name]})
        return tuple(name for name in wanted if self.facts.get(name) != now.facts[name])

    def differences(self, now: Binding, *, substance: bool | None = None) -> tuple[str, ...]:
        """`changed`, in words; empty when nothing did."""
        return tuple(_changed(name) for name in self.changed(now, substance=substance))

    def voided(self, now: Binding) -> tuple[str, ...]:
        """Why a decision with this binding no longer counts, in words; empty when it does.

        Evidence that arrives later can only take away. A check that had failed and passes now asks for the decision
        again; one that had passed and fails now refuses by itself. Whatever else arrives changes nothing.
        """
        if arrived := [check for check in self.failed if check not in now.failed and self.same_policy(now)]:
            checks = f"check{'' if len(arrived) == 1 else 's'} {', '.join(arrived)}"
            pass_now = f"{checks} failed then and pass{'es' if len(arrived) == 1 else ''} now"
            return (*self.differences(now, substance=True), pass_now)
        return self.differences(now, substance=True)

    def rewritten(self, now: Binding) -> tuple[str, ...]:
        """Which of the texts around the files are not what they were, in words; empty when all are."""
        return tuple(_changed(name) for name in self.changed(now) if name.partition(":")[0] in _DESCRIBING)

    def same_policy(self, now: Binding) -> bool:
        """Whether the same policy asked."""
        return self.facts.get("policy") == now.facts.get("policy")

    def as_json(self) -> dict[str, Any]:
        """For a JSON column and an event."""
        return {"facts": dict(self.facts), "failed": list(self.failed)}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Binding:
        """The inverse of `as_json`."""
        return cls(facts=dict(kept["facts"]), failed=tuple(kept["failed"]))


Seen: TypeAlias = Binding | str
"""What somebody had seen when they decided: all of it, from a page; or its `Binding.digest`, from a script."""


def _changed(fact: str) -> str:
    kind, _, about = fact.partition(":")
    return _CHANGED[kind].format(about)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One person's vote on a submission. ``at`` is ISO 8601 UTC; ``person`` is the username, ``person_id`` the id.

    ``roles`` are those it was given with. ``held`` are those that the person has at this moment, None where no account
    of the person may act.
    """

    person: str
    person_id: str
    roles: frozenset[str]
    held: frozenset[str] | None
    decision: str
    comment: str
    at: str
    binding: Binding
    seq: int
    expired: bool = False
    """Found expired once; whatever a clock says later, it never counts again."""
    automation: bool = False
    """Given by a service: it stands for no person, and counts only where the policy lets automation approve."""
    signed: bool = False
    """Given with the password, under a policy that asks for a signature."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A version proposed for Production. Usernames are shown; ids say who it was."""

    id: int
    ref: VersionRef
    identity: str
    status: str
    submitted_by: str
    submitted_by_id: str | None
    proposal: bool
    """Made by an MLflow client, and nobody answers for it yet."""
    taken_by: str | None = None
    """Who took a proposal over."""
    taken_by_id: str | None = None
    submitted_at: str
    comment: str
    claimed_author: str | None
    binding: Binding
    seq: int

    @property
    def owners(self) -> frozenset[str]:
        """Ids of the persons who made it and took it over; empty for a proposal of nobody's account."""
        return frozenset(person for person in (self.submitted_by_id, self.taken_by_id) if person)

    @property
    def owner(self) -> str:
        """Username of the person who answers for it, or of the client that proposed it."""
        return self.taken_by or self.submitted_by


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the last review, or the last time in Production, of exactly this version ended.

    ``how`` is what was done: ``rejected``, ``withdrawn``, ``archived``; or what put ``successor`` in its place:
    ``promote``, ``rollback``, ``emergency``. ``at`` is ISO 8601 UTC, ``words`` are those of who did it.
    """

    how: str
    by: str
    at: str
    words: str
    successor: int | None = None


class Severity(StrEnum):
    """How grave a finding is. An open blocking one keeps the version out of Production."""

    BLOCKING = "blocking"
    MAJOR = "major"
    MINOR = "minor"


@dataclass(frozen=True, kw_only=True)
class FindingDraft:
    """A finding as a reviewer writes it down. ``owner`` is who answers it; None: the submitter.

    Raises:
        BadInput: it says nothing, or far too much.
    """

    text: str
    severity: Severity = Severity.MAJOR
    owner: str | None = None
    due: date | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise BadInput("A finding needs words.")
        if len(self.text) > MAX_FINDING:
            raise BadInput(f"A finding has {len(self.text)} characters; at most {MAX_FINDING} are kept.")

    def as_json(self) -> dict[str, str | None]:
        """For an event."""
        return {
            "severity": self.severity.value,
            "text": self.text,
            "owner": self.owner,
            "due": self.due.isoformat() if self.due else None,
        }


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a reviewer found wrong with exactly one version; it stays with it when it is submitted again.

    Times are ISO 8601 UTC, ``due`` is a day. ``resolved_by`` and what follows are None while it is open.
    """

    id: int
    ref: VersionRef
    severity: Severity
    text: str
    owner: str
    due: date | None
    raised_by: str
    raised_at: str
    seq: int
    resolved_by: str | None = None
    resolved_at: str | None = None
    resolution: str | None = None

    @property
    def open(self) -> bool:
        """Whether nobody has resolved it yet."""
        return self.resolved_by is None

    @property
    def blocks(self) -> bool:
        """Whether it keeps the version out of Production."""
        return self.open and self.severity is Severity.BLOCKING

    def overruled_by(self, people: Set[str]) -> bool:
        """Whether one of them, by username, resolved what blocks and somebody else had raised."""
        return self.severity is Severity.BLOCKING and self.resolved_by in people and self.raised_by not in people

    def overdue(self, now: datetime) -> bool:
        """Whether it is open and its day is over."""
        return self.open and self.due is not None and self.due < now.date()


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a version is known by in our tables: itself, and the bytes it shares with versions of other names."""

    ref: VersionRef
    identity: str
    manifest: str | None
    run_id: str | None
    model_id: str | None

    @classmethod
    def of(cls, evidence: Evidence) -> Known:
        """A version as it was just read; where its files could not be read, run and logged model are left."""
        version, manifest = evidence.version, evidence.manifest
        return cls(
            ref=version.ref,
            identity=version.identity,
            manifest=manifest.digest if manifest and manifest.files else None,
            run_id=version.run_id,
            model_id=evidence.logged_model_id,
        )

    @classmethod
    def of_row(cls, row: Any) -> Known:
        """A row of ``submissions`` or ``findings``: as it was when that was written."""
        return cls(
            ref=VersionRef(name=row.model, version=row.version),
            identity=row.identity,
            manifest=row.manifest,
            run_id=row.run_id,
            model_id=row.model_id,
        )


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """What a reviewer decided on the same bytes under another name or number. ``at`` is ISO 8601 UTC."""

    ref: VersionRef
    decision: str
    person: str
    at: str
    comment: str


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """An emergency two people want to answer for; ``confirmed_by`` is None while only one of them has spoken.

    ``binding`` is what the first one saw. Both come with the roles held now, not with those of the asking.
    """

    asked_by: Actor
    binding: Binding
    confirmed_by: Actor | None = None


def ahead(moment: datetime, now: datetime) -> bool:
    """Whether a time lies in the future, by more than the clocks of two machines may differ."""
    return moment - now > CLOCK_SKEW


@dataclass(frozen=True, kw_only=True)
class Reigning:
    """Which version is the champion: as MLflow showed it when it was read, and by our own record.

    ``alias`` and ``stage`` are those of the champion under the policy. A version is told as its number and what tells
    it from a later one of that number; None is no version. ``shown_staged`` and ``recorded_staged`` are the newest one
    in that stage, which the alias need not name. ``known``: the record says something of the model.
    """

    alias: str
    stage: str
    shown: tuple[int, str] | None
    recorded: tuple[int, str] | None = None
    shown_staged: tuple[int, str] | None = None
    recorded_staged: tuple[int, str] | None = None
    known: bool = False

    @property
    def settled(self) -> bool:
        """Whether MLflow shows the champion that the record prescribes, and no other version in its stage."""
        beside = self.shown_staged not in {None, self.recorded_staged}
        return not self.known or (self.shown == self.recorded and not beside)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All the gate judges from, read from MLflow and the ledger at the moment of judging."""

    model: RegisteredModel
    candidate: Evidence
    champion: Evidence | None
    now: datetime
    """When it is judged, in UTC; freezes, ages and expiry count from it."""
    bars: Mapping[str, str]
    """Everybody whose own this version is, as `services.bars` tells it: id or name → why, in words."""
    submission: Submission | None = None
    decisions: tuple[Decision, ...] = field(default=())
    ended: Ended | None = None
    """Where nothing is submitted: how that came about; None where it never was in review or in Production."""
    author: str | None = None
    """Who trained it, as claimed when the run was first submitted."""
    findings: tuple[Finding, ...] = ()
    """All that reviewers found in this version or in the same bytes, in any round, resolved or not; oldest first."""
    elsewhere: tuple[Elsewhere, ...] = ()
    """What was decided on the same bytes under another name or number, newest first."""
    validations: tuple[Validation, ...] = ()
    """Of exactly this version, newest first; whether one counts is for the gate to say."""
    assigned: Assignment | None = None
    """Which policy was assigned to the model; None where none was yet, and its tags and name choose."""
    reigning: Reigning | None = None
    """Who is the champion, here and by the record; None in a list, which decides nothing."""
    rollback_of: str | None = None
    """Manifest digest of the earlier confirmed promotion that a rollback returns to; None when not a rollback."""
    bindings: dict[str, Binding] = field(init=False, default_factory=dict, compare=False, repr=False)
    """By the digest of a policy, what a decision under it is bound to: kept by `services.checks.bound`, else empty."""

    @property
    def statements(self) -> tuple[Statement, ...]:
        """What reviewers of this moment state about the champion's data set who had no hand in the candidate."""
        stated = (one for one in (self.champion.stated if self.champion else ()) if not one.lost)
        return tuple(one for one in stated if one.person not in self.bars and one.by not in self.bars)
