"""One database, two dialects: connections, transactions, retries, migrations."""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import DBAPIError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_MIGRATIONS = Path(__file__).with_name("migrations")
# Any number will do, as long as nobody else takes an advisory lock by it.
_MIGRATION_LOCK = 0x6E696368656D
# How long SQLite itself waits for a lock, before we are told and try again.
BUSY_TIMEOUT_S = 5.0
_WRITES = "nichemerge_writes"
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
# Connection lost, serialization or deadlock, server stopping or starting, too many connections.
_TRANSIENT_SQLSTATES = ("08", "40", "57P", "53300")


class StoreDown(RuntimeError):
    """The database could not be reached for longer than the store was willing to wait."""


class NewerDatabase(RuntimeError):
    """The database was written by a newer version of the program."""


class Database:
    """Runs functions as transactions, again if the database was locked, lost or restarted.

    A function may run more than once, even after a commit whose confirmation was lost: it must
    recognize its own work.

    Args:
        url: of SQLAlchemy.
        patience_s: for how long a transaction is tried.
    """

    def __init__(self, url: str, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._engine = _engine(url)

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """In a transaction that writes nothing."""
        return self._persist(self._engine, work)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """In a transaction that is committed, durably, when this returns."""
        return self._persist(self._engine.execution_options(**{_WRITES: True}), work)

    def migrate(self) -> None:
        """Create or upgrade the tables; waits for another process that does the same.

        Raises:
            NewerDatabase: the tables are of a revision that this version does not know.
        """
        script = ScriptDirectory(str(_MIGRATIONS))
        known = {revision.revision for revision in script.walk_revisions()}

        def upgrade(connection: Connection) -> None:
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            current = MigrationContext.configure(connection).get_current_revision()
            if current is not None and current not in known:
                raise NewerDatabase(
                    f"the database is at revision {current}, which this version of nichemerge "
                    "does not know; a newer version wrote it: run that one, or another database"
                )
            if current != script.get_current_head():
                config = Config()
                config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")

        self.write(upgrade)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _persist(self, engine: Engine, work: Callable[[Connection], Result]) -> Result:
        deadline = time.monotonic() + self._patience_s
        pause_s = 0.02
        while True:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                if not _is_transient(error):
                    raise
                if time.monotonic() + pause_s > deadline:
                    raise StoreDown(f"the database does not answer: {error.orig}") from error
                log.warning(
                    "the database does not answer, trying again: %s",
                    error.orig,
                    extra={"event": "database_retry", "pause_s": pause_s},
                )
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # apart from each other, not secret
            pause_s = min(1.0, 2 * pause_s)


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        parsed,
        pool_pre_ping=True,
        use_native_hstore=False,  # saves a query on every connection
        connect_args={"connect_timeout": 5},
    )


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver would begin on its own, later than a writer must: see _begin_sqlite.
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # Only a transaction that begins with the lock can wait for it; one that read first cannot.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _is_transient(error: DBAPIError) -> bool:
    """Whether trying again may help."""
    if isinstance(error.orig, sqlite3.OperationalError):
        return error.orig.sqlite_errorcode & 0xFF in _LOCKED
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", "")
    if state is None:  # psycopg has no code where no server was there to give one
        return True
    return state.startswith(_TRANSIENT_SQLSTATES)
