"""an index from which events of a day are counted without reading them"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_events_at", table_name="events")
    op.create_index("ix_events_at_kind", "events", ["at", "kind"])


def downgrade() -> None:
    op.drop_index("ix_events_at_kind", table_name="events")
    op.create_index("ix_events_at", "events", ["at"])
