"""The Alembic environment of the ledger: revisions run in the transaction that they are given.

A revision adds tables, indexes and columns that may be null: what the chain does not know of an
old row is null there. A revision that must change rows writes an event for them.
"""

from alembic import context

from expunge.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a column by making its table anew
)
with context.begin_transaction():
    context.run_migrations()
