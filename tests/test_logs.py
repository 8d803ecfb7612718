"""What the log says of a failure that comes back in every round: once, and later how often it came."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from uuid import uuid4

import pytest

from services import logs
from services.errors import RegistryUnavailable
from services.logs import Seldom
from services.mlflow.connection import MlflowConnection

Lines = Callable[..., list[str]]


class Time:
    """A clock that is set."""

    now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def told(time: Time) -> Lines:
    """Sends lines through one filter; returns those that are told."""
    seldom = Seldom(time)

    def send(*texts: str, level: int = logging.WARNING) -> list[str]:
        records = [logging.LogRecord("x", level, "x.py", 1, "reader: %s", (text,), None) for text in texts]
        return [record.getMessage() for record in records if seldom.filter(record)]

    return send


class TestAWarning:
    def test_is_told_once_in_a_while_and_then_with_how_often_it_came(self, told: Lines, time: Time) -> None:
        assert told(*["It broke."] * 5) == ["reader: It broke."]
        time.now += logs.SECONDS - 1
        assert told("It broke.") == []
        time.now += 1
        assert told("It broke.", "It broke.") == ["reader: It broke. (and 5 more like it before)"]
        time.now += 2 * logs.SECONDS
        assert told("It broke.") == ["reader: It broke. (and 1 more like it before)"]
        time.now += logs.SECONDS
        assert told("It broke.") == ["reader: It broke."]

    def test_of_another_row_is_the_same_and_of_another_cause_is_not(self, told: Lines) -> None:
        rows = [f"m/v{number}: run {uuid4().hex} at 0x7f{number}: no number" for number in range(200)]
        assert told(*rows) == [f"reader: {rows[0]}"]
        assert len(told("a: refused", "b: refused", "a: no answer", "a: HTTP 403", "a: HTTP 500")) == 5

    def test_is_forgotten_only_where_there_are_too_many(self, told: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logs, "MAX_CAUSES", 2)
        assert len(told("a", "b", "a", "c", "a")) == 3
        assert len(told("b")) == 1


def test_an_error_is_always_told(told: Lines) -> None:
    assert len(told("It broke.", "It broke.", level=logging.ERROR)) == 2


@pytest.mark.parametrize(
    "module", ["mlflow.connection", "snapshot", "reconciliation.file_watch", "reconciliation.evidence_watch"]
)
def test_modules_that_read_in_every_round_repeat_nothing(module: str) -> None:
    log = import_module(f"services.{module}").log
    assert [type(one) for one in log.filters] == [Seldom]


def test_one_broken_run_that_is_read_for_many_versions_is_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = import_module("services.mlflow.connection").log.filters
    monkeypatch.setattr(kept, "_told", {})

    def broken() -> None:
        raise ValueError("could not convert string to float: 'many'")

    connection = MlflowConnection("http://127.0.0.1:9")
    for number in range(100):
        with pytest.raises(RegistryUnavailable):
            connection._once(broken, f"m/v{number}")
    assert caplog.messages == ["MLflow: m/v0: could not convert string to float: 'many'"]
