from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from workers.planning.memory import _left_to_the_container, _of_the_accelerator, free_memory


def test_memory_is_some_and_not_more_than_there_is() -> None:
    assert 0 < free_memory().host_bytes <= psutil.virtual_memory().total


def write(folder: Path, limit: str) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text("700\n")
    (folder / "memory.stat").write_text("anon 400\nfile 300\n")
    return folder


def test_a_limit_of_the_container_counts_without_the_page_cache(tmp_path: Path) -> None:
    assert _left_to_the_container(write(tmp_path, "1000")) == 600


def test_no_limit_is_none(tmp_path: Path) -> None:
    assert _left_to_the_container(tmp_path / "absent") is None
    assert _left_to_the_container(write(tmp_path, "max")) is None


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 1024; echo 2048", 2048 * 2**20),
        ("echo no driver >&2; exit 9", 0),
        ("echo '[N/A]'", 0),
        ("true", 0),
    ],
)
def test_an_accelerator_is_asked_through_its_drivers_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: int
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert _of_the_accelerator() == expected


def test_without_the_tool_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _of_the_accelerator() == 0
