"""Checks of the offline validation a policy asks for: there is one that counts, and it shows what is asked."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from services.checks.view import Question, View, answered
from services.evidence import Facts
from services.policy import Policy
from services.validation.record import Validation
from services.validation.report import Interval, MetricResult
from services.validation.rule import ValidationRule
from services.verdict import Check

READS = frozenset({"version", "files", "champion", "champion_files", "validations", "rollback"})


def validation(policy: Policy, facts: Facts) -> Iterator[Check]:
    """Both checks, where the policy asks for a validation."""
    yield from answered(questions(policy), policy, facts)


def questions(policy: Policy) -> Iterator[Question]:
    """Both checks with the facts they read, where the policy asks for a validation."""
    if (rule := policy.rules.validation) is not None:
        yield Question(id="validation:report", reads=READS, answer=partial(_report, rule))
        yield Question(id="validation:improvement", reads=READS, answer=partial(_improvement, rule))


def outdated(found: Validation, policy: Policy, facts: Facts, *, by_rule: bool = True) -> tuple[str, ...]:
    """Why a validation does not count, in words; ``by_rule``: also where the policy asks for another one."""
    return _void(found, View(policy, facts, READS), policy.rules.validation if by_rule else None)


def _void(found: Validation, view: View, rule: ValidationRule | None) -> tuple[str, ...]:
    """What it was made on has changed, or ``rule`` asks for another."""
    champion, manifest = view.champion, view.manifest
    reasons = found.differences(
        manifest=manifest.digest if manifest else None,
        champion=champion.ref if champion else None,
        champion_identity=champion.identity if champion else None,
        files=view.champion_files,
    )
    if rule is None:
        return reasons
    holdout, asked = found.report.holdout, []
    if rule.holdout != holdout.sha256:
        asked.append(f"it was made on holdout {holdout.sha256[:8]}, not on {rule.holdout[:8]}")
    if rule.target != holdout.target:
        asked.append(f"its target is {holdout.target}, not {rule.target}")
    if found.report.confidence < rule.confidence:
        asked.append(f"its confidence is {_percent(found.report.confidence)}, {_percent(rule.confidence)} is needed")
    return (*reasons, *asked)


def _counting(rule: ValidationRule, view: View) -> Validation | None:
    """The newest that counts."""
    return next((one for one in view.validations if not _void(one, view, rule)), None)


def _report(rule: ValidationRule, view: View) -> Check:
    found, champion = _counting(rule, view), view.champion
    against = f", against {champion.ref}" if champion else ""
    wanted = f"holdout {rule.holdout[:8]}, target {rule.target}{against}, {_percent(rule.confidence)} confidence"
    title = f"Validated on holdout {rule.holdout[:8]}, target {rule.target}"

    def answer(passed: bool, value: str, reason: str) -> Check:
        return Check(id="validation:report", title=title, passed=passed, value=value, threshold=wanted, reason=reason)

    if view.rollback:
        return answer(True, "waived", "Waived: a rollback returns to a version that was released before.")
    if found is not None:
        rows, by = found.report.holdout.rows, found.by
        return answer(True, f"record #{found.seq}, {rows} rows", f"It was validated on {rows} rows, asked for by {by}.")
    if not view.validations:
        return answer(False, "no validation", f"{view.ref} was not validated; {wanted} is needed.")
    newest = view.validations[0]
    why = " and ".join(_void(newest, view, rule))
    return answer(False, f"record #{newest.seq} does not count", f"Validation #{newest.seq} does not count: {why}.")


def _improvement(rule: ValidationRule, view: View) -> Check:
    found, champion = _counting(rule, view), view.champion
    metric = _metric(rule, found)
    name, limit = rule.metric or (metric.name if metric else "the key metric"), rule.min_improvement
    threshold = f"lower end of the {_percent(rule.confidence)} interval > {limit:.6g}"

    def answer(passed: bool, value: str, reason: str) -> Check:
        title = f"{name} {_wanted(limit)} than the champion on the holdout"
        return Check(
            id="validation:improvement", title=title, passed=passed, value=value, threshold=threshold, reason=reason
        )

    if view.rollback:
        return answer(True, "waived", "Waived: a rollback returns to a version that was released before.")
    if found is None:
        return answer(False, "no evidence", "No validation that counts says how much better it is.")
    if champion is None:
        return answer(True, "no champion", "There is no champion to compare with.")
    if metric is None or metric.gain is None or metric.interval is None or metric.least_gain is None:
        return answer(False, "no evidence", f"Validation #{found.seq} compares no {name}.")
    value = f"{metric.gain:+.4g} ({_ends(metric.interval, metric.greater_is_better)}, {found.report.holdout.rows} rows)"
    words = f"The gain in {name} over {champion.ref} is {value}"
    if metric.least_gain > limit:
        return answer(True, value, f"{words}.")
    why = "that is not enough evidence" if metric.gain > limit else "that is not better by enough"
    return answer(False, value, f"{words}; {why}: {threshold} is needed.")


def _wanted(limit: float) -> str:
    if limit == 0:
        return "better"
    return f"more than {limit:.3g} better" if limit > 0 else f"less than {-limit:.3g} worse"


def _metric(rule: ValidationRule, found: Validation | None) -> MetricResult | None:
    if found is None:
        return None
    return found.report.metric(rule.metric) if rule.metric is not None else found.report.key


def _ends(interval: Interval, greater_is_better: bool) -> str:
    """The interval of the gain: counted so that positive is better."""
    sign = 1 if greater_is_better else -1
    low, high = sorted((sign * interval.low, sign * interval.high))
    return f"{_percent(interval.confidence)} interval {low:+.4g} to {high:+.4g}"


def _percent(share: float) -> str:
    return f"{share * 100:.4g} %"
