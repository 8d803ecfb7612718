"""The tables of Signoff's own database. ``events`` is the record; the others follow from it or serve it."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from services import cells
from services.cells import one_of

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

PERSON = String(32)
"""The immutable id of a person or service; a username is how its account is called (`accounts`)."""
DEVIATIONS = ("stage", "alias", "tag", "files", "evidence", "renamed", "deleted", "recreated")
"""What can be changed outside Signoff; the event of kind ``outside:…`` is called after it."""


def _numbered() -> Column[int]:
    """The primary key of a row that follows from an event, whose number it has (`services.record.projections`)."""
    return Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False)


events = Table(
    "events",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("actor", String(256), nullable=False),
    Column("actor_id", PERSON),  # null: the actor is nobody's account
    Column("model", String(512)),
    Column("version", Integer),
    Column("intent", String(64)),
    Column("closes", String(64), unique=True),  # at most one closing event for an intent
    Column("account", String(256)),  # the username of the account that it tells of
    Column("body", Text, nullable=False),  # the event as canonical JSON; the columns above repeat parts of it
    Column("hash", String(64), nullable=False, unique=True),
    Column("mac", String(64), nullable=False),  # the seal, see `services.record.seals`
    CheckConstraint("seq > 0", name="ck_events_seq"),
    CheckConstraint("typeof(body) = 'text'", name="ck_events_body").ddl_if(dialect="sqlite"),
    Index("ix_events_model_seq", "model", "seq"),
    Index("ix_events_actor_seq", "actor", "seq"),
    Index("ix_events_kind_seq", "kind", "seq"),
    Index("ix_events_account_seq", "account", "seq"),
    Index("ix_events_at_kind", "at", "kind"),  # the chart of History counts from it alone
)

ledger_head = Table(
    "ledger_head",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)

ledger_identity = Table(
    "ledger_identity",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("ledger", String(32), nullable=False),  # made once by the migration, named in every checkpoint
    CheckConstraint("id = 1", name="ck_ledger_identity_id"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
    Column("at", String(32), nullable=False),
    Column("key", String(16), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("signed", Text, nullable=False),  # the checkpoint with its signature; the columns above repeat parts of it
)

witnesses = Table(  # checkpoints that MLflow is known to hold
    "witnesses",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("run", String(64), nullable=False),  # in which run
)

refusal_windows = Table(
    "refusal_windows",
    metadata,
    Column("fingerprint", String(64), primary_key=True),  # of everything that makes two refusals the same
    Column("person", String(256), nullable=False),
    Column("opened_at", Float, nullable=False, info=cells.NUMBER),  # seconds since 1970
    Column("last_at", Float, nullable=False, info=cells.NUMBER),
    Column("first_seq", BigInteger, nullable=False),  # the event of the first, which alone tells who and what
    Column("times", Integer, nullable=False),
    Column("told", Integer, nullable=False),  # how many of them the ledger already tells of
    Index("ix_refusal_windows_opened_at", "opened_at"),
    Index("ix_refusal_windows_person", "person", "opened_at"),
)

submissions = Table(
    "submissions",
    metadata,
    _numbered(),
    Column("model", String(512), nullable=False),
    Column("version", Integer, nullable=False),
    Column("identity", Text, nullable=False),
    Column(
        "status",
        String(32),
        nullable=False,
        info=one_of(
            *("pending", "approved", "auto_approved", "changes_requested", "rejected", "withdrawn", "expired"),
            *("released", "superseded", "auto_released", "bypassed"),
        ),
    ),
    Column("submitted_by", String(256), nullable=False),
    Column("submitted_by_id", PERSON),  # null: a client that nobody authenticated
    Column("proposal", Boolean, nullable=False, server_default=text("false")),  # of an MLflow client
    Column("taken_by", String(256)),  # who answers for the proposal; null until somebody does
    Column("taken_by_id", PERSON),
    Column("submitted_at", String(32), nullable=False),
    Column("comment", Text, nullable=False),
    Column("claimed_author", String(256)),  # as first seen
    Column("registered_by", String(256)),  # whom MLflow authenticated when the version was made
    Column("binding", JSON, nullable=False, info=cells.BINDING),
    Column("manifest", String(64)),  # this and the next two: what it is known by under other names
    Column("run_id", String(64)),
    Column("model_id", String(64)),
    Column("seq", BigInteger, nullable=False),
    Index("ix_submissions_status", "status", "submitted_at"),
    Index("ix_submissions_model", "model", "version"),
    Index("ix_submissions_manifest", "manifest"),
    Index("ix_submissions_run_id", "run_id"),
    Index("ix_submissions_model_id", "model_id"),
    # A version has one open submission at most, whoever clicks at once.
    Index(
        "uq_submissions_open",
        "model",
        "version",
        unique=True,
        sqlite_where=text("status IN ('pending','approved','auto_approved','changes_requested','expired')"),
        postgresql_where=text("status IN ('pending','approved','auto_approved','changes_requested','expired')"),
    ),
)

decisions = Table(
    "decisions",
    metadata,
    _numbered(),
    Column("submission", BigInteger, nullable=False, index=True),
    Column("person", String(256), nullable=False),
    Column("person_id", PERSON, nullable=False),
    Column("roles", JSON, nullable=False, info=cells.TEXTS),
    Column("decision", String(32), nullable=False, info=one_of("approved", "changes_requested", "rejected")),
    Column("comment", Text, nullable=False),
    Column("at", String(32), nullable=False),
    Column("binding", JSON, nullable=False, info=cells.BINDING),
    Column("seq", BigInteger, nullable=False),
    Column("expired", Boolean, nullable=False, server_default=text("false")),
    Column("automation", Boolean, nullable=False, server_default=text("false")),
    Column("signed", Boolean, nullable=False, server_default=text("false")),
)

findings = Table(  # what reviewers found in a version
    "findings",
    metadata,
    _numbered(),
    Column("model", String(512), nullable=False),
    Column("version", Integer, nullable=False),
    Column("identity", Text, nullable=False),
    Column("severity", String(16), nullable=False, info=one_of("blocking", "major", "minor")),
    Column("text", Text, nullable=False),
    Column("owner", String(256), nullable=False),
    Column("due", String(10), info=cells.DAY),
    Column("raised_by", String(256), nullable=False),
    Column("raised_by_id", PERSON, nullable=False),
    Column("raised_at", String(32), nullable=False),
    Column("manifest", String(64)),  # this and the next two: of the submission it was raised in
    Column("run_id", String(64)),
    Column("model_id", String(64)),
    Column("seq", BigInteger, nullable=False),  # the event it was raised with
    Column("resolved_by", String(256)),  # this and what follows: null while it is open
    Column("resolved_by_id", PERSON),
    Column("resolved_at", String(32)),
    Column("resolution", Text),
    Index("ix_findings_model", "model", "version"),
    Index("ix_findings_owner", "owner"),
    Index("ix_findings_manifest", "manifest"),
    Index("ix_findings_run_id", "run_id"),
    Index("ix_findings_model_id", "model_id"),
)

statements = Table(  # what reviewers state about the data set of a champion that names none
    "statements",
    metadata,
    _numbered(),
    Column("model", String(512), nullable=False),
    Column("version", Integer, nullable=False),
    Column("identity", Text, nullable=False),
    Column("dataset", String(500), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("comment", Text, nullable=False),
    Column("by", String(256), nullable=False),
    Column("by_id", PERSON, nullable=False),
    Column("at", String(32), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("ix_statements_model", "model", "version"),
)

intents = Table(
    "intents",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("model", String(512), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("state", String(16), nullable=False, info=one_of("open", "confirmed", "aborted")),
    Column("opened_seq", BigInteger, nullable=False),  # the event that says all else
    Index("ix_intents_state", "state", "model"),
)

promotions = Table(
    "promotions",
    metadata,
    _numbered(),
    Column("intent", String(64), nullable=False, unique=True),
    Column("action", String(32), nullable=False, info=one_of("promote", "rollback", "emergency")),
    Column("model", String(512), nullable=False),
    Column("version", Integer, nullable=False),
    Column("identity", Text, nullable=False),
    Column("replaced", Integer),
    Column("by", String(256), nullable=False),
    Column("by_id", PERSON),  # null: a client that nobody authenticated
    Column("reason", Text, nullable=False),
    Column("at", String(32), nullable=False),
    Column("manifest_digest", String(64)),
    Column("policy", Text),
    Column("seq", BigInteger, nullable=False),
    Index("ix_promotions_model_seq", "model", "seq"),
)

emergencies = Table(
    "emergencies",
    metadata,
    # The event that asked for it.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("model", String(512), nullable=False),
    Column("version", Integer, nullable=False),
    Column("identity", Text, nullable=False),
    Column("binding", JSON, nullable=False, info=cells.BINDING),
    Column("asked_by", String(256), nullable=False),
    Column("asked_by_id", PERSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_at", String(32), nullable=False),
    Column("expires_at", Float, nullable=False),  # seconds since 1970, on database time
    Column(
        "own", JSON, nullable=False, info=cells.TEXTS_BY_NAME
    ),  # who was barred when it was asked for: id or name → why
    Column(
        "state",
        String(16),
        nullable=False,
        info=one_of("asked", "replaced", "withdrawn", "released", "reviewed"),
    ),
    Column("confirmed_by", String(256)),
    Column("confirmed_by_id", PERSON),
    Column("released_at", String(32)),
    Column("released_seq", BigInteger),
    Column("waived", JSON, info=cells.TEXTS),  # titles of the checks it went past
    Column("reviewed_by", String(256)),
    Column("reviewed_by_id", PERSON),
    Column("justified", Boolean),
    Column("reviewed_seq", BigInteger),
    Index("ix_emergencies_state", "state"),
    Index("ix_emergencies_released_seq", "released_seq"),
    # However many click at once, one request is open for a version.
    Index(
        "uq_emergencies_open",
        "model",
        "version",
        unique=True,
        sqlite_where=text("state = 'asked'"),
        postgresql_where=text("state = 'asked'"),
    ),
)

validation_jobs = Table(
    "validation_jobs",
    metadata,
    # The event that asked for it; who and what is told by that alone.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("model", String(512), nullable=False),
    Column("version", Integer, nullable=False),
    Column("identity", Text, nullable=False),
    Column("place", String(512), nullable=False),  # machine and folder that have what was uploaded
    Column(
        "state",
        String(16),
        nullable=False,
        info=one_of("queued", "running", "done", "failed", "cancelled"),
    ),
    Column("step", String(200), nullable=False, server_default=""),
    Column("share", Float, nullable=False, server_default="0"),
    Column("log", JSON, nullable=False, info=cells.LOG),  # [[at, words], …]
    Column("error", Text),
    Column("claim", String(32)),  # of whoever runs it; one that lost its lease has another
    Column("leased_until", Float, nullable=False),  # seconds since 1970, on database time
    Column("run_id", String(64)),  # in MLflow
    Column("completed_seq", BigInteger),
    Column("ended_at", String(32)),
    Index("ix_validation_jobs_state", "state", "seq"),
    Index("ix_validation_jobs_model", "model", "version"),
)

validations = Table(  # what counts as evidence; follows from the events that completed them
    "validations",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("job", BigInteger, nullable=False, unique=True),
    Column("model", String(512), nullable=False),
    Column("version", Integer, nullable=False),
    Column("identity", Text, nullable=False),
    Column("manifest", String(64), nullable=False),
    Column("champion", Integer),  # this and the next two: null where there was none
    Column("champion_identity", Text),
    Column("champion_manifest", String(64)),
    Column("by", String(256), nullable=False),
    Column("by_id", PERSON, nullable=False),
    Column("at", String(32), nullable=False),
    Column("consent", Boolean, nullable=False),
    Column("run_id", String(64), nullable=False),
    Column("report", Text),  # whole, as JSON; the event names its digest; null: it was not there when it was imported
    Column("mirrored", Boolean, nullable=False, server_default=text("false")),  # whether MLflow has its figures
    Index("ix_validations_model", "model", "version"),
)

slots = Table(
    "slots",
    metadata,
    Column("model", String(512), primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("holder", String(256)),  # null: free
    Column("purpose", String(256)),
    Column("process", String(32)),  # whose life the lease depends on, too; null: on nobody's
    Column("expires_at", Float, nullable=False),  # seconds since 1970, on database time
    Column("rank", Integer, nullable=False, server_default="0"),  # of the holder
    Column("wanted_rank", Integer, nullable=False, server_default="0"),  # of who waits for a lower holder to end
    Column("wanted_until", Float, nullable=False, server_default="0"),  # so long nobody of a lower rank may take it
)

processes = Table(  # those that hold slots show here that they live, and so does each claim of an idempotency key
    "processes",
    metadata,
    Column("process", String(32), primary_key=True),  # made anew at each start, and for each claim
    Column("alive_until", Float, nullable=False),  # seconds since 1970, on database time
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("person", String(256), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("request", String(64), nullable=False),  # digest of all that was asked for
    Column("answer", JSON(none_as_null=True), info=cells.ANYTHING),  # null: not answered yet
    Column("claim", String(32)),  # which attempt carries it out; null: none does
    Column("event", BigInteger),  # the event that records it; null: none does
    Column("at", Float, nullable=False),  # seconds since 1970, on database time
    Index("ix_idempotency_keys_at", "at"),
)

mirror_jobs = Table(
    "mirror_jobs",
    metadata,
    Column("model", String(512), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", Float, nullable=False, server_default="0", info=cells.NUMBER),  # seconds since 1970; 0: at once
    Column("last_error", Text),
)

# What is to be told to whom, and what became of it.

outbox = Table(
    "outbox",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),  # what a receiver drops repeats by
    Column("occasion", String(16), nullable=False, info=one_of("event", "reminder", "escalation")),
    Column("seq", BigInteger, nullable=False),  # the event it is about
    Column("channel", String(64), nullable=False),
    Column("person", String(256), nullable=False),  # whom by mail; empty where the channel is the receiver
    Column("why", String(500), nullable=False),  # title of the rule
    Column("at", String(32), nullable=False),
    Column("state", String(16), nullable=False, info=one_of("waiting", "delivered", "stuck", "dropped")),
    Column("attempts", Integer, nullable=False, server_default="0"),  # since it was written, or since it was retried
    Column("due_at", Float, nullable=False),  # seconds since 1970, on database time, as below
    Column("leased_until", Float, nullable=False, server_default="0"),
    Column("settled_at", Float),
    Column("last_error", Text),
    # A reminder is given once, whoever remembers it first.
    UniqueConstraint("occasion", "seq", "channel", "person"),
    Index("ix_outbox_queue", "state", "channel", "person", "number"),
    Index("ix_outbox_settled_at", "settled_at"),
)

message_attempts = Table(
    "message_attempts",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("number", BigInteger, nullable=False, index=True),  # of the outbox
    Column("at", String(32), nullable=False),
    # Null: begun, its end not known.
    Column("outcome", String(16), info=one_of("delivered", "failed", "dropped", "retried")),
    Column("error", Text),
    Column("by", String(256)),  # who asked for the retry
)

reminders = Table(
    "reminders",
    metadata,
    Column("submission", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("occasion", String(16), primary_key=True),
    Column("at", String(32), nullable=False),
)

webhook_deliveries = Table(  # MLflow's webhooks that were taken already
    "webhook_deliveries",
    metadata,
    Column("id", String(64), primary_key=True),  # sha256 of the delivery id
    Column("at", Float, nullable=False, index=True),  # seconds since 1970, on database time
)

# What the reconciler last knew, and what it found.

known_models = Table(
    "known_models",
    metadata,
    Column("model", String(512), primary_key=True),
    Column("state", Text),  # identities, stages, tags, aliases as prescribed; null: never seen at rest yet
    Column(
        "recorded", JSON, nullable=False, info=cells.TEXTS_BY_NUMBER
    ),  # numbers of the versions whose tags the record prescribes
    Column("digest", String(64), nullable=False),  # sha256 of ``state``
    Column("seq", BigInteger, nullable=False),  # events of the model up to here are in ``state``
    Column("mac", String(64), nullable=False),  # a seal of all of it, as events have one
)

known_files = Table(
    "known_files",
    metadata,
    Column("model", String(512), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("listing", JSON, nullable=False, info=cells.LISTING),  # [[path, size], …] as prescribed
    Column("digest", String(64)),  # of the manifest as prescribed; null: no record names one and none was read yet
    Column("seq", BigInteger, nullable=False),  # the event that prescribed it
    Column("hashed", String(64)),  # digest of the manifest when its bytes were last read
    Column("hashed_at", Float, nullable=False),
    Column("listed_at", Float, nullable=False),
)

deviations = Table(
    "deviations",
    metadata,
    _numbered(),
    Column("model", String(512), nullable=False),
    Column("version", Integer, nullable=False),
    Column("subject", String(512), nullable=False),
    Column("kind", String(64), nullable=False, info=one_of(*(f"outside:{what}" for what in DEVIATIONS))),
    Column("prescribed", Text),  # null: nothing
    Column("shown", Text),
    Column("state", String(16), nullable=False, info=one_of("open", "restored", "adopted", "ended")),
    Column("found_at", String(32), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("closed_seq", BigInteger),
    Index("ix_deviations_state", "state", "model"),
    # Two dashboards reconcile: what one has found the other cannot find again.
    Index(
        "uq_deviations_open",
        "model",
        "subject",
        unique=True,
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)

reconciled = Table(
    "reconciled",
    metadata,
    Column("id", Integer, primary_key=True),  # one row, there since the baseline
    Column("baseline_seq", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),  # events up to here are in ``known_models``
)

policies = Table(
    "policies",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("name", String(256), nullable=False),
    Column("text", Text, nullable=False),
    Column("activated_at", String(32), nullable=False),
    Column("active", Boolean, nullable=False),
)

policy_assignments = Table(
    "policy_assignments",
    metadata,
    Column("model", String(512), primary_key=True),
    Column("policy", Text, nullable=False),  # its name
    Column("passed_over", Text),  # what tags and name chose when a person decided; that policy does not judge
    Column("by", String(256), nullable=False),
    Column("by_id", PERSON),  # null: Signoff itself, or a client that nobody authenticated
    Column("at", String(32), nullable=False),
    Column("seq", BigInteger, nullable=False),  # the event that says so
    Index("ix_policy_assignments_seq", "seq"),
)

accounts = Table(
    "accounts",
    metadata,
    Column("username", String(256), primary_key=True),  # never given out again
    Column("person", PERSON, nullable=False, index=True),  # whose account it is; a person may come to have several
    Column("looks_like", String(256), nullable=False, index=True),  # the username, as `people.looks_like` says it
    Column("name", String(256), nullable=False),
    Column("email", String(256), nullable=False, server_default=""),
    Column("password", String(256), nullable=False),  # bcrypt, as streamlit-authenticator writes it
    Column("roles", JSON, nullable=False, info=cells.TEXTS),
    Column("disabled", Boolean, nullable=False, server_default=text("false")),
    Column("failed_logins", Integer, nullable=False, server_default="0"),
    Column("locked_until", Float, nullable=False, server_default="0"),
    Column("created_at", String(32), nullable=False),
    Column("automation", Boolean, nullable=False, server_default=text("false")),  # a service, not a person
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("username", String(256), nullable=False, index=True),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    UniqueConstraint("token_hash", "username"),
)

failures = Table(
    "failures",
    metadata,
    # Wrong passwords of a known device, or of an account's open sessions; an account itself counts those of strangers.
    Column("counted", String(64), primary_key=True),  # a digest of what is counted, and of the password of then
    Column("times", Integer, nullable=False),
    Column("locked_until", Float, nullable=False),
    Column("last_at", Float, nullable=False),  # seconds since 1970, on database time
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("key", String(16), nullable=False),  # which secret key that is made with
    Column("username", String(256), nullable=False),
    Column("name", String(100), nullable=False),
    Column("models", JSON, nullable=False, info=cells.TEXTS),  # patterns; empty: every model
    Column("actions", JSON, nullable=False, info=cells.TEXTS),  # empty: whatever the account may
    Column("created_by", String(256), nullable=False),
    Column("created_at", Float, nullable=False),  # these are seconds since 1970, on database time
    Column("expires_at", Float, nullable=False),
    Column("last_used_at", Float),
    Column("revoked_at", Float),
    # A name is a handle: nobody has two live tokens of one name.
    Index(
        "uq_tokens_name",
        "username",
        "name",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

cells.watch(table for table in metadata.sorted_tables if table not in {events, ledger_head})  # `genuine` judges these
