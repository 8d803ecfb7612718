"""Every role × every action × every door: one table of permissions, obeyed by all of them alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services import desk, reviews, validations
from services.desk import SUBJECTS, VOTES, Request
from services.domain import Action, Role, Source, VersionRef
from services.errors import NotAllowed
from services.permissions import ROLES_FOR
from services.signoff import Signoff
from services.validation import jobs
from services.validation.jobs import Origin, Wanted
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.rest import Rest, refused
from tests.test_releases import approve, release

VERBS = list(SUBJECTS)
Door = Callable[[Signoff, Action, VersionRef, str], str | None]
"""Asks for something; returns the refusal, or None when it was done."""


WANTED = Wanted(origin=Origin.PLACE, name="/data/holdout.csv", target="y")
VALIDATIONS = {
    Action.VALIDATE: "",
    Action.VALIDATE_WITH_CONSENT: "",
    Action.CANCEL_VALIDATION: "/{number}/cancel",
}


def waiting(signoff: Signoff, ref: VersionRef) -> int:
    """The validation that waits, if there is one."""
    return max((job.seq for job in jobs.of(signoff.database, ref, signoff.registry.version(ref).identity)), default=0)


def browser(signoff: Signoff, action: Action, ref: VersionRef, by: str) -> str | None:
    request = Request(action=action, ref=ref, words="x", wanted=WANTED, validation=waiting(signoff, ref))
    try:
        desk.perform(signoff, request, by=by)
    except NotAllowed as error:
        return str(error)
    return None


def rest(signoff: Signoff, action: Action, ref: VersionRef, by: str) -> str | None:
    client = Rest(signoff)
    before = kinds(signoff)
    secret = client.secret(by)
    assert kinds(signoff) == [*before, "token:created"]
    if action is Action.ROLLBACK:
        answer = client.post(f"/models/{ref.name}/rollback", token=secret, reason="x", version=ref.version)
    elif action in VALIDATIONS:
        path = f"/models/{ref.name}/versions/{ref.version}/validations{VALIDATIONS[action]}"
        consent = action is Action.VALIDATE_WITH_CONSENT
        body = {"target": "y", "location": WANTED.name, "consent": consent, "comment": "x"}
        answer = client.post(path.format(number=waiting(signoff, ref)), token=secret, **body)
    else:
        path = f"/models/{ref.name}/versions/{ref.version}/{action.replace('_', '-')}"
        answer = client.post(path, token=secret, comment="x")
    if answer.status_code in {200, 202}:
        return None
    return refused(answer, 403, "PERMISSION_DENIED")


DOORS: dict[Source, Door] = {Source.BROWSER: browser, Source.REST: rest}


def ready_for(signoff: Signoff, registry: FakeRegistry, action: Action) -> VersionRef:
    """A version on which the action would be done, but for the role."""
    ref = registry.add_version("m", {"val_auc": 0.95})
    match action:
        case Action.APPROVE | Action.REQUEST_CHANGES | Action.REJECT | Action.WITHDRAW:
            reviews.submit(signoff, ref, by="scientist", comment="x")
        case Action.PROMOTE | Action.AUTO:
            approve(signoff, ref)
        case Action.ROLLBACK:
            release(signoff, ref)
            release(signoff, registry.add_version("m", {"val_auc": 0.97}))
        case Action.CANCEL_VALIDATION:
            validations.ask(signoff, ref, WANTED, by="scientist")
    return ref


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("action", VERBS)
def test_the_table_is_obeyed(
    signoff: Signoff, registry: FakeRegistry, action: Action, role: Role, door: Source
) -> None:
    """Who may, does; who may not leaves one refusal in the record, and nothing in MLflow."""
    ref = ready_for(signoff, registry, action)
    writes, before = list(registry.writes), kinds(signoff)
    refusal = DOORS[door](signoff, action, ref, role.value)
    found = [event for event in record(signoff)[len(before) :] if event.kind.subject != "token"]
    assert {event.body["source"] for event in found} == {door.value}
    assert {event.actor for event in found} == {role.value}
    assert {event.kind.subject for event in found} == {SUBJECTS[action]}
    asked = action not in VOTES or role is Role.REVIEWER  # the default policy asks for nobody else's vote
    if role in ROLES_FOR[action] and asked:
        assert refusal is None
        assert found[-1].kind.outcome in {"confirmed", "given", "requested", "cancelled"}
    else:
        assert refusal is not None
        assert role.words in refusal
        assert [event.kind.outcome for event in found] == ["refused"]
        assert registry.writes == writes
