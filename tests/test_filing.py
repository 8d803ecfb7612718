"""An event that is filed elsewhere, or gone, lets nothing past, and what counts for the same bytes is not forgotten."""

from __future__ import annotations

import hashlib
import json

import pytest
import sqlalchemy as sa

from services.accounts import on_record, people
from services.database import Database
from services.domain import Role, Source
from services.errors import LedgerBroken, NotAllowed, Refused
from services.record import filing, ledger
from services.record.activation import SYSTEM
from services.record.ledger import Entry, Kind
from services.signoff import Signoff
from services.tables import accounts, decisions, events, findings, policy_assignments, submissions
from services.verbs.findings import raised, resolve
from tests.conftest import BOTH
from tests.fakes import FakeRegistry
from tests.ledgers import drop_triggers, kinds
from tests.test_releases import release
from tests.test_replay import V2, promote, sent_back_and_approved, write
from tests.test_same_bytes import copy
from tests.verbs import policies, reconciler, releases, reviews
from verifier.canonical import canonical

DATABASES = BOTH
SENT_BACK = events.c.kind == Kind.CHANGES_REQUESTED


def without_triggers(signoff: Signoff, *statements: sa.Executable) -> None:
    """What somebody does who can write the database."""
    with signoff.database.writing() as connection:
        drop_triggers(connection)
    write(signoff, *statements)


@pytest.fixture
def scene(signoff: Signoff, registry: FakeRegistry) -> Signoff:
    """Version 1 in Production; version 2 is approved, with a finding that blocks it."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    registry.add_version("m", {"val_auc": 0.95})
    sent_back_and_approved(signoff)
    with pytest.raises(Refused, match="patients"):
        promote(signoff)
    return signoff


@pytest.fixture(params=["a process that read it before", "a new process"])
def process(scene: Signoff, request: pytest.FixtureRequest) -> Signoff:
    """What decides, before or after the record was changed."""
    if request.param == "a new process":
        scene.database.seals = Database.of(scene.settings).seals
    return scene


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(events.update().values(version=999), id="another version"),
        pytest.param(events.update().values(model="n"), id="another model"),
        pytest.param(events.update().values(kind="approval:given"), id="another kind"),
        pytest.param(events.update().values(body=sa.func.replace(events.c.body, '"m"', '"n"')), id="another body"),
        pytest.param(events.delete(), id="gone"),
    ],
)
def test_a_finding_whose_event_cannot_be_found_blocks_still(
    process: Signoff, registry: FakeRegistry, change: sa.Update | sa.Delete
) -> None:
    """The rows that follow from the event are gone as well."""
    before, version = kinds(process), registry.version(V2)
    sent_back = decisions.c.decision == "changes_requested"
    without_triggers(process, change.where(SENT_BACK), findings.delete(), decisions.delete().where(sent_back))
    registry.writes.clear()
    with pytest.raises(LedgerBroken, match=r"The record was tampered with\. Event #\d+|comes where #\d+ belongs"):
        promote(process)
    assert (registry.writes, registry.version(V2)) == ([], version)
    with process.database.reading() as connection:
        said = connection.execute(sa.select(events.c.kind).order_by(events.c.seq)).scalars().all()
    assert len(said) <= len(before) + 10
    assert said[-1] == before[-1]


def test_what_was_found_in_the_same_bytes_elsewhere_is_not_forgotten_with_its_rows(
    scene: Signoff, registry: FakeRegistry
) -> None:
    twin = copy(registry, V2, "twin")
    reviews.submit(scene, twin, by="scientist", comment="Please review.")
    reviews.approve(scene, twin, by="reviewer", comment="Looks right.")
    write(scene, findings.delete())
    registry.writes.clear()
    with pytest.raises(Refused, match=r"^Table findings, row .*: the record says that there is one"):
        releases.promote(scene, twin, by="release_manager", reason="Now.")
    assert registry.writes == []
    assert kinds(scene)[-1] == "promotion:refused"


@pytest.mark.postgresql
@pytest.mark.parametrize("fresh", [False, True], ids=["read before", "a new process"])
def test_a_role_that_was_taken_away_does_not_come_back(signoff: Signoff, registry: FakeRegistry, fresh: bool) -> None:
    """The event that took it away says it is about another account."""
    ref = registry.add_version("m", {"val_auc": 0.95})
    reviews.submit(signoff, ref, by="scientist", comment="Please review.")
    people.set_roles(signoff.database, "reviewer", [Role.VIEWER])
    with pytest.raises(NotAllowed):
        reviews.approve(signoff, ref, by="reviewer", comment="Fine.")
    before = kinds(signoff)
    mine = accounts.update().where(accounts.c.username == "reviewer").values(roles=["reviewer"])
    without_triggers(signoff, events.update().where(events.c.account == "reviewer").values(account="viewer"), mine)
    if fresh:
        signoff.database.seals = Database.of(signoff.settings).seals
    with pytest.raises(LedgerBroken, match=r"tampered with\. Event #\d+ is filed as something else than it says"):
        reviews.approve(signoff, ref, by="reviewer", comment="Fine.")
    with signoff.database.writing() as connection:
        connection.execute(events.update().where(events.c.account == "viewer").values(account="reviewer"))
    assert kinds(signoff) == before


@pytest.mark.postgresql
def test_a_policy_that_somebody_put_into_its_row_is_assigned_by_nobody(scene: Signoff, registry: FakeRegistry) -> None:
    write(scene, policy_assignments.update().values(policy="regression"))
    before = kinds(scene)
    with pytest.raises(Refused, match=r"^Table policy_assignments, row m: the record says default by #\d+"):
        policies.assign(scene, V2, policy="regression", by="release_manager", reason="It is so already.")
    assert kinds(scene) == [*before, "policy:refused"]


def test_a_model_whose_assignment_was_deleted_is_not_met_anew(scene: Signoff) -> None:
    write(scene, policy_assignments.delete())
    before = kinds(scene)
    reconciler.reconcile(scene)
    assert "policy:assigned" not in kinds(scene)[len(before) :]
    with scene.database.reading() as connection:
        assert connection.execute(sa.select(policy_assignments)).all() == []


def test_events_of_a_transaction_that_was_rolled_back_are_forgotten(signoff: Signoff) -> None:
    def assigned(model: str) -> Entry:
        return Entry(kind=Kind.POLICY_ASSIGNED, actor=SYSTEM, at=signoff.now(), details={"models": {model: "default"}})

    def told(connection: sa.Connection, model: str) -> list[str]:
        return [event.kind.value for event in filing.events(connection, filing.about_policy_of(model))]

    with signoff.database.engine.connect() as connection:
        connection.execution_options(seals=signoff.database.seals)
        ledger.append(connection, assigned("a"))
        ledger.append(connection, assigned("c"))
        assert told(connection, "a") == ["policy:assigned"]
        connection.rollback()
    with signoff.database.reading() as connection:
        assert told(connection, "a") == []
    with signoff.database.writing() as connection:
        ledger.append(connection, assigned("b"))
    with signoff.database.reading() as connection:
        assert [told(connection, model) for model in "abc"] == [[], ["policy:assigned"], []]


@pytest.mark.postgresql
def test_an_account_that_somebody_edited_is_not_made_true_by_the_next_change(signoff: Signoff) -> None:
    write(signoff, accounts.update().where(accounts.c.username == "viewer").values(roles=["admin"], name="X"))
    people.disable(signoff.database, "viewer")
    with signoff.database.reading() as connection:
        told = filing.events(connection, filing.about_account("viewer"))[-1]
    assert (told.get("roles_held"), told.get("disabled")) == (["viewer"], True)
    assert told.get("name") != "X"
    with signoff.database.reading() as connection:
        now = connection.execute(sa.select(accounts).where(accounts.c.username == "viewer")).one()
        assert on_record.differences(connection, [now]) == {}
    assert now.roles == ["viewer"]


@pytest.mark.postgresql
def test_accounts_are_not_recorded_anew_because_their_events_are_filed_elsewhere(signoff: Signoff) -> None:
    without_triggers(
        signoff,
        events.update().where(events.c.kind == "accounts:baseline").values(kind="policy:refused"),
        accounts.update().where(accounts.c.username == "viewer").values(roles=["admin"]),
    )
    signoff.database.seals = Database.of(signoff.settings).seals
    with signoff.database.reading() as connection:
        before = ledger.head(connection)
    on_record.baseline(signoff.database, at=signoff.now())
    with signoff.database.reading() as connection:
        assert ledger.head(connection) == before


@pytest.mark.postgresql
def test_another_genuine_event_of_the_same_number_counts_for_nothing(scene: Signoff, registry: FakeRegistry) -> None:
    """Somebody cuts the record off for a moment, has an event recorded, copies it, and puts all back."""
    with scene.database.reading() as connection:
        sent_back = connection.execute(sa.select(events).where(SENT_BACK)).mappings().one()
        body = json.loads(sent_back["body"]) | {"kind": "policy:refused", "model": None, "version": None}
        text = canonical(body).decode()
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        mac = ledger.seal(connection, fingerprint)
    twin = {"kind": "policy:refused", "model": None, "version": None, "body": text, "hash": fingerprint, "mac": mac}
    without_triggers(scene, events.update().where(SENT_BACK).values(**twin), findings.delete())
    registry.writes.clear()
    with pytest.raises(LedgerBroken, match=rf"Event #{sent_back['seq']} was replaced by another one"):
        promote(scene)
    assert registry.writes == []


@pytest.mark.postgresql
def test_who_is_barred_by_a_row_that_was_deleted_resolves_no_finding(scene: Signoff) -> None:
    people.set_roles(scene.database, "scientist", [Role.REVIEWER])
    (found,) = raised(scene, scene.registry.version(V2))
    write(scene, decisions.delete(), submissions.delete().where(submissions.c.version == 2))
    with pytest.raises(Refused, match=r"^Table submissions, row .*: the record says that there is one"):
        resolve(scene, V2, found.id, by="scientist", comment="Fine.", source=Source.BROWSER)
    assert kinds(scene)[-1] == "finding:refused"
