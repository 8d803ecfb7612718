"""What goes on in the background: no error ends it, and `/readyz` says when something is wrong with it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest
from sqlalchemy.exc import IntegrityError
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services import caretaker, expiry
from services.caretaker import Caretaker
from services.errors import LedgerUnavailable, RegistryUnavailable
from services.messaging.courier import Courier
from services.record import witness
from services.signoff import Signoff
from services.validation.worker import Validator
from services.verbs import idempotency
from services.worker import Worker, all_of
from tests.fakes import FakeRegistry
from web.health import SAMPLE_COMPLETE, health_routes

WHAT = "caretaker"


class Hands:
    """A clock that is set, and a round that does as it is told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.error: Exception | None = None
        self.rounds = 0

    def work(self) -> float:
        self.rounds += 1
        if self.error:
            raise self.error
        return 0.0

    def worker(self, work: Callable[[], float] | None = None) -> Worker:
        return Worker(WHAT, work or self.work, interval=0.0, patience=60.0, clock=lambda: self.now)


@pytest.fixture
def hands() -> Hands:
    return Hands()


def unique() -> IntegrityError:
    return IntegrityError("INSERT …", {}, Exception("UNIQUE constraint failed"))


class TestRounds:
    def test_go_on_after_an_error_that_nobody_foresaw(self) -> None:
        went_on, rounds = threading.Event(), []

        def work() -> float:
            rounds.append(1)
            if len(rounds) == 1:
                raise unique()
            went_on.set()
            return 60.0

        worker = Worker(WHAT, work, interval=0.0, patience=60.0)
        worker.start()
        try:
            assert went_on.wait(10)
            assert worker.problem is None
        finally:
            worker.stop()

    def test_end_at_once_when_asked_to_and_can_begin_again(self, hands: Hands) -> None:
        ran = threading.Event()

        def work() -> float:
            ran.set()
            return 3600.0

        worker = hands.worker(work)
        for _ in range(2):
            ran.clear()
            worker.start()
            assert ran.wait(10)
            worker.stop(10)
            assert worker._thread
            assert not worker._thread.is_alive()

    def test_are_woken(self) -> None:
        rounds = threading.Semaphore(0)

        def work() -> float:
            rounds.release()
            return 3600.0

        worker = Worker(WHAT, work, interval=0.0, patience=60.0)
        worker.start()
        try:
            assert rounds.acquire(timeout=10)
            worker.wake()
            assert rounds.acquire(timeout=10)
        finally:
            worker.stop()

    def test_an_error_is_logged_with_its_traceback_once(self, hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
        hands.error = unique()
        worker = hands.worker()
        for _ in range(5):
            worker.turn()
        broken = [line for line in caplog.records if line.levelno == logging.ERROR]
        assert [bool(line.exc_info) for line in broken] == [True, False, False, False, False]
        assert "UNIQUE constraint failed" in broken[-1].getMessage()

    def test_every_piece_is_done_and_every_error_told(self, hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
        done = []

        def pieces() -> float:
            def fail(error: Exception) -> None:
                raise error

            all_of(
                (lambda: fail(unique()), lambda: fail(RegistryUnavailable("MLflow is away.")), lambda: done.append(1))
            )
            return 0.0

        hands.worker(pieces).turn()
        assert done
        assert [line.levelname for line in caplog.records] == ["ERROR", "WARNING"]


class TestProblem:
    @pytest.fixture
    def started(self, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> Worker:
        """One that seems to run; the test makes its rounds."""
        worker = hands.worker()
        monkeypatch.setattr(worker, "_thread", threading.current_thread())
        return worker

    def test_there_is_none_before_it_is_started(self, hands: Hands) -> None:
        hands.now = 3600.0
        assert hands.worker().problem is None

    def test_three_broken_rounds_in_a_row_are_one_and_one_good_round_ends_it(
        self, hands: Hands, started: Worker
    ) -> None:
        hands.error = unique()
        for problem in (None, None, f"The {WHAT} broke 3 times in a row; Signoff's log says why."):
            started.turn()
            assert started.problem == problem
        hands.error = None
        started.turn()
        assert started.problem is None

    def test_an_outage_that_is_told_elsewhere_is_none(self, hands: Hands, started: Worker) -> None:
        hands.error = LedgerUnavailable("Signoff's database cannot be used (host db7, port 5432).")
        for _ in range(9):
            started.turn()
        assert started.problem is None

    def test_silence_is_one_unless_it_says_meanwhile_that_it_lives(self, hands: Hands, started: Worker) -> None:
        hands.now = 59.0
        assert started.problem is None
        hands.now = 180.0
        assert started.problem == f"The {WHAT} has given no sign of life for 3 minutes."
        assert not started.stopping()
        assert started.problem is None

    def test_a_thread_that_ended_is_one(self, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
        worker = hands.worker()
        monkeypatch.setattr(worker, "_thread", threading.Thread())
        assert worker.problem == f"The {WHAT} has ended; restart Signoff."


class TestCaretaker:
    def test_a_piece_that_breaks_stops_no_other(
        self, signoff: Signoff, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(_: Signoff) -> None:
            raise unique()

        reached = []
        monkeypatch.setattr(expiry, "sweep", broken)
        monkeypatch.setattr(idempotency, "forget", lambda _: reached.append("forget"))
        monkeypatch.setattr(witness, "keep", lambda _: reached.append("keep"))
        tender = Caretaker(signoff)
        monkeypatch.setattr(tender._reconciler, "settle", lambda: reached.append("settle"))
        tender.turn()
        assert reached == ["forget", "keep", "settle"]
        with pytest.raises(ExceptionGroup):
            caretaker.tidy(signoff)


class TestReadiness:
    @pytest.fixture
    def ready(self, signoff: Signoff) -> Callable[..., tuple[int, list[str]]]:
        (signoff.settings.home / SAMPLE_COMPLETE).touch()

        def ready(*workers: Worker) -> tuple[int, list[str]]:
            answer = TestClient(Starlette(routes=health_routes(signoff, workers))).get("/readyz")
            return answer.status_code, answer.json()["missing"]

        return ready

    def test_a_worker_that_is_not_well_is_named_and_nothing_of_what_broke(
        self, ready: Callable[..., tuple[int, list[str]]], hands: Hands, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker = hands.worker()
        monkeypatch.setattr(worker, "_thread", threading.current_thread())
        assert ready(worker) == (200, [])
        hands.error = unique()
        for _ in range(3):
            worker.turn()
        assert ready(worker, worker) == (503, [f"The {WHAT} broke 3 times in a row; Signoff's log says why."])

    def test_an_outage_names_no_host_and_no_file(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        ready: Callable[..., tuple[int, list[str]]],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def away(*_: object) -> None:
            raise RegistryUnavailable("MLflow does not answer at http://mlflow.internal:5000.")

        def closed(*_: object) -> None:
            raise LedgerUnavailable('Signoff\'s database cannot be used (connection to server at "db7", port 5432).')

        monkeypatch.setattr(registry, "ping", away)
        monkeypatch.setattr(signoff.database, "reading", closed)
        for _ in range(3):
            assert ready() == (503, [LedgerUnavailable.TO_STRANGERS, "MLflow does not answer."])
        assert "db7" in caplog.text
        assert "mlflow.internal" in caplog.text

    def test_every_background_thread_has_a_heartbeat(self, signoff: Signoff) -> None:
        found = (signoff.snapshot, Caretaker(signoff), Courier(signoff), Validator(signoff))
        assert [len(one.workers) for one in found] == [1, 1, 0, 2], "and one for each channel of messages"
