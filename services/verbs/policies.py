"""The verb that decides which policy judges a registered model: keep the assigned one, or change to another."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import agreement, assignments, bars, facts
from services.domain import Action, Actor, RegisteredModel, Source, VersionRef
from services.errors import BadInput, NotFound, Refused
from services.evidence import Evidence, Known
from services.policy import Assignment, Policy
from services.record import ledger, mirror
from services.record.ledger import Entry, Filter, Kind
from services.signoff import Signoff
from services.steps import effects, slots
from services.tables import submissions
from services.verbs.common import acting, refusals_recorded, slot_held, still_may, words
from services.verbs.reviews import Outcome


def assign(signoff: Signoff, ref: VersionRef, *, policy: str, by: str, reason: str, source: Source) -> Outcome:
    """Let a policy judge the model of ``ref`` alone: keep the assigned one, or change to the one chosen beside it.

    Tags and name choose it; where the hook refused the tag that would, that refusal names it. So one person alone
    brings no model under rules that nobody else's choice led to. What tags or name choose later judges beside it
    again. Deciding what is so already changes nothing.

    Args:
        policy: the name of one of the two.

    Raises:
        Refused: it is another policy; this person asked MLflow for the tag that chooses it, or may not vote on a
            version of the model that is in review.
        InvalidSettings: two policies of equal priority are for the model.
        BadInput, NotFound, NotAllowed, PromotionConflict, RegistryUnavailable, LedgerUnavailable.
    """
    reason, name = words(reason, "reason"), ref.name
    actor = acting(signoff, by, source, Action.ASSIGN_POLICY, ref, "policy")
    with (
        refusals_recorded(signoff, "policy", actor, ref),
        slot_held(signoff, ref, actor, f"deciding which policy judges {name}"[:200]) as slot,
    ):
        wanted, model = _named(signoff, policy), signoff.registry.model(name)
        chosen = signoff.policies.chosen(model)
        passed_over = chosen.rules.name if chosen and chosen.rules.name != policy else None
        with signoff.database.reading() as connection:
            agreement.require_assignment(connection, name)
            before = assignments.assigned(connection, name)
            _require_choice(connection, model, wanted, before, chosen)
            if before and before.policy == policy and passed_over in {None, before.passed_over}:
                return Outcome(ref=ref, event=None, message=f"Policy {policy} judges {name} already.")
            _not_their_own_wish(connection, actor, name, policy)
            in_review = _in_review(signoff, connection, name)
            _no_hand_in(connection, actor, in_review)
        with signoff.database.writing() as connection:
            slots.require(connection, slot)
            agreement.require_assignment(connection, name)
            event = ledger.append(
                connection,
                Entry(
                    kind=Kind.POLICY_ASSIGNED,
                    actor=actor,
                    at=signoff.now(),
                    ref=ref,
                    comment=reason,
                    details={
                        "policy": wanted.label,
                        "policy_digest": wanted.digest,
                        "assigned": policy,
                        "assigned_before": before.policy if before else None,
                        "passed_over": passed_over,
                    },
                ),
            )
            # Again, now that the ledger is locked.
            still_may(signoff, connection, actor, Action.ASSIGN_POLICY)
            _no_hand_in(connection, actor, in_review)
            effects.ask_for_new_approvals(connection, name, event)
    mirror.flush(signoff)
    instead = f" instead of {before.policy}" if before and before.policy != policy else ""
    alone = f"; {passed_over}, which tags and name choose, does not" if passed_over else ""
    message = f"Policy {policy} judges {name} from now on{instead}{alone}."
    return Outcome(ref=ref, event=event, message=message)


def _named(signoff: Signoff, name: str) -> Policy:
    found = signoff.policies.named(name)
    if found is None:
        names = ", ".join(sorted(policy.rules.name for policy in signoff.policies.policies))
        raise BadInput(f"There is no policy named {name[:200]!r}; there are {names}.")
    return found


def _require_choice(
    connection: Connection,
    model: RegisteredModel,
    wanted: Policy,
    assigned: Assignment | None,
    chosen: Policy | None,
) -> None:
    """Refuses a policy that is neither assigned nor chosen, and says how to choose it."""
    policy, keeps = wanted.rules.name, assigned.policy if assigned else None
    changes_to = chosen.rules.name if chosen else None
    if policy in {keeps, changes_to} or (assigned and _wished(connection, assigned, model.name, policy)):
        return
    tags = [f"{key}={value}" for key, value in sorted(wanted.rules.applies_to.tags.items())]
    how = f"set the tag {' or '.join(tags)} on the registered model in MLflow" if tags else "change its applies_to"
    raise Refused(
        f"Policy {policy} cannot be named for {model.name}: {keeps or 'no policy'} is assigned to it, and its tags and "
        f"name choose {changes_to or 'none'}; to choose {policy}, {how} first."
    )


def _wished(connection: Connection, assigned: Assignment, model: str, policy: str) -> bool:
    """Whether the hook refused a tag that chooses this policy since the last decision, and so left it to this one."""
    asked = ledger.events(
        connection,
        Filter(kinds=(Kind.ADMISSION_REFUSED,), since=datetime.fromisoformat(assigned.at)),
        limit=None,
    )
    tags = (event.get("policy_tag") for event in asked if event.seq > assigned.seq)
    return any(_wish(tag) == (model, policy) for tag in tags if tag)


def _in_review(signoff: Signoff, connection: Connection, name: str) -> list[tuple[Known, Evidence | None]]:
    """Every version of a model that is in review, and what MLflow says of it; None where it is gone there."""
    query = sa.select(submissions).where(submissions.c.model == name, submissions.c.status.in_(facts.OPEN))
    found: list[tuple[Known, Evidence | None]] = []
    for known in [Known.of_row(row) for row in connection.execute(query)]:
        try:
            found.append((known, signoff.reader.without_files(signoff.registry.version(known.ref))))
        except NotFound:
            found.append((known, None))
    return found


def _no_hand_in(connection: Connection, actor: Actor, in_review: Iterable[tuple[Known, Evidence | None]]) -> None:
    """Refuses who may not vote on one of these versions: rules are part of the judgement."""
    for known, evidence in in_review:
        agreement.require_review(connection, known)
        barred = dict(bars.recorded(connection, known))
        if evidence:
            barred.update(bars.of_candidate(connection, evidence, bars.author_of(connection, evidence)))
        if why := barred.get(actor.person or "") or barred.get(actor.username):
            raise Refused(
                f"{known.ref} is in review, and {why}; "
                f"another release manager must decide which policy judges {known.ref.name}."
            )


def _not_their_own_wish(connection: Connection, actor: Actor, model: str, policy: str) -> None:
    """Refuses who asked MLflow for the tag that chooses this policy, where MLflow had authenticated them."""
    asked = ledger.events(connection, Filter(actor=actor.username, kinds=(Kind.ADMISSION_REFUSED,)), limit=None)
    if any(event.get("policy_tag") and _wish(event.get("policy_tag")) == (model, policy) for event in asked):
        raise Refused(
            f"{actor.username} asked MLflow for the tag that chooses policy {policy} for {model}; "
            "another release manager must decide that."
        )


def _wish(tag: dict[str, str]) -> tuple[str, str]:
    return tag["model"], tag["chooses"]


def newest(signoff: Signoff, name: str) -> VersionRef:
    """The version that a decision about a whole model is recorded with: its newest; raises `NotFound` without one."""
    versions = signoff.registry.versions(name)
    if not versions:
        raise NotFound(f"{name} has no version yet, so there is nothing that a policy judges.")
    return versions[-1].ref
