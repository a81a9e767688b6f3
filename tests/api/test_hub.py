"""Hub ids: pinned to a commit from the local cache, fetched only where that is allowed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api import hub
from api.settings import Settings
from search.problems import Invalid
from search.spec import ModelRef
from tests.api.fake_hub import COMMIT
from tests.tiny import make_model

OTHER = "0123456789" * 4


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as huggingface_hub leaves it: refs, snapshots of links, blobs."""
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--name"
    snapshot = make_model(repository / "snapshots" / COMMIT)
    (repository / "blobs").mkdir()
    for file in list(snapshot.iterdir()):
        blob = repository / "blobs" / f"{len(file.name):064x}"
        file.rename(blob)
        file.symlink_to(os.path.relpath(blob, snapshot))
    for ref in ("main", "refs/pr/1", "v1.0"):
        (repository / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repository / "refs" / ref).write_text(COMMIT)
    (repository / "refs" / "broken").write_text("../../..")
    (repository / "refs" / "gone").write_text(OTHER)
    return repository


@pytest.mark.parametrize("revision", [COMMIT, "main", "v1.0", "refs/pr/1"])
def test_commits_branches_and_tags_are_found_in_the_cache(cache: Path, revision: str) -> None:
    assert hub.locate("org/name", revision, "base.hub") == cache / "snapshots" / COMMIT


@pytest.mark.parametrize("revision", [OTHER, "dev", "broken", "gone"])
def test_what_is_not_there_is_told_how_to_fetch(cache: Path, revision: str) -> None:
    with pytest.raises(Invalid) as caught:
        hub.locate("org/name", revision, "base.hub")
    (problem,) = caught.value.problems
    assert problem.field == "base.hub"
    assert f"'hf download org/name --revision {revision}'" in problem.message


@pytest.mark.parametrize(
    "revision", ["..", "../main", "a/../b", "/etc", "a//b", "-x", ".git", "a/.hidden", "a b", ""]
)
def test_a_revision_is_no_path(revision: str) -> None:
    with pytest.raises(ValueError, match="revision"):
        ModelRef(hub="org/name", revision=revision)


def test_hashes_are_the_names_of_the_blobs(cache: Path) -> None:
    found = hub.file_hashes(cache / "snapshots" / COMMIT)
    assert found["model.safetensors"] == f"{len('model.safetensors'):064x}"
    assert set(found) == {"config.json", "model.safetensors", "tokenizer.json"}


def test_patterns_come_from_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NICHEMERGE_HUB_ALLOW", "org/*, lab/model")
    assert Settings().hub_allow == ("org/*", "lab/model")


def download(tmp_path: Path, hub_id: str, allow: str, **environment: str) -> dict[str, Any]:
    """What a fresh process gets from a Hub that has one model."""
    source = tmp_path / "source"
    if not source.exists():
        make_model(source)
        (source / "model.py").write_text("raise SystemExit")
        (source / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
        (source / "original").mkdir()
        (source / "original" / "weights.safetensors").write_bytes(b"twice")
        (source / "additional_chat_templates").mkdir()
        (source / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.api.fake_hub", str(source), hub_id, "main", allow],
        env=os.environ | {"HF_HOME": str(tmp_path / "hf")} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_an_allowed_model_is_downloaded_without_anything_that_could_run(tmp_path: Path) -> None:
    answer = download(tmp_path, "org/name", "lab/*,org/*")
    folder = Path(answer["folder"])
    assert folder.name == COMMIT
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "additional_chat_templates/tools.jinja",
    }
    weights = (folder / "model.safetensors").read_bytes()
    assert weights == (tmp_path / "source" / "model.safetensors").read_bytes()


def test_nobody_is_asked_for_what_is_not_allowed(tmp_path: Path) -> None:
    answer = download(tmp_path, "other/name", "org/*")
    assert "is not in this server's Hub cache" in answer["problem"]
    assert not (tmp_path / "hf" / "hub").exists()


def test_a_hub_that_does_not_answer_is_a_problem_of_the_spec(tmp_path: Path) -> None:
    """The fake Hub knows one repository, by the id that it is started with."""
    answer = download(tmp_path, "org/..", "*")
    assert "cannot be downloaded" in answer["problem"]
