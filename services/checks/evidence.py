"""Checks of what a version shows: whole, measured well enough, on the right data, with what belongs to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial

from services.checks import measured
from services.checks.data_sets import restoring
from services.checks.measured import listed, number
from services.checks.view import EMPTY, Question, View, answered
from services.evidence import Facts, ahead
from services.letters import blank
from services.policy import Policy
from services.verdict import Check

DAY = 86_400
"""Seconds of a day."""


def evidence(policy: Policy, facts: Facts) -> Iterator[Check]:
    """The answer to every question of this family that the policy asks."""
    yield from answered(questions(policy), policy, facts)


def questions(policy: Policy) -> Iterator[Question]:
    """Every check of this family that the policy asks for, with the facts it reads."""
    rules = policy.rules
    whole = frozenset({"version", "registered", "run", "files"})
    yield Question(id="intact", reads=whole, answer=_intact)
    yield from measured.questions(policy)
    if rules.signature:
        yield Question(id="signature", reads=frozenset({"signature"}), answer=_signature)
    if rules.input_example:
        yield Question(id="input_example", reads=frozenset({"files"}), answer=_input_example)
    for tag in rules.required_tags:
        yield Question(id=f"tag:{tag}", reads=frozenset({f"tag:{tag}"}), answer=partial(_required_tag, tag))
    for pattern in rules.required_artifacts:
        name = f"artifact:{pattern}"
        yield Question(id=name, reads=frozenset({"files", name}), answer=partial(_required_artifact, pattern))
    if rules.max_evidence_age_days is not None:
        age = partial(_age, rules.max_evidence_age_days)
        yield Question(id="evidence_age", reads=frozenset({"run_end", "now"}), answer=age)


def _intact(view: View) -> Check:
    """The version is whole: MLflow finished registering it, its run exists, its files are there and could be read."""
    manifest, run = view.manifest, view.run
    missing = manifest.missing if manifest else ()
    problems = [
        *([] if view.ready else ["MLflow has not finished logging or registering it"]),
        *([run.problem] if run.problem else []),
        *([] if manifest and manifest.files else ["its files could not be read"]),
        *([f"its MLmodel names {listed(list(missing))}, which {_are(missing)} not there"] if missing else []),
    ]
    hint = f" {restoring(run)}" if run.deleted else ""
    return Check(
        id="intact",
        title="Version is complete",
        passed=not problems,
        value="; ".join(problems) or "complete",
        threshold="registered, run and files present",
        reason=f"{view.ref} is not complete: {' and '.join(problems)}.{hint}"
        if problems
        else "Run and files are there.",
    )


def _are(named: tuple[str, ...]) -> str:
    return "is" if len(named) == 1 else "are"


def _signature(view: View) -> Check:
    present = view.signature is not None
    return Check(
        id="signature",
        title="Signature present",
        passed=present,
        value="present" if present else "missing",
        threshold="present",
        reason="The model says what it takes and gives." if present else "The model has no signature.",
    )


def _input_example(view: View) -> Check:
    manifest = view.manifest
    present = manifest is not None and manifest.has_input_example
    return Check(
        id="input_example",
        title="Input example present",
        passed=present,
        value="present" if present else "missing",
        threshold="present",
        reason="The model carries an input example." if present else "The model has no input example.",
    )


def _required_tag(tag: str, view: View) -> Check:
    value = view.tag(tag)
    return Check(
        id=f"tag:{tag}",
        title=f"Tag {tag} present",
        passed=not blank(value),
        value=value[:80] or "missing",
        threshold="present",
        reason=f"Tag {tag} is set." if not blank(value) else f"Neither the version nor the model has a tag {tag}.",
    )


def _required_artifact(pattern: str, view: View) -> Check:
    manifest = view.manifest
    files = manifest.files if manifest else ()
    inside = (file.path for file in files if fnmatchcase(file.path, pattern) and file.sha256 != EMPTY)
    found = next((path for paths in (inside, view.artifacts(pattern)) for path in paths), None)
    return Check(
        id=f"artifact:{pattern}",
        title=f"Artifact {pattern} present",
        passed=found is not None,
        value=found or "missing",
        threshold="present",
        reason=f"{found} is there." if found else f"Neither the model nor its run has an artifact {pattern}.",
    )


def _age(limit: float, view: View) -> Check:
    """Measured from the end of the run, or an earlier metric; a run that never ended, or ends in the future, says no
    age."""
    ended = view.ended_at
    if ended is None:
        passed, value, reason = False, "unknown", "Its run does not say when it ended"
    elif ahead(ended, view.now):
        passed, value = False, "in the future"
        reason = f"Its run ends on {ended:%Y-%m-%d at %H:%M}, which lies in the future"
    else:
        seconds = max((view.now - ended).total_seconds(), 0.0)
        passed = seconds <= limit * DAY
        # Rounded up, so that what is shown is over the limit exactly when the age is.
        value = f"{math.ceil(seconds / (DAY / 10)) / 10} days"
        reason = f"Its evidence is {value} old"
    allowed = f"{number(limit)} day{'' if limit == 1 else 's'}"
    return Check(
        id="evidence_age",
        title=f"Evidence at most {allowed} old",
        passed=passed,
        value=value,
        threshold=f"≤ {allowed}",
        reason=f"{reason}." if passed else f"{reason}; at most {allowed} may have passed.",
    )
