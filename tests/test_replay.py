"""The tables beside the ledger: they say what the events say, and a row without its event decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from services import facts, tables
from services.accounts import people, sessions
from services.checks.bound import bound
from services.domain import Role, Source, VersionRef
from services.errors import NotAllowed, Refused
from services.evidence import FindingDraft, Severity
from services.record import checkpoints, mirror, replay
from services.record.ledger import Kind
from services.record.projections import KINDS
from services.record.projections.rows import compact
from services.signoff import Signoff
from services.tables import (
    accounts,
    decisions,
    emergencies,
    findings,
    metadata,
    policy_assignments,
    promotions,
    validations,
)
from tests import rich_history
from tests.conftest import BOTH, Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.test_releases import approve, release
from tests.validation import on_record
from tests.verbs import break_glass, releases, reviews

DATABASES = BOTH
V2 = VersionRef(name="m", version=2)
BLOCKING = FindingDraft(text="It answers with patients' names.", severity=Severity.BLOCKING)


def verify(signoff: Signoff) -> None:
    checkpoints.verify(signoff.database, checkpoints.trusted(signoff.database, signoff.settings))


def write(signoff: Signoff, *statements: Any) -> None:
    """What somebody with the database's password can do."""
    with signoff.database.writing() as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount  # of an INSERT PostgreSQL may say -1


def forged(signoff: Signoff, table: sa.Table, which: sa.ColumnElement[bool], **values: Any) -> None:
    """One more row, like one that is there but for ``values``."""

    def copy(connection: Connection) -> dict[str, Any]:
        return dict(connection.execute(sa.select(table).where(which)).mappings().one())

    with signoff.database.reading() as connection:
        row = copy(connection)
    write(signoff, table.insert().values(**row | values))


class TestReplay:
    @pytest.mark.postgresql
    def test_the_tables_are_what_the_events_say_after_everything_that_can_happen(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock
    ) -> None:
        played = rich_history.play(signoff, registry, clock)
        verify(played)
        with played.database.reading() as connection:
            happened = set(connection.execute(sa.text("SELECT DISTINCT kind FROM events")).scalars())
        rest = {"outside:alias", "outside:tag", "outside:files", "outside:evidence", "outside:renamed"}
        assert KINDS - happened == rest | {"outside:recreated", "account:disabled"}

    def test_each_kind_that_rows_follow_from_is_one(self) -> None:
        assert set(Kind) >= KINDS


class TestVerify:
    @pytest.mark.postgresql
    @pytest.mark.parametrize(
        ("statement", "named"),
        [
            (accounts.update().where(accounts.c.username == "viewer").values(roles=["admin"]), "accounts, row viewer"),
            (accounts.update().where(accounts.c.username == "viewer").values(name="X"), "accounts, row viewer, name"),
            (accounts.delete().where(accounts.c.username == "viewer"), "accounts, row viewer: the record says"),
            (promotions.update().values(version=7), "promotions, row"),
            (promotions.delete(), "promotions, row"),
            (policy_assignments.update().values(policy="multiclass"), "policy_assignments, row m, policy"),
            (validations.update().values(report="{}"), "validations, row"),
            (validations.update().values(report=None), "validations, row"),
            (sa.text("UPDATE policies SET text = 'x' WHERE name = 'default'"), "policies, row"),
            (sa.text("UPDATE submissions SET status = 'pending'"), "submissions, row"),
            (sa.text("UPDATE decisions SET expired = true"), "decisions, row"),
        ],
    )
    def test_names_what_is_not_as_the_record_says(
        self, signoff: Signoff, registry: FakeRegistry, statement: Any, named: str
    ) -> None:
        ref = release(signoff, registry.add_version("m", {"val_auc": 0.92}))
        on_record(signoff, ref)
        verify(signoff)
        write(signoff, statement)
        with pytest.raises(checkpoints.Differs, match=f"^Table {named}") as error:
            verify(signoff)
        assert len(error.value.differences) == 1

    @pytest.mark.postgresql
    def test_names_a_row_that_is_no_json(self, signoff: Signoff, registry: FakeRegistry) -> None:
        release(signoff, registry.add_version("m", {"val_auc": 0.92}))
        if signoff.database.engine.dialect.name != "sqlite":
            pytest.skip("Only SQLite takes such a text into a JSON column.")
        write(signoff, sa.text("UPDATE decisions SET binding = '{not json'"))
        with pytest.raises(checkpoints.Differs, match=r"^Table decisions, row .*, binding: "):
            verify(signoff)

    @pytest.mark.postgresql
    def test_names_a_row_that_says_the_digest_of_what_belongs_there(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        approve(signoff, registry.add_version("m", {"val_auc": 0.92}))
        with signoff.database.reading() as connection:
            binding = connection.execute(sa.select(decisions.c.binding)).scalar_one()
        write(signoff, decisions.update().values(binding=compact(binding)))
        with pytest.raises(checkpoints.Differs, match=r"^Table decisions, row .*, binding: "):
            verify(signoff)

    @pytest.mark.postgresql
    def test_passes_over_how_open_submissions_are_shown(self, signoff: Signoff, registry: FakeRegistry) -> None:
        approve(signoff, registry.add_version("m", {"val_auc": 0.92}))
        write(signoff, sa.text("UPDATE submissions SET status = 'expired'"))
        verify(signoff)


# ---- each forgery, and what it would let through ----------------------------------------------------------------


def promote(signoff: Signoff, by: str = "release_manager") -> None:
    releases.promote(signoff, V2, by=by, reason="Now.")


def an_approval(signoff: Signoff) -> None:
    reviews.submit(signoff, V2, by="scientist", comment="Please review.")
    policy, seen = facts.fresh(signoff, V2)
    assert seen.submission
    own = {"submission": seen.submission.id, "binding": bound(policy, seen).as_json()}
    forged(signoff, decisions, sa.true(), id=10**6, seq=seen.submission.seq, **own)


def a_release_managers_role(signoff: Signoff) -> None:
    approve(signoff, V2)
    write(signoff, accounts.update().where(accounts.c.username == "viewer").values(roles=["release_manager"]))


def a_reviewers_role(signoff: Signoff) -> None:
    reviews.submit(signoff, V2, by="scientist", comment="Please review.")
    write(signoff, accounts.update().where(accounts.c.username == "viewer").values(roles=["reviewer"]))


def a_promotion(signoff: Signoff) -> None:
    _, seen = facts.fresh(signoff, V2)
    assert seen.candidate.manifest
    own = {"version": 2, "identity": seen.candidate.version.identity, "manifest_digest": seen.candidate.manifest.digest}
    forged(signoff, promotions, sa.true(), id=10**6, intent="x", **own)


def no_request_for_changes(signoff: Signoff) -> None:
    approve(signoff, V2)
    reviews.request_changes(signoff, V2, by="reviewer2", comment="Not like this.")
    write(signoff, decisions.delete().where(decisions.c.person == "reviewer2"))


def sent_back_and_approved(signoff: Signoff) -> None:
    reviews.submit(signoff, V2, by="scientist", comment="Please review.")
    reviews.request_changes(signoff, V2, by="reviewer2", comment="Not like this.", findings=[BLOCKING])
    reviews.approve(signoff, V2, by="reviewer2", comment="All right.")


def no_finding(signoff: Signoff) -> None:
    sent_back_and_approved(signoff)
    write(signoff, findings.delete())


def an_answered_finding(signoff: Signoff) -> None:
    sent_back_and_approved(signoff)
    said = {
        "resolved_by": "reviewer",
        "resolved_by_id": "x",
        "resolved_at": "2026-11-01T09:00:00+00:00",
        "resolution": "Not so.",
    }
    write(signoff, findings.update().values(**said))


def an_account_that_was_disabled(signoff: Signoff) -> None:
    approve(signoff, V2)
    people.disable(signoff.database, "reviewer")
    write(signoff, accounts.update().where(accounts.c.username == "reviewer").values(disabled=False))


def an_emergency(signoff: Signoff) -> None:
    asked = break_glass.ask(signoff, V2, by="break_glass", reason="It answers nonsense.").event
    assert asked
    break_glass.withdraw(signoff, asked.seq, by="break_glass", comment="No.")
    forged(signoff, emergencies, emergencies.c.seq == asked.seq, seq=10**6, state="asked")


def no_assigned_policy(signoff: Signoff) -> None:
    approve(signoff, V2)
    write(signoff, policy_assignments.delete())


Forge = Callable[[Signoff], None]
Act = Callable[[Signoff], object]
FORGERIES: list[tuple[Forge, str, Act, str]] = [
    (an_approval, "decisions, row 1000000", promote, "promotion"),
    (a_release_managers_role, "accounts, row viewer", lambda s: promote(s, "viewer"), "promotion"),
    (
        a_reviewers_role,
        "accounts, row viewer",
        lambda s: reviews.approve(s, V2, by="viewer", comment="Looks right."),
        "approval",
    ),
    (
        a_promotion,
        "promotions, row 1000000",
        lambda s: releases.rollback(s, "m", by="release_manager", reason="Back.", version=2),
        "rollback",
    ),
    (no_request_for_changes, "decisions, row", promote, "promotion"),
    (no_finding, "findings, row", promote, "promotion"),
    (an_answered_finding, "findings, row", promote, "promotion"),
    (an_account_that_was_disabled, "accounts, row reviewer, disabled", promote, "promotion"),
    (
        an_emergency,
        "emergencies, row 1000000",
        lambda s: break_glass.confirm(s, 10**6, by="release_manager", comment="Yes."),
        "emergency",
    ),
    (no_assigned_policy, "policy_assignments, row m", promote, "promotion"),
]


@pytest.mark.parametrize(("forge", "named", "act", "subject"), FORGERIES, ids=[one[0].__name__ for one in FORGERIES])
class TestARowWithoutItsEvent:
    @pytest.fixture(autouse=True)
    def scene(self, signoff: Signoff, registry: FakeRegistry) -> None:
        """Version 1 in Production; version 2 is better."""
        release(signoff, registry.add_version("m", {"val_auc": 0.92}))
        registry.add_version("m", {"val_auc": 0.95})

    @pytest.mark.postgresql
    def test_decides_nothing_and_is_named(
        self, signoff: Signoff, registry: FakeRegistry, forge: Forge, named: str, act: Act, subject: str
    ) -> None:
        forge(signoff)
        before, version = len(record(signoff)), registry.version(V2)
        registry.writes.clear()
        with refused(named):
            act(signoff)
        assert kinds(signoff)[before:] == [f"{subject}:refused"]
        assert f"Table {named}" in record(signoff)[-1].comment
        assert registry.writes == []
        assert registry.version(V2) == version
        with pytest.raises(checkpoints.Differs, match=f"Table {named}"):
            verify(signoff)


def refused(named: str) -> AbstractContextManager[object]:
    return pytest.raises((Refused, NotAllowed), match=f"^Table {named}.*signoff ledger verify")


class TestAccounts:
    def test_a_role_without_its_event_opens_no_page_and_keeps_no_account(self, signoff: Signoff) -> None:
        key = sessions.session_key(sessions.open_session(signoff.database, "viewer", b"k" * 32), b"k" * 32)
        before = sessions.session_user(signoff.database, key)
        assert before
        assert before.roles == {Role.VIEWER}
        write(signoff, accounts.update().where(accounts.c.username == "viewer").values(roles=["admin"]))
        after = sessions.session_user(signoff.database, key)
        assert after
        assert after.roles == set()
        with pytest.raises(NotAllowed, match="Table accounts, row viewer, roles:"):
            people.acting(signoff.database, "viewer", Source.BROWSER)


class TestTags:
    @pytest.mark.postgresql
    def test_show_nothing_that_no_event_says(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        event = reviews.submit(signoff, ref, by="scientist", comment="Please.").event
        assert event
        mirror.flush(signoff)
        before = registry.version(ref).tags
        with signoff.database.writing() as connection:
            connection.execute(tables.submissions.update().values(manifest="f" * 64))
            mirror.ask(connection, ref, event.seq)
        assert mirror.flush(signoff) == 1
        assert registry.version(ref).tags == before


def test_every_column_is_compared_or_the_verification_says_that_it_is_not() -> None:
    of_the_record = {"events", "ledger_head", "ledger_identity", "checkpoints"}  # the verification is of these
    apart = {place for places in replay.UNSAID.values() for place in places} | set(replay.BY_DIGEST)
    compared = {table.name for table in replay.PROJECTED}
    for table in metadata.sorted_tables:
        if table.name not in of_the_record | compared | apart:
            assert {f"{table.name}.{column.name}" for column in table.c} <= apart
    known = {f"{table.name}.{column.name}" for table in metadata.sorted_tables for column in table.c}
    assert apart <= known | set(metadata.tables), "something is named that there is not"
    assert set(replay.UNSAID) < set(replay.NOT_DERIVED)
