"""Bearer tokens: what one is worth, for how long, and what is left of it in the database."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from commands.local import operator
from services.accounts import people, sessions, tokens
from services.accounts.tokens import Bearer, Token
from services.database import database_time
from services.domain import Action, Actor, Role, Source, VersionRef
from services.errors import BadInput, LedgerUnavailable, NotAllowed, NotFound, Unauthenticated
from services.signoff import Signoff
from services.tables import tokens as table
from services.views import history
from services.views.history import Asked
from tests.conftest import BOTH
from tests.fakes import FakeRegistry
from tests.ledgers import kinds, record
from tests.rest import Rest, refused
from tests.test_releases import approve
from tests.verbs import reviews

DATABASES = BOTH


def person(signoff: Signoff, username: str) -> Actor:
    return people.acting(signoff.database, username, Source.CLI)


def create(
    signoff: Signoff, username: str = "reviewer", name: str = "ci", *, by: str | None = None, **scope: object
) -> tuple[str, Token]:
    return tokens.create(
        signoff.database,
        signoff.settings.secret_key,
        by=person(signoff, by or username),
        username=username,
        name=name,
        at=signoff.now(),
        **scope,  # type: ignore[arg-type]
    )


def bearer(signoff: Signoff, secret: str) -> Bearer:
    return tokens.bearer(signoff.database, secret, signoff.settings.secret_key, Source.REST)


def revoke(signoff: Signoff, token: Token, by: str = "reviewer") -> Token:
    return tokens.revoke(signoff.database, by=person(signoff, by), token=token, at=signoff.now())


def change(signoff: Signoff, **values: object) -> None:
    with signoff.database.writing() as connection:
        connection.execute(table.update().values(**values))


def row(signoff: Signoff) -> sa.Row[tuple[object, ...]]:
    with signoff.database.reading() as connection:
        return connection.execute(sa.select(table)).one()


class TestCreating:
    @pytest.mark.postgresql
    def test_is_on_record_without_the_secret(self, signoff: Signoff) -> None:
        secret, token = create(signoff, models=["fraud_*"], actions=["view", "approve"], days=7)
        event = record(signoff)[-1]
        assert (event.kind.value, event.actor, event.ref) == ("token:created", "reviewer", None)
        assert event.get("token") == token.id
        assert (event.get("models"), event.get("actions")) == (["fraud_*"], ["approve", "view"])
        assert secret not in str(event.body)
        assert str(row(signoff).token_hash) not in str(event.body)
        assert token.expires_at - token.created_at == timedelta(days=7)
        assert history.page(signoff, Asked(actions=("Token created",))).total == 1

    @pytest.mark.postgresql
    def test_leaves_no_byte_of_the_secret_in_the_database(self, signoff: Signoff, tmp_path: Path) -> None:
        secret, _ = create(signoff)
        bearer(signoff, secret)
        body = secret.removeprefix(tokens.PREFIX)
        assert len(body) >= 43
        assert secret not in str(row(signoff))
        stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        if signoff.database.engine.dialect.name == "sqlite":
            assert str(row(signoff).token_hash).encode() in stored, "that the right files were looked at"
        assert body.encode() not in stored
        assert not any(part.encode() in stored for part in (body[:20], body[-20:]))

    def test_of_a_person_is_for_that_person_alone(self, signoff: Signoff) -> None:
        """An admin could act as three people otherwise, and approve alone."""
        create(signoff)
        before = kinds(signoff)
        for stranger in ("scientist", "release_manager", "auditor", "admin"):
            with pytest.raises(NotAllowed, match="viewer alone may make it"):
                create(signoff, "viewer", by=stranger)
        assert kinds(signoff) == [*before, *["token:refused"] * 4]
        assert len(tokens.listed(signoff.database, signoff.settings.secret_key)) == 1

    def test_of_a_service_is_for_an_admin(self, signoff: Signoff) -> None:
        people.add_automation(signoff.database, username="ci", name="Pipeline", roles=[Role.SCIENTIST])
        with pytest.raises(NotAllowed, match="Only ci or an admin"):
            create(signoff, "ci", by="scientist")
        _, token = create(signoff, "ci", by="admin")
        assert (token.username, token.created_by) == ("ci", "admin")

    def test_on_the_machine_itself_is_for_anybody(self, signoff: Signoff) -> None:
        key, now = signoff.settings.secret_key, signoff.now()
        _, token = tokens.create(signoff.database, key, by=operator(), username="viewer", name="x", at=now)
        assert (token.username, token.created_by) == ("viewer", "signoff")

    @pytest.mark.parametrize("name", ["", " ci", "a\nb", "x" * 101, "\ud800"])
    def test_asks_for_a_name_one_can_read(self, signoff: Signoff, name: str) -> None:
        with pytest.raises(BadInput, match="name"):
            create(signoff, name=name)

    @pytest.mark.parametrize(
        "scope",
        [
            {"days": 0},
            {"days": 367},
            {"actions": ["fly"]},
            {"models": [""]},
            {"models": ["fraud_*", " "]},
            {"actions": [""]},
            {"models": ["a\0"]},
            {"models": ["x"] * 1 + [str(n) for n in range(60)]},
        ],
    )
    def test_refuses_what_makes_no_sense(self, signoff: Signoff, scope: dict[str, object]) -> None:
        before = kinds(signoff)
        with pytest.raises(BadInput):
            create(signoff, **scope)
        assert (kinds(signoff), tokens.listed(signoff.database, signoff.settings.secret_key)) == (before, [])

    @pytest.mark.postgresql
    def test_a_name_is_free_again_when_its_token_is_revoked(self, signoff: Signoff) -> None:
        _, first = create(signoff)
        before = kinds(signoff)
        with pytest.raises(BadInput, match="already has a token 'ci'"):
            create(signoff)
        assert kinds(signoff) == before
        create(signoff, "viewer")
        revoke(signoff, first)
        _, second = create(signoff)
        assert tokens.find(signoff.database, signoff.settings.secret_key, "ci", "reviewer") == second
        assert tokens.find(signoff.database, signoff.settings.secret_key, first.id).revoked_at
        with pytest.raises(BadInput, match="say whose"):
            tokens.find(signoff.database, signoff.settings.secret_key, "ci")
        with pytest.raises(NotFound):
            tokens.find(signoff.database, signoff.settings.secret_key, "nothing")

    def test_an_account_that_may_not_act_gets_none(self, signoff: Signoff) -> None:
        people.disable(signoff.database, "viewer")
        key, now = signoff.settings.secret_key, signoff.now()
        for username in ("viewer", "nobody"):
            with pytest.raises(NotFound):
                tokens.create(signoff.database, key, by=operator(), username=username, name="x", at=now)


class TestBeingSent:
    def test_is_the_account_with_the_roles_of_this_moment(self, signoff: Signoff) -> None:
        secret, _ = create(signoff)
        assert bearer(signoff, secret).actor.roles == {Role.REVIEWER}
        people.set_roles(signoff.database, "reviewer", [Role.VIEWER])
        actor = bearer(signoff, secret).actor
        assert (actor.username, actor.roles, actor.source) == ("reviewer", {Role.VIEWER}, Source.REST)

    @pytest.mark.postgresql
    def test_ends_with_its_days(self, signoff: Signoff) -> None:
        secret, _ = create(signoff)
        change(signoff, expires_at=database_time() - 1)
        with pytest.raises(Unauthenticated):
            bearer(signoff, secret)
        assert tokens.listed(signoff.database, signoff.settings.secret_key)[0].live is False

    def test_ends_at_once_when_revoked_and_that_is_on_record_once(self, signoff: Signoff) -> None:
        secret, token = create(signoff)
        bearer(signoff, secret)
        with pytest.raises(NotAllowed):
            revoke(signoff, token, by="scientist")
        bearer(signoff, secret)
        revoked = revoke(signoff, token, by="admin")
        assert revoke(signoff, token) == revoked
        with pytest.raises(Unauthenticated):
            bearer(signoff, secret)
        assert [kind for kind in kinds(signoff) if kind.startswith("token:")] == [
            "token:created",
            "token:refused",
            "token:revoked",
        ]

    def test_ends_with_its_account(self, signoff: Signoff) -> None:
        secret, _ = create(signoff)
        people.disable(signoff.database, "reviewer")
        with pytest.raises(Unauthenticated):
            bearer(signoff, secret)

    def test_another_key_knows_none_of_them(self, signoff: Signoff) -> None:
        secret, _ = create(signoff)
        with pytest.raises(Unauthenticated):
            tokens.bearer(signoff.database, secret, b"another key" * 4, Source.REST)

    @pytest.mark.parametrize("secret", ["", "x", tokens.PREFIX, tokens.PREFIX + "x" * 200, tokens.PREFIX + "ü", "\0"])
    def test_anything_else_is_no_token(self, signoff: Signoff, secret: str) -> None:
        create(signoff)
        with pytest.raises(Unauthenticated):
            bearer(signoff, secret)

    def test_neither_what_is_stored_nor_a_session_is_one(self, signoff: Signoff) -> None:
        secret, _ = create(signoff)
        session = sessions.open_session(signoff.database, "reviewer", signoff.settings.secret_key)
        for wrong in (str(row(signoff).token_hash), session, tokens.PREFIX + session, tokens.PREFIX + secret):
            with pytest.raises(Unauthenticated):
                bearer(signoff, wrong)
        key = sessions.session_key(secret, signoff.settings.secret_key)
        assert sessions.session_user(signoff.database, key) is None

    @pytest.mark.postgresql
    def test_its_use_is_noted_at_most_once_a_minute(self, signoff: Signoff, monkeypatch: pytest.MonkeyPatch) -> None:
        secret, token = create(signoff)
        assert token.last_used_at is None
        bearer(signoff, secret)
        first = row(signoff).last_used_at
        with monkeypatch.context() as patched:
            patched.setattr(signoff.database, "writing", None)  # not even begun
            bearer(signoff, secret)
        assert row(signoff).last_used_at == first is not None
        change(signoff, last_used_at=table.c.last_used_at - 61)
        bearer(signoff, secret)
        assert row(signoff).last_used_at >= first

    def test_a_use_that_cannot_be_noted_is_a_use_all_the_same(
        self, signoff: Signoff, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secret, _ = create(signoff)

        def away(**_: object) -> object:
            raise LedgerUnavailable("read-only")

        monkeypatch.setattr(signoff.database, "writing", away)
        assert bearer(signoff, secret).actor.username == "reviewer"
        assert row(signoff).last_used_at is None


class TestScope:
    """What a token is for, as REST obeys it; its account could do more."""

    @pytest.fixture
    def rest(self, signoff: Signoff) -> Rest:
        return Rest(signoff)

    @pytest.fixture
    def submitted(self, signoff: Signoff, registry: FakeRegistry) -> VersionRef:
        ref = registry.add_version("fraud_eu", {"val_auc": 0.95})
        registry.add_version("churn", {"val_auc": 0.95})
        reviews.submit(signoff, ref, by="scientist", comment="x")
        return ref

    def test_limits_actions_and_the_refusal_is_recorded(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry, submitted: VersionRef
    ) -> None:
        secret = rest.token("reviewer", actions=["view", "reject"])
        writes = list(registry.writes)
        answer = rest.post("/models/fraud_eu/versions/1/approve", token=secret, comment="x")
        assert refused(answer, 403, "PERMISSION_DENIED") == "This token may not approve; it is for reject, view."
        last = record(signoff)[-1]
        assert (last.kind.value, last.actor, last.ref) == ("approval:refused", "reviewer", submitted)
        assert last.body["source"] == "rest"
        assert registry.writes == writes
        assert rest.post("/models/fraud_eu/versions/1/reject", token=secret, comment="x").status_code == 200

    def test_an_action_that_is_not_named_is_not_included_not_even_reading(
        self, rest: Rest, signoff: Signoff, submitted: VersionRef
    ) -> None:
        secret = rest.token("reviewer", actions=["approve"])
        refused(rest.get("/models", token=secret), 403, "PERMISSION_DENIED")
        assert kinds(signoff)[-1] == "access:refused"

    def test_limits_models(self, rest: Rest, signoff: Signoff, submitted: VersionRef) -> None:
        secret = rest.token("both", models=["fraud_*"])
        assert [line["name"] for line in rest.get("/models", token=secret).json()["models"]] == ["fraud_eu"]
        assert rest.get("/models/fraud_eu", token=secret).status_code == 200
        assert rest.get("/events", token=secret, model="fraud_eu").status_code == 200
        for wanted in (
            *(
                "/models/churn",
                "/models/churn/versions/1",
                "/models/churn/versions/1/verdict",
                "/models/churn/production",
            ),
            *(
                "/events",
                "/events?model=churn",
                "/policies",
                "/ledger/checkpoint",
                "/compare?versions=fraud_eu:1,churn:1",
            ),
        ):
            refused(rest.get(wanted, token=secret), 403, "PERMISSION_DENIED")
        refused(rest.post("/models/churn/versions/1/submit", token=secret, comment="x"), 403, "PERMISSION_DENIED")
        assert kinds(signoff)[-1] == "submission:refused"
        manager = rest.token("release_manager", models=["fraud_*"])
        for back in ({}, {"version": 1}):
            answer = rest.post("/models/churn/rollback", token=manager, reason="x", **back)
            assert "This token may not be used on churn" in refused(answer, 403, "PERMISSION_DENIED")
            assert kinds(signoff)[-1] == "rollback:refused"

    def test_covers_the_documents_own_call_as_well(self, rest: Rest, submitted: VersionRef) -> None:
        secret = rest.token("both", models=["fraud_*"])
        body = {"name": "churn", "version": 1, "stage": "Staging"}
        refused(rest.post("/transition", token=secret, root="/api/2.0/mlflow", **body), 403, "PERMISSION_DENIED")

    def test_gives_nothing_the_account_has_not(self, rest: Rest, signoff: Signoff, submitted: VersionRef) -> None:
        approve_ = rest.token("viewer", actions=["approve", "promote", "export_ledger"])
        answer = rest.post("/models/fraud_eu/versions/1/approve", token=approve_, comment="x")
        assert "Only a release manager or reviewer may approve" in refused(answer, 403, "PERMISSION_DENIED")
        refused(rest.get("/ledger/export", token=approve_), 403, "PERMISSION_DENIED")

    @pytest.mark.postgresql
    def test_holds_before_an_idempotency_key_is_looked_at(
        self, rest: Rest, signoff: Signoff, registry: FakeRegistry
    ) -> None:
        ref = approve(signoff, registry.add_version("m", {"val_auc": 0.95}))
        wide, narrow = rest.token("release_manager", "wide"), rest.token("release_manager", "narrow", actions=["view"])
        path = f"/models/{ref.name}/versions/{ref.version}/promote"
        assert rest.post(path, token=wide, key="a", reason="x").status_code == 200
        refused(rest.post(path, token=narrow, key="a", reason="x"), 403, "PERMISSION_DENIED")

    @pytest.mark.postgresql
    def test_an_action_this_program_no_longer_knows_does_not_lift_the_limits(self, signoff: Signoff) -> None:
        secret, _ = create(signoff, actions=["approve"])
        change(signoff, actions=["levitate"])
        with pytest.raises(NotAllowed):
            bearer(signoff, secret).scope.require(Action.APPROVE, "m")


class TestRestWithoutOne:
    @pytest.mark.parametrize(
        "header", [None, "", "Bearer", "Bearer ", "Basic cmV2aWV3ZXI6eA==", "Bearer signoff_x", "signoff_x"]
    )
    def test_is_401_and_leaves_nothing_on_record(self, signoff: Signoff, header: str | None) -> None:
        rest, before = Rest(signoff), kinds(signoff)
        headers = {} if header is None else {"Authorization": header}
        for path in ("/api/v1/models", "/api/v1/ledger/export", "/api/v1/models/m/versions/1/verdict"):
            answer = rest.client.get(path, headers=headers)
            refused(answer, 401, "UNAUTHENTICATED")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert kinds(signoff) == before

    def test_revoked_expired_or_disabled_is_401_from_the_next_call_on(self, signoff: Signoff) -> None:
        rest = Rest(signoff)
        secret = rest.token("reviewer")
        assert rest.get("/models", token=secret).status_code == 200
        revoke(signoff, tokens.find(signoff.database, signoff.settings.secret_key, "tests", "reviewer"))
        refused(rest.get("/models", token=secret), 401, "UNAUTHENTICATED")
        other = rest.token("viewer")
        people.disable(signoff.database, "viewer")
        refused(rest.get("/models", token=other), 401, "UNAUTHENTICATED")

    def test_an_account_without_a_role_sees_nothing(self, signoff: Signoff) -> None:
        rest = Rest(signoff)
        secret = rest.token("viewer")
        people.set_roles(signoff.database, "viewer", [])
        refused(rest.get("/models", token=secret), 403, "PERMISSION_DENIED")
        assert kinds(signoff)[-1] == "access:refused"
