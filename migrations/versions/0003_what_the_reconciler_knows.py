"""what the reconciler last knew of the registry, and what it found changed outside Signoff"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "known_models",
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("recorded", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_known_models")),
    )
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
        "findings",
        sa.Column("id", sa.Integer(), nullable=False),
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
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
    )
    with op.batch_alter_table("findings", schema=None) as batch_op:
        batch_op.create_index("ix_findings_state", ["state", "model"], unique=False)
        batch_op.create_index(
            "uq_findings_open",
            ["model", "subject"],
            unique=True,
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        )
    op.create_table(
        "reconciled",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("baseline_seq", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciled")),
    )


def downgrade() -> None:
    for table in ("reconciled", "findings", "known_files", "known_models"):
        op.drop_table(table)
