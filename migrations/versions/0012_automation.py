"""Accounts that are services, and the approvals they gave.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = ("accounts", "decisions")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("automation", sa.Boolean, nullable=False, server_default=sa.text("false")))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "automation")
