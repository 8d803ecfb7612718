"""Who acted is a person with an id that never changes; a username is how an account is called."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from services.accounts import on_record, people
from services.domain import Role, Source, VersionRef
from services.errors import BadInput, Refused, SelfApproval
from services.evidence import FindingDraft, Severity
from services.gate import GateRefused
from services.record import ledger
from services.record.ledger import Kind
from services.signoff import Signoff
from services.tables import accounts, decisions, submissions
from services.verbs.findings import resolve
from tests.conftest import BOTH
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.verbs import findings, releases, reviews

DATABASES = BOTH


@pytest.fixture
def candidate(registry: FakeRegistry) -> VersionRef:
    """A good version nobody has submitted yet."""
    return registry.add_version("m", {"val_auc": 0.95})


@pytest.fixture
def second_name(signoff: Signoff) -> str:
    """A second account of the person who is ``scientist``, as single sign-on would add one."""
    return _second_account(signoff, "scientist", "sam@example.org", Role.REVIEWER)


def _second_account(signoff: Signoff, of: str, username: str, *roles: Role) -> str:
    people.add_account(signoff.database, username=username, name="The same", hashed="!", roles=roles)
    with signoff.database.writing() as connection:
        person = connection.execute(sa.select(accounts.c.person).where(accounts.c.username == of)).scalar_one()
        on_record.change(connection, Kind.ACCOUNT_CHANGED, username, "They are one person.", person=person)
    return username


def _person(signoff: Signoff, username: str) -> str:
    with signoff.database.reading() as connection:
        return str(connection.execute(sa.select(accounts.c.person).where(accounts.c.username == username)).scalar_one())


class TestIds:
    @pytest.mark.postgresql
    def test_each_account_is_made_with_one_of_its_own(self, signoff: Signoff) -> None:
        with signoff.database.reading() as connection:
            ids = list(connection.execute(sa.select(accounts.c.person)).scalars())
        assert len(set(ids)) == len(ids)
        assert not set(ids) & {row.username for row in people.listed(signoff.database)}

    def test_an_event_names_the_format_and_the_id_beside_the_username(
        self, signoff: Signoff, candidate: VersionRef
    ) -> None:
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        last = record(signoff)[-1]
        assert last.body["format"] == 2
        assert (last.actor, last.person) == ("scientist", _person(signoff, "scientist"))

    def test_what_is_nobodys_account_has_none(self, signoff: Signoff) -> None:
        with signoff.database.reading() as connection:
            first = ledger.event(connection, 1)
        assert first
        assert (first.actor, first.person) == ("signoff", None)

    @pytest.mark.postgresql
    def test_submission_and_vote_keep_the_id(self, signoff: Signoff, candidate: VersionRef) -> None:
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        reviews.approve(signoff, candidate, by="reviewer", comment="Good.")
        with signoff.database.reading() as connection:
            submitted = connection.execute(sa.select(submissions.c.submitted_by_id)).scalar_one()
            voted = connection.execute(sa.select(decisions.c.person_id)).scalar_one()
        assert (submitted, voted) == (_person(signoff, "scientist"), _person(signoff, "reviewer"))

    def test_a_username_is_never_given_out_twice(self, signoff: Signoff) -> None:
        people.disable(signoff.database, "reviewer2")
        with pytest.raises(BadInput, match="There is already an account 'reviewer2'"):
            people.add_account(signoff.database, username="reviewer2", name="X", hashed="!", roles=[Role.REVIEWER])


class TestOnePersonOfTwoNames:
    def test_does_not_approve_what_the_other_name_submitted(
        self, signoff: Signoff, candidate: VersionRef, second_name: str
    ) -> None:
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        with pytest.raises(SelfApproval):
            reviews.approve(signoff, candidate, by=second_name, comment="I like it.")
        assert kinds(signoff)[-1] == "approval:refused"

    def test_has_one_vote(self, signoff: Signoff, candidate: VersionRef) -> None:
        other = _second_account(signoff, "reviewer", "rita@example.org", Role.REVIEWER)
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        reviews.approve(signoff, candidate, by="reviewer", comment="Good.")
        reviews.request_changes(signoff, candidate, by=other, comment="On second thoughts, no.")
        with pytest.raises(GateRefused, match="0 of 1 approvals"):
            releases.promote(signoff, candidate, by="release_manager", reason="Now.")

    def test_does_not_resolve_a_finding_in_its_own_version(
        self, signoff: Signoff, candidate: VersionRef, second_name: str
    ) -> None:
        reviews.submit(signoff, candidate, by="scientist", comment="Better.")
        draft = FindingDraft(text="Trained on the test set.", severity=Severity.BLOCKING)
        reviews.request_changes(signoff, candidate, by="reviewer", comment="No.", findings=[draft])
        (found,) = findings.raised(signoff, signoff.registry.version(candidate))
        with pytest.raises(Refused, match=r"scientist submitted it on .*; somebody else must say"):
            resolve(signoff, candidate, found.id, by=second_name, comment="It is fine.", source=Source.BROWSER)
        (still,) = findings.raised(signoff, signoff.registry.version(candidate))
        assert still.open
