"""What a comparison is asked for and read from: a link's text to versions, versions to evidence, from memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services import assignments
from services.checks.evidence import evidence as checks_of
from services.domain import ModelVersion, VersionRef
from services.errors import BadInput, NotFound, SignoffError
from services.evidence import Evidence, Facts
from services.gate import united
from services.side_by_side import differences, lineage
from services.side_by_side.comparison import MAX_VERSIONS, Comparison, compare
from services.side_by_side.differences import Difference
from services.side_by_side.lineage import Lineage
from services.signoff import Signoff
from services.verdict import Verdict

REQUIREMENTS = "requirements.txt"

_ONE = re.compile(r"(?P<name>.+?):(?P<version>[^:,]*)(?:,|$)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a link asks for: those versions of it that exist, and what is wrong with the rest."""

    model: str | None
    refs: tuple[VersionRef, ...] = ()
    problem: SignoffError | None = None


def asked(signoff: Signoff, text: str) -> Asked:
    """Read ``name:3,name:5``, the first being the baseline; a name may hold commas and colons itself.

    A bare ``name`` asks for its champion and its newest version, ``name:`` for none of its versions yet.
    """
    snapshot = signoff.snapshot.current
    if text in snapshot.models:
        return Asked(model=text, refs=usual_pair(signoff, text))
    if text.removesuffix(":") in snapshot.models:
        return Asked(model=text.removesuffix(":"))
    if ":" not in text:
        return Asked(model=None, problem=NotFound(f"There is no registered model {text[:200]}."))
    try:
        wanted = parse(text)
    except BadInput as error:
        return Asked(model=None, problem=error)
    known = tuple(ref for ref in wanted if snapshot.version(ref.name, ref.version))
    missing = [str(ref) for ref in wanted if ref not in known]
    problem = NotFound(f"There is no {' and no '.join(missing)} in the registry.") if missing else None
    return Asked(model=known[0].name if known else None, refs=known, problem=problem)


def asked_one(signoff: Signoff, name: str, version: str | None) -> Asked:
    """The link of a version page: that version against the champion; without a version as a bare ``name``."""
    if version is None:
        return asked(signoff, name)
    found = asked(signoff, f"{name}:{version}")
    champion = _champion(signoff, name) if found.refs else None
    if champion is None or champion.ref in found.refs:
        return found
    return Asked(model=name, refs=(champion.ref, *found.refs))


def parse(text: str) -> tuple[VersionRef, ...]:
    """``name:3,name:5`` as versions, each once.

    Raises:
        BadInput: not of that form, a version such as ``03``, or too many.
    """
    found: list[VersionRef] = []
    end = 0
    for match in _ONE.finditer(text):
        if match.start() != end:
            break
        found.append(VersionRef.parse(match["name"], match["version"]))
        end = match.end()
    if end != len(text) or not found:
        raise BadInput(f"{text[:200]!r} names no versions; write them like name:3,name:5.")
    if len(found) > MAX_VERSIONS:
        raise BadInput(f"At most {MAX_VERSIONS} versions can be compared; this is {len(found)}.")
    return tuple(dict.fromkeys(found))


def usual_pair(signoff: Signoff, name: str) -> tuple[VersionRef, ...]:
    """The champion and the newest other version; without a champion the two newest; fewer where there are fewer."""
    versions = signoff.snapshot.current.versions.get(name, ())
    champion = _champion(signoff, name)
    newest = [v.ref for v in reversed(versions) if champion is None or v.ref != champion.ref]
    return (champion.ref, *newest[:1]) if champion else tuple(reversed(newest[:2]))


def shown(signoff: Signoff, refs: Sequence[VersionRef], *, beside: Sequence[ModelVersion] = ()) -> Comparison:
    """Compare versions for a page: from the snapshot and from memory, under the first candidate's policy.

    Args:
        beside: versions somebody will ask about next; what is not remembered of them is read along, in the same calls.

    Raises:
        BadInput: fewer than two or more than ten.
        NotFound: one is not in the registry.
        RegistryUnavailable: something was not remembered, and MLflow does not answer.
        InvalidSettings: no policy, or more than one, judges one of the models.
    """
    if len(refs) < 2:
        raise BadInput("Choose two or more versions to compare.")
    snapshot = signoff.snapshot.current
    found = {ref: snapshot.version(ref.name, ref.version) for ref in refs}
    if missing := [str(ref) for ref, version in found.items() if version is None]:
        raise NotFound(f"There is no {' and no '.join(missing)} in the registry.")
    versions = [version for version in found.values() if version]
    champions = {name: _champion(signoff, name) for name in dict.fromkeys(ref.name for ref in refs)}
    crowned = [champion for champion in champions.values() if champion]
    evidence = signoff.reader.compared(versions, beside=[*crowned, *beside])
    reigning = {one.ref.name: one for one in signoff.reader.measured(crowned)}
    policy, champion = assignments.judging(signoff, snapshot.models[refs[1].name]), champions[refs[1].name]
    return compare(
        evidence[0],
        evidence[1:],
        policy,
        champion=champion.ref if champion else None,
        verdicts={one.ref: _verdict(signoff, one, reigning.get(one.ref.name)) for one in evidence},
    )


def opened(signoff: Signoff, refs: Sequence[VersionRef]) -> tuple[Comparison, Lineage]:
    """`shown`, and beside it every version of the first candidate's model, which a page draws around it."""
    name = refs[1].name if len(refs) > 1 else ""
    comparison = shown(signoff, refs, beside=signoff.snapshot.current.versions.get(name, ())[-lineage.MAX_VERSIONS :])
    return comparison, lineage.shown(signoff, name)


def requirements(signoff: Signoff, comparison: Comparison) -> tuple[Difference, ...]:
    """The packages each version asks for, read from its files; raises `RegistryUnavailable`."""
    texts = (signoff.reader.version_file(evidence.version, REQUIREMENTS) for evidence in comparison.versions)
    return differences.requirements([text.decode(errors="replace") if text is not None else None for text in texts])


def _verdict(signoff: Signoff, candidate: Evidence, champion: Evidence | None) -> Verdict:
    """What the gate says about the numbers of one version, by the policy of its own model."""
    model = signoff.snapshot.current.models[candidate.ref.name]
    facts = Facts(
        model=model,
        candidate=candidate,
        champion=champion if champion and champion.ref != candidate.ref else None,
        now=signoff.now(),
        bars={},
    )
    return united(assignments.judging(signoff, model), lambda one: checks_of(one, facts))


def _champion(signoff: Signoff, name: str) -> ModelVersion | None:
    snapshot = signoff.snapshot.current
    target = assignments.judging(signoff, snapshot.models[name]).rules.champion
    return snapshot.champion(name, target.alias, target.stage)
