"""What a reviewer states about a champion: the data set it was measured on, where neither run nor record names one.

A statement is a person's word. It is shown as one everywhere, belongs to exactly that version, is part of what
approvals are bound to, and counts for no candidate in which the person had a hand (see `services.evidence.Facts`).
"""

from __future__ import annotations

from services import champions, facts, recount
from services.checks.data_sets import silent
from services.domain import Action, Dataset, ModelVersion, Source, Status, VersionRef
from services.errors import BadInput, Refused
from services.evidence import Statement
from services.letters import blank
from services.record import ledger, mirror
from services.record.ledger import Entry, Event, Kind
from services.signoff import Signoff
from services.verbs.common import acting, refusals_recorded, still_may, words
from services.verbs.reviews import Outcome
from services.views import inbox

MAX_NAME, MAX_DIGEST = 500, 64
"""Characters of a data set's name and digest; MLflow's own digests have eight."""


def state_dataset(
    signoff: Signoff,
    ref: VersionRef,
    dataset: Dataset | None,
    *,
    by: str,
    comment: str,
    source: Source,
) -> Outcome:
    """State on which data set the champion ``ref`` was measured. The last word of each person counts.

    Stating the same again changes nothing. Approvals of versions that are compared with this champion are void by it.

    Raises:
        Refused: it is not the champion, or it names its data set itself.
        BadInput: no name or digest, or one that cannot be.
        NotFound, NotAllowed, RegistryUnavailable, LedgerUnavailable, InvalidSettings: nothing was changed.
    """
    comment = words(comment, "comment")
    name = _part(dataset.name if dataset else "", "name of the data set", MAX_NAME)
    digest = _part(dataset.digest if dataset else "", "digest of the data set", MAX_DIGEST)
    actor = acting(signoff, by, source, Action.STATE_DATASET, ref, "statement")
    with refusals_recorded(signoff, "statement", actor, ref):
        version = _silent_champion(signoff, ref)
        with signoff.database.writing() as connection:
            ledger.lock(connection)
            still_may(signoff, connection, actor, Action.STATE_DATASET)
            known = champions.stated(connection, [version]).get(version.identity, ())
            if any(one.person == actor.person and (one.dataset, one.digest) == (name, digest) for one in known):
                return Outcome(ref=ref, event=None, message=f"{by} has already stated that of {ref}.")
            event = ledger.append(
                connection,
                Entry(
                    kind=Kind.STATEMENT_RECORDED,
                    actor=actor,
                    at=signoff.now(),
                    ref=ref,
                    comment=comment,
                    details={
                        "identity": version.identity,
                        "run_id": version.run_id,
                        "stated": {"dataset": name, "digest": digest},
                    },
                ),
            )
    _ask_for_new_approvals(signoff, ref, event)
    return Outcome(ref=ref, event=event, message=f"It is stated that {ref} was measured on {name} ({digest[:8]}).")


def about(signoff: Signoff, version: ModelVersion) -> tuple[Statement, ...]:
    """The last statement of each person about exactly this version, oldest first."""
    with signoff.database.reading() as connection:
        return champions.stated(connection, [version]).get(version.identity, ())


def _silent_champion(signoff: Signoff, ref: VersionRef) -> ModelVersion:
    """The champion itself, where it names no data set."""
    policy, champion = facts.champion(signoff, ref.name)
    if champion is None or champion.ref != ref:
        signoff.registry.version(ref)
        raise Refused(f"{ref} is not the champion; the data set of a champion is all that can be stated.")
    if champion.holdout and not silent(policy, champion):
        named = ", ".join(f"{one.name} ({one.digest[:8]})" for one in champion.holdout)
        raise Refused(f"{ref} names its data set itself: {named}. A statement would change nothing.")
    if not any(one.rules.same_dataset for one in policy.each):
        raise Refused(f"Policy {policy.rules.name} compares no data sets. A statement would change nothing.")
    return champion.version


def _ask_for_new_approvals(signoff: Signoff, ref: VersionRef, event: Event) -> None:
    """Let what was approved before wait for review again, where the statement lets a check pass that had failed."""
    approved = inbox.queue(signoff, Status.APPROVED, Status.AUTO_APPROVED, name=ref.name)
    recount.again(signoff, approved, event.seq)
    mirror.flush(signoff)


def _part(text: str, what: str, limit: int) -> str:
    stripped = text.strip()
    if blank(stripped):
        raise BadInput(f"The {what} is needed.")
    if len(stripped) > limit or not stripped.isprintable():
        raise BadInput(f"The {what} must be at most {limit} printable characters.")
    return stripped
