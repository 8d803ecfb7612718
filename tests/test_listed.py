"""Lists judge open submissions without reading files; the work in the background looks at each file once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import sqlalchemy as sa

from components.submissions import verdict_line
from services import caretaker, facts, listed, reading
from services.accounts import people
from services.domain import Actor, RunFacts, Source, Status, VersionRef
from services.errors import RegistryUnavailable
from services.evidence import FindingDraft, Severity
from services.reading import Reader
from services.signoff import Signoff
from services.tables import submissions
from services.views import inbox
from services.views.inbox import Item, Task
from tests.conftest import BOTH
from tests.fakes import FakeRegistry
from tests.pages import opened, text
from tests.verbs import releases, reviews

NOT_YET = "files were not looked at yet"


@pytest.fixture
def approved(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 2 of ``m``, approved and better than the champion; nothing is remembered, as after a start."""
    for value in (0.91, 0.95):
        ref = registry.add_version("m", {"val_auc": value})
        reviews.submit(signoff, ref, by="scientist", comment="Please look.")
        reviews.approve(signoff, ref, by="reviewer", comment="Fine.")
        if ref.version == 1:
            releases.promote(signoff, ref, by="release_manager", reason="First release.")
    signoff.snapshot.refresh()
    signoff.reader.forget()
    return ref


@pytest.fixture
def read(registry: FakeRegistry) -> list[str]:
    """What was read of versions since: ``files`` once for each that was hashed."""
    found: list[str] = []
    registry.while_reading = found.append
    return found


def items(signoff: Signoff) -> list[Item]:
    return inbox.judged(signoff, inbox.queue(signoff))


def person(signoff: Signoff, username: str) -> Actor:
    return people.acting(signoff.database, username, Source.BROWSER)


class TestBeforeAnybodyLookedAtTheFiles:
    def test_a_list_says_so_and_reads_none(self, signoff: Signoff, approved: VersionRef, read: list[str]) -> None:
        (item,) = items(signoff)
        assert (item.verdict, item.ready, item.blocked) == (None, False, True)
        assert NOT_YET in verdict_line(item)
        assert item.status == Status.APPROVED, "as recorded"
        assert "files" not in read

    def test_what_is_certain_without_them_is_told(
        self, signoff: Signoff, registry: FakeRegistry, approved: VersionRef
    ) -> None:
        registry.log_on_run(approved, "val_auc", 0.1)
        signoff.reader.forget()
        (item,) = items(signoff)
        assert verdict_line(item).startswith(":red[✗] val")
        assert verdict_line(item).endswith(f"and 1 more; its {NOT_YET}")

    def test_of_a_version_without_votes_the_missing_approval_is_told(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = registry.add_version("n", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please look.")
        signoff.reader.forget()
        (item,) = items(signoff)
        assert verdict_line(item) == f":orange[◷] An approval is missing; its {NOT_YET}"
        assert [task for task, _ in inbox.tasks(person(signoff, "reviewer"), [item])] == [Task.REVIEW]
        assert not inbox.tasks(person(signoff, "scientist"), [item])

    def test_who_voted_is_not_asked_again(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("n", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please look.")
        reviews.approve(signoff, ref, by="reviewer", comment="Fine.")
        with signoff.database.writing() as connection:
            connection.execute(submissions.update().values(status=Status.PENDING.value))  # two must approve
        signoff.reader.forget()
        found = items(signoff)
        assert not inbox.tasks(person(signoff, "reviewer"), found)
        assert [task for task, _ in inbox.tasks(person(signoff, "both"), found)] == [Task.REVIEW]

    def test_no_page_says_that_it_can_be_promoted(self, signoff: Signoff, approved: VersionRef) -> None:
        said = text(opened(signoff, "release_manager", "promotions"))
        assert NOT_YET in said
        assert "1 approved and waiting · 0 ready to go" in said
        assert "Nothing stands in the way" not in said


def test_a_list_knows_of_each_submission_what_its_own_page_knows(
    signoff: Signoff, registry: FakeRegistry, approved: VersionRef
) -> None:
    """Among others of the same bytes, with findings, votes, authors and champions."""
    bytes_ = {"MLmodel": b"flavors: {}\n"}
    for name, author in (("n", "both"), ("o", "CORP\\reviewer"), ("p", "somebody")):
        ref = registry.add_version(name, {"val_auc": 0.95}, files=bytes_, author=author)
        reviews.submit(signoff, ref, by="scientist", comment="Please look.")
        if name == "n":
            draft = FindingDraft(text="The data set is too small.", severity=Severity.BLOCKING)
            reviews.request_changes(signoff, ref, by="reviewer", comment="Explain the data.", findings=[draft])
    listed.look(signoff, seconds=math.inf)
    found = {item.submission.ref: item.facts for item in items(signoff)}
    assert len(found) == 4
    for ref, told in found.items():
        _, seen = facts.shown(signoff, ref)
        assert told
        assert replace(told, now=seen.now, reigning=seen.reigning) == seen
    shared = found[VersionRef(name="o", version=1)]
    assert shared
    assert (len(shared.findings), len(shared.elsewhere), len(shared.bars)) == (1, 1, 3)


class TestTheWorkInTheBackground:
    @pytest.mark.parametrize("database_url", BOTH, indirect=True)
    def test_hashes_candidate_and_champion_once(self, signoff: Signoff, approved: VersionRef, read: list[str]) -> None:
        assert listed.look(signoff, seconds=math.inf) == 1
        assert read.count("files") == 2
        (item,) = items(signoff)
        assert item.ready
        assert verdict_line(item) == ":green[✓] Nothing stands in the way"
        assert listed.look(signoff, seconds=math.inf) == 0
        assert read.count("files") == 2

    def test_is_a_round_of_the_caretaker(self, signoff: Signoff, approved: VersionRef) -> None:
        caretaker.Caretaker(signoff).turn()
        assert [item.looked_at for item in items(signoff)] == [True]

    def test_gives_way_when_its_time_is_over_and_goes_on_later(
        self, signoff: Signoff, registry: FakeRegistry, approved: VersionRef
    ) -> None:
        reviews.submit(signoff, registry.add_version("n", {"val_auc": 0.95}), by="scientist", comment="Please look.")
        signoff.reader.forget()
        looked = [listed.look(signoff, seconds=0.0) for _ in range(3)]
        assert looked == [1, 1, 0]
        assert all(item.looked_at for item in items(signoff))

    def test_what_a_verb_read_needs_no_look(self, signoff: Signoff, registry: FakeRegistry) -> None:
        reviews.submit(signoff, registry.add_version("n", {"val_auc": 0.95}), by="scientist", comment="Please look.")
        assert listed.look(signoff, seconds=math.inf) == 0
        assert items(signoff)[0].looked_at

    def test_a_promotion_leaves_the_other_candidates_of_its_model_known(
        self, signoff: Signoff, registry: FakeRegistry, approved: VersionRef
    ) -> None:
        reviews.submit(signoff, registry.add_version("m", {"val_auc": 0.97}), by="scientist", comment="Please look.")
        releases.promote(signoff, approved, by="release_manager", reason="Better.")
        assert [item.looked_at for item in items(signoff)] == [True]

    def test_one_that_cannot_be_read_keeps_none_of_the_others_waiting(
        self, signoff: Signoff, registry: FakeRegistry, approved: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reviews.submit(signoff, registry.add_version("n", {"val_auc": 0.95}), by="scientist", comment="Please look.")
        signoff.reader.forget()
        run = registry.run

        def broken(run_id: str) -> RunFacts:
            if run_id == registry.version(approved).run_id:
                raise RegistryUnavailable("MLflow answered 500.")
            return run(run_id)

        monkeypatch.setattr(registry, "run", broken)
        assert listed.look(signoff, seconds=math.inf) == 1
        assert [item.looked_at for item in items(signoff)] == [False, True]

    def test_waits_for_no_time_out_while_the_snapshot_does(
        self, signoff: Signoff, registry: FakeRegistry, approved: VersionRef
    ) -> None:
        signoff.snapshot.problem = "MLflow is away."
        before = registry.calls
        assert listed.look(signoff, seconds=math.inf) == 0
        assert registry.calls == before


def test_what_was_looked_at_long_ago_is_not_known_any_more(
    signoff: Signoff, registry: FakeRegistry, approved: VersionRef
) -> None:
    seconds = [0.0]
    reader = Reader(registry, clock=lambda: seconds[0])
    evidence = reader.remembered(registry.version(approved))
    reader.looked(evidence, "policy")
    bare = reader.without_files(registry.version(approved))
    for ago, known, due in (
        (reading.LOOK_AGAIN_SECONDS - 1, True, False),
        (reading.LOOK_AGAIN_SECONDS + 1, True, True),
        (reading.LOOKED_SECONDS + 1, False, True),
    ):
        seconds[0] = ago
        found = reader.as_looked_at(bare, "policy")
        assert (found is not None, reader.look_due(bare.version, "policy")) == (known, due)
        assert found is None or found.manifest == evidence.manifest
    assert reader.as_looked_at(bare, "another policy") is None


@pytest.mark.parametrize("database_url", BOTH, indirect=True)
def test_one_row_that_cannot_be_read_hides_no_other_submission(
    signoff: Signoff, registry: FakeRegistry, approved: VersionRef
) -> None:
    refs = [registry.add_version(name, {"val_auc": 0.95}) for name in ("n", "o", "p")]
    for ref in refs:
        reviews.submit(signoff, ref, by="scientist", comment="Please look.")
    reviews.approve(signoff, refs[1], by="reviewer", comment="Fine.")
    with signoff.database.writing() as connection:
        seq = connection.execute(sa.text("SELECT max(seq) FROM decisions")).scalar_one()
        connection.execute(sa.text("UPDATE decisions SET binding = '[1]' WHERE seq = :seq"), {"seq": seq})
    problems = {item.submission.ref: item.problem for item in items(signoff)}
    assert [ref for ref, problem in problems.items() if problem] == [refs[1]]
    assert "decisions" in str(problems[refs[1]])
