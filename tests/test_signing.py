"""Signing: what a policy with ``signing: true`` asks for, what the record then says, and what is no signature."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from services import caretaker, facts, gate
from services.accounts import people, sessions
from services.accounts.sessions import WrongCredentials
from services.desk import Request
from services.domain import Action, Role, VersionRef
from services.errors import Refused
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.signing import Act, ElectronicSignature, meaning
from services.signoff import Signoff
from services.tables import decisions, metadata, slots
from tests.conftest import BOTH, Clock
from tests.fakes import FakeRegistry, PlainPasswords
from tests.ledgers import kinds, record
from tests.test_policy import GOOD
from tests.verbs import desk, releases, reviews
from web.passwords import BcryptPasswords

DATABASES = BOTH

POLICY = parse(GOOD + "signing: true\n", "signed.yaml")
WHO = {
    Action.APPROVE: "reviewer",
    Action.REQUEST_CHANGES: "reviewer",
    Action.REJECT: "reviewer",
    Action.PROMOTE: "release_manager",
    Action.ROLLBACK: "release_manager",
    Action.ARCHIVE: "release_manager",
}
SUBJECTS = {
    Action.APPROVE: "approval",
    Action.REQUEST_CHANGES: "changes",
    Action.REJECT: "rejection",
    Action.PROMOTE: "promotion",
    Action.ROLLBACK: "rollback",
    Action.ARCHIVE: "archival",
}
SIGNED = list(WHO)
NAMES = {"reviewer": "Rita Alvarez", "release_manager": "Mira Patel"}


@pytest.fixture
def signoff(signoff: Signoff) -> Signoff:
    """Everybody's password is ``<username>'s own``; every model is under a policy that asks for signatures."""
    for username, _, _ in people.DEMO_ACCOUNTS:
        people.set_password(signoff.database, username, f"plain:{username}'s own")
    return replace(signoff, policies=PolicyBook(policies=(POLICY,)))


def own(username: str) -> SecretStr:
    return SecretStr(f"{username}'s own")


def perform(signoff: Signoff, action: Action, ref: VersionRef, password: SecretStr | None = None) -> desk.Outcome:
    return desk.perform(signoff, Request(action=action, ref=ref, words="Because.", password=password), by=WHO[action])


def prepared(signoff: Signoff, registry: FakeRegistry, action: Action) -> VersionRef:
    """A version on which everything but the signature is there for ``action``."""
    first = registry.add_version("m", {"val_auc": 0.92})
    reviews.submit(signoff, first, by="scientist", comment="Please.")
    if action in desk.VOTES:
        return first
    perform(signoff, Action.APPROVE, first, own("reviewer"))
    if action is Action.PROMOTE:
        return first
    perform(signoff, Action.PROMOTE, first, own("release_manager"))
    if action is Action.ROLLBACK:
        second = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, second, by="scientist", comment="Please.")
        perform(signoff, Action.APPROVE, second, own("reviewer"))
        perform(signoff, Action.PROMOTE, second, own("release_manager"))
    return first


class Untouched:
    """Asserts on leaving that one refusal was recorded, and that MLflow and our own tables are as they were."""

    def __init__(self, signoff: Signoff, registry: FakeRegistry, refused: str) -> None:
        self.signoff, self.registry, self.refused = signoff, registry, refused

    def _seen(self) -> object:
        with self.signoff.database.reading() as connection:
            votes = connection.execute(sa.select(decisions)).all()
        return votes, self.registry.versions("m"), self.registry.model("m")

    def __enter__(self) -> None:
        self.registry.writes.clear()
        self.before, self.kinds = self._seen(), kinds(self.signoff)

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is None:
            assert kinds(self.signoff) == [*self.kinds, f"{self.refused}:refused"]
            assert self.registry.writes == []
            assert self._seen() == self.before
            assert record(self.signoff)[-1].get("signature") is None


@pytest.mark.parametrize("action", SIGNED)
class TestEveryAct:
    def test_with_the_password_is_done_and_the_record_says_who_signed_what_and_when(
        self, signoff: Signoff, registry: FakeRegistry, action: Action
    ) -> None:
        ref = prepared(signoff, registry, action)
        outcome = perform(signoff, action, ref, own(WHO[action]))
        assert outcome.event
        signature = outcome.event.get("signature")
        assert signature == {
            "username": WHO[action],
            "printed_name": NAMES[WHO[action]],
            "meaning": meaning(POLICY, action),
            "at": signature["at"],
        }
        assert signature["at"].startswith("2026-11-01T09:"), "the record's own clock"
        if intent := outcome.event.body["intent"]:
            steps = [event for event in record(signoff) if event.body["intent"] == intent]
            assert [event.get("signature") for event in steps] == [signature, signature]

    def test_without_a_password_fails_one_check(self, signoff: Signoff, registry: FakeRegistry, action: Action) -> None:
        ref = prepared(signoff, registry, action)
        with Untouched(signoff, registry, SUBJECTS[action]), pytest.raises(GateRefused) as refusal:
            perform(signoff, action, ref)
        (check,) = refusal.value.verdict.failed
        assert (check.id, check.value) == ("signed", "not signed")
        assert check.threshold == f"by {WHO[action]}, to {action.replace('_', ' ')} {ref}, at most 60 seconds old"
        assert [failed["id"] for failed in record(signoff)[-1].failed_checks] == ["signed"]

    @pytest.mark.parametrize("password", ["wrong", "", "reviewer2's own", "x" * 100_000, "\ud800"])
    def test_with_another_password_is_refused_and_tells_no_more_than_a_log_in(
        self, signoff: Signoff, registry: FakeRegistry, action: Action, password: str
    ) -> None:
        ref = prepared(signoff, registry, action)
        with Untouched(signoff, registry, SUBJECTS[action]), pytest.raises(WrongCredentials):
            perform(signoff, action, ref, SecretStr(password))
        assert record(signoff)[-1].comment == str(WrongCredentials())
        assert record(signoff)[-1].body["checks"] == []

    def test_while_the_account_is_locked_is_refused_like_a_wrong_password(
        self, signoff: Signoff, registry: FakeRegistry, action: Action
    ) -> None:
        ref = prepared(signoff, registry, action)
        for _ in range(sessions.MAX_FAILURES):
            with pytest.raises(WrongCredentials):
                sessions.reauthenticate(signoff.database, WHO[action], "wrong", PlainPasswords())
        with Untouched(signoff, registry, SUBJECTS[action]), pytest.raises(WrongCredentials):
            perform(signoff, action, ref, own(WHO[action]))

    @pytest.mark.parametrize("flaw", ["somebody else", "another act", "another version", "other files", "stale"])
    def test_with_a_signature_that_does_not_fit_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, action: Action, flaw: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No door can bring one along; here `common.sign` itself is made to give one made for something else."""
        ref = prepared(signoff, registry, action)
        policy, seen = facts.fresh(signoff, ref)
        good = ElectronicSignature(
            username=WHO[action],
            printed_name=NAMES[WHO[action]],
            meaning=meaning(policy, action),
            act=Act.of(action, policy, seen),
            at=signoff.now(),
        )
        binding = replace(good.act.binding, facts={**good.act.binding.facts, "files": "0" * 64})
        elsewhere = Action.ARCHIVE if action is not Action.ARCHIVE else Action.PROMOTE
        forged = {
            "somebody else": replace(good, username="reviewer2"),
            "another act": replace(good, act=replace(good.act, action=elsewhere)),
            "another version": replace(good, act=replace(good.act, ref=VersionRef(name="m", version=9))),
            "other files": replace(good, act=replace(good.act, binding=binding)),
            "stale": replace(good, at=good.at - timedelta(minutes=2)),
        }[flaw]
        for module in ("common", "releases"):
            monkeypatch.setattr(f"services.verbs.{module}.sign", lambda *_: forged)
        with Untouched(signoff, registry, SUBJECTS[action]), pytest.raises(GateRefused) as refusal:
            perform(signoff, action, ref, own(WHO[action]))
        assert [check.id for check in refusal.value.verdict.failed] == ["signed"]

    def test_under_a_policy_that_does_not_ask_no_password_is_looked_at(
        self, signoff: Signoff, registry: FakeRegistry, action: Action
    ) -> None:
        plain = replace(signoff, policies=PolicyBook(policies=(parse(GOOD, "p.yaml"),)), passwords=PlainPasswords())
        ref = prepared(plain, registry, action)
        event = perform(plain, action, ref, SecretStr("wrong")).event
        assert event
        assert event.get("signature") is None
        assert plain.passwords
        assert plain.passwords.checked == []  # type: ignore[attr-defined]

    def test_where_passwords_cannot_be_checked_is_refused(
        self, signoff: Signoff, registry: FakeRegistry, action: Action
    ) -> None:
        ref = prepared(signoff, registry, action)
        blind = replace(signoff, passwords=None)
        with Untouched(signoff, registry, SUBJECTS[action]), pytest.raises(Refused, match="cannot be checked"):
            perform(blind, action, ref, own(WHO[action]))


class TestOneSignatureOneAct:
    def test_the_next_act_of_the_same_person_asks_again(self, signoff: Signoff, registry: FakeRegistry) -> None:
        people.set_roles(signoff.database, "reviewer", [Role.REVIEWER, Role.RELEASE_MANAGER])
        ref = prepared(signoff, registry, Action.PROMOTE)
        with Untouched(signoff, registry, "promotion"), pytest.raises(GateRefused, match="did not sign"):
            releases.promote(signoff, ref, by="reviewer", reason="I signed a second ago.")

    def test_a_refused_promotion_names_the_signature_among_all_that_failed(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.5})
        with pytest.raises(GateRefused) as refusal:
            perform(signoff, Action.PROMOTE, ref)
        assert {check.id for check in refusal.value.verdict.failed} == {
            "metric:val_auc",
            "submitted",
            "approvals",
            "signed",
        }

    def test_a_change_that_is_closed_after_a_crash_is_closed_with_its_signature(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        class Died(BaseException):
            pass

        def die(_: str) -> None:
            raise Died

        ref = prepared(signoff, registry, Action.PROMOTE)
        registry.before_write = die
        with pytest.raises(Died):
            perform(signoff, Action.PROMOTE, ref, own("release_manager"))
        registry.before_write = lambda _: None
        with signoff.database.writing() as connection:
            connection.execute(slots.update().values(expires_at=0.0))
        caretaker.tidy(signoff)
        closing = next(event for event in record(signoff) if event.kind.value == "promotion:aborted")
        assert closing.get("signature")["printed_name"] == "Mira Patel"

    def test_sent_again_under_its_idempotency_key_it_is_one_act(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = prepared(signoff, registry, Action.APPROVE)
        first, again = (
            Request(action=Action.APPROVE, ref=ref, words="Good.", password=password)
            for password in (own("reviewer"), None)
        )
        done = desk.perform(signoff, first, by="reviewer", key="k")
        assert desk.perform(signoff, again, by="reviewer", key="k").event == done.event


class TestApprovals:
    def test_remember_that_they_were_signed_and_count(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = prepared(signoff, registry, Action.PROMOTE)
        (decision,) = facts.fresh(signoff, ref)[1].decisions
        assert decision.signed
        event = perform(signoff, Action.PROMOTE, ref, own("release_manager")).event
        assert event
        assert [approval["signed"] for approval in event.get("approvals")] == [True]
        assert [check.passed for check in event.verdict.checks if check.id == "signed"] == [True]

    @pytest.mark.postgresql
    def test_that_were_not_signed_do_not_count(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = prepared(signoff, registry, Action.PROMOTE)
        with signoff.database.writing() as connection:
            connection.execute(decisions.update().values(signed=False))
        policy, seen = facts.fresh(signoff, ref)
        assert gate.void_reasons(seen.decisions[0], policy, seen) == ("it was not signed",)
        with pytest.raises(GateRefused, match="the approval by reviewer is void because it was not signed"):
            perform(signoff, Action.PROMOTE, ref, own("release_manager"))
        assert registry.version(ref).stage == "Staging"

    def test_given_before_the_policy_asked_are_asked_for_again(self, signoff: Signoff, registry: FakeRegistry) -> None:
        before = replace(signoff, policies=PolicyBook(policies=(parse(GOOD, "p.yaml"),)))
        ref = prepared(before, registry, Action.PROMOTE)
        with pytest.raises(GateRefused, match="the policy changed and it was not signed"):
            perform(signoff, Action.PROMOTE, ref, own("release_manager"))
        assert perform(signoff, Action.APPROVE, ref, own("reviewer")).event
        assert perform(signoff, Action.PROMOTE, ref, own("release_manager")).event

    def test_unsigned_requests_for_changes_still_stand_in_the_way(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = prepared(signoff, registry, Action.REQUEST_CHANGES)
        perform(signoff, Action.REQUEST_CHANGES, ref, own("reviewer"))
        with signoff.database.writing() as connection:
            connection.execute(decisions.update().values(signed=False))
        assert "changes" in {check.id for check in gate.evaluate(*facts.fresh(signoff, ref)).failed}


class TestLock:
    def test_the_fifth_wrong_password_locks_and_closes_the_sessions(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = prepared(signoff, registry, Action.APPROVE)
        mine, other = session_of(signoff, "reviewer"), session_of(signoff, "reviewer2")
        for _ in range(sessions.MAX_FAILURES - 1):
            sign_wrongly(signoff, ref)
        assert sessions.session_user(signoff.database, mine)
        sign_wrongly(signoff, ref)
        assert sessions.session_user(signoff.database, mine) is None
        assert sessions.session_user(signoff.database, other)
        with pytest.raises(WrongCredentials):
            perform(signoff, Action.APPROVE, ref, own("reviewer"))
        assert kinds(signoff).count("approval:refused") == 1, "repeats are counted"

    def test_the_right_password_forgives_four_failures(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = prepared(signoff, registry, Action.APPROVE)
        mine = session_of(signoff, "reviewer")
        for _ in range(3):
            for _ in range(sessions.MAX_FAILURES - 1):
                sign_wrongly(signoff, ref)
            sessions.reauthenticate(signoff.database, "reviewer", "reviewer's own", PlainPasswords())
        assert sessions.session_user(signoff.database, mine)

    def test_failures_at_the_log_in_page_sign_nobody_out_and_keep_nobody_from_signing(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = prepared(signoff, registry, Action.APPROVE)
        mine = session_of(signoff, "reviewer")
        for _ in range(sessions.MAX_FAILURES):
            log_in_wrongly(signoff, "reviewer")
        assert perform(signoff, Action.APPROVE, ref, own("reviewer")).event
        assert sessions.session_user(signoff.database, mine)

    def test_failures_while_signing_lock_no_log_in(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = prepared(signoff, registry, Action.APPROVE)
        for _ in range(sessions.MAX_FAILURES):
            sign_wrongly(signoff, ref)
        assert sessions.log_in(signoff.database, "reviewer", "reviewer's own", PlainPasswords(), b"k" * 32)
        with pytest.raises(WrongCredentials):
            perform(signoff, Action.APPROVE, ref, own("reviewer"))

    @pytest.mark.postgresql
    def test_signing_opens_no_session_and_an_account_disabled_meanwhile_signs_nothing(self, signoff: Signoff) -> None:
        class Slow(PlainPasswords):
            def check(self, password: str, hashed: str | None) -> bool:
                people.disable(signoff.database, "reviewer")
                return super().check(password, hashed)

        sessions.reauthenticate(signoff.database, "reviewer", "reviewer's own", PlainPasswords())
        with signoff.database.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(metadata.tables["sessions"])).scalar() == 0
        with pytest.raises(WrongCredentials):
            sessions.reauthenticate(signoff.database, "reviewer", "reviewer's own", Slow())


class TestSecrecy:
    SECRETS = ("correct-horse-battery", "wrong-donkey-accumulator")

    @pytest.mark.postgresql
    def test_the_password_is_kept_nowhere(
        self, signoff: Signoff, registry: FakeRegistry, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither the right one nor a wrong one, in no table, file, log or ``repr``."""
        caplog.set_level(logging.DEBUG)
        right, wrong = map(SecretStr, self.SECRETS)
        real = replace(signoff, passwords=BcryptPasswords())
        hashed = BcryptPasswords().hash(right.get_secret_value())
        ref = registry.add_version("m", {"val_auc": 0.92})
        reviews.submit(real, ref, by="scientist", comment="Please.")
        for action in (Action.APPROVE, Action.PROMOTE, Action.ARCHIVE):
            people.set_password(real.database, WHO[action], hashed)
            with pytest.raises(WrongCredentials) as refusal:
                perform(real, action, ref, wrong)
            assert wrong.get_secret_value() not in repr(refusal.value)
            request = Request(action=action, ref=ref, words="Because.", password=right)
            assert "password" not in repr(request)
            assert desk.perform(real, request, by=WHO[action], key=f"key of {action}").event
        clock.now += timedelta(hours=1)
        caretaker.tidy(real)
        said = [caplog.text, *_everything(real)]
        for secret in self.SECRETS:
            assert not any(secret in text for text in said)
            for file in _files(real):
                assert secret.encode() not in file.read_bytes(), file.name


def _everything(signoff: Signoff) -> list[str]:
    with signoff.database.reading() as connection:
        return [str(row) for table in metadata.sorted_tables for row in connection.execute(sa.select(table))]


def _files(signoff: Signoff) -> list[Path]:
    """The database file of SQLite with whatever lies beside it; nothing for PostgreSQL, whose tables were read."""
    return [path for path in signoff.settings.home.glob("signoff.db*") if path.is_file()]


def session_of(signoff: Signoff, username: str) -> str:
    secret = signoff.settings.secret_key
    return sessions.session_key(sessions.open_session(signoff.database, username, secret), secret)


def sign_wrongly(signoff: Signoff, ref: VersionRef) -> None:
    with pytest.raises(WrongCredentials):
        perform(signoff, Action.APPROVE, ref, SecretStr("wrong"))


def log_in_wrongly(signoff: Signoff, username: str) -> None:
    with pytest.raises(WrongCredentials):
        sessions.log_in(signoff.database, username, "wrong", PlainPasswords(), b"k" * 32)
