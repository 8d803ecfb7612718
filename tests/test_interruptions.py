"""What a change leaves behind when it is interrupted: a truthful record, one champion, and no write of a dead hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from services import caretaker
from services.database import database_time
from services.domain import VersionRef
from services.errors import (
    BadInput,
    LedgerUnavailable,
    NotFound,
    OutcomeUnknown,
    PromotionConflict,
    Refused,
    RegistryUnavailable,
)
from services.record import mirror
from services.signoff import Signoff
from services.steps import intents, slots
from services.tables import events
from services.tables import intents as intents_table
from services.tables import slots as slots_table
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.test_releases import Crash, approve, crash_at, lease_runs_out, release, slot_is_free, stages
from tests.verbs import releases, reviews


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 1, in Production."""
    return release(signoff, registry.add_version("m", {"val_auc": 0.92}))


@pytest.fixture
def ready(signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> VersionRef:
    """Version 2, approved; the registry's list of writes starts empty."""
    ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
    registry.writes.clear()
    return ref


LONG = "Fits into no page that is still half empty. " * 200


def promote(signoff: Signoff, ref: VersionRef, reason: str = "Fewer misses.") -> None:
    releases.promote(signoff, ref, by="release_manager", reason=reason)


def on(step: str, act: Callable[[], None], *, times: int = 1) -> Callable[[str], None]:
    """A hook that acts on the first writes that start with ``step``."""
    left: Iterator[int] = iter(range(times))

    def hook(what: str) -> None:
        if what.startswith(step) and next(left, None) is not None:
            act()

    return hook


def fails(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def and_then(step: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    """The step, with something happening right after it, the first time."""
    left = iter([act])

    def wrapped(*arguments: Any, **options: Any) -> Any:
        found = step(*arguments, **options)
        for happening in left:
            happening()
        return found

    return wrapped


class TestTheLease:
    def test_whoever_wakes_up_after_it_ran_out_sends_nothing(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def sleep_through() -> None:
            lease_runs_out(signoff)
            caretaker.tidy(signoff)

        monkeypatch.setattr("services.steps.intents._open", and_then(releases.intents._open, sleep_through))
        with pytest.raises(OutcomeUnknown):
            promote(signoff, ready)
        assert not [write for write in registry.writes if write.startswith(("stage", "alias", "no alias"))]
        assert stages(registry) == ["Production", "Staging"]
        assert kinds(signoff)[-2:] == ["promotion:intended", "promotion:aborted"]
        assert slot_is_free(signoff)

    def test_that_runs_out_between_stage_and_alias_is_no_refusal_and_is_rolled_forward(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.after_write = on("stage", lambda: lease_runs_out(signoff))
        with pytest.raises(OutcomeUnknown):
            promote(signoff, ready)
        assert registry.writes == [f"stage {ready} Production"]
        assert "promotion:refused" not in kinds(signoff), "the stage has moved: nobody may call that refused"
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == "promotion:confirmed"
        assert registry.model("m").aliases["champion"] == 2

    def test_with_less_left_than_a_write_may_take_is_not_enough(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        slot = slots.take(signoff.database, "m", holder="a", purpose="x", seconds=10)
        with signoff.database.reading() as connection:
            slots.require(connection, slot)
            with pytest.raises(PromotionConflict):
                slots.require(connection, slot, seconds=15)

    def test_begins_again_when_the_change_begins(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.steps.slots.take", lambda *a, take=slots.take, **k: take(*a, **k, seconds=5))
        promote(signoff, ready)
        assert kinds(signoff)[-1] == "promotion:confirmed"

    def test_stays_when_we_stop_half_way_because_the_write_may_still_arrive(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.before_write = crash_at("stage")
        with pytest.raises(Crash):
            promote(signoff, ready)
        registry.before_write = lambda _: None
        with pytest.raises(PromotionConflict):
            promote(signoff, ready)

    def test_that_somebody_else_has_by_now_is_theirs_to_close_under(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def take_over() -> None:
            lease_runs_out(signoff)
            slots.take(signoff.database, "m", holder="b", purpose="a rollback")

        monkeypatch.setattr(intents, "_outcome", and_then(intents._outcome, take_over))
        with pytest.raises(OutcomeUnknown):
            promote(signoff, ready)
        assert kinds(signoff)[-1] == "promotion:intended"
        assert not slot_is_free(signoff)

    def test_does_not_let_a_change_be_closed_twice(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def conclude() -> None:
            with signoff.database.reading() as connection:
                (under_way,) = intents.in_flight(connection)
            intents.conclude(signoff, under_way.id)

        monkeypatch.setattr(intents, "_outcome", and_then(intents._outcome, conclude))
        with pytest.raises(OutcomeUnknown):
            promote(signoff, ready)
        assert kinds(signoff)[-2:] == ["promotion:intended", "promotion:confirmed"]

    def test_is_no_life_of_a_change_that_is_closed(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        promote(signoff, ready)
        with signoff.database.writing() as connection:
            connection.execute(slots_table.update().values(expires_at=database_time() + 60))
            assert intents.alive(connection, record(signoff)[-1].body["closes"]) is None


class TestALostAnswer:
    def test_is_never_followed_by_the_same_write_again(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.before_write = on("alias", fails(RegistryUnavailable("no answer")))
        with pytest.raises(OutcomeUnknown):
            promote(signoff, ready)
        assert f"alias {ready} champion" not in registry.writes
        assert record(signoff)[-1].get("after")["aliases"]["champion"] == 1, "what MLflow showed, not what was wished"
        assert not slot_is_free(signoff)
        lease_runs_out(signoff)
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == "promotion:confirmed"
        assert registry.model("m").aliases["champion"] == 2
        assert slot_is_free(signoff)

    def test_whose_write_arrived_is_confirmed_at_once(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.after_write = on("stage", fails(RegistryUnavailable("no answer")))
        promote(signoff, ready)
        assert kinds(signoff)[-1] == "promotion:confirmed"
        assert [write for write in registry.writes if write.startswith(("stage", "alias"))] == [
            f"stage {ready} Production",
            f"alias {ready} champion",
        ]

    def test_while_finding_out_keeps_the_slot_too(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.before_write = on("alias", fails(RegistryUnavailable("no answer")), times=2)
        with pytest.raises(OutcomeUnknown):
            promote(signoff, ready)
        lease_runs_out(signoff)
        caretaker.tidy(signoff)
        assert not slot_is_free(signoff), "the caretaker's own write may still arrive"
        lease_runs_out(signoff)
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == "promotion:confirmed"


class TestPuttingBack:
    def test_leaves_alone_what_somebody_else_moved_meanwhile(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        other = registry.add_version("m", {"val_auc": 0.9})

        def meddle() -> None:
            registry.write_file(ready, "model.skops", b"swapped")
            registry.set_alias(other, "challenger")

        registry.after_write = on("no alias", meddle)
        with pytest.raises(RegistryUnavailable, match="not changed as prescribed"):
            promote(signoff, ready)
        assert registry.model("m").aliases == {"champion": 1, "challenger": other.version}
        assert kinds(signoff)[-1] == "promotion:aborted"

    def test_a_write_that_mlflow_does_not_accept_is_undone_in_full(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.before_write = on("alias", fails(BadInput("MLflow does not accept the alias.")))
        with pytest.raises(RegistryUnavailable, match="not changed as prescribed"):
            promote(signoff, ready)
        assert stages(registry) == ["Production", "Staging"]
        assert registry.model("m").aliases == {"champion": 1, "challenger": 2}
        assert kinds(signoff)[-1] == "promotion:aborted"
        assert slot_is_free(signoff)

    @pytest.mark.parametrize("write", range(1, 4))
    def test_never_shows_two_champions_whenever_it_is_interrupted(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, write: int
    ) -> None:
        registry.after_write = on("no alias", lambda: registry.write_file(ready, "model.skops", b"swapped"))
        seen: list[int] = []

        def die_at(what: str) -> None:
            seen.append(stages(registry).count("Production"))
            if len(registry.writes) == 3 + write:
                raise Crash

        registry.before_write = die_at
        with pytest.raises(Crash):
            promote(signoff, ready)
        registry.before_write = lambda _: seen.append(stages(registry).count("Production"))
        lease_runs_out(signoff)
        caretaker.tidy(signoff)
        assert set(seen) == {1}
        assert stages(registry) == ["Production", "Staging"]
        assert registry.model("m").aliases == {"champion": 1, "challenger": 2}
        assert kinds(signoff)[-1] == "promotion:aborted"

    def test_files_that_are_gone_are_not_served(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.after_write = on("no alias", lambda: registry._files.pop(ready))
        with pytest.raises(RegistryUnavailable, match="not changed as prescribed"):
            promote(signoff, ready)
        assert stages(registry) == ["Production", "Staging"]
        assert "files are gone" in record(signoff)[-1].get("why")

    def test_a_version_deleted_meanwhile_is_not_said_to_serve(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        def delete() -> None:
            del registry._versions[ready]
            raise NotFound("gone")

        registry.before_write = on("stage", delete)
        with pytest.raises(RegistryUnavailable):
            promote(signoff, ready)
        assert kinds(signoff)[-1] == "promotion:aborted"
        assert record(signoff)[-1].get("after") is None

    def test_whoever_came_into_production_past_us_is_archived_in_the_same_step(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        first = approve(signoff, registry.add_version("m", {"val_auc": 0.92}))
        stranger = registry.add_version("m", {"val_auc": 0.1})
        registry.before_write = on("stage", lambda: registry.set_stage(stranger, "Production"))
        promote(signoff, first)
        assert stages(registry) == ["Production", "Archived"]

    def test_whoever_takes_the_stage_after_us_leaves_us_out_of_it(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        stranger = registry.add_version("m", {"val_auc": 0.1})
        registry.after_write = on("no alias", lambda: registry.set_stage(stranger, "Production"))
        with pytest.raises(RegistryUnavailable):
            promote(signoff, ready)
        assert stages(registry) == ["Archived", "Staging", "Production"]
        assert kinds(signoff)[-1] == "promotion:aborted"


class TestTheLedgerFails:
    @pytest.mark.parametrize("step", ["stage", "alias", "no alias"])
    def test_after_the_first_write_and_nobody_says_that_nothing_was_changed(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, step: str
    ) -> None:
        registry.after_write = on(step, lambda: read_only(signoff, True))
        with pytest.raises(OutcomeUnknown):
            promote(signoff, ready)
        read_only(signoff, False)
        lease_runs_out(signoff)
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == "promotion:confirmed"
        assert stages(registry) == ["Archived", "Production"]
        assert registry.model("m").aliases == {"champion": 2}

    def test_while_the_tags_are_written_and_the_promotion_has_succeeded_all_the_same(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        registry.before_write = on("tag", lambda: read_only(signoff, True))
        promote(signoff, ready)
        read_only(signoff, False)
        caretaker.tidy(signoff)
        assert registry.version(ready).tags["promoted_by"] == "release_manager"
        assert slot_is_free(signoff)


def read_only(signoff: Signoff, on: bool) -> None:
    """Every transaction that writes fails from now on, or works again; reading goes on."""
    engine = signoff.database.engine
    if on:
        sa.event.listen(engine, "begin", _refuse)
    else:
        sa.event.remove(engine, "begin", _refuse)


def _refuse(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("writing"):
        raise sa.exc.OperationalError("", {}, Exception("the database is read-only"))


class TestNoLedgerNoEffect:
    """Invariant 2: read-only file, full disk, locked database. Nothing reaches MLflow."""

    @pytest.mark.parametrize("verb", ["submit", "promote", "rollback", "archive", "approve"])
    @pytest.mark.parametrize("trouble", ["read-only", "full", "locked"])
    def test_whatever_is_wrong_with_the_database(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        ready: VersionRef,
        trouble: str,
        verb: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        fresh = registry.add_version("m", {"val_auc": 0.97})
        waiting = registry.add_version("n", {"val_auc": 0.97})
        reviews.submit(signoff, waiting, by="scientist", comment="x")
        registry.writes.clear()
        before = kinds(signoff)
        acts: dict[str, Callable[[], object]] = {
            "submit": lambda: reviews.submit(signoff, fresh, by="scientist", comment=LONG),
            "approve": lambda: reviews.approve(signoff, waiting, by="reviewer", comment=LONG),
            "promote": lambda: promote(signoff, ready, LONG),
            "rollback": lambda: releases.rollback(signoff, "m", version=1, by="release_manager", reason=LONG),
            "archive": lambda: releases.archive(signoff, ready, by="release_manager", reason=LONG),
        }
        if verb == "rollback":
            promote(signoff, ready)
            registry.writes.clear()
            before = kinds(signoff)
        with TROUBLES[trouble](signoff), pytest.raises(LedgerUnavailable, match="nothing was changed"):
            acts[verb]()
        assert registry.writes == []
        assert kinds(signoff) == before


class _Pragma:
    """Every connection of this database is opened with a pragma that makes it fail as a real one would."""

    def __init__(self, pragma: str, undo: str) -> None:
        self._pragma, self._undo = pragma, undo

    def __call__(self, signoff: Signoff) -> _Pragma:
        self._engine = signoff.database.engine
        return self

    def __enter__(self) -> None:
        sa.event.listen(self._engine, "checkout", self._set)

    def __exit__(self, *_: object) -> None:
        sa.event.remove(self._engine, "checkout", self._set)
        with self._engine.connect() as connection:
            connection.exec_driver_sql(self._undo)

    def _set(self, connection: sa.engine.interfaces.DBAPIConnection, *_: object) -> None:
        connection.execute(self._pragma)  # type: ignore[attr-defined]


class _Locked:
    """Another process holds the write lock and does not let go."""

    def __call__(self, signoff: Signoff) -> _Locked:
        self._url, self._engine = signoff.database.url, signoff.database.engine
        return self

    def __enter__(self) -> None:
        import sqlite3

        self._other = sqlite3.connect(Path(self._url.removeprefix("sqlite:///")), isolation_level=None)
        self._other.execute("BEGIN IMMEDIATE")
        sa.event.listen(self._engine, "checkout", self._impatient)

    def __exit__(self, *_: object) -> None:
        sa.event.remove(self._engine, "checkout", self._impatient)
        self._other.execute("ROLLBACK")
        self._other.close()

    def _impatient(self, connection: sa.engine.interfaces.DBAPIConnection, *_: object) -> None:
        connection.execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]


TROUBLES = {
    "read-only": _Pragma("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
    "full": _Pragma("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000"),
    "locked": _Locked(),
}


class TestNoSecondEffect:
    """Invariant 5: a retry, a double click, a late retry of an older promotion."""

    def test_a_late_retry_of_an_older_promotion_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        promote(signoff, ready)
        release(signoff, registry.add_version("m", {"val_auc": 0.97}))
        registry.writes.clear()
        with pytest.raises(Refused):
            promote(signoff, ready)
        assert registry.writes == []
        assert stages(registry) == ["Archived", "Archived", "Production"]
        assert kinds(signoff)[-1] == "promotion:refused"

    @pytest.mark.parametrize("version", [None, 1])
    def test_a_rollback_that_is_clicked_twice_goes_back_once(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, version: int | None
    ) -> None:
        promote(signoff, ready)
        releases.rollback(signoff, "m", version=version, by="release_manager", reason="Latency doubled.")
        registry.writes.clear()
        if version is None:
            with pytest.raises(Refused, match="no earlier champion"):
                releases.rollback(signoff, "m", by="release_manager", reason="Latency doubled.")
        else:
            again = releases.rollback(signoff, "m", version=version, by="release_manager", reason="Latency doubled.")
            assert again.event is None
        assert registry.writes == []
        assert stages(registry) == ["Production", "Archived"]

    def test_an_intent_is_closed_once(self, signoff: Signoff, ready: VersionRef) -> None:
        promote(signoff, ready)
        with signoff.database.reading() as connection:
            closed = connection.execute(sa.select(events).where(events.c.closes.is_not(None))).first()
        assert closed
        with pytest.raises(sa.exc.IntegrityError), signoff.database.writing() as connection:
            connection.execute(events.insert().values(**{**closed._mapping, "seq": 999, "hash": "f" * 64}))


class TestARowOfIntents:
    """It finds the event that says what the intent is; whoever can write the database can write rows."""

    def promotion_dies(self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef) -> None:
        registry.before_write = crash_at("stage")
        with pytest.raises(Crash):
            promote(signoff, ready)
        registry.before_write = lambda _: None
        lease_runs_out(signoff)

    def test_gives_back_the_whole_intent_from_its_event(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun: list[intents.Intent] = []

        def kept(*arguments: Any, step: Callable[..., Any] = intents._open) -> Any:
            intent, event = step(*arguments)
            begun.append(replace(intent, change=replace(intent.change, each=True, succeeds=1)))
            return intent, event

        entry = intents._entry
        monkeypatch.setattr(
            intents,
            "_entry",
            lambda s, intent, outcome: entry(
                s, replace(intent, change=replace(intent.change, each=True, succeeds=1)), outcome
            ),
        )
        monkeypatch.setattr(intents, "_open", kept)
        self.promotion_dies(signoff, registry, ready)
        with signoff.database.reading() as connection:
            assert intents.in_flight(connection) == begun

    @pytest.mark.parametrize("rewritten", ["opened_seq", "model"])
    def test_that_names_another_event_or_model_has_nothing_done_and_nothing_recorded(
        self,
        signoff: Signoff,
        registry: FakeRegistry,
        ready: VersionRef,
        caplog: pytest.LogCaptureFixture,
        rewritten: str,
    ) -> None:
        approve(signoff, registry.add_version("n", {"val_auc": 0.95}))
        first = next(event.seq for event in record(signoff) if event.kind.value == "promotion:intended")
        self.promotion_dies(signoff, registry, ready)
        opened, model = record(signoff)[-1].seq, "m"
        if rewritten == "opened_seq":
            row = intents_table.update().values(opened_seq=first)
        else:
            row, model = intents_table.update().values(model="n"), "n"
        with signoff.database.writing() as connection:
            connection.execute(row.where(intents_table.c.state == "open"))
            assert intents.in_flight(connection) == []
        before, shown = kinds(signoff), stages(registry)
        registry.writes.clear()
        caretaker.tidy(signoff)
        assert "somebody changed that row" in caplog.text
        assert (kinds(signoff), stages(registry)) == (before, shown)
        assert not [write for write in registry.writes if write.startswith(("stage", "alias", "no alias"))]
        with pytest.raises(Refused, match=f"of {model}, and it did not: somebody changed that row"):
            releases.archive(signoff, VersionRef(name=model, version=1), by="release_manager", reason="Away.")
        assert kinds(signoff) == [*before, "archival:refused"]
        with signoff.database.writing() as connection:
            whole = intents_table.update().values(opened_seq=opened, model="m")
            connection.execute(whole.where(intents_table.c.state == "open"))
        caretaker.tidy(signoff)
        assert kinds(signoff)[-1] == "promotion:aborted"
        assert (record(signoff)[-1].actor, record(signoff)[-1].ref) == ("release_manager", ready)

    def test_that_somebody_opens_again_says_again_what_closed_it(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef, caplog: pytest.LogCaptureFixture
    ) -> None:
        promote(signoff, ready)
        before, closed = kinds(signoff), record(signoff)[-1]
        for act in (
            lambda: caretaker.tidy(signoff),
            lambda: releases.archive(signoff, VersionRef(name="m", version=1), by="release_manager", reason="Away."),
        ):
            with signoff.database.writing() as connection:
                connection.execute(intents_table.update().values(state="open", token=2**40))
                assert intents.in_flight(connection) == []
            assert intents.conclude(signoff, closed.body["closes"]) == closed
            with suppress(Refused):
                act()
            with signoff.database.reading() as connection:
                states = sa.select(intents_table.c.state).where(intents_table.c.model == "m")
                assert "open" not in set(connection.execute(states).scalars())
            assert slot_is_free(signoff)
        assert [kind for kind in kinds(signoff)[len(before) :] if kind.startswith("promotion")] == []
        assert caplog.text == ""


class TestOneModelAndTheOthers:
    def test_a_change_that_cannot_be_closed_holds_up_no_other_model(
        self, signoff: Signoff, registry: FakeRegistry, ready: VersionRef
    ) -> None:
        other = approve(signoff, registry.add_version("n", {"val_auc": 0.95}))
        registry.before_write = crash_at("stage")
        for ref in (ready, other):
            with pytest.raises(Crash):
                promote(signoff, ref)
        registry.before_write = lambda _: None
        known = registry.versions
        registry.versions = lambda name: known(name) if name == "n" else fails(BadInput("not accepted"))()  # type: ignore[assignment]
        lease_runs_out(signoff)
        caretaker.tidy(signoff)
        with signoff.database.reading() as connection:
            open_on = releases.intents.in_flight(connection)
        assert [intent.ref.name for intent in open_on] == ["m"]


class TestTheMirror:
    def test_a_slow_writer_does_not_leave_old_tags_behind_a_faster_one(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        overtaken = iter(
            [lambda: reviews.request_changes(signoff, ref, by="reviewer", comment="Say on which patients.")]
        )

        def overtake(what: str) -> None:
            if what.startswith(f"tag {ref} approval_status"):
                for act in overtaken:
                    act()

        registry.before_write = overtake
        reviews.submit(signoff, ref, by="scientist", comment="Better.")
        caretaker.tidy(signoff)
        version = registry.version(ref)
        with signoff.database.reading() as connection:
            assert mirror.prescribed(connection, ref, version.identity) == version.tags
        assert version.tags["approval_status"] == "changes_requested"


class TestAnEndedSubmission:
    def test_takes_no_more_votes(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Better.")
        read = reviews.facts.fresh
        withdrawing = iter([lambda: reviews.withdraw(signoff, ref, by="scientist", comment="Not yet.")])

        def read_slowly(*arguments: object) -> object:
            seen = read(*arguments)  # type: ignore[arg-type]
            for act in withdrawing:
                act()
            return seen

        monkeypatch.setattr("services.facts.fresh", read_slowly)
        with pytest.raises(PromotionConflict, match="ended the submission"):
            reviews.approve(signoff, ref, by="reviewer", comment="Good.")
        assert kinds(signoff)[-2:] == ["withdrawal:confirmed", "approval:refused"]


def test_the_table_of_slots_is_what_the_helpers_think(signoff: Signoff, champion: VersionRef) -> None:
    """`slot_is_free` would be true of a table nobody writes."""
    slots.take(signoff.database, "m", holder="a", purpose="x")
    assert not slot_is_free(signoff)
    with signoff.database.reading() as connection:
        assert connection.execute(sa.select(slots_table.c.holder)).scalars().all() == ["a"]
