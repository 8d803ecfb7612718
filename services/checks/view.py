"""What a check is handed: the facts it declares to read, and no others. What approvals are bound to follows from it.

A check that reads something else than it declares raises `UndeclaredFact`: nothing that an approval is not bound to can
ever be judged. The facts of the moment are read again whenever something is decided, and bound to nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from services.domain import Dataset, ModelVersion, Signature, VersionRef
from services.evidence import Evidence, Facts, Manifest, Statement, digest
from services.measurements import Measurement
from services.place import Place
from services.policy import Policy
from services.validation.record import Validation
from services.verdict import Check

EMPTY = hashlib.sha256(b"").hexdigest()
"""The digest of a file with nothing in it: it is there, and says nothing."""
OF_THE_MOMENT: Mapping[str, str] = {
    "now": "Freezes, ages and expiry are about the time of the release, not that of the approval.",
    "rollback": "A rollback returns to an earlier release and asks for no approval.",
    "submission": "Who submitted, and when, is said by our own record; a new submission asks for new approvals.",
    "decisions": "The votes are what is bound; one taken back, a request for changes and a lost role count at once.",
    "findings": "A finding that is raised or reopened after an approval must stop it, one that is resolved lets it go.",
    "elsewhere": "A request for changes of the same bytes under another name stops them at once, and so does its end.",
    "bars": "Who had a hand in a version is said by our own record, and found again whenever a vote is counted.",
    "actor": "Roles and accounts are those of the person who acts, when that person acts.",
    "reigning": "Somebody can make another version the champion past Signoff at any time; a promotion looks then.",
    "electronic_signature": "It is made for the act itself, on what was read just then.",
}
"""Facts that no approval is bound to, and why."""


class UndeclaredFact(LookupError):
    """A check read what it does not declare: a mistake of ours, which refuses."""


class View:
    """The facts of one version as one policy reads them, of which only those in ``reads`` can be seen."""

    def __init__(self, policy: Policy, facts: Facts, reads: Iterable[str]) -> None:
        self._policy, self._facts, self._reads = policy, facts, frozenset(reads)

    def fact(self, name: str) -> Any:
        """One fact by its name.

        Raises:
            UndeclaredFact: it is not declared.
        """
        if name not in self._reads:
            raise UndeclaredFact(f"{name} is read and not declared")
        kind, _, about = name.partition(":")
        return _READ[kind](self._policy, self._facts, about)

    @property
    def ref(self) -> VersionRef:
        """The version that is judged."""
        version: ModelVersion = self.fact("version")
        return version.ref

    @property
    def source(self) -> str:
        """What it was registered from."""
        version: ModelVersion = self.fact("version")
        return version.source

    @property
    def run_id(self) -> str | None:
        """The run that it names."""
        version: ModelVersion = self.fact("version")
        return version.run_id

    @property
    def place(self) -> Place | None:
        """Where its files lie; None where MLflow does not say."""
        return self.fact("place")  # type: ignore[no-any-return]

    @property
    def unreadable(self) -> str:
        """Why its files cannot be read, in words; empty where they can."""
        return self.fact("unreadable")  # type: ignore[no-any-return]

    @property
    def manifest(self) -> Manifest | None:
        """Its files."""
        return self.fact("files")  # type: ignore[no-any-return]

    @property
    def signature(self) -> Signature | None:
        """What it takes and gives, as ``MLmodel`` says."""
        return self.fact("signature")  # type: ignore[no-any-return]

    @property
    def run(self) -> Run:
        """What became of its run."""
        return self.fact("run")  # type: ignore[no-any-return]

    @property
    def champion(self) -> ModelVersion | None:
        """Which version it is compared with; None where there is none."""
        return self.fact("champion")  # type: ignore[no-any-return]

    @property
    def champion_run(self) -> Run:
        """What became of the champion's run."""
        return self.fact("champion_run")  # type: ignore[no-any-return]

    @property
    def champion_files(self) -> str | None:
        """Digest of the champion's files; None where they were not read."""
        return self.fact("champion_files")  # type: ignore[no-any-return]

    @property
    def champion_recorded(self) -> bool:
        """Whether the champion's evidence is what its promotion recorded; else it is what MLflow shows now."""
        return self.fact("champion_recorded")  # type: ignore[no-any-return]

    @property
    def champion_statements(self) -> Stated:
        """What reviewers state about the champion's data set."""
        return self.fact("champion_statements")  # type: ignore[no-any-return]

    def measured(self, metric: str, *, champion: bool = False) -> Measurement | None:
        """All that is said of one metric, by the candidate or the champion."""
        return self.fact(f"champion_metric:{metric}" if champion else f"metric:{metric}")  # type: ignore[no-any-return]

    def datasets(self, *, champion: bool = False) -> tuple[Dataset, ...]:
        """What the metrics that the policy asks for were measured on."""
        return self.fact("champion_datasets" if champion else "datasets")  # type: ignore[no-any-return]

    def tag(self, key: str) -> str:
        """A tag of the version, else of its model; empty where neither has it."""
        return self.fact(f"tag:{key}")  # type: ignore[no-any-return]

    def artifacts(self, pattern: str) -> tuple[str, ...]:
        """Paths of what the run logged beside the model and fits the pattern."""
        found: Mapping[str, str] = self.fact(f"artifact:{pattern}")
        return tuple(found)

    @property
    def validations(self) -> tuple[Validation, ...]:
        """The version's validations, newest first."""
        return self.fact("validations")  # type: ignore[no-any-return]

    @property
    def ended_at(self) -> datetime | None:
        """When its run ended, or what the policy asks of it was measured before."""
        return self.fact("run_end")  # type: ignore[no-any-return]

    @property
    def ready(self) -> bool:
        """Whether MLflow finished logging and registering it."""
        return self.fact("registered")  # type: ignore[no-any-return]

    @property
    def rollback(self) -> bool:
        """Whether it is judged as a rollback."""
        return self.fact("rollback")  # type: ignore[no-any-return]

    @property
    def now(self) -> datetime:
        """When it is judged."""
        return self.fact("now")  # type: ignore[no-any-return]

    def digest(self) -> dict[str, str]:
        """The sha256 of each declared fact, by its name; those of the moment are left out."""
        return {name: self._digest(name) for name in sorted(self._reads) if name not in OF_THE_MOMENT}

    def _digest(self, name: str) -> str:
        kind, value = name.partition(":")[0], self.fact(name)
        if kind in _DIGESTED:
            return _DIGESTED[kind](value)  # the record names files by this digest everywhere
        return digest(_AS_JSON[kind](value))


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as far as it must be there: its id, and what is wrong with it, in half a sentence."""

    id: str | None
    problem: str
    deleted: bool

    @classmethod
    def of(cls, evidence: Evidence | None) -> Run:
        """That of a version."""
        if evidence is None or evidence.released:  # what a champion's run is for is on record
            return cls(id=None, problem="", deleted=False)
        deleted = evidence.run is not None and evidence.run.deleted
        return cls(id=evidence.version.run_id, problem=evidence.run_problem, deleted=deleted)


@dataclass(frozen=True, kw_only=True)
class Stated:
    """Statements that count for the candidate; and of the others, why each does not, in words."""

    counting: tuple[Statement, ...]
    others: tuple[tuple[Statement, str], ...]

    @classmethod
    def of(cls, facts: Facts) -> Stated:
        """Those about the champion."""
        every, counting = facts.champion.stated if facts.champion else (), facts.statements
        others = (one for one in every if one not in counting)
        why = ((one, one.lost or facts.bars.get(one.person) or facts.bars.get(one.by, "")) for one in others)
        return cls(counting=counting, others=tuple(why))


@dataclass(frozen=True, kw_only=True)
class Question:
    """One check: its id, the facts it reads, and how it answers from them and from nothing else."""

    id: str
    reads: frozenset[str]
    answer: Callable[[View], Check]


def answered(questions: Iterable[Question], policy: Policy, facts: Facts) -> Iterator[Check]:
    """The answers, in the same order; each is handed only what it declares."""
    for question in questions:
        yield question.answer(View(policy, facts, question.reads))


def _measured(evidence: Evidence | None, name: str) -> Measurement | None:
    return evidence.measured.get(name) if evidence else None


def datasets_of(policy: Policy, evidence: Evidence | None) -> tuple[Dataset, ...]:
    """What the metrics that a policy asks for were measured on."""
    asked = [rule.name for rule in policy.rules.metrics]
    return evidence.measured_on(asked, policy.rules.metric_source) if evidence else ()


def _tag(facts: Facts, key: str) -> str:
    return facts.candidate.version.tags.get(key) or facts.model.tags.get(key) or ""


def _artifacts(evidence: Evidence, pattern: str) -> Mapping[str, str]:
    """Path → digest; empty where the content was not read."""
    found = (path for path in evidence.run_files if fnmatchcase(path, pattern))
    read = {path: evidence.run_digests.get(path, "") for path in found}
    return {path: digest_ for path, digest_ in read.items() if digest_ != EMPTY}


def _champion(facts: Facts) -> ModelVersion | None:
    return facts.champion.version if facts.champion else None


_READ: Mapping[str, Callable[[Policy, Facts, str], Any]] = {
    "version": lambda _, facts, __: facts.candidate.version,
    "registered": lambda _, facts, __: facts.candidate.registered,
    "files": lambda _, facts, __: facts.candidate.manifest,
    "place": lambda _, facts, __: facts.candidate.place,
    "unreadable": lambda _, facts, __: facts.candidate.unreadable,
    "signature": lambda _, facts, __: facts.candidate.signature,
    "run": lambda _, facts, __: Run.of(facts.candidate),
    "run_end": lambda policy, facts, _: facts.candidate.measured_at(rule.name for rule in policy.rules.metrics),
    "metric": lambda _, facts, name: _measured(facts.candidate, name),
    "datasets": lambda policy, facts, _: datasets_of(policy, facts.candidate),
    "tag": lambda _, facts, key: _tag(facts, key),
    "artifact": lambda _, facts, pattern: _artifacts(facts.candidate, pattern),
    "description": lambda _, facts, __: (facts.candidate.version.description, facts.model.description),
    "champion": lambda _, facts, __: _champion(facts),
    "champion_run": lambda _, facts, __: Run.of(facts.champion),
    "champion_files": lambda _, facts, __: facts.champion.manifest_digest if facts.champion else None,
    "champion_recorded": lambda _, facts, __: facts.champion is not None and facts.champion.released is not None,
    "champion_statements": lambda _, facts, __: Stated.of(facts),
    "champion_metric": lambda _, facts, name: _measured(facts.champion, name),
    "champion_datasets": lambda policy, facts, _: datasets_of(policy, facts.champion),
    "validations": lambda _, facts, __: facts.validations,
    "policy": lambda policy, _, __: policy.digest,
    "rollback": lambda _, facts, __: facts.rollback_of is not None,
    "now": lambda _, facts, __: facts.now,
}


def _identity(version: ModelVersion | None) -> Any:
    return [version.identity, version.run_id, version.model_id] if version else None


def _named(datasets: Iterable[Dataset]) -> list[list[str]]:
    return [[dataset.name, dataset.digest] for dataset in datasets]


def _said(measured: Measurement | None) -> Any:
    return measured.as_json() if measured else None


_DIGESTED: Mapping[str, Callable[[Any], str]] = {
    "files": lambda manifest: manifest.digest if manifest else "",
    "champion_files": lambda found: found or "",
}
"""Kinds of facts that have a digest of their own; an empty one says that nobody could read them."""
_AS_JSON: Mapping[str, Callable[[Any], Any]] = {
    "version": _identity,
    "registered": bool,
    "place": lambda place: place.as_json() if place else None,
    "unreadable": bool,
    "signature": lambda signature: asdict(signature) if signature else None,
    "run": lambda run: run.problem,
    "run_end": lambda at: at.isoformat() if at else None,
    "metric": _said,
    "datasets": _named,
    "tag": str,
    "artifact": dict,
    "description": list,
    "champion": _identity,
    "champion_run": lambda run: run.problem,
    "champion_recorded": bool,
    "champion_statements": lambda stated: [[one.seq, one.dataset, one.digest] for one in stated.counting],
    "champion_metric": _said,
    "champion_datasets": _named,
    "validations": lambda found: [one.seq for one in found],
    "policy": str,
}
