"""Whose own a version is stays so: no withdrawal and no rewritten claim makes somebody a second person."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from services import bars
from services.accounts import on_record, people
from services.domain import Role, Source, VersionRef
from services.errors import Refused, SelfApproval
from services.gate import GateRefused
from services.policy import PolicyBook, parse
from services.record.ledger import Kind
from services.record.mirror import REGISTERED_BY
from services.settings import PROJECT
from services.signoff import Signoff
from services.tables import accounts
from services.tables import policies as policy_table
from services.verbs.emergencies import open_emergencies
from services.views.dossier import open_dossier
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.test_judged_twice import BLOCKING, ask_for_emergency, refused_once
from tests.test_policy import GOOD
from tests.test_releases import approve, release
from tests.test_releases import stages as stages_of
from tests.validation import ask as ask_for_validation
from tests.verbs import break_glass, findings, releases, reviews


@pytest.fixture
def weak(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    """Version 2, trained by ``trainer`` and too weak for version 1, which is in Production."""
    release(signoff, registry.add_version("m", {"val_auc": 0.92}))
    return registry.add_version("m", {"val_auc": 0.85})


def add_person(signoff: Signoff, username: str, *roles: Role, like: str | None = None) -> str:
    """An account; ``like`` another of the same person."""
    people.add_account(signoff.database, username=username, name=username, hashed="!", roles=roles)
    if like:
        with signoff.database.writing() as connection:
            same = sa.select(accounts.c.person).where(accounts.c.username == like)
            person = connection.execute(same).scalar_one()
            on_record.change(connection, Kind.ACCOUNT_CHANGED, username, "They are one person.", person=person)
    return username


def submitted_and(signoff: Signoff, ref: VersionRef, ended: str, *, by: str) -> None:
    reviews.submit(signoff, ref, by=by, comment="Please.")
    if ended == "withdrawn":
        reviews.withdraw(signoff, ref, by=by, comment="Never mind.")
    else:
        reviews.reject(signoff, ref, by="reviewer2", comment="No.")


def test_a_version_without_a_run_has_its_own_author(signoff: Signoff, registry: FakeRegistry) -> None:
    first, second = (registry.add_version("m", {"val_auc": 0.95}, files={"MLmodel": name}) for name in (b"1", b"2"))
    for ref, author in ((first, "both"), (second, "reviewer")):
        registry._versions[ref] = replace(registry._versions[ref], run_id=None, user=author)
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
    with pytest.raises(SelfApproval, match="reviewer is recorded as its author"):
        reviews.approve(signoff, second, by="reviewer", comment="Mine.")
    assert reviews.approve(signoff, second, by="both", comment="Somebody else's.").event


class TestASubmissionThatEnded:
    @pytest.mark.parametrize("ended", ["withdrawn", "rejected"])
    def test_still_bars_its_submitter_from_confirming_an_emergency(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef, ended: str
    ) -> None:
        number = ask_for_emergency(signoff, weak)
        submitted_and(signoff, weak, ended, by="release_manager")
        with (
            refused_once(signoff, registry, "emergency"),
            pytest.raises(GateRefused, match=f"release_manager submitted it on .*; that was {ended}, and still counts"),
        ):
            break_glass.confirm(signoff, number, by="release_manager", comment="Agreed.")
        signoff.snapshot.refresh()
        (waits,) = open_dossier(signoff, weak).emergencies
        assert not waits.may_confirm(people.acting(signoff.database, "release_manager", Source.BROWSER))

    def test_still_bars_from_reviewing_the_emergency(self, signoff: Signoff, weak: VersionRef) -> None:
        people.set_roles(signoff.database, "scientist", [Role.SCIENTIST, Role.REVIEWER])
        submitted_and(signoff, weak, "withdrawn", by="scientist")
        number = ask_for_emergency(signoff, weak)
        break_glass.confirm(signoff, number, by="release_manager", comment="Agreed.")
        before = kinds(signoff)
        with pytest.raises(Refused, match="that was withdrawn, and still counts; somebody else must review"):
            break_glass.review(signoff, number, by="scientist", comment="Fine.", justified=True)
        assert kinds(signoff) == [*before, "emergency:refused"]

    @pytest.mark.parametrize("ended", ["withdrawn", "rejected"])
    def test_still_bars_from_approving_what_somebody_else_submitted_then(
        self, signoff: Signoff, registry: FakeRegistry, ended: str
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        submitted_and(signoff, ref, ended, by="both")
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        before = kinds(signoff)
        with pytest.raises(SelfApproval, match=f"that was {ended}, and still counts"):
            reviews.approve(signoff, ref, by="both", comment="Good.")
        assert kinds(signoff) == [*before, "approval:refused"]
        reviews.approve(signoff, ref, by="reviewer", comment="Good.")

    def test_still_bars_from_consenting_to_its_code(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        submitted_and(signoff, ref, "withdrawn", by="both")
        before = kinds(signoff)
        with pytest.raises(Refused, match="that was withdrawn, and still counts; somebody else must consent"):
            ask_for_validation(signoff, ref, by="both", words="I know it.", consent=True)
        assert kinds(signoff) == [*before, "validation:refused"]

    def test_still_bars_from_resolving_a_finding(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        submitted_and(signoff, ref, "withdrawn", by="both")
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        reviews.request_changes(signoff, ref, by="reviewer", comment="No.", findings=[BLOCKING])
        (found,) = findings.raised(signoff, registry.version(ref))
        with pytest.raises(Refused, match="that was withdrawn, and still counts"):
            findings.resolve(signoff, ref, found.id, by="both", comment="Fine.")
        assert findings.raised(signoff, registry.version(ref))[0].open


class TestAnAuthorOnRecord:
    """Anybody may rewrite ``mlflow.user`` of a run, at any time."""

    def test_stays_barred_from_confirming_when_the_claim_is_rewritten(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef
    ) -> None:
        add_person(signoff, "trainer", Role.RELEASE_MANAGER)
        number = ask_for_emergency(signoff, weak)
        registry.claim_author(weak, "nobody")
        with (
            refused_once(signoff, registry, "emergency"),
            pytest.raises(GateRefused, match="trainer is recorded as its author"),
        ):
            break_glass.confirm(signoff, number, by="trainer", comment="Agreed.")

    def test_stays_barred_from_approving_and_consenting_when_the_claim_is_rewritten(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        add_person(signoff, "trainer", Role.REVIEWER)
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        registry.claim_author(ref, "nobody")
        with pytest.raises(SelfApproval, match="trainer is recorded as its author"):
            reviews.approve(signoff, ref, by="trainer", comment="Good.")
        with pytest.raises(Refused, match="trainer is recorded as its author"):
            ask_for_validation(signoff, ref, by="trainer", words="I know it.", consent=True)
        assert [kind for kind in kinds(signoff) if kind.startswith(("approval", "validation"))] == [
            "approval:refused",
            "validation:refused",
        ]

    def test_is_barred_under_a_second_name_too(self, signoff: Signoff, registry: FakeRegistry) -> None:
        add_person(signoff, "trainer", Role.SCIENTIST)
        other = add_person(signoff, "trainer@example.org", Role.REVIEWER, like="trainer")
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        with pytest.raises(SelfApproval, match="trainer is recorded as its author"):
            reviews.approve(signoff, ref, by=other, comment="Good.")

    def test_a_claim_that_is_rewritten_to_a_reviewer_does_not_bar_that_reviewer(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        registry.claim_author(ref, "reviewer")
        reviews.approve(signoff, ref, by="reviewer", comment="Good.")
        releases.promote(signoff, ref, by="release_manager", reason="Now.")
        assert stages_of(registry) == ["Production"]

    def test_nor_one_rewritten_before_an_emergency_is_asked_for(
        self, signoff: Signoff, registry: FakeRegistry, weak: VersionRef
    ) -> None:
        reviews.submit(signoff, weak, by="scientist", comment="Please.")
        registry.claim_author(weak, "release_manager")
        number = ask_for_emergency(signoff, weak)
        break_glass.confirm(signoff, number, by="release_manager", comment="Agreed.")
        assert stages_of(registry) == ["Archived", "Production"]


STRICT = GOOD.replace('names: ["*"]', "tags: {risk: high}").replace("name: tested", "name: strict")
LAX = (PROJECT / "policies" / "default.yaml").read_text()


class TestAPolicyThatForbidsEmergencies:
    @pytest.fixture
    def signoff(self, signoff: Signoff) -> Signoff:
        """Models with the tag ``risk: high`` are judged by ``strict``, all others by ``default``."""
        policies = (parse(STRICT, "strict.yaml"), parse(LAX, "default.yaml"))
        signoff = replace(signoff, policies=PolicyBook(policies=policies))
        with signoff.database.writing() as connection:
            strict = policies[0]
            connection.execute(
                policy_table.insert().values(
                    digest=strict.digest,
                    name="strict",
                    text=strict.text,
                    activated_at="2026-01-01T09:00:00+00:00",
                    active=True,
                )
            )
        return signoff

    def _untag(self, registry: FakeRegistry) -> None:
        registry._models["m"] = replace(registry._models["m"], tags={})

    def test_forbids_them_when_its_tag_is_deleted_after_a_submission(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        registry.add_model("m", risk="high")
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="Please.")
        self._untag(registry)
        with (
            refused_once(signoff, registry, "emergency"),
            pytest.raises(GateRefused, match="Policy strict does not allow breaking the glass"),
        ):
            ask_for_emergency(signoff, ref)
        assert open_emergencies(signoff) == []

    def test_and_after_a_release_or_a_new_submission_under_the_other_policy(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        registry.add_model("m", risk="high")
        release(signoff, registry.add_version("m", {"val_auc": 0.92}))
        self._untag(registry)
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        with refused_once(signoff, registry, "emergency"), pytest.raises(GateRefused, match="Policy strict does not"):
            ask_for_emergency(signoff, ref)

    def test_and_while_its_tag_is_there_when_the_second_person_confirms(
        self, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        registry.add_model("m")
        ref = registry.add_version("m", {"val_auc": 0.95})
        number = ask_for_emergency(signoff, ref)
        registry._models["m"] = replace(registry._models["m"], tags={"risk": "high"})
        with refused_once(signoff, registry, "emergency"), pytest.raises(GateRefused, match="Policy strict does not"):
            break_glass.confirm(signoff, number, by="release_manager", comment="Agreed.")

    def test_says_nothing_of_models_it_never_judged(self, signoff: Signoff, registry: FakeRegistry) -> None:
        registry.add_model("other", risk="high")
        reviews.submit(signoff, registry.add_version("other", {"val_auc": 0.95}), by="scientist", comment="Please.")
        registry.add_model("m")
        assert ask_for_emergency(signoff, registry.add_version("m", {"val_auc": 0.95}))
        assert record(signoff)[-1].kind.value == "emergency:requested"


def test_names_that_clients_said_of_any_number_of_versions_are_looked_up(
    signoff: Signoff, registry: FakeRegistry
) -> None:
    """SQLite takes no condition of a thousand parts, and each name has several."""
    one = signoff.reader.fresh(registry.add_version("m", {"val_auc": 0.95}))
    said = [f"CORP\\user{number}+ml@example.org" for number in range(120)] + ["CORP\\reviewer"]
    every = [
        replace(one, version=replace(one.version, ref=VersionRef(name=name, version=1), tags={REGISTERED_BY: name}))
        for name in said
    ]
    with signoff.database.reading() as connection:
        barred = bars.of_candidates(connection, every, {evidence.ref: None for evidence in every})
    reviewer = people.acting(signoff.database, "reviewer", Source.BROWSER).person
    assert [set(barred[evidence.ref]) for evidence in every] == [*({name} for name in said[:-1]), {reviewer}]
