"""For whom an override counts: the tenant, and the one user where it is one.

What was shown before is known by digests without tenant and FHIR server: a patient of one hospital
could be taken for one of another. These digests are emptied. The rows stay and count in reports;
what was overridden before is shown again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # With a default, so that workers of the version before can go on writing until they end.
    op.add_column("shown", sa.Column("tenant", sa.Text, nullable=False, server_default=""))
    op.add_column("feedback", sa.Column("tenant", sa.Text, nullable=False, server_default=""))
    # Nothing if it counts for all clinicians; else a keyed digest of the user.
    op.add_column(
        "shown", sa.Column("counts_for", sa.String(32), nullable=False, server_default="")
    )
    op.execute("UPDATE shown SET patient = '', about = '', reasons = ''")


def downgrade() -> None:
    op.execute("UPDATE shown SET patient = '', about = '', reasons = ''")
    op.drop_column("shown", "counts_for")
    op.drop_column("feedback", "tenant")
    op.drop_column("shown", "tenant")
