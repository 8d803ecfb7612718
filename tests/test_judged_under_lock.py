"""The second judging on both databases: nobody who changes what it rests on can slip in between it and the intent."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from services.accounts import people
from services.domain import Source, VersionRef
from services.errors import NotAllowed
from services.gate import GateRefused
from services.record import ledger
from services.record.ledger import Entry, Kind
from services.signoff import Signoff
from services.tables import findings as table
from tests.conftest import BOTH, wait_until
from tests.fakes import FakeRegistry
from tests.test_judged_twice import (
    BLOCKING,
    ask_for_emergency,
    at_the_last,
    loses_role,
    promote,
    refused_once,
    roles_named,
)
from tests.test_releases import approve, release
from tests.verbs import break_glass, findings, releases, reviews

DATABASES = BOTH
pytestmark = pytest.mark.postgresql


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 1, in Production."""
    return release(signoff, registry.add_version("m", {"val_auc": 0.92}))


@pytest.fixture
def resolved(signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> int:
    """The number of a blocking finding in version 2 that was resolved; version 2 is approved."""
    ref = registry.add_version("m", {"val_auc": 0.95})
    reviews.submit(signoff, ref, by="scientist", comment="Please.")
    reviews.request_changes(signoff, ref, by="reviewer", comment="No.", findings=[BLOCKING])
    (found,) = findings.raised(signoff, registry.version(ref))
    findings.resolve(signoff, ref, found.id, by="reviewer", comment="Answered.")
    approve(signoff, ref)
    return found.id


SECOND = VersionRef(name="m", version=2)


class TestAtTheLast:
    def test_a_reopened_finding_stops_a_promotion(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int
    ) -> None:
        at_the_last(registry).meanwhile(
            lambda: findings.reopen(signoff, SECOND, resolved, by="reviewer2", comment="It still does.")
        )
        with refused_once(signoff, registry, "promotion", "finding:reopened"), pytest.raises(GateRefused):
            promote(signoff, SECOND)

    @pytest.mark.parametrize("verb", ["promotion", "rollback", "archival", "emergency"])
    def test_a_lost_role_stops_it_and_is_not_named(self, signoff: Signoff, registry: FakeRegistry, verb: str) -> None:
        first = release(signoff, registry.add_version("m", {"val_auc": 0.92}))
        second = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        if verb == "rollback":
            promote(signoff, second)
        number = ask_for_emergency(signoff, second) if verb == "emergency" else 0
        verbs = {
            "promotion": lambda: promote(signoff, second),
            "rollback": lambda: releases.rollback(signoff, "m", by="release_manager", reason="Back."),
            "archival": lambda: releases.archive(signoff, first, by="release_manager", reason="Retired."),
            "emergency": lambda: break_glass.confirm(signoff, number, by="release_manager", comment="Agreed."),
        }
        at_the_last(registry).meanwhile(lambda: loses_role(signoff, "release_manager"))
        with refused_once(signoff, registry, verb, "account:changed"), pytest.raises(NotAllowed):
            verbs[verb]()
        assert roles_named(signoff) == ["viewer"]


class TestTheLock:
    def test_what_is_being_recorded_at_that_moment_is_waited_for(
        self, signoff: Signoff, registry: FakeRegistry, resolved: int
    ) -> None:
        begun = threading.Event()
        reviewer = people.acting(signoff.database, "reviewer2", Source.BROWSER)

        def reopen() -> None:
            with signoff.database.writing() as connection:
                ledger.append(
                    connection, Entry(kind=Kind.FINDING_REOPENED, actor=reviewer, at=signoff.now(), ref=SECOND)
                )
                connection.execute(table.update().values(resolved_by=None, resolved_by_id=None))
                begun.set()
                if connection.dialect.name == "postgresql":  # on SQLite the other cannot even begin
                    wait_until(lambda: _somebody_waits(signoff), "the promotion to wait for the ledger")

        thread = threading.Thread(target=reopen)

        def meanwhile() -> None:
            thread.start()
            assert begun.wait(10)

        at_the_last(registry).meanwhile(meanwhile)
        with refused_once(signoff, registry, "promotion", "finding:reopened"), pytest.raises(GateRefused):
            promote(signoff, SECOND)
        thread.join()


def _somebody_waits(signoff: Signoff) -> bool:
    with signoff.database.reading() as connection:
        return bool(connection.execute(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar())
