"""The tables of the log, as they were first."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_OUTCOME = sa.text("kind IN ('scored', 'infeasible')")
_NOTE = sa.text("kind NOT IN ('scored', 'infeasible')")


def upgrade() -> None:
    """Go forward; there is no way back."""
    op.create_table(
        "searches",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("spec_digest", sa.String(64), nullable=False),
        sa.Column("layout", sa.Text, nullable=False),
        sa.Column("zoo", sa.JSON, nullable=False),
        sa.Column("directions", sa.JSON, nullable=False),
        sa.Column("task_folders", sa.JSON, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.PrimaryKeyConstraint("id", name="pk_searches"),
        sa.UniqueConstraint("idempotency_key", name="uq_searches_idempotency_key"),
    )
    op.create_table(
        "candidates",
        sa.Column("search_id", sa.String(32), nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("recipe", sa.Text, nullable=False),
        sa.Column("genome", sa.LargeBinary),
        sa.Column("origin", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("search_id", "ordinal", name="pk_candidates"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_candidates_searches"),
    )
    op.create_table(
        "events",
        sa.Column("search_id", sa.String(32), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("ordinal", sa.Integer),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("search_id", "seq", name="pk_events"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_events_searches"),
        sa.ForeignKeyConstraint(
            ["search_id", "ordinal"],
            ["candidates.search_id", "candidates.ordinal"],
            name="fk_events_candidates",
        ),
    )
    op.create_index(
        "uq_events_outcome",
        "events",
        ["search_id", "ordinal"],
        unique=True,
        sqlite_where=_OUTCOME,
        postgresql_where=_OUTCOME,
    )
    op.create_index(
        "ix_events_note",
        "events",
        ["search_id", "seq"],
        sqlite_where=_NOTE,
        postgresql_where=_NOTE,
    )
    op.create_table(
        "examples",
        sa.Column("search_id", sa.String(32), nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("objective", sa.String(301), nullable=False),
        sa.Column("scores", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("search_id", "ordinal", "objective", name="pk_examples"),
        sa.ForeignKeyConstraint(
            ["search_id", "ordinal"],
            ["candidates.search_id", "candidates.ordinal"],
            name="fk_examples_candidates",
        ),
    )
    op.create_table(
        "surveys",
        sa.Column("search_id", sa.String(32), nullable=False),
        sa.Column("sha256", sa.JSON, nullable=False),
        sa.Column("geometry", sa.LargeBinary),
        sa.PrimaryKeyConstraint("search_id", name="pk_surveys"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_surveys_searches"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
