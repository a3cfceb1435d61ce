"""Feedback on cards. No patient is named in it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column("key", sa.String(64), primary_key=True),  # a digest of client, card and time
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("card", sa.Text, nullable=False),
        sa.Column("outcome", sa.String(10), nullable=False),
        sa.Column("occurred", sa.BigInteger, nullable=False),  # milliseconds since 1970
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("suggestions", sa.Text, nullable=False),
        sa.Column("reason_system", sa.Text),
        sa.Column("reason_code", sa.Text),
        sa.Column("commented", sa.Boolean, nullable=False),
        sa.Column("comment", sa.Text),
    )
    op.create_index("feedback_card", "feedback", ["card"])
    op.create_index("feedback_occurred", "feedback", ["occurred"])


def downgrade() -> None:
    op.drop_table("feedback")
