"""The tenant of cards and feedback, and the user for whom an override counts, if it is one user.

The digests of earlier rows were made without tenant and FHIR server, so that patients of two
hospitals could have the same digest. These digests are emptied. The rows stay and count in reports;
cards that were overridden before are shown again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # With a default, so that workers of the previous version can still write until they end.
    op.add_column("shown", sa.Column("tenant", sa.Text, nullable=False, server_default=""))
    op.add_column("feedback", sa.Column("tenant", sa.Text, nullable=False, server_default=""))
    # Empty if an override counts for all clinicians; otherwise a keyed digest of the user.
    op.add_column(
        "shown", sa.Column("counts_for", sa.String(32), nullable=False, server_default="")
    )
    op.execute("UPDATE shown SET patient = '', about = '', reasons = ''")


def downgrade() -> None:
    op.execute("UPDATE shown SET patient = '', about = '', reasons = ''")
    op.drop_column("shown", "counts_for")
    op.drop_column("feedback", "tenant")
    op.drop_column("shown", "tenant")
