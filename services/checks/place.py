"""Checks of where the files of a version lie: readable, in one place, of the run it names, and guarded."""

from __future__ import annotations

from collections.abc import Iterator

from services.checks.measured import listed
from services.checks.view import Question, View, answered
from services.evidence import Facts
from services.place import foreign_run, unclear
from services.policy import Policy
from services.verdict import Check


def place(policy: Policy, facts: Facts) -> Iterator[Check]:
    """The answer to every question of this family that the policy asks."""
    yield from answered(questions(policy), policy, facts)


def questions(policy: Policy) -> Iterator[Question]:
    """Every check of this family that the policy asks for, with the facts it reads."""
    reads = frozenset({"version", "files", "place", "unreadable"})
    yield Question(id="place", reads=reads, answer=_one_place)
    if policy.rules.guarded_files == "required":
        yield Question(id="guarded_files", reads=frozenset({"version", "place"}), answer=_guarded)


def _one_place(view: View) -> Check:
    """What was judged is what MLflow loads, and its metrics are those of the run that made it."""
    found, manifest, ref, source = view.place, view.manifest, view.ref, view.source
    value = f"{found.words}, {'guarded' if found.guarded else 'unguarded'}" if found else "unknown"
    if spelling := unclear(source, ref):
        problem = spelling
    elif view.unreadable:
        problem = view.unreadable
    elif found is None:
        problem = f"MLflow does not say where the files of {ref} are."
    elif found.others:
        value = " and ".join((found.words, *found.others))
        problem = (
            f"MLflow reads the source {source} of {ref} from two places: {value}. "
            "Which one wins depends on how it is loaded. Register the one that is meant by its own address, such as "
            "models:/m-…."
        )
    elif manifest is None or not manifest.files:
        problem = f"There is no file of {ref} in {found.words} ({found.uri})."
    elif manifest.outside:
        value = f"{value}; MLmodel names {listed(list(manifest.outside))}"
        problem = (
            f"The MLmodel file of {ref} names {listed(list(manifest.outside))}, which is none of its files: it can "
            "change without anybody's approval. Log the model with everything that it loads."
        )
    elif found.unloadable_because:
        problem = (
            f"MLflow itself cannot load {ref} by models:/{ref.name}/{ref.version}: {found.unloadable_because}. "
            f"Its files are {found.words}. Register it anew by that address, models:/{found.id}."
        )
    else:
        problem = foreign_run(found, ref, view.run_id)
    return Check(
        id="place",
        title="Files are in one place, made by its own run",
        passed=not problem,
        value=value,
        threshold="one place with files that can be read and loaded, of the version's own run",
        reason=problem or (f"Its files are {found.words}. {found.standing}" if found else ""),
    )


def _guarded(view: View) -> Check:
    found = view.place
    guarded = found is not None and found.guarded
    why = found.unguarded_because if found else "MLflow does not say where they are"
    return Check(
        id="guarded_files",
        title="Files are guarded",
        passed=guarded,
        value="guarded" if guarded else "unguarded",
        threshold="guarded",
        reason="The hook in the MLflow server sees every change of its files."
        if guarded
        else f"The files of {view.ref} are unguarded: {why}.",
    )
