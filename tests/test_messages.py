"""Messages: written with their event or not at all, delivered at least once and in order, by real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from services import assignments, caretaker
from services.accounts import people
from services.accounts.permissions import ROLES_FOR
from services.desk import Request
from services.domain import Action, Actor, Role, Source, VersionRef
from services.errors import NotAllowed, NotFound
from services.evidence import FindingDraft
from services.messaging import outbox
from services.messaging.courier import Courier
from services.messaging.message_book import MessageBook
from services.record import checkpoints, ledger
from services.record.ledger import Entry, Kind
from services.settings import PROJECT
from services.signoff import Signoff
from services.tables import accounts, events
from tests.conftest import BOTH, Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.receivers import HERE, deliver, later, log, post, rows, states, telling, web
from tests.verbs import desk, releases, reviews
from verifier.verify import checkpoint_in

DATABASES = BOTH
HOOK = "channels: [{name: hook, kind: webhook, address: SIGNOFF_MESSAGES_HOOK}]\n"
EVERYTHING = HERE + HOOK + 'rules: [{title: All of it, events: ["*"], channels: [hook]}]\n'
MAIL = "mail: {server: SIGNOFF_MESSAGES_MAIL, sender: signoff@example.com}\n"
BY_MAIL = (
    HERE
    + MAIL
    + """
rules:
  - {title: New submissions, events: ["submission:confirmed"], people: [reviewer]}
  - {title: Decisions, events: ["approval:given", "changes:requested", "rejection:confirmed"], people: [submitter]}
  - {title: Outside, events: ["outside:*", "emergency:*"], people: [everybody]}
"""
)
OWNERS = (
    BY_MAIL.partition("rules:")[0]
    + """
rules:
  - {title: Findings, events: ["changes:requested"], people: [owner]}
"""
)


@pytest.fixture(autouse=True)
def addresses(signoff: Signoff) -> None:
    """Everybody can be reached."""
    with signoff.database.writing() as connection:
        connection.execute(accounts.update().values(email=accounts.c.username + "@signoff.example"))


@pytest.fixture
def candidate(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """A good version nobody has submitted yet, of a model that Signoff has seen."""
    ref = registry.add_version("m", {"val_auc": 0.95})
    assignments.meet(signoff, signoff.snapshot.refresh(), {})
    return ref


@pytest.fixture
def waits(signoff: Signoff) -> Signoff:
    """A dashboard with a file and two messages that wait for its channel."""
    told = telling(signoff, EVERYTHING, hook="http://127.0.0.1:9/")
    told = replace(told, settings=replace(told.settings, messages=Path("messages.yaml")))
    append(told, Kind.OUTSIDE_STAGE)
    caretaker.tidy(told)  # which has the record witnessed: one more event
    assert states(told) == ["waiting", "waiting"]
    return told


def append(signoff: Signoff, kind: Kind, *, actor: str = "reconciler", ref: VersionRef | None = None) -> int:
    """One event by itself."""
    who = Actor(username=actor, name=actor, roles=frozenset(), source=Source.SYSTEM)
    with signoff.database.writing() as connection:
        return ledger.append(connection, Entry(kind=kind, actor=who, at=signoff.now(), ref=ref)).seq


class TestWriting:
    def test_a_row_comes_with_its_event(self, signoff: Signoff, candidate: VersionRef) -> None:
        told = telling(signoff, EVERYTHING, hook="http://127.0.0.1:9/")
        reviews.submit(told, candidate, by="scientist", comment="Please.")
        assert [row.seq for row in rows(told)] == [event.seq for event in record(told)]
        assert set(states(told)) == {"waiting"}

    def test_a_transaction_that_is_rolled_back_leaves_neither_event_nor_row(self, signoff: Signoff) -> None:
        told, before = telling(signoff, EVERYTHING, hook="http://127.0.0.1:9/"), kinds(signoff)

        def doomed() -> None:
            who = Actor(username="x", name="x", roles=frozenset(), source=Source.SYSTEM)
            with told.database.writing() as connection:
                ledger.append(connection, Entry(kind=Kind.OUTSIDE_STAGE, actor=who, at=told.now()))
                raise RuntimeError

        with pytest.raises(RuntimeError):
            doomed()
        assert kinds(told) == before
        assert rows(told) == []

    def test_without_rules_nobody_listens_and_nothing_is_written(self, signoff: Signoff, candidate: VersionRef) -> None:
        assert signoff.database.listener is None
        reviews.submit(signoff, candidate, by="scientist", comment="Please.")
        assert rows(signoff) == []

    def test_every_door_and_verb_is_told_of(self, signoff: Signoff, candidate: VersionRef) -> None:
        """Refusals, decisions and promotions go through the same one place."""
        told = telling(signoff, EVERYTHING, hook="http://127.0.0.1:9/")
        with pytest.raises(NotAllowed):
            desk.perform(told, Request(action=Action.SUBMIT, ref=candidate, words="x"), by="viewer")
        reviews.submit(told, candidate, by="scientist", comment="Please.")
        reviews.approve(told, candidate, by="reviewer", comment="Fine.")
        releases.promote(told, candidate, by="release_manager", reason="Out.")
        assert [row.seq for row in rows(told)] == [event.seq for event in record(told)]

    def test_two_rules_tell_one_receiver_once(self, signoff: Signoff) -> None:
        text = (
            HERE
            + HOOK
            + 'rules:\n  - {title: A, events: ["*"], channels: [hook]}\n'
            + '  - {title: B, events: ["outside:*"], channels: [hook]}\n'
        )
        told = telling(signoff, text, hook="http://127.0.0.1:9/")
        append(told, Kind.OUTSIDE_STAGE)
        assert [row.why for row in rows(told)] == ["A"]

    def test_a_rule_for_other_models_says_nothing(self, signoff: Signoff, candidate: VersionRef) -> None:
        text = HERE + HOOK + 'rules: [{title: A, events: ["*"], models: ["fraud*"], channels: [hook]}]\n'
        told = telling(signoff, text, hook="http://127.0.0.1:9/")
        reviews.submit(told, candidate, by="scientist", comment="Please.")
        assert rows(told) == []


class TestWhoIsTold:
    @pytest.mark.postgresql
    def test_reviewers_of_a_submission_and_the_submitter_of_a_decision(
        self, signoff: Signoff, candidate: VersionRef
    ) -> None:
        with post() as box:
            told = telling(signoff, BY_MAIL, mail=box.url)
            reviews.submit(told, candidate, by="scientist", comment="Please.")
            deliver(told, "mail")
            assert box.recipients == ["both", "reviewer", "reviewer2"]
            box.got.clear()
            reviews.approve(told, candidate, by="reviewer", comment="Fine.")
            deliver(told, "mail")
            assert box.recipients == ["scientist"]

    def test_who_is_to_answer_a_finding(self, signoff: Signoff, candidate: VersionRef) -> None:
        told = telling(signoff, OWNERS, mail="mailto://127.0.0.1:9")
        reviews.submit(told, candidate, by="scientist", comment="Please.")
        found = [FindingDraft(text="Explain.", owner="both"), FindingDraft(text="Mend.", owner="reviewer")]
        reviews.request_changes(told, candidate, by="reviewer", comment="Not yet.", findings=found)
        assert [row.person for row in rows(told)] == ["both"], "reviewer found it, and knows"
        reviews.request_changes(told, candidate, by="reviewer2", comment="Nor I.")
        assert [row.person for row in rows(told)] == ["both"]

    def test_who_did_it_is_not_told(self, signoff: Signoff, candidate: VersionRef) -> None:
        told = telling(signoff, BY_MAIL, mail="mailto://127.0.0.1:9")
        reviews.submit(told, candidate, by="both", comment="Please.")
        assert [row.person for row in rows(told)] == ["reviewer", "reviewer2"]

    @pytest.mark.parametrize("kind", [Kind.OUTSIDE_STAGE, Kind.EMERGENCY_CONFIRMED])
    def test_everybody_of_what_went_past_the_gate(self, signoff: Signoff, candidate: VersionRef, kind: Kind) -> None:
        """Also who did it: nobody is to say that they were left out."""
        told = telling(signoff, BY_MAIL, mail="mailto://127.0.0.1:9")
        append(told, kind, ref=candidate, actor="release_manager")
        assert len(rows(told)) == len(people.DEMO_ACCOUNTS) + 1

    @pytest.mark.postgresql
    def test_not_who_has_no_address_or_no_account_any_more(self, signoff: Signoff, candidate: VersionRef) -> None:
        told = telling(signoff, BY_MAIL, mail="mailto://127.0.0.1:9")
        people.disable(told.database, "reviewer2")
        with told.database.writing() as connection:
            connection.execute(accounts.update().where(accounts.c.username == "both").values(email=""))
        reviews.submit(told, candidate, by="scientist", comment="Please.")
        assert [row.person for row in rows(told)] == ["reviewer"]

    @pytest.mark.postgresql
    @pytest.mark.parametrize("email", ["", "a@b.c, evil@d.e", "a@b.c\r\nBcc: evil@d.e", "nobody", '"x" <a@b.c>'])
    def test_an_address_that_is_none_by_then_is_sent_nothing(
        self, signoff: Signoff, candidate: VersionRef, email: str
    ) -> None:
        with post() as box:
            told = telling(signoff, BY_MAIL, mail=box.url)
            reviews.submit(told, candidate, by="scientist", comment="Please.")
            with told.database.writing() as connection:
                connection.execute(accounts.update().values(email=email))
            deliver(told, "mail")
            assert box.got == []
            assert set(states(told)) == {"dropped"}


class TestContent:
    @pytest.mark.postgresql
    def test_a_mail_has_model_version_verdict_link_head_and_a_checkpoint_that_verifies(
        self, signoff: Signoff, candidate: VersionRef
    ) -> None:
        with post() as box:
            told = telling(signoff, BY_MAIL, mail=box.url)
            signed = checkpoints.create(told.database, told.settings, at=told.now())
            reviews.submit(told, candidate, by="scientist", comment="Better recall.")
            deliver(told, "mail")
            mail = box.got[0][1]
            body = mail.get_content().replace("\r\n", "\n")
        event = record(told)[-1]
        assert mail["Subject"] == "m v1 waits for review"
        assert mail["From"] == "signoff@example.com"
        assert mail["X-Signoff-Message"] == rows(told)[0].id
        assert "checks did not pass" in body
        assert "> Better recall[.]" not in body
        assert "> Better recall." in body
        assert f"Open: {told.settings.url}/version?name=m&version=1\n" in body
        assert f"Record: {event.seq}:{event.hash}\n" in body
        assert f"Ledger head: {event.seq}:{event.hash}\n" in body
        text = next(line for line in body.splitlines() if line.startswith("Checkpoint: ")).removeprefix("Checkpoint: ")
        keys = checkpoints.trusted(told.database, told.settings)
        assert checkpoint_in(text, keys, seq=signed.checkpoint.seq) == signed.checkpoint

    def test_a_webhook_has_the_same_for_programs(self, signoff: Signoff, candidate: VersionRef) -> None:
        with web() as receiver:
            told = telling(signoff, EVERYTHING, hook=receiver.url)
            reviews.submit(told, candidate, by="scientist", comment="Better recall.")
            deliver(told, "hook")
            data = receiver.got[-1][1]["signoff"]
        event = record(told)[-1]
        assert data["id"] == receiver.ids[-1]
        assert (data["model"], data["model_version"], data["kind"]) == ("m", 1, "submission:confirmed")
        assert data["event"] == data["ledger_head"] == f"{event.seq}:{event.hash}"
        assert data["url"] == f"{told.settings.url}/version?name=m&version=1"

    def test_query_and_password_of_a_webhook_address_arrive(self, signoff: Signoff) -> None:
        with web() as receiver:
            address = receiver.url.replace("http://", "http://me:pa%40ss@") + "?token=a%26b&x="
            told = telling(signoff, EVERYTHING, hook=address)
            append(told, Kind.OUTSIDE_STAGE)
            deliver(told, "hook")
            assert receiver.paths == ["/hook?token=a%26b&x="]
            assert receiver.got[0][0]["authorization"] == "Basic bWU6cGFAc3M="


class TestDelivery:
    def test_arrives_once_and_in_order(self, signoff: Signoff, candidate: VersionRef) -> None:
        with web() as receiver:
            told = telling(signoff, EVERYTHING, hook=receiver.url)
            reviews.submit(told, candidate, by="scientist", comment="Please.")
            reviews.approve(told, candidate, by="reviewer", comment="Fine.")
            assert deliver(told, "hook") == 3
            assert deliver(told, "hook") == 0
            assert receiver.events == kinds(told)
        assert set(states(told)) == {"delivered"}
        assert log(told) == [("delivered", None)] * 3

    def test_a_receiver_that_is_down_for_a_while_loses_nothing_and_keeps_the_order(
        self, signoff: Signoff, candidate: VersionRef
    ) -> None:
        with web() as receiver:
            told = telling(signoff, EVERYTHING, hook=receiver.url)
            receiver.status = 503
            reviews.submit(told, candidate, by="scientist", comment="Please.")
            for _ in range(3):
                assert deliver(told, "hook") == 1, "what comes later waits behind it"
                later(told)
            receiver.status = 200
            assert deliver(told, "hook") == 2
            assert receiver.events == kinds(told)
        assert log(told)[0] == ("failed", "The receiver answered HTTP 503.")

    @pytest.mark.postgresql
    def test_nothing_is_tried_again_before_its_pause_is_over(self, signoff: Signoff) -> None:
        told = telling(signoff, EVERYTHING, hook="http://127.0.0.1:9/")
        append(told, Kind.OUTSIDE_STAGE)
        assert deliver(told, "hook", chance=1.0) == 1
        later(told, 5.0)
        assert deliver(told, "hook") == 0
        later(told, 10.0)
        assert deliver(told, "hook") == 1
        assert log(told)[0] == ("failed", "The receiver was not reached: connection refused.")

    def test_one_that_died_after_sending_sends_again_under_the_same_id(self, signoff: Signoff) -> None:
        """As a process killed between delivery and noting it: what is claimed is never settled."""
        with web() as receiver:
            told = telling(signoff, EVERYTHING, hook=receiver.url)
            append(told, Kind.OUTSIDE_STAGE)
            courier = Courier(told)
            claimed = outbox.claim(told.database, "hook", at=told.now())
            assert claimed
            send = courier._way(claimed)
            assert send
            send(courier._letter(claimed), told.messages.allowed_networks)
            assert deliver(told, "hook") == 0, "the lease still holds"
            later(told)
            assert deliver(told, "hook") == 1
            assert receiver.ids[0] == receiver.ids[1] == rows(told)[0].id
        assert [outcome for outcome, _ in log(told)] == [None, "delivered"]

    @pytest.mark.postgresql
    def test_two_dashboards_do_not_send_the_same(self, signoff: Signoff) -> None:
        with web() as receiver:
            told = telling(signoff, EVERYTHING, hook=receiver.url)
            for _ in range(10):
                append(told, Kind.OUTSIDE_STAGE)
            done = threading.Barrier(4)

            def work() -> None:
                done.wait()
                for _ in range(40):
                    Courier(told).turn("hook")

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            deliver(told, "hook")
            assert receiver.ids == [row.id for row in rows(told)]

    def test_a_slow_receiver_holds_up_no_other(self, signoff: Signoff) -> None:
        text = HERE + (
            "channels:\n  - {name: slow, kind: webhook, address: SIGNOFF_MESSAGES_SLOW}\n"
            "  - {name: quick, kind: webhook, address: SIGNOFF_MESSAGES_QUICK}\n"
            'rules: [{title: All, events: ["*"], channels: [slow, quick]}]\n'
        )
        with web() as slow, web() as quick:
            slow.hold, arrived = threading.Event(), threading.Event()
            told = telling(signoff, text, slow=slow.url, quick=quick.url)
            append(told, Kind.OUTSIDE_STAGE)
            courier = Courier(told)
            courier.start()
            for _ in range(200):
                if quick.got:
                    break
                arrived.wait(0.05)
            caretaker.tidy(told)
            assert quick.got
            assert "waiting" in states(told)
            slow.hold.set()
            courier.stop()

    @pytest.mark.postgresql
    @pytest.mark.parametrize(("status", "state"), [(500, "waiting"), (429, "waiting"), (404, "stuck"), (401, "stuck")])
    def test_a_final_refusal_is_stuck_at_once(self, signoff: Signoff, status: int, state: str) -> None:
        with web() as receiver:
            told = telling(signoff, EVERYTHING, hook=receiver.url)
            receiver.status = status
            append(told, Kind.OUTSIDE_STAGE)
            deliver(told, "hook")
        assert states(told) == [state]

    def test_one_stuck_message_lets_the_next_pass(self, signoff: Signoff) -> None:
        with web() as receiver:
            told = telling(signoff, EVERYTHING, hook=receiver.url)
            append(told, Kind.OUTSIDE_STAGE)
            append(told, Kind.OUTSIDE_ALIAS)
            receiver.status = 400
            Courier(told).turn("hook")
            receiver.status = 200
            assert deliver(told, "hook") == 1
        assert states(told) == ["stuck", "delivered"]

    def test_a_mailbox_that_is_refused_is_stuck(self, signoff: Signoff, candidate: VersionRef) -> None:
        with post() as box:
            box.refusal = "550 No such mailbox"
            told = telling(signoff, BY_MAIL, mail=box.url)
            reviews.submit(told, candidate, by="scientist", comment="Please.")
            deliver(told, "mail")
        assert set(states(told)) == {"stuck"}
        assert log(told)[0] == ("failed", "The mail server answered 550.")

    def test_after_so_many_attempts_it_is_stuck_and_stays(self, signoff: Signoff) -> None:
        told = telling(signoff, EVERYTHING, hook="http://127.0.0.1:9/")
        append(told, Kind.OUTSIDE_STAGE)
        for _ in range(outbox.ATTEMPTS + 1):
            deliver(told, "hook")
            later(told)
        assert states(told) == ["stuck"]
        assert len(log(told)) == outbox.ATTEMPTS
        with told.database.writing() as connection:
            connection.execute(outbox.outbox.update().values(settled_at=0.0))
        outbox.forget(told.database)
        assert states(told) == ["stuck"]

    @pytest.mark.postgresql
    def test_what_was_delivered_long_ago_is_forgotten(self, signoff: Signoff) -> None:
        with web() as receiver:
            told = telling(signoff, EVERYTHING, hook=receiver.url)
            append(told, Kind.OUTSIDE_STAGE)
            deliver(told, "hook")
        assert outbox.forget(told.database) == 0
        with told.database.writing() as connection:
            connection.execute(outbox.outbox.update().values(settled_at=0.0))
        assert outbox.forget(told.database) == 1
        assert log(told) == []

    def test_what_waits_for_a_channel_that_nobody_has_is_stuck_after_an_hour(self, waits: Signoff) -> None:
        without = telling(waits, MAIL, mail="mailto://127.0.0.1:9?mode=insecure")
        caretaker.tidy(without)
        assert states(waits) == ["waiting", "waiting"], "settings change on one dashboard after the other"
        later(waits)
        caretaker.tidy(without)
        assert states(waits) == ["stuck", "stuck"]
        assert {row.last_error for row in rows(waits)} == {outbox.UNKNOWN}

    def test_a_dashboard_that_has_no_file_touches_no_message(self, waits: Signoff) -> None:
        later(waits)
        caretaker.tidy(replace(waits, settings=replace(waits.settings, messages=None), messages=MessageBook()))
        assert states(waits) == ["waiting", "waiting"]

    @pytest.mark.postgresql
    def test_what_waits_behind_a_message_that_another_dashboard_still_tries_is_not_stuck(self, waits: Signoff) -> None:
        without = telling(waits, MAIL, mail="mailto://127.0.0.1:9?mode=insecure")
        later(waits)
        assert deliver(waits, "hook") == 1
        caretaker.tidy(without)
        assert states(waits) == ["waiting", "waiting"]


class TestPause:
    def test_doubles_up_to_an_hour_and_half_of_it_is_chance(self) -> None:
        assert [outbox.pause(n, 1.0) for n in (1, 2, 3)] == [10, 20, 40]
        assert outbox.pause(3, 0.0) == 20
        assert outbox.pause(2000, 1.0) == outbox.LONGEST_SECONDS


class TestRetry:
    @pytest.fixture
    def stuck(self, signoff: Signoff) -> Signoff:
        """One message whose receiver said it does not want it."""
        with web() as receiver:
            told = telling(signoff, EVERYTHING, hook=receiver.url)
            receiver.status = 410
            append(told, Kind.OUTSIDE_STAGE)
            deliver(told, "hook")
        return told

    @pytest.mark.postgresql
    @pytest.mark.parametrize("role", sorted(ROLES_FOR[Action.RETRY_MESSAGES]))
    def test_lets_it_be_sent_again_and_says_who_asked(self, stuck: Signoff, role: Role) -> None:
        events_before = kinds(stuck)
        outbox.retry(stuck.database, rows(stuck)[0].number, by=role.value, at=stuck.now())
        assert states(stuck) == ["waiting"]
        assert log(stuck)[-1] == ("retried", None)
        assert kinds(stuck) == events_before

    @pytest.mark.parametrize("role", [role for role in Role if role not in ROLES_FOR[Action.RETRY_MESSAGES]])
    def test_others_may_not(self, stuck: Signoff, role: Role) -> None:
        with pytest.raises(NotAllowed):
            outbox.retry(stuck.database, rows(stuck)[0].number, by=role.value, at=stuck.now())
        assert states(stuck) == ["stuck"]
        assert len(log(stuck)) == 1

    @pytest.mark.postgresql
    def test_all_of_them_at_once(self, stuck: Signoff) -> None:
        append(stuck, Kind.OUTSIDE_ALIAS)
        with stuck.database.writing() as connection:
            connection.execute(outbox.outbox.update().values(state="stuck"))
        assert outbox.retry(stuck.database, None, by="admin", at=stuck.now()) == 2
        assert states(stuck) == ["waiting", "waiting"]

    def test_what_is_not_stuck_is_not_sent_again(self, signoff: Signoff) -> None:
        with web() as receiver:
            told = telling(signoff, EVERYTHING, hook=receiver.url)
            append(told, Kind.OUTSIDE_STAGE)
            deliver(told, "hook")
            with pytest.raises(NotFound):
                outbox.retry(told.database, rows(told)[0].number, by="admin", at=told.now())
            assert deliver(told, "hook") == 0
            assert len(receiver.got) == 1


class TestReminders:
    TEXT = (
        HERE
        + MAIL
        + """
overdue:
  reminder: {after_hours: 24, people: [reviewer]}
  escalation: {after_hours: 72, people: [release_manager]}
"""
    )

    def _told(self, signoff: Signoff) -> list[tuple[str, str]]:
        return [(row.occasion, row.person) for row in rows(signoff)]

    @pytest.mark.postgresql
    def test_one_reminder_then_one_escalation(self, signoff: Signoff, candidate: VersionRef, clock: Clock) -> None:
        told = telling(signoff, self.TEXT, mail="mailto://127.0.0.1:9")
        reviews.submit(told, candidate, by="scientist", comment="Please.")
        caretaker.tidy(told)
        assert self._told(told) == []
        clock.now += timedelta(hours=25)
        reminded = [("reminder", name) for name in ("both", "reviewer", "reviewer2")]
        for _ in range(2):
            caretaker.tidy(told)
            assert self._told(told) == reminded
        clock.now += timedelta(hours=50)
        for _ in range(2):
            caretaker.tidy(told)
            assert self._told(told) == [*reminded, ("escalation", "release_manager")]

    def test_none_once_it_is_decided(self, signoff: Signoff, candidate: VersionRef, clock: Clock) -> None:
        told = telling(signoff, self.TEXT, mail="mailto://127.0.0.1:9")
        reviews.submit(told, candidate, by="scientist", comment="Please.")
        reviews.approve(told, candidate, by="reviewer", comment="Fine.")
        clock.now += timedelta(hours=25)
        caretaker.tidy(told)
        assert self._told(told) == []

    def test_says_since_when_it_waits(self, signoff: Signoff, candidate: VersionRef, clock: Clock) -> None:
        with post() as box:
            told = telling(signoff, self.TEXT, mail=box.url)
            reviews.submit(told, candidate, by="scientist", comment="Please.")
            clock.now += timedelta(hours=25)
            caretaker.tidy(told)
            deliver(told, "mail")
            assert box.got[0][1]["Subject"] == "m v1 has waited for review since 2026-11-01 09:00 UTC"


def test_a_process_killed_between_delivery_and_noting_it_repeats_under_the_same_id(
    signoff: Signoff, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With a real SIGKILL: the receiver has the message, the outbox does not know."""
    with web() as receiver:
        told = telling(signoff, EVERYTHING, hook=receiver.url)
        append(told, Kind.OUTSIDE_STAGE)
        book = tmp_path_factory.mktemp("book") / "m.yaml"
        book.write_text(EVERYTHING)
        code = (
            "import os, signal; from services.messaging import outbox; from services.messaging.courier import Courier;"
            "from services.settings import Settings; from services.signoff import Signoff;"
            "from tests.fakes import FakeRegistry;"
            "outbox.delivered = lambda *_: os.kill(os.getpid(), signal.SIGKILL);"
            "Courier(Signoff.wire(settings=Settings.read(), registry=FakeRegistry())).turn('hook')"
        )
        environment = {
            "PATH": os.environ["PATH"],
            "SIGNOFF_HOME": str(book.parent),
            "SIGNOFF_DATABASE_URL": told.database.url,
            "SIGNOFF_SECRET_KEY": "s" * 32,
            "SIGNOFF_MESSAGES": str(book),
            "SIGNOFF_MESSAGES_HOOK": receiver.url,
        }
        dead = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, check=False)
        assert dead.returncode == -signal.SIGKILL
        assert states(told) == ["waiting"]
        later(told)
        assert deliver(told, "hook") == 1
        assert len(receiver.ids) == 2
        assert len(set(receiver.ids)) == 1


def test_no_secret_is_kept_or_logged(signoff: Signoff, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong: neither the outbox, nor its log, nor the process' log holds a part of an address."""
    caplog.set_level("DEBUG")
    addresses = (
        "http://me:hunter2@127.0.0.1:9/s3cret?token=t0ken",
        "http://me:hunter2@unknown.invalid/s3cret?token=t0ken",
    )
    with web() as receiver:
        told = telling(signoff, EVERYTHING, hook=receiver.url.replace("hook", "s3cret?token=t0ken"))
        append(told, Kind.OUTSIDE_STAGE)
        assert deliver(told, "hook") == 1
    for address in addresses:
        told = telling(signoff, EVERYTHING, hook=address)
        append(told, Kind.OUTSIDE_STAGE)
        deliver(told, "hook")
        later(told)
    kept = json.dumps([list(map(str, row)) for row in rows(told)]) + str(log(told)) + repr(told) + caplog.text
    for secret in ("hunter2", "s3cret", "t0ken"):
        assert secret not in kept


def test_the_ledger_stays_whole_and_complete(signoff: Signoff, candidate: VersionRef) -> None:
    told = telling(signoff, EVERYTHING, hook="http://127.0.0.1:9/")
    reviews.submit(told, candidate, by="scientist", comment="Please.")
    with told.database.reading() as connection:
        assert ledger.broken_at(connection) is None
        assert connection.execute(sa.select(sa.func.count()).select_from(events)).scalar() == ledger.head(connection)[0]
