"""Versions and models that are to be deleted or renamed in MLflow: what is recorded stays, what was proposed ends."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy.engine import Connection

from services import facts
from services.admission import standing
from services.admission.calls import Call, Told, What
from services.domain import Actor, ModelVersion
from services.errors import Refused
from services.record import ledger, mirror
from services.record.ledger import Entry, Kind
from services.signoff import Signoff


def require(signoff: Signoff, call: Call, actor: Actor) -> None:
    """Raise `Refused` unless no version concerned serves, or has a record of more than a client's proposal.

    What is only proposed keeps nothing: anybody may propose, and a model could never be deleted again. The proposal
    ends on record, by whom the call is; nobody can take it over any more.
    """
    done = "renamed" if call.what is What.MODEL_RENAMED else "deleted"
    for told in call.told:
        scene = standing.scene(signoff, told.model, told.versions)
        versions = _concerned(told, call)
        for version in versions:
            if scene.serves(version.ref.version):
                stage = scene.policy.rules.champion.stage
                raise Refused(
                    f"{version.ref} is in {stage}, so it cannot be {done}. Archive it first.", about=version.ref
                )
        if scene.standings:
            with signoff.database.writing() as connection:
                ledger.lock(connection)  # a person may submit or decide on it right now
                _require_none_kept(connection, versions, done)
                for version in versions:
                    _end(signoff, connection, version, actor, done)


def _concerned(told: Told, call: Call) -> tuple[ModelVersion, ...]:
    if call.version is None:
        return told.versions
    return tuple(version for version in told.versions if version.ref.version == call.version)


def _require_none_kept(connection: Connection, versions: Iterable[ModelVersion], done: str) -> None:
    for version in versions:
        if version.identity in standing.kept(connection, version.ref.name):
            raise Refused(
                f"{version.ref} has a record, so it cannot be {done}: what is recorded must stay to be found.",
                about=version.ref,
            )


def _end(signoff: Signoff, connection: Connection, version: ModelVersion, actor: Actor, done: str) -> None:
    proposal = facts.open_submission(connection, version)
    if proposal is None:
        return
    event = ledger.append(
        connection,
        Entry(
            kind=Kind.WITHDRAWAL_CONFIRMED,
            actor=actor,
            at=signoff.now(),
            ref=version.ref,
            comment=f"It is {done} in MLflow, and nobody answered for the proposal.",
            details={"identity": version.identity, "submission": proposal.id},
        ),
    )
    mirror.ask(connection, version.ref, event.seq)
