"""Validations: who may ask, what is recorded and when, and that whatever fails leaves no figure anywhere."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from services import caretaker, facts
from services.accounts import people
from services.domain import Role, VersionRef
from services.errors import (
    BadInput,
    LedgerUnavailable,
    NotAllowed,
    NotFound,
    PromotionConflict,
    Refused,
    RegistryUnavailable,
)
from services.evidence import canonical
from services.record import ledger
from services.record.ledger import Kind
from services.signoff import Signoff
from services.tables import validation_jobs
from services.tables import validations as validations_table
from services.validation import jobs, uploads
from services.validation.errors import ModelFailed, ValidationCancelled
from services.validation.jobs import Job, Origin, State, Wanted
from services.validation.record import Validation
from services.validation.worker import Validator
from services.views import dossier
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.test_releases import release
from tests.validation import ROWS, Evaluator, ask, on_record, validated
from tests.verbs import releases, reviews, validations


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 1, in Production."""
    return release(signoff, registry.add_version("m", {"val_auc": 0.92}))


@pytest.fixture
def ref(registry: FakeRegistry, champion: VersionRef) -> VersionRef:
    """Version 2, trained by ``trainer`` and not submitted; the registry's list of writes starts empty."""
    found = registry.add_version("m", {"val_auc": 0.95})
    registry.writes.clear()
    return found


def job(signoff: Signoff, ref: VersionRef, number: int) -> Job:
    return jobs.find(signoff.database, ref, number)


def counted(signoff: Signoff, ref: VersionRef) -> tuple[Validation, ...]:
    return facts.fresh(signoff, ref)[1].validations


def left_on_disk(signoff: Signoff) -> list[Path]:
    folder = signoff.settings.home / "validations"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def assert_no_evidence(signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
    """Neither an event that counts nor a figure in MLflow, and nothing left on the disk."""
    assert "validation:completed" not in kinds(signoff)
    assert counted(signoff, ref) == ()
    assert not [write for write in registry.writes if write.startswith("figures")]
    assert left_on_disk(signoff) == []


def last(signoff: Signoff, ref: VersionRef) -> Job:
    (found,) = jobs.of(signoff.database, ref, signoff.registry.version(ref).identity, limit=1)
    return found


class TestAsking:
    def test_is_recorded_and_waits(self, signoff: Signoff, ref: VersionRef) -> None:
        outcome = ask(signoff, ref, words="For the review.")
        assert outcome.event
        assert outcome.event.kind is Kind.VALIDATION_REQUESTED
        assert outcome.event.get("target") == "target"
        assert outcome.event.get("consent") is False
        found = job(signoff, ref, outcome.job or 0)
        assert (found.state, found.asked_by, found.wanted.name) == (State.QUEUED, "scientist", "holdout.csv")

    @pytest.mark.parametrize("role", ["viewer", "auditor", "admin"])
    def test_is_not_for_every_role(self, signoff: Signoff, ref: VersionRef, role: str) -> None:
        with pytest.raises(NotAllowed, match="may validate"):
            ask(signoff, ref, by=role)
        assert kinds(signoff)[-1] == "validation:refused"
        assert left_on_disk(signoff) == []
        assert not Validator(signoff, Evaluator()).turn()

    def test_needs_a_holdout_and_a_target(self, signoff: Signoff, ref: VersionRef) -> None:
        with pytest.raises(BadInput, match="holdout"):
            validations.ask(signoff, ref, None, by="scientist")
        for wanted in ({"target": ""}, {"name": ""}, {"target": "a\nb"}, {"confidence": 1.0}):
            with pytest.raises(BadInput):
                ask(signoff, ref, **wanted)  # type: ignore[arg-type]
        assert left_on_disk(signoff) == []

    def test_of_a_version_that_is_not_there_is_not_found(self, signoff: Signoff, champion: VersionRef) -> None:
        with pytest.raises(NotFound):
            ask(signoff, VersionRef(name="m", version=9))
        assert left_on_disk(signoff) == []

    def test_so_many_wait_and_no_more(self, signoff: Signoff, ref: VersionRef, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(jobs, "MAX_WAITING", 2)
        for _ in range(2):
            ask(signoff, ref)
        with pytest.raises(PromotionConflict, match="2 validations are waiting already"):
            ask(signoff, ref)
        assert kinds(signoff)[-1] == "validation:refused"
        assert len(left_on_disk(signoff)) == 2

    def test_under_a_key_is_done_once(self, signoff: Signoff, ref: VersionRef) -> None:
        first, second = (ask(signoff, ref, key="nightly") for _ in range(2))
        assert first.job == second.job
        assert kinds(signoff).count("validation:requested") == 1
        assert len(left_on_disk(signoff)) == 1
        with pytest.raises(BadInput, match="another request"):
            ask(signoff, ref, key="nightly", rows=ROWS + b"1,1\n")


class TestConsent:
    def test_is_recorded_with_its_reason_before_anything_runs(self, signoff: Signoff, ref: VersionRef) -> None:
        evaluator = Evaluator()
        number = validated(signoff, ref, evaluator, by="reviewer", consent=True, words="I read its code.")
        asked = next(event for event in record(signoff) if event.seq == number)
        assert (asked.actor, asked.comment, asked.get("consent")) == ("reviewer", "I read its code.", True)
        assert evaluator.consents == [True]
        assert counted(signoff, ref)[0].consent

    def test_without_it_the_evaluation_is_told_so(self, signoff: Signoff, ref: VersionRef) -> None:
        evaluator = Evaluator()
        validated(signoff, ref, evaluator)
        assert evaluator.consents == [False]
        assert not counted(signoff, ref)[0].consent

    def test_needs_words(self, signoff: Signoff, ref: VersionRef) -> None:
        with pytest.raises(BadInput, match="reason for the consent"):
            ask(signoff, ref, by="reviewer", consent=True)

    def test_is_not_for_a_scientist(self, signoff: Signoff, ref: VersionRef) -> None:
        with pytest.raises(NotAllowed, match="Only a release manager or reviewer may validate with consent"):
            ask(signoff, ref, consent=True, words="Trust me.")
        assert kinds(signoff)[-1] == "validation:refused"

    @pytest.mark.parametrize("own", ["trained", "submitted"])
    def test_is_not_for_whoever_trained_or_submitted_it(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, own: str
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95}, author="both" if own == "trained" else "trainer")
        if own == "submitted":
            reviews.submit(signoff, ref, by="both", comment="Mine.")
        with pytest.raises(Refused, match=r"both .*; somebody else must consent to the code of m/v2"):
            ask(signoff, ref, by="both", consent=True, words="It is fine.")
        assert kinds(signoff)[-1] == "validation:refused"
        assert ask(signoff, ref, by="both").event, "without consent they may ask"

    def test_ends_when_the_role_is_taken_away_while_it_waits(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        ask(signoff, ref, by="reviewer", consent=True, words="I read its code.")
        people.set_roles(signoff.database, "reviewer", [Role.SCIENTIST])
        evaluator = Evaluator()
        Validator(signoff, evaluator).turn()
        assert evaluator.seen == []
        assert last(signoff, ref).error == (
            "Only a release manager or reviewer may validate with consent; reviewer is scientist."
        )
        assert_no_evidence(signoff, registry, ref)


class TestDone:
    def test_is_recorded_with_both_digests_the_holdout_and_every_figure(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, champion: VersionRef
    ) -> None:
        number = validated(signoff, ref)
        event = record(signoff)[-1]
        assert (event.kind, event.actor, event.ref) == (Kind.VALIDATION_COMPLETED, "scientist", ref)
        assert event.get("manifest_digest") == registry.manifest(ref).digest
        assert (event.get("champion"), event.get("champion_manifest_digest")) == (1, registry.manifest(champion).digest)
        assert (event.get("holdout"), event.get("rows"), event.get("target")) == ("holdout.csv", 100, "target")
        assert event.get("holdout_sha256") == hashlib.sha256(ROWS).hexdigest()
        assert event.get("figures")["roc_auc"]["low"] == repr(0.02 - 0.01)
        assert event.comment == "v2 beats v1 on roc_auc by 0.02 (95 % interval 0.01 to 0.03, 100 rows)."
        found = job(signoff, ref, number)
        assert (found.state, found.completed_seq, found.run_id) == (State.DONE, event.seq, event.get("mlflow_run"))
        assert left_on_disk(signoff) == []

    def test_the_evaluator_is_given_the_files_as_they_were_hashed(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, champion: VersionRef
    ) -> None:
        evaluator = Evaluator()
        seen: list[bytes] = []
        evaluator.meanwhile = lambda _: seen.append((evaluator.seen[-1][0].folder / "model.skops").read_bytes())
        validated(signoff, ref, evaluator)
        assert seen == [b"model m/v2"]
        candidate, current = evaluator.seen[0]
        assert current
        assert (candidate.digest, current.ref) == (registry.manifest(ref).digest, champion)
        assert not candidate.folder.exists()

    def test_mlflow_shows_what_the_record_holds_and_only_afterwards(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        at_write: list[list[str]] = []
        registry.before_write = lambda what: at_write.append([what, *kinds(signoff)[-1:]])
        validated(signoff, ref)
        assert at_write == [
            ["run m v2 against v1", "validation:requested"],
            ["figures m v2 against v1", "validation:completed"],
        ]
        event = record(signoff)[-1]
        run = registry.run(event.get("mlflow_run"))
        assert {name: found.value for name, found in run.metrics.items()} == {
            "candidate_roc_auc": 0.92,
            "current_roc_auc": 0.9,
            "difference_roc_auc": 0.02,
        }
        assert (run.params["candidate_version"], run.params["current_version"]) == ("m/v2", "m/v1")
        assert run.tags["signoff.candidate_digest"] == event.get("manifest_digest")
        assert run.tags["signoff.event"] == f"{event.seq}:{event.hash}"
        assert [data.digest for data in run.datasets] == [event.get("holdout_digest")]

    def test_without_a_champion_it_is_evaluated_alone(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("new", {"val_auc": 0.9})
        evaluator = Evaluator()
        validated(signoff, ref, evaluator)
        assert evaluator.seen[0][1] is None
        assert record(signoff)[-1].get("champion") is None
        assert counted(signoff, ref)[0].champion is None

    def test_the_report_is_the_one_the_event_names(self, signoff: Signoff, ref: VersionRef) -> None:
        validated(signoff, ref)
        (found,) = counted(signoff, ref)
        kept = hashlib.sha256(canonical(found.report.as_json())).hexdigest()
        assert kept == record(signoff)[-1].get("report_digest")
        with signoff.database.reading() as connection:
            assert ledger.broken_at(connection) is None


class TestWhatNoLongerCounts:
    def void(self, signoff: Signoff, ref: VersionRef) -> tuple[str, ...]:
        found = dossier.open_dossier(signoff, ref)
        return found.outdated(found.facts.validations[0])

    def test_nothing_while_all_is_as_it_was(self, signoff: Signoff, ref: VersionRef) -> None:
        validated(signoff, ref)
        assert self.void(signoff, ref) == ()

    def test_other_files(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        validated(signoff, ref)
        registry.write_file(ref, "model.skops", b"other bytes")
        signoff.reader.forget()
        assert self.void(signoff, ref) == ("the model's files changed",)

    def test_other_files_of_the_champion(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, champion: VersionRef
    ) -> None:
        registry.write_file(champion, "model.skops", b"other bytes")
        validated(signoff, ref)
        assert self.void(signoff, ref) == ("the champion's files changed",)

    def test_not_what_was_made_on_the_champions_files_before_somebody_wrote_others(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, champion: VersionRef
    ) -> None:
        validated(signoff, ref)
        registry.write_file(champion, "model.skops", b"other bytes")
        signoff.reader.forget()
        assert self.void(signoff, ref) == ()

    def test_another_champion(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        validated(signoff, ref)
        release(signoff, registry.add_version("m", {"val_auc": 0.94}))
        assert self.void(signoff, ref) == ("it was compared with v1, and v3 is the champion now",)

    def test_another_version_of_the_same_number_has_none(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        validated(signoff, ref)
        registry.drop_version(ref)
        assert registry.add_version("m", {"val_auc": 0.95}) == ref
        assert counted(signoff, ref) == ()


class TestFailures:
    @pytest.mark.parametrize(
        ("rows", "target", "says"),
        [
            (ROWS, "y", "y"),
            (b"", "target", "empty"),
            (b"x,target\n", "target", "no rows"),
            (b"x,target\n1,1\n2,1\n3,1\n", "target", "1"),
            (b"x,target\n1,1\n2,\n3,0\n", "target", "target"),
        ],
        ids=["wrong column", "empty file", "no rows", "one class only", "targets missing"],
    )
    def test_a_holdout_that_makes_no_sense_is_named_and_leaves_nothing(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, rows: bytes, target: str, says: str
    ) -> None:
        evaluator = Evaluator()
        number = validated(signoff, ref, evaluator, rows=rows, target=target)
        found = job(signoff, ref, number)
        assert found.state is State.FAILED
        assert found.error
        assert says in found.error
        assert "\n" not in found.error
        assert record(signoff)[-1].kind is Kind.VALIDATION_FAILED
        assert record(signoff)[-1].comment == found.error
        assert evaluator.seen == []
        assert_no_evidence(signoff, registry, ref)

    @pytest.mark.parametrize(
        "why", ["m/v2 raised ValueError: no.", "The champion m/v1 cannot be loaded.", "x is text; m/v2 takes a double."]
    )
    def test_a_model_that_gives_no_predictions_is_named_and_leaves_nothing(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, why: str
    ) -> None:
        number = validated(signoff, ref, Evaluator(error=ModelFailed(why)))
        assert (job(signoff, ref, number).state, job(signoff, ref, number).error) == (State.FAILED, why)
        assert_no_evidence(signoff, registry, ref)

    def test_what_broke_inside_is_not_told_in_detail(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        number = validated(signoff, ref, Evaluator(error=RuntimeError("secret path /root")))
        assert job(signoff, ref, number).error == "Something broke inside Signoff; its log says what."
        assert_no_evidence(signoff, registry, ref)

    def test_too_many_bytes_are_not_read(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        asked_for: list[int] = []

        def endless() -> object:
            while True:
                asked_for.append(1)
                yield bytes(1 << 16)

        with (
            pytest.raises(BadInput, match="more than 1,048,576 bytes"),
            uploads.received(signoff.settings, endless(), max_bytes=1 << 20),  # type: ignore[arg-type]
        ):
            pass
        assert len(asked_for) == 17
        assert_no_evidence(signoff, registry, ref)

    def test_a_version_that_was_deleted_meanwhile_is_not_confused_with_its_successor(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        ask(signoff, ref)
        registry.drop_version(ref)
        registry.add_version("m", {"val_auc": 0.95})
        evaluator = Evaluator()
        Validator(signoff, evaluator).turn()
        assert evaluator.seen == []
        assert record(signoff)[-1].comment == "m/v2 was deleted since its validation was asked for."

    def test_when_mlflow_takes_no_run_nothing_is_recorded(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        def away(what: str) -> None:
            raise RegistryUnavailable("MLflow did not give a usable answer.")

        registry.before_write = away
        number = validated(signoff, ref)
        assert job(signoff, ref, number).error == "MLflow did not give a usable answer."
        assert_no_evidence(signoff, registry, ref)


class TestCancelling:
    def test_what_waits_never_runs(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        number = ask(signoff, ref).job or 0
        outcome = validations.cancel(signoff, ref, number, by="reviewer", comment="Wrong file.")
        assert outcome.event
        assert (outcome.event.kind, outcome.event.comment) == (Kind.VALIDATION_CANCELLED, "Wrong file.")
        assert not Validator(signoff, Evaluator()).turn()
        assert (job(signoff, ref, number).state, job(signoff, ref, number).error) == (
            State.CANCELLED,
            "Cancelled by reviewer.",
        )
        assert_no_evidence(signoff, registry, ref)

    def test_what_runs_is_told_and_records_nothing(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jobs, "BEAT_SECONDS", 0.01)

        def meanwhile(cancelled: Callable[[], bool]) -> None:
            validations.cancel(signoff, ref, last(signoff, ref).seq, by="scientist")
            told = threading.Event()
            for _ in range(500):
                if cancelled():
                    raise ValidationCancelled("It was cancelled.")
                told.wait(0.01)

        number = validated(signoff, ref, Evaluator(meanwhile=meanwhile))
        assert job(signoff, ref, number).state is State.CANCELLED
        assert kinds(signoff)[-1] == "validation:cancelled"
        assert_no_evidence(signoff, registry, ref)

    def test_holds_even_when_the_evaluation_ends_at_that_moment(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        def meanwhile(_: Callable[[], bool]) -> None:
            validations.cancel(signoff, ref, last(signoff, ref).seq, by="scientist")

        validated(signoff, ref, Evaluator(meanwhile=meanwhile))
        assert kinds(signoff)[-1] == "validation:cancelled"
        assert_no_evidence(signoff, registry, ref)

    def test_of_what_has_ended_changes_nothing(self, signoff: Signoff, ref: VersionRef) -> None:
        number = validated(signoff, ref)
        before = kinds(signoff)
        assert validations.cancel(signoff, ref, number, by="scientist").event is None
        assert kinds(signoff) == before
        assert counted(signoff, ref)

    def test_is_not_for_every_role_and_not_of_another_version(
        self, signoff: Signoff, ref: VersionRef, champion: VersionRef
    ) -> None:
        number = ask(signoff, ref).job or 0
        with pytest.raises(NotAllowed, match="may cancel validation"):
            validations.cancel(signoff, ref, number, by="viewer")
        with pytest.raises(NotFound):
            validations.cancel(signoff, champion, number, by="scientist")
        assert job(signoff, ref, number).state is State.QUEUED


def expire(signoff: Signoff) -> None:
    """What happens once a lease has run out, without waiting for that."""
    with signoff.database.writing() as connection:
        connection.execute(validation_jobs.update().values(leased_until=0.0))


class TestCrashes:
    def test_a_job_whose_dashboard_died_is_closed_truthfully(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        ask(signoff, ref)
        assert jobs.claim(signoff.database, uploads.place(signoff.settings), at=signoff.now())
        caretaker.tidy(signoff)
        assert last(signoff, ref).state is State.RUNNING, "its lease has not run out"
        expire(signoff)
        caretaker.tidy(signoff)
        found = last(signoff, ref)
        assert (found.state, found.error) == (
            State.FAILED,
            "The dashboard that ran it ended before it was done; nothing was recorded. Ask for it again.",
        )
        assert (record(signoff)[-1].kind, record(signoff)[-1].actor) == (Kind.VALIDATION_FAILED, "signoff")
        assert_no_evidence(signoff, registry, ref)

    def test_one_that_lost_its_lease_records_nothing(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        def meanwhile(_: Callable[[], bool]) -> None:
            expire(signoff)
            caretaker.tidy(signoff)

        validated(signoff, ref, Evaluator(meanwhile=meanwhile))
        assert kinds(signoff)[-1] == "validation:failed"
        assert_no_evidence(signoff, registry, ref)

    def test_what_is_on_record_is_done_and_mlflow_is_made_up_for(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        class Died(BaseException):
            """The process is gone."""

        def die(what: str) -> None:
            if what.startswith("figures"):
                raise Died

        ask(signoff, ref)
        registry.before_write = die
        with pytest.raises(Died):
            Validator(signoff, Evaluator()).turn()
        registry.before_write = lambda _: None
        assert last(signoff, ref).state is State.RUNNING
        assert counted(signoff, ref), "it was recorded, so it counts"
        expire(signoff)
        caretaker.tidy(signoff)
        found = last(signoff, ref)
        assert found.state is State.DONE
        assert registry.run(found.run_id or "").metrics["candidate_roc_auc"].value == 0.92
        assert left_on_disk(signoff) == []
        writes = list(registry.writes)
        caretaker.tidy(signoff)
        assert registry.writes == writes, "shown once"

    def test_without_mlflow_the_figures_follow_when_it_answers_again(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        def away(what: str) -> None:
            if what.startswith("figures"):
                raise RegistryUnavailable("MLflow did not give a usable answer.")

        registry.before_write = away
        number = validated(signoff, ref)
        found = job(signoff, ref, number)
        assert found.state is State.DONE
        assert "logged there later" in found.log[-1][1]
        registry.before_write = lambda _: None
        caretaker.tidy(signoff)
        assert "candidate_roc_auc" in registry.run(found.run_id or "").metrics

    def test_one_that_could_not_be_recorded_leaves_an_empty_run_that_failed(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise LedgerUnavailable("Signoff's database cannot be used (disk full); nothing was changed.")

        monkeypatch.setattr("services.validation.running.record", full)
        number = validated(signoff, ref)
        found = job(signoff, ref, number)
        run = registry.run(found.run_id or "")
        assert (run.status, run.metrics) == ("FAILED", {})
        assert found.error == "Signoff's database cannot be used (disk full); nothing was changed."
        assert_no_evidence(signoff, registry, ref)

    def test_a_dashboard_that_is_stopped_leaves_the_job_to_the_next(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        ask(signoff, ref)
        stopped = threading.Event()

        def meanwhile(cancelled: Callable[[], bool]) -> None:
            stopped.set()
            assert cancelled()
            raise ValidationCancelled("It was cancelled.")

        Validator(signoff, Evaluator(meanwhile=meanwhile)).turn(stopped.is_set)
        assert last(signoff, ref).state is State.QUEUED
        assert Validator(signoff, Evaluator()).turn()
        assert last(signoff, ref).state is State.DONE

    def test_a_job_of_another_machine_is_left_alone_until_nobody_came(self, signoff: Signoff, ref: VersionRef) -> None:
        ask(signoff, ref)
        assert jobs.claim(signoff.database, "elsewhere:/home", at=signoff.now()) is None
        expire(signoff)
        caretaker.tidy(signoff)
        assert (last(signoff, ref).state, "took it in time" in (last(signoff, ref).error or "")) == (State.FAILED, True)

    def test_two_never_run_the_same_job(self, signoff: Signoff, ref: VersionRef) -> None:
        ask(signoff, ref)
        place = uploads.place(signoff.settings)
        found = [jobs.claim(signoff.database, place, at=signoff.now()) for _ in range(2)]
        assert [one is not None for one in found] == [True, False]


class TestRowsThatSignoffDidNotWrite:
    """What a job is, and whether it has ended, the record says: somebody who can write the database changes neither."""

    def change(self, signoff: Signoff, table: sa.Table = validation_jobs, **values: object) -> None:
        with signoff.database.writing() as connection:
            connection.execute(table.update().values(**values))

    def test_a_job_that_no_event_asks_for_fails_and_leaves_no_event(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        ask(signoff, ref)
        before = record(signoff)
        self.change(signoff, seq=before[0].seq)
        evaluator = Evaluator()
        assert not Validator(signoff, evaluator).turn()
        with signoff.database.reading() as connection:
            (row,) = connection.execute(sa.select(validation_jobs)).all()
        assert (row.state, row.error) == ("failed", "No event of the record asks for it, so it is not run.")
        assert (evaluator.seen, record(signoff)) == ([], before)
        with pytest.raises(NotFound, match="There is no validation"):
            job(signoff, ref, row.seq)

    def test_an_abandoned_one_leaves_no_event_either(self, signoff: Signoff, ref: VersionRef) -> None:
        ask(signoff, ref)
        before = record(signoff)
        self.change(signoff, seq=before[0].seq, leased_until=0.0)
        caretaker.tidy(signoff)
        with signoff.database.reading() as connection:
            assert connection.execute(sa.select(validation_jobs.c.state)).scalar_one() == "failed"
        assert record(signoff) == before

    @pytest.mark.parametrize("end", ["done", "failed", "cancelled"])
    @pytest.mark.parametrize("how", ["run", "given up", "cancelled"])
    def test_one_that_has_ended_never_ends_again(self, signoff: Signoff, ref: VersionRef, end: str, how: str) -> None:
        if end == "cancelled":
            validations.cancel(signoff, ref, number := ask(signoff, ref).job or 0, by="reviewer")
        else:
            number = validated(signoff, ref, Evaluator(error=ModelFailed("No.") if end == "failed" else None))
        before, ended = record(signoff), job(signoff, ref, number)
        lease = {"leased_until": 0.0} if how == "given up" else {}
        self.change(signoff, state="queued", completed_seq=None, error=None, **lease)
        evaluator = Evaluator()
        match how:
            case "run":
                Validator(signoff, evaluator).turn()
            case "given up":
                caretaker.tidy(signoff)
            case _:
                assert validations.cancel(signoff, ref, number, by="scientist").event is None
        found = job(signoff, ref, number)
        assert (evaluator.seen, record(signoff)) == ([], before)
        assert (found.state, found.error, found.completed_seq) == (ended.state, ended.error, ended.completed_seq)

    def test_the_event_says_of_which_version_it_is(self, signoff: Signoff, ref: VersionRef) -> None:
        ask(signoff, ref)
        self.change(signoff, version=1, identity="another")
        Validator(signoff, Evaluator()).turn()
        assert (record(signoff)[-1].kind, record(signoff)[-1].ref) == (Kind.VALIDATION_COMPLETED, ref)

    def test_a_run_that_signoff_did_not_begin_is_not_ended(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        trained = registry.version(ref).run_id or ""
        ask(signoff, ref)
        self.change(signoff, run_id=trained, leased_until=0.0)
        caretaker.tidy(signoff)
        assert record(signoff)[-1].kind is Kind.VALIDATION_FAILED
        assert registry.run(trained).status == "FINISHED"

    @pytest.mark.parametrize("column", ["run_id", "job", "report"])
    def test_figures_go_into_the_run_that_the_event_names_only(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, column: str
    ) -> None:
        validated(signoff, ref)
        with signoff.database.reading() as connection:
            report = connection.execute(sa.select(validations_table.c.report)).scalar_one()
        other = {"run_id": registry.version(ref).run_id, "job": 7, "report": report.replace("0.92", "0.99")}
        registry.writes.clear()
        self.change(signoff, validations_table, mirrored=False, **{column: other[column]})
        caretaker.tidy(signoff)
        assert [write for write in registry.writes if not write.startswith("witness")] == []


class TestUploads:
    @pytest.mark.parametrize("name", ["../victim", "{victim}", "..", ".", "pictures-/../../victim", "link"])
    def test_of_another_name_are_neither_read_nor_deleted(self, signoff: Signoff, name: str) -> None:
        root = signoff.settings.home / "validations"
        (root / "pictures-").mkdir(parents=True)
        victim = signoff.settings.home / "victim"
        victim.mkdir()
        (victim / "holdout").write_text("precious")
        link = "0" * 32
        (root / link).symlink_to(victim)
        name = link if name == "link" else name.format(victim=victim)
        uploads.drop(signoff.settings, name)
        with pytest.raises(NotFound):
            uploads.file(signoff.settings, name)
        with pytest.raises(NotFound):
            uploads.keep(signoff.settings, name)
        assert (victim / "holdout").read_text() == "precious"
        assert root.is_dir()

    def test_are_for_nobody_else_to_read(self, signoff: Signoff, ref: VersionRef) -> None:
        ask(signoff, ref)
        (folder,) = left_on_disk(signoff)
        assert folder.stat().st_mode & 0o077 == 0

    def test_that_a_crash_left_behind_are_removed_and_needed_ones_are_not(
        self, signoff: Signoff, ref: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        on_record(signoff, ref)
        with signoff.database.reading() as connection:
            number = connection.execute(sa.select(validations_table.c.job)).scalar_one()
        ask(signoff, ref)
        uploads.pictures(signoff.settings, number).mkdir()
        needed = left_on_disk(signoff)
        assert len(needed) == 2
        (signoff.settings.home / "validations" / "orphan").mkdir()
        monkeypatch.setattr(uploads, "STALE_SECONDS", -1.0)
        Validator(signoff, Evaluator(), at_once=0).start()
        assert left_on_disk(signoff) == needed


class TestPlaces:
    def placed(self, signoff: Signoff, ref: VersionRef, file: Path, evaluator: Evaluator | None = None) -> Job:
        wanted = Wanted(origin=Origin.PLACE, name=str(file), target="target")
        listed = replace(signoff, settings=replace(signoff.settings, holdouts=(signoff.settings.home / "data",)))
        validations.ask(listed, ref, wanted, by="scientist")
        Validator(listed, evaluator or Evaluator()).turn()
        return last(signoff, ref)

    @pytest.fixture
    def folder(self, signoff: Signoff) -> Path:
        (found := signoff.settings.home / "data").mkdir()
        return found

    def test_a_file_in_a_listed_folder_is_read(self, signoff: Signoff, ref: VersionRef, folder: Path) -> None:
        (folder / "holdout.csv").write_bytes(ROWS)
        assert self.placed(signoff, ref, folder / "holdout.csv").state is State.DONE

    def test_what_lies_outside_is_not(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, folder: Path
    ) -> None:
        (secret := signoff.settings.home / "secret-key").write_text("s" * 32)
        evaluator = Evaluator()
        found = self.placed(signoff, ref, secret, evaluator)
        assert (found.state, evaluator.seen) == (State.FAILED, [])
        assert "may not read" in (found.error or "")
        assert "s" * 32 not in (found.error or "")
        assert_no_evidence(signoff, registry, ref)

    def test_two_gigabytes_are_refused_before_they_are_read(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, folder: Path
    ) -> None:
        with (folder / "holdout.csv").open("wb") as file:
            file.truncate(2 << 30)
        found = self.placed(signoff, ref, folder / "holdout.csv")
        assert (found.state, found.error) == (State.FAILED, "The file has 2,048 MB; at most 256 MB are read.")
        assert_no_evidence(signoff, registry, ref)

    def test_a_data_set_the_run_did_not_log_is_not_found(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        wanted = Wanted(origin=Origin.DATASET, name="other", target="target")
        validations.ask(signoff, ref, wanted, by="scientist")
        Validator(signoff, Evaluator()).turn()
        assert last(signoff, ref).error == ("The run of m/v2 logged no data set 'other'; it logged holdout (aaaaaaaa).")
        assert_no_evidence(signoff, registry, ref)


class TestTheRealEvaluation:
    """As far as it comes with models that are none."""

    def refused(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, rows: bytes) -> str:
        number = ask(signoff, ref, rows=rows).job or 0
        assert Validator(signoff).turn()
        found = job(signoff, ref, number)
        assert found.state is State.FAILED
        assert_no_evidence(signoff, registry, ref)
        return found.error or ""

    def test_a_column_the_signature_asks_for_is_missing(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        why = self.refused(signoff, registry, ref, ROWS.replace(b"x,", b"y,"))
        assert "m/v2" in why
        assert "'x'" in why

    def test_a_column_has_another_type(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        why = self.refused(signoff, registry, ref, b"x,target\nmany,0\nfew,1\nsome,0\n")
        assert "'x'" in why

    def test_what_is_not_on_the_allow_list_needs_consent(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        assert "Somebody has to agree to run this." in self.refused(signoff, registry, ref, ROWS)


class TestPromotion:
    def test_is_untouched_where_no_policy_asks_for_a_validation(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        assert releases.promote(signoff, _approved(signoff, ref), by="release_manager", reason="As ever.").event


def _approved(signoff: Signoff, ref: VersionRef) -> VersionRef:
    reviews.submit(signoff, ref, by="scientist", comment="Please.")
    reviews.approve(signoff, ref, by="reviewer", comment="Right.")
    return ref
