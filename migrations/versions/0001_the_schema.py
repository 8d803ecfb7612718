"""The schema. Events can be added, and the database refuses to change or delete one; so it is with what proves them."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import context, op

revision = "2026_11_28_3"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("events", "ledger_identity", "checkpoints", "witnesses")
HEAD = "coalesce((SELECT seq FROM ledger_head WHERE id = 1), 0)"
# When a row must not be put in, by table. SQLite's INSERT OR REPLACE deletes the row that is in the way without asking
# the triggers for DELETE, so those for INSERT look for one. PostgreSQL has no such statement, and unique keys.
NOT_NEXT = {
    "events": f"NEW.seq IS DISTINCT FROM {HEAD} + 1",
    "ledger_head": "NEW.id IS DISTINCT FROM 1 OR NEW.seq IS DISTINCT FROM 1 OR EXISTS (SELECT 1 FROM ledger_head)",
}
IN_THE_WAY = {
    "events": "EXISTS (SELECT 1 FROM events WHERE seq = NEW.seq OR hash = NEW.hash OR closes = NEW.closes)",
    "ledger_identity": "EXISTS (SELECT 1 FROM ledger_identity)",
    "checkpoints": "EXISTS (SELECT 1 FROM checkpoints WHERE seq = NEW.seq)",
    "witnesses": "EXISTS (SELECT 1 FROM witnesses WHERE seq = NEW.seq)",
}
NOT_FORWARD = (
    "NEW.id IS DISTINCT FROM OLD.id OR NEW.seq IS DISTINCT FROM OLD.seq + 1 "
    "OR NOT EXISTS (SELECT 1 FROM events WHERE seq = NEW.seq AND hash = NEW.hash)"
)
NEXT_ONLY, FORWARD_ONLY = "only the next event can be added", "the head moves on to the next event only"


def _on_sqlite() -> list[str]:
    def trigger(name: str, verb: str, table: str, when: str, why: str) -> str:
        condition = f"WHEN {when.replace('IS DISTINCT FROM', 'IS NOT')} " if when else ""
        return f"CREATE TRIGGER {name} BEFORE {verb} ON {table} {condition}BEGIN SELECT RAISE(ABORT, '{table}: {why}'); END"

    return [
        *(
            trigger(f"{table}_no_{verb.lower()}", verb, table, "", "append-only")
            for table in APPEND_ONLY
            for verb in ("UPDATE", "DELETE")
        ),
        trigger("ledger_head_no_delete", "DELETE", "ledger_head", "", "append-only"),
        trigger("ledger_head_forward", "UPDATE", "ledger_head", NOT_FORWARD, FORWARD_ONLY),
        *(trigger(f"{table}_next", "INSERT", table, when, NEXT_ONLY) for table, when in NOT_NEXT.items()),
        *(trigger(f"{table}_once", "INSERT", table, when, "append-only") for table, when in IN_THE_WAY.items()),
    ]


def _on_postgresql() -> list[str]:
    def function(name: str, when: str, why: str) -> str:
        return (
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {when} THEN RAISE EXCEPTION "
            f"'%: {why}', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$"
        )

    return [
        function("refuse_change", "true", "append-only"),
        function("require_forward", NOT_FORWARD, FORWARD_ONLY),
        "CREATE TRIGGER ledger_head_forward BEFORE UPDATE ON ledger_head "
        "FOR EACH ROW EXECUTE FUNCTION require_forward()",
        *(
            f"CREATE TRIGGER {table}_append_only BEFORE {verbs} ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            for table, verbs in {
                **dict.fromkeys(APPEND_ONLY, "UPDATE OR DELETE OR TRUNCATE"),
                "ledger_head": "DELETE OR TRUNCATE",
            }.items()
        ),
        *(function(f"require_next_in_{table}", when, NEXT_ONLY) for table, when in NOT_NEXT.items()),
        *(
            f"CREATE TRIGGER {table}_next BEFORE INSERT ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION require_next_in_{table}()"
            for table in NOT_NEXT
        ),
    ]


def upgrade() -> None:  # noqa: PLR0915  (a schema is one list)
    op.create_table(
        "accounts",
        sa.Column("username", sa.String(length=256), nullable=False),
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("looks_like", sa.String(length=256), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("email", sa.String(length=256), server_default="", nullable=False),
        sa.Column("password", sa.String(length=256), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("disabled", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("failed_logins", sa.Integer(), server_default="0", nullable=False),
        sa.Column("locked_until", sa.Float(), server_default="0", nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("automation", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.PrimaryKeyConstraint("username", name=op.f("pk_accounts")),
    )
    op.create_index(op.f("ix_accounts_looks_like"), "accounts", ["looks_like"], unique=False)
    op.create_index(op.f("ix_accounts_person"), "accounts", ["person"], unique=False)
    op.create_table(
        "checkpoints",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=16), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("signed", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("submission", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.String(length=256), nullable=False),
        sa.Column("person_id", sa.String(length=32), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("decision", sa.String(length=32), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("binding", sa.JSON(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("expired", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("automation", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("signed", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
    )
    op.create_index(op.f("ix_decisions_submission"), "decisions", ["submission"], unique=False)
    op.create_table(
        "deviations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(length=512), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("prescribed", sa.Text(), nullable=True),
        sa.Column("shown", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("found_at", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("closed_seq", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deviations")),
    )
    op.create_index("ix_deviations_state", "deviations", ["state", "model"], unique=False)
    op.create_index(
        "uq_deviations_open",
        "deviations",
        ["model", "subject"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "emergencies",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("binding", sa.JSON(), nullable=False),
        sa.Column("asked_by", sa.String(length=256), nullable=False),
        sa.Column("asked_by_id", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.String(length=32), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("own", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("confirmed_by", sa.String(length=256), nullable=True),
        sa.Column("confirmed_by_id", sa.String(length=32), nullable=True),
        sa.Column("released_at", sa.String(length=32), nullable=True),
        sa.Column("released_seq", sa.BigInteger(), nullable=True),
        sa.Column("waived", sa.JSON(), nullable=True),
        sa.Column("reviewed_by", sa.String(length=256), nullable=True),
        sa.Column("reviewed_by_id", sa.String(length=32), nullable=True),
        sa.Column("justified", sa.Boolean(), nullable=True),
        sa.Column("reviewed_seq", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_emergencies")),
    )
    op.create_index("ix_emergencies_released_seq", "emergencies", ["released_seq"], unique=False)
    op.create_index("ix_emergencies_state", "emergencies", ["state"], unique=False)
    op.create_index(
        "uq_emergencies_open",
        "emergencies",
        ["model", "version"],
        unique=True,
        sqlite_where=sa.text("state = 'asked'"),
        postgresql_where=sa.text("state = 'asked'"),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=256), nullable=False),
        sa.Column("actor_id", sa.String(length=32), nullable=True),
        sa.Column("model", sa.String(length=512), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("intent", sa.String(length=64), nullable=True),
        sa.Column("closes", sa.String(length=64), nullable=True),
        sa.Column("account", sa.String(length=256), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sa.UniqueConstraint("closes", name=op.f("uq_events_closes")),
        sa.UniqueConstraint("hash", name=op.f("uq_events_hash")),
        sa.CheckConstraint("seq > 0", name=op.f("ck_events_seq")),
        sa.CheckConstraint("typeof(body) = 'text'", name=op.f("ck_events_body")).ddl_if(dialect="sqlite"),
    )
    op.create_index("ix_events_actor_seq", "events", ["actor", "seq"], unique=False)
    op.create_index("ix_events_at_kind", "events", ["at", "kind"], unique=False)
    op.create_index("ix_events_account_seq", "events", ["account", "seq"], unique=False)
    op.create_index("ix_events_kind_seq", "events", ["kind", "seq"], unique=False)
    op.create_index("ix_events_model_seq", "events", ["model", "seq"], unique=False)
    op.create_table(
        "findings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("owner", sa.String(length=256), nullable=False),
        sa.Column("due", sa.String(length=10), nullable=True),
        sa.Column("raised_by", sa.String(length=256), nullable=False),
        sa.Column("raised_by_id", sa.String(length=32), nullable=False),
        sa.Column("raised_at", sa.String(length=32), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=True),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("model_id", sa.String(length=64), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("resolved_by", sa.String(length=256), nullable=True),
        sa.Column("resolved_by_id", sa.String(length=32), nullable=True),
        sa.Column("resolved_at", sa.String(length=32), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
    )
    op.create_index("ix_findings_manifest", "findings", ["manifest"], unique=False)
    op.create_index("ix_findings_model", "findings", ["model", "version"], unique=False)
    op.create_index("ix_findings_model_id", "findings", ["model_id"], unique=False)
    op.create_index("ix_findings_owner", "findings", ["owner"], unique=False)
    op.create_index("ix_findings_run_id", "findings", ["run_id"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("person", sa.String(length=256), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("claim", sa.String(length=32), nullable=True),
        sa.Column("event", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("person", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_at", "idempotency_keys", ["at"], unique=False)
    op.create_table(
        "statements",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("dataset", sa.String(length=500), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=256), nullable=False),
        sa.Column("by_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_statements")),
    )
    op.create_index("ix_statements_model", "statements", ["model", "version"], unique=False)
    op.create_table(
        "intents",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("opened_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intents")),
    )
    op.create_index("ix_intents_state", "intents", ["state", "model"], unique=False)
    op.create_table(
        "known_files",
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("listing", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hashed", sa.String(length=64), nullable=True),
        sa.Column("hashed_at", sa.Float(), nullable=False),
        sa.Column("listed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_known_files")),
    )
    op.create_table(
        "known_models",
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("recorded", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_known_models")),
    )
    op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_head")),
    )
    op.create_table(
        "ledger_identity",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ledger", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_identity")),
        sa.CheckConstraint("id = 1", name=op.f("ck_ledger_identity_id")),
    )
    op.create_table(
        "message_attempts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("by", sa.String(length=256), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message_attempts")),
    )
    op.create_index(op.f("ix_message_attempts_number"), "message_attempts", ["number"], unique=False)
    op.create_table(
        "mirror_jobs",
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.Float(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_mirror_jobs")),
    )
    op.create_table(
        "outbox",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("occasion", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=256), nullable=False),
        sa.Column("why", sa.String(length=500), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("leased_until", sa.Float(), server_default="0", nullable=False),
        sa.Column("settled_at", sa.Float(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_outbox")),
        sa.UniqueConstraint("id", name=op.f("uq_outbox_id")),
        sa.UniqueConstraint("occasion", "seq", "channel", "person", name=op.f("uq_outbox_occasion_seq_channel_person")),
    )
    op.create_index("ix_outbox_queue", "outbox", ["state", "channel", "person", "number"], unique=False)
    op.create_index("ix_outbox_settled_at", "outbox", ["settled_at"], unique=False)
    op.create_table(
        "policies",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("activated_at", sa.String(length=32), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_policies")),
    )
    op.create_table(
        "policy_assignments",
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("passed_over", sa.Text(), nullable=True),
        sa.Column("by", sa.String(length=256), nullable=False),
        sa.Column("by_id", sa.String(length=32), nullable=True),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_policy_assignments")),
    )
    op.create_index("ix_policy_assignments_seq", "policy_assignments", ["seq"], unique=False)
    op.create_table(
        "processes",
        sa.Column("process", sa.String(length=32), nullable=False),
        sa.Column("alive_until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("process", name=op.f("pk_processes")),
    )
    op.create_table(
        "promotions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("intent", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("replaced", sa.Integer(), nullable=True),
        sa.Column("by", sa.String(length=256), nullable=False),
        sa.Column("by_id", sa.String(length=32), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("manifest_digest", sa.String(length=64), nullable=True),
        sa.Column("policy", sa.Text(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotions")),
        sa.UniqueConstraint("intent", name=op.f("uq_promotions_intent")),
    )
    op.create_index("ix_promotions_model_seq", "promotions", ["model", "seq"], unique=False)
    op.create_table(
        "reconciled",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("baseline_seq", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciled")),
    )
    op.create_table(
        "refusal_windows",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=256), nullable=False),
        sa.Column("opened_at", sa.Float(), nullable=False),
        sa.Column("last_at", sa.Float(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_refusal_windows")),
    )
    op.create_index("ix_refusal_windows_opened_at", "refusal_windows", ["opened_at"], unique=False)
    op.create_index("ix_refusal_windows_person", "refusal_windows", ["person", "opened_at"], unique=False)
    op.create_table(
        "reminders",
        sa.Column(
            "submission", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("occasion", sa.String(length=16), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("submission", "occasion", name=op.f("pk_reminders")),
    )
    op.create_table(
        "failures",
        sa.Column("counted", sa.String(length=64), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.Float(), nullable=False),
        sa.Column("last_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("counted", name=op.f("pk_failures")),
    )
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("username", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_sessions")),
        sa.UniqueConstraint("token_hash", "username", name=op.f("uq_sessions_token_hash_username")),
    )
    op.create_index(op.f("ix_sessions_username"), "sessions", ["username"], unique=False)
    op.create_table(
        "slots",
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=256), nullable=True),
        sa.Column("purpose", sa.String(length=256), nullable=True),
        sa.Column("process", sa.String(length=32), nullable=True),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("rank", sa.Integer(), server_default="0", nullable=False),
        sa.Column("wanted_rank", sa.Integer(), server_default="0", nullable=False),
        sa.Column("wanted_until", sa.Float(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_slots")),
    )
    op.create_table(
        "submissions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("submitted_by", sa.String(length=256), nullable=False),
        sa.Column("submitted_by_id", sa.String(length=32), nullable=True),
        sa.Column("proposal", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("taken_by", sa.String(length=256), nullable=True),
        sa.Column("taken_by_id", sa.String(length=32), nullable=True),
        sa.Column("submitted_at", sa.String(length=32), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("claimed_author", sa.String(length=256), nullable=True),
        sa.Column("registered_by", sa.String(length=256), nullable=True),
        sa.Column("binding", sa.JSON(), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=True),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("model_id", sa.String(length=64), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submissions")),
    )
    op.create_index("ix_submissions_manifest", "submissions", ["manifest"], unique=False)
    op.create_index("ix_submissions_model", "submissions", ["model", "version"], unique=False)
    op.create_index("ix_submissions_model_id", "submissions", ["model_id"], unique=False)
    op.create_index("ix_submissions_run_id", "submissions", ["run_id"], unique=False)
    op.create_index("ix_submissions_status", "submissions", ["status", "submitted_at"], unique=False)
    op.create_index(
        "uq_submissions_open",
        "submissions",
        ["model", "version"],
        unique=True,
        sqlite_where=sa.text("status IN ('pending','approved','auto_approved','changes_requested','expired')"),
        postgresql_where=sa.text("status IN ('pending','approved','auto_approved','changes_requested','expired')"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=16), nullable=False),
        sa.Column("username", sa.String(length=256), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("actions", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_tokens_token_hash")),
    )
    op.create_index(
        "uq_tokens_name",
        "tokens",
        ["username", "name"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_table(
        "validation_jobs",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("place", sa.String(length=512), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("step", sa.String(length=200), server_default="", nullable=False),
        sa.Column("share", sa.Float(), server_default="0", nullable=False),
        sa.Column("log", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("claim", sa.String(length=32), nullable=True),
        sa.Column("leased_until", sa.Float(), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("completed_seq", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_validation_jobs")),
    )
    op.create_index("ix_validation_jobs_model", "validation_jobs", ["model", "version"], unique=False)
    op.create_index("ix_validation_jobs_state", "validation_jobs", ["state", "seq"], unique=False)
    op.create_table(
        "validations",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("champion", sa.Integer(), nullable=True),
        sa.Column("champion_identity", sa.Text(), nullable=True),
        sa.Column("champion_manifest", sa.String(length=64), nullable=True),
        sa.Column("by", sa.String(length=256), nullable=False),
        sa.Column("by_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("consent", sa.Boolean(), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("report", sa.Text(), nullable=True),
        sa.Column("mirrored", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_validations")),
        sa.UniqueConstraint("job", name=op.f("uq_validations_job")),
    )
    op.create_index("ix_validations_model", "validations", ["model", "version"], unique=False)
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(op.f("ix_webhook_deliveries_at"), "webhook_deliveries", ["at"], unique=False)
    op.create_table(
        "witnesses",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_witnesses")),
    )

    identity = sa.table("ledger_identity", sa.column("id"), sa.column("ledger"))
    op.execute(identity.insert().values(id=1, ledger=context.config.attributes.get("ledger") or uuid4().hex))
    for statement in _on_sqlite() if op.get_bind().dialect.name == "sqlite" else _on_postgresql():
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("There is nothing before the first schema, and a record is not thrown away.")
