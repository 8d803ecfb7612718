"""Everything that people, crashes and strangers may do to two models, in any order: what holds all the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services import caretaker
from services.domain import Stage, VersionRef
from services.errors import OutcomeUnknown, RegistryUnavailable, SignoffError
from services.policy import PolicyBook, parse
from services.record import activation, ledger, mirror
from services.settings import PROJECT
from services.signoff import Signoff
from services.steps.intents import in_flight
from services.tables import slots as slots_table
from tests.conftest import SOAKING, Clock, add_people, settings_in
from tests.fakes import FakeRegistry
from tests.ledgers import record
from tests.verbs import releases, reviews

MODELS = st.sampled_from(["m", "n"])
NUMBERS = st.integers(min_value=1, max_value=4)
PEOPLE = st.sampled_from(
    ["scientist", "reviewer", "reviewer2", "release_manager", "both", "viewer", "admin", "auditor", "nobody"]
)
FAILURES = st.sampled_from(["stage", "alias", "no alias", "tag"])
DEFAULT = (PROJECT / "policies" / "default.yaml").read_text()
WORDS = "Because."


class Died(BaseException):
    """The process ends here."""


class Lifecycle(RuleBasedStateMachine):
    """One Signoff on the in-memory registry. Nobody but Signoff moves a stage or an alias here."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.registry = FakeRegistry()
        self.signoff = Signoff.wire(settings=settings_in(Path(self.folder.name)), registry=self.registry, now=Clock())
        add_people(self.signoff)
        self.digests: dict[VersionRef, set[str]] = {}
        for name in ("m", "n"):
            for score in (0.92, 0.95):
                self.add_version(name, score)
            ref = VersionRef(name=name, version=1)
            reviews.submit(self.signoff, ref, by="scientist", comment=WORDS)
            reviews.approve(self.signoff, ref, by="reviewer", comment=WORDS)
            releases.promote(self.signoff, ref, by="release_manager", reason=WORDS)

    def teardown(self) -> None:
        if hasattr(self, "signoff"):
            self.signoff.database.engine.dispose()
            self.folder.cleanup()

    # ---- what people do ------------------------------------------------------------------------------------

    def act(self, verb: str, ref: VersionRef, by: str) -> None:
        """Call a verb; a refusal adds one event at most and writes nothing."""
        before, writes = len(record(self.signoff)), len(self.registry.writes)
        jobs = self.jobs()
        text = "reason" if verb in {"promote", "archive", "rollback"} else "comment"
        try:
            if verb == "rollback":
                releases.rollback(self.signoff, ref.name, version=ref.version, by=by, reason=WORDS)
            else:
                where = releases if text == "reason" else reviews
                getattr(where, verb)(self.signoff, ref, by=by, **{text: WORDS})
        except OutcomeUnknown:
            pass
        except RegistryUnavailable:
            assert record(self.signoff)[before:], "MLflow was written to, and that is not recorded"
        except SignoffError:
            # An intent that an earlier holder left open may be closed on the way, by whoever takes the slot.
            recovered = [e for e in record(self.signoff)[before:] if e.get("recovered_by")]
            assert len(record(self.signoff)) - before - len(recovered) <= 1
            if not recovered and not jobs:
                assert self.registry.writes[writes:] == []
        except Died:
            pass

    broken = False

    @rule(ref=st.builds(VersionRef, name=MODELS, version=NUMBERS), by=PEOPLE)
    def submit(self, ref: VersionRef, by: str) -> None:
        self.act("submit", ref, by)

    @rule(name=MODELS, version=NUMBERS)
    def submit_and_approve(self, name: str, version: int) -> None:
        ref = VersionRef(name=name, version=version)
        self.act("submit", ref, "scientist")
        self.act("approve", ref, "reviewer")

    @rule(
        verb=st.sampled_from(["approve", "request_changes", "reject", "withdraw"]),
        ref=st.builds(VersionRef, name=MODELS, version=NUMBERS),
        by=PEOPLE,
    )
    def decide(self, verb: str, ref: VersionRef, by: str) -> None:
        self.act(verb, ref, by)

    @rule(
        verb=st.sampled_from(["promote", "promote", "rollback", "archive"]),
        ref=st.builds(VersionRef, name=MODELS, version=NUMBERS),
        by=st.sampled_from(["release_manager", "release_manager", "release_manager", "scientist", "viewer"]),
    )
    def release(self, verb: str, ref: VersionRef, by: str) -> None:
        self.act(verb, ref, by)

    # ---- what happens to them ------------------------------------------------------------------------------

    @rule(name=MODELS, score=st.sampled_from([0.5, 0.92, 0.96]))
    def add_version(self, name: str, score: float) -> None:
        if sum(1 for ref in self.registry._versions if ref.name == name) < 4:
            self.registry.add_version(name, {"val_auc": score})

    @rule(ref=st.builds(VersionRef, name=MODELS, version=NUMBERS), content=st.binary(max_size=2))
    def swap_bytes(self, ref: VersionRef, content: bytes) -> None:
        if ref in self.registry._versions:
            self.registry.write_file(ref, "model.skops", content)

    @rule(threshold=st.sampled_from(["0.90", "0.93"]))
    def change_policy(self, threshold: str) -> None:
        policy = parse(DEFAULT.replace("0.90", threshold), "default.yaml")
        book = PolicyBook(policies=(policy,))
        object.__setattr__(self.signoff, "policies", book)
        activation.activate(self.signoff.database, book, at=self.signoff.now())

    @rule(step=FAILURES, hook=st.sampled_from(["before_write", "after_write"]), dies=st.booleans())
    def break_the_next_write(self, step: str, hook: str, dies: bool) -> None:
        """The next such write fails, before or after it had its effect; or the process dies there."""
        self.broken = True

        def fail(what: str) -> None:
            if what.startswith(step):
                self.registry.before_write = self.registry.after_write = lambda _: None
                raise Died if dies else RegistryUnavailable("no answer")

        setattr(self.registry, hook, fail)

    @rule()
    def mend(self) -> None:
        self.broken = False
        self.registry.before_write = self.registry.after_write = lambda _: None

    @rule()
    def leases_run_out(self) -> None:
        """As after some minutes: tags that failed several times are due as well."""
        with self.signoff.database.writing() as connection:
            connection.execute(slots_table.update().values(expires_at=0.0))
            connection.execute(mirror.mirror_jobs.update().values(due_at=0.0))

    @precondition(lambda self: not self.broken)
    @rule()
    def tidy(self) -> None:
        self.leases_run_out()
        caretaker.tidy(self.signoff)
        with self.signoff.database.reading() as connection:
            assert in_flight(connection) == []
        assert not self.jobs()
        for ref, version in self.registry._versions.items():
            with self.signoff.database.reading() as connection:
                wanted = mirror.prescribed(connection, ref, version.identity)
            assert {key: value for key, value in version.tags.items() if key in mirror.OURS} == wanted

    def jobs(self) -> bool:
        with self.signoff.database.reading() as connection:
            return bool(connection.execute(sa.select(mirror.mirror_jobs.c.model)).first())

    # ---- what holds ----------------------------------------------------------------------------------------

    @invariant()
    def the_chain_is_whole(self) -> None:
        with self.signoff.database.reading() as connection:
            assert ledger.broken_at(connection) is None

    @invariant()
    def there_are_never_two_champions(self) -> None:
        for name in ("m", "n"):
            assert len(self.serving(name)) <= 1

    @invariant()
    def stage_and_alias_agree_once_nothing_is_under_way(self) -> None:
        with self.signoff.database.reading() as connection:
            busy = {intent.ref.name for intent in in_flight(connection)}
        for name in {"m", "n"} - busy:
            serving = self.serving(name)
            pointed = self.registry._models[name].aliases.get("champion")
            assert [pointed] == serving if serving else pointed is None

    @invariant()
    def what_serves_was_released_with_approvals_bound_to_its_files(self) -> None:
        with self.signoff.database.reading() as connection:
            busy = {intent.ref.name for intent in in_flight(connection)}
        events = record(self.signoff)
        given = {event.seq: event for event in events if event.kind is ledger.Kind.APPROVAL_GIVEN}
        for name in {"m", "n"} - busy:
            for version in self.serving(name):
                ref = VersionRef(name=name, version=version)
                released = [
                    event
                    for event in events
                    if event.ref == ref and event.kind.value in {"promotion:confirmed", "rollback:confirmed"}
                ]
                assert released, f"{ref} serves and nobody released it"
                promoted = next(e for e in reversed(released) if e.kind is ledger.Kind.PROMOTION_CONFIRMED)
                bound = [given[vote["seq"]].get("binding") for vote in promoted.get("approvals")]
                assert promoted.get("binding") in bound
                assert released[-1].get("manifest_digest") == promoted.get("manifest_digest")

    @invariant()
    def every_intent_is_closed_at_most_once(self) -> None:
        closed = [event.body["closes"] for event in record(self.signoff) if event.body["closes"]]
        assert len(closed) == len(set(closed))

    def serving(self, name: str) -> list[int]:
        return [v.ref.version for v in self.registry._of(name) if v.stage == Stage.PRODUCTION]


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(
    max_examples=250 if SOAKING else 10,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
