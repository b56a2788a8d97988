"""Alembic runs this file for each command, with the connection whose transaction is open already."""

from alembic import context

from trialflow.store.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
