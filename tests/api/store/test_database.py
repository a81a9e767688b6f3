"""Opening, upgrading, and what happens when the database goes away."""

import json
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

import api.store
from api.store import NewerDatabase, Store, StoreDown, codec, tables
from api.store.tables import metadata
from evals.suite import Split
from tests.analytic import submission
from tests.postgres import Postgres

MIGRATIONS = Path(api.store.__file__).with_name("migrations")


def file_of(sqlite_url: str) -> str:
    return sqlite_url.removeprefix("sqlite:///")


def test_migrations_lead_to_the_tables_of_the_code(database_url: str) -> None:
    Store(database_url).close()
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrations_and_code_agree_on_every_index_and_constraint(tmp_path: Path) -> None:
    def shape(path: Path) -> dict[str, object]:
        """As SQLite keeps it: partial conditions and foreign keys too, which alembic overlooks."""
        connection = sqlite3.connect(path)
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        indexes: dict[str, object] = dict(connection.execute(query))
        for table in metadata.tables:
            keys = connection.execute(f"PRAGMA foreign_key_list({table})")
            indexes[table] = sorted(key[2:5] for key in keys)
        connection.close()
        return indexes

    Store(f"sqlite:///{tmp_path}/migrated.db").close()
    engine = sa.create_engine(f"sqlite:///{tmp_path}/created.db")
    metadata.create_all(engine)
    engine.dispose()
    migrated = shape(tmp_path / "migrated.db")
    assert migrated == shape(tmp_path / "created.db")
    assert "uq_events_outcome" in migrated


def test_scores_from_before_splits_were_told_apart_are_those_of_search(database_url: str) -> None:
    scores = np.array([0, 1, 1], np.float32)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        search = {"id": "s", "created_at": at, "spec_digest": "", "idempotency_key": None}
        search |= codec.submission_to_columns(submission())
        connection.execute(sa.insert(tables.searches).values(search))
        candidate = {"search_id": "s", "ordinal": 0, "digest": "", "recipe": "", "origin": {}}
        connection.execute(sa.insert(tables.candidates).values({**candidate, "created_at": at}))
        row = {"id": "s", "scores": codec.pack_examples(scores)}
        connection.execute(sa.text("INSERT INTO examples VALUES (:id, 0, 'a/acc', :scores)"), row)
    engine.dispose()
    store = Store(database_url)
    assert np.array_equal(store.examples("s", 0, Split.SEARCH)["a/acc"], scores)
    assert store.examples("s", 0, Split.SELECT) == {}
    store.close()


def test_many_may_open_a_new_database_at_once(database_url: str) -> None:
    def open_and_write(seed: int) -> str:
        store = Store(database_url)
        search_id = store.create_search(submission(seed=seed))
        store.close()
        return search_id

    with ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(open_and_write, range(4)))
    store = Store(database_url)
    assert {search.id for search in store.searches()} == ids
    store.close()


def test_a_newer_database_is_refused_and_left_alone(database_url: str) -> None:
    Store(database_url).close()
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'later'"))
    with pytest.raises(NewerDatabase, match="at revision later, which this version"):
        Store(database_url)
    with engine.begin() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "later"
    engine.dispose()


def test_a_locked_database_is_waited_for(sqlite_url: str) -> None:
    store = Store(sqlite_url)
    blocker = sqlite3.connect(file_of(sqlite_url), isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: blocker.execute("COMMIT"))
    timer.start()
    started = time.monotonic()
    search_id = store.create_search(submission())
    assert time.monotonic() - started > 0.25
    assert store.search(search_id).id == search_id
    timer.join()
    blocker.close()
    store.close()


def test_patience_ends(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.store.database.BUSY_TIMEOUT_S", 0.05)
    store = Store(sqlite_url, patience_s=0.2)
    blocker = sqlite3.connect(file_of(sqlite_url), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreDown, match="database is locked"):
        store.create_search(submission())
    assert store.searches() == []
    blocker.close()
    store.close()


def test_nothing_that_was_acknowledged_is_lost_when_postgresql_crashes(postgres: Postgres) -> None:
    store = Store(postgres.new_database())
    search_id = store.create_search(submission())
    written: list[int | None] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            written.append(store.append(search_id, "pause", {"number": len(written)}))

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(3):
        time.sleep(0.1)
        postgres.crash()
        postgres.start()
    time.sleep(0.1)
    stop.set()
    writer.join()
    log = {event.seq: event.body["number"] for event in store.events(search_id, limit=10**6)}
    store.close()
    assert written == list(log)
    assert list(log.values()) == list(range(len(written)))


def test_control_without_patience_a_crash_reaches_the_caller(postgres: Postgres) -> None:
    store = Store(postgres.new_database(), patience_s=0.0)
    search_id = store.create_search(submission())
    postgres.crash()
    with pytest.raises(StoreDown, match="the database does not answer"):
        store.append(search_id, "pause")
    postgres.start()
    assert store.append(search_id, "pause") == 1
    store.close()


def test_a_search_from_before_there_were_races_goes_on_without(database_url: str) -> None:
    store = Store(database_url)
    search_id = store.create_search(submission())
    assert store.search(search_id).spec.racing > 0
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        spec = json.loads(connection.scalar(sa.select(tables.searches.c.spec)) or "")
        del spec["racing"]
        connection.execute(sa.update(tables.searches).values(spec=json.dumps(spec)))
    engine.dispose()
    assert store.search(search_id).spec.racing == 0
    store.close()
