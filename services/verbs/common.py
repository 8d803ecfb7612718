"""What every verb does alike: know who acts, hold the model's slot, and record a refusal exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from pydantic import SecretStr
from sqlalchemy.engine import Connection

from services import agreement, facts, gate, signing
from services.accounts import people, permissions, sessions, tokens
from services.checks.approvals import APPROVED, CHANGES_REQUESTED
from services.checks.bound import bound
from services.checks.signing import signed
from services.domain import Action, Actor, Source, VersionRef
from services.errors import (
    BadInput,
    LedgerUnavailable,
    NotAllowed,
    OutcomeUnknown,
    PromotionConflict,
    Refused,
    RegistryUnavailable,
    StaleDecision,
)
from services.evidence import Binding, Facts, Seen, Waiver
from services.gate import GateRefused, Verdict
from services.letters import blank
from services.policy import Policy
from services.record import activation, filing, mirror, refusals
from services.record.ledger import Kind
from services.recorded_facts import datasets, metrics, recorded, votes
from services.signing import Act, ElectronicSignature
from services.signoff import Signoff
from services.steps import intents, slots
from services.steps.intents import Judge, Judged
from services.steps.slots import Rank, Slot

MAX_COMMENT = 10_000
MAX_CLAIM = 500


def words(text: str, what: str) -> str:
    """A person's words, stripped; raises `BadInput` when there are none or far too many."""
    stripped = text.strip()
    if blank(stripped):
        raise BadInput(f"A {what} is needed.")
    if len(stripped) > MAX_COMMENT:
        raise BadInput(f"The {what} has {len(stripped)} characters; at most {MAX_COMMENT} are kept.")
    if not stripped.isprintable() and any(not c.isprintable() and c not in "\n\t\r" for c in stripped):
        raise BadInput(f"The {what} holds control characters.")
    return stripped


def claimed(text: str) -> str:
    """What the tag `reason` of a version says, where no record wrote it: anybody's words in MLflow, tidied and cut."""
    tidied = " ".join("".join(c if c.isprintable() else " " for c in text[:MAX_CLAIM]).split())
    return f"{tidied}…" if tidied and len(text) >= MAX_CLAIM else tidied


def acting(signoff: Signoff, username: str, source: Source, action: Action, ref: VersionRef, subject: str) -> Actor:
    """Who acts, with the roles of this moment; a missing role is refused and recorded."""
    try:
        actor = person(signoff, username, source)
    except NotAllowed:
        actor = Actor(username=username, name=username, roles=frozenset(), source=source)
        with refusals_recorded(signoff, subject, actor, ref):
            raise
    with refusals_recorded(signoff, subject, actor, ref):
        permissions.require(actor, action)
    return actor


def person(signoff: Signoff, username: str, source: Source, connection: Connection | None = None) -> Actor:
    """Who that is, with the roles of this moment.

    An MLflow client that did not authenticate is a service identity, whose roles are a setting.

    Raises:
        NotAllowed: nobody we know. LedgerBroken: an event was changed, and nobody knows whose roles it took away.
    """
    with people.connected(connection or signoff.database) as place:
        filing.require_whole(place)
        if source is Source.MLFLOW_CLIENT and username == people.MLFLOW_CLIENT:
            roles = signoff.settings.anonymous_roles
            return Actor(username=username, name="An MLflow client", roles=roles, source=source, automation=True)
        return people.acting(place, username, source)


def allowed(policy: Policy, seen: Facts, verdict: Verdict) -> Verdict:
    """The verdict itself; raises `GateRefused` when a check failed."""
    if not verdict.allowed:
        raise gate_refused(policy, seen, verdict)
    return verdict


Said: TypeAlias = tuple[Verdict | None, Mapping[str, Any]]
"""What the gate said, if it was asked, and what the record keeps beside `context`."""


def judged_again(
    signoff: Signoff,
    policy: Policy,
    seen: Facts,
    *,
    actor: Actor,
    action: Action | None,
    judge: Callable[[Connection, Facts, Actor], Said],
    signature: ElectronicSignature | None = None,
) -> Judge:
    """The second judging of what was judged before: in the transaction that records it, and without reading a file.

    ``judge`` is given the facts and the actor of that moment. An account that was disabled, a role that was taken
    away, a vote, a finding, a freeze or another policy that came while files were read refuses here, and what is
    recorded names nothing that was lost. So does a row that no event stands behind. ``action`` None needs no role.
    """

    def judged(connection: Connection) -> Judged:
        activation.require_in_force(connection, policy)
        who = still_may(signoff, connection, actor, action) if action else actor
        now = facts.again(signoff, connection, seen)
        if signoff.policies.judging(now.model, now.assigned) != policy:
            raise StaleDecision(f"Which policy judges {now.model.name} was decided meanwhile. Look again.")
        verdict, details = judge(connection, now, who)
        agreement.require(connection, now)
        return Judged(actor=who, context={**context(policy, now, signature), **details}, verdict=verdict)

    return judged


def still_may(signoff: Signoff, connection: Connection, actor: Actor, action: Action) -> Actor:
    """The same actor with the roles of this moment; raises `NotAllowed` when account, role or token is gone."""
    tokens.require_usable(connection)
    who = person(signoff, actor.username, actor.source, connection)
    permissions.require(who, action)
    return who


@contextmanager
def refusals_recorded(signoff: Signoff, subject: str, actor: Actor, ref: VersionRef | None) -> Iterator[None]:
    """Record whatever is refused inside as one event, repeats of it as a count, and let it go on.

    The event names the roles held when it was refused: one that was lost since is not held any more.
    """
    try:
        yield
    except (Refused, PromotionConflict) as error:
        refused = error if isinstance(error, GateRefused) else None
        ref = (error.about if isinstance(error, Refused) else None) or ref
        try:
            actor = person(signoff, actor.username, actor.source)
        except NotAllowed:
            actor = replace(actor, roles=frozenset())
        refusals.record(
            signoff.database,
            kind=Kind.of(subject, "refused"),
            actor=actor,
            ref=ref,
            reason=str(error),
            verdict=refused.verdict if refused else None,
            details=error.context if isinstance(error, Refused) else {},
            at=signoff.now(),
        )
        if ref and signoff.acts:  # else no page was looked at, and MLflow itself waits for this answer
            with suppress(RegistryUnavailable):
                signoff.snapshot.touch(ref.name)  # what was on screen may be why it was asked for
        raise


def require_as_seen(then: Seen | None, policy: Policy, seen: Facts, advice: str) -> None:
    """Raise `StaleDecision` when anything of what was seen, if somebody says what was, has changed since."""
    ref, now = seen.candidate.ref, bound(policy, seen)
    if isinstance(then, str) and then != now.digest:
        raise StaleDecision(
            f"What you saw of {ref} has the digest {then}, and what is there now has {now.digest}: its files, its "
            f"evidence, the champion or the policy changed. {advice}"
        )
    if isinstance(then, Binding) and (changed := then.differences(now)):
        raise StaleDecision(f"Since you opened {ref}, {' and '.join(changed)}. {advice}")


@contextmanager
def slot_held(
    signoff: Signoff, ref: VersionRef, actor: Actor, purpose: str, *, free: bool = False, proposes: bool = False
) -> Iterator[Slot]:
    """Hold the model's slot; what an earlier holder left open is closed first.

    ``free``: anybody may do it. ``proposes``: so may a client that did not authenticate. Both give way to the rest.

    The slot is given back whatever happens, except when the outcome of a change is unknown: then it runs out.
    """
    rank = Rank.CLIENT if actor.username == people.MLFLOW_CLIENT else Rank.PERSON
    if free or (proposes and rank is Rank.CLIENT):
        rank = Rank.ANYBODY
    slot = slots.take(signoff.database, ref.name, holder=actor.username, purpose=purpose, rank=rank)
    try:
        if intents.recover(signoff, slot):
            mirror.flush(signoff)
        yield slot
    except OutcomeUnknown:
        raise
    except BaseException:
        _give_back(signoff, slot)
        raise
    else:
        _give_back(signoff, slot)


def _give_back(signoff: Signoff, slot: Slot) -> None:
    # Without the database it runs out; what has been done or refused is not to be told as an outage.
    with suppress(LedgerUnavailable), signoff.database.writing() as connection:
        slots.release(connection, slot)


def sign(
    signoff: Signoff, policy: Policy, seen: Facts, actor: Actor, action: Action, password: SecretStr | None
) -> ElectronicSignature | None:
    """Sign an act on what was just read; None where the policy asks for no signature, or there is no password.

    Raises:
        WrongCredentials: the password is wrong, or the account is locked.
        Refused: this process cannot check a password.
    """
    if not signing.asked(policy, action) or password is None:
        return None
    if signoff.passwords is None:
        raise Refused("Passwords cannot be checked here, so nothing can be signed here.")
    name = sessions.reauthenticate(signoff.database, actor.username, password.get_secret_value(), signoff.passwords)
    return ElectronicSignature(
        username=actor.username,
        printed_name=name,
        meaning=signing.meaning(policy, action),
        act=Act.of(action, policy, seen),
        at=signoff.now(),
    )


def signature_needed(
    signoff: Signoff, policy: Policy, seen: Facts, actor: Actor, action: Action, password: SecretStr | None
) -> ElectronicSignature | None:
    """`sign`, for what the gate does not judge: raises `GateRefused` where the policy asks and nobody signed."""
    signature = sign(signoff, policy, seen, actor, action, password)
    if signing.asked(policy, action):
        check = signed(Act.of(action, policy, seen), actor, signature, seen.now)
        if not check.passed:
            raise GateRefused(f"{seen.candidate.ref}: {check.reason}", Verdict(checks=(check,)))
    return signature


def context(policy: Policy, seen: Facts, signature: ElectronicSignature | None = None) -> dict[str, Any]:
    """What an event about a judged version carries, as plain JSON."""
    candidate, champion = seen.candidate, seen.champion
    return {
        **({"signature": signature.as_json()} if signature else {}),
        "identity": candidate.version.identity,
        "run_id": candidate.version.run_id,
        "model_id": candidate.logged_model_id,
        "source_uri": candidate.version.source,
        "place": candidate.place.as_json() if candidate.place else None,
        "claimed_author": seen.author,
        "registered_by": candidate.version.tags.get(mirror.REGISTERED_BY) or None,
        "manifest_digest": candidate.manifest.digest if candidate.manifest else None,
        "manifest_size": candidate.manifest.size if candidate.manifest else None,
        "policy": policy.label,
        "policy_digest": policy.digest,
        "metrics": metrics(candidate),
        "datasets": datasets(candidate),
        "champion": champion.ref.version if champion else None,
        "champion_metrics": metrics(champion) if champion else {},
        **({"approved_automatically": True} if gate.automatic(policy, seen) else {}),
        "binding": bound(policy, seen).as_json(),
        "approvals": votes(policy, seen, APPROVED),
        **({"changes_requested": asked} if (asked := votes(policy, seen, CHANGES_REQUESTED)) else {}),
        "facts": recorded(policy, seen),
    }


def refuse_before_files(
    signoff: Signoff,
    policy: Policy,
    seen: Facts,
    *,
    actor: Actor | None = None,
    unsigned: bool = False,
    emergency: Waiver | None = None,
) -> None:
    """Raise `GateRefused` where a check that needs no file refuses for certain: then none is read.

    The refusal has every check where the files are known from before; else those that need no file, and the record
    says nothing of the rest, so that nobody judges it again by what was never looked at.
    """
    judge = partial(gate.before_files, policy, actor=actor, unsigned=unsigned, emergency=emergency)
    verdict = judge(seen)
    if verdict is None:
        return
    known = replace(
        seen,
        candidate=signoff.reader.with_known_files(seen.candidate),
        champion=signoff.reader.with_known_files(seen.champion) if seen.champion else None,
    )
    if known.candidate.manifest is not None:
        raise gate_refused(policy, known, judge(known) or verdict)
    version = seen.candidate.version
    raise GateRefused(
        _refused(seen, verdict),
        verdict,
        {"identity": version.identity, "policy": policy.label, "policy_digest": policy.digest},
    )


def gate_refused(policy: Policy, seen: Facts, verdict: Verdict) -> GateRefused:
    """The refusal of a promotion, with all that was judged."""
    return GateRefused(_refused(seen, verdict), verdict, context(policy, seen))


def _refused(seen: Facts, verdict: Verdict) -> str:
    return f"{seen.candidate.ref} may not go to Production. {verdict.summary()}"
