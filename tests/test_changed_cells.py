"""Somebody writes into Signoff's database what Signoff never writes there: each place says so in one sentence."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from services import tables
from services.cells import Cell
from services.domain import VersionRef
from services.errors import UnreadableRow
from services.evidence import Severity
from services.record import checkpoints
from services.record.ledger import Kind
from services.record.projections.states import RELEASES
from services.signoff import Signoff
from services.validation import jobs
from services.views import dossier, inbox
from tests.conftest import BOTH
from tests.fakes import FakeRegistry
from tests.ledgers import kinds
from tests.pages import opened, text
from tests.rest import Rest, refused
from tests.test_releases import approve, release
from tests.test_replay import FORGERIES, Forge
from tests.verbs import reconciler, releases

DATABASES = BOTH
pytestmark = pytest.mark.postgresql
V2 = VersionRef(name="m", version=2)
CHANGES = [
    "decisions SET at = 'yesterday'",
    "decisions SET binding = '5'",
    "submissions SET submitted_at = 'nonsense'",
    "promotions SET action = ''",
    "known_models SET recorded = '[]'",
]
ONLY_SQLITE = [
    "decisions SET binding = '{'",
    "submissions SET comment = x'00ff'",
]


def change(signoff: Signoff, what: str) -> str:
    """Writes it past Signoff; returns what is then said of it."""
    if what in ONLY_SQLITE and signoff.database.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL takes no such value into this column.")
    with signoff.database.writing() as connection:
        assert connection.execute(sa.text(f"UPDATE {what}")).rowcount
    table, _, column, *_ = what.split()
    return f"Table {table}, {column}: a row has something there that Signoff never writes"


@pytest.fixture
def approved(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 1 is in Production; version 2 is better, and approved."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
    reconciler.reconcile(signoff)
    return V2


@pytest.mark.usefixtures("approved")
class TestAChangedCell:
    @pytest.mark.parametrize("what", [*CHANGES, *ONLY_SQLITE])
    def test_is_named_wherever_its_row_is_read_and_decides_nothing(
        self, signoff: Signoff, registry: FakeRegistry, what: str
    ) -> None:
        before, named = kinds(signoff), change(signoff, what)
        registry.writes.clear()
        at = opened(signoff, "release_manager", "version", name="m", version="2")
        assert not at.exception, at.exception
        assert named in text(at)
        assert named in refused(Rest(signoff).get("/models/m/versions/2/verdict"), 403, "DATA_LOSS")
        with pytest.raises(UnreadableRow, match=named):
            releases.promote(signoff, V2, by="release_manager", reason="Now.")
        assert kinds(signoff) == [*before, "token:created"]
        assert registry.writes == []

    def test_breaks_no_page(self, signoff: Signoff) -> None:
        named = [change(signoff, what) for what in CHANGES]
        for page, says in {"home": True, "promotions": True, "model": False, "review": False}.items():
            at = opened(signoff, "release_manager", page, name="m", version="2")
            assert not at.exception, (page, at.exception)
            assert any(one in text(at) for one in named) == says, page

    def test_of_an_account_signs_it_out_with_the_same_sentence(self, signoff: Signoff) -> None:
        at = opened(signoff, "viewer", "home")
        named = change(signoff, "accounts SET created_at = 'once'")
        at.run()
        assert not at.exception, at.exception
        assert named in text(at)

    @pytest.mark.parametrize("what", ["accounts SET created_at = 'once'", "slots SET expires_at = 1e300"])
    def test_that_no_event_tells_of_is_named_by_the_verification(self, signoff: Signoff, what: str) -> None:
        checkpoints.verify(signoff.database, checkpoints.trusted(signoff.database, signoff.settings))
        change(signoff, what)
        table, _, column, *_ = what.split()
        with pytest.raises(checkpoints.Differs, match=f"Table {table}, row .*, {column}: Signoff never writes"):
            checkpoints.verify(signoff.database, checkpoints.trusted(signoff.database, signoff.settings))


def test_every_column_but_those_of_events_is_watched() -> None:
    unwatched = {
        column.table.name
        for table in tables.metadata.sorted_tables
        for column in table.c
        if not isinstance(column.type, Cell | sa.Boolean)
    }
    assert unwatched == {"events", "ledger_head"}


def test_the_words_that_a_column_can_hold_are_those_that_are_written() -> None:
    def can_hold(column: sa.Column[str], words: object) -> bool:
        assert isinstance(column.type, Cell)
        return all(map(column.type.holds, words)) and not column.type.holds("x")  # type: ignore[call-overload]

    assert can_hold(tables.findings.c.severity, Severity)
    assert can_hold(tables.validation_jobs.c.state, jobs.State)
    assert can_hold(tables.promotions.c.action, RELEASES.values())
    assert can_hold(
        tables.deviations.c.kind, [kind for kind in Kind if kind.subject == "outside" and kind.outcome != "ended"]
    )


class TestTheVerdict:
    @pytest.mark.parametrize(
        ("forge", "named"),
        [(forge, named) for forge, named, *_ in FORGERIES if forge.__name__ in {"no_finding", "no_assigned_policy"}],
    )
    def test_is_what_a_promotion_would_say(
        self, signoff: Signoff, registry: FakeRegistry, forge: Forge, named: str
    ) -> None:
        """Version 2 is approved; a row that the decision rests on is then changed."""
        release(signoff, registry.add_version("m", {"val_auc": 0.92}))
        registry.add_version("m", {"val_auc": 0.95})
        forge(signoff)
        for fresh in (False, True):
            verdict, _ = dossier.verdict(signoff, V2, fresh=fresh)
            assert [check.id for check in verdict.failed] == ["agreement"]
            assert f"Table {named}" in verdict.failed[0].reason
        assert not any(item.ready for item in inbox.judged(signoff, inbox.queue(signoff)))
        assert not dossier.open_dossier(signoff, V2).verdict.allowed
