"""Every role × every action × every door: one table of permissions, obeyed by all of them alike.

A cell of the grid says how an action is asked for at a door, or why it is not. An action that is not decided for every
door, a call or a command that is in no cell, fails a test here.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from typer.main import get_command

from commands import app
from services.accounts import people
from services.accounts.permissions import ONLY_IN_BROWSER, ROLES_FOR
from services.admission import admissions
from services.desk import SUBJECTS, VOTES, Request
from services.domain import Action, Role, Source, VersionRef
from services.evidence import FindingDraft
from services.messaging import outbox
from services.record.deviations import open_deviations
from services.record.ledger import Kind
from services.signoff import Signoff
from services.validation.jobs import Origin, Wanted
from tests.doors import (
    POLICY,
    Ask,
    Got,
    Posted,
    Typed,
    World,
    by_click,
    by_keeping,
    by_opening,
    by_retrying,
    transition,
)
from tests.fakes import HOLDOUT, FakeRegistry
from tests.ledgers import record
from tests.receivers import deliver, telling, web
from tests.rest import V1, Rest
from tests.test_assigned_policies import tagged
from tests.test_messages import EVERYTHING, append
from tests.test_releases import approve, release
from tests.verbs import break_glass, findings, reconciler, reviews, validations

DOORS = (Source.BROWSER, Source.REST, Source.CLI, Source.MLFLOW_CLIENT)
SEEN = "it is for people who have what it is about before their eyes"
MACHINE = "it works straight on the database, for whoever may write that"
SCRIPTS = "it is for scripts and files"
NO_CALL = "no call to MLflow comes to it"
PROPOSES = "any client may propose, without a role; see test_proposals.py"
W = ("{name}", "{version}", "--comment", "x")
"""What follows a verb on the terminal."""
WAITING = "Ctrl-C cancels what `validate` waits for"
WANTED = Wanted(origin=Origin.PLACE, name="/data/holdout.csv", target="y")
ON = {"target": WANTED.target, "location": WANTED.name}
ON_DATA = (*W, "--location", WANTED.name, "--target", WANTED.target)

GRID: dict[Action, tuple[Ask | str, Ask | str, Ask | str, Ask | str]] = {
    #                           browser, REST, terminal, MLflow's own client
    Action.VIEW: (by_opening, Got("/models"), Typed("history"), NO_CALL),
    Action.SUBMIT: (by_click, Posted("submit"), Typed("submit", *W), PROPOSES),
    Action.WITHDRAW: (by_click, Posted("withdraw"), Typed("withdraw", *W), transition("None")),
    Action.APPROVE: (by_click, Posted("approve"), Typed("approve", *W), NO_CALL),
    Action.REQUEST_CHANGES: (by_click, Posted("request-changes"), Typed("request-changes", *W), NO_CALL),
    Action.REJECT: (by_click, Posted("reject"), Typed("reject", *W), NO_CALL),
    Action.RESOLVE: (
        by_click,
        Posted("findings/{number}/resolve"),
        Typed("resolve", "{name}", "{version}", "{number}", "--comment", "x"),
        NO_CALL,
    ),
    Action.REOPEN: (
        by_click,
        Posted("findings/{number}/reopen"),
        Typed("reopen", "{name}", "{version}", "{number}", "--comment", "x"),
        NO_CALL,
    ),
    Action.STATE_DATASET: (
        by_click,
        Posted("statements", {"dataset": {"name": "holdout", "digest": "aaaaaaaa"}}),
        Typed("state-dataset", *W, "--name", "holdout", "--digest", "aaaaaaaa"),
        NO_CALL,
    ),
    Action.PROMOTE: (by_click, Posted("promote"), Typed("promote", *W), transition("Production")),
    Action.ROLLBACK: (by_click, Posted("/models/{name}/rollback", {"reason": "x"}), Typed("rollback", *W), NO_CALL),
    Action.ARCHIVE: (by_click, Posted("archive"), Typed("archive", *W), transition("Archived")),
    Action.AUTO: (by_click, Posted("auto"), Typed("auto", *W), NO_CALL),
    Action.VALIDATE: (by_click, Posted("validations", ON), Typed("validate", *ON_DATA, "--no-wait"), NO_CALL),
    Action.VALIDATE_WITH_CONSENT: (
        by_click,
        Posted("validations", {**ON, "consent": True}),
        Typed("validate", *ON_DATA, "--no-wait", "--consent"),
        NO_CALL,
    ),
    Action.CANCEL_VALIDATION: (by_click, Posted("validations/{number}/cancel"), WAITING, NO_CALL),
    Action.RESTORE: (by_click, SEEN, SEEN, NO_CALL),
    Action.ADOPT: (by_click, SEEN, SEEN, NO_CALL),
    Action.BREAK_GLASS: (by_click, SEEN, SEEN, NO_CALL),
    Action.CONFIRM_EMERGENCY: (by_click, SEEN, SEEN, NO_CALL),
    Action.WITHDRAW_EMERGENCY: (by_click, SEEN, SEEN, NO_CALL),
    Action.REVIEW_EMERGENCY: (by_click, SEEN, SEEN, NO_CALL),
    Action.RETRY_MESSAGES: (by_retrying, SEEN, SEEN, NO_CALL),
    Action.RECONCILE: (SCRIPTS, Posted("/reconcile"), Typed("reconcile"), NO_CALL),
    Action.TRY_POLICIES: (SCRIPTS, Posted("/policies/dry-run", {"policy": POLICY}), MACHINE, NO_CALL),
    Action.ASSIGN_POLICY: (
        by_click,
        Posted("/models/{name}/policy", {"policy": "regression", "reason": "x"}),
        Typed("policy", "assign", "{name}", "--policy", "regression", "--reason", "x"),
        NO_CALL,
    ),
    Action.EXPORT_LEDGER: (SCRIPTS, Got("/ledger/export"), MACHINE, NO_CALL),
    Action.MANAGE_PEOPLE: (by_keeping, SEEN, MACHINE, NO_CALL),
}
REACHED = [
    (action, door) for action, row in GRID.items() for door, ask in zip(DOORS, row, strict=True) if callable(ask)
]
RECORDED_AS = {
    **SUBJECTS,
    Action.RESTORE: "restoration",
    Action.ADOPT: "adoption",
    **{action: "emergency" for action in Action if action.value.endswith("emergency") or action is Action.BREAK_GLASS},
    Action.MANAGE_PEOPLE: "account",
}
"""What a refusal is recorded as; what is only read, looked for or judged again is an access."""
UNRECORDED = {Action.VIEW, Action.RETRY_MESSAGES, Action.RECONCILE, Action.TRY_POLICIES, Action.EXPORT_LEDGER}
"""What leaves no event of its own when it is done."""


def ready_for(  # noqa: C901  (one case for each state)
    signoff: Signoff, registry: FakeRegistry, action: Action, name: str
) -> Request:
    """A request that would be carried out, but for the role."""
    ref = registry.add_version(name, {"val_auc": 0.95})
    request = Request(action=action, ref=ref, words="x", wanted=WANTED, policy="regression", dataset=HOLDOUT)
    match action:
        case Action.APPROVE | Action.REQUEST_CHANGES | Action.REJECT | Action.WITHDRAW:
            reviews.submit(signoff, ref, by="scientist", comment="x")
        case Action.RESOLVE | Action.REOPEN:
            return replace(request, finding=finding(signoff, ref, resolved=action is Action.REOPEN))
        case Action.STATE_DATASET:
            return replace(request, ref=release(signoff, registry.add_version(name, {"val_auc": 0.95}, dataset=None)))
        case Action.PROMOTE | Action.AUTO:
            approve(signoff, ref)
        case Action.ASSIGN_POLICY:
            tagged(registry, name, task="regression")
        case Action.ARCHIVE:
            release(signoff, ref)
        case Action.ROLLBACK:
            release(signoff, ref)
            release(signoff, registry.add_version(name, {"val_auc": 0.97}))
        case Action.RESTORE | Action.ADOPT:
            return replace(request, deviation=deviation(signoff, registry, ref))
        case Action.CONFIRM_EMERGENCY | Action.WITHDRAW_EMERGENCY | Action.REVIEW_EMERGENCY:
            return replace(request, emergency=emergency(signoff, action, ref))
        case Action.CANCEL_VALIDATION:
            return replace(request, validation=validations.ask(signoff, ref, WANTED, by="scientist").job or 0)
        case Action.RETRY_MESSAGES:
            return replace(request, finding=stuck(signoff))
    return request


def finding(signoff: Signoff, ref: VersionRef, *, resolved: bool) -> int:
    reviews.submit(signoff, ref, by="scientist", comment="x")
    drafts = [FindingDraft(text="Wrong.", due=date(2026, 12, 1))]
    reviews.request_changes(signoff, ref, by="reviewer2", comment="x", findings=drafts)
    (found,) = findings.raised(signoff, signoff.registry.version(ref))
    if resolved:
        findings.resolve(signoff, ref, found.id, by="reviewer2", comment="x")
    return found.id


def deviation(signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> int:
    release(signoff, ref)
    reconciler.reconcile(signoff)
    registry.tag(ref, "promoted_by", "somebody else")
    reconciler.reconcile(signoff)
    return next(found.id for found in open_deviations(signoff) if found.ref == ref)


def emergency(signoff: Signoff, action: Action, ref: VersionRef) -> int:
    by = "break_glass" if action is Action.WITHDRAW_EMERGENCY else "asker"
    event = break_glass.ask(signoff, ref, by=by, reason="x").event
    assert event
    if action is Action.REVIEW_EMERGENCY:
        break_glass.confirm(signoff, event.seq, by="release_manager", comment="x")
    return event.seq


def stuck(signoff: Signoff) -> int:
    with web() as receiver:
        told = telling(signoff, EVERYTHING, hook=receiver.url)
        receiver.status = 410
        append(told, Kind.OUTSIDE_STAGE)
        deliver(told, "hook")
    return outbox.overview(signoff.database).stuck[0].number


@pytest.fixture
def world(signoff: Signoff, registry: FakeRegistry) -> World:
    people.add_account(signoff.database, username="asker", name="A", hashed="!", roles=[Role.BREAK_GLASS])
    return World(signoff, registry, Rest(signoff))


@pytest.mark.parametrize(("action", "door"), REACHED)
def test_the_table_is_obeyed(world: World, action: Action, door: Source) -> None:
    """Whose role it names does it; the others leave one refusal in the record, and nothing in MLflow."""
    ask = GRID[action][DOORS.index(door)]
    assert callable(ask)
    done = set()
    for role in Role:
        request = ready_for(world.signoff, world.registry, action, f"m_{role}")
        world.rest.secret(role.value)
        writes, before = list(world.registry.writes), len(record(world.signoff))
        refusal = ask(world, request, role.value)
        found = [e for e in record(world.signoff)[before:] if e.actor == role.value]
        if refusal is None:
            done.add(role)
            assert action in UNRECORDED or found[-1].kind.outcome != "refused"
            continue
        assert role.words in refusal
        assert world.registry.writes == writes
        assert len(record(world.signoff)) == before + len(found)
        subject = RECORDED_AS.get(action, "access")
        assert [e.kind.value for e in found] == ([] if action is Action.RETRY_MESSAGES else [f"{subject}:refused"])
        source = Source.REST if door is Source.CLI else door  # the terminal asks over REST
        assert {e.body["source"] for e in found} <= {source.value}
    # Under the default policy nobody but a reviewer is asked for a vote.
    assert done == (ROLES_FOR[action] & {Role.REVIEWER} if action in VOTES else ROLES_FOR[action])


class TestTheGrid:
    def test_decides_every_action(self) -> None:
        assert set(GRID) == set(Action)

    def test_has_what_only_pages_offer_nowhere_else(self) -> None:
        assert {action for action, row in GRID.items() if not any(map(callable, row[1:]))} == ONLY_IN_BROWSER
        assert not ONLY_IN_BROWSER & set(SUBJECTS), "no token can be used for it"

    def test_has_every_call_of_ours_that_changes_something(self, signoff: Signoff) -> None:
        schema = Rest(signoff).client.get(f"{V1}/openapi.json").json()
        posts = {path.rpartition("{version}/")[2] for path, calls in schema["paths"].items() if "post" in calls}
        assert posts == {ask.path for row in GRID.values() if isinstance(ask := row[1], Posted)}

    def test_has_every_command_but_those_that_read_and_those_of_the_machine(self) -> None:
        commands = set(get_command(app).commands)  # type: ignore[attr-defined]
        reading = {"check", "compare", "findings", "history", "production"}
        machine = {"doctor", "ledger", "policy", "token", "user"}
        verbs = {ask.words[0] for row in GRID.values() if isinstance(ask := row[2], Typed)} - reading
        assert commands == verbs | reading | machine | {"transition"}  # another name of promote, submit and archive

    def test_has_every_verb_that_a_call_to_mlflow_can_come_to(self) -> None:
        reached = {action for action, row in GRID.items() if callable(row[3])}
        assert reached == set(admissions._SUBJECT)


def test_of_people_without_a_role_nobody_sees_a_page(signoff: Signoff, registry: FakeRegistry) -> None:
    people.add_account(signoff.database, username="nobody", name="N", hashed="!", roles=[])
    world = World(signoff, registry, Rest(signoff))
    request = Request(action=Action.VIEW, ref=VersionRef(name="m", version=1), words="x")
    assert "may view" in str(by_opening(world, request, "nobody"))
