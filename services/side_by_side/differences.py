"""How versions differ beside their metrics: params, tags, signature, requirements, data sets, source. Pure.

The first version is the baseline.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.domain import Column, Dataset, Signature
from services.evidence import Evidence
from services.record.mirror import OURS

PARTS = ("inputs", "outputs", "params")
SOURCE = {
    "mlflow.source.git.commit": "commit",
    "mlflow.source.git.branch": "branch",
    "mlflow.source.git.repoURL": "repository",
    "mlflow.source.name": "script",
    "mlflow.user": "author, as claimed",
}
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\s*+(?:\[.*\])?\s*+(?:[<>=!~;(].*)?)")
_PACKAGE = re.compile(r"[-_.]+")
FITS_INTO = {("integer", "long"), ("integer", "double"), ("float", "double")}
"""Types that MLflow converts by itself when a request is scored: what used to be sent is still understood."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One named thing with its value in each version; None where a version does not have it.

    ``note`` says what a difference means; ``reserved`` marks what MLflow or Signoff wrote by itself.
    """

    name: str
    values: tuple[str | None, ...]
    note: str = ""
    reserved: bool = False

    @property
    def differs(self) -> bool:
        """Whether any version has another value than the first."""
        return any(value != self.values[0] for value in self.values)


class Compatibility(StrEnum):
    """What a signature means for those who call the baseline today."""

    COMPATIBLE = "compatible"
    WIDENED = "widened"
    BREAKING = "breaking"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class SignatureChange:
    """The worst of all differences between two signatures, and every difference in words."""

    compatibility: Compatibility
    reasons: tuple[str, ...] = ()


def params(versions: Sequence[Evidence]) -> tuple[Difference, ...]:
    """Every param of any version, by name."""
    return _by_key([evidence.params for evidence in versions])


def tags(versions: Sequence[Evidence]) -> tuple[Difference, ...]:
    """Every tag of a version or its run, by name; where both have one, the version's own."""
    return _by_key([{**(e.run.tags if e.run else {}), **e.version.tags} for e in versions], judged=True)


def datasets(versions: Sequence[Evidence]) -> tuple[Difference, ...]:
    """What the metrics were measured on, then every other context in which a data set was logged."""
    contexts = sorted({dataset.context or "no context" for evidence in versions for dataset in _logged(evidence)})
    rows = [
        Difference(
            name=context,
            values=tuple(_names(d for d in _logged(e) if (d.context or "no context") == context) for e in versions),
        )
        for context in contexts
    ]
    measured = Difference(name="metrics measured on", values=tuple(_names(e.holdout) for e in versions))
    return tuple(row for row in (measured, *rows) if any(value is not None for value in row.values))


def signature(versions: Sequence[Evidence]) -> tuple[Difference, ...]:
    """Every field that any version takes or gives, with what changed against the first."""
    rows: list[Difference] = []
    for part in PARTS:
        fields = [_fields(evidence.signature, part) for evidence in versions]
        for name in dict.fromkeys(name for found in fields for name in found):
            notes = [_change(part, fields[0].get(name), found.get(name)) for found in fields[1:] if found and fields[0]]
            rows.append(
                Difference(
                    name=f"{part[:-1]} {name}",
                    values=tuple(_described(part, found.get(name)) for found in fields),
                    note=", ".join(dict.fromkeys(words for words, _ in filter(None, notes))),
                )
            )
    return tuple(rows)


def signature_change(old: Signature | None, new: Signature | None) -> SignatureChange:
    """What the new signature means for those who call the old one."""
    if old is None or new is None:
        return SignatureChange(compatibility=Compatibility.UNKNOWN)
    found: list[tuple[str, Compatibility]] = []
    for part in PARTS:
        before, after = _fields(old, part), _fields(new, part)
        for name in dict.fromkeys([*before, *after]):
            if change := _change(part, before.get(name), after.get(name)):
                found.append((f"{part[:-1]} {name} {change[0]}", change[1]))
    breaking = [words for words, compatibility in found if compatibility is Compatibility.BREAKING]
    if breaking:
        return SignatureChange(compatibility=Compatibility.BREAKING, reasons=tuple(breaking))
    return SignatureChange(
        compatibility=Compatibility.WIDENED if found else Compatibility.COMPATIBLE,
        reasons=tuple(words for words, _ in found),
    )


def source(versions: Sequence[Evidence]) -> tuple[Difference, ...]:
    """The code each was trained with, as its training client claimed; the run's word before the logged model's."""
    tags = [{**(e.logged_model.tags if e.logged_model else {}), **(e.run.tags if e.run else {})} for e in versions]
    rows = [Difference(name=name, values=tuple(found.get(key) for found in tags)) for key, name in SOURCE.items()]
    return tuple(row for row in rows if any(value is not None for value in row.values))


def requirements(texts: Sequence[str | None]) -> tuple[Difference, ...]:
    """Every package that any ``requirements.txt`` names, with what is asked of it; None where there is no such file."""
    return _by_key([dict(_required(text or "")) for text in texts])


def _required(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        wanted = line.partition(" #")[0].strip()
        if wanted and not wanted.startswith("#"):
            found = _REQUIREMENT.fullmatch(wanted)
            # What is no package by name, such as an option or an address, is shown as it is written.
            yield (_PACKAGE.sub("-", found[1]).lower(), found[2].strip() or "any") if found else (wanted, "named")


def _change(part: str, old: Column | None, new: Column | None) -> tuple[str, Compatibility] | None:
    """What became of one field, and what that means for a caller; None when nothing did."""
    incoming = part == "inputs"
    if old is None and new is None:
        return None
    if old is None:
        needed = incoming and new is not None and new.required
        return "added" + (", required" if needed else ""), Compatibility.BREAKING if needed else Compatibility.WIDENED
    if new is None:
        # MLflow ignores columns that a model does not ask for; but nobody ignores an answer that is missing, and who
        # gives a param that is ignored gets another answer than before.
        return "removed", Compatibility.WIDENED if incoming else Compatibility.BREAKING
    if old.type != new.type:
        fits = part != "outputs" and (old.type, new.type) in FITS_INTO
        return f"type {old.type} → {new.type}", Compatibility.WIDENED if fits else Compatibility.BREAKING
    if incoming and old.required != new.required:
        return ("now required", Compatibility.BREAKING) if new.required else ("now optional", Compatibility.WIDENED)
    return None


def _fields(found: Signature | None, part: str) -> Mapping[str, Column]:
    columns: tuple[Column, ...] = getattr(found, part) if found else ()
    return {column.name: column for column in columns}


def _described(part: str, column: Column | None) -> str | None:
    if column is None:
        return None
    return column.type if column.required or part == "outputs" else f"{column.type}, optional"


def _logged(evidence: Evidence) -> tuple[Dataset, ...]:
    return evidence.run.datasets if evidence.run else ()


def _names(found: Iterable[Dataset]) -> str | None:
    return ", ".join(sorted({named(dataset) for dataset in found})) or None


def named(dataset: Dataset) -> str:
    """A data set as people meet it: ``holdout (1a2b3c4d)``."""
    return f"{dataset.name or 'unnamed'} ({dataset.digest[:8]})"


def _by_key(found: Sequence[Mapping[str, str]], *, judged: bool = False) -> tuple[Difference, ...]:
    return tuple(
        Difference(
            name=key,
            values=tuple(values.get(key) for values in found),
            reserved=judged and _reserved(key),
        )
        for key in sorted({key for values in found for key in values})
    )


def _reserved(key: str) -> bool:
    """Whether a tag is written by MLflow or by us, whatever the letter case."""
    return key.lower().startswith(("mlflow.", "signoff.")) or key.lower() in OURS
