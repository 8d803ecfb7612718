"""validations: what is being evaluated, and what came of it"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "validation_jobs",
        sa.Column("seq", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.String(length=256), nullable=False),
        sa.Column("asked_at", sa.String(length=32), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
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
    op.create_index("ix_validation_jobs_state", "validation_jobs", ["state", "seq"])
    op.create_index("ix_validation_jobs_model", "validation_jobs", ["model", "version"])
    op.create_table(
        "validations",
        sa.Column("seq", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("champion", sa.Integer(), nullable=True),
        sa.Column("champion_identity", sa.Text(), nullable=True),
        sa.Column("champion_manifest", sa.String(length=64), nullable=True),
        sa.Column("by", sa.String(length=256), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("consent", sa.Boolean(), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("mirrored", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_validations")),
        sa.UniqueConstraint("job", name=op.f("uq_validations_job")),
    )
    op.create_index("ix_validations_model", "validations", ["model", "version"])


def downgrade() -> None:
    for table in ("validations", "validation_jobs"):
        op.drop_table(table)
