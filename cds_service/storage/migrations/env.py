"""What Alembic runs: the steps on the connection that ``database.Database.upgrade`` gives it."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
