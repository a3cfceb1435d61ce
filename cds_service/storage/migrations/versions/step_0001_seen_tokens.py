"""Used tokens: each may be used only once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "seen_tokens",
        sa.Column("token", sa.String(64), primary_key=True),  # a digest of issuer and jti
        sa.Column("expires", sa.BigInteger, nullable=False),  # seconds since 1970
    )
    op.create_index("seen_tokens_expires", "seen_tokens", ["expires"])


def downgrade() -> None:
    op.drop_table("seen_tokens")
