"""What an approval is bound to: every fact that a check declares, and no other; and what may arrive after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.checks import view
from services.checks.bound import ALWAYS, bound, questions
from services.checks.view import OF_THE_MOMENT, Question, UndeclaredFact, View, answered
from services.domain import (
    ArtifactFile,
    Column,
    Dataset,
    LoggedModelFacts,
    Metric,
    MetricSource,
    Signature,
)
from services.evidence import _CHANGED, Binding, Evidence, Facts, Statement, Waiver
from services.gate import GateRefused, Verdict, evaluate
from services.place import PlaceKind
from services.policy import Policy, PolicyBook, Rules
from services.signoff import Signoff
from services.verdict import Check
from tests.checks_document import DEMANDING, HOLDOUT, MANAGER, _validation, agreed, policy
from tests.fakes import HOLDOUT as DATA
from tests.fakes import START, FakeRegistry
from tests.ledgers import kinds
from tests.test_gate import NOW, POLICY, champion, evidence, facts, promoted
from tests.verbs import releases, reviews

MORE = (
    DEMANDING.split("min_hours", maxsplit=1)[0]
    + f"validation: {{holdout: '{HOLDOUT}', target: y, metric: roc_auc}}\nguarded_files: required\n"
)
RULES = policy(
    threshold="    threshold: 0.9\n    min_absolute_change: 0\n    min_relative_change: 0\n",
    more=MORE,
)
"""A policy that asks everything that approvals are bound to."""
ASKS_NOTHING: Mapping[str, str] = {
    **dict.fromkeys(("name", "title", "risk", "priority", "applies_to"), "Which policy judges a model."),
    **dict.fromkeys(("candidate", "champion"), "What a champion is called."),
    "metric_source": "Whose value counts of a metric that is asked for elsewhere.",
    **dict.fromkeys(
        ("signing", "min_hours_in_staging", "freezes", "approvals_expire_after_days", "automation", "break_glass"),
        "Asks for facts of the moment.",
    ),
}
"""Keys of a policy that ask for no declared fact, and why."""


@cache
def whole() -> Facts:
    """A version that passes everything `RULES` ask, and a champion it is compared with."""
    mine = evidence(0.95, input_example=True, dataset=None, files={"MLmodel": b"", "weights": b"1"})
    mine = replace(mine, run_files=("docs/model_card.md",), run=replace(mine.run, datasets=(DATA,)))  # type: ignore[type-var]
    mine = replace(mine, version=replace(mine.version, tags={"owner": "cardiology"}))
    mine = replace(mine, place=replace(mine.place, unguarded_because=""))  # type: ignore[type-var]
    theirs = replace(champion(0.92, dataset=None), version=replace(champion().version, created_at=START))
    theirs = replace(theirs, run=replace(theirs.run, datasets=(DATA,)))  # type: ignore[type-var]
    seen = facts(mine, theirs)
    return replace(seen, validations=(_validation(seen),))


def of_run(side: str, **changes: Any) -> Callable[[Facts], Facts]:
    return lambda seen: _with(seen, side, lambda found: replace(found, run=replace(found.run, **changes)))


def of_version(side: str, **changes: Any) -> Callable[[Facts], Facts]:
    return lambda seen: _with(seen, side, lambda found: replace(found, version=replace(found.version, **changes)))


def _with(seen: Facts, side: str, change: Callable[[Evidence], Evidence]) -> Facts:
    return replace(seen, **{side: change(getattr(seen, side))})


def _files(side: str, *more: ArtifactFile, kept: int = 2) -> Callable[[Facts], Facts]:
    def change(found: Evidence) -> Evidence:
        assert found.manifest
        return replace(found, manifest=replace(found.manifest, files=(*found.manifest.files[:kept], *more)))

    return lambda seen: _with(seen, side, change)


NEW = ArtifactFile(path="new", size=1, sha256="0" * 64)
OTHER = ArtifactFile(path="weights", size=1, sha256="0" * 64)
"""As large as the one that it replaces."""


def _signature(seen: Facts) -> Facts:
    def change(found: Evidence) -> Evidence:
        assert found.manifest
        other = Signature(inputs=(Column(name="y", type="double"),), outputs=())
        return replace(found, manifest=replace(found.manifest, signature=other))

    return _with(seen, "candidate", change)


def _moved(**changes: Any) -> Callable[[Facts], Facts]:
    def change(found: Evidence) -> Evidence:
        return replace(found, place=replace(found.place, **changes)) if found.place else found

    return lambda seen: _with(seen, "candidate", change)


def _described(seen: Facts) -> Facts:
    return replace(seen, model=replace(seen.model, description="For everybody."))


def metric(value: float, side: str = "candidate") -> Callable[[Facts], Facts]:
    return of_run(side, metrics={"val_auc": Metric(name="val_auc", value=value)})


WORD = Statement(
    dataset="other", digest="bbbbbbbb", comment="x", by="reviewer", person="id-reviewer", at=START.isoformat(), seq=8
)
OTHER_DATA = Dataset(name="other", digest="bbbbbbbb", context="eval")
CHANGES: Mapping[str, tuple[Callable[[Facts], Facts], ...]] = {
    "version": (
        of_version("candidate", source="elsewhere"),
        of_version("candidate", model_id="m-other"),
        of_version("candidate", run_id="0" * 32),
        of_version("candidate", created_at=NOW),
    ),
    "registered": (of_version("candidate", ready=False),),
    "files": (_files("candidate", NEW), _files("candidate", OTHER, kept=1), _files("candidate", kept=1)),
    "signature": (_signature,),
    "place": (
        _moved(uri="elsewhere"),
        _moved(kind=PlaceKind.RUN),
        _moved(id="m-other"),
        _moved(path="inner"),
        _moved(run_id="0" * 32),
        _moved(others=("logged model m-2",)),
        _moved(unguarded_because="nobody asks"),
        lambda seen: _with(seen, "candidate", partial(replace, place=None)),
    ),
    "unreadable": (lambda seen: _with(seen, "candidate", partial(replace, unreadable="There is no driver.")),),
    "run": (of_run("candidate", deleted=True),),
    "run_end": (of_run("candidate", ended_at=None), of_run("candidate", ended_at=NOW - timedelta(hours=1))),
    "metric:val_auc": tuple(metric(value) for value in (0.99, 0.5, math.nan)),
    "datasets": (of_run("candidate", datasets=(OTHER_DATA,)), of_run("candidate", datasets=())),
    "tag:owner": (of_version("candidate", tags={}), of_version("candidate", tags={"owner": "oncology"})),
    "artifact:*model_card.md": (
        lambda seen: _with(seen, "candidate", partial(replace, run_files=())),
        lambda seen: _with(seen, "candidate", partial(replace, run_files=("another_model_card.md",))),
        lambda seen: _with(seen, "candidate", partial(replace, run_digests={"docs/model_card.md": "1" * 64})),
    ),
    "champion": (of_version("champion", source="elsewhere"), lambda seen: replace(seen, champion=None)),
    "champion_run": (of_run("champion", deleted=True),),
    "champion_files": (_files("champion", NEW), _files("champion", kept=1)),
    "champion_metric:val_auc": tuple(metric(value, "champion") for value in (0.1, 0.99, math.nan)),
    "champion_datasets": (of_run("champion", datasets=(OTHER_DATA,)), of_run("champion", datasets=())),
    "champion_recorded": (lambda seen: _with(seen, "champion", promoted),),
    "champion_statements": (lambda seen: _with(seen, "champion", partial(replace, stated=(WORD,))),),
    "validations": (
        lambda seen: replace(seen, validations=()),
        lambda seen: replace(seen, validations=tuple(replace(one, seq=42) for one in seen.validations)),
    ),
    "policy": (lambda seen: seen,),
    "description": (of_version("candidate", description="For everybody."), _described),
}
"""By the name of a declared fact, ways in which it can become another one."""
OTHER_POLICY = policy(
    threshold="    threshold: 0.91\n    min_absolute_change: 0\n    min_relative_change: 0\n",
    more=MORE,
)


def judged(seen: Facts, fact: str = "") -> Verdict:
    return evaluate(OTHER_POLICY if fact == "policy" else RULES, seen, actor=MANAGER)


def approvals(verdict: Verdict) -> Check:
    return next(check for check in verdict.checks if check.id == "approvals")


class TestEveryDeclaredFact:
    def test_is_changed_here_one_after_another(self) -> None:
        declared = {name for question in questions(RULES) for name in question.reads} - OF_THE_MOMENT.keys()
        assert CHANGES.keys() == declared | ALWAYS

    def test_is_every_fact_that_a_check_can_read(self) -> None:
        """A fact that `View` reads and no check asked for by `RULES` declares would be changed by no test."""
        kinds_changed = {name.partition(":")[0] for name in CHANGES}
        assert kinds_changed == view._READ.keys() - OF_THE_MOMENT.keys()
        assert kinds_changed == _CHANGED.keys(), "and there are words for each"

    @pytest.mark.parametrize("key", Rules.model_fields)
    def test_is_asked_for_by_these_rules(self, key: str) -> None:
        """A new key of a policy must ask its question here, or be listed as one that reads no declared fact."""
        default = Rules.model_fields[key].get_default()
        asked = bool(getattr(RULES.rules, key)) and getattr(RULES.rules, key) != default
        assert asked or key in ASKS_NOTHING

    def test_passes_as_it_was_approved(self) -> None:
        verdict = judged(agreed(RULES, whole(), "reviewer"))
        assert verdict.allowed, verdict.summary()
        assert approvals(verdict).reason == "Approved by reviewer."

    @pytest.mark.parametrize(("fact", "number"), [(f, n) for f, ways in CHANGES.items() for n in range(len(ways))])
    def test_that_changed_after_the_approval_refuses_or_is_named_beside_it(self, fact: str, number: int) -> None:
        given = agreed(RULES, whole(), "reviewer")
        seen = CHANGES[fact][number](given)
        assert fact == "policy" or bound(RULES, seen).facts[fact] != bound(RULES, given).facts[fact]
        verdict = judged(seen, fact)
        assert not verdict.allowed or "since then" in approvals(verdict).reason

    @pytest.mark.parametrize("fact", ["version", "files", "place", "metric:val_auc", "champion", "policy"])
    def test_that_the_decision_is_about_voids_the_approval_whatever_it_is_now(self, fact: str) -> None:
        given = agreed(RULES, whole(), "reviewer")
        for change in CHANGES[fact]:
            (void,) = [check for check in judged(change(given), fact).failed if check.id == "approvals"]
            assert "is void because" in void.reason

    @given(st.lists(st.sampled_from([(f, n) for f in CHANGES for n in range(len(CHANGES[f]))]), min_size=1, max_size=4))
    def test_in_whatever_combination_never_goes_to_production_unseen(self, changes: list[tuple[str, int]]) -> None:
        given = agreed(RULES, whole(), "reviewer")
        seen = given
        for fact, number in changes:
            if seen.champion is not None or not fact.startswith("champion"):
                seen = CHANGES[fact][number](seen)
        verdict = judged(seen)
        changed = bound(RULES, given).changed(bound(RULES, seen))
        assert not verdict.allowed or not changed or "since then" in approvals(verdict).reason


class TestWhatNoCheckReads:
    @pytest.mark.parametrize(
        "change",
        [
            of_run(
                "candidate",
                metrics={name: Metric(name=name, value=value) for name, value in (("val_auc", 0.95), ("val_f1", 0.1))},
            ),
            of_run("candidate", tags={"mlflow.user": "somebody"}, params={"depth": "9"}, name="renamed"),
            of_version("candidate", tags={"owner": "cardiology", "colour": "blue"}, stage="Staging"),
            lambda seen: replace(seen, now=seen.now + timedelta(minutes=1)),
        ],
        ids=["another metric", "the rest of the run", "another tag", "the time"],
    )
    def test_voids_nothing(self, change: Callable[[Facts], Facts]) -> None:
        verdict = judged(change(agreed(RULES, whole(), "reviewer")))
        assert verdict.allowed, verdict.summary()
        assert approvals(verdict).reason == "Approved by reviewer."

    def test_of_another_metrics_data_set_changes_not_what_the_judged_ones_were_measured_on(self) -> None:
        given = agreed(RULES, whole(), "reviewer")
        said = Metric(
            name="val_f1", value=0.5, dataset_name="x", dataset_digest="cccccccc", source=MetricSource.LOGGED_MODEL
        )
        logged = LoggedModelFacts(model_id="m-1", metrics=(said,))
        assert judged(_with(given, "candidate", partial(replace, logged_model=logged))).allowed


class TestEvidenceThatArrivesLater:
    """It can only take away."""

    def test_that_lets_a_failed_check_pass_asks_for_the_approval_again(self) -> None:
        lacking = of_run("candidate", datasets=())(whole())
        given = agreed(RULES, lacking, "reviewer")
        assert [check.id for check in judged(given).failed] == ["same_dataset"]
        late = of_run("candidate", datasets=(DATA,))(given)
        verdict = judged(late)
        assert [check.id for check in verdict.failed] == ["approvals"]
        assert "void because check same_dataset failed then and passes now" in approvals(verdict).reason
        assert judged(agreed(RULES, late, "reviewer")).allowed

    def test_that_lets_a_passed_check_fail_refuses_at_once_and_voids_nothing(self) -> None:
        given = agreed(RULES, whole(), "reviewer")
        verdict = judged(of_version("candidate", tags={})(given))
        assert [check.id for check in verdict.failed] == ["tag:owner"]
        assert judged(of_version("candidate", tags={"owner": "cardiology"})(given)).allowed

    def test_that_changes_no_answer_is_named_beside_the_approval(self) -> None:
        given = agreed(RULES, whole(), "reviewer")
        verdict = judged(of_version("candidate", tags={"owner": "oncology"})(given))
        assert verdict.allowed
        assert approvals(verdict).reason == "Approved by reviewer; since then the tag owner changed."

    def test_that_lets_a_failed_check_pass_does_not_void_a_request_for_changes(self) -> None:
        lacking = of_run("candidate", datasets=())(whole())
        given = agreed(RULES, lacking, "reviewer", decision="changes_requested")
        late = of_run("candidate", datasets=(DATA,))(given)
        assert "changes" in {check.id for check in judged(late).failed}

    def test_a_model_card_that_the_policy_asks_for_and_is_rewritten_asks_for_the_approval_again(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        rules = policy(more="required_artifacts: ['*model_card.md']\n")
        signoff = replace(signoff, policies=PolicyBook(policies=(rules,)))
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.log_file(ref, "model_card.md", b"For adults.")
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        reviews.approve(signoff, ref, by="reviewer", comment="For adults.")
        registry.log_file(ref, "model_card.md", b"For anyone.")
        with pytest.raises(GateRefused, match=r"is void because the artifacts \*model_card\.md changed"):
            releases.promote(signoff, ref, by="release_manager", reason="Go.")
        assert registry.version(ref).stage != "Production"
        registry.log_file(ref, "model_card.md", b"For adults.")
        releases.promote(signoff, ref, by="release_manager", reason="Go.")
        assert registry.version(ref).stage == "Production"

    def test_a_data_set_that_a_stranger_logs_after_the_approval_does_not_promote(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        signoff = replace(signoff, policies=PolicyBook(policies=(POLICY,)))
        for value, dataset in ((0.95, DATA), (0.97, None)):
            ref = registry.add_version("m", {"val_auc": value}, dataset=dataset)
            reviews.submit(signoff, ref, by="scientist", comment="Please.")
            reviews.approve(signoff, ref, by="reviewer", comment="Yes.")
            if dataset:
                releases.promote(signoff, ref, by="release_manager", reason="Go.")
        registry.log_input(ref, DATA)
        with pytest.raises(GateRefused, match="check same_dataset failed then and passes now"):
            releases.promote(signoff, ref, by="release_manager", reason="Go.")
        assert registry.version(ref).stage != "Production"
        assert kinds(signoff)[-1] == "promotion:refused"
        reviews.approve(signoff, ref, by="reviewer", comment="With its data set.")
        releases.promote(signoff, ref, by="release_manager", reason="Go.")
        assert registry.version(ref).stage == "Production"


def nothing_there(seen: Facts) -> Facts:
    bare = replace(seen.candidate, run=None, manifest=None, run_files=())
    return replace(seen, candidate=bare, validations=(), champion=replace(bare, version=champion().version))


STATES: Mapping[str, Callable[[Facts], Facts]] = {
    "whole": lambda seen: seen,
    "no champion": lambda seen: replace(seen, champion=None),
    "rollback": lambda seen: replace(seen, rollback_of="0" * 64),
    "nothing there": nothing_there,
}


class Noting(View):
    """Notes which facts are read."""

    def __init__(self, policy: Policy, facts: Facts, reads: Iterable[str]) -> None:
        super().__init__(policy, facts, reads)
        self.read: set[str] = set()

    def fact(self, name: str) -> Any:
        self.read.add(name)
        return super().fact(name)


class TestEveryCheck:
    def test_is_handed_only_what_it_declares(self) -> None:
        """Each declared fact is taken away in turn: none is declared for nothing by all, and none is read without."""
        for question in questions(RULES):
            view = View(RULES, whole(), question.reads)
            assert question.answer(view).id == question.id
            for fact in {name for one in questions(RULES) for name in one.reads} - question.reads:
                with pytest.raises(UndeclaredFact):
                    view.fact(fact)

    @pytest.mark.parametrize("question", questions(RULES), ids=lambda question: question.id)
    @pytest.mark.parametrize("state", STATES)
    def test_reads_no_more_than_it_declares_whatever_is_there(self, question: Question, state: str) -> None:
        seen = STATES[state](whole())
        assert [check.id for check in answered([question], RULES, seen)] == [question.id]

    def test_that_reads_what_it_does_not_declare_raises(self) -> None:
        def answer(view: View) -> Check:
            return Check(id="x", title="", passed=True, value="", threshold="", reason=view.tag("owner"))

        with pytest.raises(UndeclaredFact, match="tag:owner is read and not declared"):
            list(answered([Question(id="x", reads=frozenset({"files"}), answer=answer)], RULES, whole()))

    def test_reads_each_fact_that_it_declares(self) -> None:
        """What is declared and never read would be named as changed for nothing; what is always bound costs no more."""
        unread: dict[str, frozenset[str]] = {}
        for question in questions(RULES):
            read: set[str] = set()
            for seen in STATES.values():
                noting = Noting(RULES, seen(whole()), question.reads)
                question.answer(noting)
                read |= noting.read
            unread[question.id] = question.reads - read - ALWAYS
        assert not any(unread.values()), unread

    @pytest.mark.parametrize("how", ["promotion", "rollback", "emergency"])
    def test_of_the_gate_is_bound_or_of_the_moment(self, how: str) -> None:
        """A new check must declare what it reads, or be listed here as one about the moment."""
        moment = {
            *("findings", "elsewhere", "submitted", "changes", "approvals", "promoter", "signed"),
            *("freeze", "staging_time", "released_before"),
            *("break_glass", "as_asked", "asked_by", "second_person"),
        }
        asked = {question.id for question in questions(RULES)}
        seen = agreed(RULES, whole(), "reviewer")
        if how == "rollback":
            seen = replace(seen, rollback_of="0" * 64)
        waiver = Waiver(asked_by=MANAGER, binding=bound(RULES, seen)) if how == "emergency" else None
        for check in evaluate(RULES, seen, actor=MANAGER, emergency=waiver).checks:
            assert check.id in asked or check.id.split(":")[0] in moment

    def test_facts_of_the_moment_have_a_reason_each(self) -> None:
        assert all(reason.endswith(".") for reason in OF_THE_MOMENT.values())


class TestABinding:
    def test_survives_the_record(self) -> None:
        binding = bound(RULES, whole())
        assert Binding.from_json(binding.as_json()) == binding

    def test_holds_no_fact_of_the_moment(self) -> None:
        assert not bound(RULES, whole()).facts.keys() & OF_THE_MOMENT.keys()

    def test_is_worked_out_anew_for_other_facts(self) -> None:
        seen = whole()
        assert bound(RULES, seen) is bound(RULES, seen)
        assert bound(RULES, _files("candidate", NEW)(seen)) != bound(RULES, seen)

    def test_without_a_fact_that_is_bound_now_counts_as_changed(self) -> None:
        now = bound(RULES, whole())
        less = replace(now, facts={name: value for name, value in now.facts.items() if name != "metric:val_auc"})
        assert less.voided(now) == ("the metric val_auc or its data set changed",)


class TestTwoPoliciesThatJudge:
    BOTH = replace(RULES, beside=replace(POLICY, rules=POLICY.rules.model_copy(update={"name": "lenient"})))
    SWAPPED = replace(BOTH.beside, beside=replace(BOTH, beside=None))  # type: ignore[type-var]

    def test_bind_a_decision_to_the_facts_of_both_whichever_is_the_assigned_one(self) -> None:
        both = bound(self.BOTH, whole())
        assert both == bound(self.SWAPPED, whole())
        assert {bound(one, whole()) == both for one in self.BOTH.each} == {True}
        assert bound(RULES, whole()).facts.keys() == both.facts.keys()

    def test_name_the_checks_that_failed_by_who_asked(self) -> None:
        lacking = of_run("candidate", datasets=())(whole())
        assert bound(self.BOTH, lacking).failed == ("lenient/same_dataset", "tested/same_dataset")

    def test_of_which_one_no_longer_does_void_what_was_decided_under_both(self) -> None:
        assert bound(self.BOTH, whole()).voided(bound(RULES, whole())) == ("the policy changed",)
