"""What an event keeps of the facts a version was judged from, so that another policy can judge it again years later.

Both directions are here. Bounded: what is left out is counted, and reading it back says so instead of guessing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

from services.checks.approvals import APPROVED, CHANGES_REQUESTED, void_reasons
from services.checks.bound import asked, bound
from services.checks.validation import outdated
from services.domain import (
    Actor,
    ArtifactFile,
    Dataset,
    LoggedModelFacts,
    Metric,
    MetricSource,
    ModelVersion,
    RegisteredModel,
    Role,
    RunFacts,
    Signature,
    Source,
    VersionRef,
)
from services.evidence import Binding, Decision, Evidence, Facts, Manifest, Released, Statement, Submission
from services.measurements import measurements
from services.place import Place
from services.policy import Assignment, Policy
from services.record import mirror
from services.record.ledger import Event
from services.validation.record import Validation

MAX_TAGS, MAX_TAG = 30, 80
MAX_PATHS, MAX_PATH = 40, 160
MAX_VALUES = 10
"""Of one metric."""
MAX_VALIDATIONS = 3
"""The newest of those that counted."""
MAX_WORDS = 600
"""Of a comment that an event of its own keeps whole."""
_NEVER = datetime.fromtimestamp(0, tz=UTC)


# ---- writing ---------------------------------------------------------------------------------------------------


def recorded(policy: Policy, seen: Facts) -> dict[str, Any]:
    """The part of an event's details that only judging again needs, as plain JSON."""
    candidate, run, manifest = seen.candidate, seen.candidate.run, seen.candidate.manifest
    submission, champion = seen.submission, seen.champion
    measured_at = candidate.measured_at(rule.name for one in policy.each for rule in one.rules.metrics)
    return {
        "judged_at": seen.now.isoformat(),
        **({"metric_source": candidate.preferred.value} if candidate.preferred else {}),
        "ready": candidate.registered,
        "has_run": run is not None,
        "run_deleted": run is not None and run.deleted,
        "missing_files": list(manifest.missing[:MAX_PATHS]) if manifest else [],
        **({"files_outside": list(manifest.outside[:MAX_PATHS])} if manifest and manifest.outside else {}),
        "has_logged_model": candidate.logged_model is not None,
        **({"unreadable": candidate.unreadable} if candidate.unreadable else {}),
        "evidence_end": measured_at.isoformat() if measured_at else None,
        "signature": manifest is not None and manifest.signature is not None,
        "input_example": manifest is not None and manifest.has_input_example,
        "files": _paths([file.path for file in manifest.files] if manifest else [], policy),
        "run_files": _paths(candidate.run_files, policy)
        if any(one.rules.required_artifacts for one in policy.each)
        else None,
        "tags": _tags(candidate.version.tags, policy),
        "model_tags": _tags(seen.model.tags, policy),
        "inputs": _inputs(candidate),
        "champion_datasets": _inputs(champion),
        **({"champion_stated": [asdict(one) for one in champion.stated]} if champion and champion.stated else {}),
        **({"champion_released": champion.released.seq} if champion and champion.released else {}),
        "champion_run_deleted": bool(seen.champion and seen.champion.run and seen.champion.run.deleted),
        "validations": [one.as_json() for one in seen.validations if not outdated(one, policy, seen, by_rule=False)][
            :MAX_VALIDATIONS
        ],
        "submission": {
            "by": submission.submitted_by,
            "by_id": submission.submitted_by_id,
            "proposal": submission.proposal,
            "at": submission.submitted_at,
        }
        if submission
        else None,
        "bars": dict(seen.bars),
        "rollback_of": seen.rollback_of,
        **({"assigned": [seen.assigned.policy, seen.assigned.passed_over]} if seen.assigned else {}),
    }


def datasets(evidence: Evidence) -> list[dict[str, str]]:
    """The data sets the metrics were measured on."""
    return [{"name": dataset.name, "digest": dataset.digest} for dataset in evidence.holdout]


def metrics(evidence: Evidence) -> dict[str, Any]:
    """The metrics as they were judged; ``values`` is everything that was said of one, where that was not one thing."""
    return {
        name: {
            **_value(evidence.metrics[name]),
            **({"values": [_value(one) for one in found.values[:MAX_VALUES]]} if found.several else {}),
        }
        for name, found in evidence.measured.items()
    }


def _value(metric: Metric) -> dict[str, Any]:
    # Numbers as text: an event may have to record a NaN, and canonical JSON has none.
    return {
        "value": repr(metric.value),
        "dataset": metric.dataset_name,
        "digest": metric.dataset_digest,
        "source": metric.source.value,
        **({"doubtful": True} if metric.doubtful else {}),
    }


def votes(policy: Policy, seen: Facts, decision: str) -> list[dict[str, Any]]:
    """Everybody's last vote of one kind; ``void`` says in words why it did not count, ``changed`` what it was for."""
    now = bound(policy, seen)
    return [
        {
            "person": vote.person,
            "person_id": vote.person_id,
            "roles": sorted(vote.roles),
            **({} if vote.held == vote.roles else {"held": None if vote.held is None else sorted(vote.held)}),
            "seq": vote.seq,
            "comment": vote.comment if len(vote.comment) <= MAX_WORDS else vote.comment[: MAX_WORDS - 1] + "…",
            "at": vote.at,
            "signed": vote.signed,
            **({"automation": True} if vote.automation else {}),
            **({"void": list(reasons)} if (reasons := void_reasons(vote, policy, seen)) else {}),
            **({"changed": list(changed)} if (changed := vote.binding.changed(now, substance=True)) else {}),
            **({"failed": list(vote.binding.failed)} if vote.binding.failed else {}),
        }
        for vote in seen.decisions
        if vote.decision == decision
    ]


def counted(event: Event) -> list[Mapping[str, Any]]:
    """Of the approvals that an event about a judged version names, those that counted when it was judged."""
    barred = (event.get("facts") or {}).get("bars", {})
    given = event.get("approvals") or ()
    return [vote for vote in given if not (vote.get("void") or {vote["person_id"], vote["person"]} & barred.keys())]


def _inputs(evidence: Evidence | None) -> list[dict[str, str]]:
    """The data sets its run logged to be evaluated on, whatever its metrics say themselves."""
    found = evidence.measured_on((), None) if evidence else ()
    return [{"name": dataset.name, "digest": dataset.digest} for dataset in found]


def _tags(tags: Mapping[str, str], policy: Policy) -> dict[str, Any]:
    """Those the policy names first, without those that repeat our record. MLflow's can have 8,000 characters each."""
    named = {key for one in policy.each for key in (*one.rules.required_tags, *one.rules.applies_to.tags)}
    ours = {key: tags[key] for key in sorted(tags.keys() - mirror.OURS, key=lambda key: (key not in named, key))}
    fitting = ((key, value) for key, value in ours.items() if _fits(key, MAX_TAG) and _fits(value))
    kept = dict(islice(fitting, MAX_TAGS))
    found: dict[str, Any] = {"values": {key: value[:MAX_TAG] for key, value in kept.items()}}
    if cut := [key for key, value in kept.items() if len(value) > MAX_TAG]:
        found["cut"] = cut
    return {**found, "left_out": len(ours) - len(kept)} if len(ours) > len(kept) else found


def _paths(paths: Iterable[str], policy: Policy) -> dict[str, Any]:
    """Those the policy asks for first, then what lies highest."""
    patterns = [pattern for one in policy.each for pattern in one.rules.required_artifacts]
    every = list(paths)
    wanted = sorted(every, key=lambda p: (not any(fnmatchcase(p, x) for x in patterns), p.count("/"), p))
    kept = [path for path in wanted if _fits(path, MAX_PATH)][:MAX_PATHS]
    return {"paths": kept, **({"left_out": len(every) - len(kept)} if len(every) > len(kept) else {})}


def _fits(text: str, limit: int | None = None) -> bool:
    """Whether the record can hold it: not too long, and neither NUL nor half a character."""
    if limit is not None and len(text) > limit:
        return False
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


# ---- reading ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """Facts as an event recorded them, for judging by another policy; ``kept`` is None in events of before that."""

    facts: Facts
    actor: Actor
    details: Mapping[str, Any]
    kept: Mapping[str, Any] | None

    def tag(self, key: str, *, model: bool = False) -> str | None:
        """The value of a tag as far as it was kept, empty where there was none; None when that was not recorded."""
        tags = self.kept["model_tags" if model else "tags"] if self.kept else None
        if tags is None or key in mirror.OURS:
            return None
        value = tags["values"].get(key)
        return value if value is not None else (None if tags.get("left_out") or len(key) > MAX_TAG else "")

    def whole(self, key: str) -> bool:
        """Whether a tag of the model was kept with all its characters."""
        return self.kept is not None and key not in self.kept["model_tags"].get("cut", ())

    def path(self, pattern: str) -> bool | None:
        """Whether a path fitted the pattern; None when that was not recorded."""
        if self.kept is None:
            return None
        listed = (self.kept["files"], self.kept["run_files"])
        if any(fnmatchcase(path, pattern) for files in listed if files for path in files["paths"]):
            return True
        return None if any(files is None or files.get("left_out") for files in listed) else False


def rebuild(event: Event, policy: Policy) -> Rebuilt | None:
    """The facts of an event about a judged version; None when it recorded none.

    Votes that counted then are bound to ``policy``, as if they had been given under it; those that did not, do not.
    """
    details, ref = event.body["details"], event.ref
    if ref is None or "metrics" not in details:
        return None
    kept = details.get("facts")
    facts = Facts(
        model=RegisteredModel(
            name=ref.name,
            created_at=_NEVER,
            updated_at=_NEVER,
            tags=kept["model_tags"]["values"] if kept else {},
        ),
        now=datetime.fromisoformat(kept["judged_at"]) if kept else event.at,
        candidate=_candidate(ref, details, kept),
        champion=_champion(ref.name, details, kept),
        bars=kept["bars"] if kept else {},
        submission=_submission(ref, details, kept),
        assigned=_assigned(kept),
    )
    if event.kind.subject == "rollback":
        manifest = facts.candidate.manifest
        same = kept is not None and kept["rollback_of"] == details["manifest_digest"]
        facts = replace(facts, rollback_of=manifest.digest if same and manifest else "another one")
    binding = bound(policy, facts)
    given = [_vote(vote, kind, binding, asked(policy)) for kind, vote in _given(details)] if kept else []
    actor = Actor(
        username=event.actor,
        name=event.body["actor_name"],
        roles=_roles(event.body["roles"]),
        source=Source(event.body["source"]),
        person=event.person,
    )
    ordered = tuple(sorted(given, key=lambda vote: vote.seq))
    facts = replace(facts, decisions=ordered, validations=_validations(facts, kept))
    return Rebuilt(facts=facts, actor=actor, details=details, kept=kept)


def released_in(event: Event) -> Released:
    """What a promotion recorded about the version that it put into Production."""
    details = event.body["details"]
    logged_model = _by_logged_model(details["metrics"])
    return Released(
        seq=event.seq,
        measured=measurements(_by_run(details["metrics"]).values(), logged_model.metrics if logged_model else ()),
        datasets=_logged(details["facts"]["inputs"]),
        manifest=details["manifest_digest"],
        source=MetricSource(believed) if (believed := details["facts"].get("metric_source")) else None,
    )


def _candidate(ref: VersionRef, details: Mapping[str, Any], kept: Mapping[str, Any] | None) -> Evidence:
    version = ModelVersion(
        ref=ref,
        created_at=_NEVER,
        updated_at=_NEVER,
        run_id=details["run_id"],
        model_id=details["model_id"],
        source=details["source_uri"],
        user=details["claimed_author"],
        ready=bool(kept and kept["ready"]),
        tags=kept["tags"]["values"] if kept else {},
    )
    run = RunFacts(
        run_id=details["run_id"] or "",
        name="",
        user=details["claimed_author"],
        experiment_id="",
        started_at=None,
        ended_at=datetime.fromisoformat(kept["evidence_end"]) if kept and kept["evidence_end"] else None,
        status="",
        metrics=_by_run(details["metrics"]),
        datasets=_logged(kept["inputs"] if kept else details.get("datasets", ())),
        deleted=bool(kept and kept["run_deleted"]),
    )
    logged_model = _by_logged_model(details["metrics"])
    if kept is None:
        return Evidence(version=version, run=run, logged_model=logged_model)
    if logged_model is None and kept["has_logged_model"]:
        logged_model = LoggedModelFacts(model_id=details["model_id"] or "")
    return Evidence(
        version=version,
        run=run if kept["has_run"] else None,
        logged_model=logged_model,
        manifest=_manifest(details, kept),
        place=Place.from_json(details["place"]) if details.get("place") else None,
        unreadable=kept.get("unreadable", ""),
        run_files=tuple(kept["run_files"]["paths"]) if kept["run_files"] else (),
    )


def _champion(name: str, details: Mapping[str, Any], kept: Mapping[str, Any] | None) -> Evidence | None:
    if details["champion"] is None:
        return None
    ref = VersionRef(name=name, version=details["champion"])
    run = RunFacts(
        run_id="",
        name="",
        user=None,
        experiment_id="",
        started_at=None,
        ended_at=None,
        status="",
        metrics=_by_run(details["champion_metrics"]),
        datasets=_logged(kept["champion_datasets"] if kept else ()),
        deleted=bool(kept and kept["champion_run_deleted"]),
    )
    version = ModelVersion(ref=ref, created_at=_NEVER, updated_at=_NEVER)
    found = Evidence(version=version, run=run, logged_model=_by_logged_model(details["champion_metrics"]))
    if kept is None:
        return found
    known, stated = None, kept.get("champion_stated", ())
    if let_in := kept.get("champion_released"):
        known = Released(seq=let_in, measured=found.measured, datasets=run.datasets, manifest=None)
    return replace(found, released=known, stated=tuple(Statement(**one) for one in stated))


def _validations(facts: Facts, kept: Mapping[str, Any] | None) -> tuple[Validation, ...]:
    manifest, champion = facts.candidate.manifest, facts.champion.version if facts.champion else None
    return tuple(
        Validation.from_json(one, facts.candidate.ref, manifest=manifest.digest if manifest else "", champion=champion)
        for one in (kept or {}).get("validations", ())
    )


def _submission(ref: VersionRef, details: Mapping[str, Any], kept: Mapping[str, Any] | None) -> Submission | None:
    if kept is None or kept["submission"] is None:
        return None
    return Submission(
        id=0,
        ref=ref,
        identity=details["identity"],
        status="",
        submitted_by=kept["submission"]["by"],
        submitted_by_id=kept["submission"]["by_id"],
        proposal=kept["submission"]["proposal"],
        submitted_at=kept["submission"]["at"],
        comment="",
        claimed_author=details["claimed_author"],
        binding=Binding.from_json(details["binding"]),
        seq=0,
    )


def _assigned(kept: Mapping[str, Any] | None) -> Assignment | None:
    found = (kept or {}).get("assigned")
    return Assignment(policy=found[0], passed_over=found[1], by="", at="", seq=0) if found else None


def _manifest(details: Mapping[str, Any], kept: Mapping[str, Any]) -> Manifest | None:
    if details["manifest_digest"] is None:
        return None
    paths = kept["files"]["paths"] or (["(not kept)"] if kept["files"].get("left_out") else [])
    return Manifest(
        files=tuple(ArtifactFile(path=path, size=0, sha256="") for path in paths),
        signature=Signature(inputs=(), outputs=()) if kept["signature"] else None,
        has_input_example=kept["input_example"],
        named=tuple(kept["missing_files"]),
        outside=tuple(kept.get("files_outside", ())),
    )


def _given(details: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    asked = [(CHANGES_REQUESTED, vote) for vote in details.get("changes_requested", ())]
    return [*((APPROVED, vote) for vote in details["approvals"]), *asked]


def _vote(vote: Mapping[str, Any], decision: str, binding: Binding, known: Set[str]) -> Decision:
    then = {name: "of then" for name in vote.get("changed", ()) if name in binding.facts}
    failed = tuple(check for check in vote.get("failed", ()) if check in known)
    held = vote.get("held", vote["roles"])
    return Decision(
        person=vote["person"],
        person_id=vote["person_id"],
        roles=frozenset(vote["roles"]),
        held=None if held is None else frozenset(held),
        decision=decision,
        comment=vote["comment"],
        at=vote["at"],
        binding=Binding(facts={**binding.facts, **then}, failed=failed),
        seq=vote["seq"],
        automation=vote.get("automation", False),
        signed=vote.get("signed", False),
    )


def _by_run(metrics: Mapping[str, Any]) -> dict[str, Metric]:
    return {metric.name: metric for metric in _said(metrics) if metric.source is MetricSource.RUN}


def _by_logged_model(metrics: Mapping[str, Any]) -> LoggedModelFacts | None:
    found = tuple(metric for metric in _said(metrics) if metric.source is MetricSource.LOGGED_MODEL)
    return LoggedModelFacts(model_id="", metrics=found) if found else None


def _said(metrics: Mapping[str, Any]) -> Iterator[Metric]:
    for name, found in metrics.items():
        for one in found.get("values", (found,)):
            yield Metric(
                name=name,
                value=float(one["value"]),
                dataset_name=one["dataset"],
                dataset_digest=one["digest"],
                source=MetricSource(one.get("source", MetricSource.RUN)),
                doubtful=one.get("doubtful", False),
            )


def _logged(found: Iterable[Mapping[str, str]]) -> tuple[Dataset, ...]:
    return tuple(Dataset(name=one["name"], digest=one["digest"], context="eval") for one in found)


def _roles(names: Iterable[str]) -> frozenset[Role]:
    known = {role.value for role in Role}
    return frozenset(Role(name) for name in names if name in known)
