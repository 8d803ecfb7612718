"""Where a version's files lie: what nobody can read, two places, another run's and unguarded files, at every door."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services import facts
from services.domain import VersionRef
from services.errors import FilesUnreadable, RegistryUnavailable, StoreUnavailable, UnreadableModel
from services.evidence import Manifest
from services.gate import GateRefused, evaluate
from services.place import Place, PlaceKind, may_move, unclear
from services.policy import PolicyBook, parse
from services.record.deviations import open_deviations
from services.signoff import Signoff
from services.validation.jobs import State
from services.validation.worker import Validator
from services.verdict import Check
from services.views import dossier
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.pages import opened, text
from tests.rest import Rest
from tests.test_policy import GOOD
from tests.test_releases import approve, release, stages
from tests.test_validations import last
from tests.validation import Evaluator, ask
from tests.verbs import reconciler, releases, reviews

SOURCE = "s3://bucket/1/model"
WHY = "the Python package boto3 is not installed"
SENTENCE = f"The files of m/v1 cannot be read from {SOURCE}: {WHY}. Install it. What lies there is unguarded."


@pytest.fixture
def hidden(registry: FakeRegistry) -> VersionRef:
    """Version 1, whose files lie where nobody here can read."""
    ref = registry.add_version("m", {"val_auc": 0.95})
    registry.hide_files(ref, SOURCE, WHY)
    return ref


@pytest.fixture
def ref(registry: FakeRegistry) -> VersionRef:
    """Version 1, as MLflow's clients register it."""
    return registry.add_version("m", {"val_auc": 0.95})


def place_of(registry: FakeRegistry, ref: VersionRef) -> Place:
    return registry.place(registry.version(ref))


def move(registry: FakeRegistry, ref: VersionRef, **changes: object) -> None:
    """What MLflow resolves the source to becomes another place; the source stays as it is."""
    moved = replace(place_of(registry, ref), **changes)  # type: ignore[arg-type]
    registry.source(ref, registry.version(ref).source, place=moved)


def check(signoff: Signoff, ref: VersionRef, id_: str = "place") -> Check:
    policy, seen = facts.fresh(signoff, ref)
    (found,) = (check for check in evaluate(policy, seen).checks if check.id == id_)
    return found


class TestAVersionThatMlflowCannotLoad:
    """Registered past the client library, with the source ``runs:/RUN/NAME`` of a logged model."""

    def test_is_not_promoted_and_may_be_registered_by_the_address_that_is_named(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        run = registry.version(ref).run_id or ""
        why = f"it looks in the artifacts of run {run}, folder model, where nothing is"
        place = Place(kind=PlaceKind.LOGGED_MODEL, uri="mlflow-artifacts:/1/models/m-1", id="m-1", run_id=run)
        registry.source(ref, f"runs:/{run}/model", place=replace(place, unloadable_because=why))
        approve(signoff, ref)
        registry.writes.clear()
        with pytest.raises(GateRefused, match=f"MLflow itself cannot load m/v1 by models:/m/1: {why}.*models:/m-1"):
            releases.promote(signoff, ref, by="release_manager", reason="Now.")
        assert kinds(signoff)[-1] == "promotion:refused"
        assert registry.writes == []
        registry.source(ref, "models:/m-1", place=place)
        assert check(signoff, ref).passed


class TestACopyWhoseOriginalLostItsName:
    """MLflow looked the source up when the copy was registered, and goes on to show it as it was written."""

    def test_says_that_its_source_names_another_version_now_and_where_its_files_were_and_are(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        registry.add_version("a", {"val_auc": 0.9})
        copy = registry.add_version("m", {"val_auc": 0.95})
        registry.source(copy, "models:/a/1", place=place_of(registry, copy))
        release(signoff, copy)
        said, words = "names a version that was registered after it", place_of(registry, copy).words
        assert "The source models:/a/1" not in self.page(signoff)
        registry.rename_model("a", "b")
        assert "The source models:/a/1 of m/v1 names no version any more" in self.page(signoff)
        registry.add_version("a", {"val_auc": 0.1})
        shown = self.page(signoff)
        assert f"The source models:/a/1 of m/v1 {said}" in shown
        assert words in shown
        at = opened(signoff, "viewer", "history", event=str(record(signoff)[-1].seq))
        drawer = " ".join(str(table.value.to_dict()) for table in at.table)
        assert "models:/a/1" in drawer
        assert words in drawer.replace("\\", "")

    def page(self, signoff: Signoff) -> str:
        signoff.snapshot.refresh()
        at = opened(signoff, "viewer", "version", name="m", version="1")
        assert not at.exception
        return text(at)


class TestASourceThatIsNotClear:
    """MLflow compares the name of a logged model as it is spelled, and puts it into a filter as it is."""

    @pytest.mark.parametrize(
        "path",
        [
            "R//model",
            "R///model",
            "R/model//",
            "R/model' AND name LIKE 'm%",
            'R/mo"del',
            "R/model\\\\",
            "R/m%6Fdel",
            "R/m\u200bodel",
        ],
    )
    def test_refuses_and_leaves_no_intent(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, path: str
    ) -> None:
        approve(signoff, ref)
        registry.source(ref, f"runs:/{path}", place=place_of(registry, ref))
        found = check(signoff, ref)
        assert not found.passed
        assert "can be read in more than one way" in found.reason
        with pytest.raises(GateRefused, match="can be read in more than one way"):
            releases.promote(signoff, ref, by="release_manager", reason="Now.")
        assert "promotion:intended" not in kinds(signoff)

    @pytest.mark.parametrize(
        "source", ["runs:/R/model", "RUNS:/R/model", "runs:///R/model?a=1", "runs:/R/model/", "runs:/R"]
    )
    def test_is_none_that_people_write(self, ref: VersionRef, source: str) -> None:
        assert unclear(source, ref) == ""


class TestFilesThatNobodyHereCanRead:
    """S3 without boto3, a Windows drive, an unknown scheme: one sentence everywhere, and never an error."""

    def test_refuse_with_the_sentence(self, signoff: Signoff, hidden: VersionRef) -> None:
        found = check(signoff, hidden)
        assert (found.passed, found.reason) == (False, SENTENCE)
        assert found.value == f"{SOURCE}, unguarded"

    def test_have_a_verdict_and_a_page_that_shows_everything_else(self, signoff: Signoff, hidden: VersionRef) -> None:
        signoff.snapshot.refresh()
        assert SENTENCE in [one.reason for one in dossier.verdict(signoff, hidden)[0].failed]
        at = opened(signoff, "viewer", "version", name="m", version="1")
        assert not at.exception
        assert SENTENCE in text(at)
        assert "val_auc" in text(at)

    def test_because_its_mlmodel_makes_no_sense_are_no_outage_either(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(ref: VersionRef) -> Manifest:
            raise UnreadableModel(f"The MLmodel file of {ref} cannot be read.")

        monkeypatch.setattr(registry, "manifest", broken)
        assert check(signoff, ref).reason == "The MLmodel file of m/v1 cannot be read."
        rest = Rest(signoff)
        assert rest.get("/models/m/versions/1/verdict", fresh="true").status_code == 200
        answer = rest.post("/models/m/versions/1/promote", "release_manager", reason="Now.")
        assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")

    def test_can_be_compared_with_others(self, signoff: Signoff, registry: FakeRegistry, hidden: VersionRef) -> None:
        registry.add_version("m", {"val_auc": 0.97})
        signoff.snapshot.refresh()
        for more in ({}, {"tab": "Requirements"}):
            at = opened(signoff, "viewer", "compare", versions="m:1,m:2", **more)
            assert not at.exception
            assert not at.error
            assert "the files of v1 could not be read" in text(at)

    def test_answer_over_rest_without_an_error(
        self, signoff: Signoff, registry: FakeRegistry, hidden: VersionRef
    ) -> None:
        registry.add_version("m", {"val_auc": 0.97})
        signoff.snapshot.refresh()
        rest = Rest(signoff)
        for fresh in ("true", "false"):
            answer = rest.get("/models/m/versions/1/verdict", fresh=fresh)
            assert (answer.status_code, answer.json()["allowed"]) == (200, False)
            assert SENTENCE in [one["reason"] for one in answer.json()["checks"]]
        assert rest.get("/compare", versions="m:1,m:2").status_code == 200

    def test_may_be_proposed_and_nobody_promotes_them(
        self, signoff: Signoff, registry: FakeRegistry, hidden: VersionRef
    ) -> None:
        reviews.submit(signoff, hidden, by="scientist", comment="Look at its numbers.")
        assert SENTENCE in [check["reason"] for check in record(signoff)[-1].failed_checks]
        registry.writes.clear()
        with pytest.raises(GateRefused, match="boto3 is not installed"):
            releases.promote(signoff, hidden, by="release_manager", reason="Now.")
        assert kinds(signoff)[-1] == "promotion:refused"
        assert registry.writes == []

    def test_end_a_validation_with_the_sentence(self, signoff: Signoff, hidden: VersionRef) -> None:
        ask(signoff, hidden)
        evaluator = Evaluator()
        Validator(signoff, evaluator).turn()
        found = last(signoff, hidden)
        assert (found.state, found.error) == (State.FAILED, SENTENCE)
        assert evaluator.seen == []
        assert "validation:completed" not in kinds(signoff)

    def test_of_the_run_leave_its_artifacts_unread_and_say_so(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(run_id: str) -> tuple[()]:
            raise FilesUnreadable("The artifacts of run 1 cannot be read from s3://b.")

        monkeypatch.setattr(registry, "run_files", away)
        rules = parse(GOOD + 'required_artifacts: ["*card.md"]\n', "p.yaml")
        signoff = replace(signoff, policies=PolicyBook(policies=(rules,)))
        assert check(signoff, ref).reason == "The artifacts of run 1 cannot be read from s3://b."
        assert not check(signoff, ref, "artifact:*card.md").passed
        signoff.snapshot.refresh()
        assert not opened(signoff, "viewer", "version", name="m", version="1").exception

    def test_whose_store_does_not_answer_are_not_called_missing(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def silent(*_: object) -> None:
            raise StoreUnavailable("The store of the files of m/v1 at s3://b does not answer.")

        registry.add_version("m", {"val_auc": 0.97})
        for method in ("listing", "manifest", "version_file", "run_files"):
            monkeypatch.setattr(registry, method, silent)
        with pytest.raises(RegistryUnavailable, match="does not answer"):
            facts.fresh(signoff, ref)
        signoff.snapshot.refresh()
        assert Rest(signoff).get("/models/m/versions/1/verdict", fresh="true").status_code == 503
        at = opened(signoff, "viewer", "version", name="m", version="1")
        assert not at.exception
        assert "at s3://b does not answer" in text(at)
        assert "val_auc" in text(at)
        assert not opened(signoff, "viewer", "compare", versions="m:1,m:2").error
        monkeypatch.undo()
        signoff.reader.forget()
        assert "does not answer" not in text(opened(signoff, "viewer", "version", name="m", version="1"))


class TestTwoPlaces:
    """MLflow reads a ``runs:`` source from the run's folder and from a logged model of that name."""

    def test_refuse_and_name_both(self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef) -> None:
        run = registry.version(ref).run_id or ""
        in_run = Place(
            kind=PlaceKind.RUN, uri="mlflow-artifacts:/1/r/artifacts/model", id=run, path="model", run_id=run
        )
        registry.source(ref, f"runs:/{run}/model", place=replace(in_run, others=("logged model m-2",)))
        found = check(signoff, ref)
        assert not found.passed
        assert f"from two places: the artifacts of run {run}, folder model and logged model m-2." in found.reason


class TestAnotherRun:
    """A client may say whatever run it likes beside ``models:/m-…``."""

    def test_than_the_one_that_made_the_files_refuses(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        good = registry.version(registry.add_version("other", {"val_auc": 0.999}, author="somebody")).run_id
        made_by = registry.version(ref).run_id
        registry.source(ref, f"models:/m-{made_by}", run_id=good)
        found = check(signoff, ref)
        assert not found.passed
        assert f"which run {made_by} made; the version claims run {good}" in found.reason
        with pytest.raises(GateRefused, match="the version claims run"):
            releases.promote(signoff, approve(signoff, ref), by="release_manager", reason="0.999!")
        assert stages(registry) == ["Staging"]


class TestUnguarded:
    def test_files_are_shown_as_such_and_refused_where_the_policy_says_so(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        assert check(signoff, ref).passed
        assert "unguarded: the MLflow server has no hook" in check(signoff, ref).reason
        signoff.snapshot.refresh()
        assert "They are unguarded" in text(opened(signoff, "viewer", "version", name="m", version="1"))
        demanding = parse(GOOD + "guarded_files: required\n", "p.yaml")
        signoff = replace(signoff, policies=PolicyBook(policies=(demanding,)))
        assert not check(signoff, ref, "guarded_files").passed
        with pytest.raises(GateRefused, match="The files of m/v1 are unguarded"):
            releases.promote(signoff, approve(signoff, ref), by="release_manager", reason="Now.")
        registry.hooked = True
        assert check(signoff, ref, "guarded_files").passed
        assert check(signoff, ref).reason.endswith("The hook guards them.")


class TestBinding:
    """An approval is for the files in the place where they were judged."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"id": "m-2", "uri": "mlflow-artifacts:/1/models/m-2/artifacts"},
            {"others": ("the artifacts of run 1",)},
            {"unguarded_because": "nobody asks"},
        ],
    )
    def test_an_approval_does_not_count_after_the_place_changed(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef, changes: dict[str, object]
    ) -> None:
        registry.hooked = True
        approve(signoff, ref)
        assert record(signoff)[-1].get("place")["unguarded_because"] == ""
        move(registry, ref, **changes)
        with pytest.raises(GateRefused, match="the approval by reviewer is void"):
            releases.promote(signoff, ref, by="release_manager", reason="Now.")
        assert kinds(signoff)[-1] == "promotion:refused"
        assert stages(registry) == ["Staging"]

    def test_a_place_that_changes_while_it_is_promoted_is_found_and_put_back(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        approve(signoff, ref)
        registry.after_write = lambda what: (
            move(registry, ref, others=("logged model m-2",)) if what.endswith("Production") else None
        )
        with pytest.raises(RegistryUnavailable):
            releases.promote(signoff, ref, by="release_manager", reason="Now.")
        event = record(signoff)[-1]
        assert event.kind.value == "promotion:aborted"
        assert event.get("why").startswith("MLflow now reads its files from another place")
        assert stages(registry) == ["Staging"]


class TestReconciling:
    def test_a_champion_that_mlflow_reads_from_elsewhere_by_now_is_a_deviation(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        registry.source(ref, "runs:/1/model", place=place_of(registry, ref))
        release(signoff, ref)
        reconciler.reconcile(signoff)
        assert reconciler.reconcile(signoff).events == ()
        move(registry, ref, id="m-2")
        assert [event.kind.value for event in reconciler.reconcile(signoff).events] == ["outside:files"]
        (deviation,) = open_deviations(signoff)
        assert "MLflow reads them from logged model m-2, and they were judged as logged model m-" in deviation.sentence

    def test_a_champion_that_can_no_longer_be_read_is_one_too_with_the_reason(
        self, signoff: Signoff, registry: FakeRegistry, ref: VersionRef
    ) -> None:
        release(signoff, ref)
        reconciler.reconcile(signoff)
        assert reconciler.reconcile(signoff).events == ()
        registry._unreadable[ref] = SENTENCE
        assert [event.kind.value for event in reconciler.reconcile(signoff).events] == ["outside:files"]
        assert WHY in open_deviations(signoff)[0].sentence

    def test_one_that_never_could_is_none(self, signoff: Signoff, registry: FakeRegistry, hidden: VersionRef) -> None:
        registry.set_stage(hidden, "Production")
        reconciler.reconcile(signoff)
        assert reconciler.reconcile(signoff).events == ()


class TestWhatCanComeToMeanAnotherPlace:
    @pytest.mark.parametrize("source", ["runs:/1/model", "RUNS:/1/model", "runs:///1/model?a", "models:/m/1"])
    def test_is_a_runs_source_or_a_copy_of_a_version(
        self, registry: FakeRegistry, ref: VersionRef, source: str
    ) -> None:
        registry.source(ref, source)
        assert may_move(registry.version(ref))

    @pytest.mark.parametrize("source", [f"models:/m-{'a' * 32}", "mlflow-artifacts:/1/2/artifacts", "s3://b", "/runs:"])
    def test_is_nothing_that_mlflow_fixed_at_registration(
        self, registry: FakeRegistry, ref: VersionRef, source: str
    ) -> None:
        registry.source(ref, source)
        assert not may_move(registry.version(ref))
