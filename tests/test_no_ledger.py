"""No ledger write, no effect: while the record takes no writes, nothing reaches MLflow. The outages are real ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services import caretaker, facts
from services.database import BUSY_SECONDS
from services.desk import Request
from services.domain import Action, VersionRef
from services.errors import BadInput, LedgerUnavailable, OutcomeUnknown
from services.evidence import FindingDraft
from services.record import ledger
from services.record.deviations import open_deviations
from services.signoff import Signoff
from services.steps.intents import in_flight
from services.validation.jobs import Origin, Wanted
from tests import postgres
from tests.fakes import HOLDOUT, FakeRegistry
from tests.ledgers import record
from tests.outages import OUTAGES, Outage, small_disk, tablespace
from tests.test_assigned_policies import tagged
from tests.test_releases import approve, lease_runs_out, release
from tests.verbs import break_glass, desk, findings, reconciler, releases, reviews, validations

PATIENCE = 0.1
"""Seconds that these tests wait for a lock which nobody gives up."""
BY = {
    Action.SUBMIT: "scientist",
    Action.WITHDRAW: "scientist",
    Action.APPROVE: "reviewer",
    Action.REQUEST_CHANGES: "reviewer",
    Action.REJECT: "reviewer",
    Action.RESOLVE: "reviewer2",
    Action.REOPEN: "reviewer",
    Action.STATE_DATASET: "reviewer",
    Action.BREAK_GLASS: "break_glass",
    Action.WITHDRAW_EMERGENCY: "break_glass",
    Action.REVIEW_EMERGENCY: "auditor",
    Action.VALIDATE: "scientist",
    Action.VALIDATE_WITH_CONSENT: "reviewer",
    Action.CANCEL_VALIDATION: "scientist",
}
CHANGES = frozenset(
    {
        *("submit", "reject", "withdraw", "promote", "auto", "rollback", "archive", "restore", "restore_tags"),
        "confirm_emergency",
    }
)
"""Verbs that change more in MLflow than the tags that follow from the record."""
NO_VERBS = {
    *(Action.VIEW, Action.TRY_POLICIES, Action.RECONCILE, Action.EXPORT_LEDGER),
    *(Action.RETRY_MESSAGES, Action.MANAGE_PEOPLE),
}
"""What is about no version."""


@pytest.fixture(params=OUTAGES, ids=str)
def outage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Outage:
    """Each way in which the database stops taking writes. One that is locked is not waited for as long as usual."""
    found: Outage = request.param
    if "locked" in found.name:
        monkeypatch.setattr("services.database.BUSY_SECONDS", PATIENCE)
    return found


@pytest.fixture
def server(request: pytest.FixtureRequest, outage: Outage) -> postgres.Server | None:
    """The PostgreSQL of this run, where the outage is one of PostgreSQL's."""
    if outage.database == "sqlite":
        return None
    found: postgres.Server = request.getfixturevalue("postgres_server")
    return found


@pytest.fixture
def disk(outage: Outage, server: postgres.Server | None, tmp_path: Path) -> Iterator[tuple[Path, str] | None]:
    """A small disk, and on PostgreSQL the tablespace on it, for outages that need one."""
    if not outage.disk:
        yield None
    elif server:
        with tablespace(server) as found:
            yield found
    else:
        with small_disk(tmp_path / "disk", megabytes=8) as folder:
            yield folder, ""


@pytest.fixture
def database_url(server: postgres.Server | None, disk: tuple[Path, str] | None, tmp_path: Path) -> Iterator[str]:
    """An empty database, on the small disk if there is one."""
    folder, name = disk or (tmp_path, "pg_default")
    if server is None:
        yield f"sqlite:///{folder / 'signoff.db'}"
        return
    url = server.new_database(tablespace=name)
    yield url
    server.drop(url)


@pytest.fixture
def requests(signoff: Signoff, registry: FakeRegistry) -> dict[str, Request]:
    """One request for every verb, each about a model of its own that is where the verb has something to do."""

    def version(name: str, value: float = 0.95) -> VersionRef:
        return registry.add_version(name, {"val_auc": value})

    def submitted(name: str) -> VersionRef:
        ref = version(name)
        reviews.submit(signoff, ref, by="scientist", comment="Please review.")
        return ref

    def with_finding(name: str) -> VersionRef:
        ref = submitted(name)
        reviews.request_changes(
            signoff, ref, by="reviewer", comment="Not yet.", findings=[FindingDraft(text="Say on whom.")]
        )
        return ref

    def emergency(ref: VersionRef) -> int:
        event = break_glass.ask(signoff, ref, by="break_glass", reason="Nonsense since noon.").event
        assert event
        return event.seq

    refs = {
        "submit": version("submit"),
        **{name: submitted(name) for name in ("approve", "request_changes", "reject", "withdraw")},
        **{name: with_finding(name) for name in ("resolve", "reopen")},
        **{name: approve(signoff, version(name)) for name in ("promote", "auto")},
        "rollback": release(signoff, version("rollback")),
        **{name: release(signoff, version(name)) for name in ("archive", "restore", "restore_tags", "adopt")},
        **{action.value: version(action.value, 0.5) for action in Action if "emergency" in action},
        "break_glass": version("break_glass", 0.5),
        "assign_policy": version("assign_policy"),
        **{action.value: version(action.value) for action in Action if "valid" in action},
    }
    refs["state_dataset"] = release(signoff, registry.add_version("state_dataset", {"val_auc": 0.95}, dataset=None))
    wanted = Wanted(origin=Origin.PLACE, name="/data/holdout.csv", target="y")
    waiting = validations.ask(signoff, refs["cancel_validation"], wanted, by="scientist").job or 0
    release(signoff, version("rollback"))
    finding = {name: facts.shown(signoff, refs[name])[1].findings[0].id for name in ("resolve", "reopen")}
    findings.resolve(signoff, refs["reopen"], finding["reopen"], by="reviewer2", comment="On everybody.")
    asked = {name: emergency(ref) for name, ref in refs.items() if name.endswith("_emergency")}
    break_glass.confirm(signoff, asked["review_emergency"], by="release_manager", comment="Agreed.")
    reconciler.reconcile(signoff)
    for name in ("restore", "adopt"):
        registry.set_alias(version(name), "champion")
    registry.tag(refs["restore_tags"], "approved_by", "nobody")
    tagged(registry, "assign_policy", task="regression")
    reconciler.reconcile(signoff)
    deviation = {one.ref.name: one.id for one in open_deviations(signoff)}
    assert set(deviation) == {"restore", "restore_tags", "adopt"}
    registry.writes.clear()
    asked_for = {
        name: Request(
            action=Action(name.removesuffix("_tags")),
            ref=ref,
            words="Because.",
            deviation=deviation.get(name, 0),
            finding=finding.get(name, 0),
            emergency=asked.get(name, 0),
            justified=True,
            wanted=wanted,
            validation=waiting,
            dataset=HOLDOUT,
            policy="regression",
        )
        for name, ref in refs.items()
    }
    assert {request.action for request in asked_for.values()} == set(Action) - NO_VERBS, "every verb is here"
    return asked_for


def perform(signoff: Signoff, request: Request) -> desk.Outcome:
    return desk.perform(signoff, request, by=BY.get(request.action, "release_manager"))


def effects(writes: list[str]) -> list[str]:
    """What was written but checkpoints: one that found room in the database may be witnessed."""
    return [write for write in writes if not write.startswith("witness ")]


def assert_verifies(signoff: Signoff) -> None:
    with signoff.database.reading() as connection:
        assert ledger.broken_at(connection) is None
        assert in_flight(connection) == []


class TestBeforeAnythingIsRecorded:
    def test_no_verb_reaches_mlflow_and_each_succeeds_afterwards(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        requests: dict[str, Request],
        outage: Outage,
        disk: tuple[Path, str] | None,
        server: postgres.Server | None,
    ) -> None:
        attempts: list[str] = []
        registry.before_write = attempts.append
        with outage.begin(signoff, disk[0] if disk else None, server):
            for name, request in requests.items():
                began = time.monotonic()
                with pytest.raises(LedgerUnavailable) as error:
                    perform(signoff, request)
                assert time.monotonic() - began < 3, name
                assert str(error.value).startswith("Signoff's database cannot be used ("), name
                assert str(error.value).endswith("); nothing was changed."), name
                assert "\n" not in str(error.value)
            caretaker.Caretaker(signoff).turn()
            assert effects(attempts) == []
        lease_runs_out(signoff)
        for name, request in requests.items():
            assert perform(signoff, request).event, name
        assert attempts
        assert_verifies(signoff)


class TestHalfWay:
    def test_what_was_begun_is_unknown_until_the_record_can_be_written_and_then_told_truly(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        requests: dict[str, Request],
        outage: Outage,
        disk: tuple[Path, str] | None,
        server: postgres.Server | None,
    ) -> None:
        for name, request in requests.items():
            if name not in CHANGES:
                continue
            with ExitStack() as stack:

                def begin(_: str, stack: ExitStack = stack) -> None:
                    registry.after_write = lambda _: None
                    stack.enter_context(outage.begin(signoff, disk[0] if disk else None, server))

                registry.after_write = begin
                with pytest.raises(OutcomeUnknown):
                    perform(signoff, request)
                written = effects(registry.writes)
                caretaker.Caretaker(signoff).turn()
                assert effects(registry.writes) == written, name
            lease_runs_out(signoff)
            caretaker.tidy(signoff)
            last = [event for event in record(signoff) if event.ref and event.ref.name == name][-1]
            assert last.kind.outcome == "confirmed", name
        assert_verifies(signoff)


class TestOneVerb:
    def test_what_mlflow_refused_while_the_record_was_away_is_told_as_aborted(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        outage: Outage,
        disk: tuple[Path, str] | None,
        server: postgres.Server | None,
    ) -> None:
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        registry.writes.clear()
        with ExitStack() as stack:

            def refuse(_: str) -> None:
                registry.before_write = lambda _: None
                stack.enter_context(outage.begin(signoff, disk[0] if disk else None, server))
                raise BadInput("MLflow does not accept it.")

            registry.before_write = refuse
            with pytest.raises(OutcomeUnknown):
                releases.promote(signoff, ref, by="release_manager", reason="Fewer misses.")
        lease_runs_out(signoff)
        caretaker.tidy(signoff)
        assert [event.kind.value for event in record(signoff) if event.ref][-2:] == [
            "promotion:intended",
            "promotion:aborted",
        ]
        assert not any(write.startswith(("stage", "alias")) and "champion" in write for write in registry.writes)
        assert registry.version(ref).stage == "Staging"
        assert_verifies(signoff)

    def test_tags_that_were_not_written_are_made_up_for(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        outage: Outage,
        disk: tuple[Path, str] | None,
        server: postgres.Server | None,
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please review.")
        with ExitStack() as stack:

            def begin(_: str) -> None:
                registry.before_write = lambda _: None
                stack.enter_context(outage.begin(signoff, disk[0] if disk else None, server))

            registry.before_write = begin
            assert reviews.approve(signoff, ref, by="reviewer", comment="Looks right.").event
        caretaker.tidy(signoff)
        assert registry.version(ref).tags["approved_by"] == "reviewer"
        assert_verifies(signoff)


def test_nobody_waits_long_for_a_database_that_is_locked() -> None:
    assert BUSY_SECONDS <= 5
