"""The verb that decides which policy judges a registered model: keep the assigned one, or change to another."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from services import assignments
from services.accounts import people, permissions
from services.domain import Action, Actor, Source, VersionRef
from services.errors import BadInput, NotFound, Refused
from services.policy import Policy
from services.record import ledger, mirror
from services.record.ledger import Entry, Filter, Kind
from services.signoff import Signoff
from services.steps import effects, slots
from services.verbs.common import acting, refusals_recorded, slot_held, words
from services.verbs.reviews import Outcome


def assign(
    signoff: Signoff, ref: VersionRef, *, policy: str, by: str, reason: str, source: Source = Source.BROWSER
) -> Outcome:
    """Let a policy judge the model of ``ref`` alone, whatever its tags and name choose at this moment.

    Naming the assigned policy keeps it, naming another one changes to that. What tags or name choose later judges
    beside it again. Deciding what is so already changes nothing.

    Args:
        policy: the name of a policy in force.

    Raises:
        Refused: this person asked MLflow for the tag that chooses the policy.
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
            before = assignments.assigned(connection, name)
            if before and before.policy == policy and passed_over in {None, before.passed_over}:
                return Outcome(ref=ref, event=None, message=f"Policy {policy} judges {name} already.")
            _not_their_own_wish(connection, actor, name, policy)
        with signoff.database.writing() as connection:
            slots.require(connection, slot)
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
            permissions.require(people.acting(connection, by, source), Action.ASSIGN_POLICY)
            assignments.decide(connection, name, policy, passed_over, event)
            effects.ask_for_new_approvals(connection, name, event)
    mirror.flush(signoff)
    return Outcome(ref=ref, event=event, message=f"Policy {policy} judges {name} from now on.")


def _named(signoff: Signoff, name: str) -> Policy:
    found = signoff.policies.named(name)
    if found is None:
        names = ", ".join(sorted(policy.rules.name for policy in signoff.policies.policies))
        raise BadInput(f"There is no policy named {name[:200]!r}; there are {names}.")
    return found


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
