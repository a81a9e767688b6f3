"""A playground of untrained sizes, built once; and the real one for those who ask for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.playground import Curriculum, Playground, build
from evals.playground.training import Course

_FEW = Course(steps=5, rate=1e-3)


@pytest.fixture(scope="session")
def miniature() -> Curriculum:
    return Curriculum(
        base=_FEW,
        arith=_FEW,
        string=_FEW,
        facts=_FEW,
        hidden=32,
        feed_forward=32,
        layers=2,
        heads=2,
    )


@pytest.fixture(scope="session")
def playground(tmp_path_factory: pytest.TempPathFactory, miniature: Curriculum) -> Playground:
    return build(tmp_path_factory.mktemp("zoo") / "playground", curriculum=miniature)


@pytest.fixture(scope="session", autouse=True)
def _no_shared_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "zoo"
