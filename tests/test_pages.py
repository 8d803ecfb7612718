"""What each page says and offers to whom, and that nothing anybody types or names can break one."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.testing.v1 import AppTest

from services import caretaker
from services.accounts import sessions
from services.desk import Request
from services.domain import Action, VersionRef
from services.errors import RegistryUnavailable
from services.signoff import Signoff
from services.steps import slots
from tests.conftest import Clock
from tests.fakes import FakeRegistry
from tests.ledgers import kinds
from tests.pages import opened, shell, text
from tests.test_releases import approve, release
from tests.verbs import releases, reviews

ROLES = ["viewer", "scientist", "reviewer", "release_manager", "auditor", "admin"]
PAGES = [
    "home",
    "registry",
    "model",
    "version",
    "compare",
    "review",
    "promotions",
    "history",
    "messages",
    "tokens",
    "people",
]
NASTY = ["<img src=x onerror=alert(1)>", "**bold** [link](javascript:x)", "\u202egnp", "a\nb", "=HYPERLINK(1)", "мodel"]


@pytest.fixture
def champion(signoff: Signoff, registry: FakeRegistry) -> VersionRef:
    return release(signoff, registry.add_version("m", {"val_auc": 0.92}))


@pytest.fixture
def pending(signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> VersionRef:
    ref = registry.add_version("m", {"val_auc": 0.95})
    reviews.submit(signoff, ref, by="scientist", comment="Please look.")
    return ref


def version_query(ref: VersionRef) -> dict[str, str]:
    return {"name": ref.name, "version": str(ref.version)}


class TestEverywhere:
    @pytest.mark.parametrize("role", ROLES)
    @pytest.mark.parametrize("page", PAGES)
    def test_every_page_opens_for_every_role(self, signoff: Signoff, pending: VersionRef, role: str, page: str) -> None:
        at = opened(signoff, role, page, **version_query(pending))
        assert not at.exception, at.exception

    @pytest.mark.parametrize("page", PAGES)
    def test_every_page_opens_on_an_empty_registry(self, signoff: Signoff, page: str) -> None:
        at = opened(signoff, "viewer", page)
        assert not at.exception, at.exception
        assert text(at).strip()

    @pytest.mark.parametrize("page", PAGES)
    def test_when_mlflow_is_away_there_is_one_plain_sentence(
        self, signoff: Signoff, registry: FakeRegistry, page: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.add_version("m", {"val_auc": 0.9})

        def away(*_: object, **__: object) -> None:
            raise RegistryUnavailable("MLflow did not give a usable answer.")

        for name in ("model", "models", "version", "versions", "all_versions", "run", "runs", "manifest", "listing"):
            monkeypatch.setattr(registry, name, away)
        at = opened(signoff, "viewer", page, name="m", version="1")
        assert not at.exception, at.exception
        if page not in {"history", "review", "promotions"}:  # these have nothing to ask MLflow about here
            assert "MLflow is away" in text(at)

    @pytest.mark.parametrize("name", NASTY)
    @pytest.mark.parametrize("page", PAGES)
    def test_any_name_is_only_a_name(self, signoff: Signoff, registry: FakeRegistry, name: str, page: str) -> None:
        registry.add_model(name, owner=name, anything="x" * 100_000)
        ref = registry.add_version(name, {"val_auc": 0.95, name: float("nan")}, params={name: name})
        registry.tag(ref, "note", "y" * 100_000)
        reviews.submit(signoff, ref, by="scientist", comment=name.replace("\u202e", ""))
        at = opened(signoff, "reviewer", page, **version_query(ref))
        assert not at.exception, at.exception
        raw = [element.proto.body for element in at.get("html")]
        assert not any("<img src=x" in body for body in raw)
        assert not any("<img src=x" in element.value for element in at.markdown), "escaped for Markdown"

    @pytest.mark.parametrize(
        "query", [{}, {"name": "m"}, {"name": "m", "version": "03"}, {"name": "no", "version": "1"}]
    )
    def test_a_malformed_link_is_one_sentence(
        self, signoff: Signoff, pending: VersionRef, query: dict[str, str]
    ) -> None:
        at = opened(signoff, "viewer", "version", **query)
        assert not at.exception
        assert len(at.warning) + len(at.info) == 1

    def test_different_values_of_one_metric_are_shown_with_who_says_them(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.log_on_model(ref, "val_auc", 0.5)
        at = opened(signoff, "scientist", "version", **version_query(ref))
        assert not at.exception
        assert any("Different values are said of val" in caption.value for caption in at.caption)
        (shown,) = [table.value for table in at.table if "said by" in table.value.columns]
        assert [(row["value"], row["said by"].split(",")[0]) for _, row in shown.iterrows()] == [
            ("0.95", "run"),
            ("0.5", "logged model"),
        ]

    def test_home_says_that_the_hook_has_another_token(self, signoff: Signoff, registry: FakeRegistry) -> None:
        registry.hooked, registry.knows_us = True, False
        assert "does not know Signoff" in text(opened(signoff, "viewer", "home"))
        registry.knows_us = True
        signoff.snapshot.refresh()
        assert "does not know Signoff" not in text(opened(signoff, "viewer", "home"))

    @pytest.mark.parametrize(
        ("tag", "hooked", "said"),
        [
            ("rita", True, " by rita (logged in to MLflow), trained by trainer (as the client claimed)"),
            ("trainer", True, " by trainer (logged in to MLflow)"),
            ("", True, " by trainer (as the client claimed)"),
            ("rita", False, " by trainer (as the client claimed)"),
        ],
    )
    def test_who_registered_a_version_is_known_where_the_hook_wrote_it_and_else_a_claim(
        self, signoff: Signoff, registry: FakeRegistry, tag: str, hooked: bool, said: str
    ) -> None:
        registry.hooked = hooked
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.tag(ref, "signoff.registered_by", tag)
        at = opened(signoff, "scientist", "version", **version_query(ref))
        assert not at.exception
        (line,) = [element.proto.body for element in at.get("html") if "registered <" in element.proto.body]
        words = re.sub("<[^>]*>", "", line).partition(" · run")[0]
        assert (words.endswith(said), words.count(" by ")) == (True, said.count(" by "))

    def test_a_run_that_is_gone_is_no_evidence(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        registry.drop_run(ref)
        at = opened(signoff, "scientist", "version", **version_query(ref))
        assert not at.exception
        assert "its run no longer exists" in text(at)
        assert "no evidence" in text(at)


class TestSession:
    def test_a_closed_session_bites_on_the_next_run(self, signoff: Signoff, pending: VersionRef) -> None:
        at = shell(signoff, "viewer").run()
        assert "Good to see you" in text(at)
        sessions.close_all(signoff.database, "viewer")
        at.run()
        assert "signed out" in text(at)
        assert "Good to see you" not in text(at)


class TestWitness:
    def test_home_says_since_when_the_record_has_no_witness(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef, clock: Clock
    ) -> None:
        caretaker.tidy(signoff)
        assert "unwitnessed" not in text(opened(signoff, "viewer", "home"))
        reviews.submit(signoff, registry.add_version("m", {"val_auc": 0.95}), by="scientist", comment="Next.")
        clock.now += timedelta(hours=2)
        assert "The record is unwitnessed since" in text(opened(signoff, "viewer", "home"))


class TestDeciding:
    def test_a_reviewer_approves_from_the_form_and_lands_on_the_next(
        self, signoff: Signoff, registry: FakeRegistry, pending: VersionRef
    ) -> None:
        following = registry.add_version("n", {"val_auc": 0.95})
        reviews.submit(signoff, following, by="scientist", comment="Second.")
        at = opened(signoff, "reviewer", "version", **version_query(pending))
        at.text_area[0].set_value("Convincing.")
        button(at, "Decide").click().run()
        assert not at.exception
        assert registry.version(pending).tags["approved_by"] == "reviewer"
        assert at.query_params["name"] == "n"
        assert "is approved" in text(at)

    def test_a_click_while_it_is_carried_out_neither_ends_it_nor_loses_what_became_of_it(
        self, signoff: Signoff, registry: FakeRegistry, pending: VersionRef
    ) -> None:
        at = opened(signoff, "reviewer", "version", **version_query(pending))
        at.text_area[0].set_value("Not yet.")
        at.radio[0].set_value(Action.REJECT)

        def click(_: str) -> None:
            """What Streamlit does with the run under way when somebody clicks: it ends at the next thing it draws."""
            context = get_script_run_ctx()
            assert context
            assert context.script_requests
            context.script_requests.request_stop()

        registry.before_write = click
        button(at, "Decide").click().run()
        registry.before_write = lambda _: None
        assert kinds(signoff)[-1] == "rejection:confirmed"
        assert "is rejected" not in text(at)
        assert "is rejected" in text(at.run())
        assert "is rejected" not in text(at.run())

    def test_without_a_comment_nothing_happens(
        self, signoff: Signoff, registry: FakeRegistry, pending: VersionRef
    ) -> None:
        before = kinds(signoff)
        at = opened(signoff, "reviewer", "version", **version_query(pending))
        button(at, "Decide").click().run()
        assert "comment is needed" in text(at)
        assert kinds(signoff) == before

    @pytest.mark.parametrize(
        ("choice", "kind"), [("Request changes", "changes:requested"), ("Reject", "rejection:confirmed")]
    )
    def test_the_other_decisions_too(self, signoff: Signoff, pending: VersionRef, choice: str, kind: str) -> None:
        at = opened(signoff, "reviewer", "version", **version_query(pending))
        at.text_area[0].set_value("Not yet.")
        at.radio[0].set_value(Action(choice.lower().replace(" ", "_")))
        button(at, "Decide").click().run()
        assert kinds(signoff)[-1] == kind

    def test_what_changed_since_it_was_on_screen_must_be_looked_at_again(
        self, signoff: Signoff, registry: FakeRegistry, pending: VersionRef
    ) -> None:
        at = opened(signoff, "reviewer", "version", **version_query(pending))
        registry.write_file(pending, "model.skops", b"other bytes")
        at.text_area[0].set_value("Convincing.")
        button(at, "Decide").click().run()
        assert "Since you opened" in text(at)
        assert "approved_by" not in registry.version(pending).tags
        at.text_area[0].set_value("Looked again.")
        button(at, "Decide").click().run()
        assert registry.version(pending).tags["approval_comment"] == "Looked again."

    def test_of_ones_own_only_the_other_decisions_are_offered(self, signoff: Signoff, registry: FakeRegistry) -> None:
        ref = registry.add_version("m", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="both", comment="Mine.")
        at = opened(signoff, "both", "version", **version_query(ref))
        assert at.radio[0].options == ["Request changes", "Reject"]

    def test_a_void_approval_is_shown_with_the_reason(
        self, signoff: Signoff, registry: FakeRegistry, pending: VersionRef
    ) -> None:
        reviews.approve(signoff, pending, by="reviewer", comment="Fine.")
        registry.write_file(pending, "more.txt", b"added later")
        signoff.reader.forget()
        at = opened(signoff, "viewer", "version", **version_query(pending))
        assert "No longer counts: the model's files changed" in text(at)


class TestPromoting:
    def test_the_button_asks_first_and_the_dialog_names_both_versions(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        at = opened(signoff, "release_manager", "version", **version_query(ref))
        button(at, "Promote v2 to Production").click().run()
        assert "m v2** goes to **Production**, and **v1** is archived" in text(at)
        assert registry.version(ref).stage == "Staging"

    def test_a_double_click_promotes_once(self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef) -> None:
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        at = opened(signoff, "release_manager", "version", **version_query(ref))
        for _ in range(2):
            confirmed(at, Action.PROMOTE, ref)
        assert kinds(signoff).count("promotion:confirmed") == 2, "the champion's own and this one"
        assert registry.version(ref).stage == "Production"

    def test_while_something_stands_in_the_way_it_is_refused_on_screen_with_one_event(
        self, signoff: Signoff, registry: FakeRegistry, pending: VersionRef
    ) -> None:
        before, tags, stage = kinds(signoff), dict(registry.version(pending).tags), registry.version(pending).stage
        at = opened(signoff, "release_manager", "version", **version_query(pending))
        button(at, "Promote v2 to Production").click().run()
        assert "the gate will refuse this" in text(at)
        confirmed(at, Action.PROMOTE, pending)
        assert "Refused by the gate" in text(at)
        assert "0 of 1 approvals by a reviewer" in text(at)
        assert kinds(signoff) == [*before, "promotion:refused"]
        assert (registry.version(pending).tags, registry.version(pending).stage) == (tags, stage)

    def test_a_conflict_names_who_was_faster(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        at = opened(signoff, "release_manager", "version", **version_query(ref))
        slots.take(signoff.database, "m", holder="mira", purpose="the promotion of v9")
        confirmed(at, Action.PROMOTE, ref)
        assert "mira acted first" in text(at)
        assert registry.version(ref).stage == "Staging"

    def test_promotions_lists_what_waits_and_the_way_back(
        self, signoff: Signoff, registry: FakeRegistry, champion: VersionRef
    ) -> None:
        second = release(signoff, registry.add_version("m", {"val_auc": 0.95}))
        approve(signoff, registry.add_version("m", {"val_auc": 0.96}))
        at = opened(signoff, "release_manager", "promotions")
        assert "1 approved and waiting · 1 ready to go" in text(at)
        button(at, f"Roll back to v{champion.version}").click().run()
        assert at.query_params["version"] == str(champion.version)
        at = opened(signoff, "release_manager", "version", **version_query(champion))
        button(at, "Roll back to this version").click().run()
        assert "m v1** returns to **Production**, and **v2** is archived" in text(at)
        confirmed(at, Action.ROLLBACK, champion)
        assert registry.version(champion).stage == "Production"
        assert registry.version(second).stage == "Archived"

    def test_history_and_home_follow(self, signoff: Signoff, champion: VersionRef) -> None:
        caretaker.tidy(signoff)
        assert releases.releases(signoff)[0].ref == champion
        assert "promoted" in text(opened(signoff, "viewer", "home"))


def confirmed(at: AppTest, action: Action, ref: VersionRef) -> None:
    """What the dialog leaves behind when it is confirmed; Streamlit's tester cannot run a dialog's own form."""
    at.session_state["confirmed"] = Request(action=action, ref=ref, words="Now.")
    at.run()


def button(at, label: str):  # type: ignore[no-untyped-def]
    """The button with exactly this label."""
    (found,) = [candidate for candidate in at.button if candidate.label == label]
    return found
