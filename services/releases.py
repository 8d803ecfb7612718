"""The verbs of release: promote, rollback, archive. Promotion runs the seven steps of the design."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from services import changes, expiry, facts, intents, mirror
from services.domain import Action, Actor, Source, Stage, VersionRef
from services.errors import Refused, StaleDecision
from services.evidence import Binding, Facts
from services.gate import GateRefused, Verdict, evaluate
from services.policy import Policy
from services.reviews import Outcome
from services.signoff import Signoff
from services.tables import promotions
from services.verbs import acting, context, refusals_recorded, slot_held, words


@dataclass(frozen=True, kw_only=True)
class Release:
    """One confirmed promotion or rollback. ``at`` is ISO 8601 UTC."""

    ref: VersionRef
    action: str
    replaced: int | None
    by: str
    reason: str
    at: str
    policy: str
    manifest_digest: str
    identity: str
    seq: int


@dataclass(frozen=True, kw_only=True)
class Return:
    """A rollback that can be asked for: ``target`` was champion before version ``champion`` replaced it."""

    target: VersionRef
    champion: int


def promote(
    signoff: Signoff,
    ref: VersionRef,
    *,
    by: str,
    reason: str,
    seen: Binding | None = None,
    source: Source = Source.BROWSER,
) -> Outcome:
    """Put an approved version into Production and archive the one it replaces.

    Promoting the champion changes nothing.

    Args:
        seen: what was on screen; when anything of it changed since, nothing is done but recording the refusal.

    Raises:
        GateRefused: a check failed; the error carries the verdict.
        StaleDecision: something changed since ``seen``.
        PromotionConflict: someone else is changing this model.
        OutcomeUnknown: MLflow stopped answering half way; it will be found out and recorded.
        BadInput, NotFound, NotAllowed, RegistryUnavailable, LedgerUnavailable: nothing was changed.
    """
    return _release(signoff, ref, by, reason, seen, source, Action.PROMOTE, "promotion")


def rollback(
    signoff: Signoff,
    name: str,
    *,
    by: str,
    reason: str,
    version: int | None = None,
    source: Source = Source.BROWSER,
) -> Outcome:
    """Return to an earlier champion: to ``version``, or to the one the present champion replaced.

    Asks for an earlier confirmed promotion of exactly that version, with unchanged files; the comparison with the
    champion is waived and recorded as waived. Raises as `promote`.
    """
    number = version or previous_champion(signoff, name)
    if number is None:
        raise Refused(f"{name} has no earlier champion to return to.")
    return _release(
        signoff, VersionRef(name=name, version=number), by, reason, None, source, Action.ROLLBACK, "rollback"
    )


def archive(signoff: Signoff, ref: VersionRef, *, by: str, reason: str, source: Source = Source.BROWSER) -> Outcome:
    """Archive a version; the champion too, which leaves nothing in Production. Raises as `promote`."""
    reason = words(reason, "reason")
    actor = acting(signoff, by, source, Action.ARCHIVE, ref, "archival")
    with (
        refusals_recorded(signoff, "archival", actor, ref),
        slot_held(signoff, ref, actor, f"archiving v{ref.version}") as slot,
    ):
        policy, seen = facts.fresh(signoff, ref)
        if seen.candidate.version.stage == Stage.ARCHIVED:
            return Outcome(ref=ref, event=None, message=f"{ref} is already archived.")
        change = changes.prescribe(
            seen.model,
            signoff.registry.versions(ref.name),
            ref,
            stage=Stage.ARCHIVED,
            unpoint=[policy.rules.champion.alias, policy.rules.candidate.alias],
        )
        event = intents.carry_out(
            signoff,
            slot,
            subject="archival",
            change=change,
            actor=actor,
            comment=reason,
            context=context(policy, seen),
        )
    mirror.flush(signoff)
    return Outcome(ref=ref, event=event, message=f"{ref} is archived.")


def _release(
    signoff: Signoff,
    ref: VersionRef,
    by: str,
    reason: str,
    binding: Binding | None,
    source: Source,
    action: Action,
    subject: str,
) -> Outcome:
    reason = words(reason, "reason")
    actor = acting(signoff, by, source, action, ref, subject)
    with (
        refusals_recorded(signoff, subject, actor, ref),
        slot_held(signoff, ref, actor, f"the {subject} of v{ref.version}") as slot,
    ):
        policy, seen = facts.fresh(signoff, ref, rollback=action is Action.ROLLBACK)
        expiry.mark(signoff, policy, seen)
        if _is_champion(policy, seen):
            return Outcome(ref=ref, event=None, message=f"{ref} is already in {policy.rules.champion.stage}.")
        if binding and (changed := binding.differences(seen.binding(policy.digest))):
            raise StaleDecision(f"Since you opened {ref}, {' and '.join(changed)}. Look again, then promote.")
        event = intents.carry_out(
            signoff,
            slot,
            subject=subject,
            change=_change(signoff, policy, seen),
            actor=actor,
            comment=reason,
            context=context(policy, seen),
            verdict=allowed(policy, seen, actor),
        )
    mirror.flush(signoff)
    done = "back in" if action is Action.ROLLBACK else "in"
    return Outcome(ref=ref, event=event, message=f"{ref} is {done} {policy.rules.champion.stage}.")


def allowed(policy: Policy, seen: Facts, actor: Actor) -> Verdict:
    """The verdict on a promotion by ``actor``; raises `GateRefused` when one check failed."""
    verdict = evaluate(policy, seen, actor=actor)
    if not verdict.allowed:
        raise GateRefused(f"{seen.candidate.ref} may not go to Production. {verdict.summary()}", verdict)
    return verdict


def _is_champion(policy: Policy, seen: Facts) -> bool:
    target, ref = policy.rules.champion, seen.candidate.ref
    return seen.candidate.version.stage == target.stage and seen.model.aliases.get(target.alias) == ref.version


def _change(signoff: Signoff, policy: Policy, seen: Facts) -> changes.Change:
    return changes.prescribe(
        seen.model,
        signoff.registry.versions(seen.candidate.ref.name),
        seen.candidate.ref,
        stage=policy.rules.champion.stage,
        alone=True,
        point=[policy.rules.champion.alias],
        unpoint=[policy.rules.candidate.alias],
    )


def previous_champion(signoff: Signoff, name: str) -> int | None:
    """The version that served before the present champion was promoted; None when there is none.

    Not the one replaced last: after a rollback that is the version one has just fled from.
    """
    served = _served(reversed(releases(signoff, name, limit=1000)))
    return served[-2] if len(served) > 1 else None


def _served(history: Iterable[Release]) -> list[int]:
    """The champions of a model that led to the present one, oldest first; a rollback takes back what came after."""
    line: list[int] = []
    for release in history:
        if release.action == "rollback" and release.ref.version in line:
            del line[len(line) - line[::-1].index(release.ref.version) :]
            continue
        if release.replaced is None:
            line = []  # nothing was in Production: there is no way back to what was archived on purpose
        elif not line:
            line.append(release.replaced)
        line.append(release.ref.version)
    return line


def releases(signoff: Signoff, name: str | None = None, *, limit: int = 100) -> list[Release]:
    """Confirmed promotions and rollbacks, newest first, of one model or of all."""
    query = sa.select(promotions).order_by(promotions.c.seq.desc()).limit(limit)
    if name is not None:
        query = query.where(promotions.c.model == name)
    with signoff.database.reading() as connection:
        return [
            Release(
                ref=VersionRef(name=row.model, version=row.version),
                action=row.action,
                replaced=row.replaced,
                by=row.by,
                reason=row.reason,
                at=row.at,
                policy=row.policy or "",
                manifest_digest=row.manifest_digest or "",
                identity=row.identity,
                seq=row.seq,
            )
            for row in connection.execute(query)
        ]


def ways_back(signoff: Signoff) -> list[Return]:
    """For each model whose champion was released here and replaced another such version: the way back, by name."""
    histories: dict[str, list[Release]] = {}
    for release in reversed(releases(signoff, limit=1000)):
        histories.setdefault(release.ref.name, []).append(release)
    ways = []
    for name, history in sorted(histories.items()):
        line = _served(history)
        if len(line) > 1 and any(release.ref.version == line[-2] for release in history):
            ways.append(Return(target=VersionRef(name=name, version=line[-2]), champion=line[-1]))
    return ways
