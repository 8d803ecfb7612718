"""Decisions remember whether they were signed.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    signed = sa.Column("signed", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    op.add_column("decisions", signed)


def downgrade() -> None:
    op.drop_column("decisions", "signed")
