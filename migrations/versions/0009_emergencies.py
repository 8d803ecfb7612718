"""requests to break the glass, what became of each, and whether it was reviewed"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "emergencies",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("binding", sa.JSON(), nullable=False),
        sa.Column("asked_by", sa.String(length=256), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.String(length=32), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("own", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("confirmed_by", sa.String(length=256), nullable=True),
        sa.Column("released_at", sa.String(length=32), nullable=True),
        sa.Column("released_seq", sa.BigInteger(), nullable=True),
        sa.Column("waived", sa.JSON(), nullable=True),
        sa.Column("reviewed_by", sa.String(length=256), nullable=True),
        sa.Column("justified", sa.Boolean(), nullable=True),
        sa.Column("reviewed_seq", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_emergencies")),
    )
    op.create_index("ix_emergencies_state", "emergencies", ["state"])
    op.create_index("ix_emergencies_released_seq", "emergencies", ["released_seq"])
    op.create_index(
        "uq_emergencies_open",
        "emergencies",
        ["model", "version"],
        unique=True,
        sqlite_where=sa.text("state = 'asked'"),
        postgresql_where=sa.text("state = 'asked'"),
    )


def downgrade() -> None:
    op.drop_table("emergencies")
