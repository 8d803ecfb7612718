"""docs/checks.md, which says what each check answers: written here from the gate's own answers.

``python -m tests.checks_document`` writes it anew; a test fails while it is not what the gate says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from services.checks.bound import bound
from services.domain import Action, Actor, LoggedModelFacts, Metric, MetricSource, Role, Source, VersionRef
from services.evidence import (
    Binding,
    Elsewhere,
    Evidence,
    Facts,
    Finding,
    Manifest,
    Reigning,
    Severity,
    Statement,
    Waiver,
)
from services.gate import evaluate
from services.mlflow import stores
from services.place import Place, PlaceKind
from services.policy import Policy, parse
from services.settings import PROJECT
from services.signing import Act, ElectronicSignature
from services.validation.record import Validation
from services.validation.report import HoldoutFacts, Interval
from services.validation.subjects import Subject
from services.verdict import Check, Verdict
from tests.fakes import START
from tests.test_gate import NOW, OTHER_DATA, approved, before, champion, evidence, facts, promoted
from tests.test_policy import GOOD
from tests.validation import report

FILE = PROJECT / "docs" / "checks.md"
HEAD = """\
# What the gate checks, and what it says

Every check a policy can ask for, as people read it on a page, in a message, in an answer of the REST API and in the
record: with its value, its threshold and one sentence. These are the gate's own answers to made-up versions: this file
is written by `python -m tests.checks_document`, and a test fails while it says anything else than the gate.

An id is the family of the check and, where there can be several, what it is about. Where two policies judge a model,
each asks its own checks, and the id begins with the name of the policy: `strict/metric:val_auc`. A policy's keys are
explained by the policies in `policies/` and `policies/examples/`.
"""
TITLES = {
    "intact": "Evidence: `intact`",
    "place": "Where its files are: `place`",
    "guarded_files": "Where its files are: `guarded_files`",
    "metric": "Evidence: `metric`",
    "champion": "Evidence: `champion`",
    "same_dataset": "Evidence: `same_dataset`",
    "signature": "Evidence: `signature`",
    "input_example": "Evidence: `input_example`",
    "tag": "Evidence: `tag`",
    "artifact": "Evidence: `artifact`",
    "evidence_age": "Evidence: `evidence_age`",
    "validation": "Offline validation: `validation`",
    "submitted": "Agreement: `submitted`",
    "changes": "Agreement: `changes`",
    "findings": "Agreement: `findings`",
    "elsewhere": "Agreement: `elsewhere`",
    "settled": "What it is compared with: `settled`",
    "approvals": "Agreement: `approvals`",
    "freeze": "Time: `freeze`",
    "staging_time": "Time: `staging_time`",
    "released_before": "Rollback: `released_before`",
    "promoter": "Who acts: `promoter`",
    "signed": "Who acts: `signed`",
    "break_glass": "Emergency: `break_glass`",
    "asked_by": "Emergency: `asked_by`",
    "second_person": "Emergency: `second_person`",
    "as_asked": "Emergency: `as_asked`",
}
"""Heading of each family, in the order of the document; a check of another family fails the test."""

DEMANDING = """\
input_example: true
required_tags: [owner]
required_artifacts: ["*model_card.md"]
max_evidence_age_days: 1
min_hours_in_staging: 24
freezes:
  - {title: Year end, time_zone: Europe/Berlin, from: 2026-12-18 17:00:00, until: 2027-01-04 08:00:00}
"""
LOGGED_MODEL = MetricSource.LOGGED_MODEL
HOLDOUT = "9" * 64
MANAGER = Actor(
    username="manager", name="Mara", roles=frozenset({Role.RELEASE_MANAGER}), person="id-manager", source=Source.BROWSER
)
HOLDER = Actor(
    username="holder", name="Hanna", roles=frozenset({Role.BREAK_GLASS}), person="id-holder", source=Source.BROWSER
)


def policy(*, more: str = "", **changes: str) -> Policy:
    """The policy of the tests with some of its lines replaced, and lines added."""
    text = GOOD
    for old, new in changes.items():
        line = next(line for line in GOOD.splitlines(keepends=True) if old in line)
        text = text.replace(line, new)
    return parse(text + more, "p.yaml")


def metric(rules: str) -> Policy:
    return policy(threshold=f"    {rules}\n")


def losing(rules: str) -> Policy:
    """A metric of which less is better."""
    return policy(greater_is_better="    greater_is_better: false\n", threshold=f"    {rules}\n")


def agreed(rules: Policy, seen: Facts, *people: str, role: str = "reviewer", decision: str = "approved") -> Facts:
    """`approved`, under these rules."""
    found = approved(seen, *people, role=role, decision=decision)
    votes = tuple(replace(vote, binding=bound(rules, seen)) for vote in found.decisions)
    return replace(found, decisions=votes)


def verdicts() -> Iterator[Verdict]:
    """What the gate answers to one made-up version after another."""
    yield from _of_evidence()
    yield from _of_places()
    yield from _of_comparisons()
    yield from _of_agreement()
    yield from _of_time()
    yield from _of_validations()
    yield from _of_whoever_acts()
    yield from _of_emergencies()


def _of_evidence() -> Iterator[Verdict]:
    plain, demanding = policy(), policy(more=DEMANDING)
    good = evidence(0.95, input_example=True, files={"MLmodel": b"", "model_card.md": b"For whom."})
    assert good.run
    tagged = replace(good, version=replace(good.version, tags={"owner": "cardiology"}))
    yield evaluate(demanding, facts(tagged))
    yield evaluate(demanding, facts(replace(evidence(0.95, signature=None), manifest=None)))
    yield evaluate(demanding, facts(replace(good, run=replace(good.run, ended_at=None))))
    for days, limit in ((1, "1"), (1.00002, "1"), (0.5, "0.5"), (0.50001, "0.5")):
        aged = replace(good, run=replace(good.run, ended_at=NOW - timedelta(days=days)))
        yield evaluate(policy(more=f"max_evidence_age_days: {limit}\n"), facts(aged))
    yield evaluate(demanding, facts(replace(good, run=replace(good.run, ended_at=NOW + timedelta(days=3650)))))
    yield evaluate(demanding, facts(replace(good, version=replace(good.version, tags={"owner": "x" * 81}), run=None)))
    gone = replace(good, version=replace(good.version, ready=False), run=None)
    yield evaluate(plain, facts(gone))
    assert good.manifest
    deleted = replace(good, run=replace(good.run, deleted=True))
    yield evaluate(metric("min_absolute_change: 0"), facts(deleted, replace(deleted, version=champion().version)))
    yield evaluate(plain, facts(evidence(0.95), replace(champion(), run=None)))
    for names in (("model.pkl",), ("conda.yaml", "model.pkl")):
        yield evaluate(plain, facts(replace(good, manifest=replace(good.manifest, named=names))))
    for value in (0.5, float("nan"), float("inf"), float("-inf"), None):
        yield evaluate(plain, facts(evidence(value)))
    yield from _of_two_values()
    yield evaluate(losing("threshold: 0.3"), facts(evidence(0.3)))
    yield evaluate(losing("threshold: 0.3"), facts(evidence(0.31)))


def _of_two_values() -> Iterator[Verdict]:
    """Of one metric, on run and logged model."""
    plain, said = policy(), evidence(0.61)
    copied, elsewhere = (
        Metric(name="val_auc", value=value, dataset_name=name, dataset_digest=name and "c" * 9, source=LOGGED_MODEL)
        for value, name in ((0.97, None), (0.99, "train"))
    )

    def with_model(found: Evidence, *metrics: Metric) -> Evidence:
        return replace(found, logged_model=LoggedModelFacts(model_id="m-1", metrics=metrics))

    yield evaluate(plain, facts(with_model(said, copied)))
    yield evaluate(policy(more="metric_source: run\n"), facts(with_model(said, copied)))
    yield evaluate(plain, facts(with_model(said, copied, elsewhere)))
    only = [replace(copied, value=value) for value in (0.1, 0.2, 0.3, 0.4, 0.5)]
    for count in (4, 5):
        yield evaluate(plain, facts(with_model(evidence(None), *only[:count])))
    yield evaluate(plain, facts(with_model(evidence(None), replace(copied, value=0.0))))
    yield evaluate(metric("min_absolute_change: 0"), facts(evidence(0.95), with_model(champion(0.92), copied)))
    assert said.run
    yield evaluate(plain, facts(replace(said, run=replace(said.run, models=("m-1", "m-2")))))


def _of_places() -> Iterator[Verdict]:
    plain, guarded = policy(), policy(more="guarded_files: required\n")
    good = evidence(0.95)
    assert good.place
    model, run, other = "m-1f00b91c2d484ed9a2c8b4d1a3f4e5d6", "0b5e" * 8, "c4ab" * 8
    version = replace(good.version, run_id=run, source=f"models:/{model}")
    logged = replace(good.place, id=model, run_id=run, uri="mlflow-artifacts:/1/models/…", unguarded_because="")
    in_run = replace(logged, kind=PlaceKind.RUN, id=run, path="model", uri=f"mlflow-artifacts:/1/{run}/artifacts/model")
    bucket = replace(
        in_run,
        uri=f"s3://bucket/1/{run}/artifacts/model",
        unguarded_because="that store does not ask the MLflow server",
    )
    for place in (logged, in_run, bucket):
        yield evaluate(guarded, facts(replace(good, version=version, place=place)))
    two = replace(in_run, others=(logged.words,))
    yield evaluate(plain, facts(replace(good, version=replace(version, source=f"runs:/{run}/model"), place=two)))
    assert good.manifest
    for outside in (("/mnt/share/weights.bin",), ("org/llm on a hub at no fixed commit",)):
        yield evaluate(plain, facts(replace(good, manifest=replace(good.manifest, outside=outside))))
    past_the_client = replace(logged, unloadable_because=f"it looks in {in_run.words}, where nothing is")
    yield evaluate(plain, facts(replace(good, version=version, place=past_the_client)))
    for claimed in (other, None):
        yield evaluate(plain, facts(replace(good, version=replace(version, run_id=claimed), place=logged)))
    yield evaluate(plain, facts(replace(good, version=version, place=replace(logged, run_id=None))))
    yield evaluate(plain, facts(replace(good, version=replace(version, run_id=other), place=in_run)))
    yield evaluate(plain, facts(replace(good, version=version, place=in_run, manifest=Manifest(files=()))))
    yield evaluate(guarded, facts(replace(good, place=None)))
    lost = Place(
        kind=PlaceKind.LOST, uri=f"mlflow-artifacts:/1/models/{model}/artifacts", id=model, unguarded_because="…"
    )
    yield evaluate(plain, facts(replace(good, version=version, place=lost)))
    nowhere = Place(kind=PlaceKind.ELSEWHERE, uri="s3://bucket/model", unguarded_because="it is nobody's")
    missing = stores.translated(ModuleNotFoundError("No module named 'boto3'"), nowhere.uri, f"the files of {good.ref}")
    yield evaluate(plain, facts(replace(good, place=nowhere, manifest=None, unreadable=str(missing))))


def _of_comparisons() -> Iterator[Verdict]:
    never_worse = metric("min_absolute_change: 0")
    nan = float("nan")
    for mine, theirs in ((0.95, 0.92), (0.92, 0.92), (0.9, 0.92), (None, 0.92), (nan, 0.92), (0.95, None), (0.95, nan)):
        yield evaluate(never_worse, facts(evidence(mine), promoted(champion(theirs))))
    yield evaluate(never_worse, facts(evidence(0.95)))
    for rules in (metric("min_absolute_change: 0.02"), metric("min_absolute_change: -0.02")):
        yield evaluate(rules, facts(evidence(0.93), promoted(champion(0.92))))
    relative = losing("min_relative_change: 0.1")
    for mine, theirs in ((0.2, 0.25), (0.25, 0.25), (0.24, 0.25), (0.24, 0.0)):
        yield evaluate(relative, facts(evidence(mine), promoted(champion(theirs))))
    yield evaluate(losing("min_relative_change: -0.1"), facts(evidence(0.26), promoted(champion(0.25))))
    plain = policy()
    yield evaluate(never_worse, facts(evidence(0.95), champion()))
    yield evaluate(plain, facts(evidence(0.95, dataset=OTHER_DATA), promoted(champion())))
    yield evaluate(plain, facts(evidence(0.95, dataset=None), promoted(champion())))
    silent = promoted(champion(dataset=None))
    yield evaluate(plain, facts(evidence(0.95), silent))
    word = Statement(
        dataset="holdout",
        digest="aaaaaaaa",
        comment="The notebook of that day has it.",
        by="reviewer",
        person="id-reviewer",
        at=START.isoformat(),
        seq=8,
    )
    yield evaluate(plain, facts(evidence(0.95), replace(silent, stated=(word,))))
    gone = replace(word, lost="reviewer's account is disabled")
    yield evaluate(plain, facts(evidence(0.95), replace(silent, stated=(gone,))))
    own = {"id-reviewer": "reviewer is recorded as its author"}
    yield evaluate(plain, replace(facts(evidence(0.95), replace(silent, stated=(word,))), bars=own))
    both = evidence(0.95, dataset=replace(OTHER_DATA, digest="bbbbbbbbb"))
    assert both.run
    second = Metric(name="val_f1", value=0.9, dataset_name="third", dataset_digest="cccccccc")
    metrics = {**both.run.metrics, "val_f1": second}
    yield evaluate(plain, facts(replace(both, run=replace(both.run, metrics=metrics)), promoted(champion())))


def _of_agreement() -> Iterator[Verdict]:
    plain, seen = policy(), facts(evidence(0.95))
    yield evaluate(plain, seen)
    yield evaluate(plain, agreed(plain, seen, "reviewer"))
    yield evaluate(plain, agreed(plain, seen, "reviewer", "second", decision="changes_requested"))
    several = policy(role="  - role: reviewer\n    count: 2\n  - role: release_manager\n")
    yield evaluate(several, agreed(several, seen, "reviewer"))
    yield evaluate(several, agreed(several, seen, "reviewer", "second"))
    moved = agreed(plain, seen, "reviewer")
    for changed in (("files", "metric:val_auc", "champion"), ("policy",), ("datasets",)):
        yield evaluate(plain, replace(moved, decisions=(before(moved.decisions[0], *changed),)))
    for held in (None, frozenset({"viewer"})):
        yield evaluate(plain, replace(moved, decisions=(replace(moved.decisions[0], held=held),)))
    failed = replace(moved.decisions[0].binding, failed=("same_dataset",))
    yield evaluate(plain, replace(moved, decisions=(replace(moved.decisions[0], binding=failed),)))
    expiring = policy(more="approvals_expire_after_days: 0.5\n")
    yield evaluate(expiring, agreed(expiring, seen, "reviewer", "second"))
    signing = policy(more="signing: true\n")
    yield evaluate(signing, agreed(signing, seen, "reviewer"))
    for rules in (policy(more="risk: low\nautomation: true\n"), plain):
        vote = agreed(rules, seen, "pipeline", role="automation")
        yield evaluate(rules, replace(vote, decisions=(replace(vote.decisions[0], automation=True),)))
    yield from (evaluate(plain, replace(seen, findings=found)) for found in _findings(seen.candidate))
    proposed = agreed(plain, seen, "reviewer")
    assert proposed.submission
    by_a_client = replace(proposed.submission, submitted_by="mlflow-client", submitted_by_id=None, proposal=True)
    yield evaluate(plain, replace(proposed, submission=by_a_client))
    rejected = Elsewhere(
        ref=VersionRef(name="other", version=4),
        decision="rejected",
        person="second",
        at=START.isoformat(),
        comment="It leaks the label.",
    )
    for said in (rejected, replace(rejected, decision="changes_requested")):
        yield evaluate(plain, replace(seen, elsewhere=(said,)))
    for shown in ((2, "2:s"), (1, "9:s"), None):
        reigning = Reigning(alias="champion", stage="Production", shown=shown, recorded=(1, "1:s"), known=True)
        yield evaluate(plain, replace(seen, reigning=reigning))


def _findings(candidate: Evidence) -> Iterator[tuple[Finding, ...]]:
    grave = Finding(
        id=1,
        ref=candidate.ref,
        severity=Severity.BLOCKING,
        text="It misses half of those under forty.",
        owner="scientist",
        due=date(2025, 12, 31),
        raised_by="reviewer",
        raised_at=START.isoformat(),
        seq=1,
    )
    yield (grave,)
    yield (grave, replace(grave, due=date(2026, 12, 31)))
    yield (replace(grave, text=f"{'x' * 119}X", due=None), replace(grave, text="x" * 121, due=None))
    resolved = replace(grave, resolved_by="second")
    yield (resolved, resolved, replace(grave, severity=Severity.MAJOR))


def _of_time() -> Iterator[Verdict]:
    demanding = policy(more=DEMANDING)
    seen = facts(evidence(0.95))
    waiting = agreed(demanding, seen)
    assert waiting.submission
    for hours, limit in ((23.999, 24), (24, 24), (0.5, 1), (1, 1), (-24, 24)):
        since = (NOW - timedelta(hours=hours)).isoformat()
        waited = replace(waiting, submission=replace(waiting.submission, submitted_at=since))
        yield evaluate(policy(more=f"min_hours_in_staging: {limit}\n"), waited)
    yield evaluate(demanding, replace(seen, now=NOW.replace(month=12, day=24)))


def _of_validations() -> Iterator[Verdict]:
    def judged(seen: Facts, *found: Validation, rule: str = ", metric: roc_auc") -> Verdict:
        wanted = f"validation: {{holdout: '{HOLDOUT}', target: y, confidence: 0.95{rule}}}\n"
        return evaluate(policy(more=wanted), replace(seen, validations=found))

    seen = facts(evidence(0.95), promoted(champion()))
    fits = _validation(seen)
    yield judged(seen)
    yield judged(seen, fits)
    yield judged(seen, _validation(seen, within=0.03))
    for limit in (0.02, 0.05):
        yield judged(seen, fits, rule=f", metric: roc_auc, min_improvement: {limit}")
    yield judged(seen, fits, rule=", metric: roc_auc, min_improvement: -0.01")
    yield judged(seen, replace(fits, report=replace(fits.report, metrics=())))
    (gained,) = fits.report.metrics
    lost = replace(
        gained, greater_is_better=False, difference=-0.02, interval=Interval(low=-0.03, high=-0.01, confidence=0.95)
    )
    yield judged(seen, replace(fits, report=replace(fits.report, metrics=(lost,))), rule="")
    yield judged(seen, replace(fits, report=replace(fits.report, metrics=(replace(gained, interval=None),))), rule="")
    yield judged(seen, rule="")
    yield judged(replace(seen, candidate=replace(seen.candidate, manifest=None)), fits)
    yield judged(seen, _validation(seen, sha256="7" * 64, confidence=0.9))
    yield judged(seen, replace(fits, manifest="m", champion_manifest="c"))
    yield judged(seen, replace(fits, champion=3, champion_identity="c"))
    yield judged(facts(evidence(0.95)), _validation(facts(evidence(0.95))))
    yield judged(facts(evidence(0.95)), fits)
    assert seen.candidate.manifest
    yield judged(replace(seen, rollback_of=seen.candidate.manifest.digest))


def _validation(seen: Facts, *, sha256: str = HOLDOUT, within: float = 0.01, confidence: float = 0.95) -> Validation:
    """One of the version and the champion as they are."""
    holdout = HoldoutFacts(
        name="h.csv", digest=sha256[:9], sha256=sha256, rows=100, columns=("x", "y"), target="y", source="/data/h.csv"
    )
    subjects = [
        Subject(ref=one.ref, folder=Path(), signature=None, digest=one.manifest.digest)
        for one in (seen.candidate, seen.champion)
        if one and one.manifest
    ]
    other = subjects[1] if seen.champion else None
    return Validation(
        seq=41,
        ref=seen.candidate.ref,
        manifest=subjects[0].digest,
        champion=other.ref.version if other else None,
        champion_identity=seen.champion.version.identity if seen.champion else None,
        champion_manifest=other.digest if other else None,
        by="scientist",
        at=START.isoformat(),
        consent=False,
        run_id="0" * 32,
        report=report(subjects[0], other, holdout, within=within, confidence=confidence),
    )


def _of_whoever_acts() -> Iterator[Verdict]:
    plain, signing, seen = policy(), policy(more="signing: true\n"), facts(evidence(0.95), promoted(champion()))
    yield evaluate(plain, seen, actor=HOLDER)
    yield evaluate(plain, seen, actor=MANAGER)
    yield evaluate(plain, seen, actor=Actor(username="nobody", name="N", roles=frozenset(), source=Source.BROWSER))
    act = Act.of(Action.PROMOTE, signing, seen)
    given = ElectronicSignature(username="manager", printed_name="Mara", meaning="I release it", act=act, at=NOW)
    for signature in (
        given,
        None,
        replace(given, username="holder"),
        replace(given, at=NOW - timedelta(seconds=60)),
        replace(given, at=NOW - timedelta(seconds=61)),
        replace(given, act=replace(act, ref=VersionRef(name="m", version=9))),
        replace(given, act=replace(act, binding=_other(act.binding))),
    ):
        yield evaluate(signing, seen, actor=MANAGER, signature=signature)
    assert seen.candidate.manifest
    earlier = seen.candidate.manifest.digest
    yield evaluate(metric("threshold: 0.9\n    min_absolute_change: 0"), replace(seen, rollback_of=earlier))
    several = replace(MANAGER, roles=frozenset({Role.REVIEWER, Role.AUDITOR}))
    back = replace(given, act=replace(act, action=Action.ROLLBACK))
    yield evaluate(signing, replace(seen, rollback_of=earlier), actor=MANAGER, signature=back)
    for digest in ("another digest", ""):
        yield evaluate(plain, replace(seen, rollback_of=digest), actor=several)
    yield evaluate(plain, replace(seen, candidate=replace(seen.candidate, manifest=None), rollback_of=earlier))


def _other(binding: Binding) -> Binding:
    """That of other files and metrics."""
    return replace(binding, facts={**binding.facts, "files": "0", "metric:val_auc": "0"})


def _of_emergencies() -> Iterator[Verdict]:
    asked = DEMANDING.replace("input_example: true", f"validation: {{holdout: '{HOLDOUT}', target: y}}")
    rules = policy(more=f"{asked}break_glass: true\n")
    seen = agreed(rules, facts(evidence(0.5), promoted(champion(0.99))), "reviewer", decision="changes_requested")
    waiver = Waiver(asked_by=HOLDER, confirmed_by=MANAGER, binding=bound(rules, seen))
    yield evaluate(rules, seen, emergency=waiver)
    both = replace(MANAGER, roles=frozenset({Role.RELEASE_MANAGER, Role.REVIEWER}))
    yield evaluate(policy(), seen, emergency=replace(waiver, asked_by=both, confirmed_by=both))
    moved = replace(waiver, asked_by=replace(HOLDER, roles=frozenset()), binding=_other(waiver.binding))
    yield evaluate(rules, seen, emergency=moved)
    for name, role in (("trainer", Role.RELEASE_MANAGER), ("second", Role.AUDITOR)):
        second = Actor(username=name, name=name, roles=frozenset({role}), person=f"id-{name}", source=Source.BROWSER)
        yield evaluate(rules, seen, emergency=replace(waiver, confirmed_by=second))


def text() -> str:
    """The whole document."""
    answers: dict[str, dict[Check, None]] = {family: {} for family in TITLES}
    for verdict in verdicts():
        for check in verdict.checks:
            answers[check.id.split(":")[0]][check] = None
    return HEAD + "".join(_section(TITLES[family], list(checks)) for family, checks in answers.items())


def _section(title: str, checks: list[Check]) -> str:
    rows = "".join(f"| {' | '.join(_cells(check))} |\n" for check in checks)
    return (
        f"\n## {title}\n\n| Answer | Id | Title | Value | Threshold | Reason |\n| --- | --- | --- | --- | --- | --- |\n"
        f"{rows}"
    )


def _cells(check: Check) -> list[str]:
    answer = "passes" if check.passed else "waived" if check.waived else "**refuses**"
    cells = [answer, f"`{check.id}`", check.title, check.value, check.threshold, check.reason]
    return [cell.replace("|", "\\|") for cell in cells]


if __name__ == "__main__":
    FILE.write_text(text())
