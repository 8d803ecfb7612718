"""A short record with an event of nearly every kind that rows follow from, and what the tables hold after it.

``python -m tests.rich_history FOLDER`` writes the record as an export, its public key and the tables. Run on the last
commit before events of format 2, 65ca2f5, it wrote ``tests/fixtures/ledger_format_1.*``, which is kept for ever. So it
uses nothing that was not there then.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services import expiry, facts, tables
from services.accounts import keeping, people, tokens
from services.domain import Actor, Dataset, Role, Source, VersionRef
from services.errors import Refused
from services.evidence import FindingDraft, Severity
from services.policy import PolicyBook, parse
from services.reconciliation.redress import adopt, restore
from services.record import checkpoints
from services.record.deviations import open_deviations
from services.record.export import export
from services.settings import PROJECT
from services.signoff import Signoff
from services.verbs.statements import state_dataset
from tests.conftest import Clock, add_people, settings_in
from tests.fakes import HOLDOUT, FakeRegistry
from tests.validation import on_record
from tests.verbs import break_glass, findings, policies, reconciler, releases, reviews

CLIENT = Actor(username="mlflow-client", name="A client", roles=frozenset(), source=Source.MLFLOW_CLIENT)
EXPIRING = """
name: expiring
title: Approvals that grow old
applies_to: {names: ["old*"]}
metrics: [{name: val_auc, greater_is_better: true, threshold: 0.9}]
same_dataset: false
signature: false
approvals: [{role: reviewer, count: 1}]
approvals_expire_after_days: 1
promoted_by: [release_manager]
"""
TABLES = (
    tables.submissions,
    tables.decisions,
    tables.findings,
    tables.statements,
    tables.promotions,
    tables.emergencies,
    tables.validations,
    tables.policy_assignments,
    tables.deviations,
    tables.accounts,
)


def play(signoff: Signoff, registry: FakeRegistry, clock: Clock) -> Signoff:
    """Let it happen; returns the same with the policies that it ends with."""
    expiring = parse(EXPIRING, "expiring.yaml")
    signoff = replace(signoff, policies=PolicyBook(policies=(*signoff.policies.policies, expiring)))
    _accounts(signoff)
    _reviews(signoff, registry)
    _emergencies(signoff, registry)
    _policies(signoff, registry)
    _deviations(signoff, registry)
    old = registry.add_version("old", {"val_auc": 0.95})
    submit(signoff, old)
    approve(signoff, old, "reviewer")
    clock.now += timedelta(days=2)
    policy, seen = facts.fresh(signoff, old)
    assert expiry.mark(signoff, policy, seen) == 1
    return signoff


def submit(signoff: Signoff, ref: VersionRef, by: str = "scientist") -> None:
    reviews.submit(signoff, ref, by=by, comment=f"Please review v{ref.version}.")


def approve(signoff: Signoff, ref: VersionRef, by: str) -> None:
    reviews.approve(signoff, ref, by=by, comment="Looks right.")


def _accounts(signoff: Signoff) -> None:
    admin = people.acting(signoff.database, "admin", Source.BROWSER)
    new = {"username": "newcomer", "name": "Nora New", "roles": [Role.SCIENTIST, Role.REVIEWER], "hashed": "!"}
    keeping.add(signoff.database, by=admin, **new, at=signoff.now())
    service = {"username": "pipeline", "name": "Nightly", "roles": [Role.SCIENTIST], "hashed": None}
    keeping.add(signoff.database, by=admin, **service, at=signoff.now())
    keeping.set_roles(signoff.database, by=admin, username="newcomer", roles=[Role.REVIEWER], at=signoff.now())
    key = signoff.settings.secret_key
    tokens.create(signoff.database, key, by=admin, username="pipeline", name="laptop", at=signoff.now())


def _reviews(signoff: Signoff, registry: FakeRegistry) -> None:
    first, second = (registry.add_version("m", {"val_auc": value}) for value in (0.92, 0.95))
    submit(signoff, first)
    approve(signoff, first, "reviewer")
    releases.promote(signoff, first, by="release_manager", reason="First release.")

    submit(signoff, second, "both")
    drafts = [
        FindingDraft(text="Trained on the test set.", severity=Severity.BLOCKING),
        FindingDraft(text="Say on whom.", severity=Severity.MINOR, owner="both"),
    ]
    reviews.request_changes(signoff, second, by="reviewer", comment="Not like this.", findings=drafts)
    raised = sorted(facts.fresh(signoff, second)[1].findings, key=lambda finding: finding.text)
    with suppress(Refused):
        releases.promote(signoff, second, by="release_manager", reason="Now.")
    submit(signoff, second, "both")
    reviews.request_changes(signoff, second, by="newcomer", comment="Which data was it?")
    approve(signoff, second, "newcomer")
    for finding in raised:
        findings.resolve(signoff, second, finding.id, by="reviewer2", comment="Not so any more.")
    findings.reopen(signoff, second, raised[0].id, by="reviewer2", comment="It is.")
    findings.resolve(signoff, second, raised[0].id, by="reviewer", comment="Trained anew.")
    approve(signoff, second, "reviewer2")
    on_record(signoff, second)
    releases.promote(signoff, second, by="release_manager", reason="Fewer misses.")
    releases.rollback(signoff, "m", by="release_manager", reason="It answers slowly.")

    third, fourth, fifth = (registry.add_version("m", {"val_auc": 0.96}) for _ in range(3))
    submit(signoff, third)
    reviews.reject(signoff, third, by="reviewer", comment="Never.")
    submit(signoff, fourth)
    reviews.withdraw(signoff, fourth, by="scientist", comment="Not yet.")
    reviews.propose(signoff, fifth, actor=CLIENT, comment="Proposed by an MLflow client.")
    submit(signoff, fifth)
    approve(signoff, fifth, "reviewer")
    releases.archive(signoff, third, by="release_manager", reason="Too many.")

    silent = registry.add_version("n", {"val_auc": 0.92}, dataset=None)
    submit(signoff, silent)
    approve(signoff, silent, "reviewer")
    releases.promote(signoff, silent, by="release_manager", reason="First of n.")
    words = "It is in the notebook of that day."
    state_dataset(signoff, silent, HOLDOUT, by="reviewer", comment=words, source=Source.BROWSER)
    other = Dataset(name="other", digest="bbbbbbbb", context="eval")
    state_dataset(signoff, silent, other, by="newcomer", comment=words, source=Source.BROWSER)


def _emergencies(signoff: Signoff, registry: FakeRegistry) -> None:
    weak = registry.add_version("m", {"val_auc": 0.85})
    submit(signoff, weak)
    withdrawn = break_glass.ask(signoff, weak, by="break_glass", reason="It answers nonsense.").event
    assert withdrawn
    break_glass.withdraw(signoff, withdrawn.seq, by="break_glass", comment="No, it does not.")
    break_glass.ask(signoff, weak, by="break_glass", reason="It answers nonsense since noon.")
    registry.write_file(weak, "model.pkl", b"other bytes")
    asked = break_glass.ask(signoff, weak, by="break_glass", reason="It does, and here is a mended one.").event
    assert asked
    break_glass.confirm(signoff, asked.seq, by="release_manager", comment="Agreed.")
    break_glass.review(signoff, asked.seq, by="auditor", comment="It was one.", justified=True)


def _policies(signoff: Signoff, registry: FakeRegistry) -> None:
    registry.add_version("classes", {"val_auc": 0.95, "val_accuracy": 0.95})
    assert reconciler.reconcile(signoff).baseline
    model = registry._models["classes"]
    registry._models["classes"] = replace(model, tags={**model.tags, "task": "multiclass"})
    ref = VersionRef(name="classes", version=1)
    policies.assign(signoff, ref, policy="multiclass", by="release_manager", reason="It has several.")


def _deviations(signoff: Signoff, registry: FakeRegistry) -> None:
    moved, gone = (registry.add_version("d", {"val_auc": 0.95}) for _ in range(2))
    submit(signoff, gone)
    reconciler.reconcile(signoff)
    registry.set_stage(moved, "Archived")
    reconciler.reconcile(signoff)
    (found,) = open_deviations(signoff, "d")
    restore(signoff, found.id, by="release_manager", reason="Nobody asked for it.", source=Source.BROWSER)
    registry.set_stage(moved, "Archived")
    reconciler.reconcile(signoff)
    registry.set_stage(moved, "None")
    reconciler.reconcile(signoff)
    registry.set_stage(moved, "Archived")
    registry.drop_version(gone)
    reconciler.reconcile(signoff)
    for one in open_deviations(signoff, "d"):
        adopt(signoff, one.id, by="release_manager", reason="It may stay so.", source=Source.BROWSER)
    registry.set_stage(moved, "Staging")
    reconciler.reconcile(signoff)
    registry.set_stage(moved, "None")
    reconciler.reconcile(signoff)
    assert len(open_deviations(signoff, "d")) == 1


def held(signoff: Signoff) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table that follows from the record, by what is no number of a database's own."""
    with signoff.database.reading() as connection:
        return {table.name: [dict(row._mapping) for row in connection.execute(sa.select(table))] for table in TABLES}


def main(folder: Path) -> None:
    """Write the three files."""
    clock, registry = Clock(), FakeRegistry()
    with tempfile.TemporaryDirectory() as home:
        settings = settings_in(Path(home), SIGNOFF_SECRET_KEY="s" * 32, SIGNOFF_POLICIES=str(PROJECT / "policies"))
        signoff = Signoff.wire(settings=settings, registry=registry, now=clock)
        add_people(signoff)
        played = play(signoff, registry, clock)
        _, lines = export(signoff.database, settings, at=datetime(2026, 11, 28, tzinfo=UTC))
        (folder / "ledger_format_1.jsonl").write_bytes(b"".join(lines))
        (folder / "ledger_format_1.pub").write_bytes(checkpoints.public_key_file(settings).read_bytes())
        (folder / "ledger_format_1.json").write_text(json.dumps(held(played), sort_keys=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
