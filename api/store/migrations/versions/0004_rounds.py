"""A finalist is scored on ever more examples: how many becomes part of the key."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Go forward; there is no way back."""
    # Until now all examples were scored at once.
    keys = {
        "examples": ["search_id", "ordinal", "split", "first", "objective"],
        "score_keys": ["search_id", "ordinal", "split", "first"],
    }
    for name, columns in keys.items():
        with op.batch_alter_table(name) as table:
            table.add_column(sa.Column("first", sa.Integer, nullable=False, server_default="0"))
            table.drop_constraint(f"pk_{name}", type_="primary")
            table.create_primary_key(f"pk_{name}", columns)
        with op.batch_alter_table(name) as table:
            table.alter_column("first", server_default=None)
