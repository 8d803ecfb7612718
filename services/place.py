"""Where the files of a version lie: in one run's folder, in one logged model, or in neither, and whether guarded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self
from urllib.parse import unquote

from services.domain import ModelVersion, VersionRef


class PlaceKind(StrEnum):
    """What a folder of files belongs to in MLflow."""

    RUN = "run"
    LOGGED_MODEL = "logged_model"
    LOST = "lost"
    """To a run or a logged model that MLflow has no more."""
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the source of a version resolves to. ``uri`` is the folder with its files, ``path`` the part below ``id``.

    ``run_id`` is the run whose folder it is, or that made the logged model; None where MLflow names none.
    ``others`` are further places MLflow reads the same source from, in words: then nobody can say which files count.
    """

    kind: PlaceKind
    uri: str
    id: str = ""
    path: str = ""
    run_id: str | None = None
    others: tuple[str, ...] = ()
    unguarded_because: str = ""
    """Why the hook does not see each change of these files, as half a sentence; empty where it does."""
    unloadable_because: str = ""
    """Why MLflow finds none of them by ``models:/name/version``, as half a sentence; empty where it does."""

    @property
    def guarded(self) -> bool:
        """Whether the hook in the MLflow server sees each change of these files."""
        return not self.unguarded_because

    @property
    def folder(self) -> tuple[str, ...]:
        """What must stay the same from a verdict on: what is read, and what else MLflow would read."""
        return (self.kind.value, self.id, self.path, self.uri, *self.others)

    @property
    def words(self) -> str:
        """The place in a few words."""
        below = f", folder {self.path}" if self.path else ""
        match self.kind:
            case PlaceKind.RUN:
                return f"the artifacts of run {self.id}{below}"
            case PlaceKind.LOGGED_MODEL:
                return f"logged model {self.id}{below}"
        return self.uri or "no place"

    @property
    def standing(self) -> str:
        """Guarded or unguarded, and why, in one sentence."""
        return "The hook guards them." if self.guarded else f"They are unguarded: {self.unguarded_because}."

    def as_json(self) -> dict[str, Any]:
        """For an event, and for the digest that a vote is bound to."""
        return {**asdict(self), "others": list(self.others)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`."""
        return cls(**{**value, "kind": PlaceKind(value["kind"]), "others": tuple(value["others"])})


def unclear(source: str, ref: VersionRef) -> str:
    """Why nobody can say what a ``runs:`` source means, in one sentence; empty when it is clear.

    MLflow compares some of these spellings as they are and takes others for something else, so that what is judged
    could be another place than what is loaded.
    """
    scheme, _, rest = source.partition(":")
    path = re.split("[?#]", rest.lstrip("/"))[0].removesuffix("/")
    strange = "" in path.split("/") or re.search(r"[\\'\"`%]", path) or not path.isprintable()
    if scheme.casefold() != "runs" or not strange:
        return ""
    return (
        f"The source {source} of {ref} can be read in more than one way: its path has an empty part, a "
        "quote, a backslash, a percent sign or a character that cannot be seen. Register it as runs:/RUN/path."
    )


def may_move(version: ModelVersion) -> bool:
    """Whether its source can come to mean another place: a ``runs:`` source, or a copy of a version that has one."""
    return bool(re.match(r"runs:|models:/+[^/]+/[1-9][0-9]*$", version.source, re.IGNORECASE))


def original(version: ModelVersion) -> VersionRef | None:
    """The version that a copy was made of, as its source names it; None where it is no copy."""
    found = re.fullmatch(r"models:/+([^/@]+)/([1-9][0-9]{0,8})", version.source, re.IGNORECASE)
    return VersionRef(name=unquote(found[1]), version=int(found[2])) if found else None


def astray(version: ModelVersion, named: ModelVersion | None) -> str:
    """What the source of a copy does not say any more, in one sentence; empty where it is no copy, or still says it.

    Args:
        named: the version that has that name and number now.
    """
    if original(version) is None or (named and named.created_at <= version.created_at):
        return ""
    now = "a version that was registered after it" if named else "no version any more"
    return (
        f"The source {version.source} of {version.ref} names {now}: what it was copied from was renamed or deleted. "
        "What counts is where its files lie."
    )


def foreign_run(place: Place, ref: VersionRef, run_id: str | None) -> str:
    """Why the files of a version are not those of the run it names, in words; empty when they are, or are elsewhere."""
    if place.kind is PlaceKind.LOST:
        owner = f"logged model {place.id}" if place.id else "run and no logged model"
        return (
            f"The files of {ref} lie in {place.words}, and MLflow has no {owner} there: nothing says which run made "
            "them. Log the model again and register it anew."
        )
    if place.kind is PlaceKind.ELSEWHERE or place.run_id == run_id:
        return ""
    maker = f"which run {place.run_id} made" if place.run_id else "which no run made"
    files = f"The files of {ref} are {place.words}"
    if place.kind is PlaceKind.LOGGED_MODEL:
        files += f", {maker}"
    claimed = f"the version claims run {run_id}" if run_id else "the version names no run"
    return f"{files}; {claimed}. Register it with the run that made its files."
