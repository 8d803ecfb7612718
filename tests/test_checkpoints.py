"""Signed checkpoints and their witness: whoever rewrites, cuts off or restores the ledger is found out."""

from __future__ import annotations

import base64
import re
import sqlite3
import stat
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import SQLAlchemyError

from services import caretaker
from services.errors import InvalidSettings, LedgerBroken, RegistryUnavailable
from services.record import checkpoints, ledger, witness
from services.record.ledger import Kind
from services.settings import Settings
from services.signoff import Signoff
from services.tables import events
from tests.conftest import Clock, settings_in
from tests.fakes import FakeRegistry
from tests.ledgers import drop_triggers
from tests.test_ledger import add, entry
from verifier.verify import Tampered, checkpoint_in, keys_in

PEOPLE = False


def sign(signoff: Signoff) -> checkpoints.Signed:
    return checkpoints.create(signoff.database, signoff.settings, at=signoff.now())


def check(signoff: Signoff) -> witness.Report:
    return witness.check_witness(signoff.database, signoff.settings, signoff.registry, at=signoff.now())


def verify(signoff: Signoff) -> tuple[int, str]:
    return checkpoints.verify(signoff.database, checkpoints.trusted(signoff.database, signoff.settings))


def tamper(signoff: Signoff, *statements: str) -> None:
    """What somebody with the database file can do: remove the triggers, then change anything."""
    with signoff.database.writing() as connection:
        drop_triggers(connection)
        for statement in statements:
            connection.exec_driver_sql(statement)


def rewrite(signoff: Signoff, *, after: int, comments: list[str]) -> None:
    """Replace everything after one event by a chain that fits together: all but the signatures is recomputed."""
    with signoff.database.reading() as connection:
        kept = ledger.event(connection, after)
        assert kept
    tamper(
        signoff,
        f"DELETE FROM events WHERE seq > {after}",
        f"UPDATE ledger_head SET seq = {after}, hash = '{kept.hash}'",
    )
    add(signoff, *[entry(comment=comment) for comment in comments])


def copy(source: Path, target: Path) -> None:
    """Copy a database, as SQLite's own backup does."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


class TestKey:
    def test_the_embedded_stack_makes_its_own_once_and_keeps_it_private(self, tmp_path: Path) -> None:
        seed = settings_in(tmp_path).checkpoint_seed
        assert settings_in(tmp_path).checkpoint_seed == seed
        assert stat.S_IMODE((tmp_path / "checkpoint-key").stat().st_mode) == 0o600
        assert repr(seed) not in repr(settings_in(tmp_path))

    def test_elsewhere_it_follows_from_the_secret_key_or_is_given(self, tmp_path: Path) -> None:
        environ = {"SIGNOFF_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": "http://m", "SIGNOFF_SECRET_KEY": "s" * 32}
        derived = Settings.read(environ).checkpoint_seed
        assert derived == Settings.read(environ).checkpoint_seed != b"s" * 32
        given = base64.b64encode(b"k" * 32).decode()
        assert Settings.read({**environ, "SIGNOFF_CHECKPOINT_KEY": given}).checkpoint_seed == b"k" * 32
        assert not (tmp_path / "checkpoint-key").exists()

    @pytest.mark.parametrize("given", ["short", "!", base64.b64encode(b"k" * 31).decode()])
    def test_one_that_is_none_is_refused(self, tmp_path: Path, given: str) -> None:
        with pytest.raises(InvalidSettings, match="SIGNOFF_CHECKPOINT_KEY"):
            settings_in(tmp_path, SIGNOFF_CHECKPOINT_KEY=given)

    def test_the_present_public_key_is_published(self, tmp_path: Path) -> None:
        path = checkpoints.publish(settings_in(tmp_path))
        assert keys_in(path.read_bytes()).keys() == checkpoints.own_key(settings_in(tmp_path)).keys()
        other = settings_in(tmp_path, SIGNOFF_CHECKPOINT_KEY=base64.b64encode(b"k" * 32).decode())
        checkpoints.publish(other)
        assert keys_in(path.read_bytes()).keys() == checkpoints.own_key(other).keys()


class TestSigning:
    def test_a_checkpoint_names_ledger_head_time_and_key_and_fits_a_param(self, signoff: Signoff) -> None:
        signed = sign(signoff)
        found = checkpoint_in(signed.text, checkpoints.trusted(signoff.database, signoff.settings))
        with signoff.database.reading() as connection:
            assert (found.seq, found.hash) == ledger.head(connection)
            assert found.ledger == checkpoints.ledger_id(connection)
        assert re.fullmatch(r"[0-9a-f]{16}", found.key)
        assert found.at.endswith("+00:00")
        assert len(signed.text) <= 6000

    def test_a_head_that_did_not_move_is_not_signed_again(self, signoff: Signoff) -> None:
        assert sign(signoff) == sign(signoff)

    def test_the_database_refuses_to_change_or_delete_one(self, signoff: Signoff) -> None:
        sign(signoff)
        for statement in ("UPDATE checkpoints SET seq = 1", "DELETE FROM checkpoints", "DELETE FROM ledger_identity"):
            with (
                pytest.raises(SQLAlchemyError, match="append-only"),
                signoff.database.writing() as connection,
            ):
                connection.exec_driver_sql(statement)

    def test_history_that_was_written_again_is_not_signed(self, signoff: Signoff) -> None:
        add(signoff, entry(), entry())
        sign(signoff)
        rewrite(signoff, after=3, comments=["never said", "nor this", "or that"])
        with pytest.raises(LedgerBroken, match="not the one that was signed"):
            sign(signoff)

    def test_an_event_changed_since_the_last_checkpoint_is_not_signed(self, signoff: Signoff) -> None:
        sign(signoff)
        add(signoff, entry(comment="3"), entry())
        tamper(signoff, """UPDATE events SET body = replace(body, '"comment":"3"', '"comment":"4"')""")
        with pytest.raises(LedgerBroken, match="#4 does not fit its hash"):
            sign(signoff)


EDIT = """UPDATE events SET body = replace(body, '"comment":"2"', '"comment":"x"') WHERE seq = 5"""
INSTEAD = {"seq": "9", "hash": "'h'", "closes": "NULL"}
INSERT = (
    f"INSERT INTO events SELECT {', '.join(INSTEAD.get(column.name, column.name) for column in events.columns)} "
    "FROM events WHERE seq = 5"
)
SWAP = (
    "UPDATE events SET seq = 100 WHERE seq = 5",
    "UPDATE events SET seq = 5 WHERE seq = 6",
    "UPDATE events SET seq = 6 WHERE seq = 100",
)


class TestLiveLedger:
    @pytest.fixture
    def recorded(self, signoff: Signoff) -> Signoff:
        add(signoff, *[entry(comment=str(number)) for number in range(1, 6)])
        sign(signoff)
        return signoff

    def test_what_nobody_touched_verifies(self, recorded: Signoff) -> None:
        assert verify(recorded)[0] == 8
        add(recorded, entry())
        assert verify(recorded)[0] == 9

    @pytest.mark.parametrize(
        ("statements", "message"),
        [
            pytest.param((EDIT,), "#5 does not fit its hash", id="edit"),
            pytest.param(("UPDATE events SET hash = 'x' WHERE seq = 5",), "#5 does not fit its hash", id="hash"),
            pytest.param(("DELETE FROM events WHERE seq = 5",), "#6 comes where #5 belongs", id="delete"),
            pytest.param((INSERT, "UPDATE ledger_head SET seq = 9"), "#9", id="insert"),
            pytest.param(SWAP, "#6 comes where #5 belongs", id="reorder"),
            pytest.param(("UPDATE events SET model = 'other' WHERE seq = 5",), "filed as something else", id="column"),
            pytest.param(("DELETE FROM events WHERE seq = 8",), "head names #8", id="last event"),
            pytest.param(
                (
                    "DELETE FROM events WHERE seq > 6",
                    "UPDATE ledger_head SET (seq, hash) = (SELECT seq, hash FROM events WHERE seq = 6)",
                ),
                "cut off",
                id="truncate",
            ),
            pytest.param(("UPDATE checkpoints SET hash = 'x'",), "filed as something else", id="checkpoint"),
            pytest.param(
                ("UPDATE checkpoints SET signed = replace(signed, '\"seq\":8', '\"seq\":7')",),
                "signature does not fit",
                id="signature",
            ),
        ],
    )
    def test_every_kind_of_tampering_is_found(
        self, recorded: Signoff, statements: tuple[str, ...], message: str
    ) -> None:
        tamper(recorded, *statements)
        with pytest.raises(Tampered, match=message):
            verify(recorded)

    def test_a_chain_recomputed_without_the_key_is_found(self, recorded: Signoff) -> None:
        rewrite(recorded, after=4, comments=["a", "b", "c", "d", "e"])
        with recorded.database.reading() as connection:
            assert ledger.broken_at(connection) is None  # in itself it fits together
        with pytest.raises(Tampered, match="not the one that was signed"):
            verify(recorded)


class TestWitness:
    @pytest.fixture
    def witnessed(self, signoff: Signoff, registry: FakeRegistry) -> Signoff:
        add(signoff, *[entry(comment=str(number)) for number in range(1, 6)])
        caretaker.tidy(signoff)
        assert list(registry.witnessed) == ["checkpoint-8"]
        return signoff

    def test_what_nobody_touched_has_no_problem(self, witnessed: Signoff) -> None:
        report = check(witnessed)
        assert report.problems == ()
        assert report.last
        assert report.last.seq == 8
        add(witnessed, entry())
        assert check(witnessed).problems == ()

    def test_a_ledger_that_was_cut_off_with_its_checkpoints_is_found(self, witnessed: Signoff) -> None:
        rewrite(witnessed, after=6, comments=[])
        tamper(witnessed, "DELETE FROM checkpoints", "DELETE FROM witnesses")
        assert verify(witnessed)[0] == 6  # nothing here gives it away
        (problem,) = check(witnessed).problems
        assert problem.proven
        assert "ledger ends with #6" in problem.sentence

    def test_an_older_backup_that_was_restored_is_found_also_when_it_was_continued(
        self, witnessed: Signoff, clock: Clock, tmp_path: Path
    ) -> None:
        live, backup = tmp_path / "signoff.db", tmp_path / "backup.db"
        copy(live, backup)
        add(witnessed, entry(), entry())
        clock.now += timedelta(minutes=6)
        caretaker.tidy(witnessed)
        assert list(witnessed.registry.witnessed) == ["checkpoint-8", "checkpoint-11"]
        witnessed.database.engine.dispose()
        copy(backup, live)
        assert verify(witnessed)[0] == 9
        (problem,) = check(witnessed).problems
        assert "older backup" in problem.sentence
        add(witnessed, *[entry(comment="again") for _ in range(4)])
        assert verify(witnessed)[0] == 13
        (problem,) = check(witnessed).problems
        assert problem.proven
        assert "Event #11 is not the one MLflow witnesses" in problem.sentence
        assert "between #9 and #11" in problem.sentence

    def test_a_chain_recomputed_without_the_key_is_found(self, witnessed: Signoff) -> None:
        rewrite(witnessed, after=4, comments=["a", "b", "c", "d", "e"])
        tamper(witnessed, "DELETE FROM checkpoints", "DELETE FROM witnesses")
        sign(witnessed)  # the key signs what looks like a first time; MLflow remembers the real one
        (problem,) = check(witnessed).problems
        assert "Event #8 is not the one" in problem.sentence

    def test_a_ledger_that_was_replaced_by_an_empty_one_is_found(self, witnessed: Signoff) -> None:
        tamper(
            witnessed,
            *(f"DELETE FROM {table}" for table in ("events", "ledger_head", "checkpoints", "witnesses")),
            f"UPDATE ledger_identity SET ledger = '{'0' * 32}'",
        )
        assert any("was replaced" in problem.sentence for problem in check(witnessed).problems)

    def test_nothing_is_signed_into_mlflow_over_a_proven_contradiction(
        self, witnessed: Signoff, registry: FakeRegistry, clock: Clock
    ) -> None:
        rewrite(witnessed, after=4, comments=["a"] * 9)
        tamper(witnessed, "DELETE FROM checkpoints", "DELETE FROM witnesses")
        clock.now += timedelta(minutes=6)
        caretaker.tidy(witnessed)
        assert list(registry.witnessed) == ["checkpoint-8"]
        report = witness.last_report(witnessed)
        assert report
        assert report.proven

    def test_what_others_write_into_mlflow_is_named_and_proves_nothing(
        self, witnessed: Signoff, registry: FakeRegistry
    ) -> None:
        (held,) = registry.witnesses()
        registry.witness(held.run, "checkpoint-99", held.texts["checkpoint-8"].replace('"seq":8', '"seq":99'))
        (problem,) = check(witnessed).problems
        assert not problem.proven
        assert "checkpoint-99 in MLflow is not ours" in problem.sentence

    def test_a_witness_that_was_removed_is_missed(self, witnessed: Signoff, registry: FakeRegistry) -> None:
        (held,) = registry.witnesses()
        registry.change_witness(held.run, texts={})
        (problem,) = check(witnessed).problems
        assert not problem.proven
        assert "no longer holds 1 checkpoints" in problem.sentence


class TestCaretaker:
    def test_a_moved_head_is_signed_every_five_minutes_and_a_promotion_at_once(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock
    ) -> None:
        caretaker.tidy(signoff)
        caretaker.tidy(signoff)
        assert len(registry.witnessed) == 1
        add(signoff, entry())
        caretaker.tidy(signoff)
        assert len(registry.witnessed) == 1
        clock.now += timedelta(minutes=5)
        caretaker.tidy(signoff)
        assert len(registry.witnessed) == 2
        add(signoff, entry(Kind.PROMOTION_CONFIRMED))
        caretaker.tidy(signoff)
        assert list(registry.witnessed) == ["checkpoint-3", "checkpoint-5", "checkpoint-6"]

    def test_when_mlflow_is_away_the_checkpoint_waits_and_home_can_say_since_when(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert witness.unwitnessed_since(signoff) is None

        def away(_: str) -> None:
            raise RegistryUnavailable("MLflow did not answer.")

        registry.before_write = away
        began = clock.now
        caretaker.tidy(signoff)
        clock.now += timedelta(minutes=2)
        since = witness.unwitnessed_since(signoff)
        assert since
        assert since <= began
        registry.before_write = lambda _: None
        monkeypatch.setattr(witness, "RETRY_SECONDS", 0.0)
        caretaker.tidy(signoff)
        assert len(registry.witnessed) == 1
        assert witness.unwitnessed_since(signoff) is None

    def test_without_a_caretaker_old_events_count_as_unwitnessed(self, signoff: Signoff, clock: Clock) -> None:
        clock.now += timedelta(minutes=16)
        assert witness.unwitnessed_since(signoff)
