"""A script says what it saw, as a page does: a decision about something else than that is refused."""

from __future__ import annotations

import pytest

from services.domain import VersionRef
from services.signoff import Signoff
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.rest import Rest, refused
from tests.test_cli_verbs import Run, run, url  # noqa: F401  (fixtures)
from tests.test_releases import approve, release
from tests.verbs import reviews

DECISIONS = {
    "approve": ("reviewer", "approval:refused"),
    "request-changes": ("reviewer", "changes:refused"),
    "reject": ("reviewer", "rejection:refused"),
    "promote": ("release_manager", "promotion:refused"),
}
WORDS = {"comment": "I read it."}


@pytest.fixture
def rest(signoff: Signoff) -> Rest:
    return Rest(signoff)


def path(ref: VersionRef, verb: str) -> str:
    return f"/models/{ref.name}/versions/{ref.version}/{verb}"


def seen(rest: Rest, ref: VersionRef) -> str:
    """What a script is told that it sees."""
    return str(rest.get(path(ref, "verdict")).json()["seen"])


def waiting(signoff: Signoff, registry: FakeRegistry, verb: str) -> VersionRef:
    """m v2 after a champion, in a state in which the verb would be carried out."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    ref = registry.add_version("m", {"val_auc": 0.95})
    if verb == "promote":
        return approve(signoff, ref)
    reviews.submit(signoff, ref, by="scientist", comment="x")
    return ref


def others(signoff: Signoff) -> list[str]:
    return [kind for kind in kinds(signoff) if not kind.startswith("token:")]


class TestADecisionOverRest:
    @pytest.mark.parametrize("verb", DECISIONS)
    def test_about_bytes_that_were_replaced_meanwhile_is_refused_once_and_that_about_what_is_there_carried_out(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, verb: str
    ) -> None:
        ref = waiting(signoff, registry, verb)
        by, refusal = DECISIONS[verb]
        saw = seen(rest, ref)
        if verb == "promote":  # what was approved is what there is; the person who promotes looked at something else
            saw = saw[::-1]
        else:
            registry.write_file(ref, "model.skops", b"other bytes")
        before, writes = others(signoff), list(registry.writes)
        message = refused(rest.post(path(ref, verb), by, **WORDS, seen=saw), 403, "PERMISSION_DENIED")
        assert f"What you saw of m/v2 has the digest {saw}, and what is there now has " in message
        assert "Look again" in message
        assert others(signoff) == [*before, refusal]
        assert registry.writes == writes
        now = str(rest.get(path(ref, "verdict"), fresh="true").json()["seen"])
        answer = rest.post(path(ref, verb), by, **WORDS, seen=now)
        assert (answer.status_code, answer.json()["event"]) == (200, record(signoff)[-1].seq)

    def test_is_refused_when_the_champion_or_a_metric_changed(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = waiting(signoff, registry, "approve")
        saw = seen(rest, ref)
        registry.log_metric(ref, "val_auc", 0.96)
        refused(rest.post(path(ref, "approve"), "reviewer", **WORDS, seen=saw), 403, "PERMISSION_DENIED")
        saw = str(rest.get(path(ref, "verdict"), fresh="true").json()["seen"])
        release(signoff, registry.add_version("m", {"val_auc": 0.93}))
        refused(rest.post(path(ref, "approve"), "reviewer", **WORDS, seen=saw), 403, "PERMISSION_DENIED")
        assert rest.get(path(ref, "verdict"), fresh="true").json()["seen"] != saw

    def test_names_a_digest_and_another_one_under_the_same_key_is_another_request(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = waiting(signoff, registry, "approve")
        answer = rest.post(path(ref, "approve"), "reviewer", **WORDS, seen="model.skops")
        assert "seen" in refused(answer, 400, "INVALID_PARAMETER_VALUE")
        assert "approval:refused" not in others(signoff)
        saw = seen(rest, ref)
        assert rest.post(path(ref, "approve"), "reviewer", key="k", **WORDS, seen=saw).status_code == 200
        again = rest.post(path(ref, "approve"), "reviewer", key="k", **WORDS, seen=saw[::-1])
        assert "another request" in refused(again, 400, "INVALID_PARAMETER_VALUE")


class TestARollbackOverRest:
    def test_to_what_was_seen_is_carried_out_and_to_anything_else_refused(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        first, second = (release(signoff, registry.add_version("m", {"val_auc": v})) for v in (0.92, 0.95))
        saw, other = seen(rest, first), seen(rest, second)
        before, writes = others(signoff), list(registry.writes)
        for version in ({}, {"version": 1}):
            answer = rest.post("/models/m/rollback", "release_manager", reason="Worse.", seen=other, **version)
            assert "Look again, then roll back." in refused(answer, 403, "PERMISSION_DENIED")
        assert others(signoff)[len(before) :] == ["rollback:refused"]
        assert registry.writes == writes
        answer = rest.post("/models/m/rollback", "release_manager", reason="Worse.", seen=saw)
        assert (answer.status_code, registry.model("m").aliases["champion"]) == (200, 1)


class TestTheTerminal:
    def test_prints_what_was_seen_and_takes_it_back(
        self,
        run: Run,  # noqa: F811
        signoff: Signoff,
        registry: FakeRegistry,
    ) -> None:
        ref = waiting(signoff, registry, "approve")
        _, out, _ = run("reviewer", "check", "m", "2")
        saw = out.rpartition("Seen: ")[2].strip()
        registry.write_file(ref, "model.skops", b"other bytes")
        for verb in ("approve", "reject", "request-changes"):
            code, _, err = run("reviewer", verb, "m", "2", "--comment", "x", "--seen", saw)
            assert (code, f"What you saw of m/v2 has the digest {saw}" in err) == (1, True)
        _, out, _ = run("reviewer", "check", "m", "2", "--fresh")
        assert (
            run("reviewer", "approve", "m", "2", "--comment", "x", "--seen", out.rpartition("Seen: ")[2].strip())[0]
            == 0
        )
        assert run("release_manager", "promote", "m", "2", "--reason", "x", "--seen", saw)[0] == 1
        assert run("release_manager", "promote", "m", "2", "--reason", "x")[0] == 0
        assert run("release_manager", "rollback", "m", "--reason", "x", "--seen", saw)[0] == 1
        assert registry.model("m").aliases["champion"] == 2
