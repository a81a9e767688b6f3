"""The web application over an empty log, with and without a token."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.artifacts import Artifacts
from api.settings import Settings
from api.store import Store
from tests.analytic import submission
from tests.serving import TOKEN, accept


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("NICHEMERGE_API_TOKEN", "NICHEMERGE_HOME", "NICHEMERGE_MODEL_ROOTS"):
        monkeypatch.delenv(name, raising=False)
    return Settings(home=tmp_path / "home", model_roots=(tmp_path / "models",))


@pytest.fixture
def document() -> dict[str, Any]:
    """A spec that `accept` accepts, as a client would send it."""
    return submission(evaluations=12).spec.model_dump(mode="json", exclude_none=True)


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path / "artifacts"), staging=tmp_path / "staging")


@pytest.fixture
def client(settings: Settings, store: Store, artifacts: Artifacts) -> Iterator[TestClient]:
    app = create_app(settings, store, artifacts=artifacts, check=accept, poll_s=0.01)
    with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture
def guarded(settings: Settings, store: Store, artifacts: Artifacts) -> Iterator[TestClient]:
    """The same, with a token that every call must show."""
    exposed = Settings(home=settings.home, api_token=TOKEN)
    app = create_app(exposed, store, artifacts=artifacts, check=accept, poll_s=0.01)
    with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as opened:
        yield opened
