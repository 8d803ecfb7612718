"""What the reconciler finds is a deviation; a finding is what a reviewer writes down."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _rename("findings", "deviations")


def downgrade() -> None:
    _rename("deviations", "findings")


def _rename(old: str, new: str) -> None:
    op.drop_index(f"uq_{old}_open", table_name=old)
    op.drop_index(f"ix_{old}_state", table_name=old)
    op.rename_table(old, new)
    if op.get_bind().dialect.name == "postgresql":  # where the names of keys must differ between tables
        op.execute(f"ALTER INDEX pk_{old} RENAME TO pk_{new}")
    op.create_index(f"ix_{new}_state", new, ["state", "model"])
    op.create_index(
        f"uq_{new}_open",
        new,
        ["model", "subject"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
