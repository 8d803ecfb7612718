"""A policy tried on the past: it decides as the gate would have, and says what the record does not say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.accounts.permissions import ROLES_FOR
from services.domain import Action, Actor, Dataset, Role, Source, VersionRef
from services.errors import InvalidSettings
from services.evidence import FindingDraft, Severity
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.record import ledger
from services.record.ledger import Entry, Event, Kind
from services.recorded_facts import MAX_PATHS, MAX_TAG, MAX_TAGS, MAX_WORDS
from services.settings import PROJECT
from services.signoff import Signoff
from services.views.dry_run import Answer, Decided, DryRun, Judged, dry_run
from tests.conftest import BOTH, Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.rest import Rest, refused
from tests.test_cli import Run
from tests.test_cli import run as run  # noqa: PLC0414  (a fixture)
from tests.test_releases import release
from tests.verbs import releases, reviews

DATABASES = BOTH
UNREADABLE = ("2026-02-30", "!!bool perhaps", "!!timestamp soon", "!!int ''", "!!float x")
DEFAULT = (PROJECT / "policies" / "default.yaml").read_text()


def tried(signoff: Signoff, text: str, **only: Any) -> DryRun:
    with signoff.database.reading() as connection:
        return dry_run(connection, parse(text, "p.yaml"), signoff.policies, **only)


def with_rule(rule: str) -> str:
    return f"{DEFAULT}{rule}\n"


def last(found: DryRun) -> Judged:
    return found.judged[0]


def reasons(one: Judged, answer: Answer = Answer.NOT_RECORDED) -> dict[str, str]:
    return {difference.id: difference.reason for difference in one.differences if difference.now is answer}


@pytest.fixture
def released(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """v1 and then v2 of ``m``, which has tags and a model card."""
    registry.add_model("m", owner="cardiology", intended_use="screening", risk="high")
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    files = {"MLmodel": b"flavors: {}\n", "docs/model_card.md": b"text"}
    ref = registry.add_version("m", {"val_auc": 0.95}, files=files, input_example=True)
    registry.tag(ref, "note", "about it")
    return release(signoff, ref)


@pytest.fixture
def history(signoff: Signoff, registry: FakeRegistry, released: VersionRef) -> VersionRef:
    """And a third one that was refused, and the rollback to v1."""
    with pytest.raises(GateRefused):
        releases.promote(
            signoff, registry.add_version("m", {"val_auc": 0.5}), by="release_manager", reason="Just trying."
        )
    releases.rollback(signoff, "m", by="release_manager", reason="It alarms for nothing.")
    return released


class TestThePast:
    def test_the_policy_that_was_in_force_decides_as_it_did(self, signoff: Signoff, history: VersionRef) -> None:
        found = tried(signoff, DEFAULT)
        assert [(one.action, one.ref.version, one.then.value, one.now.value) for one in found.judged] == [
            ("rollback", 1, "allowed", "allowed"),
            ("promotion", 3, "refused", "refused"),
            ("promotion", 2, "allowed", "allowed"),
            ("promotion", 1, "allowed", "allowed"),
        ]
        assert [one.differences for one in found.judged] == [()] * 4
        assert found.elsewhere == 0

    def test_a_higher_threshold_refuses_what_was_below_it(self, signoff: Signoff, history: VersionRef) -> None:
        found = tried(signoff, DEFAULT.replace("0.90", "0.94"))
        assert [one.now.value for one in found.judged] == ["refused", "refused", "allowed", "refused"]
        (difference,) = found.judged[3].differences
        assert (difference.id, difference.then, difference.now) == ("metric:val_auc", Answer.PASSED, Answer.FAILED)
        assert difference.reason == "val_auc is 0.92; ≥ 0.94 is needed."

    def test_a_lower_one_does_not_make_up_for_what_else_was_missing(
        self, signoff: Signoff, history: VersionRef
    ) -> None:
        refused = tried(signoff, DEFAULT.replace("0.90", "0.40")).judged[1]
        assert refused.now is Decided.REFUSED
        assert reasons(refused, Answer.PASSED) == {"metric:val_auc": "val_auc 0.5 ≥ 0.4."}

    @pytest.mark.parametrize(
        ("rule", "now"),
        [
            ("required_tags: [owner, note]", "allowed"),
            ("required_tags: [deployment]", "refused"),
            ("input_example: true", "allowed"),
            ('required_artifacts: ["*model_card.md"]', "allowed"),
            ("max_evidence_age_days: 400", "allowed"),
            ("max_evidence_age_days: 30", "refused"),
            ("min_hours_in_staging: 24", "refused"),
            ("approvals_expire_after_days: 14", "allowed"),
            ("freezes: [{title: Sundays, time_zone: UTC, days: [sunday]}]", "refused"),
            ("freezes: [{title: Mondays, time_zone: UTC, days: [monday]}]", "allowed"),
        ],
    )
    def test_any_rule_is_judged_from_what_was_recorded(
        self, signoff: Signoff, released: VersionRef, rule: str, now: str
    ) -> None:
        assert last(tried(signoff, with_rule(rule))).now.value == now

    @pytest.mark.parametrize(
        ("approvals", "now"),
        [
            ("[{role: reviewer, count: 2}]", "refused"),
            ("[{role: reviewer}, {role: release_manager}]", "refused"),
            ("[{role: release_manager}]", "refused"),
        ],
    )
    def test_votes_count_for_the_roles_they_were_given_with(
        self, signoff: Signoff, released: VersionRef, approvals: str, now: str
    ) -> None:
        text = DEFAULT.replace("approvals:\n  - role: reviewer\n    count: 1\n", f"approvals: {approvals}\n")
        assert last(tried(signoff, text)).now.value == now

    def test_a_vote_that_did_not_count_then_does_not_count_now(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="x")
        reviews.approve(signoff, ref, by="reviewer", comment="x")
        registry.write_file(ref, "model.skops", b"other bytes")
        with pytest.raises(GateRefused):
            releases.promote(signoff, ref, by="release_manager", reason="x")
        (vote,) = record(signoff)[-1].get("approvals")
        assert vote["void"] == ["the model's files changed"]
        assert vote["changed"] == ["files"]
        assert last(tried(signoff, DEFAULT)).now is Decided.REFUSED

    def test_requested_changes_still_stand_in_the_way(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="x")
        reviews.approve(signoff, ref, by="reviewer", comment="x")
        reviews.request_changes(signoff, ref, by="reviewer2", comment="x")
        with pytest.raises(GateRefused):
            releases.promote(signoff, ref, by="release_manager", reason="x")
        found = last(tried(signoff, DEFAULT))
        assert (found.now, found.differences) == (Decided.REFUSED, ())

    def test_a_blocking_finding_stands_in_the_way_whatever_the_policy(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="x")
        found = FindingDraft(text="It leaks the target.", severity=Severity.BLOCKING)
        reviews.request_changes(signoff, ref, by="reviewer", comment="x", findings=[found])
        reviews.submit(signoff, ref, by="scientist", comment="x")
        reviews.approve(signoff, ref, by="reviewer2", comment="x")
        with pytest.raises(GateRefused) as refusal:
            releases.promote(signoff, ref, by="release_manager", reason="x")
        assert {check.id for check in refusal.value.verdict.failed} == {"findings"}
        again = last(tried(signoff, DEFAULT.replace("0.90", "0.50")))
        assert (again.now, again.differences) == (Decided.REFUSED, ())

    def test_signatures_nobody_was_asked_for_do_not_decide_it(self, signoff: Signoff, released: VersionRef) -> None:
        found = last(tried(signoff, DEFAULT.replace("break_glass: true", "signing: true")))
        assert (found.now, found.differences) == (Decided.ALLOWED, ())

    @pytest.mark.postgresql
    def test_one_that_was_missing_still_is(self, signoff: Signoff, registry: FakeRegistry) -> None:
        text = DEFAULT.replace("break_glass: true", "signing: true")
        ours = replace(signoff, policies=PolicyBook(policies=(parse(text, "p.yaml"),)))
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(ours, ref, by="scientist", comment="x")
        with pytest.raises(GateRefused):
            releases.promote(ours, ref, by="release_manager", reason="x")
        assert last(tried(signoff, text)).differences == ()
        assert list(reasons(last(tried(signoff, DEFAULT)), Answer.NOT_ASKED)) == ["signed"]

    def test_an_optional_rule_that_is_gone_is_said_to_be(self, signoff: Signoff, released: VersionRef) -> None:
        found = last(tried(signoff, DEFAULT.replace("signature: true", "signature: false")))
        assert found.now is Decided.ALLOWED
        assert list(reasons(found, Answer.NOT_ASKED)) == ["signature"]

    def test_datasets_that_only_the_run_names_are_recorded(self, signoff: Signoff, registry: FakeRegistry) -> None:
        release(signoff, registry.add_version("m", {"val_auc": 0.92}))
        other = Dataset(name="other", digest="bbbbbbbb", context="eval")
        ref = registry.add_version("m", {"val_auc": 0.95}, dataset=other)
        with pytest.raises(GateRefused):
            release(signoff, ref)
        assert record(signoff)[-1].get("datasets") == [{"name": "other", "digest": "bbbbbbbb"}]
        assert last(tried(signoff, DEFAULT)).now is Decided.REFUSED
        assert last(tried(signoff, DEFAULT.replace("same_dataset: true", "same_dataset: false"))).now.value == "allowed"


class TestWhichPromotions:
    def test_only_those_it_would_judge(self, signoff: Signoff, registry: FakeRegistry, released: VersionRef) -> None:
        release(signoff, registry.add_version("n", {"val_auc": 0.95}))
        tagged = with_rule("").replace("names:", "tags: {risk: high} #").replace("-100", "5").replace("default", "new")
        found = tried(signoff, tagged)
        assert {one.ref.name for one in found.judged} == {"m"}
        assert found.elsewhere == 1
        assert tried(signoff, tagged.replace("priority: 5", "priority: -200")).elsewhere == 3

    def test_of_one_model_or_since_a_day(
        self, signoff: Signoff, registry: FakeRegistry, released: VersionRef, clock: Clock
    ) -> None:
        clock.now += timedelta(days=10)
        release(signoff, registry.add_version("n", {"val_auc": 0.95}))
        assert {one.ref.name for one in tried(signoff, DEFAULT, model="n").judged} == {"n"}
        assert len(tried(signoff, DEFAULT, since=datetime(2026, 11, 5, tzinfo=UTC)).judged) == 1

    def test_what_was_refused_without_the_gate_is_none_of_them(self, signoff: Signoff, released: VersionRef) -> None:
        with pytest.raises(Exception, match="release manager"):
            releases.promote(signoff, released, by="scientist", reason="x")
        assert len(tried(signoff, DEFAULT).judged) == 2

    def test_two_that_would_both_judge_is_a_mistake(self, signoff: Signoff, released: VersionRef) -> None:
        with pytest.raises(InvalidSettings, match="both apply"):
            tried(signoff, DEFAULT.replace("name: default", "name: other"))


class TestWhatIsNotRecorded:
    @pytest.fixture
    def old(self, signoff: Signoff, released: VersionRef) -> VersionRef:
        """The last promotion again, as it was recorded before facts were."""
        self.again(signoff, record(signoff)[-1], drop=("facts", "datasets"))
        return released

    def again(self, signoff: Signoff, event: Event, *, drop: tuple[str, ...]) -> None:
        details = {key: value for key, value in event.body["details"].items() if key not in drop}
        kept = ("person", "roles", "seq", "comment")
        details["approvals"] = [{key: vote[key] for key in kept} for vote in details.get("approvals", ())]
        actor = Actor(username=event.actor, name="x", roles=frozenset({Role.RELEASE_MANAGER}), source=Source.BROWSER)
        entry = Entry(
            kind=event.kind,
            actor=actor,
            at=event.at,
            ref=event.ref,
            verdict=event.verdict,
            closes=f"{event.body['closes']}, again",
            details=details,
        )
        with signoff.database.writing() as connection:
            ledger.append(connection, entry)

    def test_is_said_and_not_guessed(self, signoff: Signoff, old: VersionRef) -> None:
        found = last(tried(signoff, with_rule("min_hours_in_staging: 1\nrequired_tags: [owner]")))
        assert found.now is Decided.NOT_RECORDED
        assert not found.changed
        assert set(reasons(found)) == {"approvals", "staging_time", "tag:owner"}
        assert reasons(found)["staging_time"] == "The record does not say when it was submitted."

    def test_what_fails_for_certain_is_refused_all_the_same(self, signoff: Signoff, old: VersionRef) -> None:
        assert last(tried(signoff, DEFAULT.replace("0.90", "0.96"))).now is Decided.REFUSED

    def test_what_was_asked_then_in_the_same_way_is_answered_as_then(self, signoff: Signoff, old: VersionRef) -> None:
        found = last(tried(signoff, DEFAULT))
        assert list(reasons(found)) == ["approvals"], "complete, signature, submitted: the checks of then say it"

    def test_nor_which_policy_judged_it(self, signoff: Signoff, old: VersionRef) -> None:
        tagged = DEFAULT.replace('names: ["*"]', "tags: {risk: high}").replace("name: default", "name: new")
        tagged = tagged.replace("-100", "5")
        found = last(tried(signoff, tagged))
        assert reasons(found) == {"policy": "The record does not say the model's tags."}

    def test_a_refusal_of_before_says_only_that(self, signoff: Signoff, registry: FakeRegistry) -> None:
        with pytest.raises(GateRefused) as refusal:
            release(signoff, registry.add_version("m", {"val_auc": 0.5}))
        event = record(signoff)[-1]
        assert event.kind is Kind.PROMOTION_REFUSED
        entry = Entry(
            kind=event.kind,
            actor=Actor(username="x", name="x", roles=frozenset(), source=Source.BROWSER),
            at=event.at,
            ref=event.ref,
            verdict=refusal.value.verdict,
        )
        with signoff.database.writing() as connection:
            ledger.append(connection, entry)
        found = last(tried(signoff, DEFAULT))
        assert (found.then, found.now) == (Decided.REFUSED, Decided.NOT_RECORDED)
        assert list(reasons(found)) == ["facts"]

    def test_an_artifact_beside_the_model_that_nobody_looked_for(self, signoff: Signoff, released: VersionRef) -> None:
        found = last(tried(signoff, with_rule('required_artifacts: ["*report.html"]')))
        assert found.now is Decided.NOT_RECORDED
        assert list(reasons(found)) == ["artifact:*report.html"]

    def test_a_check_this_program_does_not_know(
        self, signoff: Signoff, released: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from services.views import dry_run as module

        judge = module.gate.evaluate

        def with_more(*args: Any, **options: Any) -> Any:
            verdict = judge(*args, **options)
            return replace(verdict, checks=(*verdict.checks, replace(verdict.checks[0], id="fairness:age")))

        monkeypatch.setattr(module.gate, "evaluate", with_more)
        found = last(tried(signoff, DEFAULT))
        assert (found.now, list(reasons(found))) == (Decided.NOT_RECORDED, ["fairness:age"])


class TestTheSizeOfAnEvent:
    def test_however_much_there_is_an_event_stays_small_and_says_so(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        registry.add_model("m", **{f"key{n:03}": "x" * 8_000 for n in range(200)})
        files = {f"data/{n:04}/{'d' * 100}.bin": b"x" for n in range(1_000)}
        ref = registry.add_version("m", {"val_auc": 0.95}, files={"MLmodel": b"flavors: {}\n", **files})
        registry.tag(ref, "half \ud800", "x")
        registry.tag(ref, "nul", "\0")
        reviews.submit(signoff, ref, by="scientist", comment="x")
        reviews.approve(signoff, ref, by="reviewer", comment="w" * 9_000)
        event = releases.promote(signoff, ref, by="release_manager", reason="x").event
        assert event
        assert len(json.dumps(event.body)) < 20_000
        kept = event.get("facts")
        assert len(kept["files"]["paths"]) == MAX_PATHS
        assert kept["files"]["left_out"] == 1_001 - MAX_PATHS
        assert len(kept["model_tags"]["values"]) == MAX_TAGS
        assert kept["model_tags"]["left_out"] == 200 - MAX_TAGS
        assert {len(value) for value in kept["model_tags"]["values"].values()} == {MAX_TAG}
        assert kept["tags"]["left_out"] == 2
        assert len(event.get("approvals")[0]["comment"]) == MAX_WORDS
        text = with_rule('required_tags: [key199]\nrequired_artifacts: ["*card.md"]')
        assert set(reasons(last(tried(signoff, text)))) == {"policy"}, "another policy asks for a tag that is left out"
        alone = replace(signoff, policies=PolicyBook(policies=()))
        assert set(reasons(last(tried(alone, text)))) == {"tag:key199", "artifact:*card.md"}

    def test_our_own_tags_are_not_repeated(self, signoff: Signoff, released: VersionRef) -> None:
        assert record(signoff)[-1].get("facts")["tags"] == {"values": {"note": "about it"}}


class TestCommand:
    def test_prints_a_table_for_people(self, run: Run, history: VersionRef, tmp_path: Path) -> None:
        file = tmp_path / "new.yaml"
        file.write_text(DEFAULT.replace("0.90", "0.94"))
        code, out, err = run("policy", "dry-run", file)
        lines = out.splitlines()
        assert (code, err) == (0, "")
        assert lines[0].split() == ["record", "when", "(UTC)", "version", "asked", "by", "then", "now"]
        assert "    passed → failed: val_auc is 0.92; ≥ 0.94 is needed." in lines
        assert lines[-1] == "4 promotions; 2 would be decided otherwise, 0 cannot be judged."

    def test_answers_machines_in_json(self, run: Run, history: VersionRef, tmp_path: Path) -> None:
        file = tmp_path / "new.yaml"
        file.write_text(DEFAULT.replace("0.90", "0.94"))
        code, out, _ = run("policy", "dry-run", file, "--model", "m", "--since", "2026-11-01", "--json")
        found = json.loads(out)
        assert code == 0
        assert (found["policy"], found["judged_by_other_policies"]) == ("default", 0)
        assert [one["changed"] for one in found["promotions"]] == [True, False, False, True]
        assert found["promotions"][3]["differences"][0]["now"] == "failed"
        assert json.loads(run("policy", "dry-run", file, "--model", "n", "--json")[1])["promotions"] == []

    @pytest.mark.parametrize("text", ["name: [\n", "name: x\n", DEFAULT + "bogus: 1\n", None])
    def test_a_bad_file_is_wrong_usage(self, run: Run, tmp_path: Path, text: str | None) -> None:
        file = tmp_path / "bad.yaml"
        if text is None:
            file.write_bytes(b"\xff\xfe")
        else:
            file.write_text(text)
        code, out, err = run("policy", "dry-run", file)
        assert (code, out) == (2, "")
        assert err.startswith("bad.yaml")

    @pytest.mark.parametrize("options", [["--since", "yesterday"], []])
    def test_so_is_a_day_that_is_none_or_no_file(self, run: Run, tmp_path: Path, options: list[str]) -> None:
        file = tmp_path / "new.yaml"
        if options:
            file.write_text(DEFAULT)
        assert run("policy", "dry-run", file, *options)[0] == 2

    def test_changes_nothing(self, run: Run, signoff: Signoff, history: VersionRef, tmp_path: Path) -> None:
        file = tmp_path / "new.yaml"
        file.write_text(DEFAULT)
        before = len(record(signoff))
        run("policy", "dry-run", file)
        assert len(record(signoff)) == before

    def test_a_name_cannot_write_to_the_terminal(
        self, run: Run, signoff: Signoff, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        release(signoff, registry.add_version("m\x1b[2J\nx", {"val_auc": 0.95}))
        file = tmp_path / "new.yaml"
        file.write_text(DEFAULT)
        assert "\x1b" not in run("policy", "dry-run", file)[1]


class TestOverRest:
    def test_answers_as_the_terminal_does_and_leaves_nothing(self, signoff: Signoff, released: VersionRef) -> None:
        rest, text = Rest(signoff), DEFAULT.replace("0.90", "0.93")
        rest.secret("auditor")
        before = kinds(signoff)
        answer = rest.post("/policies/dry-run", "auditor", policy=text)
        assert answer.status_code == 200, answer.text
        assert answer.json() == json.loads(json.dumps(tried(signoff, text).as_json()))
        assert [one["now"] for one in answer.json()["promotions"]] == ["allowed", "refused"]
        assert kinds(signoff) == before

    @pytest.mark.postgresql
    def test_can_be_of_one_model_and_from_a_day_on(self, signoff: Signoff, released: VersionRef) -> None:
        rest = Rest(signoff)
        for only in ({"model": "n"}, {"since": "2027-01-01"}, {"model": "n", "since": "2026-01-01T00:00:00Z"}):
            assert rest.post("/policies/dry-run", "admin", policy=DEFAULT, **only).json()["promotions"] == []

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("nonsense", "policy:1: a policy is a mapping"),
            (DEFAULT.replace("priority", "prioritee"), "policy:4: prioritee"),
            ("a: [1", "not YAML"),
            ("name: &n x\ntitle: *n", "aliases such as *this are not taken"),
            ("a: &a [*a]", "aliases"),
            *((f"name: {value}", "a value that cannot be read") for value in UNREADABLE),
            ("[" * 5000, "nested more than 50 levels deep"),
            ("name: " + "9" * 5000, "a number has more than 100 characters"),
        ],
    )
    def test_of_what_is_no_policy_is_one_clear_sentence(self, signoff: Signoff, text: str, why: str) -> None:
        answer = Rest(signoff).post("/policies/dry-run", "admin", policy=text)
        assert why in refused(answer, 400, "INVALID_PARAMETER_VALUE")

    def test_that_would_judge_a_model_together_with_another_is_told(
        self, signoff: Signoff, released: VersionRef
    ) -> None:
        twin = DEFAULT.replace("name: default", "name: twin")
        answer = Rest(signoff).post("/policies/dry-run", "admin", policy=twin)
        assert "give one a higher priority" in refused(answer, 400, "INVALID_PARAMETER_VALUE")

    def test_is_for_who_the_table_and_the_token_name(self, signoff: Signoff, released: VersionRef) -> None:
        rest = Rest(signoff)
        for role in Role:
            answer = rest.post("/policies/dry-run", role.value, policy=DEFAULT)
            assert answer.status_code == (200 if role in ROLES_FOR[Action.TRY_POLICIES] else 403)
        assert kinds(signoff)[-1] != "access:refused", "an admin may"
        limited = rest.token("admin", "limited", models=["n*"])
        assert "all models at once" in refused(
            rest.post("/policies/dry-run", token=limited, policy=DEFAULT), 403, "PERMISSION_DENIED"
        )
        assert rest.post("/policies/dry-run", token=limited, policy=DEFAULT, model="n1").status_code == 200
