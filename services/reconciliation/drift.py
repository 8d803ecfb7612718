"""What differs between a registered model as it should be and as MLflow shows it. Pure: two states in, words out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Self

from services.domain import ModelVersion, RegisteredModel, Stage, utc_from_ms
from services.record.ledger import Kind
from services.record.mirror import EVERYWHERE, OURS

_MODEL = "model"


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenVersion:
    """One version. ``id`` tells it from a later one of the same number; ``tags`` are those spelled like ours."""

    id: str
    stage: str = Stage.NONE
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, version: ModelVersion) -> Self:
        """What MLflow shows."""
        return cls(
            id=f"{_ms(version.created_at)}:{version.source}",
            stage=str(version.stage),
            tags={key: value for key, value in version.tags.items() if key.casefold() in OURS},
        )

    @property
    def blank(self) -> Self:
        """The same version as it is right after its registration."""
        return replace(self, stage=Stage.NONE.value, tags={})


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One registered model: ``created`` in epoch milliseconds, version number → version, alias → version number."""

    created: int
    versions: Mapping[int, SeenVersion] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, model: RegisteredModel, versions: tuple[ModelVersion, ...]) -> Self:
        """What MLflow shows."""
        return cls(
            created=_ms(model.created_at),
            versions={version.ref.version: SeenVersion.of(version) for version in versions},
            aliases=dict(model.aliases),
        )

    @cached_property
    def text(self) -> str:
        """For a database column; the same state always gives the same text."""
        versions = {
            str(number): [v.id, v.stage, dict(sorted(v.tags.items()))] for number, v in sorted(self.versions.items())
        }
        document = {"created": self.created, "versions": versions, "aliases": dict(sorted(self.aliases.items()))}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `text`."""
        document = json.loads(text)
        return cls(
            created=document["created"],
            versions={
                int(number): SeenVersion(id=id_, stage=stage, tags=tags)
                for number, (id_, stage, tags) in document["versions"].items()
            },
            aliases=document["aliases"],
        )

    @cached_property
    def digest(self) -> str:
        """sha256 of `text`."""
        return hashlib.sha256(self.text.encode(errors="surrogatepass")).hexdigest()

    @property
    def blank(self) -> Self:
        """The same model as if nothing was prescribed for it: no stage, no alias, no word of approval."""
        return replace(self, versions={number: one.blank for number, one in self.versions.items()}, aliases={})

    @property
    def foremost(self) -> int | None:
        """The version that a record about the whole model names: the one in Production, else the newest."""
        served = [number for number, version in self.versions.items() if version.stage == Stage.PRODUCTION]
        return max(served or self.versions, default=None)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One protected thing that is not as prescribed. ``subject`` names it within its model; None means nothing."""

    kind: Kind
    subject: str
    version: int
    prescribed: str | None
    shown: str | None


def vanished(known: Seen, renamed_to: str | None) -> list[Difference]:
    """The difference of a model that MLflow no longer has; one without versions held nothing that is protected."""
    if known.foremost is None:
        return []
    kind = Kind.OUTSIDE_RENAMED if renamed_to else Kind.OUTSIDE_DELETED
    return [
        Difference(
            kind=kind, subject=_MODEL, version=known.foremost, prescribed=_registered(known.created), shown=renamed_to
        )
    ]


def differences(known: Seen, seen: Seen, *, recorded: Container[int], aliases: frozenset[str]) -> list[Difference]:
    """Everything protected in which ``seen`` is not as ``known`` prescribes.

    Args:
        recorded: the versions that have a record: all our tags are protected on them, and all but `reason` on others.
        aliases: the protected ones, without case.
    """
    return [
        *_model(known, seen),
        *_versions(known, seen),
        *_stages(known, seen),
        *_tags(known, seen, recorded),
        *_aliases(known, seen, aliases),
    ]


def _model(known: Seen, seen: Seen) -> Iterator[Difference]:
    foremost = known.foremost or seen.foremost
    if known.created != seen.created and foremost is not None:
        yield Difference(
            kind=Kind.OUTSIDE_RECREATED,
            subject=_MODEL,
            version=foremost,
            prescribed=_registered(known.created),
            shown=_registered(seen.created),
        )


def _versions(known: Seen, seen: Seen) -> Iterator[Difference]:
    if known.created != seen.created:
        return  # said once, about the model
    for number, was in known.versions.items():
        now = seen.versions.get(number)
        if now is None or now.id != was.id:
            yield Difference(
                kind=Kind.OUTSIDE_RECREATED if now else Kind.OUTSIDE_DELETED,
                subject=f"version:{number}",
                version=number,
                prescribed=_origin(was),
                shown=_origin(now) if now else None,
            )


def _stages(known: Seen, seen: Seen) -> Iterator[Difference]:
    for number, now in seen.versions.items():
        was = _before(known, number, now)
        if was.stage != now.stage:
            yield Difference(
                kind=Kind.OUTSIDE_STAGE,
                subject=f"stage:{number}",
                version=number,
                prescribed=was.stage,
                shown=now.stage,
            )


def _tags(known: Seen, seen: Seen, recorded: Container[int]) -> Iterator[Difference]:
    for number, now in seen.versions.items():
        was = _before(known, number, now)
        for key in sorted(was.tags.keys() | now.tags.keys()):
            if _guarded(key, number in recorded) and was.tags.get(key) != now.tags.get(key):
                yield Difference(
                    kind=Kind.OUTSIDE_TAG,
                    subject=f"tag:{number}:{key}",
                    version=number,
                    prescribed=was.tags.get(key),
                    shown=now.tags.get(key),
                )


def _aliases(known: Seen, seen: Seen, protected: frozenset[str]) -> Iterator[Difference]:
    for alias in sorted(known.aliases.keys() | seen.aliases.keys()):
        if alias.casefold() not in protected:
            continue
        prescribed, shown = known.aliases.get(alias), seen.aliases.get(alias)
        if prescribed is not None and not _survives(known, seen, prescribed):
            if shown is None:
                continue  # it went with its version, and that is said already
            prescribed = None if known.created != seen.created else prescribed
        number = shown if shown is not None else prescribed
        if prescribed != shown and number is not None:
            yield Difference(
                kind=Kind.OUTSIDE_ALIAS,
                subject=f"alias:{alias}",
                version=number,
                prescribed=None if prescribed is None else f"v{prescribed}",
                shown=None if shown is None else f"v{shown}",
            )


def absorbed(known: Seen, seen: Seen, *, recorded: Container[int], aliases: frozenset[str]) -> Seen:
    """``known`` with what anybody may do: register a version, move an alias or write a tag that is not protected."""
    versions = dict(known.versions)
    for number, now in seen.versions.items():
        was = versions.get(number)
        if was is not None and was.id != now.id:
            continue  # a deviation until somebody accepts it
        kept = {key: value for key, value in (was.tags if was else {}).items() if _guarded(key, number in recorded)}
        free = {key: value for key, value in now.tags.items() if not _guarded(key, number in recorded)}
        versions[number] = replace(was or now.blank, tags={**kept, **free})
    free_aliases = {alias: n for alias, n in seen.aliases.items() if alias.casefold() not in aliases}
    kept_aliases = {alias: n for alias, n in known.aliases.items() if alias.casefold() in aliases}
    return replace(known, versions=versions, aliases={**kept_aliases, **free_aliases})


def accepted(known: Seen, seen: Seen, difference: Difference) -> Seen:
    """``known`` with one difference adopted."""
    number = difference.version
    match difference.subject.split(":", 2):
        case ["stage", _]:
            now = seen.versions[number]
            return _with(known, number, replace(_before(known, number, now), stage=now.stage))
        case ["tag", _, key]:
            was = _before(known, number, seen.versions[number])
            tags = {name: value for name, value in was.tags.items() if name != key}
            if difference.shown is not None:
                tags[key] = difference.shown
            return _with(known, number, replace(was, tags=tags))
        case ["alias", *_]:
            alias = difference.subject.removeprefix("alias:")
            kept = {name: n for name, n in known.aliases.items() if name != alias}
            return replace(known, aliases={**kept, **({alias: seen.aliases[alias]} if alias in seen.aliases else {})})
        case ["version", _] if number in seen.versions:
            return _with(known, number, seen.versions[number].blank)
        case ["version", _]:
            return replace(
                known,
                versions={n: version for n, version in known.versions.items() if n != number},
                aliases={alias: n for alias, n in known.aliases.items() if n != number},
            )
        case _:  # the model was registered anew: nothing about its versions is known
            return seen.blank


def same_model(known: Seen, seen: Seen) -> bool:
    """Whether a model of another name is this one: registered at the same moment, with a version in common."""
    return known.created == seen.created and bool(
        {version.id for version in known.versions.values()} & {version.id for version in seen.versions.values()}
    )


def _before(known: Seen, number: int, now: SeenVersion) -> SeenVersion:
    was = known.versions.get(number)
    return was if was is not None and was.id == now.id else now.blank


def _survives(known: Seen, seen: Seen, number: int) -> bool:
    was, now = known.versions.get(number), seen.versions.get(number)
    return now is not None and (was is None or was.id == now.id)


def _guarded(key: str, has_record: bool) -> bool:
    return key.casefold() in (OURS if has_record else EVERYWHERE)


def _with(known: Seen, number: int, version: SeenVersion) -> Seen:
    return replace(known, versions={**known.versions, number: version})


def _registered(created: int) -> str:
    return f"registered {utc_from_ms(created).isoformat(timespec='milliseconds')}"


def _origin(version: SeenVersion) -> str:
    created, _, source = version.id.partition(":")
    return f"{_registered(int(created))} from {source[:300]}"


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
