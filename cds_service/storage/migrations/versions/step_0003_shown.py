"""Shown cards. Patients and reasons are stored as keyed digests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "shown",
        sa.Column("uuid", sa.String(64), primary_key=True),  # of the card
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("card", sa.Text, nullable=False),  # its id in the content
        sa.Column("about", sa.String(32), nullable=False),  # a digest of the order, if about one
        sa.Column("patient", sa.String(32), nullable=False),  # a digest, or empty
        sa.Column("indicator", sa.String(8), nullable=False),
        sa.Column("interventions", sa.Text, nullable=False),
        sa.Column("offered", sa.Text, nullable=False),  # each as suggestion=intervention
        sa.Column("reasons", sa.Text, nullable=False),  # digests of the reasons for the card
        sa.Column("content", sa.Text, nullable=False),  # its version
        sa.Column("shown", sa.BigInteger, nullable=False),  # milliseconds since 1970
    )
    op.create_index("shown_shown", "shown", ["shown"])
    op.create_index("feedback_received", "feedback", ["received"])


def downgrade() -> None:
    op.drop_index("feedback_received", "feedback")
    op.drop_table("shown")
