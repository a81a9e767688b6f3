"""What the examples of a search are, and under which key a score is found again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Go forward; there is no way back."""
    op.create_table(
        "documents",
        sa.Column("search_id", sa.String(32), nullable=False),
        sa.Column("task", sa.String(255), nullable=False),
        sa.Column("split", sa.String(16), nullable=False),
        sa.Column("documents", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("search_id", "task", "split", name="pk_documents"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_documents_searches"),
    )
    op.create_table(
        "score_keys",
        sa.Column("search_id", sa.String(32), nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("split", sa.String(16), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("search_id", "ordinal", "split", name="pk_score_keys"),
        sa.ForeignKeyConstraint(
            ["search_id", "ordinal"],
            ["candidates.search_id", "candidates.ordinal"],
            name="fk_score_keys_candidates",
        ),
    )
    op.create_index("ix_score_keys_key", "score_keys", ["key"])
