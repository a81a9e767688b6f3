"""A candidate is scored on more than one split: the split becomes part of the key."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Go forward; there is no way back."""
    # Until now there were scores of the search split only.
    column = sa.Column("split", sa.String(16), nullable=False, server_default="search")
    with op.batch_alter_table("examples") as table:
        table.add_column(column)
        table.drop_constraint("pk_examples", type_="primary")
        table.create_primary_key("pk_examples", ["search_id", "ordinal", "split", "objective"])
    with op.batch_alter_table("examples") as table:
        table.alter_column("split", server_default=None)
