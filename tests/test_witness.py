"""The witness in MLflow: known by id, not stopped by what others write, and epochs where a backup was restored."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from services import caretaker
from services.admission import admissions
from services.database import Database
from services.domain import Actor, Role, Source, WitnessRun
from services.errors import BadInput, RegistryUnavailable
from services.record import checkpoints, export, ledger, restoration, testimony, witness
from services.record.epochs import Epoch
from services.record.ledger import Kind
from services.signoff import Signoff
from services.tables import witnesses
from tests.conftest import Clock
from tests.fakes import FakeRegistry
from tests.test_checkpoints import check, copy, rewrite, sign, tamper, verify
from tests.test_ledger import add, entry
from verifier.__main__ import main as verifier
from verifier.verify import Checkpoint, Keys, checkpoint_in

FIRST = 9
"""The event that the first checkpoint is about, when five events were added."""
OPERATOR = Actor(username="signoff", name="olga on this machine", roles=frozenset({Role.ADMIN}), source=Source.CLI)


@pytest.fixture
def witnessed(signoff: Signoff, registry: FakeRegistry) -> Signoff:
    """All events so far are witnessed, but the one that says in which run."""
    add(signoff, *[entry(comment=str(number)) for number in range(1, 6)])
    caretaker.tidy(signoff)
    assert list(registry.witnessed) == [f"checkpoint-{FIRST}"]
    return signoff


@pytest.fixture
def later(clock: Clock) -> Callable[[Signoff], None]:
    """Another event, and a round of the caretaker when a checkpoint is due and MLflow was asked long ago."""

    def go_on(signoff: Signoff) -> None:
        clock.now += timedelta(minutes=6)
        add(signoff, entry(comment=f"At {clock.now}."))
        memory = witness._memory(signoff.database)
        memory.holds_until = memory.read_again = memory.failed = witness.NEVER
        caretaker.tidy(signoff)

    return go_on


Later = Callable[[Signoff], None]


def events(signoff: Signoff, *kinds: Kind) -> list[ledger.Event]:
    with signoff.database.reading() as connection:
        return ledger.events(connection, ledger.Filter(kinds=kinds), limit=None)[::-1]


def sentences(signoff: Signoff) -> str:
    return " ".join(problem.sentence for problem in check(signoff).problems)


def ledger_end(signoff: Signoff) -> int:
    with signoff.database.reading() as connection:
        return ledger.head(connection)[0]


def stated(signoff: Signoff, reason: str = "Disk failure; restored last night's backup.") -> Epoch:
    return restoration.state(
        signoff.database, signoff.settings, signoff.registry, by=OPERATOR, reason=reason, at=signoff.now()
    )


class TestKnownById:
    def test_the_run_that_witnesses_is_recorded_when_it_is_opened(
        self, witnessed: Signoff, registry: FakeRegistry
    ) -> None:
        (held,) = registry.witnesses()
        (event,) = events(witnessed, Kind.WITNESS_OPENED)
        assert (event.get("run"), event.get("experiment")) == (held.run, held.experiment)
        assert event.get("mlflow") == witnessed.settings.mlflow_uri
        with witnessed.database.reading() as connection:
            assert checkpoints.ledger_id(connection) == held.ledger
        assert admissions.names(witnessed)["experiments"] == [held.experiment]

    def test_its_address_is_recorded_without_name_and_password(self) -> None:
        assert witness._address("https://me:secret@mlflow.example:5000/x") == "https://mlflow.example:5000/x"

    def test_it_is_opened_once(self, witnessed: Signoff, registry: FakeRegistry, later: Later) -> None:
        for _ in range(3):
            later(witnessed)
        assert len(events(witnessed, Kind.WITNESS_OPENED, Kind.WITNESS_REPLACED)) == len(registry.witnesses()) == 1
        assert check(witnessed).problems == ()

    def test_another_dashboard_that_opens_one_at_the_same_moment_has_its_run_used(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        def other(what: str) -> None:
            if what == "witness opened":
                registry.before_write = lambda _: None
                witness._run(signoff, check(signoff))

        registry.before_write = other
        sign(signoff)
        run = witness._run(signoff, check(signoff))
        (event,) = events(signoff, Kind.WITNESS_OPENED)
        assert event.get("run") == run

    @pytest.mark.parametrize(
        ("deed", "said"),
        [
            pytest.param("deleted", f"which witnesses this ledger up to #{FIRST}, was deleted in MLflow", id="deleted"),
            pytest.param("gone", f"which witnesses this ledger up to #{FIRST}, is not in MLflow any more", id="gone"),
        ],
    )
    def test_one_that_is_lost_is_named_replaced_once_on_record_and_named_on(
        self, witnessed: Signoff, registry: FakeRegistry, later: Later, deed: str, said: str
    ) -> None:
        (lost,) = registry.witnesses()
        if deed == "gone":
            registry._witnesses.clear()
        else:
            registry.change_witness(lost.run, active=False)
        (problem,) = check(witnessed).problems
        assert not problem.proven
        assert f"The run {lost.run} of the experiment {lost.experiment}, {said}" in problem.sentence
        for _ in range(3):
            later(witnessed)
        (event,) = events(witnessed, Kind.WITNESS_REPLACED)
        assert (event.get("lost"), event.get("witnessed")) == (lost.run, FIRST)
        assert set(registry._witnesses[event.get("run")].texts) == {
            f"checkpoint-{FIRST + 2}",
            f"checkpoint-{FIRST + 4}",
            f"checkpoint-{FIRST + 5}",
        }
        assert said in sentences(witnessed)

    def test_one_that_was_deleted_and_is_restored_is_no_problem(
        self, witnessed: Signoff, registry: FakeRegistry, later: Later
    ) -> None:
        (lost,) = registry.witnesses()
        registry.change_witness(lost.run, active=False)
        later(witnessed)
        registry.change_witness(lost.run, active=True)
        assert check(witnessed).problems == ()

    def test_an_experiment_of_the_same_name_does_not_take_its_place(
        self, witnessed: Signoff, registry: FakeRegistry, tmp_path: Path, later: Later
    ) -> None:
        """Rename the witness, put a copy of its old state there, restore the old backup: that used to verify."""
        live, backup = tmp_path / "signoff.db", tmp_path / "backup.db"
        copy(live, backup)
        before = registry.witnesses()
        later(witnessed)
        (ours,) = registry.witnesses()
        registry.change_witness(ours.run, called="archive")
        (false,) = (registry.open_witness(one.ledger) for one in before)
        registry.change_witness(false.run, experiment="77", texts=before[0].texts)
        assert "was renamed from signoff-ledger to archive" in sentences(witnessed)
        witnessed.database.engine.dispose()
        copy(backup, live)
        report = check(witnessed)
        assert report.proven
        assert f"MLflow witnesses event #{FIRST + 2}" in sentences(witnessed)

    def test_a_backup_whose_witness_was_deleted_does_not_verify(
        self, witnessed: Signoff, registry: FakeRegistry, tmp_path: Path, later: Later
    ) -> None:
        live, backup = tmp_path / "signoff.db", tmp_path / "backup.db"
        copy(live, backup)
        later(witnessed)
        registry._witnesses.clear()
        witnessed.database.engine.dispose()
        copy(backup, live)
        assert "is not in MLflow any more" in sentences(witnessed)

    def test_a_full_run_is_followed_by_another(
        self, witnessed: Signoff, registry: FakeRegistry, later: Later, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(witness, "CHECKPOINTS_PER_RUN", 2)
        for _ in range(4):
            later(witnessed)
        assert [len(one.texts) for one in registry.witnesses()] == [2, 2, 1]
        assert len({one.experiment for one in registry.witnesses()}) == 1
        assert check(witnessed).problems == ()


@pytest.fixture
def several(witnessed: Signoff, registry: FakeRegistry, later: Later, monkeypatch: pytest.MonkeyPatch) -> Signoff:
    """A full run of three checkpoints, another one with room for one more, and both compared."""
    monkeypatch.setattr(witness, "CHECKPOINTS_PER_RUN", 3)
    for _ in range(4):
        later(witnessed)
    assert [len(one.texts) for one in registry.witnesses()] == [3, 2]
    return witnessed


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The events whose checkpoint was read from MLflow and verified since the test began."""
    numbers: list[int] = []

    def counted(text: str, keys: Keys) -> Checkpoint:
        found = checkpoint_in(text, keys)
        numbers.append(found.seq)
        return found

    monkeypatch.setattr(testimony, "checkpoint_in", counted)
    return numbers


def look(signoff: Signoff) -> str:
    """What the next round that is due finds wrong, a few minutes later."""
    memory = witness._memory(signoff.database)
    memory.holds_until = memory.read_again = witness.NEVER
    caretaker.tidy(signoff)
    assert memory.report
    return " ".join(problem.sentence for problem in memory.report.problems)


class TestReading:
    def test_verifies_a_checkpoint_once_and_reads_the_run_in_use_alone(
        self, several: Signoff, registry: FakeRegistry, verified: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "witnesses", None)  # nobody reads all runs
        newest = witness._memory(several.database).newest
        assert look(several) == ""
        assert newest
        assert verified == [newest[0]]  # it was only written until now
        verified.clear()
        assert look(several) == ""
        assert verified == []

    def test_in_between_no_event_is_read(self, several: Signoff, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ledger, "_events", None)
        witness.keep(several)

    def test_keeps_no_texts_of_runs_that_are_full(self, several: Signoff) -> None:
        report = witness.last_report(several)
        assert report
        assert [len(one.texts) for one in report.held.values()] == [0, 1]

    def test_is_of_everything_again_after_a_day_and_finds_what_was_done_to_a_full_run(
        self, several: Signoff, registry: FakeRegistry, verified: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = registry.witnesses()[0]
        registry.change_witness(first.run, active=False)
        assert look(several) == ""
        monkeypatch.setattr(witness, "FULL_SECONDS", 0.0)
        verified.clear()
        assert f"The run {first.run} " in look(several)
        assert len(set(verified)) == len(registry.witnessed) == 5

    def test_is_of_everything_as_long_as_something_is_wrong(
        self, several: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = registry.witnesses()[0]
        registry.change_witness(first.run, active=False)
        with monkeypatch.context() as patch:
            patch.setattr(witness, "FULL_SECONDS", 0.0)
            assert "was deleted in MLflow" in look(several)
        registry.change_witness(first.run, active=True)
        assert look(several) == ""

    @pytest.mark.parametrize(
        ("deed", "said"),
        [
            pytest.param(lambda held: {"active": False}, "was deleted in MLflow", id="deleted"),
            pytest.param(lambda held: {"texts": {}}, "no longer holds 2 checkpoints", id="emptied"),
            pytest.param(lambda held: {"texts": {**held.texts, "x": "y"}}, "x in MLflow is not ours", id="written to"),
        ],
    )
    def test_finds_at_once_what_was_done_to_the_run_in_use(
        self, several: Signoff, registry: FakeRegistry, deed: Callable[[WitnessRun], dict[str, object]], said: str
    ) -> None:
        last = registry.witnesses()[-1]
        registry.change_witness(last.run, **deed(last))
        assert said in look(several)

    def test_finds_at_once_that_history_was_written_again(self, several: Signoff) -> None:
        rewrite(several, after=5, comments=["a"] * 30)
        tamper(several, "DELETE FROM checkpoints", "DELETE FROM witnesses")
        assert "history was written again" in look(several)

    def test_finds_at_once_a_checkpoint_of_events_that_the_ledger_does_not_hold(
        self, several: Signoff, registry: FakeRegistry
    ) -> None:
        with several.database.reading() as connection:
            name = checkpoints.ledger_id(connection)
        key, at = checkpoints._private_key(several.settings), several.now().isoformat()
        lost = checkpoints._sign(key, ledger_id=name, seq=999, head="f" * 64, at=at)
        registry.witness(registry.witnesses()[-1].run, "checkpoint-999", lost.text)
        assert "MLflow witnesses event #999" in look(several)

    def test_a_checkpoint_of_another_dashboard_is_not_missing(
        self, several: Signoff, registry: FakeRegistry, clock: Clock
    ) -> None:
        other = replace(several, database=Database.of(several.settings))
        clock.now += timedelta(minutes=6)
        add(several, entry())
        caretaker.tidy(other)
        assert look(several) == ""
        report = witness.last_report(several)
        assert report
        assert report.last
        assert report.last.seq == ledger_end(several)

    def test_what_waits_is_looked_for_from_the_newest_witnessed_checkpoint_on(self, several: Signoff) -> None:
        memory = witness._memory(several.database)
        assert memory.newest
        tamper(several, "DELETE FROM witnesses")  # as where a process died before it noted what it had written
        with several.database.reading() as connection:
            assert [row.seq for row in witness._waiting(connection, memory.newest[0])] == [memory.newest[0]]
        caretaker.tidy(several)
        with several.database.reading() as connection:
            assert list(connection.execute(sa.select(witnesses.c.seq)).scalars()) == [memory.newest[0]]
        assert witness.unwitnessed_since(several) is None


class TestWhatOthersWrite:
    def test_a_param_written_ahead_does_not_stop_witnessing(
        self, witnessed: Signoff, registry: FakeRegistry, later: Later, caplog: pytest.LogCaptureFixture
    ) -> None:
        (held,) = registry.witnesses()
        for number in range(FIRST + 1, FIRST + 92):
            registry.witness(held.run, f"checkpoint-{number}", "false")
        caplog.set_level(logging.ERROR)
        for _ in range(3):
            later(witnessed)
        ours = [name for name, text in registry.witnessed.items() if text != "false"]
        assert [name.rpartition(".")[0] or name for name in ours] == [
            f"checkpoint-{FIRST}", f"checkpoint-{FIRST + 2}", f"checkpoint-{FIRST + 3}", f"checkpoint-{FIRST + 4}",
        ]  # fmt: skip
        report = witness.last_report(witnessed)
        assert report
        assert report.last
        assert report.last.seq == FIRST + 3
        assert not report.proven
        assert " and 90 more are not ours" in sentences(witnessed)
        assert len([record for record in caplog.records if "not ours" in record.message]) == 1
        assert witness.unwitnessed_since(witnessed) is None

    def test_ten_thousand_of_them_are_one_problem_and_are_not_read_with_each_checkpoint(
        self, witnessed: Signoff, registry: FakeRegistry
    ) -> None:
        (held,) = registry.witnesses()
        registry.change_witness(held.run, texts={**held.texts, **{f"checkpoint-9{n}": "x" for n in range(10_000)}})
        assert len(check(witnessed).problems) == 1
        calls = []
        for _ in range(5):
            add(witnessed, entry(Kind.PROMOTION_CONFIRMED))
            before = registry.calls
            caretaker.tidy(witnessed)
            calls.append(registry.calls - before)
        assert calls == [3, 2, 1, 1, 1]  # compared; another run opened, as this one is full; and compared once more
        assert witness.unwitnessed_since(witnessed) is None

    def test_a_false_run_with_the_tag_of_the_ledger_disturbs_nothing(
        self, witnessed: Signoff, registry: FakeRegistry, later: Later
    ) -> None:
        (held,) = registry.witnesses()
        false = registry.open_witness(held.ledger)
        registry.witness(
            false.run, "checkpoint-500", held.texts[f"checkpoint-{FIRST}"].replace(f'"seq":{FIRST}', '"seq":500')
        )
        registry.witness(false.run, f"checkpoint-{FIRST}", held.texts[f"checkpoint-{FIRST}"])
        later(witnessed)
        assert check(witnessed).problems == ()
        assert f"checkpoint-{FIRST + 2}" in registry._witnesses[held.run].texts

    def test_what_mlflow_cannot_read_in_time_does_not_stop_witnessing(
        self, witnessed: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def too_much(_: object = ()) -> None:
            asked.append("witnesses")
            raise RegistryUnavailable("MLflow did not answer in time.")

        asked: list[str] = []
        monkeypatch.setattr(registry, "witnesses", too_much)
        for _ in range(3):
            add(witnessed, entry(Kind.PROMOTION_CONFIRMED))
            caretaker.tidy(witnessed)
        assert list(registry.witnessed) == [
            f"checkpoint-{FIRST}",
            f"checkpoint-{FIRST + 2}",
            f"checkpoint-{FIRST + 3}",
            f"checkpoint-{FIRST + 4}",
        ]
        assert asked == ["witnesses"], "it is left alone for a while"

    def test_a_run_deleted_between_two_comparisons_is_replaced_at_the_next(
        self, witnessed: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(witness, "RETRY_SECONDS", 0.0)
        (held,) = registry.witnesses()
        caretaker.tidy(witnessed)
        registry.change_witness(held.run, active=False)
        add(witnessed, entry(Kind.PROMOTION_CONFIRMED))
        caretaker.tidy(witnessed)
        caretaker.tidy(witnessed)
        assert len(events(witnessed, Kind.WITNESS_REPLACED)) == 1
        assert f"checkpoint-{FIRST + 2}" in registry.witnessed


class TestOwnWrites:
    def test_each_carries_a_proof(self, signoff: Signoff, registry: FakeRegistry) -> None:
        sent: list[tuple[str, str | None]] = []
        registry.before_write = lambda what: sent.append((what.split()[0], registry.intent))
        caretaker.tidy(signoff)
        assert [what for what, _ in sent] == ["witness", "witness"]
        assert all(proof and proof.startswith("record-") for _, proof in sent)
        assert registry.intent is None


class TestEpochs:
    @pytest.fixture
    def restored(self, witnessed: Signoff, tmp_path: Path, later: Later, clock: Clock) -> Signoff:
        """An older backup, while MLflow witnesses two more events."""
        live, backup = tmp_path / "signoff.db", tmp_path / "backup.db"
        copy(live, backup)
        later(witnessed)
        later(witnessed)
        witnessed.database.engine.dispose()
        copy(backup, live)
        assert f"MLflow witnesses event #{FIRST + 3}" in sentences(witnessed)
        clock.now += timedelta(hours=1)
        return witnessed

    def test_a_statement_names_what_was_lost_and_by_whom(self, restored: Signoff, registry: FakeRegistry) -> None:
        lost = checkpoint_in(
            registry.witnessed[f"checkpoint-{FIRST + 3}"], checkpoints.trusted(restored.database, restored.settings)
        )
        epoch = stated(restored)
        (event,) = events(restored, Kind.LEDGER_RESTORED)
        assert (event.seq, event.comment) == (FIRST + 2, "Disk failure; restored last night's backup.")
        assert {key: event.get(key) for key in ("epoch", "first", "last", "hash")} == {
            "epoch": 2, "first": FIRST + 1, "last": FIRST + 3, "hash": lost.hash,
        }  # fmt: skip
        assert (
            f"Epoch 2: MLflow witnessed events up to #{FIRST + 3} (hash {lost.hash}), and this ledger is known to "
            f"agree up to #{FIRST}: what it lacks of them was lost when a backup was restored" in epoch.words
        )
        assert "olga on this machine" in epoch.words

    def test_witnessing_goes_on_under_the_epochs_name_and_every_verification_says_so(
        self, restored: Signoff, registry: FakeRegistry, later: Later
    ) -> None:
        caretaker.tidy(restored)
        assert witness.unwitnessed_since(restored)
        words = stated(restored).words
        later(restored)
        later(restored)
        assert list(registry.witnessed)[-2:] == [f"epoch-2.checkpoint-{FIRST + 3}", f"epoch-2.checkpoint-{FIRST + 4}"]
        report = check(restored)
        assert (report.problems, report.remarks) == ((), (words,))
        assert report.last
        assert (report.last.seq, report.last.epoch) == (FIRST + 4, 2)
        assert verify(restored)[0] == FIRST + 4

    def test_an_export_says_so_too(self, restored: Signoff, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = stated(restored).words
        file = tmp_path / "ledger.jsonl"
        _, lines = export.export(restored.database, restored.settings, at=restored.now())
        file.write_bytes(b"".join(lines))
        assert json.loads(file.read_bytes().splitlines()[-1])["checkpoint"]["epoch"] == 2
        assert verifier([str(file), "--public-key", str(checkpoints.public_key_file(restored.settings))]) == 0
        assert words in capsys.readouterr().out

    def test_an_export_whose_checkpoint_is_of_another_epoch_does_not_verify(
        self, restored: Signoff, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stated(restored)
        file = tmp_path / "ledger.jsonl"
        signed, lines = export.export(restored.database, restored.settings, at=restored.now())
        found, key = signed.checkpoint, checkpoints._private_key(restored.settings)
        other = checkpoints._sign(key, ledger_id=found.ledger, seq=found.seq, head=found.hash, at=found.at)
        assert "epoch" not in other.text
        file.write_bytes(b"".join([*list(lines)[:-1], other.text.encode()]))
        assert verifier([str(file), "--public-key", str(checkpoints.public_key_file(restored.settings))]) == 1
        assert "The checkpoint is of epoch 1 and the events of epoch 2" in capsys.readouterr().err

    def test_a_ledger_continued_before_the_statement_is_covered_by_it(
        self, restored: Signoff, registry: FakeRegistry, later: Later
    ) -> None:
        for _ in range(4):
            later(restored)
        assert f"between #{FIRST + 1} and #{FIRST + 2}" in sentences(restored)
        stated(restored)
        later(restored)
        assert check(restored).problems == ()
        assert f"epoch-2.checkpoint-{FIRST + 7}" in registry.witnessed

    def test_it_excuses_nothing_that_is_lost_later(self, restored: Signoff, tmp_path: Path, later: Later) -> None:
        stated(restored)
        copy(tmp_path / "signoff.db", tmp_path / "second.db")
        later(restored)
        restored.database.engine.dispose()
        copy(tmp_path / "second.db", tmp_path / "signoff.db")
        assert f"MLflow witnesses event #{FIRST + 3}" in sentences(restored)
        assert stated(restored, "Again.").number == 3
        later(restored)
        report = check(restored)
        assert (report.problems, len(report.remarks)) == ((), 2)

    def test_the_statement_itself_cannot_be_lost_unnoticed(
        self, restored: Signoff, tmp_path: Path, later: Later
    ) -> None:
        copy(tmp_path / "signoff.db", tmp_path / "second.db")
        stated(restored)
        later(restored)
        restored.database.engine.dispose()
        copy(tmp_path / "second.db", tmp_path / "signoff.db")
        assert check(restored).proven
        assert stated(restored, "Again.").number == 3

    def test_history_written_again_after_it_is_found(self, restored: Signoff, later: Later) -> None:
        stated(restored)
        later(restored)
        rewrite(restored, after=FIRST + 1, comments=["a", "b", "c"])
        tamper(restored, "DELETE FROM checkpoints", "DELETE FROM witnesses")
        assert check(restored).proven

    def test_a_witness_that_is_lost_for_good_is_stated_in_the_same_way(
        self, witnessed: Signoff, registry: FakeRegistry, later: Later
    ) -> None:
        (lost,) = registry.witnesses()
        registry._witnesses.clear()
        later(witnessed)
        words = stated(witnessed, "MLflow was set up anew.").words
        assert f"what witnessed the ledger in MLflow was lost (run {lost.run})" in words
        later(witnessed)
        report = check(witnessed)
        assert (report.problems, report.remarks) == ((), (words,))

    @pytest.mark.parametrize("reason", ["", "  "])
    def test_it_needs_a_reason(self, restored: Signoff, reason: str) -> None:
        with pytest.raises(BadInput, match="Say why"):
            stated(restored, reason)
        assert events(restored, Kind.LEDGER_RESTORED) == []

    def test_where_nothing_was_lost_there_is_nothing_to_state(self, witnessed: Signoff) -> None:
        with pytest.raises(BadInput, match="Nothing was lost"):
            stated(witnessed)
        assert events(witnessed, Kind.LEDGER_RESTORED) == []

    def test_without_an_answer_from_mlflow_nothing_is_stated(
        self, restored: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(_: object = ()) -> None:
            raise RegistryUnavailable("MLflow did not answer.")

        monkeypatch.setattr(registry, "witnesses", away)
        with pytest.raises(RegistryUnavailable):
            stated(restored)
        assert events(restored, Kind.LEDGER_RESTORED) == []
