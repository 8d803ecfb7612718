"""The verbs of release: promote, rollback, archive. Promotion runs the seven steps of the design."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from pydantic import SecretStr

from services import expiry, facts
from services.accounts import people, permissions
from services.checks.release import settled
from services.domain import Action, Actor, ModelVersion, Source, Stage, VersionRef
from services.errors import Refused
from services.evidence import Facts, Seen
from services.gate import evaluate
from services.policy import Policy
from services.record import mirror
from services.signoff import Signoff
from services.steps import changes, intents
from services.tables import emergencies, promotions
from services.verbs.common import (
    Said,
    acting,
    allowed,
    judged_again,
    refusals_recorded,
    refuse_before_files,
    require_as_seen,
    sign,
    signature_needed,
    slot_held,
    words,
)
from services.verbs.reviews import Outcome


@dataclass(frozen=True, kw_only=True)
class Release:
    """One confirmed promotion, rollback or emergency (``action``). ``at`` is ISO 8601 UTC."""

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
    justified: bool | None = None
    """What a reviewer found of an emergency; None before that, and of any other release."""

    @property
    def returnable(self) -> bool:
        """Whether a rollback may rest on it: nobody approved what went out in an emergency, until it was justified."""
        return self.action != "emergency" or bool(self.justified)


@dataclass(frozen=True, kw_only=True)
class Return:
    """A rollback that can be asked for: ``target`` was champion before version ``champion`` replaced it."""

    target: VersionRef
    champion: int


def promote(  # noqa: PLR0913
    signoff: Signoff,
    ref: VersionRef,
    *,
    by: str,
    reason: str,
    seen: Seen | None = None,
    source: Source,
    password: SecretStr | None = None,
    words_from: str = "",
) -> Outcome:
    """Put an approved version into Production and archive the one it replaces.

    Promoting the champion changes nothing.

    Args:
        seen: what was on screen, or its digest; when anything changed since, nothing is done but recording the refusal.
        password: what the person signs with, where the policy asks for a signature.
        words_from: where the reason was found, when ``by`` did not say it.

    Raises:
        GateRefused: a check failed; the error carries the verdict.
        StaleDecision: something changed since ``seen``.
        WrongCredentials: the password is wrong, or the account is locked.
        PromotionConflict: someone else is changing this model.
        OutcomeUnknown: MLflow stopped answering half way; it will be found out and recorded.
        BadInput, NotFound, NotAllowed, RegistryUnavailable, LedgerUnavailable: nothing was changed.
    """
    return _release(signoff, ref, by, reason, seen, source, Action.PROMOTE, password, words_from=words_from)


def rollback(  # noqa: PLR0913
    signoff: Signoff,
    name: str,
    *,
    by: str,
    reason: str,
    version: int | None = None,
    seen: Seen | None = None,
    source: Source,
    password: SecretStr | None = None,
) -> Outcome:
    """Return to an earlier champion: to ``version``, or to the one the present champion replaced.

    Asks for an earlier confirmed promotion of exactly that version, with unchanged files; the comparison with the
    champion is waived and recorded as waived. Raises as `promote`.
    """
    number = version or previous_champion(signoff, name)
    if number is None:
        signoff.registry.model(name)
        actor = people.acting(signoff.database, by, source)
        with refusals_recorded(signoff, "rollback", actor, None):
            permissions.require(actor, Action.ROLLBACK)
            raise Refused(f"{name} has no earlier champion to return to.")
    return _release(signoff, VersionRef(name=name, version=number), by, reason, seen, source, Action.ROLLBACK, password)


def archive(
    signoff: Signoff,
    ref: VersionRef,
    *,
    by: str,
    reason: str,
    source: Source,
    password: SecretStr | None = None,
) -> Outcome:
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
        signature = signature_needed(signoff, policy, seen, actor, Action.ARCHIVE, password)
        change = changes.prescribe(
            seen.model,
            [signoff.registry.version(ref)],
            ref,
            stage=Stage.ARCHIVED,
            unpoint=[policy.rules.champion.alias, policy.rules.candidate.alias],
        )
        event = intents.carry_out(
            signoff,
            slot,
            subject="archival",
            change=change,
            comment=reason,
            judge=judged_again(
                signoff,
                policy,
                seen,
                actor=actor,
                action=Action.ARCHIVE,
                judge=lambda *_: (None, {}),
                signature=signature,
            ),
        )
    mirror.flush(signoff)
    return Outcome(ref=ref, event=event, message=f"{ref} is archived.")


_SUBJECTS = {Action.PROMOTE: "promotion", Action.ROLLBACK: "rollback"}
_AGAIN = {Action.PROMOTE: "Look again, then promote.", Action.ROLLBACK: "Look again, then roll back."}


def _release(  # noqa: PLR0913, PLR0917
    signoff: Signoff,
    ref: VersionRef,
    by: str,
    reason: str,
    saw: Seen | None,
    source: Source,
    action: Action,
    password: SecretStr | None,
    *,
    words_from: str = "",
) -> Outcome:
    reason, subject = words(reason, "reason"), _SUBJECTS[action]
    actor = acting(signoff, by, source, action, ref, subject)
    with (
        refusals_recorded(signoff, subject, actor, ref),
        slot_held(signoff, ref, actor, f"the {subject} of v{ref.version}") as slot,
    ):

        def first(policy: Policy, seen: Facts) -> None:
            if not is_champion(policy, seen):
                refuse_before_files(signoff, policy, seen, actor=actor, unsigned=password is None)

        policy, seen = facts.fresh(signoff, ref, rollback=action is Action.ROLLBACK, first=first)
        expiry.mark(signoff, policy, seen)
        if nothing_to_do := already_champion(policy, seen):
            return nothing_to_do
        require_as_seen(saw, policy, seen, _AGAIN[action])
        signature = sign(signoff, policy, seen, actor, action, password)

        def judge(_: object, now: Facts, who: Actor) -> Said:
            said = {"words_from": words_from} if words_from else {}
            return allowed(policy, now, evaluate(policy, now, actor=who, signature=signature)), said

        judge(None, seen, actor)
        event = intents.carry_out(
            signoff,
            slot,
            subject=subject,
            change=into_production(signoff, policy, seen),
            comment=reason,
            judge=judged_again(signoff, policy, seen, actor=actor, action=action, judge=judge, signature=signature),
        )
    mirror.flush(signoff)
    done = "back in" if action is Action.ROLLBACK else "in"
    return Outcome(ref=ref, event=event, message=f"{ref} is {done} {policy.rules.champion.stage}.")


def is_champion(policy: Policy, seen: Facts) -> bool:
    """Whether the candidate has the champion's stage and alias already."""
    target, ref = policy.rules.champion, seen.candidate.ref
    return seen.candidate.version.stage == target.stage and seen.model.aliases.get(target.alias) == ref.version


def already_champion(policy: Policy, seen: Facts) -> Outcome | None:
    """What is answered when the candidate `is_champion`; None where it is not.

    Raises:
        Refused: it became so past Signoff.
    """
    if not is_champion(policy, seen):
        return None
    for check in settled(seen):
        raise Refused(check.reason)
    return Outcome(
        ref=seen.candidate.ref, event=None, message=f"{seen.candidate.ref} is already in {policy.rules.champion.stage}."
    )


def into_production(signoff: Signoff, policy: Policy, seen: Facts) -> changes.Change:
    """The change that makes the candidate the champion and archives the one it replaces."""
    recorded = seen.reigning.recorded if seen.reigning else None
    change = changes.prescribe(
        seen.model,
        signoff.registry.versions(seen.candidate.ref.name),
        seen.candidate.ref,
        stage=policy.rules.champion.stage,
        alone=True,
        point=[policy.rules.champion.alias],
        unpoint=[policy.rules.candidate.alias],
    )
    return replace(change, succeeds=recorded[0]) if recorded and recorded[0] != change.ref.version else change


def previous_champion(signoff: Signoff, name: str) -> int | None:
    """The version that served before the present champion was promoted; None when there is none.

    Not the one replaced last: after a rollback that is the version one has just fled from.
    """
    served = _served(releases(signoff, name)[::-1])
    return served[-2] if len(served) > 1 else None


def _served(history: Sequence[Release]) -> list[int]:
    """The champions of a model that led to the present one, oldest first; a rollback takes back what came after.

    Of those before the present one only what a rollback may return to.
    """
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
    closed = {release.ref.version for release in history if not release.returnable}
    closed -= {release.ref.version for release in history if release.returnable}
    return [version for version in line[:-1] if version not in closed] + line[-1:]


def releases(signoff: Signoff, name: str | None = None, *, limit: int | None = None) -> list[Release]:
    """Confirmed promotions, rollbacks and emergencies, newest first, of one model or of all; at most ``limit``."""
    return _read(signoff, *([promotions.c.model == name] if name is not None else []), limit=limit)


def releases_of(signoff: Signoff, version: ModelVersion) -> list[Release]:
    """The same of exactly this version."""
    ref = version.ref
    return _read(
        signoff,
        promotions.c.model == ref.name,
        promotions.c.version == ref.version,
        promotions.c.identity == version.identity,
    )


def last_releases(signoff: Signoff) -> dict[str, Release]:
    """Registered model → its newest release."""
    newest = sa.select(sa.func.max(promotions.c.seq)).group_by(promotions.c.model)
    return {release.ref.name: release for release in _read(signoff, promotions.c.seq.in_(newest))}


def _read(signoff: Signoff, *which: sa.ColumnElement[bool], limit: int | None = None) -> list[Release]:
    judged = promotions.outerjoin(emergencies, emergencies.c.released_seq == promotions.c.seq)
    query = (
        sa.select(promotions, emergencies.c.justified)
        .select_from(judged)
        .where(*which)
        .order_by(promotions.c.seq.desc())
        .limit(limit)
    )
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
                justified=row.justified,
            )
            for row in connection.execute(query)
        ]


def ways_back(signoff: Signoff) -> list[Return]:
    """For each model whose champion was released here and replaced another such version: the way back, by name."""
    histories: dict[str, list[Release]] = {}
    for release in reversed(releases(signoff)):
        histories.setdefault(release.ref.name, []).append(release)
    ways = []
    for name, history in sorted(histories.items()):
        line = _served(history)
        if len(line) > 1 and any(release.ref.version == line[-2] for release in history):
            ways.append(Return(target=VersionRef(name=name, version=line[-2]), champion=line[-1]))
    return ways
