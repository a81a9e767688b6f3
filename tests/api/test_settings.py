"""Settings: read from the environment, safe by default."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from api.settings import Settings


def test_home_is_where_everything_goes_unless_told_otherwise(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.database == f"sqlite:///{tmp_path}/nichemerge.db"
    assert settings.artifact_url == f"{tmp_path}/artifacts"
    assert tmp_path in settings.roots
    assert Settings(home=tmp_path, database_url="postgresql://x").database == "postgresql://x"


def test_folders_of_a_variable_are_separated_by_colons(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NICHEMERGE_MODEL_ROOTS", f"{tmp_path}/a:{tmp_path}/b")
    assert Settings().roots == (tmp_path / "a", tmp_path / "b")


def test_trusted_task_folders_are_task_folders_after_the_others(tmp_path: Path) -> None:
    for name in ("mine", "installed"):
        (tmp_path / name).mkdir()
    missing = tmp_path / "missing"
    settings = Settings(
        task_folders=(tmp_path / "mine",), trusted_task_folders=(tmp_path / "installed", missing)
    )
    assert settings.tasks == (tmp_path / "mine", tmp_path / "installed")
    assert settings.trusted_tasks == (tmp_path / "installed",)


def test_task_folders_that_do_not_exist_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    assert Settings(home=tmp_path).tasks == (tmp_path / "tasks",)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org"])
def test_an_exposed_server_needs_a_token(host: str) -> None:
    with pytest.raises(ValidationError, match="NICHEMERGE_API_TOKEN"):
        Settings(host=host)
    assert Settings(host=host, api_token="0123456789abcdef").host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_a_server_on_the_loopback_needs_none(host: str) -> None:
    assert Settings(host=host).api_token is None


def test_the_token_is_never_shown() -> None:
    settings = Settings(api_token="canary-canary-canary")
    assert "canary" not in repr(settings)
    assert "canary" not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("artifacts", "folder"),
    [(None, "home/artifacts"), ("elsewhere", "elsewhere"), ("s3://bucket/merges", "home")],
)
def test_checkpoints_take_room_where_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifacts: str | None, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(home=Path("home"), artifacts=artifacts)
    assert settings.checkpoint_folder.resolve() == tmp_path / folder
