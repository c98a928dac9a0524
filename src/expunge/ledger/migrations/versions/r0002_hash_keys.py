"""Keys that names are hashed under, wrapped like those of objects, so that the master key can be
changed and what was hashed is still found. Their rows are written when the ledger is made or
brought up to date, by whoever has the master key."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "hash_keys",
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("key_digest", sa.Text(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("purpose", name=op.f("pk_hash_keys")),
    )
