"""The check that candidate and champion were measured on the same data, and what helps where one names none."""

from __future__ import annotations

from services.checks.approvals import barred
from services.domain import Dataset
from services.evidence import Evidence, Facts, Statement
from services.policy import Policy
from services.verdict import Check

HOW_TO_NAME_IT = (
    "Two lines in the training run name it: "
    '`dataset = mlflow.data.from_pandas(df, name="holdout")` and `mlflow.log_input(dataset, context="eval")`.'
)
"""What a run needs so that its holdout is known; ``df`` is the table that the metrics were measured on."""


def unnamed(policy: Policy, facts: Facts) -> str:
    """What a submitter should know of a version that names no data set, where a policy compares them; else empty."""
    if facts.candidate.holdout or not any(one.rules.same_dataset for one in policy.each):
        return ""
    return same_dataset(policy, facts).reason


def same_dataset(policy: Policy, facts: Facts) -> Check:
    """Whether both were measured on the same data; where the champion does not say on which, a statement helps."""
    champion, mine = facts.champion, facts.candidate.preferring(policy.rules.metric_source).holdout
    theirs = _theirs(policy, facts, champion) if champion else ()
    if facts.rollback_of is not None:
        passed, value, reason = True, "waived", "Waived: a rollback returns to a version that was released before."
    elif champion is None:
        passed, value, reason = _first(facts, mine)
    else:
        passed, value, reason = _compared(facts, champion, mine, theirs)
    stated = f", as stated by {_by(facts.statements)}" if facts.statements else ""
    return Check(
        id="same_dataset",
        title="Measured on the champion's data set",
        passed=passed,
        value=value,
        threshold=f"{_named(theirs)}{stated}" if champion else "any, there is no champion",
        reason=reason,
    )


def unrecorded(champion: Evidence) -> str:
    """A sentence more about a champion of which there is no record: anybody may have written what MLflow shows."""
    return "" if champion.released else f" {champion.ref} is judged as MLflow shows it now: it was not promoted here."


def restoring(evidence: Evidence) -> str:
    """What brings a deleted run back."""
    return f"MlflowClient().restore_run({evidence.version.run_id!r}) brings the run back."


def _first(facts: Facts, mine: tuple[Dataset, ...]) -> tuple[bool, str, str]:
    if mine:
        return True, _named(mine), "There is no champion to compare with."
    return (
        True,
        "none named: no later version could be compared with it",
        f"There is no champion to compare with. {_silent(facts.candidate)} As the champion it would keep every later "
        f"version out until a reviewer states its data set. {HOW_TO_NAME_IT}",
    )


def _compared(
    facts: Facts, champion: Evidence, mine: tuple[Dataset, ...], theirs: tuple[Dataset, ...]
) -> tuple[bool, str, str]:
    value, stated = _named(mine) if mine else "no evidence", facts.statements
    if not champion.released and champion.run and champion.run.deleted:
        words = f"The champion {champion.ref} cannot be compared with: {champion.run_problem}."
        return False, value, f"{words} {restoring(champion)}"
    if not theirs:
        also = "" if mine else f"{_silent(facts.candidate)} "
        return False, value, f"{also}{_nothing_stated(facts, champion)}"
    if not mine:
        return False, value, f"{_silent(facts.candidate)} {HOW_TO_NAME_IT}"
    word = "".join(f" {one.by} stated that on {one.at[:10]}: {_short(one.comment)}." for one in stated)
    if len({one.digest for one in stated}) > 1:
        reason = f"The statements about the data set of the champion {champion.ref} do not agree: {_named(theirs)}."
        return False, value, f"{reason}{word} One of them must be corrected."
    if {dataset.digest for dataset in mine} != {dataset.digest for dataset in theirs}:
        reason = f"Measured on {_named(mine)}, the champion {champion.ref} on {_named(theirs)}."
        return False, value, f"{reason}{word}{unrecorded(champion)} {HOW_TO_NAME_IT}"
    both = f"Both were measured on {_named(mine)}, by MLflow's digest: it covers the first 10,000 rows and is no proof."
    if stated:
        both += f" That the champion {champion.ref} was is the word of a reviewer."
    return True, value, f"{both}{word}{unrecorded(champion)}"


def _theirs(policy: Policy, facts: Facts, champion: Evidence) -> tuple[Dataset, ...]:
    """The champion's data sets: those of its evidence, else those stated."""
    stated = (Dataset(name=one.dataset, digest=one.digest, context="") for one in facts.statements)
    return champion.preferring(policy.rules.metric_source).holdout or tuple(dict.fromkeys(stated))


def _nothing_stated(facts: Facts, champion: Evidence) -> str:
    """What to do about a champion that names no data set, and of which nothing is stated that counts."""
    own = "".join(
        f" What {one.by} states does not count for {facts.candidate.ref}: {barred(one.person, one.by, facts)}."
        for one in champion.stated
    )
    name, number = champion.ref.name, champion.ref.version
    return (
        f"The champion {champion.ref} does not name the data set it was measured on.{own} A reviewer who had no hand "
        f"in {facts.candidate.ref} can state it, on this version's page or with `signoff state-dataset {name} {number} "
        f"--name NAME --digest DIGEST --comment WHY`. {HOW_TO_NAME_IT}"
    )


def _silent(candidate: Evidence) -> str:
    return f"{candidate.ref} does not name the data set it was measured on."


def _named(datasets: tuple[Dataset, ...]) -> str:
    return ", ".join(f"{dataset.name} ({dataset.digest[:8]})" for dataset in datasets) or "none"


def _by(stated: tuple[Statement, ...]) -> str:
    return " and ".join(f"{one.by} on {one.at[:10]}" for one in stated)


def _short(comment: str) -> str:
    said = " ".join(comment.split()).rstrip(".")
    return said if len(said) <= 120 else f"{said[:119]}…"
