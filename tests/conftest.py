"""Databases, homes, a browser and a trained playground for every test that wants one."""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings

from api.store import Store
from evals.playground import Playground, build
from tests.browser import base_url, browser_type_launch_args, watch, watched_page
from tests.postgres import MISSING, Postgres
from tests.real import make_home

# A property that takes long on a busy machine is no less true.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

__all__ = ["base_url", "browser_type_launch_args", "watch", "watched_page"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Playground:
    """The playground of the demo; its parent folder can be the home of a service."""
    return build(tmp_path_factory.mktemp("home") / "playground")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    try:
        server = Postgres()
    except RuntimeError as error:
        if str(error) == MISSING:
            pytest.fail(MISSING, pytrace=False)
        raise
    yield server
    server.stop()


@pytest.fixture
def sqlite_url() -> Iterator[str]:
    """An empty database in memory where there is such a folder: waiting for disks tests nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield f"sqlite:///{folder}/log.db"


@pytest.fixture
def store(sqlite_url: str) -> Iterator[Store]:
    """A log without searches."""
    with closing(Store(sqlite_url)) as opened:
        yield opened


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of a service: tiny models and tasks."""
    return make_home(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database; every test that asks for one runs on both kinds."""
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_url")
    return request.getfixturevalue("postgres").new_database()
