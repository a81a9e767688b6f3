"""Real searches over tiny models: folders, tasks, merges, scores and log are what users have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from api.app import create_app
from api.controller import Controller
from api.settings import Settings
from api.store import Store
from search.method import MethodDeclaration
from tests.attending import Over
from tests.workers.tiny_zoo import make_suite, make_zoo
from workers.fleet import Fleet
from workers.merging.merge_method import methods


def make_home(home: Path, *, dtype: str = "float32") -> Path:
    """Models ``base``, ``p0`` and ``p1``, and the tasks ``tiny_choice`` and ``tiny_text``."""
    make_zoo(home / "models", dtype=dtype)
    make_suite(home)
    return home


def settings_of(home: Path) -> Settings:
    return Settings(home=home, model_roots=(home / "models",), task_folders=(home / "tasks",))


def document(**changes: Any) -> dict[str, Any]:
    """A good spec, as a client sends it."""
    return {
        "name": "tiny",
        "base": {"path": "base"},
        "parents": [{"name": "one", "path": "p0"}, {"name": "two", "path": "p1"}],
        "method": "task_arithmetic",
        "space": {"parameters": {"weight": {"low": 0.0, "high": 1.0}}},
        "objectives": [
            {"task": "tiny_choice", "metric": "acc"},
            {"task": "tiny_text", "metric": "bits_per_byte"},
        ],
        "optimizer": {"name": "uniform"},
        "budget": {"evaluations": 8, "parallel": 4},
        **changes,
    }


@contextmanager
def client_of(home: Path, store: Store) -> Iterator[TestClient]:
    """The whole web application; a bug is an answer with status 500, as it is for users."""
    app = create_app(settings_of(home), store, poll_s=0.01)
    with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def submit(home: Path, store: Store, spec: dict[str, Any]) -> str:
    """Submit a spec over REST; the id of its search."""
    with client_of(home, store) as client:
        response = client.post("/v1/searches", json=spec)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])


def attend(store: Store, fleet: Fleet, search_id: str) -> None:
    """Run a controller in this thread until a search is finished or has failed."""
    controller = Controller(
        store,
        fleet,
        declaration=_declaration,
        destination=lambda search, digest, form: f"artifacts/{search}/{digest}/{form}",
        poll_s=0.01,
    )
    controller.run(Over(store, search_id))


def _declaration(name: str) -> MethodDeclaration:
    return methods[name].declaration
