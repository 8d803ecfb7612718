"""Decisions remember whether they were signed.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    signed = sa.Column("signed", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    op.add_column("decisions", signed)


def downgrade() -> None:
    op.drop_column("decisions", "signed")
