"""The tables. Rows are inserted and never changed, but for leases."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, kept as naive UTC because SQLite knows no other."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """To the database."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """From the database."""
        return None if value is None else value.replace(tzinfo=UTC)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

# Literal text: a partial index only serves a query that repeats its condition to the letter.
IS_OUTCOME = text("events.kind IN ('scored', 'infeasible')")
IS_NOTE = text("events.kind NOT IN ('scored', 'infeasible')")
_INDEX_OUTCOME = text("kind IN ('scored', 'infeasible')")
_INDEX_NOTE = text("kind NOT IN ('scored', 'infeasible')")

searches = Table(
    "searches",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("spec", Text, nullable=False),
    Column("spec_digest", String(64), nullable=False),
    Column("layout", Text, nullable=False),
    Column("zoo", JSON, nullable=False),
    Column("directions", JSON, nullable=False),
    Column("task_folders", JSON, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("idempotency_key", String(255), unique=True),
)

candidates = Table(
    "candidates",
    metadata,
    Column("search_id", ForeignKey("searches.id"), primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("recipe", Text, nullable=False),
    Column("genome", LargeBinary),
    Column("origin", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("search_id", ForeignKey("searches.id"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    Column("ordinal", Integer),
    Column("body", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # An outcome of a candidate that was never committed cannot be written.
    ForeignKeyConstraint(
        ["search_id", "ordinal"],
        ["candidates.search_id", "candidates.ordinal"],
    ),
    Index(
        "uq_events_outcome",
        "search_id",
        "ordinal",
        unique=True,
        sqlite_where=_INDEX_OUTCOME,
        postgresql_where=_INDEX_OUTCOME,
    ),
    Index(
        "ix_events_note",
        "search_id",
        "seq",
        sqlite_where=_INDEX_NOTE,
        postgresql_where=_INDEX_NOTE,
    ),
)

examples = Table(
    "examples",
    metadata,
    Column("search_id", String(32), primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("split", String(16), primary_key=True),
    # Of how many first examples these scores were to be; 0 where nobody said.
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("objective", String(301), primary_key=True),
    Column("scores", LargeBinary, nullable=False),
    ForeignKeyConstraint(
        ["search_id", "ordinal"],
        ["candidates.search_id", "candidates.ordinal"],
    ),
)

# What the per-example scores of a task on a split are about, in their order.
documents = Table(
    "documents",
    metadata,
    Column("search_id", ForeignKey("searches.id"), primary_key=True),
    Column("task", String(255), primary_key=True),
    Column("split", String(16), primary_key=True),
    Column("documents", LargeBinary, nullable=False),
)

# Where a score is found again by all that it depends on: see `api.cache`.
score_keys = Table(
    "score_keys",
    metadata,
    Column("search_id", String(32), primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("split", String(16), primary_key=True),
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("key", String(64), nullable=False, index=True),
    ForeignKeyConstraint(
        ["search_id", "ordinal"],
        ["candidates.search_id", "candidates.ordinal"],
    ),
)

surveys = Table(
    "surveys",
    metadata,
    Column("search_id", ForeignKey("searches.id"), primary_key=True),
    Column("sha256", JSON, nullable=False),
    Column("geometry", LargeBinary),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("expires_at", Float, nullable=False),
)
