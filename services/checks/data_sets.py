"""The check that candidate and champion were measured on the same data, and what helps where one names none."""

from __future__ import annotations

from services.checks.view import Question, Run, Stated, View, answered, datasets_of
from services.domain import Dataset, ModelVersion, VersionRef
from services.evidence import Evidence, Facts, Statement
from services.policy import Policy
from services.verdict import Check

HOW_TO_NAME_IT = (
    "Two lines in the training run name it: "
    '`dataset = mlflow.data.from_pandas(df, name="holdout")` and `mlflow.log_input(dataset, context="eval")`.'
)
"""What a run needs so that its holdout is known; ``df`` is the table that the metrics were measured on."""


def silent(policy: Policy, evidence: Evidence) -> bool:
    """Whether a policy that judges compares data sets, and this version names none."""
    return any(one.rules.same_dataset and not datasets_of(one, evidence) for one in policy.each)


def unnamed(policy: Policy, facts: Facts) -> str:
    """What a submitter should know of a version that names no data set, where a policy compares them; else empty."""
    if not silent(policy, facts.candidate):
        return ""
    return next(answered([SAME_DATASET], policy, facts)).reason


def unrecorded(champion: ModelVersion, view: View) -> str:
    """A sentence more about a champion of which there is no record: anybody may have written what MLflow shows."""
    if view.champion_recorded:
        return ""
    return f" {champion.ref} is judged as MLflow shows it now: it was not promoted here."


def restoring(run: Run) -> str:
    """How a deleted run comes back."""
    return f"MlflowClient().restore_run({run.id!r}) brings the run back."


def _same_dataset(view: View) -> Check:
    champion, mine, theirs = view.champion, view.datasets(), view.datasets(champion=True)
    stated = view.champion_statements.counting if not theirs else ()
    theirs = theirs or tuple(dict.fromkeys(Dataset(name=one.dataset, digest=one.digest, context="") for one in stated))
    if view.rollback:
        passed, value, reason = True, "waived", "Waived: a rollback returns to a version that was released before."
    elif champion is None:
        passed, value, reason = _first(view.ref, mine)
    else:
        passed, value, reason = _compared(view, champion, mine, theirs, stated)
    words = f", as stated by {_by(stated)}" if stated else ""
    return Check(
        id="same_dataset",
        title="Measured on the champion's data set",
        passed=passed,
        value=value,
        threshold=f"{_named(theirs)}{words}" if champion else "any, there is no champion",
        reason=reason,
    )


_READS = {"version", "datasets", "champion", "champion_run", "champion_datasets", "rollback"}
SAME_DATASET = Question(
    id="same_dataset",
    reads=frozenset({*_READS, "champion_recorded", "champion_statements"}),
    answer=_same_dataset,
)


def _first(candidate: VersionRef, mine: tuple[Dataset, ...]) -> tuple[bool, str, str]:
    if mine:
        return True, _named(mine), "There is no champion to compare with."
    return (
        True,
        "none named: no later version could be compared with it",
        f"There is no champion to compare with. {_silent(candidate)} As the champion it would keep every later "
        f"version out until a reviewer states its data set. {HOW_TO_NAME_IT}",
    )


def _compared(
    view: View,
    champion: ModelVersion,
    mine: tuple[Dataset, ...],
    theirs: tuple[Dataset, ...],
    stated: tuple[Statement, ...],
) -> tuple[bool, str, str]:
    value = _named(mine) if mine else "no evidence"
    if (run := view.champion_run).deleted:
        words = f"The champion {champion.ref} cannot be compared with: {run.problem}."
        return False, value, f"{words} {restoring(run)}"
    if not theirs:
        also = "" if mine else f"{_silent(view.ref)} "
        return False, value, f"{also}{_nothing_stated(view.ref, champion.ref, view.champion_statements)}"
    if not mine:
        return False, value, f"{_silent(view.ref)} {HOW_TO_NAME_IT}"
    word = "".join(f" {one.by} stated that on {one.at[:10]}: {_short(one.comment)}." for one in stated)
    if len({one.digest for one in stated}) > 1:
        reason = f"The statements about the data set of the champion {champion.ref} do not agree: {_named(theirs)}."
        return False, value, f"{reason}{word} One of them must be corrected."
    if {dataset.digest for dataset in mine} != {dataset.digest for dataset in theirs}:
        reason = f"Measured on {_named(mine)}, the champion {champion.ref} on {_named(theirs)}."
        return False, value, f"{reason}{word}{unrecorded(champion, view)} {HOW_TO_NAME_IT}"
    both = f"Both were measured on {_named(mine)}, by MLflow's digest: it covers the first 10,000 rows and is no proof."
    if stated:
        both += f" That the champion {champion.ref} was is the word of a reviewer."
    return True, value, f"{both}{word}{unrecorded(champion, view)}"


def _nothing_stated(candidate: VersionRef, champion: VersionRef, stated: Stated) -> str:
    """What to do about a champion that names no data set, and of which nothing is stated that counts."""
    own = "".join(f" What {one.by} states does not count for {candidate}: {why}." for one, why in stated.others)
    return (
        f"The champion {champion} does not name the data set it was measured on.{own} A reviewer who had no hand "
        f"in {candidate} can state it, on this version's page or with `signoff state-dataset {champion.name} "
        f"{champion.version} --name NAME --digest DIGEST --comment WHY`. {HOW_TO_NAME_IT}"
    )


def _silent(candidate: VersionRef) -> str:
    return f"{candidate} does not name the data set it was measured on."


def _named(datasets: tuple[Dataset, ...]) -> str:
    return ", ".join(f"{dataset.name} ({dataset.digest[:8]})" for dataset in datasets) or "none"


def _by(stated: tuple[Statement, ...]) -> str:
    return " and ".join(f"{one.by} on {one.at[:10]}" for one in stated)


def _short(comment: str) -> str:
    said = " ".join(comment.split()).rstrip(".")
    return said if len(said) <= 120 else f"{said[:119]}…"
