"""A vote, a finding, a release count only with their event: what decides is replayed and compared before it decides.

A person who can write our tables can write any row. `require` is asked in the transaction that records a decision, and
reads the events of the versions that the decision rests on, not the whole ledger: `signoff ledger verify` does that.
What `people.acting` does for the person who acts, it does for those whose votes and statements count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import bars
from services.accounts import on_record
from services.domain import VersionRef
from services.errors import LedgerBroken, Refused
from services.evidence import Facts, Known
from services.record import filing
from services.record.agreed import refuse, require_rows
from services.record.projections import project
from services.record.projections.rows import Replayed
from services.signoff import Signoff
from services.tables import (
    accounts,
    decisions,
    findings,
    policy_assignments,
    promotions,
    statements,
    submissions,
)
from services.verdict import Check, Verdict

_CHAMPION = (promotions, statements)
_ELSEWHERE = (submissions, decisions, findings)
_DIFFERS = Check(
    id="agreement",
    title="Database agrees with the record",
    passed=False,
    value="a row differs",
    threshold="every row as its event says",
    reason="",
)


def require(connection: Connection, now: Facts) -> None:
    """Raise `Refused` where a row that a decision rests on is not what the events say, and name the row."""
    candidate, champion = now.candidate, now.champion
    require_review(connection, Known.of(candidate))
    if champion:
        require_rows(connection, champion.ref, _CHAMPION)
    require_assignment(connection, candidate.ref.name)
    persons = {vote.person_id for vote in now.decisions}
    persons |= {statement.person for statement in champion.stated} if champion else set()
    if persons:
        known = connection.execute(sa.select(accounts).where(accounts.c.person.in_(persons))).all()
        refuse(on_record.differences(connection, known).values())


def require_review(connection: Connection, known: Known) -> None:
    """The same for what was said in reviews of a version and others of the same bytes, and who had a hand in them."""
    require_rows(connection, known.ref)
    for ref in _same_elsewhere(connection, known):
        require_rows(connection, ref, _ELSEWHERE)


def require_assignment(connection: Connection, model: str) -> None:
    """The same for which policy judges a model."""
    refuse(assignment(connection, model))


def told(signoff: Signoff, verdict: Verdict, now: Facts) -> Verdict:
    """The verdict as a promotion would have it: it fails as well where `require` refuses, and says what differs."""
    try:
        with signoff.database.reading() as connection:
            require(connection, now)
    except (Refused, LedgerBroken) as error:
        return Verdict(checks=(*verdict.checks, replace(_DIFFERS, reason=str(error))))
    return verdict


def _same_elsewhere(connection: Connection, known: Known) -> set[VersionRef]:
    """Other versions of the same bytes, run or logged model, whose findings and decisions count here as well."""
    said = filing.events(connection, *filing.about_bytes(known.manifest, known.run_id, known.model_id))
    found = {event.ref for event in said if event.ref}
    for table in (submissions, findings):
        rows = connection.execute(sa.select(table.c.model, table.c.version).where(bars.same(known, table)).distinct())
        found |= {VersionRef(name=row.model, version=row.version) for row in rows}
    return found - {known.ref}


def assignment(connection: Connection, model: str) -> Iterator[str]:
    """In a sentence, where the policy that judges a model is not the one that the record assigned last."""
    table = policy_assignments
    row = connection.execute(sa.select(table).where(table.c.model == model)).mappings().one_or_none()
    replayed = Replayed()
    for event in filing.events(connection, filing.about_policy_of(model)):
        project(replayed, event)
    said = replayed.taken(table).get(model)
    if (dict(row) if row else None) != said:
        told = {"policy": None, "seq": None} | (said or {}), {"policy": None, "seq": None} | dict(row or {})
        words = [f"{one['policy']} by #{one['seq']}" if one["policy"] else "none" for one in told]
        yield f"Table policy_assignments, row {model}: the record says {words[0]}, the table {words[1]}."
